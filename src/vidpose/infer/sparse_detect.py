"""Boxes for every frame from a detector that sees some of them.

People move little in a tenth of a second. The detector sees one frame in so many. Where the people of two
such frames match, the boxes between are interpolated; where somebody came, left or moved far, the detector
sees the frame in the middle as well, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidpose.geometry import box_iou
from vidpose.infer.detect import Detection, Detector, FrameKey

MATCH_IOU = 0.3
"""Boxes of two frames that overlap by less are of different people, or of one who moves too far."""
CLEAR_SCORE = 0.4
"""A box with a lower score that has no partner is no reason to look between."""
LONGEST = 16
"""Frames that may lie between two seen ones, and one: what has to wait in memory."""


def interval_frames(seconds: float, fps: float | None) -> int:
    """Every how many-th frame is seen, 1 to :data:`LONGEST`; 1 where the source has no clock."""
    if fps is None or not 0.5 <= fps <= 1000:
        return 1
    return int(np.clip(round(seconds * fps), 1, LONGEST))


class SparseDetection:
    """Feeds a detector with some frames of a video and gives boxes for all of them, in order.

    Args:
        detector: see :func:`vidpose.infer.detect.build_detector`.
        interval: every how many-th frame it sees at least; 1: all.
    """

    def __init__(self, detector: Detector, interval: int = 1) -> None:
        self.detector = detector
        self.interval = interval
        self.frames_seen = 0
        """Frames that the detector has seen so far."""
        self._before: Detection | None = None
        self._images: list[np.ndarray] = []  # after the frame of _before
        self._keys: list[FrameKey] = []

    def update(self, images: Sequence[np.ndarray], keys: Sequence[FrameKey]) -> list[Detection]:
        """Takes the next uint8 RGB frames; the detections that are ready, at most ``interval - 1`` late."""
        if self.interval == 1:
            self.frames_seen += len(images)
            return self.detector(list(images), keys)
        ready: list[Detection] = []
        for image, key in zip(images, keys, strict=True):
            self._images.append(image)
            self._keys.append(key)
            if self._before is None or len(self._images) == self.interval:
                ready += self._complete()
        return ready

    def flush(self) -> list[Detection]:
        """The detections of the frames that still wait, at the end of the video."""
        return self._complete() if self._images else []

    def _complete(self) -> list[Detection]:
        """Detections of the frames that wait; the last of them is seen."""
        last = len(self._images) - 1
        after = self._see(last)
        found = [*self._between(-1, last, self._before, after), after]
        self._before, self._images, self._keys = after, [], []
        return found

    def _see(self, position: int) -> Detection:
        self.frames_seen += 1
        [found] = self.detector([self._images[position]], [self._keys[position]])
        return found

    def _between(self, first: int, last: int, before: Detection | None, after: Detection) -> list[Detection]:
        """Detections of the waiting frames ``first + 1`` to ``last - 1``."""
        if last - first < 2 or before is None:
            return []
        pairs = matched(before, after)
        if pairs is None:
            middle = (first + last) // 2
            seen = self._see(middle)
            return [
                *self._between(first, middle, before, seen), seen, *self._between(middle, last, seen, after),
            ]  # fmt: skip
        shares = np.arange(1, last - first) / (last - first)
        return [interpolated(before, after, pairs, float(share)) for share in shares]


def matched(before: Detection, after: Detection) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions of the boxes of each that are of the same people; ``None``: a clear box has no partner."""
    overlap = box_iou(before.boxes_xyxy, after.boxes_xyxy)
    first, second = linear_sum_assignment(-overlap)
    same = overlap[first, second] >= MATCH_IOU
    first, second = first[same], second[same]
    for boxes, paired in ((before, first), (after, second)):
        alone = np.ones(len(boxes), dtype=bool)
        alone[paired] = False
        if (boxes.scores[alone] >= CLEAR_SCORE).any():
            return None
    return first, second


def interpolated(
    before: Detection, after: Detection, pairs: tuple[np.ndarray, np.ndarray], share: float
) -> Detection:
    """Boxes and scores of the pairs at ``share`` of the way, 0 to 1, best first."""
    first, second = pairs
    boxes = before.boxes_xyxy[first] * (1 - share) + after.boxes_xyxy[second] * share
    scores = before.scores[first] * (1 - share) + after.scores[second] * share
    order = np.argsort(-scores, kind="stable")
    return Detection(boxes[order], scores[order])
