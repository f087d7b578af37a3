"""``limbeck plan``: numbers as they are typed, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck import cli
from limbeck.cli.plan import whole
from limbeck.errors import RecipeError
from limbeck.pipeline import planning
from limbeck.pipeline.planning import Numbers
from limbeck.store.layout import Layout
from limbeck.store.plan import Question, Rates, planned

RATES = Rates(
    teacher=1e-3, student=5e-4, control=5e-4, view=2e-5, write=4e-6, read=1.5e-6, seek=6e-5,
    disk_write=5e8, disk_read=2e9, free=56 * 10**9, memory=25 * 10**9,
)  # fmt: skip
MACHINE = {"processor": "A processor", "threads": 2, "computes": "cpu", "precision": "fp32", "batch": 128}


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", *args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command asks for; rates are given."""
    calls: list[Any] = []

    def stand_in(recipe: Any, folder: Path, numbers: Numbers, *, models: Path | None) -> dict[str, Any]:
        calls.append((recipe.name, folder, numbers, models))
        print("noise of a library")
        here = planned(Question(10_000, Layout(10), views=4, epochs=10, students=2, controls=2), RATES)
        layout = Layout.choose(numbers.classes or 10, temperatures=(4.0,))
        question = Question(numbers.samples or 10_000, layout, 20, 100, 2, 2, numbers.processes or 1)
        given = planned(question, RATES, elsewhere=True) if numbers else None
        last = given or here
        return {
            "rates": RATES.__dict__, "machine": MACHINE, "here": here.to_dict(), "given": given and given.to_dict(),
            "take": last.take, "reason": last.reason, "notes": ["times grow", "disks too"],
        }  # fmt: skip

    monkeypatch.setattr(planning, "plan_recipe", stand_in)
    return calls


def test_the_numbers_are_passed_on_and_both_are_shown(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--samples", "1e9", "--classes", "50000", "--views", "20", "--epochs", "10", "--gpus", "64"]
    assert leave("digits", *numbers, "--out", "some/where", "--models", "mine.py") == 0
    assert asked == [("demo", Path("some/where"), Numbers(10**9, 50_000, 20, 10, 64), Path("mine.py"))]
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert ["the", "teacher's", "forward", "1", "ms", "a", "sample"] in lines
    assert ["writing", "to", "the", "disk", "500", "MB/s"] in lines
    assert ["samples", "10,000", "1,000,000,000"] in lines
    # 10,000 samples · 10 epochs · (2 · 1.52 ms + 2 · 0.52 ms) = 408 s; 1e9 · 100 · 4.08 ms / 64 = 6,375,000 s
    assert ["online,", "all", "trainings", "7", "min", "74", "days"] in lines
    assert ["bytes", "of", "the", "store", "960", "kB", "920", "GB"] in lines
    assert ["fits", "the", "disk", "here", "yes", "no"] in lines
    assert "\nHere: store: auto. " in out
    assert "\nWith the given numbers: store. " in out
    assert out.endswith("Extrapolated: times grow; disks too.\n")


def test_without_numbers_there_is_one_column(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("digits", "-s", "name=mine") == 0
    assert asked == [("mine", Path("runs/mine"), Numbers(), None)]
    out = capsys.readouterr().out
    assert "given" not in out
    assert ["bytes", "of", "the", "store", "960", "kB"] in [line.split() for line in out.splitlines()]


def test_json_is_one_document_on_standard_output(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("digits", "--json", "--gpus", "8") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert (found["recipe"], found["take"], found["here"]["take"]) == ("demo", "store", "store: auto")
    assert found["rates"]["teacher"] == 1e-3
    assert err == "noise of a library\n"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("50000", 50_000), ("1e9", 10**9), ("1E9", 10**9), ("1e+9", 10**9), ("2.5e3", 2500), ("007", 7),
     ("1.0", 1), ("1e15", 10**15)],
)  # fmt: skip
def test_numbers_as_they_are_typed(text: str, number: int) -> None:
    assert whole(text, "--samples") == number


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "1.5", "1e-3", "x", "", "1e", "e9", "1_000", "1,000", "nan", "inf", "٣", " 7", "7\n", "1e999", "9" * 99,
     "0.5e1000"],
)  # fmt: skip
def test_what_is_no_whole_number_is_answered_by_name(text: str) -> None:
    with pytest.raises(RecipeError, match=r"(?s)^--views .*(is no whole number of at least 1|is more than 1e)"):
        whole(text, "--views")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["digits", "--samples", "many"], 2, "--samples many is no whole number of at least 1"),
        (["digits", "--gpus", "0"], 2, "--gpus 0 is no whole number of at least 1"),
        (["digits", "--epochs=-3"], 2, "--epochs -3 is no whole number"),
        (["digits", "--classes", "1"], 2, "--classes 1: there is nothing to tell apart"),
        (["digits", "--classes", "1e8"], 2, "--classes 1e8 is more than 1e+07"),
        (["digits", "--samples", "1e16"], 2, "--samples 1e16 is more than 1e+15"),
        (["nowhere.yaml"], 2, "nowhere.yaml"),
        (["digits", "--set", "student.epoch=1"], 2, "epochs"),
        (["digits", "--models", "nowhere.py"], 4, "nowhere.py"),
        ([], 2, "Missing argument 'RECIPE'"),
    ],
)
def test_bad_input_is_answered_in_a_line(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(*args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_a_loader_has_a_reason_and_no_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing: dict[str, Any] = {"rates": None, "here": None, "given": None, "take": "online", "reason": "a DataLoader"}
    monkeypatch.setattr(planning, "plan_recipe", lambda *given, **named: nothing | {"notes": []})
    assert leave("digits") == 0
    assert capsys.readouterr().out == "online: a DataLoader.\n"


def test_a_real_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("digits", "-s", "student.views.shift=1", "--views", "3", "--out", str(tmp_path / "run"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["given"]["bytes"] == 3 * 1005 * 24
    assert min(found["rates"].values()) > 0
    assert [*tmp_path.iterdir()] == []
