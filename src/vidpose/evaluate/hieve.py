"""HiEve's AP at three distances and their mean, with and without frame weights: a local estimate.

The test server's code and its weights are not published. What is known: the 14 joints, AP@50, AP@75, AP@90,
their mean AP@avg, and the prefix w_ for sums over frames that are weighted (HiEve's site; TDMI section 4).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.matching import match
from vidpose.evaluate.people import Frames, assemble, remove_ignored
from vidpose.evaluate.posetrack import average_precision
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.table import mean_of_columns, with_columns
from vidpose.evaluate.units import box_sizes, head_sizes

LEVELS = {"50": 0.5, "75": 0.25, "90": 0.1}
"""Level -> reach in head sizes.
silent: papers call the level a distance threshold, yet every published AP@90 is below its AP@50, so that a
higher level must be the stricter one. Level b means a reach of 1 - b; 50 is PoseTrack's rule."""
_HEADS_PER_BOX = 7.5  # silent: where no head can be measured, a head of a person's box


def load_hieve(gt: Sources, predictions: Sources) -> Frames:
    """The frames with annotated people, each with a head size."""
    frames = assemble(load_pairs(gt, predictions, joints=None, details=True))
    remove_ignored(frames)
    truth = frames.truth
    # silent: HiEve has no head boxes
    sizes = head_sizes(truth, frames.joints)
    guessed = np.isnan(sizes) & truth.present.any(axis=1)
    sizes[guessed] = box_sizes(truth)[guessed] / _HEADS_PER_BOX
    if guessed.any():
        frames.notes.append(
            f"{int(guessed.sum()):,} people have neither head box nor nose and chest: their head size is "
            f"1/{_HEADS_PER_BOX:g} of the longer side of their box"
        )
    # a person that is a point is within reach of itself only
    truth.head_size = np.where(sizes > 0, sizes, np.finfo(float).tiny)
    return frames


def score_hieve(
    frames: Frames,
    *,
    weights: np.ndarray | None = None,
    thresholds: tuple[float, ...] | None = None,
) -> dict[str, Any]:
    """``ap`` (the mean over levels), ``ap50``, ``ap75``, ``ap90``; with weights ``w_ap`` and so on.

    A joint that nobody is annotated with is undefined.

    Args:
        weights: [F] of the frames; hits, predictions and annotated joints of a frame count so often.
        thresholds: three reaches in head sizes in place of those of ``LEVELS``.
    """
    if thresholds is not None and len(thresholds) != len(LEVELS):
        raise InputError(f"hieve has three thresholds (AP@50, 75, 90), {len(thresholds)} were given")
    truth, found = frames.truth, frames.predictions
    scores: dict[str, Any] = {}
    for prefix, weight in (("", None), ("w_", weights)):
        if prefix and weight is None:
            continue
        pair = None if weight is None else (weight[truth.frame], weight[found.frame])
        levels: list[np.ndarray] = []
        for reach in thresholds or LEVELS.values():
            (labels,), _, _ = match(truth, found, (reach,))
            levels.append(average_precision(truth.present, found, labels, weights=pair, part=True)[0])
        named = {f"{prefix}ap": np.mean(levels, axis=0)}
        named |= {f"{prefix}ap{level}": values for level, values in zip(LEVELS, levels, strict=True)}
        for metric, values in named.items():
            scores[metric] = with_columns(dict(zip(frames.joints, values.tolist(), strict=True)))
    scores["summary"] = {
        "protocol": "hieve",
        "main": "ap" if weights is None else "w_ap",
        "videos": len(np.unique(frames.video)),
        "frames": len(frames),
        "people": len(truth),
        "predicted_people": len(found),
        "thresholds": dict(zip(LEVELS, thresholds or LEVELS.values(), strict=True)),
        "mean_of_columns": {metric: mean_of_columns(values) for metric, values in scores.items()},
        "notes": [
            *frames.notes,
            "a local estimate: the test server's formula and frame weights are not published",
        ],
    }
    return scores
