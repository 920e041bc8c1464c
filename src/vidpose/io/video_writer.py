"""Writing H.264 videos that appear whole or not at all."""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import atomic_path

# Ticks per second that hold the usual rates exactly, up to what MPEG-4 can store.
_ENCODERS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ("libx264", 120_000, {"crf": "20", "preset": "veryfast"}),
    ("mpeg4", 60_000, {"qscale": "4"}),
)


_COMMENT = "Poses drawn by vidpose; source "
NO_DIGEST = "0"
"""``source_digest`` of what is drawn over a camera or stream, which is never the same again."""


class VideoWriter:
    """Writes RGB frames as H.264 (MPEG-4 where FFmpeg has no libx264), playable everywhere (yuv420p).

    A context manager: the file appears when the block ends without an error, otherwise nothing is left.

    Args:
        path: ends in ``.mp4``, ``.mkv``, ``.mov``, …: the suffix chooses the container.
        fps: frames per second for frames written without a time; ``None``: 25.
        size: (height, width) in pixels. An odd side grows by one repeated line, since yuv420p needs even
            sides; a frame of another size is scaled to fit, with black borders.
        source_digest: of the video that is drawn over (:func:`vidpose.io.sources.source_digest`); goes into
            the container's comment, where :func:`drawn_digest` finds it.

    Raises:
        InputError: the path cannot be written or its suffix is not a video's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | None,
        size: tuple[int, int],
        *,
        source_digest: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._comment = f"{_COMMENT}{source_digest}" if source_digest else None
        self.size = (int(size[0]), int(size[1]))
        self.fps = float(fps) if fps else 25.0
        self.num_frames = 0
        self._last_tick = -1
        if min(self.size) < 1:
            raise InputError(f"{self.path}: a video needs a size of at least 1x1, not {size[1]}x{size[0]}")
        self._container: Any = None
        self._file: AbstractContextManager[Path] | None = atomic_path(self.path)
        temporary = self._file.__enter__()
        try:
            self._open(temporary)
        except BaseException as error:
            self._abandon(error)
            if isinstance(error, (av.FFmpegError, ValueError)) and not isinstance(error, InputError):
                raise InputError(f"{self.path}: cannot be written as a video: {error}") from None
            raise

    def _open(self, temporary: Path) -> None:
        name, self._ticks, options = next(e for e in _ENCODERS if e[0] in av.codecs_available)
        faststart = {"movflags": "faststart"} if self.path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
        try:
            self._container = av.open(str(temporary), "w", options=faststart)
        except ValueError:
            known = ".mp4, .mkv, .mov, .avi"
            raise InputError(f"{self.path}: is not a video's name; end it in one of {known}") from None
        if self._comment is not None:
            self._container.metadata["comment"] = self._comment
        stream = self._container.add_stream(name, rate=Fraction(self.fps).limit_denominator(1001))
        stream.height, stream.width = (side + side % 2 for side in self.size)
        stream.pix_fmt = "yuv420p"
        stream.options = dict(options)
        stream.codec_context.time_base = Fraction(1, self._ticks)
        self._stream = stream

    def write(self, image: np.ndarray, time_s: float | None = None) -> None:
        """Appends a frame.

        Args:
            image: [H, W, 3] uint8 RGB.
            time_s: presentation time in seconds, for a variable frame rate; default: number / fps. A time
                that does not grow is moved on by the smallest step.
        """
        if self._container is None:
            raise ValueError("the video is closed")
        frame = av.VideoFrame.from_ndarray(_fit(image, self.size), format="rgb24")
        tick = round((self.num_frames / self.fps if time_s is None else time_s) * self._ticks)
        frame.pts = self._last_tick = max(tick, self._last_tick + 1)
        frame.time_base = Fraction(1, self._ticks)
        self.num_frames += 1
        try:
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror or error}") from error

    def close(self) -> None:
        """Finishes the file; from here on it is there. A video without frames is refused."""
        if self._file is None:
            return
        try:
            if self.num_frames == 0:
                raise InputError(f"{self.path}: not written, there is no frame to put into it")
            self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException as error:
            self._abandon(error)
            raise
        self._container = None
        file, self._file = self._file, None
        file.__exit__(None, None, None)

    def _abandon(self, error: BaseException) -> None:
        """Leaves nothing behind."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.FFmpegError, OSError):
                container.close()
        file, self._file = self._file, None
        if file is not None:
            try:
                file.__exit__(type(error), error, error.__traceback__)
            except BaseException as again:
                if again is not error:
                    raise

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon(error)


def drawn_digest(path: str | os.PathLike[str]) -> str | None:
    """The ``source_digest`` of an mp4 of :class:`VideoWriter`; ``None``: it has none, or is another file."""
    try:
        with av.open(os.fspath(path), format="mp4") as container:
            comment = container.metadata.get("comment", "")
    except (av.FFmpegError, OSError, ValueError):
        return None
    found = re.fullmatch(rf"{_COMMENT}([0-9a-f]+)", comment)
    return found.group(1) if found else None


def _fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at exactly ``size`` (centred on black if it is another), padded to even sides."""
    height, width = size
    if image.shape[:2] != size:
        scale = min(height / image.shape[0], width / image.shape[1])
        inner = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
        canvas = np.zeros((height, width, 3), dtype=np.uint8)
        top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
        small = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_AREA)
        canvas[top : top + inner[0], left : left + inner[1]] = small
        image = canvas
    if height % 2 or width % 2:
        image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(image)
