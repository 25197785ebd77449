"""Rows taken back from a moment, while the rest of their tables stays."""
