"""Label order by class name: a permuted teacher says the same after the mapping, and no name is guessed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from limbeck.errors import ModelError
from limbeck.teachers import Ensemble, FunctionTeacher, reordered
from limbeck.teachers.labels import places

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


@given(st.permutations(["a", "b", "c", "d", "e"]), st.integers(2, 5))
def test_places_give_the_datas_order(names: list[str], count: int) -> None:
    classes = ["a", "b", "c", "d", "e"][:count]
    order = places(names, classes)
    assert [names[one] for one in order or range(5)] == classes


def test_the_same_order_moves_nothing() -> None:
    module = nn.Linear(4, 3)
    assert places(["a", "b"], ["a", "b"]) is None
    assert reordered(module, ["a", "b", "c"], ["a", "b", "c"]) is module


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["cat", "cat", "dog"], "names class 'cat' twice"),
        (["cat", "cow"], "does not name class 'dog' of the data"),
        (["cat", "dgo"], "does not name class 'dog' of the data; did you mean 'dgo'?"),
        (["horse", "cow"], "does not name class 'cat' of the data, and 1 more"),
    ],
)
def test_names_that_do_not_fit(names: list[str], told: str) -> None:
    with pytest.raises(ModelError) as refused:
        places(names, ["cat", "dog"])
    assert told in refused.value.what


def test_modules_functions_and_ensembles() -> None:
    module, names, classes = nn.Linear(4, 3), ["b", "c", "a"], ["a", "b", "c"]
    with torch.no_grad():
        logits = module(X)[:, [2, 0, 1]]
        mapped = reordered(module, names, classes)
        assert torch.equal(mapped(X), logits)
        assert torch.equal(mapped.state_dict()["order"], torch.tensor([2, 0, 1]))
        assert torch.equal(reordered(FunctionTeacher(module), names, classes)(X).logits, logits)
        several = Ensemble([module, lambda x: 2 * module(x)])
        said = reordered(several, names, classes)
        for temperature in (1.0, 3.0):
            expected = several(X).logits_at(temperature)[:, [2, 0, 1]]
            torch.testing.assert_close(said(X).logits_at(temperature), expected)
        placed = said.placed(lambda one: one)
        torch.testing.assert_close(placed(X).logits, said(X).logits)


def test_another_number_of_logits_is_refused() -> None:
    with pytest.raises(ModelError, match=r"outputs of shape \(5, 4\), and 3 classes are named"):
        reordered(nn.Identity(), ["b", "a", "c"], ["a", "b", "c"])(X)
