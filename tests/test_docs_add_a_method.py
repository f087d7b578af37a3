"""The page on methods of one's own: its blocks run, in order, in one folder; what it says of mistakes holds."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

import limbeck
from limbeck import cli
from limbeck.files import read_json, write_json
from limbeck.losses.declare import Compares, Invariance, Site
from limbeck.objective.signatures import BUILT, GIVEN

PAGE = Path(limbeck.__file__).parents[2] / "docs" / "add_a_method.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
MISTAKES = """# not losses, all but the first
def fine(student, teacher): return (student - teacher).abs().mean(1)
def raises(student, teacher): return student[:, 99]
def other(teacher, student): return student
def nothing(student, teacher): return None
def unsummed(student, teacher): return student - teacher
"""


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.S | re.M)


def command(line: str) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(shlex.split(line)[1:])
    return int(left.value.code or 0)


def run_block(kind: str, text: str, names: dict[str, Any]) -> None:
    """One block: written if its first line names a file, else run."""
    named = re.match(r"# (\S+\.(?:py|yaml))\n", text)
    if named:
        Path(named[1]).write_text(text)
    elif kind == "sh":
        for line in text.splitlines():
            assert command(f"{line} --quiet" if line.split()[1] != "resume" else line) == 0, line
    elif ">>>" in text:
        said: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
        runner.run(
            doctest.DocTestParser().get_doctest(text, names, "page", None, 0), out=said.append, clear_globs=False
        )
        names.update(runner.test.globs)
        assert runner.failures == 0, "".join(said)
    else:
        assert kind == "python", f"a block of '{kind}' is not run"
        exec(text, names)  # noqa: S102


@pytest.fixture
def folder(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that Python imports from."""
    monkeypatch.syspath_prepend(str(in_tmp))
    yield in_tmp
    sys.modules.pop("my_methods", None)


def test_every_block_of_the_page_runs(folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    found = blocks(PAGE.read_text(encoding="utf-8"))
    assert {kind for kind, _ in found} == {"python", "yaml", "sh"}
    for kind, text in found:
        run_block(kind, text, names)
    # from Python: both losses were learned from, and what is trained beside the student does not ship
    objective = read_json(folder / "from_python" / "run.json")["recipe"]["objective"]
    assert objective["tvd"]["loss"] == "my_methods.tvd"
    assert objective["Cosine"]["at"] == [["layers.2", "layers.2"]]
    assert len(objective["tvd"]["source"]) == 64
    assert sum(one.numel() for one in names["result"].student.parameters()) == 65 * 8 + 9 * 10
    # from the recipe: the record says what was asked for, by which command, and with which text
    record = read_json(folder / "runs" / "mine" / "run.json")
    assert record["status"] == "done"
    assert record["recipe"]["objective"]["user/tvd"] == 1.0
    # another loss of the same name does not go on with what this one trained
    write_json(folder / "runs" / "mine" / "run.json", {**record, "status": "stopped"})
    (folder / "my_methods.py").write_text((folder / "my_methods.py").read_text().replace("temperature / 2 *", "2 *"))
    assert command("limbeck resume runs/mine --models my_methods.py") == 8
    swept = read_json(folder / "runs" / "mine-sweep" / "sweep.json")
    assert [one["values"]["objective.user/tvd"] for one in swept["points"]] == [0.5, 1]


def test_the_page_says_the_rules_that_hold() -> None:
    """Every parameter that a loss may be given, and everything that it may declare, is on the page."""
    text = PAGE.read_text(encoding="utf-8")
    declared = [key for key in Compares.__dataclass_fields__ if key != "site"]
    for name in (*GIVEN, *BUILT, *declared, *get_args(Site), *get_args(Invariance)):
        assert f"`{name}`" in text, name


def first_file(text: str) -> str:
    return next(block for _, block in blocks(text) if block.startswith("# my_methods.py"))


@pytest.mark.parametrize(
    ("objective", "models", "message"),
    [
        ("{supervised: 1, user/tvd: 1}", None, r"no term 'user/tvd'\n  cure: give the file .* --models FILE"),
        ("{supervised: 1, user/tdv: 1}", "my_methods.py", r"no term 'user/tdv'; did you mean 'user/tvd'\?"),
        ("{supervised: 1, mine: {loss: user/tv}}", "my_methods.py", r"no loss 'user/tv'; did you mean 'user/tvd'\?"),
        ("{supervised: 1, user/other: 1}", "mistakes.py", r"'user/other' takes \(teacher, student\).*'student'"),
        ("{supervised: 1, user/tvd: {temprature: 2}}", "my_methods.py", "did you mean 'temperature'"),
        ("{supervised: 1, user/raises: 1}", "mistakes.py", r"'user/raises' fails: IndexError.* mistakes.py, line 3\)"),
        ("{supervised: 1, user/nothing: 1}", "mistakes.py", "gives NoneType, expected a tensor"),
        ("{supervised: 1, user/unsummed: 1}", "mistakes.py", r"of shape \(32, 10\).*expected \(32,\)"),
    ],
)
def test_a_mistake_is_one_clear_line_before_anything_is_trained(
    folder: Path, capsys: pytest.CaptureFixture[str], objective: str, models: str | None, message: str
) -> None:
    (folder / "my_methods.py").write_text(first_file(PAGE.read_text(encoding="utf-8")))
    (folder / "mistakes.py").write_text(MISTAKES)
    recipe = {
        "data": {"source": "digits"},
        "teacher": {"model": "limbeck/digits_student", "epochs": 1},
        "student": {"model": "limbeck/digits_student", "epochs": 1},
        "objective": yaml.safe_load(objective),
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe))
    given = f" --models {models}" if models else ""
    assert command(f"limbeck run r.yaml --out r --quiet{given}") in (2, 4)
    said = capsys.readouterr().err.strip()
    assert re.search(message, said), said
    assert [line for line in said.splitlines() if not line.startswith("  cure: ")] == said.splitlines()[:1]
    assert not list((folder / "r").rglob("*.safetensors"))
