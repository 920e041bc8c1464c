"""Things about a scene that hide people: boxes, poles, balls, boards, fences, leaves."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .types import Mesh

KINDS = ("box", "pole", "ball", "board", "fence", "leaves")


def box(size: np.ndarray) -> Mesh:
    """A cuboid of [3] metres on the ground, around x = z = 0; every side shows the whole texture."""
    w, h, d = size / [2, 1, 2]
    corners = np.array([[x, y, z] for y in (0, h) for z in (-d, d) for x in (-w, w)], dtype=np.float32)
    # rows: 0 left back, 1 right back, 2 left front, 3 right front below; 4 to 7 the same above
    quads = [(2, 3, 7, 6), (1, 0, 4, 5), (3, 1, 5, 7), (0, 2, 6, 4), (6, 7, 5, 4), (0, 1, 3, 2)]
    faces = [t for a, b, c, e in quads for t in ((a, b, c), (a, c, e))]
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    return Mesh(
        corners, np.array(faces, np.int32), uvs, np.tile(np.array([[0, 1, 2], [0, 2, 3]], np.int32), (6, 1))
    )


def board(width: float, height: float) -> Mesh:
    """An upright rectangle on the ground, facing +z and to be seen from both sides."""
    w = width / 2
    corners = np.array([[-w, 0, 0], [w, 0, 0], [w, height, 0], [-w, height, 0]], dtype=np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)
    return Mesh(corners, faces, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32), faces)


def pole(radius: float, height: float, sides: int = 12) -> Mesh:
    """A cylinder on the ground around x = z = 0, without ends."""
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([radius * np.cos(angle), np.zeros(sides + 1), -radius * np.sin(angle)], axis=-1)
    vertices = np.concatenate([ring, ring + [0, height, 0]]).astype(np.float32)
    u = np.linspace(0, 1, sides + 1)
    uvs = np.concatenate([np.stack([u, 0 * u], -1), np.stack([u, 0 * u + 1], -1)]).astype(np.float32)
    k = np.arange(sides)
    top = k + sides + 1
    faces = np.concatenate([np.stack([k, k + 1, top + 1], -1), np.stack([k, top + 1, top], -1)])
    return Mesh(vertices, faces.astype(np.int32), uvs, faces.astype(np.int32))


def ball(radius: float, rings: int = 9, sides: int = 14) -> Mesh:
    """A sphere that lies on the ground at x = z = 0."""
    polar, around = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, sides + 1)
    p, a = np.meshgrid(polar, around, indexing="ij")
    xyz = np.stack([np.sin(p) * np.cos(a), 1 + np.cos(p), -np.sin(p) * np.sin(a)], axis=-1) * radius
    uvs = np.stack([a / (2 * np.pi), 1 - p / np.pi], axis=-1)
    row, column = np.meshgrid(np.arange(rings), np.arange(sides), indexing="ij")
    one = (row * (sides + 1) + column).ravel()
    below = one + sides + 1
    faces = np.concatenate(
        [np.stack([one, below, below + 1], -1), np.stack([one, below + 1, one + 1], -1)]
    ).astype(np.int32)
    return Mesh(xyz.reshape(-1, 3).astype(np.float32), faces, uvs.reshape(-1, 2).astype(np.float32), faces)


def sample_thing(rng: np.random.Generator, pictures: Sequence[np.ndarray] = ()) -> tuple[Mesh, np.ndarray]:
    """A thing on the ground around x = z = 0, and its texture [h, w, 3 or 4] uint8; all have two sides.

    ``pictures`` [h, w, 3] in linear light: parts of them are on half of the things, so that it is as busy
    about people as it is on photographs.
    """
    kind = str(rng.choice(KINDS, p=[0.3, 0.2, 0.08, 0.2, 0.12, 0.1]))
    if kind == "box":
        return box(rng.uniform([0.2, 0.2, 0.2], [1.8, 1.3, 1.0])), _side(rng, pictures)
    if kind == "pole":
        return pole(float(rng.uniform(0.02, 0.2)), float(rng.uniform(0.8, 4.0))), _side(rng, pictures)
    if kind == "ball":
        return ball(float(rng.uniform(0.1, 0.5))), _side(rng, pictures)
    if kind == "board":
        return board(float(rng.uniform(0.4, 2.5)), float(rng.uniform(0.4, 2.0))), _side(rng, pictures)
    shape = board(float(rng.uniform(1.0, 4.0)), float(rng.uniform(0.7, 2.2)))
    return shape, fence(rng) if kind == "fence" else leaves(rng)


def _side(rng: np.random.Generator, pictures: Sequence[np.ndarray]) -> np.ndarray:
    if not pictures or rng.random() < 0.5:
        return surface(rng)
    part = picture_part(pictures[int(rng.integers(len(pictures)))], rng, (128, 128), (0.1, 0.5))
    return (255 * np.clip(part * rng.uniform(0.5, 1.5), 0, 1) ** (1 / 2.2)).astype(np.uint8)


def picture_part(
    picture: np.ndarray, rng: np.random.Generator, size: tuple[int, int], share: tuple[float, float]
) -> np.ndarray:
    """A random part of a picture [h, w, 3], brought to ``size`` (h, w).

    ``share``: the least and the most of the picture's height.
    """
    height = int(rng.uniform(*share) * picture.shape[0])
    width = min(int(height * size[1] / size[0]), picture.shape[1])
    top = int(rng.integers(0, picture.shape[0] - height + 1))
    left = int(rng.integers(0, picture.shape[1] - width + 1))
    part = picture[top : top + height, left : left + width]
    part = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(part[:, ::-1] if rng.random() < 0.5 else part)


def paint(rng: np.random.Generator) -> np.ndarray:
    """[3] float32 RGB, 20 to 235: from grey to strong."""
    colour = rng.uniform(20, 235, 3)
    grey = colour.mean()
    return (grey + rng.beta(1.0, 1.6) * (colour - grey)).astype(np.float32)


def surface(rng: np.random.Generator, size: int = 128) -> np.ndarray:
    """[size, size, 3] uint8: a plain or patterned surface with stains."""
    image = np.ones((size, size, 3), dtype=np.float32) * paint(rng)
    pattern = rng.random()
    if pattern < 0.5:
        step = int(rng.integers(4, 40))
        other = paint(rng)
        grid = np.indices((size, size)) // step
        line = grid[0] if pattern < 0.2 else grid.sum(axis=0) if pattern < 0.4 else grid[1]
        image[line % 2 == 0] = other
    stains = cv2.resize(
        rng.normal(0, 1, (8, 8)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    fine = rng.normal(0, 6, (size, size, 1)).astype(np.float32)
    image = image * (1 + rng.uniform(0, 0.25) * stains[..., None]) + fine
    out: np.ndarray = np.clip(image, 0, 255).astype(np.uint8)
    return out


def fence(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """[size, size, 4] uint8: bars or a grid with holes between."""
    colour = paint(rng)
    alpha = np.zeros((size, size), dtype=np.uint8)
    step, thick = int(rng.integers(12, 60)), int(rng.integers(2, 8))
    for x in range(0, size, step):
        alpha[:, x : x + thick] = 255
    rows = range(0, size, step) if rng.random() < 0.5 else (0, size // 2, size - thick)
    for y in rows:
        alpha[y : y + thick] = 255
    image = np.broadcast_to(colour, (size, size, 3)) * rng.uniform(0.7, 1.1, (size, 1, 1))
    return np.dstack([np.clip(image, 0, 255).astype(np.uint8), alpha])


def leaves(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """[size, size, 4] uint8: blades and leaves with gaps between."""
    image = np.zeros((size, size, 4), dtype=np.uint8)
    for _ in range(int(rng.integers(150, 500))):
        shade = rng.uniform(0.4, 1.1)
        colour = np.clip(np.array([60, 110, 40]) * shade + rng.normal(0, 12, 3), 0, 255)
        centre = rng.integers(0, size, 2)
        axes = int(rng.integers(4, 18)), int(rng.integers(1, 6))
        fill = (*(int(c) for c in colour), 255)
        cv2.ellipse(image, [int(c) for c in centre], axes, float(rng.uniform(0, 180)), 0, 360, fill, -1)
    return image
