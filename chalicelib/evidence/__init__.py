"""What was decided, done and found, so that a stranger can check it."""
