"""``limbeck layers``: the names that a recipe may write, and what is found there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limbeck import cli

RESNET = ["limbeck/resnet", "--input", "3x16x16", "--options", "depth=8", "--options", "width=4"]


def leave(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(["layers", *args])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_layers_are_listed_with_shapes_and_sites(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(*RESNET, "--classes", "3") == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["layer", "kind", "shape", "parameters", "site"]
    assert lines[1] == ["stem.0", "Conv2d", "4×16×16", "108"]  # 3 · 4 · 9
    assert [line for line in lines if "stage" in line or "pooled" in line] == [
        ["blocks.0", "_Block", "4×16×16", "stage", "1"],
        ["blocks.1", "_Block", "8×8×8", "stage", "2"],
        ["blocks", "Sequential", "16×4×4", "stage", "3"],
        ["classifier:input", "16", "pooled"],
    ]
    assert ["classifier", "Linear", "3", "51"] in lines
    assert ["(the", "model)", "CifarResNet", "3"] in lines
    assert out.endswith("parameters; inputs of 3×16×16.\n")
    assert err == ""


def test_json_is_one_document_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(*RESNET, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["input"], found["classes"], found["note"]) == ("limbeck/resnet", [3, 16, 16], 10, "")
    assert found["layers"][0] == {
        "address": "stem.0", "kind": "Conv2d", "shape": [4, 16, 16], "parameters": 108, "site": None, "stacked": False,
    }  # fmt: skip
    assert found["stages"][-1] == {"address": "blocks", "shape": [16, 4, 4]}
    assert found["pooled"] == {"address": "classifier:input", "shape": [16]}
    assert found["parameters"] == sum(row["parameters"] for row in found["layers"])


def test_pairs_with_adapters_and_their_costs(capsys: pytest.CaptureFixture[str]) -> None:
    student = ["--pair", "limbeck/resnet", "--pair-options", "depth=8", "--pair-options", "width=2"]
    assert leave(*RESNET, *student) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        "stage blocks.0 4×16×16 blocks.0 2×16×16 conv 16 2,048",  # 8 + 2 · 4; 8 · 256
        "stage, middle blocks.1 8×8×8 blocks.1 4×8×8 conv 48 2,048",
        "stage, last blocks 16×4×4 blocks 8×4×4 conv 160 2,048",
        "pooled classifier:input 16 classifier:input 8 linear 144 128",
    ]
    assert leave(*RESNET, *student, "--pair-input", "3x8x8", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["teacher"], found["student"], found["notes"]) == ("limbeck/resnet", "limbeck/resnet", [])
    assert [row["adapter"] for row in found["pairs"]] == ["resize + conv"] * 3 + ["linear"]
    assert found["pairs"][1] == {
        "site": "stage, middle", "teacher": "blocks.1", "teacher_shape": [8, 8, 8], "student": "blocks.1",
        "student_shape": [4, 4, 4], "adapter": "resize + conv", "parameters": 48, "macs": 512,
    }  # fmt: skip


def test_a_segmenters_rows_have_its_encoders_stages(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--options", "encoder_name=tu-mobilenetv3_small_050", "--options", "decoder_channels=[8,8,4,4,4]"]
    assert leave("smp/unet", "-i", "3x32x32", "--classes", "6", *small) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert [line for line in lines if "stage" in line and "encoder[" in line] == [
        "encoder[1] TimmUniversalEncoder 16×16×16 stage 1",
        "encoder[2] TimmUniversalEncoder 8×8×8 stage 2",
        "encoder[3] TimmUniversalEncoder 16×4×4 stage 3",
        "encoder[4] TimmUniversalEncoder 24×2×2 stage 4",
    ]
    given = lines.index("segmentation_head:input 4×32×32 decoded")
    assert lines[given + 1] == "segmentation_head.0 Conv2d 6×32×32 222"  # 4 · 6 · 9 + 6: the head begins with it
    assert "(the model) Unet 6×32×32" in lines
    assert "Note: it gives a score for each pixel: its stages are its encoder's" in out
    assert leave("limbeck/unet", "-i", "3x32x32", "--options", "width=4", "--pair", "limbeck/unet",
                 "--pair-options", "width=2", "--json") == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert [row["site"] for row in found["pairs"]] == [
        "stage", "stage", "stage, middle", "stage", "stage, last", "decoded",
    ]  # fmt: skip
    assert [row["student_shape"] for row in found["pairs"]][2:] == [[8, 8, 8], [16, 4, 4], [32, 2, 2], [2, 32, 32]]


def test_models_of_the_user_and_what_is_stacked_otherwise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, classes):\n"
        "        super().__init__()\n"
        "        print('a noisy file')\n"
        "        self.split, self.fc = nn.Identity(), nn.Linear(8, classes)\n"
        "    def forward(self, x):\n"
        "        return self.fc(self.split(x.reshape(-1, 4)).reshape(len(x), -1))\n"
    )
    assert leave("user/Net", "-i", "2x4", "--models", str(file), "--json") == 0
    out, err = capsys.readouterr()
    assert [row["stacked"] for row in json.loads(out)["layers"]] == [True, False, False, False]
    assert err == "a noisy file\n"
    assert leave("user/Net", "-i", "2x4", "--models", str(file)) == 0
    out = capsys.readouterr().out
    assert "split Identity 4 of 4" in " ".join(out.split())
    assert "Note: no stages were found." in out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["limbeck/resnet", "-i", "3x"], 2, "--input 3x is no shape of one input"),
        (["limbeck/resnet", "-i", "3x-1x4"], 2, "--input 3x-1x4 is no shape of one input"),
        (["limbeck/resnet", "-i", "3x٣x4"], 2, "is no shape of one input"),
        (["limbeck/resnet", "-i", "3x99999x99999"], 2, "has 29,999,400,003 numbers, expected at most 67,108,864"),
        (["limbeck/resnet"], 2, "Missing option '--input'"),
        (["limbeck/resnet", "-i", "3x16x16", "--classes", "0"], 2, "--classes"),
        (["limbeck/resnet", "-i", "3x16x16", "--options", "depth"], 2, "--options depth: expected an argument and its"),
        (["limbeck/resnet", "-i", "3x16x16", "--options", "a.b=1"], 2, "--options a.b=1: expected an argument"),
        (["limbeck/resnet", "-i", "3x16x16", "--options", "deep=8"], 4, "does not take the options {'deep': 8}"),
        (["limbeck/resnet", "-i", "3x16x16", "--options", "depth=9"], 4, "has depth 9"),
        (["limbeck/resnett", "-i", "3x16x16"], 4, "no model 'limbeck/resnett'; did you mean 'resnet'?"),
        (["resnet", "-i", "3x16x16"], 4, "model 'resnet' is in no known namespace"),
        (["limbeck/resnet", "-i", "3x4x4"], 4, "at least 8×8"),
        (["limbeck/mlp_784", "-i", "4", "--options", "hidden=[x]"], 4, "model 'limbeck/mlp_784' "),
        (
            ["timm/vit_tiny_patch16_224", "-i", "3x8x8", "--options", "depth=1"],
            4,
            "does not run on inputs of shape 3×8×8",
        ),
        (["limbeck/resnet", "-i", "3x16x16", "--pair-input", "3x8x8"], 2, "--pair-input says something of a student"),
        (["limbeck/resnet", "-i", "3x16x16", "--pair-options", "depth=8"], 2, "--pair-options says something"),
        ([*RESNET, "--pair", "limbeck/mlp", "--json"], 4, "no model 'limbeck/mlp'"),
        ([*RESNET, "--pair", "limbeck/mlp_784", "--pair-input", "3xx"], 2, "--pair-input 3xx is no shape"),
        ([*RESNET, "--models", "nowhere.py"], 4, "--models nowhere.py is not a Python file"),
    ],
)
def test_a_mistake_is_answered_with_one_message(
    args: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(*args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_the_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert " layers " in capsys.readouterr().out
