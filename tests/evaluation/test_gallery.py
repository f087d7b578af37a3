"""The gallery: the right samples in the right order, drawn as they are."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from limbeck.data import Split
from limbeck.data.about import About
from limbeck.evaluation.drawing import encoded, overlaid, shown
from limbeck.evaluation.gallery import LIMITS, mistakes, write_gallery

CLASSES = ["a", "b", "c"]


def split(size: int = 6, shape: tuple[int, ...] = (1, 4, 4)) -> Split:
    inputs = (torch.arange(size * int(np.prod(shape))) % 251).reshape(size, *shape).byte()
    return Split(inputs, torch.arange(size) % 3, CLASSES, "test")


def answers(targets: Tensor, **wrong: float) -> Tensor:
    """Logits that are right with 0.9 or so, but at the addresses of ``wrong`` (``_2=5.0``), where the next class has
    that logit."""
    logits = torch.nn.functional.one_hot(targets, 3).double() * 3
    for key, value in wrong.items():
        at = int(key[1:])
        logits[at] = 0
        logits[at, (targets[at] + 1) % 3] = value
    return logits


def test_each_kind_has_its_samples_the_students_surest_first() -> None:
    targets = torch.tensor([0, 1, 2, 0, 1, 2, -1])
    known = targets.clamp(min=0)
    logits = {
        "teacher": answers(known, _1=4.0, _4=1.0),
        "control": answers(known, _0=9.0, _3=1.0),
        "student": answers(known, _0=1.0, _1=3.0, _2=2.0, _6=9.0),  # 6 has no label: nobody is wrong there
    }
    assert mistakes(logits, targets) == {
        "teacher_right": [2, 0],
        "control_right": [1, 2],
        "both_wrong": [1],
        "surest_errors": [1, 2, 0],
    }
    del logits["control"]
    assert list(mistakes(logits, targets)) == ["teacher_right", "both_wrong", "surest_errors"]


def test_what_is_written_is_what_was_said(tmp_path: Path) -> None:
    plain = split()
    about = About(names=tuple(f"img/{n}.png" for n in range(6)))
    data = Split(plain.inputs, plain.targets, CLASSES, "test", about)
    logits = {"teacher": answers(data.targets), "student": answers(data.targets, _2=1.0, _4=7.0)}
    items = write_gallery(tmp_path, data, CLASSES, logits)
    kept = json.loads((tmp_path / "evaluation/gallery.json").read_text())
    assert kept["items"] == items
    assert kept["totals"] == {"teacher_right": 2, "both_wrong": 0, "surest_errors": 2}
    first = items[0]
    assert [(one["kind"], one["index"]) for one in items] == [
        ("teacher_right", 4), ("teacher_right", 2), ("surest_errors", 4), ("surest_errors", 2),
    ]  # fmt: skip
    assert first["target"] == "b"
    assert first["name"] == "img/4.png"
    assert first["file"] == items[2]["file"] == "evaluation/gallery/000.png"
    assert first["models"]["student"] == {
        "class": "c", "probability": pytest.approx(np.exp(7) / (np.exp(7) + 2)),
    }  # fmt: skip
    picture = np.asarray(Image.open(tmp_path / first["file"]))
    assert picture.shape == (96, 96)
    assert picture[0, 0] == int(data.inputs[4, 0, 0, 0])
    assert picture[95, 95] == int(data.inputs[4, 0, 3, 3])
    assert sorted(path.name for path in (tmp_path / "evaluation/gallery").iterdir()) == ["000.png", "001.png"]


def test_a_kind_shows_at_most_its_limit_and_tells_how_many_there_are(tmp_path: Path) -> None:
    data = split(60)
    wrong = answers((data.targets + 1) % 3)
    items = write_gallery(tmp_path, data, CLASSES, {"teacher": answers(data.targets), "student": wrong})
    assert sum(one["kind"] == "teacher_right" for one in items) == LIMITS["teacher_right"]
    kept = json.loads((tmp_path / "evaluation/gallery.json").read_text())
    assert kept["totals"]["teacher_right"] == 60


@pytest.mark.parametrize("shape", [(9,), (2, 4, 4)])
def test_what_is_no_picture_is_not_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = split(6, shape)
    wrong = answers((data.targets + 1) % 3)
    assert write_gallery(tmp_path, data, CLASSES, {"teacher": answers(data.targets), "student": wrong}) == []
    assert json.loads((tmp_path / "evaluation/gallery.json").read_text())["items"] == []


def test_a_large_picture_is_shrunk_as_pillow_does() -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (40, 64, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    small = shown(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    assert small.shape == (3, 100, 160)
    other = np.asarray(Image.fromarray(pixels).resize((160, 100), Image.Resampling.BILINEAR), dtype=np.float32)
    assert float((small.permute(1, 2, 0) * 255 - torch.from_numpy(other)).abs().max()) < 1.01
    data, suffix = encoded(small, (3, 400, 640))
    assert (suffix, Image.open(io.BytesIO(data)).format) == (".jpg", "JPEG")
    assert len(data) < 20_000


def test_alpha_is_left_out_and_prepared_inputs_are_shown_over_their_range() -> None:
    rgba = torch.rand(4, 96, 96)
    assert torch.equal(shown(rgba), rgba[:3])
    prepared = torch.linspace(-2, 3, 96 * 96).reshape(1, 96, 96)
    assert (float(shown(prepared).min()), float(shown(prepared).max())) == (0.0, 1.0)


def test_a_map_colors_where_it_is_high_and_only_there() -> None:
    picture = torch.full((1, 96, 96), 0.5)
    heat = torch.zeros(4, 4)
    heat[0, 3] = 7.0
    drawn = overlaid(picture, heat)
    gray = 0.15 + 0.6 * 0.5
    torch.testing.assert_close(drawn[:, 60:, :40], torch.full((3, 36, 40), gray))
    assert float(drawn[0, 8, 90]) > gray + 0.3
    assert float(drawn[2, 8, 90]) < float(drawn[0, 8, 90])  # yellow
    torch.testing.assert_close(overlaid(picture, torch.zeros(4, 4)), torch.full((3, 96, 96), gray))
