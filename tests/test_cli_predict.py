"""``limbeck predict`` with a segmenter's file: masks, overlays, what is printed, and exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.compress.segmenters import NAMES, kernel, segmenter

from limbeck import cli


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMBECK_TRACEBACK", raising=False)
    segmenter(tmp_path / "s.onnx", kernel())
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 4), dtype=np.uint8)
    Image.fromarray(pixels[..., :3]).save("a.png")
    Image.fromarray(pixels).save("b.png")
    return tmp_path


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["predict", *args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_masks_are_written_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("s.onnx", "a.png", "--out", "m.png") == 0
    out = capsys.readouterr().out
    with Image.open("m.png") as drawn:
        mask = np.asarray(drawn)
    assert (here / "m-overlay.png").is_file()
    for number, name in enumerate(NAMES):
        assert re.search(rf"{name} +{100 * (mask == number).mean():.2f} %", out)
    assert "a.png: m.png, m-overlay.png\n" in out
    assert leave("s.onnx", "b.png") == 0
    assert "b.png: b-mask.png, b-mask-overlay.png; alpha: left out, not blended\n" in capsys.readouterr().out


def test_json_is_one_document(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("s.onnx", "a.png", "b.png", "-o", "masks", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found] == ["a.png", "b.png"]
    assert found[0]["size"] == [30, 40]
    assert sum(found[0]["shares"].values()) == pytest.approx(1)
    assert Path(found[1]["mask"]).is_file()
    assert Path(found[1]["overlay"]).is_file()
    assert 1 / 3 < found[0]["probability"] <= 1


def test_exit_codes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("s.onnx", "a.png", "--out", "a.png", "--force") == 2
    assert "a.png is the picture itself" in capsys.readouterr().err
    assert leave("s.onnx", "a.png", "--overlay", "o.gif") == 2
    assert leave("s.onnx", "a.png") == 0
    assert leave("s.onnx", "a.png") == 6
    assert "--force" in capsys.readouterr().err
    assert leave("s.onnx", "a.png", "--force") == 0
    assert leave("s.onnx", "gone.png") == 3
    segmenter(here / "lies.onnx", kernel(), told={"overlap": "2"})
    assert leave("lies.onnx", "a.png") == 7
    assert leave("gone.onnx", "a.png") == 6


def test_how_far_it_is_is_shown_unless_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr("limbeck.data.sources.scan.time.monotonic", lambda: float(next(clock)))
    assert leave("s.onnx", "a.png") == 0
    assert re.search(r"looking at windows of a\.png  6 of 6\n", capsys.readouterr().err)
    assert leave("s.onnx", "a.png", "--force", "--quiet") == 0
    assert capsys.readouterr().err == ""
