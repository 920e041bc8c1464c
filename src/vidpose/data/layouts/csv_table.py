"""One row for each joint of each person of each frame; the columns of ``vidpose estimate --format csv`` and,
behind them, what labels have besides."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults
from vidpose.data.layouts.disk import ImageFinder
from vidpose.data.layouts.shared import joint_name, joint_set, make_person, parse_decimal, parse_integer, text
from vidpose.errors import InputError
from vidpose.io.tables import COLUMNS
from vidpose.skeletons import Skeleton

_NEEDED = ("frame", "joint", "x", "y")
_BOX = ("x1", "y1", "x2", "y2")
_HEAD = ("head_x1", "head_y1", "head_x2", "head_y2")
LABEL_COLUMNS = (
    "video", "image_id", "height", "width", "fps", "is_labeled", "ignore_regions", "person", "v", "is_crowd",
    "person_id", *_HEAD,
)  # fmt: skip
"""``person``: place in the frame, from 0. ``v``: 0 not labelled, 1 labelled but hidden, 2 visible.
``ignore_regions``: ``x,y x,y x,y|x,y …`` in the frame's first row. Empty cells: not known."""


# --- writing -----------------------------------------------------------------------------------------------


def rows(data: PoseDataset) -> Iterator[list[Any]]:
    """Header and rows. A frame with nobody has one row without a joint."""
    yield [*COLUMNS, *LABEL_COLUMNS]
    for video in data.videos:
        for frame in video.frames:
            cells = _frame_cells(video, frame)
            if not frame.people:
                yield _row(cells)
            for place, person in enumerate(frame.people):
                mine = {**cells, **_person_cells(person), "person": place}
                for j, joint in enumerate(data.skeleton.joints):
                    yield _row({**mine, **_joint_cells(person, j), "joint": joint})
                    cells["ignore_regions"] = mine["ignore_regions"] = None


def _row(cells: dict[str, Any]) -> list[Any]:
    return ["" if cells.get(name) is None else cells[name] for name in (*COLUMNS, *LABEL_COLUMNS)]


def _frame_cells(video: Video, frame: Frame) -> dict[str, Any]:
    regions = "|".join(" ".join(f"{text(x)},{text(y)}" for x, y in r) for r in frame.ignore_regions)
    return {
        "frame": frame.index,
        "time_s": None if video.fps is None else text(frame.index / video.fps),
        "file_name": frame.file_name,
        "video": video.name,
        "image_id": frame.image_id,
        "height": frame.size[0] or None,
        "width": frame.size[1] or None,
        "fps": None if video.fps is None else text(video.fps),
        "is_labeled": int(frame.is_labeled),
        "ignore_regions": regions or None,
    }


def _person_cells(person: Person) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "track_id": person.track_id,
        "is_crowd": int(person.is_crowd),
        "person_id": person.person_id,
        "box_score": None if person.score is None else text(person.score),
    }
    if person.box_is_given:
        cells |= zip(_BOX, map(text, person.box_xyxy), strict=True)
    if person.head_box_xyxy is not None:
        cells |= zip(_HEAD, map(text, person.head_box_xyxy), strict=True)
    return cells


def _joint_cells(person: Person, j: int) -> dict[str, Any]:
    x, y, labelled = person.keypoints[j]
    score = None if person.joint_scores is None else text(person.joint_scores[j])
    flag = int(labelled) + int(person.visible[j])
    return {"x": text(x) if labelled else None, "y": text(y) if labelled else None, "score": score, "v": flag}


# --- reading -----------------------------------------------------------------------------------------------


def looks_like_table(file: Path) -> bool:
    """Whether the first line names the columns that are needed."""
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        header = next(csv.reader(lines), [])
    return all(name in header for name in _NEEDED)


def read_file(file: Path, split: str, faults: Faults, root: Path | None = None) -> PoseDataset:
    """One split; rows of a person and of a frame follow each other."""
    root = root or file.parent
    groups: dict[str, dict[int, list[tuple[int, dict[str, str]]]]] = {}
    names: dict[str, None] = {}
    for line, cells in _cells(file, faults):
        frame = faults.at(file, line=line).attempt(parse_integer, cells["frame"], "frame")
        if frame is None:
            continue
        if cells["joint"]:
            names[joint_name(cells["joint"])] = None
        video = cells.get("video") or file.stem
        groups.setdefault(video, {}).setdefault(frame, []).append((line, cells))
    skeleton = joint_set(names)
    if len(skeleton.joints) != len(names) and names:
        skeleton = Skeleton("custom", tuple(names), ())
    videos, finder = [], ImageFinder(root, faults)
    for name, frames in groups.items():
        parsed = []
        for index, number in enumerate(sorted(frames)):
            frame_of = _read_frame(frames[number], number, index, skeleton, file, faults)
            if frame_of is not None:
                parsed.append(frame_of)
        fps = next((cells["fps"] for lines in frames.values() for _, cells in lines if cells.get("fps")), "")
        rate = faults.at(file).attempt(parse_decimal, fps, "fps") if fps else None
        paths = finder.paths([frame.file_name for frame in parsed], file) if parsed else []
        for frame_read, path in zip(parsed, paths, strict=True):
            frame_read.path = path
        videos.append(Video(name, parsed, file, fps=rate))
    return PoseDataset(videos, skeleton, root, split, "csv")


def _cells(file: Path, faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column -> text) of each row."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            missing = [name for name in _NEEDED if name not in header]
            if missing:
                raise InputError(f"{file}:1: has no column {missing[0]!r}; needed are {', '.join(_NEEDED)}")
            for row in reader:
                if len(row) != len(header):
                    place = faults.at(file, line=reader.line_num)
                    place.error(f"has {len(row)} cells, the header has {len(header)}")
                else:
                    yield reader.line_num, dict(zip(header, row, strict=True))
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8 text, a CSV file is needed") from None
    except csv.Error as error:
        raise InputError(f"{file}: is not a CSV file: {error}") from None


def _read_frame(
    lines: list[tuple[int, dict[str, str]]],
    number: int,
    index: int,
    skeleton: Skeleton,
    file: Path,
    faults: Faults,
) -> Frame | None:
    first_line, first = lines[0]
    place = faults.at(file, line=first_line, note=f"frame {number}")
    frame = place.attempt(_frame, first, number, index, file)
    people: dict[tuple[str, str], list[tuple[int, dict[str, str]]]] = {}
    for line, cells in lines:
        if cells["joint"]:
            people.setdefault((cells.get("person", ""), cells.get("track_id", "")), []).append((line, cells))
    if frame is None:
        return None
    taken: set[int] = set()
    for order, mine in enumerate(people.values()):
        person = _read_person(mine, order, skeleton, file, faults)
        if person is None:
            continue
        if person.track_id in taken and not person.is_crowd:
            faults.at(file, line=mine[0][0]).error(f"track_id {person.track_id} is used twice in one frame")
            continue
        if not person.is_crowd:
            taken.add(person.track_id)
        frame.people.append(person)
    labelled = first.get("is_labeled", "")
    # silent: a table of estimates does not say; each of its frames was looked at.
    frame.is_labeled = labelled != "0"
    return frame


def _frame(cells: dict[str, str], number: int, index: int, file: Path) -> Frame:
    name = cells.get("file_name") or f"{cells.get('video') or file.stem}/{number:06d}.jpg"
    size = [parse_integer(cells.get(key) or "0", key) for key in ("height", "width")]
    image_id = parse_integer(cells["image_id"], "image_id") if cells.get("image_id") else number
    regions = []
    for region in filter(None, cells.get("ignore_regions", "").split("|")):
        pairs = [corner.split(",") for corner in region.split()]
        if any(len(pair) != 2 for pair in pairs):
            raise InputError("ignore_regions is not x,y x,y x,y|x,y …")
        regions.append(np.array([[parse_decimal(v, "ignore_regions") for v in pair] for pair in pairs]))
    return Frame(file.parent / name, name, image_id, index, (size[0], size[1]), True, ignore_regions=regions)


def _read_person(
    lines: list[tuple[int, dict[str, str]]], order: int, skeleton: Skeleton, file: Path, faults: Faults
) -> Person | None:
    joints: dict[str, tuple[float, float, bool]] = {}
    scores: dict[str, float] = {}
    before = faults.errors
    for line, cells in lines:
        place = faults.at(file, line=line)
        name = joint_name(cells["joint"])
        parsed = place.attempt(_joint, cells)
        if parsed is None:
            continue
        point, score = parsed
        if name in joints or name in scores:
            place.error(f"the joint {name} is there twice")
        if point is not None:
            joints[name] = point
        if score is not None:
            scores[name] = score
    line, cells = lines[0]
    place = faults.at(file, line=line)
    parts = place.attempt(_person_parts, cells)
    if parts is None or faults.errors > before:
        return None
    track = parts.pop("track_id")
    return make_person(
        skeleton, joints=joints, scores=scores, track_id=order if track is None else track, **parts
    )


def _joint(cells: dict[str, str]) -> tuple[tuple[float, float, bool] | None, float | None]:
    score = parse_decimal(cells["score"], "score") if cells.get("score") else None
    if not cells["x"] or not cells["y"] or cells.get("v") == "0":
        return None, score
    x, y = parse_decimal(cells["x"], "x"), parse_decimal(cells["y"], "y")
    if max(abs(x), abs(y)) > MAX_COORDINATE:
        raise InputError(f"a joint at {x:g}, {y:g}; pixels of at most {MAX_COORDINATE:g} make sense")
    flag = cells.get("v", "")
    if flag not in ("", "1", "2"):
        raise InputError(f"v {flag!r} is not 0, 1 or 2")
    if not flag and not (x or y or score):
        return None, score  # as estimates have it: no joint
    return (x, y, flag != "1"), score


def _person_parts(cells: dict[str, str]) -> dict[str, Any]:
    def whole(name: str) -> int | None:
        return parse_integer(cells[name], name) if cells.get(name) else None

    return {
        "track_id": whole("track_id"),
        "person_id": whole("person_id"),
        "score": parse_decimal(cells["box_score"], "box_score") if cells.get("box_score") else None,
        "box_xyxy": _corners(cells, _BOX),
        "head_box_xyxy": _corners(cells, _HEAD),
        "is_crowd": cells.get("is_crowd") == "1",
    }


def _corners(cells: dict[str, str], names: tuple[str, ...]) -> list[float] | None:
    if not all(cells.get(name) for name in names):
        return None
    x1, y1, x2, y2 = (parse_decimal(cells[name], name) for name in names)
    if max(map(abs, (x1, y1, x2, y2))) > MAX_COORDINATE:
        raise InputError(f"a box of {x1:g} … {y2:g}; pixels of at most {MAX_COORDINATE:g} make sense")
    if x2 < x1 or y2 < y1:
        raise InputError(f"the box ends before it begins: {', '.join(names)}")
    return [x1, y1, x2, y2]
