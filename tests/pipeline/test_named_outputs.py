"""A whole run with models that give a mapping with ``out``, as torchvision's segmentation models do."""

from __future__ import annotations

import json
from pathlib import Path

from tests.pipeline.scenery import scenery, segmenting

from limbeck.pipeline.run import execute

MODELS = """
from torch import nn
from limbeck.models.unet import UNet

class Named(nn.Module):
    def __init__(self, input_shape, classes, width):
        super().__init__()
        self.encoder_decoder = UNet(input_shape, classes, width)

    def forward(self, x):
        logits = self.encoder_decoder(x)
        return {"aux": -logits, "out": logits}
"""


def test_a_run_whose_models_name_their_logits_out(tmp_path: Path) -> None:
    """Trained, compared at the encoder's stages and at ``[aux]``, exported, and the file held against the model."""
    (tmp_path / "mine.py").write_text(MODELS)
    model = {"model": "user/Named", "epochs": 1, "batch_size": 8}
    recipe = segmenting(
        scenery(tmp_path / "data"),
        teacher={**model, "options": {"width": 2}},
        student={**model, "options": {"width": 1}},
        objective={
            "supervised": 0.5,
            "pixel_kl": 0.5,
            "pairwise": {"at": "encoder_decoder.down.2"},
            "attention_transfer": 1.0,
            "cwd": {"weight": 1.0, "at": "[aux]"},
        },
        controls={"control": False, "hard_labels": False},
        export=["onnx"],
    )
    execute(recipe, tmp_path / "run", quiet=True, models=tmp_path / "mine.py")
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    line = (tmp_path / "run" / "models" / "student" / "seed0" / "metrics.jsonl").read_text().splitlines()[0]
    terms = json.loads(line)["train"]["terms"]
    assert list(terms) == ["supervised", "pixel_kl", "pairwise", "attention_transfer", "cwd"]
    assert all(value > 0 for value in terms.values())
    assert told["exports"][0]["agreement"] == 1.0
