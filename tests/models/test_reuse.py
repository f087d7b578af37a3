"""Students with the teacher's classifier: what they compute, count, keep and export."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.compress.export.onnx import export_onnx, run_onnx
from limbeck.data import Normalization, Split
from limbeck.data.preparation import Preparation
from limbeck.errors import ModelError
from limbeck.evaluation.sizes import parameters
from limbeck.losses import simkd
from limbeck.models import CNN5, CifarResNet, ConvMNIST
from limbeck.models.heads import find_head
from limbeck.models.reuse import Projector, ReusesClassifier, reuse_classifier
from limbeck.taps import Tap

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def models(width: int = 6) -> tuple[CNN5, CifarResNet]:
    """A teacher of 4 x 6 channels at 2 x 2, and a student of 4 x 4 at 4 x 4."""
    torch.manual_seed(2)
    teacher, student = CNN5((3, 16, 16), 5, width=width), CifarResNet((3, 16, 16), 5, depth=8, width=4)
    for net in (teacher, student):
        net(torch.rand(16, 3, 16, 16))  # statistics of its own for the norms
    return teacher.eval(), student


def made() -> tuple[CNN5, CifarResNet, ReusesClassifier]:
    teacher, student = models()
    return teacher, student, reuse_classifier(teacher, student, IMAGES, IMAGES, "features", "blocks")


def test_the_logits_are_the_teachers_heads_of_the_projected_map() -> None:
    teacher, student, both = made()
    both.eval()
    with torch.no_grad(), Tap(student.eval(), ["blocks"]) as tap:
        student(IMAGES)
    maps = tap.read()["blocks"]
    assert maps.shape == (4, 16, 4, 4)
    x = maps.view(4, 16, 2, 2, 2, 2).mean((3, 5))  # the larger map is pooled to the teacher's
    convolution, norm = list(both.projector)[0::3], list(both.projector)[1::3]  # type: ignore[call-overload]
    for one, scale in zip(convolution, norm, strict=True):
        x = torch.relu(scale(one(x)))
    assert x.shape == (4, 24, 2, 2)
    expected = x.mean((2, 3)) @ teacher.classifier.weight.T + teacher.classifier.bias
    torch.testing.assert_close(both(IMAGES), expected)
    with torch.no_grad(), Tap(both, ["projector"]) as tap:
        both(IMAGES)
    torch.testing.assert_close(tap.read()["projector"], x)  # what the loss reads


def test_a_student_whose_map_is_the_teachers_gives_its_logits() -> None:
    """The paper's point: the classifier is the same."""
    teacher, _ = models()
    both = ReusesClassifier(copy.deepcopy(teacher), "features", nn.Identity(), copy.deepcopy(teacher.classifier))
    torch.testing.assert_close(both(IMAGES), teacher(IMAGES))


def test_the_projector_and_the_classifier_are_counted() -> None:
    teacher, student, both = made()
    middle = 12
    projector = 16 * middle + 2 * middle + 9 * middle * middle + 2 * middle + middle * 24 + 2 * 24
    body = parameters(student) - parameters(student.classifier)
    assert parameters(both) == body + projector + parameters(teacher.classifier)
    assert parameters(both.projector) == projector
    assert find_head(both.student) != ("classifier",)


def test_both_models_are_left_as_they_are() -> None:
    teacher, student = models()
    teacher.features[1].train()  # a mode of its own is given back
    before = [copy.deepcopy(net.state_dict()) for net in (teacher, student)]
    modes = [[part.training for part in net.modules()] for net in (teacher, student)]
    both = reuse_classifier(teacher, student, IMAGES, IMAGES, "features", "blocks")
    optimizer = torch.optim.SGD([one for one in both.parameters() if one.requires_grad], 0.1)
    both(IMAGES).sum().backward()
    optimizer.step()
    for net, state, mode in zip((teacher, student), before, modes, strict=True):
        assert all(torch.equal(one, net.state_dict()[name]) for name, one in state.items())
        assert [part.training for part in net.modules()] == mode
        assert all(one.requires_grad and one.grad is None for one in net.parameters())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in both.modules())


def test_the_head_is_frozen_and_in_eval_mode_and_the_rest_learns() -> None:
    teacher, _, both = made()
    both.train()
    assert both.training
    assert not both.head.training
    assert all(part.training for part in both.projector.modules())
    with Tap(both, ["projector"]) as tap, torch.no_grad():
        both(IMAGES)
    with Tap(both, ["projector"]) as tap, Tap(teacher, ["features"]) as theirs:
        both(IMAGES)
        teacher(IMAGES)
    simkd(tap.read()["projector"], theirs.read()["features"]).mean().backward()
    for name, one in both.named_parameters():
        assert (one.grad is None) == name.startswith("head."), name
        assert one.requires_grad != name.startswith("head."), name
    assert all(one.grad is None for one in teacher.parameters())


def test_training_leads_to_the_teachers_logits() -> None:
    teacher, _, both = made()
    images = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), Tap(teacher, ["features"]) as theirs:
        logits = teacher(images)
    optimizer = torch.optim.Adam([one for one in both.parameters() if one.requires_grad], 0.01)
    both.train()

    def step() -> tuple[float, float]:
        with Tap(both, ["projector"]) as tap:
            said = both(images)
        loss = simkd(tap.read()["projector"], theirs.read()["features"]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach()), float((said - logits).square().mean().detach())

    first = step()
    last = [step() for _ in range(40)][-1]
    assert last[0] < 0.5 * first[0]
    assert last[1] < 0.5 * first[1]


def test_it_is_copied_and_loaded() -> None:
    _, _, both = made()
    again = copy.deepcopy(both)
    with torch.no_grad():
        for one in again.parameters():
            one.add_(1.0)
    both.eval()
    assert not torch.allclose(again.eval()(IMAGES), both(IMAGES))
    again.load_state_dict(both.state_dict())
    assert torch.equal(again(IMAGES), both(IMAGES))


def test_it_is_exported(tmp_path: Path) -> None:
    _, _, both = made()
    preparation, classes = Preparation(Normalization((0.4, 0.5, 0.6), (0.2, 0.2, 0.2))), tuple("abcde")
    path = export_onnx(both, tmp_path / "m.onnx", preparation=preparation, shape=(3, 16, 16), classes=classes, name="m")
    images = torch.rand(10, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    normalized = (images - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / 0.2
    with torch.no_grad():
        expected = both.eval()(normalized)
    found = run_onnx(path, Split(images, [0, 1, 2, 3, 4] * 2, classes, "test"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_smaller_map_is_left_and_the_teachers_pooled_by_the_loss() -> None:
    torch.manual_seed(2)
    teacher, student = CifarResNet((3, 16, 16), 5, depth=8, width=4).eval(), CNN5((3, 16, 16), 5, width=3)
    both = reuse_classifier(teacher, student, IMAGES, IMAGES, "blocks", "features")
    with Tap(both, ["projector"]) as tap, Tap(teacher, ["blocks"]) as theirs:
        assert both(IMAGES).shape == (4, 5)
        teacher(IMAGES)
    own, maps = tap.read()["projector"], theirs.read()["blocks"]
    assert (own.shape, maps.shape) == ((4, 16, 2, 2), (4, 16, 4, 4))
    pooled = maps.view(4, 16, 2, 2, 2, 2).mean((3, 5))
    torch.testing.assert_close(simkd(own, maps), (own - pooled).square().mean((1, 2, 3)))


def test_models_of_their_own_input_size() -> None:
    teacher, student = models()
    both = reuse_classifier(teacher, student, IMAGES, torch.rand(2, 3, 24, 24), "features", "blocks")
    assert both(torch.rand(2, 3, 24, 24)).shape == (2, 5)
    assert both.projector(torch.rand(2, 16, 6, 6)).shape == (2, 24, 2, 2)


def test_a_head_behind_something_else_is_refused_by_name() -> None:
    _, student = models()
    with pytest.raises(
        ModelError, match=r"head 'classifier' does not give its logits from the mean of layer 'features\.9'"
    ):
        reuse_classifier(models()[0], student, IMAGES, IMAGES, "features.9", "blocks")
    with pytest.raises(ModelError, match=r"head 'classifier\.5'.*'features', which has 64 channels"):
        reuse_classifier(ConvMNIST((3, 16, 16), 5), student, IMAGES, IMAGES, "features", "blocks")
    same_width = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(ModelError, match=r"head '3'.*layer '0': logits differ by"):
        reuse_classifier(same_width, student, IMAGES, IMAGES, "0", "blocks")


def test_layers_without_a_map_are_refused_by_name() -> None:
    teacher, student = models()
    with pytest.raises(ModelError, match=r"layer 'classifier' of the student gives \(4, 5\)"):
        reuse_classifier(teacher, student, IMAGES, IMAGES, "features", "classifier")
    with pytest.raises(ModelError, match=r"no layer 'block'.*did you mean 'blocks'"):
        reuse_classifier(teacher, student, IMAGES, IMAGES, "features", "block")


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two = nn.Conv2d(3, 4, 1), nn.Linear(4, 5), nn.Linear(4, 5)

    def get_classifier(self) -> tuple[nn.Module, nn.Module]:
        return self.one, self.two

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.body(images).mean((2, 3))
        return (self.one(pooled) + self.two(pooled)) / 2


def test_two_heads_can_be_left_out_but_not_reused() -> None:
    teacher, student = models()
    both = reuse_classifier(teacher, TwoHeads(), IMAGES, IMAGES, "features", "body")
    assert parameters(both.student) == 16
    with pytest.raises(ModelError, match="several heads, one, two"):
        reuse_classifier(TwoHeads(), student, IMAGES, IMAGES, "body", "blocks")


def test_a_teacher_of_one_channel_has_a_projector_too() -> None:
    assert Projector((3, 2, 2), (1, 2, 2))(torch.rand(2, 3, 2, 2)).shape == (2, 1, 2, 2)
