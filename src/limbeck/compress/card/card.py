"""The model card: what a file is, what it takes, what it was measured to do, and how it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from limbeck.compress.card import segmenter
from limbeck.compress.shipped.use import Use
from limbeck.evaluation.dense.told import division, division_note, is_dense
from limbeck.evaluation.names import shown, title
from limbeck.objective.words import in_words


def model_card(
    summary: Mapping[str, Any],
    run: Mapping[str, Any],
    described: Mapping[str, Any] | None = None,
    evaluated: Mapping[str, Any] | None = None,
) -> str:
    """The card of the student that ships, in Markdown; every number stands beside its split.

    Args:
        summary: content of ``summary.json``.
        run: content of ``run.json``.
        described: content of ``student.json``, for the input's shape, its normalization, and the checksum of the
            weights that ship.
        evaluated: content of ``evaluation/student-seed<k>.json`` of the seed that ships, for a segmenter's classes.
    """
    told, dense = described or {}, is_dense(summary)
    data, models = summary["data"], summary["models"]
    role = summary.get("shipped_role", "student")
    student = models[role]
    shipped = next(one for one in student["runs"] if one["seed"] == summary["shipped_seed"])
    use, metric = Use(told.get("fit", "whole"), told.get("range", "bytes")), summary.get("metric", "accuracy")
    lines = [
        f"# {_plain(run['name'])}: the distilled student{'' if role == 'student' else f', {_plain(role)}'}",
        "",
        f"Made by limbeck {summary['limbeck']} on {run['created'][:10]}. {_plain(summary['verdict'])}",
        "",
        "## What it takes and gives",
        "",
        f"- Classes ({len(data['classes'])}): {', '.join(_plain(name) for name in data['classes'])}",
        f"- Architecture: {_code(student.get('model'))}{_cut(told)}, {student['parameters']:,} parameters",
        *(_exported(told, use, dense=dense) if summary["exports"] else []),
        f"- `student.safetensors`: the plain module's weights, for inputs of the same shape, {use.values} and "
        f"then normalized: {_normalized(told)}",
        *[f"  - {_code(f'{name}*')}: {_plain(what)}" for name, what in told.get("parts", {}).items()],
        *(segmenter.takes(told, summary["exports"]) if dense else [f"- A picture of another size: {use.resize}"]),
        *_decides(told),
        "",
        "## Numbers",
        "",
        f"{_epoch(shipped)}, seed {shipped['seed']}.",
        "",
        *_numbers(summary, shipped["metrics"]["selected"], evaluated or {}),
        "",
        *_by_model(models, metric),
        "",
        "## Files",
        "",
        *([f"- `{told['file']}`: {told['bytes']:,} bytes, sha256 `{told['sha256']}`"] if told else []),
        f"- {_code(shipped['file'])} in the run's folder, the same weights: sha256 `{shipped['sha256']}`",
        *[_export(one) for one in summary["exports"]],
        "",
        *_usage(told, exported=bool(summary["exports"])),
        "## What to know",
        "",
        *[f"- {one['severity']}: {_plain(one['message'])}" for one in summary["findings"]],
        f"- Data: {_plain(data['name'])}, {', '.join(f'{n:,} {name}' for name, n in data['splits'].items())} "
        f"{'patches' if dense else 'samples'}. "
        "It was measured on no other data.",
        "",
        "## How it was made",
        "",
        *_learned(summary),
        *_stored(summary.get("store") or {}),
        _code(run["command"] or "limbeck.distill(…)"),
        "",
        *_block("yaml", yaml.safe_dump(dict(run["recipe"]), sort_keys=False, allow_unicode=True)),
    ]
    return "\n".join(lines)


def _cut(told: Mapping[str, Any]) -> str:
    layers = told.get("layers")
    return f" with {len(layers)} layers cut to the sizes in `student.json`" if layers else ""


def _epoch(shipped: Mapping[str, Any]) -> str:
    if shipped["last_epoch"] is None:
        return "Pruned, and not trained after that"
    return f"Selected epoch {shipped['selected_epoch']} of {shipped['last_epoch']} (chosen on validation)"


def _numbers(
    summary: Mapping[str, Any], scored: Mapping[str, Mapping[str, float]], evaluated: Mapping[str, Any]
) -> list[str]:
    """The model that ships on each split; of a segmenter also how these were divided, and each class."""
    metric = summary.get("metric", "accuracy")
    if not is_dense(summary):
        return _by_split(scored, metric)
    divided = division_note(summary)
    lines = [f"The data are {_plain(divided)}.", ""] if divided else []
    lines += _table(*segmenter.by_split(scored, metric))
    split = "test" if "test" in scored else "validation"
    rows = evaluated.get("selected", {}).get(split, {}).get("per_class")
    if not rows:
        return lines
    heads, cells = segmenter.by_class(rows)
    told = f"Each class on {split}{f', {division(summary)}' if divided else ''}:"
    return [*lines, "", told, "", *_table(heads, [[_plain(row[0]), *row[1:]] for row in cells])]


def _learned(summary: Mapping[str, Any]) -> list[str]:
    lines = [f"- {_plain(line)}" for line in in_words(summary.get("objective"))]
    return ["It learned from (layers: the teacher's → its own):", "", *lines, ""] if lines else []


def _stored(store: Mapping[str, Any]) -> list[str]:
    """What of the teacher was kept, where it was not asked at every step."""
    if not store.get("views") or not store.get("samples"):
        return []
    views, sure = store["views"], store.get("certificate") or {}
    text = f"It saw {views:,} view{'s' * (views != 1)} of each of {store['samples']:,} samples, again and again; what "
    text += "the teacher said of them was stored"
    if "kl_mean" in sure and "agreement" in sure:
        text += (
            f" (KL of the stored from the live teacher {sure['kl_mean']:.1e} nats in the mean, the same first class "
        )
        text += f"in {100 * sure['agreement']:.2f} % of {sure['views']:,} views)"
    return [f"{text}.", ""]


def _exported(told: Mapping[str, Any], use: Use, *, dense: bool) -> list[str]:
    return [
        f"- `student.onnx`: input `image`, float32 {_axes(told)}, {use.values}, **not** normalized (that is "
        f"inside); output `logits`{' of every pixel' if dense else ''}; one softmax gives probabilities"
    ]


def _usage(told: Mapping[str, Any], *, exported: bool = True) -> list[str]:
    normalization = told.get("normalization", {})
    mean, std = (str(normalization.get(key, f"…  # {key}, in student.json")) for key in ("mean", "std"))
    spread = f"[:, {', '.join(['None'] * (len(told['shape']) - 1))}]" if len(told.get("shape", ())) > 1 else ""
    in_bytes = told.get("range", "bytes") == "bytes"
    scale, kind = (" / 255", "bytes") if in_bytes else ("", "float32")
    inputs = f"torch.as_tensor(pixels).float()[None]{scale}"
    if told.get("input_size"):
        size = tuple(told["input_size"])
        inputs = f'torch.nn.functional.interpolate({inputs}, {size}, mode="bilinear", antialias=True)'
    first = ["## How to use it", "", *(_with_onnx(told, scale, kind) if exported else [])]
    if told.get("layers"):
        text = 'from limbeck.compress.shipped.reloaded import reload\n\nstudent = reload("student.json")\n'
        text += f"inputs = torch.as_tensor(pixels).float()[None]{scale}\nwith torch.no_grad():\n"
        text += "    logits = student.module(student.preparation(inputs))"
        return [*first, "With PyTorch and limbeck:", "", *_block("python", f"import torch\n{text}")]
    return [
        *first,
        "With PyTorch alone:" if "parts" not in told else "With PyTorch and limbeck:",
        "",
        *_block(
            "python",
            f"import torch\nfrom safetensors.torch import load_file\n\n{_module(told)}"
            'module.load_state_dict(load_file("student.safetensors"))'
            f"{'' if 'parts' in told else '  # module: the architecture named above'}\n"
            "module.eval()\n"
            f"mean = torch.tensor({mean}){spread}\n"
            f"std = torch.tensor({std}){spread}\n"
            f"inputs = {inputs}\n"
            "with torch.no_grad():\n"
            "    logits = module((inputs - mean) / std)",
        ),
    ]


def _with_onnx(told: Mapping[str, Any], scale: str, kind: str) -> list[str]:
    """From the command line, and with ONNX Runtime."""
    return [
        *(_block("sh", _command(told)) if told.get("range") != "raw" else []),
        "With ONNX Runtime alone:",
        "",
        *_block(
            "python",
            "import numpy as np, onnxruntime\n\n"
            'session = onnxruntime.InferenceSession("student.onnx")\n'
            f'logits = session.run(["logits"], {{"image": np.float32(pixels)[None]{scale}}})[0]  '
            f"# pixels: {kind} {_axes(told, batch=False)}",
        ),
    ]


def _command(told: Mapping[str, Any]) -> str:
    picture = "photo.jpg --out mask.png" if told.get("task") == "segmentation" else "picture.png"
    return f"limbeck predict student.onnx {picture}"


def _module(told: Mapping[str, Any]) -> str:
    """How a student is made that keeps the teacher's classifier."""
    if "parts" not in told:
        return ""
    layers = ", ".join(repr(told["options"][role]["layer"]) for role in ("teacher", "student"))
    shape = ", ".join(map(str, told["shape"]))
    return (
        "from limbeck.models.reuse import reuse_classifier\n\n"
        f"some = torch.rand(2, {shape})  # in each model's own input size\n"
        "# teacher, student: the two architectures named above, with any weights\n"
        f"module = reuse_classifier(teacher, student, some, some, {layers})\n"
    )


def _axes(told: Mapping[str, Any], *, batch: bool = True) -> str:
    sizes = [*(["batch"] if batch else []), *(str(size) for size in told.get("shape", ["…"]))]
    return f"`[{', '.join(sizes)}]`" if batch else f"[{', '.join(sizes)}]"


def _normalized(told: Mapping[str, Any]) -> str:
    if "normalization" not in told:
        return "as `student.json` says"
    mean, std = (told["normalization"][key] for key in ("mean", "std"))
    return f"(x - mean) / std with mean {list(mean)} and std {list(std)}, one for each channel".replace("[", "\\[")


def _decides(told: Mapping[str, Any]) -> list[str]:
    """Where the positive class is called, and what that gave."""
    point = told.get("operating_point")
    if not point:
        return []
    rates = [f"{name} {shown(name, point.get(name))}" for name in ("sensitivity", "specificity")]
    return [
        f"- It calls {_plain(told['positive'])} where that class's probability is at least {point['threshold']:.6g} "
        f"(chosen on {point['chosen_on']} for a specificity of {shown('specificity', point['specificity_wanted'])}); "
        f"on test: {', '.join(rates)}"
    ]


def _export(one: Mapping[str, Any]) -> str:
    scored = one["metrics"]["test"]
    name = "accuracy" if "accuracy" in scored else "mean_iou"
    accuracy = f"test {title(name)} {shown(name, scored.get(name))}"
    difference = f"largest difference of a test logit {one['max_abs_difference']:.2g}"
    return f"- {_code(one['path'])}: {one['bytes']:,} bytes, sha256 `{one['sha256']}`, {accuracy}, {difference}"


def _by_split(scored: Mapping[str, Mapping[str, float]], metric: str) -> list[str]:
    """The shipped student on each split; the metric that models are compared by comes first."""
    names = {
        metric: title(metric),
        "accuracy": "accuracy",
        "majority_baseline": "always the most frequent class",
        "balanced_accuracy": "balanced accuracy",
        "auc": "AUC",
        "f1": "F1",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "macro_f1": "macro F1",
        "ece": "calibration error",
        "agreement": "agreement with the teacher",
    }
    names = {name: head for name, head in names.items() if any(name in values for values in scored.values())}
    return _table(
        ["split", "samples", *names.values()],
        [
            [split, f"{values['samples']:,}", *(shown(name, values.get(name)) for name in names)]
            for split, values in scored.items()
        ],
    )


def _by_model(models: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    heads = ["model", f"test {title(metric)}, selected epoch, mean over seeds", "seeds", "parameters"]
    rows = []
    for role, model in models.items():
        sizes = ["–" if model[key] is None else f"{model[key]:,}" for key in ("parameters", "weights_bytes")]
        score = shown(metric, model["metrics"]["test"].get(metric))
        rows.append([role.replace("_", " "), score, str(max(len(model["runs"]), 1)), *sizes])
    return _table([*heads, "bytes of weights"], rows)


def _table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows]]


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
