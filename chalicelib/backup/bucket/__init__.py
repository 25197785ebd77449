"""A user's bucket and its replica: followed by events, made equal by syncs, written down."""
