"""Findings about finished runs, from made-up evaluations: each planted, each healthy."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.doctor.after import about_gain, about_predictions, about_training
from limbeck.doctor.finding import Finding

CLASSES = ["a", "b"]
GOOD, CONSTANT, GUESSING = [[45, 5], [5, 45]], [[50, 0], [50, 0]], [[26, 24], [25, 25]]


def scored(table: list[list[int]], **more: Any) -> dict[str, Any]:
    total = sum(map(sum, table))
    return {
        "confusion": table,
        "accuracy": sum(row[at] for at, row in enumerate(table)) / total,
        "samples": total,
        **more,
    }


def run(
    seed: int = 0, table: list[list[int]] = GOOD, last: list[list[int]] | None = None, **more: Any
) -> dict[str, Any]:
    best = {"epoch": 7, **{split: scored(table, **more) for split in ("validation", "test")}}
    end = {"epoch": 10, **{split: scored(last or table, **more) for split in ("validation", "test")}}
    return {"seed": seed, "selected": best, "last": end}


def runs(**tables: list[list[int]]) -> dict[str, list[dict[str, Any]]]:
    made = {"teacher": [run()], "control": [run(0), run(1)], "student": [run(0), run(1)]}
    return made | {role: [run(seed, table) for seed in range(1 if role == "teacher" else 2)]
                   for role, table in tables.items()}  # fmt: skip


def difference(low: float | None, high: float | None, mean: float = 0.0, **more: Any) -> dict[str, Any]:
    return {"metric": "accuracy", "split": "test", "mean": mean, "low": low, "high": high, "seeds": 3} | more


GAIN = difference(0.01, 0.03, 0.02)


def codes(found: list[Finding]) -> list[str]:
    assert all(one.cause and one.cure and one.message for one in found)
    return [one.code for one in found]


# ---------------------------------------------------------------- predictions


def test_a_healthy_run_has_no_finding() -> None:
    made = runs(teacher=[[49, 1], [1, 49]])
    assert about_predictions(made, "test", CLASSES) == []
    assert about_gain(made, {"control": GAIN}, "test") == []
    history = [[0.5, 0.7, 0.8, 0.85, 0.88, 0.9, 0.9, 0.9]] * 2
    assert about_training(made, {"student": history, "control": history}) == []


@pytest.mark.parametrize("role", ["student", "control", "teacher"])
def test_a_constant_model_is_told_for_each_role(role: str) -> None:
    found = about_predictions(runs(**{role: CONSTANT}), "test", CLASSES)
    assert "constant_predictor" in codes(found)
    assert found[0].evidence["role"] == role
    assert ("teacher_near_majority" in codes(found)) == (role == "teacher")


def test_a_model_that_never_left_chance_is_told_with_its_seeds() -> None:
    made = runs()
    made["student"] = [run(0), run(1, GUESSING), run(2, GUESSING)]
    found = about_predictions(made, "test", CLASSES)
    assert codes(found) == ["not_learned"]
    assert found[0].evidence["seeds"] == [1, 2]
    assert "(seeds 1, 2)" in found[0].message


# ---------------------------------------------------------------- training


def test_a_training_that_ended_worse_than_it_was_is_told() -> None:
    made = runs()
    made["student"] = [run(0, GOOD, GUESSING), run(1)]
    found = about_training(made)
    assert codes(found) == ["diverged"]
    assert (found[0].evidence["selected_epoch"], found[0].evidence["last_epoch"]) == (7, 10)


def test_an_end_that_is_a_little_worse_is_left_alone() -> None:
    made = runs()
    made["student"] = [run(0, GOOD, [[43, 7], [5, 45]]), run(1)]
    assert about_training(made) == []


@pytest.mark.parametrize(
    ("history", "told"),
    [
        ([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.85, 0.95], True),
        ([0.5, 0.8, 0.9, 0.93, 0.94, 0.94, 0.945, 0.95], False),  # the last, but hardly better
        ([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.95, 0.94], False),  # not the last
        ([0.5, 0.9], False),
        ([], False),
    ],
)
def test_still_improving_means_the_last_epoch_and_by_more_than_chance(history: list[float], told: bool) -> None:
    found = about_training(runs(), {"student": [history, history]})
    assert codes(found) == (["still_improving"] if told else [])
    assert about_training(runs(), {"student": [history, [0.9] * 8, [0.9] * 8]}) == []  # one seed of three


# ---------------------------------------------------------------- gain


def test_what_distillation_added() -> None:
    made = runs(teacher=[[50, 0], [0, 50]])
    assert codes(about_gain(made, {"control": None}, "test")) == ["no_control"]
    assert codes(about_gain(made, {"control": difference(-0.03, -0.01, -0.02)}, "test")) == ["below_control"]
    assert "objective: auto" in about_gain(made, {"control": difference(-0.03, -0.01, -0.02)}, "test")[0].cure
    for control in (difference(-0.01, 0.02, 0.005), difference(None, None, 0.02)):
        assert codes(about_gain(made, {"control": control}, "test")) == ["no_gain_shown"]
    hard = {"control": GAIN, "control_hard_labels": difference(-0.01, 0.01)}
    assert codes(about_gain(made, hard, "test")) == ["gain_from_unlabeled"]
    assert about_gain(made, {"control": GAIN, "control_hard_labels": GAIN}, "test") == []


def test_of_a_loss_less_is_better() -> None:
    made = {role: [run(loss=value)] for role, value in (("teacher", 0.1), ("control", 0.3), ("student", 0.2))}
    assert about_gain(made, {"control": difference(-0.2, -0.1, -0.15, metric="loss")}, "test") == []
    worse = difference(0.1, 0.2, 0.15, metric="loss")
    assert codes(about_gain(made, {"control": worse}, "test")) == ["below_control"]
    made["teacher"] = [run(loss=0.4)]
    assert codes(about_gain(made, {"control": worse}, "test")) == ["below_control", "nothing_to_teach"]


def test_a_teacher_that_is_not_better_than_the_control_has_nothing_to_teach() -> None:
    unclear = {"control": difference(-0.01, 0.02, 0.005)}
    found = about_gain(runs(teacher=[[44, 6], [6, 44]]), unclear, "test")
    assert codes(found) == ["no_gain_shown", "nothing_to_teach"]
    assert (found[1].evidence["teacher"], found[1].evidence["control"]) == (0.88, 0.9)
    assert codes(about_gain(runs(teacher=[[47, 3], [3, 47]]), unclear, "test")) == ["no_gain_shown"]
    assert (
        about_gain(runs(teacher=[[44, 6], [6, 44]]), {"control": GAIN}, "test") == []
    )  # the student gained all the same
