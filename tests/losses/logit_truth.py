"""The losses between logits once more, in numpy and float64, from probabilities, one row after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Row = np.ndarray


def p(z: Row, temperature: float = 1.0) -> Row:
    e = np.exp((z - z.max()) / temperature)
    return e / e.sum()


def divergence(a: Row, b: Row) -> float:
    return math.fsum(x * math.log(x / y) for x, y in zip(a, b, strict=True))


def z_score(z: Row) -> Row:
    return (z - z.mean()) / math.sqrt(((z - z.mean()) ** 2).sum() / len(z))


def kl(s: Row, t: Row, *, temperature: float = 4.0) -> float:
    return temperature**2 * divergence(p(t, temperature), p(s, temperature))


def reverse_kl(s: Row, t: Row, *, temperature: float = 4.0) -> float:
    return temperature**2 * divergence(p(s, temperature), p(t, temperature))


def jsd(s: Row, t: Row, *, beta: float = 0.5, temperature: float = 4.0) -> float:
    a, b = p(t, temperature), p(s, temperature)
    if beta in (0, 1):
        return temperature**2 * (divergence(a, b) if beta == 0 else divergence(b, a))
    m = beta * a + (1 - beta) * b
    return temperature**2 * (beta * divergence(a, m) + (1 - beta) * divergence(b, m))


def logit_mse(s: Row, t: Row) -> float:
    return float((((s - s.mean()) - (t - t.mean())) ** 2).mean())


def dkd(s: Row, t: Row, y: int, *, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> float:
    if y < 0:
        return 0.0
    p_s, p_t = p(s, temperature), p(t, temperature)
    b_s, b_t = (np.array([one[y], 1 - one[y]]) for one in (p_s, p_t))
    q_s, q_t = (np.delete(one, y) / (1 - one[y]) for one in (p_s, p_t))
    return temperature**2 * (alpha * divergence(b_t, b_s) + beta * divergence(q_t, q_s))


def nkd(s: Row, t: Row, y: int, *, gamma: float = 1.5, temperature: float = 1.0) -> float:
    if y < 0:
        return 0.0
    q_s, q_t = (np.delete(p(z, temperature), y) / (1 - p(z, temperature)[y]) for z in (s, t))
    own = -p(t)[y] * math.log(p(s)[y])
    return own - gamma * temperature**2 * math.fsum(a * math.log(b) for a, b in zip(q_t, q_s, strict=True))


def wsld(s: Row, t: Row, y: int, *, temperature: float = 2.0, standardize: bool = False) -> float:
    if y < 0:
        return 0.0
    weight = 1 - math.exp(-math.log(p(s)[y]) / math.log(p(t)[y]))
    if standardize:
        s, t = z_score(s), z_score(t)
    return weight * temperature**2 * -math.fsum(p(t, temperature) * np.log(p(s, temperature)))


def teacher_free(s: Row, y: int, *, correct: float = 0.99, temperature: float = 20.0) -> float:
    if y < 0:
        return 0.0
    u = np.full(len(s), (1 - correct) / (len(s) - 1))
    u[y] = correct
    u = u ** (1 / temperature)
    return divergence(u / u.sum(), p(s))


def bernoulli_kl(s: Row, t: Row, *, temperature: float = 4.0) -> float:
    a, b = (1 / (1 + np.exp(-z / temperature)) for z in (t, s))
    return temperature**2 * math.fsum(a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b)))


def dist(s: Row, t: Row, *, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> float:
    """Of matrices ``[rows, C]``; one row has no columns to compare."""
    p_s, p_t = (np.stack([p(row, temperature) for row in z]) for z in (s, t))
    inter = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p_s, p_t, strict=True)])
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(p_s.T, p_t.T, strict=True)] if len(s) > 1 else [1.0]
    return float(temperature**2 * (beta * inter + gamma * (1 - np.mean(columns))))


TRUTH: dict[str, Callable[..., float]] = {
    one.__name__: one for one in (bernoulli_kl, dkd, jsd, kl, logit_mse, nkd, reverse_kl, teacher_free, wsld)
}
LABELED = ("dkd", "nkd", "teacher_free", "wsld")  # take a target
STANDARDIZE = ("dkd", "dist", "jsd", "kl", "logit_mse", "nkd", "reverse_kl", "wsld")


def truth(name: str, student: np.ndarray, teacher: np.ndarray, target: np.ndarray, **hyper: Any) -> np.ndarray:
    """A per-sample loss of ``[B, C]`` or of ``[B, C, H, W]``, one row after the other."""
    student, teacher = (np.moveaxis(z, 1, -1) for z in (student, teacher))
    found = np.empty(student.shape[:-1])
    standardize = hyper.pop("standardize", False)
    if standardize and name == "wsld":
        hyper["standardize"] = True
    for place in np.ndindex(found.shape):
        s, t = student[place], teacher[place]
        if standardize and name != "wsld":
            s, t = z_score(s), z_score(t)
        rows = [s] if name == "teacher_free" else [s, t]
        found[place] = TRUTH[name](*rows, *([int(target[place])] if name in LABELED else []), **hyper)
    return found
