"""``limbeck store info`` and ``limbeck store verify``: finished stores, unfinished ones, damaged ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from limbeck import cli
from limbeck.data.data import Data
from limbeck.store import Store
from limbeck.store.filling import Filling
from limbeck.store.inform import cells, inform
from limbeck.store.layout import Layout
from limbeck.teachers import Ensemble


def net(classes: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(75, classes))


@pytest.fixture(scope="module")
def data() -> Data:
    inputs = torch.rand(90, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    return Data((inputs, torch.arange(90) % 3))


OPTIONS: Any = {"views": 2, "seed": 3, "quiet": True, "device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    path = tmp_path_factory.mktemp("kept") / "store"
    Store.build(net(3), data, path, augmentation={"shift": 1, "color": {"hue": 0.1}, "flip": True}, **OPTIONS)
    return path


@pytest.fixture
def copied(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "copy"))


def leave(*args: Any) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["store", *map(str, args)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_info_says_what_it_is(kept: Path, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("info", kept) == 0
    out, err = capsys.readouterr()
    told = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in out.splitlines()}
    samples = len(data.train)
    manifest = json.loads((kept / "manifest.json").read_text())
    assert told["state"] == "finished"
    assert told["views"] == f"2 of {samples} samples: {2 * samples} records"
    assert told["record"] == "all 3 logits: 10 bytes"
    assert told["size"].startswith(f"{2 * samples * 10 / 1024:.1f} KiB in 1 file")
    assert told["teacher"].startswith(f"Sequential, {manifest['identity']['teacher']['weights'][:12]}, mean [")
    assert told["augmentation"] == "color.hue 0.1, flip on, shift 1"
    assert told["seed"] == "3"
    assert told["data"].startswith("3×5×5, 3 classes, contents ")
    assert told["precision"] == "fp32"
    assert told["asked about again"] == f"{2 * samples} of {2 * samples} views"
    assert told["same first class"].startswith("100.00%")
    assert f"torch {torch.__version__}" in told["built"]
    assert err == ""


def test_info_as_json_is_one_document(kept: Path, data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("info", kept, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    manifest = json.loads((kept / "manifest.json").read_text())
    records = 2 * len(data.train)
    assert (found["finished"], found["records"], found["known"], found["bytes"]) == (
        True,
        records,
        records,
        10 * records,
    )
    for key in ("identity", "certificate", "built", "record"):
        assert found[key] == manifest[key]
    assert found["faults"] == []


def test_info_of_an_ensemble_of_features_and_of_the_largest(tmp_path: Path, data: Data) -> None:
    both = Ensemble([net(3), net(3, 1)], (1, 3))
    Store.build(both, data, tmp_path / "s", top=2, temperatures=(4.0,), features=["2/0"],
                augmentation={"shift": 1, "mixup": 0.2}, sampling="balanced", **OPTIONS)  # fmt: skip
    told = dict(cells(inform(tmp_path / "s")))
    assert told["record"] == (
        "the 2 largest of 3 logits, the rest at temperature 4 of 2 members, features of 2/0 (75): 164 bytes"
    )
    assert told["teacher"] == "2 members"
    assert told["teacher 2"].endswith("share 0.75")
    assert told["mixed in"].startswith("balanced, labels ")
    assert "beyond the kept, temperature 4" in told


def test_info_says_how_far_an_unfinished_one_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records noted in several turns, in a shard of 5000 and one that is not begun."""
    layout = Layout(3)
    filling = Filling(tmp_path / "s", layout, 1500, 4, {"views": {"seed": 0, "count": 4}})
    for addresses in (np.arange(700), np.arange(1000, 1111), np.array([5999])):
        filling.put(addresses, np.zeros(len(addresses), layout.dtype))
        filling.flush()
    assert leave("info", tmp_path / "s", "--json") == 0  # while it is being made
    found = json.loads(capsys.readouterr().out)
    assert (found["finished"], found["known"], found["records"]) == (False, 812, 6000)
    filling.close()
    assert leave("info", tmp_path / "s") == 0
    assert "not finished: 812 of 6,000 records (13.5%); its command goes on" in capsys.readouterr().out
    assert leave("verify", tmp_path / "s") == 6
    assert "holds a store that is not finished" in capsys.readouterr().err


def test_info_changes_nothing(kept: Path) -> None:
    def seen() -> list[tuple[str, int, float]]:
        return sorted((one.name, one.stat().st_size, one.stat().st_mtime) for one in kept.iterdir())

    before = seen()
    assert leave("info", kept) == 0
    assert leave("verify", kept, "--quiet") == 0
    assert seen() == before


def test_verify_reads_everything(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("verify", kept, "--quiet") == 0
    assert "3 files of " in capsys.readouterr().out
    assert leave("verify", kept, "--quiet", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    size = sum(one.stat().st_size for one in kept.iterdir() if one.suffix in (".bin", ".safetensors"))
    assert (found["files"], found["bytes"]) == (3, size)


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


FAULTS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a bit of a record": ("shard-00000.bin", lambda path: flipped(path, 100)),
    "a bit of another split": ("said-validation.safetensors", lambda path: flipped(path, -1)),
    "a bit of the manifest": ("manifest.json", lambda path: flipped(path, 500)),
    "a shard cut off": ("shard-00000.bin", lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "a shard gone": ("shard-00000.bin", lambda path: path.unlink()),
    "another split gone": ("said-test.safetensors", lambda path: path.unlink()),
    "the manifest gone": ("manifest.json", lambda path: path.unlink()),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_names_the_file_that_is_not_as_it_was(
    copied: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, act = FAULTS[fault]
    act(copied / name)
    assert leave("verify", copied, "--quiet") == 6
    assert f"{copied / name}" in capsys.readouterr().err
    code = leave("info", copied)
    out, err = capsys.readouterr()
    if name == "manifest.json":
        assert code == 6
        assert name in err
    elif "bit" not in fault:  # sizes are looked at, contents are not
        assert code == 0
        assert "finished, and damaged since" in out
        assert f"{copied / name}" in out


@pytest.mark.parametrize("command", ["info", "verify"])
@pytest.mark.parametrize("path", ["nothing/here", "a file"])
def test_what_is_no_store(tmp_path: Path, command: str, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a file").write_text("x")
    assert leave(command, tmp_path / path) == 6
    assert str(tmp_path / path) in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"record": {}}', '{"record": [], "samples": 2, "views": 1}', '{"samples": 2}']
)
def test_a_beginning_that_does_not_tell_what_it_is(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "begin.json").write_text(text)
    assert leave("info", tmp_path) == 6
    assert "begin.json" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["identity", "certificate", "built"])
@pytest.mark.parametrize("value", [{"of": "tomorrow"}, {"data": 3, "temperatures": 3, "when": 3, "seconds": "long"}])
def test_what_another_version_wrote_is_passed_over(kept: Path, key: str, value: dict[str, Any]) -> None:
    found = inform(kept)
    told = dict(cells({**found, key: value}))
    assert told["record"] == "all 3 logits: 10 bytes"


def test_help_tells_of_recipes_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--help") == 0
    assert "RECIPE | info PATH | verify PATH" in capsys.readouterr().out
