"""The recipe's keys of views, sampling and class weights: what they mean, and mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest

from limbeck.data.views import Color, RandAugment, Views
from limbeck.errors import RecipeError
from limbeck.objective import Objective
from limbeck.pipeline.experiment import from_recipe
from limbeck.recipe.recipe import Recipe, json_schema

TEACHER, STUDENT = {"model": "limbeck/conv_mnist"}, {"model": "limbeck/cnn5"}
FULL: dict[str, Any] = {
    "shift": 2,
    "flip": True,
    "vertical_flip": True,
    "rotate": 10.0,
    "scale": 0.1,
    "shear": 5,
    "erase": 0.25,
    "resized_crop": [0.2, 1.0],
    "color": {"brightness": 0.4, "contrast": 0.3, "saturation": 0.2, "hue": 0.1},
    "randaugment": {"ops": 2, "magnitude": 9},
    "mixup": 0.2,
    "cutmix": 1.0,
}


def recipe(**student: Any) -> Recipe:
    return Recipe.parse({"teacher": TEACHER, "student": {**STUDENT, **student}})


def test_every_key_of_views_reaches_them() -> None:
    said = recipe(views=FULL, sampling="balanced")
    experiment = from_recipe(said.to_dict())
    settings = experiment.student.settings
    assert settings is not None
    assert settings.sampling == "balanced"
    color = Color(0.4, 0.3, 0.2, 0.1)
    mixing = {"color": color, "randaugment": RandAugment(2, 9), "resized_crop": (0.2, 1.0)}
    assert settings.views == Views(**{**FULL, **mixing})
    teachers = experiment.teachers
    assert isinstance(teachers, list)
    assert teachers[0].settings is not None
    assert teachers[0].settings.views.identity
    assert teachers[0].settings.sampling == "none"


def test_the_schemas_defaults_are_no_views() -> None:
    assert Views(**recipe().student.views.model_dump()).identity
    assert set(recipe().student.views.model_dump()) == set(Views.__dataclass_fields__)


def test_a_short_version_keeps_the_views() -> None:
    assert recipe(views=FULL, sampling="balanced").quick().student.views == recipe(views=FULL).student.views
    assert recipe(sampling="balanced").quick().student.sampling == "balanced"


def test_a_recipe_and_what_it_writes_are_the_same() -> None:
    said = recipe(views=FULL)
    assert Recipe.parse(said.to_dict()) == said
    assert "RandAugmentSpec" in json_schema()["$defs"]


@pytest.mark.parametrize(
    ("views", "says"),
    [
        ({"resized_crop": [0.2]}, "student.views.resized_crop: "),
        ({"resized_crop": [0.0, 1.0]}, "student.views.resized_crop.0: expected at least 0.01"),
        ({"resized_crop": [0.9, 0.5]}, "expected a resized_crop of [least, most]"),
        ({"resize_crop": [0.5, 1.0]}, "did you mean 'resized_crop'?"),
        ({"color": {"hue": 0.7}}, "student.views.color.hue: expected at most 0.5"),
        ({"color": {"brightnes": 0.4}}, "did you mean 'brightness'?"),
        ({"color": 0.4}, "student.views.color: expected a mapping"),
        ({"brightness": 0.4}, "did you mean 'teacher.views.color.brightness' or 'student.views.color.brightness'?"),
        ({"randaugment": {"ops": 2.5}}, "student.views.randaugment.ops: expected a whole number"),
        ({"randaugment": {"magnitude": 31}}, "student.views.randaugment.magnitude: expected at most 30"),
        ({"mixup": -1}, "student.views.mixup: expected at least 0"),
        ({"mixup": True}, "student.views.mixup: "),
        ({"shear": 90}, "student.views.shear: expected at most 60"),
    ],
)
def test_a_mistake_is_answered_by_name(views: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(views=views)
    assert says in str(caught.value)
    assert "Input should" not in str(caught.value)


def test_a_mistake_in_sampling_or_class_weights_is_answered() -> None:
    with pytest.raises(RecipeError, match="did you mean 'balanced'"):
        recipe(sampling="balance")
    for wrong, says in (("balance", "did you mean 'balanced'"), ([1, -1], r"class_weights\[1\] is -1")):
        objective = {"supervised": {"weight": 0.1, "class_weights": wrong}, "kl": 0.9}
        with pytest.raises(RecipeError, match=says):
            Recipe.parse({"teacher": TEACHER, "student": STUDENT, "objective": objective})


def test_balanced_class_weights_become_numbers_of_the_training_labels() -> None:
    objective = {"supervised": {"weight": 0.1, "class_weights": "balanced"}, "kl": 0.9}
    said = Recipe.parse({"teacher": TEACHER, "student": STUDENT, "objective": objective})
    assert said.to_dict()["objective"]["supervised"]["class_weights"] == "balanced"
    experiment = from_recipe(said.to_dict())
    train = experiment.data.train
    counts = train.targets.bincount()
    assert experiment.objective.class_weights == pytest.approx((len(train) / (10 * counts)).tolist())
    assert isinstance(experiment.objective, Objective)
