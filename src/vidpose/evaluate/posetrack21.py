"""PoseTrack21's own evaluation: AP, and keypoint HOTA, which is HOTA joint by joint (Doering et al. 2022).

Facts from the evaluation kit of anDoer/PoseTrack21 (``trackeval/datasets/posetrack.py``, ``metrics/map.py``,
``metrics/hota_pose.py``); docs/evaluation.md lists where this differs from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidpose.evaluate.matching import check_heads, distances
from vidpose.evaluate.people import Frames, assemble, remove_ignored
from vidpose.evaluate.posetrack import score_posetrack, untracked
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.table import MEAN, mean_of_columns, with_columns

ALPHAS = np.arange(0.05, 0.99, 0.05)
_REACH = 0.5001
"""Head sizes at which the similarity of two joints is 0: 0.5 itself is still above 0."""


def load_posetrack21(gt: Sources, predictions: Sources, *, details: bool = False) -> Frames:
    """The labelled frames; a joint exists where x and y are above 0, whatever its visibility."""
    frames = assemble(load_pairs(gt, predictions, details=details), "labelled")
    for people in (frames.truth, frames.predictions):
        people.present &= (people.xy > 0).all(axis=-1)
    remove_ignored(frames)
    check_heads(frames.truth)
    return frames


def score_posetrack21(frames: Frames, *, part: bool = False) -> dict[str, Any]:
    """AP, precision, recall; poseval's MOTA and MOTP on these frames; keypoint HOTA, DetA and AssA."""
    # A joint that nobody has and somebody predicted has AP 0 there and counts in the mean.
    scores = score_posetrack(frames, protocol="posetrack21", part=part, undefined=0.0)
    if part:
        return scores
    summary = scores.pop("summary")
    values = {"hota": np.full(len(frames.joints) + 1, np.nan)}
    values["deta"] = values["assa"] = values["hota"]
    if untracked(frames) is None:
        values = keypoint_hota(frames)
    for metric, numbers in values.items():
        named = with_columns(dict(zip(frames.joints, (100 * numbers[:-1]).tolist(), strict=True)))
        scores[metric] = {**named, MEAN: float(100 * numbers[-1])}
        summary["mean_of_columns"][metric] = mean_of_columns(named)
    return {**scores, "summary": summary}


def keypoint_hota(frames: Frames) -> dict[str, np.ndarray]:
    """HOTA of every joint over 19 thresholds of similarity, each averaged over them.

    The similarity of two joints falls linearly from 1 to 0 at half a head size. Pairs are assigned frame by
    frame and joint by joint at the largest total similarity, without HOTA's regard for whole tracks.

    Returns:
        ``hota``, ``deta``, ``assa`` [J + 1] in 0..1: the joints, and last the kit's total, in which
        detections are pooled over joints and the association is the mean of the joints in each video.
    """
    num_joints = len(frames.joints)
    totals = np.zeros((3, len(ALPHAS), num_joints + 1))  # true positives, misses, false positives
    association = np.zeros((len(ALPHAS), num_joints + 1))  # weighted by true positives
    for video in np.unique(frames.video):
        counts, assa = _one_video(frames, np.flatnonzero(frames.video == video))
        counts = np.concatenate([counts, counts.sum(axis=-1, keepdims=True)], axis=-1)
        assa = np.concatenate([assa, assa.mean(axis=-1, keepdims=True)], axis=-1)
        totals += counts
        association += assa * counts[0]
    right, misses, false = totals
    assa = association / np.maximum(right, 1e-10)
    deta = right / np.maximum(right + misses + false, 1)
    hota = np.sqrt(deta * assa)
    return {"hota": hota.mean(axis=0), "deta": deta.mean(axis=0), "assa": assa.mean(axis=0)}


def _one_video(frames: Frames, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[3, A, J] true positives, misses and false positives, and [A, J] association accuracy."""
    truth, found, num_joints = frames.truth, frames.predictions, len(frames.joints)
    rows = slice(*np.searchsorted(truth.frame, [members[0], members[-1] + 1]))
    columns = slice(*np.searchsorted(found.frame, [members[0], members[-1] + 1]))
    truth_id = np.unique(truth.track[rows], return_inverse=True)[1]
    found_id = np.unique(found.track[columns], return_inverse=True)[1]
    seen = np.zeros((int(truth_id.max(initial=-1)) + 1, 1, num_joints))
    claimed = np.zeros((1, int(found_id.max(initial=-1)) + 1, num_joints))
    np.add.at(seen[:, 0], truth_id, truth.present[rows])
    np.add.at(claimed[0], found_id, found.present[columns])
    matches = np.zeros((len(ALPHAS), seen.shape[0], claimed.shape[1], num_joints))
    for frame in members:
        here = np.arange(*np.searchsorted(truth.frame, [frame, frame + 1]))
        there = np.arange(*np.searchsorted(found.frame, [frame, frame + 1]))
        if not len(here) or not len(there):
            continue
        pairs = np.repeat(here, len(there)), np.tile(there, len(here))
        similarity = np.maximum(1 - distances(truth, found, *pairs) / _REACH, 0)
        similarity = similarity.reshape(len(here), len(there), num_joints)
        for j in np.flatnonzero(similarity.any(axis=(0, 1))):
            a, b = linear_sum_assignment(similarity[..., j], maximize=True)
            passed = similarity[a, b, j] >= ALPHAS[:, None] - np.finfo(float).eps  # [A, pairs]
            matches[:, truth_id[here[a] - rows.start], found_id[there[b] - columns.start], j] += passed
    right = matches.sum(axis=(1, 2))
    counts = np.stack([right, seen.sum(axis=(0, 1)) - right, claimed.sum(axis=(0, 1)) - right])
    share = matches / np.maximum(1, seen + claimed - matches)
    return counts, (matches * share).sum(axis=(1, 2)) / np.maximum(1, right)
