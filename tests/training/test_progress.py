"""The line of an epoch tells the metric that the epoch is selected by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn

from limbeck.training.loop import Job, fit
from limbeck.training.progress import Lines

Make = Callable[..., Job]


def scores(module: nn.Module) -> dict[str, float | None]:
    return {"loss": 0.25, "pixel_accuracy": 0.9, "mean_iou": 0.6125, "macro_recall": None}


@pytest.mark.parametrize(
    ("select", "told"),
    [
        ("mean_iou", "validation mean IoU 61.25 %"),
        ("pixel_accuracy", "validation pixel accuracy 90.00 %"),
        ("loss", "validation loss 0.2500"),
    ],
)
def test_the_line_of_an_epoch(make_job: Make, capsys: pytest.CaptureFixture[str], select: str, told: str) -> None:
    fit(make_job(validate=scores, select=select, reporter=Lines(), title="student, seed 0"))
    line = capsys.readouterr().err
    assert line.startswith("student, seed 0  1/1  loss ")
    assert told in line
    assert line.count("validation") == 1


def test_a_metric_that_is_not_defined_is_left_out(make_job: Make, capsys: pytest.CaptureFixture[str]) -> None:
    fit(make_job(validate=scores, select="macro_recall", reporter=Lines()))
    assert "validation" not in capsys.readouterr().err


def test_the_journal_keeps_all_metrics_and_not_the_choice(make_job: Make, tmp_path: object) -> None:
    job = make_job(validate=scores, select="mean_iou")
    fit(job)
    from limbeck.files import Journal

    line = Journal(job.folder / "metrics.jsonl").read()[0]
    assert line["validation"] == scores(job.module)
    assert "select" not in line
