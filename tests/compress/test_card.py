"""The model card: each number beside its split, nothing in a name taken for markup."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from limbeck.compress.card import model_card

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
    assert "| test | 100 | 97.00 % | 96.00 % | 3.10 % | 91.00 % |" in text  # the shipped seed 1: 0.97
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
