"""Where losses look in a model if they are not told."""

from __future__ import annotations

from torch import Tensor, nn

from limbeck.pairing.dense import decoded_map, encoder_stages, is_dense
from limbeck.pairing.looking import Sites, look
from limbeck.pairing.stages import found_stages
from limbeck.taps import plain

_DENSE = "it gives a score for each pixel: its stages are its encoder's, and no vector is pooled"


def sites(module: nn.Module, inputs: Tensor) -> Sites:
    """The stages of a model and the vector that its classifier is given, from one pass in eval mode.

    A stage is the last layer that gives maps of its size, without layers inside of a block that changes the size. Of a
    model whose blocks give tokens of one shape, they are every third of its blocks. Of a model that gives a score for
    each pixel they are its encoder's, the way back to large maps left out: what a part called ``encoder`` gives, if it
    gives a list of three sizes or more; else layers of a part called ``encoder`` or ``backbone``; else the layers up to
    the smallest maps.

    Args:
        module: any module.
        inputs: of it ``[B, …]``.

    Raises:
        ModelError: if the model does not run on the inputs.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        >>> found = sites(net, torch.zeros(1, 1, 8, 8))
        >>> found.stages, found.pooled
        ((Site(address='1', shape=(4, 3, 3)),), Site(address='3:input', shape=(36,)))
        >>> from limbeck.models.unet import UNet
        >>> [tuple(one) for one in sites(UNet((3, 32, 32), 2, width=4), torch.zeros(1, 3, 32, 32)).stages][::2]
        [('down.0', (4, 32, 32)), ('down.2', (16, 8, 8)), ('down.4', (64, 2, 2))]
    """
    module = plain(module)
    found, given = look(module, inputs)
    found = [one for one in found if one.batch == len(inputs)]  # windows of attention are stacked as samples are
    shape = tuple(inputs.shape[1:])
    dense = is_dense(found, shape)
    stages, note = encoder_stages(module, found, shape) if dense else found_stages(module, found, shape[1:])
    notes = [note] if note else []
    if not stages:
        notes.append("no stages were found")
    if dense:
        return Sites(tuple(stages), None, "; ".join([*notes, _DENSE]), decoded_map(given), True)
    pooled = next((one for one in given[:1] if len(one.shape) == 1), None)
    if pooled is None:
        notes.append("its classifier was not found, or is given no vector")
    return Sites(tuple(stages), pooled, "; ".join(notes))
