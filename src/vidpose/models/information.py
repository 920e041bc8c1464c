"""Mutual-information objectives: every estimator that a method of this package uses, in one place.

A variable is a map [B, C, h, w], read as C distributions over the h·w positions: the softmax of its values
over a temperature (:func:`spatial_logits`). Estimates are in nats, averaged over channels and samples.

The papers name Variational Self-Distillation (VSD: Tian et al., CVPR 2021). What follows from it:

- ``lower_bound``: ``-KL(p_b || q(b|a))``, with a 1x1 convolution from a as the head of q. Up to the constant
  H(b) it is the variational lower bound of I(a;b) (Barber and Agakov, 2003).
- ``club_upper_bound``: CLUB (Cheng et al., ICML 2020). A lower bound does not serve to *minimise*
  information: it also falls when q gets worse. CLUB stays above I(a;b) once q fits.
- ``released_score``: what public code computes under the name of VSD. It hands probabilities where KL takes
  log-probabilities, and so ranks by the entropy of one argument and hardly by agreement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError

ESTIMATORS = ("club", "kl", "vsd", "released")
TEMPERATURE = 0.05


# --- maps as distributions ---------------------------------------------------------------------------


def spatial_logits(z: Tensor, *, temperature: float = TEMPERATURE, unit: bool = True) -> Tensor:
    """Logits of the spatial distributions of a map: [B, C, h, w] -> [B, C, h·w], single precision.

    Args:
        unit: divide each sample by the size of its peaks, so that scaling features changes no information.
            Labels need none: a Gaussian target has peak 1.
    """
    z = z.float().flatten(2)
    if unit:
        z = z - z.mean(dim=-1, keepdim=True)
        peaks = z.abs().amax(dim=-1, keepdim=True)  # [B, C, 1]
        # silent: "unit" is the root mean square of the channels' peaks, one number per sample: peaks then
        # have the size of a heatmap's, for which public code chose its temperature. One number per channel
        # would cancel a channel attention (TDMI Eq. 6), and no term could teach it anything.
        z = z / (peaks.square().mean(dim=1, keepdim=True) + 1e-12).sqrt()
    return z / temperature


# --- estimators --------------------------------------------------------------------------------------


def lower_bound(log_q: Tensor, log_p: Tensor, weights: Tensor | None = None) -> Tensor:
    """``-KL(p || q)``: a lower bound of I(a;b) - H(b), where q is what a says about b.

    Args:
        log_q, log_p: [B, C, P] log-probabilities over P positions.
        weights: [B, C], 0 leaves a channel of a sample out.
    """
    return _mean((log_p.exp() * (log_q - log_p)).sum(dim=-1), weights)


def club_upper_bound(log_q: Tensor, p: Tensor, negatives: Tensor, weights: Tensor | None = None) -> Tensor:
    """CLUB: log-likelihood of the own target minus that of the other samples' targets.

    Args:
        log_q: [B, C, P], what a sample's representation says about its target.
        p: [B, C, P], the targets.
        negatives: [B', C, P] targets that stand for the marginal. Where it is ``p`` itself, these are all
            *other* samples of the batch, with equal weight.
        weights: [B, C], 0 leaves a channel of a sample out, as a target and as a negative.
    """
    own = (p * log_q).sum(dim=-1)  # [B, C]
    if negatives is not p:
        return _mean(own - (negatives.mean(dim=0) * log_q).sum(dim=-1), weights)
    known = torch.ones_like(own) if weights is None else (weights > 0).to(own.dtype)
    total = (known[..., None] * p).sum(dim=0)  # [C, P]
    others = known.sum(dim=0) - known
    marginal = ((total * log_q).sum(dim=-1) - known * own) / others.clamp(min=1)
    return _mean(own - marginal, known * (others > 0))


def released_score(target: Tensor, representation: Tensor) -> Tensor:
    """What public code calls the information of two variables: ``mean(q · (log q - p))`` over all entries.

    Args:
        target, representation: [B, C, P] logits of p and q; that p is a probability and not its logarithm is
            the released behaviour.
    """
    q = representation.softmax(dim=-1)
    return (q * (representation.log_softmax(dim=-1) - target.softmax(dim=-1))).mean()


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return values.mean()
    known = (weights > 0).to(values.dtype)
    return (values * known).sum() / known.sum().clamp(min=1)


# --- the objective -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Term:
    """One signed summand ``sign · I(target; representation)`` of an objective that is minimised.

    Gradients reach the network through ``representation`` alone. ``both_ways`` averages the estimate with
    that of exchanged roles, so that both get gradients.
    """

    representation: str
    target: str
    sign: int
    both_ways: bool = False

    @property
    def name(self) -> str:
        return f"{self.target}_{self.representation}"


class MutualInformation(nn.Module):
    """A sum of signed mutual-information terms between named maps, with the heads that estimate them.

    Args:
        terms: the summands; sign +1 is minimised, -1 maximised.
        channels: channels of every variable by name.
        labels: variables that are heatmaps with peak 1: used as they are, never given gradients.
        estimator: ``"club"``: CLUB's upper bound for minimised terms, the lower bound for maximised ones.
            ``"kl"`` (or ``"vsd"``, the papers' choice): the lower bound for all. ``"released"``: see
            :func:`released_score`.
        temperature: of the spatial softmax.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        channels: Mapping[str, int],
        *,
        labels: Collection[str] = ("label",),
        estimator: str = "club",
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__()
        if estimator not in ESTIMATORS:
            raise InputError(f"estimator is {estimator!r}: known are {', '.join(ESTIMATORS)}")
        self.terms = tuple(terms)
        self.labels = frozenset(labels)
        self.estimator = "kl" if estimator == "vsd" else estimator
        self.temperature = temperature
        self.heads = nn.ModuleDict()
        for a, b in self._directions():
            same = channels[a] == channels[b]
            if self.estimator == "released" and same and b not in self.labels:
                continue  # compared channel by channel, without a head
            head = nn.Conv2d(channels[a], channels[b], 1)
            # silent: q of a label starts uniform; q of a feature as "channel c of b looks like channel c of
            # a" (where they differ in number: like a mix of a's), so that gradients flow from the start.
            if b in self.labels:
                nn.init.normal_(head.weight, std=0.001)
            elif same:
                nn.init.dirac_(head.weight)
            else:
                nn.init.orthogonal_(head.weight)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]
            self.heads[f"{a}_to_{b}"] = head

    def _directions(self) -> list[tuple[str, str]]:
        pairs = [(t.representation, t.target) for t in self.terms]
        pairs += [(t.target, t.representation) for t in self.terms if t.both_ways]
        return list(dict.fromkeys(pairs))

    def forward(
        self, variables: Mapping[str, Tensor], label_weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The objective of one batch.

        Args:
            variables: name -> [B, C, h, w], all of one h x w. ``"released"`` takes the *predicted* heatmaps
                as label and sends gradients into them, as public code does.
            label_weights: [B, J], 0 where a joint has no label.

        Returns:
            ``"objective"``: the signed sum, with gradients into the representations and not into the heads;
            ``"fit"``: minus the log-likelihood of the heads, with gradients into the heads alone;
            one detached estimate per term, by :attr:`Term.name`.
        """
        device = next(iter(variables.values())).device.type
        with torch.autocast(device, enabled=False):
            maps = self._maps(variables, label_weights)
            objective = next(iter(maps.logits.values())).new_zeros(())
            fit = objective
            out: dict[str, Tensor] = {}
            for term in self.terms:
                estimate = self._estimate(term, maps)
                out[term.name] = estimate.detach()
                if self.estimator == "club" and term.sign > 0:
                    # Information cannot fall below 0: a negative estimate says that q is not fitted yet, and
                    # following it would teach the features to mislead q.
                    estimate = estimate.clamp(min=0)
                objective = objective + term.sign * estimate
            for a, b in self._directions():
                if f"{a}_to_{b}" in self.heads:
                    log_q = self._convolve(a, b, maps.inputs[a].detach(), frozen=False).log_softmax(dim=-1)
                    fit = fit - lower_bound(log_q, maps.log_targets[b], maps.weights(b))
        return {"objective": objective, "fit": fit, **out}

    def _maps(self, variables: Mapping[str, Tensor], label_weights: Tensor | None) -> _Maps:
        inputs = {
            name: spatial_logits(z, temperature=self.temperature, unit=name not in self.labels)
            for name, z in variables.items()
        }
        logits = inputs
        if self.estimator == "released":  # features as they are
            logits = {
                n: spatial_logits(z, temperature=self.temperature, unit=False) for n, z in variables.items()
            }
        targets = {b for _, b in self._directions()}
        log_targets = {b: logits[b].detach().log_softmax(dim=-1) for b in targets}
        size = next(iter(variables.values())).shape[-2:]
        return _Maps(
            inputs, logits, log_targets, dict.fromkeys(self.labels, label_weights), (size[0], size[1])
        )

    def _estimate(self, term: Term, maps: _Maps) -> Tensor:
        a, b = term.representation, term.target
        if self.estimator == "released":
            return self._released(term, maps)
        estimate = self._directed(a, b, term.sign, maps)
        return (estimate + self._directed(b, a, term.sign, maps)) / 2 if term.both_ways else estimate

    def _directed(self, a: str, b: str, sign: int, maps: _Maps) -> Tensor:
        """I(b;a) through q(b|a), with gradients into a and neither into b nor into q."""
        log_q = self._convolve(a, b, maps.inputs[a], frozen=True).log_softmax(dim=-1)
        if self.estimator == "kl" or sign < 0:
            return lower_bound(log_q, maps.log_targets[b], maps.weights(b))
        p = maps.log_targets[b].exp()
        negatives = p
        if len(p) == 1:
            # silent: a batch of one has no other samples; its target moved by half the map stands for them.
            rows, columns = maps.size
            moved = p.unflatten(-1, maps.size).roll((rows // 2, columns // 2), (-2, -1))
            negatives = moved.flatten(-2)
        return club_upper_bound(log_q, p, negatives, maps.weights(b))

    def _released(self, term: Term, maps: _Maps) -> Tensor:
        a, b, logits = term.representation, term.target, maps.logits
        if b in self.labels:  # p: pose predicted from the feature, detached; q: the model's own heatmaps
            # silent: public code predicts with HRNet's frozen last layer, which fits features of its width
            # alone; here a head of its own, fitted to the label, does it for any width.
            return released_score(self._convolve(a, b, maps.inputs[a].detach(), frozen=True), logits[b])
        # silent: maps of unequal channels cannot be compared one by one; the head makes them equal.
        q = self._convolve(a, b, logits[a], frozen=False) if f"{a}_to_{b}" in self.heads else logits[a]
        return released_score(logits[b] if term.both_ways else logits[b].detach(), q)

    def _convolve(self, a: str, b: str, x: Tensor, *, frozen: bool) -> Tensor:
        """The 1x1 convolution from a to the logits of b, [B, C_a, P] -> [B, C_b, P]."""
        head = self.heads[f"{a}_to_{b}"]
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        weight, bias = head.weight.float().flatten(2), head.bias.float()
        return F.conv1d(x, weight.detach(), bias.detach()) if frozen else F.conv1d(x, weight, bias)


@dataclass(frozen=True)
class _Maps:
    """The variables of one batch as distributions over positions."""

    inputs: dict[str, Tensor]
    """What heads see: unit-normalised logits."""
    logits: dict[str, Tensor]
    """What is compared: the same, but for the released estimator."""
    log_targets: dict[str, Tensor]
    label_weights: dict[str, Tensor | None]
    size: tuple[int, int]

    def weights(self, name: str) -> Tensor | None:
        return self.label_weights.get(name)


# --- weights -----------------------------------------------------------------------------------------


def gradient_norm(loss: Tensor, parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of the gradient of a scalar with respect to all ``parameters``; keeps the graph."""
    wanted = [p for p in parameters if p.requires_grad]
    if not loss.requires_grad:
        return 0.0
    grads = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True)
    return float(sum(float(g.double().square().sum()) for g in grads if g is not None) ** 0.5)


def calibrate_weight(
    objective: Tensor, heatmap_loss: Tensor, parameters: Iterable[nn.Parameter], *, ratio: float = 0.3
) -> float:
    """The weight that makes the gradient norm of ``objective`` be ``ratio`` times that of ``heatmap_loss``.

    Take both from one batch at initialisation, and the parameters that the heatmap loss trains (not the
    estimator's heads). 0.1 to 1 keeps the objective an auxiliary one.
    """
    parameters = list(parameters)
    own = gradient_norm(objective, parameters)
    return ratio * gradient_norm(heatmap_loss, parameters) / own if own > 0 else 1.0
