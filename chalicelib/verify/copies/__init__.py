"""Whether stored copies are still what was stored: looked at, read in turn, repaired."""
