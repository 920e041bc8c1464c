"""CVAT for video 1.1 (``annotations.xml``): tracks of boxes, skeletons and polygons. One file is one video.

Of a person the box and the skeleton are two tracks, which CVAT's groups hold together; so is the head's box.
``track_id`` and what else the shapes of CVAT do not have are attributes of them. Names and ids of the frames,
of which the format has nothing, stand in ``meta/vidpose``; CVAT itself drops that element.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import MAX_COORDINATE, MAX_FRAMES, Faults, Place
from vidpose.data.layouts.disk import ImageFinder
from vidpose.data.layouts.shared import joint_name, joint_set, make_person, parse_decimal, parse_integer
from vidpose.data.layouts.xml_tree import Element, read_xml
from vidpose.errors import InputError
from vidpose.skeletons import Skeleton

_PEOPLE = ("person", "people", "pedestrian", "human")


def looks_like_cvat(root: Element) -> bool:
    """Whether an XML document is one of CVAT."""
    return root.tag == "annotations" and any(root.find(tag) for tag in ("meta", "track", "image"))


# --- tracks ------------------------------------------------------------------------------------------------


@dataclass
class _Shape:
    """One shape of a track on one frame."""

    values: np.ndarray
    """[N] x, y, x, y, …"""
    outside: bool
    occluded: bool
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass
class _Track:
    number: int
    label: str
    group: int
    line: int
    shapes: dict[int, _Shape] = field(default_factory=dict)
    """Frame -> box or polygon."""
    joints: dict[str, dict[int, _Shape]] = field(default_factory=dict)
    """Of a skeleton: joint -> frame -> point."""
    kind: str = "box"
    """``box``, ``skeleton`` or ``polygon``."""
    attributes: dict[int, dict[str, str]] = field(default_factory=dict)
    """Of a skeleton: frame -> its own attributes."""

    def frames(self) -> set[int]:
        """Where it is to be seen."""
        parts = self.joints.values() if self.kind == "skeleton" else [self.shapes]
        return {index for part in parts for index, shape in part.items() if not shape.outside}


def spread(shapes: dict[int, _Shape], count: int) -> dict[int, _Shape]:
    """The shapes of every frame from those that the file has, as CVAT does it.

    Between two shapes the numbers go linearly, also towards one that is outside; behind one that is outside
    is nothing, and the last one stays to the video's end.
    """
    out: dict[int, _Shape] = {}
    known = sorted(shapes)
    for first, second in zip(known, [*known[1:], None], strict=False):
        a = shapes[first]
        out[first] = a
        if a.outside:
            continue
        b = shapes[second] if second is not None else a
        for index in range(first + 1, count if second is None else second):
            values = a.values
            if second is not None and len(b.values) == len(values):
                values = values + (b.values - values) * ((index - first) / (second - first))
            out[index] = _Shape(values, False, a.occluded, a.attributes)
    return out


# --- reading -----------------------------------------------------------------------------------------------


@dataclass
class _Document:
    """A file with every frame of its tracks filled in."""

    file: Path
    task: Element
    own: Element | None
    tracks: list[_Track]
    names: list[str]
    """Joints that its labels name."""
    count: int
    """Frames."""


def read_files(files: Sequence[Path], split: str, faults: Faults, root: Path | None = None) -> PoseDataset:
    """One split, a file for each video; joints are those that the skeletons' labels name."""
    root = root or files[0].parent
    documents = [_read_document(file, faults) for file in files]
    skeleton = joint_set(name for document in documents for name in document.names)
    videos = []
    for document in documents:
        frames = _frames(document, root, faults)
        _add_regions(document, frames)
        _add_people(document, frames, skeleton, faults)
        for frame in frames:
            labelled = frame.extra.pop("labeled", None)
            frame.is_labeled = labelled == "1" if labelled else bool(frame.people)
        videos.append(Video(_video_name(document), frames, document.file))
    return PoseDataset(videos, skeleton, root, split, "cvat")


def _video_name(document: _Document) -> str:
    own = document.own.attributes.get("video") if document.own is not None else None
    stem = document.file.parent.name if document.file.stem == "annotations" else document.file.stem
    return own or document.task.value("name") or stem


def _read_document(file: Path, faults: Faults) -> _Document:
    root = read_xml(file)
    if not looks_like_cvat(root):
        raise InputError(f"{file}:{root.line}: <{root.tag}> is not a document of CVAT")
    images = root.find("image")
    if images is not None:
        raise InputError(
            f"{file}:{images.line}: is in the format 'CVAT for images', which knows no tracks; "
            "export it as 'CVAT for video 1.1'"
        )
    meta = root.find("meta") or Element("meta", {}, root.line)
    task = meta.find("task") or meta.find("job") or meta
    labels = list((task.find("labels") or meta.find("project", "labels") or task).all("label"))
    names = [joint_name(label.value("name")) for label in labels if label.value("parent")]
    place = faults.at(file, line=task.line)
    first = place.attempt(parse_integer, task.value("start_frame") or "0", "start_frame") or 0
    size = place.attempt(parse_integer, task.value("size") or "0", "size") or 0
    step = re.search(r"step=0*([1-9]\d*)", task.value("frame_filter"))
    tracks = [
        track
        for element in root.all("track")
        if (track := _read_track(element, first, int(step.group(1)) if step else 1, file, faults))
    ]
    seen = max((index for track in tracks for index in track.frames()), default=-1) + 1
    if size and seen > size:
        place.error(f"size is {size}, but a track is to be seen on frame {seen - 1}")
    count = min(size or seen, MAX_FRAMES)
    for track in tracks:
        track.shapes = spread(track.shapes, count)
        track.joints = {name: spread(points, count) for name, points in track.joints.items()}
    names += [name for track in tracks for name in track.joints]
    return _Document(file, task, meta.find("vidpose"), tracks, list(dict.fromkeys(names)), count)


def _read_track(element: Element, first: int, step: int, file: Path, faults: Faults) -> _Track | None:
    place = faults.at(file, line=element.line)
    label = element.attributes.get("label", "")
    number = place.attempt(parse_integer, element.attributes.get("id", "0"), "id of the track")
    group = place.attempt(parse_integer, element.attributes.get("group_id", "0"), "group_id")
    if number is None or group is None:
        return None
    track = _Track(number, label, group, element.line)
    for shape in element.children:
        here = faults.at(file, line=shape.line)
        if shape.tag not in ("box", "skeleton", "polygon", "points"):
            here.remark(f"<{shape.tag}> is not read")
            continue
        frame = here.attempt(parse_integer, shape.attributes.get("frame", ""), "frame")
        if frame is None:
            continue
        index, rest = divmod(frame - first, step)
        if rest or not 0 <= index < MAX_FRAMES:
            here.error(f"frame {frame} is not one of the video's")
            continue
        track.kind = "skeleton" if shape.tag in ("skeleton", "points") else shape.tag
        if shape.tag == "skeleton":
            _read_skeleton(shape, index, track, file, faults)
            continue
        parsed = here.attempt(_shape, shape)
        if parsed is not None and shape.tag == "points":
            _put(track.joints.setdefault(joint_name(label), {}), index, parsed, here)
        elif parsed is not None:
            _put(track.shapes, index, parsed, here)
    return track


def _read_skeleton(shape: Element, index: int, track: _Track, file: Path, faults: Faults) -> None:
    gone = shape.attributes.get("outside") == "1"
    track.attributes[index] = _attributes(shape)
    for point in shape.all("points"):
        here = faults.at(file, line=point.line)
        parsed = here.attempt(_shape, point)
        if parsed is not None:
            parsed.outside = parsed.outside or gone
            name = joint_name(point.attributes.get("label", ""))
            _put(track.joints.setdefault(name, {}), index, parsed, here)


def _put(shapes: dict[int, _Shape], index: int, shape: _Shape, place: Place) -> None:
    if index in shapes:
        place.error("the track has two shapes on this frame")
    shapes[index] = shape


def _shape(element: Element) -> _Shape:
    attributes = element.attributes
    if element.tag == "box":
        texts = [attributes.get(key, "") for key in ("xtl", "ytl", "xbr", "ybr")]
    else:
        texts = re.split(r"[;,]", attributes.get("points", ""))
    values = np.array([parse_decimal(value, "a coordinate") for value in texts])
    if np.abs(values).max() > MAX_COORDINATE:
        raise InputError(f"a coordinate of {values.max():g}; pixels of at most {MAX_COORDINATE:g} make sense")
    if len(values) % 2 or (element.tag == "points" and len(values) != 2):
        what = "one x and one y for a joint" if element.tag == "points" else "pairs of x and y"
        raise InputError(f"points has {len(values)} numbers; needed are {what}")
    if element.tag == "box" and (values[2:] < values[:2]).any():
        raise InputError("the box ends before it begins (xbr < xtl or ybr < ytl)")
    outside, occluded = (attributes.get(key, "0") == "1" for key in ("outside", "occluded"))
    return _Shape(values, outside, occluded, _attributes(element))


def _attributes(element: Element) -> dict[str, str]:
    return {entry.attributes.get("name", ""): entry.text.strip() for entry in element.all("attribute")}


def _frames(document: _Document, root: Path, faults: Faults) -> list[Frame]:
    height, width = (document.task.value("original_size", key) for key in ("height", "width"))
    place = faults.at(document.file, line=document.task.line)
    size = [place.attempt(parse_integer, value or "0", "original_size") or 0 for value in (height, width)]
    frames = []
    for index in range(document.count):
        name = f"{document.file.stem}/{index:06d}.jpg"
        frames.append(Frame(root / name, name, index, index, (size[0], size[1]), False))
    for entry in document.own.all("frame") if document.own is not None else ():
        here = faults.at(document.file, line=entry.line)
        values = {key: entry.attributes.get(key, "0") for key in ("number", "id", "height", "width")}
        numbers = [here.attempt(parse_integer, value, key) or 0 for key, value in values.items()]
        if numbers[0] not in range(document.count):
            here.error(f"frame {numbers[0]} is not one of the {document.count} of the video")
            continue
        frame = frames[numbers[0]]
        frame.image_id, frame.size = numbers[1], (numbers[2], numbers[3])
        frame.file_name = entry.attributes.get("name") or frame.file_name
        frame.extra["labeled"] = entry.attributes.get("labeled", "")
    names = [frame.file_name for frame in frames]
    for frame, path in zip(
        frames, ImageFinder(root, faults).paths(names, document.file) if names else [], strict=True
    ):
        frame.path = path
    return frames


def _add_regions(document: _Document, frames: list[Frame]) -> None:
    for track in document.tracks:
        if _is_region(track):
            for index, shape in sorted(track.shapes.items()):
                if not shape.outside:
                    corners = (
                        shape.values if track.kind == "polygon" else shape.values[[0, 1, 2, 1, 2, 3, 0, 3]]
                    )
                    frames[index].ignore_regions.append(corners.reshape(-1, 2))


def _is_region(track: _Track) -> bool:
    return track.label.lower().startswith("ignore") and track.kind in ("box", "polygon")


def _role(track: _Track, label_of_people: str | None) -> str | None:
    """``box``, ``head`` or ``skeleton``; ``None``: no part of a person."""
    if track.kind == "skeleton":
        return "skeleton"
    name = track.label.lower()
    if track.kind == "polygon" or _is_region(track):
        return None
    if name == "head":
        return "head"
    return "box" if name in _PEOPLE or name == label_of_people else None


def _add_people(document: _Document, frames: list[Frame], skeleton: Skeleton, faults: Faults) -> None:
    others = {t.label.lower() for t in document.tracks if t.kind == "box" and not _is_region(t)} - {"head"}
    only = next(iter(others)) if len(others) == 1 else None
    parts: dict[tuple[str, int], list[tuple[str, _Track]]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for order, track in enumerate(document.tracks):
        role = _role(track, only)
        if role is None:
            if not _is_region(track):
                left_out[track.label] += 1
            continue
        parts[("group", track.group) if track.group else ("track", order)].append((role, track))
    for label, count in left_out.items():
        faults.at(document.file).remark(f"{count} tracks of the label {label!r} are no people and left out")
    people: list[tuple[int, int, int, Person]] = []
    for mine in parts.values():
        for tracks in [mine] if _fit_together(mine) else [[part] for part in mine]:
            people += _people_of(tracks, skeleton, document, faults)
    taken: set[tuple[int, int]] = set()
    for index, _, line, person in sorted(people, key=lambda entry: entry[:2]):
        if not person.is_crowd and (index, person.track_id) in taken:
            place = faults.at(document.file, line=line)
            place.error(f"track_id {person.track_id} is used twice on frame {index}")
            continue
        if not person.is_crowd:
            taken.add((index, person.track_id))
        frames[index].people.append(person)


def _fit_together(parts: list[tuple[str, _Track]]) -> bool:
    """Whether a group is one person: no two boxes, and no joint twice, on one frame."""
    seen: set[tuple[str, str, int]] = set()
    for role, track in parts:
        if role == "skeleton":
            mine = {(role, n, i) for n, pts in track.joints.items() for i, s in pts.items() if not s.outside}
        else:
            mine = {(role, "", index) for index in track.frames()}
        if mine & seen:
            return False
        seen |= mine
    return True


def _people_of(
    parts: list[tuple[str, _Track]], skeleton: Skeleton, document: _Document, faults: Faults
) -> list[tuple[int, int, int, Person]]:
    """(frame, order, line, person) of one person's tracks."""
    first = min(track.number for _, track in parts)
    line = parts[0][1].line
    out = []
    for index in sorted(set().union(*(track.frames() for _, track in parts))):
        boxes: dict[str, np.ndarray] = {}
        joints: dict[str, tuple[float, float, bool]] = {}
        scores: dict[str, float] = {}
        said: dict[str, str] = {}
        place = faults.at(document.file, line=line, note=f"frame {index}")
        for role, track in parts:
            shape = track.shapes.get(index)
            if shape is not None and not shape.outside:
                boxes[role] = shape.values
                said |= shape.attributes
            said |= track.attributes.get(index, {})
            for name, points in track.joints.items():
                point = points.get(index)
                if point is None or point.outside:
                    continue
                if name not in skeleton.index:
                    place.error(f"the joint {name!r} is not one of the labels'")
                    continue
                joints[name] = (float(point.values[0]), float(point.values[1]), not point.occluded)
                if "score" in point.attributes:
                    value = place.attempt(parse_decimal, point.attributes["score"], "score of a joint")
                    scores[name] = value or 0.0
        numbers = {
            key: place.attempt(parse_integer, said[key], key)
            for key in ("track_id", "person_id", "order")
            if said.get(key)
        }
        track_id = numbers.get("track_id")
        person = make_person(
            skeleton,
            joints=joints,
            scores=scores,
            box_xyxy=boxes.get("box"),
            head_box_xyxy=boxes.get("head"),
            track_id=first if track_id is None else track_id,
            person_id=numbers.get("person_id"),
            score=place.attempt(parse_decimal, said["score"], "score") if said.get("score") else None,
            is_crowd=said.get("crowd") == "true",
        )
        order = numbers.get("order")
        out.append((index, first if order is None else order, line, person))
    return out
