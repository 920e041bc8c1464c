"""Detected person boxes of a data set: the JSON list that the field passes around."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from vidpose.data.dataset import PoseDataset
from vidpose.data.faults import Faults, parse_box
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes
from vidpose.io.files import read_json


def read_boxes(
    path: str | os.PathLike[str], dataset: PoseDataset, threshold: float = 0.2
) -> dict[int, list[tuple[np.ndarray, float]]]:
    """Detected person boxes of a split.

    Args:
        path: JSON list of ``{"image_name" | "file_name" | "image_id", "bbox": [x, y, w, h], "score"}``;
            entries of other categories than 1, below ``threshold``, or of frames outside the split are left
            out.

    Returns:
        image id -> [(box_xyxy [4], cut to the image, score)], in the file's order.
    """
    faults = Faults()
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: is not a list of boxes")
    by_name = {_short_name(frame.file_name): frame for _, frame in dataset.frames()}
    by_id = {frame.image_id: frame for _, frame in dataset.frames()}
    boxes: dict[int, list[tuple[np.ndarray, float]]] = defaultdict(list)
    matched = 0
    for k, entry in enumerate(entries):
        place = faults.at(Path(path), k)
        if not isinstance(entry, dict):
            place.error("is not an object")
            continue
        name = entry.get("image_name") or entry.get("file_name")
        frame = by_name.get(_short_name(str(name))) if name else by_id.get(entry.get("image_id"))  # type: ignore[arg-type]
        box, score = place.attempt(parse_box, entry.get("bbox"), "bbox"), entry.get("score")
        if box is None or isinstance(score, bool) or not isinstance(score, (int, float)) or math.isnan(score):
            place.error("needs bbox [x, y, width, height] and a number as score")
            continue
        if frame is None:
            continue
        matched += 1
        if 0 not in frame.size:
            box = clip_boxes(box, frame.size)
        if entry.get("category_id", 1) == 1 and score >= threshold and box_area(box) > 0:
            boxes[frame.image_id].append((box, float(score)))
    if entries and not matched:
        raise InputError(
            f"{path}: none of its {len(entries)} boxes belongs to an image of split {dataset.split!r}"
        )
    return dict(boxes)


def _short_name(name: str) -> str:
    """The last two parts of a file name, video and frame: what differently rooted names share."""
    return "/".join(PurePosixPath(name).parts[-2:])
