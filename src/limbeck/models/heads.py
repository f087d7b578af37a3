"""The head of a model: the last layer, which turns features into one logit for each class."""

from __future__ import annotations

from typing import Any

from torch import nn

from limbeck.errors import ModelError, nearest

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def find_head(module: nn.Module, name: str | None = None) -> tuple[str, ...]:
    """The names of the modules that are the head, as ``named_modules`` has them.

    A model that says so itself is asked (timm's ``get_classifier``; some have two heads). Otherwise it is the last
    linear or convolutional layer in the order of definition, which holds for every classifier of torchvision. Of its
    segmentation models an auxiliary classifier is left out, and LR-ASPP adds up the scores of two heads. Of those of
    segmentation_models_pytorch, whose published weights are an encoder's, the head is all that follows the encoder.

    Args:
        module: the model.
        name: of the head, where that order does not tell; everything under it belongs to it.

    Raises:
        ModelError: if there is no such module, or no layer that could be a head.

    Example:
        >>> find_head(nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
        ('3',)
    """
    named = dict(module.named_modules())
    if name is not None:
        if not name or name not in named:
            raise ModelError(
                f"the model has no module '{name}' that could be its head{nearest(name, named)}",
                cure="set transfer.head to a name of module.named_modules(), or leave it out",
            )
        return (name,)
    own = _own_head(module) or _dense_head(module)
    found = tuple(key for key, part in named.items() if key and any(part is one for one in own))
    layers = [key for key, part in named.items() if key and isinstance(part, _LAYERS)]
    if not found and not layers:
        raise ModelError(
            f"no linear or convolutional layer of {type(module).__name__} could be its head",
            cure="set transfer.head to the name of the module that gives the logits",
        )
    return found or (layers[-1],)


def replace_head(module: nn.Module, classes: int) -> nn.Module:
    """Give a model a new head for so many classes, in place; one that fits already is left as it is.

    Every layer that gives a logit for each class is replaced; an auxiliary classifier's is one of them.

    Example:
        >>> replace_head(nn.Sequential(nn.Linear(4, 1000)), 3)
        Sequential(
          (0): Linear(in_features=4, out_features=3, bias=True)
        )
    """
    names = find_head(module)
    extra = getattr(module, "aux_classifier", None)
    if isinstance(extra, nn.Module):
        names += tuple(f"aux_classifier.{name}" for name in find_head(extra))
    for name in names:
        layer = module.get_submodule(name)
        new: nn.Module
        if isinstance(layer, nn.Linear) and layer.out_features != classes:
            new = nn.Linear(layer.in_features, classes, bias=layer.bias is not None)
        elif isinstance(layer, nn.Conv2d) and layer.out_channels != classes:
            size: Any = layer.kernel_size
            new = nn.Conv2d(layer.in_channels, classes, size, bias=layer.bias is not None)
        else:
            continue
        module.set_submodule(name, new)
    return module


def _own_head(module: nn.Module) -> list[nn.Module]:
    ask = getattr(module, "get_classifier", None)
    told = ask() if callable(ask) else ()
    told = told if isinstance(told, tuple | list) else (told,)
    return [one for one in told if isinstance(one, nn.Module) and next(one.parameters(), None) is not None]


def _dense_head(module: nn.Module) -> list[nn.Module]:
    """The head of a segmentation model, where the order of definition does not tell."""
    after = [getattr(module, name, None) for name in ("encoder", "decoder", "segmentation_head")]
    if all(isinstance(one, nn.Module) for one in after):
        return [one for one in after[1:] if isinstance(one, nn.Module) and next(one.parameters(), None) is not None]
    classifier = getattr(module, "classifier", None)
    if not isinstance(classifier, nn.Module) or not isinstance(getattr(module, "backbone", None), nn.Module):
        return []
    both = [getattr(classifier, name, None) for name in ("low_classifier", "high_classifier")]
    if all(isinstance(one, nn.Module) for one in both):
        return [one for one in both if isinstance(one, nn.Module)]
    layers: list[nn.Module] = [part for part in classifier.modules() if isinstance(part, _LAYERS)]
    return layers[-1:]
