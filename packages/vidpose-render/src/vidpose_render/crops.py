"""Clips about one person, drawn at the size that networks take: nothing is drawn to be thrown away."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .labels import Seen
from .scene import HARDNESS, Cast, sample_scene

_VIRTUAL = (720, 1280)
_TRIES = 8


@dataclass
class CropClip:
    """Some frames about one person, T frames of J = len(JOINTS) joints."""

    images: np.ndarray
    """[T, h, w, 3] uint8 RGB."""
    keypoints: np.ndarray
    """[T, J, 3] float32: x, y in pixels of the crop and 1; 0 where the joint is outside of it."""
    visible: np.ndarray
    """[T, J] bool."""
    people: list[Seen]
    """The same person in each frame, with boxes."""
    events: list[tuple[str, ...]]
    """What degrades each frame."""


def render_crop(
    cast: Cast,
    rng: np.random.Generator,
    *,
    frames: int = 1,
    size: tuple[int, int] = (256, 192),
    fps: float = 25.0,
    difficulty: str = "hard",
    people: tuple[int, int] = (1, 3),
    scale: float = 0.3,
    shift: float = 0.1,
    padding: float = 1.25,
    least: int = 3,
) -> CropClip:
    """A clip about the first person of a random scene, of whom something is to be seen.

    The crop is the person's box in the middle frame, widened to the picture's shape and by ``padding``, then
    changed at random: a box of a detector is no better.

    Args:
        size: (h, w).
        scale: the box is larger or smaller by up to this share.
        shift: it is moved by up to this share of its side.
        padding: 1.25 as the papers' crops are.
        least: visible joints in the middle frame; a scene with fewer is replaced by another.
    """
    for _ in range(_TRIES):
        clip = _draw(cast, rng, frames, size, fps, difficulty, people, scale, shift, padding)
        if clip.visible[frames // 2].sum() >= least:
            break
    return clip


def _draw(
    cast: Cast,
    rng: np.random.Generator,
    frames: int,
    size: tuple[int, int],
    fps: float,
    difficulty: str,
    people: tuple[int, int],
    scale: float,
    shift: float,
    padding: float,
) -> CropClip:
    scene = sample_scene(
        cast, rng, frames=frames, fps=fps, size=_VIRTUAL, hardness=HARDNESS[difficulty], people=people,
        backdrop=size,
    )  # fmt: skip
    middle = frames // 2
    camera = scene.camera(middle + scene.shutter / 2)
    first = scene.actors[0]
    vertices, _ = first.pose(middle + scene.shutter / 2)
    seen = camera.see(vertices[first.who.outline])
    seen = seen[seen[:, 2] > camera.lens[3]]
    low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
    height, width = size
    sides = np.maximum(high - low, 1)
    sides = np.maximum(sides, sides[::-1] * [width / height, height / width]) * padding
    sides *= 1 + rng.uniform(-scale, scale)
    centre = (low + high) / 2 + rng.uniform(-shift, shift, 2) * sides
    zoom = float(height / sides[1])
    corner = centre - sides / 2
    scene.path = replace(
        scene.path,
        focal=scene.path.focal * zoom,
        centre=tuple(((np.array(scene.path.centre) - corner) * zoom).tolist()),  # type: ignore[arg-type]
    )
    scene.size = size
    images, people_seen = [], []
    for index in range(frames):
        picture, [person], _ = scene.frame(index, rng, people=1)
        images.append(picture)
        people_seen.append(person)
    keypoints = np.stack([person.keypoints for person in people_seen])
    visible = np.stack([person.visible for person in people_seen])
    events = [scene.events(index) for index in range(frames)]
    return CropClip(np.stack(images), keypoints, visible, people_seen, events)
