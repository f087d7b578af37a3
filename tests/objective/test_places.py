"""Where a term reads: what ``at`` may say, in Python and in a recipe."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.objective import Objective, term

ONE = (("layer3", "blocks.2"),)
TWO = (("layer2", "a"), ("layer3", "b"))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, None),
        ("pooled", "pooled"),
        ("each_stage", "each_stage"),
        ("layer3", (("layer3", "layer3"),)),
        (("layer3", "blocks.2"), ONE),
        (["layer3", "blocks.2"], ONE),
        ([("layer2", "a"), ["layer3", "b"]], TWO),
        ({"teacher": "layer3", "student": "blocks.2"}, ONE),
        ({"student": ["a", "b"], "teacher": ["layer2", "layer3"]}, TWO),
        (iter(TWO), TWO),
    ],
)
def test_what_at_may_say(at: Any, expected: Any) -> None:
    one = term("kl", at=at)
    assert one.at == expected
    assert one.place == (expected or "logits")
    again = Objective.from_recipe(json.loads(json.dumps(Objective([one]).to_recipe()))).terms[0]
    assert again.at == expected


@pytest.mark.parametrize(
    "at",
    [3, [], [[]], ["a", "b", "c"], [["a", "b"], "c"], [["a", "b", "c"]], [[1, 2]], {"teacher": "a"},
     {"teacher": "a", "stud": "b"}, {"teacher": ["a", "b"], "student": ["c"]}, {"teacher": [], "student": []},
     {"teacher": 1, "student": "b"}],
)  # fmt: skip
def test_mistakes(at: Any) -> None:
    with pytest.raises(RecipeError, match=r"objective.kl.at is .*, expected layers"):
        term("kl", at=at)


def test_a_weight_that_is_not_given_is_the_published_one() -> None:
    recipe = {"attention_transfer": {}, "rkd_distance": {"at": "fc:input"}, "sp": 2, "kl": {"temperature": 2}}
    weights = {one.name: one.weight for one in Objective.from_recipe(recipe).terms}
    assert weights == {"attention_transfer": 1000.0, "rkd_distance": 25.0, "sp": 2.0, "kl": 1.0}
    assert term("attention_transfer").weight == 1000.0
    assert Objective([term("kl", 2.0, adapter="conv")]).to_recipe()["kl"]["adapter"] == "conv"
    with pytest.raises(RecipeError, match=r"objective.kl.adapter is 3"):
        term("kl", adapter=3)  # type: ignore[arg-type]
