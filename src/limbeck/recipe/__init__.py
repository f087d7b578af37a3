"""The recipe: a distillation as data, read, checked, and answered by name where it is wrong."""
