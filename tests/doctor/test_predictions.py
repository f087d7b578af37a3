"""A model's answers: no better than chance, always one class, labels in another order; each planted, each healthy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from torch import Tensor

from limbeck.doctor.chance import confusion, knowledge, sign_test
from limbeck.doctor.finding import Finding, ordered
from limbeck.doctor.order import label_order
from limbeck.doctor.predictions import constant, near_chance

CLASSES = [str(one) for one in range(10)]


def answers(targets: Tensor, share: float, *, classes: int = 10, seed: int = 0) -> Tensor:
    """Logits of a model that is right for about a share of the samples, and names a random class for the others."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randint(classes, targets.shape, generator=generator)
    right = torch.rand(targets.shape, generator=generator) < share
    noise = torch.rand(len(targets), classes, generator=generator) * 0.1
    return torch.nn.functional.one_hot(torch.where(right, targets, random), classes).float() + noise


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.code, one.severity) for one in findings]


# ---------------------------------------------------------------- chance


def test_knowledge_is_what_scikit_learn_says() -> None:
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(4, size=300), rng.integers(4, size=300)
    logits = torch.nn.functional.one_hot(torch.as_tensor(guess), 4).float()
    counts = confusion(logits, torch.as_tensor(truth), 4)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, guess))
    found = knowledge(counts)
    assert found.balanced == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found.accuracy == pytest.approx((truth == guess).mean())
    assert found.majority == pytest.approx(np.bincount(truth).max() / 300)


def test_chance_and_its_deviation_are_those_of_shuffled_answers() -> None:
    """The closed form against what shuffling the same answers over the samples gives."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [400, 150, 50])
    guess = rng.choice(3, size=600, p=[0.6, 0.3, 0.1])
    shuffled = [balanced_accuracy_score(truth, rng.permutation(guess)) for _ in range(500)]
    logits = torch.nn.functional.one_hot(torch.as_tensor(guess), 3).float()
    found = knowledge(confusion(logits, torch.as_tensor(truth), 3))
    assert found.chance == pytest.approx(np.mean(shuffled), abs=0.003)
    assert found.deviation == pytest.approx(np.std(shuffled), rel=0.1)
    assert not found.beyond_chance


def test_samples_without_a_label_do_not_count() -> None:
    counts = confusion(torch.eye(3), torch.tensor([0, -1, 0]), 3)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("more", "less"), [(5, 0), (8, 2), (60, 40), (3, 9), (0, 0)])
def test_the_sign_test_is_the_binomial_tail(more: int, less: int) -> None:
    expected = binom.sf(more - 1, more + less, 0.5) if more + less else 1.0
    assert sign_test(more, less) == pytest.approx(expected)


def test_guessing_models_are_told_and_those_that_know_a_little_are_not() -> None:
    targets = torch.arange(500) % 10
    told = [codes(near_chance(confusion(answers(targets, 0.0, seed=seed), targets, 10), "student", "test"))
            for seed in range(100)]  # fmt: skip
    assert told.count([("not_learned", "warning")]) >= 98  # three deviations: once in 700
    for share in (0.2, 0.5, 1.0):
        counts = confusion(answers(targets, share), targets, 10)
        assert near_chance(counts, "student", "test") == []
        assert near_chance(counts, "teacher", "test") == []


def test_a_teacher_near_the_majority_is_told_with_its_numbers() -> None:
    targets = (torch.arange(400) % 4 == 0).long()
    found = near_chance(confusion(torch.tensor([[1.0, 0.0]]).repeat(400, 1), targets, 2), "teacher", "validation")
    assert codes(found) == [("teacher_near_majority", "warning")]
    assert found[0].evidence["accuracy"] == found[0].evidence["majority_baseline"] == 0.75
    assert "75.0 %" in found[0].message
    assert found[0].cause
    assert found[0].cure


def test_a_rare_class_that_is_found_makes_it_an_info() -> None:
    """95 of 100 are benign; the model finds all 5 others and calls 5 benign ones wrong: no more accurate."""
    counts = torch.tensor([[900, 50], [0, 50]])
    found = near_chance(counts, "teacher", "test")
    assert codes(found) == [("teacher_near_majority", "info")]
    assert near_chance(counts, "student", "test") == []


def test_a_teacher_that_is_half_way_up_is_never_told_on_few_samples() -> None:
    assert near_chance(torch.tensor([[6, 0], [1, 5]]), "teacher", "validation") == []


# ---------------------------------------------------------------- one class


def test_logits_that_do_not_depend_on_the_input_are_an_error() -> None:
    targets = torch.arange(60) % 3
    logits = torch.tensor([[0.3, -0.2, 0.1]]).repeat(60, 1)
    found = constant(confusion(logits, targets, 3), "teacher", "validation", ["a", "b", "c"], logits)
    assert codes(found) == [("constant_predictor", "error")]
    assert "'teacher'" not in found[0].message
    assert found[0].evidence["class"] == "a"


def test_one_class_for_nearly_all_samples_is_a_warning() -> None:
    counts = torch.tensor([[100, 0, 0], [100, 0, 0], [99, 0, 1]])
    found = constant(counts, "student", "test", ["cat", "dog", "fox"])
    assert codes(found) == [("constant_predictor", "warning")]
    assert found[0].evidence["share"] == pytest.approx(299 / 300, abs=1e-4)
    assert "'cat'" in found[0].message


@pytest.mark.parametrize(
    "counts",
    [
        [[50, 0], [0, 50]],
        [[996, 0], [0, 4]],  # so rare that always naming it is nearly right, and it is right
        [[996, 0], [4, 0]],  # too few of the others to say so
        [[98, 0], [2, 0]],
    ],
)
def test_a_model_that_tells_classes_apart_as_far_as_can_be_seen_is_not_constant(counts: list[list[int]]) -> None:
    assert constant(torch.tensor(counts), "student", "test", ["a", "b"]) == []


def test_logits_that_differ_a_little_are_not_constant() -> None:
    logits = torch.randn(50, 3) * 1e-3
    targets = torch.arange(50) % 3
    found = constant(confusion(logits, targets, 3), "teacher", "validation", ["a", "b", "c"], logits)
    assert not any(one.severity == "error" for one in found)


# ---------------------------------------------------------------- the order of labels


def test_the_order_of_folders_listed_as_text_is_found_and_named() -> None:
    """Twelve folders 1 … 12: the teacher learned them as 1, 10, 11, 12, 2, …; the data count."""
    classes = [str(one) for one in range(1, 13)]
    learned = sorted(classes)
    targets = torch.arange(600) % 12
    place = torch.tensor([learned.index(one) for one in classes])  # where the teacher says what the data call i
    found = label_order(answers(place[targets], 0.9, classes=12), targets, classes)
    assert codes(found) == [("label_order", "error")]
    assert found[0].evidence["class_order"] == learned
    assert found[0].evidence["accuracy_in_that_order"] > 0.85
    assert found[0].evidence["accuracy"] < 0.3
    assert "sorted as text" in found[0].cause
    assert "class_order: [1, 10, 11, 12, 2" in found[0].cure


def test_two_exchanged_classes_of_ten_are_found() -> None:
    targets = torch.arange(400) % 10
    exchanged = torch.tensor([0, 1, 7, 3, 4, 5, 6, 2, 8, 9])
    found = label_order(answers(exchanged[targets], 0.95), targets, CLASSES)
    assert codes(found) == [("label_order", "error")]
    assert found[0].evidence["class_order"] == [CLASSES[one] for one in exchanged.tolist()]


def test_the_order_that_it_names_is_the_right_one_for_a_cycle() -> None:
    """A permutation that is not its own inverse: output j of the teacher means class_order[j]."""
    order = [CLASSES[(one + 3) % 10] for one in range(10)]
    targets = torch.arange(300) % 10
    place = torch.tensor([order.index(one) for one in CLASSES])
    assert label_order(answers(place[targets], 1.0), targets, CLASSES)[0].evidence["class_order"] == order


def test_where_an_order_was_declared_wrongly_the_cure_is_the_models_own() -> None:
    """A model that learned ``order``, was said to have ``declared``, and was mapped by that."""
    order, declared = (list(np.random.default_rng(seed).permutation(CLASSES)) for seed in (1, 2))
    targets = torch.arange(400) % 10
    own = answers(torch.tensor([order.index(one) for one in CLASSES])[targets], 1.0)
    mapped = own[:, [declared.index(one) for one in CLASSES]]
    assert label_order(mapped, targets, CLASSES, declared=declared)[0].evidence["class_order"] == order
    right = own[:, [order.index(one) for one in CLASSES]]
    assert label_order(right, targets, CLASSES, declared=order) == []


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_a_teacher_in_the_right_order_is_left_alone_however_bad_it_is(share: float) -> None:
    for seed in range(20):
        targets = torch.randint(10, (250,), generator=torch.Generator().manual_seed(seed))
        assert label_order(answers(targets, share, seed=seed), targets, CLASSES) == []


def test_a_teacher_that_confuses_two_classes_is_not_one_in_another_order() -> None:
    """Most of class 3 is taken for 8, as a real teacher may do; 8 itself is known."""
    targets = torch.arange(500) % 10
    seen = torch.where((targets == 3) & (torch.arange(500) % 50 > 10), 8, targets)
    assert label_order(answers(seen, 0.95), targets, CLASSES) == []


def test_a_constant_teacher_is_not_one_in_another_order() -> None:
    targets = torch.tensor([0] * 20 + [1] * 80)
    assert label_order(torch.tensor([[1.0, 0.0]]).repeat(100, 1), targets, ["a", "b"]) == []


# ---------------------------------------------------------------- findings


def test_findings_are_ordered_and_told_once() -> None:
    found = ordered([Finding("a", "info", "x"), Finding("b", "warning", "y"), Finding("a", "info", "x"),
                     Finding("c", "error", "z"), Finding("d", "warning", "y")])  # fmt: skip
    assert [one.code for one in found] == ["c", "b", "d", "a"]


def test_evidence_is_plain_data() -> None:
    found = Finding("a", "info", "x", {"pair": (1, 2), "value": math.pi}).to_dict()
    assert found["evidence"] == {"pair": [1, 2], "value": math.pi}
