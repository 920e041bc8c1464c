"""HiEve: videos of crowds with a file per frame, or a file of the pose track per video; 14 joints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults, Place, check_frame, parse_numbers
from vidpose.data.layouts.disk import IMAGE_SUFFIXES, VIDEO_SUFFIXES, numbered, walk
from vidpose.data.layouts.people import lone_person
from vidpose.data.layouts.posetrack17 import one
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.skeletons import HIEVE14

_SPLITS = ("train", "val", "test")
_TRACK = re.compile(r"(hieve|hie20|track[-_ ]?[23].*)", re.IGNORECASE)
_DEPTH = 5
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OBJECT_KEYS = {"name", "bndbox"}
_FRAMES = 1_000_000
"""Image ids of a video begin at so many times its number."""


def list_splits(root: Path) -> list[str]:
    """``train``, ``val``, ``test`` by the folders on the way to the annotations; ``train`` without such."""
    return sorted(_find(root))


def _find(root: Path) -> dict[str, dict[str, Path]]:
    """Split -> video -> its folder of frame files, or its track file where these are not there."""
    out: dict[str, dict[str, Path]] = {}
    for folder, files in walk(root, _DEPTH):
        parts = [part.lower() for part in folder.relative_to(root).parts]
        split = next((part for part in parts if part in _SPLITS), "train")
        frames = [name for name in files if re.fullmatch(r"\d+\.xml", name)]
        tracks = [name for name in files if name.endswith(".json")]
        if frames and _is_frame_file(folder / frames[0]):
            out.setdefault(split, {})[folder.name] = folder
        elif tracks and _are_tracks(folder, tracks, root):
            for name in tracks:
                out.setdefault(split, {}).setdefault(Path(name).stem, folder / name)
    return out


def _is_frame_file(file: Path) -> bool:
    head = _head(file)
    return "annotation" in head and not head.startswith("<annotations")


def _are_tracks(folder: Path, names: list[str], root: Path) -> bool:
    """Whether JSON files are those of HiEve's pose tracks, which look like PoseTrack17's: the videos are
    called by numbers, or the folder by the track."""
    by_number = all(Path(name).stem.isdigit() for name in names)
    by_folder = any(_TRACK.fullmatch(part) for part in (root.name, *folder.relative_to(root).parts))
    return (by_number or by_folder) and '"annolist"' in _head(folder / names[0])


def _head(file: Path) -> str:
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as text:
            return text.read(4096).lstrip()
    except OSError:
        return ""


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split. Every frame of a video is there, those without annotations as unlabelled neighbours."""
    found = _find(root)
    if split not in found:
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(sorted(found)) or 'none'}")
    pictures = _Pictures(root, split)
    videos = []
    for v, (name, place) in enumerate(sorted(found[split].items(), key=_natural)):
        frames = _frame_files(place, faults) if place.is_dir() else _track_file(place, faults)
        if frames:
            number = int(name) if name.isdigit() else 1000 + v
            videos.append(_video(name, number, place, frames, pictures, faults))
    if not videos:
        faults.at(next(iter(found[split].values())).parent).error("no annotated frame can be read")
    return PoseDataset(videos, HIEVE14, root, split, "hieve")


def _natural(item: tuple[str, Path]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdigit() else 10**9, item[0])


def _video(
    name: str, number: int, source: Path, labelled: dict[int, Frame], pictures: _Pictures, faults: Faults
) -> Video:
    folder, files, video = pictures.of(name)
    size = next((frame.size for frame in labelled.values() if 0 not in frame.size), (0, 0))
    numbers = sorted({*labelled, *files})
    span = numbers[-1] - numbers[0]
    if (
        video is not None
        and faults.at(source).attempt(check_frame, span, "last minus first frame") is not None
    ):
        numbers = list(range(numbers[0], numbers[-1] + 1))
    frames = []
    for index, n in enumerate(numbers):
        frame = labelled.get(n) or Frame(Path(), "", 0, 0, size, False)
        frame.index, frame.image_id = index, number * _FRAMES + n
        frame.file_name = frame.file_name or f"{name}/{n:06d}.jpg"
        if 0 in frame.size:
            frame.size = size
        if video is not None:
            frame.path, frame.video_frame = video, n
        else:
            frame.path = folder / files.get(n, f"{n:06d}.jpg")
        frames.append(frame)
    if video is None and not files:
        faults.assume(f"{source}: no folder of images and no video called {name} is below {pictures.root}")
    elif video is not None:
        faults.assume(f"{source.parent}: number n is frame n, from 0, of the videos in {video.parent}")
    return Video(name, frames, source)


class _Pictures:
    """The folder of images or the video file of a video, by its name, wherever below the root.

    Args:
        split: where several are called alike, one with this on its way is preferred.
    """

    def __init__(self, root: Path, split: str) -> None:
        self.root = root
        self._folders: dict[str, tuple[Path, dict[int, str]]] = {}
        self._videos: dict[str, Path] = {}
        found = list(walk(root))
        for folder, files in sorted(found, key=lambda entry: split not in entry[0].relative_to(root).parts):
            images = numbered(files, IMAGE_SUFFIXES)
            if images:
                self._folders.setdefault(folder.name, (folder, images))
            for name in files:
                if name.lower().endswith(VIDEO_SUFFIXES):
                    self._videos.setdefault(Path(name).stem, folder / name)

    def of(self, name: str) -> tuple[Path, dict[int, str], Path | None]:
        """(folder, number -> file name there, video file): images are preferred to a video."""
        if name in self._folders:
            return (*self._folders[name], None)
        return self.root / "images" / name, {}, self._videos.get(name)


# --- a file per frame ----------------------------------------------------------------------------------


def _frame_files(folder: Path, faults: Faults) -> dict[int, Frame]:
    """Frame number -> frame of a video's folder of frame files."""
    out = {}
    for file in sorted(folder.glob("*.xml")):
        if not file.stem.isdigit():
            continue
        content = _parse(file) if faults.strict else faults.at(file).attempt(_parse, file)
        content = content.get("annotation") if isinstance(content, dict) else None
        if not isinstance(content, dict):
            faults.at(file).error("has no object 'annotation'")
            continue
        sides = [str(_get(content.get("size"), key)) for key in ("height", "width")]
        height, width = (int(side) if side.isdecimal() else 0 for side in sides)
        frame = Frame(Path(), f"{folder.name}/{file.stem}.jpg", 0, 0, (height, width), True)
        objects = content.get("object") or []
        frame.people = _people(objects, [file, "annotation", "object"], faults, _object)
        frame.extra = {k: v for k, v in content.items() if k not in ("object", "size")}
        out[int(file.stem)] = frame
    return out


def _parse(file: Path) -> Any:
    """A frame file: JSON in spite of its name, as the data set's page shows it, or XML of the same keys."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}") from None
    if not text.lstrip().startswith("<"):
        try:
            # The page's own example has single backslashes in its paths.
            return json.loads(re.sub(r'\\(?!["\\/bfnrtu])', r"\\\\", text))
        except (json.JSONDecodeError, RecursionError) as error:
            line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise InputError(f"{file}{line}: is not valid JSON: {error}") from None
    try:
        node = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{file}:{error.position[0]}: is not valid XML: {error}") from None
    return {node.tag: _plain(node)}


def _plain(node: ElementTree.Element) -> Any:
    """An XML element as JSON has it; ``object`` is always a list."""
    if not len(node):
        return (node.text or "").strip()
    out: dict[str, Any] = {}
    for child in node:
        if child.tag == "object":
            out.setdefault("object", []).append(_plain(child))
        else:
            out[child.tag] = _plain(child)
    return out


def _people(
    objects: Any, way: list[Any], faults: Faults, parse: Callable[[Any, Place], Person | None]
) -> list[Person]:
    """The people of a frame; what is wrong is told, and left out."""
    objects = [objects] if isinstance(objects, dict) else objects
    if not isinstance(objects, list):
        faults.at(*way).error("is not a list")
        return []
    people: list[Person] = []
    taken: set[int] = set()
    for k, entry in enumerate(objects):
        place = faults.at(*way, k)
        if not isinstance(entry, dict):
            place.error("is not an object")
            continue
        before = faults.errors
        person = parse(entry, place)
        if person is None or faults.errors > before:
            continue
        if person.track_id in taken:
            place.error(f"track id {person.track_id} is used twice in one frame")
            continue
        taken.add(person.track_id)
        people.append(person)
    return people


def _object(entry: dict[str, Any], place: Place) -> Person | None:
    """One person of a frame file."""
    box = entry.get("bndbox")
    if not isinstance(box, dict):
        place.error("has no object 'bndbox'")
        return None
    name = str(entry.get("name", ""))
    digits = re.search(r"(\d+)$", name)
    if digits is None:
        place.error(f"name {name!r} does not end in the person's number, as in P-1")
        return None
    known = {key.lower().replace("-", "_"): value for key, value in box.items()}
    points, flags = np.zeros((HIEVE14.num_joints, 2)), np.full(HIEVE14.num_joints, -1.0)
    for j, joint in enumerate(HIEVE14.joints):
        if joint in known:
            numbers = place.attempt(_numbers, known[joint], joint, 3)
            if numbers is not None:
                points[j], flags[j] = numbers[:2], numbers[2]
    corners = None
    if any(key in known for key in _CORNERS):
        corners = place.attempt(_corners, [known.get(key) for key in _CORNERS])
    person = place.attempt(lone_person, points, flags >= 0, flags == 0, corners, int(digits[1]))
    if person is not None:
        person.extra = {key: value for key, value in entry.items() if key not in _OBJECT_KEYS}
    return person


def _numbers(value: Any, what: str, count: int) -> np.ndarray:
    """Numbers of ``"928,185,0"``."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        return parse_numbers([float(part) for part in parts], what, count)
    except (TypeError, ValueError):
        raise InputError(f"{what} {value!r} is not {count} numbers: x, y, flag") from None


def _corners(values: list[Any]) -> np.ndarray:
    try:
        box = parse_numbers([float(value) for value in values], "bndbox", 4)
    except (TypeError, ValueError):
        raise InputError(f"bndbox has {values!r} as xmin, ymin, xmax, ymax: not numbers") from None
    if (box[2:] < box[:2]).any():
        raise InputError("bndbox has a negative width or height")
    return box


# --- a file per video ----------------------------------------------------------------------------------


def _track_file(file: Path, faults: Faults) -> dict[int, Frame]:
    """Frame number -> frame of a file of the pose track, ``annolist`` as of PoseTrack17 with 14 joints."""
    content = read_json(file) if faults.strict else faults.at(file).attempt(read_json, file)
    frames = content.get("annolist") if isinstance(content, dict) else None
    if not isinstance(frames, list):
        if content is not None:
            faults.at(file).error("has no list 'annolist'")
        return {}
    out: dict[int, Frame] = {}
    for f, entry in enumerate(frames):
        place = faults.at(file, "annolist", f)
        name = one(_get(one(_get(entry, "image")), "name"))
        digits = re.search(r"(\d+)\.\w+$", name) if isinstance(name, str) else None
        if digits is None:
            place.error("image[0].name is missing or not a numbered image")
            continue
        if int(digits[1]) in out:
            place.error(f"frame {int(digits[1])} is there twice")
            continue
        frame = Frame(Path(), f"{file.stem}/{name.rpartition('/')[2]}", 0, 0, (0, 0), True)
        rects = entry.get("annorect") or []
        frame.people = _people(rects, [file, "annolist", f, "annorect"], faults, _rect)
        out[int(digits[1])] = frame
    return out


def _rect(entry: dict[str, Any], place: Place) -> Person | None:
    """One person of a track file."""
    points, flags = np.zeros((HIEVE14.num_joints, 2)), np.full(HIEVE14.num_joints, -1.0)
    joints = _get(one(entry.get("annopoints")), "point") or []
    for point in joints if isinstance(joints, list) else [None]:
        joint = one(_get(point, "id"))
        if point is None or type(joint) is not int or joint not in range(HIEVE14.num_joints):
            place.error(f"joint id {joint!r} is not one of 0 to 13")
            return None
        numbers = place.attempt(parse_numbers, [one(point.get("x")), one(point.get("y"))], "a joint", 2)
        if numbers is None:
            return None
        seen = one(point.get("is_visible"))
        points[joint], flags[joint] = numbers, 1 if seen in (0, False) else 0
    corners = [one(entry.get(key)) for key in ("x1", "y1", "x2", "y2")]
    box = None if None in corners else place.attempt(_corners, corners)
    track = one(entry.get("track_id"))
    if type(track) is not int:
        place.error("track_id is missing or not a whole number")
        return None
    return place.attempt(lone_person, points, flags >= 0, flags == 0, box, track)


def _get(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
