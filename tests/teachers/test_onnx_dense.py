"""A segmenter's ONNX file as a teacher: logits of every pixel, by the same weights in numpy; what can not teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.compress.segmenters import NAMES, WINDOW, convolved, kernel, segmenter
from tests.teachers.onnx_files import linear

from limbeck.data import Data
from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.errors import ModelError
from limbeck.evaluation.dense.reading import read_teacher
from limbeck.pipeline.given import check_says
from limbeck.teachers import OnnxTeacher

WEIGHTS = kernel()
IMAGES = torch.rand(3, 3, *WINDOW, generator=torch.Generator().manual_seed(0))
SHAPE = (3, *WINDOW)


def close(found: torch.Tensor, expected: Any) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)


def data(dense: bool = True) -> Data:
    if not dense:
        return Data(train=(torch.rand(60, *SHAPE), [0, 1, 2] * 20), classes=NAMES)
    found = {}
    for number, name in enumerate(("train", "validation", "test")):
        dice = np.random.default_rng(number)
        picture = torch.from_numpy(dice.integers(0, 256, (3, 20, 30), dtype=np.uint8))
        mask = torch.from_numpy(dice.integers(0, 3, (20, 30), dtype=np.uint8))
        found[name] = SceneSplit([Region.whole(Scene.of(name, picture, mask, 3))], NAMES, name, patch=WINDOW)
    return Data(**found, classes=NAMES)


def test_it_says_the_logits_of_every_pixel(tmp_path: Path) -> None:
    teacher = OnnxTeacher(segmenter(tmp_path / "t.onnx", WEIGHTS), threads=1)
    close(teacher(IMAGES).logits, convolved(WEIGHTS, IMAGES.numpy()))
    close(teacher(IMAGES[:, :, :9, :11]).logits, convolved(WEIGHTS, IMAGES[:, :, :9, :11].numpy()))
    assert (teacher.graph.width, teacher.classes, teacher.name) == (3, NAMES, "conv")


def test_its_classes_are_matched_by_name(tmp_path: Path) -> None:
    teacher = OnnxTeacher(segmenter(tmp_path / "t.onnx", WEIGHTS), threads=1)
    expected = convolved(WEIGHTS, IMAGES.numpy())
    close(teacher.fitted(SHAPE, ["roof", "land"])(IMAGES).logits, expected[:, [2, 0]])
    with pytest.raises(ModelError, match="does not name class 'sea'"):
        teacher.fitted(SHAPE, ["land", "water", "sea"])
    with pytest.raises(ModelError, match="gives 3 outputs, and 2 classes are named"):
        OnnxTeacher(tmp_path / "t.onnx", classes=["a", "b"])


def test_whole_pictures_are_read_through_it(tmp_path: Path) -> None:
    split = data().test
    teacher = OnnxTeacher(segmenter(tmp_path / "t.onnx", WEIGHTS), threads=1).fitted(SHAPE, NAMES)
    check_says(teacher, data())
    said = read_teacher(teacher, split)  # type: ignore[arg-type]
    assert [tuple(one.shape) for one in said.labels] == [(20, 30)]
    assert said.tally.pixels == 600


def test_probabilities_must_be_declared(tmp_path: Path) -> None:
    file = segmenter(tmp_path / "t.onnx", WEIGHTS, end="Softmax")
    with pytest.raises(ModelError, match="ends in a softmax"):
        OnnxTeacher(file)
    logits = OnnxTeacher(file, probabilities=True, threads=1)(IMAGES).logits
    powers = np.exp(convolved(WEIGHTS, IMAGES.numpy()))
    close(logits.exp(), powers / powers.sum(axis=1, keepdims=True))
    plain = segmenter(tmp_path / "p.onnx", WEIGHTS)
    with pytest.raises(ModelError, match="declared to give probabilities"):
        OnnxTeacher(plain, probabilities=True, threads=1)(IMAGES)


def test_probabilities_that_no_operator_shows_are_seen(tmp_path: Path) -> None:
    """A kernel that copies one channel to one class: inputs that sum to 1 come out as probabilities."""
    copying = np.zeros((3, 3, 3, 3), dtype=np.float32)
    copying[np.arange(3), np.arange(3), 1, 1] = 1
    teacher = OnnxTeacher(segmenter(tmp_path / "t.onnx", copying), threads=1)
    close(teacher(IMAGES).logits, IMAGES.numpy())
    large = torch.rand(1, 3, 200, 130)
    with pytest.raises(ModelError, match="gives probabilities"):
        teacher(large / large.sum(dim=1, keepdim=True))


def test_outputs_that_are_not_of_each_pixel_are_refused(tmp_path: Path) -> None:
    teacher = OnnxTeacher(segmenter(tmp_path / "t.onnx", WEIGHTS, padding=0), threads=1)
    with pytest.raises(ModelError, match=r"t\.onnx gives outputs \[3, 3, 14, 22\] for inputs \[3, 3, 16, 24\]"):
        teacher(IMAGES)


def test_a_classifier_teaches_no_masks_and_a_segmenter_no_labels_of_samples(tmp_path: Path) -> None:
    linear(tmp_path / "c.onnx", SHAPE, 3)
    with pytest.raises(ModelError, match=r"'c\.onnx' gives logits of a sample, \[\d, 3\], and the data have masks"):
        check_says(OnnxTeacher(tmp_path / "c.onnx").fitted(SHAPE, NAMES), data())
    segmenter(tmp_path / "s.onnx", WEIGHTS)
    with pytest.raises(ModelError, match=r"gives logits of each pixel, .* and the data have one label a sample"):
        check_says(OnnxTeacher(tmp_path / "s.onnx").fitted(SHAPE, NAMES), data(dense=False))
