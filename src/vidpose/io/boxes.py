"""Person boxes that somebody else detected: the ``boxes.json`` of the field."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import read_json

PERSON_CATEGORY = 1
_POSETRACK_ID = 10**10


@dataclass
class FrameBoxes:
    """Boxes of many frames: for each frame an array [P, 5] float32 of x1, y1, x2, y2, score."""

    by_name: dict[str, np.ndarray] = field(default_factory=dict)
    """Keyed by ``image_name`` as in the file."""
    by_index: dict[int, np.ndarray] = field(default_factory=dict)
    """Keyed by frame index; empty where the file holds several videos, whose indices would collide."""
    by_image_id: dict[int, np.ndarray] = field(default_factory=dict)

    def get(self, file_name: str | None = None, index: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Boxes [P, 4] xyxy and scores [P] of one frame; P is 0 where the file has none.

        An image is found by its name; where only the ends of the names agree (``000000.jpg`` and
        ``images/val/a/000000.jpg``), by the end if that is unique. A frame without a name is found by index.
        """
        rows = None
        if file_name is not None:
            rows = self.by_name.get(file_name)
            if rows is None:
                name = PurePosixPath(file_name)
                alike = [key for key in self._tails.get(name.name, ()) if _same_end(PurePosixPath(key), name)]
                if len(alike) == 1:
                    rows = self.by_name[alike[0]]
        if rows is None and index is not None and (file_name is None or not self.by_name):
            rows = self.by_index.get(index)
        if rows is None:
            rows = np.zeros((0, 5), dtype=np.float32)
        return rows[:, :4], rows[:, 4]

    def __post_init__(self) -> None:
        self._tails: dict[str, list[str]] = {}
        for key in self.by_name:
            self._tails.setdefault(PurePosixPath(key).name, []).append(key)


def load_boxes(path: str | os.PathLike[str]) -> FrameBoxes:
    """Reads a list of ``{"image_name" | "image_id" | "frame_id", "bbox": [x, y, w, h], "score"}``.

    ``category_id`` other than 1 (person) is left out. A frame index comes from ``frame_id``, else from
    ``image_id`` (the last four digits of PoseTrack18's ids), else from the digits that end ``image_name``.

    Raises:
        InputError: not such a list; the message names the entry.
    """
    names: dict[str, list[np.ndarray]] = {}
    indices: dict[int, list[np.ndarray]] = {}
    image_ids: dict[int, list[np.ndarray]] = {}
    videos: set[str] = set()
    for entry in read_entries(path):
        if entry.category_id != PERSON_CATEGORY:
            continue
        row = np.array([*entry.box_xyxy, entry.score], dtype=np.float32)
        name, image_id = entry.name, entry.image_id
        if name is not None:
            names.setdefault(name, []).append(row)
            videos.add(str(PurePosixPath(name).parent))
        if image_id is not None:
            image_ids.setdefault(image_id, []).append(row)
            if image_id >= _POSETRACK_ID and name is None:
                videos.add(str(image_id // 10_000))
        index = _index(entry.frame_id if entry.frame_id is not None else image_id, name)
        if index is not None:
            indices.setdefault(index, []).append(row)
    stack: Any = lambda groups: {key: np.stack(rows) for key, rows in groups.items()}  # noqa: E731
    return FrameBoxes(stack(names), stack(indices) if len(videos) <= 1 else {}, stack(image_ids))


@dataclass
class BoxEntry:
    """One entry of a file of boxes."""

    name: str | None
    """``image_name`` or ``file_name``."""
    image_id: int | None
    frame_id: int | None
    box_xyxy: np.ndarray
    """[4] float64 pixels."""
    score: float
    category_id: Any


def read_entries(path: str | os.PathLike[str], *, scored: bool = False) -> Iterator[BoxEntry]:
    """The entries of a file of boxes, in its order: a JSON list, or COCO's object with ``annotations``.

    Args:
        scored: an entry must have a score; else one without has 1.

    Raises:
        InputError: not such a file; the message names the entry by its position from 0.
    """
    data = read_json(path)
    if isinstance(data, dict) and isinstance(data.get("annotations"), list):
        data = data["annotations"]
    if not isinstance(data, list):
        raise InputError(f"{path}: is not a list of boxes")
    for number, entry in enumerate(data):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is not an object")
        if scored and entry.get("score") is None:
            raise InputError(f"{where}: has no score")
        box, score = _box(entry, where)
        name = entry.get("image_name", entry.get("file_name"))
        image_id, frame_id = _whole(entry, "image_id", where), _whole(entry, "frame_id", where)
        if name is None and image_id is None and frame_id is None:
            raise InputError(f"{where}: needs an image_name, image_id or frame_id")
        category = entry.get("category_id", PERSON_CATEGORY)
        yield BoxEntry(None if name is None else str(name), image_id, frame_id, box, score, category)


def boxes_maker(path: str | os.PathLike[str]) -> str | None:
    """What a file says about the detector that made it; ``None``: nothing, or it is no such file."""
    try:
        data = read_json(path)
    except InputError:
        return None
    entries = data if isinstance(data, list) else []
    makers = {str(entry["detector"]) for entry in entries if isinstance(entry, dict) and "detector" in entry}
    return " and ".join(sorted(makers)) or None


def _box(entry: dict[str, Any], where: str) -> tuple[np.ndarray, float]:
    try:
        bbox = np.asarray(entry.get("bbox"), dtype=np.float64)
        score = float(entry.get("score", 1.0))
    except (TypeError, ValueError):
        raise InputError(f"{where}: bbox or score holds something that is not a number") from None
    if bbox.shape != (4,):
        raise InputError(f"{where}: bbox needs 4 numbers: x, y, width, height")
    if not (np.isfinite(bbox).all() and np.isfinite(score)):
        raise InputError(f"{where}: bbox or score is not finite")
    if bbox[2] < 0 or bbox[3] < 0:
        raise InputError(f"{where}: bbox has a negative width or height; it is x, y, width, height")
    return np.concatenate([bbox[:2], bbox[:2] + bbox[2:]]), score


def _whole(entry: dict[str, Any], key: str, where: str) -> int | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"{where}: {key} {value!r} is not a whole number from 0")
    return value


def _index(number: int | None, name: Any) -> int | None:
    if number is not None:
        return number % 10_000 if number >= _POSETRACK_ID else number
    match = re.search(r"(\d+)$", PurePosixPath(str(name)).stem) if name is not None else None
    return int(match.group(1)) if match else None


def _same_end(a: PurePosixPath, b: PurePosixPath) -> bool:
    return all(x == y for x, y in zip(reversed(a.parts), reversed(b.parts), strict=False))
