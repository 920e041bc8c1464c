"""Rotations as unit quaternions (w, x, y, z) and as matrices acting on column vectors, in any number."""

from __future__ import annotations

import numpy as np

_AXES = {"X": 0, "Y": 1, "Z": 2}


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quaternions [..., 4] x [..., 4]: first ``b``, then ``a``."""
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def conjugate(q: np.ndarray) -> np.ndarray:
    """The inverse of unit quaternions [..., 4]."""
    return q * np.array([1, -1, -1, -1], dtype=q.dtype)


def normalised(q: np.ndarray) -> np.ndarray:
    """Vectors or quaternions [..., K] of length 1; those of length 0 stay."""
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    return q / np.where(length > 1e-12, length, 1.0)


def from_rotvec(vectors: np.ndarray) -> np.ndarray:
    """Axis times angle in radians [..., 3] -> quaternions [..., 4]."""
    vectors = np.asarray(vectors, dtype=np.float64)
    half = 0.5 * np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * vectors], axis=-1)


def to_rotvec(q: np.ndarray) -> np.ndarray:
    """Quaternions [..., 4] -> axis times angle [..., 3], the angle at most pi."""
    q = np.where(q[..., :1] < 0, -q, q)
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, q[..., :1])
    return q[..., 1:] * np.where(length > 1e-9, angle / np.maximum(length, 1e-12), 2.0)


def from_euler(degrees: np.ndarray, axes: str) -> np.ndarray:
    """Angles [..., K] about ``axes`` (letters X, Y, Z), multiplied as written: the last acts first."""
    q = np.zeros((*degrees.shape[:-1], 4))
    q[..., 0] = 1.0
    half = np.deg2rad(degrees) * 0.5
    for i, axis in enumerate(axes):
        turn = np.zeros_like(q)
        turn[..., 0] = np.cos(half[..., i])
        turn[..., 1 + _AXES[axis]] = np.sin(half[..., i])
        q = turn if i == 0 else multiply(q, turn)
    return q


def to_matrix(q: np.ndarray) -> np.ndarray:
    """Unit quaternions [..., 4] -> [..., 3, 3]."""
    w, x, y, z = q[..., 0], q[..., 1], q[..., 2], q[..., 3]
    out = np.empty((*q.shape[:-1], 3, 3), dtype=q.dtype)
    out[..., 0, 0] = 1 - 2 * (y * y + z * z)
    out[..., 0, 1] = 2 * (x * y - w * z)
    out[..., 0, 2] = 2 * (x * z + w * y)
    out[..., 1, 0] = 2 * (x * y + w * z)
    out[..., 1, 1] = 1 - 2 * (x * x + z * z)
    out[..., 1, 2] = 2 * (y * z - w * x)
    out[..., 2, 0] = 2 * (x * z - w * y)
    out[..., 2, 1] = 2 * (y * z + w * x)
    out[..., 2, 2] = 1 - 2 * (x * x + y * y)
    return out


def rotate(q: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] turned by quaternions [..., 4]; leading shapes broadcast."""
    u = q[..., 1:]
    t = 2 * np.cross(u, vectors)
    return vectors + q[..., :1] * t + np.cross(u, t)


def smallest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The quaternion [..., 4] of the smallest rotation from direction ``a`` [..., 3] to direction ``b``."""
    a, b = np.broadcast_arrays(normalised(np.asarray(a, float)), normalised(np.asarray(b, float)))
    w = 1.0 + (a * b).sum(-1, keepdims=True)
    # silent: opposite directions have no smallest rotation; half a turn about an axis across is taken.
    across = np.cross(a, np.where(np.abs(a[..., :1]) < 0.9, [1.0, 0, 0], [0, 1.0, 0]))
    q = np.where(w > 1e-9, np.concatenate([w, np.cross(a, b)], -1), np.concatenate([0 * w, across], -1))
    return normalised(q)


def twist(q: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The part of ``q`` [..., 4] that turns about the unit ``axis`` [..., 3]; the rest swings the axis."""
    along = (q[..., 1:] * axis).sum(-1, keepdims=True)
    out = normalised(np.concatenate([q[..., :1], along * axis], axis=-1))
    lost = np.abs(out).sum(-1, keepdims=True) < 0.5  # half a turn across the axis: no twist can be told
    return np.where(lost, np.array([1.0, 0, 0, 0]), out)


def slerp(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Great-circle interpolation of quaternions [..., 4], the short way; ``weight`` fits to [..., 1]."""
    dot = (a * b).sum(-1, keepdims=True)
    b = np.where(dot < 0, -b, b)
    angle = np.arccos(np.clip(np.abs(dot), 0.0, 1.0))
    near = angle < 1e-4
    sine = np.where(near, 1.0, np.sin(angle))
    wa = np.where(near, 1 - weight, np.sin((1 - weight) * angle) / sine)
    wb = np.where(near, weight, np.sin(weight * angle) / sine)
    return normalised(wa * a + wb * b)


def resample(q: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Quaternions over time [T, ..., 4] at fractional frames ``positions`` [K] within 0 and T - 1."""
    low = np.clip(np.floor(positions).astype(np.int64), 0, max(len(q) - 2, 0))
    high = np.minimum(low + 1, len(q) - 1)
    weight = (positions - low).reshape((-1,) + (1,) * (q.ndim - 1))
    return slerp(q[low], q[high], weight)


def resample_points(points: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The same for points or numbers [T, ...], linearly."""
    low = np.clip(np.floor(positions).astype(np.int64), 0, max(len(points) - 2, 0))
    high = np.minimum(low + 1, len(points) - 1)
    weight = (positions - low).reshape((-1,) + (1,) * (points.ndim - 1))
    return points[low] * (1 - weight) + points[high] * weight
