"""Which channels of a model can only be cut together, what each is worth, and cutting them.

The dependency graph is Torch-Pruning's (Fang, Ma, Song, Mi, Wang, CVPR 2023, arXiv:2301.12900): channel 3 of a residual
stage is channel 3 of every layer that writes to it or reads from it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ModelError, nearest
from limbeck.evaluation.sizes import bare
from limbeck.models.heads import find_head
from limbeck.models.structure import sizes_of
from limbeck.outputs import Outputs

IMPORTANCES = ("magnitude", "taylor", "bn_scale")


@dataclass(frozen=True)
class Group:
    """Channels that are cut together.

    Args:
        name: of the layer that stands for the group; its output channels are numbered.
        layers: that lose a channel with it, by name.
        parts: groups of a grouped convolution or normalization, which lose the same channel each.
        scores: what each channel of a part is worth; the least is cut first.

    Example:
        >>> group = Group("stem", ("stem", "norm"), 2, torch.tensor([0.5, 2.0]))
        >>> len(group), group.channels([0])  # the first of each half
        (2, [0, 2])
    """

    name: str
    layers: tuple[str, ...]
    parts: int
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def channels(self, indices: Iterable[int]) -> list[int]:
        """The channels that indices of :attr:`scores` stand for."""
        return [part * len(self) + index for part in range(self.parts) for index in sorted(indices)]


class Graph:
    """The groups of a model; the model is copied to the CPU and not changed.

    Args:
        module: the model.
        inputs: a few samples as it takes them, ``[B, …]``.
        keep: names of modules that keep all channels, beside what gives the logits and what has attention heads.

    Raises:
        ModelError: if the graph can not be traced, Torch-Pruning is not installed, or a name under ``keep`` is none
            of the model's.
    """

    def __init__(self, module: nn.Module, inputs: Tensor, keep: Sequence[str] = ()) -> None:
        self.module, self.inputs = bare(module), inputs.cpu()
        named = dict(self.module.named_modules())
        for name in keep:
            if name not in named or not name:
                raise ModelError(f"the model has no module '{name}' to keep{nearest(name, named)}")
        self.kept = tuple(dict.fromkeys([*_outputs(self.module), *_attending(self.module), *keep]))
        self._whole = self._said(self.module)

    def groups(self, importance: str = "magnitude", scores: Mapping[str, Tensor] | None = None) -> list[Group]:
        """Every group whose channels may be cut, in the order of the model's layers.

        Args:
            importance: ``magnitude`` (squared weights, mean over the group's layers, relative to the group's mean),
                ``taylor`` (|gradient · weight|, the same way) or ``bn_scale`` (|scale| of BatchNorm, as it is).
            scores: of ``taylor``, by parameter, see :func:`limbeck.compress.prune.importance.taylor`.

        Raises:
            ModelError: if nothing can be cut by this importance.
        """
        tp = _library()
        own = copy.deepcopy(self.module)
        if importance == "taylor":
            if scores is None:
                raise ModelError("importance 'taylor' needs the gradients' scores", cure="compute them by 'taylor'")
            for name, parameter in own.named_parameters():
                parameter.data = scores[name].to(parameter)
        judge = {
            "magnitude": tp.importance.GroupMagnitudeImportance(p=2, normalizer="mean"),
            "taylor": tp.importance.GroupMagnitudeImportance(p=1, normalizer="mean"),
            "bn_scale": tp.importance.BNScaleImportance(normalizer=None),
        }[importance]
        names, found = {one: name for name, one in own.named_modules()}, []
        for graph, group in self._traced(own):
            worth = judge(group)
            if worth is None:
                continue
            root = group[0].dep.target.module
            parts = max((_parts(graph, dep) for dep, _ in group), default=1)
            if len(worth) % parts:
                continue
            layers = dict.fromkeys(names[dep.target.module] for dep, _ in group if dep.target.module in names)
            worth = torch.nan_to_num(worth.detach().float()).reshape(parts, -1).mean(0)
            found.append(Group(names[root], tuple(layers), parts, worth))
        if not found:
            why = (
                "it has no BatchNorm before a layer that may be cut" if importance == "bn_scale" else "none may be cut"
            )
            raise ModelError(
                f"no channels of {type(self.module).__name__} can be pruned by {importance}: {why}",
                cure="importance: magnitude" if importance == "bn_scale" else "keep fewer layers whole",
            )
        order = list(sizes_of(self.module))
        return sorted(found, key=lambda one: order.index(one.name))

    def cut(self, chosen: Mapping[str, Sequence[int]]) -> nn.Module:
        """The model without some channels: a new one, with smaller layers.

        Args:
            chosen: channels by the name of their group, as :meth:`Group.channels` numbers them.

        Raises:
            ModelError: naming the layer, if it would be empty; or if what is left does not run.
        """
        own = copy.deepcopy(self.module)
        names = {one: name for name, one in own.named_modules()}
        for graph, group in self._traced(own):
            dep = group[0].dep
            channels = sorted(set(chosen.get(names[dep.target.module], ())))
            if not channels:
                continue
            if len(channels) >= graph.get_out_channels(dep.target.module):
                raise ModelError(
                    f"pruning would leave nothing of layer '{names[dep.target.module]}'",
                    cure="prune less, or name the layer under 'keep'",
                )
            graph.get_pruning_group(dep.target.module, dep.handler, channels).prune()
        said = self._said(own)
        if said.shape != self._whole.shape:
            raise ModelError(f"pruned, the model gives {list(said.shape)} instead of {list(self._whole.shape)}")
        return own.requires_grad_(True)

    def _traced(self, own: nn.Module) -> Iterator[tuple[Any, Any]]:
        """The graph of a copy with each of its groups."""
        tp = _library()
        ignored = [part for name in self.kept for part in own.get_submodule(name).modules()]
        own.requires_grad_(True)  # the graph is read from autograd's
        with _quiet(), torch.enable_grad():
            try:
                graph = tp.DependencyGraph().build_dependency(own, example_inputs=self.inputs)
                groups = list(graph.get_all_groups(ignored_layers=ignored))
            except Exception as error:
                raise ModelError(
                    f"the channels of {type(own).__name__} can not be traced: {type(error).__name__}: "
                    f"{str(error).splitlines()[0] if str(error) else ''}",
                    cure="prune single weights instead (prune: {sparsity: …}), which needs no trace",
                ) from None
        for group in groups:
            yield graph, group

    def _said(self, module: nn.Module) -> Tensor:
        try:
            with torch.no_grad():
                return Outputs.of(module.eval()(self.inputs)).logits
        except (RuntimeError, ValueError) as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{type(module).__name__} does not run with the channels that are left: {line}",
                cure="name the layer whose size is written into its code under 'keep'",
            ) from None


def _library() -> Any:
    try:
        import torch_pruning
    except ImportError:
        raise ModelError("torch-pruning is not installed", cure="pip install 'limbeck[prune]'") from None
    return torch_pruning


def _parts(graph: Any, dep: Any) -> int:
    """Into how many groups a layer's channels are divided; a depthwise convolution's count as one."""
    layer = dep.target.module
    if not isinstance(layer, nn.Module):
        return 1
    if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups == layer.out_channels:
        return 1
    pruner = graph.get_pruner_of_module(layer)
    if pruner is None:
        return 1
    out = graph.is_out_channel_pruning_fn(dep.handler)
    return int(pruner.get_out_channel_groups(layer) if out else pruner.get_in_channel_groups(layer))


def _outputs(module: nn.Module) -> list[str]:
    """The layers that give logits: their channels are the classes."""
    found = []
    extra = getattr(module, "aux_classifier", None)
    heads = [*find_head(module), *([f"aux_classifier.{one}" for one in find_head(extra)] if extra is not None else [])]
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    for head in heads:
        layers = [name for name, one in module.get_submodule(head).named_modules() if isinstance(one, kinds)]
        if layers:
            found.append(f"{head}.{layers[-1]}" if layers[-1] else head)
    return found


def _attending(module: nn.Module) -> list[str]:
    """Modules with attention heads, whose number their code divides by."""
    return [name for name, one in module.named_modules() if name and hasattr(one, "num_heads")]


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that are not traced; what is cut is run afterwards
        yield


__all__ = ["IMPORTANCES", "Graph", "Group"]
