"""`import limbeck` costs what `import torch` costs: seen in fresh processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck

PACKAGE = Path(limbeck.__file__).parent
FORBIDDEN = {
    "IPython", "PIL", "ipykernel", "jinja2", "joblib", "matplotlib", "ml_dtypes", "nbclient", "nbformat", "onnx",
    "onnx_ir", "onnxruntime", "onnxscript", "pandas", "pydantic", "pydantic_core", "requests", "rich",
    "safetensors", "scipy", "segmentation_models_pytorch", "sklearn", "timm", "torchvision", "typer", "yaml",
}  # fmt: skip
PROBE = """
import sys
start = set(sys.modules)
{code}
import json, torch
modules = {{name.partition(".")[0] for name in set(sys.modules) - start}} - set(sys.stdlib_module_names)
print(json.dumps({{"modules": sorted(modules), "cuda": torch.cuda.is_initialized(),
                   "limbeck": getattr(sys.modules.get("limbeck"), "__file__", None)}}))
"""


def probe(code: str, path: Path = PACKAGE.parent) -> dict:
    """Run ``code`` in a fresh process whose ``limbeck`` is the one under ``path``; what is loaded afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(code=code)],
        capture_output=True, text=True, check=True, env=environment, timeout=120,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def torch_alone() -> set[str]:
    return set(probe("import torch")["modules"])


def beyond_torch(found: dict, torch_alone: set[str]) -> set[str]:
    """Third-party packages that limbeck added to what torch itself loads (which differs between releases)."""
    return set(found["modules"]) - torch_alone - {"limbeck", "__mp_main__"}


def test_torch_itself_loads_few_of_the_forbidden(torch_alone: set[str]) -> None:
    assert "torch" in torch_alone
    assert not torch_alone & FORBIDDEN  # else the check below would not see them


def test_import_loads_torch_and_nothing_else(torch_alone: set[str]) -> None:
    found = probe("import limbeck")
    assert beyond_torch(found, torch_alone) == set()
    assert not found["cuda"]
    assert Path(found["limbeck"]) == PACKAGE / "__init__.py"


def test_the_core_loads_no_forbidden_library(torch_alone: set[str]) -> None:
    """Losses, objectives and teachers for someone's own loop: still torch alone."""
    found = probe("import limbeck as lb; lb.Outputs, lb.losses.kl, lb.term, lb.Objective, lb.Ensemble")
    assert beyond_torch(found, torch_alone) == set()
    assert not found["cuda"]


@pytest.mark.parametrize("library", ["yaml", "torchvision", "pydantic", "sklearn"])
def test_a_planted_import_is_seen(library: str, tmp_path: Path, torch_alone: set[str]) -> None:
    shutil.copytree(PACKAGE, tmp_path / "limbeck", ignore=shutil.ignore_patterns("__pycache__"))
    with open(tmp_path / "limbeck" / "__init__.py", "a") as file:
        file.write(f"\nimport {library}\n")
    found = probe("import limbeck", tmp_path)
    assert Path(found["limbeck"]).is_relative_to(tmp_path)
    assert library in beyond_torch(found, torch_alone)
