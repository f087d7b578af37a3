"""What online and stored cost: by hand, by going through every epoch, and by what must not change."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from limbeck.store.layout import Layout
from limbeck.store.plan import Question, Rates, in_words, planned, storage

RATES = Rates(
    teacher=0.01, student=0.002, control=0.001, view=0.0005, write=1e-4, read=1e-4, seek=1e-4,
    disk_write=1e9, disk_read=1e9, free=10**12, memory=10**12,
)  # fmt: skip
ASKED = Question(samples=1000, layout=Layout(classes=10), views=4, epochs=20, students=2, controls=1)


def test_by_hand() -> None:
    plan = planned(ASKED, RATES)
    assert plan.question.bytes == 4 * 1000 * 24
    online, stored = plan.online, plan.stored
    assert online.teacher == pytest.approx(1000 * 40 * 0.01)
    assert online.steps == stored.steps == pytest.approx(1000 * (40 * 0.002 + 20 * 0.001))
    assert online.views == stored.views == pytest.approx(1000 * 60 * 0.0005)
    assert (online.write, online.read, online.total) == (0, 0, pytest.approx(530))
    assert (stored.teacher, stored.write, stored.read) == (pytest.approx(40), pytest.approx(0.4), pytest.approx(4))
    assert stored.total == pytest.approx(174.4)
    epoch = plan.epoch
    assert [epoch.control, epoch.online, epoch.building, epoch.stored] == pytest.approx([1.5, 12.5, 12.7, 2.6])
    assert plan.pays_after == pytest.approx(40.4 / 9.9)
    assert (plan.fits_disk, plan.fits_memory, plan.take) == (True, True, "store: auto")
    assert "asked 4 times about each sample, not 40, which pays after 4.1 epochs" in plan.reason


@pytest.mark.parametrize(
    ("students", "take"), [(1, "online"), (2, "online"), (3, "store: auto")], ids=["below", "equal", "above"]
)
def test_storing_pays_where_both_are_equal(students: int, take: str) -> None:
    rates = replace(RATES, teacher=0.01, write=0.002, read=0.004)  # 4 · (0.01 + 0.002) / (0.01 - 0.004) = 8 epochs
    plan = planned(replace(ASKED, epochs=4, students=students), rates)
    assert plan.pays_after == pytest.approx(8)
    assert plan.to_dict()["pays_after_trainings"] == pytest.approx(2)
    assert plan.online.total - plan.stored.total == pytest.approx((4 * students - 8) * 1000 * 0.006, abs=1e-9)
    if students != 2:  # equal but for the last bits of floats
        assert plan.take == take


def through_all_epochs(asked: Question, rates: Rates) -> tuple[float, float]:
    """Seconds of both ways, added up epoch by epoch."""
    one = asked.samples / asked.processes
    online = stored = 0.0
    kept = set(range(asked.views)) if asked.ahead or asked.mode == "read" else set[int]()
    if asked.ahead:
        for _ in range(asked.views):
            stored += one * (rates.view + rates.teacher + rates.write)
    for _ in range(asked.students):
        for epoch in range(asked.epochs):
            online += one * (rates.view + rates.teacher + rates.student)
            stored += one * (rates.view + rates.student + rates.read)
            if epoch % asked.views not in kept:
                kept.add(epoch % asked.views)
                stored += one * (rates.teacher + rates.write)
    for _ in range(asked.controls * asked.epochs):
        online += one * (rates.view + rates.control)
        stored += one * (rates.view + rates.control)
    return online, stored


CASES: list[dict[str, Any]] = [
    {}, {"views": 30}, {"students": 0}, {"controls": 0, "students": 5}, {"processes": 4}, {"mode": "built"},
    {"mode": "built", "views": 50}, {"mode": "read"}, {"mode": "read", "processes": 3}, {"views": 1, "epochs": 1},
]  # fmt: skip


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_the_same_as_going_through_every_epoch(changes: dict[str, Any]) -> None:
    asked = replace(ASKED, **changes)
    plan = planned(asked, RATES)
    online, stored = through_all_epochs(asked, RATES)
    if asked.students == 0 and asked.ahead:
        stored = online
    assert (plan.online.total, plan.stored.total) == (pytest.approx(online), pytest.approx(stored))
    made, rounds = asked.passes, asked.students * asked.epochs
    left = rounds if asked.ahead else rounds - made
    parts = made * plan.epoch.building + left * plan.epoch.stored + asked.controls * asked.epochs * plan.epoch.control
    assert plan.stored.total == pytest.approx(parts)


@pytest.mark.parametrize("changes", CASES, ids=str)
@pytest.mark.parametrize("memory", [10**12, 10**4], ids=["warm", "cold"])
def test_twice_the_samples_cost_twice(changes: dict[str, Any], memory: int) -> None:
    asked, rates = replace(ASKED, **changes), replace(RATES, memory=memory)
    one, two = planned(asked, rates), planned(replace(asked, samples=2000), replace(rates, memory=2 * memory))
    for way in ("online", "stored"):
        assert getattr(two, way).total == pytest.approx(2 * getattr(one, way).total)
    assert two.question.bytes == 2 * one.question.bytes
    assert two.pays_after == (None if one.pays_after is None else pytest.approx(one.pays_after))


@pytest.mark.parametrize("mode", ["built", "read"])
def test_processes_share_all_but_the_disk(mode: str) -> None:
    one, four = (planned(replace(ASKED, mode=mode, processes=count), RATES) for count in (1, 4))
    assert four.online.total == pytest.approx(one.online.total / 4)
    assert four.stored.total == pytest.approx(one.stored.total / 4)
    slow = replace(RATES, disk_write=1e5)  # 24,000 bytes a view take 0.24 s, however many write them
    costs = [planned(replace(ASKED, mode=mode, processes=count), slow).stored.write for count in (1, 4)]
    assert costs == pytest.approx([0.96, 0.96] if mode == "built" else [0, 0])


def test_several_processes_build_beforehand() -> None:
    plan = planned(replace(ASKED, processes=2), RATES)
    assert plan.take == "store"
    assert plan.stored.views == pytest.approx((60 + 4) * 500 * 0.0005)


@pytest.mark.parametrize(
    ("memory", "seek", "disk_read", "cold"),
    [
        (96_000, 1e-4, 1e9, 0.0),  # all of it fits
        (95_999, 1e-4, 1e9, 24_000 / 4096 * 1e-4),  # a view fits: each of its pages once
        (24_000, 1e-4, 1e5, 0.24),  # and the disk gives so many bytes a second
        (12_000, 1e-4, 1e9, 500 * 1e-4),  # half of the samples are found, the others take a page each
        (12_000, 1e-4, 1e6, 500 * 4096 / 1e6),
        (0, 1e-4, 1e9, 0.0),  # not known
    ],
)
def test_what_does_not_fit_the_memory_is_read_from_the_disk(
    memory: int, seek: float, disk_read: float, cold: float
) -> None:
    plan = planned(ASKED, replace(RATES, memory=memory, seek=seek, disk_read=disk_read))
    assert plan.stored.read == pytest.approx(40 * (0.1 + cold))
    assert plan.fits_memory is (None if memory == 0 else memory >= 96_000)
    assert ("random reads bound it" in plan.reason) is (plan.fits_memory is False)


@pytest.mark.parametrize(
    ("changes", "rates", "take", "reason"),
    [
        ({"students": 0}, {}, "online", "no training asks the teacher"),
        ({"once": True, "views": 1}, {}, "online", "always sees the same view, so the teacher is asked once"),
        ({"impossible": "samples change"}, {}, "online", "samples change"),
        ({}, {"free": 95_999}, "online", "a store of 96 kB does not fit the 96 kB that are free here; 3 of 4 views"),
        ({}, {"free": 10}, "online", "a store of 96 kB does not fit the 10 B that are free here"),
        ({"mode": "read"}, {"free": 10}, "store", "asked 0 times about each sample"),
        ({}, {"teacher": 1e-5}, "online", "reading costs no less than the teacher"),
        ({"students": 1, "epochs": 4}, {}, "online", "it pays after 4.1 epochs, and there are 4"),
        ({"mode": "built"}, {}, "store", "instead of"),
    ],
)
def test_the_verdict_and_its_reason(changes: dict[str, Any], rates: dict[str, Any], take: str, reason: str) -> None:
    plan = planned(replace(ASKED, **changes), replace(RATES, **rates))
    assert plan.take == take
    assert reason in plan.reason


def test_another_machine_has_another_disk() -> None:
    plan = planned(ASKED, replace(RATES, free=10), elsewhere=True)
    assert (plan.take, plan.fits_disk) == ("store: auto", False)
    assert "it needs a disk of 96 kB, and 10 B are free here" in plan.reason


def test_a_teacher_that_is_asked_once_costs_one_pass() -> None:
    plan = planned(replace(ASKED, once=True, views=1), RATES)
    assert plan.online.teacher == plan.stored.teacher == pytest.approx(10)
    assert plan.epoch.online == plan.epoch.stored - 0.1
    assert plan.pays_after is None


@pytest.mark.parametrize(
    ("classes", "temperatures", "features", "size"),
    [
        (10, (4.0,), {}, 4 + 2 * 10),
        (64, (), {}, 4 + 2 * 64),
        (65, (4.0,), {}, 4 + 10 * (2 + 2) + 2),
        (1000, (1.0, 4.0), {}, 4 + 10 * (2 + 2) + 4),
        (50_000, (4.0,), {}, 46),
        (65_537, (4.0,), {}, 4 + 10 * (4 + 2) + 2),
        (10, (), {"pooled": 64}, 24 + 128),
    ],
)
def test_bytes_are_records_times_views_times_samples(
    classes: int, temperatures: tuple[float, ...], features: dict[str, int], size: int
) -> None:
    layout = Layout.choose(classes, temperatures=temperatures, features=features)
    found = planned(Question(10**9, layout, views=20, epochs=30), RATES).to_dict()
    assert (found["record_bytes"], found["bytes"]) == (size, 20 * 10**9 * size)


def test_a_plan_is_plain_data() -> None:
    found = planned(ASKED, RATES).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    parts = {name: value for name, value in found["stored"].items() if name != "total"}
    assert sum(parts.values()) == pytest.approx(found["stored"]["total"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.99e-7, "1 µs"), (0.25, "250 ms"), (1, "1 s"), (2.5, "2.5 s"), (89, "89 s"), (91, "2 min"),
     (5400, "1.5 h"), (172_800, "2 days"), (1e12, "31,688 years"), (1e20, "3.2e+12 years")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert in_words(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1e6, "1 MB"), (25.3e9, "25.3 GB"), (9.6e19, "96,000 PB")]
)
def test_sizes(count: float, text: str) -> None:
    assert storage(count) == text
