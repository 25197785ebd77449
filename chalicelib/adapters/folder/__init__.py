"""A folder as a store, and folders that are backed up."""
