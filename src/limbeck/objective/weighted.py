"""The weighted sum of terms, and the one reduction."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.data.batch import Mixed
from limbeck.errors import RecipeError
from limbeck.losses import cross_entropy
from limbeck.objective.balance import Balance, balanced_weights
from limbeck.objective.blame import blame
from limbeck.objective.links import Gather
from limbeck.objective.plain import BALANCE, from_plain
from limbeck.objective.reduction import in_pieces, of_samples, reduced, shared, sides
from limbeck.objective.terms import BALANCED, Term, described, hard_labels, number, supervised, term
from limbeck.outputs import Outputs

Weights = Mapping[str, float]


class Objective:
    """A weighted sum of terms, each the mean of its loss over the samples that count for it.

    Args:
        terms: what :func:`supervised` and :func:`term` give, in order; names must differ.
        balance: terms and the shares of the gradient's norm that they shall have; None: weights stay as they are.

    Raises:
        RecipeError: if there is no term, two have one name, or every weight is 0.

    Example:
        >>> objective = Objective([supervised(0.1), term("kl", 0.9, temperature=4.0)])
        >>> z = Outputs(torch.zeros(2, 3))
        >>> total, parts = objective(z, z, target=torch.tensor([0, -1]))
        >>> round(total.item(), 4), {name: round(value.item(), 4) for name, value in parts.items()}
        (0.1099, {'supervised': 1.0986, 'kl': 0.0})
    """

    def __init__(self, terms: Sequence[Term], *, balance: Balance | Mapping[str, float] | None = None) -> None:
        if not terms:
            raise RecipeError("an objective needs a term", cure="give limbeck.supervised() or limbeck.term(...)")
        for one in terms:
            if not isinstance(one, Term):
                raise RecipeError(f"an objective is a list of terms, found {type(one).__name__}", cure="limbeck.term")
        names = [one.name for one in terms]
        for name in names:
            if names.count(name) > 1:
                raise RecipeError(f"two terms are called '{name}'", cure="give one of them another name=")
        if not any(one.weight for one in terms):
            raise RecipeError("every term has weight 0: nothing would be learned", cure="give one a weight above 0")
        self.terms = tuple(terms)
        self.balance = balance if isinstance(balance, Balance) or balance is None else Balance(balance)
        if self.balance:
            self.balance.check(names, {one.name: one.weight for one in terms})

    def __repr__(self) -> str:
        return f"Objective({self.to_recipe()})"

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares with a teacher."""
        return any(one.needs_teacher for one in self.terms)

    @property
    def waits(self) -> bool:
        """Whether it must be bound to models before it can be computed, see :func:`limbeck.objective.binding.bind`."""
        return any(one.waits for one in self.terms)

    @property
    def foreign(self) -> bool:
        """Whether any loss is none of limbeck's."""
        return any(one.foreign for one in self.terms)

    @property
    def reads_layers(self) -> bool:
        """Whether any term compares what layers give, and not logits alone."""
        return any(one.place != "logits" for one in self.terms)

    def layers(self, whose: Literal["student", "teacher"]) -> tuple[str, ...]:
        """Addresses of the layers that the terms read, once the objective is bound; each once."""
        return tuple(dict.fromkeys(name for one in self.terms for link in one.links for name in getattr(link, whose)))

    @property
    def modules(self) -> nn.ModuleDict:
        """What is trained beside the student: adapters, and losses with parameters or a memory."""
        found = nn.ModuleDict()
        for one in self.terms:
            for number_, link in enumerate(one.links):
                key = f"{re.sub('[^0-9a-zA-Z_]', '_', one.name)}{number_}"
                for place, adapter in enumerate(link.adapters):
                    if adapter is not None:
                        found[f"{key}_adapter{place}"] = adapter
                if isinstance(link.loss, nn.Module):
                    found[f"{key}_loss"] = link.loss
        return found

    @property
    def joins(self) -> bool:
        """Whether several processes must join their samples: a loss compares them, or keeps them."""
        links = [link for one in self.terms for link in one.links]
        kept = any(hasattr(link.loss, "after_step") for link in links)
        return kept or any(one.compares.relational for one in self.terms)

    def after_step(self, gather: Gather | None = None) -> None:
        """Tell the losses that keep a memory that the step was taken."""
        for one in self.terms:
            for link in one.links:
                remember = getattr(link.loss, "after_step", None)
                if remember is not None:
                    remember() if gather is None else remember(gather=gather)

    def weights_at(self, epoch: float, factors: Mapping[str, float] | None = None) -> dict[str, float]:
        """Each term's weight at an epoch: its own, times its schedule's factor, times its balancing factor.

        Example:
            >>> Objective([term("kl", 0.9, schedule={"warmup": 2})]).weights_at(1.0)
            {'kl': 0.45}
        """
        return {
            one.name: one.weight
            * (1.0 if one.schedule is None else one.schedule.factor(epoch))
            * (factors or {}).get(one.name, 1.0)
            for one in self.terms
        }

    @property
    def class_weights(self) -> tuple[float, ...] | None:
        """The class weights of the first term that learns from labels; None if it has none.

        Example:
            >>> Objective([supervised(0.1, class_weights=[1, 2]), term("kl", 0.9)]).class_weights
            (1.0, 2.0)
        """
        own = next((one.settings for one in self.terms if one.loss is cross_entropy), {})
        return own.get("class_weights")

    def resolved(self, counts: Tensor, classes: Sequence[str]) -> Objective:
        """This objective with numbers for ``class_weights: balanced``: n / (C · n_c), whose mean over samples is 1.

        Args:
            counts: int64 ``[C]``, how many labels of each class the training samples, or their pixels, have.
            classes: class names, in the order of the labels.

        Raises:
            DataError: if balanced weights are asked for and a class has no training sample.
            RecipeError: if a list of weights has not one number for each class.

        Example:
            >>> objective = Objective([supervised(class_weights="balanced")])
            >>> objective.resolved(torch.tensor([3, 1]), ("common", "rare")).class_weights
            (0.6666666666666666, 2.0)
        """
        terms = []
        for one in self.terms:
            weights = one.hyper.get("class_weights")
            if weights == BALANCED:
                one = replace(one, hyper={**one.hyper, "class_weights": balanced_weights(counts, classes)})
            elif weights is not None and len(weights) != len(classes):
                raise RecipeError(
                    f"objective.{one.name}.class_weights has {len(weights)} numbers for {len(classes)} classes",
                    cure="give one for each class, in the order of the classes, or balanced",
                )
            terms.append(one)
        return Objective(terms, balance=self.balance)

    def counts(self, target: Tensor, mask: Tensor | None = None, mixed: Mixed | None = None) -> dict[str, Tensor]:
        """What to divide by when a batch is computed in pieces, so that the pieces sum to the batch exactly.

        Args:
            target: int64 labels of the whole batch ``[B]`` or ``[B, H, W]``, -1 for none.
            mask: bool, of the target's shape; elements where it is False count for no term.
            mixed: what the samples were mixed with.

        Returns:
            ``samples``; ``seen`` and ``told``, those with an element that counts, and with one that has a label;
            ``elements`` (of the target that are not masked) and ``labeled`` (those with a label). Of a mixed sample the
            shares count that have a label. The counts of several batches may be added.
        """
        kept = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
        samples = torch.tensor(len(target), device=target.device)
        known = [(kept & (labels >= 0), share) for labels, share in sides(target, mixed)]
        labeled = torch.stack([shared(one, share).sum() for one, share in known]).sum()
        told = torch.stack([shared(of_samples(one), share).sum() for one, share in known]).sum()
        seen = of_samples(kept).sum()
        return {"samples": samples, "seen": seen, "told": told, "elements": kept.sum(), "labeled": labeled}

    def check_pieces(self, pieces: int) -> None:
        """See that a batch may be computed in so many pieces.

        Raises:
            RecipeError: naming a term whose value of the batch is no mean of values of pieces.

        Example:
            >>> Objective([term("dice_batch")]).check_pieces(2)
            Traceback (most recent call last):
            limbeck.errors.RecipeError: term 'dice_batch' adds up over the whole batch, which is computed in 2 pieces: \
the sums of the pieces are not the batch's
              cure: set accumulate: 1, or take dice, whose sums are over each image
        """
        for one in self.terms if pieces > 1 else ():
            if one.compares.summed:
                raise in_pieces(one, f"{pieces} pieces")

    def __call__(
        self,
        student: Outputs,
        teacher: Outputs | None,
        *,
        target: Tensor | None = None,
        index: Tensor | None = None,
        mask: Tensor | None = None,
        mixed: Mixed | None = None,
        counts: Mapping[str, Tensor] | None = None,
        weights: Weights | None = None,
        gather: Gather | None = None,
        look: Callable[[dict[str, Tensor]], Weights] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's value and each term's own, unweighted and detached.

        A loss that is a scalar by itself, because it compares samples with each other, gets a piece's share of the
        batch as its weight. A term of weight 0 is reported, not learned from.

        Of mixed samples, a loss that takes a ``target`` is computed with both labels and added by their shares; a term
        that needs labels is then the sum over the shares with a label, divided by the sum of these shares (at least
        1), so that a side without a label counts for nothing. ``hard_labels`` puts the teacher's most probable class
        for the mixed picture there. Terms without labels see the mixed picture and nothing else.

        Args:
            student: outputs with a graph.
            teacher: outputs of the teacher, or None if no term needs it.
            target: int64 labels, -1 for none.
            index: int64 addresses of the samples.
            mask: bool; elements where it is False count for no term.
            mixed: labels and shares of what the samples were mixed with.
            counts: from :meth:`counts` when this is a piece of a batch; the pieces' values then sum to the batch's.
            weights: of the terms now, from :meth:`weights_at`; None: their own.
            gather: joins the parts of a batch that several processes have, for losses that compare samples.
            look: is shown each term's own value with its graph, and says the weights.

        Raises:
            NumericsError: if the value is not finite, naming term and samples.
            ModelError: if what a loss returns has no element for each sample.
        """
        if mixed is not None and target is not None and counts is None:
            counts = self.counts(target, mask, mixed)
        device, values, means = student.logits.device.type, {}, {}
        now = weights or {one.name: one.weight for one in self.terms}
        # Half precision is for the models: it halves the digits of exponentials and sums.
        full = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        with full:
            for one in self.terms:
                with torch.set_grad_enabled(torch.is_grad_enabled() and now[one.name] > 0):
                    values[one.name], means[one.name] = reduced(
                        one, student, teacher, target, mixed, counts, index=index, mask=mask, gather=gather
                    )
            now = now if look is None else look(means)
            weighted = [means[one.name] * now[one.name] for one in self.terms if now[one.name] > 0]
        total = sum(weighted[1:], weighted[0]) if weighted else 0.0 * student.logits.sum()
        if not bool(torch.isfinite(total.detach())):
            counting = [one for one in self.terms if now[one.name] > 0]
            raise blame(counting, values, means, student, teacher, index)
        return total, {name: mean.detach() for name, mean in means.items()}

    def without_teacher(self) -> Objective:
        """The control's objective: the teacher's terms removed, weight 1 on the labels, all else kept.

        Example:
            >>> Objective([supervised(0.1, label_smoothing=0.1), term("kl", 0.9)]).without_teacher().terms[0].weight
            1.0
        """
        kept = [one for one in self.terms if not one.needs_teacher]
        labeled = [one for one in kept if one.needs_label]
        if not labeled:
            return Objective([supervised(1.0), *kept])
        sum_ = math.fsum(one.weight for one in labeled)
        share = {one.name: one.weight / sum_ if sum_ else 1 / len(labeled) for one in labeled}
        alone = [replace(one, schedule=None, weight=share[one.name]) if one.name in share else one for one in kept]
        return Objective(alone)

    def with_hard_labels(self) -> Objective:
        """The second control's objective: labels where there are some, else the teacher's most probable class.

        It is :meth:`without_teacher` with ``hard_labels`` in the place of the cross-entropy; other terms that learn
        from labels keep their shares, where there are labels. Without a cross-entropy it is ``hard_labels`` alone.

        Example:
            >>> Objective([supervised(0.1), term("kl", 0.9)]).with_hard_labels().terms[0].name
            'hard_labels'
        """
        alone = self.without_teacher()
        own = next((one for one in alone.terms if one.loss is cross_entropy), None)
        if own is None:
            return Objective([hard_labels(1.0), *(one for one in alone.terms if not one.needs_label)])
        replaced = hard_labels(own.weight, **own.hyper)
        return Objective([replaced, *(one for one in alone.terms if one is not own)])

    @classmethod
    def from_alpha_on_hard(cls, alpha: float, temperature: float = 4.0, *, square: bool = True) -> Objective:
        """``alpha · CE + (1 - alpha) · T² · KL``; ``square=False``: as published without T².

        Example:
            >>> [one.weight for one in Objective.from_alpha_on_hard(0.25, 4.0).terms]
            [0.25, 0.75]
        """
        alpha = number("alpha", alpha, least=0.0, most=1.0)
        return cls([supervised(alpha), term("kl", 1 - alpha, temperature=temperature, square=square)])

    @classmethod
    def from_alpha_on_soft(cls, alpha: float, temperature: float = 4.0, *, square: bool = True) -> Objective:
        """``(1 - alpha) · CE + alpha · T² · KL``; ``square=False``: as published without T².

        Example:
            >>> [one.weight for one in Objective.from_alpha_on_soft(0.25, 4.0).terms]
            [0.75, 0.25]
        """
        return cls.from_alpha_on_hard(1 - number("alpha", alpha, least=0.0, most=1.0), temperature, square=square)

    @classmethod
    def from_lambda(cls, weight: float, temperature: float = 4.0, *, square: bool = True) -> Objective:
        """``CE + weight · T² · KL``; ``square=False``: as published without T².

        Example:
            >>> [one.weight for one in Objective.from_lambda(3.0, 1.0).terms]
            [1.0, 3.0]
        """
        return cls([supervised(1.0), term("kl", weight, temperature=temperature, square=square)])

    @classmethod
    def of(cls, value: Objective | Sequence[Term] | Mapping[str, Any] | None) -> Objective:
        """An objective from terms or a recipe's mapping; None gives 0.1 supervised + 0.9 kl at temperature 4."""
        if isinstance(value, Objective):
            return value
        if value is None:
            return cls.from_alpha_on_hard(0.1, 4.0)
        if isinstance(value, Term):
            return cls([value])
        return cls.from_recipe(value) if isinstance(value, Mapping) else cls(list(value))

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any], user: Mapping[str, Any] | None = None) -> Objective:
        """An objective from ``{"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4}}``.

        A key is ``supervised`` or the name of a loss; a value is its weight, or a mapping of weight, ``at``,
        ``adapter``, ``schedule`` and hyperparameters. With ``loss`` in that mapping the key is a name of one's own, for
        two terms of one loss. ``balance`` maps terms to their shares of the gradient.

        Args:
            recipe: plain data.
            user: losses of the user's own file, ``user/NAME`` in the recipe; None: they are not known yet.

        Raises:
            RecipeError: naming the key that is wrong and the nearest right one.

        Example:
            >>> [one.name for one in Objective.from_recipe({"supervised": 0.1, "kl": 0.9}).terms]
            ['supervised', 'kl']
        """
        plain = dict(recipe)
        balance = plain.pop(BALANCE, None)
        return cls(from_plain(plain, user), balance=balance)

    def to_recipe(self) -> dict[str, Any]:
        """What :meth:`from_recipe` reads, in plain data, defaults included; a user's own loss is described.

        Example:
            >>> Objective([term("kl", 0.9)]).to_recipe()["kl"]["temperature"]
            4.0
        """
        found: dict[str, Any] = {one.name: described(one) for one in self.terms}
        return found | ({BALANCE: dict(self.balance.shares)} if self.balance else {})
