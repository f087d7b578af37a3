"""A stage that prunes: the model before it, with fewer channels or with weights of zero."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.compress.prune.choice import choose, rounding, search
from limbeck.compress.prune.groups import Graph
from limbeck.compress.prune.importance import taylor
from limbeck.data.batch import Batch
from limbeck.data.batches import batches
from limbeck.evaluation.sizes import macs, parameters
from limbeck.files import read_json, read_tensors, write_json, write_tensors
from limbeck.models.structure import changed_sizes, resize
from limbeck.outputs import Outputs
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.fits import some_inputs
from limbeck.pipeline.folder import key_of
from limbeck.pipeline.stages import WEIGHTS, Context, Trained
from limbeck.pipeline.tail.asked import Prune
from limbeck.training.sparsity import apply_masks, magnitude_masks, sparsity_of, thinned_weights

STRUCTURE = "structure.json"
_FEW = 2  # samples that the dependency graph is traced with


def prune(context: Context, source: Trained, asked: Prune) -> Trained:
    """Prune a model of the run; its files lie under ``models/<name>/seed<seed>``, with its structure as JSON.

    Args:
        context: of the run.
        source: the model before.
        asked: what is cut.

    Raises:
        ModelError: if its channels can not be traced or cut.
        RecipeError: if the target can not be reached, or a layer would be empty.
    """
    stage, run = f"models/{asked.name}/seed{source.seed}", context.run
    folder = run.path / stage
    key = key_of({"prune": asdict(asked), "from": [source.role, source.digest], **_judged(context, asked)})
    result = run.done(stage, key)
    if result is None:
        context.reporter.say(f"{asked.name.replace('_', ' ')}: {_told(asked)} of {source.role}")
        began, before = time.monotonic(), source.module()
        module, result = (_thinned if asked.sparsity is not None else _cut)(context, source, asked, before)
        shape = source.candidate.preparation.shape(context.experiment.data.shape)
        result |= {
            "from": source.role,
            "selected_epoch": None,
            "last_epoch": None,
            "macs": [macs(before, shape), macs(module, shape)],
            "parameters": [parameters(before), parameters(module)],
            "seconds": time.monotonic() - began,
        }
        layers = {**source.candidate.cut, **changed_sizes(module, before)}
        write_json(folder / STRUCTURE, {"model": source.candidate.name, "layers": layers})
        for file in WEIGHTS.values():
            write_tensors(folder / file, module.state_dict())
        run.complete(stage, key, result, [*WEIGHTS.values(), STRUCTURE])
    return Trained(asked.name, source.seed, smaller(source, folder), folder, result)


def smaller(source: Trained, folder: Path) -> Candidate:
    """The candidate that a stage's folder describes: the architecture of its source with smaller layers.

    Raises:
        FileError, ModelError: if the description is missing, or not of that architecture.
    """
    layers, given = read_json(folder / STRUCTURE)["layers"], source.candidate

    def frame() -> nn.Module:
        whole = given.frame() if given.frame else given.make(source.seed)
        return resize(whole, layers, where=str(folder / STRUCTURE))

    def make(seed: int) -> nn.Module:
        module = frame()
        module.load_state_dict(read_tensors(folder / WEIGHTS["selected"])[0])
        return module

    return replace(given, make=make, frame=frame, settings=None, cut=layers)


def of_stage(experiment: Experiment, folder: Path, role: str, seed: int) -> Candidate | None:
    """The candidate of a stage's model, or of its control, as the run folder describes it; None: it is no stage's."""
    candidate, name = experiment.learner, role.removesuffix("_control")
    if not any(one.name in (role, name) for one in experiment.stages):
        return None
    for stage in experiment.stages:
        if isinstance(stage, Prune):
            made = folder / "models" / stage.name / f"seed{seed}"
            candidate = smaller(Trained(stage.name, seed, candidate, made), made)
        if stage.name in (role, name):
            break
    return candidate


def _cut(context: Context, source: Trained, asked: Prune, module: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    shape = source.candidate.preparation.shape(context.experiment.data.shape)
    inputs = source.candidate.preparation(some_inputs(context.experiment.data.train)[:_FEW])
    graph, whole = Graph(module, inputs, asked.keep), macs(module, shape)
    scores = _scores(context, source, asked) if asked.importance == "taylor" else None
    groups = graph.groups(asked.importance, scores)
    round_to = asked.round_to or rounding(groups)

    def at(ratio: float) -> tuple[nn.Module, float]:
        found = graph.cut(choose(groups, ratio, scope=asked.scope, round_to=round_to))
        return found, macs(found, shape) / whole

    found = at(asked.channels)[0] if asked.macs is None and asked.channels else search(at, asked.macs or 1.0)
    left = changed_sizes(found, module)
    widths = {
        one.name: [one.parts * len(one), next(iter(_out(left[one.name])), one.parts * len(one))]
        for one in groups
        if one.name in left
    }
    return found, {"kind": "channels", "round_to": round_to, "widths": widths}


def _thinned(context: Context, source: Trained, asked: Prune, module: nn.Module) -> tuple[nn.Module, dict[str, Any]]:
    names = thinned_weights(module, asked.keep)
    apply_masks(module, magnitude_masks(module, asked.sparsity or 0.0, names, scope=asked.scope))
    shares = {name: sparsity_of(module, [name]) for name in names}
    return module, {"kind": "weights", "sparsity": sparsity_of(module, names), "sparsities": shares}


def _scores(context: Context, source: Trained, asked: Prune) -> Mapping[str, Tensor]:
    """By labels alone, as the control is trained; in the order and views of the student's first epoch."""
    settings, preparation = context.experiment.student.settings, source.candidate.preparation
    objective = context.experiment.objective.without_teacher()
    given: dict[str, Any] = {} if settings is None else {"batch_size": settings.batch_size, "views": settings.views}
    stream = batches(context.experiment.data.train, seed=source.seed, epoch=0, **({"batch_size": 32} | given))

    def loss(module: nn.Module, batch: Batch) -> Tensor:
        mask = batch.target >= 0 if batch.target.ndim > 1 else None
        said = Outputs.of(module(preparation(batch.inputs)))
        return objective(said, None, target=batch.target, mask=mask, index=batch.index, mixed=batch.mixed)[0]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)  # of dropout
        return taylor(source.module(), islice(stream, asked.batches), loss)


def _judged(context: Context, asked: Prune) -> dict[str, Any]:
    """What the cut depends on beside the model."""
    if asked.importance != "taylor":
        return {}
    experiment = context.experiment
    views = None if experiment.student.settings is None else asdict(experiment.student.settings.views)
    return {"data": experiment.data.train.fingerprint(), "views": views, "objective": experiment.objective.to_recipe()}


def _out(sizes: Mapping[str, int]) -> list[int]:
    return [sizes[key] for key in ("out_channels", "out_features", "num_features", "num_channels") if key in sizes]


def _told(asked: Prune) -> str:
    if asked.sparsity is not None:
        return f"{asked.sparsity:.0%} of the weights set to zero"
    if asked.macs is not None:
        return f"channels cut to {asked.macs:.0%} of the multiply-accumulates"
    return f"{asked.channels:.0%} of the channels cut"


__all__ = ["STRUCTURE", "of_stage", "prune", "smaller"]
