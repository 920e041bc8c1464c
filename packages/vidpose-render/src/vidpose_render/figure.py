"""A person or a thing as one mesh with all its materials, ready to be posed and drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .raster import CUT_OUT, DOUBLE_SIDED, build_textures
from .types import Mesh, Rig, Weights

_GLOSS = {"skin": (0.10, 18.0), "eyes": (0.35, 60.0), "hair": (0.12, 12.0), "shoes": (0.12, 20.0)}


@dataclass
class Figure:
    """Everything of one person, or of one thing, that stays the same over a video."""

    vertices: np.ndarray
    """[V, 3] float32 metres at rest."""
    faces: np.ndarray
    """[F, 3] int32."""
    uvs: np.ndarray
    """[U, 2] float32."""
    uv_faces: np.ndarray
    """[F, 3] int32."""
    materials: np.ndarray
    """[F] int32."""
    flags: np.ndarray
    """[M] int32 of DOUBLE_SIDED and CUT_OUT."""
    gloss: np.ndarray
    """[M, 2] float32 strength and exponent of highlights."""
    texels: np.ndarray
    """[n, 4] uint8, see :func:`~.raster.build_textures`."""
    levels: np.ndarray
    """[M, LEVELS, 3] int32."""
    weights: Weights | None = None
    """``None``: a thing, which is moved as a whole."""
    rig: Rig | None = None


def join(
    parts: list[tuple[Mesh, np.ndarray, str]], weights: list[Weights] | None = None, rig: Rig | None = None
) -> Figure:
    """One figure of parts (mesh, texture [h, w, 3 or 4] uint8, kind), and the weights of each for a person.

    Kinds are ``skin``, ``cloth``, ``hair``, ``shoes``, ``hat``, ``eyes`` and ``thing``. All but skin and eyes
    are seen from both sides; a texture with alpha is cut out.
    """
    textures = [texture for _, texture, _ in parts]
    texels, levels = build_textures(textures)
    first_vertex = np.cumsum([0, *(len(mesh.vertices) for mesh, _, _ in parts)])
    first_uv = np.cumsum([0, *(len(mesh.uvs) for mesh, _, _ in parts)])
    flags = [
        (0 if kind in ("skin", "eyes") else DOUBLE_SIDED) | (CUT_OUT if texture.shape[2] == 4 else 0)
        for _, texture, kind in parts
    ]
    joined = None
    if weights is not None:
        joined = Weights(
            np.concatenate([part.bones for part in weights]).astype(np.int32),
            np.concatenate([part.values for part in weights]).astype(np.float32),
        )
    return Figure(
        vertices=np.concatenate([mesh.vertices for mesh, _, _ in parts]).astype(np.float32),
        faces=np.concatenate([mesh.faces + first_vertex[k] for k, (mesh, _, _) in enumerate(parts)]).astype(
            np.int32
        ),
        uvs=np.concatenate([mesh.uvs for mesh, _, _ in parts]).astype(np.float32),
        uv_faces=np.concatenate([mesh.uv_faces + first_uv[k] for k, (mesh, _, _) in enumerate(parts)]).astype(
            np.int32
        ),
        materials=np.repeat(np.arange(len(parts)), [len(mesh.faces) for mesh, _, _ in parts]).astype(
            np.int32
        ),
        flags=np.array(flags, dtype=np.int32),
        gloss=np.array([_GLOSS.get(kind, (0.0, 1.0)) for _, _, kind in parts], dtype=np.float32),
        texels=texels,
        levels=levels,
        weights=joined,
        rig=rig,
    )
