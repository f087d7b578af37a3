"""A folder of pictures, one folder for each class, with or without folders for the splits above them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from limbeck.data.pictures import folders_in, pictures_under
from limbeck.data.sources.listing import Listing, Row, check_classes, split_words, unused
from limbeck.errors import DataError

_LAYOUT = "root/train/CLASS/*.png (and validation, test), or root/CLASS/*.png"


def read_folder(root: str | Path, splits: Mapping[str, str] | None = None) -> Listing:
    """List ``root/SPLIT/CLASS/…`` or ``root/CLASS/…``.

    Args:
        root: the folder.
        splits: by split, its folder, where that is not ``train``, ``validation`` (``valid``, ``val``) or ``test``.

    Raises:
        DataError: if there is no such folder, two folders are one split, a class is empty, or classes differ.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder", cure="check data.root")
    inside, beside = folders_in(root)
    folders = _split_folders(root, inside, splits)
    notes = []
    if folders:
        aside = [folder for folder in inside if folder not in folders.values()]
        notes += unused(aside, root, "folders of no split")
    notes += unused(beside, root, "files beside the folders")
    if "validation" in folders and "test" not in folders and not (splits or {}).get("validation"):
        name = folders["validation"].name
        notes.append(f"the folder '{name}' is the validation split; to test on it, write splits: {{test: {name}}}")
    parts = {split: _classes(folder, root, notes) for split, folder in (folders or {"train": root}).items()}
    names = sorted(parts["train"])
    check_classes(names, folders.get("train", root))
    for split, found in parts.items():
        if sorted(found) != names:
            more, fewer = sorted(set(found) - set(names)), sorted(set(names) - set(found))
            what = f"has no folder of class '{fewer[0]}'" if fewer else f"has a class '{more[0]}' that train has not"
            raise DataError(f"{folders[split]} {what}", cure="give every split a folder for each class")
    rows = {
        split: [Row(file, label) for label, name in enumerate(names) for file in found[name]]
        for split, found in parts.items()
    }
    return Listing(tuple(names), rows, notes=notes)


def _split_folders(root: Path, inside: list[Path], splits: Mapping[str, str] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for split, name in (splits or {}).items():
        if root / name not in inside:
            raise DataError(f"{root / name} is no folder", cure=f"check data.splits: {split}")
    words = split_words(splits)
    for folder in inside:
        split = words.get(folder.name, "")
        if split in found:
            raise DataError(
                f"{root} has two folders for {split}: {found[split].name} and {folder.name}",
                cure=f"say which one in data.splits, {split}: {folder.name}",
            )
        if split:
            found[split] = folder
    if found and "train" not in found:
        have = ", ".join(folder.name for folder in found.values())
        raise DataError(f"{root} has {have}, but no folder 'train'", cure=f"lay it out as {_LAYOUT}")
    return found


def _classes(folder: Path, root: Path, notes: list[str]) -> dict[str, list[str]]:
    inside, beside = folders_in(folder)
    if folder != root:
        notes += unused(beside, root, "files beside the class folders")
    found = {}
    for inner in inside:
        pictures, other = pictures_under(inner)
        if not pictures:
            cure = "fill it, or remove it from every split"
            raise DataError(f"the class folder {inner} holds no pictures", cure=cure)
        notes += unused(other, root, f"files in {inner.relative_to(root).as_posix()} that are no pictures")
        found[inner.name] = [path.relative_to(root).as_posix() for path in pictures]
    if not found:
        raise DataError(f"{folder} holds no class folders", cure=f"lay it out as {_LAYOUT}")
    return found
