"""All joints of all people side by side over a video's frames: what the methods of propagation work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .people import Track

LONGEST = 64
"""Frames of a piece (:meth:`Columns.pieces`)."""


@dataclass
class Columns:
    """F frames, K = people x joints columns."""

    wanted: np.ndarray
    """[F, K] bool: within the stretches in which the person is wanted."""
    known: np.ndarray
    """[F, K] bool: labelled."""
    points: np.ndarray
    """[F, K, 2] float32 pixels of the labels, 0 elsewhere."""
    left: np.ndarray
    """[F, K] int32: the last labelled frame up to here within the stretch, -1 for none."""
    right: np.ndarray
    """[F, K] int32: the next one from here, -1 for none."""
    size: np.ndarray
    """[F, K] float32 pixels: the person's height there, between labels by the distance to them."""

    @property
    def open(self) -> np.ndarray:
        """[F, K] bool: wanted, not labelled, and with a label on one side at least."""
        return self.wanted & ~self.known & ((self.left >= 0) | (self.right >= 0))

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First and last frame of each part of the video at whose ends nothing is open, in order."""
        open_ = np.asarray(self.open.any(axis=1))
        changes = np.flatnonzero(np.diff(np.concatenate([[False], open_, [False]]).astype(np.int8)))
        for start, end in changes.reshape(-1, 2).tolist():
            yield max(start - 1, 0), min(end, len(open_) - 1)

    def pieces(self) -> Iterator[list[tuple[int, int]]]:
        """Each of the ``blocks`` cut into parts of at most ``LONGEST`` frames; neighbours share a frame.

        Where every label lacks a joint, the whole video is one block.
        """
        for start, end in self.blocks():
            cuts = [*range(start, max(end, start + 1), LONGEST - 1), end]
            yield list(zip(cuts[:-1], cuts[1:], strict=True))

    def shares(self) -> np.ndarray:
        """[F, K] float32: 0 at the label before, 1 at the one after; one of these where there is one only."""
        frame = np.arange(len(self.left))[:, None]
        both = (self.left >= 0) & (self.right >= 0)
        length = np.maximum(self.right - self.left, 1)
        between = np.where(both, (frame - self.left) / length, np.where(self.left >= 0, 0.0, 1.0))
        return between.astype(np.float32)

    def at_left(self) -> np.ndarray:
        """[F, K, 2] the label before, NaN where there is none."""
        return self._labels(self.left)

    def at_right(self) -> np.ndarray:
        """[F, K, 2] the label after, NaN where there is none."""
        return self._labels(self.right)

    def _labels(self, where: np.ndarray) -> np.ndarray:
        found = np.take_along_axis(self.points, np.maximum(where, 0)[..., None], axis=0)
        return np.where((where >= 0)[..., None], found, np.float32(np.nan))


def arrange(tracks: list[Track], count: int) -> Columns:
    """The tracks as columns, joint by joint, person after person; ``count``: frames of the video."""
    joints = tracks[0].people[0].keypoints.shape[0] if tracks else 0
    shape = count, len(tracks) * joints
    wanted, known = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    points = np.zeros((*shape, 2), dtype=np.float32)
    size = np.zeros(shape, dtype=np.float32)
    breaks = np.zeros(shape, dtype=bool)  # where a stretch begins
    for p, track in enumerate(tracks):
        mine = slice(p * joints, (p + 1) * joints)
        for start, end in track.spans:
            wanted[start : end + 1, mine] = True
            breaks[start, mine] = True
        keypoints = track.keypoints
        known[track.frames, mine] = keypoints[:, :, 2] > 0
        points[track.frames, mine] = keypoints[:, :, :2]
        size[:, mine] = _heights(track, count)[:, None]
    left = np.full(shape, -1, dtype=np.int32)
    right = np.full(shape, -1, dtype=np.int32)
    last = np.full(shape[1], -1, dtype=np.int32)
    for t in range(count):
        last = np.where(known[t], t, np.where(breaks[t] | ~wanted[t], -1, last))
        left[t] = last
    following = np.full(shape[1], -1, dtype=np.int32)
    for t in range(count - 1, -1, -1):
        following = np.where(known[t], t, np.where(wanted[t], following, -1))
        right[t] = following
        following = np.where(breaks[t], -1, following)
    return Columns(wanted, known, points, left, right, size)


def _heights(track: Track, count: int) -> np.ndarray:
    """[F] pixels from the first to the last joint along the longer side; between labels by their distance.

    Labels of a few joints tell less than the others and do not count.
    """
    keypoints = track.keypoints
    known = keypoints[..., 2] > 0
    whole = known.sum(axis=1) >= 0.5 * known.sum(axis=1).max()
    heights = [max(float(np.ptp(k[m, :2], axis=0).max()), 1.0) for k, m in zip(keypoints, known, strict=True)]
    return np.interp(np.arange(count), track.frames[whole], np.array(heights)[whole])
