"""What the teacher cost: the store of a run, how well it keeps the teacher, and the plan beside what the run took.

``summary.json`` tells of it in two entries. Each key may be missing or None: what is not there is not shown ::

    "store": {                      # as limbeck.pipeline.storing.Keeping.summary gives it
        "mode": "auto",             # filled in the first epochs; "built": before training; "read": it was there before
        "path": "store",            # relative to the run folder, or anywhere
        "samples": 1437,            # of the training split, N
        "views": 4,                 # of each sample, V
        "records": 5748,            # N · V
        "known": 5748,              # of them are kept; fewer if not all views were seen
        "bytes": 137952,            # of all records
        "bytes_per_view": 24,
        "layout": {},               # Layout.to_dict(): classes, members, top, temperatures, features
        "asked": {"samples": 5748, "seconds": 3.1},     # of the live teacher, by this run
        "built": {"seconds": 3.1},  # that the teacher, or building, took when the store was made
        "certificate": {            # as limbeck.store.certificate.certify gives it
            "views": 1024,              # that the live teacher was asked about again
            "temperatures": {"1": {}, "4": {}},     # that it was compared at; KL and beyond are the worst of them
            "kl_mean": 1e-9,            # KL(live ‖ kept) in nats, mean over these views
            "kl_p99": 2e-8,             # their 99th percentile
            "agreement": 1.0,           # share of views whose largest logit is of the same class
            "beyond_mean": 0.01,        # top-K: probability of the classes beyond the K largest, mean
            "beyond_p99": 0.05,
            "features": {"pool": 1e-4}, # relative error of each
            "bytes": 24,                # a view
            "bounds": {"kl_mean": 1e-3, "kl_p99": 1e-2, "agreement": 0.99, "features": 1e-2}
        }
    },
    "plan": {                       # as limbeck.pipeline.planning.compared gives it
        "planned": {                # seconds of an epoch, by kind; bytes of the records
            "control": 1.0,             # of a training that asks no teacher
            "online": 9.0,              # of a student with the live teacher at every step
            "building": 9.1,            # of a student that fills the store (or of making one view beforehand)
            "stored": 1.02,             # of a student that reads it
            "bytes": 137952,
            "teacher": 32.0,            # seconds of the teacher in the whole run
            "total_online": 270.0,      # seconds of all trainings with the live teacher
            "total_stored": 62.0        # and with the store
        },
        "took": {},                 # the same keys, as far as the run knows
        "take": "store: auto",      # what the plan advised, and why
        "reason": "…"
    }
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os.path import abspath
from pathlib import Path, PurePath
from typing import Any

from limbeck.report.numbers import DASH, count, percent, size
from limbeck.report.read import Found
from limbeck.report.tables import Table
from limbeck.store.plan import in_words

MADE = {
    "auto": "filled in the first epochs of the first training that heard the teacher",
    "built": "built before the first student trained",
    "read": "was there before; its files, teacher, data and views were compared first",
}
KINDS = {  # of epochs, with what they are called
    "control": "no teacher",
    "online": "live teacher",
    "building": "filling the store",
    "stored": "reading the store",
}
_SUMS = {
    "teacher": "run, teacher alone",
    "total_online": "run, live teacher",
    "total_stored": "run, with the store",
    "bytes": "bytes of the store",
}
_MEASURES = {
    "kl_mean": "KL, mean",
    "kl_p99": "KL, 99th percentile",
    "agreement": "same class first",
    "beyond_mean": "beyond the kept, mean",
    "beyond_p99": "beyond the kept, 99th percentile",
    "bytes": "bytes a view",
}


def told(found: Found) -> dict[str, Any] | None:
    """What the page says of a run's store and plan; None where the run had neither."""
    store, plan = (_map(found.summary.get(key)) for key in ("store", "plan"))
    if not store and not plan:
        return None
    sure = _map(store.get("certificate"))
    return {
        "sentence": _sentence(store),
        "views": _number(store.get("views")) if store.get("mode") == "auto" else None,
        "kept": _kept(store, found.folder),
        "asked": _number(sure.get("views")),
        "certificate": _certificate(sure),
        "at": _temperatures(sure),
        "plan": _plan(_asking(plan, store)),
        "advice": _text(plan.get("take")),
        "reason": _text(plan.get("reason")),
        "seconds": seconds(found),
        "planned": {kind: both for kind, both in _both(plan, KINDS).items() if any(one is not None for one in both)},
    }


def seconds(found: Found) -> dict[str, dict[int, list[float]]]:
    """Seconds of each epoch of controls and students, by role and seed; a line of the journal has the mean so far."""
    told: dict[str, dict[int, list[float]]] = {}
    for role in ("control", "control_hard_labels", "student"):
        for seed, lines in found.curves.get(role, {}).items():
            until = [(_number(line.get("seconds")) or 0.0) * line["epoch"] for line in lines]
            each = [after - before for before, after in zip([0.0, *until], until, strict=False)]
            if each and min(each) > 0:
                told.setdefault(role, {})[seed] = each
    return told


def _sentence(store: Mapping[str, Any]) -> str:
    """What was asked once, in a sentence."""
    views, samples, records = (_number(store.get(key)) for key in ("views", "samples", "records"))
    if not store or views is None or samples is None:
        return ""
    pictures = f"What the teacher said of these {count(records or views * samples)} pictures was kept"
    if views == 1:
        return f"Each of the {count(samples)} training samples looked the same in every epoch. {pictures}."
    return (
        f"Of each of the {count(samples)} training samples {count(views)} views were seen, again and again. "
        f"{pictures}, and read from then on."
    )


def _kept(store: Mapping[str, Any], folder: Path) -> list[tuple[str, str]]:
    """What is kept, name by name."""
    asked, built = _map(store.get("asked")), _map(store.get("built"))
    known, records, whole, each, views = (
        _number(store.get(key)) for key in ("known", "records", "bytes", "bytes_per_view", "views")
    )
    rows = [("made", MADE.get(str(store.get("mode")), ""))]
    if store.get("mode") in ("built", "read") and _number(built.get("seconds")) is not None:
        rows.append(("building took", _duration(_number(built["seconds"]))))
    if _number(asked.get("samples")) is not None:
        rows.append(("asked by this run", f"{count(asked['samples'])} views{_within(asked.get('seconds'))}"))
    if views is not None:
        rows.append(("views of a sample", count(views)))
    if known is not None and records is not None and known < records:
        rows.append(("known so far", f"{count(known)} of {count(records)}: no training saw the others"))
    rows.append(("kept of a view", _record(_map(store.get("layout")))))
    if whole is not None:
        rows.append(("bytes", size(whole) + (f", {count(each)} for a view" if each is not None else "")))
    rows.append(("folder", _where(store.get("path"), folder)))
    return [(name, text) for name, text in rows if text]


def _within(value: Any) -> str:
    taken = _number(value)
    return "" if not taken else f" in {_duration(taken)}"


def _where(path: Any, folder: Path) -> str:
    """Where the store lies; in the run's own folder its name alone."""
    if not _text(path):
        return ""
    there, run = PurePath(abspath(path)), PurePath(abspath(folder))
    return f"{there.relative_to(run).as_posix()}, in the run" if there.is_relative_to(run) else path


def _record(record: Mapping[str, Any]) -> str:
    """What is kept of a view, in words."""
    classes, top, members = (_number(record.get(key)) for key in ("classes", "top", "members"))
    if classes is None:
        return ""
    text = f"all {count(classes)} logits"
    if top:
        at = ", ".join(f"{one:g}" for one in _list(record.get("temperatures")) if _number(one) is not None)
        text = f"the {count(top)} largest of {count(classes)} logits, and the weight of the others"
        text += f" at temperature {at}" if at else ""
    elif members and members > 1:
        text += f" of each of {count(members)} teachers"
    pairs = [one for one in _list(record.get("features")) if len(_list(one)) == 2]
    if pairs:
        text += f"; pooled features of {', '.join(f'{name} ({length})' for name, length in pairs)}"
    return text


def _certificate(sure: Mapping[str, Any]) -> Table | None:
    """How far what is kept is from what the live teacher says, beside the bound that was set."""
    bounds, rows = _map(sure.get("bounds")), []
    for key, text in _MEASURES.items():
        value, bound = _number(sure.get(key)), _number(bounds.get(key))
        if value is not None:
            rows.append((text, [_measured(key, value), *([_limit(key, bound)] if bounds else [])]))
    for name, error in _map(sure.get("features")).items():
        if _number(error) is not None:
            limit = [_limit("kl", _number(bounds.get("features")))] if bounds else []
            rows.append((f"error of features, {name}", [_measured("kl", error), *limit]))
    return Table(["live ‖ kept", "found", *(["bound"] if bounds else [])], rows) if rows else None


def _temperatures(sure: Mapping[str, Any]) -> str:
    """At which the outputs were compared."""
    names = [str(one) for one in _map(sure.get("temperatures"))]
    several = ", the larger of them" if len(names) > 1 else ""
    return f"at temperature {' and '.join(names)}{several}" if names else ""


def _limit(key: str, bound: float | None) -> str:
    return DASH if bound is None else f"{'≥' if key == 'agreement' else '≤'} {_measured(key, bound)}"


def _plan(plan: Mapping[str, Any]) -> Table | None:
    """What was planned beside what the run took."""
    kinds = {key: f"epoch, {text}" for key, text in KINDS.items()} | _SUMS
    both = {key: pair for key, pair in _both(plan, kinds).items() if any(one is not None for one in pair)}
    ran = any(took is not None for _, took in both.values())
    rows = []
    for key, (planned, took) in both.items():
        say = size if key == "bytes" else _duration
        share = f"{took / planned:.2f}×" if planned and took is not None else DASH
        rows.append((kinds[key], [say(planned), *([say(took), share] if ran else [])]))
    return Table(["time and bytes", "planned", *(["took", "ratio"] if ran else [])], rows) if rows else None


def _asking(plan: Mapping[str, Any], store: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plan, with what the teacher took of epochs that filled the store: what they took longer than those after."""
    took, known, samples = _map(plan.get("took")), _number(store.get("known")), _number(store.get("samples"))
    filling, reading = _number(took.get("building")), _number(took.get("stored"))
    if store.get("mode") != "auto" or "teacher" in took or not samples:
        return plan
    if known is None or filling is None or reading is None or filling < reading:
        return plan
    return {**plan, "took": {**took, "teacher": known / samples * (filling - reading)}}


def _both(plan: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, tuple[float | None, float | None]]:
    planned, took = (_map(plan.get(key)) for key in ("planned", "took"))
    return {key: (_number(planned.get(key)), _number(took.get(key))) for key in keys}


def _measured(key: str, value: float) -> str:
    if key == "bytes":
        return count(value)
    return f"{value:.2g}" if key.startswith("kl") else percent(value, 2 if value < 0.9999 or value == 1 else 4)


def _duration(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value:.3g} s" if 0.1 <= value < 999.5 else in_words(value)


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known and value >= 0 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


__all__ = ["KINDS", "MADE", "seconds", "told"]
