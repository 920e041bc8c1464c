"""MOT Challenge sequences: boxes with track ids, no joints. ``SEQ/seqinfo.ini``, ``SEQ/gt/gt.txt`` or
``SEQ/det/det.txt``, ``SEQ/img1/000001.jpg``; frames and corners count from 1."""

from __future__ import annotations

import configparser
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, Faults, check_frame
from vidpose.data.layouts.shared import make_person, parse_decimal, parse_integer, text
from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK15

_PEDESTRIAN, _CROWD = 1, 13
_RATE = 25
IMAGES = "img1"


# --- writing -----------------------------------------------------------------------------------------------


def sequence_files(video: Video) -> dict[str, str]:
    """Path within the sequence's folder -> text.

    Labels go to ``gt/gt.txt``: frame, id, left, top, width, height, 1, class 1, visibility; crowds are class
    13 and flagged 0. People with a score go to ``det/det.txt``, the score in the place of the flag.
    """
    scored = is_scored(video)
    rows = []
    for frame in video.frames:
        for person in frame.people:
            rows.append([str(frame.index + 1), str(person.track_id), *_box(person), *_flags(person, scored)])
    lines = "".join(",".join(row) + "\n" for row in rows)
    return {"det/det.txt" if scored else "gt/gt.txt": lines, "seqinfo.ini": _info(video)}


def is_scored(video: Video) -> bool:
    """Whether the people are a detector's."""
    return any(person.score is not None for frame in video.frames for person in frame.people)


def image_name(frame: Frame) -> str:
    """``000001.jpg``, …, by the frame's place."""
    return f"{frame.index + 1:06d}{Path(frame.file_name).suffix or '.jpg'}"


def _box(person: Person) -> list[str]:
    """left, top, width, height as exact decimals, so that the corners come back."""
    x1, y1, x2, y2 = (Decimal(text(value)) for value in person.box_xyxy)
    return [f"{value.normalize():f}" for value in (x1 + 1, y1 + 1, x2 - x1, y2 - y1)]


def _flags(person: Person, scored: bool) -> list[str]:
    if scored:
        return [text(1 if person.score is None else person.score), "-1", "-1", "-1"]
    if person.is_crowd:
        return ["0", str(_CROWD), "-1"]
    # silent: the share of a person that is to be seen is not labelled; -1 is "not known".
    visibility = person.extra.get("visibility", -1)
    return ["1", str(_PEDESTRIAN), text(visibility)]


def _info(video: Video) -> str:
    height, width = next((frame.size for frame in video.frames if 0 not in frame.size), (0, 0))
    suffix = Path(video.frames[0].file_name).suffix if video.frames else ""
    rows = {
        "name": video.name,
        "imDir": IMAGES,
        # silent: the rate cannot be left out; 25 where nobody knows it.
        "frameRate": text(video.fps or _RATE),
        "seqLength": str(len(video.frames)),
        "imWidth": str(width),
        "imHeight": str(height),
        "imExt": suffix or ".jpg",
    }
    return "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in rows.items())


# --- reading -----------------------------------------------------------------------------------------------


def find_sequences(folder: Path) -> list[Path]:
    """The sequence itself, or the sequences in a folder, sorted by name."""
    candidates = [folder, *sorted(entry for entry in folder.glob("*") if entry.is_dir())]
    found = [entry for entry in candidates if (entry / "seqinfo.ini").is_file() or _boxes(entry) is not None]
    return [folder] if folder in found else found


def _boxes(folder: Path) -> Path | None:
    places = (folder / "gt" / "gt.txt", folder / "det" / "det.txt")
    return next((place for place in places if place.is_file()), None)


def looks_like_mot(file: Path) -> bool:
    """Whether the first line is six to ten numbers with commas between."""
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        line = next((line for line in lines if line.strip()), "")
    cells = line.split(",")
    try:
        return 6 <= len(cells) <= 10 and all(float(cell) == float(cell) for cell in cells)
    except ValueError:
        return False


def read_source(source: Path, split: str, faults: Faults) -> PoseDataset:
    """Sequences of a folder, one sequence, or one ``gt.txt``."""
    if source.is_file():
        videos = [_read_sequence(_folder_of(source), source, faults)]
    else:
        videos = []
        for folder in find_sequences(source):
            boxes = _boxes(folder)
            if boxes is None:
                # A file is named here that the reader would have opened.
                faults.at(folder / "gt" / "gt.txt").error("no such file, and no det/det.txt either")
            else:
                videos.append(_read_sequence(folder, boxes, faults))
    return PoseDataset(videos, POSETRACK15, source if source.is_dir() else source.parent, split, "mot")


def _folder_of(file: Path) -> Path:
    """The sequence that a text file belongs to."""
    return file.parent.parent if file.parent.name in ("gt", "det") else file.parent


def _read_sequence(folder: Path, file: Path, faults: Faults) -> Video:
    info = _read_info(folder / "seqinfo.ini", faults)
    people = _read_people(file, faults)
    in_place = file.parent.name in ("gt", "det")
    name = info.get("name") or (folder.resolve().name if in_place else file.stem)
    length = _whole(info, "seqlength", folder, faults)
    length = faults.at(folder / "seqinfo.ini").attempt(check_frame, length, "seqLength") or 0
    last = max(people, default=0)
    if length and last > length:
        faults.at(file).error(f"has boxes of frame {last}; {folder / 'seqinfo.ini'} says {length} frames")
    size = (_whole(info, "imheight", folder, faults), _whole(info, "imwidth", folder, faults))
    images = folder / info.get("imdir", IMAGES)
    frames = []
    for index in range(length or last):
        path = images / f"{index + 1:06d}{info.get('imext', '.jpg')}"
        file_name = f"{folder.resolve().name}/{images.name}/{path.name}"
        mine = people.get(index + 1, [])
        frames.append(Frame(path, file_name, index, index, size, bool(mine), mine))
    rate = info.get("framerate")
    parsed = faults.at(folder / "seqinfo.ini").attempt(parse_decimal, rate, "frameRate") if rate else None
    return Video(name, frames, file, fps=parsed)


def _read_info(file: Path, faults: Faults) -> dict[str, str]:
    if not file.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(file, encoding="utf-8-sig")
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        faults.at(file, line=line).error("is not a sequence's description with a section [Sequence]")
        return {}


def _whole(info: dict[str, str], key: str, folder: Path, faults: Faults) -> int:
    value = info.get(key)
    place = faults.at(folder / "seqinfo.ini")
    return (place.attempt(parse_integer, value, key) or 0) if value else 0


def _read_people(file: Path, faults: Faults) -> dict[int, list[Person]]:
    """Frame from 1 -> people."""
    people: dict[int, list[Person]] = defaultdict(list)
    others: dict[int, int] = defaultdict(int)
    taken: set[tuple[int, int]] = set()
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file}: cannot be read as text") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place = faults.at(file, line=number)
        row = place.attempt(_parse_row, line)
        if row is None:
            continue
        frame, track, box, values = row
        has_class = len(values) == 3 and values[1] != -1
        is_result = not has_class and file.name != "gt.txt"
        kind = int(values[1]) if has_class else _PEDESTRIAN
        if kind not in (_PEDESTRIAN, _CROWD):
            others[kind] += 1
            continue
        crowd = not is_result and (kind == _CROWD or values[:1] == [0])
        if track < 0:
            track = len(people[frame])
        elif not crowd and (frame, track) in taken:
            place.error(f"id {track} is used twice in frame {frame}")
            continue
        elif not crowd:
            taken.add((frame, track))
        extra = {"visibility": values[2]} if has_class and values[2] != -1 else {}
        person = make_person(POSETRACK15, box_xyxy=box, track_id=track, is_crowd=crowd, extra=extra)
        if is_result and values:
            person.score = values[0]
        people[frame].append(person)
    for kind, count in others.items():
        faults.at(file).remark(f"{count} boxes of class {kind}, which is not pedestrian, are left out")
    return people


def _parse_row(line: str) -> tuple[int, int, list[float], list[float]]:
    """frame, id, corners, and what comes behind the box: flag or confidence, class, visibility."""
    cells = [cell.strip() for cell in line.split(",")]
    if not 6 <= len(cells) <= 10:
        raise InputError(f"has {len(cells)} numbers; a line is frame, id, left, top, width, height, …")
    frame, track = parse_integer(cells[0], "frame"), parse_integer(cells[1], "id")
    if frame < 1:
        raise InputError(f"frame {frame}: frames count from 1")
    check_frame(frame, "frame")
    for cell, what in zip(cells[2:6], ("left", "top", "width", "height"), strict=True):
        if abs(parse_decimal(cell, what)) > MAX_COORDINATE:
            raise InputError(f"{what} {cell}: pixels of at most {MAX_COORDINATE:g} make sense")
    left, top, width, height = (Decimal(cell) for cell in cells[2:6])
    if width < 0 or height < 0:
        raise InputError("has a negative width or height")
    box = [float(value) for value in (left - 1, top - 1, left - 1 + width, top - 1 + height)]
    values = [parse_decimal(cell, "a number behind the box") for cell in cells[6:]]
    return frame, track, box, values if len(cells) != 10 else [values[0], -1, -1]


__all__ = ["find_sequences", "image_name", "is_scored", "looks_like_mot", "read_source", "sequence_files"]
