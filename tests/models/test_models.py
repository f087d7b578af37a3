"""Models by name, their published sizes, and weights that fit or are refused by name."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.errors import FileError, ModelError
from limbeck.evaluation.sizes import macs, parameters
from limbeck.files import write_tensors
from limbeck.models import CNN5, build, load_weights, user_models


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        ("conv_mnist", (1, 28, 28), {}, 1_011_466),  # as the published notebook prints it
        ("mlp_784", (1, 28, 28), {}, 784 * 784 + 784 + 784 * 784 + 784 + 784 * 10 + 10),
        ("mlp_784", (1, 28, 28), {"hidden": [128]}, 784 * 128 + 128 + 1290),
        ("digits_student", (1, 8, 8), {}, 3_706),
        ("cnn5", (3, 32, 32), {}, 279_466),  # 0.28 M
    ],
)
def test_parameters(name: str, shape: tuple[int, ...], options: dict[str, object], expected: int) -> None:
    module = build(f"limbeck/{name}", input_shape=shape, classes=10, options=options)
    assert parameters(module) == expected
    assert module.eval()(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("depth", "width", "published"), [(20, 16, 0.27), (32, 16, 0.46), (44, 16, 0.66), (56, 16, 0.85), (110, 16, 1.7)]
)
def test_residual_networks_have_the_published_sizes(depth: int, width: int, published: float) -> None:
    """Table 6 of He et al., 2016; and counted by hand: shortcuts have no parameters (option A)."""
    module = build("limbeck/resnet", input_shape=(3, 32, 32), classes=10, options={"depth": depth, "width": width})
    assert round(parameters(module) / 1e6, 1 if published > 1 else 2) == published
    n, w = (depth - 2) // 6, width
    convolutions = 27 * w + 9 * (2 * n * w * w + (2 + 4 * (2 * n - 1)) * w * w + (8 + 16 * (2 * n - 1)) * w * w)
    norms = 2 * w + 2 * (2 * n * (w + 2 * w + 4 * w))
    assert parameters(module) == convolutions + norms + 4 * w * 10 + 10


def test_a_residual_block_is_the_sum_of_both_ways() -> None:
    """With its second norm at zero a block is its shortcut: every second pixel, and zeros for the new channels."""
    module = build("limbeck/resnet", input_shape=(1, 9, 8), classes=2, options={"depth": 8, "width": 4}).eval()
    block = module.blocks[1]
    for parameter in block.layers[4].parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(2, 4, 9, 8)
    found = block(x)
    assert found.shape == (2, 8, 5, 4)
    assert torch.equal(found[:, :4], x[:, :, ::2, ::2])
    assert not found[:, 4:].any()
    assert module(torch.rand(3, 1, 9, 8)).shape == (3, 2)
    with pytest.raises(ModelError, match=r"depth 18, expected 6n \+ 2"):
        build("limbeck/resnet", input_shape=(3, 32, 32), classes=2, options={"depth": 18})


def test_macs_of_the_mnist_teacher_by_hand() -> None:
    module = build("limbeck/conv_mnist", input_shape=(1, 28, 28), classes=10)
    assert macs(module, (1, 28, 28)) == 26 * 26 * 32 * 9 + 23 * 23 * 64 * 32 * 9 + 7744 * 128 + 128 * 10


def test_starting_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = build("limbeck/mlp_784", input_shape=(1, 8, 8), classes=3, seed=4)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    again = build("limbeck/mlp_784", input_shape=(1, 8, 8), classes=3, seed=4)
    other = build("limbeck/mlp_784", input_shape=(1, 8, 8), classes=3, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)  # building draws nothing from the user's generator


def test_torchvision_and_timm_by_name() -> None:
    module = build("torchvision/resnet18", input_shape=(3, 32, 32), classes=7)
    assert parameters(module) == 11_689_512 - 1000 * 513 + 7 * 513  # torchvision's documented size, another head
    small = build("timm/resnet10t", input_shape=(1, 32, 32), classes=5)
    assert small.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("limbeck/conv_mnits", "did you mean 'conv_mnist'"),
        ("torchvison/resnet18", "did you mean 'torchvision'"),
        ("torchvision/resnet19", "did you mean 'resnet1"),
        ("timm/resnet10x", "did you mean 'resnet"),
        ("os/system", "in no known namespace"),
        ("resnet18", "in no known namespace"),
        ("user/mine", "no model 'user/mine'"),
    ],
)
def test_an_unknown_name_is_answered(name: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        build(name, input_shape=(3, 32, 32), classes=10)


def test_a_model_for_another_input_is_refused() -> None:
    with pytest.raises(ModelError, match="at least 8×8"):
        build("limbeck/conv_mnist", input_shape=(1, 4, 4), classes=10)
    with pytest.raises(ModelError, match="does not take the options"):
        build("limbeck/cnn5", input_shape=(3, 32, 32), classes=10, options={"depth": 3})


def test_weights_in_every_form_that_is_read(tmp_path: Path) -> None:
    source = nn.Linear(3, 2)
    write_tensors(tmp_path / "w.safetensors", source.state_dict())
    torch.save(source.state_dict(), tmp_path / "w.pth")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "c.pt"
    )
    for name in ("w.safetensors", "w.pth", "c.pt"):
        found = load_weights(nn.Linear(3, 2), tmp_path / name, name="linear")
        assert torch.equal(found.weight, source.weight)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", {"weight": torch.zeros(2, 4), "bais": torch.zeros(2)})
    with pytest.raises(ModelError) as caught:
        load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors", name="linear")
    for told in ("'bias' is missing; did you mean 'bais'?", "'bais' is not in the model", "(2, 4)", "(2, 3)"):
        assert told in str(caught.value)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(FileError, match=r"evil\.pth can not be read as plain weights"):
        load_weights(nn.Linear(3, 2), tmp_path / "evil.pth", name="linear")
    assert not (tmp_path / "owned").exists()


def test_models_of_the_users_own_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n\n\ndef tiny(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes))\n"
    )
    found = user_models(file)
    module = build("user/tiny", input_shape=(1, 2, 2), classes=3, user=found)
    assert module(torch.zeros(1, 1, 2, 2)).shape == (1, 3)
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        build("user/tinny", input_shape=(1, 2, 2), classes=3, user=found)
    (tmp_path / "broken.py").write_text("raise ValueError('no')")
    with pytest.raises(ModelError, match=r"broken\.py fails: ValueError"):
        user_models(tmp_path / "broken.py")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_cnn5_pools_before_it_cuts_off_to_the_same_bits(precision: torch.dtype) -> None:
    torch.manual_seed(0)
    model, usual = CNN5(width=4), CNN5(width=4)
    usual.load_state_dict(model.state_dict())
    parts = list(usual.features)
    for place, (one, other) in enumerate(pairwise(parts)):
        if isinstance(one, nn.MaxPool2d) and isinstance(other, nn.ReLU):
            parts[place : place + 2] = [other, one]  # ReLU and then the largest, as it is usually written
    usual.features = nn.Sequential(*parts)
    assert [type(one) for one in model.features] != [type(one) for one in usual.features]
    inputs = torch.randn(8, 3, 32, 32)
    for one in (model, usual):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            said = one(inputs)
        said.float().logsumexp(dim=1).sum().backward()
    for one, other in zip(model.parameters(), usual.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
        assert one.grad.abs().sum() > 0
