"""The fidelity certificate: the live teacher is asked again, and what it says is compared with what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.order import uniform
from limbeck.data.replay import Seer, pixel_checksum
from limbeck.errors import FileError, ResumeError
from limbeck.outputs import Outputs
from limbeck.store.codec import Records, decode
from limbeck.store.layout import Layout
from limbeck.store.learning import pooled
from limbeck.store.store import Store, same_pixels
from limbeck.teachers import Teacher, reading
from limbeck.training.distributed import world
from limbeck.training.precision import Precision

COUNT, PROBED = 512, 64
BOUNDS = {"kl_mean": 1e-3, "kl_p99": 1e-2, "agreement": 0.99, "features": 1e-2}
SOFT = 4.0  # beside 1, a temperature that a store of all logits is looked at
_SEED = 0
_BITS = {"bf16": 7}  # of a number's fraction, where there are fewer than half precision's 10
_COARSE = 0.05  # rounding of a logit that is told as the cause

Kept = Callable[[NDArray[np.int64]], Records]


def certify(
    kept: Kept,
    live: Teacher,
    see: Seer,
    layout: Layout,
    precision: Precision,
    *,
    views: int,
    count: int = COUNT,
    batch_size: int = 256,
) -> dict[str, Any]:
    """Ask the live teacher about some views again and compare.

    Args:
        kept: gives the records at addresses.
        live: the teacher, placed.
        see: the views.
        layout: of a record.
        precision: that the teacher computed in when its outputs were kept.
        views: of each sample, V.
        count: of the views that are asked about, spread evenly over the store; all of them, if it has fewer.
        batch_size: views that the teacher is asked about at a time.

    Returns:
        ``views``: how many were asked about, ``records``: of how many. ``kl_mean`` and ``kl_p99``: mean and 99th
        percentile of KL(live ‖ kept) in nats, at the temperature where they are largest (``temperatures`` has all);
        where only the largest logits are kept, over these classes and the rest as one, whose probability is
        ``beyond_mean`` and ``beyond_p99``. ``agreement``: share of the views with the same most probable class;
        ``ties`` of them only because the live teacher's first two classes lie within rounding.
        ``largest_difference``: of a kept logit; ``largest_logit``; ``features``: relative error of each, in the L2
        norm. ``pixels``: share of the views that are still made of the same pixels; ``bytes``: of a record.
        ``bounds``: what is allowed.
    """
    records, samples = views * len(see.split), len(see.split)
    parts = []
    for addresses in torch.from_numpy(spread(records, count)).split(batch_size):
        inputs = see(addresses % samples, addresses // samples)[0]
        with torch.no_grad(), precision.autocast():
            said = pooled(live(precision.inputs(inputs), addresses % samples), layout)
        own = kept(addresses.numpy())
        same = own["pixels"].astype(np.int64) == pixel_checksum(inputs).numpy()
        parts.append(_compared(layout, said, decode(layout, own), same, _BITS.get(precision.name, 10)))
    return {**_summed(layout, parts), "records": records, "bytes": layout.stride, "bounds": dict(BOUNDS)}


def hold(found: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The certificate, if it is within its bounds.

    Raises:
        FileError: naming what is out of its bound, the likely cause, and the cure.
    """
    wrong = outside(found)
    if wrong:
        raise FileError(f"{folder} does not keep what the teacher says: {'; '.join(wrong)}. {_cause(found)}", cure=(
            "see that the teacher answers a view the same each time, whatever else is in the batch; what was built is "
            "left as it is, without a manifest"
        ))  # fmt: skip
    return dict(found)


def outside(found: Mapping[str, Any]) -> list[str]:
    """What of a certificate is out of its bound, in words.

    Example:
        >>> good = {"kl_mean": 1e-8, "kl_p99": 1e-7, "agreement": 1.0, "pixels": 1.0, "features": {}, "views": 9}
        >>> outside(good), outside({**good, "kl_mean": 0.5})
        ([], ['KL(live ‖ kept) is 0.5 nats in the mean, the bound is 0.001'])
    """
    bounds = found.get("bounds", BOUNDS)
    wrong = []
    if found["pixels"] < 1:
        wrong.append(f"{found['pixels']:.1%} of {found['views']} views are made of the same pixels again, not all")
    for key, how in (("kl_mean", "in the mean"), ("kl_p99", "at the 99th percentile")):
        if not found[key] <= bounds[key]:
            wrong.append(f"KL(live ‖ kept) is {found[key]:.2g} nats {how}, the bound is {bounds[key]:g}")
    if not found["agreement"] >= bounds["agreement"]:
        wrong.append(f"{found['agreement']:.2%} have the same first class, the bound is {bounds['agreement']:.0%}")
    for name, error in found["features"].items():
        if not error <= bounds["features"]:
            wrong.append(
                f"features of '{name}' differ by {error:.2g} of their size, the bound is {bounds['features']:g}"
            )
    return wrong


def probe(
    store: Store, see: Seer, teacher: Teacher | None = None, precision: Precision | None = None, *, count: int = PROBED
) -> dict[str, Any]:
    """Before a training: make some views of a store again, in all its shards, and ask the live teacher about them.

    Of several processes, all must come here; the first one does it.

    So another library, another decoder of pictures, or a teacher whose code was changed while its weights were not, is
    noticed; a rare view that none of these is, is noticed in its batch.

    Args:
        store: whose :meth:`Store.check` passed.
        see: the views as they are made now.
        teacher: the live one on its device, if it is at hand.
        precision: that it computes in.
        count: of the views, at least one of each view number and each shard.

    Returns:
        The certificate of these views; empty without a teacher.

    Raises:
        FileError: if a view has other pixels, naming it.
        ResumeError: if the teacher says something else.
    """
    count = max(count, store.manifest.views, len(store.manifest.shards))
    found: dict[str, Any] = world().from_first(lambda: _probe(store, see, teacher, precision, count))
    return found


def _probe(store: Store, see: Seer, teacher: Teacher | None, precision: Precision | None, count: int) -> dict[str, Any]:
    manifest = store.manifest
    for addresses in torch.from_numpy(spread(manifest.records, count)).split(PROBED):
        inputs = see(addresses % manifest.samples, addresses // manifest.samples)[0]
        records = store.shards.gather(addresses.numpy())
        same_pixels(records, pixel_checksum(inputs), addresses, manifest.samples, store.folder, manifest.built)
    if teacher is None or precision is None:
        return {}
    gather, live = store.shards.gather, reading(teacher, tuple(store.layout.features))
    found = certify(gather, live, see, store.layout, precision, views=manifest.views, count=count)
    if wrong := outside(found):
        raise ResumeError(
            f"{store.folder}: the teacher says something else now than was kept of it: {'; '.join(wrong)}",
            cure="its code or a library computes something else: build the store again at another path",
        )
    return found


def spread(records: int, count: int) -> NDArray[np.int64]:
    """Addresses spread evenly, one at a random place of each of ``count`` equal parts; always the same ones.

    Example:
        >>> spread(3, 512).tolist(), (spread(1000, 10) // 100).tolist()
        ([0, 1, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if records <= count:
        return np.arange(records)
    edges = np.arange(count + 1) * records // count
    place = uniform(_SEED, np.arange(count), 0, 0)
    found: NDArray[np.int64] = edges[:-1] + np.floor(place * np.diff(edges)).astype(np.int64)
    return found


def line(found: Mapping[str, Any]) -> str:
    """A certificate in a line."""
    text = (
        f"kept as the teacher says it: KL {found['kl_mean']:.1e} nats in the mean, {found['kl_p99']:.1e} at the 99th "
        f"percentile; the same first class in {found['agreement']:.2%} of {found['views']:,} views; "
        f"{found['bytes']} bytes a view"
    )
    if "beyond_mean" in found:
        text += f"; {found['beyond_mean']:.2%} of the probability is beyond the classes that are kept"
    return text


def rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A certificate as names and values."""
    listed = [("asked about again", f"{found['views']:,} of {found['records']:,} views")]
    for name, one in found["temperatures"].items():
        text = f"{one['kl_mean']:.1e} nats in the mean, {one['kl_p99']:.1e} at the 99th percentile"
        listed.append((f"KL(live ‖ kept), temperature {name}", text))
        if "beyond_mean" in one:
            text = f"{one['beyond_mean']:.2%} in the mean, {one['beyond_p99']:.2%} at the 99th percentile"
            listed.append((f"beyond the kept, temperature {name}", text))
    ties = f" ({found['ties']} by rounding alone)" if found["ties"] else ""
    listed.append(("same first class", f"{found['agreement']:.2%}{ties}"))
    listed.append(("logits differ by at most", f"{found['largest_difference']:.2g}"))
    listed += [
        (f"features of '{name}' are off by", f"{one:.1e} of their size") for name, one in found["features"].items()
    ]
    return [*listed, ("bytes a view", str(found["bytes"]))]


@dataclass(frozen=True)
class _Part:
    """What was measured of some views: KL and probability beyond by temperature, and one number each of the rest."""

    kl: dict[float, Tensor]
    beyond: dict[float, Tensor]
    agrees: Tensor
    tie: Tensor
    difference: float
    logit: float
    errors: dict[str, Tensor]
    same: NDArray[np.bool_]


def _compared(layout: Layout, live: Outputs, kept: Outputs, same: NDArray[np.bool_], bits: int) -> _Part:
    first = layout.temperatures[0] if layout.top else 1.0
    said = live.logits_at(first).double().cpu()
    members = (live.logits[None] if live.members is None else live.members).double().cpu()
    kl, beyond = {}, {}
    top = kept.top
    for one in layout.temperatures if layout.top else (1.0, SOFT):
        ours, theirs = kept.logits_at(one).double(), live.logits_at(one).double().cpu()
        if top is not None:
            ours, theirs = top.grouped(one).double(), top.group(theirs, one)
            beyond[one] = torch.softmax(theirs / one, dim=1)[:, -1]
        log_p, log_q = torch.log_softmax(theirs / one, dim=1), torch.log_softmax(ours / one, dim=1)
        kl[one] = (log_p.exp() * (log_p - log_q)).sum(1).clamp(min=0)
    if top is not None:
        difference = (said.gather(1, top.ids) - top.logits).abs()
    else:
        difference = (members - (kept.logits[None] if kept.members is None else kept.members)).abs()
    agrees = said.argmax(1) == kept.logits.argmax(1)
    tie = ~agrees & _close(said, members, bits)
    errors = {name: _error(live.features[name], kept.features[name]) for name in layout.features}
    return _Part(kl, beyond, agrees, tie, float(difference.max()), float(members.abs().max()), errors, same)


def _close(said: Tensor, members: Tensor, bits: int) -> Tensor:
    """Whether the first two classes of a sample ``[B]`` differ by less than their logits are rounded."""
    values, ids = said.topk(2, dim=1)
    size = members.gather(2, ids.expand(len(members), -1, -1)).abs().amax(dim=(0, 2))
    return values[:, 0] - values[:, 1] <= _rounding(size, bits)


def _rounding(size: Tensor, bits: int) -> Tensor:
    """The distance of two neighboring numbers of this size, with so many bits of a fraction."""
    return torch.exp2(torch.floor(torch.log2(size.clamp(min=2**-14))) - bits)


def _error(live: Tensor, kept: Tensor) -> Tensor:
    live = live.double().cpu()
    error: Tensor = torch.linalg.vector_norm(live - kept, dim=1)
    return error / torch.linalg.vector_norm(live, dim=1).clamp(min=1e-12)


def _summed(layout: Layout, parts: list[_Part]) -> dict[str, Any]:
    temperatures: dict[str, dict[str, float]] = {}
    for one in parts[0].kl:
        about = _two("kl", torch.cat([part.kl[one] for part in parts]))
        if layout.top:
            about |= _two("beyond", torch.cat([part.beyond[one] for part in parts]))
        temperatures[f"{one:g}"] = about
    worst = {key: max(about[key] for about in temperatures.values()) for key in next(iter(temperatures.values()))}
    agrees, tie = torch.cat([part.agrees for part in parts]), torch.cat([part.tie for part in parts])
    return {
        "views": len(agrees),
        **worst,
        "temperatures": temperatures,
        "agreement": float((agrees | tie).double().mean()),
        "ties": int(tie.sum()),
        "largest_difference": max(part.difference for part in parts),
        "largest_logit": max(part.logit for part in parts),
        "features": {name: float(torch.cat([part.errors[name] for part in parts]).mean()) for name in layout.features},
        "pixels": float(np.concatenate([part.same for part in parts]).mean()),
    }


def _two(name: str, values: Tensor) -> dict[str, float]:
    found = values.numpy()
    return {f"{name}_mean": float(found.mean()), f"{name}_p99": float(np.percentile(found, 99))}


def _cause(found: Mapping[str, Any]) -> str:
    rounding = float(_rounding(torch.tensor(found["largest_logit"]), 10)) / 2
    if rounding >= _COARSE and found["largest_difference"] <= 2 * rounding:
        return f"Its logits reach {found['largest_logit']:.0f}, which half precision rounds by {rounding:.2g}"
    if found["pixels"] < 1:
        return "The views are not the same each time they are made"
    return "The teacher did not give the same answers to the same views"


__all__ = ["BOUNDS", "certify", "hold", "line", "outside", "probe", "rows", "spread"]
