"""The table of the names that a recipe may use is complete, and what is in it keeps the house's calling rules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch

from limbeck import losses
from limbeck.objective import term

HELPERS = {"limbeck.losses.shapes"}  # checks, no losses
GIVEN = {"student", "teacher", "target", "index", "mask"}


def modules() -> list[ModuleType]:
    names = [f"limbeck.losses.{one.name}" for one in pkgutil.iter_modules(losses.__path__)]
    return [importlib.import_module(name) for name in names if name not in HELPERS]


def functions(module: ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_public_function_of_every_module_is_in_the_table() -> None:
    found = {name: value for module in modules() for name, value in functions(module).items()}
    assert {"kl", "cross_entropy", "hard_labels"} <= found.keys()
    assert found == losses.TABLE
    assert set(losses.__all__) == {"TABLE", *losses.TABLE}
    assert list(losses.TABLE) == sorted(losses.TABLE)


@pytest.mark.parametrize("name", losses.TABLE)
def test_a_loss_declares_what_it_uses_and_gives_one_value_for_each_sample(name: str) -> None:
    parameters = inspect.signature(losses.TABLE[name]).parameters
    assert next(iter(parameters)) == "student"
    for key, one in parameters.items():
        if key not in ("student", "teacher"):
            assert one.kind is inspect.Parameter.KEYWORD_ONLY, f"{key} must be given by name"
        if key not in GIVEN:
            assert one.default is not inspect.Parameter.empty, f"a recipe may leave {key} out"
    assert term(name).name == name
    given = {"teacher": torch.randn(3, 4), "target": torch.tensor([0, 3, -1]), "index": torch.arange(3)}
    value = losses.TABLE[name](torch.randn(3, 4), **{key: one for key, one in given.items() if key in parameters})
    assert value.shape in ((3,), ())
    assert value.dtype == torch.float32
