"""What a store is, finished or not, and whether it is as it was written: ``limbeck store info`` and ``verify``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.files import read_json
from limbeck.store.certificate import rows
from limbeck.store.fields import Fields, whole
from limbeck.store.filling import noted, per_shard
from limbeck.store.layout import Layout
from limbeck.store.manifest import BEGIN, FILE, Manifest
from limbeck.store.store import Store
from limbeck.store.verifying import faults
from limbeck.training.progress import Reporter

_LIBRARIES = ("limbeck", "torch", "numpy", "Pillow")
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def inform(folder: str | Path) -> dict[str, Any]:
    """What a store is, in plain data; files are looked at by their size alone.

    Args:
        folder: of a finished store, or of the beginning of one.

    Returns:
        ``path``, ``finished``, ``samples``, ``views``, ``records``, ``known`` (records that are there), ``bytes`` of
        all records, ``shards`` (how many files), ``record`` (:meth:`Layout.to_dict`), ``identity`` (what it depends
        on), ``said`` (other splits that are kept), ``certificate``, ``built``, ``faults`` (what is wrong with files).

    Raises:
        FileError: if there is no store, or what tells of it is damaged.
    """
    folder = Path(folder)
    if not (folder / FILE).exists() and (folder / BEGIN).exists():
        return _begun(folder)
    kept = Manifest.read(folder)
    return {
        "path": str(folder),
        "finished": True,
        **_size(kept.layout, kept.samples, kept.views, kept.per_shard),
        "known": kept.records,
        "identity": dict(kept.identity),
        "said": sorted(kept.said),
        "certificate": dict(kept.certificate),
        "built": dict(kept.built),
        "faults": [one.what for one in faults(folder, kept.files, read=False)],
    }


def verify(folder: str | Path, told: Reporter | None = None) -> dict[str, Any]:
    """Read everything and compare it with what the manifest says.

    Args:
        folder: of a finished store.
        told: shows progress.

    Returns:
        ``path``, ``files``, ``bytes`` and ``seconds``.

    Raises:
        FileError: naming the first file that is not as it was written; if the store is not finished.
    """
    began = time.monotonic()
    store = Store.open(folder, verify=False)
    store.verify(told)
    files = store.manifest.files
    size = sum(int(one["bytes"]) for one in files)
    return {"path": str(folder), "files": len(files), "bytes": size, "seconds": round(time.monotonic() - began, 3)}


def cells(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What :func:`inform` gave as names and values for people."""
    record = found["record"]
    listed = [
        ("store", found["path"]),
        ("state", _state(found)),
        ("views", f"{found['views']:,} of {found['samples']:,} samples: {found['records']:,} records"),
        ("record", _record(record)),
        ("size", f"{in_units(found['bytes'])} in {found['shards']:,} file{'s' * (found['shards'] != 1)}"),
    ]
    for about in (_identity, _certified, _built):
        try:
            listed += about(found)
        except (KeyError, TypeError, ValueError, AttributeError):
            listed.append(("also", "what only another version of limbeck can tell"))
    return [*listed, *(("fault", one) for one in found["faults"])]


def _identity(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    known, data = found["identity"], found["identity"]["data"]
    shape = "×".join(map(str, data["shape"]))
    listed = [
        *_teacher(known["teacher"]),
        *_views(known["views"]),
        ("data", f"{shape}, {len(data['classes']):,} classes, contents {data['contents'][:12]}"),
        ("precision", known["precision"]),
    ]
    return [*listed, ("other splits", ", ".join(found["said"]))] if found["said"] else listed


def _certified(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return rows(found["certificate"]) if found["certificate"] else []


def _built(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    built = found["built"]
    listed = []
    if built.get("when"):
        libraries = ", ".join(f"{name} {built[name]}" for name in _LIBRARIES if built.get(name))
        listed.append(("built", f"{built['when']} with {libraries}, on {built.get('platform')}"))
    if "seconds" in built:
        listed.append(("took", f"{built['seconds']:.1f} s"))
    return listed


def in_units(size: int) -> str:
    """Bytes for people.

    Example:
        >>> in_units(512), in_units(960_000 * 24)
        ('512 bytes', '22.0 MiB')
    """
    for unit, least in _UNITS:
        if size >= least:
            return f"{size / least:.1f} {unit}"
    return f"{size} bytes"


def _begun(folder: Path) -> dict[str, Any]:
    """A store that is not finished, and how far it is."""
    path = folder / BEGIN
    known = Fields.of(read_json(path), str(path))
    layout = Layout.from_dict(known.object("record").value, f"{path}: record")
    samples, views = (known.take(name, whole(1), "a whole number of at least 1") for name in ("samples", "views"))
    identity = known.object("identity").value
    each = per_shard(samples * views)
    size = _size(layout, samples, views, each)
    lengths = [min(each, samples * views - number * each) for number in range(size["shards"])]
    return {
        "path": str(folder),
        "finished": False,
        **size,
        "known": sum(noted(folder, number, length) for number, length in enumerate(lengths)),
        "identity": dict(identity),
        "said": [],
        "certificate": {},
        "built": {},
        "faults": [],
    }


def _size(layout: Layout, samples: int, views: int, each: int) -> dict[str, Any]:
    records = samples * views
    return {
        "samples": samples,
        "views": views,
        "records": records,
        "bytes": records * layout.stride,
        "shards": -(-records // each),
        "record": layout.to_dict(),
    }


def _state(found: Mapping[str, Any]) -> str:
    if found["finished"]:
        return "finished" if not found["faults"] else "finished, and damaged since"
    share = found["known"] / found["records"]
    return f"not finished: {found['known']:,} of {found['records']:,} records ({share:.1%}); its command goes on"


def _record(record: Mapping[str, Any]) -> str:
    text = f"all {record['classes']:,} logits"
    if record["top"]:
        at = ", ".join(f"{one:g}" for one in record["temperatures"])
        text = f"the {record['top']} largest of {record['classes']:,} logits, the rest at temperature {at}"
    if record["members"] > 1:
        text += f" of {record['members']} members"
    if record["features"]:
        text += f", features of {', '.join(f'{name} ({size})' for name, size in record['features'])}"
    return f"{text}: {record['bytes']} bytes"


def _teacher(known: Mapping[str, Any], name: str = "teacher") -> list[tuple[str, str]]:
    """A line for a teacher, one for each member of an ensemble."""
    if "members" in known:
        listed = [(name, f"{len(known['members'])} members")]
        for number, one in known["members"].items():
            share = known["shares"][number]
            listed += [(key, f"{value}, share {share:.3g}") for key, value in _teacher(one, f"{name} {number}")]
        return listed
    if "of" in known:
        return [(key, f"{value}, in another class order") for key, value in _teacher(known["of"], name)]
    digest = str(known.get("weights") or known.get("file") or known.get("digest") or "")
    parts = [str(known.get("class") or known.get("kind") or "unknown"), digest[:12]]
    inputs = known.get("inputs") or {}
    if isinstance(inputs.get("normalization"), Mapping) and "mean" in inputs["normalization"]:
        parts.append(f"mean {inputs['normalization']['mean']}, std {inputs['normalization']['std']}")
    if inputs.get("input_size"):
        parts.append("inputs of {}×{}".format(*inputs["input_size"]))
    return [(name, ", ".join(filter(None, parts)))]


def _views(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of the views that change something."""
    seen = {"count", "seed", "sampling", "labels"}
    parts = [f"{name} {text}" for name, text in _set(known) if name not in seen]
    listed = [("augmentation", ", ".join(parts) or "none"), ("seed", str(known.get("seed")))]
    if known.get("sampling", "none") != "none":
        listed.append(("mixed in", f"{known['sampling']}, labels {str(known.get('labels'))[:12]}"))
    return listed


def _set(known: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in known.items():
        if isinstance(value, Mapping):
            found += _set(value, f"{before}{name}.")
        elif value not in (None, False, 0):
            found.append((f"{before}{name}", "on" if value is True else str(value)))
    return found


__all__ = ["cells", "in_units", "inform", "verify"]
