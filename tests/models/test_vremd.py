"""VREMD: its masks, its deformable cross attention, wiring, switches; all ways of running it agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models import vremd
from vidpose.models.attention import maps_of, tokens_of
from vidpose.models.factory import create_model, load_model, load_weights, save_model
from vidpose.models.video_model import heatmap_loss
from vidpose.models.vremd import VREMD

SIZE = (64, 48)
GRID = (4, 3)
DIM = 32


def shake(module, std=0.1, seed=3):
    """Moves every parameter: fresh layers say almost nothing, and these tests look at what they pass on."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += std * torch.randn(parameter.shape, generator=generator)
    return module


def tiny(**switches) -> VREMD:
    torch.manual_seed(0)
    arguments = {"backbone": "vit_32x1x2", "num_joints": 5, "input_size": SIZE, "head_width": 16}
    model = create_model("vremd", **{**arguments, **switches})
    assert isinstance(model, VREMD)
    shake(model.head)
    return model


def draw(model, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)
    size = torch.tensor(model.heatmap_size[::-1])
    points = torch.rand(batch, model.num_joints, 2, generator=generator) * (size - 1)
    targets = gaussian_heatmaps(points, torch.ones(points.shape[:2]), model.heatmap_size, model.sigma)
    weights = torch.ones(batch, model.num_joints)
    weights[0, 0] = 0
    return clips, targets, weights


def random(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen_by(module, run):
    """What ``module`` is called with first, while ``run`` runs."""
    inputs = []
    hook = module.register_forward_pre_hook(lambda _, given: inputs.append(given))
    with torch.no_grad():
        run()
    hook.remove()
    return inputs[0]


def dead(module):
    """Parameters without a gradient, or with one that is rounding alone."""
    return [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-8]


def shapes(model):
    return {n: tuple(p.shape) for n, p in model.named_parameters()}


# --- masks (Eqs. 1, 2) -------------------------------------------------------------------------------


def test_human_mask_is_the_product_with_the_class_token():
    visual, token = random(2, 3, 12, 8), random(2, 3, 1, 8, seed=5)
    mask = vremd.human_mask(visual, token)
    assert mask.shape == (2, 3, 12, 1)
    for b, t, place in ((0, 0, 0), (1, 2, 11), (1, 0, 5)):
        expected = sum(visual[b, t, place, c] * token[b, t, 0, c] for c in range(8)) / 8**0.5
        torch.testing.assert_close(mask[b, t, place, 0], expected)


def test_keypoint_mask_is_the_sum_of_one_softmax_per_token():
    visual, tokens = random(2, 36, 8), random(2, 15, 8, seed=5)
    mask = vremd.keypoint_mask(visual, tokens)
    assert mask.shape == (2, 36, 1)
    expected = torch.zeros(2, 36)
    for token in tokens.unbind(1):
        score = torch.stack([(visual[:, s] * token).sum(-1) for s in range(36)], dim=1) / 8**0.5
        expected += score.exp() / score.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(expected.sum(dim=1), torch.full((2,), 15.0))
    torch.testing.assert_close(mask[..., 0], expected * 36 / 15)
    torch.testing.assert_close(mask.mean(dim=1), torch.ones(2, 1))


def test_human_mask_sees_each_frame_by_itself():
    module = tiny().head.enhance.human
    frames = random(2, 3, 12, DIM)
    changed = frames.clone()
    changed[:, 1] += random(2, 12, DIM, seed=9)
    with torch.no_grad():
        difference = (module(changed) - module(frames)).abs().amax(dim=(0, 2, 3))
    assert difference[1] > 1e-2 and not difference[[0, 2]].any()


def test_keypoint_tokens_see_all_frames():
    module = tiny().head.enhance.keypoint
    frames = random(2, 3, 12, DIM)
    changed = frames.clone()
    changed[:, 2] += random(2, 12, DIM, seed=9)
    with torch.no_grad():
        (refined, tokens), (other, moved) = module(frames), module(changed)
    assert refined.shape == frames.shape and tokens.shape == (2, 3, 5, DIM)
    assert ((refined - other).abs().amax(dim=(0, 2, 3)) > 1e-3).all()
    assert ((tokens - moved).abs().amax(dim=(0, 2, 3)) > 1e-3).all()


@pytest.mark.parametrize("part", ["human", "keypoint"])
def test_masks_weigh_the_features_that_the_blocks_give(part):
    module = getattr(tiny().head.enhance, part)
    found = []
    module.norm.register_forward_hook(lambda *given: found.append(given[-1]))
    frames = random(2, 3, 12, DIM)
    with torch.no_grad():
        out = module(frames)
    if part == "human":
        visual = found[0].unflatten(0, (2, 3))[:, :, 1:]
        weights = out / visual
    else:
        weights = out[0] / found[0][:, -36:].unflatten(1, (3, 12))
        assert (weights > 0).all()
    spread = weights.amax(dim=-1) - weights.amin(dim=-1)  # one weight for all channels of a token
    assert (spread < 1e-3 * weights.abs().amax(dim=-1)).all()
    assert weights.std() > 1e-3


def test_keypoint_heatmaps_are_read_from_the_key_frames_tokens():
    model = tiny(num_frames=5).eval()
    tokens = random(2, 5, 5, DIM)
    model.head.enhance.keypoint.register_forward_hook(lambda _, __, out: (out[0], tokens))
    clips, *_ = draw(model)
    (given,) = seen_by(model.head.keypoint_heatmaps, lambda: model(clips))
    assert torch.equal(given, tokens[:, 2])


def test_aggregation_is_spatial_in_each_frame_then_temporal_at_each_place():
    module = tiny().head.enhance.aggregate
    frames = random(2, 3, 12, DIM)
    changed = frames.clone()
    changed[0, 1, 4] += random(DIM, seed=9)
    given = [
        seen_by(module.temporal, lambda x=x: module(x))[0].view(2, 12, 3, DIM) for x in (frames, changed)
    ]
    moved = (given[0] - given[1]).abs().amax(dim=-1) > 1e-6
    assert moved[0, :, 1].all() and not moved[0, :, [0, 2]].any() and not moved[1].any()
    sequence = random(24, 3, DIM)
    module.spatial, module.temporal = nn.Identity(), nn.Identity()
    with torch.no_grad():
        out = module(sequence.view(2, 12, 3, DIM).transpose(1, 2))
        torch.testing.assert_close(out[1, 5], module.mlp(sequence[12 + 5].T)[:, 0])


# --- deformable cross attention (Eq. 4) ----------------------------------------------------------------


def bilinear(image, x, y):
    """image [C, h, w] at pixel coordinates; 0 outside."""
    total = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return total


def test_dca_is_equation_4():
    torch.manual_seed(0)
    dim, heads, samples = 16, 2, 3
    height, width = GRID
    layer = shake(vremd.DeformableCrossAttention(dim, heads, GRID, samples), 0.3).double()
    x, enhanced = random(1, 12, dim).double(), random(1, 12, dim, seed=7).double()
    with torch.no_grad():
        found = layer(x, enhanced)
        q, z = (m.weight @ t[0].T for m, t in ((layer.query, x), (layer.constraint, enhanced)))  # [D, L]
        q, z = q.view(heads, -1, *GRID), z.view(heads, -1, *GRID)
        both = torch.cat([q, z], dim=1).flatten(0, 1)[None]
        offset = layer.offset(F.gelu(layer.context(both)))[0].tanh().view(heads, samples, 2, *GRID)
        image = x[0].T.view(dim, height, width)
        expected = torch.zeros(12, dim, dtype=torch.float64)
        for head in range(heads):
            own = slice(head * 8, head * 8 + 8)
            for place in range(12):
                row, column = divmod(place, width)
                moves = offset[head, :, :, row, column]
                sampled = [
                    bilinear(image, column + u * width / 2, row + v * height / 2) for u, v in moves.tolist()
                ]
                keys = torch.stack([layer.key.weight[own] @ s for s in sampled])  # W_k after sampling
                values = torch.stack([layer.value.weight[own] @ s for s in sampled])
                weights = (keys @ q[head, :, row, column] / 8**0.5).softmax(dim=0)
                expected[place, own] = weights @ values
    assert expected.std() > 1e-2
    torch.testing.assert_close(found[0], expected)


def test_places_start_apart_and_stay_near_by():
    layer = vremd.DeformableCrossAttention(64, 4, (16, 12), 4)
    start = layer.offset.bias.detach().tanh().view(4, 4, 2) * torch.tensor([6.0, 8.0])  # in tokens
    distance = start.norm(dim=-1)
    torch.testing.assert_close(distance, torch.arange(1.0, 5).expand(4, -1))
    assert len({tuple(p) for p in start.flatten(0, 1).round(decimals=3).tolist()}) == 16


def test_the_constraint_moves_the_places_of_dca_and_not_those_of_plain_deformable_attention():
    x, first, second = random(1, 12, DIM), random(1, 12, DIM, seed=7), random(1, 12, DIM, seed=8)
    with torch.no_grad():
        layer = shake(vremd.DeformableCrossAttention(DIM, 2, GRID, 4))
        assert (layer(x, first) - layer(x, second)).abs().max() > 1e-3
        layer = shake(vremd.DeformableAttention(DIM, 2, GRID, 4))
        assert torch.equal(layer(x, first), layer(x, second))


@pytest.mark.parametrize("kind", [vremd.DeformableCrossAttention, vremd.DeformableAttention])
def test_without_motion_deformable_attention_finds_nothing(kind):
    layer = shake(kind(DIM, 2, GRID, 4))
    assert not layer(torch.zeros(1, 12, DIM), random(1, 12, DIM)).any()


def test_attention_over_samples_sums_to_one():
    layer = vremd.DeformableCrossAttention(DIM, 2, (8, 8), 4)
    with torch.no_grad():  # samples stay inside of the map: the middle sees the same motion everywhere
        out = layer(random(1, 1, DIM).expand(1, 64, DIM), random(1, 64, DIM)).view(8, 8, DIM)
        same = layer.value(random(1, 1, DIM))[0, 0]
    nn.init.zeros_(layer.offset.weight)
    nn.init.zeros_(layer.offset.bias)
    with torch.no_grad():
        inside = layer(random(1, 1, DIM).expand(1, 64, DIM), random(1, 64, DIM)).view(64, DIM)
    torch.testing.assert_close(inside, same.expand(64, -1))
    assert not torch.allclose(out[0, 0], same)  # some places of a corner are outside, where motion is 0


# --- wiring ------------------------------------------------------------------------------------------


def test_gradients_reach_every_parameter():
    model = tiny(freeze_backbone=False).train()
    clips, targets, weights = draw(model, batch=3)
    model.losses(model(clips), targets, weights)["total"].backward()
    # transformers' ViT has a bias that its softmax takes away.
    assert [n for n in dead(model) if not n.endswith("attention.attention.key.bias")] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    tokens = [model.head.enhance.human.token, model.head.enhance.keypoint.tokens, model.head.enhance.time]
    assert all((t.grad.abs().flatten(1).amax(dim=1) > 0).all() for t in tokens)  # those of every frame


def test_motion_is_the_difference_to_the_key_frame():
    model = tiny(hkme=False).eval()
    clips, *_ = draw(model)
    given, _ = seen_by(model.head.disentangle.blocks[0], lambda: model(clips))
    with torch.no_grad():
        before, key, after = model.extract(clips.flatten(0, 1))["tokens"].unflatten(0, (2, 3)).unbind(1)
    expected = torch.cat([after - key, before - key], dim=1).flatten(2).transpose(1, 2)
    torch.testing.assert_close(given, expected)


@pytest.mark.parametrize("switches", [{}, {"bidirectional": False}, {"num_frames": 7}], ids=str)
def test_a_still_clip_has_no_motion(switches):
    model = tiny(**switches).eval()
    still = draw(model)[0][:, :1].expand(-1, model.num_frames, -1, -1, -1)
    motion, _ = seen_by(model.head.disentangle.blocks[0], lambda: model(still))
    assert motion.shape == (2, 12, DIM * (1 if "bidirectional" in switches else 2))
    assert not motion.any()


@pytest.mark.parametrize(("bidirectional", "apart"), [(True, True), (False, False)])
def test_directions_are_separate_until_they_are_fused(bidirectional, apart):
    model = tiny(hkme=False, bidirectional=bidirectional).eval()
    clips, *_ = draw(model)
    past = clips.clone()
    past[:, 0] += 1
    before, after = (seen_by(model.head.disentangle.fuse, lambda c=c: model(c))[0] for c in (clips, past))
    changed = (before - after).abs().amax(dim=(0, 1)) > 1e-5
    assert changed[-DIM:].any()
    assert (not changed[:DIM].any()) == apart  # M_f stands first


def test_the_constraint_is_the_enhanced_feature_or_the_key_frames():
    for switches in ({}, {"hkme": False}):
        model = tiny(**switches).eval()
        clips, *_ = draw(model)
        _, constraint = seen_by(model.head.disentangle.blocks[0], lambda m=model, c=clips: m(c))
        frames = model.extract(clips.flatten(0, 1))["tokens"].flatten(2).transpose(1, 2).unflatten(0, (2, 3))
        with torch.no_grad():
            expected = model.head.enhance(frames)[0] if model.head.enhance else frames[:, 1]
        torch.testing.assert_close(constraint, expected)


@pytest.mark.parametrize(
    "switches",
    [{}, {"hkme": False}, {"bmd": False}, {"motion": "deformable_conv"}, {"num_frames": 5}],
    ids=str,
)
def test_order_of_frames_matters_and_order_of_clips_does_not(switches):
    model = tiny(**switches).eval()
    clips, *_ = draw(model, batch=3)
    frames = model.num_frames
    order = list(range(frames))
    swapped = [order[1::-1] + order[2:], order[::-1]]  # one with its neighbour; past and future
    with torch.no_grad():
        base = model(clips).heatmaps
        assert base.shape == (3, 5, 16, 12)
        torch.testing.assert_close(model(clips[[2, 0, 1]]).heatmaps, base[[2, 0, 1]], rtol=1e-4, atol=1e-4)
        for other in swapped:
            assert (model(clips[:, other]).heatmaps - base).abs().max() > 1e-3
        for frame in range(frames):
            changed = clips.clone()
            changed[:, frame] += random(3, 64, 48)
            assert (model(changed).heatmaps - base).abs().max() > 1e-3


def test_heatmaps_are_decoded_from_motion_and_the_key_frame():
    clips, *_ = draw(tiny())
    for switches, part in (
        ({}, "disentangle"),
        ({"hkme": False}, "disentangle"),
        ({"bmd": False}, "enhance"),
    ):
        model = tiny(**switches).eval()
        found = []
        getattr(model.head, part).register_forward_hook(lambda *given, f=found: f.append(given[-1]))
        (both,) = seen_by(model.head.gather, lambda m=model: m(clips))
        first = found[0] if part == "disentangle" else found[0][0]
        torch.testing.assert_close(both[..., :DIM], first)  # M, or F
        with torch.no_grad():
            key = model.extract(clips[:, 1])["tokens"].flatten(2).transpose(1, 2)
        torch.testing.assert_close(both[..., DIM:], key)  # F_t


@pytest.mark.parametrize("width", [None, 64])
def test_heatmaps_of_motion_start_from_a_single_frame_head(tmp_path, width):
    torch.manual_seed(5)
    single = create_model("vitpose", backbone="vit_32x1x2", input_size=SIZE, num_joints=15, head_width=16)
    shake(single)
    save_model(single.eval(), tmp_path / "single.safetensors")
    model = create_model("vremd", backbone="vit_32x1x2", input_size=SIZE, head_width=16, width=width)
    report = load_weights(model, tmp_path / "single.safetensors")
    assert not report.head_loaded and report.borrowed  # the method itself is still untrained
    assert all(name.startswith("head.motion_heatmaps.") for name in report.borrowed)
    clips = torch.randn(2, 3, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.eval().head.gather.weight[:, : width or DIM] = 0  # without motion: a single-frame model
        key = tokens_of(model.extract(clips[:, 1])["tokens"])
        maps = maps_of(model.head.gather(torch.cat([torch.ones(2, 12, width or DIM), key], dim=-1)), GRID)
        heatmaps = model.head.motion_heatmaps.decode(maps)
        torch.testing.assert_close(heatmaps, single(clips).heatmaps, atol=1e-5, rtol=1e-5)


def test_a_single_frame_head_of_another_size_is_left_out_whole(tmp_path):
    single = create_model("vitpose", backbone="vit_32x1x2", input_size=SIZE, num_joints=15, head_width=24)
    save_model(single, tmp_path / "single.safetensors")
    model = create_model("vremd", backbone="vit_32x1x2", input_size=SIZE, head_width=16)
    before = {name: value.clone() for name, value in model.head.state_dict().items()}
    report = load_weights(model, tmp_path / "single.safetensors")
    assert not report.borrowed
    assert all(torch.equal(value, before[name]) for name, value in model.head.state_dict().items())


def test_keypoint_tokens_know_the_frames_apart_without_the_human_mask():
    model = tiny(bmd=False, human_mask=False).eval()
    clips, *_ = draw(model)
    tokens = [seen_by(model.head.keypoint_heatmaps, lambda c=c: model(c))[0] for c in (clips, clips.flip(1))]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_the_baseline_sees_the_key_frame_alone():
    model = tiny(hkme=False, bmd=False).eval()
    assert {n.split(".")[1] for n in shapes(model) if n.startswith("head.")} == {"motion_heatmaps"}
    clips, *_ = draw(model)
    with torch.no_grad():
        base = model(clips).heatmaps
        clips[:, [0, 2]] = 0
        torch.testing.assert_close(model(clips).heatmaps, base)


def test_frozen_backbone_never_changes():
    model = tiny().train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    head = {k: v.clone() for k, v in model.head.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 2e-3)
    clips, targets, weights = draw(model)
    losses = []
    for _ in range(8):
        losses.append(model.losses(model(clips), targets, weights)["total"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert all(not torch.equal(v, head[k]) for k, v in model.head.state_dict().items())
    assert losses[-1] < losses[0]


# --- loss (Eq. 5) --------------------------------------------------------------------------------------


def test_the_heatmap_is_the_mean_of_both_and_the_loss_is_on_it():
    model = tiny().train()
    clips, targets, weights = draw(model)
    out = model(clips)
    assert set(out.extras) == {"keypoint_heatmap", "motion_heatmap"}
    torch.testing.assert_close(out.heatmaps, torch.stack(list(out.extras.values())).mean(dim=0))
    losses = model.losses(out, targets, weights)
    assert set(losses) == {"heatmap", "total"}
    torch.testing.assert_close(losses["total"], heatmap_loss(out.heatmaps, targets, weights))


def test_supervise_each_adds_the_loss_of_each():
    model = tiny(supervise_each=True).train()
    clips, targets, weights = draw(model)
    out = model(clips)
    losses = model.losses(out, targets, weights)
    parts = [heatmap_loss(h, targets, weights) for h in (out.heatmaps, *out.extras.values())]
    torch.testing.assert_close(losses["total"], sum(parts))
    assert set(losses) == {"heatmap", "keypoint_heatmap", "motion_heatmap", "total"}
    with torch.no_grad():
        model.eval()
        assert set(model.losses(model(clips), targets, weights)) == {"heatmap", "total"}


def test_unlabelled_joints_train_nothing():
    model = tiny(supervise_each=True).train()
    clips, targets, _ = draw(model)
    total = model.losses(model(clips), targets, torch.zeros(2, 5))["total"]
    total.backward()
    assert float(total.detach()) == 0 and not any(p.grad.any() for p in model.head.parameters())


# --- switches ----------------------------------------------------------------------------------------

ADC = tuple(f"head.disentangle.blocks.{b}.branches.{d}." for b in (0, 1) for d in (0, 1))
DEFORMABLE = tuple(f"{branch}deformable." for branch in ADC)
SECOND = tuple(f"head.disentangle.blocks.{b}.branches.1." for b in (0, 1))
CHANGES = [
    # switch, parameters that may go or change, parameters that may come
    ({"hkme": False}, ("head.enhance.", "head.keypoint_heatmaps."), ()),
    ({"bmd": False}, ("head.disentangle.",), ()),
    ({"human_mask": False}, ("head.enhance.human.",), ()),
    ({"keypoint_mask": False}, ("head.enhance.keypoint.", "head.keypoint_heatmaps."), ()),
    ({"motion": "deformable_attention"}, DEFORMABLE, DEFORMABLE),
    ({"motion": "deformable_conv"}, ADC, ADC),
    (
        {"bidirectional": False},
        (*SECOND, "head.disentangle.fuse."),
        ("head.disentangle.merge.", "head.disentangle.fuse."),
    ),
    ({"supervise_each": True}, (), ()),
    ({"human_depth": 1}, ("head.enhance.human.blocks.1.",), ()),
    ({"keypoint_depth": 3}, (), ("head.enhance.keypoint.blocks.2.",)),
    (
        {"aggregation_depth": 2},
        (),
        ("head.enhance.aggregate.spatial.1.", "head.enhance.aggregate.temporal.1."),
    ),
    ({"adc_depth": 1}, ("head.disentangle.blocks.1.",), ()),
    (
        {"num_samples": 9},
        tuple(f"{d}offset." for d in DEFORMABLE),
        tuple(f"{d}offset." for d in DEFORMABLE),
    ),
    ({"head_width": 8}, ("head.motion_heatmaps.",), ("head.motion_heatmaps.",)),
]


@pytest.mark.parametrize(("switches", "gone", "come"), CHANGES, ids=lambda v: str(v)[:40])
def test_a_switch_changes_what_it_names_and_nothing_else(switches, gone, come):
    base, model = shapes(tiny()), tiny(**switches)
    own = shapes(model)
    removed = {n for n, s in base.items() if own.get(n) != s}
    added = {n for n, s in own.items() if base.get(n) != s}
    assert all(n.startswith(gone) for n in removed)
    assert all(n.startswith(come) for n in added)
    assert all(any(n.startswith(p) for n in removed) for p in gone)
    assert all(any(n.startswith(p) for n in added) for p in come)
    clips, targets, weights = draw(model)
    losses = model.train().losses(model(clips), targets, weights)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert dead(model.head) == []


def test_masks_alone_leave_the_aggregation_where_they_are_off():
    enhance = tiny(human_mask=False, keypoint_mask=False).head.enhance
    frames = random(2, 3, 12, DIM)
    with torch.no_grad():
        enhanced, tokens = enhance(frames)
        torch.testing.assert_close(enhanced, enhance.aggregate(frames + enhance.time))
    assert tokens is None and enhanced.shape == (2, 12, DIM)


def test_another_width_projects_the_tokens():
    assert not isinstance(tiny().head.project, nn.Linear)
    model = tiny(width=24)
    assert model.head.project.weight.shape == (24, 32)
    assert model.head.disentangle.fuse.weight.shape == (24, 48)
    assert model(draw(model)[0]).heatmaps.shape == (2, 5, 16, 12)


def test_an_unknown_motion_names_the_known_ones():
    with pytest.raises(InputError, match=r"motion.*known are dca, deformable_attention, deformable_conv"):
        tiny(motion="flow")


@pytest.mark.parametrize(
    "switch", ["human_depth", "keypoint_depth", "aggregation_depth", "adc_depth", "num_samples", "width"]
)
def test_sizes_below_one_are_refused(switch):
    with pytest.raises(InputError, match=f"{switch} is 0"):
        tiny(**{switch: 0})


def test_even_and_short_clips_are_refused():
    for frames in (1, 4):
        with pytest.raises(InputError, match="num_frames"):
            tiny(num_frames=frames)


# --- ways of running it ------------------------------------------------------------------------------


@pytest.mark.parametrize("frames, joints, size", [(3, 17, (48, 64)), (7, 1, (32, 32)), (5, 14, (96, 64))])
def test_other_lengths_joint_sets_and_sizes(frames, joints, size):
    model = tiny(num_frames=frames, num_joints=joints, input_size=size)
    clips, targets, weights = draw(model)
    out = model.train()(clips)
    assert out.heatmaps.shape == (2, joints, size[0] // 4, size[1] // 4)
    model.losses(out, targets, weights)["total"].backward()
    assert dead(model.head) == []


@pytest.mark.parametrize("switches", [{}, {"bmd": False, "num_frames": 5}], ids=str)
def test_head_of_extracted_frames_is_forward(switches):
    model = tiny(**switches).eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        expected = model(clips)
        features = model.extract(clips.flatten(0, 1))
        torch.testing.assert_close(model.head(features).heatmaps, expected.heatmaps)
        one_by_one = [model.extract(frame[None]) for frame in clips.flatten(0, 1)]
        cached = {k: torch.cat([f[k] for f in one_by_one]) for k in features}
        torch.testing.assert_close(model.head(cached).heatmaps, expected.heatmaps, rtol=1e-4, atol=1e-4)
    assert expected.extras == {}


def test_saved_and_loaded_model_is_the_same(tmp_path):
    model = tiny(width=16, motion="deformable_attention", bidirectional=False, adc_depth=1).eval()
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    clips, *_ = draw(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(clips).heatmaps, model(clips).heatmaps)


@pytest.mark.parametrize("motion", ["dca", "deformable_attention", "deformable_conv"])
def test_bfloat16_is_close(motion):
    model = tiny(motion=motion).eval()
    for module in model.modules():
        if isinstance(module, vremd.DeformableConvolutionBranch):  # those of tiny() reach over the whole map
            nn.init.normal_(module.offset.weight, std=0.01)
    clips, *_ = draw(model)
    with torch.no_grad():
        expected = model(clips).heatmaps
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(clips).heatmaps.float()
        short = model.bfloat16()(clips.bfloat16()).heatmaps.float()
    scale = expected.std()
    assert (mixed - expected).abs().mean() < 0.05 * scale
    assert (short - expected).abs().mean() < 0.05 * scale
