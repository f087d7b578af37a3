"""Methods of distillation on one pair of models, under one budget.

Each cell trains the student once: one method, one seed. All cells of a seed start from the same weights and see the
same images in the same order and views; only the objective differs. Nothing is chosen on test: the epoch is selected on
validation, and the last one stands beside it. A cell that is done is not done again, one that was stopped goes on.

    python benchmarks/methods.py --data data/cifar10.npz --out runs/methods [--seeds 3] [--only kl,dkd] [--json]
    python benchmarks/methods.py --protocol cifar100 --data data/cifar100.npz --out runs/methods100 --only kl,dkd

``cifar10``: ResNet-20 → ResNet-8, 20 epochs, on a part of CIFAR-10 (examples/strips_to_npz.py makes the file).
``cifar100``: ResNet-32x4 → ResNet-8x4, the 240 epochs of the literature, on all of CIFAR-100; made for a GPU.

Weights are the published ones where the loss has the published form (its docstring says so). Cross-entropy has weight 1
beside each, but for ``kl`` and ``kl_standardized``, which are published with 0.1, and ``simkd``, which has none: its
student is another one, with a projector and the teacher's classifier, which are counted. No method has a second one
beside it. Warm-ups keep their part of the epochs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.data.data import Data
from limbeck.data.preparation import Preparation
from limbeck.data.sources.named import load
from limbeck.data.views import Views
from limbeck.errors import LimbeckError, nearest
from limbeck.evaluation.predict import predict
from limbeck.files import read_json, read_tensors, sha256, write_json, write_tensors
from limbeck.models import build
from limbeck.objective import Objective, Scene, bind
from limbeck.pipeline.experiment import some_inputs
from limbeck.pipeline.folder import environment, now
from limbeck.pipeline.reusing import keeps_classifier, reuse
from limbeck.teachers import ModuleTeacher, reading
from limbeck.training.loop import CHECKPOINT, Job, fit
from limbeck.training.precision import choose
from limbeck.training.progress import reporter
from limbeck.training.settings import Optimizer, Schedule, Settings

METHODS: dict[str, dict[str, Any]] = {
    "control": {},
    "kl": {"supervised": 0.1, "kl": {"weight": 0.9, "temperature": 4.0}},
    "kl_standardized": {"supervised": 0.1, "kl": {"weight": 9.0, "temperature": 2.0, "standardize": True}},
    "dkd": {"dkd": {"warmup": 20}},
    "dist": {"dist": {}},
    "fitnet": {"fitnet": {"adapter": "conv"}},
    "attention_transfer": {"attention_transfer": {}},
    "sp": {"sp": {}},
    "vid": {"vid": {}},
    "rkd": {"rkd_distance": {}, "rkd_angle": {}},
    "pkt": {"pkt": {}},
    "crd": {"crd": {}},
    "simkd": {"supervised": 0.0, "simkd": {}},
    "nkd": {"nkd": {}},
    "logit_mse": {"logit_mse": {}},
    "nst": {"nst": {}},
    "ickd": {"ickd": {"adapter": "conv"}},
    "review": {"review": {"warmup": 20}},
    "wsld": {"wsld": {}},
    "cc": {"cc": {}},
    "label_smoothing": {"supervised": {"weight": 1.0, "label_smoothing": 0.1}},
    "teacher_free": {"supervised": 0.9, "teacher_free": {"weight": 0.1}},
}


@dataclass(frozen=True)
class Protocol:
    """One pair of models and its budget; the schedule of the literature has 240 epochs."""

    teacher: tuple[str, Mapping[str, Any]]
    student: tuple[str, Mapping[str, Any]]
    classes: int
    validation: int
    taught: Settings
    trained: Settings


VIEWS = Views(shift=4, flip=True)
STEPS = Schedule("step", milestones=(150, 180, 210))
PUBLISHED = Settings(
    epochs=240, batch_size=64, optimizer=Optimizer("sgd", lr=0.05, weight_decay=5e-4), schedule=STEPS, views=VIEWS
)
SHORT = Settings(
    epochs=20,
    batch_size=128,
    optimizer=Optimizer("sgd", lr=0.1, weight_decay=5e-4, nesterov=True),
    schedule=Schedule("cosine", warmup=1),
    views=VIEWS,
)
PROTOCOLS = {
    "cifar10": Protocol(
        ("limbeck/resnet", {"depth": 20}),
        ("limbeck/resnet", {"depth": 8}),
        10,
        1500,
        Settings(**{**vars(SHORT), "epochs": 40}),
        SHORT,
    ),
    "cifar100": Protocol(("limbeck/resnet32x4", {}), ("limbeck/resnet8x4", {}), 100, 1000, PUBLISHED, PUBLISHED),
}


class Bench:
    """One protocol in one folder.

    Args:
        name: of the protocol.
        data: an ``.npz`` file.
        out: where the teacher and the cells are kept.
        quiet: show no progress.
        epochs: of teacher and student, if not the protocol's: only to see that all works.
    """

    def __init__(self, name: str, data: Path, out: Path, *, quiet: bool, epochs: int | None = None) -> None:
        self.name, self.protocol, self.out = name, PROTOCOLS[name], out
        self.data: Data = load("arrays", path=data, validation=self.protocol.validation)
        self.preparation = Preparation(self.data.normalization)
        self.quiet, self._epochs = quiet, epochs

    def settings(self, chosen: Settings) -> Settings:
        return chosen if self._epochs is None else Settings(**{**vars(chosen), "epochs": self._epochs})

    def model(self, which: tuple[str, Mapping[str, Any]], seed: int) -> nn.Module:
        name, options = which
        return build(name, input_shape=self.data.shape, classes=self.protocol.classes, options=options, seed=seed)

    def teacher(self) -> nn.Module:
        """The teacher with the weights of its last epoch, trained once."""
        folder = self.out / "teacher"
        module = self.model(self.protocol.teacher, 0)
        if not (folder / "cell.json").exists():
            self.train(folder, "teacher", module, Objective.of({"supervised": 1.0}), self.protocol.taught, 0, None)
        module = self.model(self.protocol.teacher, 0)
        module.load_state_dict(read_tensors(folder / "last.safetensors")[0])
        return module.eval()

    def cell(self, method: str, seed: int) -> dict[str, Any]:
        """One training of the student, from its file if it is done."""
        folder = self.out / f"{method}-seed{seed}"
        if (folder / "cell.json").exists():
            return read_json(folder / "cell.json")
        teacher = ModuleTeacher(self.teacher(), self.preparation)
        module, objective = self.model(self.protocol.student, seed), self.objective(method)
        if keeps_classifier(objective):
            module, objective = reuse(objective, self.scene(module, teacher, seed))
        return self.train(folder, method, module, objective, self.protocol.trained, seed, teacher)

    def is_done(self, method: str, seed: int) -> bool:
        """Whether a cell is there."""
        return (self.out / f"{method}-seed{seed}" / "cell.json").exists()

    def objective(self, method: str) -> Objective:
        """The objective of a method; a published warm-up keeps its part of the published 240 epochs."""
        terms: dict[str, Any] = {"supervised": 1.0, **METHODS[method]}
        for name, value in terms.items():
            if isinstance(value, dict) and "warmup" in value:
                plain = dict(value)
                warmup = plain.pop("warmup") * self.settings(self.protocol.trained).epochs / PUBLISHED.epochs
                terms[name] = {**plain, "schedule": {"warmup": warmup}}
        return Objective.of(terms)

    def train(
        self,
        folder: Path,
        method: str,
        module: nn.Module,
        objective: Objective,
        chosen: Settings,
        seed: int,
        teacher: ModuleTeacher | None,
    ) -> dict[str, Any]:
        settings, began = self.settings(chosen), time.monotonic()
        bound = self.bound(objective, module, teacher, seed) if objective.waits else objective
        place = choose(settings.device, settings.precision).place
        job = Job(
            module=module,
            objective=bound,
            split=self.data.train,
            preparation=self.preparation,
            validate=self.validate,
            settings=settings,
            folder=folder,
            seed=seed,
            teacher=reading(teacher.placed(place), bound.layers("teacher")) if teacher else None,
            title=f"{method}, seed {seed}",
            reporter=reporter(quiet=self.quiet),
        )
        found = fit(job)
        scores = {}
        for which, state, epoch in (
            ("selected", found.selected, found.selected_epoch),
            ("last", found.last, found.epochs),
        ):
            write_tensors(folder / f"{which}.safetensors", state)
            module.load_state_dict(state)
            splits = {"validation": self.data.validation, "test": self.data.test}
            scores[which] = {"epoch": epoch, **{name: self.accuracy(module, one) for name, one in splits.items()}}
        cell = {
            "protocol": self.name,
            "method": method,
            "seed": seed,
            "objective": objective.to_recipe(),
            "parameters": sum(one.numel() for one in module.parameters()),
            "beside": sum(one.numel() for one in bound.modules.parameters()),
            "epochs": settings.epochs,
            **scores,
            "seconds": round(found.seconds, 1),
            "all_seconds": round(time.monotonic() - began, 1),
            "teacher": sha256(self.out / "teacher" / "last.safetensors") if teacher else None,
            "commit": commit(),
            "date": now(),
            "environment": environment(),
        }
        write_json(folder / "cell.json", cell)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return cell

    def bound(self, objective: Objective, module: nn.Module, teacher: ModuleTeacher | None, seed: int) -> Objective:
        return bind(objective, self.scene(module, teacher, seed))

    def scene(self, module: nn.Module, teacher: ModuleTeacher | None, seed: int) -> Scene:
        inputs, targets = some_inputs(self.data.train), self.data.train.targets
        return Scene(module, self.preparation, teacher, inputs, targets, self.protocol.classes, seed)

    def validate(self, module: nn.Module) -> dict[str, float]:
        logits, targets = predict(module, self.preparation, self.data.validation)
        loss = nn.functional.cross_entropy(logits, targets)
        return {"accuracy": right(logits, targets), "loss": float(loss)}

    def accuracy(self, module: nn.Module, split: Any) -> float:
        return right(*predict(module, self.preparation, split))


def right(logits: Tensor, targets: Tensor) -> float:
    return float((logits.argmax(dim=1) == targets).double().mean())


def commit() -> str:
    """Of the code that runs; empty where it is no checkout."""
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="cifar10")
    parser.add_argument("--data", type=Path, required=True, help="an .npz file")
    parser.add_argument("--out", type=Path, required=True, help="a folder of its own for this protocol")
    parser.add_argument("--only", default=",".join(METHODS), help="methods, in the order they are run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="fewer: only to see that it works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--done", action="store_true", help="train nothing: what is done")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    methods = given.only.split(",")
    for name in methods:
        if name not in METHODS:
            sys.exit(f"there is no method '{name}'{nearest(name, METHODS)}\n  cure: known: {', '.join(METHODS)}")
    try:
        bench = Bench(given.protocol, given.data, given.out, quiet=given.quiet, epochs=given.epochs)
        if not given.done:
            bench.teacher()
        cells = []
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            for method in methods:
                if given.done and not bench.is_done(method, seed):
                    continue
                cell = bench.cell(method, seed)
                cells.append(cell)
                print(told(cell), file=sys.stderr, flush=True)
    except LimbeckError as error:
        sys.exit(str(error))
    if given.json:
        print(json.dumps({"teacher": read_json(given.out / "teacher" / "cell.json"), "cells": cells}, indent=2))


def told(cell: Mapping[str, Any]) -> str:
    last, selected = cell["last"], cell["selected"]
    return (
        f"{cell['method']:>20} seed {cell['seed']}: test {100 * selected['test']:.2f} % at epoch {selected['epoch']}, "
        f"{100 * last['test']:.2f} % at the last; {cell['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
