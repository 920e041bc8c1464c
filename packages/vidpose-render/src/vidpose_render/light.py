"""What surrounds a scene: a picture in every direction, the light that comes from it, and the ground."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from .raster import compiled

"""The order of :attr:`Surroundings.ambient`."""
_SH_SCALE = np.array([0.282095, *[0.488603] * 3, *[1.092548] * 2, 0.315392, 1.092548, 0.546274])
_COSINE = np.array([1.0, *[2 / 3] * 3, *[1 / 4] * 5])  # of a cosine lobe, over pi
_SH_WIDTH = 64


@dataclass
class Panorama:
    """A picture of all directions, once for all scenes that use it."""

    picture: np.ndarray
    """[h, 2 h, 3] float32 linear RGB, equirectangular."""
    small: np.ndarray
    """[_SH_WIDTH / 2, _SH_WIDTH, 3] the same, for its light."""

    @classmethod
    def of(cls, picture: np.ndarray) -> Panorama:
        """From [h, 2 h, 3] uint8 RGB as displays take it."""
        linear = ((np.arange(256) / 255) ** 2.2).astype(np.float32)[picture]
        return cls(linear, cv2.resize(linear, (_SH_WIDTH, _SH_WIDTH // 2), interpolation=cv2.INTER_AREA))


@dataclass
class Surroundings:
    """A picture all around and its light, in linear colours."""

    picture: np.ndarray
    """[h, 2 h, 3] float32 linear RGB, equirectangular: its middle is +z, its left and right edges are -z."""
    ambient: np.ndarray
    """[9, 3] float32 spherical harmonics of the irradiance over pi: 1, y, z, x, xy, yz, 3zz-1, xz, xx-yy."""
    lights: np.ndarray
    """[K, 3] float32 unit vectors to what shines; the first one casts the shadows."""
    colours: np.ndarray
    """[K, 3] float32."""
    shadow: float = 1.0
    """How much of the ground's light is the first light's, 0 to 1."""
    height: float = 1.6
    """Metres above the ground from which the picture was taken: it is laid on the ground from there."""
    reach: float = 12.0
    """Metres around the middle within which the picture's lower half is ground."""
    turn: float = 0.0
    """Share of a full turn by which the picture is turned about the upright."""


def surround(
    panorama: Panorama,
    rng: np.random.Generator,
    *,
    turn: float | None = None,
    sun: np.ndarray | None = None,
) -> Surroundings:
    """Light for a picture of all directions: soft light from all of it, and one or two lamps.

    Args:
        turn: share of a full turn about the upright; ``None``: random.
        sun: [3] where the strongest light is; ``None``: the brightest place, or now and then anywhere.
    """
    steps = int((rng.random() if turn is None else turn) * _SH_WIDTH)
    small = np.roll(panorama.small, steps, axis=1)
    directions, solid = _directions(_SH_WIDTH // 2)
    ambient = _project(small, directions, solid)
    bright = small.mean(axis=2) * (directions[..., 1] > 0.05)  # lamps are above
    if sun is None and rng.random() < 0.7 and bright.max() > 0.2:
        near = (bright >= 0.9 * bright.max())[..., None]
        sun = (directions * near * small.mean(axis=2, keepdims=True)).sum(axis=(0, 1))
    if sun is None:
        around = rng.uniform(0, 2 * np.pi)
        up = rng.uniform(0.15, 1.4)
        sun = np.array([np.cos(up) * np.sin(around), np.sin(up), np.cos(up) * np.cos(around)])
    sun = sun + rng.normal(0, 0.15, 3)
    sun[1] = max(sun[1], 0.15 * np.linalg.norm(sun))
    sun /= np.linalg.norm(sun)
    mean = float(ambient[0].mean()) + 1e-3
    strength = mean * rng.choice([0.15, 0.7, 1.6, 3.0], p=[0.25, 0.3, 0.3, 0.15]) * rng.uniform(0.7, 1.3)
    warm = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.12, 0.25) * np.array([1.0, 0.1, -0.8])
    lights, colours = [sun], [strength * warm]
    if rng.random() < 0.35:  # a second lamp or a bright wall
        other = rng.normal(0, 1, 3)
        other[1] = abs(other[1]) * 0.5
        tint = rng.uniform(0.7, 1.2, 3)
        lights.append(other / np.linalg.norm(other))
        colours.append(mean * rng.uniform(0.1, 0.8) * tint)
    direct = strength * max(sun[1], 0)
    return Surroundings(
        picture=panorama.picture,
        ambient=ambient.astype(np.float32),
        lights=np.array(lights, dtype=np.float32),
        colours=np.array(colours, dtype=np.float32),
        shadow=float(direct / (direct + mean)),
        height=float(rng.uniform(1.3, 2.2)),
        reach=float(rng.uniform(8, 20)),
        turn=steps / _SH_WIDTH,
    )


@lru_cache(maxsize=4)
def _directions(height: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors [h, 2 h, 3] of an equirectangular picture's pixels, and their solid angles [h, 2 h]."""
    polar = (np.arange(height) + 0.5) / height * np.pi
    around = ((np.arange(2 * height) + 0.5) / (2 * height) - 0.5) * 2 * np.pi
    sine = np.sin(polar)[:, None]
    up = np.broadcast_to(np.cos(polar)[:, None], (height, 2 * height))
    out = np.stack([sine * np.sin(around), up, sine * np.cos(around)], axis=-1)
    return out, np.broadcast_to(sine * (np.pi / height) ** 2, (height, 2 * height))


def _project(picture: np.ndarray, directions: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """[9, 3] factors of ``Surroundings.ambient``: irradiance over pi (Ramamoorthi and Hanrahan)."""
    x, y, z = np.moveaxis(directions, -1, 0)
    basis = np.stack(
        [np.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y]
    ) * _SH_SCALE[:, None, None]  # fmt: skip
    radiance = np.einsum("khw,hwc,hw->kc", basis, picture, solid)
    out: np.ndarray = radiance * (_COSINE * _SH_SCALE)[:, None]
    return out


@compiled
def look_up(
    rotation: np.ndarray, eye: np.ndarray, lens: np.ndarray, height: float, reach: float, turn: float,
    size: np.ndarray, across: np.ndarray, down: np.ndarray,
) -> None:  # fmt: skip
    """Where in an equirectangular picture each pixel of a camera looks, for ``cv2.remap``.

    Below the horizon the picture lies on the ground as far as ``reach``, seen from ``height`` in its middle,
    so that it moves as ground does when the camera does; further out it is infinitely far.

    Args:
        rotation: [3, 3] world to camera. eye: [3]. lens: focal length, centre x, centre y, least depth.
        turn: share of a full turn of the picture. size: [2] its height and width.
        across, down: [h, w] float32; changed.
    """
    rows, columns = across.shape
    for y in range(rows):
        b = (y + 0.5 - lens[2]) / lens[0]
        for x in range(columns):
            a = (x + 0.5 - lens[1]) / lens[0]
            dx = rotation[0, 0] * a + rotation[1, 0] * b + rotation[2, 0]
            dy = rotation[0, 1] * a + rotation[1, 1] * b + rotation[2, 1]
            dz = rotation[0, 2] * a + rotation[1, 2] * b + rotation[2, 2]
            if dy < -1e-4:
                distance = -eye[1] / dy
                gx, gz = eye[0] + distance * dx, eye[2] + distance * dz
                far = np.sqrt(gx * gx + gz * gz)
                # From the ground to what is far, without a seam: first the ground's direction.
                share = min(max(2.0 - far / reach, 0.0), 1.0) if distance > 0.0 else 0.0
                length = 1.0 / np.sqrt(dx * dx + dy * dy + dz * dz)
                near = 1.0 / np.sqrt(far * far + height * height)
                dx = share * gx * near + (1.0 - share) * dx * length
                dy = -share * height * near + (1.0 - share) * dy * length
                dz = share * gz * near + (1.0 - share) * dz * length
            length = np.sqrt(dx * dx + dy * dy + dz * dz)
            share = np.arctan2(dx, dz) / (2 * np.pi) + 0.5 - turn
            across[y, x] = (share - np.floor(share)) * size[1] - 0.5
            down[y, x] = np.arccos(min(max(dy / length, -1.0), 1.0)) / np.pi * size[0] - 0.5


def view(
    surroundings: Surroundings, rotation: np.ndarray, eye: np.ndarray, lens: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """[h, w, 3] float32 linear: what a camera sees of the surroundings. ``size`` is (h, w)."""
    across, down = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    shape = np.array(surroundings.picture.shape[:2], dtype=np.float32)
    look_up(
        rotation, eye, lens, surroundings.height, surroundings.reach, surroundings.turn, shape, across, down
    )
    out: np.ndarray = cv2.remap(
        surroundings.picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    return out
