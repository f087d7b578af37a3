"""Contrastive representation distillation: a student's vector is told from those of other samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from limbeck.errors import DataError, ModelError, RecipeError
from limbeck.losses.contrastive.negatives import Negatives
from limbeck.losses.declare import compares
from limbeck.losses.shapes import by_channel, fits_samples, same_samples, unit, wide


@compares("pooled", same=False, weight=0.8)
class CRD(nn.Module):
    """Noise-contrastive estimation of which teacher's vector belongs to a student's, and the other way round.

    Both vectors are embedded by a trained linear layer, at length 1: v. Two memories hold past embeddings m of all n
    training samples. For a sample's row m_0 of the other model's memory and K rows m_k of other classes, with
    ``g_k = exp(v·m_k / T) / Z``: ``log((g_0 + K/n) / g_0) + Σ_k log((g_k + K/n) / (K/n))``, for both directions,
    added. Z is n times the mean of the exponentials in the first batch, and stays so; where that batch is computed
    in pieces, each takes its own mean.

    Negatives are drawn anew for each sample and step: one from each of K equal parts of the samples of other classes,
    so each row as often as any other, and each once where K is their number, which is the largest K that is taken.
    They depend on (seed, step, index) alone. A sample whose label is -1, or all without ``targets``, is a class of its
    own. After the step that was taken, a batch's rows become ``unit(momentum · m + (1 - momentum) · v)``.

    Two memories of n x dim float32: 51 MB for 50 000 samples, 1.3 GB for ImageNet; with the embeddings, Z and the step
    they belong to the checkpoint. A step computes B x n or B x K scores, whichever takes less memory.

    Args:
        student_shape: shape of the student's feature without the batch; maps and tokens are averaged over positions.
        teacher_shape: the same of the teacher's.
        samples: n, the number of training samples.
        targets: int64 ``[n]``, their labels; -1 for none. None: no sample has one.
        dim: length of the embeddings.
        negatives: K; at most as many as each sample has samples of other classes.
        momentum: share of a memory's row that is kept, from 0 to below 1.
        temperature: T.

    Raises:
        DataError: if all samples have one class, or the labels are not n.
        RecipeError: if a hyperparameter is out of its range.

    Source: Tian, Krishnan, Isola, ICLR 2020, arXiv:1910.10699, with its published weight. Rows start as vectors with
    uniform elements, as there, but of length 1, which they have there in the root mean square.

    Example:
        >>> crd = CRD((2,), (2,), samples=2, dim=2, negatives=1, temperature=1.0)
        >>> for part in (crd.embed_student, crd.embed_teacher):
        ...     part.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
        <All keys matched successfully>
        <All keys matched successfully>
        >>> _ = crd.memory_student.copy_(torch.eye(2)), crd.memory_teacher.copy_(torch.eye(2))
        >>> f_s, f_t = torch.tensor([[3.0, 0.0]]), torch.tensor([[5.0, 0.0]])  # v·m is 1, and 0 of the other
        >>> crd(f_s, f_t, index=torch.tensor([0])).detach()  # Z = e + 1: 2 (log 1.2311/.7311 + log .7689/.5)
        tensor([1.9031])
    """

    memory_student: Tensor
    memory_teacher: Tensor
    step: Tensor
    fixed: Tensor
    log_normalizer: Tensor

    def __init__(
        self,
        student_shape: Sequence[int],
        teacher_shape: Sequence[int],
        *,
        samples: int,
        targets: Tensor | None = None,
        dim: int = 128,
        negatives: int = 16384,
        momentum: float = 0.5,
        temperature: float = 0.07,
    ) -> None:
        super().__init__()
        _check(dim=dim, negatives=negatives, momentum=momentum, temperature=temperature)
        if targets is not None and len(targets) != samples:
            raise DataError(f"loss 'crd' was given {len(targets)} labels of {samples} training samples")
        self.momentum, self.temperature = momentum, temperature
        self.embed_student = nn.Linear(_width(student_shape), dim)
        self.embed_teacher = nn.Linear(_width(teacher_shape), dim)
        self.negatives = Negatives(torch.full((samples,), -1) if targets is None else targets, negatives)
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, unit(torch.rand(samples, dim) - 0.5))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fixed", torch.zeros((), dtype=torch.bool))
        self.register_buffer("log_normalizer", torch.zeros(2))
        self._seen: list[tuple[Tensor, ...]] = []  # of the step that is computed now

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        *,
        index: Tensor,
        mask: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The loss of each sample.

        Args:
            student: feature ``[B, D]``, ``[B, C, H, W]`` or ``[B, N, D]``.
            teacher: feature of any of these; its values are constants, its embedding is trained.
            index: int64 ``[B]``, the number of each sample in the training split, from 0 to n - 1.
            mask: bool ``[B]``; samples where it is False have the loss 0, and no part in Z and the memories.
            gather: joins rows of all processes, for the first batch's Z.

        Returns:
            Nats ``[B]``, the sum of both directions, not reduced over the samples, float32 (float64 for float64
            features).

        Raises:
            DataError: if a sample's number is not among the training samples, such as -1.
            ModelError: if the samples or the mask do not fit.
        """
        same_samples("crd", student, teacher)
        student, teacher = wide(student), wide(teacher.detach())
        if tuple(index.shape) != (len(student),):
            raise ModelError(f"loss 'crd' takes one index for each of {len(student)} samples, found {len(index)}")
        with torch.autocast(student.device.type, enabled=False):
            if mask is None:
                return self._contrast(student, teacher, index, gather)
            fits_samples("crd", mask, student)
            value = self._contrast(student[mask], teacher[mask], index[mask.to(index.device)], gather)
        whole = torch.zeros(len(mask), dtype=value.dtype, device=value.device)
        whole[mask] = value
        return whole

    def after_step(self, gather: Callable[[Tensor], Tensor] | None = None) -> None:
        """Take the batch of the step into the memories, which then were not changed by a step that is refused.

        Args:
            gather: joins rows of all processes, in one order in all.
        """
        with torch.no_grad():
            index, student, teacher, scores = self.rows()
            self._seen = []
            if gather is not None:
                index, student, teacher, scores = (gather(one) for one in (index, student, teacher, scores))
            self.step += 1
            finite = torch.isfinite(student).all(1) & torch.isfinite(teacher).all(1)  # a step that a scaler skipped
            index, student, teacher, scores = (one[finite] for one in (index, student, teacher, scores))
            if not len(index):
                return
            mean = scores.logsumexp(0) - math.log(len(index)) + math.log(len(self.memory_student))
            self.log_normalizer.copy_(torch.where(self.fixed, self.log_normalizer, mean))
            self.fixed.fill_(True)
            rows, which = index.unique(return_inverse=True)  # a sample that was drawn twice: the mean of both
            for memory, given in ((self.memory_student, student), (self.memory_teacher, teacher)):
                new = torch.zeros(len(rows), given.shape[1], dtype=memory.dtype, device=memory.device)
                new = unit(new.index_add_(0, which, given.to(memory)))
                memory[rows] = unit(self.momentum * memory[rows] + (1 - self.momentum) * new)

    def rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the memories will take: indices ``[R]``, embeddings of student and teacher ``[R, dim]``, scores.

        The scores ``[R, 2]`` are the logs of each sample's mean exponential, of which Z is made.
        """
        if self._seen:
            index, student, teacher, scores = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
            return index, student, teacher, scores
        memory = self.memory_student
        none = memory.new_empty(0, dtype=torch.int64)
        return none, memory[:0], self.memory_teacher[:0], memory.new_empty(0, 2)

    def _contrast(
        self, student: Tensor, teacher: Tensor, index: Tensor, gather: Callable[[Tensor], Tensor] | None
    ) -> Tensor:
        if not len(index):
            return student.flatten(1).sum(1)  # no values, but a graph
        samples = len(self.memory_student)
        outside = (index < 0) | (index >= samples)
        if bool(outside.any()):
            raise DataError(
                f"loss 'crd' remembers {samples} training samples by number, 0 to {samples - 1}; this batch has "
                f"{index[outside][:5].tolist()}",
                cure="let the data say which sample each is (index); -1 stands for one that has no number",
            )
        index = index.to(student.device)
        own, theirs = _embedded(self.embed_student, student), _embedded(self.embed_teacher, teacher)
        drawn = torch.cat([index.unsqueeze(1), self.negatives(index, self.step)], dim=1)
        scores = [
            self._scores(own, self.memory_teacher, drawn),
            self._scores(theirs, self.memory_student, drawn),
        ]
        means = torch.stack([one.detach().logsumexp(1) - math.log(one.shape[1]) for one in scores], dim=1)
        if self.training and torch.is_grad_enabled():
            self._keep(index, own.detach(), theirs.detach(), means)
        if gather is not None and not bool(self.fixed):  # in all processes alike
            means = gather(means)
        first = means.logsumexp(0) - math.log(len(means)) + math.log(samples)
        log_z = torch.where(self.fixed, self.log_normalizer, first)
        log_noise = math.log(self.negatives.count / samples)
        ours, others = (one - normalizer - log_noise for one, normalizer in zip(scores, log_z, strict=True))
        return (_told(ours) + _told(others)).to(student.dtype)

    def _scores(self, anchors: Tensor, memory: Tensor, drawn: Tensor) -> Tensor:
        """``v·m / T`` of the rows that were drawn, ``[B, 1 + K]``: all rows and then these, or these alone."""
        memory = memory.to(anchors.dtype)
        if len(memory) <= drawn.shape[1] * memory.shape[1]:
            return (anchors @ memory.mT).gather(1, drawn) / self.temperature
        return torch.einsum("bd,bkd->bk", anchors, memory[drawn]) / self.temperature

    def _keep(self, *rows: Tensor) -> None:
        self._seen.append(rows)
        while sum(len(one[0]) for one in self._seen[1:]) >= len(self.memory_student):  # of steps never taken
            self._seen.pop(0)


def _embedded(layer: nn.Linear, feature: Tensor) -> Tensor:
    feature = by_channel(feature).mean(2)
    if feature.shape[1] != layer.in_features:
        raise ModelError(
            f"loss 'crd' was made for a feature of {layer.in_features}; it was given {feature.shape[1]}",
            cure="make it from the shapes of the layers that it compares",
        )
    return unit(layer(feature.to(layer.weight.dtype)))


def _told(scores: Tensor) -> Tensor:
    """The loss of ``log(g_k n / K)``, the first one the positive: a sigmoid's cross-entropy for each, summed."""
    return softplus(-scores[:, 0]) + softplus(scores[:, 1:]).sum(1)


def _width(shape: Sequence[int]) -> int:
    if len(shape) not in (1, 2, 3):
        raise ModelError(
            f"loss 'crd' takes features of shape (D,), (C, H, W) or (N, D) without the batch; this one is "
            f"{tuple(shape)}",
            cure="take another layer with 'at'",
        )
    return shape[-1] if len(shape) == 2 else shape[0]


def _check(*, dim: int, negatives: int, momentum: float, temperature: float) -> None:
    for name, value in (("dim", dim), ("negatives", negatives)):
        if value < 1:
            raise RecipeError(f"crd.{name} is {value}, expected 1 at least")
    if not 0 <= momentum < 1:
        raise RecipeError(f"crd.momentum is {momentum}, expected a number from 0 to below 1")
    if not temperature > 0:
        raise RecipeError(f"crd.temperature is {temperature}, expected a positive number")
