"""Teachers that are no modules: an ONNX file, an estimator, a function. They are asked as they are, never trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from limbeck.data.data import Data
from limbeck.data.scenes import SceneSplit
from limbeck.errors import ModelError
from limbeck.evaluation.latency import latency
from limbeck.evaluation.sizes import file_bytes, gzip_bytes
from limbeck.files import write_bytes
from limbeck.pipeline import from_store
from limbeck.pipeline.fits import a_few
from limbeck.pipeline.looking import says
from limbeck.pipeline.stages import Context
from limbeck.store import Store
from limbeck.teachers import OnnxTeacher, SklearnTeacher, Teacher, check_logits


@dataclass(frozen=True)
class Given:
    """A teacher as it was given, and where the run keeps it."""

    role: str
    seed: int
    teacher: Teacher
    folder: Path
    result: Mapping[str, Any] = field(default_factory=lambda: {"seconds": 0.0})

    def file(self) -> Path:
        """The run's copy of an ONNX file."""
        return self.folder / "teacher.onnx"

    @property
    def kept(self) -> bool:
        """Whether it is a file that the run holds a copy of."""
        return isinstance(self.teacher, OnnxTeacher)

    @property
    def digest(self) -> str:
        """sha256 of the file; empty without one."""
        return self.teacher.graph.sha256 if isinstance(self.teacher, OnnxTeacher) else ""

    @property
    def key(self) -> str:
        """Of all that its answers depend on; empty where that is not known, as of a function."""
        if isinstance(self.teacher, Store):
            return from_store.digest(self.teacher)
        return str(getattr(self.teacher, "digest", ""))


def take(context: Context, role: str, seed: int, teacher: Teacher) -> Given:
    """Keep a given teacher: an ONNX file is copied to ``models/<role>/seed<seed>/teacher.onnx``."""
    given = Given(role, seed, teacher, context.run.path / "models" / role / f"seed{seed}")
    if isinstance(teacher, OnnxTeacher):
        write_bytes(given.file(), teacher.graph.data)
    return given


def check_says(teacher: Teacher, data: Data) -> None:
    """See that a teacher gives one logit for each class, on 32 real samples.

    Raises:
        LimbeckError: if it does not take the data, ends in a softmax, or gives logits of a sample where each pixel has
            a label, or the other way.
    """
    split = data.validation if isinstance(teacher, Store) else a_few(data.validation)
    logits, who = says(teacher, split).logits, f"teacher '{called(teacher)}'"
    check_logits(logits, who, len(data.classes))
    if (logits.ndim == 4) != isinstance(split, SceneSplit):
        found, have = ("each pixel", "one label a sample") if logits.ndim == 4 else ("a sample", "masks")
        raise ModelError(
            f"{who} gives logits of {found}, {list(logits.shape)}, and the data have {have}",
            cure="give a segmenter for data with masks, and a classifier for others",
        )


def called(teacher: Teacher) -> str:
    """A given teacher's name."""
    if isinstance(teacher, Store):
        return from_store.called(teacher)
    return str(getattr(teacher, "name", type(teacher).__name__))


def measure_given(given: Given, shape: tuple[int, ...], *, threads: int, batch: int) -> dict[str, Any]:
    """Size and speed of a file or estimator, as ``measure`` gives a module's; multiply-accumulates are not known.

    Args:
        given: the teacher.
        shape: of one input, as the data have it.
        threads: that it runs on; an estimator has its own.
        batch: samples at a time for the throughput.
    """
    teacher = given.teacher
    if not isinstance(teacher, OnnxTeacher | SklearnTeacher):
        return {"model": called(teacher)}
    single, several = (
        latency({"it": _call(teacher, shape, size, threads)}, threads=threads)["it"] for size in (1, batch)
    )
    sizes: dict[str, Any] = {}
    if isinstance(teacher, OnnxTeacher):
        sizes = {
            "parameters": teacher.graph.parameters,
            "weights_bytes": file_bytes(given.file()),
            "gzip_bytes": gzip_bytes(given.file()),
        }
    runtime = "ONNX Runtime" if isinstance(teacher, OnnxTeacher) else "scikit-learn"
    return {
        "model": called(teacher),
        **sizes,
        "latency_ms": single["median_ms"],
        "latency": {**single, "batch": 1, "runtime": runtime},
        "throughput": {
            "samples_per_second": 1000 * batch / several["median_ms"],
            "batch": batch,
            "threads": threads,
        },
    }


def _call(teacher: OnnxTeacher | SklearnTeacher, shape: tuple[int, ...], size: int, threads: int) -> Callable[[], Any]:
    if isinstance(teacher, OnnxTeacher):
        return teacher.timed(shape, size, threads)
    inputs = torch.rand(size, *shape, generator=torch.Generator().manual_seed(0))
    return lambda: teacher(inputs)
