"""The page of a segmentation: the numbers of its folder, how the data were divided, and the pictures as they are."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.compress.card.card import model_card
from limbeck.data.scenes import IGNORED
from limbeck.errors import FileError
from limbeck.evaluation.dense.measures import margins, measure
from limbeck.evaluation.dense.palette import class_colors
from limbeck.evaluation.dense.told import chance
from limbeck.pipeline.result import Result
from limbeck.pipeline.tables import comparison
from limbeck.report import compare, dense, read, results_rows
from limbeck.report.render import write_report


def beside(name: str) -> Any:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(f"{name}_for_dense", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


made, browser = beside("made_dense"), beside("test_report")


class Page(HTMLParser):
    """What a browser would see: tags with attributes, cells, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"td", "th"}:
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.cells:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str, key: str) -> list[str]:
        return [one[key] or "" for name, one in self.tags if name == tag and key in one]


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def pictures_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [item["input"], item["truth"], item["disagreement"], *item["models"].values()]


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = made.make_dense_run(tmp_path_factory.mktemp("dense") / "r")
    return found


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return page_of(folder)


def test_the_tables_show_the_numbers_of_the_folder(folder: Path, page: Page) -> None:
    models = load(folder, "summary.json")["models"]
    cells = [" ".join(one.split()) for one in page.cells]
    names = ("mean_iou", "mean_dice", "pixel_accuracy", "micro_precision", "micro_recall", "macro_precision")
    for role in ("teacher", "control", "student"):
        test = models[role]["metrics"]["test"]
        row = cells.index(role)
        assert cells[row + 2] == f"{100 * test['mean_iou']:.2f} %"
        for name in names:
            assert f"{100 * test[name]:.2f} %" in cells[row : row + 13], (role, name)
    assert "+5.00 (+2.00 to +8.00)" in cells
    runs = [load(folder, f"evaluation/student-seed{seed}.json")["selected"]["test"] for seed in (0, 1)]
    for at, name in enumerate(made.CLASSES):
        row = cells.index(name, cells.index("IoU, student"))
        mean = sum(one["per_class"][at]["iou"] for one in runs) / 2
        assert cells[row + 1] == f"{runs[0]['per_class'][at]['support']:,}"
        assert cells[row + 5] == f"{100 * mean:.1f} %"  # share, then IoU of teacher, control, student
    confusion = np.array(runs[1]["confusion"])
    shares = 100 * confusion / confusion.sum(1, keepdims=True)
    row = len(cells) - 1 - cells[::-1].index(made.CLASSES[0])  # the student's matrix is the last one
    assert cells[row + 1 : row + 4] == [f"{one:.1f}" if one else "0" for one in shares[0]]


def test_every_table_names_its_split_and_the_division(folder: Path, page: Page) -> None:
    scored = load(folder, "evaluation/student-seed1.json")["selected"]["test"]
    counts = f"6 pictures with {scored['pixels']:,} labeled pixels and {scored['ignored']:,} without a label"
    assert f"Test split, {counts}, {made.DIVIDED}; the epoch was chosen on validation." in page.text
    for words in (
        "Test, divided by image; means over seeds.",
        "reloaded and scored; the data are divided by image.",
        "Student, test, divided by image, seed 1, epoch 2.",
        "Test split, divided by image, seed 1.",
        "IoU on test, divided by image, student minus control",
        "Validation split, divided by image: 10 of 12, drawn by seed 0",
    ):
        assert words in page.text, words
    headings = [one.get("id") for tag, one in page.tags if tag == "h2"]
    assert "gallery" not in headings
    assert headings[-6:] == ["each", "confusion", "classes", "segments", "files", "made"]
    assert "true against false positive rate" not in page.named("svg", "aria-label")
    assert "validation mean IoU, % by epoch" in page.named("svg", "aria-label")


def test_the_page_shows_the_pictures_as_they_were_said(folder: Path, page: Page) -> None:
    splits = made.made_splits(made.CLASSES)
    said = made.reading(splits["validation"], made.WRONG["student"] * 1.1, 21)  # of seed 1, the third role
    items = [one for one in load(folder, "evaluation/segments.json")["items"] if one["kind"] == "by_lot"]
    drawn = {one["alt"]: one["src"] or "" for tag, one in page.tags if tag == "img"}
    table = np.array(class_colors(3), dtype=np.uint8)
    assert len(items) == 10
    for item in items:
        data = base64.b64decode(drawn[f"labels by the student of {item['name']}"].split(",")[1])
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), table[said.labels[item["index"]].numpy()])
        region = splits["validation"].regions[item["index"]]
        kept = region.read()[1] != IGNORED
        right = (said.labels[item["index"]] == region.read()[1])[kept].double().mean()
        shares = item["disagreement"]["shares"]
        assert 1 - shares["student_wrong"] - shares["both_wrong"] == pytest.approx(float(right))
    assert len(page.named("img", "src")) == 6 * len(load(folder, "evaluation/segments.json")["items"])
    for words in (
        *made.CLASSES,
        "no label",
        "the student alone is wrong",
        "Best of the student",
        "Worst of the student",
    ):
        assert words in page.text, words


@pytest.mark.parametrize("roles", [("student",), ("teacher", "student")])
def test_what_a_run_lacks_is_left_out(tmp_path: Path, roles: tuple[str, ...]) -> None:
    folder = made.make_dense_run(tmp_path / "r", roles=roles, seeds=1, exports=False, note="2 files are aside")
    page = page_of(folder)
    alts = [one for one in page.named("img", "alt") if one.startswith("labels by")]
    assert {one.split(" of ")[0].removeprefix("labels by the ") for one in alts} == set(roles)
    assert ("the teacher alone is wrong" in page.text) == ("teacher" in roles)
    assert ("Where student and teacher differ most" in page.text) == ("teacher" in roles)
    assert "Change for each class" not in page.text
    assert ("agrees with teacher" in page.text) == ("teacher" in roles)
    assert "divided" not in page.text  # nothing says how
    assert "None" not in page.text


def test_a_damaged_color_and_a_picture_outside_are_refused(tmp_path: Path) -> None:
    folder = made.make_dense_run(tmp_path / "r", roles=("student",), seeds=1)
    told = load(folder, "evaluation/segments.json")
    file = folder / "evaluation/segments.json"
    for change in ("red; background: url(//x)", None):
        damaged = json.loads(json.dumps(told))
        damaged["legend"]["classes"][0]["color"] = change
        file.write_text(json.dumps(damaged))
        with pytest.raises(FileError, match=r"segments\.json: .* is no color"):
            dense.segments(read.read_run(folder))
    (tmp_path / "secret.png").write_bytes(b"secret")
    told["items"][0]["truth"]["file"] = "../secret.png"
    file.write_text(json.dumps(told))
    with pytest.raises(FileError, match="not in the run folder"):
        read.read_run(folder)


def test_names_stay_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    evil = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</style><script>alert(3)</script>"]
    names = "\"><svg onload=alert(4)>'{:03d}"
    folder = made.make_dense_run(tmp_path / "r", classes=evil, names=names, seeds=1, roles=("control", "student"))
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "iframe", "link", "object"}]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(one.startswith("data:image/") for one in page.named("img", "src"))
    assert "<script" not in text.lower()
    assert all(one in html.unescape(text) for one in evil)
    assert "onload=alert(4)" in page.text
    assert "Change for each class" in page.text
    assert "the teacher alone is wrong" not in page.text


def test_rows_that_the_page_has_no_room_for_are_left_out_and_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = load(folder, "evaluation/segments.json")["items"]
    pictures = [sum((folder / one["file"]).stat().st_size for one in pictures_of(item)) for item in items]
    monkeypatch.setattr(read, "MAX_PICTURES", sum(pictures[:4]))
    told = dense.segments(read.read_run(folder))
    assert told is not None
    kept = [(len(one["items"]), one["left_out"], one["of"]) for one in told["kinds"]]
    assert kept[0] == (4, 6, 12)
    shown = [one["data"].split(",")[1] for kind in told["kinds"] for i in kind["items"] for one in pictures_of(i)]
    assert sum(len(base64.b64decode(one)) for one in shown) == sum(pictures[:4])


def test_the_terminal_a_notebook_and_runs_side_by_side(folder: Path) -> None:
    summary = load(folder, "summary.json")
    heads, rows = results_rows(summary)
    assert heads[1] == "test mean IoU, divided by image"
    test = summary["models"]["student"]["metrics"]["test"]
    assert rows[2][:2] == ["student", f"{100 * test['mean_iou']:.2f} %"]
    assert rows[2][heads.index("pixel accuracy")] == f"{100 * test['pixel_accuracy']:.2f} %"
    assert rows[3][heads.index("pixel accuracy")] == f"{100 * test['majority_baseline']:.2f} %"
    assert "<th>test mean IoU, divided by image</th>" in Result(folder, summary)._repr_html_()
    row = compare([folder])[0]
    share = test["majority_baseline"]
    assert (row["divided"], row["majority"]) == ("divided by image", pytest.approx(share / 3))
    cells = comparison([row])[1][0]
    assert cells[1:3] == ["segmentation_folder, divided by image", "mean IoU"]
    assert cells[6] == f"{100 * share / 3:.2f} %"


@pytest.mark.parametrize("metric", ["mean_iou", "mean_dice", "pixel_accuracy", "macro_recall", "macro_precision"])
def test_what_a_constant_gives_is_what_the_metric_says_of_it(metric: str) -> None:
    counts = torch.zeros(4, 4)
    counts[:, 1] = torch.tensor([5.0, 9.0, 0.0, 6.0])
    assert chance(metric, 9 / 20, 3) == pytest.approx(float(measure(metric, margins(counts))))


def test_the_card_says_what_it_takes_how_it_was_divided_and_each_class(folder: Path) -> None:
    summary, run = load(folder, "summary.json"), load(folder, "run.json")
    evaluated = load(folder, "evaluation/student-seed1.json")
    told = {"shape": [3, 16, 16], "patch": [16, 16], "overlap": 0.25, "fit": "windows", "task": "segmentation"}
    told |= {"file": "student.safetensors", "bytes": 9, "sha256": "d" * 64}
    text = model_card(summary, run, told, evaluated)
    scored = evaluated["selected"]["test"]
    share = scored["ignored"] / (scored["ignored"] + scored["pixels"])
    assert f"| test | 6 | {scored['pixels']:,} | {scored['ignored']:,} ({100 * share:.2f} %) |" in text
    assert "| split | pictures | labeled pixels | without a label | mean IoU | mean Dice | pixel accuracy |" in text
    assert f"The data are {made.DIVIDED}." in text
    assert "Each class on test, divided by image:" in text
    for one in scored["per_class"]:
        assert f"| {one['class']} | {one['support']:,} |" in text
        assert f"| {100 * one['iou']:.2f} % | {100 * one['dice']:.2f} % |" in text
    assert "windows of 16×16, each of which shares 25 % of a side with the next" in text
    assert "limbeck predict student.onnx photo.jpg --out mask.png" in text
    assert f"test mean IoU {100 * summary['models']['student']['metrics']['test']['mean_iou']:.2f} %" in text
    without = model_card({**summary, "exports": []}, run, told, evaluated)
    assert "student.onnx" not in without
    assert "With PyTorch alone:" in without


@pytest.mark.browser
@pytest.mark.skipif(browser.CHROMIUM is None or sys.platform == "win32", reason="Chromium is not installed")
def test_on_a_phone_rows_wrap_and_nothing_is_wider_than_the_screen(tmp_path: Path) -> None:
    classes = ["a" * 70, "water", "road"]
    folder = made.make_dense_run(tmp_path / "r", classes=classes, names="tiles/" * 15 + "{:03d}", seeds=1)
    page, frame = write_report(folder), tmp_path / "frame.html"
    frame.write_text(browser.MEASURE.format(src=page.as_uri(), width=390))
    options = ("--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=4000")
    assert "w=390." in browser.chromium(frame, tmp_path / "q", *options).stdout
