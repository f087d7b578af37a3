"""Builds a store, is killed at random moments, and is started again; `test_kill_store.py` runs this as a process.

Every build is a forked child, so that torch is imported once; it is a real process that really dies. The parent writes
what it found as JSON.

    python -m tests.store.victim_store OUT.json FOLDER KILLS SEED
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.store.building import SAMPLES, VIEWS, Counting, Telling, net, plan, shards

from limbeck.store import build as module
from limbeck.store.build import build
from limbeck.store.store import Store
from limbeck.teachers import ModuleTeacher
from limbeck.training.interrupt import Interrupted

BATCH, PAUSE = 50, 0.002
RECORDS = SAMPLES * VIEWS


def make(folder: Path, workers: int, noted: float) -> None:
    module.NOTED = noted
    asked = folder.with_suffix(".asked")
    wanted = plan(Counting(ModuleTeacher(net()), lambda done: time.sleep(PAUSE), asked))
    build(wanted, folder, batch_size=BATCH, workers=workers, told=Telling())


def start(folder: Path, workers: int, noted: float) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        make(folder, workers, noted)
        code = 0
    except Interrupted as stopped:
        code = stopped.exit_code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def asked(folder: Path) -> int:
    path = folder.with_suffix(".asked")
    return sum(map(int, path.read_text().split())) if path.exists() else 0


def facts(folder: Path) -> dict[str, Any]:
    """The finished store, after it was opened and verified."""
    store = Store.open(folder)
    names = sorted(path.name for path in folder.iterdir())
    return {"shards": dict(shards(folder)), "files": names, "certified": store.manifest.certificate["agreement"]}


def punish(folder: Path, workers: int, kills: int, seconds: float, chance: random.Random) -> dict[str, Any]:
    """Kill the build ``kills`` times in all, starting it again each time and anew when it is done."""
    count = {"SIGKILL": 0, "SIGTERM": 0, "SIGINT": 0}
    builds: list[dict[str, Any]] = []
    strange: list[str] = []
    lost = 0
    while count["SIGKILL"] < kills or not builds:
        place = folder / str(len(builds))
        noted = chance.choice([0.0, 1e9])
        child = start(place, workers, noted)
        sent = None
        if count["SIGKILL"] < kills:
            kind = chance.choice(["SIGKILL"] * 5 + ["SIGTERM", "SIGINT"])
            time.sleep(chance.uniform(0, seconds))
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                sent = kind
                os.kill(child, getattr(signal, kind))
        code = wait(child)
        if code == 0:
            builds.append({**facts(place), "asked": asked(place), "allowed": lost})
            lost = 0
            continue
        number_of = getattr(signal, sent) if sent else 0
        if not sent or code not in {-number_of, 128 + number_of}:
            strange.append(f"{place.name}: {code} after {sent}")
            break
        count[sent] += 1
        # What was not noted: a shard, or the last question and the one before; and the certificate, if it came so far.
        lost += (1024 if noted and sent == "SIGKILL" else BATCH) + BATCH + 512 + 20
    return {"workers": workers, "kills": count, "builds": builds, "strange": strange}


def main() -> None:
    os.fsync = lambda file: None  # a killed process loses nothing that the system has, and a busy disk takes long
    out, folder, kills, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    chance, results = random.Random(seed), []
    for workers in (0, 2):
        place = folder / f"workers{workers}"
        place.mkdir()
        began = time.monotonic()
        code = wait(start(place / "whole", workers, 15.0))
        seconds = time.monotonic() - began
        expected = {**facts(place / "whole"), "asked": asked(place / "whole")} if code == 0 else None
        results.append({"expected": expected, **punish(place, workers, kills, seconds * 0.8, chance)})
    out.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
