"""Which frames to label next, so that propagation gains most."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.weight_sets import tell_weights

from .columns import arrange
from .frames import NumberedFrames
from .motion import PairFlows
from .people import load_labels
from .run import by_fusion, load_network, used_weights

_CANDIDATES = 48
_LEAST, _SLOWEST = 0.02, 1e-4  # of confidences and of the rates by which they fall
_TRUST, _UNKNOWN = 0.5, 2.0  # settled on three drawn videos of varying speed, with others in mind


@dataclass
class Suggestion:
    """A frame that is worth a label."""

    frame: int
    file_name: str | None
    """Of a sequence of images."""
    gain: float
    """Joints that the label is expected to put right; without labels nothing is known: 0."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        name = f"  {self.file_name}" if self.file_name is not None else ""
        return f"frame {self.frame}{name}" + (f"  {self.gain:.0f} joints" if self.gain else "")


def suggest(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    labels: str | os.PathLike[str] | None = None,
    count: int = 10,
    *,
    weights: str | os.PathLike[str] = "default",
    first_frame: int | None = None,
    quiet: bool = True,
) -> list[Suggestion]:
    """Frames to label next, the best first.

    Without labels: evenly spaced ones. With labels: those by which most doubt would go, by the confidences of
    what is propagated from the labels that there are.

    Args:
        source: as of :func:`~vidpose.infer.propagation.propagate`.
        labels: of some frames; ``None``: none yet.
        count: how many.
        weights: as of :func:`~vidpose.infer.propagation.propagate`.
        first_frame: as of :func:`~vidpose.infer.propagation.propagate`.

    Raises:
        InputError: the video or the labels cannot be read, or the video has no ``count`` unlabelled frames.
    """
    if count < 1:
        raise InputError(f"{count} suggestions: at least 1 is needed")
    frames = NumberedFrames(source)
    try:
        if labels is None:
            _enough(frames.count, count)
            chosen = evenly(frames.count, count)
        else:
            found = load_labels(Path(labels), frames.count, frames.names, first_frame=first_frame)
            _enough(frames.count - len(found.labelled), count)
            columns = arrange(found.tracks, frames.count)
            flows, title = PairFlows(frames, "dis"), f"suggest {frames.name}"
            network = load_network("auto", weights)
            used, fusion = used_weights("auto", weights)
            tell_weights(used, fusion=fusion, quiet=quiet)
            _, confidence = by_fusion(
                columns, found.tracks, flows, found.data.skeleton, network,
                title=title, quiet=quiet, weights=weights,
            )  # fmt: skip
            doubtful = np.where(columns.open, confidence, np.nan)
            chosen = by_doubt(doubtful, found.labelled, count)
        names = frames.names
        return [Suggestion(k, names[k] if names is not None else None, gain) for k, gain in chosen]
    finally:
        frames.close()


def _enough(there: int, count: int) -> None:
    if count > there:
        raise InputError(f"{count} suggestions: the video has {there} frames without labels")


def by_doubt(confidence: np.ndarray, labelled: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Frames and how many joints each is expected to put right, the best first.

    A joint's confidence c at d frames from the nearest label is taken to fall as exp(-r d), which tells r:
    where it falls fast, a new label helps its next neighbours alone. Of all ways to share new labels among
    the gaps between old ones, and to place them there, the one that gains most is taken.

    Args:
        confidence: [F, K], NaN where there is no joint to propagate.
        labelled: [m] frames with labels, ascending, at least one.
    """
    total = len(confidence)
    away = np.abs(np.arange(total)[:, None] - labelled[None]).min(axis=1)[:, None]
    rate = _rates(confidence, away)
    ends = [-1, *labelled.tolist(), total]
    gaps = [_Gap(rate, a, b, total) for a, b in zip(ends, ends[1:], strict=False) if b - a > 1]
    taken = [0] * len(gaps)
    for _ in range(count):
        gains = [gap.gain(m + 1) - gap.gain(m) for gap, m in zip(gaps, taken, strict=True)]
        best = int(np.argmax(gains))
        if gains[best] <= 0:
            break
        taken[best] += 1
    out = []
    for gap, m in zip(gaps, taken, strict=True):
        if m:
            out += [(frame, gap.gain(m) / m) for frame in gap.frames(m)]
    out.sort(key=lambda pair: (-pair[1], pair[0]))
    while len(out) < count:  # nothing more to gain that is known of: far from all others
        taken_frames = np.array([*labelled.tolist(), *(frame for frame, _ in out)])
        far = np.abs(np.arange(total)[:, None] - taken_frames[None]).min(axis=1)
        out.append((int(far.argmax()), 0.0))
    return out


def _rates(confidence: np.ndarray, away: np.ndarray) -> np.ndarray:
    """[F, K] by which confidences fall, from ``confidence`` [F, K] at ``away`` [F, 1] frames from a label."""
    unlabelled = away > 0
    known = ~np.isnan(confidence) & unlabelled
    rate = -np.log(np.nan_to_num(confidence, nan=1.0).clip(_LEAST, 1.0)) / np.maximum(away, 1)
    rate = np.maximum(rate, _SLOWEST)
    usual = float(np.exp(np.log(rate[known]).mean())) if known.any() else 1.0
    rate = rate**_TRUST * usual ** (1 - _TRUST)
    # Where somebody is not propagated, nobody knows whether they, or somebody new, are there.
    return np.where(known, rate, np.where(unlabelled, _UNKNOWN * usual, 0.0))


class _Gap:
    """The frames between two labels, or before the first, or after the last, and where new ones would go.

    Args:
        rate: [F, K] by which confidences fall from frame to frame.
        before, after: the labels; -1 and F: none.
    """

    def __init__(self, rate: np.ndarray, before: int, after: int, total: int) -> None:
        inside = np.arange(before + 1, after)
        self._candidates = inside[:: max(-(-len(inside) // _CANDIDATES), 1)]
        places = [before, *self._candidates.tolist(), after]
        size = len(places)
        # value[i, j]: joints that are right between neighbouring labels i and j of ``places``
        self._value = np.full((size, size), -np.inf)
        for i in range(size):
            for j in range(i + 1, size):
                a, b = places[i], places[j]
                between = np.arange(a + 1, b)
                near = np.minimum(
                    between - a if a >= 0 else np.inf, b - between if b < total else np.inf
                )  # fmt: skip
                near = np.where(np.isfinite(near), near, total) * np.ones(len(between))
                here = float(np.exp(-rate[between] * near[:, None]).sum())
                self._value[i, j] = here + (rate.shape[1] if j < size - 1 else 0)
        self._best = [self._value[0].copy()]
        """Of m new labels: [size] the most that is right up to each place, which is a label."""
        self._from: list[np.ndarray] = []

    def _solve(self, m: int) -> None:
        while len(self._best) <= m:
            sums = self._best[-1][:, None] + self._value
            self._from.append(sums.argmax(axis=0))
            self._best.append(sums.max(axis=0))

    def gain(self, m: int) -> float:
        """Joints that ``m`` new labels put right; as many as for fewer where there is no room."""
        self._solve(m)
        values = [float(best[-1]) for best in self._best[: m + 1]]
        return max(values) - values[0]

    def frames(self, m: int) -> list[int]:
        """Where ``m`` new labels go."""
        self._solve(m)
        place, out = len(self._value) - 1, []
        for k in range(m - 1, -1, -1):
            place = int(self._from[k][place])
            out.append(int(self._candidates[place - 1]))
        return sorted(out)


def evenly(total: int, count: int) -> list[tuple[int, float]]:
    """Frames as far from each other as they can be, half as far from both ends."""
    return [(int((k + 0.5) * total / count), 0.0) for k in range(count)]
