"""Losses between logits."""

from collections.abc import Callable
from typing import Any

from limbeck.losses.logits.binary import bernoulli_kl
from limbeck.losses.logits.correlation import dist
from limbeck.losses.logits.decoupled import dkd, nkd
from limbeck.losses.logits.divergences import jsd, kl, logit_mse, reverse_kl
from limbeck.losses.logits.free import teacher_free
from limbeck.losses.logits.weighted import wsld

TABLE: dict[str, Callable[..., Any]] = {
    "bernoulli_kl": bernoulli_kl,
    "dist": dist,
    "dkd": dkd,
    "jsd": jsd,
    "kl": kl,
    "logit_mse": logit_mse,
    "nkd": nkd,
    "reverse_kl": reverse_kl,
    "teacher_free": teacher_free,
    "wsld": wsld,
}

__all__ = ["bernoulli_kl", "dist", "dkd", "jsd", "kl", "logit_mse", "nkd", "reverse_kl", "teacher_free", "wsld"]
