"""Builds stores in several processes; `test_store_torchrun.py` runs this under torchrun.

Each scenario joins the processes anew, so that torch is imported once; the last one ends in a killed process.

    torchrun --standalone --nproc-per-node 2 -m tests.store.together_store FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.store.building import Counting, net, plan

from limbeck.errors import LimbeckError
from limbeck.store.build import build
from limbeck.store.filling import Filling
from limbeck.store.learning import LearningStore
from limbeck.store.store import Store
from limbeck.teachers import ModuleTeacher
from limbeck.training.distributed import processes, world
from limbeck.training.progress import reporter


def made(folder: Path, teacher: Counting, **changes: Any) -> Store:
    return build(plan(teacher, **changes), folder, batch_size=100, told=reporter(quiet=True))


def counting(act: Any = None) -> Counting:
    return Counting(ModuleTeacher(net()), act)


def error_of(work: Any) -> str:
    try:
        with processes():
            work()
    except LimbeckError as error:
        return f"{type(error).__name__} {error.exit_code} {error}"
    return "none"


def failing(rank: int, done: int) -> None:
    if done == 4 and world().rank == rank:
        raise LimbeckError(f"rank {rank} has lost its teacher")


def dying(done: int) -> None:
    if done == 4 and world().rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    facts: dict[str, Any] = {}
    with processes():
        store = made(folder / "two", (teacher := counting()))
        facts["asked"] = sum(teacher.asked)
        facts["store"] = [store.manifest.records, len(store.says("validation").logits)]
    with processes():
        made(folder / "two", (teacher := counting()))
        facts["again"] = sum(teacher.asked)
    facts["other"] = error_of(lambda: made(folder / "two", counting(), count=12))
    facts["failed"] = error_of(lambda: made(folder / "failed", counting(lambda done: failing(1, done))))
    facts["failed first"] = error_of(lambda: made(folder / "first", counting(lambda done: failing(0, done))))
    with processes():
        made(folder / "failed", (teacher := counting()))
        facts["resumed"] = sum(teacher.asked)

    def learn() -> None:
        wanted = plan()
        filling = Filling(folder / "learned", wanted.layout, 300, 11, wanted.identity)
        LearningStore(wanted.teacher, filling)

    facts["learning"] = error_of(learn)
    (folder / f"facts{rank}.json").write_text(json.dumps(facts))
    with processes():
        world().wait()
        made(folder / "killed", counting(dying))


if __name__ == "__main__":
    main()
