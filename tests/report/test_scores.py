"""Figures of scores: what is drawn lies where the numbers are."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from limbeck.evaluation.metrics import curves
from limbeck.report import scores

ROLE = "student"


MARK = re.compile(r'<use href="#[^"]+" x="([\d.]+)" y="([\d.]+)" style="fill: var\(--student\)')


def drawn_as(svg: str, style: str) -> list[np.ndarray]:
    """The points of every path of the student's color with a style, in the figure's own units."""
    paths = re.findall(r'<path d="([^"]+)"[^>]*style="([^"]*)"', svg)
    chosen = [d for d, how in paths if style in how and "var(--student)" in how]
    return [np.array([[float(a), float(b)] for a, b in re.findall(r"([\d.]+) ([\d.]+) *\n", one)]) for one in chosen]


def lines(svg: str) -> list[np.ndarray]:
    return drawn_as(svg, "fill: none")


def test_the_area_under_the_steps_is_the_average_precision() -> None:
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 2, (90,), generator=generator)
    logits = torch.randn(90, 2, generator=generator)
    logits[:, 1] += targets
    found = curves(logits, targets, ["a", "b"])["pr"]["b"]
    drawn = scores.precision_recall(0, {ROLE: found}, None)
    points = max(lines(drawn), key=len)
    # The axes' scale, from the first and last recall and from the highest and lowest precision.
    across = (points[:, 0] - points[0, 0]) / (points[-1, 0] - points[0, 0])
    values = found["precision"][next(at for at, one in enumerate(found["recall"]) if one > 0) :]
    high, low = points[:, 1].min(), points[:, 1].max()  # downwards
    up = min(values) + (points[:, 1] - low) / (high - low) * (max(values) - min(values))
    area = float((np.diff(across) * up[1:]).sum())
    probability = torch.softmax(logits, 1)[:, 1].numpy()
    assert area == pytest.approx(average_precision_score(targets.numpy(), probability), abs=2e-3)


def test_the_operating_point_lies_at_its_rates() -> None:
    curve = {"fpr": [0.0, 0.0, 1.0], "tpr": [0.0, 0.75, 1.0], "auc": 0.875}
    drawn = scores.roc({ROLE: curve}, {ROLE: {"sensitivity": 0.75, "specificity": 0.8}})
    (first, second, last) = max(lines(drawn), key=len)
    x, y = map(float, MARK.findall(drawn)[0])
    assert x == pytest.approx(first[0] + 0.2 * (last[0] - first[0]), abs=0.01)
    assert y == pytest.approx(second[1], abs=0.01)  # the curve has 0.75 there
    assert "var(--student)" not in scores.roc({"control": curve}, {ROLE: {}})


def test_a_reliability_diagram_has_a_dot_and_a_bar_for_each_bin() -> None:
    bins = [{"confidence": c, "accuracy": c - 0.1, "count": n} for c, n in ((0.6, 10), (0.8, 30), (0.95, 60))]
    drawn = scores.reliability(ROLE, bins)
    shapes = drawn_as(drawn, "fill: var(--student)")  # dots are larger where more samples are, bars higher
    dots, bars = shapes[:3], shapes[3:]
    across = [float((one[:, 0].min() + one[:, 0].max()) / 2) for one in dots]
    assert (across[1] - across[0]) / (across[2] - across[0]) == pytest.approx(0.2 / 0.35, abs=0.01)
    sizes = [float(np.ptp(one[:, 0])) for one in dots]
    assert sizes == sorted(sizes)
    heights = np.array([np.ptp(one[:, 1]) for one in bars])
    np.testing.assert_allclose(heights / heights[-1], [10 / 60, 30 / 60, 1], atol=0.01)


def test_a_single_bin_is_drawn() -> None:
    assert "var(--teacher)" in scores.reliability("teacher", [{"confidence": 1.0, "accuracy": 1.0, "count": 5}])
