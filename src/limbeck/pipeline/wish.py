"""What a run is told about a store of its teacher's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from limbeck.data.replay import Replay
from limbeck.errors import FileError, RecipeError
from limbeck.files import read_json
from limbeck.recipe.mistakes import answer, from_pydantic
from limbeck.recipe.store_schema import AUTO, StoreHolder
from limbeck.store.filling import BEGIN
from limbeck.store.manifest import FILE, Manifest
from limbeck.store.store import Store
from limbeck.training.settings import Settings

VIEWS = 16  # of each sample, unless told otherwise
Settled = TypeVar("Settled", bound=Settings | None)


@dataclass(frozen=True)
class StoreWish:
    """A store as it is asked for; None: what fits.

    Args:
        path: its folder; None: in the run's.
        views: of each sample.
        top: so many of the largest logits; 0: all.
        temperatures: at which the other logits' weight is kept.
        features: the teacher's layers whose pooled features are kept.
        verify: compare every file with its sha256 when it is opened.

    Example:
        >>> StoreWish.of({"views": 4}).views, StoreWish.of("auto").path, StoreWish.of("kept/here").path
        (4, None, 'kept/here')
    """

    path: str | None = None
    views: int | None = None
    top: int | None = None
    temperatures: tuple[float, ...] | None = None
    features: tuple[str, ...] = ()
    verify: bool = True

    @classmethod
    def of(cls, value: Any) -> StoreWish | None:
        """What a recipe's ``store`` says: a word, a path or a mapping; a path object from Python.

        Raises:
            RecipeError: naming the key that is wrong and the nearest right one.
        """
        if value is None or isinstance(value, cls):
            return value
        given = fspath(value) if isinstance(value, PathLike) else value
        if isinstance(given, Mapping) and isinstance(given.get("path"), PathLike):
            given = {**given, "path": fspath(given["path"])}
        try:
            checked = StoreHolder.model_validate({"store": given}).model_dump(mode="json")["store"]
        except ValidationError as error:
            raise answer(from_pydantic(error, StoreHolder), "store", {}, []) from None
        said: dict[str, Any] = {"path": checked} if isinstance(checked, str) else dict(checked)
        path, views, temperatures = said["path"], said.get("views", AUTO), said.get("temperatures")
        return cls(
            None if path == AUTO else path,
            None if views == AUTO else views,
            said.get("top"),
            None if temperatures is None else tuple(temperatures),
            tuple(said.get("features", ())),
            said.get("verify", True),
        )

    @classmethod
    def of_recipe(cls, teacher: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> StoreWish | None:
        """That of a recipe's teacher, or of its teachers, which have one together."""
        first = teacher if isinstance(teacher, Mapping) else teacher[0]
        return cls.of(first.get("store"))

    def replay(self, settings: Settings, seed: int) -> Replay:
        """The views that student and controls see.

        Those of the store that is at the path, finished or begun; else ``views`` of each sample from the run's seed.

        Args:
            settings: of the student.
            seed: the first one of the run.

        Raises:
            RecipeError: if several views are asked for where all are the same.
            FileError: if the store at the path can not be read.
        """
        kept = begun(Path(self.path)) if self.path is not None else None
        views = self.views
        if views is None and kept is None:
            views = 1 if settings.views.identity else min(VIEWS, settings.epochs)
        if views is not None and views > 1 and settings.views.identity:
            raise RecipeError(
                f"the student's views change nothing, and a store of {views} views of each sample is asked for",
                cure="give the student views, or leave the store's out",
            )
        if kept is None:
            return Replay(seed, views or 1)
        return kept if views is None else replace(kept, views=views)


def begun(folder: Path) -> Replay | None:
    """The views of the store in a folder, finished or not; None: there is none.

    Raises:
        FileError: if it can not be read.
    """
    if (folder / FILE).exists():
        return Store(folder, Manifest.read(folder)).replay
    if not (folder / BEGIN).exists():
        return None
    try:
        views = read_json(folder / BEGIN)["identity"]["views"]
        return Replay(int(views["seed"]), int(views["count"]))
    except (KeyError, TypeError, ValueError, RecipeError):
        raise FileError(
            f"{folder / BEGIN} is not what limbeck wrote", cure=f"remove {folder}, and build the store again"
        ) from None


def replayed(settings: Settings | None, wish: StoreWish | None, seed: int) -> Settings | None:
    """The student's settings with the views of its store, if it has one.

    Example:
        >>> replayed(Settings(epochs=4), StoreWish(), 7).replay
        Replay(seed=7, views=1)
    """
    if settings is None or wish is None:
        return settings
    return replace(settings, replay=wish.replay(settings, seed))


def shared(settings: Settings | None, student: Settings | None) -> Settings | None:
    """Settings of another training with the student's replay, where they make the same views of the same samples."""
    if settings is None or student is None or student.replay is None:
        return settings
    same = (settings.views, settings.sampling) == (student.views, student.sampling)
    return replace(settings, replay=student.replay) if same else settings


__all__ = ["StoreWish", "begun", "replayed", "shared"]
