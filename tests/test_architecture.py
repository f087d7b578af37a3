"""The house's rules, read from the syntax trees; each rule is also shown a planted violation that it must catch."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import limbeck

SRC = Path(limbeck.__file__).parent

# From low to high; a room imports only from rooms of a lower number, and from itself.
ORDER = [
    ("errors",), ("losses",), ("outputs", "taps", "adapters"), ("files", "slots"), ("data",), ("models",), ("pairing",),
    ("teachers",), ("objective",), ("conformance",), ("training",), ("evaluation",), ("store",), ("compress",),
    ("tasks",), ("report",), ("recipe",), ("doctor",), ("pipeline",),
    ("cli", "__main__"),
]  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}
WRITERS = {"files.py", "slots.py"}  # the only files that may open a file for writing
MAX_FILE, MAX_FUNCTION, MAX_CLASS = 400, 60, 200

Rule = Callable[[Path], list[str]]


def trees(src: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(src.rglob("*.py")):
        yield path.relative_to(src).as_posix(), ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute, else what can be said of it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def is_constant(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == name), None)


def aliases(tree: ast.Module) -> dict[str, str]:
    """Local name -> what was imported under it, so that ``import numpy as np`` and ``from torch import load`` count."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return found


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Each call with the full name of what is called."""
    known = aliases(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = dotted(node.func).partition(".")
            yield known.get(head, head) + dot + rest, node


def imports(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every imported module by absolute name, wherever in the file; ``importlib.import_module("…")`` too."""
    package = ["limbeck", *Path(file).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "limbeck":
                yield from ((node.lineno, f"limbeck.{a.name}") for a in node.names)
            else:
                yield node.lineno, module
    for name, call in calls(tree):
        if name in ("importlib.import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
            yield call.lineno, str(call.args[0].value)


# Rules: each returns the violations it finds under a package folder.


def room_order(src: Path) -> list[str]:
    found = []
    for file, tree in trees(src):
        room = Path(file).parts[0].removesuffix(".py")
        if file == "__init__.py":
            continue
        if room not in LEVEL:
            found.append(f"{file}: the room '{room}' is not in the table")
            continue
        for line, module in imports(file, tree):
            parts = module.split(".")
            if parts[0] != "limbeck" or parts[1:] == ["__version__"]:
                continue
            if len(parts) == 1 and LEVEL[room] < LEVEL["cli"]:
                found.append(f"{file}:{line}: imports the whole package; name the room")
            elif len(parts) > 1:
                public = limbeck._PUBLIC.get(parts[1])
                other = public.split(".")[1] if public else parts[1]
                if other not in LEVEL:
                    found.append(f"{file}:{line}: '{other}' is not in the table")
                elif LEVEL[other] > LEVEL[room]:
                    found.append(f"{file}:{line}: '{room}' imports from '{other}', which comes after it in the table")
    return found


def losses_use_torch_only(src: Path) -> list[str]:
    allowed = sys.stdlib_module_names | {"torch"}
    return [
        f"{file}:{line}: losses import {module}"
        for file, tree in trees(src)
        if file.startswith("losses/")
        for line, module in imports(file, tree)
        if module.split(".")[0] not in allowed and not re.match(r"limbeck\.(errors|losses)\b", module)
    ]


SAVERS = {"torch.save", "numpy.save", "numpy.savez", "numpy.savez_compressed", "numpy.savetxt", "os.open", "os.fdopen",
          "os.rename", "os.replace", "safetensors.torch.save_file", "safetensors.torch.save_model",
          "safetensors.numpy.save_file", "onnx.save", "onnx.save_model", "onnx_ir.save", "torch.onnx.export",
          "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copyfileobj", "shutil.copytree", "shutil.move",
          "shutil.make_archive", "shutil.unpack_archive",
          "tempfile.NamedTemporaryFile", "tempfile.mkstemp"}  # fmt: skip
WRITING_METHODS = {"write_text", "write_bytes", "touch", "tofile", "to_csv", "rename"}


def _opens_for_writing(name: str, call: ast.Call) -> bool:
    bare = name.rpartition(".")[2]
    if bare not in ("open", "ZipFile", "TarFile", "GzipFile"):
        return False
    mode = keyword(call, "mode") or (call.args[1] if len(call.args) > 1 else None)
    if mode is not None and not isinstance(mode, ast.Constant):
        return name == "open"  # a mode that is not spelled out can not be checked
    values = [mode, call.args[0] if bare == "open" and name != "open" and call.args else None]  # Path.open("w")
    texts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
    return any(re.fullmatch(r"[rwaxbt+]{1,4}(:\w*)?", t) and set(t) & set("wax+") for t in texts)


def one_writer(src: Path) -> list[str]:
    found = []
    for file, tree in trees(src):
        if file in WRITERS:
            continue
        for name, call in calls(tree):
            method = isinstance(call.func, ast.Attribute) and name.rpartition(".")[2]
            own = name.startswith("limbeck.")
            writes = name in SAVERS or (method in WRITING_METHODS and not own) or _opens_for_writing(name, call)
            if name == "torch.onnx.export" and not any(k.arg == "f" for k in call.keywords) and len(call.args) < 3:
                writes = False  # returns the program without writing it
            if writes:
                found.append(f"{file}:{call.lineno}: {name} writes; only files.py does")
    return found


UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "pickletools"}
UNSAFE_CALLS = {"eval", "exec", "compile", "builtins.eval", "builtins.exec", "os.system", "os.popen",
                "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load",
                "yaml.full_load_all", "torch.hub.load"}  # fmt: skip


def nothing_runs_foreign_code(src: Path) -> list[str]:
    found = []
    for file, tree in trees(src):
        for line, module in imports(file, tree):
            if module.split(".")[0] in UNSAFE_MODULES:
                found.append(f"{file}:{line}: imports {module}")
        for name, call in calls(tree):
            allow_pickle, shell = keyword(call, "allow_pickle"), keyword(call, "shell")
            if (
                name in UNSAFE_CALLS
                or (name in ("torch.load", "torch.jit.load") and not is_constant(keyword(call, "weights_only"), True))
                or (allow_pickle is not None and not is_constant(allow_pickle, False))
                or (shell is not None and not is_constant(shell, False))
            ):
                found.append(f"{file}:{call.lineno}: {name} can run foreign code")
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
                found.append(f"{file}:{node.lineno}: {node.id}")
    return found


def no_assert(src: Path) -> list[str]:
    return [
        f"{file}:{node.lineno}: assert is for tests; raise a LimbeckError"
        for file, tree in trees(src)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines without docstrings: an Example in one should never be the reason to split a function."""
    docs = 0
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(inner):
            text = inner.body[0]
            docs += (text.end_lineno or text.lineno) - text.lineno + 1
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docs


def small_rooms(src: Path) -> list[str]:
    found = []
    for path in sorted(src.rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE:
            found.append(f"{path.relative_to(src).as_posix()}: {lines} lines, at most {MAX_FILE}")
    for file, tree in trees(src):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                most = MAX_CLASS if isinstance(node, ast.ClassDef) else MAX_FUNCTION
                if code_lines(node) > most:
                    found.append(f"{file}:{node.lineno}: {node.name} has {code_lines(node)} lines, at most {most}")
    return found


RULES: list[Rule] = [
    room_order, losses_use_torch_only, one_writer, nothing_runs_foreign_code, no_assert, small_rooms,
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert [*trees(SRC)]
    found = rule(SRC)
    assert not found, "\n".join(found)


def body(lines: int, head: str = "def f():") -> str:
    return head + "\n" + "\n".join(f"    x{i} = {i}" for i in range(lines - 1)) + "\n"


PLANTED: list[tuple[Rule, str, str]] = [
    (room_order, "data/x.py", "from limbeck.training import loop"),
    (room_order, "data/x.py", "import limbeck.training.loop"),
    (room_order, "losses/x.py", "def f():\n    from limbeck.outputs import Outputs"),
    (room_order, "losses/x.py", "def f():\n    from limbeck import Outputs"),
    (room_order, "data/x.py", "from limbeck import training"),
    (room_order, "data/x.py", "from ..training import loop"),
    (room_order, "data/x.py", "from .. import report"),
    (room_order, "errors.py", "from .files import write_text"),
    (room_order, "data/x.py", "import importlib\nimportlib.import_module('limbeck.report')"),
    (room_order, "pipeline/x.py", "import limbeck as lb"),
    (room_order, "cellar/x.py", "x = 1"),
    (room_order, "cli.py", "from limbeck.cellar import wine"),
    (losses_use_torch_only, "losses/x.py", "import numpy as np"),
    (losses_use_torch_only, "losses/x.py", "def f():\n    from torchvision import ops"),
    (losses_use_torch_only, "losses/x.py", "from limbeck.files import write_text"),
    (one_writer, "data/x.py", "open('a', 'w')"),
    (one_writer, "data/x.py", "open('a', mode='ab')"),
    (one_writer, "data/x.py", "def f(mode):\n    open('a', mode)"),
    (one_writer, "data/x.py", "from pathlib import Path\nPath('a').open('r+')"),
    (one_writer, "data/x.py", "import gzip\ngzip.open('a', 'wb')"),
    (one_writer, "data/x.py", "import zipfile as z\nz.ZipFile('a', 'w')"),
    (one_writer, "data/x.py", "import tarfile\ntarfile.open('a', 'w:gz')"),
    (one_writer, "data/x.py", "def f(path):\n    path.write_text('a')"),
    (one_writer, "data/x.py", "from torch import save\nsave({}, 'a')"),
    (one_writer, "data/x.py", "import numpy as np\nnp.savez('a')"),
    (one_writer, "data/x.py", "from safetensors.torch import save_file\nsave_file({}, 'a')"),
    (one_writer, "data/x.py", "import shutil\nshutil.copyfile('a', 'b')"),
    (one_writer, "data/x.py", "import torch\ntorch.onnx.export(m, x, 'a.onnx')"),
    (nothing_runs_foreign_code, "files.py", "import pickle"),
    (nothing_runs_foreign_code, "files.py", "def f():\n    from joblib import load"),
    (nothing_runs_foreign_code, "files.py", "import torch\ntorch.load('a')"),
    (nothing_runs_foreign_code, "files.py", "import torch as t\nt.load('a', weights_only=False)"),
    (nothing_runs_foreign_code, "files.py", "from torch import load\nload('a')"),
    (nothing_runs_foreign_code, "files.py", "import numpy as np\nnp.load('a', allow_pickle=True)"),
    (nothing_runs_foreign_code, "files.py", "eval('1')"),
    (nothing_runs_foreign_code, "files.py", "run = exec"),
    (nothing_runs_foreign_code, "files.py", "import yaml\nyaml.load('a', Loader=yaml.SafeLoader)"),
    (nothing_runs_foreign_code, "files.py", "import subprocess\nsubprocess.run('ls', shell=True)"),
    (no_assert, "data/x.py", "def f(x):\n    assert x > 0"),
    (small_rooms, "data/x.py", "x = 1\n" * (MAX_FILE + 1)),
    (small_rooms, "data/x.py", body(MAX_FUNCTION + 1)),
    (small_rooms, "data/x.py", body(MAX_FUNCTION + 1, "async def f():")),
    (small_rooms, "data/x.py", body(MAX_CLASS + 1, "class C:")),
]

ALLOWED: list[tuple[Rule, str, str]] = [
    (room_order, "training/x.py", "from limbeck.errors import LimbeckError\nfrom .state import State"),
    (room_order, "compress/x.py", "from limbeck import __version__\nfrom limbeck import Outputs, losses"),
    (room_order, "outputs.py", "from limbeck.taps import taps"),
    (room_order, "cli.py", "import limbeck as lb"),
    (losses_use_torch_only, "losses/x.py", "import math\nfrom torch import nn\nfrom limbeck.losses.shapes import same"),
    (one_writer, "files.py", "open('a', 'w')"),
    (one_writer, "slots.py", "open('a', 'w')"),
    (one_writer, "data/x.py", "open('a')\nopen('a', 'rb')\nopen('a', encoding='utf-8')"),
    (one_writer, "data/x.py", "from PIL import Image\nImage.open('a.png')\nImage.open('wax.png')"),
    (one_writer, "data/x.py", "from limbeck.files import write_text\nwrite_text('a', 'b')"),
    (one_writer, "data/x.py", "from limbeck import files\nfiles.write_text('a', 'b')"),
    (one_writer, "data/x.py", "import torch\ntorch.onnx.export(m, x, dynamo=True)"),
    (nothing_runs_foreign_code, "files.py", "import torch\ntorch.load('a', weights_only=True)\nmodel.eval()"),
    (nothing_runs_foreign_code, "files.py", "import re, torch\nre.compile('a')\ntorch.compile(f)"),
    (nothing_runs_foreign_code, "files.py", "import numpy as np\nnp.load('a', allow_pickle=False)"),
    (no_assert, "data/x.py", "def f():\n    '''>>> assert True'''"),
    (small_rooms, "data/x.py", "x = 1\n" * (MAX_FILE - 1) + "x = 1"),
    (small_rooms, "data/x.py", body(MAX_FUNCTION)),
    (small_rooms, "data/x.py", body(MAX_FUNCTION, "def f():\n    '''One.\n\n    Two.\n    '''")),
]


def label(value: object) -> str:
    return getattr(value, "__name__", None) or str(value).splitlines()[-1][:40]


def planted(tmp_path: Path, file: str, code: str) -> Path:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(code)
    return tmp_path


@pytest.mark.parametrize(("rule", "file", "code"), PLANTED, ids=label)
def test_a_planted_violation_is_caught(rule: Rule, file: str, code: str, tmp_path: Path) -> None:
    found = rule(planted(tmp_path, file, code))
    assert found
    assert all(line.startswith(file) for line in found)


@pytest.mark.parametrize(("rule", "file", "code"), ALLOWED, ids=label)
def test_what_is_allowed_passes(rule: Rule, file: str, code: str, tmp_path: Path) -> None:
    assert rule(planted(tmp_path, file, code)) == []
