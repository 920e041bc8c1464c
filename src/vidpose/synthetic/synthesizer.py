"""What makes synthetic video: what a synthesizer must be able to do, and which there are.

Packages add their own by the group of entry points ``vidpose.synthesizers``: the name that ``vidpose data
synthesize --people`` takes, and a class that is called without arguments and is a :class:`Synthesizer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import numpy as np

from vidpose.errors import InputError

from .labels import FrameTruth

GROUP = "vidpose.synthesizers"
DRAWN = "drawn"
"""The synthesizer that comes with vidpose."""

KNOWN = {"makehuman": "packages/vidpose-render"}
"""Synthesizers of this project that come with a package of their own, and its folder."""


@dataclass(frozen=True)
class SynthesisSettings:
    """What all videos of a data set have in common."""

    seed: int
    frames: int
    """Of a video, or of a clip."""
    size: tuple[int, int]
    """(height, width) in pixels."""
    fps: int
    difficulty: str
    """clean, mixed or hard."""
    people: tuple[int, int]
    """Fewest and most people in a scene."""
    assets: str | None = None
    """Folder that people are made of."""
    clips: int | None = None
    """Each video is so many clips about one person."""
    masks: bool = False
    """Frames carry ``FrameTruth.instances``."""
    seated: float = 0.0
    """Share of the people who sit, 0..1."""


class Synthesizer(Protocol):
    """Makes video of people with exact labels."""

    version: int
    """Raised whenever the same seed gives other pixels or labels."""
    options: frozenset[str]
    """Which of ``assets``, ``clips``, ``masks`` and ``seated`` it understands; ``assets`` it then needs."""

    def check(self, settings: SynthesisSettings) -> None:
        """Raises :class:`InputError` where no video can be made, before anything is written."""
        ...

    def generate(
        self, settings: SynthesisSettings, seed: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, FrameTruth]]:
        """The frames of one video, [H, W, 3] uint8 RGB, and what is true of each.

        Args:
            seed: of this video: the same seed and settings give the same bytes.
        """
        ...


def synthesizer_names() -> list[str]:
    """``drawn``, those of this project's packages, installed or not, then those of others."""
    return list(dict.fromkeys([DRAWN, *KNOWN, *(point.name for point in metadata.entry_points(group=GROUP))]))


def find_synthesizer(name: str) -> Synthesizer:
    """A synthesizer by its name.

    Raises:
        InputError: there is none of that name, or its package is not installed or cannot be imported.
    """
    if name not in synthesizer_names():
        raise InputError(f"people are {name!r}; give one of {', '.join(synthesizer_names())}")
    if name == DRAWN:
        from .render import DrawnPeople

        return DrawnPeople()
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise InputError(
            f"{name} people need a package that is not installed: "
            f"run `pip install {KNOWN[name]}` in vidpose's source folder"
        )
    try:
        made: Synthesizer = points[0].load()()
    except Exception as error:  # whatever a foreign package raises
        raise InputError(f"the package of {name} people cannot be used: {error}") from error
    return made
