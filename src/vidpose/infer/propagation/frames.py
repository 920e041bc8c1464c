"""The frames of a video by their number, forward and backward, with few of them in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from vidpose.errors import InputError
from vidpose.io.seek import VideoFile
from vidpose.io.sources import find_source, image_file_name
from vidpose.io.video import read_image

_CHUNK, _COLOURS = 32, 24


class NumberedFrames:
    """A video file, or a folder, glob or list of images.

    Args:
        source: as of :func:`vidpose.io.video.open_video`; a camera or stream has no numbers.
        grey_side: longer side of :meth:`grey` in pixels; smaller pictures stay as they are.

    Raises:
        InputError: nothing that can be read at any frame.
    """

    def __init__(
        self, source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, grey_side: int = 640
    ) -> None:
        found = find_source(source)
        self.name = found.name
        self.grey_side = grey_side
        self.names: list[str] | None = None
        self._video: VideoFile | None = None
        self._images: list[Path] = []
        if found.kind == "images":
            self._images = found.images
            self.names = [image_file_name(path) for path in found.images]
            self.count = len(found.images)
        elif found.kind == "video" and found.path is not None:
            self._video = VideoFile(found.path)
            self.count = self._video.count
        else:
            raise InputError(f"{found.label}: cannot be read twice; record it to a file first")
        self._colours: OrderedDict[int, np.ndarray] = OrderedDict()
        self._greys: OrderedDict[int, np.ndarray] = OrderedDict()
        self._keep = 3 * _CHUNK
        height, width = self.image(0).shape[:2]
        self.size = height, width

    @property
    def scale(self) -> float:
        """Pixels of :meth:`grey` for one pixel of the video."""
        return min(self.grey_side / max(self.size), 1.0)

    def image(self, number: int) -> np.ndarray:
        """[H, W, 3] uint8 RGB; the few that were read last are kept. Read only."""
        image = self._colours.get(number)
        if image is None:
            video = self._video
            image = video.read(number) if video is not None else read_image(self._images[number])
            self._colours[number] = image
            if len(self._colours) > _COLOURS:
                self._colours.popitem(last=False)
        return image

    def read_ahead(self, first: int, last: int) -> None:
        """Reads some frames in order, where so few are asked for that all are kept: videos go back slowly."""
        if last - first < _COLOURS:
            for number in range(first, last + 1):
                self.image(number)

    def path(self, number: int) -> Path:
        """The image file of a frame, or the video file that holds it."""
        return self._images[number] if self._video is None else self._video.path

    def grey(self, number: int) -> np.ndarray:
        """[h, w] uint8, reduced; those read last are kept. Going back reads ahead of itself."""
        kept = self._greys.get(number)
        if kept is None:
            backward = number + 1 in self._greys
            for k in range(max(number - _CHUNK + 1, 0) if backward else number, number + 1):
                if k not in self._greys:
                    self._keep_grey(k)
            kept = self._greys[number]
        self._greys.move_to_end(number)
        return kept

    def _keep_grey(self, number: int) -> None:
        grey = cv2.cvtColor(self.image(number), cv2.COLOR_RGB2GRAY)
        if self.scale < 1:
            grey = cv2.resize(grey, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA)
        self._greys[number] = grey
        while len(self._greys) > self._keep:
            self._greys.popitem(last=False)

    def close(self) -> None:
        if self._video is not None:
            self._video.close()
