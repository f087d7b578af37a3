"""Trains, is killed at random moments, and is started again; `test_kill.py` runs this as a process of its own.

Every training is a forked child, so that torch is imported once; it is a real process that really dies. The parent
writes what it found as JSON: one line a case with the checksums of the uninterrupted and of the killed training.

    python victim.py OUT.json FOLDER KILLS_PER_CASE SEED
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.files import write_tensors
from limbeck.objective import Objective, supervised, term
from limbeck.teachers import FunctionTeacher
from limbeck.training.interrupt import Interrupted
from limbeck.training.loop import Job, fit
from limbeck.training.settings import Optimizer, Schedule, Settings, Transfer

CASES = [(workers, precision) for precision in ("fp32", "bf16") for workers in (0, 2)]
EPOCHS, STEPS = 3, 8


def net() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(8 * 36, 10),
    )


def job(folder: Path, workers: int, precision: Any, seconds: float) -> Job:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (16 * STEPS, 1, 8, 8), dtype=torch.uint8, generator=generator)
    split = Split(inputs, torch.randint(10, (len(inputs),), generator=generator), list("0123456789"), "train")
    table = torch.randn(64, 10, generator=generator)
    settings = Settings(
        epochs=EPOCHS,
        batch_size=16,
        optimizer=Optimizer("adamw"),
        schedule=Schedule("cosine", warmup=0.5),
        clip=1.0,
        transfer=Transfer(freeze=1, rate=0.5),
        ema=0.9,
        views=Views(shift=1, flip=True),
        workers=workers,
        precision=precision,
        device="cpu",
        checkpoint_seconds=seconds,
    )

    def validate(module: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            module.eval()
            logits = module(split.fetch(torch.arange(64))[0])
            right = (logits.argmax(1) == split.targets[:64]).float().mean()
            return {"accuracy": float(right), "loss": float(nn.functional.cross_entropy(logits, split.targets[:64]))}

    return Job(
        module=net(),
        objective=Objective([supervised(0.3), term("kl", 0.7, temperature=3.0)]),
        split=split,
        preparation=Normalization((0.5,), (0.3,)),
        validate=validate,
        settings=settings,
        folder=folder,
        seed=11,
        teacher=FunctionTeacher(lambda x: x.flatten(1) @ table),
        key="victim",
    )


def train(folder: Path, workers: int, precision: str, seconds: float) -> None:
    fitted = fit(job(folder, workers, precision, seconds))
    write_tensors(folder / "last.safetensors", fitted.last)
    write_tensors(folder / "selected.safetensors", fitted.selected)


def start(*arguments: Any) -> int:
    """Fork a training; its process id, once it has begun."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        select.select([reader], [], [], 60)
        os.close(reader)
        return child
    code = 1
    try:
        os.close(reader)
        os.write(writer, b"!")
        train(*arguments)
        code = 0
    except Interrupted as stopped:
        code = stopped.exit_code
    except KeyboardInterrupt:  # before the training listens
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def facts(folder: Path) -> dict[str, Any]:
    """All that must not differ, and nothing of the time it took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["seconds"], line["samples_per_second"]
    names = ("last.safetensors", "selected.safetensors")
    return {"metrics": lines, **{name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}}


def punish(folder: Path, case: tuple[int, str], kills: int, seconds: float, chance: random.Random) -> dict[str, Any]:
    """Kill the training ``kills`` times in all, starting it again each time and anew when it is done."""
    count = {"SIGKILL": 0, "SIGTERM": 0, "SIGINT": 0}
    found, strange, number, span = [], [], 0, seconds
    while count["SIGKILL"] < kills or not found:
        place = folder / str(number)
        child = start(place, *case, chance.choice([0.0, 0.0, 0.02]))
        sent = None
        if count["SIGKILL"] < kills:
            kind = chance.choice(["SIGKILL"] * 4 + ["SIGTERM", "SIGINT"])
            time.sleep(chance.uniform(0, span))
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                sent = kind
                os.kill(child, getattr(signal, kind))
        code = wait(child)
        if code == 0:
            found.append(facts(place))
            number += 1
            continue
        number_of = getattr(signal, sent) if sent else 0
        if sent and code in {-number_of, 128 + number_of}:
            count[sent] += 1
        else:
            strange.append(f"{place.name}: {code} after {sent}")
            break
    return {"case": list(case), "kills": count, "found": found, "strange": strange}


def warm() -> None:
    """Import what torch's optimizers import late, once for all children; no backward pass may run before a fork."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.AdamW([weight], fused=True)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())


def main() -> None:
    warm()
    out, folder, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance, results = random.Random(seed), []
    for case in CASES:
        name = f"{case[1]}-{case[0]}"
        began = time.monotonic()
        code = wait(start(folder / name / "whole", *case, 3600.0))
        seconds = time.monotonic() - began
        expected = facts(folder / name / "whole") if code == 0 else None
        results.append({"expected": expected, **punish(folder / name, case, kills, seconds * 0.8, chance)})
    out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
