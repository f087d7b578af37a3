"""Sources: files written here by hand, whole and broken."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.arrays import as_images
from limbeck.data.sources.idx import read_idx
from limbeck.data.sources.named import load
from limbeck.errors import DataError, RecipeError

RNG = np.random.default_rng(0)
KINDS = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The idx format: two zeros, the type (8: bytes), the number of axes, sizes in big-endian, values."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def small_mnist(root: Path, train: int = 100, test: int = 30, packed: bool = True) -> dict[str, np.ndarray[Any, Any]]:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    made = {}
    for stem, size in (("train", train), ("t10k", test)):
        arrays = {"images": RNG.integers(0, 256, (size, 28, 28)), "labels": np.arange(size) % 10}
        for kind, array in arrays.items():
            made[f"{stem}-{kind}"] = array
            path = folder / f"{stem}-{KINDS[kind]}"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return made


# mnist ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_is_read_packed_or_not_pixel_for_pixel(tmp_path: Path, packed: bool) -> None:
    made = small_mnist(tmp_path, packed=packed)
    data = load("mnist", root=tmp_path, validation=20)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 80, "validation": 20, "test": 30}
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(made["t10k-images"]).to(torch.uint8))
    assert data.test.targets.tolist() == made["t10k-labels"].tolist()
    assert data.classes == tuple("0123456789")
    assert data.shape == (1, 28, 28)
    assert data.validation.targets.bincount().tolist() == [2] * 10
    assert data.train.targets.bincount().tolist() == [8] * 10
    # Every training image is in exactly one part.
    parts = torch.cat([data.train.inputs, data.validation.inputs]).flatten(1).tolist()
    assert sorted(parts) == sorted(made["train-images"].reshape(100, -1).tolist())
    pixels = data.train.inputs.double() / 255
    assert data.normalization.mean[0] == pytest.approx(float(pixels.mean()), abs=1e-6)
    assert data.normalization.std[0] == pytest.approx(float(pixels.std(correction=0)), abs=1e-6)


def test_a_plain_file_is_taken_before_the_packed_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx(np.array([1, 2])))
    (tmp_path / "a.gz").write_bytes(b"not gzip")
    assert read_idx(tmp_path / "a", axes=1).tolist() == [1, 2]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:-100] + bytes(b ^ 0xFF for b in data[-100:-90]) + data[-90:]


BREAK = {
    "truncated": (cut, "damaged"),
    "flipped bits": (flipped, "damaged"),
    "empty": (lambda data: b"", "no idx file"),
    "not gzip": (lambda data: b"<html>not found</html>", "damaged"),
    "another magic": (lambda data: gzip.compress(struct.pack(">I", 2049) + gzip.decompress(data)[4:]), "3 axes"),
    "floats": (lambda data: gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(data)[4:]), "no idx file"),
    "pixels cut": (lambda data: gzip.compress(gzip.decompress(data)[:-1]), "holds 78399"),
    "pixels added": (lambda data: gzip.compress(gzip.decompress(data) + b"x"), "holds 78401"),
    "header cut": (lambda data: gzip.compress(gzip.decompress(data)[:9]), "no idx file"),
    "huge header": (lambda data: gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + gzip.decompress(data)[16:]), "damaged"),
    "lengths differ": (lambda data: gzip.compress(idx(np.zeros((99, 28, 28)))), "99 train images and 100 labels"),
    "no images": (lambda data: gzip.compress(idx(np.zeros((0, 28, 28)))), "0 train images"),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_broken_file_is_named_with_its_cure(tmp_path: Path, how: str) -> None:
    small_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    change, message = BREAK[how]
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        load("mnist", root=tmp_path, validation=20)
    text = str(caught.value)
    assert str(path.parent if "lengths" in how or how == "no images" else path) in text
    assert "download: true" in text


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is missing") as caught:
        load("mnist", root=tmp_path / "nowhere")
    assert "download: true" in str(caught.value)
    small_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is missing"):
        load("mnist", root=tmp_path, validation=20)


def test_a_label_beyond_nine_is_named(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    labels = np.arange(100) % 10
    labels[57] = 12
    (tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    with pytest.raises(DataError, match="sample 57 of split 'train' has label 12"):
        load("mnist", root=tmp_path, validation=20)


def test_download_is_asked_for_only_where_a_file_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    asked: list[Path] = []

    def fetch(root: str, download: bool) -> None:
        asked.append(Path(root))
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
    small_mnist(tmp_path)
    load("mnist", root=tmp_path, validation=20, download=True)
    assert asked == []
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="could not be downloaded"):
        load("mnist", root=tmp_path, validation=20, download=True)
    assert asked == [tmp_path]


# digits --------------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_divided_by_class_and_by_the_seed() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    truth = load_digits()
    inputs = torch.cat([split.inputs for split in data.splits.values()])
    assert inputs.shape == (1797, 1, 8, 8)
    rows = sorted((inputs * 16).to(torch.int64).flatten(1).tolist())
    assert rows == sorted(truth.data.astype(int).tolist())
    whole = np.bincount(truth.target)
    for split in data.splits.values():
        assert np.abs(split.targets.bincount().numpy() - whole * len(split) / 1797).max() < 1.5
    assert data.fingerprint() == load("digits").fingerprint()
    assert data.fingerprint() != load("digits", seed=1).fingerprint()
    assert data.normalization.std[0] > 0.3
    assert load("digits", validation=0.1, test=100).describe()["splits"] == {
        "train": 1527,
        "validation": 170,
        "test": 100,
    }


def test_an_unknown_source_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'digits'"):
        load("digit")
    with pytest.raises(RecipeError, match=r"data\.path"):
        load("arrays")
    with pytest.raises(RecipeError, match="normalization"):
        load("digits", normalization="autp")


def test_a_split_that_a_source_brings_is_not_divided_again(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    with pytest.raises(RecipeError, match="test split of its own"):
        load("mnist", root=tmp_path, test=0.2)
    with pytest.raises(DataError, match="5000 of 100"):
        load("mnist", root=tmp_path)


# arrays --------------------------------------------------------------------------------------------------------------


def pictures(size: int, *shape: int) -> np.ndarray[Any, Any]:
    return RNG.integers(0, 256, (size, *shape)).astype(np.uint8)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path / "data.npz", **arrays)
    return path / "data.npz"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((8, 6), (1, 8, 6)), ((8, 6, 3), (3, 8, 6)), ((8, 6, 1), (1, 8, 6)), ((3, 8, 6), (3, 8, 6)), ((4,), (4,)),
        ((8, 6, 4), (4, 8, 6)), ((3, 8, 3), (3, 8, 3)), ((5, 8, 6), (5, 8, 6)),
    ],
)  # fmt: skip
def test_the_layout_of_images_is_told_from_their_shape(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = pictures(5, *given)
    for found in (as_images(array), as_images(torch.from_numpy(array))):
        assert tuple(found.shape) == (5, *expected)
        if len(given) == 3 and given != expected:
            assert bool(
                (torch.as_tensor(found)[:, 1 % expected[0]] == torch.from_numpy(array)[..., 1 % given[2]]).all()
            )


def test_arrays_with_all_their_keys(tmp_path: Path) -> None:
    path = saved(
        tmp_path,
        x_train=pictures(20, 6, 5, 3), y_train=np.arange(20) % 2, x_validation=pictures(6, 6, 5, 3),
        y_validation=np.arange(6) % 2, x_test=pictures(8, 6, 5, 3), y_test=np.arange(8) % 2,
        unlabeled=pictures(7, 6, 5, 3), classes=np.array(["cat", "dog"]),
    )  # fmt: skip
    data = load("arrays", path=path)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 27, "validation": 6, "test": 8}
    assert data.train.labeled == 20
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 6, 5)
    assert data.notes == []


def test_arrays_of_one_table_are_divided_and_said_to_be(tmp_path: Path) -> None:
    data = load("arrays", path=saved(tmp_path, x=RNG.random((100, 7)), y=np.arange(100) % 4))
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 72, "validation": 8, "test": 20}
    assert data.test.targets.bincount().tolist() == [5] * 4
    assert len(data.notes) == 2
    assert "20 training samples were set aside" in data.notes[0]
    assert data.normalization.mean[0] == pytest.approx(0.5, abs=0.05)  # a file's floats are measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "no array 'x_train'"),
        ({"x": None, "y": None}, "no array 'x_train'"),
        ({"y": None}, "only one of"),
        ({"y": np.arange(19) % 2}, "20 inputs and 19 labels"),
        ({"y": np.eye(2)[np.arange(20) % 2]}, "'y_train' is float64"),
        ({"y": np.arange(20) % 2 * 2}, "no sample of class 1"),
        ({"y": -5 - np.arange(20)}, "label -5|no .*label|class"),
        ({"x": np.array([None] * 20)}, "not a whole .npz file of plain arrays"),
        ({"x": np.full((20, 3), np.nan)}, "NaN"),
        ({"x_trian": np.zeros(3)}, "unknown array 'x_trian'; did you mean 'x_train'"),
        ({"x_train": np.zeros((20, 3))}, "both 'x' and 'x_train'"),
        ({"x_test": np.zeros((4, 3))}, "only one of 'x_test' and 'y_test'"),
        ({"x_test": np.zeros((4, 9)), "y_test": np.arange(4) % 2}, r"shape \(9,\), those of 'train' \(3,\)"),
        ({"x_test": np.zeros((4, 3)), "y_test": np.zeros(4, dtype=int)}, "'test' has no sample of class 1"),
        ({"x_test": np.zeros((4, 3)), "y_test": np.arange(4)}, "label 2"),
        ({"x_test": np.zeros((0, 3)), "y_test": np.zeros(0, dtype=int)}, "'test' is empty"),
        ({"classes": np.array(["a", "b", "c"])}, "no sample of class c"),
        ({"classes": np.array(["a"])}, "label 1, expected 0 to 0"),
    ],
)
def test_a_mistake_in_arrays_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arrays = {"x": RNG.random((20, 3)), "y": np.arange(20) % 2, **change}
    path = saved(tmp_path, **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=message):
        load("arrays", path=path)


def test_every_damage_to_an_npz_file_is_a_data_error(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez_compressed(whole, x=RNG.random((40, 3)), y=np.arange(40) % 2)
    original = whole.read_bytes()
    path = tmp_path / "damaged.npz"
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(300):
        data = bytearray(original)
        if trial % 3 == 0:
            data = data[: rng.integers(len(data))]
        else:
            for at in rng.integers(len(data), size=3):
                data[at] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        try:
            load("arrays", path=path)
        except DataError:
            refused += 1
    assert refused > 250


def test_a_path_that_is_no_npz_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.npz is missing"):
        load("arrays", path=tmp_path / "nothing.npz")
    with pytest.raises(DataError, match="not a whole"):
        load("arrays", path=tmp_path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="not a whole"):
        load("arrays", path=tmp_path / "one.npy")
