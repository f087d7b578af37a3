"""Every public name is there, is documented with an example that runs, and is known to editors."""

from __future__ import annotations

import ast
import doctest
import inspect
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import limbeck

WITHOUT_EXAMPLE = {"__version__", "conformance", "losses", "models"}  # a string, and rooms whose members have them
STUB = Path(limbeck.__file__).with_name("__init__.pyi")


def undocumented(home: Any, names: list[str]) -> list[str]:
    """What is missing from the docstrings of these names of ``home``."""
    found = []
    for name in names:
        value = getattr(home, name)
        text = inspect.getdoc(value) if inspect.isclass(value) or callable(value) else getattr(value, "__doc__", "")
        if isinstance(value, type) and value.__doc__ is None:
            text = ""  # getdoc would answer with the base class's
        if not text or not text.strip():
            found.append(f"{name} has no docstring")
            continue
        if name not in WITHOUT_EXAMPLE and not runnable(text):
            found.append(f"{name} has no Example that runs (>>>)")
        if inspect.isclass(value):
            found += [f"{name}.{part} has no docstring" for part in bare_members(value)]
    return found


def runnable(text: str) -> bool:
    """Whether a docstring has at least one doctest that is not skipped."""
    examples = doctest.DocTestParser().get_examples(text)
    return any(not example.options.get(doctest.SKIP) for example in examples)


def bare_members(value: type) -> list[str]:
    """Public methods and properties defined here that say nothing."""
    return [
        name
        for name, member in vars(value).items()
        if not name.startswith("_")
        and not (inspect.getdoc(member) or "").strip()
        and (inspect.isfunction(member) or isinstance(member, property | classmethod | staticmethod))
    ]


def stub_names(text: str) -> dict[str, str | None]:
    """Public name -> defining module, as a stub file's ``from .x import a as a`` lines say."""
    found: dict[str, str | None] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                assert alias.asname == alias.name, f"write 'import {alias.name} as {alias.name}' to re-export it"
                found[alias.name] = f"limbeck.{node.module}" if node.module else None
    return found


@pytest.mark.parametrize("name", limbeck.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    assert undocumented(limbeck, [name]) == []
    assert name in dir(limbeck)


@pytest.mark.parametrize("room", ["losses", "models"])
def test_the_members_of_a_public_room_are_documented(room: str) -> None:
    home = getattr(limbeck, room)
    assert isinstance(home, ModuleType)
    names = [name for name in home.__all__ if callable(getattr(home, name))]
    assert names
    assert undocumented(home, names) == []


def test_each_name_is_defined_where_the_table_says() -> None:
    """Else an editor, a traceback and the documentation name different places."""
    for name, module in limbeck._PUBLIC.items():
        value = getattr(limbeck, name)
        if module is None:
            assert value.__name__ == f"limbeck.{name}"
        else:
            assert value.__module__.startswith(module), name


def test_the_stub_lists_the_same_names() -> None:
    stub = stub_names(STUB.read_text(encoding="utf-8"))
    assert stub.keys() == limbeck._PUBLIC.keys()
    for name, module in stub.items():
        home = limbeck if module is None else __import__(module, fromlist=[name])
        assert getattr(home, name) is getattr(limbeck, name)


def test_all_is_the_table() -> None:
    assert sorted(limbeck.__all__) == sorted([*limbeck._PUBLIC, "__version__"])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="brandy"):
        limbeck.brandy  # noqa: B018


def test_an_undocumented_name_is_caught() -> None:
    def silent() -> None: ...

    def without_example() -> None:
        """Say something."""

    def skipped() -> None:
        """Say something.

        Example:
            >>> 1 / 0  # doctest: +SKIP
        """

    def good() -> None:
        """Say something.

        Example:
            >>> 1 + 1
            2
        """

    class Bare(LookupError): ...

    class Half:
        """Say something.

        >>> 1
        1
        """

        def method(self) -> None: ...

    home = SimpleNamespace(
        silent=silent, without_example=without_example, skipped=skipped, good=good, Bare=Bare, Half=Half
    )
    assert undocumented(home, list(vars(home))) == [
        "silent has no docstring",
        "without_example has no Example that runs (>>>)",
        "skipped has no Example that runs (>>>)",
        "Bare has no docstring",
        "Half.method has no docstring",
    ]


def test_a_stub_that_differs_is_caught() -> None:
    text = STUB.read_text(encoding="utf-8")
    assert stub_names(text + "from .cellar import Wine as Wine\n").keys() != limbeck._PUBLIC.keys()
    with pytest.raises(AssertionError, match="re-export"):
        stub_names("from .cellar import Wine\n")
