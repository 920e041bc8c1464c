"""Identities for boxes: a kept tracking library, and a short look ahead that repairs what the detector
missed.

The library links boxes frame by frame (ByteTrack by default). Around it, frames wait in a window of
``look_ahead`` frames before they leave, so that a track reaches back to its first box, a person who was
missed for some frames gets interpolated boxes, and a box that flickered up once is dropped. Memory does
not grow with the length of the video.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.geometry import box_iou
from vidpose.infer.detect import Detection

TRACKERS = ("bytetrack", "ocsort", "botsort", "none")

FILLED_SCORE = 0.5
"""An interpolated box gets this share of the lower of the two scores around the gap."""
_REACH_IOU = 0.3  # a box this close to a new track's first box, one frame earlier, was its beginning
_SAME_IOU = 0.5  # a weak box this close to an interpolated one is taken instead of it
_HITS_S = 0.3
"""A person who is there for so long has more than one box."""
_LOST_S = 1.0  # a track without a box for longer is over


@dataclass
class Tracks:
    """The people of one frame. Arrays share their first axis P."""

    boxes_xyxy: np.ndarray
    """[P, 4] pixels, float64."""
    scores: np.ndarray
    """[P] in 0..1; lower where the box is interpolated."""
    track_ids: np.ndarray
    """[P] int64, from 0, unique in the frame."""
    detected: np.ndarray
    """[P] bool: seen by the detector, not interpolated."""

    def __len__(self) -> int:
        return len(self.scores)


@dataclass
class _Box:
    box: np.ndarray
    score: float
    detected: bool = True


@dataclass
class _Waiting:
    """A frame inside the window."""

    index: int
    people: dict[int, _Box] = field(default_factory=dict)
    loose: list[_Box] = field(default_factory=list)  # boxes without a track


@dataclass
class _Trail:
    """What is remembered of a track."""

    last_index: int
    last: _Box
    first_index: int
    hits: int = 0
    public_id: int = -1  # given when the track leaves the window for the first time


class Tracker:
    """Streaming tracker: feed frames with :meth:`update`, end with :meth:`flush`.

    Every frame that goes in comes out once, in order, at most ``look_ahead`` frames later.

    Args:
        kind: ``bytetrack``, ``ocsort``, ``botsort`` (with camera motion; needs the images), or ``none``: no
            identities, the people of a frame are numbered from 0.
        fps: frames per second, for how long a lost track is kept.
        look_ahead: frames that the tracker may wait; 0 to 60. Gaps up to this length are filled.
        min_hits: a track with fewer boxes is dropped, unless the video ended before it could have had more.
            Below 3.3 frames per second one box is enough: there a person's boxes may not overlap.
        min_track_score: smallest score of a box that starts a track.
        strong_score: boxes below it only continue tracks (ByteTrack's second round); at most
            ``min_track_score`` counts. Not for ``ocsort``.
        smooth_radius: boxes are averaged over this many frames before and after, weights falling
            linearly; 0: not.
    """

    def __init__(
        self,
        kind: str = "bytetrack",
        *,
        fps: float | None = None,
        look_ahead: int = 12,
        min_hits: int = 2,
        min_track_score: float = 0.7,
        strong_score: float = 0.5,
        smooth_radius: int = 0,
    ) -> None:
        if kind not in TRACKERS:
            raise InputError(f"unknown tracker {kind!r}; known: {', '.join(TRACKERS)}")
        if not 0 <= min_track_score <= 1:
            raise InputError(f"min_track_score is {min_track_score}: a score is 0 to 1")
        if not 0 <= look_ahead <= 60:
            raise InputError(f"look_ahead is {look_ahead}: it must be 0 to 60 frames")
        if not 0 <= smooth_radius <= look_ahead:
            raise InputError(
                f"smooth_radius is {smooth_radius}: it must be 0 to look_ahead ({look_ahead}) frames"
            )
        self.kind = kind
        self.look_ahead = 0 if kind == "none" else look_ahead
        self.min_track_score = min_track_score
        self.smooth_radius = smooth_radius
        # silent: 30 where the source has no clock or an absurd one, as the library assumes.
        self._fps = fps if fps is not None and 0.5 <= fps <= 1000 else 30.0
        self.min_hits = max(min(min_hits, math.ceil(self._fps * _HITS_S)), 1)
        self._keep = max(round(self._fps * _LOST_S), self.look_ahead + 1)
        self._strong_score = strong_score
        self._window: deque[_Waiting] = deque()
        self._gone: deque[_Waiting] = deque(maxlen=max(smooth_radius, 1))  # frames that left, for smoothing
        self._trails: dict[int, _Trail] = {}
        self._index = -1
        self._next_id = 0
        self._next_local = -1  # keys of tracks that the library does not know of count down from here

    @cached_property
    def _library(self) -> Any:
        """The tracker of the package ``trackers``, whose import takes a while; ``None`` for ``none``."""
        if self.kind == "none":
            return None
        from trackers import BoTSORTTracker, ByteTrackTracker, OCSORTTracker

        common = {
            # in frames of a 30 fps video; the library scales it back
            "lost_track_buffer": max(round(self._keep * 30 / self._fps), 1),
            "frame_rate": self._fps,
            "high_conf_det_threshold": min(self._strong_score, self.min_track_score),
            "minimum_consecutive_frames": 1,  # confirmation is this module's window's
        }
        if self.kind == "ocsort":
            # It has one threshold: weaker boxes neither start nor continue tracks, but fill gaps (below).
            common["high_conf_det_threshold"] = self.min_track_score
            # silent: 0.1 instead of the library's 0.3: between the frames of slow cameras people move far.
            return OCSORTTracker(**common, minimum_iou_threshold=0.1)
        common["track_activation_threshold"] = self.min_track_score
        if self.kind == "botsort":
            return BoTSORTTracker(**common, minimum_iou_threshold_first_assoc=0.1)
        return ByteTrackTracker(**common)

    def update(self, detection: Detection, image: np.ndarray | None = None) -> list[Tracks]:
        """Takes the next frame's boxes; returns the frames that are ready (none, or one).

        Args:
            detection: the frame's boxes and scores.
            image: [H, W, 3] uint8 RGB; used by ``botsort`` alone.
        """
        self._index += 1
        frame = _Waiting(self._index)
        self._window.append(frame)
        boxes = [
            _Box(np.asarray(b, dtype=np.float64), float(s))
            for b, s in zip(detection.boxes_xyxy, detection.scores, strict=True)
        ]
        for key, box in zip(self._associate(detection, image), boxes, strict=True):
            if key < 0:
                frame.loose.append(box)
            else:
                frame.people[key] = box
        for key, box in list(frame.people.items()):
            self._remember(key, box)
        self._forget()
        return [self._release()] if len(self._window) > self.look_ahead else []

    def flush(self) -> list[Tracks]:
        """The frames that still wait; after it the tracker takes no more."""
        if self._library is not None and self._window:
            # A person who came in with the last frame had no chance of a second box.
            last = self._window[-1]
            loose, last.loose = last.loose, []
            for box in loose:
                if box.score >= self.min_track_score:
                    last.people[self._next_local] = box
                    self._remember(self._next_local, box)
                    self._next_local -= 1
        ready = []
        while self._window:
            ready.append(self._release(ended=True))
        return ready

    def _associate(self, detection: Detection, image: np.ndarray | None) -> list[int]:
        """The library's track of each box, -1 where it has none."""
        count = len(detection.scores)
        if self._library is None:
            return list(range(count))
        import supervision

        given = supervision.Detections(
            xyxy=np.asarray(detection.boxes_xyxy, dtype=np.float64).reshape(-1, 4),
            confidence=np.asarray(detection.scores, dtype=np.float64),
            class_id=np.arange(count),  # finds its way back by it: the library re-orders
        )
        if self.kind == "botsort" and image is not None:
            result = self._library.update(given, np.ascontiguousarray(image[..., ::-1]))
        else:
            result = self._library.update(given)
        keys = [-1] * count
        if len(result):
            for position, key in zip(result.class_id, result.tracker_id, strict=True):
                keys[int(position)] = int(key)
        return keys

    def _remember(self, key: int, box: _Box) -> None:
        if self._library is None:
            return
        trail = self._trails.get(key)
        if trail is None:
            trail = self._trails[key] = _Trail(self._index, box, self._index)
            self._reach_back(key, trail, box)
        elif self._index - trail.last_index - 1 <= self.look_ahead:
            self._fill(key, trail.last_index, trail.last, self._index, box)
        trail.last_index, trail.last = self._index, box
        trail.hits += 1

    def _reach_back(self, key: int, trail: _Trail, box: _Box) -> None:
        """Gives a new track the trackless boxes that led up to it, over at most two empty frames."""
        later_index, later, missed = self._index, box, 0
        for frame in list(self._window)[-2::-1]:
            overlap = box_iou(later.box[None], np.array([b.box for b in frame.loose]).reshape(-1, 4))[0]
            if len(overlap) == 0 or overlap.max() < _REACH_IOU:
                missed += 1
                if missed > 2:
                    break
                continue
            found = frame.loose.pop(int(overlap.argmax()))
            frame.people[key] = found
            self._fill(key, frame.index, found, later_index, later)
            later_index, later, missed = frame.index, found, 0
            trail.first_index = frame.index
            trail.hits += 1

    def _fill(self, key: int, start: int, before: _Box, end: int, after: _Box) -> None:
        """Boxes for the frames between ``start`` and ``end``: weak ones that fit, else interpolated ones."""
        for frame in self._window:
            if not start < frame.index < end or key in frame.people:
                continue
            share = (frame.index - start) / (end - start)
            between = before.box * (1 - share) + after.box * share
            overlap = box_iou(between[None], np.array([b.box for b in frame.loose]).reshape(-1, 4))[0]
            if len(overlap) and overlap.max() >= _SAME_IOU:
                frame.people[key] = frame.loose.pop(int(overlap.argmax()))
            else:
                frame.people[key] = _Box(
                    between, FILLED_SCORE * min(before.score, after.score), detected=False
                )

    def _forget(self) -> None:
        """Drops tracks that the library has given up and that no waiting frame holds."""
        horizon = self._keep + self.look_ahead + self.smooth_radius + 1
        for key in [k for k, trail in self._trails.items() if self._index - trail.last_index > horizon]:
            del self._trails[key]

    def _release(self, *, ended: bool = False) -> Tracks:
        frame = self._window.popleft()
        chosen: list[tuple[int, _Box]] = []
        if self._library is None:
            chosen = list(frame.people.items())
        else:
            for key, box in frame.people.items():
                trail = self._trails[key]
                # At the end of the video, a track is not refuted by frames that do not exist.
                possible = self._index - trail.first_index + 1
                if trail.hits >= (min(self.min_hits, possible) if ended else self.min_hits):
                    if trail.public_id < 0:
                        trail.public_id = self._new_id()
                    chosen.append((trail.public_id, self._smoothed(key, frame, box)))
            if self.min_hits == 1:  # the library gives a track no number before its second box
                chosen += [(self._new_id(), b) for b in frame.loose if b.score >= self.min_track_score]
        if self.smooth_radius:
            self._gone.append(frame)
        chosen.sort(key=lambda pair: pair[0])
        return Tracks(
            boxes_xyxy=np.array([b.box for _, b in chosen], dtype=np.float64).reshape(-1, 4),
            scores=np.array([b.score for _, b in chosen], dtype=np.float64),
            track_ids=np.array([key for key, _ in chosen], dtype=np.int64),
            detected=np.array([b.detected for _, b in chosen], dtype=bool),
        )

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _smoothed(self, key: int, frame: _Waiting, box: _Box) -> _Box:
        """The box averaged over as many frames before as after, so that steady motion stays as it is."""
        if not self.smooth_radius:
            return box
        near = {
            f.index - frame.index: f.people[key].box for f in (*self._gone, *self._window) if key in f.people
        }
        total, weight = box.box.copy(), 1.0
        for step in range(1, self.smooth_radius + 1):
            if step not in near or -step not in near:
                break
            share = 1 - step / (self.smooth_radius + 1)
            total += share * (near[step] + near[-step])
            weight += 2 * share
        return _Box(total / weight, box.score, box.detected)
