"""The layout of a record: sizes by hand, the same on every machine; what is no layout is refused."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from limbeck.errors import FileError, RecipeError
from limbeck.store.layout import Layout

LAYOUTS = [
    Layout(10),
    Layout(1),
    Layout(10, members=3, weights=(0.25, 0.5, 0.25)),
    Layout(10, members=1, weights=(1.0,)),
    Layout(1000, top=10, temperatures=(4.0, 1.0)),
    Layout(1000, members=2, weights=(0.5, 0.5), top=10, temperatures=(2.5,), features={"layer4": 512, "a.b": 1}),
    Layout(2**32, top=1, temperatures=(1.0,)),
]


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (Layout(10), 4 + 10 * 2),
        (Layout(10, 3, (0.25, 0.5, 0.25)), 4 + 3 * 10 * 2),
        (Layout(64, features={"a": 3}), 4 + 64 * 2 + 3 * 2),
        (Layout(1000, top=10, temperatures=(4.0, 1.0)), 4 + 10 * 2 + 10 * 2 + 2 * 2),
        (Layout(65_536, top=10, temperatures=(4.0,)), 4 + 10 * 2 + 10 * 2 + 2),
        (Layout(65_537, top=10, temperatures=(4.0,)), 4 + 10 * 4 + 10 * 2 + 2),
    ],
)
def test_bytes_by_hand(layout: Layout, size: int) -> None:
    assert layout.stride == size == layout.to_dict()["bytes"]


def test_the_promised_sizes() -> None:
    assert Layout.choose(10).stride <= 24
    assert Layout.choose(1000, temperatures=(1.0, 4.0)).stride <= 48


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_fields_lie_without_gaps_in_little_endian_order(layout: Layout) -> None:
    fields = layout.dtype.fields
    assert fields is not None
    offset = 0
    for name in layout.dtype.names or ():
        kind, at = fields[name][:2]
        assert at == offset
        assert kind.base.newbyteorder("<") == kind.base
        assert kind.base.str in ("<u4", "<u2", "<f2")
        offset += kind.itemsize
    assert offset == layout.stride


def test_a_record_is_what_struct_packs() -> None:
    layout = Layout(70_000, top=2, temperatures=(4.0, 1.0), features={"a": 1})
    record = np.zeros(1, layout.dtype)
    record["pixels"], record["ids"], record["logits"] = 0x01020304, [[69_999, 3]], [[1.5, -2.0]]
    record["rest"], record["feature0"] = [[0.5, 0.25]], [[9.0]]
    assert record.tobytes() == struct.pack("<I2I2e2e1e", 0x01020304, 69_999, 3, 1.5, -2.0, 0.5, 0.25, 9.0)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_what_is_written_is_read(layout: Layout) -> None:
    found = Layout.from_dict(layout.to_dict())
    assert found == layout
    assert found.dtype == layout.dtype


@pytest.mark.parametrize(
    ("classes", "options", "expected"),
    [
        (64, {}, Layout(64)),
        (65, {"temperatures": (4.0,)}, Layout(65, top=10, temperatures=(4.0,))),
        (64, {"top": 3, "temperatures": (4, 4.0, 1)}, Layout(64, top=3, temperatures=(4.0, 1.0))),
        (65, {"top": 0, "temperatures": (4.0,)}, Layout(65)),
        (10, {"temperatures": (4.0,)}, Layout(10)),
        (10, {"features": {"a": 2}}, Layout(10, features={"a": 2})),
    ],
)
def test_chosen(classes: int, options: dict[str, Any], expected: Layout) -> None:
    assert Layout.choose(classes, **options) == expected


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"classes": 0}, "classes of a store are 0, expected 1 to 4294967296"),
        ({"classes": 2**32 + 1}, "classes of a store are 4294967297"),
        ({"classes": 10.0}, "classes of a store are 10.0"),
        ({"members": 0}, "members of a store are 0"),
        ({"top": -1}, "top of a store are -1"),
        ({"top": 10, "temperatures": (1.0,)}, "a store of the 10 largest logits of 10 classes is not possible"),
        ({"top": 3}, "the largest logits alone do not say how much the other classes weigh"),
        ({"top": 3, "members": 2, "weights": (0.5, 0.5), "temperatures": (1.0, 4.0)}, "differ with the temperature"),
        ({"top": 3, "temperatures": (0.0,)}, "expected positive numbers, each once"),
        ({"top": 3, "temperatures": (float("nan"),)}, "expected positive numbers, each once"),
        ({"top": 3, "temperatures": (float("inf"),)}, "expected positive numbers, each once"),
        ({"top": 3, "temperatures": (1.0, 1)}, "expected positive numbers, each once"),
        ({"members": 2}, "a store of 2 members has 0 weights, expected one each"),
        ({"weights": (0.5, 0.5)}, "a store of 1 members has 2 weights"),
        ({"members": 2, "weights": (0.5, 0.6)}, "expected them to add up to 1"),
        ({"members": 2, "weights": (-0.5, 1.5)}, "expected them to add up to 1"),
        ({"members": 2, "weights": (float("nan"), 1.0)}, "expected them to add up to 1"),
        ({"features": {"a": 0}}, "features of layer 'a' have length 0"),
        ({"classes": 2**31}, "is above 2 GiB"),
        ({"features": {"a": 2**30}}, "is above 2 GiB"),
    ],
)
def test_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError) as error:
        Layout(**{"classes": 10, **options})
    assert text in error.value.what


def test_what_is_read_names_its_file_and_field() -> None:
    written = {**replace(LAYOUTS[0]).to_dict(), "classes": -1}
    with pytest.raises(FileError, match=r"^here/manifest.json: record.classes is -1, expected a whole number"):
        Layout.from_dict(written, "here/manifest.json: record")
    with pytest.raises(FileError, match=r"^layout: record.classes is -1"):
        Layout.from_dict(written)
