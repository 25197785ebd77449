"""HTTP: what the stores of other clouds and the probes speak."""
