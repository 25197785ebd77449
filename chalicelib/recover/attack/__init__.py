"""An attack shut out, and the moment before it."""
