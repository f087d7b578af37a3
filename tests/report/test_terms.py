"""The terms of the objective on the page: the journal's numbers, and nothing where it has none."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from limbeck.compress.card.card import model_card
from limbeck.report import render
from limbeck.report.render import write_report

_SPEC = importlib.util.spec_from_file_location("made_for_terms", Path(__file__).with_name("made.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)

# Gradients of 1 and 3, 2 and 2, 4 and 1: shares of 25, 50, 80 % and the rest.
TWO = {
    "supervised": {"values": [2.0, 1.0, 0.5], "weights": [0.5, 0.5, 0.5], "gradient": [1.0, 2.0, 4.0]},
    "soft": {"values": [4.0, 3.0, 2.0], "weights": [0.25, 0.5, 0.75], "gradient": [3.0, 2.0, 1.0]},
}
PLAIN: dict[str, Any] = {
    "supervised": {"weight": 0.5, "label_smoothing": 0.0},
    "soft": {"loss": "kl", "weight": 1.0, "schedule": {"warmup": 4.0}, "temperature": 4.0},
}


def run(folder: Path, *roles: str) -> Path:
    """A run with little else to draw."""
    return made.make_run(folder, roles=(*roles, "student"), pictures=0)


def page(folder: Path) -> str:
    """The page's section on terms; empty if there is none."""
    text = write_report(folder).read_text(encoding="utf-8")
    found = re.search(r'<section aria-labelledby="terms">.*?</section>', text, flags=re.DOTALL)
    return found[0] if found else ""


def rows(section: str, table: int = 0) -> list[list[str]]:
    """The cells of one of its tables, without tags."""
    body = re.findall(r"<tbody>(.*?)</tbody>", section, flags=re.DOTALL)[table]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in body.split("</tr>")]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in cells if row]


def figure(section: str, label: str) -> str:
    """The SVG whose text alternative begins so."""
    found = [one for one in re.findall(r"<svg.*?</svg>", section, flags=re.DOTALL) if f'aria-label="{label}' in one]
    assert len(found) == 1
    return found[0]


def path(svg: str, color: str) -> list[tuple[float, float]]:
    """Corners of the longest path that has this color: of the data, not of the legend."""
    styled = re.findall(rf'<path d="([^"]+)"[^>]*style="[^"]*{re.escape(color)}[^"]*"', svg)
    points = [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", one)] for one in styled]
    return max(points, key=lambda one: max(x for x, _ in one) - min(x for x, _ in one))


def test_the_table_tells_each_term(tmp_path: Path) -> None:
    section = page(made.add_terms(run(tmp_path / "r"), TWO, PLAIN))
    assert "The student of seed 1, which ships." in section
    assert rows(section) == [
        ["supervised", "cross_entropy", "logits", "–", "0.5", "0.5", "0.5", "50.0 %"],
        ["soft", "kl", "logits", "rises over 4 epochs", "1", "0.25", "0.75", "50.0 %"],
    ]
    assert rows(section, 1) == [
        ["1", "1", "0.5", "25.0 %", "1", "0.25", "75.0 %"],
        ["2", "0.5", "0.5", "50.0 %", "1.5", "0.5", "50.0 %"],
        ["3", "0.25", "0.5", "80.0 %", "1.5", "0.75", "20.0 %"],
    ]


def test_the_figures_draw_the_journal(tmp_path: Path) -> None:
    section = page(made.add_terms(run(tmp_path / "r"), TWO, PLAIN))
    shares = figure(section, "share of the gradient of each term by epoch")
    assert 'role="img"' in shares
    assert "supervised from 25.0 % to 80.0 %; soft from 75.0 % to 20.0 %; epochs 1 to 3" in shares
    low, high = path(shares, "fill: var(--term-1)"), path(shares, "fill: var(--term-2)")
    bottom, top = max(y for _, y in low), min(y for _, y in high)
    left, right = min(x for x, _ in low), max(x for x, _ in low)
    steps = sorted({round(100 * (bottom - y) / (bottom - top), 1) for _, y in low})
    assert steps == [0.0, 25.0, 50.0, 80.0]
    of_first = [100 * (bottom - y) / (bottom - top) for x, y in low if left <= x < left + (right - left) / 3 - 1]
    assert max(of_first) == pytest.approx(25, abs=0.1)  # the first third is epoch 1
    weights = path(figure(section, "weight of each term by epoch"), "stroke: var(--term-2)")
    (_, first), (_, second), (_, third) = weights
    assert first - second == pytest.approx(second - third, abs=0.01)  # 0.25, 0.5, 0.75
    assert first > third
    values = figure(section, "weight times value of each term by epoch: supervised from 1 to 0.25; soft from 1 to 1.5")
    (_, first), (_, second), (_, third) = path(values, "stroke: var(--term-2)")
    assert second == pytest.approx(third, abs=0.01)  # 1.5 twice
    assert first > second


def test_declared_shares_stand_beside_those_that_were_reached(tmp_path: Path) -> None:
    whole = {**PLAIN, "balance": {"supervised": 1, "soft": 3}}
    section = page(made.add_terms(run(tmp_path / "whole"), TWO, whole))
    assert [row[-2:] for row in rows(section)] == [["25.0 %", "50.0 %"], ["75.0 %", "50.0 %"]]
    assert "Dotted: where the declared shares would lie." in section
    three = {**TWO, "fitnet": {"values": [1.0] * 3, "weights": [1.0] * 3, "gradient": [4.0, 4.0, 5.0]}}
    part = made.add_terms(run(tmp_path / "part"), three, {**whole, "fitnet": {"weight": 1.0}})
    section = page(part)
    assert [row[-3:] for row in rows(section)] == [
        ["25.0 %", "50.0 %", "25.0 %"],  # of all: 1/8, 2/8, 4/10
        ["75.0 %", "50.0 %", "25.0 %"],  # 3/8, 2/8, 1/10
        ["–", "–", "50.0 %"],
    ]
    assert "Dotted" not in section


def test_layers_and_what_was_trained_beside_the_student(tmp_path: Path) -> None:
    layers = [["soft", "layer2", "a.0", "as they are"], ["soft", "layer3", "a.1", "conv 8×4×4 → 16×4×4"]]
    folder = made.add_terms(run(tmp_path / "r"), TWO, PLAIN, layers=layers, parameters=12_345)
    section = page(folder)
    assert rows(section)[1][2] == "layer2 → a.0 as they are layer3 → a.1 conv 8×4×4 → 16×4×4"
    whole = write_report(folder).read_text(encoding="utf-8")
    assert "Beside the student: 12,345 parameters, not shipped" in whole
    at = {**PLAIN, "soft": {"loss": "fitnet", "weight": 1.0, "at": [["layer3", "b.2"]], "adapter": "linear"}}
    told = page(made.add_terms(run(tmp_path / "given"), TWO, at))
    assert rows(told)[1][1:3] == ["fitnet", "layer3 → b.2 adapter linear"]
    assert "Beside the student" not in write_report(tmp_path / "given").read_text(encoding="utf-8")


def test_one_term_has_no_figure(tmp_path: Path) -> None:
    one = {"kl": {"values": [2.0, 1.0], "weights": [1.0, 1.0]}}  # the gradient is looked at where there are several
    section = page(made.add_terms(run(tmp_path / "r"), one, {"kl": {"weight": 1.0}}))
    assert rows(section) == [["kl", "kl", "logits", "–", "1", "1", "1"]]
    assert "<svg" not in section
    assert "<figure" not in section


def test_an_older_journal_shows_nothing(tmp_path: Path) -> None:
    assert page(run(tmp_path / "plain")) == ""
    assert page(made.add_terms(run(tmp_path / "r"), TWO, PLAIN, old=3)) == ""
    part = page(made.add_terms(run(tmp_path / "part"), TWO, PLAIN, old=1))
    assert [row[0] for row in rows(part, 1)] == ["2", "3"]


def test_gradients_that_were_not_seen_are_no_shares(tmp_path: Path) -> None:
    unseen = {name: {**one, "gradient": [0.0] * 3} for name, one in TWO.items()}
    section = page(made.add_terms(run(tmp_path / "r"), unseen, PLAIN))
    assert "share of the gradient" not in section
    assert len(rows(section)[0]) == 7
    folder = made.add_terms(run(tmp_path / "null"), TWO, PLAIN)
    file = folder / "models/student/seed1/metrics.jsonl"
    file.write_text(file.read_text().replace('"gradient": {"supervised": 2.0', '"gradient": {"supervised": null'))
    assert [row[3] for row in rows(page(folder), 1)] == ["25.0 %", "–", "80.0 %"]


def test_of_many_epochs_some_are_listed(tmp_path: Path) -> None:
    long = {
        name: {"values": [1.0] * 100, "weights": [1.0] * 100, "gradient": [float(many)] * 100}
        for many, name in enumerate(("supervised", "soft"), start=1)
    }
    section = page(made.add_terms(run(tmp_path / "r"), long, PLAIN))
    listed = [int(row[0]) for row in rows(section, 1)]
    assert (len(listed), listed[0], listed[-1]) == (24, 1, 100)
    assert listed == sorted(set(listed))
    assert "24 of 100 epochs" in section
    assert "weight of each term by epoch" not in section  # none changes


def test_other_models_with_several_terms_are_told_behind_the_student(tmp_path: Path) -> None:
    folder = made.add_terms(run(tmp_path / "r", "control"), TWO, PLAIN, role="control")
    only = page(folder)
    assert "<summary>Control, seed 1</summary>" in only
    both = page(made.add_terms(folder, TWO, PLAIN))
    assert both.index("The student of seed 1") < both.index("<summary>Control, seed 1</summary>")


def test_names_that_figures_could_misread(tmp_path: Path) -> None:
    names = ["_hidden", "a$b$c", "student", "x" * 60, "five", "six", "seven"]
    terms = dict.fromkeys(names, TWO["soft"])
    section = page(made.add_terms(run(tmp_path / "r"), terms, dict.fromkeys(names, 1.0)))
    assert [row[0] for row in rows(section)] == names
    drawn = figure(section, "share of the gradient")
    for shown in ("_hidden", "a$b$c", "student", "x" * 19 + "…"):
        assert f">{shown}<" in drawn, shown
    assert 'class="student"' not in section  # a term is no role


def test_the_card_says_what_was_learned_from(tmp_path: Path) -> None:
    objective = {**PLAIN, "<b>": {"loss": "kl", "weight": 2.0, "at": [["a", "b"]]}, "balance": {"soft": 1, "<b>": 3}}
    folder = made.add_terms(run(tmp_path / "r"), TWO, objective)
    summary, info = (json.loads((folder / name).read_text()) for name in ("summary.json", "run.json"))
    text = model_card(summary, info).replace("\\", "")
    for line in (
        "- 0.5 × supervised (cross_entropy) on logits",
        "- 1 × soft (kl) on logits; rises over 4 epochs",
        "- 2 × &lt;b&gt; (kl) on a → b",
        "- declared shares of the gradient: soft 25%, &lt;b&gt; 75%",
    ):
        assert line in text.splitlines(), line
    del summary["objective"]
    assert "It learned from" not in model_card(summary, info)


def _linear(color: str) -> list[float]:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]


def _luminance(rgb: list[float]) -> float:
    return 0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]


def _lab(rgb: list[float]) -> tuple[float, float, float]:
    """CIELAB under D65."""
    white = (0.9505, 1.0, 1.089)
    rows_ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(a * b for a, b in zip(row, rgb, strict=True)) / one for row, one in zip(rows_, white, strict=True)]
    x, y, z = (one ** (1 / 3) if one > 0.008856 else 7.787 * one + 16 / 116 for one in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


# Machado, Oliveira and Fernandes, 2009: what is seen without one kind of cone.
SEEN = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("eye", SEEN)
def test_colors_are_told_apart(theme: int, eye: str) -> None:
    text = Path(render.__file__).with_name("style.css").read_text(encoding="utf-8")
    colors = re.findall(r"--term-\d: (#[0-9a-f]{6})", text)[6 * theme : 6 * theme + 6]
    panel = re.findall(r"--panel: (#[0-9a-f]{6})", text)[theme]
    assert len(colors) == 6
    for one in colors:
        bright, dim = sorted((_luminance(_linear(one)), _luminance(_linear(panel))), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 3, one  # WCAG 2.2, 1.4.11
    labs = {}
    for one in colors:
        seen = [sum(a * b for a, b in zip(row, _linear(one), strict=True)) for row in SEEN[eye]]
        labs[one] = _lab([min(max(value, 0.0), 1.0) for value in seen])
    for a, b in itertools.combinations(colors, 2):
        assert math.dist(labs[a], labs[b]) >= 17, (a, b)
