"""The official PoseTrack evaluation: average precision per joint, and CLEAR-MOT tracking metrics per joint.

It reproduces the numbers of leonid-pishchulin/poseval; docs/evaluation.md lists the steps and every place
where the two differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vidpose.evaluate.matching import check_heads, match
from vidpose.evaluate.people import Frames, People, assemble, remove_ignored
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.sequence import NO_TRACK
from vidpose.evaluate.table import MEAN, mean_of_columns, with_columns
from vidpose.evaluate.tracking import Edges, count_tracking


def evaluate_posetrack(gt: Sources, predictions: Sources) -> dict[str, Any]:
    """Scores predictions by the official PoseTrack protocol (15 joints).

    Args:
        gt: PoseTrack17, 18 or 21 annotations: file, folder of files, parsed JSON, or a list of these.
        predictions: the same, in either layout, or ``VideoPoses``.

    Returns:
        ``{"ap", "precision", "recall", "mota", "motp"}``, each name -> percentage (float): the 15 joints
        in PoseTrack17's order, the columns Head ... Ankle and ``Mean``, the official total (mean of the 15
        joints without the undefined); NaN where nothing defines a number. ``"summary"`` holds counts, notes,
        ``mean_of_columns`` (the mean of the seven columns that some papers print) and ``ap_range``, the
        lowest and highest mean AP that the order of equal scores allows.

    Raises:
        InputError: naming file, frame and problem.
    """
    return score_posetrack(load_posetrack(gt, predictions))


def load_posetrack(gt: Sources, predictions: Sources, *, details: bool = False) -> Frames:
    """The frames with annotated people, without what lies in ignore regions."""
    frames = assemble(load_pairs(gt, predictions, details=details))
    remove_ignored(frames)
    check_heads(frames.truth)
    return frames


def score_posetrack(
    frames: Frames, *, protocol: str = "posetrack", part: bool = False, undefined: float = np.nan
) -> dict[str, Any]:
    """The scores of :func:`evaluate_posetrack` for frames that were loaded.

    Args:
        protocol: the name in ``summary``.
        part: the frames hold some of the people: MOTA and MOTP are not counted, and a joint that nobody of
            them has is undefined.
        undefined: AP and recall of a joint that was predicted and never annotated.
    """
    truth, found = frames.truth, frames.predictions
    (labels,), _, edges = match(truth, found)
    notes = list(frames.notes)
    values: dict[str, np.ndarray] = {}
    values["ap"], values["precision"], values["recall"], lowest, highest = average_precision(
        truth.present, found, labels, undefined=np.nan if part else undefined, part=part
    )
    low, high = _joint_mean(frames, lowest), _joint_mean(frames, highest)
    if high - low >= 0.05:
        notes.append(f"many scores are equal: their order alone lets the mean AP be {low:.1f} to {high:.1f}")
    if not part:
        why_not = untracked(frames)
        if why_not:
            values["mota"] = values["motp"] = np.full(len(frames.joints), np.nan)
            notes.append(f"{why_not}: MOTA and MOTP are not scored")
        else:
            values["mota"], values["motp"] = _tracking(frames, edges)
    scores: dict[str, Any] = {
        metric: with_columns(dict(zip(frames.joints, map(float, numbers), strict=True)))
        for metric, numbers in values.items()
    }
    scores["summary"] = {
        "protocol": protocol,
        "main": "ap",
        "videos": len(np.unique(frames.video)),
        "frames": len(frames.video),
        "people": len(truth.frame),
        "predicted_people": len(found.frame),
        "mean_of_columns": {metric: mean_of_columns(numbers) for metric, numbers in scores.items()},
        "ap_range": [low, high],
        "notes": notes,
    }
    return scores


def _joint_mean(frames: Frames, values: np.ndarray) -> float:
    return with_columns(dict(zip(frames.joints, values.tolist(), strict=True)))[MEAN]


# -------------------- metrics


def average_precision(
    truth_present: np.ndarray,
    found: People,
    labels: np.ndarray,
    *,
    undefined: float = np.nan,
    part: bool = False,
    weights: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """[5, J] per cent: AP, final precision and recall, lowest and highest AP that equal scores allow.

    Without annotated joints AP and recall are ``undefined`` if there are predictions, 0 if there are none
    (with ``part`` NaN).

    Args:
        truth_present: [N, J] annotated joints.
        labels: [M, J] which predicted joints are right.
        weights: [N], [M] how much each annotated and each predicted person counts; default 1.
    """
    num_joints = truth_present.shape[1]
    out = np.zeros((5, num_joints))
    truth_weight, found_weight = weights or (np.ones(len(truth_present)), np.ones(len(labels)))
    positives = truth_weight @ truth_present
    for j in range(num_joints):
        rows = np.flatnonzero(found.present[:, j])
        if not len(rows):
            out[:, j] = np.nan if part and positives[j] == 0 else 0.0
            continue
        if positives[j] == 0:
            out[:, j] = undefined, 0.0, undefined, undefined, undefined
            continue
        right, scores, weight = labels[rows, j], found.scores[rows, j], found_weight[rows]
        hits = float(weight @ right)
        out[1, j] = 100 * hits / weight.sum() if weight.any() else 0.0
        out[2, j] = 100 * hits / positives[j]
        # Of equal scores the original takes them as numpy's default sort leaves them, which is arbitrary; the
        # same sort of the same numbers in the same order gives the same AP.
        order = np.argsort(scores)[::-1]
        out[[0, 3, 4], j] = 100 * envelope_area(right[order], weight[order], positives[j])
        if (np.diff(scores[order]) == 0).any():
            for row, first in ((3, right), (4, ~right)):
                order = np.lexsort((first, -scores))
                out[row, j] = 100 * envelope_area(right[order], weight[order], positives[j])
    return out


def envelope_area(right: np.ndarray, weight: np.ndarray, positives: float) -> float:
    """Area under the precision envelope of predictions from the surest down (all-point VOC AP)."""
    hits = np.cumsum(right * weight)
    precision = hits / np.maximum(np.cumsum(weight), np.finfo(float).tiny)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(hits / positives, prepend=0.0) * envelope))


def untracked(frames: Frames) -> str | None:
    """Why tracking cannot be scored; None where it can."""
    for name, people in (("ground truth", frames.truth), ("predictions", frames.predictions)):
        missing = np.flatnonzero(people.track == NO_TRACK)
        if len(missing):
            where = people.place(int(people.origin[missing[0]]))
            return f"{where}: this person of the {name} has no track_id"
    return None


def _tracking(frames: Frames, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """[J] MOTA and [J] MOTP in per cent.

    As the original has it: the last annotated frame of every video does not count, and a frame in which one
    side is empty counts as one miss and one false positive of each joint.
    """
    truth, found = frames.truth, frames.predictions
    num_frames = len(frames.video)
    last = np.diff(frames.video, append=-1) != 0
    both = np.bincount(truth.frame, minlength=num_frames).astype(bool)
    both &= np.bincount(found.frame, minlength=num_frames).astype(bool)
    counts = count_tracking(
        edges,
        truth.frame,
        truth.track,
        truth.present,
        found.frame,
        found.track,
        found.present,
        both & ~last,
        len(frames.joints),
    )
    one_sided = int(np.sum(~both & ~last))
    objects = counts.objects + one_sided
    errors = counts.misses + counts.false_positives + counts.switches + 2 * one_sided
    with np.errstate(invalid="ignore", divide="ignore"):
        mota = 100 * (1 - errors / np.where(objects > 0, objects, np.nan))
        motp = np.where(counts.matches > 0, 100 * (1 - counts.distance / counts.matches), 0.0)
    return mota, motp
