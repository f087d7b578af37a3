"""Folders of pictures and masks: paired, divided, cut; and every fault named."""

from __future__ import annotations

import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.painting import CODES, COLORS, deep_png, drawn_mask, paint, paint_mask, tiles

from limbeck.data import held
from limbeck.data.data import Data
from limbeck.data.scenes import SceneSplit
from limbeck.data.sources.named import load
from limbeck.data.sources.pairs import paired
from limbeck.errors import DataError, LimbeckError, RecipeError


def of(root: Path, **options: Any) -> Data:
    """Patches of 8×8, and one picture of each split at least."""
    options = {"colors": COLORS, "patch": 8, "seed": 1, **options}
    return load("segmentation_folder", root=root, **options)


def names(data: Data) -> dict[str, list[str]]:
    return {name: sorted({one.scene.name for one in split.regions}) for name, split in data.splits.items()
            if isinstance(split, SceneSplit)}  # fmt: skip


def truth(root: Path, name: str) -> tuple[Any, Any]:
    """A picture's pixels and its mask's numbers, read here."""
    group, _, part = name.rpartition("/")
    picture = np.asarray(Image.open(next((root / group / "images").glob(f"{part}.*"))).convert("RGB"))
    mask = np.asarray(Image.open(root / group / "masks" / f"{part}.png").convert("RGB")).astype(int)
    codes = CODES.astype(int)
    return picture, (mask[:, :, None] == codes).all(axis=3).argmax(axis=2)


# what is read --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rgb", "palette"])
def test_samples_are_the_pixels_of_the_files(tmp_path: Path, kind: str) -> None:
    data = of(tiles(tmp_path, kind=kind))
    assert data.dense
    assert data.classes == ("land", "water", "road")
    assert data.shape == (3, 8, 8)
    for split in data.splits.values():
        assert isinstance(split, SceneSplit)
        inputs, target = split.fetch(torch.arange(len(split)))
        assert len(split) == 9 * len(split.regions)  # 20 rows: at 0, 8, 12; 24 columns: at 0, 8, 16
        for at, (number, top, left) in enumerate(split.rows.tolist()):
            picture, mask = truth(tmp_path, split.regions[number].scene.name)
            part = picture[top : top + 8, left : left + 8].transpose(2, 0, 1)
            np.testing.assert_array_equal(inputs[at].numpy(), part.astype(np.float32) / 255)
            np.testing.assert_array_equal(target[at].numpy(), mask[top : top + 8, left : left + 8])
            assert split.names is not None
            assert split.names[at] == f"{split.regions[number].scene.name} at {top}, {left}"
        found = [truth(tmp_path, one.scene.name)[1] for one in split.regions]
        assert split.class_counts().tolist() == np.bincount(np.concatenate(found).ravel(), minlength=3).tolist()
    pixels = np.concatenate([truth(tmp_path, one)[0].reshape(-1, 3) for one in names(data)["train"]]) / 255
    assert data.normalization.mean == pytest.approx(pixels.mean(0), abs=0.05)  # of patches, which overlap at the edge


def test_jpeg_pictures_and_deep_folders_and_further_files(tmp_path: Path) -> None:
    for at in range(4):
        paint(tmp_path / "a" / "images" / "b" / f"p{at}.jpg", at, (16, 16))
        paint_mask(tmp_path / "a" / "masks" / "b" / f"p{at}.png", drawn_mask(at, (16, 16)))
    paint(tmp_path / "preview.png")
    (tmp_path / "read.me").write_text("hello")
    data = of(tmp_path)
    assert {one for found in names(data).values() for one in found} == {f"a/b/p{at}" for at in range(4)}
    assert "used for nothing: files that are neither picture nor mask; 2 in all, the first: preview.png" in data.notes


@pytest.mark.parametrize("together", [True, False])
def test_masks_are_told_by_a_suffix(tmp_path: Path, together: bool) -> None:
    for at in range(4):
        paint(tmp_path / ("x" if together else "images") / f"p{at}.jpg", at, (16, 16))
        paint_mask(tmp_path / ("x" if together else "masks") / f"p{at}_mask.png", drawn_mask(at, (16, 16)))
    data = of(tmp_path, mask_suffix="_mask")
    head = "x/" if together else ""
    assert {one for found in names(data).values() for one in found} == {f"{head}p{at}" for at in range(4)}
    with pytest.raises(DataError, match=r"none has a name that ends in '_label': there are no masks"):
        of(tmp_path, mask_suffix="_label")
    if together:
        with pytest.raises(RecipeError, match=r"data\.images and data\.masks are both 'x': nothing tells a mask"):
            of(tmp_path, images="x", masks="x")
        assert names(of(tmp_path, images="x", masks="x", mask_suffix="_mask"))["train"][0].startswith("p")


def test_gray_alpha_deep_and_turned_pictures_are_taken_and_told(tmp_path: Path) -> None:
    tiles(tmp_path, 5, ("a",))
    folder = tmp_path / "a" / "images"
    paint(folder / "part_0.png", 0, (20, 24), "L")
    clear = paint(folder / "part_1.png", 1, (20, 24), "RGBA")
    (folder / "part_2.png").write_bytes(deep_png((20, 24)))
    (folder / "part_3.png").unlink()
    turned = Image.Exif()
    turned[0x0112] = 6
    paint(folder / "part_3.jpg", 3, (20, 24), exif=turned)
    data = of(tmp_path)
    for note in (
        "gray: repeated in every channel; 1 in all, the first: a/part_0",
        "alpha: left out, not blended; 1 in all, the first: a/part_1",
        "16 bits a color: the upper 8 were taken; 1 in all, the first: a/part_2",
        "a turned or mirrored camera (EXIF): taken as stored; 1 in all, the first: a/part_3",
    ):
        assert note in data.notes
    scenes = {one.scene.name: one.scene for split in data.splits.values() for one in split.regions}  # type: ignore[attr-defined]
    assert np.array_equal(scenes["a/part_1"].read()[0].permute(1, 2, 0), np.asarray(Image.open(clear))[:, :, :3])
    assert scenes["a/part_3"].size == (20, 24)
    assert scenes["a/part_2"].read()[0][:, 0, 0].tolist() == [0, 2, 4]  # the upper byte of each


# splits --------------------------------------------------------------------------------------------------------------


def test_held_out_pictures_are_those_that_are_named(tmp_path: Path) -> None:
    data = of(tiles(tmp_path), held_out={"validation": ["*/part_1"], "test": ["Tile 2/part_2", "Tile 1/part_0"]})
    assert names(data) == {
        "train": ["Tile 1/part_2", "Tile 2/part_0"],
        "validation": ["Tile 1/part_1", "Tile 2/part_1"],
        "test": ["Tile 1/part_0", "Tile 2/part_2"],
    }
    assert data.test.groups == ("Tile 1",) * 9 + ("Tile 2",) * 9
    told = "divided by image: whole pictures are held out; train 2 pictures, 18 patches; validation 2 pictures, "
    assert told + "18 patches; test 2 pictures, 18 patches" in data.notes


def test_shares_are_drawn_by_the_seed_and_beside_what_is_named(tmp_path: Path) -> None:
    tiles(tmp_path, 5)
    found = names(of(tmp_path))
    assert [len(one) for one in found.values()] == [7, 1, 2]
    assert sorted(one for part in found.values() for one in part) == [
        f"Tile {t}/part_{p}" for t in (1, 2) for p in range(5)
    ]
    assert names(of(tmp_path)) == found
    assert any(names(of(tmp_path, seed=seed)) != found for seed in (2, 3))
    assert [len(one) for one in names(of(tmp_path, validation=3, test=0.5)).values()] == [2, 3, 5]
    mixed = names(of(tmp_path, held_out={"test": ["Tile 2/*"]}, validation=2))
    assert mixed["test"] == [f"Tile 2/part_{p}" for p in range(5)]
    assert [len(one) for one in mixed.values()] == [3, 2, 5]


def test_groups_stay_together(tmp_path: Path) -> None:
    tiles(tmp_path, 2, ("a", "b", "c", "d"))
    data = of(tmp_path, split_by="group", held_out={"test": ["c"]})
    groups = [{one.split("/")[0] for one in found} for found in names(data).values()]
    assert groups[2] == {"c"}
    assert sorted(map(len, groups)) == [1, 1, 2]
    assert set.union(*groups) == {"a", "b", "c", "d"}
    assert any("by group: whole folders are held out; train 4 pictures of 2 folders" in note for note in data.notes)


def test_patches_are_divided_without_a_pixel_in_two_splits(tmp_path: Path) -> None:
    data = of(tiles(tmp_path), split_by="patch")
    seen = {
        (one.scene.name, row, column)
        for split in data.splits.values()
        for one in split.regions  # type: ignore[attr-defined]
        for row in range(one.top, one.top + one.size[0])
        for column in range(one.left, one.left + one.size[1])
    }
    assert len(seen) == sum(8 * 8 * len(split) for split in data.splits.values()) == 6 * 16 * 24
    assert [len(split) for split in data.splits.values()] == [36 - 7 - 4, 4, 7]
    assert any("leaky" in note for note in data.notes)
    assert "20.0% of the pixels are in no split: they are no whole 8×8 patch" in data.notes
    for split in data.splits.values():
        counted = torch.bincount(split.fetch(torch.arange(len(split)))[1].flatten(), minlength=3)
        assert torch.equal(counted, split.class_counts())


def test_training_patches_overlap_and_the_others_do_not(tmp_path: Path) -> None:
    data = of(tiles(tmp_path), overlap=4)
    assert len(data.train) == 4 * 5 * len(data.train.regions)  # type: ignore[attr-defined]
    assert len(data.test) == 9 * len(data.test.regions)  # type: ignore[attr-defined]
    dropped = of(tmp_path, edges="drop")
    assert len(dropped.train) == 6 * len(dropped.train.regions)  # type: ignore[attr-defined]
    assert "20.0% of the pixels are in no training patch, of training pictures: they are no whole 8×8 patch" in (
        dropped.notes
    )


def test_a_picture_smaller_than_a_patch_is_filled_up_or_left_out(tmp_path: Path) -> None:
    tiles(tmp_path)
    paint(tmp_path / "Tile 1" / "images" / "part_9.png", 9, (5, 24))
    paint_mask(tmp_path / "Tile 1" / "masks" / "part_9.png", drawn_mask(9, (5, 24)))
    held_out = {"validation": ["*_1"], "test": ["*_2"]}
    data = of(tmp_path, held_out=held_out)
    at = next(at for at, name in enumerate(data.train.names or ()) if name.startswith("Tile 1/part_9"))
    inputs, target = data.train.fetch(torch.tensor([at]))
    assert (target[0, 5:] == -1).all()
    assert (target[0, :5] >= 0).all()
    assert (inputs[0, :, 5:] == 0).all()
    small = "1 pictures of split 'train' are smaller than a patch:"
    assert f"{small} filled up with black, without labels" in data.notes
    dropped = of(tmp_path, held_out=held_out, edges="drop")
    assert f"{small} no sample is made of them" in dropped.notes
    assert not any(name.startswith("Tile 1/part_9") for name in dropped.train.names or ())


def test_a_class_that_a_split_lacks_is_told_and_one_that_training_lacks_refused(tmp_path: Path) -> None:
    tiles(tmp_path)
    paint_mask(tmp_path / "Tile 1" / "masks" / "part_1.png", drawn_mask(1, classes=2))
    held_out = {"validation": ["Tile 1/part_1"], "test": ["*_2"]}
    data = of(tmp_path, held_out=held_out)
    assert "split 'validation' has no pixel of class road: its scores are of the other classes" in data.notes
    with pytest.raises(DataError, match="split 'train' has no pixel of class snow\n  cure: divide by class"):
        of(tmp_path, colors={**COLORS, "snow": "#FFFFFF"})


# memory --------------------------------------------------------------------------------------------------------------


def test_samples_are_the_same_held_in_memory_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles(tmp_path, 6)
    whole, none = of(tmp_path, cache=True), of(tmp_path, cache=False)
    monkeypatch.setattr(held, "MOST_HELD", 20 * 24 * 4 * 5)  # of five pictures
    some = of(tmp_path, workers=2)
    assert "decoded anew when fetched, not held in memory: 7 of 12" in some.notes
    assert "decoded anew when fetched, not held in memory: 12 of 12" in none.notes
    assert not any("decoded anew" in note for note in whole.notes)
    for name, split in whole.splits.items():
        at = torch.arange(len(split)).flip(0)
        for other in (some.splits[name], none.splits[name]):
            assert other.fingerprint() == split.fingerprint()
            assert all(map(torch.equal, other.fetch(at), split.fetch(at)))
            assert torch.equal(other.class_counts(), split.class_counts())
    kinds = [type(one.scene.read).__name__ for split in some.splits.values() for one in split.regions]  # type: ignore[attr-defined]
    assert sorted(kinds) == ["Asked"] * 7 + ["Held"] * 5
    shutil.rmtree(tmp_path)
    whole.train.fetch(torch.tensor([0]))
    with pytest.raises(DataError, match="is missing"):
        none.train.fetch(torch.arange(len(none.train)))


def test_only_the_last_few_pictures_are_kept() -> None:
    asked: list[int] = []

    def read(key: int) -> Any:
        asked.append(key)
        return torch.tensor(key), torch.tensor(key)

    recent = held.Recent(read, size=3)
    for key in (0, 1, 2, 0, 1, 2, 3, 1, 2, 0, 3):
        assert recent(key)[0] == key
    assert asked == [0, 1, 2, 3, 0, 3]
    assert len(recent._known) == 3


# bad input -----------------------------------------------------------------------------------------------------------


def remove(root: Path, *names: str) -> None:
    for name in names:
        (root / name).unlink()


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def rename(root: Path, old: str, new: str) -> None:
    for folder in root.glob(f"*/{old}"):
        folder.rename(folder.with_name(new))


def smoothed(root: Path) -> None:
    for at in range(3):
        pixels = np.random.default_rng(at).integers(0, 255, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "Tile 1" / "masks" / f"part_{at}.png")


FAULTS: list[tuple[str, Any, str]] = [
    ("mask gone", lambda r: remove(r, "Tile 1/masks/part_1.png"), "1 of 6 pictures have no mask of their name: "),
    ("picture gone", lambda r: remove(r, "Tile 2/images/part_0.png"), "1 of 6 masks have no picture of their name: "),
    ("sizes", lambda r: paint(r / "Tile 1/images/part_1.png", 0, (20, 23)), "part_1.png is 20×23, its mask "),
    ("two files", lambda r: paint(r / "Tile 1/images/part_1.jpg"), "have one name, 'Tile 1/part_1'"),
    ("cut picture", lambda r: cut(r / "Tile 1/images/part_1.png"), "part_1.png is not a readable picture"),
    ("cut mask", lambda r: cut(r / "Tile 1/masks/part_1.png"), "part_1.png is not a readable mask"),
    ("nothing", lambda r: [shutil.rmtree(one) for one in r.iterdir()], "holds no pictures\n  cure: check data.root"),
    ("gone", shutil.rmtree, "is no folder\n  cure: check data.root"),
    ("folder of masks", lambda r: rename(r, "masks", "mask"), "in folders 'masks'; did you mean 'mask'?"),
    ("folder of images", lambda r: rename(r, "images", "photos"), "with pictures are Tile 1, Tile 2, masks, photos"),
    ("wrong table", lambda r: paint_mask(r / "Tile 1/masks/part_1.png", np.full((20, 24), 3)),
     "1 of 6 masks hold no color of data.colors: "),
    ("smoothed", smoothed, "resized by nearest neighbor"),
]  # fmt: skip


@pytest.mark.parametrize(("break_it", "message"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_fault_is_refused_in_one_message_that_names_it(tmp_path: Path, break_it: Any, message: str) -> None:
    break_it(tiles(tmp_path / "x"))
    with pytest.raises(DataError, match=re.escape(message)):
        of(tmp_path / "x")


def test_several_faults_are_named_together(tmp_path: Path) -> None:
    tiles(tmp_path)
    for part, size in (("part_0", (9, 9)), ("part_1", (20, 25))):
        paint(tmp_path / "Tile 2" / "images" / f"{part}.png", 0, size)
    with pytest.raises(DataError) as caught:
        of(tmp_path)
    assert caught.value.what.startswith("2 of 6 pictures with masks can not be used: ")
    assert "part_0.png is 9×9" in caught.value.what
    assert "part_1.png is 20×25" in caught.value.what
    assert caught.value.cure == "give every picture a mask of its size"


def test_unlisted_colors_are_counted_and_a_few_pixels_of_many_told_to_be_smoothed(tmp_path: Path) -> None:
    tiles(tmp_path)
    numbers = drawn_mask(1)
    numbers[5, 2:9] = 3
    paint_mask(tmp_path / "Tile 1" / "masks" / "part_1.png", numbers)
    note = (
        "1 colors of the masks stand for no class; their 7 pixels (0.243%) have no label: #9B9B9B (7 pixels in 1 masks)"
    )
    data = of(tmp_path)
    assert note in data.notes
    assert sum(split.ignored for split in data.splits.values()) == 7  # type: ignore[attr-defined]
    pixels = CODES[drawn_mask(1)]
    pixels[4:6, :20] = np.random.default_rng(0).integers(0, 255, (2, 20, 3))
    Image.fromarray(pixels).save(tmp_path / "Tile 1" / "masks" / "part_1.png")
    note = next(one for one in of(tmp_path).notes if "colors of the masks" in one)
    assert note.startswith("40 colors of the masks stand for no class; their 40 pixels")
    assert "and 20 more; so many are of masks that were resized with smoothing or saved as JPEG" in note


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": {"test": ["*_007"]}}, "data.held_out.test: '*_007' is the name of nothing"),
        ({"held_out": {"test": ["Tile 1/part_8"]}}, "did you mean 'Tile 1/part_2'?"),
        ({"held_out": {"test": ["*_1"], "validation": ["Tile 2/*"]}}, "'Tile 2/part_1' is in test and in validation"),
        ({"held_out": {"test": ["*_1"]}, "test": 0.5}, "data.test is 0.5, and data.held_out.test names its pictures"),
        ({"held_out": {"test": ["*"]}}, "of 6 pictures none is left for split 'train'"),
        ({"split_by": "group", "held_out": {"test": ["Tile 2"]}}, "of 2 groups none is left for split 'train'"),
        ({"split_by": "patch", "held_out": {"test": ["*_1"]}}, "data.split_by is patch"),
        ({"split_by": "patch", "overlap": 2}, "data.overlap is 2, and data.split_by is patch"),
        ({"split_by": "tile"}, "data.split_by is 'tile', expected image, patch, group"),
        ({"validation": 6}, "none is left for split 'train'"),
        ({"validation": 1.5}, "data.validation is 1.5, expected a fraction below 1, or a count"),
        ({"overlap": 8}, "data.overlap is 8 and a patch 8×8: the next one would be in the same place"),
        ({"patch": [8, 4], "overlap": 5}, "data.overlap is 5 and a patch 8×4"),
        ({"patch": 0}, "data.patch is [0, 0]"),
        ({"edges": "cut"}, "data.edges is 'cut', expected cover or drop"),
        ({"patch": 32, "edges": "drop"}, "holds a patch of 32×32: the largest is 20×24"),
        ({"patch": 32, "split_by": "patch"}, "none of 6 pictures holds a patch of 32×32"),
        ({"ignore": ["wood"]}, "data.ignore names 'wood'"),
        ({"root": None}, "needs data.root"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=re.escape(message)):
        of(**{"root": tiles(tmp_path), **options})


def test_files_that_are_read_when_fetched_travel_to_other_processes(tmp_path: Path) -> None:
    data = of(tiles(tmp_path), cache=False)
    data.train.fetch(torch.tensor([0]))
    there = pickle.loads(pickle.dumps(data.train))  # noqa: S301
    at = torch.arange(len(data.train))
    assert all(map(torch.equal, there.fetch(at), data.train.fetch(at)))


@pytest.mark.parametrize("path", ["images/p", "a/images/p", "a/images/b/p", "masks/images/p", "images/a/images/p"])
def test_a_name_is_the_path_without_its_last_such_folder(tmp_path: Path, path: str) -> None:
    head, _, tail = path.rpartition("images/")
    mask = f"{head}masks/{tail}"
    for at in range(3):
        paint(tmp_path / f"{path}{at}.jpg", at, (8, 8))
        paint_mask(tmp_path / f"{mask}{at}.png", drawn_mask(at, (8, 8)))
    pairs, notes = paired(tmp_path, "images", "masks")
    assert [one.name for one in pairs] == [f"{head}{tail}{at}" for at in range(3)]
    assert [(one.picture.suffix, one.mask.suffix) for one in pairs] == [(".jpg", ".png")] * 3
    assert notes == []
