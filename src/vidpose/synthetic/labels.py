"""What is exactly true of a synthetic frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class PersonTruth:
    """One person of one frame, at the middle of the exposure."""

    track_id: int
    keypoints: np.ndarray
    """[15, 3] float32 in POSETRACK15 order: x, y in pixels and 1; zeros for a joint outside the picture."""
    visible: np.ndarray
    """[15] bool: inside the picture and behind nothing, neither others nor the own body."""
    box_xyxy: np.ndarray
    """[4] extent of the whole body's outline (also where something hides it), cut at the picture's border."""
    head_box_xyxy: np.ndarray
    """[4] extent of the skull, head top and head bottom; not cut."""
    depth_m: float
    """Distance of the pelvis from the camera."""
    coco17: np.ndarray | None = None
    """[17, 3] float32 in COCO17 order with COCO's flags: 2 visible, 1 hidden, 0 outside the picture."""


@dataclass
class FrameTruth:
    """What is exactly true of one frame."""

    index: int
    time: float
    """Seconds, middle of the exposure."""
    people: list[PersonTruth]
    ignore_regions: list[np.ndarray] = field(default_factory=list)
    """Polygons [n, 2] in pixels around far spectators that are drawn but not labelled."""
    events: tuple[str, ...] = ()
    """What degrades this frame: defocus, shake, flash, dark, blocks, occluder."""
    camera: np.ndarray = field(default_factory=lambda: np.eye(3))
    """[3, 3] homography from the still backdrop to this frame."""
    instances: np.ndarray | None = None
    """[H, W] uint8: 0 backdrop, track_id + 1, 255 things in front; only when asked for."""
