"""What a model says about every pixel: whole pictures from overlapping windows, counted without being kept."""
