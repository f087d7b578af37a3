"""An objective in words, from the plain data that a run keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limbeck.losses import TABLE, declared
from limbeck.objective.weighted import BALANCE

_SITES = {
    "logits": "logits",
    "each_stage": "each stage",
    "middle_stage": "middle stage",
    "last_stage": "last stage",
    "all_stages": "all stages",
    "pooled": "pooled features",
}


def terms_of(objective: Any) -> dict[str, dict[str, Any]]:
    """The terms of an objective's recipe by name; nothing where it is none.

    Example:
        >>> terms_of({"kl": 0.9, "balance": {"kl": 1}}), terms_of("auto")
        ({'kl': {'weight': 0.9}}, {})
    """
    if not isinstance(objective, Mapping):
        return {}
    terms = {str(name): one for name, one in objective.items() if name != BALANCE}
    return {name: dict(one) if isinstance(one, Mapping) else {"weight": one} for name, one in terms.items()}


def shares_of(objective: Any) -> dict[str, float]:
    """The declared shares of the gradient, made to sum to 1; none where nothing is balanced.

    Example:
        >>> shares_of({"supervised": 1.0, "kl": 1.0, "balance": {"supervised": 1, "kl": 3}})
        {'supervised': 0.25, 'kl': 0.75}
    """
    found = (objective.get(BALANCE) or {}) if isinstance(objective, Mapping) else {}
    return {str(name): share / sum(found.values()) for name, share in found.items()}


def loss_of(name: str, one: Mapping[str, Any]) -> str:
    """The loss of a term.

    Example:
        >>> loss_of("supervised", {}), loss_of("soft", {"loss": "kl"}), loss_of("kl", {})
        ('cross_entropy', 'kl', 'kl')
    """
    return str(one.get("loss") or ("cross_entropy" if name == "supervised" else name))


def layers_of(name: str, one: Mapping[str, Any]) -> list[str]:
    """Where a term reads: each pair of layers, the teacher's first, or the site that is found in the models.

    Example:
        >>> layers_of("fitnet", {"at": [["layer3", "blocks.2"]]}), layers_of("fitnet", {}), layers_of("kl", {})
        (['layer3 → blocks.2'], ['middle stage'], ['logits'])
    """
    at = one.get("at")
    if isinstance(at, Mapping):
        sides = [[side] if isinstance(side, str) else side for side in (at.get("teacher", []), at.get("student", []))]
        at = list(zip(*sides, strict=False))
    if isinstance(at, list | tuple):
        single = len(at) == 2 and all(isinstance(side, str) for side in at)
        return [_pair(one) for one in ([at] if single else at)]
    loss = TABLE.get(loss_of(name, one))
    if at is None and loss is not None:
        at = declared(loss).site
    return [] if at is None else [_SITES[at] if at in _SITES else _pair((at, at))]


def schedule_of(one: Mapping[str, Any]) -> str:
    """How a term's weight changes over the epochs, or nothing.

    Example:
        >>> schedule_of({"schedule": {"warmup": 20, "off": 200}})
        'rises over 20 epochs; off from epoch 200'
        >>> schedule_of({"schedule": {"cosine": [100, 200], "to": 0.1}})
        'to 0.1 times along a cosine, epochs 100 to 200'
    """
    plan = one.get("schedule")
    if not isinstance(plan, Mapping):
        return ""
    words = []
    if plan.get("warmup"):
        words.append(f"rises over {plan['warmup']:g} epoch{'' if plan['warmup'] == 1 else 's'}")
    for key, along in (("linear", "in a line"), ("cosine", "along a cosine")):
        if plan.get(key):
            start, end = plan[key]
            words.append(f"to {plan.get('to') or 0:g} times {along}, epochs {start:g} to {end:g}")
    if plan.get("off") is not None:
        words.append(f"off from epoch {plan['off']:g}")
    return "; ".join(words)


def in_words(objective: Any) -> list[str]:
    """A line for each term, and one for the shares that are declared.

    Example:
        >>> in_words({"supervised": 0.1, "soft": {"loss": "kl", "weight": 0.9, "schedule": {"warmup": 2}}})
        ['0.1 × supervised (cross_entropy) on logits', '0.9 × soft (kl) on logits; rises over 2 epochs']
    """
    lines = []
    for name, one in terms_of(objective).items():
        loss, weight = loss_of(name, one), one.get("weight")
        line = name if weight is None else f"{weight:g} × {name}"
        line += f" ({loss})" if loss != name else ""
        line += f" on {', '.join(layers)}" if (layers := layers_of(name, one)) else ""
        more = [schedule_of(one), f"adapter {one['adapter']}" if one.get("adapter") else ""]
        lines.append("; ".join([line, *filter(None, more)]))
    shares = ", ".join(f"{name} {share:.0%}" for name, share in shares_of(objective).items())
    return [*lines, *([f"declared shares of the gradient: {shares}"] if shares else [])]


def _pair(pair: Any) -> str:
    return " → ".join(str(side) for side in pair)
