"""Losses that are none of limbeck's: what they do wrong is told in a line, and another text is another stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, RecipeError
from limbeck.models.lookup import user_models
from limbeck.objective import Objective, Scene, bind, supervised, term
from limbeck.outputs import Outputs
from limbeck.recipe.overrides import parse_key
from limbeck.recipe.reading import read_text
from limbeck.teachers import ModuleTeacher

Write = Callable[[str], dict[str, Any]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """What a file of this text defines."""
    count = iter(range(99))

    def written(text: str) -> dict[str, Any]:
        path = tmp_path / f"mine{next(count)}.py"
        path.write_text(f"import torch\nfrom torch import nn\nfrom limbeck.losses import compares\n{text}")
        return user_models(path)

    return written


def scene() -> Scene:
    nets = [nn.Linear(2, 3) for _ in range(2)]
    return Scene(nets[0], lambda x: x, ModuleTeacher(nets[1]), torch.ones(4, 2), torch.zeros(4).long(), 3)


def test_a_users_loss_is_computed_once_before_training_and_limbecks_are_not(write: Write) -> None:
    mine = write("calls = []\ndef mine(student, teacher):\n    calls.append(1)\n    return (student - teacher).sum(1)")
    objective = Objective.from_recipe({"supervised": 1, "user/mine": 1}, mine)
    assert bind(objective, scene()) is objective
    assert objective.foreign
    assert not Objective([supervised(), term("kl")]).foreign
    bound = bind(objective, scene(), rehearse=True)
    assert [len(one.links) for one in bound.terms] == [0, 1]
    assert mine["mine"].__globals__["calls"] == [1]
    z = Outputs(torch.ones(4, 3))
    assert bound(z, Outputs(torch.zeros(4, 3)), target=torch.zeros(4).long())[1]["user/mine"] == 3.0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "raise ValueError('no\\nway')",
            r"^term 'user/mine' fails: ValueError: no way \(logits \(4, 3\); mine0.py, line 4\)",
        ),
        ("return None", "term 'user/mine' gives NoneType, expected a tensor"),
        ("return 1.0", "term 'user/mine' gives float, expected a tensor"),
        ("return (student - teacher) ** 2", r"gives a loss of shape \(4, 3\), that of the logits, expected \(4,\)"),
        ("return student[0]", r"gives a loss of shape \(3,\) for 4 samples"),
    ],
)
def test_what_is_wrong_with_it_is_told_by_term(write: Write, body: str, message: str) -> None:
    mine = write(f"def mine(student, teacher): {body}")
    with pytest.raises(ModelError, match=message):
        Objective.from_recipe({"user/mine": 1}, mine)(Outputs(torch.ones(4, 3)), Outputs(torch.ones(4, 3)))


def test_a_module_that_can_not_be_built_is_told_by_term(write: Write) -> None:
    mine = write("class Mine(nn.Module):\n    def __init__(self, width): ...\n    def forward(self, student): ...")
    with pytest.raises(RecipeError, match="'user/Mine' needs width"):
        Objective.from_recipe({"user/Mine": 1}, mine)
    mine = write("class Mine(nn.Module):\n    def __init__(self): 1 / 0\n    def forward(self, student): ...")
    with pytest.raises(ModelError, match=r"term 'user/Mine' fails: ZeroDivisionError.*mine1.py, line 5"):
        bind(Objective.from_recipe({"supervised": 1, "user/Mine": 1}, mine), scene())


def test_an_error_that_names_its_cure_is_left_as_it_is(write: Write) -> None:
    mine = write("from limbeck.losses import kl\ndef mine(student, teacher): return kl(student, teacher[:, :2])")
    with pytest.raises(ModelError, match=r"^loss 'kl' compares tensors of one shape"):
        Objective.from_recipe({"user/mine": 1}, mine)(Outputs(torch.ones(4, 3)), Outputs(torch.ones(4, 3)))


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("def mine(student): return student.sum(1)", "def mine(student): return student.mean(1)"),
        (
            "class mine(nn.Module):\n    def forward(self, student): return student.sum(1)",
            "class mine(nn.Module):\n    def forward(self, student): return student.mean(1)",
        ),
    ],
)
def test_another_text_of_the_same_name_is_another_objective(write: Write, text: str, other: str) -> None:
    def recorded(text: str) -> Any:
        found = Objective.from_recipe({"user/mine": 1}, write(text)).to_recipe()["user/mine"]
        return found["source"]

    assert recorded(text) == recorded(text) != recorded(other)


def test_what_has_no_text_has_no_digest() -> None:
    names: dict[str, Any] = {}
    exec("def mine(student): return student.sum(1)", names)  # noqa: S102
    assert "source" not in Objective([term(names["mine"])]).to_recipe()["mine"]


def test_limbecks_own_errors_pass_through_without_a_second_look() -> None:
    def mine(student: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        Objective([term(mine)])(Outputs(torch.ones(4, 3)), None)


def test_its_name_may_stand_in_a_setting_and_off_in_a_schedule() -> None:
    assert parse_key("objective.user/mine.weight") == ("objective", "user/mine", "weight")
    for wrong in ("objective.a/b", "objective.user/", "user/a/b", "user//a"):
        with pytest.raises(RecipeError, match="expected a key"):
            parse_key(wrong)
    text = "objective: {kl: {schedule: {off: 3}}}\nflag: off\nno: 1"
    assert read_text(text).data == {"objective": {"kl": {"schedule": {"off": 3}}}, "flag": False, "no": 1}
    with pytest.raises(RecipeError, match="keys are text, found true"):
        read_text("true: 1")
