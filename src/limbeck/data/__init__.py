"""Data: where samples come from, how they are divided, seen and ordered."""

from limbeck.data.batch import Batch
from limbeck.data.batches import batches, steps_per_epoch
from limbeck.data.data import Data
from limbeck.data.datasets import DatasetSplit, LoaderSplit
from limbeck.data.normalization import Normalization
from limbeck.data.sources.named import load
from limbeck.data.split import Split
from limbeck.data.views import Views

__all__ = [
    "Batch",
    "Data",
    "DatasetSplit",
    "LoaderSplit",
    "Normalization",
    "Split",
    "Views",
    "batches",
    "load",
    "steps_per_epoch",
]
