"""One exposure: posed figures, light and a camera to a picture, and what is seen at each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from . import raster
from .camera import Camera
from .figure import Figure
from .light import Surroundings, view

_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)
_SHADOW_SIDE = 256
_FAR_M = 100.0


@dataclass
class Posed:
    """A figure somewhere at one moment."""

    figure: Figure
    vertices: np.ndarray
    """[V, 3] float32 metres in the world."""
    normals: np.ndarray
    """[V, 3] float32."""


@dataclass
class ShadowMap:
    """How near the first light things are, over the middle of a scene."""

    near: np.ndarray
    """[h, w] float32."""
    axes: np.ndarray
    origin: np.ndarray
    scale: float


@dataclass
class Exposure:
    """What a camera sees at one moment."""

    light: np.ndarray
    """[h, w, 3] float32 linear RGB."""
    nearness: np.ndarray
    """[h, w] float32 1 / depth in metres, 0 for the backdrop."""
    seen: np.ndarray
    """[h, w] int32 number of the triangle, -1 for the backdrop."""
    first: np.ndarray
    """[figures + 1] number of each figure's first triangle."""

    @cached_property
    def owner(self) -> np.ndarray:
        """[h, w] int32 number of the figure, -1 for the backdrop."""
        return (np.searchsorted(self.first, self.seen, side="right") - 1).astype(np.int32)


def cast_shadows(posed: list[Posed], light: np.ndarray, middle: np.ndarray, radius: float) -> ShadowMap:
    """The shadow map of a light from direction ``light`` [3], ``radius`` metres about ``middle`` [3]."""
    ahead = -light / np.linalg.norm(light)
    side = np.array([0.0, 1.0, 0.0]) if abs(ahead[1]) < 0.99 else np.array([1.0, 0.0, 0.0])
    right = np.cross(side, ahead)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(ahead, right), ahead]).astype(np.float32)
    scale = _SHADOW_SIDE / (2 * radius)
    # silent: everything is within 50 m of the middle along the light.
    origin = (middle - axes.T @ np.array([radius, radius, _FAR_M / 2])).astype(np.float32)
    near = np.zeros((_SHADOW_SIDE, _SHADOW_SIDE), dtype=np.float32)
    for one in posed:
        flat = raster.project_parallel(one.vertices, axes, origin, scale, _FAR_M)
        raster.fill_depth(flat, one.figure.faces, near)
    return ShadowMap(near, axes, origin, scale)


def expose(
    posed: list[Posed],
    camera: Camera,
    surroundings: Surroundings,
    shadows: ShadowMap,
    backdrop: np.ndarray,
) -> Exposure:
    """Draws figures in front of ``backdrop`` [h, w, 3], which :func:`behind` gives, at its size."""
    image = backdrop.copy()
    nearness = np.zeros(image.shape[:2], dtype=np.float32)
    seen = np.full(image.shape[:2], -1, dtype=np.int32)
    screens, first = [], [0]
    for one in posed:
        f = one.figure
        screen = raster.project(one.vertices, camera.rotation, camera.translation, camera.lens)
        raster.fill(
            screen, f.faces, f.uvs, f.uv_faces, f.materials, f.flags, f.texels, f.levels, first[-1],
            nearness, seen,
        )  # fmt: skip
        screens.append(screen)
        first.append(first[-1] + len(f.faces))
    for one, screen, start in zip(posed, screens, first[:-1], strict=True):
        f = one.figure
        raster.shade(
            one.vertices, one.normals, screen, f.faces, f.uvs, f.uv_faces, f.materials, f.gloss, f.texels,
            f.levels, _LINEAR, start, nearness, seen, camera.eye, surroundings.ambient, surroundings.lights,
            surroundings.colours, shadows.near, shadows.axes, shadows.origin, shadows.scale, _FAR_M, image,
        )  # fmt: skip
    return Exposure(image, nearness, seen, np.array(first))


def behind(
    camera: Camera,
    surroundings: Surroundings,
    shadows: ShadowMap,
    size: tuple[int, int],
    flat: np.ndarray | None = None,
) -> np.ndarray:
    """[h, w, 3] float32 linear RGB: the surroundings or a flat backdrop, and shadows on the ground."""
    if flat is None:
        image = view(surroundings, camera.rotation, camera.eye, camera.lens, size)
    else:
        image = flat.copy()
    lit = np.ones(size, dtype=np.float32)
    raster.ground_shadow(
        camera.rotation, camera.eye, camera.lens, shadows.near, shadows.axes, shadows.origin, shadows.scale,
        _FAR_M, lit,
    )  # fmt: skip
    image *= (1 - surroundings.shadow * (1 - lit))[..., None]
    return image
