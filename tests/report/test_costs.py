"""What the teacher cost: store, certificate and plan in the numbers of the summary, as far as there are any."""

from __future__ import annotations

import copy
import html
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limbeck.report.costs import seconds, told
from limbeck.report.read import read_run
from limbeck.report.render import write_report
from limbeck.report.tables import Table

_SPEC = importlib.util.spec_from_file_location("made", Path(__file__).with_name("made.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)


def section(folder: Path) -> str:
    """The section as it is in the file; empty if there is none."""
    text = write_report(folder).read_text(encoding="utf-8")
    found = re.search(r'<section class="costs".*?</section>', text, re.S)
    return found[0] if found else ""


def rows(text: str, label: str) -> list[list[str]]:
    """The cells of the table with that caption, row by row, without what is said of it in other ways."""
    table = re.search(rf"<caption[^>]*>{re.escape(label)}</caption>.*?</table>", text, re.S)
    assert table is not None, label
    lines = re.findall(r"<tr.*?</tr>", table[0], re.S)
    return [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.findall(r"<t[hd].*?</t[hd]>", line)]
        for line in lines
    ]


def words(text: str) -> str:
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", text)).split())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made.make_run(tmp_path / "r")


def test_the_certificate_stands_beside_its_bounds(run: Path) -> None:
    text = section(made.add_costs(run))
    assert rows(text, "How far what is kept is from the live teacher") == [
        ["live ‖ kept", "found", "bound"],
        ["KL, mean", "1.2e-09", "≤ 1e-05"],
        ["KL, 99th percentile", "2.5e-08", "≤ 0.0001"],
        ["same class first", "99.95 %", "≥ 99.90 %"],
        ["bytes a view", "24", "–"],
        ["error of features, pool", "0.00012", "≤ 0.01"],
    ]
    assert "The live teacher was asked again about 1,024 of the views." in words(text)
    assert "in nats at temperature 1 and 4, the larger of them, is how far" in words(text)


def test_what_is_kept_is_told(run: Path) -> None:
    text = words(section(made.add_costs(run)))
    for said in (
        "Of each of the 1,437 training samples 4 views were seen, again and again.",
        "said of these 5,748 pictures",
        "made filled in the first epochs of the first training that heard the teacher",
        "asked by this run 5,748 views in 3.25 s",
        "views of a sample 4",
        "kept of a view all 10 logits",
        "bytes 138 kB, 24 for a view",
        "folder /elsewhere/kept",
        "asks it in its first 4 epochs, and fills the store",
    ):
        assert said in text, said
    assert "known so far" not in text


def test_a_store_that_is_not_full_says_so(run: Path) -> None:
    store = {**made.STORE, "known": 5000, "certificate": {}, "path": str(run / "store"), "mode": "auto"}
    text = words(section(made.add_costs(run, store)))
    assert "known so far 5,000 of 5,748: no training saw the others" in text
    assert "folder store, in the run" in text
    assert "How well" not in text


def test_what_the_teacher_took_is_what_filling_took_longer(run: Path) -> None:
    plan = {**made.PLAN, "took": {"building": 9.5, "stored": 1.5}}  # 8 s more, in 3 of 4 views
    text = section(made.add_costs(run, {**made.STORE, "known": 4311}, plan))
    assert ["run, teacher alone", "32 s", "24 s", "0.75×"] in rows(text, "What was planned and what it took")


@pytest.mark.parametrize(("mode", "told"), [("built", True), ("read", True), ("auto", False)])
def test_how_long_building_took(run: Path, mode: str, told: bool) -> None:
    assert ("building took 3.5 s" in words(section(made.add_costs(run, {**made.STORE, "mode": mode})))) == told


def test_the_largest_logits_of_many_classes_are_told_with_what_lies_beyond(run: Path) -> None:
    record = {"classes": 1000, "top": 10, "temperatures": [1.0, 4.0], "features": [["head.pool", 64]]}
    sure = {"beyond_mean": 0.0125, "beyond_p99": 0.25, "bytes": 176}
    text = section(made.add_costs(run, {"mode": "read", "layout": record, "certificate": sure}, None))
    assert (
        "the 10 largest of 1,000 logits, and the weight of the others at temperature 1, 4; "
        "pooled features of head.pool (64)"
    ) in words(text)
    assert rows(text, "How far what is kept is from the live teacher") == [
        ["live ‖ kept", "found"],
        ["beyond the kept, mean", "1.25 %"],
        ["beyond the kept, 99th percentile", "25.00 %"],
        ["bytes a view", "176"],
    ]
    assert "was there before" in words(text)
    assert "building took" not in words(text)
    assert "fills the store" not in words(text)  # only a store that was filled meanwhile makes first epochs slow


def test_the_plan_stands_beside_what_the_run_took(run: Path) -> None:
    text = section(made.add_costs(run))
    assert rows(text, "What was planned and what it took") == [
        ["time and bytes", "planned", "took", "ratio"],
        ["epoch, no teacher", "1 s", "1.1 s", "1.10×"],
        ["epoch, live teacher", "9 s", "–", "–"],
        ["epoch, filling the store", "9.1 s", "9.5 s", "1.04×"],
        ["epoch, reading the store", "1.02 s", "1.05 s", "1.03×"],
        ["run, teacher alone", "32 s", "33.6 s", "1.05×"],
        ["run, live teacher", "270 s", "–", "–"],
        ["run, with the store", "62 s", "65.1 s", "1.05×"],
        ["bytes of the store", "138 kB", "138 kB", "1.00×"],
    ]
    assert "The plan would take store: auto : 62 s instead of 270 s." in words(text)
    labels = re.findall(r'aria-label="(seconds[^"]*)"', text)
    assert labels == [
        "seconds of every epoch: control from 1 s to 1 s; student from 9 s to 1.5 s",
        "seconds of an epoch, planned and taken: no teacher 1 s, 1.1 s; live teacher 9 s; "
        "filling the store 9.1 s, 9.5 s; reading the store 1.0 s, 1.1 s",
    ]


def test_bars_are_as_long_as_their_seconds(run: Path) -> None:
    text = section(made.add_costs(run))
    drawn = text[text.index("planned and taken") :]
    ends = []  # of each bar: a closed path of four corners, filled with a color of its own
    for path, style in re.findall(r'<path d="([^"]+?)" clip-path="[^"]*" style="([^"]*)"', drawn):
        corners = re.findall(r"[ML] ([\d.]+) ([\d.]+)", path)
        if "z" in path and "fill: var(" in style:
            across = [float(x) for x, _ in corners]
            ends.append(max(across) - min(across))
    by_hand = [1.0, 1.1, 9.0, 9.1, 9.5, 1.02, 1.05]
    assert len(ends) == len(by_hand)
    assert [one / ends[0] for one in ends] == pytest.approx([one / by_hand[0] for one in by_hand], rel=1e-3)


def test_seconds_of_an_epoch_come_from_means_over_all_so_far(run: Path) -> None:
    found = seconds(read_run(made.add_costs(run)))
    assert list(found) == ["control", "student"]
    assert found["student"][0] == pytest.approx([9.0, 9.0, 1.5])
    assert found["student"][1] == pytest.approx([1.5, 1.5, 1.5])
    assert found["control"][1] == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize(("store", "plan"), [(None, None), ({}, {}), ("x", [1])])
def test_without_store_and_plan_the_page_is_as_it_was(run: Path, store: Any, plan: Any) -> None:
    before = write_report(run).read_bytes()
    folder = made.add_costs(run, store, plan, journals=False)
    assert told(read_run(folder)) is None
    assert write_report(folder).read_bytes() == before


def _places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, one in value.items():
        yield (*path, key)
        if isinstance(one, dict):
            yield from _places(one, (*path, key))


PLACES = [*_places({"store": made.STORE, "plan": made.PLAN})]


def strings(value: Any) -> Iterator[str]:
    """Every text in nested data, of tables their rows."""
    if isinstance(value, Table):
        yield from strings([value.heads, value.rows])
    elif isinstance(value, dict):
        yield from strings(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


def test_every_place_of_the_summary_is_tried() -> None:
    assert len(PLACES) >= 40
    assert ("store", "certificate", "bounds", "kl_p99") in PLACES
    assert [*strings({"a": Table(["x"], [("y", ["z"])]), "b": (None, [1, "w"])})] == ["x", "y", "z", "w"]


STRANGE = ["gone", None, -1.0, float("nan"), float("inf"), True, [], [["a", 1]], {"a": [None]}]


@pytest.mark.parametrize("wrong", STRANGE, ids=str)
def test_what_is_missing_or_strange_is_left_out(run: Path, wrong: Any) -> None:
    found = read_run(made.add_costs(run))
    for place in PLACES:
        whole = {"store": copy.deepcopy(made.STORE), "plan": copy.deepcopy(made.PLAN)}
        holder: Any = whole
        for key in place[:-1]:
            holder = holder[key]
        holder[place[-1]] = wrong
        if wrong == "gone":
            del holder[place[-1]]
        found.summary.update(whole)
        shown = " ".join(strings(told(found)))
        assert not re.search(r"None|nan|inf|True|\[|\{", shown.replace("planned", "")), (place, shown)


@pytest.mark.parametrize("wrong", [None, 7], ids=str)
@pytest.mark.parametrize("key", [("store",), ("store", "certificate"), ("plan", "took")], ids=str)
def test_the_page_is_written_without_a_part(run: Path, key: tuple[str, ...], wrong: Any) -> None:
    whole: dict[str, Any] = {"store": copy.deepcopy(made.STORE), "plan": copy.deepcopy(made.PLAN)}
    (whole if len(key) == 1 else whole[key[0]])[key[-1]] = wrong
    text = section(made.add_costs(run, **whole))
    assert "What the teacher cost" in text
    assert "None" not in text


def test_the_page_is_written_of_almost_nothing(run: Path) -> None:
    text = section(
        made.add_costs(run, {"views": 1, "samples": 3, "path": "\0"}, {"planned": {"bytes": 72}}, journals=False)
    )
    assert "Each of the 3 training samples looked the same in every epoch." in words(text)
    assert rows(text, "What was planned and what it took")[1:] == [["bytes of the store", "72 B"]]
    assert "<svg" not in text


def test_words_of_a_store_stay_text(run: Path) -> None:
    live = '</style><script>alert(1)</script><img src=x onerror="alert(1)">'
    store = {**made.STORE, "path": live, "mode": live}
    store["layout"] = {**store["layout"], "features": [[live, 3]]}
    store["certificate"] = {**store["certificate"], "features": {live: 0.5}, "temperatures": {live: {}}}
    text = section(made.add_costs(run, store, {**made.PLAN, "take": live, "reason": live}))
    assert "<script" not in text
    assert "<img" not in text
    assert text.count("&lt;script&gt;alert(1)") == 6
