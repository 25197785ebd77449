"""Scenarios as data: the catalogue of steps, the state machine made of them, its explanation."""
