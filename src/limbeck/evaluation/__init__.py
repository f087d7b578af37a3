"""Evaluation: what a model says, what it weighs, and how sure one can be of a difference."""
