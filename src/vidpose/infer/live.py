"""Streams whose boxes come from poses: of files in all frames, and live, where the newest frame counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vidpose.infer.crops import Strip
from vidpose.infer.detect import BoxFile, Detection, FrameKey, FullFrame, HubDetector, SmallDetector
from vidpose.infer.follow import MARGINS, Follower, Person, has_left, is_unsure
from vidpose.infer.held_crops import HeldCrops
from vidpose.infer.latest_frame import Clock, FrameReader, WallClock, paced
from vidpose.infer.leaps import LeapFilter
from vidpose.infer.second_look import mix_boxes
from vidpose.infer.stream import PoseStream
from vidpose.io.video import VideoFrame, VideoSource
from vidpose.results import FramePoses

if TYPE_CHECKING:
    from vidpose.infer.estimator import PoseEstimator


class FollowStream(PoseStream):
    """Poses of every frame; boxes between detections are drawn around the poses of the frame before.

    Who comes in between two detections is followed back from the second one.
    """

    def __init__(
        self, estimator: PoseEstimator, video: VideoSource, stop: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(estimator, video, stop)
        detector = estimator.detector
        fit = getattr(detector, "fit", None)
        self._follower = Follower(
            every_s=estimator.detection_interval_s(follow=True),
            min_track_score=estimator.info["min_track_score"],
            max_people=estimator.max_people,
            margins=fit.margins if fit is not None else MARGINS,
            by_poses=not isinstance(detector, (BoxFile, FullFrame)),
        )
        hold_iou = estimator.hold_iou if estimator.hold > 1 else 2.0
        self._crops = HeldCrops(estimator.runner, hold_iou, upright=estimator.upright)
        self._images: dict[int, np.ndarray] = {}  # by position, of the frames that clips still need
        self.frames_seen = 0
        """Frames that the detector has seen so far."""

    @property
    def info(self) -> dict[str, Any]:
        every = self._estimator.detection_interval_s(follow=True)
        return {**super().info, "tracker": "poses", "detect_every": every}

    @property
    def frames_held(self) -> int:
        return len(self._images) + len(self._leaps)

    def _run(self) -> Iterator[tuple[FramePoses, np.ndarray]]:
        reach = self._estimator.runner.num_frames // 2
        # silent: 25 frames/s where the source has no clock.
        patience = max(round(self._follower.every_s * (self.video.fps or 25.0)), 1)
        waiting: deque[VideoFrame] = deque()
        posed: deque[_Posed] = deque()  # the last detection may still add people to them
        key = position = 0
        ended = False
        while not ended or waiting:
            frame = None if ended or (self._stop is not None and self._stop()) else next(self.video, None)
            if frame is None:
                ended = True
            else:
                self._keep(position, frame.image)
                position += 1
                waiting.append(frame)
            while waiting and (ended or len(waiting) > reach):
                frame = waiting.popleft()
                asked = self._detect(frame)
                posed.append(_Posed(key, frame, self._pose(frame, key)))
                key += 1
                if asked:
                    self._trace_back(posed)
                while len(posed) > (1 if asked else patience):
                    done = posed.popleft()
                    yield done.poses, done.frame.image
                for old in [n for n in self._images if n < posed[0].key - reach]:
                    self._forget(old)
        yield from ((done.poses, done.frame.image) for done in posed)
        self._check_box_file()

    def _keep(self, position: int, image: np.ndarray) -> None:
        """Keeps a frame for the clips that will need it."""
        self._images[position] = image
        self._estimator.cutter.hold(image)

    def _forget(self, position: int) -> None:
        """The opposite; nothing happens where no such frame is kept."""
        image = self._images.pop(position, None)
        if image is not None:
            self._estimator.cutter.release(image)

    def _release(self) -> None:
        for image in self._images.values():
            self._estimator.cutter.release(image)

    def _detect(self, frame: VideoFrame) -> bool:
        """Asks the detector about the frame if it is time; whether it was."""
        if not self._follower.wants_detection(frame.time_s):
            return False
        self._follower.asked(frame.time_s)
        self._follower.detected(self._see(frame), frame.time_s)
        return True

    def _trace_back(self, posed: deque[_Posed]) -> None:
        """Follows those who are new in the last frame back through the others, which get their poses."""
        estimator, last = self._estimator, posed[-1]
        for person in self._follower.people:
            if len(posed) < 2 or person.track_id in posed[-2].poses.track_ids:
                continue
            if person.track_id not in last.poses.track_ids or person.usual_peak is None:
                continue
            hold_iou, box = self._crops.hold_iou, person.box_xyxy
            crops = HeldCrops(estimator.runner, hold_iou, upright=estimator.upright)
            for earlier in list(posed)[-2::-1]:
                raw, peaks = crops(self._images, earlier.key, {0: box})
                points, peaks = estimator._joints(raw, peaks)
                size = (earlier.frame.image.shape[0], earlier.frame.image.shape[1])
                [box] = mix_boxes(box[None], points, peaks, self._follower.margins, size)
                poses = _with_person(earlier.poses, person, points[0], peaks[0], box)
                if is_unsure(float(peaks.mean()), person.usual_peak) or has_left(box) or poses is None:
                    break
                if len(estimator._without_doubles(poses)) < len(poses):  # somebody is followed there
                    break
                earlier.poses = poses

    def _see(self, frame: VideoFrame) -> Detection:
        self.frames_seen += 1
        [found] = self._estimator.detector([frame.image], [FrameKey(frame.index, frame.file_name)])
        self.best_box_score = max(self.best_box_score, *found.scores.tolist(), 0.0)
        return found

    def _pose(self, frame: VideoFrame, key: int) -> FramePoses:
        """Poses of everybody who is followed in the frame at position ``key``."""
        estimator, follower = self._estimator, self._follower
        people = follower.people
        boxes = {id(person): person.box_xyxy for person in people}
        raw, peaks = self._crops(self._images, key, boxes)
        points, peaks = estimator._joints(raw, peaks)
        size = (frame.image.shape[0], frame.image.shape[1])
        there, around = follower.posed(points, peaks, size, frame.time_s)
        scores = np.array([people[k].score for k in there])
        joints = estimator.skeleton.num_joints
        poses = FramePoses(
            index=frame.index,
            time=frame.time_s,
            keypoints=points[there].reshape(-1, joints, 2),
            scores=peaks[there].reshape(-1, joints) * scores[:, None],
            boxes=around,
            box_scores=scores,
            track_ids=np.array([people[k].track_id for k in there], dtype=np.int64),
            file_name=frame.file_name,
        )
        single = estimator._without_doubles(poses)
        if len(single) < len(poses):
            doubles = sorted(set(poses.track_ids.tolist()) - set(single.track_ids.tolist()), reverse=True)
            renamed = follower.join(doubles)
            ids = [renamed.get(track_id, track_id) for track_id in single.track_ids.tolist()]
            single = replace(single, track_ids=np.array(ids, dtype=np.int64))
        return single.choose(np.argsort(single.track_ids))


@dataclass
class _Posed:
    """A frame, and who is known to be in it."""

    key: int
    frame: VideoFrame
    poses: FramePoses


def _with_person(
    poses: FramePoses, person: Person, keypoints: np.ndarray, peaks: np.ndarray, box_xyxy: np.ndarray
) -> FramePoses | None:
    """The poses of a frame and that of one more person [J, 2], [J]; ``None`` where the person is there."""
    if person.track_id in poses.track_ids:
        return None
    joined = replace(
        poses,
        keypoints=np.concatenate([poses.keypoints.reshape(-1, *keypoints.shape), keypoints[None]]),
        scores=np.concatenate([poses.scores.reshape(-1, len(peaks)), peaks[None] * person.score]),
        boxes=np.concatenate([poses.boxes, box_xyxy[None]]),
        box_scores=np.append(poses.box_scores, person.score),
        track_ids=np.append(poses.track_ids, person.track_id),
    )
    return joined.choose(np.argsort(joined.track_ids))


@dataclass
class _Asked:
    """A detection that is being made."""

    found: Future[Detection]
    boxes: dict[int, np.ndarray]
    """Of those who were followed in the frame that the detector sees."""


class LiveStream(FollowStream):
    """Poses of the newest frame of a source that does not wait.

    A thread reads; frames that came while another was handled are dropped and counted. The detector works in
    a thread of its own: what it finds is joined with those who are followed meanwhile. Clips have no frames
    behind the key frame; the key frame stands in for them.

    A file's last frame waits for a detection that is still being made while nobody is followed: a clip that
    is shorter than one detection has poses in this frame at least.

    Args:
        pace: the source is a file, and is played at its own rate.
        clock: of arrivals and pacing.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        video: VideoSource,
        stop: Callable[[], bool] | None = None,
        *,
        pace: bool = False,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(estimator, video, stop)
        self._clock = clock or WallClock()
        self._pace = pace
        self._reader: FrameReader | None = None
        self._asked: _Asked | None = None
        self._threads = torch.get_num_threads()
        self._handled, self._delay_sum_s, self._max_delay_s = 0, 0.0, 0.0
        self._leaps = LeapFilter(0)
        self._poses = self._leaps(self._run())

    @property
    def dropped(self) -> int:
        """Frames so far that came too fast."""
        return self._reader.latest.dropped if self._reader is not None else 0

    @property
    def info(self) -> dict[str, Any]:
        info = {**super().info, "live": True, "steady": False, "dropped": self.dropped}
        if self._handled:
            mean = self._delay_sum_s / self._handled
            info |= {"mean_delay_s": round(mean, 4), "max_delay_s": round(self._max_delay_s, 4)}
        return info

    def close(self) -> None:
        self._poses.close()  # type: ignore[attr-defined]
        if self._reader is None:  # otherwise its thread closes the source
            self.video.close()
        self._release()

    def _run(self) -> Iterator[tuple[FramePoses, np.ndarray]]:
        frames = paced(self.video, self._clock) if self._pace else self.video
        threads = self._threads
        self._reader = reader = FrameReader(frames, self._clock, self.video.close)
        # The two networks share the processors: threads that wait for each other in turns would cost more.
        torch.set_num_threads(max(threads - threads // 2, 1))
        workers = ThreadPoolExecutor(1, "vidpose-detector")
        key = 0
        held: tuple[FramePoses, VideoFrame] | None = None  # of a file, as it may be the last
        try:
            while not (self._stop is not None and self._stop()):
                arrived = reader.latest.take()
                if arrived is None:
                    if reader.latest.over:
                        break
                    continue
                frame = arrived.frame
                self._keep(key, frame.image)
                self._join_detection(frame, workers)
                poses = self._pose(frame, key)
                key += 1
                self._forget(key - 1 - self._estimator.runner.num_frames // 2)
                delay_s = self._clock.now() - arrived.at_s
                self._handled += 1
                self._delay_sum_s += delay_s
                self._max_delay_s = max(self._max_delay_s, delay_s)
                if not self._pace:
                    yield poses, frame.image
                    continue
                if held is not None:
                    yield held[0], held[1].image
                held = poses, frame
            if held is not None:
                poses, frame = held
                yield self._pose_last(poses, frame, key - 1), frame.image
            self._check_box_file()
        finally:
            reader.stop()
            workers.shutdown(wait=True, cancel_futures=True)
            torch.set_num_threads(threads)

    def _pose_last(self, poses: FramePoses, frame: VideoFrame, key: int) -> FramePoses:
        """Poses of a file's last frame, once more where nobody is followed and the detector is at work."""
        if self._asked is None or self._follower.people:
            return poses
        self._follower.detected(self._asked.found.result(), frame.time_s, self._asked.boxes)
        self._asked = None
        if key not in self._images:
            self._keep(key, frame.image)
        return self._pose(frame, key)

    def _join_detection(self, frame: VideoFrame, workers: ThreadPoolExecutor) -> None:
        """Takes what the detector has found, and gives it this frame if it is time."""
        if not self._follower.by_poses:  # boxes from a file: at once
            self._detect(frame)
            return
        if self._asked is not None and self._asked.found.done():
            self._follower.detected(self._asked.found.result(), frame.time_s, self._asked.boxes)
            self._asked = None
        if self._asked is None and self._follower.wants_detection(frame.time_s):
            self._follower.asked(frame.time_s)
            # Where nobody is followed the pose model has nothing to do.
            threads = max(self._threads // 2, 1) if self._follower.people else self._threads
            found = workers.submit(self._see_with, frame, threads)
            self._asked = _Asked(found, self._follower.boxes())

    def _see_with(self, frame: VideoFrame, threads: int) -> Detection:
        """In the detector's thread, whose number of threads is its own."""
        torch.set_num_threads(threads)
        return self._see(frame)


def warm_up(estimator: PoseEstimator) -> None:
    """Runs detector and pose model once, so that the first frame of a live source does not pay for it."""
    image = np.zeros((360, 640, 3), np.uint8)
    if isinstance(estimator.detector, (SmallDetector, HubDetector)):
        estimator.detector([image], [FrameKey(0)])
    clip = np.zeros((1, estimator.runner.num_frames), np.int64)
    estimator.runner([Strip(np.array([100.0, 50.0, 300.0, 350.0]), [image], clip)])
