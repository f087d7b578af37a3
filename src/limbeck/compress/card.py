"""The model card: what a file is, what it takes, what it was measured to do, and how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml


def model_card(summary: Mapping[str, Any], run: Mapping[str, Any], described: Mapping[str, Any] | None = None) -> str:
    """The card of the student that ships, in Markdown; every number stands beside its split.

    Args:
        summary: content of ``summary.json``.
        run: content of ``run.json``.
        described: content of ``student.json``, for the input's shape, its normalization, and the checksum of the
            weights that ship.
    """
    told = described or {}
    data, models = summary["data"], summary["models"]
    student = models["student"]
    shipped = next(one for one in student["runs"] if one["seed"] == summary["shipped_seed"])
    lines = [
        f"# {_plain(run['name'])}: the distilled student",
        "",
        f"Made by limbeck {summary['limbeck']} on {run['created'][:10]}. {_plain(summary['verdict'])}",
        "",
        "## What it takes and gives",
        "",
        f"- Classes ({len(data['classes'])}): {', '.join(_plain(name) for name in data['classes'])}",
        f"- Architecture: {_code(student.get('model'))}, {student['parameters']:,} parameters",
        f"- `student.onnx`: input `image`, float32 {_axes(told)}, bytes divided by 255, **not** normalized (that is "
        "inside); output `logits`; one softmax gives probabilities",
        "- `student.safetensors`: the plain module's weights, for inputs of the same shape, bytes divided by 255 and "
        f"then normalized: {_normalized(told)}",
        "- A picture is resized whole, bilinear, to the input's size",
        "",
        "## Numbers",
        "",
        f"Selected epoch {shipped['selected_epoch']} of {shipped['last_epoch']} (chosen on validation), "
        f"seed {shipped['seed']}.",
        "",
        "| split | samples | accuracy | macro F1 | calibration error | agreement with the teacher |",
        "|---|---|---|---|---|---|",
        *[_row(split, values) for split, values in shipped["metrics"]["selected"].items()],
        "",
        "| model | test accuracy, selected epoch, mean over seeds | seeds | parameters | bytes of weights |",
        "|---|---|---|---|---|",
        *[_model(role, model) for role, model in models.items()],
        "",
        "## Files",
        "",
        *([f"- `{told['file']}`: {told['bytes']:,} bytes, sha256 `{told['sha256']}`"] if told else []),
        f"- {_code(shipped['file'])} in the run's folder, the same weights: sha256 `{shipped['sha256']}`",
        *[_export(one) for one in summary["exports"]],
        "",
        *_usage(told),
        "## What to know",
        "",
        *[f"- {one['severity']}: {_plain(one['message'])}" for one in summary["findings"]],
        f"- Data: {_plain(data['name'])}, {', '.join(f'{n:,} {name}' for name, n in data['splits'].items())} samples. "
        "It was measured on no other data.",
        "",
        "## How it was made",
        "",
        _code(run["command"] or "limbeck.distill(…)"),
        "",
        *_block("yaml", yaml.safe_dump(dict(run["recipe"]), sort_keys=False, allow_unicode=True)),
    ]
    return "\n".join(lines)


def _usage(told: Mapping[str, Any]) -> list[str]:
    normalization = told.get("normalization", {})
    mean, std = (str(normalization.get(key, f"…  # {key}, in student.json")) for key in ("mean", "std"))
    spread = f"[:, {', '.join(['None'] * (len(told['shape']) - 1))}]" if len(told.get("shape", ())) > 1 else ""
    return [
        "## How to use it",
        "",
        *_block("sh", "limbeck predict student.onnx picture.png"),
        "With ONNX Runtime alone:",
        "",
        *_block(
            "python",
            "import numpy as np, onnxruntime\n\n"
            'session = onnxruntime.InferenceSession("student.onnx")\n'
            'logits = session.run(["logits"], {"image": np.float32(pixels)[None] / 255})[0]  '
            f"# pixels: bytes {_axes(told, batch=False)}",
        ),
        "With PyTorch alone:",
        "",
        *_block(
            "python",
            "import torch\nfrom safetensors.torch import load_file\n\n"
            'module.load_state_dict(load_file("student.safetensors"))  # module: the architecture named above\n'
            "module.eval()\n"
            f"mean = torch.tensor({mean}){spread}\n"
            f"std = torch.tensor({std}){spread}\n"
            "with torch.no_grad():\n"
            "    logits = module(((torch.as_tensor(pixels).float() / 255 - mean) / std)[None])",
        ),
    ]


def _axes(told: Mapping[str, Any], *, batch: bool = True) -> str:
    sizes = [*(["batch"] if batch else []), *(str(size) for size in told.get("shape", ["…"]))]
    return f"`[{', '.join(sizes)}]`" if batch else f"[{', '.join(sizes)}]"


def _normalized(told: Mapping[str, Any]) -> str:
    if "normalization" not in told:
        return "as `student.json` says"
    mean, std = (told["normalization"][key] for key in ("mean", "std"))
    return f"(x - mean) / std with mean {list(mean)} and std {list(std)}, one for each channel".replace("[", "\\[")


def _export(one: Mapping[str, Any]) -> str:
    accuracy = f"test accuracy {100 * one['metrics']['test']['accuracy']:.2f} %"
    difference = f"largest difference of a test logit {one['max_abs_difference']:.2g}"
    return f"- {_code(one['path'])}: {one['bytes']:,} bytes, sha256 `{one['sha256']}`, {accuracy}, {difference}"


def _row(split: str, values: Mapping[str, float]) -> str:
    agreement = values.get("agreement")
    shares = [values["accuracy"], values["macro_f1"], values["ece"]]
    cells = [*[f"{100 * one:.2f} %" for one in shares], "–" if agreement is None else f"{100 * agreement:.2f} %"]
    return f"| {split} | {values['samples']:,} | {' | '.join(cells)} |"


def _model(role: str, model: Mapping[str, Any]) -> str:
    sizes = ["–" if model[key] is None else f"{model[key]:,}" for key in ("parameters", "weights_bytes")]
    accuracy = f"{100 * model['metrics']['test']['accuracy']:.2f} %"
    return f"| {role.replace('_', ' ')} | {accuracy} | {max(len(model['runs']), 1)} | {' | '.join(sizes)} |"


def _plain(text: Any) -> str:
    """Text that Markdown and HTML take for nothing but text."""
    escaped = "".join(f"\\{one}" if one in "\\`*_{}[]()#+|!~" else one for one in " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(text: Any) -> str:
    """A code span around any text, on one line: fenced by more backticks than stand in it."""
    line = " ".join(str(text).split())
    fence = _fence(line, 1)
    space = " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def _block(language: str, text: str) -> list[str]:
    fence = _fence(text, 3)
    return [f"{fence}{language}", text.rstrip(), fence, ""]


def _fence(text: str, least: int) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
