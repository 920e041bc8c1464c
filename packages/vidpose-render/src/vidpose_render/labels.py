"""What is exactly true of a drawn person: joints, which of them are seen, boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidpose.skeletons import COCO17, POSETRACK15

from .camera import Camera
from .draw import Exposure

JOINTS = (*POSETRACK15.joints, *(name for name in COCO17.joints if name not in POSETRACK15.joints))
"""The joints of a person: PoseTrack's 15, then COCO's that are not among them."""
_DEPTH_M = {
    "nose": 0.05, "head_bottom": 0.11, "head_top": 0.06,
    "left_eye": 0.04, "right_eye": 0.04, "left_ear": 0.04, "right_ear": 0.04,
    "left_shoulder": 0.11, "right_shoulder": 0.11, "left_elbow": 0.08, "right_elbow": 0.08,
    "left_wrist": 0.07, "right_wrist": 0.07, "left_hip": 0.17, "right_hip": 0.17,
    "left_knee": 0.11, "right_knee": 0.11, "left_ankle": 0.09, "right_ankle": 0.09,
}  # fmt: skip
_HIDING_M = 0.03


@dataclass
class Seen:
    """One person in one picture."""

    keypoints: np.ndarray
    """[len(JOINTS), 3] float32: x, y in pixels, 0 being the centre of the first, and 1; zeros for a joint
    outside the picture."""
    visible: np.ndarray
    """[len(JOINTS)] bool: inside the picture and behind nothing but what is around the joint itself."""
    box_xyxy: np.ndarray
    """[4] extent of the body, also where something hides it, cut at the picture's border."""
    head_box_xyxy: np.ndarray
    """[4] extent of the head, not cut."""
    depth_m: float
    shown: float
    """Share of the joints within the picture that are visible."""


def depth_of_joints(scale: float) -> np.ndarray:
    """[len(JOINTS)] metres of flesh and cloth that may lie before a joint and leave it visible."""
    return np.array([_DEPTH_M[name] for name in JOINTS]) * scale + _HIDING_M


def see_person(
    number: int,
    joints: np.ndarray,
    outline: np.ndarray,
    head: np.ndarray,
    camera: Camera,
    exposure: Exposure,
    depths: np.ndarray,
) -> Seen:
    """A person as a picture shows it.

    Args:
        number: of the figure in ``exposure.owner``.
        joints: [len(JOINTS), 3] metres in the world, in the order of ``JOINTS``.
        outline: [n, 3] points of the body's surface. head: [n, 3] points of the head's.
        depths: of :func:`depth_of_joints`.
    """
    height, width = exposure.owner.shape
    seen = camera.see(joints)
    x, y, depth = seen[:, 0], seen[:, 1], seen[:, 2]
    near = camera.lens[3]
    inside = (depth > near) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = np.clip(np.nan_to_num(x), 0, width - 1).astype(np.int64)
    row = np.clip(np.nan_to_num(y), 0, height - 1).astype(np.int64)
    nearness, owner = exposure.nearness[row, column], exposure.owner[row, column]
    surface = np.where(nearness > 0, 1 / np.maximum(nearness, 1e-9), np.inf)
    own = owner == number
    hidden = np.where(own, depth - surface > depths, (owner >= 0) & (depth - surface > _HIDING_M))
    visible = inside & ~hidden
    keypoints = np.stack([x - 0.5, y - 0.5, np.ones_like(x)], axis=-1)
    keypoints[~inside] = 0
    box = _extent(camera.see(outline), near)
    box = np.clip(box, 0, [width, height, width, height])
    return Seen(
        keypoints=keypoints.astype(np.float32),
        visible=visible,
        box_xyxy=box.astype(np.float32),
        head_box_xyxy=_extent(camera.see(head), near).astype(np.float32),
        depth_m=float(np.median(depth)),
        shown=float(visible.sum() / max(inside.sum(), 1)),
    )


def _extent(points: np.ndarray, near: float) -> np.ndarray:
    """[4] x1, y1, x2, y2 of points [n, 3] before the camera; zeros if there is none."""
    ahead = points[points[:, 2] > near]
    if not len(ahead):
        return np.zeros(4)
    return np.concatenate([ahead[:, :2].min(axis=0), ahead[:, :2].max(axis=0)])
