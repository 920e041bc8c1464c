"""TDMI: its published size, its wiring, its switches, and that every way of running it agrees."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vidpose.data.clips import ClipDataset, collate_clips, ground_truth_samples, prepare_clips
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.factory import create_model, load_model, save_model
from vidpose.models.flow import clip_flow, create_flow, dis_flow
from vidpose.models.information import gradient_norm
from vidpose.models.tdmi import TDMI
from vidpose.models.video_model import count_parameters
from vidpose.synthetic import synthesize

SIZE = (64, 64)


def tiny(name="tdmi", **switches) -> TDMI:
    torch.manual_seed(0)
    arguments = {"backbone": "hrnet_w8_small", "num_frames": 5, "num_joints": 15, "input_size": SIZE}
    model = create_model(name, **{**arguments, **switches})
    assert isinstance(model, TDMI)
    # An untrained last layer says almost nothing; these tests look at what reaches it.
    torch.nn.init.normal_(model.head.heatmaps.weight, std=0.1)
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


def shapes(model, prefix=""):
    return {n: tuple(p.shape) for n, p in model.named_parameters() if n.startswith(prefix)}


# --- published size ----------------------------------------------------------------------------------


def cost(**switches):
    """Trainable parameters with and without the MI heads, multiply-adds of the backbone and of all."""
    with torch.device("meta"):
        model = create_model("tdmi", **switches).eval()
        with FlopCounterMode(display=False) as counter:
            features = model.extract(torch.empty(5, 3, *model.input_size))
        backbone = counter.get_total_flops() // 2
        with FlopCounterMode(display=False) as counter:
            model.head(features)
    head = counter.get_total_flops() // 2
    return count_parameters(model, trainable=True), count_parameters(model.head), backbone, backbone + head


def test_size_is_the_published_one():
    trainable, head, backbone, total = cost()
    assert trainable == pytest.approx(5.3e6, rel=0.05)
    assert head == pytest.approx(5.3e6, rel=0.05)  # without the mutual-information heads
    # The published GFLOPs of HRNet, and so those of TDMI, are 2^30 multiply-adds: 32.9 for one frame.
    assert backbone / 5 / 2**30 == pytest.approx(32.9, abs=0.05)
    assert total / 2**30 == pytest.approx(198, rel=0.05)


def test_light_variant_and_other_widths():
    with torch.device("meta"):
        light = create_model("tdmi", width=48)
    assert 1.8e6 < count_parameters(light, trainable=True) < 2.4e6
    assert tiny().head.enhance[0].conv1.out_channels == 8  # as many as the backbone
    assert tiny(width=20).head.enhance[0].conv1.out_channels == 20


# --- wiring ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tdmi", "tdmi_st"])
def test_gradients_reach_every_parameter_by_its_own_loss(name):
    model = tiny(name, freeze_backbone=False).train()
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # a backbone's residual branches start at zero
            torch.nn.init.ones_(module.weight)
    clips, targets, weights = draw(model, batch=3)
    losses = model.losses(model(clips), targets, weights)
    parameters = dict(model.named_parameters())

    def reached(loss):
        grads = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        assert all(torch.isfinite(g).all() for g in grads if g is not None)
        return {n for n, g in zip(parameters, grads, strict=True) if g is not None and bool(g.any())}

    own = {
        part: {n for n in parameters if n.startswith(part)} for part in ("head.factors.noisy", "information")
    }
    assert reached(losses["heatmap"]) == set(parameters) - own["head.factors.noisy"] - own["information"]
    objective = reached(losses["mutual_information"])
    assert objective.isdisjoint(own["information"] | {"head.heatmaps.weight"})
    assert objective >= own["head.factors.noisy"] | {n for n in parameters if n.startswith("head.encoder")}
    assert reached(losses["information_fit"]) == own["information"]
    assert reached(losses["total"]) == set(parameters)
    total = losses["heatmap"] + losses["mutual_information"] + losses["information_fit"]
    torch.testing.assert_close(losses["total"], total)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Eight augmented clips of synthetic people at the size of the small recipe: clips, targets, weights."""
    root = tmp_path_factory.mktemp("people")
    synthesize(root, videos=2, frames=5, seed=0, split="val", size=(180, 320), quiet=True)
    data = read_dataset(root, "val")
    samples = ground_truth_samples(data)[::4][:8]
    sizes = {"num_frames": 5, "input_size": (128, 96), "heatmap_size": (32, 24)}
    clips = ClipDataset(data, samples, **sizes, augment="uniform")
    batch = collate_clips([clips[i] for i in range(len(clips))])
    points, weights = batch["points"][:, 2], batch["weights"][:, 2]
    return prepare_clips(batch["clips"]), gaussian_heatmaps(points, weights, (32, 24), 2.0), weights


# What public code computes averages over positions, so that its gradient falls with the size of the map and
# depends on the features: below 1 at the published size and on a trained small backbone, above 1 on the
# features of an untrained small one, which is what fits into a test (docs/methods/tdmi.md).
RATIOS = {"club": (0.1, 1), "kl": (0.1, 1), "released": (0.1, 4)}


@pytest.mark.parametrize("estimator", RATIOS)
def test_objective_starts_as_an_auxiliary_loss(estimator, people):
    torch.manual_seed(0)
    model = create_model(
        "tdmi", backbone="hrnet_w16_small", input_size=(128, 96), estimator=estimator
    ).train()
    clips, targets, weights = people
    assert len(clips) == 8
    losses = model.losses(model(clips), targets, weights)
    parameters = list(model.head.parameters())
    reference = gradient_norm(losses["heatmap"], parameters)
    low, high = RATIOS[estimator]
    assert low < gradient_norm(losses["mutual_information"], parameters) / reference < high
    # The heads' own loss must not decide what clipping the gradient does to the network.
    fit = gradient_norm(losses["information_fit"], model.information.parameters())
    assert fit < reference


def test_alpha_weighs_the_objective_only():
    clips, targets, weights = draw(tiny())
    out = {}
    for alpha in (0.0, 2.0):
        model = tiny(alpha=alpha).train()
        out[alpha] = model.losses(model(clips), targets, weights)
    torch.testing.assert_close(out[0.0]["mutual_information"], out[2.0]["mutual_information"])
    torch.testing.assert_close(
        out[2.0]["total"] - out[0.0]["total"], 2 * out[0.0]["mutual_information"], rtol=1e-3, atol=1e-5
    )


def test_unlabelled_joints_train_nothing():
    model = tiny().train()
    clips, targets, _ = draw(model)
    losses = model.losses(model(clips), targets, torch.zeros(2, 15))
    assert float(losses["heatmap"].detach()) == 0
    assert torch.isfinite(losses["total"])


def test_order_of_frames_matters_and_order_of_clips_does_not():
    model = tiny().eval()
    clips, *_ = draw(model, batch=3)
    with torch.no_grad():
        base = model(clips).heatmaps
        assert base.shape == (3, 15, 16, 16)
        torch.testing.assert_close(model(clips[[2, 0, 1]]).heatmaps, base[[2, 0, 1]])
        for order in ([4, 3, 2, 1, 0], [0, 1, 3, 2, 4], [1, 0, 2, 3, 4]):
            assert (model(clips[:, order]).heatmaps - base).abs().max() > 1e-3
        for frame in range(5):
            changed = clips.clone()
            changed[:, frame] += 1
            assert (model(changed).heatmaps - base).abs().max() > 1e-3


def test_key_frame_is_the_middle_one():
    model = tiny(tde=False).eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        base = model(clips).heatmaps
        others = clips.clone()
        others[:, [0, 1, 3, 4]] = 0
        torch.testing.assert_close(model(others).heatmaps, base)


def test_a_still_clip_has_no_motion():
    model = tiny().eval()
    still = draw(model)[0][:, :1].expand(-1, 5, -1, -1, -1)
    seen = []
    for chain in model.head.encoder.intra.values():
        chain.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(still)
    assert len(seen) == 4
    assert all(x.shape[1] == 4 * 8 and not x.any() for x in seen)


def test_frozen_backbone_never_changes():
    model = tiny().train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    head = {k: v.clone() for k, v in model.head.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    clips, targets, weights = draw(model)
    first = last = None
    for _ in range(8):
        last = model.losses(model(clips), targets, weights)
        first = first or last
        optimizer.zero_grad()
        last["total"].backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert any(not torch.equal(v, head[k]) for k, v in model.head.state_dict().items())
    assert last["heatmap"] < first["heatmap"]


# --- switches ----------------------------------------------------------------------------------------

ENCODER = "head.encoder."
CHANGES = [
    # switch, parameters that may go or change, parameters that may come
    (
        {"tde": False},
        ("head.encoder.", "head.factors.", "information.", "head.enhance.0."),
        ("head.enhance.0.",),
    ),
    ({"motion": "flow", "flow": "dis"}, (ENCODER,), ("head.encoder.layers.",)),
    ({"spatial_modulation": False}, ("head.encoder.modulate.",), ()),
    (
        {"fusion": "single"},
        tuple(f"{ENCODER}{p}.stage{s}." for p in ("intra", "modulate") for s in (1, 2, 3))
        + ("head.encoder.accumulate.",),
        (),
    ),
    ({"fusion": "concat"}, ("head.encoder.accumulate.",), ("head.encoder.accumulate.all.",)),
    ({"rdm": False}, ("head.factors.", "information."), ()),
    (
        {"factorization": "channel_split"},
        ("head.factors.", "head.enhance.0.", "information."),
        ("head.enhance.0.", "information."),
    ),
    ({"mutual_information": False}, ("information.", "head.factors.noisy."), ()),
    ({"estimator": "kl"}, (), ()),
    ({"estimator": "vsd"}, (), ()),
    ({"estimator": "released"}, ("information.",), ()),
    ({"alpha": 0.5}, (), ()),
]


@pytest.mark.parametrize(("switches", "gone", "come"), CHANGES, ids=lambda v: str(v)[:40])
def test_a_switch_changes_what_it_names_and_nothing_else(switches, gone, come):
    base, model = shapes(tiny()), tiny(**switches)
    own = shapes(model)
    removed = {n for n, s in base.items() if own.get(n) != s}
    added = {n for n, s in own.items() if base.get(n) != s}
    assert all(n.startswith(gone) for n in removed)
    assert all(n.startswith(come) for n in added)
    assert bool(removed) == bool(gone) and bool(added) == bool(come)
    assert all(any(n.startswith(p) for n in removed) for p in gone)
    clips, targets, weights = draw(model)
    losses = model.train().losses(model(clips), targets, weights)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("head."))
    assert ("mutual_information" in losses) == (model.information is not None)


def test_spatio_temporal_replaces_the_key_frames_feature():
    base, model = shapes(tiny()), tiny("tdmi_st").eval()
    own = shapes(model)
    assert {n for n in own if n not in base} == {n for n in own if n.startswith("head.sequence.")}
    assert all(own[n] == s for n, s in base.items())
    clips, *_ = draw(model)
    seen = []
    model.head.enhance.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 8:]))
    with torch.no_grad():
        model(clips)
        clips[:, 0] += 1
        model(clips)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


def test_factorization_weighs_channels_and_splits_them():
    model = tiny().train()
    found = model(draw(model)[0]).extras
    for part in ("useful", "noisy"):
        ratio = found[part] / found["motion"]
        ratio = torch.where(found["motion"] > 0, ratio, torch.nan).flatten(2)
        low, high = (torch.nan_to_num(ratio, nan=n).amin(-1) for n in (2, 2))
        assert (low > 0).all() and (high[low < 2] < 1).all()
        torch.testing.assert_close(ratio.nanmean(-1), ratio.nanmedian(-1).values, equal_nan=True)
    assert not torch.equal(found["useful"], found["noisy"])
    split = tiny(factorization="channel_split").train()
    found = split(draw(split)[0]).extras
    assert torch.equal(torch.cat([found["useful"], found["noisy"]], dim=1), found["motion"])


@pytest.mark.parametrize(
    "switch", ["motion", "fusion", "factorization", "estimator"], ids=lambda s: f"unknown {s}"
)
def test_unknown_values_name_the_known_ones(switch):
    with pytest.raises(InputError, match=f"{switch}.*known are"):
        tiny(**{switch: "nothing"})


def test_even_and_short_clips_are_refused():
    for frames in (1, 4):
        with pytest.raises(InputError, match="num_frames"):
            tiny(num_frames=frames)


# --- ways of running it ------------------------------------------------------------------------------


@pytest.mark.parametrize("frames, joints, size", [(3, 17, (64, 32)), (7, 1, (32, 64)), (5, 14, (96, 64))])
def test_other_lengths_joint_sets_and_sizes(frames, joints, size):
    model = tiny(num_frames=frames, num_joints=joints, input_size=size)
    clips, targets, weights = draw(model)
    out = model.train()(clips)
    assert out.heatmaps.shape == (2, joints, size[0] // 4, size[1] // 4)
    assert torch.isfinite(model.losses(out, targets, weights)["total"])


@pytest.mark.parametrize("switches", [{}, {"spatio_temporal": True}, {"motion": "flow", "flow": "dis"}])
def test_head_of_extracted_frames_is_forward(switches):
    model = tiny("tdmi_st" if switches.pop("spatio_temporal", False) else "tdmi", **switches).eval()
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
    model = tiny("tdmi_st", fusion="concat", width=12, estimator="kl").eval()
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    clips, *_ = draw(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(clips).heatmaps, model(clips).heatmaps)


def test_bfloat16_is_close():
    model = tiny().eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        expected = model(clips).heatmaps
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(clips).heatmaps.float()
        short = model.bfloat16()(clips.bfloat16()).heatmaps.float()
    scale = expected.std()
    assert (mixed - expected).abs().mean() < 0.05 * scale
    assert (short - expected).abs().mean() < 0.05 * scale


def test_compiled_program_equals_eager():
    model = tiny(input_size=(32, 32)).eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(clips).heatmaps, model(clips).heatmaps)


# --- optical flow ------------------------------------------------------------------------------------


def moving_pattern():
    """Two frames [1, 2, 3, 96, 96], normalised, the second moved 3 pixels right and 1 down."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, 24, 24, generator=generator)
    image = torch.nn.functional.interpolate(noise, size=(96, 96), mode="bicubic")
    return torch.stack([image, image.roll((1, 3), (-2, -1))], dim=1)


def test_flow_is_the_shift_of_the_crop():
    flow = clip_flow(moving_pattern(), dis_flow)
    assert flow.shape == (1, 1, 2, 96, 96)
    median = flow[0, 0, :, 16:-16, 16:-16].flatten(1).median(dim=1).values
    assert torch.allclose(median, torch.tensor([3.0, 1.0]), atol=0.3)


def test_flow_function_sees_consecutive_images_and_can_be_exchanged():
    model = tiny(motion="flow", flow="dis", freeze_backbone=False)
    pairs = []

    def record(first, second):
        pairs.append((first, second))
        return torch.zeros(len(first), 2, *first.shape[-2:])

    model.head.encoder.flow = record
    clips, *_ = draw(model, batch=2)
    model(clips)
    ((first, second),) = pairs
    assert len(first) == 2 * 4
    assert first.min() >= 0 and 100 < first.max() <= 255
    torch.testing.assert_close(first[1], second[0])


def test_unknown_flow_is_refused():
    with pytest.raises(InputError, match="auto, dis, raft"):
        create_flow("lucas-kanade")
