"""``limbeck plan``: what online and stored would cost, from what this machine was seen to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Models, Out, RecipeArg, Set, load
from limbeck.cli.show import print_json
from limbeck.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = {"--classes": 10**7}  # whose logits are tried; other numbers only multiply
LARGEST = 10**15

Samples = Annotated[str | None, typer.Option("--samples", metavar="N", help="Training samples, such as 1e9.")]
Classes = Annotated[str | None, typer.Option("--classes", metavar="C", help="Classes, such as 50000.")]
Views = Annotated[str | None, typer.Option("--views", metavar="V", help="Stored views of each sample.")]
Epochs = Annotated[str | None, typer.Option("--epochs", metavar="E", help="Epochs of each training.")]
Gpus = Annotated[str | None, typer.Option("--gpus", metavar="G", help="Processes, each as fast as this one.")]


def plan(
    recipe: RecipeArg,
    set_: Set = None,
    samples: Samples = None,
    classes: Classes = None,
    views: Views = None,
    epochs: Epochs = None,
    gpus: Gpus = None,
    out: Out = None,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine for some seconds, and say what the live teacher and a store would cost.

    Example: limbeck plan mnist --samples 1e9 --classes 50000 --views 20 --gpus 64
    """
    given = {"--samples": samples, "--classes": classes, "--views": views, "--epochs": epochs, "--gpus": gpus}
    asked = {name: None if text is None else whole(text, name) for name, text in given.items()}
    if asked["--classes"] == 1:
        raise RecipeError("--classes 1: there is nothing to tell apart", cure="give 2 or more")
    loaded = load(recipe, set_)
    with stdout_kept(as_json):
        from limbeck.pipeline.planning import Numbers, plan_recipe

        numbers = Numbers(*asked.values())
        found = plan_recipe(loaded, out or Path("runs") / loaded.name, numbers, models=models)
    if as_json:
        print_json({"recipe": loaded.name, **found})
        return
    _show(loaded.name, found)


def whole(text: str, name: str) -> int:
    """A whole number of at least 1, also written as ``1e9``.

    Args:
        text: that was typed.
        name: of the option.

    Raises:
        RecipeError: if it is none, or too large to be meant.

    Example:
        >>> whole("1e9", "--samples"), whole("50000", "--classes"), whole("2.5e3", "--samples")
        (1000000000, 50000, 2500)
    """
    value = Decimal(text) if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE]\+?[0-9]{1,2})?", text) else Decimal(0)
    if value < 1 or value != value.to_integral_value():
        raise RecipeError(f"{name} {text[:40]} is no whole number of at least 1", cure="write it as 50000 or 1e9")
    most = MOST.get(name, LARGEST)
    if value > most:
        raise RecipeError(f"{name} {text[:40]} is more than {most:.0e}, the most that is planned for")
    return int(value)


def _show(name: str, found: Mapping[str, Any]) -> None:
    if found["here"] is None:
        typer.echo(f"{found['take']}: {found['reason']}.")
        return
    from limbeck.pipeline.tables import print_table

    machine, plans = found["machine"], [one for one in (found["here"], found["given"]) if one]
    typer.echo(
        f"Measured here: {machine['processor']}, {machine['threads']} threads, computing on {machine['computes']} in "
        f"{machine['precision']}, {machine['batch']} samples a step.\n"
    )
    print_table([name, "measured"], _rates(found["rates"]))
    typer.echo("")
    print_table(["", "here", "given"][: 1 + len(plans)], [[head, *map(row, plans)] for head, row in _rows()])
    typer.echo("")
    for title, one in zip(("Here", "With the given numbers"), plans, strict=False):
        typer.echo(f"{title}: {one['take']}. {one['reason'][0].upper()}{one['reason'][1:]}.")
    typer.echo(f"\nExtrapolated: {'; '.join(found['notes'])}.")


def _rates(rates: Mapping[str, Any]) -> list[list[str]]:
    """What was measured, in words."""
    from limbeck.store.plan import in_words, storage

    each = {
        "the teacher's forward": ("teacher", "a sample"),
        "the student's step, forward and backward": ("student", "a sample"),
        "making a view": ("view", "a sample"),
        "keeping what the teacher said": ("write", "a view"),
        "reading it from memory": ("read", "a view"),
        "reading at a random place of the disk": ("seek", "a page"),
    }
    rows = [[head, f"{in_words(rates[key])} {unit}"] for head, (key, unit) in each.items()]
    rows += [[f"{head} the disk", f"{storage(rates[key])}/s"] for head, key in _DISK.items()]
    rows.append(["free on the disk", storage(rates["free"])])
    return [*rows, ["memory", storage(rates["memory"]) if rates["memory"] else "not known"]]


_DISK = {"writing to": "disk_write", "reading from": "disk_read"}


def _rows() -> list[tuple[str, Callable[[Mapping[str, Any]], str]]]:
    """Heads of the lines that compare, and what stands there for a plan."""
    from limbeck.store.plan import in_words, storage

    def number(key: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda one: f"{one['question'][key]:,}"

    def time(way: str, part: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda one: in_words(one[way][part])

    def yes(key: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda one: {True: "yes", False: "no", None: "not known"}[one[key]]

    def pays(one: Mapping[str, Any]) -> str:
        after = one["pays_after_epochs"]
        return "never" if after is None else f"{after:,.1f} epochs"

    return [
        ("samples", number("samples")),
        ("classes", lambda one: f"{one['question']['layout']['classes']:,}"),
        ("epochs of a training", number("epochs")),
        ("trainings that ask the teacher", number("students")),
        ("trainings without one", number("controls")),
        ("processes", number("processes")),
        ("online, all trainings", time("online", "total")),
        ("  of that the teacher", time("online", "teacher")),
        ("stored, all trainings", time("stored", "total")),
        ("  of that the teacher", time("stored", "teacher")),
        ("  of that writing", time("stored", "write")),
        ("  of that reading", time("stored", "read")),
        ("stored views of a sample", number("views")),
        ("bytes of a view", lambda one: storage(one["record_bytes"])),
        ("bytes of the store", lambda one: storage(one["bytes"])),
        ("  fits the disk here", yes("fits_disk")),
        ("  fits the memory here", yes("fits_memory")),
        ("storing pays after", pays),
    ]
