"""Poses of everybody in a video, frame by frame: detect, track, crop clips, run the model, decode."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vidpose.data.boxes import suppress_poses
from vidpose.device import precision_name, resolve_device
from vidpose.errors import InputError
from vidpose.geometry import DECODERS
from vidpose.infer.crops import CropRunner
from vidpose.infer.cuda_graphs import find_recorder, graph_pose_model
from vidpose.infer.cutters import Cutter, make_cutter
from vidpose.infer.detect import BoxFile, Detector, build_detector
from vidpose.infer.engines import PoseRunner, load_network, resolve_engine
from vidpose.infer.smooth import KeypointSmoother
from vidpose.infer.stream import MAX_GROUP, PoseStream
from vidpose.infer.track import TRACKERS, Tracker
from vidpose.infer.upright import UprightRunner
from vidpose.infer.weights import load_pose_model
from vidpose.io.hardware import check_decode
from vidpose.io.sources import find_source
from vidpose.io.video import open_video
from vidpose.models.hrnet import fold_batch_norms
from vidpose.models.video_model import PoseModel
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import COCO17, POSETRACK15, Skeleton, convert_keypoints


class PoseEstimator:
    """Estimates poses in videos, image sequences, cameras and streams.

    Args:
        model: a name of ``list_models()``, or a model.
        weights: name of a set (:mod:`vidpose.weight_sets`): ``default``, ``rendered``, …; a checkpoint file,
            or a hub id. Where ``model`` is a model, the set is the detector's alone.
        detector: what :func:`vidpose.infer.detect.build_detector` takes, or a detector; ``auto`` is that of
            the set ``weights``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``, or ``int8``: the detector in 8-bit integers by
            OpenVINO, pose models as ``auto``.
        tracker: ``bytetrack``, ``ocsort``, ``botsort``: boxes between two detections are interpolated where
            people match, else the detector sees more frames (:mod:`vidpose.infer.sparse_detect`). ``poses``:
            they are drawn around the poses of the frame before, and the detector sees more frames where these
            become unsure (:mod:`vidpose.infer.follow`); sources without a clock get ``bytetrack``. ``none``:
            no identities. ``None``: ``poses`` where a source is live, else ``bytetrack``.
        decoder: ``plain``, ``quarter``, ``dark`` or ``udp``.
        flip_test: also runs the mirrored crop and averages.
        upright: people who lean by 45 degrees or more are looked at again in a crop that is turned until they
            stand, mirrored as well; the surer pose stays (:mod:`vidpose.infer.upright`).
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
        look_ahead: frames that trackers of boxes may wait, to fill gaps, and that ``steady`` may.
        detect_every: seconds from one frame that the detector sees to the next; 0: all frames. ``None``: 0.5
            with the tracker ``poses`` (at most 10), 0.15 with others (at most 1). Sources without a clock are
            seen whole.
        live: the newest frame counts, and frames that come too fast are dropped (:mod:`vidpose.infer.live`);
            boxes come from poses, joints are not put back (``steady``), clips have no later frames. A file is
            played at its own rate. ``None``: cameras and network streams are live, unless another tracker
            than ``poses`` is asked for.
        hold: successive key frames that are estimated together. Their crops follow the person, and each frame
            passes the backbone once instead of T times; 1: each key frame has a crop of its own for its whole
            clip, as in training.
        hold_iou: with the tracker ``poses`` a crop stays where it is while it overlaps the person's box by
            this much.
        padding: by which boxes grow before cropping.
        engine: what runs the networks on a CPU: ``torch``, ``openvino``, ``onnxruntime``, or ``auto``: the
            fastest that is installed and whose outputs are right (:mod:`vidpose.infer.engines`).
        cutter: cuts crops, and resizes frames for our own detector; ``None``: on a CPU OpenCV, else the
            device (:mod:`vidpose.infer.cutters`).
        cuda_graphs: the networks run by CUDA graphs (:mod:`vidpose.infer.cuda_graphs`); a line on standard
            error says where that cannot be.
        decode: what decodes videos: ``cpu``, ``auto``, or a device (:mod:`vidpose.io.hardware`).

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
        tracker: str | None = None,
        decoder: str = "dark",
        flip_test: bool = False,
        smooth: bool | dict[str, float] = False,
        *,
        upright: bool = True,
        steady: bool = True,
        smooth_boxes: int = 0,
        oks_nms: float = 0.6,
        batch_size: int | None = None,
        min_box_score: float = 0.2,
        min_track_score: float = 0.7,
        max_people: int = 50,
        look_ahead: int = 12,
        detect_every: float | None = None,
        live: bool | None = None,
        hold: int = 16,
        hold_iou: float = 0.9,
        padding: float = 1.25,
        engine: str = "torch",
        cutter: Cutter | None = None,
        cuda_graphs: bool = False,
        decode: str = "cpu",
    ) -> None:
        if decoder not in DECODERS:
            raise InputError(f"unknown decoder {decoder!r}; known: {', '.join(DECODERS)}")
        for name, value, low in (("batch_size", batch_size, 1), ("hold", hold, 1)):
            if value is not None and value < low:
                raise InputError(f"{name} is {value}: it must be at least {low}")
        if hold > MAX_GROUP:
            raise InputError(f"hold is {hold}: at most {MAX_GROUP} frames can be estimated together")
        if not 0 < oks_nms <= 1:
            raise InputError(f"oks_nms is {oks_nms}: it must be above 0 and at most 1")
        if tracker not in (None, "poses", *TRACKERS):
            raise InputError(f"unknown tracker {tracker!r}; known: poses, {', '.join(TRACKERS)}")
        longest = 10 if live or tracker == "poses" else 1
        if detect_every is not None and not 0 <= detect_every <= longest:
            raise InputError(f"detect_every is {detect_every}: it must be 0 to {longest} seconds")
        if live and tracker not in (None, "poses"):
            why = " has no identities" if tracker == "none" else " follows boxes of every frame"
            raise InputError(
                f"a live source is followed by poses: tracker {tracker!r}{why}; leave it out, or live"
            )
        if not padding > 0:
            raise InputError(f"padding is {padding}: it must be above 0; 1.25 grows a box by 25 %")
        check_decode(decode)
        self.decode = decode
        self.device = resolve_device(device)
        engine_name, self.dtype, _ = resolve_engine(engine, precision, self.device)
        tracking: dict[str, Any] = {
            "kind": tracker if tracker in TRACKERS else "bytetrack",
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
        self.cutter = make_cutter(self.device) if cutter is None else cutter
        record = find_recorder(self.device) if cuda_graphs else None
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
                engine=engine,
                min_score=min_box_score,
                max_people=max_people,
                cutter=self.cutter,
                record=record,
            )
        )
        if isinstance(self.detector, BoxFile):  # who gives boxes wants a pose for each
            oks_nms = 1.0
            tracking |= {"min_hits": 1, "min_track_score": min_box_score}
        self.oks_nms = oks_nms
        self._new_tracker = lambda fps: Tracker(fps=fps, **tracking)
        self.batch_size = batch_size or (8 if self.device.type == "cpu" else 32)
        self.detect_every = detect_every
        self._tracker = tracker
        self.live = live
        self.max_people = max_people
        self.hold = hold
        self.hold_iou = hold_iou
        network: PoseRunner | None = (
            graph_pose_model(self.model, self.dtype, record) if record is not None else None
        )
        network = network or load_network(self.model, engine_name, self.dtype)
        self.runner = CropRunner(
            self.model,
            self.heatmap_skeleton,
            decoder=decoder,
            flip_test=flip_test,
            batch_size=self.batch_size,
            padding=padding,
            dtype=self.dtype,
            network=network,
            cutter=self.cutter,
        )
        self.upright = upright
        self.look = UprightRunner(self.runner) if upright else self.runner
        """Poses of strips, as streams of whole videos use it."""
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
            "tracker": tracking["kind"],
            "decoder": decoder,
            "flip_test": flip_test,
            "upright": upright,
            "steady": self._steady_frames > 0,
            "smooth": bool(smooth),
            "oks_nms": self.oks_nms,
            "detect_every": self.detection_interval_s(follow=False),
            "hold": hold,
            "device": self.device.type,
            "engine": network.engine if network is not None else "torch",
            "precision": network.precision if network is not None else precision_name(self.dtype),
            "detector_engine": getattr(self.detector, "engine", None),
            "detector_precision": getattr(self.detector, "precision", None),
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
        from vidpose.infer.live import FollowStream, LiveStream, warm_up

        found = find_source(source)
        live = self.live
        if live is None:
            live = found.kind in ("camera", "stream") and self._tracker in (None, "poses")
        if live and found.kind == "images":
            raise InputError(
                f"{found.label}: images have no clock; a live source is a camera, stream or video"
            )
        if live:
            warm_up(self)
        video = open_video(source, decode=self.decode)
        if live and (self.live or video.num_frames is None):  # a video that a server holds need not be live
            return LiveStream(self, video, stop, pace=video.num_frames is not None)
        followed = self._tracker == "poses" and video.fps is not None
        return (FollowStream if followed else PoseStream)(self, video, stop)

    def detection_interval_s(self, *, follow: bool) -> float:
        """Seconds between two detections, with boxes from poses or without."""
        return (0.5 if follow else 0.15) if self.detect_every is None else self.detect_every

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
