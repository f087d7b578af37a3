"""Trains in several processes what it then trains in one; `test_distributed.py` runs this under torchrun.

Each scenario joins the processes anew, so that torch is imported once; the last one ends in a killed process.

    torchrun --standalone --nproc-per-node 2 together.py FOLDER
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data import scenes as pixels
from limbeck.data.normalization import Normalization
from limbeck.data.split import Split
from limbeck.data.views import Views
from limbeck.errors import DataError, LimbeckError
from limbeck.evaluation.dense.reading import read_module, read_teacher
from limbeck.evaluation.predict import ask, predict
from limbeck.files import write_json, write_tensors
from limbeck.objective import Objective, Scene, bind, supervised, term
from limbeck.outputs import Outputs
from limbeck.teachers import FunctionTeacher, ModuleTeacher, as_teacher, reading
from limbeck.training.distributed import World, processes, world
from limbeck.training.loop import Job, fit
from limbeck.training.progress import Silent
from limbeck.training.settings import EarlyStopping, Optimizer, Schedule, Settings, Transfer

HALF = Normalization((0.5,), (0.25,))
PLAIN: dict[str, Any] = {
    "epochs": 2, "batch_size": 8, "optimizer": Optimizer("sgd", lr=0.1, weight_decay=0.01),
    "schedule": Schedule("constant"), "fast": False, "device": "cpu",
}  # fmt: skip


def images(count: int) -> Split:
    """Every fourth image has no label."""
    generator = torch.Generator().manual_seed(count)
    targets = torch.randint(3, (count,), generator=generator)
    targets[::4] = -1
    return Split(torch.rand(count, 1, 8, 8, generator=generator), targets, list("abc"), "train")


def dense(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))


def normalized() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 3))


class Idle(nn.Module):
    """With a parameter that its logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = dense(), nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.used(inputs)


class Acting(Silent):
    """Calls ``act`` with the number of steps so far."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self.steps, self.act, self.said = 0, act, list[str]()

    def batch(self, epoch: int, done: int, samples: int, loss: float | None) -> None:
        self.steps += 1
        self.act(self.steps)

    def say(self, text: str) -> None:
        self.said.append(text)


def accuracy(module: nn.Module) -> dict[str, float | None]:
    logits, targets = predict(module, HALF, images(21), batch_size=4, shared=True)
    return {"accuracy": float((logits.argmax(1) == targets).float().mean()), "loss": None}


def job(folder: Path, module: nn.Module, *, count: int = 43, **changes: Any) -> Job:
    own = {key: changes.pop(key) for key in list(changes) if key in Job.__dataclass_fields__}
    given: dict[str, Any] = {
        "objective": Objective([supervised(0.3), term("kl", 0.7, temperature=2.0)]),
        "split": images(count),
        "preparation": HALF,
        "validate": accuracy,
        "settings": Settings(**{**PLAIN, **changes}),
        "folder": folder,
        "teacher": as_teacher(dense(5), HALF),
        **own,
    }
    made = Job(module, **given)
    return made if not made.objective.waits else reading_layers(made)


def reading_layers(made: Job) -> Job:
    """The job with an objective that knows the layers of its module and of a wider teacher."""
    torch.manual_seed(5)
    teacher = ModuleTeacher(nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 3)), HALF)
    inputs, targets = made.split.fetch(torch.arange(4))[0], made.split.targets
    objective = bind(made.objective, Scene(made.module, HALF, teacher, inputs, targets, 3))
    return replace(made, objective=objective, teacher=reading(teacher, objective.layers("teacher")))


def pictures(count: int) -> pixels.SceneSplit:
    """Of several sizes, some pixels without a label."""
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        size = (9 + number, 12 - number)
        mask = (
            torch.randint(3, size, generator=generator)
            .byte()
            .masked_fill(torch.rand(size, generator=generator) < 0.1, 255)
        )
        found.append(pixels.Scene.of(f"p{number}", torch.randint(256, (3, *size), generator=generator).byte(), mask, 3))
    return pixels.SceneSplit([pixels.Region.whole(one) for one in found], list("abc"), "test", patch=(8, 8))


def segmenting(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Conv2d(3, 3, 3, padding=1)


def masks(*losses: Any) -> dict[str, Any]:
    """Patches with masks in batches of four, so that a process gets none of a short last one."""
    return {
        "objective": Objective([*losses, term("pixel_kl", 0.5, temperature=2.0)]),
        "split": pictures(5),
        "batch_size": 4,
        "preparation": Normalization((0.5,) * 3, (0.25,) * 3),
        "teacher": as_teacher(segmenting(5), None),
        "validate": lambda _: {"accuracy": 0.5, "loss": None},
    }


HINT = term("fitnet", 1.0, at="2")  # through an adapter
CASES: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "one step": (dense, {"count": 8, "epochs": 1, "batch_size": 8}),
    "short last batch": (dense, {}),  # 43 = 5 x 8 + 3: one process gets none of the three
    "accumulated": (dense, {"accumulate": 3, "clip": 0.05}),
    "batches of one": (dense, {"count": 5, "batch_size": 1}),
    "averaged": (dense, {"optimizer": Optimizer("adamw", lr=0.01), "ema": 0.9, "early_stopping": EarlyStopping(1)}),
    "unused parameter": (Idle, {"optimizer": Optimizer("adamw", lr=0.01, weight_decay=0.1)}),
    "frozen first": (dense, {"transfer": Transfer(freeze=1)}),
    "views": (dense, {"views": Views(shift=1), "workers": 0}),
    "mixed": (dense, {"views": Views(mixup=0.4)}),
    "balanced": (dense, {"sampling": "balanced"}),
    "batchnorm": (normalized, {}),
    "adapters": (dense, {"objective": Objective([supervised(0.3), HINT])}),
    "relations": (dense, {"objective": Objective([supervised(0.3), term("pkd", 0.5, at="2"), term("dist", 0.05)])}),
    "relations in pieces": (dense, {"objective": Objective([term("pkd", 1.0, at="2")]), "batch_size": 20, "count": 40}),
    "schedule and shares": (dense, {"objective": Objective(
        [supervised(1.0), term("kl", 1.0, schedule={"warmup": 2}), HINT], balance={"supervised": 1, "fitnet": 2}
    )}),
    "masks": (segmenting, masks(supervised(0.5), term("dice_batch", 0.5))),
    "masks by image": (segmenting, masks(term("dice", 0.5), term("focal", 0.5))),
    "memory": (dense, {"objective": Objective([supervised(0.3), term("crd", 0.8, at="2", dim=8)])}),
}  # fmt: skip


def train_all(folder: Path) -> dict[str, Tensor]:
    """Weights and last gradients by case and name; every process must have the first one's, to the bit."""
    found: dict[str, Tensor] = {}
    for case, (make, changes) in CASES.items():
        module = make()
        fitted = fit(job(folder / case.replace(" ", "-"), module, **changes))
        found.update({f"{case}/last/{name}": value for name, value in [*fitted.last.items(), *fitted.extras.items()]})
        gradients = {name: one.grad for name, one in module.named_parameters() if one.grad is not None}
        found.update({f"{case}/gradient/{name}": value.clone() for name, value in gradients.items()})
        found.update({f"{case}/after/{name}": value.clone() for name, value in module.state_dict().items()})
    return found


def same_everywhere(tensors: dict[str, Tensor]) -> list[str]:
    """Names whose bits differ from the first process's."""
    flat = {name: value.double().reshape(-1) for name, value in tensors.items()}
    both = {name: world().gathered(value).reshape(world().size, -1) for name, value in flat.items()}
    return [name for name, value in both.items() if not torch.equal(value[:1].expand_as(value), value)]


def seen(folder: Path) -> list[int]:
    """Which samples each process trains on in an epoch of 23 in batches of 5, one after the other."""
    indexes: list[Tensor] = []

    def teacher(inputs: Tensor, index: Tensor) -> Tensor:
        indexes.append(index)
        return torch.zeros(len(inputs), 3)

    fit(job(folder / "seen", dense(), count=23, batch_size=5, epochs=1, teacher=FunctionTeacher(teacher)))
    return world().gathered(torch.cat(indexes)).tolist()


def predicted() -> dict[str, Tensor]:
    """What is said about splits that do not divide, with a process that gets none, by a model and by ensembles."""
    found, both = {}, as_teacher([dense(5), dense(6)], HALF)
    for count in (3, 9, 20):
        logits, targets = predict(dense(), HALF, images(count), batch_size=4, shared=True)
        said: Outputs = ask(both, images(count), batch_size=4, shared=True)
        assert said.members is not None
        assert said.weights is not None
        alone = ask(as_teacher(dense(5), HALF), images(count), batch_size=4, shared=True).logits
        parts = {"logits": logits, "targets": targets, "members": said.members, "weights": said.weights, "one": alone}
        found.update({f"{count}/{name}": value for name, value in parts.items()})
    return found


def read_pixels() -> dict[str, Tensor]:
    """What is said about pictures, with a process that gets none, by a model and by a teacher."""
    found = {}
    for count in (1, 2, 5):
        torch.manual_seed(count)
        module, made = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)), pictures(count)
        said = read_module(module, None, made, shared=True)
        counts = read_module(module, None, made, labels=False, shared=True)
        heard = read_teacher(ModuleTeacher(module, None), made, shared=True)
        for name, one in (("module", said), ("counts", counts), ("teacher", heard)):
            found.update({f"{count}/{name}/{key}": value for key, value in one.tensors().items()})
    return found


def helpers(here: World) -> dict[str, Any]:
    return {
        "summed": here.summed([1.0, 10.0 * here.rank]),
        "agreed": here.agreed({"rank": here.rank, "none": None}),
        "first": here.from_first(lambda: [here.rank, 0.1]),
        "gathered": here.gathered(torch.full((here.rank, 2), here.rank)).tolist(),
    }


def failing(folder: Path, name: str) -> str:
    """What this process says when the second one fails."""
    module, second = dense(), int(os.environ["RANK"]) == 1
    before = {key: value.clone() for key, value in module.state_dict().items()}
    broken = images(16)
    if name == "nan":

        def teacher(inputs: Tensor, index: Tensor) -> Tensor:
            return torch.full((len(inputs), 3), float("nan") if second else 0.0)

        changes: dict[str, Any] = {"teacher": FunctionTeacher(teacher)}
    else:

        def fetch(index: Tensor) -> Any:
            if second:
                raise DataError("photo 7.jpg is cut off")
            return Split.fetch(broken, index)

        broken.fetch = fetch  # type: ignore[method-assign]
        changes = {}
    try:
        with processes():
            fit(job(folder / name, module, split=broken, **changes))
    except LimbeckError as error:
        moved = [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]
        return f"{type(error).__name__} {error.exit_code} {error} moved {moved}"
    return "no error"


def stopped(folder: Path, *, signaled: bool) -> dict[str, Tensor]:
    """A training with dropout and BatchNorm's averages; if ``signaled``, the second process gets SIGTERM in it."""

    def act(step: int) -> None:
        if signaled and world().rank == 1 and step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    with processes():
        return fit(job(folder, normalized(), epochs=3, ema=0.9, reporter=Acting(act))).last


def main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    with processes() as here:
        together = {**train_all(folder / "two"), **{f"predicted/{name}": one for name, one in predicted().items()}}
        together |= {f"pixels/{name}": one for name, one in read_pixels().items()}
        facts = {"helpers": helpers(here), "seen": seen(folder), "differing": same_everywhere(together)}
    facts["failed"] = {name: failing(folder, name) for name in ("nan", "data")}
    whole = stopped(folder / "whole", signaled=False)
    for name in ("broken", "fewer"):
        try:
            stopped(folder / name, signaled=True)
        except LimbeckError as error:
            facts["stopped"] = [type(error).__name__, (folder / name / "checkpoint.safetensors").exists()]
    resumed = stopped(folder / "broken", signaled=False)
    facts["resumed"] = [name for name, value in whole.items() if not torch.equal(value, resumed[name])]
    if rank == 0:  # alone: without processes() nothing of torch.distributed is used
        listening = Acting(lambda step: None)
        fit(job(folder / "fewer", normalized(), epochs=3, ema=0.9, reporter=listening))
        facts["told"] = listening.said
        alone = {**train_all(folder / "one"), **{f"predicted/{name}": one for name, one in predicted().items()}}
        alone |= {f"pixels/{name}": one for name, one in read_pixels().items()}
        write_tensors(folder / "two.safetensors", together)
        write_tensors(folder / "one.safetensors", alone)
    write_json(folder / f"facts{rank}.json", facts)

    def die(step: int) -> None:
        if rank == 1 and step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        with processes():
            fit(job(folder / "killed", dense(), reporter=Acting(die)))
    except LimbeckError as error:
        write_json(folder / "last.json", str(error))
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print(json.dumps("not reached"))
