"""Where samples come from: the sources that a recipe names."""
