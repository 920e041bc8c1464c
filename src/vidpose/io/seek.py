"""Single frames of a video file by their number, as :func:`vidpose.io.video.open_video` numbers them."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from vidpose.errors import InputError
from vidpose.io.sources import Source
from vidpose.io.video import _Stream, _upright

_HIDDEN_PACKETS = ("vp8",)
"""Codecs with packets that are never displayed, so that packets cannot be counted for frames."""


class VideoFile:
    """A video file, read at any frame.

    A frame that follows the last one read is decoded from there; any other from the nearest key frame before
    it. Streams whose packets carry no times are decoded from the start when they must go back.

    Args:
        path: the file.

    Raises:
        InputError: not a video.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._reformatter = VideoReformatter()
        self._source = Source("video", str(path), self.path.stem, path=self.path)
        self._stream = self._open()
        self._times, self._key_times = self._scan()
        self._frames: Iterator[Any] = iter(())
        self._next: int | None = None  # number of the frame that the decoder gives next
        self._size: tuple[int, int] | None = None  # (height, width) of the first frame
        self._count: int | None = None

    def _open(self) -> _Stream:
        return _Stream(self._source, threads="NONE")  # the processes are the parallelism

    def _scan(self) -> tuple[list[int], list[int]]:
        """Display times of all frames and of the key frames, in ticks; empty where frames have none."""
        stream = self._stream.stream
        times, key_times = [], []
        try:
            for packet in self._stream.container.demux(stream):
                if packet.size and not packet.is_discard:
                    if packet.pts is None:
                        return [], []
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        key_times.append(packet.pts)
        except av.FFmpegError:
            pass  # what lies behind the damage cannot be read and is said to be missing
        if stream.codec_context.name in _HIDDEN_PACKETS or len(set(times)) < len(times):
            return [], []
        return sorted(times), sorted(key_times)

    @property
    def count(self) -> int:
        """Frames of the file; where its packets carry no times, all are decoded once to count them."""
        if self._times:
            return len(self._times)
        with self._lock:
            if self._count is None:
                self._seek(None)
                self._count = sum(1 for _ in self._frames)
                self._next = None
            return self._count

    def read(self, number: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB of frame ``number``, from 0 in order of display, upright.

        Raises:
            InputError: there is no such frame, or it cannot be decoded.
        """
        with self._lock:
            try:
                frame = self._find(number)
            except av.FFmpegError:
                frame = None
            if frame is None:
                self._next = None
                raise InputError(f"{self.path}: frame {number} is missing or cannot be decoded")
            image = _upright(frame, self._reformatter)
            if number == 0:
                self._size = image.shape[0], image.shape[1]
        if self._size is None:
            self.read(0)
            return self.read(number)
        if image.shape[:2] != self._size:  # as open_video does: the picture fills the video's first frame
            image = cv2.resize(image, self._size[::-1], interpolation=cv2.INTER_AREA)
        return image

    def _find(self, number: int) -> Any | None:
        if not self._times:
            return self._count_to(number)
        if not 0 <= number < len(self._times):
            return None
        wanted = self._times[number]
        key = bisect_right(self._key_times, wanted) - 1
        at = self._next
        if at is not None and at <= number and (key < 0 or self._times[at] >= self._key_times[key]):
            found = self._decode_to(wanted)
            if found is not None:
                return found
        # Frames that refer to before their key frame (open groups) come out only from the one before that.
        while key >= 0:
            self._seek(self._key_times[key])
            found = self._decode_to(wanted)
            if found is not None:
                return found
            key -= 1
        self._seek(None)
        return self._decode_to(wanted)

    def _seek(self, ticks: int | None) -> None:
        if ticks is None:
            self._stream.close()
            self._stream = self._open()
        else:
            self._stream.container.seek(ticks, stream=self._stream.stream, backward=True)
        self._frames = self._stream.container.decode(self._stream.stream)

    def _decode_to(self, wanted: int) -> Any | None:
        for frame in self._frames:
            if frame.pts is None or frame.pts < wanted:
                continue
            good = frame.pts == wanted and not frame.is_corrupt
            self._next = None
            if good:
                after = bisect_right(self._times, wanted)
                self._next = after if after < len(self._times) else None
            return frame if good else None
        self._next = None
        return None

    def _count_to(self, number: int) -> Any | None:
        if self._next is None or self._next > number or number < 0:
            self._seek(None)
            self._next = 0
        for frame in self._frames:
            self._next += 1
            if self._next > number:
                return frame
        return None

    def close(self) -> None:
        self._stream.close()


class VideoFiles:
    """The video files that were read last, kept open; a forked process opens its own."""

    def __init__(self, keep: int = 4) -> None:
        self.keep = keep
        self._open: OrderedDict[Path, VideoFile] = OrderedDict()
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def read(self, path: Path, number: int) -> np.ndarray:
        """As :meth:`VideoFile.read`."""
        with self._lock:
            if self._owner != os.getpid():  # the parent's files share their position with ours
                self._open, self._owner = OrderedDict(), os.getpid()
            video = self._open.pop(path, None) or VideoFile(path)
            self._open[path] = video
            if len(self._open) > self.keep:
                self._open.popitem(last=False)  # closed with its last reader
        return video.read(number)
