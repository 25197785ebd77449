"""The code behind the kinds of steps (scenarios/kinds/): each decides, does, and records."""
