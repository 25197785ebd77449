"""From a damaged database to one that serves again: find, fence, restore, replay, load, switch."""
