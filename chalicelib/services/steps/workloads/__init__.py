"""The steps on application servers: stop, start, configure, apply, verify."""
