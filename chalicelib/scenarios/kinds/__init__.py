"""The kinds of steps, a module for each subject; scenarios/steps.py is the whole catalogue."""
