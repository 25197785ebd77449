"""A site lost, another one in its place, and the way back."""
