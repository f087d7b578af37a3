"""Pictures in files: decoded, fitted, looked at; odd ones reported, broken ones named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from tests.data.painting import folders, paint

from limbeck.compress.shipped.predict import read_image
from limbeck.data.batches import batches
from limbeck.data.pictures import Frame, read_picture
from limbeck.data.sources.named import load
from limbeck.errors import DataError


def read(root: Path, **options: Any) -> Any:
    return load("image_folder", **{"root": root, "size": 8, "validation": 4, "test": 4, **options})


# fitting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 47), (32, 48), (8, 9)])
@pytest.mark.parametrize("wanted", [(16, 16), (16, 24), (20, 10)])
def test_a_crop_is_the_middle_at_the_scale_of_the_short_side(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    # Coordinates as colors: what is at a pixel says where it came from.
    rows, columns = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]), indexing="ij")
    picture = Image.fromarray(np.stack([rows, columns, rows * 0], -1).round().astype(np.uint8))
    found = Frame(wanted)(picture).astype(float)
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    for axis, (old, new) in enumerate(zip(size, wanted, strict=True)):
        start = (old - new * scale) / 2
        centers = start + (np.arange(new) + 0.5) * scale - 0.5
        expected = centers * 255 / (old - 1)
        line = found[axis].mean(axis=1 - axis)
        inner = slice(2, -2)  # at a border the filter is cut off
        assert np.abs(line[inner] - expected[inner]).max() < 2.5


def test_a_whole_picture_is_squeezed_and_one_of_the_right_size_is_left_alone(tmp_path: Path) -> None:
    picture = Image.open(paint(tmp_path / "a.png", size=(20, 30)))
    truth = np.asarray(picture.resize((10, 12), Image.Resampling.BILINEAR))
    assert np.array_equal(Frame((12, 10), "whole")(picture), truth.transpose(2, 0, 1))
    for fit in ("crop", "whole"):
        assert np.array_equal(Frame((20, 30), fit)(picture), np.asarray(picture).transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_held_or_not_a_sample_is_what_the_exported_file_will_be_given(tmp_path: Path, channels: int, fit: str) -> None:
    folders(tmp_path)
    options = {"size": [8, 6], "channels": channels, "fit": fit}
    held, fetched = read(tmp_path, cache=True, **options), read(tmp_path, cache=False, **options)
    assert held.fingerprint() == fetched.fingerprint()
    assert held.normalization == fetched.normalization
    for name, split in held.splits.items():
        index = torch.arange(len(split)).flip(0)
        inputs, targets = split.fetch(index)
        assert torch.equal(inputs, fetched.splits[name].fetch(index)[0])
        truth = [read_image(tmp_path / split.names[at], (channels, 8, 6), fit=fit) for at in index]
        assert torch.equal(inputs, torch.from_numpy(np.stack(truth)))
        assert torch.equal(targets, split.targets.flip(0))
    assert held.input_range == "bytes"
    assert fetched.fingerprint() != read(tmp_path, **{**options, "size": [8, 5]}).fingerprint()


@pytest.mark.parametrize("cache", [True, False])
def test_a_worker_gives_the_same_batches(tmp_path: Path, cache: bool) -> None:
    split = read(folders(tmp_path), cache=cache).train
    here, there = (list(batches(split, batch_size=5, epoch=2, workers=workers)) for workers in (0, 1))
    assert len(here) == len(there) == 3
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.inputs, two.inputs)
        assert torch.equal(one.target, two.target)


# odd ones ------------------------------------------------------------------------------------------------------------


def gray16(path: Path) -> None:
    Image.fromarray((np.arange(108).reshape(9, 12) * 600).astype(np.uint16)).save(path)


def animated(path: Path) -> None:
    frames = [Image.new("RGB", (12, 9), color) for color in ("red", "green", "blue")]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 9), "red").save(path.with_suffix(".jpg"), exif=exif)


def transparent_palette(path: Path) -> None:
    Image.new("P", (12, 9), 1).save(path, transparency=1)


ODD = {
    "gray": (lambda path: paint(path, mode="L"), 3, "gray: repeated in every channel"),
    "gray and alpha": (lambda path: paint(path, mode="LA"), 3, "alpha: left out, not blended"),
    "alpha": (lambda path: paint(path, mode="RGBA"), 3, "alpha: left out, not blended"),
    "a transparent color": (transparent_palette, 3, "alpha: left out, not blended"),
    "16 bits": (gray16, 3, "16 bits: scaled to 8"),
    "animated": (animated, 3, "several frames: the first was taken"),
    "turned": (turned, 3, "a turned or mirrored camera"),
    "color": (lambda path: paint(path, mode="RGB"), 1, "color: turned to gray"),
    "CMYK": (lambda path: paint(path.with_suffix(".jpg"), mode="CMYK"), 3, "CMYK: turned to RGB"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_picture_is_used_and_reported_by_name(tmp_path: Path, kind: str) -> None:
    make, channels, message = ODD[kind]
    folders(tmp_path)
    make(tmp_path / "dog" / "odd.png")
    data = read(tmp_path, channels=channels)
    notes = [note for note in data.notes if message in note]
    assert len(notes) == 1
    assert "dog/odd" in notes[0] if channels == 3 else "21 in all" in notes[0]
    assert sum(map(len, data.splits.values())) == 21


def test_an_ordinary_folder_has_nothing_to_report(tmp_path: Path) -> None:
    assert read(folders(tmp_path)).notes == ["2 classes, in this order: cat, dog"]


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    folders(tmp_path)
    gray16(tmp_path / "dog" / "odd.png")
    found = np.array(read_picture(tmp_path / "dog" / "odd.png", 1)).astype(float).ravel()
    assert np.abs(found - np.arange(108) * 600 / 257).max() <= 0.5


# broken ones ---------------------------------------------------------------------------------------------------------


def test_every_cut_of_a_jpeg_is_seen_or_costs_no_pixel(tmp_path: Path) -> None:
    """timm's reader with its retry lets 199 of 200 pass; Pillow's fills what is missing with gray if it is told to."""
    caught = 0
    for number in range(200):
        rng = np.random.default_rng(number)
        whole = paint(tmp_path / "whole.jpg", seed=number, size=(40, 50), quality=80, progressive=number % 2 == 1)
        truth, data = np.array(read_picture(whole, 3)), whole.read_bytes()
        cut = tmp_path / "cut.jpg"
        cut.write_bytes(data[: int(rng.integers(1, len(data)))])
        try:
            found = read_picture(cut, 3)
        except DataError:
            caught += 1
        else:
            assert np.array_equal(np.array(found), truth)
    assert caught >= 195


def test_broken_pictures_up_to_the_declared_share_are_left_out_by_name(tmp_path: Path) -> None:
    folders(tmp_path)
    for name in ("cat/3.png", "dog/4.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:200])
    (tmp_path / "cat" / "5.png").write_bytes(b"<html>not found</html>")
    with pytest.raises(
        DataError, match=r"3 of 20 pictures can not be read, 15\.00%, and data\.skip allows 14"
    ) as caught:
        read(tmp_path, skip=0.14)
    for name in ("cat/3.png", "dog/4.png", "cat/5.png"):
        assert name in str(caught.value)
    with pytest.raises(DataError, match="can not be read"):
        read(tmp_path)
    for cache in (True, False):
        data = read(tmp_path, skip=0.15, cache=cache)
        names = [name for split in data.splits.values() for name in split.names]
        assert len(names) == 17
        assert not {"cat/3.png", "dog/4.png", "cat/5.png"} & set(names)
        note = next(note for note in data.notes if "left out" in note)
        assert note.startswith("3 of 20 pictures")
        assert all(name in note for name in ("cat/3.png", "dog/4.png", "cat/5.png"))
        for split in data.splits.values():
            inputs, _ = split.fetch(torch.arange(len(split)))
            truth = [read_image(tmp_path / name, (3, 8, 8), fit="crop") for name in split.names]
            assert torch.equal(inputs, torch.from_numpy(np.stack(truth)))


def test_a_split_of_which_nothing_can_be_read_is_named(tmp_path: Path) -> None:
    folders(tmp_path, train=8, test=1)
    for name in ("cat", "dog"):
        (tmp_path / "test" / name / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="of split 'test' no picture can be read"):
        read(tmp_path, skip=0.5, test=None)


def test_gray_in_place_of_what_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        read(tmp_path)


def test_a_file_that_goes_away_later_is_named(tmp_path: Path) -> None:
    data = read(folders(tmp_path), cache=False)
    (tmp_path / data.train.names[2]).unlink()
    with pytest.raises(DataError, match=f"{data.train.names[2]} is missing"):
        data.train.fetch(torch.tensor([2]))


def test_the_scan_leaves_the_filters_of_warnings_as_they_were(tmp_path: Path) -> None:
    before = list(warnings.filters)
    read(folders(tmp_path), workers=4)
    assert list(warnings.filters) == before


def test_threads_change_nothing(tmp_path: Path) -> None:
    folders(tmp_path)
    assert read(tmp_path, workers=1).fingerprint() == read(tmp_path, workers=7).fingerprint()
    assert torch.equal(
        read(tmp_path, workers=1).train.fetch(torch.arange(12))[0],
        read(tmp_path, workers=7).train.fetch(torch.arange(12))[0],
    )


def test_unlabeled_pictures_join_those_of_a_folder(tmp_path: Path) -> None:
    from limbeck.data import Data

    data = read(folders(tmp_path / "a"))
    for at in range(5):
        paint(tmp_path / "b" / f"{at}.png", seed=500 + at, size=(8, 8))
    joined = Data(data.train, data.validation, data.test, unlabeled=tmp_path / "b")
    assert (len(joined.train), joined.train.labeled) == (17, 12)
    assert joined.train.names == (*data.train.names, *[""] * 5)
    assert joined.input_range == "bytes"
