"""Latency of several callables, measured in turns so that a machine's mood hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch


def latency(
    calls: Mapping[str, Callable[[], Any]], *, threads: int = 1, warmup: int = 5, repeats: int = 30
) -> dict[str, dict[str, float]]:
    """Median time of each call in milliseconds, with the 10th and 90th percentile.

    Args:
        calls: what to measure, by name; each is called ``warmup + repeats`` times, in turns.
        threads: of torch, put back afterwards; other runtimes set their own.
        warmup: calls that are not counted.
        repeats: calls that are.

    Example:
        >>> sorted(latency({"nothing": lambda: None}, repeats=3)["nothing"])
        ['high_ms', 'low_ms', 'median_ms', 'threads']
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    times: dict[str, list[float]] = {name: [] for name in calls}
    try:
        for turn in range(warmup + repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if turn >= warmup:
                    times[name].append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return {name: _summary(found, threads) for name, found in times.items()}


def _summary(found: list[float], threads: int) -> dict[str, float]:
    low, median, high = np.percentile(found, [10, 50, 90]).tolist()
    return {"median_ms": median, "low_ms": low, "high_ms": high, "threads": threads}
