"""STDPose's modules against what its equations say, and what labels that are given change."""

from __future__ import annotations

import pytest
import torch

from vidpose.errors import InputError
from vidpose.models.factory import create_model, save_model
from vidpose.models.stdpose import DynamicAwareMask, Matching, TemporalKeypointsSynthesis

SIZE = (64, 48)


def build(**switches):
    torch.manual_seed(0)
    model = create_model(
        "stdpose", **{"backbone": "vit_32x1x2", "input_size": SIZE, "head_width": 16, **switches}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def clips(batch=2, frames=3):
    return torch.randn(batch, frames, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def heatmaps(batch=2, frames=3, seed=2):
    return torch.rand(batch, frames, 15, 16, 12, generator=torch.Generator().manual_seed(seed))


def names(model) -> set[str]:
    return {n for n, p in model.named_parameters() if not n.startswith(("backbone.", "initial_head."))}


# --- DAM -------------------------------------------------------------------------------------------------


def test_mask_computes_the_equations():
    mask = DynamicAwareMask(15, 1.5, 0.5)
    h = heatmaps(1)
    with torch.no_grad():
        mask.direction.copy_(torch.tensor([0.3, 0.9]))
    active = [
        1 / (1 + torch.exp(-1.5 * ((h[0, a] - h[0, b]).abs() - 0.5))) for a, b in ((2, 1), (1, 0))
    ]  # Eq. 3, forward and backward
    channels = [
        (layer.weight[0] * a).sum(dim=0)
        for layer, a in zip((mask.forward_channel, mask.backward_channel), active, strict=True)
    ]
    total = 0.3 * channels[0] + 0.9 * channels[1]
    expected = torch.exp(total) / torch.exp(total).sum() * (16 * 12)
    torch.testing.assert_close(mask(h)[0, 0], expected)


def test_mask_has_mean_1():
    torch.testing.assert_close(DynamicAwareMask(15, 1.5, 0.5)(heatmaps()).mean(dim=(1, 2, 3)), torch.ones(2))


def test_mask_is_even_where_nothing_moves():
    still = heatmaps()[:, :1].expand(-1, 5, -1, -1, -1)
    torch.testing.assert_close(DynamicAwareMask(15, 1.5, 0.5)(still), torch.ones(2, 1, 16, 12))


def test_mask_answers_to_the_size_of_a_change_and_not_to_its_sign():
    mask, h = DynamicAwareMask(15, 1.5, 0.5), heatmaps()
    torch.testing.assert_close(mask(-h), mask(h))


def test_mask_keeps_past_and_future_apart():
    mask, h = DynamicAwareMask(15, 1.5, 0.5), heatmaps()
    assert not torch.allclose(mask(h.flip(1)), mask(h), atol=1e-3)


def test_mask_with_more_frames_averages_the_residuals_of_a_side():
    mask, h = DynamicAwareMask(15, 1.5, 0.5), heatmaps()
    longer = torch.cat([h[:, :1], h, h[:, 2:]], dim=1)  # the outer residuals are 0
    moving = torch.sigmoid(1.5 * ((longer[:, 1:] - longer[:, :-1]).abs() - 0.5))
    total = 0.5 * mask.forward_channel(moving[:, 2:].mean(1)) + 0.5 * mask.backward_channel(
        moving[:, :2].mean(1)
    )
    expected = total.flatten(1).softmax(1).view_as(total) * 192
    torch.testing.assert_close(mask(longer), expected)


# --- TKS -------------------------------------------------------------------------------------------------


def test_synthesis_starts_as_the_heatmaps_of_the_key_frame():
    module = TemporalKeypointsSynthesis(3, 15).eval()
    torch.testing.assert_close(module(heatmaps()), heatmaps()[:, 1], rtol=0, atol=0.05)


def test_temporal_merge_keeps_joints_apart():
    """The first convolution of Eq. 6 sees one joint in all frames."""
    module = TemporalKeypointsSynthesis(3, 15).eval()
    with torch.no_grad():
        module.temporal[0].weight.abs_()  # or a ReLU may hide what a convolution saw
    found = []
    module.temporal.register_forward_hook(lambda m, i, o: found.append(o.clone()))
    h = heatmaps(1)
    changed = h.clone()
    changed[:, 2, 7] = torch.rand(16, 12)
    module(h)
    module(changed)
    different = (found[0] - found[1]).abs().amax(dim=(0, 2, 3)) > 0
    assert different.nonzero().flatten().tolist() == [7]


def test_synthesis_lets_joints_see_each_other_afterwards():
    module = TemporalKeypointsSynthesis(3, 15).eval()
    h = heatmaps(1)
    changed = h.clone()
    changed[:, 2, 7] = torch.rand(16, 12)
    assert ((module(h) - module(changed)).abs().amax(dim=(0, 2, 3)) > 0).sum() > 1


# --- labels that are given -------------------------------------------------------------------------------


def test_predicted_heatmaps_given_back_change_nothing():
    model = build().eval()
    predicted = model.extract(clips().flatten(0, 1))["heatmaps"].unflatten(0, (2, 3))
    torch.testing.assert_close(
        model(clips(), given_heatmaps=predicted).heatmaps, model(clips()).heatmaps, rtol=1e-4, atol=1e-5
    )


def test_given_heatmaps_of_auxiliary_frames_change_the_output():
    model = build().eval()
    assert not torch.allclose(model(clips(), given_heatmaps=heatmaps()).heatmaps, model(clips()).heatmaps)


def test_without_a_mask_those_of_the_key_frame_are_not_read():
    model = build().eval()
    other = heatmaps()
    other[:, 1] = 7.0
    torch.testing.assert_close(
        model(clips(), given_heatmaps=other).heatmaps, model(clips(), given_heatmaps=heatmaps()).heatmaps
    )


def test_mask_says_per_clip_and_frame_which_labels_count():
    model = build().eval()
    mask = torch.tensor([[False, False, False], [False, False, True]])
    out = model(clips(), given_heatmaps=heatmaps(), given_mask=mask).heatmaps
    torch.testing.assert_close(out[0], model(clips()).heatmaps[0], rtol=1e-4, atol=1e-5)
    ignored = heatmaps()
    ignored[1, 0] = 9.0
    torch.testing.assert_close(
        model(clips(), given_heatmaps=ignored, given_mask=mask).heatmaps, out, rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(out[1], model(clips()).heatmaps[1])


@pytest.mark.parametrize(
    "arguments",
    [
        {"given_heatmaps": torch.zeros(2, 3, 14, 16, 12)},
        {"given_heatmaps": torch.zeros(2, 3, 15, 16, 12), "given_mask": torch.zeros(2, 2).bool()},
        {"times": torch.zeros(2, 5)},
    ],
)
def test_wrong_shapes_are_named(arguments):
    with pytest.raises(ValueError, match="must be"):
        build()(clips(), **arguments)


# --- time ------------------------------------------------------------------------------------------------


def test_direct_neighbours_are_the_default_times():
    model = build().eval()
    times = torch.tensor([[-1, 0, 1]]).expand(2, -1)
    torch.testing.assert_close(model(clips(), times=times).heatmaps, model(clips()).heatmaps)


def test_times_matter_unless_switched_off():
    times = torch.tensor([[-5, 0, 2]]).expand(2, -1)
    model = build().eval()
    assert not torch.allclose(model(clips(), times=times).heatmaps, model(clips()).heatmaps)
    model = build(time_distance=False).eval()
    torch.testing.assert_close(model(clips(), times=times).heatmaps, model(clips()).heatmaps)


# --- matching --------------------------------------------------------------------------------------------


def test_matching_finds_where_the_feature_under_a_joint_has_gone():
    torch.manual_seed(3)
    matching = Matching(16 * 8, 3, 2).eval()
    matching.describe = torch.nn.Identity()
    maps = torch.randn(1, 8, 16, 12)
    moved = torch.stack([maps, maps.roll((3, -2), (2, 3)), maps.roll((4, 1), (2, 3))], dim=1)
    tokens = torch.nn.functional.pixel_unshuffle(moved, 4)
    heatmaps = torch.zeros(1, 3, 2, 16, 12)
    heatmaps[0, 0, 0, 5, 6] = 1.0  # joint 0 in the frame before, joint 1 in the one after
    heatmaps[0, 2, 1, 9, 4] = 1.0
    found = matching.similarities(tokens, heatmaps, 1, [0, 2])
    assert found.shape == (1, 2, 2, 16, 12)
    for frame, joint, (y, x) in ((0, 0, (8, 4)), (1, 1, (8, 1))):
        assert divmod(found[0, frame, joint].argmax().item(), 12) == (y, x)
        assert found[0, frame, joint].max().item() == pytest.approx(1)


def test_matching_corrects_what_is_decoded():
    plain, matching = build().eval(), build(matching=True).eval()
    matching.load_state_dict(plain.state_dict(), strict=False)
    assert not torch.allclose(matching(clips()).heatmaps, plain(clips()).heatmaps, atol=1e-3)
    torch.nn.init.zeros_(matching.head.matching.layers[-1].weight)
    torch.nn.init.zeros_(matching.head.matching.layers[-1].bias)
    torch.testing.assert_close(matching(clips()).heatmaps, plain(clips()).heatmaps)
    assert {n.split(".")[1] for n in names(matching) - names(plain)} == {"matching"}


# --- switches and losses ---------------------------------------------------------------------------------


INFORMATION = ("feature_information.", "heatmap_information.")


@pytest.mark.parametrize(
    ("switches", "absent", "new"),
    [
        ({"tff": False}, ("head.fusion.", "feature_information."), ""),
        ({"tks": False}, ("head.synthesis.", "heatmap_information."), ""),
        ({"dam": False}, "head.mask.", ""),
        ({"stda": False}, ("head.aggregation.", "head.mask."), "head.join."),
        ({"mutual_information": False}, INFORMATION, ""),
        ({"time_distance": False}, "head.fusion.time.", ""),
        ({"tff": False, "tks": False, "stda": False}, ("head.", *INFORMATION), ""),
    ],
)
def test_a_switch_changes_its_own_part_and_no_other(switches, absent, new):
    full, changed = names(build()), names(build(**switches))
    assert full - changed
    assert all(n.startswith(absent) for n in full - changed)
    assert all(new and n.startswith(new) for n in changed - full)


def test_without_dam_heatmaps_are_embedded_alone():
    assert build().head.aggregation.embed.in_channels == 30
    assert build(dam=False).head.aggregation.embed.in_channels == 15


def test_without_modules_the_output_is_that_of_the_key_frame_alone():
    model = build(tff=False, tks=False, stda=False).eval()
    x = clips()
    changed = x.clone()
    changed[:, [0, 2]] = torch.randn(2, 2, 3, *SIZE)
    torch.testing.assert_close(model(changed).heatmaps, model(x).heatmaps)


def test_tks_alone_decodes_nothing():
    model = build(tff=False, stda=False).eval()
    predicted = model.extract(clips().flatten(0, 1))["heatmaps"].unflatten(0, (2, 3))
    torch.testing.assert_close(model(clips()).heatmaps, model.head.synthesis(predicted))


def test_initial_heatmaps_are_those_of_the_single_frame_model(tmp_path):
    single = create_model("vitpose", backbone="vit_32x1x2", input_size=SIZE, head_width=16)
    save_model(single, tmp_path / "single.safetensors")
    model = build(pretrained=str(tmp_path / "single.safetensors"))
    with torch.no_grad():  # undo the perturbation of build
        reference = single.eval()(clips()[:, 0]).heatmaps
    fresh = create_model(
        "stdpose",
        backbone="vit_32x1x2",
        input_size=SIZE,
        head_width=16,
        pretrained=str(tmp_path / "single.safetensors"),
    )
    found = fresh.extract(clips().flatten(0, 1))["heatmaps"].unflatten(0, (2, 3))[:, 0]
    torch.testing.assert_close(found, reference, rtol=1e-4, atol=1e-6)
    assert not any("initial head" in note for note in model.notes)


def test_a_head_of_another_kind_is_not_taken_silently(tmp_path):
    save_model(
        create_model("vitpose", backbone="vit_32x1x2", input_size=SIZE, head="simple"),
        tmp_path / "s.safetensors",
    )
    model = build(pretrained=str(tmp_path / "s.safetensors"))
    assert any("initial head is new" in note for note in model.notes)


def test_over_hrnet_initial_heatmaps_are_hrnets_and_tokens_its_feature_in_patches(tmp_path):
    torch.manual_seed(0)
    single = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 96)).eval()
    torch.nn.init.normal_(single.head.final_layer.weight, std=0.1)
    save_model(single, tmp_path / "single.safetensors")
    model = create_model(
        "stdpose", backbone="hrnet_w8_small", input_size=(64, 96), pretrained=tmp_path / "single.safetensors"
    )
    frames = torch.randn(2, 3, 64, 96)
    found = model.eval().extract(frames)
    torch.testing.assert_close(found["heatmaps"], single(frames).heatmaps)
    feature = model.backbone(frames)["stage4"]
    patch = feature[1, :, 4:8, 8:12].reshape(-1)  # the token of the second row, third column
    torch.testing.assert_close(found["tokens"][1, :, 1, 2], patch)


def test_losses_are_weighed_as_equation_11():
    targets, weights = torch.rand(2, 15, 16, 12), torch.ones(2, 15)
    model = build()
    out = model(clips())
    both = model.losses(out, targets, weights)["mutual_information"]
    model.alpha, model.beta = 0.1, 0.0
    first = model.losses(out, targets, weights)["mutual_information"]
    model.alpha, model.beta = 0.0, 0.01
    second = model.losses(out, targets, weights)["mutual_information"]
    torch.testing.assert_close(both, first + second)
    assert first.abs() > 0
    assert second.abs() > 0


def test_information_gradients_stay_in_the_fused_feature_and_the_merged_heatmaps():
    model = build(freeze_backbone=False)
    out = model(clips())
    losses = model.losses(out, torch.rand(2, 15, 16, 12), torch.ones(2, 15))
    fused, key = torch.autograd.grad(
        losses["mutual_information"],
        [out.extras["fused"], out.extras["key_feature"]],
        allow_unused=True,
        retain_graph=True,
    )
    assert fused is not None
    assert fused.any()
    assert key is None or not key.any()


@pytest.mark.parametrize(
    ("switches", "word"),
    [
        ({"head": "deep"}, "head"),
        ({"interval": 0}, "interval"),
        ({"theta": float("nan")}, "theta"),
        ({"matching": True, "backbone": "vit_24x1x2"}, "multiple of 16 channels"),
    ],
)
def test_bad_switches_are_refused(switches, word):
    with pytest.raises(InputError, match=word):
        build(**switches)
