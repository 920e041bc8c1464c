"""Single-frame models: shapes, the middle frame, freezing, learning."""

from __future__ import annotations

import pytest
import torch

from vidpose.errors import InputError
from vidpose.models.factory import create_model

MODELS = {
    "hrnet": {"backbone": "hrnet_w8_small"},
    "vitpose": {"backbone": "vit_32x2x4"},
    "vitpose simple": {"backbone": "vit_32x2x4", "head": "simple"},
    "simple_baseline": {"backbone": "resnet18"},
}
SIZE = (64, 96)


def build(kind: str, **arguments):
    return create_model(kind.split()[0], **{"input_size": SIZE, **MODELS[kind], **arguments})


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("joints", [15, 21])
def test_heatmaps_are_a_quarter_of_the_input(kind, joints):
    model = build(kind, num_joints=joints).eval()
    assert (model.kind, model.num_frames, model.heatmap_size) == ("image", 1, (16, 24))
    with torch.no_grad():
        assert model(torch.randn(2, 3, *SIZE)).heatmaps.shape == (2, joints, 16, 24)


@pytest.mark.parametrize("kind", MODELS)
def test_of_a_clip_only_the_middle_frame_counts(kind):
    model = build(kind).eval()
    torch.nn.init.normal_(model.head.final_layer.weight)
    clips = torch.randn(2, 5, 3, *SIZE)
    with torch.no_grad():
        alone, clip = model(clips[:, 2]).heatmaps, model(clips).heatmaps
        head = model.head(model.extract(clips[:, 2])).heatmaps
    assert torch.equal(alone, clip) and torch.equal(alone, head)


@pytest.mark.parametrize("kind", MODELS)
def test_frozen_means_frozen(kind):
    model = build(kind).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    out = model(torch.randn(2, 3, *SIZE))
    model.losses(out, torch.rand(2, 15, 16, 24), torch.ones(2, 15))["total"].backward()
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is not None for p in model.head.parameters())


@pytest.mark.parametrize("kind", ["hrnet", "vitpose"])
def test_thawed_models_learn_one_batch(kind):
    torch.manual_seed(0)
    model = build(kind, freeze_backbone=False, input_size=(64, 64)).train()
    frames, target = torch.randn(2, 3, 64, 64), torch.zeros(2, 15, 16, 16)
    target[0, :, 5:8, 5:8] = target[1, :, 9:12, 2:5] = 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(20):
        loss = model.losses(model(frames), target, torch.ones(2, 15))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_new_models_have_no_joint_that_is_approximated():
    assert not build("hrnet").approximate_head


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"num_frames": 3}, "single-frame"), ({"head": "deconv"}, "'classic' and 'simple'")],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(InputError, match=words):
        build("vitpose", **arguments)


def test_frames_of_another_size_are_refused():
    with pytest.raises(ValueError, match="input_size"):
        build("hrnet")(torch.randn(1, 3, 32, 32))
