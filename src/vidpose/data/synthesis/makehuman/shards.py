"""Many short clips about single people in one set of labels: what networks of cropped people train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vidpose.data.synthesis.render import FrameTruth

from .crops import render_crop
from .scene import Cast, person_truth

_CROWD, _REPEATS = 16, 10


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
    own = Cast(cast.assets, cast.library, cast.panoramas, seed, crowd=_CROWD, repeats=_REPEATS)
    rng = np.random.default_rng(seed)
    for clip in range(clips):
        crop = render_crop(own, rng, frames=frames, size=size, fps=fps, difficulty=difficulty, people=people)
        for t, (image, person) in enumerate(zip(crop.images, crop.people, strict=True)):
            index = clip * frames + t
            truth = person_truth(clip if frames == 1 else 0, person)
            x1, y1, x2, y2 = person.box_xyxy
            there = x2 > x1 and y2 > y1 and bool(person.keypoints[:15, 2].any())
            yield image, FrameTruth(index, t / fps, [replace(truth)] if there else [])
