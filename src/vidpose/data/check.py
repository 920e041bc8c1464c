"""What is wrong with a data set, all at once, and what it holds; as text or plain values."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.readers import Video, list_splits, parse_box, parse_keypoints, read_file
from vidpose.errors import InputError
from vidpose.io.files import read_json
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
        lines.append(f"{self.root}: {'nothing wrong' if not count else f'{count} problems'}")
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
    """Every fault of a PoseTrack18/21 data set, not only the first: broken files, keypoints of a wrong
    length, NaN, ids used twice, images that are missing.

    Raises:
        InputError: the folder holds no annotations at all.
    """
    folder = Path(root)
    report = CheckReport(str(folder), {})
    for split in _splits(folder):
        videos: list[Video] = []
        for file in _files(folder, split):
            faults = _annotation_faults(file)
            report.problems += faults
            if not faults:
                try:
                    videos += read_file(file, folder)
                except InputError as error:
                    report.problems.append(str(error))
        counts = _count(videos)
        for video in videos:
            missing = [frame for frame in video.frames if not frame.path.is_file()]
            counts.images_missing += len(missing)
            if missing:
                some = f"{len(missing)} of {len(video.frames)} images are missing, first {missing[0].path}"
                report.problems.append(f"{video.source}: {some}")
        names = Counter(video.name for video in videos)
        report.problems += [f"{split}: {n} videos are called {name}" for name, n in names.items() if n > 1]
        if not any(frame.people for video in videos for frame in video.frames):
            report.problems.append(f"{split}: no person is annotated")
        report.splits[split] = counts
    return report


def describe_dataset(root: str | os.PathLike[str]) -> DatasetDescription:
    """Counts of a PoseTrack18/21 data set; an :class:`InputError` at the first fault."""
    folder = Path(root)
    description = DatasetDescription(str(folder), {}, {}, {}, {})
    for split in _splits(folder):
        videos = [video for file in _files(folder, split) for video in read_file(file, folder)]
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
        raise InputError(f"{folder}: no annotations found; PoseTrack18 has annotations/SPLIT/*.json")
    return splits


def _files(folder: Path, split: str) -> list[Path]:
    from vidpose.data.readers import find_annotations

    return find_annotations(folder, split)


def _annotation_faults(file: Path) -> list[str]:
    """Faults of single annotations, each on its own line."""
    try:
        content = read_json(file)
    except InputError as error:
        return [str(error)]
    annotations = content.get("annotations") if isinstance(content, dict) else None
    faults = []
    for k, annotation in enumerate(annotations if isinstance(annotations, list) else []):
        if not isinstance(annotation, dict):
            continue
        where = f"{file}: annotations[{k}]"
        for check in (
            lambda a, w: parse_keypoints(a.get("keypoints", []), w, None),
            lambda a, w: parse_box(a.get("bbox"), w, "bbox"),
            lambda a, w: parse_box(a.get("bbox_head"), w, "bbox_head"),
        ):
            try:
                check(annotation, where)
            except InputError as error:
                faults.append(str(error))
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
