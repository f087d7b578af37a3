"""Stages: each turns something into files of the run, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.data.split import Split
from limbeck.data.views.views import LATER
from limbeck.evaluation.dense.reading import Reading, read_teacher
from limbeck.evaluation.dense.tally import FORMAT
from limbeck.evaluation.predict import ask
from limbeck.files import read_tensors, sha256, write_json, write_tensors
from limbeck.objective import Objective, Scene, bind
from limbeck.objective.binding import layers_read
from limbeck.outputs import Outputs
from limbeck.pipeline.experiment import Candidate, Experiment
from limbeck.pipeline.fits import check_fits, some_inputs
from limbeck.pipeline.folder import Run, key_of
from limbeck.store import Store
from limbeck.teachers import Keeps, Teacher, reading
from limbeck.teachers.digest import tensors_digest, weights_digest
from limbeck.training.loop import CHECKPOINT, Job, fit
from limbeck.training.precision import choose
from limbeck.training.progress import Reporter

EXTRAS = "adapters.safetensors"
WEIGHTS = {"selected": "selected.safetensors", "last": "last.safetensors"}


@dataclass(frozen=True)
class Context:
    """What all stages of a run share."""

    experiment: Experiment
    run: Run
    reporter: Reporter
    score_test: bool = True

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that are scored."""
        splits = self.experiment.data.splits
        return splits if self.score_test else {name: split for name, split in splits.items() if name != "test"}

    @property
    def compared(self) -> str:
        """The split that models are compared on."""
        return "test" if self.score_test else "validation"


@dataclass(frozen=True)
class Trained:
    """A model of a run as its files hold it."""

    role: str
    seed: int
    candidate: Candidate
    folder: Path
    result: Mapping[str, Any] = field(default_factory=dict)

    def file(self, which: str = "selected") -> Path:
        """The weights of the ``selected`` or ``last`` epoch."""
        return self.folder / WEIGHTS[which]

    def module(self, which: str = "selected") -> nn.Module:
        """A plain module with the weights of the file."""
        module = self.candidate.frame() if self.candidate.frame else self.candidate.make(self.seed)
        module.load_state_dict(read_tensors(self.file(which))[0])
        return module.eval()

    @property
    def digest(self) -> str:
        """sha256 of the selected weights' file."""
        return sha256(self.file())


def train(
    context: Context,
    role: str,
    seed: int,
    candidate: Candidate,
    split: Split,
    objective: Objective,
    teacher: Teacher | None = None,
    teacher_digest: str = "",
) -> Trained:
    """Train a model, or keep the weights it came with; its files lie under ``models/<role>/seed<seed>``.

    The test split is not looked at.
    """
    stage = f"models/{role}/seed{seed}"
    folder, run = context.run.path / stage, context.run
    module = candidate.make(seed)
    check_fits(module, candidate, context.experiment.data)
    key = key_of(_depends(context, role, seed, candidate, split, objective, teacher_digest, module))
    result = run.done(stage, key)
    if result is None:
        result = _run_training(
            context, folder, key, Trained(role, seed, candidate, folder), module, split, objective, teacher
        )
        if isinstance(teacher, Keeps):
            teacher.flush()
        files = [*WEIGHTS.values(), *(["metrics.jsonl"] if candidate.settings else [])]
        files += [name for name in [EXTRAS] if (folder / name).exists()]
        run.complete(stage, key, result, files)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return Trained(role, seed, candidate, folder, result)


def evaluate(
    context: Context,
    trained: Trained,
    teacher_says: Mapping[str, Any] | None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score a model's files, reloaded, on every split; ``evaluation/<role>-seed<seed>.json``.

    Args:
        context: of the run.
        trained: the model.
        teacher_says: by split what of the teacher's answers is compared with, see :attr:`Task.reference`; None for
            the teacher itself.
        known: by split what the selected weights' file was seen to say already.
    """
    run, data = context.run, context.experiment.data
    stage = f"evaluation/{trained.role}-seed{trained.seed}"
    heard = {name: _heard(one) for name, one in (teacher_says or {}).items()}
    key = key_of([{name: sha256(trained.file(name)) for name in WEIGHTS}, *_scored(context), heard])
    done = run.done(stage, key)
    if done is not None:
        if not (run.path / f"{stage}.json").exists():  # a run of the same sweep did it
            write_json(run.path / f"{stage}.json", done)
        return done
    found: dict[str, Any] = {"role": trained.role, "seed": trained.seed}
    same = sha256(trained.file("last")) == sha256(trained.file("selected"))
    for which in WEIGHTS:
        epoch = trained.result["selected_epoch" if which == "selected" else "last_epoch"]
        if which == "last" and same:
            found[which] = {**found["selected"], "epoch": epoch}
            continue
        module = trained.module(which)
        said = {
            name: known[name]
            if which == "selected" and known is not None
            else context.experiment.task.hear(module, trained.candidate.preparation, split, shared=True)
            for name, split in context.splits.items()
        }
        task, detailed = context.experiment.task, which == "selected"
        scores = task.score(said, context.splits, data.classes, teacher_says, detailed=detailed)
        found[which] = {"epoch": epoch, **scores}
    write_json(run.path / f"{stage}.json", found)
    run.complete(stage, key, found, [])
    return found


def listen(context: Context, teacher: Teacher, digest: str, role: str = "teacher") -> dict[str, Any]:
    """What a teacher says about each split, in float32; asked once and kept under ``models/<role>_outputs``.

    Outputs over a split's samples; where pixels have labels, a Reading of its regions.

    Args:
        context: of the run.
        teacher: is asked.
        digest: of its weights; empty for a teacher without files, which is asked every time.
        role: of the teacher.
    """
    splits, stage = context.splits, f"models/{role}_outputs"
    if isinstance(teacher, Store):  # which keeps the training split in its views
        return {name: teacher.says(name, split) for name, split in splits.items() if name != "train"}
    dense = context.experiment.task.dense
    listening: Any = read_teacher if dense else ask
    if not digest or not all(split.replayable for split in splits.values()):
        return {name: listening(teacher, split, shared=True) for name, split in splits.items()}
    form = [FORMAT] if dense else []
    key = key_of([digest, {name: split.fingerprint() for name, split in splits.items()}, *form])
    files = {name: context.run.path / stage / f"{name}.safetensors" for name in splits}
    if context.run.done(stage, key) is None:
        for name, split in splits.items():
            write_tensors(files[name], _tensors(listening(teacher, split, shared=True)))
        context.run.complete(stage, key, {}, [file.name for file in files.values()])
    found = {name: read_tensors(file)[0] for name, file in files.items()}
    if dense:
        return {name: Reading.of(one) for name, one in found.items()}
    return {name: Outputs(one["logits"], {}, one.get("members"), one.get("weights")) for name, one in found.items()}


def _tensors(said: Outputs | Reading) -> dict[str, Tensor]:
    """What a teacher said of a split, as a file holds it."""
    if isinstance(said, Reading):
        return said.tensors()
    weighted = {} if said.members is None else {"members": said.members, "weights": said.weights}
    return {"logits": said.logits, **{name: value for name, value in weighted.items() if value is not None}}


def _heard(one: Any) -> str:
    return tensors_digest(one.tensors() if isinstance(one, Reading) else {"logits": one})


def _scored(context: Context) -> list[Any]:
    """All that metrics depend on besides the model."""
    splits = context.splits
    columns = {name: [split.groups, dict(split.slices)] for name, split in splits.items()}
    experiment = context.experiment
    return [sorted(splits), experiment.data.fingerprint(), experiment.task.describe(), columns]


def _run_training(
    context: Context,
    folder: Path,
    key: str,
    trained: Trained,
    module: nn.Module,
    split: Split,
    objective: Objective,
    teacher: Teacher | None,
) -> dict[str, Any]:
    candidate, task = trained.candidate, context.experiment.task
    if candidate.settings is None:
        for file in WEIGHTS.values():
            write_tensors(folder / file, module.state_dict())
        return {"selected_epoch": None, "last_epoch": None, "seconds": 0.0}

    wanted = (task.primary, candidate.settings.select)

    def validate(one: nn.Module) -> dict[str, float | None]:
        said = task.hear(one, candidate.preparation, context.experiment.data.validation, shared=True)
        return task.quick(said, wanted)

    scene = Scene(
        student=module,
        preparation=candidate.preparation,
        teacher=teacher.placed(lambda one: one.to("cpu")) if teacher and objective.waits else teacher,
        inputs=some_inputs(split),
        targets=split.targets,
        classes=len(context.experiment.data.classes),
        seed=trained.seed,
    )
    objective = bind(objective, scene)
    job = Job(
        module=module,
        objective=objective,
        split=split,
        preparation=candidate.preparation,
        validate=validate,
        settings=candidate.settings,
        folder=folder,
        seed=trained.seed,
        teacher=reading(teacher, objective.layers("teacher")) if teacher else None,
        title=f"{trained.role.replace('_', ' ')}, seed {trained.seed}",
        key=key,
        reporter=context.reporter,
    )
    fitted = fit(job)
    write_tensors(folder / WEIGHTS["last"], fitted.last)
    write_tensors(folder / WEIGHTS["selected"], fitted.selected)
    if fitted.extras:  # trained with the student, and no part of it
        write_tensors(folder / EXTRAS, fitted.extras)
    result: dict[str, Any] = {
        "selected_epoch": fitted.selected_epoch,
        "last_epoch": fitted.epochs,
        "seconds": fitted.seconds,
    }
    if layers := layers_read(objective):
        trained_too = sum(one.numel() for one in objective.modules.parameters() if one.requires_grad)
        result["beside"] = {"layers": layers, "parameters": trained_too}
    return result


def _depends(
    context: Context,
    role: str,
    seed: int,
    candidate: Candidate,
    split: Split,
    objective: Objective,
    teacher_digest: str,
    module: nn.Module,
) -> dict[str, Any]:
    """All that the weights of a training depend on; workers and checkpoints do not change them."""
    settings = None
    if candidate.settings is not None:
        settings = asdict(candidate.settings)
        for key in ("workers", "checkpoint_seconds", "device", "precision", "fast"):
            settings.pop(key)
        for key in ("compile", "replay", "sparsity"):  # as before there was a choice
            if not settings[key]:
                settings.pop(key)
        for key, off in LATER.items():
            if settings["views"][key] == off:
                settings["views"].pop(key)
        chosen = choose(candidate.settings.device, candidate.settings.precision, fast=candidate.settings.fast)
        settings["computed"] = [chosen.device.type, chosen.name, chosen.channels_last]
        if candidate.settings.select in ("f1", "auc", "average_precision"):  # these are of the positive class
            settings["positive"] = context.experiment.task.positive
    return {
        "seed": seed,
        "model": candidate.name,
        "start": weights_digest(module),
        "preparation": candidate.preparation.to_dict(),
        "settings": settings,
        "objective": objective.to_recipe() if settings else None,
        "split": split.fingerprint(),
        "validation": context.experiment.data.validation.fingerprint(),
        "teacher": teacher_digest if objective.needs_teacher else "",
    }


__all__ = ["WEIGHTS", "Context", "Trained", "evaluate", "listen", "train"]
