"""What `leeward prune` shows: a calendar of what stays, as text and SVG, real or simulated."""
