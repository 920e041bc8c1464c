"""Small videos that the tests encode themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

TICKS = 90_000


def scene(index: int, height: int = 96, width: int = 160) -> np.ndarray:
    """[H, W, 3] uint8: four coloured quadrants, a moving bar, noise that is another for each frame."""
    image = np.zeros((height, width, 3), dtype=np.int16)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 200, 30)
    image[height // 2 :, : width // 2] = (30, 30, 220)
    image[height // 2 :, width // 2 :] = (230, 230, 230)
    bar = (index * 3) % (height - 8)
    image[bar : bar + 8] //= 2
    noise = np.random.default_rng(index).integers(-15, 16, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def encode(
    path: Path,
    count: int = 12,
    *,
    size: tuple[int, int] = (96, 160),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[float] | None = None,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    images: Sequence[np.ndarray] | None = None,
) -> Path:
    """Encodes ``count`` scenes at 30 per second, or at ``times`` in seconds."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.options = options or {"g": "12"}
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICKS)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(
                scene(i, *size) if images is None else images[i], format="rgb24"
            )
            if times is not None:
                frame.pts, frame.time_base = round(times[i] * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    return encode


@pytest.fixture(scope="session")
def make_scene() -> Callable[..., np.ndarray]:
    return scene
