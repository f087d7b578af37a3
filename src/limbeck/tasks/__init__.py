"""Tasks: which metrics and pictures belong together."""
