"""What must hold for every video method, whichever paper it is from."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vidpose.geometry import gaussian_heatmaps
from vidpose.models.export import export_model
from vidpose.models.factory import MODELS, create_model, load_model, model_entry, save_model

VIDEO = [name for name in MODELS if model_entry(name).num_frames > 1]
OTHERS = [f"{name}/{family}" for name in VIDEO for family in model_entry(name).families[1:]]
"""Methods with a backbone that is not their paper's."""
SMALL = {"hrnet": ("hrnet_w8_small", (64, 96)), "vit": ("vit_32x1x2", (64, 48))}
SWITCHES = {
    # Flow between random crops says nothing, and an estimator of flow is no part of a graph.
    "jmpose": {"motion": "difference"},
    "stdpose": {"head_width": 16},
    "vremd": {"head_width": 16},
}
FRAMES = {name: model_entry(name).num_frames for name in VIDEO}


def create(case: str, **arguments):
    """A small model of a case, ``NAME`` or ``NAME/FAMILY``."""
    name, _, family = case.partition("/")
    backbone, size = SMALL[family or model_entry(name).families[0]]
    torch.manual_seed(0)
    return create_model(
        name, **{"backbone": backbone, "input_size": size, **SWITCHES.get(name, {}), **arguments}
    )


def build(case: str, **arguments):
    """The same with all parameters away from the zeros that some layers start with."""
    model = create(case, **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def clips(model, batch: int = 2, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)


def loss(model, x: torch.Tensor) -> torch.Tensor:
    """The total loss of joints in the middle of the crop, all frames labelled."""
    generator = torch.Generator().manual_seed(2)
    size = torch.tensor(model.heatmap_size[::-1])
    points = torch.rand(*x.shape[:2], model.num_joints, 2, generator=generator) * (size - 1) * 4
    weights = torch.ones(*x.shape[:2], model.num_joints)
    targets = gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma)
    key = x.shape[1] // 2
    extra = {}
    if model.needs_sequence_targets:
        extra = {"sequence_heatmaps": targets, "sequence_weights": weights}
    return model.losses(model(x), targets[:, key], weights[:, key], **extra)["total"]


@pytest.fixture(params=[*VIDEO, *OTHERS])
def name(request) -> str:
    return request.param


def test_heatmaps_have_a_quarter_of_the_input(name):
    model = build(name).eval()
    assert model(clips(model)).heatmaps.shape == (2, 15, *(side // 4 for side in model.input_size))


@pytest.mark.parametrize("frames", [3, 7])
def test_any_odd_clip_length_joint_set_and_size(name, frames):
    height, width = create(name).input_size
    model = build(name, num_frames=frames, num_joints=14, input_size=(height + 32, width)).eval()
    assert model(clips(model, 1)).heatmaps.shape == (1, 14, height // 4 + 8, width // 4)


def test_head_of_extracted_features_is_the_model(name):
    model = build(name).eval()
    x = clips(model)
    with torch.no_grad():
        features = model.extract(x.flatten(0, 1))
        torch.testing.assert_close(model.head(features).heatmaps, model(x).heatmaps)


def test_extraction_sees_single_frames(name):
    model = build(name).eval()
    x = clips(model, 1)[0]
    together = model.extract(x)
    for t in range(len(x)):
        for key, value in model.extract(x[t : t + 1]).items():
            torch.testing.assert_close(together[key][t : t + 1], value, rtol=1e-3, atol=1e-4)


def test_gradients_reach_every_parameter_of_the_head(name):
    model = build(name)
    loss(model, clips(model)).backward()
    dead = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    assert not dead


def test_gradients_reach_the_backbone_where_it_is_thawed(name):
    model = build(name, freeze_backbone=False)
    loss(model, clips(model)).backward()
    assert all(p.grad is not None and p.grad.any() for p in list(model.backbone.parameters())[:1])


def test_frozen_parts_do_not_change_in_training(name):
    model = build(name)
    names = [n for n in model.state_dict() if n.startswith(("backbone.", "initial_head."))]
    before = copy.deepcopy({n: model.state_dict()[n] for n in names})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        loss(model, clips(model)).backward()
        optimizer.step()
    after = model.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in names)


def test_a_training_step_changes_the_head(name):
    model = build(name)
    before = copy.deepcopy(model.head.state_dict())
    loss(model, clips(model)).backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2).step()
    changed = [n for n, p in model.head.named_parameters() if not torch.equal(before[n], p)]
    assert changed == [n for n, _ in model.head.named_parameters()]


def test_order_of_the_batch_is_the_order_of_the_output(name):
    model = build(name).eval()
    x = clips(model, 3)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x[order]).heatmaps, model(x).heatmaps[order], rtol=1e-3, atol=1e-4)


def test_other_clips_of_the_batch_do_not_matter(name):
    model = build(name).eval()
    x = clips(model, 2)
    torch.testing.assert_close(model(x[:1]).heatmaps, model(x).heatmaps[:1], rtol=1e-3, atol=1e-4)


def test_every_frame_matters(name):
    model = build(name).eval()
    x = clips(model, 1)
    full = model(x).heatmaps
    for t in range(model.num_frames):
        changed = x.clone()
        changed[:, t] = clips(model, 1, seed=9)[:, t]
        assert not torch.allclose(model(changed).heatmaps, full, rtol=1e-4, atol=1e-6), t


def test_the_key_frame_is_the_middle_one(name):
    """Exchanging the key frame and a neighbour is another question with another answer."""
    model = build(name).eval()
    x = clips(model, 1)
    key = model.num_frames // 2
    order = list(range(model.num_frames))
    order[key], order[key + 1] = order[key + 1], order[key]
    assert not torch.allclose(model(x[:, order]).heatmaps, model(x).heatmaps, rtol=1e-4, atol=1e-6)


def test_saved_and_loaded_the_output_is_the_same(name, tmp_path):
    model = build(name).eval()
    save_model(model, tmp_path / "m.safetensors")
    x = clips(model, 1)
    torch.testing.assert_close(load_model(tmp_path / "m.safetensors")(x).heatmaps, model(x).heatmaps)


def test_bfloat16_is_close_to_single_precision(name):
    # Unperturbed weights: layers of random gain amplify rounding in a way that no trained model does.
    model = create(name)
    last = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.out_channels == 15][-1]
    nn.init.normal_(last.weight, std=0.1)  # it starts at almost nothing
    model.eval()
    x = clips(model)
    with torch.no_grad():
        exact = model(x).heatmaps
        with torch.autocast("cpu", torch.bfloat16):
            short = model(x).heatmaps.float()
    assert (short - exact).abs().mean() < 0.05 * exact.std()


# Tracing takes time, and test_export.py has TDMI.
@pytest.mark.parametrize("name", [name for name in [*VIDEO, *OTHERS] if not name.startswith("tdmi")])
def test_exported_graph_equals_the_model(name, tmp_path):
    model = build(name).eval()
    report = export_model(model, tmp_path / "m.pt2")
    assert report.max_difference < 1e-4
