"""The estimators on distributions whose information is known, and where their gradients go."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.information import (
    ESTIMATORS,
    MutualInformation,
    Term,
    calibrate_weight,
    club_upper_bound,
    gradient_norm,
    lower_bound,
    released_score,
    spatial_logits,
)

GRID = torch.linspace(-4, 4, 81)
RHOS = (-0.9, -0.6, 0.0, 0.3, 0.6, 0.9)


def gaussian_pair(rho, n=2000, seed=0):
    """Samples of a standard pair, with b as distributions on GRID: a [n], p_b [n, 1, P]."""
    generator = torch.Generator().manual_seed(seed)
    a, noise = torch.randn(2, n, generator=generator)
    b = rho * a + math.sqrt(1 - rho**2) * noise
    nearest = (b[:, None] - GRID).abs().argmin(dim=1)
    return a, F.one_hot(nearest, len(GRID)).float()[:, None]


def information(rho):
    return -0.5 * math.log(1 - rho**2)


def conditional(rho, a):
    """log q(b|a) on GRID, exact: [n, 1, P]."""
    return (-((GRID - rho * a[:, None]) ** 2) / (2 * (1 - rho**2))).log_softmax(dim=-1)[:, None]


@pytest.mark.parametrize("rho", RHOS)
def test_bounds_hold_on_gaussians_when_q_is_exact(rho):
    a, p = gaussian_pair(rho)
    log_q = conditional(rho, a)
    entropy = -(p.mean(0) * p.mean(0).clamp(min=1e-12).log()).sum()
    low = float(lower_bound(log_q, p.clamp(min=1e-30).log()) + entropy)
    high = float(club_upper_bound(log_q, p, p))
    assert low == pytest.approx(information(rho), abs=0.08)  # tight for the exact q
    assert high == pytest.approx(rho**2 / (1 - rho**2), rel=0.15, abs=0.05)  # CLUB's own value
    assert high >= information(rho) - 0.02


def fitted(rho, estimator, steps=120):
    """The estimate of the whole module, its head fitted, for a Gaussian pair drawn as maps."""
    a, p = gaussian_pair(rho, n=300)
    # Enough channels for the head to say any Gaussian: x_a·x is what moves it, x² how wide it is.
    moving, still = a[:, None] * GRID, (GRID**2).expand(len(a), -1)
    maps = torch.stack([moving] + [still] * 8, dim=1)[:, :, None] / 16  # [n, 9, 1, P]
    model = MutualInformation([Term("a", "b", +1)], {"a": 9, "b": 1}, labels=["b"], estimator=estimator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    variables = {"a": maps, "b": p[:, :, None]}
    for _ in range(steps):
        optimizer.zero_grad()
        model(variables)["fit"].backward()
        optimizer.step()
    return float(model(variables)["b_a"])


def test_fitted_estimates_rise_with_correlation_and_club_stays_above():
    club = {rho: fitted(rho, "club") for rho in (0.0, 0.6, -0.6, 0.9, -0.9)}
    assert all(club[rho] >= information(rho) - 0.03 for rho in club), club
    assert club[0.0] < 0.1 < club[0.6] < club[0.9]
    assert club[0.0] < club[-0.6] < club[-0.9]
    low = [fitted(rho, "kl") for rho in (0.0, 0.6, 0.9)]
    assert low == sorted(low)
    assert low[2] - low[0] == pytest.approx(information(0.9), abs=0.15)


def features(n=6, channels=5, size=(8, 6), seed=0):
    return torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("estimator", ["club", "kl"])
@pytest.mark.parametrize("sign", [1, -1])
def test_identical_exceeds_independent(estimator, sign):
    model = MutualInformation([Term("a", "b", sign)], {"a": 5, "b": 5}, estimator=estimator)
    a = features()
    same, other = (float(model({"a": a, "b": b})["b_a"]) for b in (a, features(seed=1)))
    assert same > other + 1


@pytest.mark.parametrize("estimator", ["club", "kl", "released"])
def test_gradients_go_through_the_representation_only(estimator):
    terms = [Term("a", "b", -1), Term("a", "c", +1), Term("d", "e", +1, both_ways=True)]
    model = MutualInformation(terms, dict.fromkeys("abcde", 5), labels=[], estimator=estimator)
    base = features()
    variables = {n: (base + 0.3 * features(seed=i)).requires_grad_() for i, n in enumerate("abcde")}
    out = model(variables)
    grads = torch.autograd.grad(
        out["objective"], list(variables.values()), retain_graph=True, allow_unused=True
    )
    reached = {n: g is not None and bool(g.abs().sum() > 0) for n, g in zip("abcde", grads, strict=True)}
    assert reached == {"a": True, "b": False, "c": False, "d": True, "e": True}
    heads = list(model.parameters())
    if estimator == "released":
        assert not heads
        return
    through_objective = torch.autograd.grad(out["objective"], heads, retain_graph=True, allow_unused=True)
    assert all(g is None for g in through_objective)
    through_fit = torch.autograd.grad(
        out["fit"], [*heads, *variables.values()], retain_graph=True, allow_unused=True
    )
    assert all(g is not None for g in through_fit[: len(heads)])
    assert all(g is None for g in through_fit[len(heads) :])


@pytest.mark.parametrize("estimator", ["club", "kl"])
def test_shrinking_features_changes_nothing_but_weighing_channels_does(estimator):
    model = MutualInformation([Term("a", "b", +1)], {"a": 5, "b": 5}, estimator=estimator)
    a = features()
    b = a + 0.3 * features(seed=1)
    value = model({"a": a, "b": b})["b_a"]
    for scaled in (a * 1e-3, a * 100 + 7):
        torch.testing.assert_close(model({"a": scaled, "b": b})["b_a"], value, rtol=1e-3, atol=1e-3)
    weighed = a * torch.tensor([0.1, 1, 0.1, 1, 1]).view(1, 5, 1, 1)
    assert abs(float(model({"a": weighed, "b": b})["b_a"] - value)) > 0.1


def test_minimising_stops_where_no_information_is_left():
    """A negative estimate is no information: no gradient drives features to mislead the head."""
    model = MutualInformation([Term("a", "b", +1)], {"a": 5, "b": 5}, estimator="club")
    a = features()
    opposite = (-a).requires_grad_()
    out = model({"a": opposite, "b": a})
    assert float(out["b_a"]) < 0
    assert float(out["objective"].detach()) == 0
    out["objective"].backward()
    assert not opposite.grad.any()


@pytest.mark.parametrize("estimator", ["club", "kl"])
def test_unlabelled_joints_do_not_count(estimator):
    model = MutualInformation([Term("a", "label", +1)], {"a": 5, "label": 3}, estimator=estimator)
    torch.nn.init.normal_(model.heads["a_to_label"].weight)
    label = torch.rand(4, 3, 8, 6)
    weights = torch.ones(4, 3)
    weights[1, 2] = weights[3] = 0
    changed = torch.where(weights[..., None, None] > 0, label, torch.rand(4, 3, 8, 6))
    a = features(4)
    first, second = (model({"a": a, "label": y}, weights) for y in (label, changed))
    for key in first:
        torch.testing.assert_close(first[key], second[key])
    unweighted = model({"a": a, "label": label})
    assert not torch.allclose(unweighted["label_a"], first["label_a"])
    nothing = model({"a": a.requires_grad_(), "label": label}, torch.zeros(4, 3))
    assert float(nothing["objective"].detach()) == 0 == float(nothing["fit"].detach())
    nothing["objective"].backward()
    assert torch.isfinite(a.grad).all()


def test_club_draws_negatives_from_the_other_samples():
    """Against the double loop of the definition; a batch of one still ranks a match above chance."""
    log_q = torch.randn(5, 2, 12).log_softmax(-1)
    p = torch.randn(5, 2, 12).softmax(-1)
    pairs = torch.einsum("icp,jcp->ij", log_q, p) / 2  # log q of j's target under i
    expected = np.mean([pairs[i, i] - np.mean([pairs[i, j] for j in range(5) if j != i]) for i in range(5)])
    assert float(club_upper_bound(log_q, p, p)) == pytest.approx(expected, rel=1e-4)
    model = MutualInformation([Term("a", "b", +1)], {"a": 5, "b": 5}, estimator="club")
    one = features(1)
    same, other = (float(model({"a": one, "b": b})["b_a"]) for b in (one, features(1, seed=1)))
    assert same > other + 1


def heatmap(x, y):
    return gaussian_heatmaps(np.array([[x, y]]), np.ones(1), (96, 72), 3.0)[None]


def test_scores_of_shifted_heatmaps_are_those_measured_on_public_code():
    target = spatial_logits(heatmap(36.0, 48.0), unit=False)
    maps = {"same": heatmap(36.0, 48.0), "shifted": heatmap(39.0, 48.0), "flat": torch.zeros(1, 1, 96, 72)}
    logits = {name: spatial_logits(m, unit=False) for name, m in maps.items()}
    released = {name: float(released_score(target, q)) for name, q in logits.items()}
    assert released == pytest.approx({"same": -3.4e-4, "shifted": -3.1e-4, "flat": -1.28e-3}, rel=0.15)
    for name, q in logits.items():
        coded = F.kl_div(target.softmax(-1), q.softmax(-1), reduction="none").mean()
        assert float(coded) == pytest.approx(released[name], rel=1e-5)
    correct = {n: float(lower_bound(q.log_softmax(-1), target.log_softmax(-1))) for n, q in logits.items()}
    assert correct["same"] == pytest.approx(0, abs=1e-6)
    assert correct["shifted"] < -1 and correct["flat"] < -1  # a divergence sees what the score does not


def test_released_terms_are_the_formula_as_coded():
    terms = [Term("a", "b", -1), Term("a", "label", +1), Term("a", "narrow", -1)]
    sizes = {"a": 5, "b": 5, "label": 3, "narrow": 4}
    model = MutualInformation(terms, sizes, estimator="released")
    a, b = features(), features(seed=1)
    label = torch.rand(6, 3, 8, 6, requires_grad=True)
    out = model({"a": a, "b": b, "label": label, "narrow": features(channels=4)})
    p, q = (np.exp(x / 0.05) for x in (b.double().numpy(), a.double().numpy()))
    p, q = (x / x.sum((2, 3), keepdims=True) for x in (p, q))
    assert float(out["b_a"]) == pytest.approx(float((q * (np.log(q) - p)).mean()), rel=1e-4)
    assert set(model.heads) == {"a_to_label", "a_to_narrow"}
    out["objective"].backward()
    assert label.grad.abs().sum() > 0  # public code lets the label be the model's own heatmaps


def test_vsd_is_the_lower_bound_for_every_term():
    terms = [Term("a", "b", +1), Term("b", "a", -1)]
    torch.manual_seed(0)
    values = {}
    for estimator in ("vsd", "kl"):
        model = MutualInformation(terms, {"a": 5, "b": 5}, estimator=estimator)
        values[estimator] = model({"a": features(), "b": features(seed=1)})
    torch.testing.assert_close(values["vsd"], values["kl"])
    assert float(values["vsd"]["b_a"]) < 0


def test_calibrated_weight_gives_the_wanted_ratio():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    objective, reference = (1000 * x).sum(), x.square().sum()
    weight = calibrate_weight(objective, reference, [x], ratio=0.3)
    assert gradient_norm(weight * objective, [x]) == pytest.approx(0.3 * gradient_norm(reference, [x]))
    assert gradient_norm(reference, [x]) == pytest.approx(2 * math.sqrt(5))


def test_autocast_does_not_change_estimates():
    model = MutualInformation([Term("a", "b", +1)], {"a": 5, "b": 5})
    variables = {"a": features(), "b": features(seed=1)}
    expected = model(variables)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(variables), expected)


def test_unknown_estimator_names_the_known_ones():
    with pytest.raises(InputError, match=", ".join(ESTIMATORS)):
        MutualInformation([Term("a", "b", 1)], {"a": 1, "b": 1}, estimator="mine")


def test_dead_features_give_finite_gradients():
    model = MutualInformation([Term("a", "b", -1)], {"a": 5, "b": 5})
    a = torch.zeros(2, 5, 8, 6, requires_grad=True)
    model({"a": a, "b": features(2)})["objective"].backward()
    assert torch.isfinite(a.grad).all()
