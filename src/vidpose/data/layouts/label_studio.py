"""Label Studio's JSON export.

Image tasks: ``rectanglelabels`` of people (and heads), ``keypointlabels`` that name them as their parent (or
are joined to them by a relation), ``polygonlabels`` or rectangles for ignore regions; everything in percent
of the picture. Of a task's annotations the first that was not cancelled counts, else its first prediction.
Video tasks: ``videorectangle`` tracks, read only. What goes with a region (``track_id``, ``person_id``,
flags) is in per-region ``number`` and ``choices`` results; what goes with a frame is in the task's ``data``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults, Place, check_frame, parse_numbers, parse_whole
from vidpose.data.layouts.disk import IMAGE_SUFFIXES, ImageFinder
from vidpose.data.layouts.shared import joint_name, joint_set, make_person
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.skeletons import SKELETONS, Skeleton

PEOPLE = ("person", "people", "pedestrian", "human")
HEAD, IGNORE = "head", "ignore"
CROWD, MADE, HIDDEN = "crowd", "box from joints", "occluded"
_LISTS = ("annotations", "predictions", "completions")
_DIGITS = 9
"""Pixels are rounded to these decimals, finer than the rounding of percents: 10.5 comes back as 10.5."""


def looks_like_export(content: Any) -> bool:
    """Whether parsed JSON is a list of tasks, or one."""
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and isinstance(first.get("data"), dict) and any(k in first for k in _LISTS)


def read_file(file: Path, split: str, faults: Faults, root: Path | None = None) -> PoseDataset:
    """One split; tasks with the same ``data.video`` are frames of one video."""
    root = root or file.parent
    content = read_json(file)
    tasks = [content] if isinstance(content, dict) else content
    parsed: list[_Task] = []
    tracks: list[_Tracks] = []
    for number, task in enumerate(tasks):
        keys = (number,) if isinstance(content, list) else ()
        place = faults.at(file, *keys)
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            place.error("is not a task: it has no object 'data'")
            continue
        results = place.attempt(_results, task, place)
        if results is None:
            continue
        if any(result.get("type") == "videorectangle" for result in results):
            video = place.attempt(_Tracks, task, results)
            tracks += [] if video is None else [video]
            continue
        image = place.attempt(_Task, task, results, number)
        parsed += [] if image is None else [image]
    skeleton = _skeleton(parsed)
    videos = _image_videos(parsed, skeleton, file, root, faults)
    for video in tracks:
        made = faults.at(file, note=video.source).attempt(video.video, skeleton, file, root)
        videos += [] if made is None else [made]
    return PoseDataset(videos, skeleton, root, split, "labelstudio")


def _results(task: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    """The results that count."""
    for key in ("annotations", "completions", "predictions"):
        entries = task.get(key)
        if not isinstance(entries, list):
            continue
        kept = [entry for entry in entries if isinstance(entry, dict) and not entry.get("was_cancelled")]
        if len(kept) > 1:
            place.remark(f"has {len(kept)} {key}; the first is taken")
        if kept:
            results = kept[0].get("result")
            if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
                raise InputError(f"{key}: result is not a list of objects")
            return results
    return []


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any, what: str) -> float:
    return float(parse_numbers(value, what, 1)[0])


def _file_name(url: str) -> str:
    """The file that a task's URL stands for: ``/data/local-files/?d=a/1.jpg`` -> ``a/1.jpg``."""
    if "://" not in url and not url.startswith("/data/"):
        return url
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InputError(f"{url!r} is not a URL: {error}") from None
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path).lstrip("/")


# --- image tasks -------------------------------------------------------------------------------------------


class _Task:
    """One picture with its regions."""

    def __init__(self, task: dict[str, Any], results: list[dict[str, Any]], number: int) -> None:
        self.data: dict[str, Any] = task["data"]
        self.number = number
        url = next((u for u in (self.data.get("image"), *self.data.values()) if _is_image(u)), None)
        if url is None:
            raise InputError("data names no image; needed is an image task or a video task with tracks")
        self.file_name = _file_name(url)
        self.is_looked_at = any(task.get(key) for key in _LISTS)
        self.size = self._size(results)
        self.choices: dict[str, set[str]] = defaultdict(set)
        self.numbers: dict[tuple[str, str], float] = {}
        self.parents: dict[str, str] = {}
        self.boxes: dict[str, dict[str, Any]] = {}
        self.heads: dict[str, dict[str, Any]] = {}
        self.points: list[dict[str, Any]] = []
        self.regions: list[np.ndarray] = []
        links: list[tuple[str, str]] = []
        for result in results:
            region, kind = str(result.get("id", "")), result.get("type")
            value = _object(result.get("value"))
            if kind == "choices":
                self.choices[region] |= set(map(str, value.get("choices", [])))
            elif kind == "number":
                self.numbers[region, str(result.get("from_name"))] = _number(value.get("number"), "number")
            elif kind == "relation":
                links.append((str(result.get("from_id")), str(result.get("to_id"))))
            else:
                self._add(region, kind, result, value)
        for a, b in links:
            self._link(a, b)

    def _size(self, results: list[dict[str, Any]]) -> tuple[int, int]:
        sources = [(r.get("original_height"), r.get("original_width")) for r in results]
        for height, width in [*sources, (self.data.get("height"), self.data.get("width"))]:
            if height and width:
                return parse_whole(height, "original_height"), parse_whole(width, "original_width")
        return 0, 0

    def _add(self, region: str, kind: Any, result: dict[str, Any], value: dict[str, Any]) -> None:
        """A region with a place in the picture."""
        labels = value.get(str(kind)) or value.get("labels") or []
        label = str(labels[0]) if isinstance(labels, list) and labels else ""
        if isinstance(result.get("parentID"), str):
            self.parents[region] = result["parentID"]
        entry = {"id": region, "label": label, "value": value, "score": result.get("score")}
        if kind in ("rectanglelabels", "rectangle"):
            if label.lower() == HEAD:
                self.heads[region] = entry
            elif label.lower().startswith(IGNORE):
                self.regions.append(self.corners(value))
            else:
                self.boxes[region] = entry
        elif kind in ("keypointlabels", "keypoint"):
            self.points.append(entry)
        elif kind == "polygonlabels" and label.lower().startswith(IGNORE):
            percents = parse_numbers(value.get("points", []), "points").reshape(-1, 2)
            self.regions.append(self.pixels(percents))

    def _link(self, a: str, b: str) -> None:
        """A relation between a person and one of its parts, in whichever direction it was drawn."""
        for part, whole in ((a, b), (b, a)):
            if whole in self.boxes and part not in self.boxes:
                self.parents[part] = whole

    def pixels(self, percents: np.ndarray) -> np.ndarray:
        """[N, 2] percents -> pixels."""
        if 0 in self.size:
            raise InputError("has neither original_width and original_height nor data.width and data.height")
        height, width = self.size
        return (percents * np.array([width, height]) / 100).round(_DIGITS)

    def corners(self, value: dict[str, Any]) -> np.ndarray:
        """[4, 2] pixels of a rectangle, which may be turned about its first corner."""
        x, y, w, h = (_number(value.get(key), key) for key in ("x", "y", "width", "height"))
        corners = self.pixels(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]))
        angle = math.radians(_number(value.get("rotation") or 0, "rotation"))
        if angle:
            turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
            corners = (corners - corners[0]) @ turn + corners[0]
        return corners

    def box(self, value: dict[str, Any]) -> np.ndarray:
        """[4] xyxy pixels that hold a rectangle."""
        corners = self.corners(value)
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def joint_names(self) -> list[str]:
        """Labels of its keypoints."""
        return [joint_name(point["label"]) for point in self.points]

    def people(self, skeleton: Skeleton) -> Iterator[Person]:
        """The people in the order of their boxes."""
        owners = {point["id"]: self._owner(point) for point in self.points}
        alone = [point for point in self.points if owners[point["id"]] is None]
        for order, (region, entry) in enumerate(self.boxes.items()):
            mine = [point for point in self.points if owners[point["id"]] == region]
            heads = [head for key, head in self.heads.items() if self.parents.get(key) == region]
            yield self._person(skeleton, entry, mine, heads, order)
        if alone:
            yield self._person(skeleton, None, alone, [], len(self.boxes))

    def _owner(self, point: dict[str, Any]) -> str | None:
        """The person of a keypoint: its parent, else the only box that it lies in."""
        if self.parents.get(point["id"]) in self.boxes:
            return self.parents[point["id"]]
        (x, y) = self._place(point)
        around = []
        for region, entry in self.boxes.items():
            x1, y1, x2, y2 = self.box(entry["value"])
            if x1 <= x <= x2 and y1 <= y <= y2:
                around.append(region)
        if len(around) == 1:
            return around[0]
        if self.boxes:
            where = "no box" if not around else f"{len(around)} boxes"
            raise InputError(f"the keypoint {point['label']!r} has no parent and lies in {where}")
        return None

    def _place(self, point: dict[str, Any]) -> tuple[float, float]:
        percents = np.array([[_number(point["value"].get(axis), axis) for axis in "xy"]])
        x, y = self.pixels(percents)[0]
        return float(x), float(y)

    def _person(
        self,
        skeleton: Skeleton,
        entry: dict[str, Any] | None,
        points: list[dict[str, Any]],
        heads: list[dict[str, Any]],
        order: int,
    ) -> Person:
        joints: dict[str, tuple[float, float, bool]] = {}
        scores: dict[str, float] = {}
        for point in points:
            name = joint_name(point["label"])
            if name in joints:
                raise InputError(f"a person has the keypoint {name!r} twice")
            joints[name] = (*self._place(point), HIDDEN not in self.choices[point["id"]])
            if point["score"] is not None:
                scores[name] = _number(point["score"], "score")
        region = "" if entry is None else entry["id"]
        flags = self.choices[region]
        track = self.numbers.get((region, "track_id"))
        person_id = self.numbers.get((region, "person_id"))
        given = entry is not None and MADE not in flags
        return make_person(
            skeleton,
            joints=joints,
            scores=scores,
            box_xyxy=self.box(entry["value"]) if entry is not None and given else None,
            head_box_xyxy=self.box(heads[0]["value"]) if heads else None,
            track_id=order if track is None else parse_whole(track, "track_id"),
            person_id=None if person_id is None else parse_whole(person_id, "person_id"),
            score=None if entry is None or entry["score"] is None else _number(entry["score"], "score"),
            is_crowd=CROWD in flags,
        )


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and _file_name(value).lower().endswith(IMAGE_SUFFIXES)


def _skeleton(tasks: list[_Task]) -> Skeleton:
    """The joint set that the tasks name, else the one that fits the labels."""
    said = {task.data.get("joints") for task in tasks} - {None}
    names = [name for task in tasks for name in task.joint_names()]
    if len(said) == 1:
        known = SKELETONS.get(str(next(iter(said))))
        if known is not None and set(names) <= set(known.joints):
            return known
    return joint_set(names)


def _image_videos(
    tasks: list[_Task], skeleton: Skeleton, file: Path, root: Path, faults: Faults
) -> list[Video]:
    groups: dict[tuple[str, str], list[_Task]] = defaultdict(list)
    for task in tasks:
        video = task.data.get("video")
        key = ("video", video) if isinstance(video, str) else ("image", str(task.number))
        groups[key].append(task)
    names = [task.file_name for mine in groups.values() for task in mine]
    paths = dict(zip(names, ImageFinder(root, faults).paths(names, file), strict=True)) if names else {}
    videos = []
    for (kind, name), mine in groups.items():
        if all(isinstance(task.data.get("frame"), int) for task in mine):
            mine.sort(key=lambda task: task.data["frame"])
        frames = []
        for index, task in enumerate(mine):
            place = faults.at(file, task.number, note=task.file_name)
            frame = place.attempt(_frame, task, index, skeleton, paths[task.file_name])
            if frame is not None:
                frames.append(frame)
        title = name if kind == "video" else str(PurePosixPath(mine[0].file_name).with_suffix(""))
        videos.append(Video(title, frames, file))
    return videos


def _frame(task: _Task, index: int, skeleton: Skeleton, path: Path) -> Frame:
    people = list(task.people(skeleton))
    ids = [person.track_id for person in people if not person.is_crowd]
    if len(set(ids)) < len(ids):
        raise InputError("a track_id is used twice")
    labelled = task.data.get("is_labeled")
    image_id = task.data.get("image_id")
    return Frame(
        path=path,
        file_name=task.file_name,
        image_id=task.number if image_id is None else parse_whole(image_id, "image_id"),
        index=index,
        size=task.size,
        is_labeled=task.is_looked_at if labelled is None else bool(labelled),
        people=people,
        ignore_regions=task.regions,
    )


# --- video tasks -------------------------------------------------------------------------------------------


class _Tracks:
    """A video with tracks of boxes."""

    def __init__(self, task: dict[str, Any], results: list[dict[str, Any]]) -> None:
        data = task["data"]
        self.source = next((str(v) for k, v in data.items() if k == "video" or isinstance(v, str)), "video")
        self.size = tuple(parse_whole(data.get(key) or 0, key) for key in ("height", "width"))
        self.regions = [result for result in results if result.get("type") == "videorectangle"]

    def video(self, skeleton: Skeleton, file: Path, root: Path) -> Video:
        """Frames with boxes; an :class:`InputError` where nobody knows the picture's size."""
        name = _file_name(self.source)
        path = next((p for p in (root / name, file.parent / name) if p.is_file()), root / name)
        height, width = self.size if 0 not in self.size else _video_size(path, self.source)
        boxes: dict[int, list[Person]] = defaultdict(list)
        count = 0
        for track_id, region in enumerate(self.regions):
            value = _object(region.get("value"))
            total = parse_whole(value.get("framesCount") or value.get("frameCount") or 0, "framesCount")
            check_frame(total, "framesCount")
            shapes = _spread(value.get("sequence"), total)
            count = max(count, total, max(shapes, default=0))
            for number, (x, y, w, h) in shapes.items():
                box = np.array([x, y, x + w, y + h]) * np.array([width, height] * 2) / 100
                boxes[number].append(make_person(skeleton, box_xyxy=box.round(_DIGITS), track_id=track_id))
        stem = str(PurePosixPath(name).with_suffix(""))
        frames = [
            Frame(
                path,
                f"{stem}/{i:06d}.jpg",
                i,
                i,
                (height, width),
                i + 1 in boxes,
                boxes[i + 1],
                video_frame=i,
            )
            for i in range(count)
        ]
        return Video(stem, frames, file)


def _video_size(path: Path, source: str) -> tuple[int, int]:
    if not path.is_file():
        raise InputError(
            f"the video {source} is not here and data has no width and height, which percents need"
        )
    from vidpose.io.video import open_video

    with open_video(str(path)) as video:
        return video.height, video.width


def _spread(sequence: Any, count: int) -> dict[int, tuple[float, ...]]:
    """Frame from 1 -> x, y, width, height in percent: linear between keyframes; a keyframe that is not
    ``enabled`` ends a stretch; an enabled last one stays to the end."""
    if not isinstance(sequence, list) or not all(isinstance(key, dict) for key in sequence):
        raise InputError("sequence is not a list of keyframes")
    keys = [(check_frame(parse_whole(key.get("frame"), "frame"), "frame"), key) for key in sequence]
    keys.sort(key=lambda pair: pair[0])
    values = [tuple(_number(key.get(n), n) for n in ("x", "y", "width", "height")) for _, key in keys]
    out: dict[int, tuple[float, ...]] = {}
    shown = False
    for i, (frame, key) in enumerate(keys):
        enabled = bool(key.get("enabled", True))
        if enabled or shown:
            out[frame] = values[i]
        if enabled and i + 1 < len(keys):
            after, next_values = keys[i + 1][0], values[i + 1]
            for number in range(frame + 1, after):
                share = (number - frame) / (after - frame)
                pairs = zip(values[i], next_values, strict=True)
                out[number] = tuple(a + share * (b - a) for a, b in pairs)
        elif enabled:
            out |= dict.fromkeys(range(frame + 1, count + 1), values[i])
        shown = enabled
    return out
