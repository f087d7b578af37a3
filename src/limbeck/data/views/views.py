"""Views: augmentation as a pure function of (seed, sample, view number), computed on a whole batch at once.

Nothing about an augmentation needs to be stored to replay it: the same address gives the same picture, bit for bit, at
any batch size, in any process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.data.order import uniform
from limbeck.data.sampling import Sampler
from limbeck.data.views import channels as at
from limbeck.data.views.color import Color, Draw, check_pictures, in_range
from limbeck.data.views.geometry import Numbers, erased, flipped, quarters, shifted, turned, warp, window
from limbeck.data.views.mixing import beta, mixed
from limbeck.data.views.randaugment import RandAugment
from limbeck.errors import RecipeError

_LIMITS = {"shift": (0, 1024), "rotate": (0, 180), "scale": (0, 0.9), "shear": (0, 60), "erase": (0, 1),
           "mixup": (0, 100), "cutmix": (0, 100)}  # fmt: skip
LATER = {"quarter_turns": False}  # kinds of views that came after the first stores and runs, as they are when off
_TOGETHER = 2**18  # values that are computed at once: more do not stay in a core's cache


@dataclass(frozen=True)
class Views:
    """What may happen to an image, in this order. Uncovered places are black (0).

    Args:
        shift: largest shift in pixels, both directions: padding and cropping.
        flip: mirror left and right, half of the time.
        rotate: largest rotation in degrees.
        scale: largest relative change of size, such as 0.1.
        erase: probability that a rectangle of 2 to 20 % of the area is made black.
        vertical_flip: mirror top and bottom, half of the time.
        shear: largest slant in degrees.
        resized_crop: ``(least, most)`` share of the area of a part with sides from 3 : 4 to 4 : 3, enlarged to the
            whole.
        color: a :class:`Color`, or a mapping of its arguments; for pictures in [0, 1].
        randaugment: a :class:`RandAugment`, or a mapping of its arguments; for pictures in [0, 1].
        mixup: α of MixUp: a picture is blended with another one of the split, its share drawn from Beta(α, α).
        cutmix: α of CutMix: a rectangle of another picture is put in. With mixup too, either has half of the samples.
        quarter_turns: turned by 0, 90, 180 or 270 degrees, each as likely; for square pictures without an up and down.

    Raises:
        RecipeError: if a value is out of range.

    Example:
        >>> views = Views(shift=1)
        >>> x = torch.eye(3).reshape(1, 1, 3, 3)
        >>> bool((views(x, seed=0, sample=torch.tensor([5]), view=2) == views(x, seed=0, sample=[5], view=2)).all())
        True
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    scale: float = 0.0
    erase: float = 0.0
    vertical_flip: bool = False
    shear: float = 0.0
    resized_crop: tuple[float, float] | None = None
    color: Color | None = None
    randaugment: RandAugment | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    quarter_turns: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int):
            raise RecipeError(f"views.shift is {self.shift!r}, expected a whole number of pixels")
        for name in ("flip", "vertical_flip", "quarter_turns"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"views.{name} is {getattr(self, name)!r}, expected true or false")
        for name, (least, most) in _LIMITS.items():
            in_range(name, getattr(self, name), least, most)
        object.__setattr__(self, "resized_crop", _area(self.resized_crop))
        color = _part("color", Color, self.color)
        object.__setattr__(self, "color", None if color == Color() else color)
        object.__setattr__(self, "randaugment", _part("randaugment", RandAugment, self.randaugment))

    @property
    def identity(self) -> bool:
        """Whether every view is the image itself."""
        return self == Views()

    def plain(self) -> dict[str, Any]:
        """In plain data, as stores and runs know views by; of what came later nothing where it is not used.

        Example:
            >>> "quarter_turns" in Views().plain(), Views(shift=2).plain()["shift"]
            (False, 2)
        """
        found = {**asdict(self), "color": asdict(self.color or Color())}
        return {key: value for key, value in found.items() if key not in LATER or value != LATER[key]}

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed with others."""
        return bool(self.mixup or self.cutmix)

    def __call__(self, inputs: Tensor, *, seed: int, sample: Any, view: Any) -> Tensor:
        """The views of a batch, before any mixing.

        Args:
            inputs: float ``[B, C, H, W]``.
            seed: of the training.
            sample: int ``[B]``, addresses.
            view: view number, one or ``[B]``.

        Raises:
            RecipeError: if the inputs are not images, or their colors can not be changed.
        """
        return self._each(inputs, self._some, seed, sample, view)

    def masks(self, labels: Tensor, *, seed: int, sample: Any, view: Any) -> Tensor:
        """The labels of a batch's pixels, moved as its pictures are; what is uncovered or erased has no label.

        Where a picture is sampled between pixels, the label is that of the nearest one.

        Args:
            labels: int64 ``[B, H, W]``, -1 for none.
            seed, sample, view: as in a call.

        Raises:
            RecipeError: if the views mix pictures, or move their pixels in a way that is not known for labels.

        Example:
            >>> m = torch.tensor([[[0, 1], [2, -1]]])
            >>> bool((Views(shift=9).masks(m, seed=0, sample=[0], view=0) == -1).any())
            True
        """
        self.check_masks()
        moving = replace(self, color=None)
        known = labels.float().add_(1)[:, None]  # 0, which uncovered places get, is no label
        moved = moving._each(known, partial(moving._some, nearest=True), seed, sample, view)
        return moved[:, 0].long().sub_(1)

    def check_masks(self) -> None:
        """See that labels of pixels can follow.

        Raises:
            RecipeError: if pictures are mixed, or their pixels moved in a way that is not known for labels.
        """
        if self.mixes or self.randaugment is not None:
            which = "mixup" if self.mixup else "cutmix" if self.cutmix else "randaugment"
            raise RecipeError(f"views.{which} is for samples with one label, and these have masks", cure="leave it out")

    def _each(
        self, inputs: Tensor, some: Callable[[Tensor, Draw], Tensor], seed: int, sample: Any, view: Any
    ) -> Tensor:
        """Parts of a batch, as many as stay in a core's cache, one after the other."""
        if self.identity:
            return inputs
        if inputs.ndim != 4:
            raise RecipeError(f"views are for images [B, C, H, W], found inputs {tuple(inputs.shape)}")
        if replace(self, mixup=0.0, cutmix=0.0).identity:
            return inputs
        for name in ("color", "randaugment"):
            if getattr(self, name) is not None and len(inputs):
                check_pictures(inputs, name)
        sample = np.asarray(sample, dtype=np.int64)
        view = np.broadcast_to(np.asarray(view, dtype=np.int64), sample.shape)
        size = max(_TOGETHER // max(inputs[:1].numel(), 1), 1)
        numbers, found = cache(partial(uniform, seed, sample, view)), torch.empty_like(inputs)
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            found[part] = some(inputs[part], partial(_of, numbers, part))
        return found

    def mix(self, inputs: Tensor, partners: Tensor, *, seed: int, sample: Any, view: Any) -> tuple[Tensor, Tensor]:
        """Views mixed with the views of their partners, see :meth:`partners`, and the shares of the former.

        Args:
            inputs, partners: ``[B, C, H, W]``.
            seed, sample, view: of the inputs, as in a call.

        Returns:
            ``[B, C, H, W]``, and float32 ``[B]``.
        """
        draw = partial(uniform, seed, sample, view)
        cut = draw(at.MIX) < (0.5 if self.mixup and self.cutmix else float(self.cutmix > 0))
        share = np.empty(len(inputs))
        for chosen, alpha in ((cut, self.cutmix), (~cut, self.mixup)):
            if alpha:
                share[chosen] = beta(draw(at.SHARE)[chosen], alpha)
        return mixed(inputs, partners, cut, share, (draw(at.BOX_X), draw(at.BOX_Y)))

    def partners(self, sampler: Sampler, *, seed: int, sample: Any, view: Any) -> Tensor:
        """The addresses of the samples that are mixed in, int64 ``[B]``; by chance it is the sample itself."""
        group, member = (uniform(seed, sample, view, channel) for channel in (at.PARTNER_GROUP, at.PARTNER))
        return torch.from_numpy(sampler.draw(group, member))

    def _some(self, inputs: Tensor, draw: Draw, *, nearest: bool = False) -> Tensor:
        if self.rotate or self.scale or self.shear or self.resized_crop:
            inputs = self._warped(inputs, draw, nearest=nearest)
        if self.shift:
            inputs = shifted(inputs, draw(at.SHIFT_X), draw(at.SHIFT_Y), self.shift)
        if self.flip:
            inputs = flipped(inputs, draw(at.FLIP) < 0.5, 3)
        if self.vertical_flip:
            inputs = flipped(inputs, draw(at.VERTICAL_FLIP) < 0.5, 2)
        if self.quarter_turns:
            inputs = quarters(inputs, draw(at.QUARTER))
        if self.color:
            inputs = self.color(inputs, draw)
        if self.randaugment:
            inputs = self.randaugment(inputs, draw)
        if self.erase:
            area, ratio = 0.02 + 0.18 * draw(at.ERASE_AREA), np.exp((draw(at.ERASE_RATIO) - 0.5) * math.log(9))
            inputs = erased(inputs, draw(at.ERASE) < self.erase, area, ratio, (draw(at.ERASE_X), draw(at.ERASE_Y)))
        return inputs

    def _warped(self, inputs: Tensor, draw: Draw, *, nearest: bool) -> Tensor:
        """Rotation, change of size, slant and crop, by one sampling."""
        angle = (2 * draw(at.ROTATE) - 1) * math.radians(self.rotate)
        slant = np.tan((2 * draw(at.SHEAR) - 1) * math.radians(self.shear)) if self.shear else 0.0
        matrix, part = turned(angle, 1 + (2 * draw(at.SCALE) - 1) * self.scale, slant), None
        if self.resized_crop:
            least, most = self.resized_crop
            area = least + (most - least) * draw(at.CROP_AREA)
            part = window(inputs, area, draw(at.CROP_RATIO), (draw(at.CROP_X), draw(at.CROP_Y)))
        return warp(inputs, matrix, None, part, nearest=nearest)


def _of(numbers: Draw, part: slice, channel: int) -> Numbers:
    return numbers(channel)[part]


def _area(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise RecipeError(f"views.resized_crop is {value!r}, expected [least, most] share of the area")
    for one in value:
        in_range("resized_crop", one, 0.01, 1)
    if value[0] > value[1]:
        raise RecipeError(f"views.resized_crop is {list(value)}, expected the smaller share first")
    return float(value[0]), float(value[1])


def _part(name: str, kind: type[Color | RandAugment], value: Any) -> Any:
    if value is None or isinstance(value, kind):
        return value
    known = [one.name for one in fields(kind)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise RecipeError(f"views.{name} is {value!r}, expected a mapping with {', '.join(known)}")
    return kind(**value)
