"""What people sit on, which hides parts of them: chairs, stools, armchairs, benches, wheelchairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from .figure import Figure, join
from .occluders import board, box, paint, pole, surface
from .types import Mesh

# silent: chosen so that wheels, which hide the most, are common.
KINDS = {"wheelchair": 0.4, "chair": 0.25, "armchair": 0.13, "stool": 0.12, "bench": 0.1}
FOOTREST_M = 0.1
"""Height of the feet of those who sit in a wheelchair."""
_Part = tuple[Mesh, np.ndarray, str]


def sample_seat(rng: np.random.Generator, kind: str, height: float, size: float = 1.0) -> Figure:
    """A seat on the ground whose sitter's hips are above x = z = 0 and who faces +z.

    Args:
        kind: of ``KINDS``. height: metres from the ground to the upper side of the seat.
        size: of the sitter, 1 for one of 1.7 metres.
    """
    cover, frame = surface(rng), _plain(rng, dark=kind == "wheelchair" or rng.random() < 0.5)
    width, depth = size * rng.uniform(0.4, 0.5), size * rng.uniform(0.38, 0.46)
    rear = -0.16 * size  # of the back, behind the hips
    cushion = _block((width, 0.05, depth), (0, height - 0.05, rear + depth / 2), cover)
    back = size * rng.uniform(0.25, 0.55)
    parts = [cushion]
    if kind == "wheelchair":
        parts += [_block((width, back, 0.03), (0, height, rear), cover), *_wheels(rng, width, size, frame)]
        feet = (width, 0.02, 0.16), (0, FOOTREST_M - 0.02, rear + depth + 0.12 * size)
        parts.append(_block(*feet, frame))
        for side in (-1, 1):
            x = side * width / 2
            parts.append(_block((0.03, 0.03, 0.14), (x, height + back - 0.02, rear - 0.07), frame))
            parts.append(_block((0.02, 0.02, 0.3), (x, height + 0.2 * size, rear + 0.15), frame))
            guard = _upright(0.3 * size, 0.2 * size, (x, height, rear + 0.15), cover)
            parts += [guard] if rng.random() < 0.6 else []
            shin = _block((0.02, max(height - 0.1, 0.05), 0.02), (x, 0.08, rear + depth + 0.05), frame)
            parts.append(shin)
    elif kind in ("chair", "stool"):
        radius = float(rng.uniform(0.01, 0.03))
        across, along = (width / 2, depth / 2) if rng.random() < 0.8 else (0.0, 0.0)  # a pillar
        for x, z in sorted({(a, b) for a in (-across, across) for b in (-along, along)}):
            leg = pole(radius if across else 0.04, max(height - 0.05, 0.05), sides=8)
            parts.append((_moved(leg, (x, 0, rear + depth / 2 + z)), frame, "thing"))
        if kind == "chair":
            slats = int(rng.choice([1, 1, 2, 3]))
            for k in range(slats):
                place = (0.0, height + back * (0.3 + 0.7 * k / slats) * (slats > 1), rear)
                parts.append(_block((width, back / (1 if slats == 1 else 2 * slats), 0.03), place, cover))
    elif kind == "armchair":
        parts.append(_block((width, height, depth), (0, 0, rear + depth / 2), cover))
        parts.append(_block((width + 0.3, height + back, 0.15), (0, 0, rear - 0.08), cover))
        for side in (-1, 1):
            arm = (side * (width / 2 + 0.1), 0, rear + depth / 2)
            parts.append(_block((0.15, height + 0.18 * size, depth), arm, cover))
    else:
        parts.append(
            _block(
                (rng.uniform(0.8, 2.2), height, depth), (rng.uniform(-0.4, 0.4), 0, rear + depth / 2), cover
            )
        )
    return join(parts)


def _wheels(rng: np.random.Generator, width: float, size: float, frame: np.ndarray) -> list[_Part]:
    radius, small = size * rng.uniform(0.27, 0.33), size * rng.uniform(0.05, 0.1)
    rim, caster = wheel(rng), wheel(rng)
    out = []
    for side in (-1, 1):
        x = side * (width / 2 + rng.uniform(0.03, 0.07))
        out.append(_upright(2 * radius, 2 * radius, (x, 0, rng.uniform(-0.08, 0.02)), rim))
        out.append(_upright(2 * small, 2 * small, (side * width / 2, 0, 0.3 * size), caster))
    axle = _block((width + 0.1, 0.03, 0.03), (0, radius, -0.03), frame)
    return [*out, axle]


def wheel(rng: np.random.Generator, side: int = 128) -> np.ndarray:
    """[side, side, 4] uint8: a tyre around spokes, or around a disc."""
    middle, radius = side // 2, side // 2 - 1
    image = np.zeros((side, side, 4), dtype=np.uint8)

    def colour(rgb: np.ndarray) -> tuple[int, ...]:
        return (*(int(c) for c in rgb), 255)

    metal = colour(np.full(3, rng.uniform(60, 200)))
    if rng.random() < 0.35:
        cv2.circle(image, (middle, middle), radius, colour(paint(rng)), -1)
    for angle in np.linspace(0, 2 * np.pi, int(rng.integers(6, 28)), endpoint=False) + rng.random():
        end = middle + radius * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(image, (middle, middle), (int(end[0]), int(end[1])), metal, 1)
    if rng.random() < 0.7:  # the ring that hands push
        cv2.circle(image, (middle, middle), int(0.86 * radius), metal, 2)
    cv2.circle(image, (middle, middle), radius - 3, colour(np.full(3, rng.uniform(10, 60))), 6)
    cv2.circle(image, (middle, middle), 6, metal, -1)
    return image


def _plain(rng: np.random.Generator, dark: bool) -> np.ndarray:
    image = np.ones((8, 8, 3), dtype=np.float32) * paint(rng) * (0.35 if dark else 1.0)
    return image.astype(np.uint8)


def _moved(mesh: Mesh, place: Sequence[float]) -> Mesh:
    return replace(mesh, vertices=(mesh.vertices + np.array(place)).astype(np.float32))


def _block(size: Sequence[float], place: Sequence[float], texture: np.ndarray) -> _Part:
    """A cuboid whose lower side's middle is at ``place``."""
    return _moved(box(np.array(size)), place), texture, "thing"


def _upright(width: float, height: float, place: Sequence[float], texture: np.ndarray) -> _Part:
    """A rectangle along z whose lower edge's middle is at ``place``."""
    flat = board(width, height)
    turned = flat.vertices[:, [2, 1, 0]] * np.array([1, 1, -1])
    return _moved(replace(flat, vertices=turned), place), texture, "thing"
