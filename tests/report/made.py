"""A run folder made by hand, with numbers that are easy to follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

CLASSES = ["cat", "dog", "cow"]
ACCURACY = {"teacher": [0.98], "control": [0.90, 0.92], "student": [0.95, 0.97]}
SIZES = {"teacher": (66154, 268_000), "control": (3706, 15_392), "student": (3706, 15_392)}


def metrics(accuracy: float, classes: list[str]) -> dict[str, Any]:
    size = len(classes)
    return {
        "loss": 0.25, "accuracy": accuracy, "macro_f1": accuracy - 0.01, "ece": 0.031, "majority_baseline": 0.4,
        "samples": 100, "agreement": 0.91, "kl_to_teacher": 0.2,
        "confusion": [[30 if row == column else row for column in range(size)] for row in range(size)],
        "per_class": [
            {"class": name, "recall": accuracy, "precision": 0.9, "f1": 0.9, "support": 33} for name in classes
        ],
    }  # fmt: skip


def make_run(
    folder: Path,
    *,
    classes: list[str] = CLASSES,
    name: str = "by-hand",
    findings: list[dict[str, str]] | None = None,
    roles: tuple[str, ...] = ("teacher", "control", "student"),
    picture: tuple[int, int] = (16, 16),
    pictures: int = 2,
    file_name: str = "student.onnx",
) -> Path:
    models: dict[str, Any] = {}
    for role in roles:
        runs = []
        for seed, accuracy in enumerate(ACCURACY[role]):
            both = {split: metrics(accuracy, classes) for split in ("train", "validation", "test")}
            scalars = {
                split: {k: v for k, v in one.items() if isinstance(v, int | float)} for split, one in both.items()
            }
            write(folder / f"evaluation/{role}-seed{seed}.json", {
                "role": role, "seed": seed, "selected": {"epoch": 2, **both}, "last": {"epoch": 3, **both},
            })  # fmt: skip
            lines = [
                {"epoch": n, "train": {"loss": 1 / n}, "validation": {"accuracy": accuracy - 0.1 / n}}
                for n in (1, 2, 3)
            ]
            path = folder / f"models/{role}/seed{seed}/metrics.jsonl"
            path.parent.mkdir(parents=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            runs.append({
                "seed": seed, "selected_epoch": 2, "last_epoch": 3, "metrics": {"selected": scalars, "last": scalars},
                "file": f"models/{role}/seed{seed}/selected.safetensors", "sha256": f"{seed}" * 64,
            })  # fmt: skip
        mean = sum(ACCURACY[role]) / len(ACCURACY[role])
        plain = {k: v for k, v in metrics(mean, classes).items() if isinstance(v, int | float)}
        models[role] = {
            "parameters": SIZES[role][0], "macs": 42_752, "weights_bytes": SIZES[role][1], "gzip_bytes": 14_000,
            "latency_ms": 0.0512, "metrics": dict.fromkeys(("train", "validation", "test"), plain), "runs": runs,
        }  # fmt: skip
    export = {
        "path": file_name, "format": "onnx", "sha256": "e" * 64, "bytes": 19_891, "max_abs_difference": 2.4e-7,
        "latency_ms": 0.011, "metrics": {"test": {"accuracy": 0.97}},
    }  # fmt: skip
    paired = {"metric": "accuracy", "split": "test", "mean": 0.05, "low": 0.02, "high": 0.08, "seeds": 2}
    write(folder / "summary.json", {
        "limbeck": "0.1.0", "recipe": {}, "models": models, "exports": [export], "findings": findings or [],
        "data": {"name": "zoo", "classes": classes, "splits": {"train": 1000, "validation": 50, "test": 100},
                 "fingerprint": "f" * 64},
        "difference": paired if "control" in roles else None, "environment": {"python": "3.11"}, "seconds": 12.0,
        "verdict": "The student beats its control.", "shipped_seed": 1,
    })  # fmt: skip
    write(folder / "run.json", {
        "name": name, "created": "2026-11-20T12:00:00+00:00", "recipe": {"name": name}, "environment": {},
        "command": "limbeck run zoo.yaml", "status": "done", "finished": None, "limbeck": "0.1.0",
    })  # fmt: skip
    items = []
    for number in range(pictures):
        file = folder / f"evaluation/gallery/{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise(picture, 64).save(file)
        said = {role: {"class": classes[0], "probability": 0.9} for role in roles}
        items.append(
            {"file": f"evaluation/gallery/{number:03d}.png", "index": number, "target": classes[1], "models": said}
        )
    write(folder / "evaluation/gallery.json", {"items": items})
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def add_scores(folder: Path, *, positive: str = "dog", metric: str = "accuracy", site: str = "A") -> Path:
    """The keys of scores, slices and intervals, as newer runs have them, with numbers that are easy to follow."""
    for file in (folder / "evaluation").glob("*-seed*.json"):
        found = json.loads(file.read_text())
        shift = {"teacher": 0.09, "control": 0.0, "student": 0.06}[found["role"]]
        test = found["selected"]["test"]
        test["reliability"] = {
            "bins": [
                {"confidence": 0.55, "accuracy": 0.40, "count": 25},
                {"confidence": 0.95, "accuracy": 0.90 + shift, "count": 75},
            ]
        }
        names = [one["class"] for one in test["per_class"]]
        test["pr"] = {
            name: {"recall": [0.5, 1.0], "precision": [1.0, 0.5], "average_precision": 0.6 + 0.01 * at + shift}
            for at, name in enumerate(names)
        }
        test["roc"] = {positive: {"fpr": [0.0, 0.0, 1.0, 1.0], "tpr": [0.0, 0.5, 0.5, 1.0], "auc": 0.5 + shift}}
        test["operating_point"] = {
            "threshold": 0.3125, "specificity_wanted": 0.9, "specificity": 0.875, "sensitivity": 0.7 + shift,
            "chosen_on": "validation", "sampling": {"sensitivity": {"low": 0.61, "high": 0.79}},
        }  # fmt: skip
        test["sampling"] = {metric: {"low": 0.8 + shift, "high": 0.9 + shift, "method": "wilson"}}
        test["slices"] = {"site": [
            {"value": site, "samples": 70, "few": False, "accuracy": 0.81 + shift, "balanced_accuracy": 0.71,
             "majority_baseline": 0.45},
            {"value": "B", "samples": 15, "few": True, "accuracy": 0.82 + shift, "balanced_accuracy": None,
             "majority_baseline": 0.66},
        ]}  # fmt: skip
        write(file, found)
    summary = json.loads((folder / "summary.json").read_text())
    for model in summary["models"].values():
        extra = {"balanced_accuracy": 0.777, "auc": 0.888, "average_precision": 0.555, "f1": 0.666}
        model["metrics"]["test"] |= extra
        for one in model["runs"]:
            for which in ("selected", "last"):
                one["metrics"][which]["test"] |= extra
    paired = {**summary["difference"], "metric": metric}
    write(folder / "summary.json", {**summary, "metric": metric, "positive": positive, "difference": paired})
    return folder


def add_pictures(folder: Path, *, name: str = "pets/rex.jpg", why: str = "it is not a single torch module") -> Path:
    """Galleries of several kinds, and explanation maps: drawn, zero everywhere, and none."""
    kinds = {"teacher_right": 30, "control_right": 4, "both_wrong": 2, "surest_errors": 32}
    said = {role: {"class": "dog", "probability": 0.876} for role in ("teacher", "control", "student")}
    file = folder / "evaluation/gallery/100.jpg"
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((120, 90), 64).save(file)
    items = [
        {"kind": kind, "file": "evaluation/gallery/100.jpg", "index": 7, "target": "cat", "name": name, "models": said}
        for kind in kinds
    ]
    write(folder / "evaluation/gallery.json", {"split": "test", "totals": kinds, "items": items})
    maps = {
        "teacher": {"method": None, "layer": None, "why": why},
        "control": {"method": "gradient", "layer": None, "size": [90, 120]},
        "student": {"method": "grad-cam", "layer": "features.9", "size": [4, 5]},
    }
    models = {
        "teacher": {"class": "cat", "probability": 0.9, "file": None},
        "control": {"class": "dog", "probability": 0.6, "file": ""},
        "student": {"class": "dog", "probability": 0.7, "file": "evaluation/gallery/100.jpg"},
    }
    item = {"file": "evaluation/gallery/100.jpg", "index": 7, "target": "cat", "name": name, "models": models}
    write(folder / "evaluation/explain.json", {"split": "test", "methods": maps, "items": [item]})
    return folder


def add_terms(
    folder: Path,
    terms: dict[str, dict[str, list[float]]],
    objective: dict[str, Any],
    *,
    role: str = "student",
    seed: int = 1,
    layers: list[list[str]] | None = None,
    parameters: int = 0,
    old: int = 0,
) -> Path:
    """What a training notes of its terms: by term ``values``, ``weights`` and ``gradient``, one number an epoch.

    The first ``old`` lines lack weights and gradients, as an older limbeck wrote them.
    """
    lines = []
    for at in range(len(next(iter(terms.values()))["values"])):
        train = {"loss": 1 / (at + 1), "terms": {name: one["values"][at] for name, one in terms.items()}}
        if at >= old:
            train |= {
                key: {n: one[key][at] for n, one in terms.items() if key in one} for key in ("weights", "gradient")
            }
        lines.append({"epoch": at + 1, "train": train, "validation": {"accuracy": 0.9}})
    home = folder / f"models/{role}/seed{seed}"
    (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if layers is not None:
        write(home / "manifest.json", {"result": {"beside": {"layers": layers, "parameters": parameters}}})
    summary = json.loads((folder / "summary.json").read_text())
    write(folder / "summary.json", {**summary, "objective": objective})
    return folder


STORE: dict[str, Any] = {
    "mode": "auto", "path": "/elsewhere/kept", "samples": 1437, "views": 4, "records": 5748, "known": 5748,
    "bytes": 137_952, "bytes_per_view": 24, "asked": {"samples": 5748, "seconds": 3.25}, "built": {"seconds": 3.5},
    "layout": {"kind": "dense", "classes": 10, "members": 1, "top": 0, "temperatures": [], "features": [], "bytes": 24},
    "certificate": {
        "views": 1024, "temperatures": {"1": {}, "4": {}}, "kl_mean": 1.2e-9, "kl_p99": 2.5e-8, "agreement": 0.99951,
        "bytes": 24, "features": {"pool": 0.00012},
        "bounds": {"kl_mean": 1e-5, "kl_p99": 1e-4, "agreement": 0.999, "features": 0.01},
    },
}  # fmt: skip
PLAN: dict[str, Any] = {
    "planned": {"control": 1.0, "online": 9.0, "building": 9.1, "stored": 1.02, "bytes": 137_952, "teacher": 32.0,
                "total_online": 270.0, "total_stored": 62.0},
    "took": {"control": 1.1, "building": 9.5, "stored": 1.05, "bytes": 137_952, "teacher": 33.6, "total_stored": 65.1},
    "take": "store: auto", "reason": "62 s instead of 270 s",
}  # fmt: skip


def add_costs(folder: Path, store: Any = STORE, plan: Any = PLAN, *, journals: bool = True) -> Path:
    """A store that was filled in 2 of 3 epochs, and its plan; of epochs of 9, 9 and 1 seconds a journal has means."""
    summary = json.loads((folder / "summary.json").read_text())
    write(folder / "summary.json", {**summary, "store": store, "plan": plan})
    for role, each in (("control", [1.0, 1.0, 1.0]), ("student", [9.0, 9.0, 1.5])) if journals else ():
        for path in (folder / f"models/{role}").glob("seed*/metrics.jsonl"):
            own = each if path.parent.name == "seed0" or role == "control" else [1.5, 1.5, 1.5]
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for at, line in enumerate(lines, start=1):
                line["seconds"] = sum(own[:at]) / at
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
