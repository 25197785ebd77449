"""The public status page: what it is made of, and how it looks."""
