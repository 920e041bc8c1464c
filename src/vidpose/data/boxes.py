"""Detected person boxes of a data set: the JSON list that the field passes around."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Hashable, Sequence
from pathlib import PurePosixPath

import numpy as np

from vidpose.data.dataset import PoseDataset
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes, oks_nms
from vidpose.io.boxes import PERSON_CATEGORY, read_entries

KEYPOINT_SCORE = 0.2
"""Joints below do not count in a pose's score (as public code has it)."""


def read_boxes(
    path: str | os.PathLike[str], dataset: PoseDataset, threshold: float = 0.2
) -> dict[int, list[tuple[np.ndarray, float]]]:
    """Detected person boxes of a split.

    Args:
        path: JSON list of ``{"image_name" | "file_name" | "image_id", "bbox": [x, y, w, h], "score"}``;
            entries of other categories than 1, below ``threshold``, or of frames outside the split are left
            out. An entry with a name is found by it, by the last two parts if not by all; where the split
            has several frames of that end, and for entries without a name, the image id decides.

    Returns:
        image id -> [(box_xyxy [4], cut to the image, score)], in the file's order.

    Raises:
        InputError: an entry is not a box, named by its position; or none belongs to the split.
    """
    by_name = {frame.file_name: frame for _, frame in dataset.frames()}
    by_end: dict[str, list[str]] = defaultdict(list)
    for name in by_name:
        by_end[_short_name(name)].append(name)
    by_id = {frame.image_id: frame for _, frame in dataset.frames()}
    boxes: dict[int, list[tuple[np.ndarray, float]]] = defaultdict(list)
    matched = total = 0
    for entry in read_entries(path, scored=True):
        total += 1
        frame = by_name.get(entry.name) if entry.name is not None else None
        if frame is None and entry.name is not None:
            alike = by_end.get(_short_name(entry.name), [])
            frame = by_name[alike[0]] if len(alike) == 1 else None
            if len(alike) < 2:  # a name that the split lacks is another split's, whatever its id
                entry.image_id = None
        if frame is None and entry.image_id is not None:
            frame = by_id.get(entry.image_id)
        if frame is None:
            continue
        matched += 1
        box = clip_boxes(entry.box_xyxy, frame.size) if 0 not in frame.size else entry.box_xyxy
        if entry.category_id == PERSON_CATEGORY and entry.score >= threshold and box_area(box) > 0:
            boxes[frame.image_id].append((box, entry.score))
    if total and not matched:
        raise InputError(f"{path}: none of its {total} boxes belongs to an image of split {dataset.split!r}")
    return dict(boxes)


def _short_name(name: str) -> str:
    """The last two parts of a file name, video and frame: what differently rooted names share."""
    return "/".join(PurePosixPath(name).parts[-2:])


def suppress_poses(
    places: Sequence[Hashable],
    keypoints: np.ndarray,
    joint_scores: np.ndarray,
    box_scores: np.ndarray,
    sigmas: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """Non-maximum suppression among the poses of each frame, by OKS.

    A pose's score is its box's score times the mean score of its joints above 0.2, as in mmpose.

    Args:
        places: [S] the frame of each pose.
        keypoints: [S, J, 2] pixels.
        joint_scores: [S, J] heatmap peaks times the box's score, as predicted.
        box_scores: [S].
        sigmas: [J].
        threshold: of two poses with a greater OKS the weaker goes.

    Returns:
        Positions of the poses that stay, ascending.
    """
    peaks = joint_scores / np.maximum(box_scores, 1e-9)[:, None]
    counted = peaks > KEYPOINT_SCORE
    means = np.where(counted, peaks, 0).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    scores = box_scores * means
    # silent: the area of what; the boxes of doubles differ, the extent of their joints hardly does.
    extent = keypoints.max(axis=1) - keypoints.min(axis=1)
    areas = extent[:, 0] * extent[:, 1]
    frames: dict[Hashable, list[int]] = defaultdict(list)
    for s, place in enumerate(places):
        frames[place].append(s)
    kept: list[int] = []
    for positions in frames.values():
        mine = np.array(positions)
        kept += mine[oks_nms(keypoints[mine], scores[mine], areas[mine], sigmas, threshold)].tolist()
    return np.array(sorted(kept), dtype=np.int64)
