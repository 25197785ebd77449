"""Deployments in a Kubernetes cluster over its own REST API; docs/workloads.md says what it may."""
