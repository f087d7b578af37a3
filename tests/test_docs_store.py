"""The page of the store: its commands and blocks run, in order, in one folder; what its tables say holds."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import limbeck
from limbeck import cli
from limbeck.errors import ResumeError
from limbeck.files import read_json
from limbeck.losses import TABLE
from limbeck.objective import term
from limbeck.recipe.store_schema import StoreSpec
from limbeck.store.certificate import BOUNDS, COUNT
from limbeck.store.layout import Layout

PAGE = Path(limbeck.__file__).parents[2] / "docs" / "store.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
TEXT = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
SHORT = ["seeds=1", "export=[]", "student.epochs=5", "controls.control=false"]  # than the page shows


def command(line: str, capture: pytest.CaptureFixture[str]) -> str:
    """Run a line of the page; what it printed."""
    words = shlex.split(line, comments=True)
    extra = [part for one in SHORT for part in ("--set", one)] if "kept.yaml" in words else []
    extra += ["--quiet"] if "kept.yaml" in words and words[1] != "plan" else []
    capture.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([*words[1:], *extra])
    assert not left.value.code, line
    return capture.readouterr().out


def table(after: str) -> list[list[str]]:
    """The rows of the first table after some words of the page."""
    lines = TEXT[TEXT.index(after) :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows[2:]


def test_the_page_runs_in_order(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8), dtype=np.uint8)
    np.savez("digits.npz", x=pixels, y=np.arange(80) % 4)
    names: dict[str, Any] = {
        "teacher": limbeck.models.MLP((1, 8, 8), 4, hidden=[16]),
        "student": limbeck.models.MLP((1, 8, 8), 4, hidden=[4]),
    }
    said = {}
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.S | re.M):
        if named := re.match(r"# (\S+\.yaml)\n", text):
            Path(named[1]).write_text(text)
        elif kind == "sh":
            said |= {line.partition("  ")[0]: command(line, capsys) for line in text.splitlines()}
        else:
            assert kind == "python", f"a block of '{kind}' is not run"
            exec(text, names)  # noqa: S102
    first, second = (read_json(f"runs/{name}/summary.json")["store"] for name in ("kept", "second"))
    assert (first["views"], first["mode"], first["known"]) == (4, "auto", first["records"])
    assert (second["views"], second["mode"], second["path"]) == (8, "read", "stores/digits")
    assert "8 of 1,005 samples" in said["limbeck store info stores/digits"]
    assert names["store"].layout.stride == 12
    with pytest.raises(ResumeError, match=re.escape("views.shift: kept 1, now 2")):
        limbeck.Store.build(names["teacher"], names["data"], "stores/python", views=4, augmentation={"shift": 2})


def test_the_table_of_keys_is_that_of_the_recipe() -> None:
    assert [row[0].strip("`") for row in table("| key of")] == list(StoreSpec.model_fields)


def test_losses_work_with_the_largest_logits_as_the_page_says() -> None:
    works, largest, nothing, refused = (re.findall(r"`(\w+)`", row[1]) for row in table("| with the K largest"))
    terms = {name: term(name) for name in TABLE}
    by_reads = {
        reads: sorted(name for name, one in terms.items() if one.reads == reads and one.needs_teacher)
        for reads in ("groups", "largest", "all")
    }
    assert [sorted(works), sorted(largest), sorted(refused)] == [*by_reads.values()]
    pooled = [name for name, one in terms.items() if one.place == "pooled"]
    assert sorted(nothing) == sorted(["supervised", "teacher_free", *pooled])
    assert not terms["teacher_free"].needs_teacher


@pytest.mark.parametrize(
    ("said", "layout"),
    [
        ("24 for 10 classes", Layout(10)),
        ("48 for K = 10, T = 2", Layout(1000, top=10, temperatures=(1.0, 4.0))),
        ("48 for K = 10, T = 2, up to 65,536 classes", Layout(65536, top=10, temperatures=(1.0, 4.0))),
    ],
)
def test_bytes_are_those_of_records(said: str, layout: Layout) -> None:
    assert said in TEXT
    assert layout.stride == int(said.split()[0])


def test_numbers_of_the_page_are_right() -> None:
    assert f"16 views of CIFAR-10's 50,000 images are {16 * 50_000 * 24 / 1e6:.0f} MB" in TEXT
    assert f"of ImageNet's 1.28 million {16 * 1_281_167 * 48 / 1e6:.0f} MB" in TEXT
    assert (BOUNDS["kl_mean"], BOUNDS["kl_p99"], BOUNDS["agreement"], BOUNDS["features"]) == (0.001, 0.01, 0.99, 0.01)
    assert "(0.001 and 0.01 nats, 99 %; 1 % for features)" in TEXT
    assert f"up to {COUNT} views" in TEXT
    for link in re.findall(r"\]\(([\w/]+\.md)\)", TEXT):
        assert (PAGE.parent / link).exists(), link
