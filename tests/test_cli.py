"""The command line: what is passed on, what is printed where, and how it ends."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import limbeck
from limbeck import cli, errors
from limbeck.training.interrupt import Interrupted

SUMMARY = {
    "limbeck": "0.1.0",
    "models": {
        role: {
            "parameters": 3706, "weights_bytes": 15_400, "latency_ms": 0.05, "macs": 30_000, "runs": [{}, {}],
            "metrics": {"test": {"accuracy": accuracy, "agreement": 0.5}},
        }
        for role, accuracy in (("teacher", 0.99), ("control", 0.91), ("student", 0.95))
    },
    "intervals": {"student": {"mean": 0.95, "low": 0.94, "high": 0.96}},
    "difference": {"mean": 0.04, "low": 0.02, "high": 0.06, "seeds": 2},
    "verdict": "The verdict.",
    "findings": [
        {"code": "a", "severity": "warning", "message": "to be told"},
        {"code": "b", "severity": "info", "message": "to be left"},
    ],
}  # fmt: skip
COMPARED = {
    "run": "a run", "data": "digits", "fingerprint": "abc", "split": "test", "teacher": 0.99, "control": 0.91,
    "student": 0.95, "difference": SUMMARY["difference"], "parameters": 3706, "weights_bytes": 1, "latency_ms": 0.05,
    "metric": "accuracy", "majority_baseline": 0.1,
}  # fmt: skip
SWEPT = {
    "points": [
        {"values": {"seed": seed}, "seconds": 1.0, "student": {"mean": 0.9, "low": 0.8, "high": 1.0, "seeds": [0.9]}}
        for seed in (1, 2)
    ],
    "best": {"values": {"seed": 2}, "folder": "best", "summary": "The verdict."},
}


class Calls(list[dict[str, Any]]):
    """What the commands called, and what is raised instead, if anything."""

    error: BaseException | None = None

    def stand_in(self, name: str, result: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            self.append({"name": name, "given": given, **named})
            print("noise of a library")
            if self.error is not None:
                raise self.error
            return result

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    import limbeck.compress
    import limbeck.pipeline.run
    import limbeck.pipeline.sweep
    import limbeck.report
    import limbeck.report.render

    calls = Calls()
    result = SimpleNamespace(folder=Path("runs/x"), summary=SUMMARY)
    seen = [{"file": "a.png", "class": "seven", "probability": 0.75, "probabilities": {"seven": 0.75}}]
    for module, name, value in (
        (limbeck.pipeline.run, "execute", result),
        (limbeck.pipeline.run, "resume", result),
        (limbeck.pipeline.sweep, "sweep", SWEPT),
        (limbeck.pipeline.sweep, "resume", SWEPT),
        (limbeck.report.render, "write_report", None),
        (limbeck.compress, "predict_images", seen),
        (limbeck.report, "compare", [COMPARED, {**COMPARED, "run": "another"}]),
    ):
        monkeypatch.setattr(module, name, calls.stand_in(name, value))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIMBECK_TRACEBACK", raising=False)
    return calls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = {"teacher": {"model": "limbeck/cnn5"}, "student": {"model": "limbeck/cnn5"}}
    run = tmp_path / "a run"
    run.mkdir()
    (run / "run.json").write_text(json.dumps({"recipe": recipe, "command": "limbeck run x"}))
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    return run


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(args))
    assert isinstance(caught.value.code, int)
    return caught.value.code


# ---------------------------------------------------------------- what is passed on


def test_run_passes_the_recipe_on(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/limbeck", "run", "mine.yaml"])
    Path("mine.yaml").write_text("teacher: {model: limbeck/cnn5}\nstudent: {model: limbeck/cnn5}\n")
    assert leave("run", "mine.yaml", "--set", "seeds=2", "-s", "student.epochs=4", "-o", "out", "--models", "m.py") == 0
    (call,) = calls
    recipe, folder = call["given"]
    assert (recipe["name"], recipe["seeds"], recipe["student"]["epochs"]) == ("mine", 2, 4)
    assert (folder, call["models"], call["quiet"]) == (Path("out"), Path("m.py"), False)
    assert call["command"] == "limbeck run mine.yaml"


def test_demo_runs_the_packaged_digits(calls: Calls) -> None:
    assert leave("demo") == 0
    assert leave("demo", "--quick", "--quiet") == 0
    (full, folder), (short, short_folder) = calls[0]["given"], calls[1]["given"]
    assert (full["data"]["source"], full["student"]["labels"], full["seeds"]) == ("digits", 200, 5)
    assert folder == Path("runs/demo")
    assert (short["name"], short["seeds"], short_folder) == ("demo-quick", 1, Path("runs/demo-quick"))
    assert calls[1]["quiet"] is True


def test_resume_and_report(calls: Calls, folder: Path) -> None:
    assert leave("resume", str(folder), "-q") == 0
    assert leave("report", str(folder)) == 0
    assert [call["name"] for call in calls] == ["resume", "write_report"]
    assert calls[0]["given"] == (folder,)


def test_sweep_and_its_resume(calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("sweep", "digits", "objective.kl.temperature=1,2.5", "student.optimizer.name=sgd,adam") == 0
    _, grid, folder = calls[0]["given"]
    assert grid == {"objective.kl.temperature": [1, 2.5], "student.optimizer.name": ["sgd", "adam"]}
    assert folder == Path("runs/demo-sweep")
    out = capsys.readouterr().out
    assert "Chosen on validation: seed=2" in out
    (tmp_path / "sweep.json").write_text("{}")
    assert leave("resume", str(tmp_path)) == 0
    assert calls[1]["given"] == (tmp_path,)


@pytest.mark.parametrize("item", ["seeds", "=1", "seeds=", "seeds=1,1", "a b=1", "seeds=[1"])
def test_a_wrong_grid(item: str, calls: Calls) -> None:
    assert leave("sweep", "digits", item) == 2
    assert not calls


def test_predict(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("predict", "s.onnx", "a.png", "b.png") == 0
    assert calls[0]["given"] == (Path("s.onnx"), [Path("a.png"), Path("b.png")])
    assert re.search(r"a\.png +seven +0\.750", capsys.readouterr().out)


def test_predict_says_what_the_threshold_decides(
    calls: Calls, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {"class": "no", "probability": 0.75, "positive": "yes", "threshold": 0.2}
    said = [{**seen, "file": "a.png", "decision": True}, {**seen, "file": "b.png", "decision": False}]
    monkeypatch.setattr(limbeck.compress, "predict_images", calls.stand_in("predict_images", said))
    assert leave("predict", "s.onnx", "a.png", "b.png") == 0
    out = capsys.readouterr().out
    assert "yes (from 0.200)" in out
    assert re.search(r"a\.png +no +0\.750 +yes", out)
    assert re.search(r"b\.png +no +0\.750 +no", out)


def test_compare(calls: Calls, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("compare", str(folder), str(folder)) == 0
    assert calls[0]["given"] == ([folder, folder],)
    out = capsys.readouterr().out
    assert out.count("95.00 %") == 2
    assert out.count("+4.00 (+2.00 to +6.00)") == 2
    assert "not on the same data" not in out


def test_compare_says_that_the_data_differ(
    calls: Calls, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [COMPARED, {**COMPARED, "fingerprint": "other"}]
    monkeypatch.setattr(limbeck.report, "compare", calls.stand_in("compare", rows))
    assert leave("compare", str(folder)) == 0
    assert "not on the same data" in capsys.readouterr().out


def test_the_results_are_told(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("run", "digits") == 0
    out = capsys.readouterr().out
    for text in (
        "95.00 %",
        "94.00 to 96.00",
        "3,706",
        "15.4 kB",
        "The verdict.",
        "warning: to be told",
        "runs/x/report.html",
    ):
        assert text in out
    assert "to be left" not in out


# ---------------------------------------------------------------- what is printed where


@pytest.mark.parametrize(
    "args",
    [
        ["run", "digits", "--json"],
        ["demo", "--json"],
        ["sweep", "digits", "seed=1,2", "--json"],
        ["resume", "a run", "--json"],
        ["report", "a run", "--json"],
        ["compare", "a run", "--json"],
        ["predict", "s.onnx", "a.png", "--json"],
        ["schema"],
    ],
    ids=lambda args: args[0],
)
def test_json_is_one_document_and_nothing_else(
    args: list[str], calls: Calls, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(*args) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "noise of a library" not in out
    assert ("noise of a library" in err) == bool(calls)


def test_an_error_leaves_standard_output_empty(calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    calls.error = errors.DataError("split 'train' is empty", cure="look")
    assert leave("run", "digits", "--json") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "limbeck: split 'train' is empty\n  cure: look\n" in err


def test_version_help_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave("--version") == 0
    assert capsys.readouterr().out == f"limbeck {limbeck.__version__}\n"
    assert leave("--help") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for command in ("demo", "run", "resume", "report", "compare", "sweep", "predict", "schema", "doctor"):
        assert f" {command} " in text
    for code, meaning in cli.EXIT_CODES.items():
        assert f"{code} {meaning}" in text
    assert "--install-completion" in text


# ---------------------------------------------------------------- how it ends


def test_the_documented_exit_codes_are_the_errors_own() -> None:
    kinds = [errors.RecipeError, errors.DataError, errors.ModelError, errors.NumericsError, errors.FileError,
             errors.ExportError, errors.ResumeError]  # fmt: skip
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 6, 7, 8]
    assert {0, 1, *range(2, 9), 9, 130, 143} == set(cli.EXIT_CODES)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RecipeError("x"), 2),
        (errors.DataError("x"), 3),
        (errors.ModelError("x"), 4),
        (errors.NumericsError("x"), 5),
        (errors.FileError("x"), 6),
        (errors.ExportError("x"), 7),
        (errors.ResumeError("x"), 8),
        (Interrupted(signal.SIGINT), 130),
        (Interrupted(signal.SIGTERM), 143),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device", "w.safetensors"), 6),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), 6),
        (ZeroDivisionError("a surprise\nin two lines"), 1),
        (MemoryError(), 1),
        (RecursionError("deep"), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_error_ends_in_a_message_and_its_code(
    error: BaseException, code: int, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.error = error
    assert leave("run", "digits") == code
    err = capsys.readouterr().err
    assert "limbeck: " in err
    assert "Traceback" not in err
    assert err.strip()
    if code == 1:
        assert f"unexpected {type(error).__name__}" in err
        assert "LIMBECK_TRACEBACK=1" in err
        assert len(err.splitlines()) == 1


def test_a_traceback_when_asked_for(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    calls.error = ZeroDivisionError("a surprise")
    monkeypatch.setenv("LIMBECK_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "digits"])


def test_an_interrupted_run_says_how_to_go_on(calls: Calls, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls.error = KeyboardInterrupt()
    assert leave("run", "digits", "--out", str(folder)) == 130
    assert f"limbeck resume '{folder}'" in capsys.readouterr().err
    assert leave("run", "digits", "--out", str(folder), "--models", "my own.py") == 130
    assert f"limbeck resume '{folder}' --models 'my own.py'\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["runn"], 2, "run"),
        (["run"], 2, "RECIPE"),
        (["run", "digits", "--jsn"], 2, "--json"),
        (["run", "nope.yaml"], 2, "no such recipe file"),
        (["run", "digts"], 2, "did you mean 'digits'?"),
        (["run", "digits", "--set", "student.epoch=3"], 2, "did you mean 'epochs'?"),
        (["run", "digits", "--set", "student.epochs"], 2, "expected key.path=value"),
        (["resume", "nowhere"], 8, "holds no run"),
        (["report", "nowhere"], 8, "holds no run"),
        (["compare", "nowhere"], 8, "holds no run"),
    ],
)
def test_usage(args: list[str], code: int, says: str, calls: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(*args) == code
    out, err = capsys.readouterr()
    assert says in err
    assert out == ""
    assert not calls


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", 6), ("{", 6), ("[]", 8), ("{}", 8), ('{"recipe": {"teacher": 3}, "command": "x"}', 2),
        ('{"recipe": {"teacher": {"model": "os.system"}, "student": {"model": "limbeck/cnn5"}}, "command": "x"}', 2),
    ],
)  # fmt: skip
def test_a_damaged_run_is_not_resumed(content: str, code: int, calls: Calls, folder: Path) -> None:
    (folder / "run.json").write_text(content)
    assert leave("resume", str(folder)) == code
    assert not calls


def test_an_unfinished_run_is_not_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "summary.json").unlink()
    assert leave("compare", str(folder)) == 8
    assert "limbeck resume" in capsys.readouterr().err


# ---------------------------------------------------------------- as a process


def process(*args: str, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "limbeck", *args], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    started = process("schema", cwd=tmp_path)
    assert started.stdout is not None
    assert started.stderr is not None
    started.stdout.close()
    err = started.stderr.read()
    assert started.wait(timeout=60) in (0, 1)
    assert "Traceback" not in err
    started.stderr.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_its_code_and_keeps_it(number: int, code: int, tmp_path: Path) -> None:
    args = ("run", "digits", "--set", "teacher.epochs=5000", "--set", "export=[]", "--out", "r")
    started = process(*args, cwd=tmp_path)
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("r/models/teacher/seed0/metrics.jsonl")) and started.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started.send_signal(number)
    _, err = started.communicate(timeout=60)
    assert started.returncode == code, err
    assert "Traceback" not in err
    assert "limbeck resume r" in err
    assert json.loads((tmp_path / "r" / "run.json").read_text())["status"] != "done"
    shutil.rmtree(tmp_path / "r")
