"""A segmenter's file over photos of any kind and size: masks, overlays, shares, and what is refused."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from tests.compress.segmenters import COLORS, NAMES, kernel, resealed, segmenter, whole

import limbeck
from limbeck.compress import predict_images
from limbeck.compress.shipped.opening import open_onnx
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.errors import DataError, ExportError, FileError, LimbeckError, RecipeError
from limbeck.evaluation.dense.palette import class_colors

WEIGHTS = kernel()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    segmenter(tmp_path / "s.onnx", WEIGHTS)
    return tmp_path


def photo(path: Path, size: tuple[int, int] = (41, 67), mode: str = "RGB", seed: int = 0) -> Any:
    """Write a photo; the bytes ``[3, H, W]`` that a model of three channels is to see."""
    dice = np.random.default_rng(seed)
    if mode == "I;16":
        wide = dice.integers(0, 65536, size, dtype=np.uint16)
        Image.fromarray(wide).save(path)
        return np.broadcast_to(np.round(wide / 257).astype(np.uint8), (3, *size))
    pixels = dice.integers(0, 256, (*size, {"L": 1, "RGB": 3, "RGBA": 4}[mode]), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if mode == "L" else pixels).save(path)
    return np.broadcast_to(pixels[..., :3].transpose(2, 0, 1), (3, *size))


def labels(path: Path) -> Any:
    with Image.open(path) as mask:
        assert mask.mode == "P"
        return np.asarray(mask)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
@pytest.mark.parametrize("size", [(41, 67), (5, 7)], ids=str)
def test_a_mask_holds_the_most_probable_classes(here: Path, mode: str, size: tuple[int, int]) -> None:
    """Larger and smaller than a window, both of odd size."""
    expected = whole(WEIGHTS, photo(here / "a.png", size, mode))
    (found,) = predict_images("s.onnx", ["a.png"], out="m.png")
    ranked = np.sort(expected, axis=0)
    clear = ranked[-1] - ranked[-2] > 1e-5
    assert clear.mean() > 0.99
    drawn = labels(here / "m.png")
    np.testing.assert_array_equal(drawn[clear], expected.argmax(axis=0)[clear])
    assert found["size"] == list(size)
    assert list(found["shares"]) == list(NAMES)
    assert list(found["shares"].values()) == pytest.approx([(drawn == at).mean() for at in range(3)])
    assert found["probability"] == pytest.approx(expected.max(axis=0).mean(), abs=1e-5)
    told = {"RGB": 0, "L": 1, "RGBA": 1, "I;16": 2}[mode]
    assert len(found["changes"]) == told


def test_colors_are_the_files_own_and_lie_over_the_photo(here: Path) -> None:
    seen = photo(here / "a.png").transpose(1, 2, 0).astype(int)
    (found,) = predict_images("s.onnx", ["a.png"], out="m.png")
    with Image.open("m.png") as mask:
        shown = np.asarray(mask.convert("RGB"))
    np.testing.assert_array_equal(shown, np.array(COLORS)[labels(here / "m.png")])
    assert (found["mask"], found["overlay"]) == ("m.png", "m-overlay.png")
    with Image.open("m-overlay.png") as over:
        np.testing.assert_allclose(np.asarray(over), (seen + shown) / 2, atol=1)


def test_without_colors_of_its_own_it_has_those_of_reports(here: Path) -> None:
    photo(here / "a.png")
    segmenter(here / "plain.onnx", WEIGHTS, windows=Windows(0.25))
    predict_images("plain.onnx", ["a.png"], out="m.png")
    with Image.open("m.png") as mask:
        assert mask.getpalette()[:9] == [part for color in class_colors(3) for part in color]


def test_a_file_of_its_window_alone_takes_photos_of_any_size(here: Path) -> None:
    seen = photo(here / "a.png")
    fixed = segmenter(here / "fixed.onnx", WEIGHTS, free=False)
    assert open_onnx(fixed)[1].windows == Windows(0.25, None, COLORS)
    predict_images(fixed, ["a.png"], out="m.png")
    assert (labels(here / "m.png") == whole(WEIGHTS, seen).argmax(axis=0)).mean() > 0.99


def test_a_gray_model_sees_gray(here: Path) -> None:
    one = kernel(1)
    segmenter(here / "gray.onnx", one)
    seen = np.arange(30 * 31).reshape(30, 31).astype(np.uint8)
    Image.fromarray(seen).save("g.png")
    (found,) = predict_images("gray.onnx", ["g.png"])
    expected = whole(one, seen[None])
    assert (labels(here / "g-mask.png") == expected.argmax(axis=0)).mean() > 0.99
    with Image.open(found["overlay"]) as over:
        assert over.mode == "RGB"


# ---------------------------------------------------------------- where they go


def test_several_go_to_a_folder_and_one_may(here: Path) -> None:
    for name in ("a", "b"):
        photo(here / f"{name}.png")
    found = predict_images("s.onnx", ["a.png", "b.png"], out="masks")
    assert [one["mask"] for one in found] == [str(Path("masks", f"{name}-mask.png")) for name in ("a", "b")]
    assert sorted(path.name for path in (here / "masks").iterdir()) == [
        "a-mask-overlay.png", "a-mask.png", "b-mask-overlay.png", "b-mask.png"
    ]  # fmt: skip
    assert predict_images("s.onnx", ["a.png"], out="new/")[0]["mask"] == str(Path("new", "a-mask.png"))
    assert predict_images("s.onnx", ["a.png"], out="n.png", overlay="o.jpg")[0]["overlay"] == "o.jpg"
    with Image.open("o.jpg") as over:
        assert over.format == "JPEG"


def test_nothing_is_written_over_unless_asked(here: Path) -> None:
    photo(here / "a.png")
    first = predict_images("s.onnx", ["a.png"])
    assert (first[0]["mask"], first[0]["overlay"]) == ("a-mask.png", "a-mask-overlay.png")
    kept = (here / "a-mask.png").read_bytes()
    (here / "a-mask.png").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"a-mask\.png is there already"):
        predict_images("s.onnx", ["a.png"])
    assert (here / "a-mask.png").read_bytes() == b"mine"
    predict_images("s.onnx", ["a.png"], force=True)
    assert (here / "a-mask.png").read_bytes() == kept
    (here / "a-mask.png").unlink()
    with pytest.raises(FileError, match=r"a-mask-overlay\.png is there already"):
        predict_images("s.onnx", ["a.png"])
    assert not (here / "a-mask.png").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"out": "a.png", "force": True}, "is the picture itself"),
        ({"out": "./b/../a.png", "force": True}, "is the picture itself"),
        ({"out": "m.png", "overlay": "a.png", "force": True}, "is the picture itself"),
        ({"out": "m.jpg"}, r"m\.jpg .* expected a name with \.png"),
        ({"out": "m.png", "overlay": "o.gif"}, r"o\.gif .* expected a name with \.png or \.jpg"),
        ({"out": "m.png", "overlay": "m.png"}, "two masks or overlays"),
        ({"images": ["a.png", "b/a.png"], "out": "to"}, "two masks or overlays"),
        ({"images": ["a.png", "b/a.png"], "overlay": "o.png"}, "one file for 2 pictures"),
        ({"images": ["a.png", "b/c.png"], "out": "s.onnx"}, "one file for 2 pictures"),
    ],
    ids=str,
)
def test_a_place_that_can_not_be(here: Path, given: dict[str, Any], told: str) -> None:
    (here / "b").mkdir()
    for name in ("a.png", "b/a.png", "b/c.png"):
        photo(here / name)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(RecipeError, match=told):
        predict_images("s.onnx", given.pop("images", ["a.png"]), **given)
    assert before == {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}


def classifier(path: Path, **told: str) -> Path:
    """A file of limbeck's that classifies: the mean of each channel."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["logits"], axes=[2, 3], keepdims=0)]
    given = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    gives = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])]
    graph = helper.make_graph(nodes, "mean", given, gives)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = {"limbeck": "0.1.0", "task": "classification", "classes": json.dumps(NAMES), "shape": "[3, 8, 8]"}
    for key, value in {**metadata, **Use().metadata(), "limbeck.sha256": "", **told}.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(resealed(model))
    return path


@pytest.mark.parametrize("name", ["out", "overlay"])
def test_a_classifier_makes_no_mask(here: Path, name: str) -> None:
    photo(here / "a.png")
    classifier(here / "c.onnx")
    assert predict_images("c.onnx", ["a.png"])[0]["class"] in NAMES
    with pytest.raises(RecipeError, match=rf"{name} is m\.png, and c\.onnx is a classifier"):
        predict_images("c.onnx", ["a.png"], **{name: "m.png"})


# ---------------------------------------------------------------- what is refused


LIES: list[dict[str, str | None]] = [
    {"overlap": "1"}, {"overlap": "-0.25"}, {"overlap": "NaN"}, {"overlap": '"half"'}, {"overlap": None},
    {"overlap": "true"}, {"overlap": "0.2x"},
    {"multiple": "5"}, {"multiple": "0"}, {"multiple": "-8"}, {"multiple": "1.0"}, {"multiple": "null"},
    {"multiple": None},
    {"colors": "[[0, 0, 0]]"}, {"colors": "[[0, 0], [0, 0], [0, 0]]"},
    {"colors": "[[0, 0, 256], [0, 0, 0], [1, 1, 1]]"},
    {"colors": '{"land": 1}'}, {"colors": "[" * 100_000}, {"colors": None},
    {"shape": "[3, 100000, 100000]"}, {"shape": "[3, 0, 24]"}, {"shape": "[1, 16, 24]"}, {"shape": "[3, 16]"},
    {"shape": "[3, 16.0, 24]"}, {"shape": "null"},
    {"classes": '["a", "b"]'}, {"classes": '["a", "b", "c", "d"]'},
    {"task": "classification"}, {"task": "painting"}, {"task": None},
    {"fit": "whole"}, {"fit": None}, {"positive": "land"},
]  # fmt: skip


@pytest.mark.parametrize("told", LIES, ids=lambda told: str(told)[:60])
def test_metadata_that_lie_are_refused(here: Path, told: dict[str, str | None]) -> None:
    segmenter(here / "lies.onnx", WEIGHTS, told=told)
    with pytest.raises(ExportError, match=r"lies\.onnx says one thing"):
        predict_images("lies.onnx", [])


@pytest.mark.parametrize("told", [{"task": "segmentation"}, {"fit": "windows"}], ids=str)
def test_a_classifier_that_says_it_is_none(here: Path, told: dict[str, str]) -> None:
    with pytest.raises(ExportError, match=r"lies\.onnx says one thing"):
        open_onnx(classifier(here / "lies.onnx", **told))


def test_a_window_of_a_file_that_takes_no_other_is_the_graphs(here: Path) -> None:
    for told in ({"shape": "[3, 24, 16]"}, {"multiple": "1"}):
        segmenter(here / "lies.onnx", WEIGHTS, free=False, told=dict(told))
        with pytest.raises(ExportError, match=r"lies\.onnx says one thing"):
            open_onnx("lies.onnx")


def test_a_changed_or_foreign_file_is_refused(here: Path) -> None:
    photo(here / "a.png")
    data = (here / "s.onnx").read_bytes()
    raw = WEIGHTS.tobytes()
    assert raw in data
    (here / "changed.onnx").write_bytes(data.replace(raw, raw[::-1]))
    with pytest.raises(FileError, match=r"changed\.onnx was changed after it was exported"):
        predict_images("changed.onnx", ["a.png"])
    foreign = onnx.load("s.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, "foreign.onnx")
    with pytest.raises(ExportError, match=r"foreign\.onnx was not exported by limbeck"):
        predict_images("foreign.onnx", ["a.png"])
    (here / "cut.onnx").write_bytes(data[: len(data) // 2])
    with pytest.raises(LimbeckError, match=r"cut\.onnx"):
        predict_images("cut.onnx", ["a.png"])
    assert not list(here.glob("*-mask*"))


def test_a_graph_that_gives_another_size_than_it_says(here: Path) -> None:
    photo(here / "a.png")
    segmenter(here / "less.onnx", WEIGHTS, padding=0)
    with pytest.raises(ExportError, match=r"less\.onnx gives logits \(\d, 3, 14, 22\) .* expected \(\d, 3, 16, 24\)"):
        predict_images("less.onnx", ["a.png"])
    assert not (here / "a-mask.png").exists()


def test_logits_that_are_not_finite_are_no_mask(here: Path) -> None:
    photo(here / "a.png")
    broken = WEIGHTS.copy()
    broken[1, 0, 1, 1] = np.inf
    segmenter(here / "nan.onnx", broken)
    with pytest.raises(ExportError, match=r"nan\.onnx gives logits that are not finite"):
        predict_images("nan.onnx", ["a.png"])


def test_what_is_no_picture_is_named(here: Path) -> None:
    (here / "t.png").write_text("not a picture")
    for name in ("t.png", "gone.png"):
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            predict_images("s.onnx", [name])


def test_nothing_of_the_training_is_imported() -> None:
    """The files that predict reads with know numpy, Pillow and ONNX Runtime, but for the one writer of files."""
    package, seen, open_ = Path(limbeck.__file__).parent, set[str](), ["compress/shipped/predict.py"]
    while open_:
        file = open_.pop()
        seen.add(file)
        for node in ast.walk(ast.parse((package / file).read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.partition(".")[0] in ("torch", "torchvision", "sklearn") for name in names), file
            for name in names:
                found = name.removeprefix("limbeck.").replace(".", "/") + ".py"
                if name.startswith("limbeck.") and found not in (*seen, "files.py"):
                    open_.append(found)
    assert {
        "compress/shipped/masks.py",
        "compress/shipped/bands.py",
        "compress/shipped/opening.py",
        "data/windows.py",
        "data/pictures.py",
    } <= seen
