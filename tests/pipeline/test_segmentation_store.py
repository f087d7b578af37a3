"""A store of a segmenter's outputs is refused before anything is trained, with what it would cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.pipeline.scenery import scenery, segmenting

from limbeck import cli
from limbeck.errors import RecipeError
from limbeck.pipeline.planning import Numbers, plan_recipe
from limbeck.pipeline.run import execute
from limbeck.store.dense import cost_of_maps, map_bytes

# 4 pictures of 32×32 are 16 patches of 16×16; 3 classes at 2 bytes; the coarse map has 4×4 places of 2 · 3 bytes.
FULL, COARSE = 16 * 16 * 3 * 2, 4 * 4 * 6


def test_the_bytes_of_a_map_by_hand() -> None:
    assert map_bytes(3, (16, 16)) == FULL
    assert map_bytes(3, (16, 16), coarse=True) == COARSE
    assert map_bytes(3, (17, 19), coarse=True) == 5 * 5 * 6  # rows 0, 4, 8, 12, 16; columns 0 to 16
    text = cost_of_maps(6, (256, 256), 1000, 16)  # 786,432 · 16,000 = 12.58e9; 24,576 · 16,000 = 393.2e6
    assert "786,432 bytes for 6 classes at 256×256 in half precision, 12.6 GB for 1,000 patches in 16 views" in text
    assert "24,576 bytes, 393 MB in all" in text


@pytest.mark.parametrize(("asked", "views"), [("auto", 2), ({"views": 5}, 5)])
def test_a_run_with_a_store_is_refused_before_training(tmp_path: Path, asked: object, views: int) -> None:
    recipe = segmenting(scenery(tmp_path / "data"), **{"teacher.store": asked})
    with pytest.raises(RecipeError) as caught:
        execute(recipe, tmp_path / "run", quiet=True)
    assert caught.value.what.startswith("teacher.store: a store keeps one row of logits for a view")
    assert f"{FULL:,} bytes" in caught.value.what
    assert f"{FULL * 16 * views / 1e3:.3g} kB for 16 patches in {views} views" in caught.value.what
    assert caught.value.cure == "leave the store out: the live teacher is asked at every step"
    assert not (tmp_path / "run" / "models").exists()


def test_limbeck_store_and_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = segmenting(scenery(tmp_path / "data"))
    file = tmp_path / "scenery.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    with pytest.raises(SystemExit) as left:
        cli.main(["store", str(file), "--quiet"])
    assert left.value.code == RecipeError.exit_code
    assert "a segmenter gives a map" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", str(file)])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("online: a store keeps one row of logits for a view")
    assert "16 patches in 2 views" in out


def test_a_plan_for_other_numbers(tmp_path: Path) -> None:
    recipe = segmenting(scenery(tmp_path / "data"))
    found = plan_recipe(recipe, tmp_path, Numbers(samples=10**6, classes=6, views=None, epochs=100))
    assert (found["take"], found["here"], found["given"], found["rates"]) == ("online", None, None, None)
    # 16·16·6·2 = 3,072 bytes, a million patches, the usual 16 views: 49,152,000,000
    assert "3,072 bytes for 6 classes at 16×16" in found["reason"]
    assert "49.2 GB for 1,000,000 patches in 16 views" in found["reason"]
