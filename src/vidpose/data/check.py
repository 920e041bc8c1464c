"""What is wrong with a data set, all at once, and what it holds; as text or plain values."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import PoseDataset, Video
from vidpose.data.faults import Faults, with_lines
from vidpose.data.layouts import find_layout
from vidpose.data.readers import list_splits, read_dataset, read_image, usable
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes

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
    """One line each: file with line, place, what."""
    layout: str = ""

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


def check_dataset(root: str | os.PathLike[str], layout: str = "auto") -> CheckReport:
    """Every fault of a data set, not only the first.

    Found are files that cannot be read or are not annotations; ids that are used twice, a track id twice in
    one frame among them; annotations of no image; keypoints and boxes of a wrong length, with NaN, or outside
    the picture; people on frames that count as unlabelled; images that are missing, empty, or of another
    size.

    Args:
        layout: ``auto``, or a name of :data:`vidpose.data.layouts.LAYOUTS`.

    Raises:
        InputError: the folder holds no annotations at all.
    """
    folder = Path(root)
    found = find_layout(folder, layout)
    report = CheckReport(str(folder), {}, layout=found.title)
    for split in found.list_splits(folder):
        faults = Faults(strict=False)
        data = found.read(folder, split, faults)
        _box_remarks(data, faults)
        report.problems += [str(fault) for fault in with_lines(faults.found)]
        videos = usable(data, found.skeleton).videos
        counts = _count(videos)
        for video in videos:
            counts.images_missing += sum(not frame.path.is_file() for frame in video.frames)
            report.problems += _image_faults(video)
        names = Counter(video.name for video in videos)
        report.problems += [f"{split}: {n} videos are called {name}" for name, n in names.items() if n > 1]
        if videos and not counts.people:
            report.problems.append(f"{split}: no person is annotated")
        report.splits[split] = counts
    return report


def describe_dataset(root: str | os.PathLike[str], layout: str = "auto") -> DatasetDescription:
    """Counts of a data set; an :class:`InputError` at the first fault."""
    folder = Path(root)
    description = DatasetDescription(str(folder), {}, {}, {}, {})
    for split in list_splits(folder, layout):
        data = read_dataset(folder, split, layout)
        people = [person for _, frame in data.frames() for person in frame.people]
        joints = np.zeros(data.skeleton.num_joints, dtype=np.int64)
        for person in people:
            joints += person.keypoints[:, 2] > 0
        sizes = Counter(f"{v.frames[0].size[0]}x{v.frames[0].size[1]}" for v in data.videos)
        heights = [float(p.box_xyxy[3] - p.box_xyxy[1]) for p in people]
        description.splits[split] = _count(data.videos)
        description.image_sizes[split] = dict(sizes.most_common())
        description.joints[split] = dict(zip(data.skeleton.joints, joints.tolist(), strict=True))
        percentiles = np.percentile(heights, [5, 25, 50, 75, 95]).tolist() if heights else []
        description.box_heights[split] = percentiles
    return description


def _box_remarks(data: PoseDataset, faults: Faults) -> None:
    """Boxes that leave their person out of training and scoring."""
    for video, frame in data.frames():
        for person in frame.people:
            place = faults.at(video.source, note=f"image {frame.file_name}, track_id {person.track_id}")
            height, width = frame.size
            if person.is_crowd or not person.box_is_given:
                continue
            if box_area(person.box_xyxy) <= 0:
                place.remark("bbox is empty: the person is not used")
            elif height and width and box_area(clip_boxes(person.box_xyxy, frame.size)) <= 0:
                place.remark(f"bbox lies outside the {width}x{height} picture: the person is not used")


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
