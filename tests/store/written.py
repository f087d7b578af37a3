"""Stores for tests, written file by file without the code that builds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from limbeck.files import describe, write_bytes, write_tensors
from limbeck.outputs import Outputs
from limbeck.store.codec import Records, encode
from limbeck.store.layout import Layout
from limbeck.store.manifest import Manifest

SAMPLES, VIEWS, PER_SHARD = 24, 3, 16  # 72 records in five shards; the last one has 8


def said(layout: Layout, count: int, seed: int = 0) -> Outputs:
    """What a teacher might say."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, layout.classes) if layout.members == 1 else (layout.members, count, layout.classes)
    logits = 3 * torch.randn(shape, generator=generator)
    features = {name: torch.randn(count, size, generator=generator) for name, size in layout.features.items()}
    if layout.members == 1:
        return Outputs(logits, features)
    both = Outputs.ensemble(logits, torch.tensor(layout.weights))
    return Outputs(both.logits, features, both.members, both.weights)


def records_of(layout: Layout, count: int, seed: int = 0) -> Records:
    """Records with random logits, features and checksums."""
    pixels = torch.randint(2**32, (count,), generator=torch.Generator().manual_seed(seed + 1))
    return encode(layout, said(layout, count, seed), pixels)


def write_store(
    folder: Path,
    layout: Layout = Layout(5),  # noqa: B008
    *,
    samples: int = SAMPLES,
    views: int = VIEWS,
    per_shard: int = PER_SHARD,
    seed: int = 0,
) -> Records:
    """A finished store with two other splits; its records."""
    records = records_of(layout, samples * views, seed)
    shards = []
    for number, first in enumerate(range(0, len(records), per_shard)):
        part = records[first : first + per_shard]
        path = write_bytes(folder / f"shard-{number:05d}.bin", part.tobytes())
        shards.append({"file": path.name, "records": len(part), **describe(path)})
    others = {}
    for place, split in enumerate(("test", "validation")):
        logits = said(layout, 7, 10 * seed + place).logits
        path = write_tensors(folder / f"said-{split}.safetensors", {"logits": logits})
        others[split] = {"file": path.name, **describe(path), "split": f"fingerprint of {split}"}
    identity = {"views": {"seed": seed, "count": views}, "precision": "float32"}
    Manifest(layout, samples, views, per_shard, tuple(shards), identity, others).write(folder)
    return records


def rewrite(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change the content of a manifest, and give it the digest that it then has: what another tool may write."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    content["sha256"] = "sha256 of this text with 64 zeros here"
    blank = json.dumps(content, indent=1).replace(content["sha256"], "0" * 64)
    marked = json.dumps(content, indent=1).replace(content["sha256"], hashlib.sha256(blank.encode()).hexdigest())
    path.write_text(marked)
