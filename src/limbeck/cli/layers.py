"""``limbeck layers``: the names that losses read, with what is found there."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Models
from limbeck.cli.show import print_json
from limbeck.errors import LimbeckError, ModelError, RecipeError

if TYPE_CHECKING:
    from torch import nn

    from limbeck.pairing import Layer, Pairing, Sites

BATCH = 2  # so that what is not stacked by samples is seen
LARGEST = 2**26  # numbers in an input, past which a size was mistyped

ModelArg = Annotated[str, typer.Argument(metavar="MODEL", help="limbeck/…, torchvision/…, timm/…, smp/… or user/….")]
Input = Annotated[str, typer.Option("--input", "-i", metavar="CxHxW", help="Shape of one input, such as 3x224x224.")]
Options = Annotated[
    list[str] | None, typer.Option("--options", metavar="KEY=VALUE", help="An argument of the model; repeatable.")
]
Pair = Annotated[str | None, typer.Option("--pair", metavar="STUDENT", help="Propose pairs of MODEL's and its layers.")]
PairInput = Annotated[str | None, typer.Option("--pair-input", metavar="CxHxW", help="If the student's is another.")]
PairOptions = Annotated[
    list[str] | None, typer.Option("--pair-options", metavar="KEY=VALUE", help="An argument of the student.")
]


def layers(
    model: ModelArg,
    input_: Input,
    classes: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes.")] = 10,
    options: Options = None,
    pair: Pair = None,
    pair_input: PairInput = None,
    pair_options: PairOptions = None,
    models: Models = None,
    as_json: AsJson = False,
) -> None:
    """Print a model's layers, their shapes, its stages; or which layers of two models belong together.

    Example: limbeck layers torchvision/resnet18 --input 3x32x32 --pair limbeck/resnet
    """
    for name, value in (("--pair-input", pair_input), ("--pair-options", pair_options)):
        if value and pair is None:
            raise RecipeError(f"{name} says something of a student, and there is none", cure="add --pair STUDENT")
    shape = shape_of(input_)
    with stdout_kept(as_json):
        from limbeck.models import user_models

        user = user_models(models) if models else {}
        one = _built(model, shape, classes, options, user)
        if pair is None:
            inside = _listed(one, shape)
        else:
            other = shape_of(pair_input, "--pair-input") if pair_input else shape
            found = _paired(one, shape, _built(pair, other, classes, pair_options, user, "--pair-options"), other)
    if pair is None:
        _show_layers({"model": model, "input": shape, "classes": classes}, *inside, as_json)
    else:
        _show_pairs({"teacher": model, "student": pair, "classes": classes}, found, as_json)


def shape_of(text: str, name: str = "--input") -> tuple[int, ...]:
    """The shape that is written as ``3x224x224``.

    Raises:
        RecipeError: if it is not, or is too large to be meant.

    Example:
        >>> shape_of("3x32x32"), shape_of("64")
        ((3, 32, 32), (64,))
    """
    parts = re.split(r"[x×,]", text.strip())
    shape = tuple(int(part) if re.fullmatch(r"[0-9]{1,9}", part) else 0 for part in parts)
    if 0 in shape:
        raise RecipeError(f"{name} {text[:40]} is no shape of one input", cure="write it as 3x224x224: C, H, W")
    if math.prod(shape) > LARGEST:
        raise RecipeError(f"{name} {text[:40]} has {math.prod(shape):,} numbers, expected at most {LARGEST:,}")
    return shape


def _built(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    options: list[str] | None,
    user: Mapping[str, Any],
    told: str = "--options",
) -> nn.Module:
    from limbeck.models import build
    from limbeck.recipe.overrides import parse_setting

    given: dict[str, Any] = {}
    for text in options or []:
        if not re.match(r"[A-Za-z_]\w*=", text):
            raise RecipeError(
                f"{told} {text[:80]}: expected an argument and its value", cure=f"such as {told} depth=20"
            )
        (key, *_), value = parse_setting(text)
        given[str(key)] = value
    try:
        return build(name, input_shape=shape, classes=classes, options=given, user=user)
    except LimbeckError:
        raise
    except Exception as error:  # whatever a library says of its arguments
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"model '{name}' can not be built with {given}: {type(error).__name__}: {text}") from error


def _listed(module: nn.Module, shape: tuple[int, ...]) -> tuple[nn.Module, list[Layer], Sites]:
    import torch

    from limbeck.pairing import layers, sites

    inputs = torch.zeros(BATCH, *shape)
    return module, layers(module, inputs), sites(module, inputs)


def _paired(teacher: nn.Module, shape: tuple[int, ...], student: nn.Module, other: tuple[int, ...]) -> Pairing:
    import torch

    from limbeck.pairing import pair_layers

    return pair_layers(teacher, student, torch.zeros(BATCH, *other), torch.zeros(BATCH, *shape))


def _show_layers(about: dict[str, Any], module: nn.Module, found: list[Layer], sites: Sites, as_json: bool) -> None:
    marks = {site.address: f"stage {number}" for number, site in enumerate(sites.stages, start=1)}
    rows: list[dict[str, Any]] = []
    given = [(site, name) for site, name in ((sites.pooled, "pooled"), (sites.decoded, "decoded")) if site]
    for one in found:
        for site, name in list(given):
            layer = site.address.removesuffix(":input")
            if f"{one.address}.".startswith(f"{layer}."):  # itself, or the first inside of it
                rows.append({**site._asdict(), "kind": "", "parameters": 0, "batch": BATCH, "site": name})
                given.remove((site, name))
        rows.append({**one._asdict(), "site": marks.get(one.address)})
    total = sum(value.numel() for value in module.parameters())
    if as_json:
        for row in rows:
            row["stacked"] = row.pop("batch") != BATCH
        stages = [site._asdict() for site in sites.stages]
        seen: dict[str, Any] = {"layers": rows, "stages": stages, "note": sites.note}
        seen["pooled"] = sites.pooled and sites.pooled._asdict()
        seen["decoded"] = sites.decoded and sites.decoded._asdict()
        print_json({**about, "parameters": total, **seen})
        return
    from limbeck.pairing import by
    from limbeck.pipeline.tables import print_table

    cells = [
        [
            row["address"] or "(the model)",
            row["kind"],
            by(row["shape"]) if row["batch"] == BATCH else f"{row['batch']} of {by(row['shape'])}",
            f"{row['parameters']:,}" if row.get("parameters") else "",
            row["site"] or "",
        ]
        for row in rows
    ]
    print_table(["layer", "kind", "shape", "parameters", "site"], cells)
    typer.echo(f"\n{total:,} parameters; inputs of {by(about['input'])}.")
    if sites.note:
        typer.echo(f"Note: {sites.note}.")


def _show_pairs(about: dict[str, Any], found: Pairing, as_json: bool) -> None:
    if as_json:
        print_json({**about, "pairs": found.rows(), "notes": found.notes})
        return
    from limbeck.pipeline.tables import print_table

    heads = ["site", "teacher's layer", "shape", "student's layer", "shape", "adapter", "parameters", "MACs"]
    print_table(heads, found.cells("parameters", "macs"))
    for note in found.notes:
        typer.echo(f"Note: {note}.")
