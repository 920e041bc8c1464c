"""Which points lie strictly inside a polygon."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

_ORIENTATION_BOUND = 4e-16  # > (3 + 16 e) e, e = 2**-53: above it the sign of a float determinant is right


def points_inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Points strictly inside a polygon by the even-odd rule; a point on its boundary is outside.

    Args:
        points: [N, 2] finite.
        polygon: [M, 2] corners in order, closed or not; fewer than three cover nothing.

    Returns:
        [N] bool, exact for all floats (near an edge the side is computed with fractions).
    """
    inside = np.zeros(len(points), dtype=bool)
    if len(polygon) < 3 or not len(points):
        return inside
    near = np.flatnonzero(((points >= polygon.min(axis=0)) & (points <= polygon.max(axis=0))).all(axis=1))
    if not len(near):
        return inside
    start = polygon[None, :, :]  # [1, M, 2]
    end = np.roll(polygon, -1, axis=0)[None, :, :]
    point = points[near][:, None, :]  # [N', 1, 2]
    side = _side(start, end, point)
    low, high = np.minimum(start, end), np.maximum(start, end)
    on_edge = (side == 0) & (point >= low).all(axis=-1) & (point <= high).all(axis=-1)
    upward = (start[..., 1] <= point[..., 1]) & (point[..., 1] < end[..., 1])
    downward = (end[..., 1] <= point[..., 1]) & (point[..., 1] < start[..., 1])
    crossings = (upward & (side > 0)) | (downward & (side < 0))
    inside[near] = (crossings.sum(axis=1) % 2 == 1) & ~on_edge.any(axis=1)
    return inside


def _side(start: np.ndarray, end: np.ndarray, point: np.ndarray) -> np.ndarray:
    """[N, M] sign-exact: > 0 left of the edge, 0 on its line, < 0 right."""
    with np.errstate(over="ignore", invalid="ignore"):
        a = (end[..., 0] - start[..., 0]) * (point[..., 1] - start[..., 1])
        b = (end[..., 1] - start[..., 1]) * (point[..., 0] - start[..., 0])
        side = a - b
        sure = np.abs(side) > _ORIENTATION_BOUND * (np.abs(a) + np.abs(b))
    # An edge decides something only for points within its height.
    low, high = np.minimum(start, end)[..., 1], np.maximum(start, end)[..., 1]
    for n, m in np.argwhere(~sure & (point[..., 1] >= low) & (point[..., 1] <= high)):
        (x1, y1), (x2, y2) = map(_exact, start[0, m]), map(_exact, end[0, m])
        x, y = map(_exact, point[n, 0])
        exact = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
        side[n, m] = (exact > 0) - (exact < 0)
    return side


def _exact(value: float) -> Fraction:
    return Fraction(float(value))
