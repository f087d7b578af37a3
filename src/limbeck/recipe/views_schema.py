"""The recipe's keys about views."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from limbeck.recipe.types import Part
from limbeck.recipe.values import wrong

Change = Annotated[FiniteFloat, Field(ge=0, le=1)]
Alpha = Annotated[FiniteFloat, Field(ge=0, le=100)]


class ColorSpec(Part):
    """Largest changes of color, in this order; see limbeck.data.views.Color."""

    brightness: Change = 0.0
    contrast: Change = 0.0
    saturation: Change = 0.0
    hue: FiniteFloat = Field(default=0.0, ge=0, le=0.5, description="in turns of the color circle")


class RandAugmentSpec(Part):
    """Operations drawn from a list, all at one magnitude; see limbeck.data.views.RandAugment."""

    ops: int = Field(default=2, ge=1, le=8)
    magnitude: FiniteFloat = Field(default=9, ge=0, le=30)


class ViewsSpec(Part):
    """Augmentation; see limbeck.Views."""

    shift: int = Field(default=0, ge=0, le=1024, description="pixels")
    flip: bool = False
    rotate: FiniteFloat = Field(default=0.0, ge=0, le=180, description="degrees")
    scale: FiniteFloat = Field(default=0.0, ge=0, le=0.9)
    erase: FiniteFloat = Field(default=0.0, ge=0, le=1, description="probability")
    vertical_flip: bool = False
    shear: FiniteFloat = Field(default=0.0, ge=0, le=60, description="degrees")
    resized_crop: list[Annotated[FiniteFloat, Field(ge=0.01, le=1)]] | None = Field(
        default=None, min_length=2, max_length=2, description="[least, most] share of the area"
    )
    color: ColorSpec | None = None
    randaugment: RandAugmentSpec | None = None
    mixup: Alpha = Field(default=0.0, description="α of Beta(α, α); 0: none")
    cutmix: Alpha = Field(default=0.0, description="α of Beta(α, α); 0: none")
    quarter_turns: bool = Field(default=False, description="by 0, 90, 180 or 270 degrees; of square pictures")

    @model_validator(mode="after")
    def _smaller_share_first(self) -> ViewsSpec:
        if self.resized_crop and self.resized_crop[0] > self.resized_crop[1]:
            raise wrong(f"expected a resized_crop of [least, most], found {self.resized_crop}")
        return self
