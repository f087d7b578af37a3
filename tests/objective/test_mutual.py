"""Deep mutual learning against numpy: value, and each network's own gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.data.batch import Mixed
from limbeck.errors import ModelError, RecipeError
from limbeck.objective import Objective, supervised, term
from limbeck.objective.mutual import Cohort, MutualObjective
from limbeck.outputs import Outputs


def logits(networks: int, samples: int = 5, classes: int = 4) -> Tensor:
    return 2 * torch.randn(networks, samples, classes, generator=torch.Generator().manual_seed(networks)).double()


def of(members: Tensor) -> Outputs:
    return Outputs.ensemble(members, torch.full((len(members),), 1 / len(members)))


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


TARGET = torch.tensor([0, 3, 1, -1, 2])


@pytest.mark.parametrize("networks", [2, 3, 4])
def test_value_and_gradient_of_each_network(networks: int) -> None:
    z = logits(networks).requires_grad_()
    total, parts = MutualObjective()(of(z), None, target=TARGET, index=torch.arange(5))
    total.backward()
    p, labels = softmax(z.detach().numpy()), TARGET.numpy()
    known = labels >= 0
    ce = [-np.log(one[known, labels[known]]).mean() for one in p]
    kl, gradient = [], []
    for k in range(networks):
        peers = [p[one] for one in range(networks) if one != k]
        kl.append(np.mean([(one * (np.log(one) - np.log(p[k]))).sum(axis=1).mean() for one in peers]))
        hard = (p[k] - np.eye(4)[labels]) * known[:, None] / known.sum()
        gradient.append(hard + (p[k] - np.mean(peers, axis=0)) / 5)
    assert parts["supervised"].item() == pytest.approx(sum(ce))
    assert parts["kl"].item() == pytest.approx(sum(kl))
    assert total.item() == pytest.approx(sum(ce) + sum(kl))
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), np.array(gradient), atol=1e-9)


def test_alike_networks_have_nothing_to_tell_each_other() -> None:
    one = logits(1)[0].detach()
    z = torch.stack([one, one, one]).requires_grad_()
    total, parts = MutualObjective([term("kl", 1.0, temperature=1.0)])(of(z), None)
    total.backward()
    assert parts["kl"].item() == pytest.approx(0.0, abs=1e-9)
    assert z.grad is not None
    assert z.grad.abs().max().item() < 1e-9


def test_pieces_add_up_and_mixed_samples_count_both_labels() -> None:
    z, objective = logits(3), MutualObjective()
    whole, _ = objective(of(z), None, target=TARGET)
    counts = objective.counts(TARGET)
    pieces = [
        objective(of(z[:, part]), None, target=TARGET[part], counts=counts)[0] for part in (slice(0, 2), slice(2, 5))
    ]
    assert sum(one.item() for one in pieces) == pytest.approx(whole.item())
    mixed = Mixed(torch.tensor([1, 1, 1, 1, 1]), torch.full((5,), 0.75))
    target = torch.tensor([0, 3, 1, 0, 2])
    parts = objective(of(z), None, target=target, mixed=mixed)[1]
    log_p = np.log(softmax(z.numpy()))
    by_hand = -sum((0.75 * one[range(5), target.numpy()] + 0.25 * one[:, 1]).mean() for one in log_p)
    assert parts["supervised"].item() == pytest.approx(by_hand)


def test_a_look_sees_the_sums_with_their_graph_and_says_the_weights() -> None:
    z = logits(2).requires_grad_()
    seen: dict[str, Any] = {}

    def look(means: dict[str, Tensor]) -> dict[str, float]:
        seen.update(means)
        return {"supervised": 0.0, "kl": 2.0}

    total, parts = MutualObjective()(of(z), None, target=TARGET, look=look)
    assert all(one.requires_grad for one in seen.values())
    assert total.item() == pytest.approx(2 * parts["kl"].item())


def test_what_it_is_alone_and_in_plain_data() -> None:
    objective = MutualObjective()
    assert not objective.needs_teacher
    assert type(objective.without_teacher()) is Objective
    assert [one.name for one in objective.without_teacher().terms] == ["supervised"]
    assert objective.to_recipe()["mutual"]["kl"]["temperature"] == 1.0


def test_what_it_can_not_be_given_is_refused() -> None:
    with pytest.raises(ModelError, match="two networks at least"):
        MutualObjective()(Outputs(logits(1)[0]), None, target=TARGET)
    with pytest.raises(ModelError, match="two networks at least"):
        Cohort([nn.Linear(2, 2)])
    with pytest.raises(RecipeError, match="reads layers"):
        MutualObjective([supervised(), term("fitnet", 1.0, at="0")])


def test_peers_are_constants_even_to_a_loss_that_would_reach_them() -> None:
    def squared(student: Tensor, teacher: Tensor) -> Tensor:
        return ((student - teacher) ** 2).sum(dim=1)

    z = logits(2).requires_grad_()
    MutualObjective([term(squared, 1.0)])(of(z), None)[0].backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad[0], 2 * (z[0] - z[1]).detach() / 5)
