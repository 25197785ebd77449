"""The steps of a database's recovery: find the damage, stop writes, restore, replay, switch."""
