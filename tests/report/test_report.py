"""The page: right numbers, nothing live in it, and honest where something is missing."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import FileError
from limbeck.report import compare, results_rows
from limbeck.report.render import write_report

_SPEC = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)
make_run = made.make_run


class Page(HTMLParser):
    """What a browser would see: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.cells: list[str] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in {"td", "th"}:
            self.cells.append("")

        self.in_cell = tag in {"td", "th"} or (self.in_cell and tag != "tr")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"td", "th"}:
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.in_cell:
            self.cells[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_the_table_shows_the_numbers_of_the_summary(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "r"))
    for shown in ("98.00 %", "91.00 %", "96.00 %", "+5.00 (+2.00 to +8.00)", "40.00 %", "3.10 %", "66,154", "15.4 kB"):
        assert shown in page.text, shown
    for cell in ("0.0512 ms", "42,752", "19,891", "2.4e-07", "97.00 %", "e" * 64):
        assert cell in page.cells, cell
    assert "The student beats its control." in page.text


def test_rows_for_the_terminal(tmp_path: Path) -> None:
    summary = json.loads((make_run(tmp_path / "r") / "summary.json").read_text())
    heads, rows = results_rows(summary)
    assert heads[1] == "test accuracy"
    assert [row[:2] for row in rows] == [
        ["teacher", "98.00 %"], ["control", "91.00 %"], ["student", "96.00 %"], ["most frequent class", "40.00 %"],
    ]  # fmt: skip
    assert rows[2][3] == "+5.00 (+2.00 to +8.00)"


def test_runs_side_by_side(tmp_path: Path) -> None:
    rows = compare([make_run(tmp_path / "a"), make_run(tmp_path / "b", roles=("teacher", "student"))])
    assert [(row["teacher"], row["control"], row["student"]) for row in rows] == [
        (0.98, pytest.approx(0.91), pytest.approx(0.96)),
        (0.98, None, pytest.approx(0.96)),
    ]


PAYLOADS = [
    template.format(n)
    for n in range(10)
    for template in (
        "<script>alert({})</script>",
        '"><img src=x onerror=alert({})>',
        "'><svg onload=alert({})>",
        "</style><script>alert({})</script>",
        '<a href="javascript:alert({})">x</a>',
    )
]


@pytest.mark.parametrize("where", ["classes", "name", "finding", "file", "slices", "pictures", "search", "terms"])
def test_fifty_payloads_stay_text(tmp_path: Path, where: str) -> None:
    assert len(PAYLOADS) == 50
    joined = "".join(PAYLOADS)
    finding = [
        {"code": one, "severity": one, "message": one, "evidence": {one: [one, {one: one}]}, "cause": one, "cure": one}
        for one in PAYLOADS
    ]
    changes: dict[str, Any] = {
        "classes": {"classes": [*PAYLOADS[:12], *CLASSES_REST]},
        "name": {"name": joined},
        "finding": {"findings": finding},
        "file": {"file_name": joined},
    }
    folder = make_run(tmp_path / "r", **changes.get(where, {}))
    if where == "classes":
        made.add_scores(folder, positive=PAYLOADS[0])
    if where == "slices":
        made.add_scores(folder, site=joined)
    if where == "pictures":
        made.add_pictures(folder, name=joined, why=joined)
    if where == "search":
        changed = json.loads((folder / "summary.json").read_text())
        point = {"temperature": joined, "supervised": joined, "accuracy": 0.5, "loss": 1.0}
        changed["objective_search"] = {"points": [point], "chosen": {"temperature": joined}}
        (folder / "summary.json").write_text(json.dumps(changed))
    if where == "terms":
        one = {"values": [2.0, 1.0], "weights": [1.0, 0.5], "gradient": [1.0, 2.0]}
        told = {"loss": joined, "weight": 1.0, "at": [[joined, joined]], "schedule": {"warmup": 2}}
        terms = [*PAYLOADS[:7], joined]
        layers = [[PAYLOADS[0], *[joined] * 3]]
        made.add_terms(folder, dict.fromkeys(terms, one), dict.fromkeys(terms, told), layers=layers)
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "iframe", "object", "embed", "base", "form", "link"}]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            allowed = {"title", "alt", "class", "aria-label"}
            assert "javascript:" not in (value or "") or name in allowed, (tag, name, value)
        if tag == "img":
            assert (attributes["src"] or "").startswith(("data:image/png;base64,", "data:image/jpeg;base64,"))
    assert "alert(1" in html.unescape(text)  # the payload is there, as text
    assert "<script" not in text.lower()


CLASSES_REST = PAYLOADS[12:]


def test_a_check_of_payloads_can_fail() -> None:
    page = Page('<script>alert(1)</script><img src=x onerror="alert(1)">')
    assert [tag for tag, _ in page.tags] == ["script", "img"]
    assert "onerror" in page.tags[1][1]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "r"))
    policies = [one["content"] for tag, one in page.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policies
    assert policies[0] is not None
    assert policies[0].startswith("default-src 'none'")
    for _tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name) or "#"
            assert value.startswith(("data:", "#")), value


@pytest.mark.parametrize("change", ["control", "gallery", "exports", "curves"])
def test_what_is_missing_is_left_out_or_said(tmp_path: Path, change: str) -> None:
    folder = make_run(
        tmp_path / "r", roles=("teacher", "student") if change == "control" else ("teacher", "control", "student")
    )
    if change == "gallery":
        (folder / "evaluation/gallery.json").unlink()
    if change == "exports":
        summary = json.loads((folder / "summary.json").read_text())
        (folder / "summary.json").write_text(json.dumps({**summary, "exports": []}))
    if change == "curves":
        shutil.rmtree(folder / "models")
    page = page_of(folder)
    said = {
        "control": "student",
        "gallery": "None to show",
        "exports": "Nothing was exported",
        "curves": "Selected and last epoch",
    }
    assert said[change] in page.text
    assert ("by epoch" in str(page.tags)) == (change != "curves")


def test_scores_are_shown_for_each_model(tmp_path: Path) -> None:
    page = page_of(made.add_scores(make_run(tmp_path / "r")))
    labels = [one.get("aria-label") for tag, one in page.tags if tag == "svg"]
    assert [one for one in labels if one and one.startswith("reliability")] == [
        f"reliability of the {role}" for role in ("teacher", "control", "student")
    ]
    assert sum("precision against recall" in (one or "") for one in labels) == 1  # of the positive class alone
    assert "true against false positive rate" in labels
    assert "student, test, seed 1: calibration error 3.10 %" in page.text
    for row in ("95.0 % 99.0 % 75", "55.0 % 40.0 % 25"):  # teacher's bins: confidence, accuracy, count
        assert row in " ".join(page.cells)
    # The interval of the draw of the samples, of the seed that ships; the operating point; the slices.
    assert "80.00 to 90.00 (control), 86.00 to 96.00 (student)" in page.text
    assert "0.3125 90.0 % validation 87.50 % – 76.00 % 61.00 to 79.00" in " ".join(page.cells)
    assert "70 45.0 % 90.0 % 81.0 % 87.0 % 71.0 % 71.0 % 71.0 %" in " ".join(page.cells)
    assert "15 (few) 66.0 % 91.0 % 82.0 % 88.0 % – – –" in " ".join(page.cells)


def test_columns_of_the_results_are_those_that_say_something(tmp_path: Path) -> None:
    page = page_of(made.add_scores(make_run(tmp_path / "r"), metric="f1"))
    heads = [
        "model", "seeds", "F1", "95 % interval of F1", "to control, points", "accuracy", "balanced accuracy", "AUC",
        "average precision", "calibration error", "agrees with teacher",
    ]  # fmt: skip
    assert page.cells[: len(heads)] == heads
    rows = page.cells[len(heads) :]
    row = rows.index("most frequent class")
    assert rows[row : row + len(heads)] == [
        "most frequent class", "–", "–", "–", "–", "40.00 %", "33.33 %", "50.00 %", "–", "–", "–",
    ]  # fmt: skip
    assert "Models are compared by F1." in page.text
    plain = page_of(make_run(tmp_path / "plain"))
    assert "balanced accuracy" not in plain.cells
    assert "AUC" not in plain.cells


def test_a_loss_is_no_percentage(tmp_path: Path) -> None:
    folder = made.add_scores(make_run(tmp_path / "r"), metric="loss")
    summary = json.loads((folder / "summary.json").read_text())
    heads, rows = results_rows(summary)
    assert (heads[1], heads[3], heads[4]) == ("test loss", "to control", "accuracy")
    assert rows[2][1:5] == ["0.2500", "–", "+0.0500 (+0.0200 to +0.0800)", "96.00 %"]
    assert rows[3][4] == "40.00 %"
    assert "0.8600 to 0.9600 (student)" in page_of(folder).text


def test_of_many_classes_the_worst_are_drawn(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(14)]
    folder = made.add_scores(make_run(tmp_path / "r", classes=names), positive="")
    page = page_of(folder)
    assert "Of 14 classes the 10 that the student orders worst." in page.text
    for number, name in enumerate(names):
        assert (f"Precision against recall of {name} ." in page.text) == (number < 10)


def test_an_older_folder_shows_nothing_of_what_it_lacks(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "r", findings=[{"code": "x", "severity": "info", "message": "as it was"}]))
    headings = [one.get("id") for tag, one in page.tags if tag == "h2"]
    assert headings == [
        "results", "findings", "sizes", "curves", "epochs", "confusion", "classes", "gallery", "files", "made",
    ]  # fmt: skip
    assert "as it was" in page.text
    for word in ("usual cause", "evidence", "another uncertainty", "None"):
        assert word not in page.text


def test_the_search_of_the_objective_is_told_with_its_choice(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r")
    summary = json.loads((folder / "summary.json").read_text())
    points = [
        {"temperature": t, "supervised": 0.1, "accuracy": t / 10, "loss": 1 / t, "seconds": 2.0}
        for t in (1.0, 2.0, 4.0)
    ]
    summary["objective_search"] = {
        "points": points, "chosen": {"temperature": 4.0, "supervised": 0.1}, "metric": "accuracy", "epochs": 3,
        "seconds": 6.0,
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    page = page_of(folder)
    assert "Short trainings of 3 epochs with the first seed, judged on validation only; they cost 6 s." in page.text
    cells = page.cells[page.cells.index("temperature") :][: 5 + 15]
    assert cells[-5:] == ["4", "0.1", "40.00 %", "0.2500", "chosen"]
    assert cells[5:10] == ["1", "0.1", "10.00 %", "1.0000", ""]


def test_findings_stand_by_severity_with_evidence_cause_and_cure(tmp_path: Path) -> None:
    found = [
        {"code": "c1", "severity": "info", "message": "m1", "evidence": {}, "cause": "", "cure": ""},
        {"code": "c2", "severity": "error", "message": "m2", "evidence": {"gap": 0.123456, "of": ["a", None]},
         "cause": "why2", "cure": "do2"},
        {"code": "c3", "severity": "warning", "message": "m3"},
    ]  # fmt: skip
    text = page_of(make_run(tmp_path / "r", findings=found)).text
    order = ["Errors", "m2", "gap 0.1235; of a, –", "why2", "do2", "Warnings", "m3", "To know", "m1"]
    places = [text.index(one, text.index("Findings")) for one in order]
    assert places == sorted(places)


def test_galleries_tell_their_kind_and_how_many_there_are(tmp_path: Path) -> None:
    page = page_of(made.add_pictures(make_run(tmp_path / "r")))
    for words in (
        "The student is wrong, the teacher right 1 of 30.",
        "The student is wrong, its control right 1 of 4.",
        "Student and teacher are wrong 1 of 2.",
        "The student's surest errors 1 of 32.",
        "pets/rex.jpg truth cat teacher : dog (88 %)",
    ):
        assert words in page.text.replace("teacher: ", "teacher : "), words
    pictures = [one for tag, one in page.tags if tag == "img"]
    assert all((one["src"] or "").startswith("data:image/jpeg;base64,") for one in pictures)
    assert all(one["alt"] for one in pictures)


def test_each_map_says_what_it_is(tmp_path: Path) -> None:
    page = page_of(made.add_pictures(make_run(tmp_path / "r")))
    assert "Teacher: no map (it is not a single torch module)." in page.text
    assert "Control: the input's gradient." in page.text
    assert "Student: Grad-CAM of layer features.9 , 4×5 positions." in page.text
    cells = [one.replace("\u00a0", " ") for one in page.cells]
    assert "no mapcat (90 %)" in cells
    assert "the map is zero everywheredog (60 %) – wrong" in cells
    assert "dog (70 %) – wrong" in cells
    alts = [one["alt"] for tag, one in page.tags if tag == "img"]
    assert "Grad-CAM of the student for dog, sample 7, pets/rex.jpg" in alts


@pytest.mark.parametrize("damage", ["missing", "cut", "lacking"])
def test_a_damaged_summary_is_named(tmp_path: Path, damage: str) -> None:
    folder = make_run(tmp_path / "r")
    file = folder / "summary.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text(file.read_text()[:200] if damage == "cut" else "{}")
    with pytest.raises(FileError, match=r"summary\.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_picture_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r")
    (tmp_path / "secret.png").write_bytes(b"secret")
    gallery = json.loads((folder / "evaluation/gallery.json").read_text())
    gallery["items"][0]["file"] = "../secret.png"
    (folder / "evaluation/gallery.json").write_text(json.dumps(gallery))
    with pytest.raises(FileError, match="not in the run folder"):
        write_report(folder)


def test_the_page_stays_below_six_megabytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", pictures=24, picture=(360, 360))
    assert 500_000 < write_report(folder).stat().st_size < 6_000_000
    more = make_run(tmp_path / "more", pictures=60, picture=(370, 370))
    assert 3_000_000 < write_report(more).stat().st_size < 6_000_000


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r")
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def chromium(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
        "--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", *options,
        page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env={**os.environ})


MEASURE = """<!doctype html><meta charset=utf-8><body style="margin:0">
<iframe src="{src}" style="width:{width}px;height:900px;border:0"
 onload="document.body.append('w=' + this.contentDocument.documentElement.scrollWidth + '.')"></iframe>"""


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None or sys.platform == "win32", reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(tmp_path: Path, width: int) -> None:
    folder = made.add_scores(make_run(tmp_path / "r", classes=["a" * 60, "dog", "cow"]), site="s" * 70)
    term = {"values": [2.0, 1.0], "weights": [1.0, 0.5], "gradient": [1.0, 2.0]}
    layers = [["t" * 60, "layer/" * 9, "block." * 9, "conv " * 20]]
    made.add_terms(folder, {"t" * 60: term, "kl": term}, {"t" * 60: {"loss": "l" * 40}}, layers=layers)
    made.add_costs(folder, {**made.STORE, "path": "/disk/" + "stores" * 20})
    page = write_report(made.add_pictures(folder, name="folder/" * 12 + "x.jpg"))
    for scheme in (0, 1):  # dark, light
        picture = tmp_path / f"{width}-{scheme}.png"
        size = f"--window-size={max(width, 500)},1200"
        done = chromium(
            page, tmp_path / "p", size, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={picture}"
        )
        assert "CONSOLE" not in done.stderr, done.stderr
        assert picture.stat().st_size > 10_000
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(src=page.as_uri(), width=width))
    dumped = chromium(
        frame, tmp_path / "q", "--dump-dom", "--allow-file-access-from-files", "--virtual-time-budget=4000"
    )
    assert f"w={width}." in dumped.stdout, dumped.stdout[-300:]
