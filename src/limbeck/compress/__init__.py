"""Making files that ship: export, and what is said from the file alone."""

from limbeck.compress.shipped.predict import predict_images

__all__ = ["predict_images"]
