"""CIFAR and Fashion-MNIST in torchvision's folders: small files of their formats, whole and broken."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.data.sources.named import load
from limbeck.errors import DataError

RNG = np.random.default_rng(0)


def binary(root: Path, name: str) -> dict[str, tuple[Any, Any]]:
    """The published binary layout: label byte(s), then 3072 bytes, red, green and blue planes row by row."""
    fine = name == "cifar100"
    folder = root / ("cifar-100-binary" if fine else "cifar-10-batches-bin")
    folder.mkdir()
    classes = [f"thing {number}" for number in range(4)]
    (folder / ("fine_label_names.txt" if fine else "batches.meta.txt")).write_text("\n".join(classes) + "\n\n")
    train = ["train.bin"] if fine else [f"data_batch_{number}.bin" for number in range(1, 6)]
    made: dict[str, tuple[Any, Any]] = {}
    for split, files in (("train", train), ("test", ["test.bin" if fine else "test_batch.bin"])):
        parts = []
        for file in files:
            images, labels = RNG.integers(0, 256, (20, 3, 32, 32)).astype(np.uint8), np.arange(20) % 4
            with (folder / file).open("wb") as stream:
                for image, label in zip(images, labels, strict=True):
                    stream.write((b"\x63" if fine else b"") + bytes([label]) + image.tobytes())
            parts.append((images, labels))
        made[split] = tuple(map(np.concatenate, zip(*parts, strict=True)))  # type: ignore[assignment]
    return made


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_binary_version_is_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    made = binary(tmp_path, name)
    data = load(name, root=tmp_path, validation=4)
    assert data.classes == ("thing 0", "thing 1", "thing 2", "thing 3")
    assert torch.equal(data.test.inputs, torch.from_numpy(made["test"][0]))
    assert data.test.targets.tolist() == made["test"][1].tolist()
    parts = torch.cat([data.train.inputs, data.validation.inputs]).flatten(1).tolist()
    assert sorted(parts) == sorted(made["train"][0].reshape(len(made["train"][0]), -1).tolist())
    assert len(data.validation) == 4


def test_a_broken_binary_file_is_named(tmp_path: Path) -> None:
    binary(tmp_path, "cifar10")
    folder = tmp_path / "cifar-10-batches-bin"
    whole = (folder / "data_batch_3.bin").read_bytes()
    (folder / "data_batch_3.bin").write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"data_batch_3\.bin holds 61455 bytes, which is no multiple of 3073"):
        load("cifar10", root=tmp_path, validation=4)
    (folder / "data_batch_3.bin").write_bytes(b"\x09" + whole[1:])
    with pytest.raises(DataError, match="sample 40 of split 'train' has label 9"):
        load("cifar10", root=tmp_path, validation=4)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing"):
        load("cifar10", root=tmp_path, validation=4)
    (folder / "batches.meta.txt").unlink()
    with pytest.raises(DataError, match=r"batches\.meta\.txt can not be read"):
        load("cifar10", root=tmp_path, validation=4)


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(("name", "folder"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_a_pickle_that_is_not_the_published_one_is_never_read(tmp_path: Path, name: str, folder: str) -> None:
    mark = tmp_path / "it ran"
    (tmp_path / folder).mkdir()
    for file in ("batches.meta", "test_batch", *(f"data_batch_{at}" for at in range(1, 6)), "meta", "train", "test"):
        (tmp_path / folder / file).write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(DataError, match=f"{folder} is missing, or not what was published"):
        load(name, root=tmp_path)
    assert not mark.exists()
    with pytest.raises(DataError, match="download: true"):
        load(name, root=tmp_path / "nowhere")


def test_the_python_version_is_torchvisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    images, labels = RNG.integers(0, 256, (40, 32, 32, 3)).astype(np.uint8), [at % 2 for at in range(40)]
    asked = []

    class Published:
        base_folder, classes = "cifar-10-batches-py", ["cat", "dog"]

        def __init__(self, root: str, train: bool, download: bool = False) -> None:
            asked.append((root, train, download))
            self.data, self.targets = (images[:30], labels[:30]) if train else (images[30:], labels[30:])

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Published)
    data = load("cifar10", root=tmp_path, validation=6, download=True)
    assert asked == [(str(tmp_path), True, True), (str(tmp_path), False, False)]
    assert data.shape == (3, 32, 32)
    assert torch.equal(data.test.inputs, torch.from_numpy(images[30:]).permute(0, 3, 1, 2))
    assert data.classes == ("cat", "dog")


def test_fashion_mnist_is_four_idx_files(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images, labels = RNG.integers(0, 256, (40, 28, 28)).astype(np.uint8), (np.arange(40) % 10).astype(np.uint8)
    for stem in ("train", "t10k"):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    data = load("fashion_mnist", root=tmp_path, validation=10)
    assert data.classes[0] == "T-shirt/top"
    assert data.classes[9] == "Ankle boot"
    assert torch.equal(data.test.inputs[:, 0], torch.from_numpy(images))
    assert sum("copies" in note for note in data.notes) == 0
    assert len(data.duplicates()["train", "test"]) == 30
    with pytest.raises(DataError, match="FashionMNIST/raw"):
        load("fashion_mnist", root=tmp_path / "nowhere")
