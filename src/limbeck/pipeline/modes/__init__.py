"""Teachers that are not simply there: chains of assistants, generations, a student's own average, peers."""
