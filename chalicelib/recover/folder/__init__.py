"""A folder brought back from its copies, and nothing written outside it."""
