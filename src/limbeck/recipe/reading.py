"""Reading a recipe's text as plain data, and nothing else.

YAML can name Python objects, repeat keys silently, and grow from a kilobyte to gigabytes by aliases. All three are
refused before a value is built: the text is scanned as events first (tags, depth, count), then as nodes (repeated
keys, what aliases expand to), and only then turned into values by a safe loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import RecipeError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32
MAX_VALUES = 10_000

Key = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """The safe loader, with numbers such as ``1e-3`` read as numbers (YAML 1.1 takes them for text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


@dataclass(frozen=True)
class Text:
    """What a recipe's text says: its values, and the line of every key, for messages."""

    data: Any
    lines: dict[Key, int] = field(default_factory=dict)


def dotted(key: Key) -> str:
    """The address of a value as it is written on the command line.

    Example:
        >>> dotted(("teacher", 0, "epochs"))
        'teacher.0.epochs'
    """
    return ".".join(str(part) for part in key)


def read_file(path: Path) -> Text:
    """Read a recipe file.

    Raises:
        RecipeError: there is no such file, it is not text, too long, or not plain YAML.
    """
    where = str(path)
    try:
        if path.is_dir():
            raise RecipeError(f"{where}: expected a recipe file, found a folder")
        if not path.is_file():
            raise RecipeError(
                f"{where}: there is no such recipe file", cure="check the path, or see limbeck run --help"
            )
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{where}: can not be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the path
        raise RecipeError(f"{where!r}: not a path: {error}") from error
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{where}: longer than {MAX_BYTES:,} bytes; a recipe is a page of text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{where}: expected UTF-8 text, found byte {content[error.start]:#04x} at {error.start}"
        ) from error
    return read_text(text, where=where)


def read_text(text: str, *, where: str = "recipe") -> Text:
    """Read YAML as plain data: mappings with text keys, lists, text, numbers, true, false, null.

    Raises:
        RecipeError: tags, repeated keys, too deep, too many values, alias cycles, several documents, bad YAML.

    Example:
        >>> read_text("seeds: 3\\nstudent: {optimizer: {lr: 1e-3}}").data
        {'seeds': 3, 'student': {'optimizer': {'lr': 0.001}}}
        >>> read_text("schedule: {off: 30}").data
        {'schedule': {'off': 30}}
        >>> read_text("seeds: 3\\nseeds: 5")
        Traceback (most recent call last):
        limbeck.errors.RecipeError: recipe, line 2: the key 'seeds' is there twice
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{where}: longer than {MAX_BYTES:,} characters; a recipe is a page of text")
    try:
        _scan(text, where)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return Text(None)
        lines = _check_nodes(node, where)
        loader = _Loader("")
        try:
            data = loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise RecipeError(f"{where}: not YAML: {_one_line(error)}") from error
    except (ValueError, OverflowError, RecursionError, TypeError, AttributeError, KeyError) as error:
        # PyYAML lets these out: a number of 10,000 digits, the date 2024-99-99, a mapping used as a key
        raise RecipeError(f"{where}: a value can not be read: {_one_line(error)}") from error
    return Text(plain(data, where=where), lines)


def plain(value: Any, *, where: str = "recipe") -> Any:
    """Copy nested mappings and lists, refusing whatever is not data, so that nothing is shared or called.

    Raises:
        RecipeError: keys that are not text, deeper than 32 levels, more than 10,000 values, cycles, objects.

    Example:
        >>> plain({"a": (1, 2)})
        {'a': [1, 2]}
        >>> plain({"a": {"b": {1}}})
        Traceback (most recent call last):
        limbeck.errors.RecipeError: recipe, a.b: expected text, a number, a list or a mapping, found {1}
    """
    count = 0

    def copy(item: Any, key: Key) -> Any:
        nonlocal count
        count += 1
        at = f"{where}, {dotted(key)}" if key else where
        if count > MAX_VALUES:
            raise RecipeError(f"{where}: more than {MAX_VALUES:,} values; a recipe is a page of text")
        if len(key) > MAX_DEPTH:
            raise RecipeError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        if isinstance(item, Mapping):
            for name in item:
                if not isinstance(name, str):
                    raise RecipeError(f"{at}: keys are text, found {describe(name)}", cure="put the key in quotes")
            return {name: copy(inner, (*key, name)) for name, inner in item.items()}
        if isinstance(item, list | tuple):
            return [copy(inner, (*key, i)) for i, inner in enumerate(item)]
        if item is None or type(item) in (str, bool, int, float):
            return item
        if type(item).__module__ == "datetime":
            raise RecipeError(f"{at}: expected text or a number, found the date {item}", cure="put it in quotes")
        if callable(item) or type(item).__module__ != "builtins":
            raise RecipeError(f"{at}: a recipe is data (text, numbers, lists, mappings), found a {type(item).__name__}")
        raise RecipeError(f"{at}: expected text, a number, a list or a mapping, found {describe(item)}")

    return copy(value, ())


def describe(value: Any) -> str:
    """A value for a message: short, with its kind in words.

    Example:
        >>> describe("twelve"), describe(True), describe({"a": 1})
        ("the text 'twelve'", 'true', 'a mapping with a')
    """
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value if len(value) <= 60 else value[:57] + '...'!r}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very large whole number"
    if isinstance(value, Mapping):
        names = [str(name)[:20] for name in list(value)[:4]]
        return f"a mapping with {', '.join(names)}{', ...' if len(value) > 4 else ''}" if names else "an empty mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    return repr(value)[:60]


def _scan(text: str, where: str) -> None:
    """Refuse what plain data never needs, while nothing is built yet and at the first event that shows it."""
    depth = documents = 0
    for number, event in enumerate(yaml.parse(text, Loader=_Loader)):
        mark: Any = event.start_mark
        at = f"{where}, line {mark.line + 1}"
        if number > 3 * MAX_VALUES:
            raise RecipeError(f"{where}: more than {MAX_VALUES:,} values; a recipe is a page of text")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise RecipeError(f"{at}: a second document begins; a recipe is one document")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecipeError(f"{at}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise RecipeError(
                f"{at}: the tag {tag[:60]!r} is not allowed", cure="a recipe is plain data; remove the tag"
            )


def _check_nodes(root: yaml.Node, where: str) -> dict[Key, int]:
    """Refuse repeated keys, alias cycles and alias bombs; give the line of every key."""
    lines: dict[Key, int] = {}
    count = 0

    def visit(node: yaml.Node, key: Key, above: tuple[int, ...]) -> None:
        nonlocal count
        count += 1
        at = f"{where}, line {node.start_mark.line + 1}"
        if count > MAX_VALUES:
            raise RecipeError(f"{where}: its aliases expand to more than {MAX_VALUES:,} values")
        if id(node) in above:
            raise RecipeError(f"{at}: an alias contains itself")
        if len(above) > MAX_DEPTH:
            raise RecipeError(f"{where}: nested deeper than {MAX_DEPTH} levels")
        lines.setdefault(key, node.start_mark.line + 1)
        for name, child in _children(node, where):
            visit(child, (*key, name), (*above, id(node)))

    visit(root, (), ())
    return lines


def _children(node: yaml.Node, where: str) -> Iterator[tuple[str | int, yaml.Node]]:
    if isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, child in node.value:
            at = f"{where}, line {name.start_mark.line + 1}"
            if not isinstance(name, yaml.ScalarNode):
                raise RecipeError(f"{at}: keys are text, found a {name.id}")
            if name.value in seen:
                raise RecipeError(f"{at}: the key {name.value[:60]!r} is there twice")
            seen.add(name.value)
            if name.tag.endswith(":bool") and name.value.lower() not in ("true", "false"):
                name.tag = "tag:yaml.org,2002:str"  # `off: 30`; YAML 1.1 takes off, on, yes and no for booleans
            yield name.value, child


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
