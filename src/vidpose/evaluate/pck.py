"""PCK: the share of annotated joints that are found within a fraction of a length of the person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidpose.errors import InputError
from vidpose.evaluate.apk import average_precision_of_joints
from vidpose.evaluate.people import Frames, assemble, remove_ignored
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.table import mean_of_columns, with_columns
from vidpose.evaluate.units import people_of, unit_sizes

SETTINGS: Mapping[str, tuple[dict[str, str], tuple[float, ...]]] = {
    "pck": ({"pck": "box"}, (0.2, 0.1, 0.05)),
    "pckh": ({"pckh": "head"}, (0.5, 0.1)),
    "jhmdb": ({"pck": "box", "tpck": "torso"}, (0.2, 0.1, 0.05)),
    "lsp": ({"pck": "torso"}, (0.2, 0.1)),
}
"""Protocol -> {metric: unit}, and its thresholds, the main one first."""
WITH_APK = ("jhmdb",)
"""Protocols that also have the average precision of joints, at the first unit and threshold."""


def load_people(gt: Sources, predictions: Sources) -> Frames:
    """The labelled frames, with the joints of the ground truth and what ignore regions leave."""
    frames = assemble(load_pairs(gt, predictions, joints=None, details=True), "labelled")
    remove_ignored(frames)
    return frames


def score_pck(
    frames: Frames,
    *,
    protocol: str = "pck",
    thresholds: tuple[float, ...] | None = None,
    normalizer: str | None = None,
) -> dict[str, Any]:
    """PCK of every joint at every threshold: ``pck@0.2``, ...; for JHMDB also ``apk@0.2``.

    Each annotated person is compared with one prediction of its frame, see :func:`assign`. A joint that is
    not predicted, or whose person has no prediction, is wrong. Joints that are not annotated do not count.
    ``Mean`` averages the joints; ``summary.pooled`` is the share of all annotated joints together.

    Args:
        protocol: of ``SETTINGS``.
        thresholds: in units; a joint is right up to and including them.
        normalizer: ``head``, ``torso`` or ``box`` in place of the protocol's unit.
    """
    units, defaults = SETTINGS[protocol]
    if normalizer is not None:
        if len(units) > 1 or protocol == "pckh":
            raise InputError(f"{protocol} has its own unit, --normalizer is for pck and lsp")
        units = {"pck": normalizer}
    thresholds = thresholds or defaults
    truth, joints = frames.truth, frames.joints
    scores: dict[str, Any] = {}
    notes = list(frames.notes)
    pooled: dict[str, float] = {}
    counted = missed = 0
    for position, (metric, unit) in enumerate(units.items()):
        size = unit_sizes(truth, joints, unit)
        usable = ~np.isnan(size) & truth.present.any(axis=1)
        left_out = int((truth.present.any(axis=1) & ~usable).sum())
        if left_out:
            notes.append(f"{metric}: {left_out:,} people without {unit} size are left out")
        distance, chosen = person_distances(frames, size)  # [N, J] in units
        if not position:
            counted, missed = int(usable.sum()), int((usable & (chosen < 0)).sum())
        asked = truth.present & usable[:, None]
        number = asked.sum(axis=0)
        for threshold in thresholds:
            right = (asked & (distance <= threshold)).sum(axis=0)
            with np.errstate(invalid="ignore"):
                values = 100 * right / np.where(number > 0, number, np.nan)
            name = f"{metric}@{threshold:g}"
            scores[name] = with_columns(dict(zip(joints, values.tolist(), strict=True)))
            pooled[name] = float(100 * right.sum() / number.sum()) if number.any() else float("nan")
    if protocol in WITH_APK:
        size = unit_sizes(truth, joints, next(iter(units.values())))
        precision = average_precision_of_joints(frames, size, thresholds[0])
        scores[f"apk@{thresholds[0]:g}"] = with_columns(dict(zip(joints, precision.tolist(), strict=True)))
    if missed:
        notes.append(f"{missed:,} of {counted:,} people have no prediction: all their joints are wrong")
    scores["summary"] = {
        "protocol": protocol,
        "main": next(iter(scores)),
        "unit": dict(units),
        "videos": len(np.unique(frames.video)),
        "frames": len(frames),
        "people": counted,
        "predicted_people": len(frames.predictions),
        "missed_people": missed,
        "mean_of_columns": {name: mean_of_columns(values) for name, values in scores.items()},
        "pooled": pooled,
        "notes": notes,
    }
    return scores


def person_distances(frames: Frames, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[N, J] distance of each annotated joint to its person's prediction in units, and [N] that prediction.

    Infinite where the joint is not predicted; the prediction is -1 where the person has none.
    """
    truth, found = frames.truth, frames.predictions
    chosen = assign(frames, size)
    distance = np.full(truth.present.shape, np.inf)
    has = np.flatnonzero(chosen >= 0)
    distance[has] = _joint_distances(frames, size, has, chosen[has])
    distance[~truth.present] = np.inf
    assert len(found) or not len(has)
    return distance, chosen


def assign(frames: Frames, size: np.ndarray) -> np.ndarray:
    """[N] the prediction of each annotated person, -1 for none; no prediction serves two people.

    silent: PCK knows one person and one prediction. With several, each frame is assigned at the least total
    of the people's mean distances, in which a joint counts one unit at most and a missing one as much.
    """
    truth, found = frames.truth, frames.predictions
    chosen = np.full(len(truth), -1, dtype=np.int64)
    size = np.where(np.isnan(size), 1.0, size)
    for frame in np.intersect1d(truth.frame, found.frame):
        here, there = people_of(truth, frame), people_of(found, frame)
        if len(here) == len(there) == 1:
            chosen[here] = there
            continue
        pairs = np.repeat(here, len(there)), np.tile(there, len(here))
        capped = np.minimum(_joint_distances(frames, size, *pairs), 1)
        present = truth.present[pairs[0]]
        cost = np.where(present, capped, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
        rows, columns = linear_sum_assignment(cost.reshape(len(here), len(there)))
        chosen[here[rows]] = there[columns]
    return chosen


def _joint_distances(frames: Frames, size: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    truth, found = frames.truth, frames.predictions
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.linalg.norm(truth.xy[rows] - found.xy[columns], axis=-1) / size[rows][:, None]
    return np.where(found.present[columns] & ~np.isnan(distance), distance, np.inf)
