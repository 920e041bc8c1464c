"""DCPose: what its three modules see, its weighting by time, its switches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidpose.errors import InputError
from vidpose.models.counting import count, meta_model
from vidpose.models.dcpose import DCPose, ResidualSteps, time_weights
from vidpose.models.factory import create_model

SIZE = (64, 64)


def tiny(**switches) -> DCPose:
    """A small model whose parameters are away from the zeros that some layers start with."""
    torch.manual_seed(0)
    model = create_model("dcpose", **{"backbone": "hrnet_w8_small", "input_size": SIZE, **switches})
    assert isinstance(model, DCPose)
    nn.init.normal_(model.initial_head.final_layer.weight, std=0.1)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def draw(model, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)


def heatmaps_of(model, clips):
    """The single-frame heatmaps [B, T, J, h, w]."""
    return model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, clips.shape[:2])


def inputs_of(module):
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    return seen


def shapes(model):
    return {n: tuple(p.shape) for n, p in model.named_parameters()}


# --- size --------------------------------------------------------------------------------------------


def test_multiply_adds_are_three_backbones_and_a_small_head():
    found = count(meta_model("dcpose"))
    assert found["gmacs"] == pytest.approx(3 * 32.9 + 9, abs=0.5)
    assert found["params_trainable"] == pytest.approx(1.4e6, rel=0.02)


def test_deformable_convolutions_start_as_the_identity():
    model = create_model("dcpose", backbone="hrnet_w8_small", input_size=SIZE)
    heatmaps = torch.rand(1, 15, 16, 16)
    for deform in model.head.correct.deform:
        offsets, masks = torch.zeros(1, 15 * 18, 16, 16), torch.ones(1, 15 * 9, 16, 16)
        torch.testing.assert_close(deform(heatmaps, offsets, masks), heatmaps)


# --- what the modules see ----------------------------------------------------------------------------


def test_weights_are_the_papers_for_one_neighbour_on_each_side():
    assert time_weights(3) == [0.5, 0.5]
    assert time_weights(5) == pytest.approx([1 / 6, 1 / 3, 1 / 3, 1 / 6])


@pytest.mark.parametrize("frames", [3, 5])
def test_merger_sees_each_joints_frames_side_by_side(frames):
    model = tiny(num_frames=frames).eval()
    clips = draw(model)
    seen = inputs_of(model.head.merge)
    with torch.no_grad():
        model(clips)
        heatmaps = heatmaps_of(model, clips)
    found = seen[0][0].unflatten(1, (15, frames))
    centre = frames // 2
    torch.testing.assert_close(found[:, :, 0], heatmaps[:, centre])
    neighbours = [t for t in range(frames) if t != centre]
    for i, (t, weight) in enumerate(zip(neighbours, time_weights(frames), strict=True), start=1):
        torch.testing.assert_close(found[:, :, i], weight * heatmaps[:, t])


@pytest.mark.parametrize("frames", [3, 5])
def test_residual_fusion_sees_residuals_and_weighted_residuals(frames):
    model = tiny(num_frames=frames).eval()
    clips = draw(model)
    seen = inputs_of(model.head.fuse)
    with torch.no_grad():
        model(clips)
        heatmaps = heatmaps_of(model, clips)
    found = seen[0][0].unflatten(1, (15, frames - 1, 2))
    centre = frames // 2
    neighbours = [t for t in range(frames) if t != centre]
    for i, (t, weight) in enumerate(zip(neighbours, time_weights(frames), strict=True)):
        residual = heatmaps[:, centre] - heatmaps[:, t]
        torch.testing.assert_close(found[:, :, i, 0], residual)
        torch.testing.assert_close(found[:, :, i, 1], weight * residual)


def test_a_still_clip_has_no_residuals():
    model = tiny().eval()
    still = draw(model)[:, :1].expand(-1, 3, -1, -1, -1)
    seen = inputs_of(model.head.fuse)
    with torch.no_grad():
        model(still)
    assert not seen[0][0].any()


def test_correction_samples_merged_heatmaps_where_both_modules_say():
    model = tiny().eval()
    correct, merge, fuse = model.head.correct, [], []
    model.head.merge.register_forward_hook(lambda *a: merge.append(a[2]))
    model.head.fuse.register_forward_hook(lambda *a: fuse.append(a[2]))
    seen = inputs_of(correct)
    with torch.no_grad():
        model(draw(model))
    heatmaps, guides = seen[0]
    assert torch.equal(heatmaps, merge[0])
    assert torch.equal(guides, torch.cat([fuse[0], merge[0]], dim=1))


@pytest.mark.parametrize("modulation", ["linear", "sigmoid"])
def test_modulation_weighs_the_samples(modulation):
    model = tiny(modulation=modulation).eval()
    seen = [inputs_of(deform) for deform in model.head.correct.deform]
    for masks in model.head.correct.masks:
        nn.init.normal_(masks.weight, std=10.0)
    with torch.no_grad():
        model(draw(model))
    low = min(float(found[0][2].min()) for found in seen)
    high = max(float(found[0][2].max()) for found in seen)
    assert (low >= 0 and high <= 1) if modulation == "sigmoid" else (low < 0 and high > 1)


def test_results_of_all_dilations_are_averaged():
    model = tiny().eval()
    found = []
    for deform in model.head.correct.deform:
        deform.register_forward_hook(lambda *a: found.append(a[2]))
    with torch.no_grad():
        out = model(draw(model)).heatmaps
    assert len(found) == 5
    torch.testing.assert_close(out, sum(found) / 5)
    assert [d.dilation for d in model.head.correct.deform] == [(d, d) for d in (3, 6, 9, 12, 15)]


def test_parts_of_residual_steps_reach_as_far_as_they_have_steps():
    """Part i of the block passes i 3x3 convolutions: its end sees i pixels far through its own part."""
    torch.manual_seed(0)
    block = ResidualSteps(16, 16).double().eval()
    x = torch.randn(1, 16, 17, 17, dtype=torch.double, requires_grad=True)
    block(x)[0, :, 8, 8].square().sum().backward()
    reached = x.grad.abs().sum(dim=(0, 1)) > 0
    rows = torch.nonzero(reached.any(dim=1)).flatten()
    # The longest way goes down in steps 1_1, 2_1, 3_1 and 4_1 and then along part 4: seven convolutions.
    assert (int(rows.min()), int(rows.max())) == (8 - 7, 8 + 7)


# --- switches ----------------------------------------------------------------------------------------

CORRECT = "head.correct."
CHANGES = [
    ({"ptm": False}, ("head.merge.", CORRECT + "combine.0."), (CORRECT + "combine.0.",)),
    ({"prf": False}, ("head.fuse.", CORRECT + "combine.0."), (CORRECT + "combine.0.",)),
    ({"pcn": False}, ("head.fuse.", CORRECT), ()),
    ({"pcn": False, "prf": False}, ("head.fuse.", CORRECT), ()),
    ({"dilations": [3]}, (CORRECT + "offsets.", CORRECT + "masks.", CORRECT + "deform."), ()),
    ({"time_weighting": False}, (), ()),
    ({"modulation": "sigmoid"}, (), ()),
]  # fmt: skip


@pytest.mark.parametrize(("switches", "gone", "come"), CHANGES, ids=lambda v: str(v)[:30])
def test_a_switch_changes_what_it_names_and_nothing_else(switches, gone, come):
    base, model = shapes(tiny()), tiny(**switches)
    own = shapes(model)
    removed = {n for n, s in base.items() if own.get(n) != s}
    added = {n for n, s in own.items() if base.get(n) != s}
    assert all(n.startswith(gone) for n in removed)
    assert all(any(n.startswith(p) for n in removed) for p in gone)
    assert all(n.startswith(come) for n in added) and bool(added) == bool(come)
    heatmap = torch.zeros(2, 15, 16, 16)
    loss = model.train().losses(model(draw(model)), heatmap, torch.ones(2, 15))["total"]
    loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("head."))


@pytest.mark.parametrize("switches", [{"modulation": "sigmoid"}, {"time_weighting": False}])
def test_a_switch_without_layers_changes_the_output(switches):
    model, other = tiny().eval(), tiny(**switches).eval()
    other.load_state_dict(model.state_dict())
    clips = draw(model)
    with torch.no_grad():
        assert (model(clips).heatmaps - other(clips).heatmaps).abs().max() > 1e-3


def test_without_the_merger_the_key_frames_heatmaps_are_sampled():
    model = tiny(ptm=False).eval()
    clips = draw(model)
    seen = inputs_of(model.head.correct)
    with torch.no_grad():
        model(clips)
        torch.testing.assert_close(seen[0][0], heatmaps_of(model, clips)[:, 1])


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"modulation": "none"}, "modulation.*known are"),
        ({"dilations": (3, -1)}, "dilations"),
        ({"ptm": False, "pcn": False}, "ptm=False"),
        ({"ptm": False, "prf": False}, "ptm=False"),
        ({"num_frames": 2}, "num_frames"),
    ],
)
def test_wrong_switches_are_refused(switches, words):
    with pytest.raises(InputError, match=words):
        tiny(**switches)
