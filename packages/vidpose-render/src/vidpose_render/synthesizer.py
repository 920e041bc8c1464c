"""The renderer as vidpose finds it: ``vidpose data synthesize --people makehuman``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from vidpose.synthetic import FrameTruth, SynthesisSettings

from .assets import Assets
from .scene import Cast, find_panoramas, load_cast, render_video
from .shards import render_shard

VERSION = 6
"""Raised whenever the same seed gives other pixels or labels."""


class MakeHumanPeople:
    """Renders people made of MakeHuman's assets; a :class:`vidpose.synthetic.Synthesizer`."""

    version = VERSION
    options = frozenset({"assets", "clips", "masks", "seated"})

    def check(self, settings: SynthesisSettings) -> None:
        """Raises InputError for a folder of assets that lacks what every scene needs."""
        find_panoramas(Assets.load(_folder(settings)))

    def generate(
        self, settings: SynthesisSettings, seed: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, FrameTruth]]:
        """Whole frames of a scene, or clips one after the other, each about one person."""
        cast = _cast(_folder(settings), settings.seed, settings.seated)
        if settings.clips is not None:
            return render_shard(
                cast,
                seed,
                clips=settings.clips,
                frames=settings.frames,
                size=settings.size,
                fps=settings.fps,
                difficulty=settings.difficulty,
                people=settings.people,
            )
        return render_video(
            cast,
            seed,
            frames=settings.frames,
            size=settings.size,
            fps=settings.fps,
            difficulty=settings.difficulty,
            people=settings.people,
            instances=settings.masks,
        )


def _folder(settings: SynthesisSettings) -> str:
    assert settings.assets is not None  # ``options`` says that it is needed
    return settings.assets


@lru_cache(maxsize=1)
def _cast(folder: str, seed: int, seated: float) -> Cast:
    return load_cast(folder, (seed,), seated=seated)
