"""Which prediction is whose, by the share of joints within reach: the rule of the official PoseTrack code."""

from __future__ import annotations

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.people import People
from vidpose.evaluate.tracking import Edges

DISTANCE_THRESHOLD = 0.5
"""In head sizes (0.6 of the head box's diagonal): a predicted joint within it is right."""
_PAIRS_AT_ONCE = 100_000


def check_heads(truth: People) -> None:
    """Refuses an annotated person with joints and without a unit of distance."""
    headless = np.flatnonzero(np.isnan(truth.head_size) & truth.present.any(axis=1))
    if len(headless):
        raise InputError(
            f"{truth.place(int(truth.origin[headless[0]]))}: has joints but no head box "
            "(x1, y1, x2, y2 in PoseTrack17, bbox_head in PoseTrack18), which is the unit of distance"
        )


def match(
    truth: People, found: People, thresholds: tuple[float, ...] = (DISTANCE_THRESHOLD,)
) -> tuple[list[np.ndarray], np.ndarray, Edges]:
    """Which predicted joints are right, and all pairs of joints within the threshold.

    Each prediction keeps the annotated person of which it gets the largest share of joints right, then each
    annotated person the prediction with the largest share; of equals the first. Scores play no part.

    Args:
        thresholds: in head sizes; the first one decides who belongs to whom, each has labels of its own.

    Returns:
        for each threshold the labels [M, J] of the predictions; [M] the annotated person that each belongs
        to, -1 for none; and the pairs of joints within the first threshold, for tracking.
    """
    num_frames = int(max(truth.frame.max(initial=-1), found.frame.max(initial=-1))) + 1
    truth_count = np.bincount(truth.frame, minlength=num_frames)
    truth_start = np.cumsum(truth_count) - truth_count
    partners = truth_count[found.frame]  # [M] annotated people in the prediction's frame
    best_share = np.zeros(len(found.frame))
    best_truth = np.full(len(found.frame), -1, dtype=np.int64)
    joints_of = np.maximum(truth.present.sum(axis=1), 1)
    parts: list[Edges] = []
    for rows in _chunks(partners):
        count = partners[rows]
        prediction = np.repeat(np.arange(rows.start, rows.stop), count)
        first = np.cumsum(count) - count  # [rows] where the prediction's pairs start
        person = (
            np.arange(len(prediction))
            - np.repeat(first, count)
            + np.repeat(truth_start[found.frame[rows]], count)
        )
        distance = distances(truth, found, person, prediction)
        right = distance <= thresholds[0]  # [pairs, J]
        share = right.sum(axis=1) / joints_of[person]
        some = np.flatnonzero(count)
        best = np.maximum.reduceat(share, first[some]) if len(some) else np.zeros(0)
        best_share[rows.start + some] = best
        top = np.flatnonzero(share == np.repeat(best, count[some]))[::-1]
        best_truth[prediction[top]] = person[top]  # backwards, so that the first of equals is written last
        pair, joint = np.nonzero(right)
        parts.append(Edges(person[pair], prediction[pair], joint, distance[pair, joint]))
    labels = [np.zeros(found.present.shape, dtype=bool) for _ in thresholds]
    owner = np.full(len(found.frame), -1, dtype=np.int64)
    candidates = np.flatnonzero(best_share > 0)
    order = candidates[np.lexsort((candidates, -best_share[candidates], best_truth[candidates]))]
    if len(order):
        chosen = order[np.diff(best_truth[order], prepend=-1) != 0]
        owner[chosen] = best_truth[chosen]
        distance = distances(truth, found, best_truth[chosen], chosen)
        for label, threshold in zip(labels, thresholds, strict=True):
            label[chosen] = distance <= threshold
    return labels, owner, Edges.join(parts)


def _chunks(partners: np.ndarray) -> list[slice]:
    """Cuts the predictions so that a piece has about ``_PAIRS_AT_ONCE`` pairs: memory stays bounded."""
    piece = (np.cumsum(partners) - partners) // _PAIRS_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(partners)]
    return [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def distances(truth: People, found: People, person: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """[pairs, J] in head sizes; infinite where one of the two lacks the joint."""
    difference = truth.xy[person] - found.xy[prediction]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        distance = (
            np.sqrt(difference[..., 0] ** 2 + difference[..., 1] ** 2) / truth.head_size[person][:, None]
        )
    distance[~(truth.present[person] & found.present[prediction])] = np.inf
    return distance
