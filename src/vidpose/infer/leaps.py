"""Joints that leap away from their track for some frames, put back.

A model that sees few frames now and then takes one hand for the other, or a neighbour's. From frames on both
sides that shows: the joint is far from where it was before and is afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from vidpose.results import FramePoses

REACH_S = 0.25
"""Seconds before and after a frame that tell where a joint should be."""
_SPREADS, _SIZES = 2.0, 0.1  # a leap is farther than so many usual distances and so much of the person's size

T = TypeVar("T")


class LeapFilter(Generic[T]):
    """Corrects the poses of a video from ``reach`` frames before and after each.

    A joint leaps where it is farther from the median of its track, weighted by score, than twice the median
    distance there and a tenth of the person's size. It gets the place between its nearest frames that do not
    leap; its score stays. What moves fast is spread widely, so that it is left alone (after Hampel's
    identifier, 1974).

    Args:
        reach: frames that it waits for; 0: gives every frame as it came.
    """

    def __init__(self, reach: int) -> None:
        self.reach = reach
        self._past: deque[FramePoses] = deque(maxlen=reach)  # as they came
        self._coming: deque[tuple[FramePoses, T]] = deque()

    def __len__(self) -> int:
        """Frames that wait."""
        return len(self._coming)

    def __call__(self, frames: Iterator[tuple[FramePoses, T]]) -> Iterator[tuple[FramePoses, T]]:
        """The frames in order, each with what belongs to it."""
        for pair in frames:
            self._coming.append(pair)
            if len(self._coming) > self.reach:
                yield self._next()
        while self._coming:
            yield self._next()

    def _next(self) -> tuple[FramePoses, T]:
        frame, rest = self._coming.popleft()
        window = [*self._past, frame, *(coming for coming, _ in self._coming)]
        self._past.append(frame)
        keypoints = frame.keypoints.copy()
        for person, track_id in enumerate(frame.track_ids.tolist()):
            seen = [(f, k) for f in window for k in np.flatnonzero(f.track_ids == track_id)]
            points = np.stack([f.keypoints[k] for f, k in seen]).astype(np.float64)
            scores = np.stack([f.scores[k] for f, k in seen]).astype(np.float64)
            width, height = frame.boxes[person, 2:] - frame.boxes[person, :2]
            here = next(i for i, (f, _) in enumerate(seen) if f is frame)
            indices = np.array([f.index for f, _ in seen])
            size = float(np.sqrt(max(width, 1.0) * max(height, 1.0)))
            keypoints[person] = without_leaps(points, scores, indices, here, size)
        return replace(frame, keypoints=keypoints), rest


def without_leaps(
    points: np.ndarray, scores: np.ndarray, indices: np.ndarray, here: int, size: float
) -> np.ndarray:
    """[J, 2] the joints of one frame of a track, those that leap put back.

    Only what leaps between two frames of the track is: at its ends a leap may be the beginning of a movement.

    Args:
        points: [N, J, 2] of the track's frames around it, in order of time.
        scores: [N, J].
        indices: [N] numbers of these frames.
        here: position of the frame among them.
        size: of the person, in the points' unit.
    """
    weights = scores + 1e-6
    middle = _weighted_median(points, weights[..., None])  # [J, 2]
    distance = np.linalg.norm(points - middle, axis=-1)  # [N, J]
    leaps = distance > _SPREADS * _weighted_median(distance, weights) + _SIZES * size
    out = points[here].copy()
    for joint in np.flatnonzero(leaps[here]):
        good = np.flatnonzero(~leaps[:, joint])
        before, after = good[good < here], good[good > here]
        if len(before) and len(after):
            a, b = before[-1], after[0]
            share = (indices[here] - indices[a]) / (indices[b] - indices[a])
            out[joint] = points[a, joint] * (1 - share) + points[b, joint] * share
    return out


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Over the first axis of [N, ...]: the value at which half of the weight is reached."""
    order = values.argsort(axis=0)
    weights = np.take_along_axis(np.broadcast_to(weights, values.shape), order, axis=0).cumsum(axis=0)
    place = (weights >= weights[-1] / 2).argmax(axis=0)
    return np.take_along_axis(np.take_along_axis(values, order, axis=0), place[None], axis=0)[0]
