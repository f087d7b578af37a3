"""Sweeps: chosen on validation, stopped and resumed, each point's folder its own."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import limbeck.pipeline.sweep as module
from limbeck.errors import RecipeError, ResumeError
from limbeck.pipeline.sweep import resume, sweep
from limbeck.pipeline.tables import points
from limbeck.recipe.recipe import Recipe

RECIPE = Recipe.parse({"teacher": {"model": "limbeck/cnn5"}, "student": {"model": "limbeck/cnn5"}})
KEY = "objective.kl.temperature"


class Runs:
    """Stands in for ``execute``: a run's temperature tells its accuracy; test is the opposite of validation."""

    findings: tuple[dict[str, str], ...] = ()

    def __init__(self, accuracy: dict[float, float], stop_at: int | None = None) -> None:
        self.accuracy, self.stop_at, self.calls = accuracy, stop_at, []  # type: ignore[var-annotated]

    def __call__(self, recipe: Any, folder: Path, *, score_test: bool = True, shared: Path, **rest: Any) -> Any:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        temperature = recipe.spec.objective["kl"]["temperature"]
        self.calls.append((temperature, folder, score_test, shared))
        scores = {"validation": {"accuracy": self.accuracy[temperature]}}
        if score_test:
            scores["test"] = {"accuracy": 1 - self.accuracy[temperature]}
        runs = [{"seed": seed, "metrics": {"selected": scores}} for seed in (0, 1)]
        models = {role: {"runs": runs} for role in ("teacher", "control", "student")}
        return SimpleNamespace(summary={"models": models, "seconds": 1.0, "verdict": "v", "findings": self.findings})


def test_the_best_on_validation_is_run_in_full_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs({1: 0.5, 2: 0.8, 4: 0.8, 8: 0.7})
    monkeypatch.setattr(module, "execute", runs)
    found = sweep(RECIPE, {KEY: [1, 2, 4, 8]}, tmp_path, command="typed", quiet=True)
    assert [(temperature, scored) for temperature, _, scored, _ in runs.calls] == [
        (1, False), (2, False), (4, False), (8, False), (2, True),
    ]  # fmt: skip
    assert found["best"]["values"] == {KEY: 2}
    assert runs.calls[-1][1] == tmp_path / "best"
    assert {shared for *_, shared in runs.calls} == {tmp_path / "shared"}
    assert json.loads((tmp_path / "sweep.json").read_text()) == found
    assert [point["student"]["mean"] for point in found["points"]] == [0.5, 0.8, 0.8, 0.7]
    assert "temperature" in (tmp_path / "sweep.svg").read_text()


def test_how_pictures_were_divided_stands_in_figure_and_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs({1: 0.5, 2: 0.8})
    monkeypatch.setattr(module, "execute", runs)
    found = sweep(RECIPE, {KEY: [1, 2]}, tmp_path / "a", quiet=True)
    assert "divided" not in (tmp_path / "a" / "sweep.svg").read_text()
    assert "split" not in points(found)[0]
    runs.findings = ({"message": "divided by patch: patches of one picture lie in several splits; train 3"},)
    found = sweep(RECIPE, {KEY: [1, 2]}, tmp_path / "b", quiet=True)
    assert "divided by patch" in (tmp_path / "b" / "sweep.svg").read_text()
    heads, rows = points(found)
    assert (heads[-1], [row[-1] for row in rows]) == ("split", ["divided by patch"] * 2)


def test_points_may_have_fewer_seeds_than_the_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[bool, int]] = []
    runs = Runs({1: 0.5, 2: 0.8})

    def counting(recipe: Any, folder: Path, *, score_test: bool = True, **rest: Any) -> Any:
        seeds.append((score_test, recipe.spec.seeds))
        return runs(recipe, folder, score_test=score_test, **rest)

    monkeypatch.setattr(module, "execute", counting)
    found = sweep(RECIPE, {KEY: [1, 2]}, tmp_path, quiet=True, point_seeds=1)
    assert seeds == [(False, 1), (False, 1), (True, RECIPE.spec.seeds)]
    assert (found["point_seeds"], RECIPE.spec.seeds) == (1, 3)
    resume(tmp_path, quiet=True)
    assert seeds[3:] == seeds[:3]


@pytest.mark.parametrize("stop_at", [0, 1, 3])
def test_a_stopped_sweep_goes_on(stop_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "execute", Runs({1: 0.5, 2: 0.8, 4: 0.6}, stop_at))
    with pytest.raises(KeyboardInterrupt):
        sweep(RECIPE, {KEY: [1, 2, 4]}, tmp_path, command="typed", quiet=True)
    again = Runs({1: 0.5, 2: 0.8, 4: 0.6})
    monkeypatch.setattr(module, "execute", again)
    found = resume(tmp_path, quiet=True)
    assert (found["best"]["values"], found["command"]) == ({KEY: 2}, "typed")
    assert [temperature for temperature, *_ in again.calls] == [1, 2, 4, 2]


def test_another_recipe_or_a_second_winner_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "execute", Runs({1: 0.5, 2: 0.8}, stop_at=1))
    with pytest.raises(KeyboardInterrupt):
        sweep(RECIPE, {KEY: [1]}, tmp_path, quiet=True)
    monkeypatch.setattr(module, "execute", Runs({1: 0.5, 2: 0.8}))
    sweep(RECIPE, {KEY: [1, 2]}, tmp_path, quiet=True)  # it was not done, so it may grow
    sweep(RECIPE, {KEY: [1, 2]}, tmp_path, quiet=True)
    with pytest.raises(ResumeError, match="other values"):
        sweep(RECIPE, {KEY: [1]}, tmp_path, quiet=True)
    with pytest.raises(ResumeError, match="another recipe"):
        sweep(RECIPE.changed({"seeds": 9}), {KEY: [1, 2]}, tmp_path, quiet=True)


def test_points_of_like_names_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs({4.0: 0.5})
    monkeypatch.setattr(module, "execute", runs)
    sweep(RECIPE, {"teacher.options": [{"a": "x y"}, {"a": "x/y"}]}, tmp_path, quiet=True)
    assert len({folder for _, folder, *_ in runs.calls}) == 3


@pytest.mark.parametrize("grid", [{}, {KEY: []}, {"objective.kl.temprature": [1]}, {KEY: [1, -1]}, {"seeds": ["x"]}])
def test_a_wrong_grid_runs_nothing(grid: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs({})
    monkeypatch.setattr(module, "execute", runs)
    with pytest.raises(RecipeError):
        sweep(RECIPE, grid, tmp_path / "s", quiet=True)
    assert runs.calls == []
