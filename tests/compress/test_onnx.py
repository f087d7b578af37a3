"""Exported files: they say what the model says, from the file alone, or they are refused."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.compress import predict_images
from limbeck.compress.export.onnx import compare, export_onnx, run_onnx
from limbeck.compress.shipped.opening import open_onnx
from limbeck.compress.shipped.predict import read_image
from limbeck.compress.shipped.use import Use
from limbeck.data import Normalization, Split
from limbeck.data.pictures import Frame
from limbeck.data.preparation import Preparation
from limbeck.errors import DataError, ExportError, FileError, LimbeckError
from limbeck.evaluation.predict import predict

CLASSES = ("cat", "dog", "cow")
NORMALIZATION = Normalization((0.2, 0.4, 0.6), (0.5, 0.25, 0.125))


def net() -> nn.Module:
    torch.manual_seed(1)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 3)
    )
    module(torch.rand(64, 3, 8, 8))  # statistics of its own for the norm
    return module


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    module, path = net(), tmp_path_factory.mktemp("onnx") / "net.onnx"
    module.train()
    export_onnx(module, path, preparation=Preparation(NORMALIZATION), shape=(3, 8, 8), classes=CLASSES, name="tiny")
    assert module.training  # the user's module is left as it was
    return path, module


def resealed(model: onnx.ModelProto) -> bytes:
    """The bytes of a changed model with a checksum that is right again, as someone who means harm would write it."""
    entry = next(one for one in model.metadata_props if one.key == "limbeck.sha256")
    entry.value = "0" * 64
    entry.value = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    return model.SerializeToString(deterministic=True)


def by_hand(module: nn.Module, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    mean, std = (np.array(one, dtype=np.float32).reshape(1, 3, 1, 1) for one in (NORMALIZATION.mean, NORMALIZATION.std))
    with torch.no_grad():
        return module.eval()(torch.from_numpy((images - mean) / std)).numpy()


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_with_the_normalization_inside(exported: tuple[Path, nn.Module], batch: int) -> None:
    path, module = exported
    images = np.random.default_rng(batch).random((batch, 3, 8, 8), dtype=np.float32)
    session, _ = open_onnx(path)
    np.testing.assert_allclose(session.run(["logits"], {"image": images})[0], by_hand(module, images), atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (20, 13), (5, 24)], ids=str)
def test_the_resize_is_inside_the_graph(tmp_path: Path, size: tuple[int, int]) -> None:
    """Smaller, larger, and one of each: the file takes the data's size, and gives what training and scoring saw."""
    torch.manual_seed(2)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    preparation, path = Preparation(NORMALIZATION, size), tmp_path / "m.onnx"
    export_onnx(module, path, preparation=preparation, shape=(3, 16, 12), classes=CLASSES, name="sized")
    split = Split(torch.rand(40, 3, 16, 12), [0, 1, 2, 0] * 10, CLASSES, "test")
    reference, _ = predict(module, preparation, split)
    assert compare(path, run_onnx(path, split), reference)["max_abs_difference"] < 1e-4
    kept = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert (json.loads(kept["shape"]), json.loads(kept["input_size"])) == ([3, 16, 12], list(size))


def test_a_whole_split_is_run_and_compared(exported: tuple[Path, nn.Module]) -> None:
    path, module = exported
    split = Split(torch.rand(300, 3, 8, 8), [0, 1, 2] * 100, CLASSES, "test")
    reference, _ = predict(module, NORMALIZATION, split)
    found = compare(path, run_onnx(path, split), reference)
    assert found["agreement"] == 1.0
    assert found["max_abs_difference"] < 1e-4
    moved = reference.clone()
    moved[17, 1] += 0.1 * float(reference.abs().max())
    with pytest.raises(ExportError, match="differs from the model"):
        compare(path, run_onnx(path, split), moved)
    with pytest.raises(ExportError, match="logits"):
        compare(path, reference[:, :2], reference)
    broken = reference.clone()
    broken[0, 0] = float("nan")
    with pytest.raises(ExportError, match="differs"):
        compare(path, broken, reference)


def test_the_file_knows_its_classes_and_input(exported: tuple[Path, nn.Module]) -> None:
    kept = {one.key: one.value for one in onnx.load(exported[0]).metadata_props}
    assert json.loads(kept["classes"]) == list(CLASSES)
    assert json.loads(kept["shape"]) == [3, 8, 8]
    assert json.loads(kept["normalization"]) == {"mean": [0.2, 0.4, 0.6], "std": [0.5, 0.25, 0.125]}
    assert kept["model"] == "tiny"


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(
    exported: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    path, module = exported
    again = export_onnx(
        module,
        tmp_path / "again.onnx",
        preparation=Preparation(NORMALIZATION),
        shape=(3, 8, 8),
        classes=CLASSES,
        name="tiny",
    )
    assert again.read_bytes() == path.read_bytes()
    assert b"site-packages" not in path.read_bytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_picture_is_classified_from_the_file_alone(
    exported: tuple[Path, nn.Module], tmp_path: Path, mode: str
) -> None:
    path, module = exported
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "a.png")
    found = predict_images(path, [tmp_path / "a.png"])[0]
    shown = np.asarray(picture.convert("RGB"), dtype=np.float32).transpose(2, 0, 1)[None] / 255
    logits = by_hand(module, shown)[0].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert found["class"] == CLASSES[int(shares.argmax())]
    assert found["probability"] == pytest.approx(shares.max(), abs=1e-4)
    assert list(found["probabilities"].values()) == pytest.approx(shares.tolist(), abs=1e-4)


def test_a_picture_of_another_size_is_resized_whole(tmp_path: Path) -> None:
    Image.new("RGB", (32, 16), (255, 0, 51)).save(tmp_path / "flat.png")
    read = read_image(tmp_path / "flat.png", (3, 8, 8))
    assert read.shape == (3, 8, 8)
    np.testing.assert_allclose(read[:, 0, 0], [1.0, 0.0, 0.2], atol=1e-6)


THRESHOLD = float(1 / (1 + np.exp(-10 * 11 / 255)))  # the probability of red at 11 of 255


@pytest.fixture(scope="module")
def deciding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red decides: the first logit is 0, the second ten times the mean of red."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2, bias=False))
    with torch.no_grad():
        module[1].weight.zero_()
        module[1].weight[1, :64] = 10 / 64
    options: dict[str, Any] = {"use": Use(positive="red", threshold=THRESHOLD), "name": "red"}
    options["preparation"] = Preparation(Normalization.none(3))
    path = tmp_path_factory.mktemp("red") / "red.onnx"
    return export_onnx(module, path, shape=(3, 8, 8), classes=("dark", "red"), **options)


def used(file: Path, path: Path, use: Use) -> Path:
    """The same file, used otherwise."""
    model = onnx.load(file)
    kept = {one.key: one.value for one in model.metadata_props if one.key not in ("positive", "threshold")}
    del model.metadata_props[:]
    for key, value in {**kept, **use.metadata()}.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(resealed(model))
    return path


@pytest.mark.parametrize(("red", "decision"), [(0, False), (10, False), (12, True), (255, True)])
def test_the_threshold_in_the_file_decides(deciding: Path, tmp_path: Path, red: int, decision: bool) -> None:
    Image.new("RGB", (8, 8), (red, 0, 0)).save(tmp_path / "a.png")
    (found,) = predict_images(deciding, [tmp_path / "a.png"])
    assert (found["decision"], found["positive"], found["threshold"]) == (decision, "red", THRESHOLD)
    assert found["class"] == ("red" if red else "dark")  # at 10 the most probable class is red, and it is not called
    plain = predict_images(used(deciding, tmp_path / "n.onnx", Use(positive="red")), [tmp_path / "a.png"])[0]
    assert "decision" not in plain


@pytest.mark.parametrize(("fit", "share"), [("whole", 0.5), ("crop", 1.0)])
def test_a_picture_is_fitted_as_the_training_pictures_were(
    deciding: Path, tmp_path: Path, fit: str, share: float
) -> None:
    wide = np.zeros((8, 16, 3), dtype=np.uint8)
    wide[:, 4:12, 0] = 255  # red in the middle half
    Image.fromarray(wide).save(tmp_path / "a.png")
    found = predict_images(used(deciding, tmp_path / "m.onnx", Use(fit=fit)), [tmp_path / "a.png"])[0]
    frame = torch.from_numpy(Frame((8, 8), fit, 3)(Image.fromarray(wide))).float() / 255
    logit = 10 * float(frame[0].mean())
    assert found["probabilities"]["red"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert logit == pytest.approx(10 * share, abs=0.3)


def test_floats_of_an_unknown_range_are_not_taken_for_bytes(deciding: Path, tmp_path: Path) -> None:
    file = used(deciding, tmp_path / "m.onnx", Use(range="raw"))
    kept = {one.key: one.value for one in onnx.load(file).metadata_props}
    assert "bytes" not in kept["input"]
    assert kept["range"] == "raw"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ExportError, match="range of their own"):
        predict_images(file, [tmp_path / "a.png"])


@pytest.mark.parametrize(
    "told",
    [
        {"threshold": "nan"},
        {"threshold": "-1"},
        {"threshold": "half"},
        {"positive": "blue"},
        {"fit": "tiled"},
        {"range": "?"},
    ],
    ids=str,
)
def test_a_use_that_can_not_be_is_refused(deciding: Path, tmp_path: Path, told: dict[str, str]) -> None:
    model = onnx.load(deciding)
    for one in model.metadata_props:
        one.value = told.get(one.key, one.value)
    (tmp_path / "lies.onnx").write_bytes(resealed(model))
    with pytest.raises(ExportError, match=r"lies\.onnx"):
        open_onnx(tmp_path / "lies.onnx")


def test_a_file_of_an_earlier_version_is_read(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    kept = [one for one in model.metadata_props if one.key not in ("fit", "range")]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    (tmp_path / "old.onnx").write_bytes(resealed(model))
    assert open_onnx(tmp_path / "old.onnx")[1].use == Use("whole", "bytes")


def test_what_is_no_picture_is_named(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"text\.png"):
        predict_images(exported[0], [tmp_path / "text.png"])
    with pytest.raises(DataError, match=r"gone\.png"):
        predict_images(exported[0], [tmp_path / "gone.png"])


def test_a_damaged_or_foreign_file_is_refused_by_name(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    data = exported[0].read_bytes()
    for number, content in enumerate((b"", b"not onnx at all", data[: len(data) // 2])):
        file = tmp_path / f"bad{number}.onnx"
        file.write_bytes(content)
        with pytest.raises((FileError, ExportError), match=file.name):
            open_onnx(file)
    foreign = onnx.load(exported[0])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match="not exported by limbeck"):
        open_onnx(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("place", ["secret.bin", "../secret.bin", "./in/secret.bin"])
def test_weights_outside_the_file_are_not_read(
    exported: tuple[Path, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    model = onnx.load(exported[0])
    tensor = next(one for one in model.graph.initializer if len(one.raw_data) > 64)
    weights = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", str(len(weights)))):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):  # wherever a runtime may look: beside the file, or where one stands
        (folder / "secret.bin").write_bytes(weights)
    file = tmp_path / "in" / "m.onnx"
    file.write_bytes(resealed(model))
    for folder in (tmp_path, tmp_path / "in"):
        monkeypatch.chdir(folder)
        with pytest.raises(FileError, match=r"m\.onnx is not a whole ONNX file"):
            open_onnx(file)


def test_every_flipped_bit_is_refused(
    exported: tuple[Path, nn.Module], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, dice = exported[0].read_bytes(), random.Random(0)
    for bit in dice.sample(range(8 * len(data)), 200):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped.onnx").write_bytes(changed)
        with pytest.raises((FileError, ExportError), match=r"flipped\.onnx"):
            open_onnx(tmp_path / "flipped.onnx")
    assert capfd.readouterr().out == ""


def test_a_changed_weight_is_called_a_change(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    data = exported[0].read_bytes()
    weights = next(one for one in onnx.load(exported[0]).graph.initializer if len(one.raw_data) > 64).raw_data
    (tmp_path / "m.onnx").write_bytes(data.replace(weights, weights[::-1]))
    with pytest.raises(FileError, match=r"m\.onnx was changed after it was exported"):
        open_onnx(tmp_path / "m.onnx")


def test_the_runtime_does_not_talk_of_a_damaged_file(
    exported: tuple[Path, nn.Module], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unsealed = exported[0].read_bytes().replace(b"limbeck.sha256", b"limbeck.sha25x")
    damaged = unsealed.replace(b"module.0.weight", b"module.0.weigh\xff", 1)  # its error then quotes what is no UTF-8
    (tmp_path / "m.onnx").write_bytes(damaged)
    with pytest.raises(FileError, match=r"m\.onnx"):
        open_onnx(tmp_path / "m.onnx")
    assert capfd.readouterr() == ("", "")


def test_the_checksum_inside_is_of_the_file_with_zeros_in_its_place(exported: tuple[Path, nn.Module]) -> None:
    data = exported[0].read_bytes()
    kept = {one.key: one.value for one in onnx.load(exported[0]).metadata_props}["limbeck.sha256"]
    assert data.count(kept.encode()) == 1
    assert hashlib.sha256(data.replace(kept.encode(), b"0" * 64)).hexdigest() == kept


@pytest.mark.parametrize(
    "told",
    [
        {"classes": "no JSON"},
        {"classes": '{"a": 1}'},
        {"classes": '["a", "b"]'},
        {"classes": "[1, 2, 3]"},
        {"classes": "[" * 100_000},
        {"shape": "[3, 9, 9]"},
        {"shape": "[3, 100000, 100000]"},
        {"shape": "null"},
        {"shape": "[[3], 8, 8]"},
    ],
    ids=str,
)
def test_metadata_that_the_graph_contradicts_are_refused(
    exported: tuple[Path, nn.Module], tmp_path: Path, told: dict[str, str]
) -> None:
    model = onnx.load(exported[0])
    for one in model.metadata_props:
        one.value = told.get(one.key, one.value)
    (tmp_path / "lies.onnx").write_bytes(resealed(model))
    with pytest.raises(ExportError, match=r"lies\.onnx"):
        predict_images(tmp_path / "lies.onnx", [])


def test_logits_that_are_not_finite_are_no_prediction(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    bias = next(one for one in model.graph.initializer if list(one.dims) == [3] and "bias" in one.name)
    bias.raw_data = np.full(3, np.nan, dtype=np.float32).tobytes()
    (tmp_path / "nan.onnx").write_bytes(resealed(model))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ExportError, match=r"nan\.onnx .* not finite"):
        predict_images(tmp_path / "nan.onnx", [tmp_path / "a.png"])


@pytest.mark.parametrize("name", ["a" * 5000, "."])
def test_a_path_that_is_no_file_is_refused(name: str) -> None:
    with pytest.raises(LimbeckError):
        open_onnx(name)


def test_a_class_without_a_logit_is_refused(exported: tuple[Path, nn.Module], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gives \[3\] logits for each sample, expected \[2\]"):
        export_onnx(
            exported[1],
            tmp_path / "m.onnx",
            preparation=Preparation(NORMALIZATION),
            shape=(3, 8, 8),
            classes="ab",
            name="few",
        )
    assert not (tmp_path / "m.onnx").exists()


class Untraceable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 0:
            return x.flatten(1)[:, :3]
        return -x.flatten(1)[:, :3]


def test_a_model_that_can_not_be_traced_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="model 'odd' can not be exported"):
        export_onnx(
            Untraceable(),
            tmp_path / "m.onnx",
            preparation=Preparation(NORMALIZATION),
            shape=(3, 8, 8),
            classes=CLASSES,
            name="odd",
        )
    assert not (tmp_path / "m.onnx").exists()
