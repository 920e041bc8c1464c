"""DeepLabCut's CSV: labels (``CollectedData_SCORER.csv``: x, y) and predictions (``VIDEODLC_….csv``: x, y,
likelihood), of one individual or of several.

Header rows are scorer, individuals where there are several, bodyparts, coords. A row is a frame: an image's
path in one cell or in three (``labeled-data``, video, image), or the number of a frame of a video file. An
empty cell is a joint that is not labelled, a row of empty cells a frame that is not.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults, check_frame
from vidpose.data.layouts.disk import IMAGE_SUFFIXES, ImageFinder, find_video, video_size
from vidpose.data.layouts.shared import (
    TRACK_NAME,
    joint_name,
    joint_set,
    make_person,
    parse_decimal,
    parse_integer,
    text,
    track_ids,
    track_names,
)
from vidpose.errors import InputError
from vidpose.skeletons import Skeleton

FOLDER, PREDICTIONS = "labeled-data", "videos"
INDIVIDUAL = "individual"
SCORER, NETWORK = "vidpose", "DLC_vidpose"
_LEVELS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])
_COORDS = ("x", "y", "likelihood")
_UNIQUE = "single"
"""The individual that joints which nobody has, such as a corner of the box, are filed under."""
_PICTURES = (*IMAGE_SUFFIXES, ".tif", ".tiff")

# silent: the files do not say where a pixel's centre is. Labels come from napari and matplotlib, which both
# put the centre of the first pixel at (0, 0), as here; the networks learn offsets to those same numbers
# (stride * cell + stride / 2 + offset), so predictions are in them too. Nothing is shifted.


# --- writing -----------------------------------------------------------------------------------------------


def files(data: PoseDataset, names: Sequence[str]) -> Iterator[tuple[str, Iterator[list[str]]]]:
    """(path within the split's project, rows) of each video, which is called by one of ``names``."""
    style = _Style.of(data)
    for name, video in zip(names, data.videos, strict=True):
        path = f"{FOLDER}/{name}/CollectedData_{SCORER}.csv"
        yield f"{PREDICTIONS}/{name}{NETWORK}.csv" if style.scored else path, _rows([video], data, style)


def whole(data: PoseDataset) -> Iterator[list[str]]:
    """Rows of all videos of a split."""
    return _rows(data.videos, data, _Style.of(data))


@dataclass(frozen=True)
class _Style:
    """What the files of a split have in common."""

    scored: bool
    """Joints have scores: predictions are written, not labels."""
    alone: bool
    """There is one track, and it has no name."""

    @classmethod
    def of(cls, data: PoseDataset) -> _Style:
        everyone = [person for _, frame in data.frames() for person in frame.people]
        scored = any(person.joint_scores is not None for person in everyone)
        return cls(scored, all(p.track_id == 0 and TRACK_NAME not in p.extra for p in everyone))


def is_in_project(name: str) -> bool:
    """Whether an image lies where DeepLabCut has it: ``labeled-data/VIDEO/IMAGE``."""
    parts = PurePosixPath(name).parts
    return len(parts) == 3 and parts[0] == FOLDER and ".." not in parts


def count_merged(data: PoseDataset) -> int:
    """Videos of which one file of all frames does not tell where they begin and end: it goes by folders."""
    folders = [{PurePosixPath(frame.file_name).parent for frame in video.frames} for video in data.videos]
    seen = Counter(folder for mine in folders for folder in mine)
    return sum(len(mine) != 1 or seen[next(iter(mine))] > 1 for mine in folders)


def _rows(videos: Sequence[Video], data: PoseDataset, style: _Style) -> Iterator[list[str]]:
    """Header and rows."""
    scored = style.scored
    names = track_names(videos, INDIVIDUAL, (_UNIQUE,)) or {0: f"{INDIVIDUAL}0"}
    coords = _COORDS if scored else _COORDS[:2]
    columns = [
        (who, joint, coord) for who in names.values() for joint in data.skeleton.joints for coord in coords
    ]
    yield ["scorer", *[NETWORK if scored else SCORER] * len(columns)]
    if not style.alone:
        yield ["individuals", *(who for who, _, _ in columns)]
    yield ["bodyparts", *(joint for _, joint, _ in columns)]
    yield ["coords", *(coord for _, _, coord in columns)]
    frames = [frame for video in videos for frame in video.frames]
    # silent: predictions for a video file go by number; DeepLabCut's own for images go by name.
    by_number = scored and len(videos) == 1 and all(frame.video_frame is not None for frame in frames)
    for frame in frames:
        people = {person.track_id: person for person in frame.people}
        cells = [cell for track in names for cell in _cells(people.get(track), data.skeleton, scored)]
        yield [str(frame.video_frame) if by_number else frame.file_name, *cells]


def _cells(person: Person | None, skeleton: Skeleton, scored: bool) -> Iterator[str]:
    for j in range(skeleton.num_joints):
        labelled = person is not None and bool(person.keypoints[j, 2])
        for axis in range(2):
            yield text(person.keypoints[j, axis]) if person is not None and labelled else ""
        if scored:
            known = person is not None and labelled and person.joint_scores is not None
            yield text(person.joint_scores[j]) if known else ""  # type: ignore[union-attr, index]


# --- reading -----------------------------------------------------------------------------------------------


def looks_like_deeplabcut(file: Path) -> bool:
    """Whether the first cell is ``scorer``."""
    if not file.is_file():
        return False
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        return lines.readline(16).split(",")[0].strip() == "scorer"


def find_files(folder: Path) -> list[Path]:
    """Files of labels of a project or of one of its folders; where it has none, those of predictions."""
    labels = ["CollectedData*.csv", f"{FOLDER}/*/CollectedData*.csv"]
    if folder.resolve().name == FOLDER:
        labels.append("*/CollectedData*.csv")
    for pattern in (*labels, f"{PREDICTIONS}/*.csv", "*.csv"):
        found = [file for file in sorted(folder.glob(pattern)) if looks_like_deeplabcut(file)]
        if found:
            return found
    return []


def read_source(source: Path, split: str, faults: Faults) -> PoseDataset:
    """A project's folder, or one file."""
    files = find_files(source) if source.is_dir() else [source]
    for one, other in zip(files, files[1:], strict=False):
        if one.parent == other.parent and one.name.startswith("CollectedData"):
            raise InputError(f"{one.parent}: has the labels of two scorers; name {one.name} or {other.name}")
    beside = source / PREDICTIONS
    if files and files[0].parent.parent == source / FOLDER and beside.is_dir():
        passed = [file for file in beside.glob("*.csv") if looks_like_deeplabcut(file)]
        if passed:
            what = f"{len(passed)} files of predictions are left out, beside labels; name one to read it"
            faults.at(beside).remark(what)
    tables = [table for file in files if (table := _read_table(file, faults)) is not None]
    skeleton = joint_set(joint for table in tables for _, joint in table.columns)
    root = _project(files[0]) if files else source
    finder = ImageFinder(root, faults)
    videos = [video for table in tables for video in _videos(table, skeleton, root, finder, faults)]
    return PoseDataset(videos, skeleton, root, split, "deeplabcut")


def _project(file: Path) -> Path:
    """The folder that paths of images are within."""
    folder = file.absolute().parent
    if folder.parent.name == FOLDER:
        return folder.parent.parent
    return folder.parent if folder.name == PREDICTIONS else file.parent


@dataclass
class _Table:
    """One file."""

    file: Path
    scorer: str
    indent: int
    """Cells of a row before the first number."""
    columns: dict[tuple[str, str], dict[str, int]]
    """(individual, joint) -> coordinate -> column; without individuals the first is empty."""
    rows: list[tuple[int, str, list[str]]] = field(default_factory=list)
    """Line, the frame's name or number, cells."""

    @property
    def is_scored(self) -> bool:
        return any("likelihood" in coords for coords in self.columns.values())


def _read_table(file: Path, faults: Faults) -> _Table | None:
    """``None``: the header cannot be used."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            records = [(reader.line_num, cells) for cells in reader if cells]
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8 text, a CSV file is needed") from None
    except csv.Error as error:
        raise InputError(f"{file}: is not a CSV file: {error}") from None
    table = _header(records[:4], file, faults)
    if table is None:
        return None
    for line, cells in records[len(_names(records[:4])) :]:
        if len(cells) != len(records[0][1]):
            what = f"has {len(cells)} cells, the header has {len(records[0][1])}"
            faults.at(file, line=line).error(what)
            continue
        name = "/".join(cell for cell in cells[: table.indent] if cell).replace("\\", "/")
        table.rows.append((line, name, cells))
    return table


def _names(records: list[tuple[int, list[str]]]) -> list[str]:
    """Names of the header's rows."""
    names = [cells[0].strip() for _, cells in records]
    return names if names in _LEVELS else names[:3]


def _header(records: list[tuple[int, list[str]]], file: Path, faults: Faults) -> _Table | None:
    names = _names(records)
    if names not in _LEVELS:
        wanted = "scorer, individuals (where there are several), bodyparts, coords"
        faults.at(file, line=1).error(f"the header's rows are {', '.join(names)}; needed are {wanted}")
        return None
    levels = dict(zip(names, records, strict=False))
    count = len(records[0][1])
    for line, cells in levels.values():
        if len(cells) != count:
            faults.at(file, line=line).error(f"has {len(cells)} cells, the first row has {count}")
            return None
    first = records[0][1]
    indent = next((i for i in range(1, count) if first[i]), count)
    scorers = list(dict.fromkeys(first[indent:]))
    if len(scorers) != 1:
        what = (
            f"has the scorers {', '.join(scorers)}; a file of one is needed" if scorers else "has no column"
        )
        faults.at(file, line=1).error(what)
        return None
    table = _Table(file, scorers[0], indent, {})
    before = faults.errors
    for column in range(indent, count):
        who = levels["individuals"][1][column] if "individuals" in levels else ""
        _add_column(table, who, levels["bodyparts"], levels["coords"], column, faults)
    for (_, joint), coords in table.columns.items():
        if not {"x", "y"} <= set(coords):
            faults.at(file, line=levels["coords"][0]).error(f"{joint} has no column {'xy'['x' in coords]}")
    people = {who for who, _ in table.columns}
    if _UNIQUE in people and len(people) > 1:
        theirs = [joint for who, joint in table.columns if who == _UNIQUE]
        what = f"{', '.join(theirs)} of {_UNIQUE!r}, joints that belong to no individual, are left out"
        faults.at(file, line=levels["individuals"][0]).remark(what)
        table.columns = {key: coords for key, coords in table.columns.items() if key[0] != _UNIQUE}
    return None if faults.errors > before else table


def _add_column(
    table: _Table,
    who: str,
    parts: tuple[int, list[str]],
    kinds: tuple[int, list[str]],
    at: int,
    faults: Faults,
) -> None:
    joint, coord = joint_name(parts[1][at]), kinds[1][at].strip()
    note = f"column {at + 1}"
    mine = table.columns.setdefault((who, joint), {})
    if not joint:
        faults.at(table.file, line=parts[0], note=note).error("has no bodypart")
    elif coord not in _COORDS:
        what = f"the coordinate {coord!r} is none of {', '.join(_COORDS)}"
        faults.at(table.file, line=kinds[0], note=note).error(what)
    elif coord in mine:
        whose = f" of {who}" if who else ""
        faults.at(table.file, line=parts[0], note=note).error(f"{coord} of {joint}{whose} is there twice")
    mine.setdefault(coord, at)


# --- frames and people -------------------------------------------------------------------------------------


def _videos(
    table: _Table, skeleton: Skeleton, root: Path, finder: ImageFinder, faults: Faults
) -> Iterator[Video]:
    individuals = list(dict.fromkeys(who for who, _ in table.columns))
    tracks = dict(zip(individuals, track_ids(individuals, INDIVIDUAL), strict=True))
    if table.rows and _is_number(table.rows[0][1]):
        yield _video_file(table, tracks, skeleton, root, faults)
        return
    seen: set[str] = set()
    groups: dict[str, list[Frame]] = {}
    for line, name, cells in table.rows:
        place = faults.at(table.file, line=line)
        if _is_number(name) or not ("/" in name or name.lower().endswith(_PICTURES)):
            place.error(f"{name!r} is not the path of an image")
        elif name in seen:
            place.error(f"the image {name} is there twice")
        else:
            seen.add(name)
            people = _people(table, cells, line, tracks, skeleton, faults)
            mine = groups.setdefault(_group(table, name), [])
            mine.append(Frame(root / name, name, len(seen) - 1, len(mine), (0, 0), bool(people), people))
    titles = [PurePosixPath(key).name for key in groups]
    for (key, frames), title in zip(groups.items(), titles, strict=True):
        paths = finder.paths([frame.file_name for frame in frames], root / table.file.name)
        for frame, path in zip(frames, paths, strict=True):
            frame.path = path
        yield Video(title if titles.count(title) == 1 else key, frames, table.file)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _group(table: _Table, name: str) -> str:
    """The video that an image belongs to: that of its file, else the image's folder."""
    folder = table.file.absolute().parent
    if folder.parent.name == FOLDER:
        return folder.name
    parent = PurePosixPath(name).parent
    return _stem(table) or (str(parent) if parent.name else table.file.stem)


def _stem(table: _Table) -> str:
    """Name of the video that a file of predictions is called after; nothing: it is called otherwise."""
    name, found, _ = table.file.stem.rpartition(table.scorer)
    return name if table.is_scored and found else ""


def _video_file(
    table: _Table, tracks: dict[str, int], skeleton: Skeleton, root: Path, faults: Faults
) -> Video:
    """Frames by number."""
    name = _stem(table) or table.file.stem
    path = find_video(name, (table.file.parent, root, root / PREDICTIONS)) or root / f"{name}.mp4"
    size = video_size(path)
    found: dict[int, Frame] = {}
    for line, index, cells in table.rows:
        place = faults.at(table.file, line=line)
        number = place.attempt(_frame_number, index)
        if number is not None and number in found:
            place.error(f"frame {number} is there twice")
        elif number is not None:
            people = _people(table, cells, line, tracks, skeleton, faults)
            file_name = f"{name}/{number:06d}.jpg"
            found[number] = Frame(path, file_name, number, 0, size, bool(people), people, video_frame=number)
    frames = [found[number] for number in sorted(found)]
    for position, frame in enumerate(frames):
        frame.index = position
    return Video(name, frames, table.file)


def _frame_number(cell: str) -> int:
    return check_frame(parse_integer(cell, "frame"), "frame")


def _people(
    table: _Table, cells: list[str], line: int, tracks: dict[str, int], skeleton: Skeleton, faults: Faults
) -> list[Person]:
    """Everybody of whom a joint is labelled."""
    joints: dict[str, dict[str, tuple[float, float, bool]]] = {who: {} for who in tracks}
    scores: dict[str, dict[str, float]] = {who: {} for who in tracks}
    broken = set()
    for (who, joint), coords in table.columns.items():
        before = faults.errors
        values: dict[str, float] = {}
        for coord, column in coords.items():
            if cells[column].strip():
                place = faults.at(table.file, line=line, note=f"column {column + 1}")
                value = place.attempt(_number, cells[column], coord)
                if value is not None:
                    values[coord] = value
        if faults.errors == before and ("x" in values) != ("y" in values):
            faults.at(table.file, line=line).error(f"{joint} has only one of x and y")
        if faults.errors > before:
            broken.add(who)
        elif "x" in values:
            joints[who][joint] = (values["x"], values["y"], True)
            if "likelihood" in values:
                scores[who][joint] = values["likelihood"]
    return [
        make_person(
            skeleton,
            joints=joints[who],
            scores=scores[who],
            track_id=track,
            extra={} if who in ("", f"{INDIVIDUAL}{track}") else {TRACK_NAME: who},
        )
        for who, track in tracks.items()
        if joints[who] and who not in broken
    ]


def _number(cell: str, coord: str) -> float:
    value = parse_decimal(cell, coord)
    if coord != "likelihood" and np.abs(value) > MAX_COORDINATE:
        raise InputError(f"{coord} {value:g}; pixels of at most {MAX_COORDINATE:g} make sense")
    return value
