"""Poses of everybody in a video, frame by frame: detect, track, crop clips, run the model, decode."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vidpose.data.boxes import suppress_poses
from vidpose.device import precision_name, resolve_device, resolve_precision
from vidpose.errors import InputError
from vidpose.geometry import DECODERS
from vidpose.infer.crops import CropRunner, Strip, make_windows, split_track
from vidpose.infer.detect import BoxFile, Detection, Detector, FrameKey, FullFrame, build_detector
from vidpose.infer.leaps import REACH_S, LeapFilter
from vidpose.infer.smooth import KeypointSmoother
from vidpose.infer.sparse_detect import SparseDetection, interval_frames
from vidpose.infer.track import Tracker, Tracks
from vidpose.infer.weights import load_pose_model
from vidpose.io.video import VideoSource, open_video
from vidpose.models.hrnet import fold_batch_norms
from vidpose.models.video_model import PoseModel
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import COCO17, POSETRACK15, Skeleton, convert_keypoints

MAX_GROUP = 16
"""Frames whose people may wait for each other to fill a batch."""


class PoseEstimator:
    """Estimates poses in videos, image sequences, cameras and streams.

    Args:
        model: a name of ``list_models()``, or a model.
        weights: name of a set (:mod:`vidpose.weight_sets`): ``default``, ``rendered``, …; a checkpoint file,
            or a hub id. Where ``model`` is a model, the set is the detector's alone.
        detector: what :func:`vidpose.infer.detect.build_detector` takes, or a detector; ``auto`` is that of
            the set ``weights``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        tracker: ``bytetrack``, ``ocsort``, ``botsort`` or ``none``.
        decoder: ``plain``, ``quarter``, ``dark`` or ``udp``.
        flip_test: also runs the mirrored crop and averages.
        steady: joints that leap away from their track for some frames are put back
            (:class:`vidpose.infer.leaps.LeapFilter`); a quarter of a second must be known before and after a
            frame, at most ``look_ahead`` frames. Without identities (tracker ``none``) it has no effect.
        smooth: One-Euro filter on the keypoints of each track; a dictionary holds its arguments
            (:class:`KeypointSmoother`).
        smooth_boxes: radius in frames of the smoothing of boxes; 0: none.
        oks_nms: of two poses of a frame whose object keypoint similarity is greater, the weaker goes: two
            boxes of one person give one pose. 1: all stay, as do poses of boxes from a file.
        batch_size: people for whom the model runs at once; ``None``: 8 on CPUs, 32 on GPUs.
        min_box_score: boxes with a lower score are left out.
        min_track_score: a person begins with a box of this score; weaker boxes only lead there and go on from
            it. Boxes from a file all count.
        max_people: the best so many of a frame stay.
        look_ahead: frames that tracking may wait, to fill gaps.
        detect_every: seconds from one frame that the detector sees to the next; between them boxes are
            interpolated where people match, else it sees more (:mod:`vidpose.infer.sparse_detect`). 0: all
            frames. Live sources, and sources without a clock, are seen whole.
        hold: consecutive key frames of a person that may share one crop, so that each frame passes the
            backbone once instead of T times; 1: every key frame has its own crop, as in training.
        hold_iou: they share it while their mean box overlaps each box by this much.
        padding: by which boxes grow before cropping.

    Raises:
        InputError: an option that is not known, or weights that do not fit.
    """

    def __init__(
        self,
        model: str | PoseModel = "tdmi",
        weights: str | os.PathLike[str] = "default",
        detector: str | os.PathLike[str] | Detector = "auto",
        device: str = "auto",
        precision: str = "auto",
        tracker: str = "bytetrack",
        decoder: str = "dark",
        flip_test: bool = False,
        smooth: bool | dict[str, float] = False,
        *,
        steady: bool = True,
        smooth_boxes: int = 0,
        oks_nms: float = 0.6,
        batch_size: int | None = None,
        min_box_score: float = 0.2,
        min_track_score: float = 0.7,
        max_people: int = 50,
        look_ahead: int = 12,
        detect_every: float = 0.15,
        hold: int = 16,
        hold_iou: float = 0.7,
        padding: float = 1.25,
    ) -> None:
        if decoder not in DECODERS:
            raise InputError(f"unknown decoder {decoder!r}; known: {', '.join(DECODERS)}")
        for name, value, low in (("batch_size", batch_size, 1), ("hold", hold, 1)):
            if value is not None and value < low:
                raise InputError(f"{name} is {value}: it must be at least {low}")
        if hold > MAX_GROUP:
            raise InputError(f"hold is {hold}: at most {MAX_GROUP} frames can share a crop")
        if not 0 < oks_nms <= 1:
            raise InputError(f"oks_nms is {oks_nms}: it must be above 0 and at most 1")
        if not 0 <= detect_every <= 1:
            raise InputError(f"detect_every is {detect_every}: it must be 0 to 1 seconds")
        if not padding > 0:
            raise InputError(f"padding is {padding}: it must be above 0; 1.25 grows a box by 25 %")
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        tracking: dict[str, Any] = {
            "kind": tracker,
            "look_ahead": look_ahead,
            "min_track_score": min_track_score,
            "smooth_radius": smooth_boxes,
        }
        Tracker(**tracking)  # wrong options are told now
        self._steady_frames = look_ahead if steady and tracker != "none" else 0
        self._smooth_options = (smooth if isinstance(smooth, dict) else {}) if smooth else None
        if self._smooth_options is not None:
            KeypointSmoother(**self._smooth_options)
            if tracker == "none":
                raise InputError("smoothing follows people through time: tracker 'none' has no identities")
        if isinstance(model, PoseModel):
            self.model, self.weights = model, "given"
        else:
            self.model, self.weights = load_pose_model(model, weights)
            fold_batch_norms(self.model)
        self.model = self.model.to(self.device).eval()
        if self.device.type != "mps":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heatmap_skeleton = _skeleton_of(self.model)
        self.skeleton = POSETRACK15 if self._approximates else self.heatmap_skeleton
        self.detector: Detector = (
            detector
            if callable(detector)
            else build_detector(
                detector,
                weights=weights,
                device=self.device,
                precision=precision,
                min_score=min_box_score,
                max_people=max_people,
            )
        )
        if isinstance(self.detector, BoxFile):  # who gives boxes wants a pose for each
            oks_nms = 1.0
            tracking |= {"min_hits": 1, "min_track_score": min_box_score}
        self.oks_nms = oks_nms
        self._new_tracker = lambda fps: Tracker(fps=fps, **tracking)
        self.batch_size = batch_size or (8 if self.device.type == "cpu" else 32)
        self.detect_every = detect_every
        self.hold = hold
        self.hold_iou = hold_iou
        self.runner = CropRunner(
            self.model,
            self.heatmap_skeleton,
            decoder=decoder,
            flip_test=flip_test,
            batch_size=self.batch_size,
            padding=padding,
            dtype=self.dtype,
        )
        self.info: dict[str, Any] = {
            "model": self.model.config.get("name", self.model.name),
            "weights": self.weights,
            "backbone": self.model.config.get("backbone"),
            "input_size": list(self.model.input_size),
            "num_frames": self.runner.num_frames,
            "detector": getattr(self.detector, "name", type(self.detector).__name__),
            "detector_weights": getattr(self.detector, "weights", None),
            "min_box_score": min_box_score,
            "min_track_score": tracking["min_track_score"],
            "tracker": tracker,
            "decoder": decoder,
            "flip_test": flip_test,
            "steady": self._steady_frames > 0,
            "smooth": bool(smooth),
            "oks_nms": self.oks_nms,
            "detect_every": detect_every,
            "hold": hold,
            "device": self.device.type,
            "precision": precision_name(self.dtype),
        }
        if self._approximates:
            self.info["joints"] = "head_bottom and head_top approximated from nose and shoulders"

    def stream(
        self, source: str | int | os.PathLike[str], *, stop: Callable[[], bool] | None = None
    ) -> PoseStream:
        """Poses frame by frame, lazily, in order, one for each decoded frame.

        A frame comes out a little after it went in (look-ahead, batches); memory does not grow with the
        length.

        Args:
            source: what :func:`vidpose.io.video.open_video` takes.
            stop: asked before each frame; true ends the source there, with the poses of all frames so far.

        Raises:
            InputError: the source cannot be read.
        """
        return PoseStream(self, open_video(source), stop)

    def __call__(self, source: str | int | os.PathLike[str]) -> VideoPoses:
        """Poses of a whole video."""
        with self.stream(source) as stream:
            frames = list(stream)
            return stream.result(frames)

    @property
    def _approximates(self) -> bool:
        return self.heatmap_skeleton is COCO17 or bool(getattr(self.model, "approximate_head", False))

    def _joints(self, keypoints: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints [P, J, 2] and scores [P, J] of the heatmaps in the joint set of the result."""
        if not self._approximates or not len(keypoints):
            return keypoints, scores
        joined = np.concatenate([keypoints, scores[..., None]], axis=-1)
        if self.heatmap_skeleton is not COCO17:
            joined = convert_keypoints(joined, self.heatmap_skeleton, COCO17, approximate=False)
        joined = convert_keypoints(joined, COCO17, POSETRACK15)
        return joined[..., :2], joined[..., 2]

    def _without_doubles(self, poses: FramePoses) -> FramePoses:
        if self.oks_nms == 1 or len(poses) < 2:
            return poses
        frame, sigmas = [0] * len(poses), self.skeleton.sigmas
        kept = suppress_poses(frame, poses.keypoints, poses.scores, poses.box_scores, sigmas, self.oks_nms)
        return poses.choose(kept)


def _skeleton_of(model: PoseModel) -> Skeleton:
    skeleton = getattr(model, "skeleton", None)
    if skeleton is None:
        if model.num_joints != POSETRACK15.num_joints:
            raise InputError(
                f"the model has {model.num_joints} joints without names; create it with skeleton=NAME"
            )
        return POSETRACK15
    return skeleton


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
        self._live = video.num_frames is None
        detector = estimator.detector
        whole = self._live or isinstance(detector, (BoxFile, FullFrame))
        seconds = 0.0 if whole else estimator.detect_every
        self._sparse = SparseDetection(detector, interval_frames(seconds, video.fps))
        self._matched = detector.matched if isinstance(detector, BoxFile) else 0  # by earlier sources
        # silent: 25 frames/s where the source has no clock.
        reach = max(round(REACH_S * (video.fps or 25.0)), 1)
        self._leaps: LeapFilter[np.ndarray] = LeapFilter(min(reach, estimator._steady_frames))
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
        if isinstance(estimator.detector, BoxFile) and estimator.detector.matched == self._matched:
            raise InputError(
                f"{estimator.detector.name}: none of its boxes belongs to a frame of {self.name}: frames are "
                "found by file name, or by index from 0"
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
            self._tracks.extend(self._tracker.update(detection, image))

    def _next_group(self, reach: int, ended: bool) -> list[Tracks]:
        """Tracks of the next key frames that are to be estimated together; empty: read on first."""
        known = self._read if ended else self._read - reach
        available = min(len(self._tracks), known - self._next_key)
        if available < 1:
            return []
        wanted = self._estimator.hold if not self._live else 1
        people = 0
        count = 0
        for tracks in list(self._tracks)[:available]:
            count += 1
            people += len(tracks)
            if count >= wanted and (people >= self._estimator.batch_size or count >= MAX_GROUP or self._live):
                return [self._tracks.popleft() for _ in range(count)]
        return [self._tracks.popleft() for _ in range(count)] if ended else []

    def _estimate(self, group: list[Tracks], reach: int) -> Iterator[tuple[FramePoses, np.ndarray]]:
        estimator = self._estimator
        start = self._next_key
        strips, places = self._strips(group, start)
        joints = estimator.heatmap_skeleton.num_joints
        keypoints = [np.zeros((len(tracks), joints, 2)) for tracks in group]
        peaks = [np.zeros((len(tracks), joints)) for tracks in group]
        for place, (points, scores) in zip(places, estimator.runner(strips), strict=True):
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
                self._held.popleft()
                self._first += 1
            yield poses, held.image

    def _strips(self, group: list[Tracks], start: int) -> tuple[list[Strip], list[list[tuple[int, int]]]]:
        """The group's people as strips, and for each strip the (frame, person) of its key frames."""
        runs: dict[int, list[tuple[int, int]]] = {}  # track -> (frame in the group, person in the frame)
        for i, tracks in enumerate(group):
            for person, track_id in enumerate(tracks.track_ids.tolist()):
                runs.setdefault(track_id, []).append((i, person))
        strips: list[Strip] = []
        places: list[list[tuple[int, int]]] = []
        for run in runs.values():
            for part in _consecutive(run, self._estimator.hold):
                boxes = np.array([group[i].boxes_xyxy[person] for i, person in part])
                for a, b in split_track(boxes, self._estimator.hold_iou):
                    place = part[a:b]
                    keys = [start + i for i, _ in place]
                    needed, windows = make_windows(keys, self._estimator.runner.num_frames, 0, self._read - 1)
                    images = [self._held[n - self._first].image for n in needed]
                    strips.append(Strip(boxes[a:b].mean(axis=0), images, windows))
                    places.append(place)
        return strips, places


def _consecutive(run: list[tuple[int, int]], longest: int) -> list[list[tuple[int, int]]]:
    """Cuts a track's (frame, person) pairs where frames are missing and after ``longest`` of them."""
    parts: list[list[tuple[int, int]]] = []
    for pair in run:
        if parts and len(parts[-1]) < longest and parts[-1][-1][0] + 1 == pair[0]:
            parts[-1].append(pair)
        else:
            parts.append([pair])
    return parts
