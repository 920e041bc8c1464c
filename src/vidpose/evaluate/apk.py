"""APK: average precision of joints, each candidate for itself.

Yang and Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", PAMI 2013, Sec. 6: what
papers call AP on JHMDB.
"""

from __future__ import annotations

import numpy as np

from vidpose.evaluate.people import Frames
from vidpose.evaluate.posetrack import envelope_area
from vidpose.evaluate.units import people_of


def average_precision_of_joints(frames: Frames, size: np.ndarray, threshold: float) -> np.ndarray:
    """[J] per cent; NaN for a joint that nobody is annotated with.

    The candidates of a joint are that joint of every prediction in every frame, from the surest down. Each
    belongs to the nearest annotated one of its frame, in the units of that person; it is right within the
    threshold unless a surer candidate was right there before.

    Args:
        size: [N] the unit of each annotated person in pixels; NaN leaves the person out.
        threshold: in units; a joint is right up to and including it.
    """
    truth, found = frames.truth, frames.predictions
    asked = truth.present & ~np.isnan(size)[:, None]
    nearest, distance = _nearest(frames, asked, size)
    out = np.full(asked.shape[1], np.nan)
    for j in np.flatnonzero(asked.any(axis=0)):
        rows = np.flatnonzero(found.present[:, j])
        rows = rows[np.argsort(-found.scores[rows, j], kind="stable")]
        near = distance[rows, j] <= threshold
        right = np.zeros(len(rows), dtype=bool)
        hits = np.flatnonzero(near)
        right[hits[np.unique(nearest[rows[hits], j], return_index=True)[1]]] = True  # the surest of each
        out[j] = 100 * envelope_area(right, np.ones(len(rows)), float(asked[:, j].sum()))
    return out


def _nearest(frames: Frames, asked: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[M, J] the nearest annotated person of each predicted joint, and how far in units; infinite: nobody."""
    truth, found = frames.truth, frames.predictions
    nearest = np.zeros(found.present.shape, dtype=np.int64)
    distance = np.full(found.present.shape, np.inf)
    for frame in np.intersect1d(truth.frame, found.frame):
        here, there = people_of(truth, frame), people_of(found, frame)
        with np.errstate(over="ignore", invalid="ignore"):
            away = np.linalg.norm(truth.xy[here, None] - found.xy[None, there], axis=-1)  # [here, there, J]
            away = away / size[here, None, None]
        away = np.where(asked[here, None] & ~np.isnan(away), away, np.inf)
        nearest[there], distance[there] = here[away.argmin(axis=0)], away.min(axis=0)
    return nearest, distance
