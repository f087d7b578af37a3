"""The model card: each number beside its split, nothing in a name taken for markup."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from limbeck.compress.card.card import model_card

_SPEC = importlib.util.spec_from_file_location("made_for_card", Path(__file__).parents[1] / "report" / "made.py")
assert _SPEC is not None
assert _SPEC.loader is not None
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)


def card(folder: Path, **changes: Any) -> str:
    made.make_run(folder, **changes)
    return model_card(*(json.loads((folder / name).read_text()) for name in ("summary.json", "run.json")))


def test_numbers_stand_beside_their_split(tmp_path: Path) -> None:
    text = card(tmp_path / "r")
    heads = "| split | samples | accuracy | always the most frequent class | macro F1 | calibration error | agreement"
    assert heads in text
    assert "| test | 100 | 97.00 % | 40.00 % | 96.00 % | 3.10 % | 91.00 % |" in text  # the shipped seed 1: 0.97
    assert "| student | 96.00 % | 2 | 3,706 | 15,392 |" in text
    assert "seed 1" in text
    assert "e" * 64 in text
    assert "1,000 train, 50 validation, 100 test" in text


def test_names_are_text(tmp_path: Path) -> None:
    text = card(tmp_path / "r", classes=["<script>alert(1)</script>", "a|b", "`c`"], name="run*")
    assert "<script" not in text
    assert "a\\|b" in text
    assert "\\`c\\`" in text
    assert "# run\\*" in text


STUDENT = {
    "model": "limbeck/cnn5",
    "shape": [3, 4, 4],
    "normalization": {"mean": [0.5, 0.25, 0.125], "std": [0.5, 0.5, 0.25]},
    "file": "student.safetensors",
    "bytes": 15_392,
    "sha256": "d" * 64,
}


def test_input_normalization_and_weights_are_told(tmp_path: Path) -> None:
    made.make_run(tmp_path / "r")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    text = model_card(summary, run, STUDENT)
    assert "`[batch, 3, 4, 4]`" in text
    assert "mean \\[0.5, 0.25, 0.125] and std \\[0.5, 0.5, 0.25]" in text
    assert f"`student.safetensors`: 15,392 bytes, sha256 `{'d' * 64}`" in text


def test_the_snippet_without_limbeck_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.make_run(tmp_path / "r")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    text = model_card(summary, run, STUDENT)
    snippet = next(one for one in re.findall(r"```python\n(.*?)```", text, re.S) if "safetensors" in one)
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    save_file(module.state_dict(), tmp_path / "student.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8)
    fresh = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"module": fresh, "pixels": pixels}
    exec(snippet, names)  # noqa: S102
    inputs = (pixels / 255 - np.array([0.5, 0.25, 0.125])[:, None, None]) / np.array([0.5, 0.5, 0.25])[:, None, None]
    weight, bias = (one.detach().numpy() for one in module.parameters())
    np.testing.assert_allclose(names["logits"][0].numpy(), weight @ inputs.ravel() + bias, atol=1e-5)


def test_code_and_entities_stay_what_they_are(tmp_path: Path) -> None:
    made.make_run(tmp_path / "r", classes=["&lt;b&gt;", "b", "c"], name="a\rb ```x")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    run["command"] = "limbeck run `id`\n# head"
    text = model_card(summary, run)
    assert "&amp;lt;b&amp;gt;" in text
    assert "`` limbeck run `id` # head ``" in text
    assert "# a b \\`\\`\\`x" in text
    assert "\n````yaml\n" in text  # the recipe holds the name: its fence is longer
    assert "a\\rb ```x" in text


def test_no_number_of_a_model_without_its_split(tmp_path: Path) -> None:
    for line in card(tmp_path / "r").splitlines():
        if " %" in line:
            assert re.search(r"\b(train|validation|test)\b", line) or line.startswith(
                tuple(f"| {role} |" for role in made.ACCURACY)
            ), line


def test_the_metric_of_comparison_comes_first_and_the_decision_is_told(tmp_path: Path) -> None:
    made.make_run(tmp_path / "r")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    summary["metric"] = "auc"
    for model in summary["models"].values():
        for scored in (model["metrics"], *(one["metrics"]["selected"] for one in model["runs"])):
            scored["test"] |= {"auc": 0.875, "balanced_accuracy": 0.75}
    point = {"threshold": 0.125, "specificity_wanted": 0.9, "sensitivity": 0.8, "specificity": 0.85}
    told = {**STUDENT, "positive": "cow", "operating_point": {**point, "chosen_on": "validation"}, "range": "bytes"}
    text = model_card(summary, run, told)
    assert "| split | samples | AUC | accuracy | always the most frequent class | balanced accuracy |" in text
    assert "| test | 100 | 87.50 % | 97.00 % | 40.00 % | 75.00 % |" in text
    assert "| student | 87.50 % | 2 |" in text
    assert "calls cow where that class's probability is at least 0.125 (chosen on validation" in text
    assert "specificity of 90.00 %); on test: sensitivity 80.00 %, specificity 85.00 %" in text


def test_floats_are_not_called_bytes_and_a_models_own_size_is_told(tmp_path: Path) -> None:
    made.make_run(tmp_path / "r")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    text = model_card(summary, run, {**STUDENT, "range": "raw", "input_size": [2, 2], "fit": "crop"})
    assert "bytes divided" not in text
    assert "numbers in the range of the training data" in text
    assert "limbeck predict" not in text
    assert "/ 255" not in text
    assert "largest centered part" in text
    snippet = next(one for one in re.findall(r"```python\n(.*?)```", text, re.S) if "safetensors" in one)
    lines = [line for line in snippet.splitlines() if line.startswith("inputs")]
    names: dict[str, Any] = {"torch": torch, "pixels": np.ones((3, 4, 4), dtype=np.float32)}
    exec(lines[0], names)  # noqa: S102
    assert names["inputs"].shape == (1, 3, 2, 2)


def test_what_was_stored_of_the_teacher_is_told(tmp_path: Path) -> None:
    made.make_run(tmp_path / "r")
    summary, run = (json.loads((tmp_path / "r" / name).read_text()) for name in ("summary.json", "run.json"))
    assert "stored" not in model_card(summary, run)
    assert "stored" not in model_card({**summary, "store": None}, run)
    assert (
        "It saw 4 views of each of 1,437 samples, again and again; what the teacher said of them was stored (KL of the "
        "stored from the live teacher 1.2e-09 nats in the mean, the same first class in 99.95 % of 1,024 views)."
    ) in model_card({**summary, "store": made.STORE}, run)
    part = {"views": 1, "samples": 3, "certificate": {}}
    assert "stored.\n" in model_card({**summary, "store": part}, run)
