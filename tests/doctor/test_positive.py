"""Two classes without a declared positive one."""

from __future__ import annotations

import torch

from limbeck.doctor.positive import undeclared


def test_a_rare_class_is_pointed_at_and_not_guessed() -> None:
    targets = torch.tensor([0] * 4 + [1] * 16 + [-1] * 50)
    (found,) = undeclared(targets, ["yes", "no"], None)
    assert (found.code, found.severity) == ("no_positive_class", "info")
    assert "'yes' is the rare one (20.0 %" in found.message
    assert "positive: yes" in found.cure
    assert found.evidence["shares"] == {"yes": 0.2, "no": 0.8}


def test_nothing_to_say() -> None:
    even = torch.tensor([0, 1] * 10)
    assert undeclared(even, ["a", "b"], None) == []
    assert undeclared(torch.tensor([0] * 9 + [1]), ["a", "b"], "b") == []
    assert undeclared(torch.tensor([0] * 9 + [1, 2]), ["a", "b", "c"], None) == []
    assert undeclared(torch.full((5,), -1), ["a", "b"], None) == []
