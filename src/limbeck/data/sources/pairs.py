"""Pictures and masks that belong together by their names, in nested folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from limbeck.data.pictures import pictures_under
from limbeck.data.sources.listing import unused
from limbeck.errors import DataError, RecipeError, nearest

LISTED = 20  # names in a message


class Pair(NamedTuple):
    """A picture and its mask: their name, which neither folder nor ending is part of, and their files."""

    name: str
    picture: Path
    mask: Path


def paired(root: Path, images: str, masks: str, suffix: str | None = None) -> tuple[list[Pair], list[str]]:
    """Pictures and masks of one name, sorted by it; and notes.

    The name is the path below ``root`` without the folder ``images`` or ``masks`` (the last one of that name) and
    without the ending. With a suffix, masks are the files whose name ends in it, wherever they lie; it is not part of
    the name either.

    Args:
        root: the folder.
        images, masks: names of the folders, at any depth.
        suffix: of the masks' names, such as ``_mask``.

    Raises:
        DataError: if there are none, one lacks the other, or two files have one name.
        RecipeError: if nothing tells masks from pictures.
    """
    if not root.is_dir():
        raise DataError(f"{root} is no folder", cure="check data.root")
    if images == masks and not suffix:
        raise RecipeError(
            f"data.images and data.masks are both '{images}': nothing tells a mask from a picture",
            cure="say how masks' names end, such as mask_suffix: _mask",
        )
    files, other = pictures_under(root)
    if not files:
        raise DataError(f"{root} holds no pictures", cure="check data.root")
    found: tuple[dict[str, Path], dict[str, Path]] = {}, {}
    for path in files:
        known = _known(path.relative_to(root), images, masks, suffix)
        if known is None:
            other.append(path)
            continue
        name, which = known
        if name in found[which]:
            raise DataError(f"{found[which][name]} and {path} have one name, '{name}'", cure="remove one of them")
        found[which][name] = path
    _refuse_none(root, files, found, (images, masks), suffix)
    _refuse_single(found[0], found[1], "picture", "mask")
    _refuse_single(found[1], found[0], "mask", "picture")
    pairs = [Pair(name, path, found[1][name]) for name, path in sorted(found[0].items())]
    return pairs, unused(other, root, "files that are neither picture nor mask")


def _known(path: Path, images: str, masks: str, suffix: str | None) -> tuple[str, int] | None:
    """The name of a file, and 0 for a picture, 1 for a mask; None: neither."""
    folders, stem = list(path.parts[:-1]), path.stem
    at = max((place for place, one in enumerate(folders) if one in {images, masks}), default=None)
    kind = None if at is None else folders.pop(at)
    if suffix:
        which = int(stem.endswith(suffix) and stem != suffix)
        stem = stem.removesuffix(suffix) if which else stem
    elif kind is None:
        return None
    else:
        which = int(kind == masks)
    return "/".join([*folders, stem]), which


def _refuse_none(
    root: Path,
    files: Sequence[Path],
    found: tuple[Mapping[str, Path], Mapping[str, Path]],
    folders: tuple[str, str],
    suffix: str | None,
) -> None:
    """See that there is a picture and a mask."""
    if suffix and not found[1]:
        raise DataError(
            f"of {len(files)} pictures under {root} none has a name that ends in '{suffix}': there are no masks",
            cure="check data.mask_suffix",
        )
    there = sorted({part for path in files for part in path.relative_to(root).parts[:-1]})
    for kind, folder, key in zip(found, folders, ("images", "masks"), strict=True):
        if not kind and not suffix:
            named = f"; the folders with pictures are {', '.join(there[:LISTED])}" if there else ""
            raise DataError(
                f"{root} holds no pictures in folders '{folder}'{nearest(folder, there)}{named}",
                cure=f"say how these folders are called with data.{key}, or how masks' names end with data.mask_suffix",
            )


def _refuse_single(these: Mapping[str, Path], those: Mapping[str, Path], one: str, other: str) -> None:
    single = [str(path) for name, path in sorted(these.items()) if name not in those]
    if single:
        raise DataError(
            f"{len(single)} of {len(these)} {one}s have no {other} of their name: {listed(single)}",
            cure=f"add the {other}, or remove the {one}",
        )


def listed(names: Sequence[str]) -> str:
    """The first names of a long list.

    Example:
        >>> listed(["a", "b"])
        'a, b'
    """
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


__all__ = ["Pair", "listed", "paired"]
