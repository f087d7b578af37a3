"""Taps: reading what named layers give and are given. The only file that hooks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.errors import ModelError

_ADDRESS = re.compile(r"(?P<layer>[^#:\[\]]*)(#(?P<call>\d+))?(?P<input>:input)?(?P<keys>(\[[^\[\]]+\])*)")
_COMPILED = "_orig_mod."  # what torch.compile puts before the names


@dataclass(frozen=True)
class Address:
    """Where in a model a tensor is found, written ``name[#call][:input][[key]]``.

    Args:
        layer: its name in ``named_modules()``; empty: the model itself.
        call: number of the call from 0, of a layer that a pass calls several times; None: the last.
        input: what the layer is given (its first positional argument, else its first tensor) instead of what it gives.
        keys: which item, of a layer that gives a tuple, list, dict or object; several where they are nested.

    Example:
        >>> Address.parse("encoder[hidden]"), str(Address("relu", call=0, input=True))
        (Address(layer='encoder', call=None, input=False, keys=('hidden',)), 'relu#0:input')
    """

    layer: str
    call: int | None = None
    input: bool = False
    keys: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, names: Collection[str] = ()) -> Address:
        """What an address says; a text that is the whole name of a layer, one of ``names``, is that layer.

        Raises:
            ModelError: if it is not written as an address.

        Example:
            >>> Address.parse("fc:input").input, Address.parse("relu#2").call
            (True, 2)
        """
        found = _ADDRESS.fullmatch(text)
        if text in names:
            return cls(text)
        if found is None:
            cure = "write name, name#0 (a call), name:input, name[0] or name[key] (an item of what it gives)"
            raise ModelError(f"'{text}' is no address of a layer", cure=cure)
        call, keys = found["call"], tuple(re.findall(r"\[([^\]]+)\]", found["keys"]))
        return cls(found["layer"], None if call is None else int(call), found["input"] is not None, keys)

    def __str__(self) -> str:
        call = "" if self.call is None else f"#{self.call}"
        return f"{self.layer}{call}{':input' * self.input}{''.join(f'[{key}]' for key in self.keys)}"


@dataclass
class _Kept:
    """What an address gave in the latest pass."""

    value: Any = None
    version: int | None = None  # of a tensor that is kept as it is


class Tap:
    """Reads tensors inside a module while it is open; afterwards the module is as it was.

    A pass is a call of the module; several taps may be open at once. Open the tap before the first call of a model
    under ``torch.compile`` and leave it open: what it reads is then part of the one graph. Where a tap comes to a model
    that is compiled with another, or goes, it is compiled again; a model that was compiled with none does not look for
    one any more, and :meth:`read` says so.

    Args:
        module: any module; it is run by the caller, in the caller's mode. Of a compiled module, the one inside is read.
        layers: addresses, see :class:`Address`: ``layer3``, ``fc:input``, ``relu#0``, ``encoder[hidden]``.
        copy: addresses to copy at once, or True for all: needed where the model changes the tensor in place afterwards.
            A copy is not on the way to what the model gives, so that nothing can be differentiated by it.

    Raises:
        ModelError: if the module has no such layer; if a tap is opened twice.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> with Tap(net, ["1", "2:input"]) as tap:
        ...     _ = net(torch.zeros(4, 2))
        >>> tap.read()["1"].shape, tap.read()["1"] is tap.read()["2:input"]
        (torch.Size([4, 3]), True)
    """

    def __init__(self, module: nn.Module, layers: Iterable[str], *, copy: bool | Collection[str] = False) -> None:
        self._module = plain(module)
        known = names(self._module)
        self._addresses = {text: Address.parse(text, known) for text in layers}
        for text, address in self._addresses.items():
            if address.layer not in known:
                what = f"layer '{address.layer}'" + (f" (of '{text}')" if text != address.layer else "")
                cure = "limbeck layers MODEL shows the names, as does module.named_modules()"
                raise ModelError(f"the model has no {what}{_near(address.layer, known)}", cure=cure)
        # Calls are counted for the module: one that goes by two names is called twice.
        self._tapped = {text: known[address.layer] for text, address in self._addresses.items()}
        self._copy = set(self._addresses) if copy is True else set(copy or ())
        # The keys of both stay the same from here on, so that a compiled model has no reason to compile again.
        self._kept = {text: _Kept() for text in self._addresses}
        self._calls = {(kind, id(one)): 0 for one in self._tapped.values() for kind in ("input", "output")}
        self._handles: list[RemovableHandle] = []

    @property
    def features(self) -> Mapping[str, Tensor]:
        """What the latest pass gave, as it is now, graph and all; addresses without a tensor are left out."""
        return {text: kept.value for text, kept in self._kept.items() if isinstance(kept.value, Tensor)}

    @property
    def changed(self) -> tuple[str, ...]:
        """The addresses whose tensors have been changed in place since they were read: those that need ``copy``."""
        return tuple(text for text, kept in self._kept.items() if _changed(kept))

    def read(self) -> dict[str, Tensor]:
        """What the latest pass gave, one tensor for each address, graph and all.

        Raises:
            ModelError: for a layer that was not called or not so often, that gives no tensor or has no such item, or
                whose tensor was changed in place afterwards.

        Example:
            >>> with Tap(nn.Linear(2, 2), [""]) as tap:
            ...     tap.read()
            Traceback (most recent call last):
            limbeck.errors.ModelError: layer '' was not called in the latest pass
              cure: tap a layer that the pass calls; open the tap before a compiled model's first call
        """
        return {text: self._read(text) for text in self._addresses}

    def clear(self) -> None:
        """Let go of what was kept, as the start of a pass does: nothing that a pass leaves out is stale."""
        for key in self._calls:
            self._calls[key] = 0
        for kept in self._kept.values():
            kept.value = kept.version = None

    def __enter__(self) -> Tap:
        if self._handles:
            raise ModelError("this tap is open already", cure="make another Tap for what is read at the same time")
        try:
            self._handles.append(self._module.register_forward_pre_hook(lambda *_: self.clear()))
            for layer in {id(one): one for one in self._tapped.values()}.values():
                wanted = [text for text, one in self._tapped.items() if one is layer]
                given = [text for text in wanted if self._addresses[text].input]
                gives = [text for text in wanted if not self._addresses[text].input]
                keep = partial(self._keep, id(layer))
                if given:
                    hook = partial(_on_input, keep, given)
                    self._handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
                if gives:
                    self._handles.append(layer.register_forward_hook(partial(_on_output, keep, gives)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, layer: int, kind: str, texts: list[str], value: Any) -> None:
        call = self._calls[kind, layer]
        self._calls[kind, layer] = call + 1
        for text in texts:
            address = self._addresses[text]
            if address.call not in (None, call):
                continue
            found = _item(value, address.keys)
            kept = self._kept[text]
            if not isinstance(found, Tensor):
                kept.value, kept.version = (value,), None  # to say later what it was
            elif text in self._copy or torch.compiler.is_compiling():  # there, a change in place leaves no trace
                kept.value, kept.version = found.clone(), None
            else:
                kept.value, kept.version = found, None if found.is_inference() else found._version

    def _read(self, text: str) -> Tensor:
        address, kept = self._addresses[text], self._kept[text]
        if kept.value is None:
            raise _not_called(address, self._calls["input" if address.input else "output", id(self._tapped[text])])
        if not isinstance(kept.value, Tensor):
            raise _no_tensor(address, kept.value[0])
        if _changed(kept):
            raise ModelError(
                f"the model changed the tensor of '{text}' in place after it was read",
                cure="tap the layer after it, build the model with inplace=False, or use Tap(…, copy=True)",
            )
        return kept.value


def shapes(module: nn.Module, inputs: Any) -> list[tuple[str, tuple[int, ...]]]:
    """The address and shape of all that the layers give, in the order of the calls; no tensor, no entry.

    Of a layer that is called several times, the last call goes by the name alone.

    Args:
        module: is run once as it is; put it in eval mode first, else BatchNorm learns from these inputs.
        inputs: of the module.

    Example:
        >>> import torch
        >>> shapes(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.zeros(1, 2, 2))
        [('0', (1, 4)), ('1', (1, 3)), ('', (1, 3))]
    """
    found: list[tuple[str, int, tuple[str, ...], tuple[int, ...]]] = []
    module = plain(module)
    calls = dict.fromkeys(names(module), 0)

    def keep(name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        found.extend((name, calls[name], keys, tuple(value.shape)) for keys, value in _tensors(output))
        calls[name] += 1

    handles: list[RemovableHandle] = []
    try:
        for name, layer in names(module, twice=False).items():
            handles.append(layer.register_forward_hook(partial(keep, name)))
        module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    last = {name: count - 1 for name, count in calls.items()}
    return [(str(Address(name, None if n == last[name] else n, keys=keys)), shape) for name, n, keys, shape in found]


def plain(module: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` was given; any other as it is.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> plain(torch.compile(net)) is net
        True
    """
    inside = getattr(module, "_orig_mod", None)
    return plain(inside) if isinstance(inside, nn.Module) else module


def names(module: nn.Module, *, twice: bool = True) -> dict[str, nn.Module]:
    """The layers by name, in the order of definition, without what ``torch.compile`` puts into the names.

    Args:
        module: holds them; it is the layer of the empty name.
        twice: a layer that goes by two names is listed under both, else under the first.

    Example:
        >>> list(names(nn.Sequential(torch.compile(nn.Sequential(nn.ReLU())))))
        ['', '0', '0.0']
    """
    found: dict[str, nn.Module] = {}
    for name, layer in module.named_modules(remove_duplicate=not twice):
        found.setdefault(f"{name}.".replace(_COMPILED, "")[:-1], layer)
    return found


def _on_input(keep: Any, texts: list[str], _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    values = [*args[:1], *(value for value in kwargs.values() if isinstance(value, Tensor)), *kwargs.values()]
    keep("input", texts, values[0] if values else None)


def _on_output(keep: Any, texts: list[str], _module: nn.Module, _args: Any, output: Any) -> None:
    keep("output", texts, output)


def _changed(kept: _Kept) -> bool:
    return kept.version is not None and kept.value._version != kept.version


def _item(value: Any, keys: tuple[str, ...]) -> Any:
    """The item of a nested output, None if it has none such."""
    for key in keys:
        number = int(key) if re.fullmatch(r"-?\d+", key) else None
        if isinstance(value, Mapping):
            value = value.get(key, None if number is None else value.get(number))
        elif isinstance(value, list | tuple) and number is not None:
            value = value[number] if -len(value) <= number < len(value) else None
        else:
            value = None if isinstance(value, Tensor) else getattr(value, key, None)
    return value


def _tensors(value: Any, keys: tuple[str, ...] = (), deep: int = 3) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Every tensor of an output, with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield keys, value
        return
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif hasattr(value, "__dict__"):
        items = vars(value).items()
    for key, item in items if deep else ():
        yield from _tensors(item, (*keys, str(key)), deep - 1)


def _not_called(address: Address, calls: int) -> ModelError:
    name = address.layer
    if not calls:
        cure = "tap a layer that the pass calls; open the tap before a compiled model's first call"
        return ModelError(f"layer '{name}' was not called in the latest pass", cure=cure)
    what = f"layer '{name}' was called {'once' if calls == 1 else f'{calls} times'} in the latest pass: "
    cure = f"write {name}#0{f' … #{calls - 1}' if calls > 1 else ''}, or leave the number out: the last"
    return ModelError(f"{what}there is no call #{address.call}", cure=cure)


def _no_tensor(address: Address, value: Any) -> ModelError:
    what = f"layer '{address.layer}' " + ("is given" if address.input else "gives")
    what += f" {type(value).__name__}" if value is not None else " nothing"
    found = [str(Address(address.layer, address.call, address.input, keys)) for keys, _ in _tensors(value)]
    if address.keys and value is not None:
        what += f", which has no tensor {''.join(f'[{key}]' for key in address.keys)}"
    else:
        what += ", expected a tensor"
    few = ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
    return ModelError(what, cure=f"one of: {few}" if found else "tap a layer inside of it, or the one after it")


def _near(name: str, known: Collection[str]) -> str:
    """Up to three names of layers that may be meant: those like it, of the same last part, or inside of its parent."""
    parent, _, last = name.rpartition(".")
    like = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    same = [one for one in known if one and one.rpartition(".")[2] == last]
    inside = [one for one in known if parent and one.rpartition(".")[0] == parent]
    found = [f"'{one}'" for one in dict.fromkeys([*like, *same, *inside])][:3]
    if not found:
        return ""
    return "; did you mean " + " or ".join(filter(None, [", ".join(found[:-1]), found[-1]])) + "?"
