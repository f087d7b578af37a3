"""Pictures read for a model: by hand what they hold, and an answer for whatever is damaged."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.compress.shipped.predict import read_image
from limbeck.errors import DataError

GRAY = (1, 8, 8)
COLOR = (3, 8, 8)


def test_color_to_gray_by_the_weights_of_ITU_601(tmp_path: Path) -> None:  # noqa: N802
    Image.new("RGB", (8, 8), (255, 0, 51)).save(tmp_path / "a.png")
    expected = (0.299 * 255 + 0.114 * 51) / 255
    np.testing.assert_allclose(read_image(tmp_path / "a.png", GRAY), np.full(GRAY, expected), atol=1 / 255)


def test_gray_to_color_repeats_it(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 51).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", COLOR), np.full(COLOR, 0.2), atol=1e-6)


@pytest.mark.parametrize("shape", [GRAY, COLOR])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    wide = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(wide).save(tmp_path / "a.png")
    expected = np.broadcast_to(wide / 65535, shape)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", shape), expected, atol=0.5 / 255 + 1e-6)


def test_transparency_is_left_out(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 51, 0, 0)).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png", COLOR)[:, 0, 0], [1.0, 0.2, 0.0], atol=1e-6)
    np.testing.assert_allclose(read_image(tmp_path / "a.png", (4, 8, 8))[:, 0, 0], [1.0, 0.2, 0.0, 0.0], atol=1e-6)


def test_floats_have_no_known_range(tmp_path: Path) -> None:
    Image.new("F", (8, 8), 0.5).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=r"a\.tiff .*mode F"):
        read_image(tmp_path / "a.tiff", GRAY)


def test_the_whole_picture_is_resized(tmp_path: Path) -> None:
    halves = np.zeros((16, 32), dtype=np.uint8)
    halves[:, 16:] = 255
    Image.fromarray(halves).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", (1, 4, 4))[0]
    assert read[:, 0].max() == 0.0  # both ends are still there: squeezed, not cropped
    assert read[:, 3].min() == 1.0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_damaged_picture_is_read_or_named(tmp_path: Path, kind: str) -> None:
    dice, whole, file = random.Random(0), io.BytesIO(), tmp_path / "damaged"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(whole, kind)
    data, refused = whole.getvalue(), list[str]()
    for number in range(150):
        changed = bytearray(data)
        if number % 3 == 0:
            del changed[dice.randrange(len(data)) :]
        else:
            changed[dice.randrange(120 if number % 3 == 1 else len(data))] ^= 1 << dice.randrange(8)
        file.write_bytes(changed)
        try:
            read = read_image(file, COLOR)
            assert read.shape == COLOR
            assert 0.0 <= read.min() <= read.max() <= 1.0
        except DataError as error:
            refused.append(str(error))
    assert all(str(file) in one for one in refused)
    assert len(refused) >= 40  # of 50 cut off, nearly all
