"""A store of teacher outputs by itself: reading, bytes, building, opening, memory.

Reading is what a training step adds for a batch: gathering the records of 128 random addresses, decoding them, and
comparing the kept checksums of the pixels with the batch's. That checksum is timed apart, and so is what stores of one
file a sample do, one ``torch.load`` each. The files were read before, so that no disk is waited for.

Building is compared with the teacher's forward alone on the same views, made beforehand; the two take turns, and the
forward once more against itself says how much of it is noise. The store that is larger than memory is a sparse file:
it reads as zeros, from pages as any others.

    python benchmarks/store.py [--json] [--quick] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import CLASSES, NORMALIZATION, SHAPE, cifar_teacher, met, provenance, quartiles, ratio, told, where

from limbeck.data.batch import Batch
from limbeck.data.replay import Replay, Seer, pixel_checksum
from limbeck.data.sampling import Sampler
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.outputs import Outputs
from limbeck.store import Store
from limbeck.store.build import Plan, fill
from limbeck.store.codec import encode
from limbeck.store.filling import Filling
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest
from limbeck.teachers import ModuleTeacher
from limbeck.training.precision import choose
from limbeck.training.progress import Silent

BATCH = 128
LAYOUTS = {
    "10 classes, all": Layout(10),
    "1,000 classes, 10 largest, 1 temperature": Layout(1000, top=10, temperatures=(4.0,)),
    "1,000 classes, 10 largest, 2 temperatures": Layout(1000, top=10, temperatures=(1.0, 4.0)),
}
BYTES = {10: "<=24", 1000: "<=48"}
IDENTITY = {"views": {"seed": 0}}


def made(folder: Path, layout: Layout, samples: int, views: int) -> Store:
    """A finished store of random logits; the checksum of a view is its address."""
    filling = Filling(folder, layout, samples, views, IDENTITY)
    torch.manual_seed(0)
    different = min(8192, filling.records)
    once = encode(layout, Outputs(3 * torch.randn(different, layout.classes)), torch.arange(different))
    for start in range(0, filling.records, len(once)):
        addresses = np.arange(start, min(start + len(once), filling.records))
        records = once[: len(addresses)].copy()
        records["pixels"] = addresses
        filling.put(addresses, records)
    return Store(folder, filling.seal())


def asked(store: Store, number: int) -> list[Batch]:
    """Batches of random views."""
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(number):
        index = torch.randint(store.manifest.samples, (BATCH,), generator=generator)
        view = torch.randint(store.manifest.views, (BATCH,), generator=generator)
        address = view * store.manifest.samples + index
        found.append(Batch(index, torch.zeros(BATCH, 1), torch.zeros_like(index), view=view, pixels=address))
    return found


def each(calls: list[Callable[[], Any]], samples: int = BATCH) -> dict[str, float]:
    """Median and quartiles of a call, in microseconds a sample, the second time that it is made."""
    for _ in range(2):
        times = []
        for call in calls:
            began = time.perf_counter()
            call()
            times.append(1e6 * (time.perf_counter() - began) / samples)
    low, middle, high = quartiles(times)
    return {"median_us": middle, "low_us": low, "high_us": high, "calls": len(calls)}


def reading(folder: Path, samples: int, batches: int) -> list[dict[str, Any]]:
    """Time and bytes of a view, for each layout."""
    found = []
    for number, (name, layout) in enumerate(LAYOUTS.items()):
        store = made(folder / str(number), layout, samples, 4)
        took = each([lambda one=one, store=store: store.recall(one, one.inputs) for one in asked(store, batches)])
        size = sum(path.stat().st_size for path in store.folder.glob("*.bin")) / store.manifest.records
        found.append({"name": name, **took, "bytes": size, "records": store.manifest.records})
    return found


def besides(folder: Path, batches: int) -> list[dict[str, Any]]:
    """What is not reading a store: the checksum of the pixels, and files of one sample each."""
    inputs = torch.rand(8, BATCH, *SHAPE)
    checksum = each([lambda one=one: pixel_checksum(one) for one in inputs.repeat(-(-batches // 8), 1, 1, 1, 1)])
    paths = [folder / f"{number}.pt" for number in range(min(4 * BATCH, 8 * batches))]
    folder.mkdir()
    for path in paths:
        torch.save(torch.randn(10), path)
    random.Random(0).shuffle(paths)
    loaded = each([lambda path=path: torch.load(path) for path in paths], samples=1)
    shape = " × ".join(map(str, SHAPE))
    return [
        {"name": f"checksum of the pixels, {shape}", **checksum},
        {"name": "one file a sample, torch.load", **loaded},
    ]


def building(folder: Path, samples: int, rounds: int) -> dict[str, Any]:
    """Building a store against the teacher's forward alone, in turns."""
    precision, torch_seed = choose("cpu"), torch.Generator().manual_seed(0)
    images = torch.randint(256, (samples, *SHAPE), dtype=torch.uint8, generator=torch_seed)
    split = Split(images, None, [str(number) for number in range(CLASSES)], "train")
    replay, layout = Replay(0, 1), Layout.choose(CLASSES)
    see = Seer(split, Sampler(split.targets), Views(shift=4, flip=True), replay.seed)
    live = ModuleTeacher(cifar_teacher(), NORMALIZATION).placed(precision.place)
    plan = Plan(live, see, replay, layout, precision, {})
    ready = [see(piece, 0)[0] for piece in torch.arange(samples).split(BATCH)]

    def forward() -> float:
        began = time.perf_counter()
        for inputs in ready:
            with torch.no_grad(), precision.autocast():
                live(precision.inputs(inputs))
        return time.perf_counter() - began

    def built(number: int) -> float:
        filling = Filling(folder / str(number), layout, samples, 1)
        began = time.perf_counter()
        fill(plan, live, filling, batch_size=BATCH, workers=0, told=Silent())
        took = time.perf_counter() - began
        filling.close()
        return took

    forward()
    found: dict[str, list[list[float]]] = {"building": [], "forward": [], "forward2": []}
    for number in range(rounds):
        found["forward"].append([forward()])
        found["building"].append([built(number)])
        found["forward2"].append([forward()])
    ratios = [ratio(found, "building", "forward"), ratio(found, "forward2", "forward")]
    return {"samples": samples, "rounds": rounds, "ratios": ratios}


def opening(folder: Path, samples: int, rounds: int) -> dict[str, Any]:
    """Opening a finished store, with and without reading all of it."""
    store = made(folder, Layout(10), samples, 4)
    size = sum(path.stat().st_size for path in folder.glob("*.bin"))
    times = {verify: [] for verify in (True, False)}
    for _ in range(rounds):
        for verify, found in times.items():
            began = time.perf_counter()
            Store.open(store.folder, verify=verify)
            found.append(time.perf_counter() - began)
    low, middle, high = quartiles([size / 1e6 / one for one in times[True]])
    verified = {"median_mb_s": middle, "low_mb_s": low, "high_mb_s": high}
    return {"bytes": size, **verified, "without_ms": 1000 * quartiles(times[False])[1]}


def memory(folder: Path, factor: float, batches: int) -> dict[str, Any] | None:
    """How much memory grows while views of a store are read that is larger than it; None where that can not be told."""
    if not Path("/proc/self/status").exists():
        return None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    layout, per_shard, views = Layout(1000, top=10, temperatures=(1.0, 4.0)), 2**20, 4
    shards = max(round(factor * total / layout.stride / per_shard / views), 1)  # of one view
    folder.mkdir()
    facts = []
    for number in range(shards * views):
        path = folder / f"shard-{number:05d}.bin"
        with path.open("wb") as file:
            file.truncate(per_shard * layout.stride)
        facts.append({"file": path.name, "records": per_shard, "bytes": per_shard * layout.stride, "sha256": "0" * 64})
    Manifest(layout, shards * per_shard, views, per_shard, tuple(facts), IDENTITY).write(folder)
    store = Store.open(folder, verify=False)
    zeros = torch.zeros(BATCH, dtype=torch.int64)
    calls, grown = asked(store, batches + 8), []
    for number, one in enumerate(calls):
        if number == 8:
            before, began = resident(), time.perf_counter()
        store.recall(Batch(one.index, one.inputs, one.target, view=one.view, pixels=zeros), one.inputs)
        if number >= 8:
            grown.append(resident() - before)
    took = 1e6 * (time.perf_counter() - began) / batches / BATCH
    store_bytes = sum(path.stat().st_size for path in folder.glob("*.bin"))
    return {
        "store_bytes": store_bytes,
        "memory_bytes": total,
        "samples": batches * BATCH,
        "took_us": took,
        "grown_bytes": grown[-1],
        "most_bytes": max(grown),
    }


def resident() -> int:
    """Bytes that only this process can give back: pages of files are the system's to drop."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """What is asked for, and whether it is met."""
    found = []
    for one in result["reading"]:
        classes = LAYOUTS[one["name"]].classes
        found.append({"what": f"reading, {one['name']}, µs a view", "value": one["median_us"], "target": "<=2"})
        found.append({"what": f"a view, {one['name']}, bytes", "value": one["bytes"], "target": BYTES[classes]})
    return [{**one, "met": met(one["value"], one["target"])} for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a store of teacher outputs.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="tiny; the numbers mean nothing")
    parser.add_argument("--threads", type=int, help="torch threads (torch's choice)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    quick = options.quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result = {
            **provenance("store"),
            "batch": BATCH,
            "reading": reading(folder / "reading", 512 if quick else 2**18, 4 if quick else 500),
            "besides": besides(folder / "files", 4 if quick else 500),
            "building": building(folder / "building", 16 if quick else 8 * BATCH, 2 if quick else 10),
            "opening": opening(folder / "opening", 512 if quick else 2**22, 2 if quick else 10),
            "memory": memory(folder / "sparse", 0.01 if quick else 4.0, 4 if quick else 200),
        }
    result["targets"] = targets(result)
    print(json.dumps(result, indent=2) if options.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{where(result)}, batch {result['batch']}", ""]
    lines += [f"{one['name']:<44}{one['median_us']:>9.2f} µs a view" for one in result["reading"] + result["besides"]]
    lines += ["", *(told(one) for one in result["building"]["ratios"])]
    opened, held = result["opening"], result["memory"]
    lines.append(f"opened with verification: {opened['median_mb_s']:.0f} MB/s; without: {opened['without_ms']:.1f} ms")
    if held is not None:
        lines.append(
            f"memory: {held['most_bytes'] / 1e6:.1f} MB more for {held['samples']:,} views of a store of "
            f"{held['store_bytes'] / 1e9:.0f} GB, where there are {held['memory_bytes'] / 1e9:.0f} GB"
        )
    lines.append("")
    for one in result["targets"]:
        verdict = "met" if one["met"] else "missed"
        lines.append(f"{one['what']:<60}{one['value']:>8.2f}  target {one['target']}: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
