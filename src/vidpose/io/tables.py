"""Poses as a tidy table, one row per joint: CSV and Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError, MissingExtraError
from vidpose.io.files import atomic_path
from vidpose.io.layouts import apply_info, finite_boxes, info_of, joints_of, shortest
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import POSETRACK15, SKELETONS, Skeleton

COLUMNS = (
    "frame", "time_s", "track_id", "x1", "y1", "x2", "y2", "box_score", "joint", "x", "y", "score",
    "file_name",
)  # fmt: skip
"""``frame`` is the frame's index; a frame with nobody has one row with everything after ``time_s`` empty."""


def to_columns(video: VideoPoses) -> dict[str, list[Any]]:
    """The table's columns; empty cells are ``None``."""
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    joints_count = video.skeleton.num_joints
    for frame in video.frames:
        rows = max(1, len(frame) * joints_count)
        columns["frame"] += [int(frame.index)] * rows
        columns["time_s"] += [float(frame.time)] * rows
        columns["file_name"] += [frame.file_name] * rows
        if not len(frame):
            for name in COLUMNS[2:-1]:
                columns[name].append(None)
            continue
        joints = joints_of(frame, video.skeleton, video.skeleton)
        boxes, box_scores = finite_boxes(frame)
        for axis, name in enumerate(("x", "y", "score")):
            columns[name] += shortest(joints[..., axis])
        columns["joint"] += list(video.skeleton.joints) * len(frame)
        columns["track_id"] += np.repeat(frame.track_ids, joints_count).tolist()
        for i, name in enumerate(("x1", "y1", "x2", "y2")):
            columns[name] += shortest(np.repeat(boxes[:, i], joints_count))
        columns["box_score"] += shortest(np.repeat(box_scores, joints_count))
    return columns


def from_columns(columns: dict[str, list[Any]], where: str) -> VideoPoses:
    """Poses from the table's columns; rows of a person and of a frame must follow each other."""
    missing = [name for name in COLUMNS[:-1] if name not in columns]
    if missing:
        raise InputError(f"{where}: has no column {missing[0]!r}; needed are {', '.join(COLUMNS[:-1])}")
    skeleton = _skeleton(columns["joint"], where)
    count = skeleton.num_joints
    files = columns.get("file_name") or [None] * len(columns["frame"])
    frames: list[FramePoses] = []
    row, total = 0, len(columns["frame"])
    while row < total:
        end = row
        while end < total and columns["frame"][end] == columns["frame"][row]:
            end += 1
        place = f"{where}: frame {columns['frame'][row]}"
        poses: dict[str, Any] = {}
        if columns["joint"][row] is None:
            if end - row != 1:
                raise InputError(f"{place}: an empty row among {end - row} rows")
            poses["keypoints"] = np.zeros((0, count, 2), dtype=np.float32)
            poses["scores"] = np.zeros((0, count), dtype=np.float32)
        else:
            people, rest = divmod(end - row, count)
            if rest or columns["joint"][row:end] != list(skeleton.joints) * people:
                raise InputError(f"{place}: its rows are not {count} joints for each person")
            cut = slice(row, end)

            def column(name: str, cut: slice = cut, people: int = people) -> np.ndarray:
                return np.array(columns[name][cut]).reshape(people, count)

            poses["keypoints"] = np.stack((column("x"), column("y")), axis=-1)
            poses["scores"] = column("score")
            poses["boxes"] = np.stack([column(k)[:, 0] for k in ("x1", "y1", "x2", "y2")], axis=-1)
            poses["box_scores"] = column("box_score")[:, 0]
            poses["track_ids"] = column("track_id")[:, 0]
        index, time = columns["frame"][row], columns["time_s"][row]
        frames.append(FramePoses(index=index, time=time, file_name=files[row] or None, **poses))
        row = end
    return VideoPoses(frames, skeleton)


def _skeleton(joints: list[Any], where: str) -> Skeleton:
    names = tuple(dict.fromkeys(name for name in joints if name is not None))
    if not names:
        return POSETRACK15
    known = next((s for s in SKELETONS.values() if s.joints == names), None)
    if known is None and any(set(names) <= set(s.joints) for s in SKELETONS.values()):
        raise InputError(f"{where}: its {len(names)} joints are not those of a person; is it cut off?")
    return known or Skeleton("custom", names, ())


def _parts(video: VideoPoses, size: int = 100) -> Iterator[VideoPoses]:
    """The video in stretches, so that the table of a long one is never in memory whole."""
    frames = iter(video.frames)
    while part := list(islice(frames, size)):
        yield VideoPoses(part, video.skeleton)


def save_csv(video: VideoPoses, path: str | os.PathLike[str]) -> None:
    """Writes the table as CSV (UTF-8, header line). Size, rate and ``info`` of the video are not in it."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for part in _parts(video):
            columns = to_columns(part)
            writer.writerows(zip(*(columns.pop(name) for name in COLUMNS), strict=True))


def load_csv(path: str | os.PathLike[str]) -> VideoPoses:
    """Reads what :func:`save_csv` wrote."""
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, float)
    kinds.update(frame=int, track_id=int, joint=str, file_name=str)
    columns: dict[str, list[Any]] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            columns = {name: [] for name in header}
            for row in reader:
                line = f"{path}:{reader.line_num}"
                if len(row) != len(header):
                    raise InputError(f"{line}: has {len(row)} cells, the header has {len(header)}")
                for name, cell in zip(header, row, strict=True):
                    try:
                        columns[name].append(kinds.get(name, str)(cell) if cell else None)
                    except ValueError:
                        raise InputError(f"{line}: {name} {cell!r} is not a number") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text, a CSV file is needed") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return from_columns(columns, str(path))


def save_parquet(video: VideoPoses, path: str | os.PathLike[str]) -> None:
    """Writes the table as Parquet; the schema's ``vidpose`` metadata holds size, rate and ``info``."""
    arrow, parquet = need_pyarrow()
    types = {"frame": arrow.int64(), "time_s": arrow.float64(), "track_id": arrow.int64()}
    types.update(joint=arrow.string(), file_name=arrow.string())
    schema = arrow.schema(
        [(name, types.get(name, arrow.float32())) for name in COLUMNS],
        metadata={"vidpose": json.dumps(info_of(video), allow_nan=False)},
    )
    with atomic_path(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for part in _parts(video):
            writer.write_table(arrow.table(to_columns(part), schema=schema))


def load_parquet(path: str | os.PathLike[str]) -> VideoPoses:
    """Reads what :func:`save_parquet` wrote."""
    arrow, parquet = need_pyarrow()
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else "is not a Parquet file"
        raise InputError(f"{path}: {problem}") from None
    video = from_columns(table.to_pydict(), str(path))
    metadata = (table.schema.metadata or {}).get(b"vidpose")
    if metadata:
        info = json.loads(metadata)
        apply_info(video, info)
        _adopt(video, SKELETONS.get(info.get("skeleton", "")))
    return video


def parquet_info(path: str | os.PathLike[str]) -> Any:
    """``info`` of a file of :func:`save_parquet`; ``None``: another file."""
    arrow, parquet = need_pyarrow()
    try:
        metadata = parquet.read_schema(path).metadata or {}
        return json.loads(metadata.get(b"vidpose", b"null"))
    except (OSError, ValueError, arrow.ArrowException):
        return None


def _adopt(video: VideoPoses, skeleton: Skeleton | None) -> None:
    """Where no frame held anybody, the joint set is known only from the metadata."""
    if skeleton is None or any(len(frame) for frame in video.frames):
        return
    video.skeleton = skeleton
    for frame in video.frames:
        frame.keypoints = np.zeros((0, skeleton.num_joints, 2), dtype=np.float32)
        frame.scores = np.zeros((0, skeleton.num_joints), dtype=np.float32)


def need_pyarrow() -> tuple[Any, Any]:
    """pyarrow and pyarrow.parquet, or the error that names the extra."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("Parquet", "parquet") from None
    return pyarrow, parquet
