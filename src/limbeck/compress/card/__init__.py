"""The model card beside what ships."""
