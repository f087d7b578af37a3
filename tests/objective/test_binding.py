"""An objective meets its models: layers are found, adapters and modules built, what can not be compared is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, NumericsError, RecipeError
from limbeck.losses import compares
from limbeck.models import CifarResNet
from limbeck.objective import Objective, Scene, bind, supervised, term
from limbeck.objective.binding import told
from limbeck.outputs import Outputs
from limbeck.taps import Tap
from limbeck.teachers import Ensemble, FunctionTeacher, ModuleTeacher, reading, reordered


def resnet(depth: int, width: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return CifarResNet((3, 16, 16), 5, depth=depth, width=width)


def half(inputs: Tensor) -> Tensor:
    return inputs - 0.5


@pytest.fixture
def scene() -> Scene:
    inputs = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Scene(resnet(8, 4), half, ModuleTeacher(resnet(14, 8, 1), half), inputs, torch.arange(40) % 5, 5)


def computed(objective: Objective, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
    """The bound objective on the scene's inputs, as a training computes it."""
    with Tap(scene.student, objective.layers("student")) as tap:
        logits = scene.student(scene.preparation(scene.inputs))
        student = Outputs(logits, tap.read())
    assert scene.teacher is not None
    teacher = reading(scene.teacher, objective.layers("teacher"))(scene.inputs)
    return objective(student, teacher, target=torch.arange(6) % 5, index=torch.arange(6))


def test_sites_are_found_and_values_are_those_of_the_layers(scene: Scene) -> None:
    objective = bind(Objective([supervised(), term("attention_transfer", 1.0), term("sp", 1.0), term("fitnet")]), scene)
    assert objective.layers("student") == ("blocks.0", "blocks.1", "blocks")
    assert objective.layers("teacher") == ("blocks.1", "blocks.3", "blocks")
    _, parts = computed(objective, scene)

    def features(module: nn.Module, names: list[str]) -> list[Tensor]:
        with torch.no_grad(), Tap(module, names) as tap:
            module(half(scene.inputs))
            return [tap.read()[name].double() for name in names]

    def attention(f: Tensor) -> Tensor:
        return nn.functional.normalize(f.square().mean(dim=1).flatten(1), dim=1)

    scene.teacher.module.eval()  # type: ignore[union-attr]
    own = features(scene.student, ["blocks.0", "blocks.1", "blocks.2"])
    theirs = features(scene.teacher.module, ["blocks.1", "blocks.3", "blocks.5"])  # type: ignore[union-attr]
    expected = sum((attention(s) - attention(t)).square().mean() for s, t in zip(own, theirs, strict=True))
    assert parts["attention_transfer"].item() == pytest.approx(float(expected), rel=1e-3)
    gram = [nn.functional.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (own[2], theirs[2])]
    assert parts["sp"].item() == pytest.approx(((gram[0] - gram[1]) ** 2).mean().item(), rel=1e-3)


def test_adapters_start_from_weights_of_the_seed_and_are_counted(scene: Scene) -> None:
    objective = Objective([supervised(), term("fitnet", at=("blocks.5", "blocks.2"))])
    torch.manual_seed(1)
    one, before = bind(objective, scene), torch.random.get_rng_state()
    torch.manual_seed(2)
    other = bind(objective, scene)
    for first, second in zip(one.modules.parameters(), other.modules.parameters(), strict=True):
        assert torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(before, torch.random.get_rng_state())  # nothing of the global stream is used
    assert sum(p.numel() for p in one.modules.parameters()) == 16 * 32 + 2 * 32  # 1×1 convolution, BatchNorm
    assert told(one) == [
        "term 'fitnet': teacher's blocks.5, student's blocks.2: conv 16×4×4 → 32×4×4, 576 parameters, 8,192 MACs"
    ]
    assert not any(part._forward_hooks for part in [*scene.student.modules(), *scene.teacher.module.modules()])  # type: ignore[union-attr]


def test_no_term_that_waits_leaves_the_objective_as_it_is(scene: Scene) -> None:
    objective = Objective([supervised(), term("kl")])
    assert bind(objective, scene) is objective


class Scaled(nn.Module):
    """A user's loss with a parameter, between logits."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return (self.scale * student - teacher.detach()).square().mean(dim=1)


def test_a_module_of_the_users_own_is_copied_and_trained(scene: Scene) -> None:
    given = Scaled()
    objective = bind(Objective([term(given, 1.0)]), scene)
    (own,) = objective.modules.values()
    assert own is not given
    total, _ = computed(objective, scene)
    total.backward()
    assert given.scale.grad is None
    assert own.scale.grad is not None


@compares("pooled", same=False)
class Built(nn.Module):
    """Keeps what it was built with."""

    def __init__(
        self, student_shape: Any, teacher_shape: Any, *, samples: int, classes: int, rate: float = 0.5
    ) -> None:
        super().__init__()
        self.given = (student_shape, teacher_shape, samples, classes, rate)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return student.mean(dim=1) - teacher.mean(dim=1)


def test_a_class_is_built_for_the_shapes_with_its_hyperparameters(scene: Scene) -> None:
    objective = bind(Objective([term(Built, rate=0.25)]), scene)
    (own,) = objective.modules.values()
    assert own.given == ((16,), (32,), 40, 5, 0.25)
    assert objective.to_recipe()["Built"]["rate"] == 0.25
    with pytest.raises(RecipeError, match="has no hyperparameter 'student_shape'"):
        term(Built, student_shape=(3,))


def test_members_of_an_ensemble_and_reordered_teachers_are_read(scene: Scene) -> None:
    teachers = [ModuleTeacher(resnet(8, width, 3), half) for width in (6, 8)]
    both = Scene(scene.student, half, Ensemble(teachers), scene.inputs, scene.targets, 5)
    objective = bind(Objective([term("sp", 1.0, at=[["1/blocks.2", "blocks.2"], ["2/blocks.1", "blocks.1"]])]), both)
    assert objective.layers("teacher") == ("1/blocks.2", "2/blocks.1")
    computed(objective, both)
    names = list("abcde")
    module = reordered(resnet(14, 8, 1), names[::-1], names)
    turned = Scene(scene.student, half, ModuleTeacher(module, half), scene.inputs, scene.targets, 5)
    plain, mapped = (bind(Objective([term("sp", 1.0)]), one) for one in (scene, turned))
    assert plain.layers("teacher") == mapped.layers("teacher")
    assert computed(plain, scene)[0].item() == pytest.approx(computed(mapped, turned)[0].item())


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.idle, self.classifier = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.body(x))


BAD: list[tuple[Callable[[Scene], Any], dict[str, Any], type[Exception], str]] = [
    (lambda s: s, {"at": ("blocks.9", "blocks.2")}, ModelError, "no layer 'blocks.9'"),
    (lambda s: s, {"at": ("blocks.5", "block.2")}, ModelError, "no layer 'block.2'.*blocks.2"),
    (lambda s: s, {"at": ("blocks.5", "blocks.0"), "adapter": "none"}, ModelError, "8, 8|32.*16|shape"),
    (lambda s: s, {"at": ("blocks.5", "blocks.0"), "adapter": "lineer"}, ModelError, "adapter.*'linear'"),
    (lambda s: s, {"at": ("blocks.5", "blocks.0"), "adapter": nn.Flatten()}, ModelError, "blocks.5"),
    (lambda s: FunctionTeacher(lambda x: torch.zeros(len(x), 5)), {}, ModelError, "can not be found by themselves"),
    (lambda s: FunctionTeacher(lambda x: torch.zeros(len(x), 5)), {"at": "blocks.2"}, ModelError, "gives logits alone"),
    (lambda s: Ensemble([s.teacher]), {"at": "blocks.2"}, ModelError, "names no layer of an ensemble"),
    (lambda s: None, {"at": "blocks.2"}, ModelError, "there is no teacher"),
]  # fmt: skip


@pytest.mark.parametrize(("teacher", "settings", "kind", "told"), BAD)
def test_what_can_not_be_compared_is_refused(
    scene: Scene, teacher: Callable[[Scene], Any], settings: dict[str, Any], kind: type[Exception], told: str
) -> None:
    taught = teacher(scene)
    changed = Scene(
        scene.student, half, taught if taught is not scene else scene.teacher, scene.inputs, scene.targets, 5
    )
    objective = Objective([supervised(), term("fitnet", 1.0, **settings)])
    with pytest.raises(kind, match=told) as caught:
        bind(objective, changed)
    assert "cure:" in str(caught.value) or "nearest" in str(caught.value)


def test_a_layer_that_is_never_called_and_features_that_are_not_finite() -> None:
    student, teacher = Broken(), Broken()
    scene = Scene(student, lambda x: x, ModuleTeacher(teacher), torch.rand(3, 4), torch.zeros(3).long(), 5)
    with pytest.raises(ModelError, match="layer 'idle' was not called"):
        bind(Objective([term("fitnet", at=("body", "idle"))]), scene)
    with torch.no_grad():
        teacher.body.bias[0] = float("nan")
    with pytest.raises(NumericsError, match="the features of layer 'body' of the teacher are not finite"):
        bind(Objective([term("fitnet", at="body")]), scene)


def test_an_objective_that_was_not_bound_says_so() -> None:
    z = Outputs(torch.zeros(2, 3))
    with pytest.raises(RecipeError, match="term 'fitnet' does not know its layers yet"):
        Objective([term("fitnet", at="2")])(z, z)
