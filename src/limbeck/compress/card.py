"""The model card: what a file is, what it takes, what it was measured to do, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def model_card(summary: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """The card of the student that ships, in Markdown; every number stands beside its split.

    Args:
        summary: content of ``summary.json``.
        run: content of ``run.json``.
    """
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
        f"- Architecture: `{student.get('model')}`, {student['parameters']:,} parameters",
        "- `student.onnx`: input `image`, float32 `[batch, …]`, bytes divided by 255, **not** normalized (that is "
        "inside); output `logits`",
        "- `student.safetensors`: the plain module's weights; normalize inputs as `student.json` says",
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
        "| model | test accuracy, mean over seeds | seeds | parameters | bytes of weights |",
        "|---|---|---|---|---|",
        *[_model(role, model) for role, model in models.items()],
        "",
        "## Files",
        "",
        f"- `{shipped['file']}` (the weights in `student.safetensors`): sha256 of the run's file `{shipped['sha256']}`",
        *[_export(one) for one in summary["exports"]],
        "",
        *_usage(),
        "## What to know",
        "",
        *[f"- {one['severity']}: {_plain(one['message'])}" for one in summary["findings"]],
        f"- Data: {_plain(data['name'])}, {', '.join(f'{n:,} {name}' for name, n in data['splits'].items())} samples. "
        "It was measured on no other data.",
        "",
        "## How it was made",
        "",
        f"`{run['command'] or 'limbeck.distill(…)'}`",
        "",
        "```yaml",
        yaml.safe_dump(dict(run["recipe"]), sort_keys=False, allow_unicode=True).replace("```", "'''").rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _usage() -> list[str]:
    return [
        "## How to use it",
        "",
        "```sh",
        "limbeck predict student.onnx picture.png",
        "```",
        "",
        "```python",
        "import numpy as np, onnxruntime",
        "",
        'session = onnxruntime.InferenceSession("student.onnx")',
        'logits = session.run(["logits"], {"image": np.float32(pixels)[None] / 255})[0]  # pixels: bytes (C, H, W)',
        "```",
        "",
        "```python",
        "from safetensors.torch import load_file",
        "",
        'module.load_state_dict(load_file("student.safetensors"))  # module: the architecture named above',
        "```",
        "",
    ]


def _export(one: Mapping[str, Any]) -> str:
    accuracy = f"test accuracy {100 * one['metrics']['test']['accuracy']:.2f} %"
    difference = f"largest difference of a test logit {one['max_abs_difference']:.2g}"
    return f"- `{one['path']}`: {one['bytes']:,} bytes, sha256 `{one['sha256']}`, {accuracy}, {difference}"


def _row(split: str, values: Mapping[str, float]) -> str:
    agreement = values.get("agreement")
    shares = [values["accuracy"], values["macro_f1"], values["ece"]]
    cells = [*[f"{100 * one:.2f} %" for one in shares], "–" if agreement is None else f"{100 * agreement:.2f} %"]
    return f"| {split} | {values['samples']:,} | {' | '.join(cells)} |"


def _model(role: str, model: Mapping[str, Any]) -> str:
    sizes = ["–" if model[key] is None else f"{model[key]:,}" for key in ("parameters", "weights_bytes")]
    accuracy = f"{100 * model['metrics']['test']['accuracy']:.2f} %"
    return f"| {role.replace('_', ' ')} | {accuracy} | {max(len(model['runs']), 1)} | {' | '.join(sizes)} |"


def _plain(text: str) -> str:
    """Text that Markdown and HTML take for nothing but text."""
    escaped = "".join(f"\\{one}" if one in "\\`*_{}[]()#+|!~" else one for one in text)
    return escaped.replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
