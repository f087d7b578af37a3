"""The table of the names that a recipe may use is complete, and what is in it keeps the house's calling rules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType
from typing import Any

import pytest

from limbeck import losses
from limbeck.losses.declare import Compares
from limbeck.objective import term
from limbeck.objective.signatures import BUILT, EMPTY, GIVEN, asked, built, called, hyperparameters

ROOMS = ("contrastive", "dense", "features", "logits", "relations", "supervised")
NAMED = {
    "kl", "reverse_kl", "jsd", "logit_mse", "dkd", "nkd", "dist", "wsld", "teacher_free", "bernoulli_kl", "fitnet",
    "attention_transfer", "vid", "nst", "ickd", "pkd", "review", "simkd", "rkd_distance", "rkd_angle", "sp", "cc",
    "pkt", "crd", "pixel_kl", "cwd", "pairwise", "cross_entropy", "hard_labels",
}  # fmt: skip


def modules() -> list[ModuleType]:
    names = [one.name for one in pkgutil.walk_packages(losses.__path__, "limbeck.losses.")]
    return [importlib.import_module(name) for name in names]


def says_what_it_compares(value: Any) -> bool:
    return isinstance(vars(value).get("compares"), Compares)


def compared(found: list[ModuleType]) -> set[Any]:
    """Every public function or class of these modules that says what it compares."""
    return {
        value
        for module in found
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and says_what_it_compares(value) and name[0] != "_"
    }


def test_every_loss_of_every_module_is_in_the_table() -> None:
    assert compared(modules()) == set(losses.TABLE.values())
    assert set(losses.TABLE) >= NAMED
    assert list(losses.TABLE) == sorted(losses.TABLE)
    assert len(set(losses.TABLE.values())) == len(losses.TABLE), "a loss has one name"


def test_a_loss_that_is_in_no_table_is_found() -> None:
    module = ModuleType("planted")

    @losses.compares("logits")
    def forgotten(student: Any, teacher: Any) -> Any: ...

    module.forgotten = forgotten  # type: ignore[attr-defined]
    assert compared([module]) == {forgotten}


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_gives_its_losses_in_order(name: str) -> None:
    room = importlib.import_module(f"limbeck.losses.{name}")
    assert list(room.TABLE) == sorted(room.TABLE)
    assert room.__all__ == sorted(room.__all__, key=lambda one: (not one.isupper(), one.islower(), one)), (
        "as ruff sorts"
    )
    assert "TABLE" not in room.__all__
    for key, loss in room.TABLE.items():
        assert losses.TABLE[key] is loss
        assert getattr(losses, key) is loss, "the recipe's name can be imported"
        assert loss.__name__ in room.__all__
    assert {one for one in losses.TABLE.values() if one.__module__.startswith(room.__name__)} == set(
        room.TABLE.values()
    )


@pytest.mark.parametrize("name", losses.TABLE)
def test_a_loss_declares_what_it_uses(name: str) -> None:
    loss = losses.TABLE[name]
    assert says_what_it_compares(loss)
    takes = called(loss)
    positional = [key for key, one in takes.items() if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert positional in (["student", "teacher"], ["student"])
    assert "mask" not in takes or takes["mask"].default is None
    for key, one in hyperparameters(loss).items():
        assert one.default is not EMPTY, f"a recipe may leave {key} out"
        assert one.kind is inspect.Parameter.KEYWORD_ONLY, f"{key} must be given by name"
    assert term(name).name == name
    assert term(name).weight == losses.declared(loss).weight


@pytest.mark.parametrize("name", [name for name, loss in losses.TABLE.items() if built(loss)])
def test_a_module_asks_for_shapes_first_and_takes_no_hyperparameter_in_a_call(name: str) -> None:
    loss = losses.TABLE[name]
    assert asked(loss)[:2] == ("student_shape", "teacher_shape")
    assert set(asked(loss)) <= set(BUILT)
    assert set(called(loss)) <= set(GIVEN)
