"""The plain U-Net: its sizes by hand, any height and width, and the same logits from a second implementation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limbeck.errors import ModelError
from limbeck.evaluation.sizes import macs, parameters
from limbeck.models import build
from limbeck.models.heads import find_head


def unet(width: int = 2, classes: int = 3, side: int = 32, **options: object) -> nn.Module:
    return build(
        "limbeck/unet", input_shape=(3, side, side), classes=classes, options={"width": width, **options}, seed=1
    )


def counted(width: int, classes: int) -> int:
    """Weights and biases of both ways and of the 1×1 classifier, from the widths w to 16w."""
    widths = [width * 2**level for level in range(5)]
    convolutions = list(zip([3, *widths], widths, strict=False)) + [(one, one) for one in widths]
    convolutions += [(2 * one, one) for one in widths[:-1]] + [(one, one) for one in widths[:-1]]
    total = sum(9 * before * after + after for before, after in convolutions)
    return total + sum(4 * 2 * one * one + one for one in widths[:-1]) + classes * (width + 1)


@pytest.mark.parametrize(("width", "expected"), [(16, 1_941_190), (8, 485_862), (4, 121_750)])
def test_parameters_of_the_teacher_and_of_its_halves(width: int, expected: int) -> None:
    assert parameters(unet(width, 6)) == counted(width, 6) == expected


def test_half_and_quarter_width_are_a_quarter_and_a_sixteenth() -> None:
    sizes = {width: (counted(width, 6), macs(unet(width, 6), (3, 32, 32))) for width in (16, 8, 4)}
    for which in (0, 1):
        assert sizes[16][which] / sizes[8][which] >= 3.9
        assert sizes[16][which] / sizes[4][which] >= 15


@pytest.mark.parametrize("size", [(16, 16), (17, 17), (32, 48), (33, 50), (47, 31)])
def test_logits_have_the_size_of_the_picture(size: tuple[int, int]) -> None:
    """Odd sides too: what the pooling leaves out comes back."""
    assert unet()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)
    built = build("limbeck/unet", input_shape=(1, *size), classes=2, options={"width": 1})
    assert built(torch.zeros(2, 1, *size)).shape == (2, 2, *size)


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ModelError, match=r"at least 16×16, found inputs of shape \(3, 15, 32\)") as caught:
        build("limbeck/unet", input_shape=(3, 15, 32), classes=3)
    assert "larger patches" in (caught.value.cure or "")


def by_hand(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The same network written with functions alone."""

    def two(name: str, x: Tensor) -> Tensor:
        for layer in (0, 2):
            x = functional.conv2d(x, weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"], padding=1)
            x = x.clamp(min=0)
        return x

    kept = [two("down.0", x)]
    for level in range(1, 5):
        kept.append(two(f"down.{level}", functional.max_pool2d(kept[-1], 2)))
    x = kept.pop()
    for level in range(4):
        beside = kept.pop()
        x = functional.conv_transpose2d(x, weights[f"up.{level}.weight"], weights[f"up.{level}.bias"], stride=2)
        filled = torch.zeros_like(beside)
        filled[:, :, : x.shape[2], : x.shape[3]] = x
        x = two(f"merge.{level}", torch.cat([beside, filled], dim=1))
    return torch.einsum("bchw,kc->bkhw", x, weights["classifier.weight"].flatten(1)) + weights["classifier.bias"].view(
        1, -1, 1, 1
    )


@pytest.mark.parametrize("size", [(32, 32), (37, 50)])
def test_a_second_implementation_gives_the_same_logits(size: tuple[int, int]) -> None:
    module = unet().double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), by_hand(dict(module.state_dict()), x), rtol=1e-9, atol=1e-9)


def test_starting_weights_come_from_the_seed_alone() -> None:
    first, again = unet(), unet()
    other = build("limbeck/unet", input_shape=(3, 32, 32), classes=3, options={"width": 2}, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.down[0][0].weight, other.down[0][0].weight)
    assert find_head(first) == ("classifier",)


def test_a_gradient_reaches_every_parameter() -> None:
    module = unet(4)
    module(torch.randn(4, 3, 32, 32)).square().mean().backward()
    assert all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in module.parameters())


def test_channels_last_and_bfloat16_change_no_more_than_rounding() -> None:
    module, x = unet(4).eval(), torch.randn(2, 3, 33, 32)
    with torch.no_grad():
        expected = module(x)
        last = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module(x)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)
    assert rounded.dtype == torch.bfloat16
    assert float((rounded.float() - expected).abs().max()) < 0.05 * float(expected.abs().max())


def test_dropout_leaves_out_whole_channels_in_training_alone() -> None:
    module, x = unet(4, dropout=0.5), torch.randn(1, 3, 16, 16)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))
    first = module.down[0]
    assert isinstance(first[2], nn.Dropout2d)
