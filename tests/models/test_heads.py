"""The head is found in every classifier of torchvision and in timm's, and replaced for another number of classes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from limbeck.errors import ModelError
from limbeck.models import build
from limbeck.models.heads import find_head, replace_head

# The smallest of each family; its module tells the family, so that a new one in torchvision is noticed.
FAMILIES = {
    "alexnet": "classifier.6",
    "convnext_tiny": "classifier.2",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "efficientnet_v2_s": "classifier.1",
    "googlenet": "fc",
    "inception_v3": "fc",
    "maxvit_t": "classifier.5",
    "mnasnet0_5": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "regnet_y_400mf": "fc",
    "resnet18": "fc",
    "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc",
    "squeezenet1_1": "classifier.1",
    "swin_t": "head",
    "swin_v2_t": "head",
    "vgg11": "classifier.6",
    "vit_b_32": "heads.head",
}


def test_every_family_of_torchvision_is_here() -> None:
    from torchvision import models

    def family(name: str) -> str:
        return models.get_model_builder(name).__module__

    assert {family(name) for name in models.list_models(module=models)} == {family(name) for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_head_of_each_family_is_replaced(name: str) -> None:
    """On the meta device: shapes are computed and nothing else, but for RegNet, which copies while it is made."""
    from torchvision import models

    with warnings.catch_warnings(), torch.device("cpu" if "regnet" in name else "meta"):
        warnings.simplefilter("ignore", FutureWarning)  # GoogLeNet and Inception about their initial weights
        module = models.get_model(name)
        assert find_head(module) == (FAMILIES[name],)
        replace_head(module, 7)
        side = 299 if name == "inception_v3" else 224
        with torch.no_grad():
            assert module.eval()(torch.zeros(1, 3, side, side)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", ("fc",)),
        ("deit_tiny_distilled_patch16_224", ("head", "head_dist")),
        ("convnext_atto", ("head.fc",)),
        ("mobilenetv3_small_050", ("classifier",)),
        ("vgg11", ("head.fc",)),
    ],
)
def test_timm_says_which_layer_its_head_is(name: str, head: tuple[str, ...]) -> None:
    import timm

    with torch.device("meta"):
        assert find_head(timm.create_model(name, num_classes=5)) == head


@pytest.mark.parametrize("name", ["conv_mnist", "mlp_784", "cnn5", "digits_teacher", "digits_student"])
def test_limbecks_own_end_in_their_head(name: str) -> None:
    module = build(f"limbeck/{name}", input_shape=(1, 28, 28), classes=11)
    (head,) = find_head(module)
    layer = module.get_submodule(head)
    assert isinstance(layer, nn.Linear)
    assert layer.out_features == 11


def test_a_head_can_be_named() -> None:
    module = nn.ModuleDict({"head": nn.Sequential(nn.Linear(2, 3)), "body": nn.Linear(2, 2)})
    assert find_head(module) == ("body",)  # the order of definition misleads here
    assert find_head(module, "head") == ("head",)
    with pytest.raises(ModelError, match=r"no module 'haed'.*did you mean 'head'"):
        find_head(module, "haed")
    with pytest.raises(ModelError, match="no linear or convolutional layer of ReLU"):
        find_head(nn.ReLU())


def test_a_head_that_fits_is_kept() -> None:
    module = nn.Sequential(nn.Linear(4, 3))
    before = module[0]
    assert replace_head(module, 3)[0] is before
