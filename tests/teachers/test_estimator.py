"""scikit-learn teachers against scikit-learn's own numbers on the digits."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC

from limbeck.errors import ModelError
from limbeck.teachers import Ensemble, SklearnTeacher, Teacher, as_teacher
from limbeck.teachers.estimator import FLOOR

DIGITS = load_digits()
X, Y = (DIGITS.data[:400] / 16).astype(np.float32), DIGITS.target[:400]
IMAGES = torch.from_numpy(X).reshape(-1, 1, 8, 8)
NAMES = [str(number) for number in range(10)]


def forest(**options: Any) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=10, random_state=0, **options)


@pytest.mark.parametrize("estimator", [forest(), LogisticRegression(max_iter=300)])
def test_softmax_gives_back_its_probabilities(estimator: Any) -> None:
    teacher = as_teacher(estimator.fit(X, Y))
    assert isinstance(teacher, SklearnTeacher)
    assert isinstance(teacher, Teacher)
    logits = teacher(IMAGES).logits
    assert (logits.dtype, tuple(logits.shape)) == (torch.float32, (400, 10))
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), estimator.predict_proba(X), atol=11 * FLOOR)
    assert float(logits.min()) >= np.log(FLOOR) - 1e-4


def test_a_probability_of_zero_counts_as_the_floor() -> None:
    estimator = forest().fit(X, Y)
    zeros = estimator.predict_proba(X) == 0
    assert zeros.any()
    np.testing.assert_allclose(SklearnTeacher(estimator)(IMAGES).logits.numpy()[zeros], np.log(1e-6), rtol=1e-6)


@pytest.mark.parametrize("estimator", [SVC(), RidgeClassifier()])
def test_a_decision_function_gives_margins(estimator: Any) -> None:
    estimator.fit(X, Y)
    logits = SklearnTeacher(estimator)(IMAGES).logits
    np.testing.assert_allclose(logits.numpy(), estimator.decision_function(X), rtol=1e-5, atol=1e-6)


def test_two_classes_have_one_score() -> None:
    estimator = SVC().fit(X[Y < 2], Y[Y < 2])
    logits = SklearnTeacher(estimator)(IMAGES[Y < 2]).logits
    np.testing.assert_array_equal(logits.argmax(1).numpy(), estimator.predict(X[Y < 2]))
    np.testing.assert_allclose(logits.diff(dim=1).numpy()[:, 0], estimator.decision_function(X[Y < 2]), rtol=1e-5)


def test_labels_are_matched_by_name() -> None:
    words = np.array([f"digit {number}" for number in "9876543210"])[Y]  # sorted by word: another order
    teacher = SklearnTeacher(LogisticRegression(max_iter=300).fit(X, words))
    data = [f"digit {number}" for number in "9876543210"]
    fitted = teacher.fitted((1, 8, 8), data)
    assert float((fitted(IMAGES).logits.argmax(1).numpy() == Y).mean()) > 0.97
    assert float((teacher(IMAGES).logits.argmax(1).numpy() == Y).mean()) < 0.2
    assert fitted.digest != teacher.digest
    named = SklearnTeacher(teacher.estimator, classes=[word.removeprefix("digit ") for word in teacher.classes])
    assert float((named.fitted((64,), NAMES)(IMAGES).logits.argmax(1).numpy() == 9 - Y).mean()) > 0.97
    with pytest.raises(ModelError, match="teacher 'LogisticRegression' does not name class 'digit ten' of the data"):
        teacher.fitted((64,), ["digit ten", *data[1:]])


@pytest.mark.parametrize("kind", [int, float, str, np.int8])
def test_digits_are_named_alike_whatever_their_type(kind: Any) -> None:
    assert SklearnTeacher(forest().fit(X, Y.astype(kind))).classes == tuple(NAMES)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: SklearnTeacher(forest()), "RandomForestClassifier is not fitted"),
        (lambda: SklearnTeacher(object()), "object is no estimator"),
        (lambda: SklearnTeacher(OnlyPredicts().fit(X, Y)), "neither probabilities nor a decision function"),
        (lambda: SklearnTeacher(SVC(decision_function_shape="ovo").fit(X, Y)), "a score for each pair of classes"),
        (lambda: SklearnTeacher(forest().fit(X, np.stack([Y, Y], axis=1))), "has several outputs"),
        (lambda: SklearnTeacher(forest().fit(X, Y), classes=["a"]), "fitted on 10 classes, and 1 are named"),
        (lambda: SklearnTeacher(forest().fit(X, Y))(IMAGES[:, :, :4]), "fitted on 64 features, the data give 32"),
        (lambda: SklearnTeacher(forest().fit(X, Y)).fitted((3, 8, 8), NAMES), "on 64 features, the data give 192"),
    ],
)
def test_what_can_not_teach_is_refused(make: Any, told: str) -> None:
    with pytest.raises(ModelError) as refused:
        make()
    assert told in refused.value.what
    assert refused.value.cure


class OnlyPredicts:
    """A classifier without scores."""

    def fit(self, x: Any, y: Any) -> OnlyPredicts:
        self.classes_ = np.unique(y)
        return self


def test_the_digest_tells_estimators_apart() -> None:
    one, other = forest().fit(X, Y), forest(max_depth=3).fit(X, Y)
    assert SklearnTeacher(one).digest == SklearnTeacher(copy.deepcopy(one)).digest
    assert SklearnTeacher(one).digest != SklearnTeacher(other).digest


def test_it_is_a_member_of_an_ensemble() -> None:
    estimator = forest().fit(X, Y)
    both = Ensemble([estimator, estimator])(IMAGES).logits
    np.testing.assert_allclose(torch.softmax(both, 1).numpy(), estimator.predict_proba(X), atol=1e-4)
