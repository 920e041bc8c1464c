"""Other software on the same frames: each one person a frame where it can, all of it timed.

A function loads a peer and returns one that handles frames. One that is not installed is named in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vidpose.errors import InputError

Runner = Callable[[Sequence[np.ndarray]], int]
"""Takes uint8 RGB frames [H, W, 3]; the number of poses that it found."""


def vitpose() -> Runner:
    """``transformers``' ViTPose-B pipeline: the top-down model with its own pre- and post-processing, the
    person's box given (it has no detector of its own). Its weights are random: they do not change the speed.
    """
    import torch
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    try:
        from transformers.models.vitpose.image_processing_vitpose import VitPoseImageProcessor as Processor
    except ImportError:  # without torchvision; older releases have this one alone, under the first name
        from transformers.models.vitpose.image_processing_pil_vitpose import (
            VitPoseImageProcessorPil as Processor,
        )

    size = {"height": 256, "width": 192}
    backbone = VitPoseBackboneConfig(image_size=[256, 192], patch_size=[16, 16])
    model = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17)).eval()
    processor: Any = Processor(size=size)

    def run(frames: Sequence[np.ndarray]) -> int:
        found = 0
        for frame in frames:
            height, width = frame.shape[:2]
            boxes = [[[width * 0.25, 0.0, width * 0.5, float(height)]]]
            inputs = processor(frame, boxes=boxes, return_tensors="pt", input_data_format="channels_last")
            with torch.inference_mode():
                outputs = model(**inputs)
            found += len(processor.post_process_pose_estimation(outputs, boxes=boxes)[0])
        return found

    return run


def mediapipe() -> Runner:
    """MediaPipe Pose, ``full`` network, tracking mode: one person."""
    from mediapipe.python.solutions.pose import Pose  # type: ignore[import-not-found]

    def run(frames: Sequence[np.ndarray]) -> int:
        with Pose(model_complexity=1, static_image_mode=False) as pose:
            return sum(pose.process(frame).pose_landmarks is not None for frame in frames)

    return run


def rtmlib() -> Runner:
    """rtmlib's ``Body`` in its ``balanced`` mode: YOLOX and RTMPose-m, everybody in the frame."""
    from rtmlib import Body, PoseTracker  # type: ignore[import-not-found]

    tracker: Any = PoseTracker(Body, mode="balanced", det_frequency=7, backend="onnxruntime", device="cpu")

    def run(frames: Sequence[np.ndarray]) -> int:
        return sum(len(tracker(np.ascontiguousarray(frame[..., ::-1]))[0]) for frame in frames)

    return run


PEERS: dict[str, Callable[[], Runner]] = {"vitpose": vitpose, "mediapipe": mediapipe, "rtmlib": rtmlib}


def check_peers(names: Sequence[str]) -> None:
    """Raises :class:`InputError` for a name that is none of ``PEERS``."""
    for name in names:
        if name not in PEERS:
            raise InputError(f"unknown peer {name!r}; known: {', '.join(PEERS)}")


def load_peer(name: str) -> Runner:
    """A peer, ready to run.

    Raises:
        InputError: an unknown name.
        ImportError: it is not installed.
    """
    check_peers([name])
    return PEERS[name]()
