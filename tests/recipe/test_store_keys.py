"""The recipe's key ``store``: what is read, what is refused and how it is answered."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.errors import RecipeError
from limbeck.pipeline.wish import StoreWish
from limbeck.recipe.recipe import Recipe, json_schema

TEACHER = {"model": "limbeck/conv_mnist"}
STUDENT = {"model": "limbeck/cnn5"}
WHOLE = {"path": "kept", "views": 4, "top": 5, "temperatures": [1.0, 4.0], "features": ["fc1"], "verify": False}


def parsed(store: Any) -> Recipe:
    return Recipe.parse({"teacher": {**TEACHER, "store": store}, "student": STUDENT})


@pytest.mark.parametrize("store", ["auto", "runs/kept", "./atuo", None, {"views": 4}, {"views": "auto"}, WHOLE])
def test_what_is_read_is_written_and_read_again(store: Any) -> None:
    recipe = parsed(store)
    assert Recipe.parse(recipe.to_dict()) == recipe
    kept = recipe.to_dict()["teacher"]["store"]
    assert kept == store or {**kept, **store} == kept


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("atuo", "did you mean 'auto'"),
        ("Auto", "did you mean 'auto'"),
        (True, "expected auto, a path, or a mapping"),
        (3, "expected auto, a path, or a mapping"),
        ("", "expected a path"),
        ("https://somewhere/kept", "fetches nothing"),
        ({"veiws": 4}, "teacher.store.veiws: unknown key; did you mean 'views'"),
        ({"temperature": [4]}, "did you mean 'temperatures'"),
        ({"views": 0}, "from 1 to"),
        ({"views": True}, "from 1 to"),
        ({"views": 4.0}, "from 1 to"),
        ({"views": "aut"}, "did you mean 'auto'"),
        ({"top": -1}, "at least 0"),
        ({"temperatures": []}, "at least 1"),
        ({"temperatures": [0]}, "more than 0"),
        ({"temperatures": [4, 4.0]}, "different values"),
        ({"features": "fc1"}, "expected a list"),
        ({"verify": "no"}, "expected a boolean"),
    ],
)
def test_a_mistake_is_answered_by_its_key(store: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=r"teacher\.store") as caught:
        parsed(store)
    assert said in str(caught.value)
    with pytest.raises(RecipeError, match="store") as caught:
        StoreWish.of(store)
    assert said.removeprefix("teacher.") in str(caught.value)


def test_a_store_is_of_the_teacher_alone() -> None:
    with pytest.raises(RecipeError, match=r"student\.store: unknown key"):
        Recipe.parse({"teacher": TEACHER, "student": {**STUDENT, "store": "auto"}})


@pytest.mark.parametrize(
    ("stores", "right"),
    [
        (("auto", None), True),
        (("auto", "auto"), True),
        (({"views": 4}, {"views": 4}), True),
        ((None, None), True),
        ((None, "auto"), False),
        (("auto", "kept"), False),
        (("auto", {"views": 4}), False),
    ],
)
def test_several_teachers_have_one_store(stores: tuple[Any, Any], right: bool) -> None:
    given = {"teacher": [{**TEACHER, "store": one} for one in stores], "student": STUDENT}
    if right:
        recipe = Recipe.parse(given)
        assert StoreWish.of_recipe(recipe.to_dict()["teacher"]) == StoreWish.of(stores[0])
        return
    with pytest.raises(RecipeError, match="several teachers have one store"):
        Recipe.parse(given)


def test_a_word_grows_into_a_mapping_on_the_command_line() -> None:
    recipe = Recipe.load("digits", ["teacher.store=kept", "teacher.store.views=4"])
    assert StoreWish.of_recipe(recipe.to_dict()["teacher"]) == StoreWish("kept", 4)
    recipe = Recipe.load("digits", ["teacher.store.views=4"])
    assert StoreWish.of_recipe(recipe.to_dict()["teacher"]) == StoreWish(None, 4)


def test_the_schema_knows_it() -> None:
    schema = json_schema()["$defs"]
    assert "store" in schema["TeacherSpec"]["properties"]
    assert "store" not in schema["StudentSpec"]["properties"]
    assert set(schema["StoreSpec"]["properties"]) == set(WHOLE)
