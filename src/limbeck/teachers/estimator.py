"""A fitted scikit-learn estimator as a teacher."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import ModelError
from limbeck.outputs import Outputs
from limbeck.teachers.labels import chosen, places
from limbeck.teachers.protocol import Place

FLOOR = 1e-6  # of a probability: a forest in which no tree votes for a class says 0, whose log is no number


class SklearnTeacher:
    """A fitted classifier of scikit-learn, or one with its methods, as a teacher. From Python only: nothing is read.

    Inputs are flattened to ``[B, D]`` and given in the units of a batch, bytes divided by 255: the estimator must have
    been trained on the same. Its logits are the log of ``predict_proba``; a probability counts as 1e-6 (``FLOOR``) at
    least. An estimator without probabilities is asked for its ``decision_function``, with one score for each class,
    or one for two classes; these are margins, which no softmax was fitted to.

    Args:
        estimator: fitted, with ``classes_``.
        classes: names of its classes in the order of ``classes_``; None: ``classes_`` as text.

    Raises:
        ModelError: if it is not fitted, or is no classifier that scores each class; when asked, if its inputs have
            another number of features.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> teacher = SklearnTeacher(LogisticRegression().fit([[0.0], [1.0]], ["cat", "dog"]))
        >>> teacher.classes, teacher(torch.tensor([[0.9]])).logits.argmax(1).tolist()
        (('cat', 'dog'), [1])
    """

    def __init__(self, estimator: Any, classes: Sequence[str] | None = None) -> None:
        self.estimator, self.name = estimator, type(estimator).__name__
        own = getattr(estimator, "classes_", None)
        if own is None:
            fitted = "is not fitted" if hasattr(estimator, "fit") and callable(estimator.fit) else "is no estimator"
            raise ModelError(f"{self.name} {fitted}: it has no classes_", cure="give a classifier after its fit(X, y)")
        if isinstance(own, list) or np.ndim(own) != 1:
            raise ModelError(
                f"{self.name} has several outputs, each with its classes", cure="fit it on one label a sample"
            )
        self.classes = tuple(_text(one) for one in own) if classes is None else tuple(map(str, classes))
        if len(self.classes) != len(own):
            raise ModelError(
                f"{self.name} was fitted on {len(own)} classes, and {len(self.classes)} are named",
                cure=f"name each of its classes_, in their order: {', '.join(_text(one) for one in own[:20])}",
            )
        self.method = _method(estimator)
        self.order: tuple[int, ...] | None = None

    def __call__(self, inputs: Tensor, index: Tensor | None = None) -> Outputs:
        rows = inputs.detach().float().cpu().reshape(len(inputs), -1).numpy()
        self._check(rows.shape[1])
        logits = torch.from_numpy(self._scores(rows).astype(np.float32))
        if self.order is not None:
            logits = chosen(logits, torch.tensor(self.order), len(self.classes))
        return Outputs(logits.to(inputs.device))

    @property
    def digest(self) -> str:
        """sha256 over what it says about 64 fixed inputs, in six digits: an estimator has no file to take it of."""
        features = getattr(self.estimator, "n_features_in_", None)
        if features is None:
            return ""
        said = self._scores(np.random.default_rng(0).random((64, features), dtype=np.float32)).round(6) + 0.0
        about = [self.name, self.method, self.classes, self.order]
        return hashlib.sha256(repr(about).encode() + said.tobytes()).hexdigest()

    def fitted(self, shape: tuple[int, ...], classes: Sequence[str]) -> SklearnTeacher:
        """This teacher for data of a shape and classes: its labels matched by name.

        Raises:
            ModelError: if it takes another number of features, or does not know the classes.
        """
        self._check(math.prod(shape))
        fitted = copy.copy(self)
        fitted.order = places(self.classes, classes, f"teacher '{self.name}'")
        return fitted

    def placed(self, place: Place) -> SklearnTeacher:
        """Itself: it stays on the CPU."""
        return self

    def _scores(self, rows: Any) -> Any:
        scores = np.asarray(getattr(self.estimator, self.method)(rows), dtype=np.float64)
        if self.method == "predict_proba":
            return np.log(np.maximum(scores, FLOOR))
        if scores.ndim == 1:  # two classes: the score is of the second
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        return scores

    def _check(self, features: int) -> None:
        wanted = getattr(self.estimator, "n_features_in_", None)
        if wanted is not None and wanted != features:
            raise ModelError(
                f"{self.name} was fitted on {wanted} features, the data give {features}",
                cure="fit it on the data's inputs, flattened, in the units of a batch (bytes divided by 255)",
            )


def is_estimator(value: Any) -> bool:
    """Whether a value is a scikit-learn classifier, or looks like one; scikit-learn is not imported.

    Example:
        >>> is_estimator(torch.nn.Linear(1, 1))
        False
    """
    return not isinstance(value, type | torch.nn.Module) and all(
        callable(getattr(value, name, None)) for name in ("fit", "predict", "get_params")
    )


def _method(estimator: Any) -> str:
    """The method that gives its scores; hasattr asks the estimator itself, which knows whether it was fitted for it."""
    if hasattr(estimator, "predict_proba"):
        return "predict_proba"
    if not hasattr(estimator, "decision_function"):
        raise ModelError(
            f"{type(estimator).__name__} gives neither probabilities nor a decision function",
            cure="give a classifier with predict_proba, such as one wrapped in CalibratedClassifierCV",
        )
    if getattr(estimator, "decision_function_shape", None) == "ovo" and len(estimator.classes_) > 2:
        raise ModelError(
            f"{type(estimator).__name__} gives a score for each pair of classes, not for each class",
            cure="fit it with decision_function_shape='ovr'",
        )
    return "decision_function"


def _text(label: Any) -> str:
    """A label's name: the digit 3 is class '3', whether it was an int or a float."""
    number = float(label) if isinstance(label, np.floating | float) else None
    return str(int(number)) if number is not None and number.is_integer() else str(label)
