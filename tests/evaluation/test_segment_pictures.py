"""Pictures of a segmentation: which are shown, and that each holds exactly what was said."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import jaccard_score
from torch import Tensor

from limbeck.data.scenes import IGNORED, Region, Scene, SceneSplit
from limbeck.evaluation.dense.choice import by_lot, chosen, disputed, mean_iou
from limbeck.evaluation.dense.palette import SAFE, STRIPES, class_colors
from limbeck.evaluation.dense.pictures import ROW, reduced, write_pictures
from limbeck.evaluation.dense.reading import Reading
from limbeck.evaluation.dense.tally import Tally

CLASSES = ["land", "water", "road"]


def random(shape: Sequence[int], classes: int, seed: int) -> Tensor:
    return torch.randint(classes, tuple(shape), generator=torch.Generator().manual_seed(seed)).byte()


def split(
    masks: Sequence[Tensor], name: str = "test", channels: int = 3, classes: Sequence[str] = CLASSES
) -> SceneSplit:
    scenes = [
        Scene.of(f"{name}/{at}", random((channels, *mask.shape), 256, at), mask, len(classes))
        for at, mask in enumerate(masks)
    ]
    return SceneSplit([Region.whole(one) for one in scenes], classes, name, patch=(16, 16))


def said(*labels: Tensor) -> Reading:
    return Reading(list(labels), Tally.empty(len(labels), len(CLASSES)))


def segments(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation/segments.json").read_text())
    return found


def colors_in(file: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(file).convert("RGB"))


def test_every_pixel_has_the_color_of_what_was_said_of_it(tmp_path: Path) -> None:
    mask = random((20, 28), 3, 0)
    mask[3:9, 5:20] = IGNORED
    labels = {role: random((20, 28), 3, at) for at, role in enumerate(("teacher", "control", "student"), start=1)}
    data = split([mask], "validation")
    write_pictures(tmp_path, {"validation": data}, CLASSES, {r: {"validation": said(x)} for r, x in labels.items()})
    item, table = segments(tmp_path)["items"][0], np.array(class_colors(3), dtype=np.uint8)
    for role, one in labels.items():
        assert np.array_equal(colors_in(tmp_path / item["models"][role]["file"]), table[one.numpy()])
    truth = colors_in(tmp_path / item["truth"]["file"])
    kept = mask.numpy() != IGNORED
    assert np.array_equal(truth[kept], table[mask.numpy()[kept]])
    assert {tuple(one) for one in truth[~kept].tolist()} == set(STRIPES)  # hatched in both
    assert np.array_equal(colors_in(tmp_path / item["input"]["file"]), data.regions[0].read()[0].permute(1, 2, 0))
    with Image.open(tmp_path / item["truth"]["file"]) as image:
        assert image.mode == "P"


def test_the_disagreement_says_who_is_right(tmp_path: Path) -> None:
    truth = torch.tensor([[0, 0, 0, 0, 1, IGNORED]]).byte()
    student, teacher = torch.tensor([[0, 1, 1, 0, 0, 2]]).byte(), torch.tensor([[0, 0, 2, 1, 1, 1]]).byte()
    heard = {"student": {"validation": said(student)}, "teacher": {"validation": said(teacher)}}
    write_pictures(tmp_path, {"validation": split([truth], "validation")}, CLASSES, heard)
    found = segments(tmp_path)
    color = {one["kind"]: one["color"] for one in found["legend"]["disagreement"]}
    drawn = [
        "#{:02x}{:02x}{:02x}".format(*one) for one in colors_in(tmp_path / found["items"][0]["disagreement"]["file"])[0]
    ]
    kinds = ["both_right", "student_wrong", "both_wrong", "teacher_wrong", "student_wrong"]
    assert drawn[:5] == [color[kind] for kind in kinds]
    assert drawn[5] in found["legend"]["ignored"]
    assert found["items"][0]["disagreement"]["shares"] == {
        "both_right": 0.2, "student_wrong": 0.4, "both_wrong": 0.2, "teacher_wrong": 0.2,
    }  # fmt: skip
    assert (found["items"][0]["pixels"], found["items"][0]["ignored"]) == (5, 1)


def test_without_a_teacher_the_student_is_held_against_the_truth(tmp_path: Path) -> None:
    truth, student = torch.tensor([[0, 1, 2]]).byte(), torch.tensor([[0, 1, 1]]).byte()
    write_pictures(tmp_path, {"test": split([truth])}, CLASSES, {"student": {"test": said(student)}})
    found = segments(tmp_path)
    assert found["roles"] == ["student"]
    assert {one["kind"] for one in found["items"]} == {"by_lot_too", "best"}  # one picture is not the worst too
    assert found["items"][0]["disagreement"]["shares"] == {"right": pytest.approx(2 / 3), "wrong": pytest.approx(1 / 3)}


def test_ten_of_many_are_drawn_by_the_seed_alone() -> None:
    first = by_lot(3, 50)
    assert len(set(first)) == 10
    assert first == sorted(by_lot(3, 50))
    assert first != by_lot(4, 50)
    assert by_lot(3, 9) == list(range(9))
    hits = np.bincount([at for seed in range(300) for at in by_lot(seed, 20)], minlength=20)
    assert hits.min() > 100  # 150 are expected of each, ± 9
    assert hits.max() < 200
    data = split([random((16, 16), 3, at) for at in range(12)], "validation")
    seen = [
        chosen(
            {"validation": data},
            {"student": {"validation": said(*[random((16, 16), 3, at + n) for n in range(12)])}},
            5,
        )
        for at in (0, 40)
    ]
    assert seen[0] == seen[1] == [("by_lot", "validation", at) for at in by_lot(5, 12)]


def test_test_makes_up_ten_where_validation_has_fewer() -> None:
    few, more = (split([random((16, 16), 3, at) for at in range(count)]) for count in (4, 9))
    readings = {"validation": said(*[random((16, 16), 3, 0)] * 4), "test": said(*[random((16, 16), 3, 1)] * 9)}
    found = chosen({"validation": few, "test": more}, {"student": readings}, 7)
    drawn = [one for one in found if one[0].startswith("by_lot")]
    assert drawn == [("by_lot", "validation", at) for at in range(4)] + [
        ("by_lot_too", "test", at) for at in by_lot(7, 9, 6)
    ]


def test_best_and_worst_by_iou_and_the_most_disputed() -> None:
    mask = random((16, 16), 3, 0)
    void = torch.full((16, 16), IGNORED).byte()
    wrong = (mask + 1) % 3

    def partly(rows: int, base: Tensor = mask) -> Tensor:
        return torch.cat([wrong[:rows], base[rows:]])

    data = split([mask, void, mask, mask, mask])
    student, teacher = (
        said(partly(4), void * 0, partly(1), partly(12), partly(2)),
        said(partly(4), void * 0, partly(6), partly(12), partly(0)),
    )
    found = chosen({"test": data}, {"student": {"test": student}, "teacher": {"test": teacher}}, 0)
    assert [one for one in found if one[0] == "best"] == [("best", "test", 2), ("best", "test", 4)]
    assert [one for one in found if one[0] == "worst"] == [("worst", "test", 3), ("worst", "test", 0)]
    assert [one for one in found if one[0] == "disputed"] == [("disputed", "test", 2), ("disputed", "test", 4)]
    assert disputed(student, student, data) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_iou_of_a_picture_is_that_of_scikit_learn(seed: int) -> None:
    mask, labels = random((9, 7), 4, seed), random((9, 7), 5, seed + 50)
    mask[mask == 3] = IGNORED
    kept = mask != IGNORED
    there = sorted(set(mask[kept].tolist()))
    expected = jaccard_score(mask[kept], labels[kept], labels=there, average="macro")
    assert mean_iou(labels, mask, 5) == pytest.approx(expected)
    assert mean_iou(labels, torch.full_like(mask, IGNORED), 5) is None


def test_a_large_picture_is_reduced_to_its_nearest_pixels(tmp_path: Path) -> None:
    mask = random((25, 60), 3, 1).repeat_interleave(20, 0).repeat_interleave(20, 1)  # 500 x 1200
    labels = random((25, 60), 3, 2).repeat_interleave(20, 0).repeat_interleave(20, 1)
    data = split([mask], "validation")
    write_pictures(tmp_path, {"validation": data}, CLASSES, {"student": {"validation": said(labels)}})
    item = segments(tmp_path)["items"][0]
    assert (item["size"], item["drawn"]) == ([500, 1200], [200, 480])
    other = Image.fromarray(labels.numpy()).resize((480, 200), Image.Resampling.NEAREST)
    table = np.array(class_colors(3), dtype=np.uint8)
    assert np.array_equal(colors_in(tmp_path / item["models"]["student"]["file"]), table[np.asarray(other)])
    assert torch.equal(reduced(labels, (200, 480)), torch.from_numpy(np.asarray(other).copy()))
    with Image.open(tmp_path / item["input"]["file"]) as image:
        assert (image.format, image.size) == ("JPEG", (480, 200))


def test_a_row_of_noise_is_drawn_smaller(tmp_path: Path) -> None:
    classes = [str(number) for number in range(200)]
    mask, labels = random((700, 640), 200, 1), random((700, 640), 200, 2)
    data = split([mask], "validation", classes=classes)
    write_pictures(tmp_path, {"validation": data}, classes, {"student": {"validation": said(labels)}})
    item = segments(tmp_path)["items"][0]
    files = list((tmp_path / "evaluation/segments").iterdir())
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) <= ROW
    assert item["drawn"][0] < 480
    assert item["drawn"][1] == round(640 * item["drawn"][0] / 700)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (2, "L"), (3, "RGB"), (4, "RGB")])
def test_inputs_of_other_channels_are_shown(tmp_path: Path, channels: int, mode: str) -> None:
    data = split([random((16, 16), 3, 1)], "validation", channels)
    write_pictures(tmp_path, {"validation": data}, CLASSES, {"student": {"validation": said(random((16, 16), 3, 1))}})
    with Image.open(tmp_path / segments(tmp_path)["items"][0]["input"]["file"]) as image:
        assert image.mode == mode


def test_the_recipes_colors_are_used_and_255_classes_can_be_drawn(tmp_path: Path) -> None:
    mask = torch.tensor([[0, 2, IGNORED]]).byte()
    own = [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    said_so = {"student": {"validation": said(mask.clamp(max=2))}}
    write_pictures(tmp_path, {"validation": split([mask], "validation")}, CLASSES, said_so, colors=own)
    item = segments(tmp_path)["items"][0]
    assert colors_in(tmp_path / item["truth"]["file"])[0, :2].tolist() == [[1, 2, 3], [7, 8, 9]]
    many = [str(number) for number in range(255)]
    mask = torch.tensor([[0, 254, IGNORED, IGNORED]]).byte()
    data = split([mask], "validation", classes=many)
    write_pictures(tmp_path / "b", {"validation": data}, many, {"student": {"validation": said(mask.clamp(max=254))}})
    drawn = colors_in(tmp_path / "b" / segments(tmp_path / "b")["items"][0]["truth"]["file"])[0].tolist()
    assert drawn == [list(class_colors(255)[0]), list(class_colors(255)[254]), *[list(STRIPES[0])] * 2]
    with pytest.raises(ValueError, match="2 colors for 3 classes"):
        class_colors(3, own[:2])


def test_colors_differ_for_everyone() -> None:
    """A second way to the distances: CIE76 in CIELAB of linear light, as protan and deutan eyes get it."""
    sight = {
        "usual": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    }
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = np.array([*SAFE, *STRIPES]) / 255
    light = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    for matrix in sight.values():
        seen = (light @ np.asarray(matrix).T).clip(0, 1) @ to_xyz.T / [0.9505, 1, 1.089]
        root = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
        lab = np.stack([116 * root[:, 1] - 16, 500 * (root[:, 0] - root[:, 1]), 200 * (root[:, 1] - root[:, 2])], 1)
        near = [np.linalg.norm(lab[a] - lab[b]) for a, b in itertools.combinations(range(len(SAFE)), 2)]
        assert min(near) >= 17
    assert len(set(class_colors(255))) == 255
