"""A bucket taken back to a moment, or filled again from its replica."""
