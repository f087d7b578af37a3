"""A model as a file of another runtime, and whether both say the same."""
