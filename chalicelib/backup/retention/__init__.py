"""What stays and why, what goes, and what the store itself must refuse to delete."""
