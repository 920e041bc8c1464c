"""PoseWarper: its published size, its warp, propagation of given heatmaps, its switches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.counting import count, meta_model
from vidpose.models.factory import create_model
from vidpose.models.posewarper import PoseWarper, time_weights

SIZE = (96, 64)


def tiny(**switches) -> PoseWarper:
    torch.manual_seed(0)
    arguments = {"backbone": "hrnet_w8_small", "input_size": SIZE, "blocks": 3, "width": 16}
    model = create_model("posewarper", **{**arguments, **switches})
    assert isinstance(model, PoseWarper)
    nn.init.normal_(model.initial_head.final_layer.weight, std=0.1)  # an untrained one says almost nothing
    return model


def moving(**switches) -> PoseWarper:
    """A model whose warp is not the identity that it starts as."""
    model = tiny(**switches)
    with torch.no_grad():
        for name, parameter in model.head.named_parameters():
            parameter += (0.2 if "offsets" in name else 0.02) * torch.randn_like(parameter)
    return model


def draw(model, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)


def labels(model, batch=2, seed=2):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, model.num_frames, model.num_joints)
    points = torch.rand(*shape, 2, generator=generator) * (torch.tensor(model.heatmap_size[::-1]) - 1)
    return gaussian_heatmaps(points, torch.ones(shape), model.heatmap_size, model.sigma)


class Constant(nn.Module):
    """In place of a layer: the same (down, right) for every kernel point, joint and place."""

    def __init__(self, offset: tuple[float, float]) -> None:
        super().__init__()
        self.offset = torch.tensor(offset)

    def forward(self, x):
        joints_and_points = 15 * 9
        return self.offset.repeat(joints_and_points).view(1, -1, 1, 1).expand(len(x), -1, *x.shape[-2:])


# --- published size ----------------------------------------------------------------------------------


def test_trainable_parameters_are_the_published_number():
    model = meta_model("posewarper", num_joints=17)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 7_558_605
    assert sum(p.numel() for p in model.head.parameters()) == 7_558_605


def test_published_multiply_adds_are_three_frames_with_two_warps():
    # 210.5 as SDTC's Table 10 quotes it, in 1e9 and not in 2^30 multiply-adds.
    found = count(meta_model("posewarper", num_joints=17, num_frames=3, warp_key=False))
    assert found["macs"] / 1e9 == pytest.approx(210.5, rel=0.005)


# --- the warp ----------------------------------------------------------------------------------------


def test_warp_starts_as_the_identity():
    model = tiny().eval()
    heatmaps = labels(model)[:, 0]
    with torch.no_grad():
        warped = model.head.warper(heatmaps, labels(model, seed=5)[:, 0])
    torch.testing.assert_close(warped, heatmaps)


def test_warp_moves_heatmaps_by_its_offsets():
    warper = tiny().eval().head.warper
    warper.offsets = nn.ModuleList(Constant((2.0, -3.0)) for _ in warper.offsets)
    heatmaps = torch.rand(1, 15, 24, 16)
    with torch.no_grad():
        warped = warper(heatmaps, heatmaps)
    # Each place of the result is taken from 2 below and 3 to the left.
    torch.testing.assert_close(warped[..., :-2, 3:], heatmaps[..., 2:, :-3])
    assert max(warped[..., -2:, :].max(), warped[..., :3].max()) < 1e-4  # nothing comes from outside


def test_warps_of_all_dilations_are_averaged():
    warper = tiny().eval().head.warper
    right = [float(i) for i in range(5)]
    warper.offsets = nn.ModuleList(Constant((0.0, dx)) for dx in right)
    heatmaps = torch.zeros(1, 15, 24, 16)
    heatmaps[..., 10, 8] = 1
    with torch.no_grad():
        warped = warper(heatmaps, heatmaps)
    expected = torch.zeros_like(heatmaps)
    expected[..., 10, 4:9] = 0.2
    torch.testing.assert_close(warped, expected)


def test_offsets_come_from_the_difference_of_both_frames():
    warper = moving().eval().head.warper
    a, b, common, sampled = (torch.rand(1, 15, 24, 16) for _ in range(4))
    with torch.no_grad():
        base = warper(a, b, sampled)
        torch.testing.assert_close(warper(a + common, b + common, sampled), base, rtol=1e-3, atol=1e-4)
        assert (warper(b, a, sampled) - base).abs().max() > 1e-3


def test_joints_are_sampled_apart():
    model = tiny().eval()
    warper = model.head.warper
    nn.init.normal_(warper.offsets[0].weight, std=1.0)
    a, b, sampled = torch.rand(3, 1, 15, 24, 16).unbind()
    with torch.no_grad():
        base = warper(a, b, sampled)
        changed = sampled.clone()
        changed[:, 3] += torch.rand(24, 16)
        difference = (warper(a, b, changed) - base).abs().amax(dim=(0, 2, 3))
    assert difference[3] > 0.1  # identity kernels: no other joint hears of it
    assert not difference[[j for j in range(15) if j != 3]].any()


# --- aggregation -------------------------------------------------------------------------------------


def test_time_weights_are_the_released_ones_and_sum_to_one():
    assert time_weights(5) == pytest.approx([0.1, 0.25, 0.3, 0.25, 0.1])
    for frames in (3, 5, 7, 11):
        weights = time_weights(frames)
        assert sum(weights) == pytest.approx(1) and weights == weights[::-1]
        assert weights[: frames // 2 + 1] == sorted(weights[: frames // 2 + 1])


@pytest.mark.parametrize(
    ("aggregation", "weights"), [("weighted", [0.1, 0.25, 0.3, 0.25, 0.1]), ("mean", [0.2] * 5)]
)
def test_output_is_the_weighted_sum_of_the_frames_warps(aggregation, weights):
    model = moving(aggregation=aggregation).eval()
    clips = draw(model)
    with torch.no_grad():
        heatmaps = model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, (2, 5))
        warps = [model.head.warper(heatmaps[:, t], heatmaps[:, 2]) for t in range(5)]
        expected = sum(w * x for w, x in zip(weights, warps, strict=True))
        found = model(clips).heatmaps
    assert (warps[0] - heatmaps[:, 0]).abs().max() > 1e-2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_key_frame_may_stay_unwarped():
    model = moving(warp_key=False).eval()
    clips = draw(model)
    seen = []
    model.head.warper.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    with torch.no_grad():
        heatmaps = model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, (2, 5))
        found = model(clips).heatmaps
        rest = moving().eval()(clips).heatmaps
    assert len(seen[0][0]) == 2 * 4
    own = model.head.warper(heatmaps[:, 2], heatmaps[:, 2])
    torch.testing.assert_close(found - rest, 0.3 * (heatmaps[:, 2] - own), rtol=1e-3, atol=1e-4)


def test_a_still_clip_gives_no_difference():
    model = moving().eval()
    still = draw(model)[:, :1].expand(-1, 5, -1, -1, -1)
    seen = []
    model.head.warper.offset_features.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(still)
    assert len(seen) == 1 and not seen[0].any()


# --- propagation -------------------------------------------------------------------------------------


def test_given_heatmaps_are_what_is_warped():
    model = moving().eval()
    clips, given = draw(model), labels(model)
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 1] = True  # the second clip has no label
    with torch.no_grad():
        found = model(clips, given, mask).heatmaps
        heatmaps = model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, (2, 5))
        expected = model.head.warper(heatmaps[:1, 1], heatmaps[:1, 2], given[:1, 1])
        torch.testing.assert_close(found[:1], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[1:], model(clips[1:]).heatmaps, rtol=1e-4, atol=1e-5)


def test_several_given_frames_share_by_their_weights():
    model = tiny().eval()  # identity warps
    given = labels(model)
    mask = torch.tensor([[True, False, False, True, False]]).expand(2, -1)
    with torch.no_grad():
        found = model(draw(model), given, mask).heatmaps
        expected = (0.1 * given[:, 0] + 0.25 * given[:, 3]) / 0.35
        torch.testing.assert_close(found, expected)
        neighbours = torch.tensor([[True, True, False, True, True]]).expand(2, -1)
        torch.testing.assert_close(
            model(draw(model), given).heatmaps, model(draw(model), given, neighbours).heatmaps
        )


def test_given_heatmaps_of_another_shape_are_refused():
    model = tiny().eval()
    clips, given = draw(model), labels(model)
    with pytest.raises(ValueError, match="given_heatmaps must be"):
        model(clips, given[:, :3])
    with pytest.raises(ValueError, match="given_mask must be"):
        model(clips, given, torch.ones(2, 4, dtype=torch.bool))


# --- training ----------------------------------------------------------------------------------------


def test_training_warps_one_random_frame_of_each_clip():
    model = moving().train()
    model.head.warper.eval()  # the same statistics as below
    clips = draw(model, batch=8)
    heatmaps = model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, (8, 5))
    warps = torch.stack([model.head.warper(heatmaps[:, t], heatmaps[:, 2]) for t in range(5)], dim=1)
    drawn = set()
    for seed in range(3):
        torch.manual_seed(seed)
        out = model(clips).heatmaps
        distance = (warps - out[:, None]).abs().flatten(2).amax(dim=2)  # [B, T]
        assert (distance.amin(dim=1) < 1e-4).all()
        chosen = distance.argmin(dim=1).tolist()
        torch.manual_seed(seed)
        torch.testing.assert_close(model(clips).heatmaps, out)  # the same seed, the same draw
        drawn |= set(chosen)
    assert drawn == set(range(5))


def test_all_neighbours_are_trained_where_asked():
    model = moving(train_neighbour="all").train()
    model.head.warper.eval()
    clips = draw(model)
    trained = model(clips).heatmaps
    torch.testing.assert_close(trained, model.eval()(clips).heatmaps)


def test_labels_of_other_frames_do_not_train():
    model = moving().train()
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:, 4] = True
    clips, given = draw(model, 4), labels(model, 4)
    model.head.warper.eval()
    heatmaps = model.extract(clips.flatten(0, 1))["heatmaps"].unflatten(0, (4, 5))
    expected = model.head.warper(heatmaps[:, 4], heatmaps[:, 2], given[:, 4])
    torch.testing.assert_close(model(clips, given, mask).heatmaps, expected, rtol=1e-4, atol=1e-5)


def test_training_fits_moved_heatmaps():
    model = tiny(train_neighbour="all", num_frames=3).train()
    source = labels(model, 1)[:, 0]
    target = source.roll(2, dims=-1)
    warper = model.head.warper
    optimizer = torch.optim.Adam(warper.parameters(), 1e-2)
    first = last = None
    for _ in range(40):
        last = (warper(source, target) - target).square().mean()
        first = float(last.detach()) if first is None else first
        optimizer.zero_grad()
        last.backward()
        optimizer.step()
    assert float(last.detach()) < 0.5 * first


# --- switches ----------------------------------------------------------------------------------------


def test_switches_change_their_own_layers():
    base = {n: tuple(p.shape) for n, p in tiny().named_parameters()}
    for switches, changed in (
        ({"dilations": [3, 6]}, ("head.warper.offsets.", "head.warper.deform.")),
        ({"blocks": 2}, ("head.warper.offset_features.2.",)),
        ({"aggregation": "mean"}, ()),
        ({"train_neighbour": "all"}, ()),
        ({"warp_key": False}, ()),
    ):
        own = {n: tuple(p.shape) for n, p in tiny(**switches).named_parameters()}
        gone = {n for n in base if own.get(n) != base[n]}
        assert not set(own) - set(base)
        assert all(n.startswith(changed) for n in gone) and bool(gone) == bool(changed)
    assert [c.dilation for c in tiny(dilations=[3, 6]).head.warper.offsets] == [(3, 3), (6, 6)]


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"aggregation": "sum"}, "aggregation.*known are"),
        ({"train_neighbour": "next"}, "train_neighbour.*known are"),
        ({"dilations": []}, "dilations"),
        ({"dilations": [0]}, "dilations"),
        ({"blocks": 0}, "blocks"),
        ({"num_frames": 4}, "num_frames"),
    ],
)
def test_wrong_switches_are_refused(switches, words):
    with pytest.raises(InputError, match=words):
        tiny(**switches)
