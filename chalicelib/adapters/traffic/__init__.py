"""What moves names, one driver a module, and the DNS client that sees them move."""
