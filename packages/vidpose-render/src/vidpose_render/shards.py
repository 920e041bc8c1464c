"""Many short clips about single people in one set of labels: what networks of cropped people train on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vidpose.synthetic import FrameTruth

from .crops import render_crop
from .scene import Cast, is_labelled, person_truth

_CROWD, _REPEATS = 16, 10
_PADDING = 1.7
"""So that a crop of 1.25 times the box, turned and scaled by augmentation, still shows surroundings."""


def render_shard(
    cast: Cast,
    seed: tuple[int, ...],
    *,
    clips: int,
    frames: int,
    size: tuple[int, int],
    fps: float,
    difficulty: str,
    people: tuple[int, int],
) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    """``clips`` clips of ``frames`` frames, one after the other; frames are numbered through.

    A shard has people, things and movements of its own, several times each, so that it depends on nothing but
    its seed.
    """
    own = Cast(cast.assets, cast.library, cast.panoramas, seed, _CROWD, repeats=_REPEATS, seated=cast.seated)
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        crop = render_crop(
            own,
            rng,
            frames=frames,
            size=size,
            fps=fps,
            difficulty=difficulty,
            people=people,
            padding=_PADDING,
        )
        for t, (image, person) in enumerate(zip(crop.images, crop.people, strict=True)):
            index = clip * frames + t
            truths = [person_truth(clip if frames == 1 else 0, person)] if is_labelled(person) else []
            yield image, FrameTruth(index, t / fps, truths, events=crop.events[t])
