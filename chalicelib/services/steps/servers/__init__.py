"""The steps on a server: make one, put code and copies on it, swap it in, bring them home."""
