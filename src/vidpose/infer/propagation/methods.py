"""From labels on some frames to all: copies, curves and optical flow."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from .columns import Columns
from .motion import PairFlows, step

REACH = 0.012
"""Distance in people's heights of the places whose flow is looked at besides the joint's own."""


def copy(columns: Columns) -> np.ndarray:
    """[F, K, 2] the nearest label; of two as near, the one before. NaN where there is none."""
    return np.where(columns.shares()[..., None] <= 0.5, columns.at_left(), columns.at_right())


def interpolate(columns: Columns) -> np.ndarray:
    """[F, K, 2] on a straight line between the labels, at constant speed; the label beyond them."""
    share = columns.shares()[..., None]
    left, right = columns.at_left(), columns.at_right()
    line = (1 - share) * left + share * right
    return np.where(np.isnan(line), np.where(np.isnan(left), right, left), line)


def spline(columns: Columns) -> np.ndarray:
    """[F, K, 2] on smooth curves through all labels of a stretch, which never overshoot."""
    out = interpolate(columns)
    for k in range(out.shape[1]):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], columns.wanted[:, k], [False]])))
        for start, end in edges.reshape(-1, 2).tolist():
            frames = start + np.flatnonzero(columns.known[start:end, k])
            if len(frames) > 2:
                inside = np.arange(frames[0], frames[-1] + 1)
                out[inside, k] = PchipInterpolator(frames, columns.points[frames, k])(inside)
    return out


def carry(
    columns: Columns,
    flows: PairFlows,
    start: int,
    end: int,
    *,
    backward: bool = False,
    handed_on: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels carried by optical flow through the frames ``start`` .. ``end``.

    Args:
        handed_on: points [K, 2] and misses [K] of the first of these frames (of the last, if ``backward``)
            that were carried there before.

    Returns:
        [n, K, 2] points, NaN where no label comes from that side, and [n, K] pixels by which the way back has
        missed so far, in sum.
    """
    count, width = end - start + 1, columns.known.shape[1]
    points = np.full((count, width, 2), np.nan, dtype=np.float32)
    missed = np.zeros((count, width), dtype=np.float32)
    source = columns.right if backward else columns.left
    order = range(end, start - 1, -1) if backward else range(start, end + 1)
    before: int | None = None
    if handed_on is not None:
        points[order[0] - start], missed[order[0] - start] = handed_on
    for t in order:
        known = columns.known[t]
        points[t - start, known] = columns.points[t, known]
        moving = columns.wanted[t] & ~known & (source[t] >= 0)
        if before is not None:
            moving &= ~np.isnan(points[before - start, :, 0])
            which = np.flatnonzero(moving)
            if len(which):
                at = points[before - start, which]
                found, error = step(flows, before, t, at, REACH * columns.size[t, which])
                points[t - start, which] = found
                missed[t - start, which] = missed[before - start, which] + error
        before = t
    return points, missed


def blend(columns: Columns, forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """[n, K, 2] of the first n frames, carried both ways: each counts the more the nearer its label is."""
    share = columns.shares()[: len(forward), :, None]
    both = (1 - share) * forward + share * backward
    return np.where(np.isnan(both), np.where(np.isnan(forward), backward, forward), both)
