"""``limbeck predict``: what an exported file sees in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.leaving import stdout_kept
from limbeck.cli.options import AsJson, Quiet
from limbeck.cli.show import print_json


def predict(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="student.onnx of a run.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="PNG|DIR", help="A segmenter's mask, of several a folder; NAME-mask.png by default."
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The picture under its mask; beside the mask by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over masks that are there.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Classify pictures with an exported file, or draw its masks of them, by what is written in it."""
    from limbeck.compress import predict_images
    from limbeck.data.sources.scan import telling

    places: dict[str, Any] = {"out": out, "overlay": overlay, "force": force}
    with stdout_kept(as_json):
        found = predict_images(file, images, **places, progress=None if quiet else telling)
    if as_json:
        print_json(found)
        return
    from limbeck.pipeline.tables import print_table

    print_table(*_masks(found) if found and "mask" in found[0] else _classes(found))
    for one in found:
        if "mask" in one:
            changes = "".join(f"; {change}" for change in one["changes"])
            typer.echo(f"{one['file']}: {one['mask']}, {one['overlay']}{changes}")


def _classes(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = ["file", "class", "probability"]
    rows = [[str(one["file"]), str(one["class"]), f"{one['probability']:.3f}"] for one in found]
    if found and "decision" in found[0]:  # where the threshold that ships with it cuts
        heads.append(f"{found[0]['positive']} (from {found[0]['threshold']:.3f})")
        rows = [[*row, "yes" if one["decision"] else "no"] for row, one in zip(rows, found, strict=True)]
    return heads, rows


def _masks(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """A row a picture and class; the mean probability of the most probable class stands in a picture's first."""
    rows = []
    for one in found:
        sure = f"{one['probability']:.3f}"
        for number, (name, share) in enumerate(one["shares"].items()):
            rows.append(["" if number else str(one["file"]), name, f"{100 * share:.2f} %", "" if number else sure])
    return ["file", "class", "share of pixels", "mean probability"], rows


__all__ = ["predict"]
