"""A file that ships: opened with care, what it says of its use, and what it says of pictures."""
