"""What goes wrong for a few frames of a video: the focus, a shaken camera, the light, lost data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KINDS = ("defocus", "shake", "flash", "dark", "blocks", "occluder")
_SHARES = (0.24, 0.22, 0.06, 0.12, 0.1, 0.26)
_LENGTHS, _LENGTH_SHARES = (1, 2, 3, 4), (0.42, 0.35, 0.15, 0.08)


@dataclass(frozen=True)
class Degradation:
    """What is wrong with a frame."""

    kind: str
    blur_px: float = 0.0
    """Gaussian blur, pixels."""
    streak_px: float = 0.0
    """Length of the line over which the camera smears everything, pixels."""
    angle: float = 0.0
    """Radians of that line."""
    gain: float = 1.0
    """Of the light."""
    jpeg: int | None = None
    """The codec's quality in place of its own."""


def sample_degradations(
    rng: np.random.Generator, frames: int, hardness: float, height: int
) -> list[Degradation | None]:
    """For each frame what is wrong with it: stretches of 1 to 4 frames with clean ones in between.

    ``occluder`` marks the frames in which something passes close to the camera; the scene has to hold it.
    A single picture has no degradation, and neither has a video of hardness 0.

    Args:
        height: of the picture in pixels.
    """
    out: list[Degradation | None] = [None] * frames
    if frames < 2 or hardness <= 0:
        return out
    mean = 2.5 / hardness  # silent: about the frequency of drawn video
    index = int(rng.geometric(1 / (mean + 1))) - int(rng.integers(1, 4))  # one may have begun before
    while index < frames:
        degradation = _sample(rng, hardness, height)
        for _ in range(int(rng.choice(_LENGTHS, p=_LENGTH_SHARES))):
            if 0 <= index < frames:
                out[index] = degradation
            index += 1
        index += 1 + int(rng.geometric(1 / (mean + 1)))
    return out


def _sample(rng: np.random.Generator, hardness: float, height: int) -> Degradation:
    kind = str(rng.choice(KINDS, p=_SHARES))
    strength = hardness * rng.uniform(0.7, 1.4)
    if kind == "defocus":
        return Degradation(kind, blur_px=float(strength * rng.uniform(0.008, 0.022) * height))
    if kind == "shake":
        length = float(strength * rng.uniform(0.03, 0.09) * height)
        return Degradation(kind, streak_px=length, angle=float(rng.uniform(0, np.pi)))
    if kind == "flash":
        return Degradation(kind, gain=float(1 + 3 * strength))
    if kind == "dark":
        return Degradation(kind, gain=float(0.15 / max(strength, 0.5)))
    if kind == "blocks":
        return Degradation(kind, jpeg=int(rng.integers(5, 12)))
    return Degradation(kind)
