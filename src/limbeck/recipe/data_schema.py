"""The recipe's keys about data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from limbeck.recipe.types import MAPPING, WORD, AutoOrBool, ImageSize, LocalPath, Part, Positive, Share, word_or_mapping
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


class ColumnsSpec(Part):
    """Names of the table's columns."""

    file: str = Field(default="file", min_length=1)
    label: str = Field(default="label", min_length=1)
    split: str | None = Field(default=None, min_length=1, description="null: the column 'split', if there is one")


class HeldOutSpec(Part):
    """Names of pictures, or with ``split_by: group`` of folders, that are held out; ``*`` stands for anything."""

    validation: list[str] | None = Field(default=None, min_length=1, max_length=1000)
    test: list[str] | None = Field(default=None, min_length=1, max_length=1000)


class SplitsSpec(Part):
    """Folders, or words of the table's split column, that stand for the splits."""

    train: str | None = Field(default=None, min_length=1)
    validation: str | None = Field(default=None, min_length=1)
    test: str | None = Field(default=None, min_length=1)


Byte = Annotated[int, Field(ge=0, le=255)]
Hex = Annotated[str, Field(pattern="^#?[0-9a-fA-F]{6}$")]
Triple = Annotated[list[Byte], Field(min_length=3, max_length=3)]
Color = Hex | Byte | Triple

_HOMES = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "cifar10": "cifar-10-batches-bin or -py",
    "cifar100": "cifar-100-binary or -python",
}
_OF_TABLES = ("table", "columns", "group", "slices")
_OF_MASKS = (
    "images", "masks", "mask_suffix", "colors", "ignore", "patch", "overlap", "edges", "split_by", "held_out",
)  # fmt: skip
_OF_IMAGES = ("size", "fit", "channels", "skip", "splits")
_OF_FILES = ("cache", "workers")


class DataSpec(Part):
    """Which data, how divided and normalized."""

    source: Literal[
        "digits",
        "mnist",
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "arrays",
        "image_folder",
        "image_csv",
        "segmentation_folder",
        "segmentation_digits",
    ] = "digits"
    root: LocalPath | None = Field(default=None, description="folder of the data sets, or of the pictures")
    path: LocalPath | None = Field(default=None, description="an .npz file, for arrays")
    table: LocalPath | None = Field(default=None, description="a CSV file, for image_csv")
    columns: ColumnsSpec = ColumnsSpec()
    group: str | None = Field(default=None, min_length=1, description="a column whose groups stay in one split")
    slices: list[str] = Field(default=[], max_length=20, description="columns by which metrics are also told apart")
    splits: SplitsSpec = SplitsSpec()
    size: ImageSize | None = Field(default=None, description="of pictures as inputs: a side, or [height, width]")
    fit: Literal["crop", "whole"] = Field(default="crop", description="crop: the middle; whole: squeezed")
    channels: Literal[1, 3, 4] = 3
    skip: FiniteFloat = Field(default=0.001, ge=0, lt=1, description="largest share of undecodable pictures left out")
    cache: AutoOrBool = Field(default="auto", description="hold decoded pictures in memory; auto: up to 2 GiB")
    workers: int = Field(default=0, ge=0, le=256, description="threads that look at the pictures; 0: one a core")
    images: str = Field(default="images", min_length=1, description="name of the folders that hold the pictures")
    masks: str = Field(default="masks", min_length=1, description="name of the folders that hold their masks")
    mask_suffix: str | None = Field(
        default=None,
        min_length=1,
        description="how masks' names end, such as _mask, if their folder does not tell them",
    )
    colors: dict[str, Color | list[Color]] = Field(
        default={}, max_length=256, description='by class its color in the masks, "#RRGGBB" or [r, g, b], or its number'
    )
    ignore: list[str] = Field(default=[], max_length=256, description="names in colors whose pixels have no label")
    patch: ImageSize = Field(default=256, description="of the samples: a side, or [height, width]")
    overlap: int = Field(default=0, ge=0, le=4096, description="pixels that neighboring training patches share")
    edges: Literal["cover", "drop"] = Field(default="cover", description="of pictures that a patch does not divide")
    split_by: Literal["image", "patch", "group"] = Field(
        default="image", description="what is held out: whole pictures, patches (leaky), or whole folders"
    )
    held_out: HeldOutSpec | None = Field(default=None, description="patterns of names, by split")
    duplicates: Literal["report", "drop", "refuse"] = Field(default="report", description="same pixels in two splits")
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
        images = self.source in {"image_folder", "image_csv"}
        if self.source in _HOMES and self.root is None:
            raise wrong(f"source {self.source} needs the key 'root': the folder that holds {_HOMES[self.source]}")
        if self.source == "arrays" and self.path is None:
            raise wrong("source arrays needs the key 'path': an .npz file")
        if images and self.root is None:
            raise wrong(f"source {self.source} needs the key 'root': the folder of the pictures")
        if images and self.size is None:
            raise wrong(f"source {self.source} needs the key 'size': of the inputs that pictures are fitted to")
        if self.source == "image_csv" and self.table is None:
            raise wrong("source image_csv needs the key 'table': a CSV file")
        if self.source == "segmentation_folder":
            if self.root is None:
                raise wrong("source segmentation_folder needs the key 'root': the folder of pictures and masks")
            if len(self.colors) < 2:
                raise wrong("source segmentation_folder needs the key 'colors': by class its color in the masks")
        for keys, sources in (
            (_OF_TABLES, {"image_csv"}),
            (_OF_IMAGES, {"image_folder", "image_csv"}),
            (_OF_FILES, {"image_folder", "image_csv", "segmentation_folder"}),
            (_OF_MASKS, {"segmentation_folder"}),
        ):
            for key in keys:
                if self.source not in sources and getattr(self, key) != type(self).model_fields[key].default:
                    raise wrong(f"source {self.source} has no key '{key}'; it is for {' and '.join(sorted(sources))}")
        return self
