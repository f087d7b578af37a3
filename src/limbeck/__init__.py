"""limbeck turns a large trained model into a small one and proves what was kept.

Public names are loaded when first used, so that ``import limbeck`` costs what ``import torch`` costs.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch as _torch  # noqa: F401  (the one dependency that every use needs)

__version__ = "0.1.0"

# Public name -> module that defines it. None: the name is itself a submodule.
_PUBLIC: dict[str, str | None] = {
    "conformance": None,
    "losses": None,
    "models": None,
    "LimbeckError": "limbeck.errors",
    "Outputs": "limbeck.outputs",
    "Data": "limbeck.data",
    "Normalization": "limbeck.data",
    "Views": "limbeck.data",
    "Ensemble": "limbeck.teachers",
    "FunctionTeacher": "limbeck.teachers",
    "ModuleTeacher": "limbeck.teachers",
    "OnnxTeacher": "limbeck.teachers",
    "SklearnTeacher": "limbeck.teachers",
    "Teacher": "limbeck.teachers",
    "pair_layers": "limbeck.pairing",
    "as_teacher": "limbeck.teachers",
    "reordered": "limbeck.teachers",
    "Objective": "limbeck.objective",
    "hard_labels": "limbeck.objective",
    "supervised": "limbeck.objective",
    "term": "limbeck.objective",
    "predict_images": "limbeck.compress",
    "Recipe": "limbeck.recipe.recipe",
    "Store": "limbeck.store",
    "Result": "limbeck.pipeline.result",
    "born_again": "limbeck.pipeline.modes.calls",
    "chain": "limbeck.pipeline.modes.calls",
    "mutual": "limbeck.pipeline.modes.calls",
    "self_distill": "limbeck.pipeline.modes.calls",
    "distill": "limbeck.pipeline.distill",
    "examine": "limbeck.pipeline.distill",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    home = _PUBLIC[name]
    value = importlib.import_module(f"limbeck.{name}") if home is None else getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
