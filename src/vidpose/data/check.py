"""What is wrong with a data set, all at once, and what it holds; as text or plain values."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.readers import (
    Video,
    find_annotations,
    image_size,
    list_splits,
    parse_box,
    parse_keypoints,
    read_document,
    read_file,
    read_image,
)
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes
from vidpose.skeletons import POSETRACK15

_SHOWN = 50


@dataclass
class SplitCounts:
    """The content of one split."""

    videos: int = 0
    frames: int = 0
    labeled_frames: int = 0
    people: int = 0
    tracks: int = 0
    labeled_joints: int = 0
    images_missing: int = 0


@dataclass
class CheckReport:
    """What :func:`check_dataset` found."""

    root: str
    splits: dict[str, SplitCounts]
    problems: list[str] = field(default_factory=list)
    """One line each: file, place, what."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [_line(name, counts) for name, counts in self.splits.items()]
        lines += self.problems[:_SHOWN]
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN} more")
        count = len(self.problems)
        found = "nothing wrong" if not count else f"{count} problem{'s' if count > 1 else ''}"
        lines.append(f"{self.root}: {found}")
        return "\n".join(lines)


@dataclass
class DatasetDescription:
    """What :func:`describe_dataset` counted."""

    root: str
    splits: dict[str, SplitCounts]
    image_sizes: dict[str, dict[str, int]]
    """split -> "HxW" -> videos."""
    joints: dict[str, dict[str, int]]
    """split -> joint -> how often labelled."""
    box_heights: dict[str, list[float]]
    """split -> 5th, 25th, 50th, 75th, 95th percentile in pixels."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [self.root]
        for name, counts in self.splits.items():
            lines.append(_line(name, counts))
            sizes = ", ".join(f"{size} ({count} videos)" for size, count in self.image_sizes[name].items())
            lines.append(f"  image sizes: {sizes}")
            if self.box_heights[name]:
                heights = ", ".join(f"{height:.0f}" for height in self.box_heights[name])
                lines.append(f"  box heights (5, 25, 50, 75, 95 %): {heights} px")
            people = max(counts.people, 1)
            shares = (f"{joint} {100 * n / people:.0f}" for joint, n in self.joints[name].items())
            lines.append(f"  labelled joints, % of people: {', '.join(shares)}")
        return "\n".join(lines)


def _line(name: str, counts: SplitCounts) -> str:
    return (
        f"{name}: {counts.videos} videos, {counts.frames} frames ({counts.labeled_frames} labelled), "
        f"{counts.people} people in {counts.tracks} tracks, {counts.labeled_joints} joints"
    )


def check_dataset(root: str | os.PathLike[str]) -> CheckReport:
    """Every fault of a PoseTrack data set, not only the first.

    Found are files that are not JSON or not annotations; ids that are used twice, a track id twice in one
    frame among them; annotations of no image; keypoints and boxes of a wrong length, with NaN, or outside the
    picture; people on frames that count as unlabelled; images that are missing, empty, or of another size.

    Raises:
        InputError: the folder holds no annotations at all.
    """
    folder = Path(root)
    report = CheckReport(str(folder), {})
    for split in _splits(folder):
        videos: list[Video] = []
        for file in find_annotations(folder, split):
            faults = _faults(file)
            try:
                read = read_file(file, folder)
            except InputError as error:
                report.problems += faults or [str(error)]
            else:
                report.problems += faults
                videos += read
        counts = _count(videos)
        for video in videos:
            missing = [frame for frame in video.frames if not frame.path.is_file()]
            counts.images_missing += len(missing)
            report.problems += _image_faults(video)
        names = Counter(video.name for video in videos)
        report.problems += [f"{split}: {n} videos are called {name}" for name, n in names.items() if n > 1]
        if videos and not counts.people:
            report.problems.append(f"{split}: no person is annotated")
        report.splits[split] = counts
    return report


def describe_dataset(root: str | os.PathLike[str]) -> DatasetDescription:
    """Counts of a PoseTrack data set; an :class:`InputError` at the first fault."""
    folder = Path(root)
    description = DatasetDescription(str(folder), {}, {}, {}, {})
    for split in _splits(folder):
        videos = [video for file in find_annotations(folder, split) for video in read_file(file, folder)]
        people = [p for video in videos for frame in video.frames for p in frame.people]
        joints = np.zeros(POSETRACK15.num_joints, dtype=np.int64)
        for person in people:
            joints += person.keypoints[:, 2] > 0
        sizes = Counter(f"{v.frames[0].size[0]}x{v.frames[0].size[1]}" for v in videos)
        heights = [float(p.box_xyxy[3] - p.box_xyxy[1]) for p in people]
        description.splits[split] = _count(videos)
        description.image_sizes[split] = dict(sizes.most_common())
        description.joints[split] = dict(zip(POSETRACK15.joints, joints.tolist(), strict=True))
        percentiles = np.percentile(heights, [5, 25, 50, 75, 95]).tolist() if heights else []
        description.box_heights[split] = percentiles
    return description


def _splits(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    splits = list_splits(folder)
    if not splits:
        raise InputError(f"{folder}: no annotations found; PoseTrack has annotations/SPLIT/*.json")
    return splits


def _faults(file: Path) -> list[str]:
    """Faults of single images and annotations, each on its own line; those of the whole file are left to
    the reader."""
    try:
        content = read_document(file)
    except InputError as error:
        return [str(error)]
    if not isinstance(content, dict):
        return []
    faults: list[str] = []
    images: dict[Any, dict[str, Any]] = {}
    for k, image in enumerate(_objects(content, "images")):
        where = f"{file}: images[{k}]"
        if not isinstance(image, dict):
            faults.append(f"{where}: is not an object")
        elif not isinstance(image.get("id"), int) or not isinstance(image.get("file_name"), str):
            faults.append(f"{where}: id is not a number or file_name not text")
        elif image["id"] in images:
            faults.append(f"{where}: id {image['id']} is used twice")
        else:
            images[image["id"]] = image
    ids: set[Any] = set()
    tracks: set[tuple[Any, Any]] = set()
    hidden: Counter[str] = Counter()
    for k, annotation in enumerate(_objects(content, "annotations")):
        where = f"{file}: annotations[{k}]"
        if not isinstance(annotation, dict):
            faults.append(f"{where}: is not an object")
            continue
        for key in ("image_id", "id", "track_id"):
            if isinstance(annotation.get(key), (list, dict)):
                faults.append(f"{where}: {key} is not a number")
                break
        else:
            faults += _annotation_faults(annotation, where, images, ids, tracks, hidden)
    faults += [
        f"{file}: image {name}: {count} people are annotated although is_labeled is false: they are not used"
        for name, count in hidden.items()
    ]
    return faults


def _objects(content: dict[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    return value if isinstance(value, list) else []


def _annotation_faults(
    annotation: dict[str, Any],
    where: str,
    images: dict[Any, dict[str, Any]],
    ids: set[Any],
    tracks: set[tuple[Any, Any]],
    hidden: Counter[str],
) -> list[str]:
    """``ids``, ``tracks`` and ``hidden`` gather what the annotations of one file have used."""
    faults = []
    number, image = annotation.get("id"), images.get(annotation.get("image_id"))
    if image is None:
        faults.append(f"{where}: image_id {annotation.get('image_id')!r} is not among the images")
    else:
        where = f"{where} ({Path(image['file_name']).name})"
        if image.get("is_labeled") is False:
            hidden[image["file_name"]] += 1
    if number is not None and number in ids:
        faults.append(f"{where}: id {number} is used twice")
    ids.add(number)
    track = (annotation.get("image_id"), annotation.get("track_id"))
    if track[1] is not None and not annotation.get("iscrowd"):
        if track in tracks:
            faults.append(f"{where}: track_id {track[1]} is used twice in one frame")
        tracks.add(track)
    box = None
    try:
        parse_keypoints(annotation.get("keypoints", []), where, None)
    except InputError as error:
        faults.append(str(error))
    for key in ("bbox_head", "bbox"):
        try:
            box = parse_box(annotation.get(key), where, key)
        except InputError as error:
            box = None
            faults.append(str(error))
    if box is not None and box_area(box) <= 0:
        faults.append(f"{where}: bbox is empty: the person is not used")
    elif box is not None and image is not None:
        height, width = image_size(image)
        if height and width and box_area(clip_boxes(box, (height, width))) <= 0:
            faults.append(f"{where}: bbox lies outside the {width}x{height} picture: the person is not used")
    return faults


def _image_faults(video: Video) -> list[str]:
    """Missing and empty images; the first one is decoded and its size compared."""
    there = [frame for frame in video.frames if frame.path.is_file()]
    missing = [frame.path for frame in video.frames if not frame.path.is_file()]
    empty = [frame.path for frame in there if frame.path.stat().st_size == 0]
    faults = [
        f"{video.source}: {len(paths)} of {len(video.frames)} images are {what}, first {paths[0]}"
        for paths, what in ((missing, "missing"), (empty, "empty"))
        if paths
    ]
    if there and there[0].path not in empty:
        try:
            height, width = read_image(there[0].path).shape[:2]
        except InputError as error:
            return [*faults, str(error)]
        if 0 not in there[0].size and there[0].size != (height, width):
            told = f"{there[0].size[1]}x{there[0].size[0]}"
            faults.append(f"{there[0].path}: is {width}x{height}, {video.source.name} says {told}")
    return faults


def _count(videos: list[Video]) -> SplitCounts:
    counts = SplitCounts(videos=len(videos))
    for video in videos:
        people = [person for frame in video.frames for person in frame.people]
        counts.frames += len(video.frames)
        counts.labeled_frames += sum(frame.is_labeled for frame in video.frames)
        counts.people += len(people)
        counts.tracks += len({person.track_id for person in people})
        counts.labeled_joints += int(sum((person.keypoints[:, 2] > 0).sum() for person in people))
    return counts
