"""The page of stores says what the summaries say: by hand."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "results"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def page() -> Iterator[ModuleType]:
    """The module that writes the page."""
    yield load("store_page")
    sys.modules.pop("store_page")


def a_run(runs: Path, name: str, student: list[float], seconds: list[list[float]], *, views: int | None) -> None:
    """A run folder: test accuracies of the students of each seed, and seconds of their epochs; controls have 80 %."""
    folder = runs / f"store-toy-{name}"
    times = {"student": seconds, "control": [[1.0, 1.0, 1.0]] * len(seconds)}
    for role, seeds in times.items():
        for seed, each in enumerate(seeds):
            path = folder / "models" / role / f"seed{seed}" / "metrics.jsonl"
            path.parent.mkdir(parents=True)
            means = [sum(each[: place + 1]) / (place + 1) for place in range(len(each))]  # as the loop writes them
            lines = [json.dumps({"epoch": place + 1, "seconds": mean}) for place, mean in enumerate(means)]
            path.write_text("\n".join(lines) + "\n")

    def model(parameters: int, accuracies: list[float]) -> dict[str, Any]:
        scores = [{"test": {"accuracy": one}} for one in accuracies]
        return {"parameters": parameters, "runs": [{"metrics": {"selected": one, "last": one}} for one in scores]}

    summary: dict[str, Any] = {
        "models": {
            "teacher": model(3000, [0.95]),
            "control": model(200, [0.8] * len(student)),
            "student": model(200, student),
        },
        "environment": {"processor": "some processor", "threads": 1, "torch": "2.15"},
        "data": {"splits": {"train": 1000, "test": 100}},
    }
    if views is not None:
        certificate = {"kl_mean": 1.25e-7, "kl_p99": 2e-6, "agreement": 0.9995}
        summary["store"] = {"bytes": 24_000 * views, "known": 1000 * views, "records": 1000 * views}
        summary["store"]["certificate"] = certificate
    run = {"command": f"limbeck run toy --out {name}", "finished": "2026-01-02", "created": "2026-01-01"}
    run["recipe"] = {"student": {"epochs": 3}}  # type: ignore[assignment]
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "commit").write_text("abc1234\n")


@pytest.fixture
def source(tmp_path: Path, page: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two variants of a data set, collected."""
    runs, into = tmp_path / "runs", tmp_path / "results"
    a_run(runs, "online", [0.90, 0.92, 0.94], [[9.0, 9.0, 9.0]] * 3, views=None)
    a_run(runs, "4", [0.89, 0.91, 0.93], [[10.0, 11.0, 12.0], [2.0, 2.0, 2.0], [2.0, 3.0, 2.0]], views=4)
    monkeypatch.syspath_prepend(FOLDER)
    into.mkdir()
    load("build").collect(runs, into)
    for name in ("build", "methods_page"):
        sys.modules.pop(name, None)
    return into / "toy"


def row(lines: list[str], start: str, number: int = 0) -> list[str]:
    found = [line for line in lines if line.startswith(f"| {start} |")][number]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_gap_to_online_is_that_of_the_same_seeds(page: ModuleType, source: Path) -> None:
    lines = page.gap(source)
    # the mean of three equal differences of -1 point, without any spread; the intervals of 90, 92, 94: ± 4.303 · 2 / √3
    assert row(lines, "4 stored views") == [
        "4 stored views",
        "3",
        "91.00 % (86.03 to 95.97)",
        "91.00 % (86.03 to 95.97)",
        "80.00 % (80.00 to 80.00)",
        "+11.00 (+6.03 to +15.97)",
        "-1.00 (-1.00 to -1.00)",
        "-1.00 (-1.00 to -1.00)",
    ]
    assert row(lines, "live")[-2:] == ["–", "–"]


def test_first_epochs_are_those_of_the_first_student(page: ModuleType, source: Path) -> None:
    lines = page.gap(source)
    assert row(lines, "live", 1)[:6] == ["live", "1.0 s", "9.0 s", "–", "27.0 s", "27.0 s"]
    costs = row(lines, "4 stored views", 1)
    assert costs[1:6] == ["1.0 s", "11.0 s", "2.0 s", "33.0 s", "6.5 s"]  # its three epochs showed three of the views
    assert costs[6:] == ["96 kB", "1.2e-07", "2e-06", "99.95 %"]


def test_the_page_names_commands_commits_and_machines(page: ModuleType, source: Path) -> None:
    text = "\n".join(page.gap(source))
    assert "`limbeck run toy --out 4`, 2026-01-02, some processor, threads: 1, torch 2.15, commit abc1234" in text
    assert "Teacher: 3,000 parameters, test 95.00 %; student: 200 parameters, 3 epochs." in text
    assert "(store-toy.svg)" in text
    assert "- the teacher" not in text
    taught = {"recipe": {"teacher": {"epochs": 7}}, "command": "limbeck run it", "finished": "then"}
    source.with_name("store-toy-teacher").mkdir()
    (source.with_name("store-toy-teacher") / "run.json").write_text(json.dumps(taught))
    assert "- the teacher, 7 epochs: `limbeck run it`, then" in page.gap(source)
    figure = source.with_name("store-toy.svg").read_text()
    assert figure.lstrip().startswith("<?xml")
    for label in ("student, online", "control, stored views", "seconds of a training"):
        assert label in figure


def test_what_was_not_run_is_said(page: ModuleType, tmp_path: Path) -> None:
    assert page.gap(tmp_path / "toy")[0].startswith("Not run yet")
    assert page.reading(tmp_path)[0].startswith("Not measured yet")


def test_a_store_by_itself(page: ModuleType, tmp_path: Path) -> None:
    times = {"median_us": 0.5, "low_us": 0.25, "high_us": 3.0, "calls": 9}
    pairs = [{"ratio": 1.02, "low": 1.0, "high": 1.04}, {"ratio": 0.99, "low": 0.97, "high": 1.01}]
    found = {
        "date": "today",
        "environment": {"processor": "x", "cores": 2, "threads": 1, "torch": "2"},
        "precision": "bf16",
        "batch": 128,
        "reading": [{"name": "10 classes", **times, "bytes": 25.0, "records": 4}],
        "besides": [{"name": "torch.load", **times}],
        "building": {"ratios": pairs, "samples": 1024, "rounds": 10},
        "opening": {"bytes": 10**8, "median_mb_s": 1500.0, "low_mb_s": 1400.0, "high_mb_s": 1600.0, "without_ms": 0.5},
        "memory": None,
        "targets": [
            {"what": "reading, 10 classes, µs a view", "target": "<=2", "met": True},
            {"what": "a view, 10 classes, bytes", "target": "<=24", "met": False},
        ],
    }
    (tmp_path / "store.json").write_text(json.dumps(found))
    lines = page.reading(tmp_path)
    assert "| reading, 10 classes | 0.50 µs | 0.25 to 3.00 µs | ≤ 2: met | 25 | ≤ 24: **missed** |" in lines
    assert "| torch.load | 0.50 µs | 0.25 to 3.00 µs | – | – | – |" in lines
    assert any("1.02 (turn by turn 1.00 to 1.04); the forward against itself: 0.99" in line for line in lines)
