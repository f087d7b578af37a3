"""The page of speed: what the scripts under ``benchmarks/`` printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from store_page import verdict

from limbeck.report.numbers import count, milliseconds, size


def speed(folder: Path) -> list[str]:
    """The benchmark of a training step."""
    found = read(folder / "distill_step.json")
    environment = found["environment"]
    lines = [
        "`python benchmarks/distill_step.py --json`  ",
        f"{found['date']}, {environment['processor']}, {environment['cores']} cores, "
        f"threads: {environment['threads']}, torch {environment['torch']}, {found['precision']}, "
        f"batch {found['batch']}.",
        "",
        "`hand` is the best hand-written loop of the student alone, in the same precision and memory format;",
        "`limbeck` is the student alone in limbeck's loop; `hand2` and `limbeck2` are the same loops again, the",
        "spread of A against A; `plain` is a float32 loop with a live teacher; `distill` is limbeck with the live",
        "teacher, `store` with a finished store in its place, `auto` with the live teacher and a store that is",
        "filled meanwhile: every step is one of a first epoch. Steps of all loops were taken in turns; no",
        "checkpoint is written. A store that cost nothing at all would bring `distill / store` to `distill / limbeck`,",
        "so these two ratios are mostly those of the two models on this machine.",
        "",
        "| loop | median of a step | 25 to 75 % | steps |",
        "|---|---|---|---|",
    ]
    for name, one in found["loops"].items():
        quarter = f"{one['low_ms']:.1f} to {one['high_ms']:.1f} ms"
        lines.append(f"| {name} | {one['median_ms']:.1f} ms | {quarter} | {one['steps']} |")
    lines += ["", "| ratio | median | turn by turn | asked for |", "|---|---|---|---|"]
    for one in found["ratios"]:
        asked = verdict(one if one["target"] else None)
        turns = f"{one['low']:.2f} to {one['high']:.2f}"
        lines.append(f"| {one['of']} / {one['to']} | {one['ratio']:.2f} | {turns} | {asked} |")
    return [*lines, ""]


def views(folder: Path) -> list[str]:
    """The benchmark of views."""
    found = read(folder / "views.json")
    environment, sizes = found["environment"], list(found["views"])
    shapes = {name: " × ".join(map(str, shape)) for name, shape in found["sizes"].items()}
    lines = [
        "`python benchmarks/views.py --json`  ",
        f"{found['date']}, {environment['processor']}, threads: {environment['threads']}, "
        f"torch {environment['torch']}; processor time of a batch. A ratio above 1: limbeck is faster.",
        "",
        "| views | " + " | ".join(f"{shapes[name]} | torchvision | ratio" for name in sizes) + " |",
        f"|{'---|' * (1 + 3 * len(sizes))}",
    ]
    for kind in found["views"][sizes[0]]:
        cells = []
        for name in sizes:
            one = found["views"][name][kind]
            cells += [milliseconds(one["limbeck_ms"]), milliseconds(one["torchvision_ms"]), f"{one['ratio']:.2f}"]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return [*lines, ""]


def losses(folder: Path) -> list[str]:
    """The benchmark of what each loss adds to a step."""
    if not (folder / "losses.json").exists():
        return ["Not measured yet: `python benchmarks/losses.py --json`.", ""]
    found = read(folder / "losses.json")
    environment = found["environment"]
    lines = [
        "`python benchmarks/losses.py --json`  ",
        f"{found['date']}, {environment['processor']}, threads: {environment['threads']}, "
        f"torch {environment['torch']}, {found['precision']}, batch {found['batch']}; {found['time']} time, "
        f"{found['rounds']} rounds of {found['turn']} steps.",
        "",
        "| loss | reads | without it | with it | share of the step | 25 to 75 % | of the student alone | asked for |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["losses"]:
        share = one["share"]
        met = "–" if one["asked"] is None else f"≤ {100 * one['asked']:.0f} %: {'met' if one['met'] else '**missed**'}"
        lines.append(
            f"| {one['loss']} | {one['site'].replace('_', ' ')} | {one['without_ms']:.1f} ms | {one['with_ms']:.1f} ms "
            f"| {100 * share['median']:.1f} % | {100 * share['low']:.1f} to {100 * share['high']:.1f} % "
            f"| {100 * one['of_student']['median']:.1f} % | {met} |"
        )
    return [*lines, "", *(f"- {name} is left out: it {why}." for name, why in found["left_out"].items()), ""]


def masks(folder: Path) -> list[str]:
    """The benchmark of pictures with masks: reading them all, and waiting for their batches."""
    file = folder / "segmentation_data.json"
    if not file.exists():
        return ["Not measured yet: `python benchmarks/segmentation_data.py --json`.", ""]
    found = read(file)
    once, waiting = found["reading"], found["waiting"]
    splits = once["splits"].values()
    held = " and ".join(f"{count(sum(one[what] for one in splits))} {what}" for what in ("pictures", "patches"))
    lines = [
        "`python benchmarks/segmentation_data.py --json`  ",
        f"{_where(found)}, {found['precision']}.",
        "",
        f"Decoding and cutting the recipe `{found['recipe']}`: {held} in {once['median_s']:.2f} s "
        f"({once['low_s']:.2f} to {once['high_s']:.2f} in {once['rounds']} rounds; asked for: ≤ 10 s).",
        "",
        "| training | step | of it waiting for data | share | asked for |",
        "|---|---|---|---|---|",
    ]
    for role, one in waiting.items():
        lines.append(
            f"| {role} | {one['step_ms']:.1f} ms | {one['waited_ms']:.2f} ms | {100 * one['share']:.1f} % "
            f"| ≤ 5 %: {'met' if one['share'] <= 0.05 else '**missed**'} |"
        )
    return [*lines, ""]


def memory(folder: Path) -> list[str]:
    """The benchmark of what losses of masks hold."""
    file = folder / "dense_memory.json"
    if not file.exists():
        return ["Not measured yet: `python benchmarks/dense_memory.py --json`.", ""]
    found = read(file)
    lines = [
        "`python benchmarks/dense_memory.py --json`  ",
        f"{_where(found)}, {found['precision']}.",
        "",
        "| objective | classes | size | batch | one model's logits | held, in parts | held, whole | parts / whole |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["cases"]:
        whole = one["plain"] is not None
        cells = [one["objective"], count(one["classes"]), f"{one['size']}²", str(one["batch"]), size(one["logits"])]
        cells += [size(one["parts"]), size(one["plain"]) if whole else "not enough memory"]
        lines.append(f"| {' | '.join([*cells, format(one['ratio'], '.2f') if whole else '–'])} |")
    return [*lines, ""]


def pruned(folder: Path) -> list[str]:
    """The benchmark of fewer channels: half the multiply-accumulates by each multiple."""
    found = read(folder / "compression.json")
    lines = [
        "`python benchmarks/compression.py --json`  ",
        f"{_where(found)}. Batch 1, ONNX Runtime. Asked for: ≤ {found['target']:g} of the time.",
        "",
        "| model | channels are a multiple of | MACs left | before | after | of the time | |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["pruned"]:
        multiple = f"{one['round_to']}, the default" if one["default"] else str(one["round_to"])
        cells = [one["model"], multiple, f"{100 * one['macs']:.0f} %", *_times(one), f"{one['ratio']:.2f}"]
        lines.append(f"| {' | '.join([*cells, 'met' if one['met'] else '**missed**'])} |")
    return [*lines, ""]


def int8(folder: Path) -> list[str]:
    """The benchmark of int8 files against the same in float32."""
    found = read(folder / "compression.json")
    told = {True: "with VNNI", False: "without VNNI", None: "VNNI not known"}[found["vnni"]]
    lines = [
        "`python benchmarks/compression.py --json`  ",
        f"{_where(found)}, {told}. Batch 1, ONNX Runtime.",
        "",
        "| model | parameters | float32 | int8 | float32 | int8 | times as fast | asked for |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found["int8"]:
        asked = f"≥ {one['asked']:g}: {'met' if one['met'] else '**missed**'}"
        cells = [one["model"], count(one["parameters"]), *map(size, one["bytes"]), *_times(one)]
        lines.append(f"| {' | '.join([*cells, format(one['speedup'], '.2f'), asked])} |")
    return [*lines, ""]


def _times(one: Mapping[str, Any]) -> list[str]:
    return [milliseconds(one["before_ms"]), milliseconds(one["after_ms"])]


def _where(found: Mapping[str, Any]) -> str:
    environment = found["environment"]
    return (
        f"{found['date']}, {environment['processor']}, {environment['cores']} cores, threads: "
        f"{environment['threads']}, torch {environment['torch']}"
    )


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
