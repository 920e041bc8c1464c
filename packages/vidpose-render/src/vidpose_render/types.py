"""What the parts of the renderer hand to each other. Metres, y up; a person faces +z, its left is +x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Mesh:
    """Triangles with texture coordinates."""

    vertices: np.ndarray
    """[V, 3] float32 metres."""
    faces: np.ndarray
    """[F, 3] int32 rows of ``vertices``, counter-clockwise from outside."""
    uvs: np.ndarray
    """[U, 2] float32, u to the right and v up, 0 to 1 over the texture."""
    uv_faces: np.ndarray
    """[F, 3] int32 rows of ``uvs``."""


@dataclass
class Weights:
    """How far each vertex follows which bones."""

    bones: np.ndarray
    """[V, 4] int32."""
    values: np.ndarray
    """[V, 4] float32, each row sums to 1."""


@dataclass
class Rig:
    """The bones of one person in the mesh's own pose."""

    names: tuple[str, ...]
    parents: np.ndarray
    """[B] int32, -1 for the root; parents come before their children."""
    heads: np.ndarray
    """[B, 3] float32 metres: where each bone begins."""
    tails: np.ndarray
    """[B, 3] float32 metres."""


@dataclass
class Motion:
    """A movement of the rig, for any body."""

    rotations: np.ndarray
    """[T, B, 3, 3] float32: global rotation of each bone away from its rest orientation."""
    root: np.ndarray
    """[T, 3] float32 metres: the hips' head above the ground and along the floor, for ``hip_height``."""
    hip_height: float
    """Height of the hips' head of a person who stands, to whom ``root`` belongs."""
    fps: float
    name: str
    clearance: np.ndarray | None = None
    """[T] float32 metres of air below the lowest point, for ``hip_height``; None: always in contact."""
