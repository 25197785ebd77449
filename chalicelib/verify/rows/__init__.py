"""Rows of a restored database beside those of the living one."""
