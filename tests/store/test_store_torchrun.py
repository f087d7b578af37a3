"""Real processes under torchrun build a store together: the bytes of one process, and what one says ends all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.store.building import Counting, Telling, net, plan, shards

from limbeck.store.build import build
from limbeck.store.store import Store
from limbeck.teachers import ModuleTeacher

ROOT = Path(__file__).parents[2]
RECORDS, AGAIN = 3300, 512


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One launch for all tests, since each costs the import of torch in three processes."""
    folder = tmp_path_factory.mktemp("together")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    done = subprocess.run(
        [*command, "tests.store.together_store", str(folder)],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=280, check=False,
    )  # fmt: skip
    assert (folder / "facts1.json").exists(), done.stderr
    facts = [json.loads((folder / f"facts{rank}.json").read_text()) for rank in range(2)]
    return {"facts": facts, "folder": folder, "code": done.returncode, "errors": done.stderr}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("alone") / "store"
    build(plan(Counting(ModuleTeacher(net()))), folder, batch_size=100, told=Telling())
    return dict(shards(folder))


def test_two_processes_build_the_bytes_of_one(launched: dict[str, Any], alone: dict[str, str]) -> None:
    folder = launched["folder"] / "two"
    assert dict(shards(folder)) == alone
    names = {path.name for path in folder.iterdir()}
    assert names == {*alone, "manifest.json", "said-validation.safetensors"}
    Store.open(folder)
    assert [facts["store"] for facts in launched["facts"]] == [[RECORDS, 20]] * 2


def test_each_process_asks_about_its_own_shards(launched: dict[str, Any]) -> None:
    """Shards 0 and 1, and 2 and 3; the first one also asks for the certificate, validation is one question."""
    first, second = (facts["asked"] for facts in launched["facts"])
    assert first + second == RECORDS + AGAIN + 20
    assert second in (1024 + 228, 1024 + 228 + 20)


def test_a_finished_store_is_opened_by_all(launched: dict[str, Any]) -> None:
    assert all(facts["again"] <= 64 for facts in launched["facts"])
    assert all("views.count: kept 11, now 12" in facts["other"] for facts in launched["facts"])


def test_a_failure_in_one_process_ends_all_with_its_message(launched: dict[str, Any]) -> None:
    first, second = launched["facts"]
    assert first["failed"] == "RankFailed 1 rank 1 of 2: rank 1 has lost its teacher"
    assert second["failed"] == "LimbeckError 1 rank 1 has lost its teacher"
    assert first["failed first"] == "LimbeckError 1 rank 0 has lost its teacher"
    assert second["failed first"] == "RankFailed 1 rank 0 of 2: rank 0 has lost its teacher"
    assert not (launched["folder"] / "first" / "manifest.json").exists()


def test_a_failed_build_goes_on_with_what_is_missing(launched: dict[str, Any], alone: dict[str, str]) -> None:
    assert dict(shards(launched["folder"] / "failed")) == alone
    asked = sum(facts["resumed"] for facts in launched["facts"])
    assert asked == 1024 + 228 - 400 + AGAIN + 20, "the first one had all its shards"


@pytest.mark.parametrize("name", ["first", "killed"])
def test_one_process_goes_on_where_two_were_stopped(launched: dict[str, Any], alone: dict[str, str], name: str) -> None:
    assert launched["code"] != 0
    assert "Signal 9 (SIGKILL)" in launched["errors"]
    folder, told = launched["folder"] / name, Telling()
    teacher = Counting(ModuleTeacher(net()))
    build(plan(teacher), folder, batch_size=100, told=told)
    assert dict(shards(folder)) == alone
    if name == "first":
        assert told.said[0].endswith(": 1,652 of 3,300 views are there already")
        assert sum(teacher.asked) == 2048 - 400 + AGAIN + 20
    else:  # what the killed one had not noted, and the other one kept, as far as it came
        assert sum(teacher.asked) <= RECORDS + AGAIN + 20


def test_a_store_is_not_learned_by_several_processes(launched: dict[str, Any]) -> None:
    for facts in launched["facts"]:
        assert "RecipeError 2 a store can not be filled while several processes train" in facts["learning"] or (
            facts["learning"].startswith("RankFailed 2 ")
        )
