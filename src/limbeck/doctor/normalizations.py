"""Finding a model whose inputs are normalized otherwise than in its training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.doctor.chance import sign_test
from limbeck.doctor.finding import Finding, percent
from limbeck.doctor.splits import few
from limbeck.errors import NumericsError

GAIN = 0.02
PROBE = 256  # samples that each of the alternatives is tried on
Logits = Callable[[Normalization, Split], Tensor]

_USUAL: dict[int, dict[str, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    3: {
        "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "CIFAR-10's": ((0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)),
    },
    1: {"MNIST's": ((0.1307,), (0.3081,))},
}


def usual(channels: int) -> dict[str, Normalization]:
    """The usual normalizations of images with so many channels, whose inputs are scaled to [0, 1], by name.

    Example:
        >>> list(usual(1))
        ['none (0 to 1)', 'bytes (0 to 255)', '-1 to 1', "MNIST's"]
    """
    found = {
        "none (0 to 1)": Normalization.none(channels),
        "bytes (0 to 255)": Normalization((0.0,) * channels, (1 / 255,) * channels),
        "-1 to 1": Normalization((0.5,) * channels, (0.5,) * channels),
    }
    return found | {name: Normalization(*values) for name, values in _USUAL.get(channels, {}).items()}


def other_normalization(
    logits: Logits,
    given: Normalization,
    split: Split,
    measured: Normalization | None = None,
    who: str = "teacher",
) -> list[Finding]:
    """A model that is clearly better under another of the usual normalizations than under the one that it is given.

    ``normalization``, a warning, naming the best one: at least 2 points better on the same samples (at most 256), and
    more often than one in a thousand by chance (sign test over the samples where only one of the two is right, divided
    by the number of alternatives).

    Args:
        logits: gives a model's logits for a split under a normalization.
        given: the model's.
        split: labeled samples, such as the validation split.
        measured: of the training split, as a further alternative.
        who: for the message.
    """
    probe = few(split, PROBE)
    targets = probe.targets
    channels = probe.shape[0] if len(probe.shape) == 3 else 1
    others = usual(channels) | ({"measured on these data": measured} if measured else {})
    others = {name: one for name, one in others.items() if not _same(one, given)}
    plain = logits(given, probe).argmax(dim=1) == targets
    best: tuple[float, str, int, int] | None = None
    tried: dict[str, float] = {}
    for name, one in others.items():
        right = _right(logits, one, probe)
        if right is None:
            continue
        tried[name] = round(float(right.double().mean()), 4)
        gained, lost = int((right & ~plain).sum()), int((plain & ~right).sum())
        clear = sign_test(gained, lost) * len(others) < 1e-3 and (gained - lost) / len(targets) >= GAIN
        if clear and (best is None or tried[name] > best[0]):
            best = tried[name], name, gained, lost
    if best is None:
        return []
    share, name, gained, lost = best
    now = float(plain.double().mean())
    text = f"the {who} is right for {percent(share)} of the {split.name} samples if its inputs are normalized as "
    text += f"{name}, and for {percent(now)} with the normalization that it is given"
    evidence = {"accuracy": round(now, 4), "given": given.to_dict(), "better": name, **others[name].to_dict()}
    evidence |= {"tried": tried, "gained": gained, "lost": lost, "samples": len(targets)}
    cause = "it was trained with other statistics than it is now given, or its inputs were not scaled to [0, 1]"
    mean, std = ([round(value, 6) for value in values] for values in (others[name].mean, others[name].std))
    cure = f"set normalization: {{mean: {mean}, std: {std}}} for the {who}"
    if others[name].identity:
        cure = f"set normalization: none for the {who}"
    return [Finding("normalization", "warning", text, evidence, cause, cure)]


def unlike_published(given: Any, published: Any, who: str, name: str) -> list[Finding]:
    """A pretrained model whose inputs are not normalized as its publisher says.

    ``normalization_published``, a warning, if a mean or deviation is off by more than 0.02.

    Args:
        given: the Normalization that the model gets.
        published: the one of its weights' description, or None where it is not known.
        who: for the message.
        name: of the model.

    Example:
        >>> given, published = Normalization.none(3), usual(3)["ImageNet's"]
        >>> [one.code for one in unlike_published(given, published, "teacher", "timm/resnet18")]
        ['normalization_published']
    """
    if published is None or _same(given, published, 0.02):
        return []
    text = f"the {who} {name} is pretrained with mean {_listed(published.mean)} and std {_listed(published.std)}, "
    text += f"and is given mean {_listed(given.mean)} and std {_listed(given.std)}"
    evidence = {"given": given.to_dict(), "published": published.to_dict()}
    cause = "the statistics of these data were taken instead of those of the weights"
    cure = f"set the {who}'s normalization to the published one, or train all its layers for long enough to adapt"
    return [Finding("normalization_published", "warning", text, evidence, cause, cure)]


def _right(logits: Logits, normalization: Normalization, probe: Split) -> Tensor | None:
    try:
        return logits(normalization, probe).argmax(dim=1) == probe.targets
    except NumericsError:  # inputs a hundred times too large may overflow
        return None


def _same(one: Normalization, other: Normalization, by: float = 1e-3) -> bool:
    return len(one.mean) == len(other.mean) and all(
        abs(a - b) <= by for a, b in zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    )


def _listed(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"


__all__ = ["Logits", "other_normalization", "unlike_published", "usual"]
