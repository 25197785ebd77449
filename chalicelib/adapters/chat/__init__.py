"""Slack as a place where people say something."""
