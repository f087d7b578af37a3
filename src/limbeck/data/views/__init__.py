"""Views: augmentation as a pure function of (seed, sample, view number)."""

from limbeck.data.views.color import Color
from limbeck.data.views.randaugment import RandAugment
from limbeck.data.views.views import Views

__all__ = ["Color", "RandAugment", "Views"]
