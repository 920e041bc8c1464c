"""SDTC's modules against what its equations say."""

from __future__ import annotations

import pytest
import torch

from vidpose.errors import InputError
from vidpose.models.factory import create_model, load_weights, save_model
from vidpose.models.sdtc import (
    AdaptiveFusion,
    DividedAttention,
    JointAttention,
    SelfRefinement,
    SpatialMotionCrossAttention,
    random_mask,
)

SIZE = (64, 48)  # 4 x 3 tokens


def build(**switches):
    torch.manual_seed(0)
    model = create_model("sdtc", **{"backbone": "vit_32x1x2", "input_size": SIZE, **switches})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model


def clips(batch=2, frames=5):
    return torch.randn(batch, frames, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def names(model) -> set[str]:
    return {n for n, _ in model.head.named_parameters()}


# --- masks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "ratio", "hidden"), [(12, 0.5, 6), (5, 0.5, 2), (3, 0.9, 2), (5, 0.01, 1), (192, 0.75, 144)]
)
def test_mask_hides_the_rounded_ratio_but_never_all_or_none(count, ratio, hidden):
    mask = random_mask(50, count, ratio, torch.device("cpu"))
    assert mask.sum(dim=1).tolist() == [hidden] * 50


def test_masks_differ_between_clips_and_reach_every_place():
    mask = random_mask(400, 5, 0.5, torch.device("cpu"))
    assert len({tuple(row.tolist()) for row in mask}) == 10  # all choices of 2 out of 5
    assert (mask.float().mean(dim=0) - 0.4).abs().max() < 0.1


def test_tube_mask_is_the_same_in_all_frames_without_the_frame_level():
    model = build(frame_level=False)
    masked = model(clips()).extras["masked"]  # [B, T, L]
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    assert masked.sum(dim=(1, 2)).tolist() == [6 * 5, 6 * 5]


def test_masked_places_are_the_union_of_tubes_and_frames():
    masked = build()(clips(8)).extras["masked"]
    whole = masked.all(dim=2)  # hidden frames
    assert whole.sum(dim=1).tolist() == [2] * 8
    assert [int(m[~w].sum()) for m, w in zip(masked, whole, strict=True)] == [3 * 6] * 8


def test_nothing_is_masked_at_inference():
    model = build().eval()
    out = model(clips())
    assert not out.extras
    torch.testing.assert_close(model(clips()).heatmaps, out.heatmaps, rtol=0, atol=0)


def test_inference_is_training_without_masks():
    masked, plain = build().eval(), build(masking_ratio=0.0).eval()
    plain.load_state_dict(masked.state_dict(), strict=False)
    torch.testing.assert_close(plain(clips()).heatmaps, masked(clips()).heatmaps)


def test_masked_tokens_keep_their_places_and_frames():
    """Tokens that were all alike could not be recovered differently."""
    out = build()(clips(1))
    context, masked = out.extras["context"][0], out.extras["masked"][0].bool()  # [T, L, D], [T, L]
    hidden = context[masked]
    distances = torch.cdist(hidden, hidden) + torch.eye(len(hidden))
    assert distances.min() > 1e-3


def test_space_is_not_masked_but_motion_is():
    """The spatial feature of Sec. 3.2 is R itself; what masks change arrives through motion alone."""
    model = build(fusion="add")
    seen = []
    model.head.gather_space.register_forward_hook(lambda m, i, o: seen.append(("space", o.detach())))
    model.head.gather_motion.register_forward_hook(lambda m, i, o: seen.append(("motion", o.detach())))
    for seed in (0, 1):
        torch.manual_seed(seed)
        model(clips())
    space, motion = ([o for n, o in seen if n == what] for what in ("space", "motion"))
    torch.testing.assert_close(space[0], space[1], rtol=0, atol=0)
    assert not torch.allclose(motion[0], motion[1])


# --- losses ----------------------------------------------------------------------------------------------


def test_context_is_compared_at_masked_places_only():
    model = build(context_weight=2.0)
    out = model(clips())
    masked = out.extras["masked"].bool()
    target = torch.zeros(2, 15, 16, 12)
    error = (out.extras["context"] - out.extras["tokens"]).abs().mean(dim=-1)
    losses = model.losses(out, target, torch.ones(2, 15))
    torch.testing.assert_close(losses["context"], 2.0 * error[masked].mean())


def test_poses_are_compared_at_masked_places_of_labelled_frames():
    model = build()
    out = model(clips(1))
    targets = torch.rand(1, 5, 15, 16, 12)
    weights = torch.zeros(1, 5, 15)
    weights[0, 1, 4] = 1  # one joint of one neighbour
    out.extras["masked"].zero_()
    out.extras["masked"][0, 1, 7] = 1  # token in row 2, column 1 of 4 x 3
    patch = (slice(8, 12), slice(4, 8))
    expected = (out.extras["poses"][0, 1, 4][patch] - targets[0, 1, 4][patch]).square().mean()
    losses = model.losses(
        out, targets[:, 2], weights[:, 2], sequence_heatmaps=targets, sequence_weights=weights
    )
    torch.testing.assert_close(losses["pose"], expected)


def test_target_of_the_context_is_the_backbone_without_gradient():
    model = build(freeze_backbone=False)
    out = model(clips())
    tokens = model.backbone(clips().flatten(0, 1))["tokens"].flatten(2).transpose(1, 2)
    torch.testing.assert_close(out.extras["tokens"].flatten(0, 1), tokens)
    assert not out.extras["tokens"].requires_grad


def test_only_the_key_frame_has_a_label_where_no_sequence_is_given():
    model = build()
    out = model(clips())
    targets, weights = torch.rand(2, 15, 16, 12), torch.ones(2, 15)
    sequence = torch.rand(2, 5, 15, 16, 12)
    sequence[:, 2] = targets
    known = torch.zeros(2, 5, 15)
    known[:, 2] = 1
    given = model.losses(out, targets, weights, sequence_heatmaps=sequence, sequence_weights=known)
    torch.testing.assert_close(model.losses(out, targets, weights)["total"], given["total"])


# --- attention -------------------------------------------------------------------------------------------


def test_joint_attention_lets_every_token_see_every_frame():
    layer, x = JointAttention(32), torch.randn(1, 3, 4, 32)
    changed = x.clone()
    changed[0, 2, 3] += torch.randn(32)
    assert ((layer(changed) - layer(x)).abs().amax(dim=-1) > 1e-6).all()


def test_divided_attention_crosses_time_and_then_space():
    layer, x = DividedAttention(32), torch.randn(1, 3, 4, 32)
    layer.space.out.weight.data.zero_()  # without attention over space, a token sees its own place only
    changed = x.clone()
    changed[0, 2, 3] += torch.randn(32)
    reached = (layer(changed) - layer(x)).abs().amax(dim=-1)[0] > 1e-7
    assert reached[:, 3].all()
    assert not reached[:, :3].any()


def test_divided_attention_sees_space_within_a_frame():
    layer, x = DividedAttention(32), torch.randn(1, 3, 4, 32)
    layer.time.out.weight.data.zero_()
    changed = x.clone()
    changed[0, 2, 3] += torch.randn(32)
    reached = (layer(changed) - layer(x)).abs().amax(dim=-1)[0] > 1e-7
    assert reached[2].all()
    assert not reached[:2].any()


def test_self_refinement_computes_the_equations():
    layer = SelfRefinement(8).eval()
    x = torch.randn(1, 8, 4, 3)
    pixels = x[0].flatten(1)  # [C, HW]
    regions = torch.stack([torch.exp(p) / torch.exp(p).sum() for p in pixels.T], dim=1)  # Eq. 6
    context = torch.zeros(8, 8)
    for i in range(8):  # Eq. 7, each region with mass 1
        for j in range(8):
            context[i, j] = sum(pixels[i, n] * regions[j, n] for n in range(12)) / regions[j].sum()
    rows = []
    for n in range(12):  # Eq. 8
        weight = torch.softmax(pixels[:, n] @ context, dim=0)
        rows.append(context @ weight)
    refined = torch.stack(rows, dim=1).view(1, 8, 4, 3)
    torch.testing.assert_close(layer(x), x + layer.out(refined), rtol=1e-4, atol=1e-5)


def test_a_region_that_no_pixel_belongs_to_does_no_harm():
    layer = SelfRefinement(8).eval()
    x = torch.randn(1, 8, 4, 3)
    x[:, 5] = -1e4
    assert layer(x).isfinite().all()


def test_cross_attention_reads_the_guidance_and_keeps_the_source():
    layer = SpatialMotionCrossAttention(8).eval()
    source, guidance = torch.randn(1, 8, 4, 3), torch.randn(1, 8, 4, 3)
    layer.value.weight.data.zero_()
    layer.value.bias.data.fill_(3.0)  # weights of one query sum to 1: every pixel receives the same value
    torch.testing.assert_close(layer(source, guidance), layer.out(source + 3.0))


def test_fusion_weighs_each_feature_by_its_own_attention():
    layer = AdaptiveFusion(8).eval()
    space, motion = torch.randn(1, 8, 4, 3), torch.randn(1, 8, 4, 3)
    layer.weigh_space.weight.data.zero_()
    layer.weigh_space.bias.data.fill_(-100)  # sigmoid 0
    layer.weigh_motion.weight.data.zero_()
    layer.weigh_motion.bias.data.fill_(100)  # sigmoid 1
    torch.testing.assert_close(layer(space, motion), layer.motion(motion))


# --- switches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "absent", "new"),
    [
        ({"self_refinement": False}, "collaboration.refine_", ""),
        ({"cross_propagation": False}, "collaboration.to_", ""),
        ({"adaptive_fusion": False}, "collaboration.fuse.", ""),
        ({"frame_level": False}, "encoder.frame_", ""),
        ({"time_embedding": False}, "time", ""),
        ({"fusion": "add"}, "collaboration.", ""),
        ({"fusion": "conv"}, "collaboration.", "collaboration.conv"),
        ({"patch_level": False, "frame_level": False}, "encoder.", "encoder.blocks"),
        ({"motion": "flow", "flow": "dis"}, ("encoder.", "gather_motion."), "encoder."),
        ({"masking_ratio": 0.0}, ("encoder.decoder.", "encoder.patch_token", "encoder.frame_token"), ""),
    ],
)
def test_a_switch_changes_its_own_part_and_no_other(switches, absent, new):
    full, changed = names(build()), names(build(**switches))
    gone, added = full - changed, changed - full
    assert gone
    assert all(n.startswith(absent) for n in gone)
    assert all(new and n.startswith(new) for n in added)


def test_classic_head_is_deconvolutions_in_place_of_interpolation():
    simple, classic = names(build()), names(build(head="classic", head_width=16))
    assert {n.split(".")[0] for n in simple ^ classic} == {"heatmaps"}
    assert build(head="classic", head_width=16).eval()(clips()).heatmaps.shape == (2, 15, 16, 12)


@pytest.mark.parametrize("head", ["simple", "classic"])
def test_the_detection_head_starts_from_a_single_frame_model(tmp_path, head):
    torch.manual_seed(5)
    arguments = {"backbone": "vit_32x1x2", "input_size": SIZE, "head": head, "head_width": 16}
    single = create_model("vitpose", **arguments)
    save_model(single.eval(), tmp_path / "single.safetensors")
    model = build(**arguments, width=16)
    report = load_weights(model, tmp_path / "single.safetensors")
    assert not report.head_loaded and report.borrowed  # the method itself is still untrained
    with torch.no_grad():
        for parameter in model.head.to_tokens.parameters():
            parameter.zero_()  # nothing aggregated: the single-frame model is left
        theirs, ours = single(clips()).heatmaps, model.eval()(clips()).heatmaps
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs)


def test_space_embedding_is_added_and_not_learned():
    on, off = build().eval(), build(space_embedding=False).eval()
    off.load_state_dict(on.state_dict())
    assert not torch.allclose(on(clips()).heatmaps, off(clips()).heatmaps)


def test_without_time_embedding_past_and_future_are_told_apart_by_the_last_convolution_only():
    """Attention over time does not know an order; frames get their places when they are concatenated."""
    with_time, without = build().eval(), build(time_embedding=False).eval()
    order = [4, 3, 2, 1, 0]

    def motion(model, x):
        found = []
        hook = model.head.encoder.register_forward_hook(lambda m, i, o: found.append(o[0]))
        model(x)
        hook.remove()
        return found[0]

    x = clips()
    torch.testing.assert_close(
        motion(without, x[:, order]), motion(without, x)[:, order], rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(motion(with_time, x[:, order]), motion(with_time, x)[:, order], atol=1e-3)
    assert not torch.allclose(without(x[:, order]).heatmaps, without(x).heatmaps, atol=1e-4)


def test_loss_ratio_scales_the_context_alone():
    one, ten = build(context_weight=1.0), build(context_weight=10.0)
    targets, weights = torch.rand(2, 15, 16, 12), torch.ones(2, 15)
    found = []
    for model in (one, ten):
        torch.manual_seed(5)
        found.append(model.losses(model(clips()), targets, weights))
    torch.testing.assert_close(found[1]["context"], 10 * found[0]["context"])
    torch.testing.assert_close(found[1]["pose"], found[0]["pose"])
    torch.testing.assert_close(found[1]["heatmap"], found[0]["heatmap"])


@pytest.mark.parametrize(
    ("switches", "word"),
    [
        ({"motion": "fast"}, "motion"),
        ({"fusion": "mix"}, "fusion"),
        ({"masking_ratio": 1.0}, "masking_ratio"),
        ({"head": "deep"}, "head"),
        ({"layers": 0}, "layers"),
        ({"width": 0}, "width"),
        ({"patch_level": False}, "frame_level"),
    ],
)
def test_bad_switches_are_refused(switches, word):
    with pytest.raises(InputError, match=word):
        build(**switches)
