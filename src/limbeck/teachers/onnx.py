"""A frozen ONNX file as a teacher, run by ONNX Runtime."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.outputs import Outputs
from limbeck.teachers.checks import detect_probabilities
from limbeck.teachers.graph import Graph, one_line, open_session, read_graph
from limbeck.teachers.labels import chosen, places
from limbeck.teachers.protocol import Normalize, Place

_REMOVE = (
    "export the model without its last softmax, or declare it: teacher.probabilities: true in a recipe, "
    "OnnxTeacher(…, probabilities=True) in Python"
)


class OnnxTeacher:
    """A frozen ONNX file as a teacher; it is run by ONNX Runtime, in pieces of a batch where its batch is fixed.

    Inputs are given as in a batch: float32 ``[B, C, H, W]`` (bytes divided by 255) or ``[B, D]``. A file whose sizes
    can only be read as channels last (Keras, TensorFlow) gets ``[B, H, W, C]``; one of gray images ``[B, H, W]`` or
    ``[B, H·W]``. Where the file takes ``uint8``, inputs are multiplied by 255 and rounded.

    A segmenter's outputs are ``[B, classes, H, W]``, of the height and width of the inputs.

    It is frozen and stays with ONNX Runtime, on the CPU unless that is built for a GPU; answers go to the device of the
    inputs. The number of threads is fixed when it is made. It can be pickled and copied.

    Args:
        path: of the ``.onnx`` file, with its weights inside.
        classes: names of its classes in its order; None: as the file says, if limbeck exported it, else the data's.
        output: name of the output with a score for each class, where there are several.
        probabilities: its outputs are probabilities; their log is taken, which is a valid logit: the softmax at any
            temperature is that of the logits before.
        normalization: of the inputs, or their whole preparation; None: the file takes them as they are.
        threads: of ONNX Runtime; None: as many as torch has now.

    Raises:
        FileError: if the file is missing or damaged.
        ModelError: if it is no classifier or segmenter of one input, ends in a softmax that is not declared, or holds
            an operator that can not be run; when asked, if its inputs have another shape, or a segmenter's outputs are
            not of each pixel. Each is named.

    Example:
        >>> OnnxTeacher("missing.onnx")
        Traceback (most recent call last):
        limbeck.errors.FileError: missing.onnx is missing
          cure: check the path of the teacher's file
    """

    def __init__(
        self,
        path: str | Path,
        *,
        classes: Sequence[str] | None = None,
        output: str | None = None,
        probabilities: bool = False,
        normalization: Normalize | None = None,
        threads: int | None = None,
    ) -> None:
        self.graph: Graph = read_graph(path, output)
        self.probabilities, self.normalization = probabilities, normalization
        self.threads = threads or torch.get_num_threads()
        self.classes = self.graph.classes if classes is None else tuple(map(str, classes))
        self.order: tuple[int, ...] | None = None
        self._session: Any = None
        self._check(path)

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            prepared = inputs.float() if self.normalization is None else self.normalization(inputs.float())
        scores = torch.from_numpy(self._run(self._arranged(prepared.cpu())))
        if scores.ndim == 4 and scores.shape[2:] != prepared.shape[2:]:
            raise ModelError(
                f"{self.graph.path} gives outputs {list(scores.shape)} for inputs {list(prepared.shape)}, expected "
                "[batch, classes, height, width], scores for each pixel",
                cure="export it with channels first, and outputs of the inputs' height and width",
            )
        logits = self._logits(scores)
        if self.order is not None and self.classes is not None:
            logits = chosen(logits, torch.tensor(self.order), len(self.classes))
        return Outputs(logits.to(inputs.device))

    @property
    def name(self) -> str:
        """For messages and reports: what the file says of its model, or its own name."""
        return self.graph.metadata.get("model", self.graph.path.name) if self.graph.own else self.graph.path.name

    @property
    def digest(self) -> str:
        """sha256 over the file and over all that its answers depend on besides."""
        about = [self.graph.sha256, self.graph.output, self.probabilities, self.order, repr(self.normalization)]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def fitted(self, shape: tuple[int, ...], classes: Sequence[str]) -> OnnxTeacher:
        """This teacher for data of a shape and classes: its labels matched by name, if it has names.

        Raises:
            ModelError: if it takes other inputs, or does not know the classes.
        """
        who = f"teacher '{self.graph.path.name}'"
        prepared = getattr(self.normalization, "shape", None)  # a preparation resizes too
        self._permutation(prepared(shape) if callable(prepared) else shape)
        fitted = copy.copy(self)
        if self.classes is not None:
            fitted.order = places(self.classes, classes, who)
        elif self.graph.width not in (None, len(classes)):
            raise ModelError(
                f"{who} gives {self.graph.width} outputs, the data have {len(classes)} classes",
                cure="name the teacher's classes in its order: class_order, or OnnxTeacher(…, classes=[…]); it may "
                "have more than the data",
            )
        return fitted

    def placed(self, place: Place) -> OnnxTeacher:
        """Itself: it stays with ONNX Runtime."""
        return self

    def timed(self, shape: tuple[int, ...], batch: int, threads: int) -> Callable[[], Any]:
        """A call without arguments on one random batch: what latency is measured on."""
        alone = copy.copy(self)
        alone.threads, alone._session = threads, None
        inputs = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
        return lambda: alone(inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # opened again where it is used

    def _check(self, path: str | Path) -> None:
        graph = self.graph
        if not self.probabilities and graph.ends == "Softmax":
            raise ModelError(f"{path} ends in a softmax; distillation needs logits", cure=_REMOVE)
        if graph.ends == "Sigmoid":
            raise ModelError(
                f"{path} ends in a sigmoid: scores of independent labels, not of one class among several",
                cure="export a model with one logit for each class and a softmax over them",
            )
        if self.normalization is not None and not _only_resizes(self.normalization):
            why = (
                "takes bytes (uint8)" if graph.dtype == "uint8" else "normalizes its inputs itself" if graph.own else ""
            )
            if why:
                raise ModelError(f"{path} {why}: inputs can not be normalized before", cure="leave 'normalization' out")
        if self.classes is not None and graph.width not in (None, len(self.classes)):
            raise ModelError(
                f"{path} gives {graph.width} outputs, and {len(self.classes)} classes are named",
                cure="name every class of the teacher, in its order",
            )

    def _permutation(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The order of axes that the file wants, or an empty one for inputs that are only to be reshaped."""
        wanted = self.graph.shape
        if _takes(wanted, shape):
            return None
        last = (*shape[1:], shape[0])
        if len(shape) == 3 and _takes(wanted, last):
            return (0, 2, 3, 1)
        if len(shape) == 3 and shape[0] == 1 and wanted in (shape[1:], (math.prod(shape),)):
            return ()
        takes = ["batch", *("?" if size is None else size for size in wanted)]
        keras = len(wanted) == 3 and wanted[-1] == shape[0]
        told = " (channels last)" if keras else ""
        raise ModelError(
            f"{self.graph.path} takes inputs [{', '.join(map(str, takes))}]{told}, the data give "
            f"[batch, {', '.join(map(str, shape))}]",
            cure=_cure(wanted, shape, keras=keras),
        )

    def _arranged(self, inputs: Tensor) -> Any:
        axes = self._permutation(tuple(inputs.shape[1:]))
        if axes == ():
            inputs = inputs.reshape(len(inputs), *[size or 1 for size in self.graph.shape])
        elif axes is not None:
            inputs = inputs.permute(axes)
        if self.graph.dtype == "uint8":
            low, high = float(inputs.min()), float(inputs.max())
            if low < -1e-3 or high > 1 + 1e-3:
                raise ModelError(
                    f"{self.graph.path} takes bytes (uint8); the inputs reach from {low:.3g} to {high:.3g}, not 0 to 1",
                    cure="give data in bytes, or floats in [0, 1]",
                )
            inputs = (inputs.clamp(0, 1) * 255).round()
        return np.ascontiguousarray(inputs.numpy().astype(self.graph.dtype))

    def _run(self, inputs: Any) -> Any:
        graph = self.graph
        if self._session is None:
            self._session = open_session(graph.path, graph.data, threads=self.threads)
        size = graph.batch or len(inputs)
        said = []
        try:
            for start in range(0, len(inputs), size):
                piece = inputs[start : start + size]
                full = piece
                if len(piece) < size:  # the last piece of a fixed batch
                    full = np.concatenate([piece, np.repeat(piece[-1:], size - len(piece), axis=0)])
                said.append(self._session.run([graph.output], {graph.input: full})[0][: len(piece)])
        except Exception as error:
            raise ModelError(
                f"{graph.path} can not be run on inputs {tuple(inputs.shape)} of {inputs.dtype}: {one_line(error)}",
                cure="see that it takes the data's size, and a batch of any size",
            ) from None
        return np.concatenate(said).astype(np.float32)

    def _logits(self, scores: Tensor) -> Tensor:
        if not self.probabilities:
            if scores.ndim in (2, 4) and detect_probabilities(_some(scores)):
                raise ModelError(f"{self.graph.path} gives probabilities; distillation needs logits", cure=_REMOVE)
            return scores
        sums = scores.sum(dim=1).flatten()
        if not bool((scores >= 0).all() & ((sums - 1).abs() < 1e-2).all()):
            raise ModelError(
                f"{self.graph.path} is declared to give probabilities; its outputs sum to {float(sums[0]):.3g} and the "
                f"least is {float(scores.min()):.3g}",
                cure="leave 'probabilities' out if these are logits",
            )
        return scores.clamp(min=torch.finfo(torch.float32).tiny).log()  # a softmax in float32 may give exactly 0


def _some(scores: Tensor) -> Tensor:
    """Of scores for each pixel those of a grid of at most 64 × 64: enough to see whether they are probabilities."""
    if scores.ndim == 2:
        return scores
    down, across = (-(-size // 64) for size in scores.shape[2:])
    return scores[:, :, ::down, ::across]


def _takes(wanted: tuple[int | None, ...], shape: tuple[int, ...]) -> bool:
    return len(wanted) == len(shape) and all(one in (None, two) for one, two in zip(wanted, shape, strict=True))


def _cure(wanted: tuple[int | None, ...], shape: tuple[int, ...], *, keras: bool) -> str:
    if len(wanted) == 3 and len(shape) == 3:
        sizes = wanted[:2] if keras else wanted[1:]
        if keras or wanted[0] in (None, shape[0]):
            return f"set teacher.input_size: {[size for size in sizes if size]}, its own input size"
        return "set data.channels to the channels that it takes, or export it for the data's"
    if len(wanted) == 1 and len(shape) > 1:
        return "export it with images as inputs: the order of pixels and colors in a flat input can not be known"
    return "export it for inputs of the data's shape"


def _only_resizes(normalization: Any) -> bool:
    inner = getattr(normalization, "normalization", normalization)
    return bool(getattr(inner, "identity", False))
