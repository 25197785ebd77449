"""The linter of plans: pure rules with stable ids, over a Plan alone."""
