"""FAMI-Pose: its size, both alignments, the objective, its switches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vidpose.data.clips import ClipDataset, collate_clips, ground_truth_samples, prepare_clips
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.counting import count, meta_model
from vidpose.models.factory import create_model
from vidpose.models.famipose import OBJECTIVE_SCALE, FAMIPose, GlobalTransformation
from vidpose.models.information import gradient_norm
from vidpose.synthetic import synthesize

SIZE = (64, 64)


def tiny(**switches) -> FAMIPose:
    torch.manual_seed(0)
    model = create_model("famipose", **{"backbone": "hrnet_w8_small", "input_size": SIZE, **switches})
    assert isinstance(model, FAMIPose)
    nn.init.normal_(model.head.heatmaps.weight, std=0.1)  # an untrained one says almost nothing
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return model


def draw(model, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)
    size = torch.tensor(model.heatmap_size[::-1])
    points = torch.rand(batch, model.num_joints, 2, generator=generator) * (size - 1)
    weights = torch.ones(batch, model.num_joints)
    weights[0, 0] = 0
    return clips, gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma), weights


def shapes(model):
    return {n: tuple(p.shape) for n, p in model.named_parameters()}


def inputs_of(module):
    seen = []
    module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    return seen


# --- size --------------------------------------------------------------------------------------------


def test_size_is_that_of_public_code():
    found = count(meta_model("famipose", num_joints=17, mutual_information=False))
    assert found["params_trainable"] == pytest.approx(1.06e6, rel=0.005)
    assert found["gmacs"] == pytest.approx(5 * 32.9 + 7, abs=0.5)


# --- global transformation ---------------------------------------------------------------------------


def with_numbers(*numbers: float) -> GlobalTransformation:
    """A transformation that always finds these numbers."""
    module = GlobalTransformation(4, affine=len(numbers) == 6).eval()
    module.regress = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, len(numbers)))
    nn.init.zeros_(module.regress[-1].weight)
    module.regress[-1].bias.data = torch.tensor(numbers)
    return module


def test_transformation_starts_near_the_identity():
    torch.manual_seed(0)
    for affine in (False, True):
        module = GlobalTransformation(4, affine=affine).eval()
        maps, keys = torch.rand(2, 3, 4, 24, 18).unbind()
        torch.testing.assert_close(module(maps, keys), maps, atol=0.02, rtol=0)


def test_translation_is_in_pixels_right_and_down():
    maps = torch.rand(2, 4, 24, 18)
    moved = with_numbers(3.0, -2.0)(maps, maps)
    torch.testing.assert_close(moved[..., :-2, 3:], maps[..., 2:, :-3], atol=1e-4, rtol=1e-4)
    assert max(moved[..., -2:, :].abs().max(), moved[..., :3].abs().max()) < 1e-4  # zero comes from outside


def test_affine_is_torchs_affine():
    maps = torch.rand(2, 4, 24, 18)
    moved = with_numbers(1.5, -0.5, 0.1, -0.2, 0.3, 0.05)(maps, maps)
    theta = torch.tensor([[1.1, -0.2, -1.5 * 2 / 18], [0.3, 1.05, 0.5 * 2 / 24]]).expand(2, 2, 3)
    expected = F.grid_sample(maps, F.affine_grid(theta, maps.shape, align_corners=False), align_corners=False)
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)


def test_translation_is_learned_from_the_difference_to_the_key_frame():
    torch.manual_seed(0)
    coarse = torch.rand(4, 4, 6, 6)
    keys = F.interpolate(coarse, size=(24, 24), mode="bicubic")
    neighbours = keys.roll(2, dims=-1)
    module = GlobalTransformation(4, affine=False).train()
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = (module(neighbours, keys) - keys)[..., 4:-4].square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


def test_every_neighbour_moves_by_itself_with_its_key_frame():
    model = tiny().eval()
    clips, *_ = draw(model)
    seen, aggregated = inputs_of(model.head.move), inputs_of(model.head.aggregate)
    with torch.no_grad():
        model(clips)
        features = model.extract(clips.flatten(0, 1))["stage4"].unflatten(0, (2, 5))
        neighbours, keys = (x.unflatten(0, (2, 4)) for x in seen[0])
        torch.testing.assert_close(neighbours, features[:, [0, 1, 3, 4]])
        torch.testing.assert_close(keys, features[:, 2:3].expand(-1, 4, -1, -1, -1))
        alone = model.head.move(features[:, 3], features[:, 2])
    torch.testing.assert_close(aggregated[0][0].unflatten(1, (4, -1))[:, 2], alone)


def test_a_still_clip_shows_the_transformation_no_difference():
    model = tiny().eval()
    still = draw(model)[0][:, :1].expand(-1, 5, -1, -1, -1)
    seen = inputs_of(model.head.move.regress)
    with torch.no_grad():
        model(still)
    assert not seen[0][0].any()


# --- local calibration -------------------------------------------------------------------------------


def test_calibration_samples_both_frames_twice_and_then_the_neighbours_twice():
    model = tiny().eval()
    calibrate = model.head.calibrate
    combined, outputs = [], []
    calibrate.combine.register_forward_hook(lambda *a: combined.append(a[2]))
    inputs = [inputs_of(step) for step in calibrate.steps]
    for step in calibrate.steps:
        step.register_forward_hook(lambda *a: outputs.append(a[2]))
    support = inputs_of(calibrate)
    with torch.no_grad():
        model(draw(model)[0])
    expected = [
        (combined[0], combined[0]),
        (outputs[0], outputs[0]),
        (support[0][0], outputs[1]),
        (outputs[2], outputs[2]),
    ]
    for found, (sampled, guide) in zip(inputs, expected, strict=True):
        assert found[0][0] is sampled and found[0][1] is guide


@pytest.mark.parametrize("modulation", ["sigmoid", "linear"])
def test_modulation_weighs_the_samples(modulation):
    model = tiny(modulation=modulation).eval()
    step = model.head.calibrate.steps[0]
    nn.init.normal_(step.mask.weight, std=3.0)
    seen = inputs_of(step.deform)
    with torch.no_grad():
        model(draw(model)[0])
    mask = seen[0][2]
    assert bool(((mask > 0) & (mask < 1)).all()) == (modulation == "sigmoid")
    assert mask.std() > 0.1


def test_calibration_learns_from_the_start():
    """With linear modulation four products of near-zeros stand in a row; bounded ones start at one half."""
    norms = {}
    for modulation in ("sigmoid", "linear"):
        torch.manual_seed(0)
        model = create_model("famipose", backbone="hrnet_w8_small", input_size=SIZE, modulation=modulation)
        clips, targets, weights = draw(model)
        loss = model.train().losses(model(clips), targets, weights)["heatmap"]
        norms[modulation] = gradient_norm(loss, model.head.calibrate.steps[0].parameters())
    assert norms["sigmoid"] > 1e3 * norms["linear"]


# --- objective ---------------------------------------------------------------------------------------


def test_gradients_reach_every_parameter_by_its_own_loss():
    model = tiny(freeze_backbone=False).train()
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):  # a backbone's residual branches start at zero
            nn.init.ones_(module.weight)
    clips, targets, weights = draw(model, batch=3)
    losses = model.losses(model(clips), targets, weights)
    parameters = dict(model.named_parameters())

    def reached(loss):
        grads = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        return {n for n, g in zip(parameters, grads, strict=True) if g is not None and bool(g.any())}

    heads = {n for n in parameters if n.startswith("information.")}
    assert reached(losses["heatmap"]) == set(parameters) - heads
    objective = reached(losses["mutual_information"])
    assert objective == set(parameters) - heads - {"head.heatmaps.weight", "head.heatmaps.bias"}
    assert reached(losses["information_fit"]) == heads
    assert reached(losses["total"]) == set(parameters)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.1), (2.0, 0.1), (0.5, 3.0)])
def test_alpha_weighs_the_objective_and_beta_its_first_part(alpha, beta):
    model = tiny(alpha=alpha, beta=beta).train()
    clips, targets, weights = draw(model)
    out = model(clips)
    losses = model.losses(out, targets, weights)
    torch.testing.assert_close(
        losses["total"],
        losses["heatmap"] + alpha * losses["mutual_information"] + losses["information_fit"],
    )
    parts = {
        part: module({**out.extras, "label": targets}, weights)["objective"]
        for part, module in model.information.items()
    }
    expected = OBJECTIVE_SCALE["club"] * (beta * parts["primary"] + parts["regularization"])
    torch.testing.assert_close(losses["mutual_information"], expected)


def test_the_terms_have_the_released_signs():
    """Public code sums -b I(z~;y) + b I(z;z~) + I(zs;y) - I(zs;z~) + I(z;y) - I(z;z~)."""
    model = tiny(estimator="kl", beta=0.1).train()
    clips, targets, weights = draw(model)
    losses = model.losses(model(clips), targets, weights)
    i = {n.removeprefix("information/"): float(v) for n, v in losses.items() if n.startswith("information/")}
    expected = (
        0.1 * (-i["primary_label_enhanced"] + i["primary_visual_enhanced"])
        + i["regularization_label_support"]
        - i["regularization_support_enhanced"]
        + i["regularization_label_visual"]
        - i["regularization_visual_enhanced"]
    )
    found = float(losses["mutual_information"].detach()) / OBJECTIVE_SCALE["kl"]
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Eight augmented clips of synthetic people: clips, targets, weights."""
    root = tmp_path_factory.mktemp("people")
    synthesize(root, videos=2, frames=5, seed=0, split="val", size=(180, 320), quiet=True)
    data = read_dataset(root, "val")
    samples = ground_truth_samples(data)[::4][:8]
    sizes = {"num_frames": 5, "input_size": (128, 96), "heatmap_size": (32, 24)}
    clips = ClipDataset(data, samples, **sizes, augment="uniform")
    batch = collate_clips([clips[i] for i in range(len(clips))])
    points, weights = batch["points"][:, 2], batch["weights"][:, 2]
    return prepare_clips(batch["clips"]), gaussian_heatmaps(points, weights, (32, 24), 2.0), weights


@pytest.mark.parametrize("estimator", OBJECTIVE_SCALE)
def test_objective_starts_as_an_auxiliary_loss(estimator, people):
    torch.manual_seed(0)
    model = create_model(
        "famipose", backbone="hrnet_w16_small", input_size=(128, 96), estimator=estimator
    ).train()
    losses = model.losses(model(people[0]), *people[1:])
    parameters = list(model.head.parameters())
    reference = gradient_norm(losses["heatmap"], parameters)
    assert 0.1 < model.alpha * gradient_norm(losses["mutual_information"], parameters) / reference < 1
    assert gradient_norm(losses["information_fit"], model.information.parameters()) < reference


def test_eval_mode_knows_only_the_heatmap_loss():
    model = tiny().eval()
    clips, targets, weights = draw(model)
    out = model(clips)
    assert out.extras == {}
    assert set(model.losses(out, targets, weights)) == {"heatmap", "total"}


# --- switches ----------------------------------------------------------------------------------------

CHANGES = [
    ({"global_transformation": "none"}, ("head.move.",), ()),
    ({"global_transformation": "affine"}, ("head.move.regress.9.",), ("head.move.regress.9.",)),
    ({"local_calibration": False}, ("head.calibrate.",), ()),
    ({"mutual_information": False}, ("information.",), ()),
    ({"estimator": "kl"}, (), ()),
    ({"estimator": "released"}, ("information.",), ()),
    ({"modulation": "linear"}, (), ()),
]


@pytest.mark.parametrize(("switches", "gone", "come"), CHANGES, ids=lambda v: str(v)[:40])
def test_a_switch_changes_what_it_names_and_nothing_else(switches, gone, come):
    base, model = shapes(tiny()), tiny(**switches)
    own = shapes(model)
    removed = {n for n, s in base.items() if own.get(n) != s}
    added = {n for n, s in own.items() if base.get(n) != s}
    assert all(n.startswith(gone) for n in removed) and bool(removed) == bool(gone)
    assert all(n.startswith(come) for n in added) and bool(added) == bool(come)
    clips, targets, weights = draw(model)
    losses = model.train().losses(model(clips), targets, weights)
    losses["total"].backward()
    assert torch.isfinite(losses["total"])
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith("head."))
    assert ("mutual_information" in losses) == (model.information is not None)


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"global_transformation": "similarity"}, "global_transformation.*known are"),
        ({"modulation": "none"}, "modulation.*known are"),
        ({"estimator": "nothing"}, "estimator.*known are"),
        ({"num_frames": 4}, "num_frames"),
    ],
)
def test_wrong_switches_are_refused(switches, words):
    with pytest.raises(InputError, match=words):
        tiny(**switches)
