"""What follows the student that is best on validation: it is pruned, and distilled again to recover."""
