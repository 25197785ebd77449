"""The embedded cloud: everything on one machine; never shipped to Lambda."""
