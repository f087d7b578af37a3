"""Students that keep the teacher's classifier: their last map goes through a projector to it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError
from limbeck.losses.shapes import pooled
from limbeck.models.heads import find_head
from limbeck.outputs import Outputs
from limbeck.taps import Tap

TOLERANCE = 1e-4  # of the largest logit: what another order of the same sums in float32 may change


class ReusesClassifier(nn.Module):
    """A student whose feature map is projected to the teacher's and classified by the teacher's own head.

    ``logits = head(mean over H, W of projector(map of the student))``. The head is frozen, the rest is trained. All of
    it ships, so all of its parameters count as the student's. The projected map is what layer ``projector`` gives.

    Args:
        student: without its own head, see :func:`reuse_classifier`; its own output is not used.
        layer: address of its last feature map.
        projector: from this map to one of the teacher's width.
        head: the teacher's classifier, of pooled features.

    Shapes: what the student takes → logits ``[B, classes]``.

    Source: Chen, Mei, Zhang, Wang, Feng, Chen, CVPR 2022, arXiv:2203.14001.

    Example:
        >>> net = ReusesClassifier(nn.Sequential(nn.Identity()), "0", nn.Identity(), nn.Linear(1, 2))
        >>> with torch.no_grad():
        ...     _ = net.head.weight.copy_(torch.tensor([[1.0], [2.0]])), net.head.bias.zero_()
        >>> net(torch.tensor([[[[1.0, 3.0]]]]))  # the mean 2, times 1 and 2
        tensor([[2., 4.]])
    """

    def __init__(self, student: nn.Module, layer: str, projector: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.student, self.projector = student, projector
        self.head = head.requires_grad_(False).eval()
        self.layer = layer

    def train(self, mode: bool = True) -> ReusesClassifier:
        """The mode of all but the head, which stays as the teacher's is."""
        super().train(mode)
        self.head.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        with Tap(self.student, [self.layer]) as tap:
            self.student(inputs)
        return self.head(self.projector(tap.read()[self.layer]).mean(dim=(2, 3)))


class Projector(nn.Sequential):
    """SimKD's projector: 1 x 1, 3 x 3 and 1 x 1 convolution, each with batch norm and ReLU, half as wide inside.

    A map larger than the teacher's is average-pooled first; one that is smaller is left so, and the teacher's is pooled
    by the loss.

    Args:
        student_shape: ``(C, H, W)`` of the student's map.
        teacher_shape: of the teacher's.

    Example:
        >>> sum(p.numel() for p in Projector((8, 4, 4), (6, 2, 2)).parameters())  # 24 + 6, 81 + 6, 18 + 12
        147
    """

    def __init__(self, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...]) -> None:
        width, inside = teacher_shape[0], max(teacher_shape[0] // 2, 1)
        layers: list[nn.Module] = []
        for before, after, size in ((student_shape[0], inside, 1), (inside, inside, 3), (inside, width, 1)):
            convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
        super().__init__(*layers)
        self.size = tuple(teacher_shape[1:])

    def forward(self, feature: Tensor) -> Tensor:
        size = (min(feature.shape[2], self.size[0]), min(feature.shape[3], self.size[1]))
        return super().forward(pooled(feature, size))


def reuse_classifier(
    teacher: nn.Module,
    student: nn.Module,
    inputs_teacher: Tensor,
    inputs_student: Tensor,
    teacher_layer: str,
    student_layer: str,
) -> ReusesClassifier:
    """A student with a new projector and the teacher's classifier; both models are left as they are.

    Each model is run once, in eval mode, for the shapes and to see that the teacher's logits are its head's, of the
    mean of its map.

    Args:
        teacher: its head is copied.
        student: is copied, its own head left out.
        inputs_teacher: some samples ``[B, …]``, as prepared for the teacher.
        inputs_student: some samples, as prepared for the student.
        teacher_layer: address of the teacher's last feature map, the one that is averaged for its head.
        student_layer: address of the student's.

    Raises:
        ModelError: if a layer gives no map ``[B, C, H, W]``, or the teacher's head takes something else than the mean
            of this map.

    Example:
        >>> class Net(nn.Sequential):
        ...     def forward(self, x):
        ...         return self[1](self[0](x).mean(dim=(2, 3)))
        >>> teacher, student = (Net(nn.Conv2d(1, width, 3), nn.Linear(width, 5)) for width in (8, 4))
        >>> made = reuse_classifier(teacher, student, torch.ones(2, 1, 6, 6), torch.ones(2, 1, 6, 6), "0", "0")
        >>> made(torch.ones(2, 1, 6, 6)).shape
        torch.Size([2, 5])
    """
    theirs, logits = _run(teacher, "teacher", teacher_layer, inputs_teacher)
    if logits.ndim != 2:
        raise ModelError(
            f"the teacher {type(teacher).__name__} gives scores of shape {tuple(logits.shape[1:])} for each sample; "
            "simkd reuses a classifier of one vector a sample",
            cure="for masks compare features by at, fitnet or pairwise, and logits by pixel_kl",
        )
    own, _ = _run(student, "student", student_layer, inputs_student)
    found = find_head(teacher)
    if len(found) != 1:
        raise ModelError(
            f"the teacher {type(teacher).__name__} has several heads, {', '.join(found)}; simkd keeps one",
            cure="take a teacher whose logits come from one head",
        )
    head = copy.deepcopy(teacher.get_submodule(found[0])).eval()
    _same_logits(head, found[0], teacher_layer, theirs, logits)
    body = copy.deepcopy(student)
    for name in find_head(student):
        body.set_submodule(name, nn.Identity())
    projector = Projector(tuple(own.shape[1:]), tuple(theirs.shape[1:])).to(own.device)
    made = ReusesClassifier(body, student_layer, projector, head.to(own.device))
    return made.train(student.training)


def _run(module: nn.Module, whose: str, layer: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The feature map at a layer, and the logits, in eval mode; the mode is given back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), Tap(module, [layer]) as tap:
            logits = Outputs.of(module(inputs)).logits
    finally:
        for part, mode in modes:
            part.training = mode
    feature = tap.read()[layer]
    if feature.ndim != 4:
        raise ModelError(
            f"layer '{layer}' of the {whose} gives {tuple(feature.shape)}; simkd takes feature maps [B, C, H, W]",
            cure="name its last layer before the pooling",
        )
    return feature, logits


def _same_logits(head: nn.Module, name: str, layer: str, feature: Tensor, logits: Tensor) -> None:
    """See that the logits are the head's, of the mean of the map."""
    told = f"the teacher's head '{name}' does not give its logits from the mean of layer '{layer}'"
    cure = "name the layer whose map is averaged right before the head; a head behind other layers can not be reused"
    try:
        with torch.no_grad():
            found = head(feature.mean(dim=(2, 3)))
    except RuntimeError:
        raise ModelError(f"{told}, which has {feature.shape[1]} channels", cure=cure) from None
    if found.shape != logits.shape:
        raise ModelError(f"{told}: it gives {tuple(found.shape)}, the teacher {tuple(logits.shape)}", cure=cure)
    difference, largest = float((found - logits).abs().max()), float(logits.abs().max())
    if not difference <= TOLERANCE * max(1.0, largest):
        raise ModelError(f"{told}: logits differ by {difference:.3g}", cure=cure)
