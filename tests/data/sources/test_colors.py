"""The color table, and mask files of every kind read by it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.painting import CODES, COLORS, deep_png, drawn_mask, paint_mask, png_by_hand

from limbeck.data.sources.colors import ColorTable
from limbeck.errors import DataError, RecipeError

RGB, NUMBERS = ColorTable.of(COLORS), ColorTable.of({"land": 0, "water": 1, "road": 2})
MASK = drawn_mask(5)


def write(path: Path, array: Any, mode: str | None = None, **options: Any) -> Path:
    Image.fromarray(array, mode).save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["rgb", "palette"])
def test_colors_are_read_from_pixels_and_from_a_palette(tmp_path: Path, kind: str) -> None:
    found, unknown, changes = RGB.read(paint_mask(tmp_path / "a.png", MASK, kind))
    assert found.dtype == np.uint8
    assert np.array_equal(found, MASK)
    assert (unknown, changes) == ({}, ())


@pytest.mark.parametrize("kind", ["gray", "palette"])
def test_numbers_are_read_from_gray_and_from_a_palette(tmp_path: Path, kind: str) -> None:
    found, unknown, changes = NUMBERS.read(paint_mask(tmp_path / "a.png", MASK, kind))
    assert np.array_equal(found, MASK)
    assert (unknown, changes) == ({}, ())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_gray_file_of_few_bits_holds_its_numbers(tmp_path: Path, bits: int) -> None:
    """Written by hand: Pillow reads them multiplied up to 255."""

    numbers = np.arange(16, dtype=np.uint8).reshape(2, 8) % 2**bits
    rows = b""
    for row in numbers:
        joined = "".join(format(int(one), f"0{bits}b") for one in row)
        rows += b"\0" + int(joined, 2).to_bytes(bits, "big")

    path = tmp_path / "a.png"
    path.write_bytes(png_by_hand((2, 8), bits, 0, rows))
    table = ColorTable.of({str(one): one for one in range(2**bits)})
    found, unknown, _ = table.read(path)
    assert np.array_equal(found, numbers)
    assert unknown == {}


def test_several_colors_ignored_ones_and_gray_as_a_color(tmp_path: Path) -> None:
    table = ColorTable.of({"a": ["#000000", [1, 2, 3]], "b": "ffffff", "none": [9, 9, 9]}, ["none"])
    assert table.classes == ("a", "b")
    path = write(tmp_path / "a.png", np.array([[[0, 0, 0], [1, 2, 3], [255] * 3, [9] * 3]], dtype=np.uint8))
    found, unknown, _ = table.read(path)
    assert found.tolist() == [[0, 0, 1, 255]]
    assert unknown == {}
    for name, mode in (("gray", None), ("bits", "1")):
        image = Image.fromarray(np.array([[0, 255, 255]], dtype=np.uint8))
        (image if mode is None else image.convert("1")).save(tmp_path / f"{name}.png")
        assert table.read(tmp_path / f"{name}.png")[0].tolist() == [[0, 1, 1]]


def test_unknown_colors_and_numbers_are_counted_and_have_no_label(tmp_path: Path) -> None:
    numbers = MASK.copy()
    numbers[3:5, :7] = 3
    for kind in ("rgb", "palette"):
        found, unknown, _ = RGB.read(paint_mask(tmp_path / f"{kind}.png", numbers, kind))
        assert unknown == {0x9B9B9B: 14}
        assert np.array_equal(found, np.where(numbers == 3, 255, numbers))
        assert RGB.name(0x9B9B9B) == "#9B9B9B"
    found, unknown, _ = NUMBERS.read(paint_mask(tmp_path / "gray.png", numbers, "gray"))
    assert unknown == {3: 14}
    assert np.array_equal(found, np.where(numbers == 3, 255, numbers))
    other = ColorTable.of({**COLORS, "gray": "#9B9B9B"}, ["gray"]).read(tmp_path / "rgb.png")
    assert np.array_equal(other[0], found)
    assert other[1] == {}


def test_alpha_is_left_out_where_it_says_nothing_and_refused_where_it_does(tmp_path: Path) -> None:
    opaque = np.concatenate([CODES[MASK], np.full((*MASK.shape, 1), 255, np.uint8)], axis=2)
    found, unknown, changes = RGB.read(write(tmp_path / "opaque.png", opaque))
    assert np.array_equal(found, MASK)
    assert unknown == {}
    assert changes == ("alpha of masks, opaque everywhere: left out",)
    opaque[2, 3, 3] = 254
    with pytest.raises(DataError, match=r"clear.png is of mode RGBA and partly transparent, and data.colors gives"):
        RGB.read(write(tmp_path / "clear.png", opaque))


@pytest.mark.parametrize("table", [RGB, NUMBERS])
def test_16_bits_are_refused_never_cut(tmp_path: Path, table: ColorTable) -> None:
    with pytest.raises(DataError, match=r"deep.png is of mode I;16, 16 bits"):
        table.read(write(tmp_path / "deep.png", MASK.astype(np.uint16)))


def test_16_bit_colors_are_refused_though_pillow_reads_8(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(deep_png((2, 2)))
    with Image.open(path) as image:
        assert image.mode == "RGB"
    with pytest.raises(DataError, match=r"deep.png is of mode RGB, 16 bits, and data.colors gives colors, 8 bits each"):
        RGB.read(path)


def test_a_palette_number_without_a_color_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], dtype=np.uint8), "P")
    image.putpalette(CODES[:3].ravel().tolist())
    image.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png has pixels of palette number 3, and its palette has no such color"):
        RGB.read(tmp_path / "a.png")


def test_files_that_hold_no_mask_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png is missing"):
        RGB.read(tmp_path / "none.png")
    whole = paint_mask(tmp_path / "a.png", MASK).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut.png is not a readable mask \("):
        RGB.read(tmp_path / "cut.png")
    with pytest.raises(DataError, match=r"a.png is of mode RGB, and data.colors gives numbers, 8 bits gray"):
        NUMBERS.read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("colors", "ignore", "message"),
    [
        ({"a": "#000000", "b": [0, 0, 0]}, (), "data.colors: 'a' and 'b' have one color, #000000"),
        ({"a": ["#000001", "#000001"], "b": 1}, (), "data.colors: 'a' and 'a' have one color, #000001"),
        ({"a": "#000000", "b": 1}, (), "data.colors: 'b' is a number and 'a' a color: use one kind"),
        ({"a": 3, "b": 3}, (), "data.colors: 'a' and 'b' have one number, 3"),
        ({"a": "#00000", "b": "#ffffff"}, (), "data.colors: a is '#00000'"),
        ({"a": 256, "b": 1}, (), "data.colors: a is 256"),
        ({"a": True, "b": 1}, (), "data.colors: a is True"),
        ({"a": "#000000"}, (), "data.colors has 1 classes, expected 2 to 255"),
        ({"a": 0, "b": 1}, ("b",), "data.colors has 1 classes"),
        ({"a": 0, "b": 1, "cc": 2}, ("c",), "data.ignore names 'c', which data.colors has not; did you mean 'cc'?"),
    ],
)
def test_a_wrong_table_is_refused(colors: dict[str, Any], ignore: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        ColorTable.of(colors, ignore)
