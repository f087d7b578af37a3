"""The run: a recipe as objects, each stage once, a folder of evidence."""
