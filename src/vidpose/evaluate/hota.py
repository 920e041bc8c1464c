"""Tracking of whole people: HOTA, CLEAR-MOT and identity scores, by the package trackers (TrackEval's).

HOTA: Luiten et al. 2021. How alike two people are is the overlap of their boxes, their OKS, or the share of
joints within half a head size (PCKh).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.coco import areas, joint_sigmas, similarities
from vidpose.evaluate.matching import DISTANCE_THRESHOLD
from vidpose.evaluate.people import Frames, People, assemble, remove_ignored
from vidpose.evaluate.posetrack import untracked
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.regions import points_inside
from vidpose.evaluate.units import box_overlaps, head_sizes, people_of

SIMILARITIES = ("box", "oks", "pckh")


def load_tracks(gt: Sources, predictions: Sources) -> Frames:
    """The labelled frames, without people in ignore regions; every person needs a track id.

    Raises:
        InputError: naming the person without one.
    """
    frames = assemble(load_pairs(gt, predictions, joints=None, details=True), "labelled")
    for side in ("truth", "predictions"):
        people: People = getattr(frames, side)
        setattr(frames, side, people.take(~_boxes_ignored(people, frames.regions)))
        if people.present.any():
            remove_ignored(frames, (side,))
    why_not = untracked(frames)
    if why_not:
        raise InputError(f"{why_not}, which tracking needs")
    return frames


def score_hota(frames: Frames, *, similarity: str = "box") -> dict[str, Any]:
    """HOTA, CLEAR-MOT and identity scores over all videos.

    Args:
        similarity: of ``SIMILARITIES``.

    Returns:
        ``hota`` (``Mean`` is HOTA, the mean over 19 thresholds), ``identity`` (IDF1) and ``clear`` (MOTA),
        each with what it is made of; both of these at a similarity of 0.5. ``summary.counts``: switches,
        hits, misses, false positives, mostly tracked and mostly lost tracks.

    Raises:
        InputError: an unknown similarity, or nothing to measure it by.
    """
    if similarity not in SIMILARITIES:
        raise InputError(f"unknown similarity {similarity!r}; known: {', '.join(SIMILARITIES)}")
    from trackers.eval import (
        aggregate_clear_metrics,
        aggregate_hota_metrics,
        aggregate_identity_metrics,
        compute_clear_metrics,
        compute_hota_metrics,
        compute_identity_metrics,
    )

    frames = _measurable(frames, similarity)
    measure = _measure(frames, similarity)
    parts: dict[str, list[dict[str, Any]]] = {"hota": [], "clear": [], "identity": []}
    for video in np.unique(frames.video):
        truth_ids, found_ids, values = [], [], []
        for frame in np.flatnonzero(frames.video == video).tolist():
            here, there = people_of(frames.truth, frame), people_of(frames.predictions, frame)
            truth_ids.append(frames.truth.track[here])
            found_ids.append(frames.predictions.track[there])
            values.append(measure(here, there))
        parts["hota"].append(compute_hota_metrics(truth_ids, found_ids, values))
        parts["clear"].append(compute_clear_metrics(truth_ids, found_ids, values, threshold=0.5))
        parts["identity"].append(compute_identity_metrics(truth_ids, found_ids, values, threshold=0.5))
    hota = aggregate_hota_metrics(parts["hota"])
    clear = aggregate_clear_metrics(parts["clear"])
    identity = aggregate_identity_metrics(parts["identity"])
    return {
        "hota": _percent(hota, ("DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA"), "HOTA"),
        "identity": _percent(identity, ("IDP", "IDR"), "IDF1"),
        "clear": _percent(clear, ("MOTP", "CLR_Re", "CLR_Pr"), "MOTA"),
        "summary": {
            "protocol": "hota",
            "main": "hota",
            "similarity": similarity,
            "videos": len(np.unique(frames.video)),
            "frames": len(frames),
            "people": len(frames.truth),
            "predicted_people": len(frames.predictions),
            "tracks": len(np.unique(frames.truth.track)),
            "predicted_tracks": len(np.unique(frames.predictions.track)),
            "counts": {
                name: int(clear[name])
                for name in ("IDSW", "CLR_TP", "CLR_FN", "CLR_FP", "MT", "PT", "ML", "Frag")
            },
            "notes": list(frames.notes),
        },
    }


def _percent(values: dict[str, Any], names: tuple[str, ...], main: str) -> dict[str, float]:
    chosen = {name: 100 * float(values[name]) for name in (main, *names)}
    return {**chosen, "Mean": chosen[main]}


def _measurable(frames: Frames, similarity: str) -> Frames:
    """Without people who have nothing to be measured by; a note says how many."""
    out = replace(frames, notes=list(frames.notes))
    for side, name in (("truth", "annotated"), ("predictions", "predicted")):
        people: People = getattr(frames, side)
        if similarity == "box":
            keep, what = ~np.isnan(people.boxes).any(axis=1), "box or joints"
        else:
            keep, what = people.present.any(axis=1), "joints"
        if not keep.all() and (keep.any() or similarity == "box"):
            setattr(out, side, people.take(keep))
            out.notes.append(f"{int((~keep).sum()):,} {name} people without {what} are left out")
    return out


def _measure(frames: Frames, similarity: str) -> Any:
    """A function from rows of both sides in one frame to their [P, Q] similarity in 0..1."""
    truth, found = frames.truth, frames.predictions
    if similarity == "box":
        truth_boxes, found_boxes = truth.boxes, found.boxes
        return lambda here, there: box_overlaps(truth_boxes[here], found_boxes[there])
    number = np.maximum(truth.present.sum(axis=1), 1)
    if not truth.present.any():
        raise InputError(f"the ground truth has no joints, which {similarity} needs: use --similarity box")
    if similarity == "oks":
        joint_sigmas(frames.joints)
        area = np.nan_to_num(areas(truth))

        def joints(person: np.ndarray, prediction: np.ndarray) -> np.ndarray:
            return similarities(frames, person, prediction, area)
    else:
        size = head_sizes(truth, frames.joints)
        headless = np.flatnonzero(np.isnan(size) & truth.present.any(axis=1))
        if len(headless):
            place = truth.place(int(truth.origin[headless[0]]))
            raise InputError(f"{place}: has no head size, which pckh needs: use --similarity oks or box")

        def joints(person: np.ndarray, prediction: np.ndarray) -> np.ndarray:
            length = np.linalg.norm(truth.xy[person] - found.xy[prediction], axis=-1) / size[person][:, None]
            both = truth.present[person] & found.present[prediction]
            return (both & (length <= DISTANCE_THRESHOLD)).astype(np.float64)

    def measure(here: np.ndarray, there: np.ndarray) -> np.ndarray:
        shape = len(here), len(there)
        values = joints(np.repeat(here, shape[1]), np.tile(there, shape[0]))
        return values.sum(axis=1).reshape(shape) / number[here][:, None]

    return measure


def _boxes_ignored(people: People, regions: dict[int, list[np.ndarray]]) -> np.ndarray:
    """[N] people without joints whose box has its centre in an ignore region."""
    ignored = np.zeros(len(people), dtype=bool)
    boxes = people.boxes
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    for frame, polygons in regions.items():
        rows = people_of(people, frame)
        rows = rows[~people.present[rows].any(axis=1) & ~np.isnan(centres[rows]).any(axis=1)]
        for polygon in polygons:
            ignored[rows] |= points_inside(centres[rows], polygon)
    return ignored
