"""Posing the rig and bending a mesh with it (linear-blend skinning)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .types import Motion, Rig, Weights

_compiled: Any = njit(cache=True, fastmath=True, nogil=True)


def joint_positions(rig: Rig, rotations: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Where the bones' heads lie: global rotations [..., B, 3, 3], the root [..., 3] -> [..., B, 3] metres.

    Bones keep the rig's own lengths; ``root`` is where the first bone's head goes.
    """
    out = np.empty((*rotations.shape[:-3], len(rig.names), 3), dtype=np.float64)
    for b, parent in enumerate(rig.parents):
        if parent < 0:
            out[..., b, :] = root
        else:
            out[..., b, :] = out[..., parent, :] + rotations[..., parent, :, :] @ (
                rig.heads[b] - rig.heads[parent]
            )
    return out


def bone_transforms(rig: Rig, rotations: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Global rotations [..., B, 3, 3] and the root [..., 3] -> [..., B, 3, 4] float32 from rest to posed."""
    heads = joint_positions(rig, rotations, root)
    moved = (rotations @ rig.heads[:, :, None].astype(np.float64))[..., 0]
    return np.concatenate([rotations, (heads - moved)[..., None]], axis=-1).astype(np.float32)


def pose_bones(rig: Rig, motion: Motion, frame: int, hip_height: float) -> np.ndarray:
    """Transforms [B, 3, 4] float32 from the rig's rest to frame ``frame`` of a movement.

    The root's place is scaled from the person whom the motion was made for to one of ``hip_height`` metres.
    """
    root = motion.root[frame].astype(np.float64) * (hip_height / motion.hip_height)
    return bone_transforms(rig, motion.rotations[frame].astype(np.float64), root)


def skin(vertices: np.ndarray, weights: Weights, transforms: np.ndarray) -> np.ndarray:
    """Vertices at rest [V, 3] float32 bent by bone transforms [B, 3, 4] -> [V, 3] float32."""
    transforms = np.ascontiguousarray(transforms, dtype=np.float32)
    bent: np.ndarray = _skin_loop(vertices, weights.bones, weights.values, transforms)
    return bent


def skin_points(bones: np.ndarray, points: np.ndarray, transforms: np.ndarray) -> np.ndarray:
    """Points at rest [P, 3], each on one bone [P], moved by [..., B, 3, 4] -> [..., P, 3] float32."""
    mine = transforms[..., bones, :, :]
    return ((mine[..., :3] @ points[:, :, None])[..., 0] + mine[..., 3]).astype(np.float32)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3] float32: of each vertex the mean over its triangles [F, 3], by their areas.

    A vertex of no triangle gets (0, 0, 0).
    """
    normals: np.ndarray = _normals_loop(vertices, faces)
    return normals


@_compiled
def _skin_loop(
    vertices: np.ndarray, bones: np.ndarray, values: np.ndarray, transforms: np.ndarray
) -> np.ndarray:
    count = vertices.shape[0]
    out = np.empty((count, 3), dtype=np.float32)
    for v in range(count):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        px, py, pz = np.float32(0), np.float32(0), np.float32(0)
        for k in range(bones.shape[1]):
            w = values[v, k]
            if w == 0:
                continue
            m = transforms[bones[v, k]]
            px += w * (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3])
            py += w * (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3])
            pz += w * (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3])
        out[v, 0], out[v, 1], out[v, 2] = px, py, pz
    return out


@_compiled
def _normals_loop(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    out = np.zeros((vertices.shape[0], 3), dtype=np.float32)
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay, az = (
            vertices[j, 0] - vertices[i, 0],
            vertices[j, 1] - vertices[i, 1],
            vertices[j, 2] - vertices[i, 2],
        )
        bx, by, bz = (
            vertices[k, 0] - vertices[i, 0],
            vertices[k, 1] - vertices[i, 1],
            vertices[k, 2] - vertices[i, 2],
        )
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in range(3):
            v = faces[f, corner]
            out[v, 0] += nx
            out[v, 1] += ny
            out[v, 2] += nz
    for v in range(out.shape[0]):
        length = np.sqrt(out[v, 0] ** 2 + out[v, 1] ** 2 + out[v, 2] ** 2)
        if length > 1e-20:
            out[v, 0] /= length
            out[v, 1] /= length
            out[v, 2] /= length
    return out
