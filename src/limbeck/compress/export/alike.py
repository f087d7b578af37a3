"""Whether an exported segmenter says what its model says, on whole pictures."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.compress.export.onnx import TOLERANCE, Shipped
from limbeck.compress.shipped.bands import Floats, bands
from limbeck.compress.shipped.masks import runs
from limbeck.compress.shipped.opening import Signature
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import SceneSplit
from limbeck.errors import ExportError
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import Tally
from limbeck.evaluation.sizes import bare

_MORE = 13  # pixels beyond the window of a picture that is given at once: an odd size, of an even window


class Beside:
    """A file and its model on the same inputs, and how far apart they are.

    Args:
        path: of the file, for messages.
        session: of it.
        signature: of it.
        module: the model, on the CPU.
        preparation: of its inputs.
    """

    def __init__(
        self, path: str | Path, session: Any, signature: Signature, module: nn.Module, preparation: Preparation
    ) -> None:
        self.path, self.signature = path, signature
        self.difference = self.largest = 0.0  # of a logit
        self.shares = 0.0  # largest difference of a blended probability
        self.gap = 0.0  # largest lead of a class that the file finds most probable over that of the model
        self.windows = 0
        self._run = runs(path, session, len(signature.classes))
        self._module = Shipped(bare(module), preparation, len(signature.shape)).eval()
        self._waiting: deque[Floats] = deque()

    def file(self, inputs: Floats) -> Floats:
        """The file's logits; the model is asked too."""
        logits = self._run(inputs)
        with torch.no_grad():
            reference: Floats = self._module(torch.from_numpy(inputs)).numpy()
        if logits.shape != reference.shape:
            raise ExportError(f"{self.path} gives logits {logits.shape}, the model {reference.shape}")
        self.difference = _most(self.difference, np.abs(logits.astype(np.float64) - reference).max())
        self.largest = _most(self.largest, np.abs(reference).max())
        self.windows += len(inputs)
        self._waiting.append(reference)
        return logits

    def model(self, inputs: Floats) -> Floats:
        """The model's logits of what the file was given before, in turn."""
        return self._waiting.popleft()

    def directly(self, picture: Tensor) -> tuple[int, int] | None:
        """Compare on one picture that is no window, given at once; its height and width, None if there is none.

        Args:
            picture: uint8 ``[C, H, W]``; what is larger is cut off, what is missing is black.
        """
        windows, (high, wide) = self.signature.windows, self.signature.shape[1:]
        if windows is None or windows.multiple is None:
            return None
        more = _MORE if windows.multiple == 1 else windows.multiple
        inputs = np.zeros((1, self.signature.shape[0], high + more, wide + 2 * more), np.float32)
        part = picture[:, : inputs.shape[2], : inputs.shape[3]].numpy()
        inputs[0, :, : part.shape[1], : part.shape[2]] = part / np.float32(255)
        self.file(inputs)
        self._waiting.clear()
        self.windows -= 1
        return inputs.shape[2], inputs.shape[3]

    def check(self) -> None:
        """See that they are alike.

        Raises:
            ExportError: if they are not, with the largest difference.
        """
        allowed = TOLERANCE * max(1.0, self.largest)
        for found, where in (
            (self.difference, "a logit of a window"),
            (self.shares, "a blended probability of a whole picture"),
            (self.gap, "the lead of a class that the model, whole pictures stitched, does not find most probable"),
        ):
            if not found <= allowed:
                raise ExportError(
                    f"{self.path} differs from the model by {found:.3g} in {where}; {allowed:.3g} is allowed",
                    cure="do not ship it: find the operator that differs by exporting parts of the model",
                )


def compare_stitched(beside: Beside, split: SceneSplit, said: Reading) -> tuple[Reading, dict[str, Any]]:
    """Run a file over every region of a split, as ``predict`` does, beside the model; no more than a band is held.

    Three things are compared: the logits of each window, the blended probabilities of each pixel, and the most
    probable class of each pixel with what the model was read to say, where a class may differ as far as its lead is
    within the tolerance. At last one picture of an odd size is given at once.

    Args:
        beside: file and model.
        split: its regions are looked at whole.
        said: what the model was read to say of the split.

    Returns:
        What the file says, and ``max_abs_difference`` (of a logit), ``max_probability_difference``, ``agreement``
        (share of the pixels with the same most probable class), ``windows`` (how many), ``direct`` (the odd size).

    Raises:
        ExportError: if they differ by more than float32 kernels do.
    """
    windows, shape = beside.signature.windows, beside.signature.shape
    if windows is None:
        raise ExportError(f"{beside.path} is a classifier, and the split '{split.name}' has masks")
    tally, kept, same = Tally.empty(len(split.regions), len(split.classes)), list[Tensor](), 0
    for number, region in enumerate(split.regions):
        picture, mask = region.read()
        both = [
            bands(call, picture.numpy(), (shape[1], shape[2]), windows.overlap) for call in (beside.file, beside.model)
        ]
        guess = torch.empty(region.size, dtype=torch.uint8)
        for (top, shares), (_, reference) in zip(*both, strict=True):
            rows = slice(top, top + shares.shape[1])
            beside.shares = _most(beside.shares, np.abs(shares - reference).max())
            guess[rows] = tally.add(number, torch.from_numpy(shares), mask[rows])
            beside.gap = _most(beside.gap, _lead(shares, said.labels[number][rows]))
        same += int((guess == said.labels[number]).sum())
        kept.append(guess)
    direct = beside.directly(split.regions[0].read()[0])
    beside.check()
    pixels = sum(one.numel() for one in kept)
    found = {
        "max_abs_difference": beside.difference,
        "max_probability_difference": beside.shares,
        "agreement": same / pixels,
        "windows": beside.windows,
        "direct": None if direct is None else list(direct),
    }
    return Reading(kept, tally), found


def _lead(shares: Floats, labels: Tensor) -> float:
    """By how much the most probable class leads over the one that was said, where most: 0 where they are the same."""
    own = np.take_along_axis(shares, labels.numpy()[None].astype(np.int64), axis=0)[0]
    return float((shares.max(axis=0) - own).max())


def _most(one: float, other: Any) -> float:
    """The larger one; not a number if one is none."""
    return float(np.maximum(one, other))


__all__ = ["Beside", "compare_stitched"]
