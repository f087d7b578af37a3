"""The recipe's keys about data and their views."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from limbeck.recipe.types import MAPPING, WORD, LocalPath, Part, Positive, Share, word_or_mapping
from limbeck.recipe.values import wrong


class NormalizationSpec(Part):
    """Mean and deviation of each channel, for inputs scaled to [0, 1]."""

    mean: list[FiniteFloat] = Field(min_length=1)
    std: list[Positive] = Field(min_length=1)

    @model_validator(mode="after")
    def _same_channels(self) -> NormalizationSpec:
        if len(self.mean) != len(self.std):
            raise wrong(f"expected as many means as deviations, found {len(self.mean)} and {len(self.std)}")
        return self


class DataSpec(Part):
    """Which data, how divided and normalized."""

    source: Literal["digits", "mnist", "arrays"] = "digits"
    root: LocalPath | None = Field(default=None, description="folder of the data sets, for mnist")
    path: LocalPath | None = Field(default=None, description="an .npz file, for arrays")
    validation: Share | None = Field(default=None, description="fraction or count of training samples to choose on")
    test: Share | None = Field(default=None, description="fraction or count, where the source has no test split")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the splits; the same for every run")
    download: bool = False
    normalization: Annotated[
        Annotated[Literal["auto", "none"], Tag(WORD)] | Annotated[NormalizationSpec, Tag(MAPPING)],
        Discriminator(word_or_mapping),
    ] = Field(default="auto", description="auto: measured on the training split")

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> DataSpec:
        if self.source == "mnist" and self.root is None:
            raise wrong("source mnist needs the key 'root': the folder that holds MNIST/raw")
        if self.source == "arrays" and self.path is None:
            raise wrong("source arrays needs the key 'path': an .npz file")
        return self


class ViewsSpec(Part):
    """Augmentation; see limbeck.Views."""

    shift: int = Field(default=0, ge=0, le=1024)
    flip: bool = False
    rotate: FiniteFloat = Field(default=0.0, ge=0, le=180)
    scale: FiniteFloat = Field(default=0.0, ge=0, le=0.9)
    erase: FiniteFloat = Field(default=0.0, ge=0, le=1)
