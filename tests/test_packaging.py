"""The pinned set fits the package's own ranges, and the two commands answer a poor machine with a cure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]


def pinned() -> dict[str, Version]:
    return {canonicalize_name(name): Version(version) for name, _, version in (pin.partition("==") for pin in PINS)}


def declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts if not text.startswith("limbeck")]


def test_a_pin_is_a_name_and_an_exact_public_version() -> None:
    for pin in PINS:  # no host, no URL, no local suffix such as +cpu
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9]+(\.[0-9]+)*", pin), pin
    assert len(pinned()) == len(PINS)


def test_every_declared_dependency_is_pinned_within_its_range() -> None:
    pins = pinned()
    for requirement in declared():
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)


def test_torch_and_torchvision_are_a_pair() -> None:
    if metadata.version("torchvision").partition("+")[0] != str(pinned()["torchvision"]):
        pytest.skip("another torchvision is installed than the pinned one")
    wanted = next(r for r in map(Requirement, metadata.requires("torchvision") or []) if r.name == "torch")
    assert pinned()["torch"] in wanted.specifier


def test_the_license_is_the_standard_text() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def make(folder: Path, *arguments: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    command = ["make", *arguments, *([f"PYTHON={python}"] if python else [])]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and what it reads, in a folder whose name has a space."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


# A stand-in python: answers the version question, then fails or not where a Debian without python3-venv fails.
OLD = 'case "$2" in *version_info*) exit 1;; esac; echo "Python 3.9.2"'
NO_VENV = 'case "$2" in *ensurepip*) echo "No module named ensurepip" >&2; exit 1;; esac; exit 0'
# Makes an environment whose python only writes down what it is asked to do.
FAKE = """
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p .venv/bin && cp "$0" .venv/bin/python
  for tool in limbeck ruff mypy; do
    printf '#!/bin/sh\\necho "%s $*" >> asked.txt\\n' "$tool" > .venv/bin/$tool && chmod +x .venv/bin/$tool
  done
elif [ "$1" = -m ]; then
  shift; echo "$*" >> asked.txt
fi
"""


@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_missing_python_is_answered(checkout: Path, target: str) -> None:
    done = make(checkout, target, python="python3.99")
    assert done.returncode != 0
    assert "'python3.99' was not found" in done.stdout
    assert f"make PYTHON=python3.12 {target}" in done.stdout
    assert not (checkout / ".venv").exists()


def test_an_old_python_is_answered(checkout: Path) -> None:
    done = make(checkout, "demo", python=script(checkout / "old", OLD))
    assert done.returncode != 0
    assert "3.11 or newer" in done.stdout
    assert "Python 3.9.2" in done.stdout
    assert not (checkout / ".venv").exists()


def test_a_missing_venv_module_is_answered(checkout: Path) -> None:
    done = make(checkout, "demo", python=script(checkout / "bare", NO_VENV))
    assert done.returncode != 0
    assert "sudo apt install python3-venv" in done.stdout
    assert "No module named" not in done.stdout + done.stderr
    assert not (checkout / ".venv").exists()


def test_the_second_call_installs_nothing(checkout: Path) -> None:
    python = script(checkout / "bin" / "python3", FAKE)
    asked = checkout / "asked.txt"
    for _ in range(2):
        done = make(checkout, "demo", python=python)
        assert done.returncode == 0, done.stderr
    assert asked.read_text().splitlines() == [
        "pip install -c constraints.txt -e .[all]", "limbeck demo", "limbeck demo",
    ]  # fmt: skip
    asked.unlink()
    assert make(checkout, "test", python=python).returncode == 0
    assert make(checkout, "demo", python=python).returncode == 0  # the dev set holds the other
    assert asked.read_text().splitlines() == [
        "pip install -c constraints.txt -e .[dev]", "ruff check --no-cache .", "ruff format --check .", "mypy ",
        "pytest -n 2 -m not slow", "limbeck demo",
    ]  # fmt: skip
    asked.unlink()
    later = (checkout / ".venv" / ".limbeck-dev").stat().st_mtime + 5
    os.utime(checkout / "constraints.txt", (later, later))
    make(checkout, "demo", python=python)
    assert asked.read_text().splitlines()[0] == "pip install -c constraints.txt -e .[all]"  # new pins install again


def test_a_failed_install_is_not_taken_for_done(checkout: Path) -> None:
    failing = FAKE.replace('echo "$*" >> asked.txt', "exit 1")
    assert make(checkout, "demo", python=script(checkout / "python3", failing)).returncode != 0
    assert not (checkout / ".venv" / ".limbeck-all").exists()


def test_help_lists_every_target(checkout: Path) -> None:
    shown = make(checkout).stdout
    targets = re.findall(r"^([a-z-]+):.*##", (checkout / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test", "test-slow", "lint", "bench", "notebook", "clean", "help"} == set(targets)
    assert all(f"make {target} " in shown for target in targets)
