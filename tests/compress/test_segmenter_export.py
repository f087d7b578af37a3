"""An exported segmenter: any size inside one file, and what it says held against the model on whole pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from tests.compress.segmenters import COLORS, NAMES, WINDOW, kernel, segmenter, whole
from torch import nn

from limbeck.compress import predict_images
from limbeck.compress.export.alike import Beside, compare_stitched
from limbeck.compress.export.onnx import export_onnx, free_sizes
from limbeck.compress.shipped.opening import open_onnx
from limbeck.compress.shipped.use import Use
from limbeck.compress.shipped.windows import Windows
from limbeck.data import Normalization
from limbeck.data.preparation import Preparation
from limbeck.data.scenes import Region, Scene, SceneSplit
from limbeck.errors import ExportError
from limbeck.evaluation.dense.measures import segmentation
from limbeck.evaluation.dense.reading import Reading, read_module
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models.unet import UNet

SHAPE = (3, *WINDOW)
PREPARED = Preparation(Normalization((0.2, 0.4, 0.6), (0.5, 0.25, 0.125)))
PLAIN = Preparation(Normalization.none(3))
WEIGHTS = kernel()


def exported(module: nn.Module, path: Path, preparation: Preparation = PREPARED, **changes: Any) -> Path:
    options: dict[str, Any] = {"shape": SHAPE, "classes": NAMES, "name": "dense", "use": Use(fit="windows")}
    windows = Windows(0.25, colors=COLORS)
    return export_onnx(module, path, preparation=preparation, windows=windows, **{**options, **changes})


def ran(path: Path, images: Any) -> Any:
    return open_onnx(path, threads=1)[0].run(["logits"], {"image": images})[0]


def asked(module: nn.Module, images: Any, preparation: Preparation = PREPARED) -> Any:
    with torch.no_grad():
        return module.eval()(preparation(torch.from_numpy(images))).numpy()


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    module = UNet(SHAPE, 3, width=2)
    return exported(module, tmp_path_factory.mktemp("unet") / "unet.onnx"), module


@pytest.mark.parametrize("size", [(1, 16, 24), (2, 16, 16), (1, 33, 47), (3, 31, 18), (1, 64, 17)], ids=str)
def test_one_file_takes_any_batch_height_and_width(unet: tuple[Path, nn.Module], size: tuple[int, ...]) -> None:
    """A U-Net halves sides that are odd, and its window is neither square nor all it sees."""
    images = np.random.default_rng(0).random((size[0], 3, *size[1:]), dtype=np.float32)
    np.testing.assert_allclose(ran(unet[0], images), asked(unet[1], images), atol=1e-4)


def test_the_file_says_how_it_is_used(unet: tuple[Path, nn.Module]) -> None:
    kept = {one.key: one.value for one in onnx.load(unet[0]).metadata_props}
    assert (kept["task"], kept["fit"]) == ("segmentation", "windows")
    assert json.loads(kept["shape"]) == list(SHAPE)
    assert (json.loads(kept["overlap"]), json.loads(kept["multiple"])) == (0.25, 1)
    assert json.loads(kept["colors"]) == [list(one) for one in COLORS]
    assert json.loads(kept["normalization"]) == PREPARED.normalization.to_dict()
    session, signature = open_onnx(unet[0])
    assert signature.windows == Windows(0.25, 1, COLORS)
    assert [one.shape for one in (*session.get_inputs(), *session.get_outputs())] == [
        ["batch", 3, "height", "width"]
    ] * 2


class Quarters(nn.Module):
    """Gives a size of its own for sides that four does not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 3, 4, stride=4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.up(torch.max_pool2d(image, 4))


class Placed(nn.Module):
    """Knows each place of its window."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.rand(1, *SHAPE))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.place


@pytest.mark.parametrize(
    ("make", "multiple", "sizes"),
    [(Quarters, 4, "multiples of 4, from the window's up"), (Placed, None, "those of the window")],
)
def test_what_a_model_does_not_take_its_file_says(
    tmp_path: Path, make: type[nn.Module], multiple: int | None, sizes: str
) -> None:
    torch.manual_seed(0)
    module, path = make(), tmp_path / "m.onnx"
    assert free_sizes(module, SHAPE) == multiple
    exported(module, path)
    windows = open_onnx(path)[1].windows
    assert windows == Windows(0.25, multiple, COLORS)
    assert windows is not None
    assert windows.sizes == sizes
    images = np.random.default_rng(0).random((2, *SHAPE), dtype=np.float32)
    np.testing.assert_allclose(ran(path, images), asked(module, images), atol=1e-4)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 2, 1), nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 24, 3))], ids=["2 classes", "a label"]
)
def test_what_is_no_segmenter_of_these_classes_is_refused(tmp_path: Path, layer: nn.Module) -> None:
    with pytest.raises(
        ExportError, match=r"'dense' gives .* expected \[3, height, width\]: one for each class and pixel"
    ):
        exported(layer, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


# ---------------------------------------------------------------- held against the model


def conv(weights: Any = WEIGHTS) -> nn.Module:
    module = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weights))
    return module


def scenes(*sizes: tuple[int, int]) -> SceneSplit:
    """Pictures of chance, and masks of which a tenth of the pixels have no label."""
    found = []
    for number, size in enumerate(sizes):
        dice = np.random.default_rng(number)
        picture = torch.from_numpy(dice.integers(0, 256, (3, *size), dtype=np.uint8))
        mask = torch.from_numpy(np.where(dice.random(size) < 0.1, 255, dice.integers(0, 3, size)).astype(np.uint8))
        found.append(Region.whole(Scene.of(f"{number}", picture, mask, 3)))
    return SceneSplit(found, NAMES, "test", patch=WINDOW)


SPLIT = scenes((41, 67), (16, 24), (9, 50))


def held(path: Path, module: nn.Module, preparation: Preparation, said: Reading) -> tuple[Reading, dict[str, Any]]:
    return compare_stitched(Beside(path, *open_onnx(path, threads=1), module, preparation), SPLIT, said)


def test_from_export_to_masks_the_labels_are_the_models(unet: tuple[Path, nn.Module], tmp_path: Path) -> None:
    """The module's own reading, the exported file's, and what predict draws of the same pictures as files."""
    path, module = unet
    said = read_module(module, PREPARED, SPLIT)
    reading, found = held(path, module, PREPARED, said)
    assert found["max_abs_difference"] < 1e-4
    assert found["max_probability_difference"] < 1e-5
    assert found["agreement"] > 0.999
    assert found["direct"] == [29, 50]
    ours, theirs = (segmentation(one, SPLIT, NAMES) for one in (reading, said))
    assert ours["mean_iou"] == pytest.approx(theirs["mean_iou"], abs=1e-3)
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    for number, region in enumerate(SPLIT.regions):
        Image.fromarray(region.read()[0].permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    drawn = predict_images(path, [tmp_path / f"{number}.png" for number in range(3)], out=tmp_path / "masks")
    for one, labels in zip(drawn, reading.labels, strict=True):
        with Image.open(one["mask"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask), labels.numpy())


def test_what_is_counted_is_what_numpy_stitches(tmp_path: Path) -> None:
    path, module = segmenter(tmp_path / "s.onnx", WEIGHTS), conv()
    reading, found = held(path, module, PLAIN, read_module(module, PLAIN, SPLIT))
    counts = np.zeros((3, 3), int)
    for region, labels in zip(SPLIT.regions, reading.labels, strict=True):
        picture, mask = (one.numpy() for one in region.read())
        expected = whole(WEIGHTS, picture)
        assert (expected.argmax(axis=0) == labels.numpy()).mean() > 0.999
        known = mask != 255
        np.add.at(counts, (mask[known], labels.numpy()[known]), 1)
    assert reading.tally.confusion.tolist() == counts.tolist()
    assert found["windows"] == 4 * 4 + 1 + 1 * 3  # rows 0, 12, 24, 25 and columns 0, 18, 36, 43; 1; columns 0, 18, 26


def test_a_file_that_differs_is_not_shipped(tmp_path: Path) -> None:
    said, other = read_module(conv(), PLAIN, SPLIT), WEIGHTS.copy()
    other[2, 1, 0, 2] += 0.05
    path = segmenter(tmp_path / "other.onnx", other)
    with pytest.raises(ExportError, match=r"other\.onnx differs from the model by 0\.05 in a logit of a window"):
        held(path, conv(), PLAIN, said)


def test_other_labels_than_the_model_was_read_to_give_are_not_shipped(tmp_path: Path) -> None:
    """As if whole pictures were stitched otherwise than the file is run."""
    path, said = segmenter(tmp_path / "s.onnx", WEIGHTS), read_module(conv(), PLAIN, SPLIT)
    said.labels[0][20, 30] = (said.labels[0][20, 30] + 1) % 3
    with pytest.raises(ExportError, match=r"s\.onnx differs from the model by .* in the lead of a class"):
        held(path, conv(), PLAIN, said)


def test_a_graph_of_one_size_that_calls_itself_free(tmp_path: Path) -> None:
    """Windows alone would not show it: one picture of an odd size is given at once."""
    path = segmenter(tmp_path / "s.onnx", WEIGHTS)

    class Windowed(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return conv()(image) if image.shape[2:] == torch.Size(WINDOW) else 2 * conv()(image)

    with pytest.raises(ExportError, match="in a logit of a window"):
        held(path, Windowed(), PLAIN, read_module(conv(), PLAIN, SPLIT))


def test_a_model_whose_logits_are_not_numbers_is_not_shipped(tmp_path: Path) -> None:
    path, broken = segmenter(tmp_path / "s.onnx", WEIGHTS), WEIGHTS.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="differs from the model by nan"):
        held(path, conv(broken), PLAIN, read_module(conv(), PLAIN, SPLIT))


def test_half_and_quarter_of_the_unets_width() -> None:
    """In parameters and multiply-accumulates of a patch of 256 × 256."""
    with torch.device("meta"):
        sizes = [UNet((3, 256, 256), 6, width=width) for width in (16, 8, 4)]
    (whole_p, whole_m), (half_p, half_m), (quarter_p, quarter_m) = (
        (parameters(one), macs(one, (3, 256, 256))) for one in sizes
    )
    assert (whole_p, half_p, quarter_p) == (1_941_190, 485_862, 121_750)
    assert whole_p / half_p >= 3.9
    assert whole_m / half_m >= 3.9
    assert whole_p / quarter_p >= 15
    assert whole_m / quarter_m >= 15


def unet_macs(width: int, side: int, classes: int = 6) -> int:
    """By hand: 9 · in · out a pixel of a convolution, in · out a pixel of a transposed one's result."""
    widths = [width * 2**level for level in range(5)]
    pixels = [(side // 2**level) ** 2 for level in range(5)]
    down = sum(
        9 * at * (before * one + one * one) for before, one, at in zip([3, *widths[:4]], widths, pixels, strict=True)
    )
    up = sum(
        at * (2 * one * one + 9 * (2 * one * one + one * one)) for one, at in zip(widths[:4], pixels, strict=False)
    )
    return down + up + pixels[0] * width * classes


@pytest.mark.parametrize("width", [4, 8])
def test_multiplications_by_hand(width: int) -> None:
    with torch.device("meta"):
        module = UNet((3, 64, 64), 6, width=width)
    assert macs(module, (3, 64, 64)) == unet_macs(width, 64)
