"""Recipes, runs and the one-liner: data in, a folder of evidence out."""
