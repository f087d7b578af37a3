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


@pytest.mark.parametrize("where", ["classes", "name", "finding", "file"])
def test_fifty_payloads_stay_text(tmp_path: Path, where: str) -> None:
    assert len(PAYLOADS) == 50
    changes: dict[str, Any] = {
        "classes": {"classes": [*PAYLOADS[:12], *CLASSES_REST]},
        "name": {"name": "".join(PAYLOADS)},
        "finding": {"findings": [{"code": one, "severity": one, "message": one} for one in PAYLOADS]},
        "file": {"file_name": "".join(PAYLOADS)},
    }
    folder = make_run(tmp_path / "r", **changes[where])
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert not [tag for tag, _ in page.tags if tag in {"script", "iframe", "object", "embed", "base", "form", "link"}]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert "javascript:" not in (value or "") or name in {"title", "alt", "class"}, (tag, name, value)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
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
    page = write_report(make_run(tmp_path / "r", pictures=6, classes=["a" * 60, "dog", "cow"]))
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
