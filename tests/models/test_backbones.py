"""Backbones: published sizes, shapes of features, inputs that do not fit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.errors import InputError
from vidpose.models.backbones import BACKBONES, backbone_family, create_backbone
from vidpose.models.hrnet import fold_batch_norms
from vidpose.models.vit import interpolate_positions


def parameters(name: str, size: tuple[int, int]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in create_backbone(name, size).parameters())


@pytest.mark.parametrize(
    ("name", "head", "published"),
    [
        ("hrnet_w32", 32 * 17 + 17, 28.5e6),  # README of the official repository, with its last layer
        ("hrnet_w48", 48 * 17 + 17, 63.6e6),
        ("resnet18", 512 * 1000 + 1000, 11_689_512),  # torchvision's table, with the classifier
        ("resnet50", 2048 * 1000 + 1000, 25_557_032),
        ("resnet101", 2048 * 1000 + 1000, 44_549_160),
        ("resnet152", 2048 * 1000 + 1000, 60_192_808),
    ],
)
def test_published_numbers_of_parameters(name, head, published):
    exact = published % 1000 != 0
    assert parameters(name, (64, 64)) + head == pytest.approx(published, abs=0 if exact else 0.05e6)


@pytest.mark.parametrize(
    ("name", "dim", "depth"),
    [("vit_s", 384, 12), ("vit_b", 768, 12), ("vit_l", 1024, 24), ("vit_h", 1280, 32)],
)
def test_transformers_have_the_parameters_that_their_dimensions_give(name, dim, depth):
    block = 4 * dim * dim + 4 * dim + 8 * dim * dim + 5 * dim + 4 * dim  # attention, MLP, two norms
    total = depth * block + 3 * 256 * dim + dim + (1 + 16 * 12) * dim + 2 * dim
    assert parameters(name, (256, 192)) == total


@pytest.mark.parametrize("name", ["hrnet_w16_small", "hrnet_w8", "vit_32x2x4", "resnet18"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_features_have_the_shapes_that_heads_rely_on(name, size):
    backbone = create_backbone(name, size).eval()
    with torch.no_grad():
        features = backbone(torch.randn(3, 3, *size))
    assert set(features) == set(backbone.channels)
    h, w = size
    strides = {"vit": {"tokens": 16}, "hrnet": dict.fromkeys(features, 4)}
    strides["resnet"] = {f"stage{i}": 2 ** (i + 1) for i in (1, 2, 3, 4)}
    for key, value in features.items():
        stride = strides[backbone.family][key]
        assert value.shape == (3, backbone.channels[key], h // stride, w // stride)
    assert list(features)[-1] in ("stage4", "tokens")
    assert features[list(features)[-1]].shape[1] == backbone.out_channels


@pytest.mark.parametrize("name", ["hrnet_w4", "vit_32x2x4", "resnet18"])
def test_frames_do_not_see_each_other(name):
    backbone = create_backbone(name, (64, 64)).eval()
    frames = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = backbone(frames), backbone(frames[1:2])
    for key, value in alone.items():
        torch.testing.assert_close(together[key][1:2], value, atol=1e-4, rtol=1e-4)


def test_small_hrnet_is_cheap_enough_for_a_cpu():
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        backbone = create_backbone("hrnet_w16_small", (128, 96)).eval()
        frame = torch.zeros(1, 3, 128, 96)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(frame)
    assert counter.get_total_flops() / 2 <= 100e6


def test_transformer_takes_inputs_larger_than_it_was_built_for():
    backbone = create_backbone("vit_32x2x4", (64, 48)).eval()
    with torch.no_grad():
        assert backbone(torch.randn(1, 3, 96, 80))["tokens"].shape == (1, 32, 6, 5)


@settings(max_examples=20, deadline=None)
@given(h=st.integers(1, 8), w=st.integers(1, 8), to_h=st.integers(1, 8), to_w=st.integers(1, 8))
def test_constant_positions_stay_constant_and_the_class_row_is_kept(h, w, to_h, to_w):
    position = torch.cat([torch.full((1, 1, 3), 7.0), torch.full((1, h * w, 3), 2.0)], dim=1)
    out = interpolate_positions(position, (h, w), (to_h, to_w))
    assert out.shape == (1, 1 + to_h * to_w, 3)
    torch.testing.assert_close(out[:, 1:], torch.full((1, to_h * to_w, 3), 2.0), atol=1e-5, rtol=0)
    assert (out[:, 0] == 7).all()


def test_every_listed_name_has_a_family():
    assert {backbone_family(name) for name in BACKBONES} == {"hrnet", "vit", "resnet"}


@pytest.mark.parametrize("name", ["hrnet", "hrnet_w0", "vit_x", "resnet34x", "", "hrnet_w4_tiny"])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(InputError, match=r"known: hrnet_w32.*resnet152"):
        create_backbone(name, (64, 64))


@pytest.mark.parametrize(
    ("name", "size", "multiple"),
    [
        ("hrnet_w4", (100, 64), 32),
        ("hrnet_w4", (0, 64), 32),
        ("vit_32x2x4", (224, 168), 16),
        ("resnet18", (48, 64), 32),
    ],
)
def test_sizes_that_do_not_divide_say_so(name, size, multiple):
    with pytest.raises(InputError, match=f"multiples of {multiple}"):
        create_backbone(name, size)


def test_width_that_the_heads_do_not_divide():
    with pytest.raises(InputError, match="multiple of the 5 heads"):
        create_backbone("vit_32x2x5", (64, 64))


@pytest.mark.parametrize("name", ["hrnet_w8_small", "resnet50"])
def test_folded_batch_norms_say_the_same(name: str) -> None:
    network = create_backbone(name, (64, 64)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = network(image)
        after = fold_batch_norms(network)(image)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for stage, features in before.items():
        torch.testing.assert_close(after[stage], features, rtol=1e-3, atol=1e-3)
