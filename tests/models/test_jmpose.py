"""JM-Pose: its wiring by the paper's equations, its objective, its switches, and every way of running it."""

from __future__ import annotations

import pytest
import torch

from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.counting import count, meta_model
from vidpose.models.export import export_model
from vidpose.models.factory import create_model, load_model, save_model
from vidpose.models.information import gradient_norm
from vidpose.models.jmpose import (
    OBJECTIVE_SCALE,
    ContextAwareJointLearner,
    CrossAttention,
    JMPose,
    JointMotionInteraction,
)

SIZE = (64, 64)


def tiny(**switches) -> JMPose:
    torch.manual_seed(0)
    arguments = {"backbone": "hrnet_w8_small", "num_joints": 15, "input_size": SIZE, "motion": "difference"}
    model = create_model("jmpose", **{**arguments, **switches})
    assert isinstance(model, JMPose)
    # Untrained last layers say almost nothing; these tests look at what goes through them.
    torch.nn.init.normal_(model.head.heatmaps.weight, std=0.1)
    torch.nn.init.normal_(model.initial_head.final_layer.weight, std=0.1)
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


def shapes(model):
    return {n: tuple(p.shape) for n, p in model.named_parameters()}


def zero_flow(first, _):
    return torch.zeros(len(first), 2, *first.shape[-2:])


def given(model, batch=2, seed=3):
    """Features of clips with initial heatmaps that have peaks, as a trained backbone gives them."""
    clips, *_ = draw(model, batch)
    features = model.extract(clips.flatten(0, 1))
    generator = torch.Generator().manual_seed(seed)
    joints = (batch * model.num_frames, model.num_joints)
    points = torch.rand(*joints, 2, generator=generator) * 15
    return {**features, "heatmaps": gaussian_heatmaps(points, torch.ones(joints), model.heatmap_size, 1.5)}


# --- gradients and losses ----------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_gradients_reach_every_parameter_by_its_own_loss(attention):
    model = tiny(attention=attention, freeze_backbone=False).train()
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

    own = {n for n in parameters if n.startswith("information.")}
    assert reached(losses["heatmap"]) == set(parameters) - own
    objective = reached(losses["mutual_information"])
    assert objective.isdisjoint({n for n in parameters if n.startswith(("information.", "head.heatmaps."))})
    assert objective >= {
        n for n in parameters if n.startswith(("head.encoder", "head.learner", "head.inter"))
    }
    assert reached(losses["information_fit"]) == own
    total = losses["heatmap"] + losses["mutual_information"] + losses["information_fit"]
    torch.testing.assert_close(losses["total"], total)


def test_objective_is_equation_13_summed_over_layers():
    model = tiny(estimator="kl").train()
    features = given(model)
    _, targets, weights = draw(model)
    losses = model.losses(model.head(features), targets, weights)
    term = {name.split("/")[1]: value for name, value in losses.items() if "/" in name}
    relevancy, complement = term["joint_motion"], term["initial_joint"]
    redundancy = term["initial_both"] - term["initial_motion"]
    expected = OBJECTIVE_SCALE["kl"] * (relevancy - complement + redundancy)
    torch.testing.assert_close(losses["mutual_information"].detach(), expected)
    assert len(model.information) == len(model.head.interactions) == 4
    out = model.head(features)
    assert set(out.extras) == {"initial"} | {f"{n}{i}" for n in ("joint", "motion") for i in range(4)}


def test_objective_never_teaches_the_initial_heatmaps_as_its_target():
    model = tiny(jmib=False, cjl=False).train()
    features = given(model)
    joint = model.head(features).extras
    assert not joint["initial"].requires_grad and joint["joint0"].requires_grad


@pytest.mark.parametrize("estimator", ["club", "kl", "released"])
def test_objective_starts_as_an_auxiliary_loss(estimator):
    torch.manual_seed(0)
    model = create_model(
        "jmpose",
        backbone="hrnet_w16_small",
        input_size=(128, 96),
        motion="difference",
        estimator=estimator,
    ).train()
    generator = torch.Generator().manual_seed(0)
    smooth = torch.nn.functional.interpolate(
        torch.randn(30, 3, 16, 12, generator=generator), size=(128, 96), mode="bicubic"
    )
    points = torch.rand(6, 1, 15, 2, generator=generator) * torch.tensor((23.0, 31.0))
    ones = torch.ones(6, 15)
    targets = gaussian_heatmaps(points[:, 0], ones, (32, 24), 2.0)
    near = (points + torch.randn(6, 5, 15, 2, generator=generator)).flatten(0, 1)
    features = model.extract(smooth)
    features["heatmaps"] = gaussian_heatmaps(near, torch.ones(30, 15), (32, 24), 2.0)
    losses = model.losses(model.head(features), targets, ones)
    parameters = list(model.head.parameters())
    reference = gradient_norm(losses["heatmap"], parameters)
    ratio = gradient_norm(losses["mutual_information"], parameters) / reference
    assert 0.05 < ratio < 1
    assert gradient_norm(losses["information_fit"], model.information.parameters()) < reference


def test_alpha_weighs_the_objective_only():
    out = {}
    for alpha in (0.0, 2.0):
        model = tiny(alpha=alpha).train()
        clips, targets, weights = draw(model)
        out[alpha] = model.losses(model(clips), targets, weights)
    torch.testing.assert_close(out[0.0]["mutual_information"], out[2.0]["mutual_information"])
    torch.testing.assert_close(
        out[2.0]["total"] - out[0.0]["total"], 2 * out[0.0]["mutual_information"], rtol=1e-3, atol=1e-5
    )


def test_frozen_parts_never_change():
    model = tiny().train()
    frozen = {k: v.clone() for k, v in model.state_dict().items() if k.startswith(("backbone", "initial"))}
    head = {k: v.clone() for k, v in model.head.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    clips, targets, weights = draw(model)
    for _ in range(2):
        optimizer.zero_grad()
        model.losses(model(clips), targets, weights)["total"].backward()
        optimizer.step()
    now = model.state_dict()
    assert "initial_head.final_layer.weight" in frozen
    assert all(torch.equal(now[k], v) for k, v in frozen.items())
    assert all(not torch.equal(p, head[k]) for k, p in model.head.named_parameters())


# --- wiring ------------------------------------------------------------------------------------------


def test_aggregated_heatmaps_start_as_the_key_frames_and_may_use_all_frames():
    model = tiny()
    heatmaps = given(model)["heatmaps"].unflatten(0, (2, 5))  # [B, T, J, h, w]
    with torch.no_grad():
        out = model.head.aggregate(heatmaps.flatten(1, 2))
    torch.testing.assert_close(out, heatmaps[:, 2], atol=0.05, rtol=0)
    assert model.head.aggregate.weight.flatten(1).ne(0).all()


def test_initial_heatmaps_guide_the_joint_feature_from_the_start():
    torch.manual_seed(0)
    learner = ContextAwareJointLearner(15, 16)
    motion = torch.randn(4, 16, 16, 16).relu()
    points, other = torch.rand(2, 4, 15, 2) * 15
    first, second = (
        learner(gaussian_heatmaps(p, torch.ones(4, 15), (16, 16), 1.5), motion) for p in (points, other)
    )
    assert (first - second).std() > 0.25 * first.std()


def test_joint_feature_is_sampled_from_motion():
    """Eq. 5: heatmaps say where to look and how much to take, so that of no motion nothing is taken."""
    torch.manual_seed(0)
    learner = ContextAwareJointLearner(15, 16)
    joint = learner(torch.rand(2, 15, 8, 8), torch.zeros(2, 16, 8, 8))
    torch.testing.assert_close(joint, learner.sample.deform.bias.view(1, -1, 1, 1).expand_as(joint))


def test_output_follows_the_initial_heatmaps_of_every_frame():
    model = tiny().eval()
    with torch.no_grad():
        for parameter in model.head.aggregate.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
        features = given(model)
        base = model.head(features).heatmaps
        for frame in range(5):
            heatmaps = features["heatmaps"].clone()
            heatmaps[frame::5] = heatmaps[frame::5].roll(3, -1)
            out = model.head({**features, "heatmaps": heatmaps}).heatmaps
            assert (out - base).abs().max() > 0.01 * base.std()


def test_interaction_scales_each_by_its_mask():
    torch.manual_seed(0)
    block = JointMotionInteraction(8, "channel").eval()
    joint, motion = torch.rand(2, 2, 8, 6, 5)
    seen = {}
    block.mask.register_forward_hook(lambda _, inputs, out: seen.update(x=inputs[0], masks=out.sigmoid()))
    with torch.no_grad():
        new_joint, new_motion = block(joint, motion)
        attended, masks = seen["x"], seen["masks"]
        torch.testing.assert_close(torch.cat([new_joint, new_motion], dim=1), masks * attended)  # Eq. 10
        assert bool((masks > 0).all()) and bool((masks < 1).all())


def test_each_learns_from_the_other_by_attention_and_by_its_mask():
    torch.manual_seed(0)
    block = JointMotionInteraction(8, "channel").eval()
    joint, motion, other = torch.rand(3, 2, 8, 6, 5)

    def exchanges():
        base = block(joint, motion)
        changed = block(joint, other)[0] - base[0], block(other, motion)[1] - base[1]
        return [bool(change.abs().max() > 1e-4) for change in changed]

    with torch.no_grad():
        last = block.mask[-1].weight.clone()
        block.mask[-1].weight.zero_()  # masks are the same everywhere
        assert exchanges() == [True, True]  # Eqs. 7, 8
        block.joint_attention.value.weight.zero_()
        assert exchanges() == [False, True]
        block.motion_attention.value.weight.zero_()
        assert exchanges() == [False, False]
        block.mask[-1].weight.copy_(last)
        assert exchanges() == [True, True]  # Eq. 9


@pytest.mark.parametrize("over", ["channel", "spatial"])
def test_attention_is_the_printed_one(over):
    torch.manual_seed(0)
    attention = CrossAttention(6, over).double()
    x, context = torch.randn(2, 2, 6, 4, 3, dtype=torch.float64)
    q, k, v = (
        attention.query(x).flatten(2),
        attention.key(context).flatten(2),
        attention.value(context).flatten(2),
    )
    if over == "channel":
        weights = (torch.einsum("bcp,bdp->bcd", q, k) / 12).softmax(dim=-1)
        expected = torch.einsum("bcd,bdp->bcp", weights, v)
    else:
        weights = (torch.einsum("bcp,bcs->bps", q, k) / 6**0.5).softmax(dim=-1)
        expected = torch.einsum("bps,bcs->bcp", weights, v)
    torch.testing.assert_close(attention(x, context), expected.unflatten(2, (4, 3)))
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


def test_a_still_clip_has_no_motion():
    model = tiny().eval()
    still = draw(model)[0][:, :1].expand(-1, 5, -1, -1, -1)
    seen = []
    model.head.encoder.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(still)
    assert seen[0].shape[1] == 4 * 8 and not seen[0].any()


def test_order_of_frames_matters_and_order_of_clips_does_not():
    model = tiny().eval()
    clips, *_ = draw(model, batch=3)
    with torch.no_grad():
        base = model(clips).heatmaps
        assert base.shape == (3, 15, 16, 16)
        torch.testing.assert_close(model(clips[[2, 0, 1]]).heatmaps, base[[2, 0, 1]])
        for order in ([4, 3, 2, 1, 0], [0, 1, 3, 2, 4], [1, 0, 2, 3, 4]):
            assert (model(clips[:, order]).heatmaps - base).abs().max() > 1e-3


# --- switches ----------------------------------------------------------------------------------------

CHANGES = [
    # switch, parameters that may go or change, parameters that may come
    ({"motion": "flow", "flow": "dis"}, ("head.encoder.",), ("head.encoder.",)),
    ({"cjl": False}, ("head.learner.",), ("head.widen.",)),
    ({"jmml": False}, ("head.interactions.", "information.", "head.fuse."), ("head.fuse.",)),
    ({"jmib": False}, ("head.interactions.", *(f"information.{i}." for i in (1, 2, 3))), ()),
    ({"information_objective": False}, ("information.",), ()),
    ({"layers": 3}, ("head.interactions.3.", "information.3."), ()),
    ({"attention": "spatial"}, (), ()),
    ({"estimator": "vsd"}, (), ()),
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
    assert all(any(n.startswith(p) for n in removed) for p in gone)
    assert bool(added) == bool(come)
    clips, targets, weights = draw(model)
    losses = model.train().losses(model(clips), targets, weights)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert ("mutual_information" in losses) == (model.information is not None)


def test_attention_over_positions_is_another_model():
    model, other = tiny().eval(), tiny(attention="spatial").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("attention.value.weight"):
                parameter.normal_()  # it starts at almost nothing
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        features = given(model)
        assert (model.head(features).heatmaps - other.head(features).heatmaps).abs().max() > 1e-3


def test_without_blocks_the_objective_acts_on_the_joint_learner():
    model = tiny(jmib=False).train()
    seen = []
    model.head.learner.register_forward_hook(lambda *call: seen.append(call[2]))
    assert torch.equal(model.head(given(model)).extras["joint0"], seen[0])


def test_released_estimator_teaches_the_joint_feature():
    model = tiny(estimator="released").train()
    _, targets, weights = draw(model)
    model.losses(model.head(given(model)), targets, weights)["mutual_information"].backward()
    assert all(p.grad.any() for p in model.head.learner.parameters())


@pytest.mark.parametrize(
    "switches, message",
    [
        ({"motion": "nothing"}, "motion.*known are"),
        ({"attention": "nothing"}, "attention.*known are"),
        ({"estimator": "nothing"}, "estimator.*known are"),
        ({"motion": "flow", "flow": "nothing"}, "flow.*known are"),
        ({"layers": 0}, "layers"),
        ({"width": 1}, "width"),
        ({"cjl": False, "jmml": False}, "keep one"),
        ({"num_frames": 4}, "num_frames"),
        ({"num_frames": 1}, "num_frames"),
    ],
    ids=str,
)
def test_switches_that_cannot_be_are_refused(switches, message):
    with pytest.raises(InputError, match=message):
        tiny(**switches)


# --- ways of running it ------------------------------------------------------------------------------


@pytest.mark.parametrize("frames, joints, size", [(3, 17, (64, 32)), (7, 1, (32, 64)), (5, 14, (96, 64))])
def test_other_lengths_joint_sets_and_sizes(frames, joints, size):
    model = tiny(num_frames=frames, num_joints=joints, input_size=size, width=12)
    clips, targets, weights = draw(model)
    out = model.train()(clips)
    assert out.heatmaps.shape == (2, joints, size[0] // 4, size[1] // 4)
    assert torch.isfinite(model.losses(out, targets, weights)["total"])


@pytest.mark.parametrize("motion", ["difference", "flow"])
def test_head_of_extracted_frames_is_forward(motion):
    model = tiny(motion=motion, flow="dis").eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        expected = model(clips)
        one_by_one = [model.extract(frame[None]) for frame in clips.flatten(0, 1)]
        cached = {k: torch.cat([f[k] for f in one_by_one]) for k in one_by_one[0]}
        torch.testing.assert_close(model.head(cached).heatmaps, expected.heatmaps, rtol=1e-4, atol=1e-4)
    assert ("frames" in cached) == (motion == "flow") and "heatmaps" in cached
    assert expected.extras == {}


def test_motion_flow_is_of_consecutive_frames_and_any_function():
    model = tiny(motion="flow", flow="dis").train()
    pairs = []

    def record(first, second):
        pairs.append((first, second))
        return zero_flow(first, second)

    model.head.encoder.flow = record
    model(draw(model)[0])
    ((first, second),) = pairs
    assert len(first) == 2 * 4
    torch.testing.assert_close(first[1:4], second[0:3])  # Eq. 1


def test_saved_and_loaded_model_is_the_same(tmp_path):
    model = tiny(attention="spatial", width=12, layers=2, estimator="kl").eval()
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    clips, *_ = draw(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded(clips).heatmaps, model(clips).heatmaps)


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_bfloat16_is_close(attention):
    model = tiny(attention=attention).eval()
    clips, *_ = draw(model)
    with torch.no_grad():
        expected = model(clips).heatmaps
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(clips).heatmaps.float()
    assert (mixed - expected).abs().mean() < 0.05 * expected.std()


@pytest.mark.parametrize("attention", ["channel", "spatial"])
def test_exported_block_equals_eager_for_any_batch(attention):
    torch.manual_seed(0)
    block = JointMotionInteraction(8, attention).eval()
    free = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(block, tuple(torch.randn(2, 2, 8, 6, 5)), dynamic_shapes=(free, free))
    joint, motion = torch.randn(2, 3, 8, 6, 5)
    torch.testing.assert_close(program.module()(joint, motion), block(joint, motion))


def test_a_model_of_flow_is_not_exported(tmp_path):
    with pytest.raises(InputError, match=r"optical flow.*motion="):
        export_model(tiny(motion="flow", flow="dis"), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("motion", ["difference", "flow"])
def test_counting_needs_no_pixels(motion):
    model = meta_model("jmpose", backbone="hrnet_w8_small", input_size=SIZE, motion=motion, flow="dis")
    found = count(model)
    assert found["params_trainable"] == sum(
        p.numel() for p in tiny(motion=motion, flow="dis").parameters() if p.requires_grad
    )
    assert found["gmacs"] > 0
