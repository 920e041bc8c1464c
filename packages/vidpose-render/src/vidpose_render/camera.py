"""Cameras: where they stand, where they look and how they move."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NEAR_M = 0.15


@dataclass
class Camera:
    """One moment of a camera."""

    rotation: np.ndarray
    """[3, 3] float32 world to camera: rows are right, down and ahead."""
    eye: np.ndarray
    """[3] float32 metres."""
    lens: np.ndarray
    """[4] float32: focal length and centre (x, y) in pixels, least depth in metres."""

    @property
    def translation(self) -> np.ndarray:
        """[3] so that camera coordinates are rotation @ world + translation."""
        out: np.ndarray = -(self.rotation @ self.eye)
        return out.astype(np.float32)

    def see(self, points: np.ndarray) -> np.ndarray:
        """World points [..., 3] to x, y in pixels and depth in metres [..., 3], negative behind it."""
        local = points @ self.rotation.T + self.translation
        depth = local[..., 2:]
        safe = np.where(np.abs(depth) < 1e-6, 1e-6, depth)
        out: np.ndarray = np.concatenate(
            [local[..., :2] / safe * self.lens[0] + self.lens[1:3], depth], axis=-1
        )
        return out


def look(
    eye: np.ndarray, target: np.ndarray, roll: float, focal: float, centre: tuple[float, float]
) -> Camera:
    """A camera at ``eye`` that has ``target`` in its middle; ``roll`` radians turn the picture clockwise."""
    x, y, z = (float(v) for v in target - eye)
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    flat = math.hypot(x, z)
    # right = ahead x up and down = ahead x right; seen straight up or down, the world's x is right
    rx, rz = (-z / flat, x / flat) if flat > 0.04 else (1.0, 0.0)
    dx, dy, dz = y * rz, z * rx - x * rz, -y * rx
    c, s = math.cos(roll), math.sin(roll)
    rotation = np.array(
        [
            [c * rx + s * dx, s * dy, c * rz + s * dz],
            [c * dx - s * rx, c * dy, c * dz - s * rz],
            [x, y, z],
        ],
        dtype=np.float32,
    )
    lens = np.array([focal, *centre, NEAR_M], dtype=np.float32)
    return Camera(rotation, eye.astype(np.float32), lens)


def smooth_noise(rng: np.random.Generator, times: np.ndarray, hertz: float, count: int) -> np.ndarray:
    """[len(times), count] smooth random values of unit size that change about ``hertz`` times per second.

    Args:
        times: seconds; values belong to times, so that between two frames there is something, too.
    """
    waves = 5
    rates = rng.uniform(0.3, 1.0, (waves, count)) * hertz * 2 * np.pi
    phases = rng.uniform(0, 2 * np.pi, (waves, count))
    out: np.ndarray = np.sin(times[:, None, None] * rates + phases).sum(axis=1) * np.sqrt(2 / waves)
    return out


@dataclass
class CameraPath:
    """How a camera moves about a target; sampled once, asked at any time."""

    start: np.ndarray
    """[3] metres."""
    velocity: np.ndarray
    """[3] metres per second."""
    aim: np.ndarray
    """[2] radians off the target, to the right and down."""
    follow: float
    """0: looks where the target was at the beginning; 1: at where it is."""
    shake: tuple[float, float]
    """Radians, changes per second."""
    roll: float
    focal: float
    zoom: float
    """Relative change of the focal length per second."""
    centre: tuple[float, float]
    seed: int

    def at(self, time: float, target: np.ndarray, first: np.ndarray) -> Camera:
        """The camera at ``time`` seconds; the target is at ``target`` [3], at 0 it was at ``first``."""
        rng = np.random.default_rng(self.seed)
        trembling = smooth_noise(rng, np.array([time]), self.shake[1], 3)[0] * self.shake[0]
        eye = self.start + self.velocity * time
        eye[1] = max(eye[1], 0.15)
        goal = first + (target - first) * self.follow
        focal = self.focal * float(np.exp(self.zoom * time))
        plain = look(eye, goal, self.roll, focal, self.centre)
        right, down = self.aim + trembling[:2]
        side = plain.rotation.T @ np.array([np.tan(right), np.tan(down), 1.0])
        return look(eye, eye + side, self.roll + trembling[2] * 0.5, focal, self.centre)


def sample_path(
    rng: np.random.Generator,
    target: np.ndarray,
    height_m: float,
    size: tuple[int, int],
    *,
    fill: tuple[float, float] = (0.35, 1.0),
) -> CameraPath:
    """A camera about ``target`` [3], the middle of a person of ``height_m``.

    Args:
        size: (h, w) of the picture in pixels.
        fill: how much of the picture's height the person takes, least and most.
    """
    height, width = size
    degrees = float(np.exp(rng.uniform(np.log(18), np.log(75))))  # of the picture's longer side
    focal = 0.5 * max(size) / np.tan(np.radians(degrees) / 2)
    share = rng.uniform(*fill)
    distance = float(np.clip(focal * height_m / (share * height), 1.2, 25.0))
    # silent: evenly, although most photographs show fronts: a network that had seen few backs called the left
    # and right of half of them wrong.
    around = rng.uniform(0, 2 * np.pi)
    # Most people are filmed from eye level; some from a balcony, a drone or the floor.
    level = rng.random()
    if level < 0.7:
        pitch = rng.normal(0.03, 0.12)
    elif level < 0.9:
        pitch = rng.uniform(0.15, 0.9)
    else:
        pitch = rng.uniform(-0.5, 0.0)
    direction = np.array([np.cos(pitch) * np.sin(around), np.sin(pitch), np.cos(pitch) * np.cos(around)])
    start = target + distance * direction
    start[1] = max(start[1], 0.2)
    moving = rng.random() < 0.5
    half_view = np.array([width, height]) / (2 * focal)
    free = np.clip(1 - share * np.array([0.5, 1.0]), 0.05, 0.8)
    return CameraPath(
        start=start,
        velocity=rng.normal(0, 0.4, 3) * [1, 0.2, 1] if moving else np.zeros(3),
        aim=np.arctan(half_view) * free * rng.uniform(-0.8, 0.8, 2),
        follow=float(rng.choice([0.0, rng.uniform(0.5, 1.0)], p=[0.4, 0.6])),
        shake=(
            float(rng.choice([0.0, 0.002, 0.006, 0.015], p=[0.3, 0.3, 0.3, 0.1])),
            float(rng.uniform(0.5, 3)),
        ),
        roll=float(rng.normal(0, 0.03) + (rng.random() < 0.1) * rng.normal(0, 0.2)),
        focal=float(focal),
        zoom=float((rng.random() < 0.15) * rng.normal(0, 0.15)),
        centre=(width / 2, height / 2),
        seed=int(rng.integers(2**31)),
    )
