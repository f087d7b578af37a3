"""Few stored views of each sample are told where the student's augmentation would have shown more."""

from __future__ import annotations

import pytest

from limbeck.doctor.views import few_views
from limbeck.pipeline.examine import at_start
from limbeck.pipeline.experiment import from_recipe
from limbeck.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("views", "epochs", "severity"),
    [
        (1, 10, None), (1, 11, "warning"), (1, 400, "warning"),
        (2, 20, None), (2, 21, "info"), (3, 30, None), (3, 31, "info"),
        (4, 400, None), (16, 4000, None),
    ],
)  # fmt: skip
def test_how_few_is_few(views: int, epochs: int, severity: str | None) -> None:
    found = few_views(views, epochs, changing=True)
    assert [one.severity for one in found] == ([] if severity is None else [severity])
    assert all(one.evidence == {"views": views, "epochs": epochs, "times_a_view": epochs / views} for one in found)
    assert all(one.code == "store_few_views" and one.cause and one.cure for one in found)
    assert few_views(views, epochs, changing=False) == []


@pytest.mark.parametrize(
    ("store", "views", "told"),
    [("{views: 1}", "{shift: 1}", 1), ("{views: 4}", "{shift: 1}", 0), ("auto", "{}", 0), (None, "{shift: 1}", 0)],
)
def test_an_experiment_is_told_before_it_trains(store: str | None, views: str, told: int) -> None:
    asked = ["student.epochs=20", f"student.views={views}", *([f"teacher.store={store}"] if store else [])]
    found = at_start(from_recipe(Recipe.load("digits", overrides=asked).to_dict()))
    assert [one.code for one in found].count("store_few_views") == told
