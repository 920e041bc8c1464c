"""Results on disk: PoseTrack17, PoseTrack18, COCO, CSV and Parquet; and the way to supervision."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidpose.errors import InputError
from vidpose.io.boxes import FrameBoxes, load_boxes
from vidpose.io.files import read_json, write_json_parts
from vidpose.io.layouts import from_coco_style, from_posetrack17, to_coco, to_posetrack17, to_posetrack18
from vidpose.io.tables import load_csv, load_parquet, need_pyarrow, parquet_info, save_csv, save_parquet
from vidpose.results import FramePoses, VideoPoses

if TYPE_CHECKING:
    import supervision

__all__ = [
    "FORMATS",
    "FrameBoxes",
    "format_suffix",
    "load_boxes",
    "load_poses",
    "result_digest",
    "save_poses",
    "to_supervision",
]

FORMATS = ("posetrack18", "posetrack17", "coco", "csv", "parquet")
_TO_JSON = {"posetrack18": to_posetrack18, "posetrack17": to_posetrack17, "coco": to_coco}


def format_suffix(format: str) -> str:
    """``".json"``, ``".csv"`` or ``".parquet"``.

    Raises:
        InputError: unknown format.
        MissingExtraError: Parquet without pyarrow.
    """
    _check(format)
    if format == "parquet":
        need_pyarrow()
    return f".{format}" if format in ("csv", "parquet") else ".json"


def save_poses(video_poses: VideoPoses, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Writes poses, whole or not at all. Every frame is in the file, also those with nobody.

    Frames are written one after the other: a :class:`vidpose.io.spool.FrameSpool` stays on disk.

    PoseTrack18 and Parquet keep everything; the other formats lose what their layout has no place for
    (docs/video.md says what).

    Args:
        format: one of ``posetrack18|posetrack17|coco|csv|parquet``; ``None``: by the suffix of ``path``
            (``.csv``, ``.parquet``, otherwise PoseTrack18).

    Raises:
        InputError: unknown format, or the path cannot be written.
        MissingExtraError: Parquet without pyarrow.
    """
    chosen = format or {".csv": "csv", ".parquet": "parquet"}.get(Path(path).suffix.lower(), "posetrack18")
    _check(chosen)
    if chosen == "csv":
        save_csv(video_poses, path)
    elif chosen == "parquet":
        save_parquet(video_poses, path)
    else:
        write_json_parts(path, _TO_JSON[chosen](video_poses))


def load_poses(path: str | os.PathLike[str], format: str | None = None) -> VideoPoses:
    """Reads the poses of one video: files of :func:`save_poses`, PoseTrack17/18/21, COCO keypoints.

    Args:
        format: as in :func:`save_poses`; ``None``: by suffix, and JSON by its content.

    Raises:
        InputError: the file is missing or not in the format; the message names the entry.
    """
    if format is not None:
        _check(format)
    suffix = Path(path).suffix.lower()
    if format == "csv" or (format is None and suffix == ".csv"):
        return load_csv(path)
    if format == "parquet" or (format is None and suffix == ".parquet"):
        return load_parquet(path)
    data = read_json(path)
    if not isinstance(data, dict) or not ("annolist" in data or "images" in data):
        raise InputError(f"{path}: holds no poses: neither 'images' and 'annotations' nor 'annolist'")
    is_17 = "annolist" in data
    if format is not None and is_17 != (format == "posetrack17"):
        raise InputError(f"{path}: is not in {format} layout; leave the format out to have it recognised")
    return from_posetrack17(data, str(path)) if is_17 else from_coco_style(data, str(path))


SOURCE_DIGEST = "source_digest"
"""Key in :attr:`vidpose.results.VideoPoses.info`: :func:`vidpose.io.sources.source_digest` of the video."""
_LONGEST_INFO = 1 << 20


def result_digest(path: str | os.PathLike[str]) -> str | None:
    """The digest of the video that a result of ``vidpose estimate`` was made of.

    ``None``: it does not say, or is no such result. Reads the beginning of JSON and the end of Parquet; CSV
    has no place for it. JSON that another program has written again is not taken for a result.
    """
    suffix = Path(path).suffix.lower()
    info = (
        parquet_info(path) if suffix == ".parquet" else _json_info(Path(path)) if suffix == ".json" else None
    )
    details = info.get("details") if isinstance(info, dict) else None
    digest = details.get(SOURCE_DIGEST) if isinstance(details, dict) else None
    return digest if isinstance(digest, str) else None


def _json_info(path: Path) -> Any:
    """``info`` of a file of :func:`save_poses`, which comes first in it."""
    opening = '{"info": '
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            head = file.read(_LONGEST_INFO)
        if head.startswith(opening):
            return json.JSONDecoder().raw_decode(head, len(opening))[0]
    except (OSError, ValueError, RecursionError):
        pass
    return None


def to_supervision(frame_poses: FramePoses) -> supervision.KeyPoints:
    """The people of a frame as supervision's ``KeyPoints``.

    ``data`` holds ``track_id`` [P] and the person boxes ``xyxy`` [P, 4]; class 0 is person. A joint whose
    score is 0 is at (0, 0), which supervision's annotators leave out.
    """
    import supervision

    people = len(frame_poses)
    xy = np.where(frame_poses.scores[..., None] > 0, frame_poses.keypoints, 0).astype(np.float32)
    fields: dict[str, Any] = {
        "xy": xy,
        "class_id": np.zeros(people, dtype=int),
        "data": {"track_id": frame_poses.track_ids.copy(), "xyxy": frame_poses.boxes.copy()},
    }
    scores = frame_poses.scores.copy()
    if "keypoint_confidence" in supervision.KeyPoints.__dataclass_fields__:  # supervision >= 0.29
        fields.update(keypoint_confidence=scores, detection_confidence=frame_poses.box_scores.copy())
    else:
        fields.update(confidence=scores)
        fields["data"]["box_score"] = frame_poses.box_scores.copy()
    return supervision.KeyPoints(**fields)


def _check(format: str) -> None:
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; known: {', '.join(FORMATS)}")
