"""Making a trained model smaller: channels cut out of it, or single weights set to zero."""
