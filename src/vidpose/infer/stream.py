"""Iteration over the poses of one source; made by :meth:`vidpose.infer.estimator.PoseEstimator.stream`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidpose.errors import InputError
from vidpose.infer.crops import CENTRE_REACH, Strip, TrackCrops, make_windows
from vidpose.infer.detect import BoxFile, Detection, FrameKey, FullFrame
from vidpose.infer.leaps import REACH_S, LeapFilter
from vidpose.infer.smooth import KeypointSmoother
from vidpose.infer.sparse_detect import SparseDetection, interval_frames
from vidpose.infer.track import Tracks
from vidpose.io.video import VideoSource
from vidpose.results import FramePoses, VideoPoses

if TYPE_CHECKING:
    from vidpose.infer.estimator import PoseEstimator

MAX_GROUP = 16
"""Frames whose people may wait for each other to fill a batch."""


@dataclass
class _Frame:
    """A decoded frame that is still needed."""

    index: int
    time: float
    file_name: str | None
    image: np.ndarray


class PoseStream:
    """Iterator of :class:`FramePoses`; made by :meth:`PoseEstimator.stream`, also a context manager."""

    def __init__(
        self, estimator: PoseEstimator, video: VideoSource, stop: Callable[[], bool] | None = None
    ) -> None:
        self.video = video
        self.name = video.name
        self.fps = video.fps
        self.num_frames = video.num_frames
        """Frames of the source, where that is known beforehand."""
        self.width, self.height = video.width, video.height
        self.image: np.ndarray | None = None
        """[H, W, 3] uint8 RGB: the frame whose poses came last."""
        self.best_box_score = 0.0
        """The highest score of a box so far, of people or not."""
        self._estimator = estimator
        self._stop = stop
        self._tracker = estimator._new_tracker(video.fps)
        options = estimator._smooth_options
        self._smoother = KeypointSmoother(**options) if options is not None else None
        self._held: deque[_Frame] = deque()  # frames first..last that may still be needed
        self._first = 0  # position of the first held frame
        self._read = 0  # frames read so far
        self._detected = 0  # frames so far whose boxes the tracker has
        self._tracks: deque[Tracks] = deque()  # of frames next_key.. , ready
        self._next_key = 0
        self._track_crops: dict[int, TrackCrops] = {}  # by track, of the last group
        self._follows = estimator.hold > 1  # crops follow the person; otherwise each clip has its own
        # crops of the last clips' last frames follow these boxes
        self._boxes_ahead = estimator.runner.num_frames // 2 + CENTRE_REACH if self._follows else 0
        self._live = video.num_frames is None
        detector = estimator.detector
        whole = self._live or isinstance(detector, (BoxFile, FullFrame))
        seconds = 0.0 if whole else estimator.detection_interval_s(follow=False)
        self._sparse = SparseDetection(detector, interval_frames(seconds, video.fps))
        self._matched = detector.matched if isinstance(detector, BoxFile) else 0  # by earlier sources
        # silent: 25 frames/s where the source has no clock.
        reach = max(round(REACH_S * (video.fps or 25.0)), 1)
        self._leaps: LeapFilter[np.ndarray] = LeapFilter(min(reach, estimator._steady_frames))
        self._first_group = reach + 1  # what the filter waits for, so that the first poses come soon
        self._poses = self._leaps(self._run())

    def __iter__(self) -> Iterator[FramePoses]:
        return self

    def __next__(self) -> FramePoses:
        poses, self.image = next(self._poses)
        return poses if self._smoother is None else self._smoother(poses)

    @property
    def frames_held(self) -> int:
        """Decoded frames in memory now."""
        return len(self._held) + len(self._leaps)

    @property
    def skipped(self) -> int:
        """Frames so far that could not be decoded."""
        return self.video.skipped

    @property
    def info(self) -> dict[str, Any]:
        """How the result is made, and what was wrong with the source so far."""
        info = {**self._estimator.info, "skipped": self.skipped}
        if self.video.reports:
            info["reports"] = list(self.video.reports)
        if len(self.video.sizes) > 1:
            sizes = self.video.sizes.items()
            info["sizes"] = {f"{width}x{height}": count for (height, width), count in sizes}
        return info

    def result(self, frames: Sequence[FramePoses]) -> VideoPoses:
        """The frames that this stream gave, with what is known of the source."""
        return VideoPoses(
            frames,
            skeleton=self._estimator.skeleton,
            source=self.video.label,
            width=self.width,
            height=self.height,
            fps=self.fps,
            info=self.info,
        )

    def close(self) -> None:
        """Releases the source; later iteration gives nothing."""
        self._poses.close()  # type: ignore[attr-defined]
        self.video.close()
        self._release()

    def _release(self) -> None:
        """Gives up the frames' copies on the device."""
        for frame in self._held:
            self._estimator.cutter.release(frame.image)

    def __enter__(self) -> PoseStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> Iterator[tuple[FramePoses, np.ndarray]]:
        estimator = self._estimator
        reach = estimator.runner.num_frames // 2
        at_once = 1 if self._live else max(self._sparse.interval, 4)
        ended = False
        while not ended:
            ended = self._read_frames(at_once)
            if ended:
                self._tracks.extend(self._tracker.flush())
            while True:
                group = self._next_group(reach, ended)
                if not group:
                    break
                yield from self._estimate(group, reach)
        self._check_box_file()

    def _check_box_file(self) -> None:
        """A file of boxes of which none was of this source is an error."""
        detector = self._estimator.detector
        if isinstance(detector, BoxFile) and detector.matched == self._matched:
            raise InputError(
                f"{detector.name}: none of its boxes belongs to a frame of {self.name}: frames are found by "
                "file name, or by index from 0"
            )

    def _read_frames(self, count: int) -> bool:
        """Reads, detects and tracks up to ``count`` frames; whether the source has ended."""
        new: list[_Frame] = []
        ended = False
        while len(new) < count and not ended:
            frame = None if self._stop is not None and self._stop() else next(self.video, None)
            if frame is None:
                ended = True
            else:
                new.append(_Frame(frame.index, frame.time_s, frame.file_name, frame.image))
                self._estimator.cutter.hold(frame.image)
        if new:
            keys = [FrameKey(f.index, f.file_name) for f in new]
            self._held.extend(new)
            self._read += len(new)
            self._track(self._sparse.update([f.image for f in new], keys))
        if ended:
            self._track(self._sparse.flush())
        return ended

    def _track(self, detections: Sequence[Detection]) -> None:
        """Takes the next frames' boxes to the tracker."""
        for detection in detections:
            image = self._held[self._detected - self._first].image
            self._detected += 1
            self.best_box_score = max(self.best_box_score, *detection.scores.tolist(), 0.0)
            self._tracks.extend(self._tracker.update(detection, image))

    def _next_group(self, reach: int, ended: bool) -> list[Tracks]:
        """Tracks of the next key frames that are to be estimated together; empty: read on first."""
        known = self._read if ended else self._read - reach
        tracked = len(self._tracks) if ended else len(self._tracks) - self._boxes_ahead
        available = min(tracked, known - self._next_key)
        if available < 1:
            return []
        wanted = self._estimator.hold if not self._live else 1
        if self._next_key == 0:
            wanted = min(wanted, self._first_group)
        people = 0
        count = 0
        for tracks in list(self._tracks)[:available]:
            count += 1
            people += len(tracks)
            full = people >= self._estimator.batch_size or self._next_key == 0
            if count >= wanted and (full or count >= MAX_GROUP or self._live):
                return [self._tracks.popleft() for _ in range(count)]
        return [self._tracks.popleft() for _ in range(count)] if ended else []

    def _estimate(self, group: list[Tracks], reach: int) -> Iterator[tuple[FramePoses, np.ndarray]]:
        estimator = self._estimator
        start = self._next_key
        strips, places = self._strips(group, start)
        joints = estimator.heatmap_skeleton.num_joints
        keypoints = [np.zeros((len(tracks), joints, 2)) for tracks in group]
        peaks = [np.zeros((len(tracks), joints)) for tracks in group]
        for place, (points, scores) in zip(places, estimator.look(strips), strict=True):
            for (frame, person), xy, score in zip(place, points, scores, strict=True):
                keypoints[frame][person], peaks[frame][person] = xy, score
        for i, tracks in enumerate(group):
            held = self._held[start + i - self._first]
            scores = peaks[i] * tracks.scores[:, None]
            points, scores = estimator._joints(keypoints[i], scores)
            poses = FramePoses(
                index=held.index,
                time=held.time,
                keypoints=points.reshape(-1, estimator.skeleton.num_joints, 2),
                scores=scores.reshape(-1, estimator.skeleton.num_joints),
                boxes=tracks.boxes_xyxy,
                box_scores=tracks.scores,
                track_ids=tracks.track_ids,
                file_name=held.file_name,
            )
            poses = estimator._without_doubles(poses)
            self._next_key = start + i + 1
            while self._first < self._next_key - reach:
                estimator.cutter.release(self._held.popleft().image)
                self._first += 1
            yield poses, held.image

    def _strips(self, group: list[Tracks], start: int) -> tuple[list[Strip], list[list[tuple[int, int]]]]:
        """The group's people as strips, and for each strip the (frame, person) of its key frames."""
        runs: dict[int, list[tuple[int, int]]] = {}  # track -> (frame in the group, person in the frame)
        for i, tracks in enumerate(group):
            for person, track_id in enumerate(tracks.track_ids.tolist()):
                runs.setdefault(track_id, []).append((i, person))
        num_frames = self._estimator.runner.num_frames
        crops: dict[int, TrackCrops] = {}
        strips: list[Strip] = []
        places: list[list[tuple[int, int]]] = []
        for track_id, run in runs.items():
            track = self._track_crops.get(track_id) if self._follows else None
            for place in _consecutive(run, MAX_GROUP if self._follows else 1):
                first = start + place[0][0]
                if track is None or track.upright.end != first:
                    track = TrackCrops()
                boxes = np.array([group[i].boxes_xyxy[person] for i, person in place])
                keys = list(range(first, first + len(place)))
                needed, windows = make_windows(keys, num_frames, 0, self._read - 1)
                images = [self._held[n - self._first].image for n in needed]
                if self._follows:
                    after = self._boxes_after(track_id) if place[-1][0] == len(group) - 1 else boxes[:0]
                    paths = track.upright.follow(first, boxes, after, needed, num_frames)
                    strips.append(Strip(paths, images, windows, 0.0, needed, track.upright, track))
                else:
                    strips.append(Strip(boxes[0], images, windows))
                places.append(place)
            if track is not None:
                crops[track_id] = track
        self._track_crops = crops
        return strips, places

    def _boxes_after(self, track_id: int) -> np.ndarray:
        """[A, 4] where a person is in the frames after the present group, as far as it is known."""
        boxes = []
        for tracks in self._tracks:
            here = np.flatnonzero(tracks.track_ids == track_id)
            if not len(here):
                break
            boxes.append(tracks.boxes_xyxy[here[0]])
        return np.array(boxes).reshape(-1, 4)


def _consecutive(run: list[tuple[int, int]], longest: int) -> list[list[tuple[int, int]]]:
    """Cuts a track's (frame, person) pairs where frames are missing and after ``longest`` of them."""
    parts: list[list[tuple[int, int]]] = []
    for pair in run:
        if parts and len(parts[-1]) < longest and parts[-1][-1][0] + 1 == pair[0]:
            parts[-1].append(pair)
        else:
            parts.append([pair])
    return parts
