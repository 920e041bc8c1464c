"""What is wrong with a data set, all at once, as text or plain values."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.describe import SplitCounts, count_content, counts_line
from vidpose.data.faults import Faults, with_lines
from vidpose.data.layouts import LAYOUTS, find_layout
from vidpose.data.layouts.disk import image_size
from vidpose.data.readers import uncollected, usable
from vidpose.errors import InputError
from vidpose.geometry import box_area

_SHOWN = 50


@dataclass
class CheckReport:
    """What :func:`check_dataset` found."""

    root: str
    splits: dict[str, SplitCounts]
    problems: list[str] = field(default_factory=list)
    """One line each: file with line, place, what."""
    layout: str = ""
    assumed: list[str] = field(default_factory=list)
    """What the reader took for granted, such as where the images are; one line each, nothing wrong."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.layout}"]
        lines += [counts_line(name, counts) for name, counts in self.splits.items()]
        lines += [f"note: {line}" for line in self.assumed]
        lines += self.problems[:_SHOWN]
        if len(self.problems) > _SHOWN:
            lines.append(f"… and {len(self.problems) - _SHOWN} more")
        count = len(self.problems)
        found = "nothing wrong" if not count else f"{count} problem{'s' if count > 1 else ''}"
        lines.append(f"{self.root}: {found}")
        return "\n".join(lines)


def check_dataset(root: str | os.PathLike[str], layout: str = "auto") -> CheckReport:
    """Every fault of a data set, not only the first.

    Found are files that cannot be read or are not annotations; ids that are used twice, a track id twice in
    one frame among them; annotations of no image; keypoints and boxes of a wrong length, with NaN, or outside
    the picture; keys that one annotation lacks and most others have; people on frames that count as
    unlabelled; images that are missing, empty, or of another size.

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
        with uncollected():
            data = found.read(folder, split, faults)
            _person_remarks(data, faults)
            videos = usable(data, found.skeleton).videos
        if layout == "auto":
            report.layout = LAYOUTS[data.layout].title
        report.assumed += [line for line in faults.assumed if line not in report.assumed]
        report.problems += [str(fault) for fault in with_lines(faults.found)]
        counts = count_content(videos)
        counts.images_missing = sum(not frame.path.is_file() for video in videos for frame in video.frames)
        report.problems += _image_faults(videos)
        names = Counter(video.name for video in videos if len(video.frames) > 1)
        report.problems += [f"{split}: {n} videos are called {name}" for name, n in names.items() if n > 1]
        if videos and not counts.people:
            report.problems.append(f"{split}: no person is annotated")
        report.splits[split] = counts
    return report


def _person_remarks(data: PoseDataset, faults: Faults) -> None:
    """Boxes that leave their person out of training and scoring, joints that cannot be where they are."""
    everyone = [(video, frame, person) for video, frame in data.frames() for person in frame.people]
    if not everyone:
        return
    sizes = np.array([frame.size for _, frame, _ in everyone], dtype=np.float64)
    boxes = np.stack([person.box_xyxy for _, _, person in everyone])
    given = np.array([person.box_is_given and not person.is_crowd for _, _, person in everyone])
    known: np.ndarray = np.all(sizes, axis=1)
    limits = np.tile(sizes[:, ::-1], 2)
    empty: np.ndarray = given & (box_area(boxes) <= 0)
    outside: np.ndarray = given & known & ~empty & (box_area(boxes.clip(0, limits)) <= 0)
    points = np.stack([person.keypoints for _, _, person in everyone])
    # A joint may well be outside the picture, but not by more than the picture's own size.
    low, high = -sizes[:, None, ::-1], 2 * sizes[:, None, ::-1]
    away: np.ndarray = ((points[..., :2] < low) | (points[..., :2] > high)).any(axis=-1) & (
        points[..., 2] > 0
    )
    away &= known[:, None]
    for k in np.flatnonzero(empty | outside | away.any(axis=1)):
        video, frame, person = everyone[k]
        height, width = frame.size
        note = f"image {frame.file_name}, track_id {person.track_id}"
        if "id" in person.extra:
            note += f", id {person.extra['id']}"
        place = faults.at(video.source, note=note)
        if empty[k]:
            place.remark("bbox is empty: the person is not used")
        if outside[k]:
            place.remark(f"bbox lies outside the {width}x{height} picture: the person is not used")
        for j in np.flatnonzero(away[k]):
            x, y = points[k, j, :2]
            place.remark(
                f"{data.skeleton.joints[j]} at {x:g}, {y:g} is far outside the {width}x{height} picture"
            )


def _image_faults(videos: list[Video]) -> list[str]:
    """Missing and empty images, told once for a video, or once for an annotation file of single images; the
    first image of each is decoded, and the size of each that the files tell is compared."""
    groups: dict[Any, list[Frame]] = {}
    for video in videos:
        key = (video.source, video.name if len(video.frames) > 1 else "")
        groups.setdefault(key, []).extend(video.frames)
    faults = []
    for (source, _), frames in groups.items():
        sizes = {frame.path: _file_size(frame.path) for frame in frames}
        for what, wanted in (("missing", None), ("empty", 0)):
            paths = [path for path, size in sizes.items() if size == wanted]
            if paths:
                some = f"{len(paths)} of {len(sizes)} images are {what}, first {paths[0]}"
                faults.append(f"{source}: {some}")
        there = [frame for frame in frames if sizes[frame.path]]
        if there:
            faults += _size_faults(source, there)
    return faults


def _file_size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _size_faults(source: Path, frames: list[Frame]) -> list[str]:
    """The first image decoded; of images that each may have a size of their own, all compared."""
    from vidpose.data.frames import read_frame

    try:
        first = read_frame(frames[0]).shape[:2]
    except InputError as error:
        return [str(error)]
    faults = []
    single = frames[0].index == frames[-1].index == 0
    for frame in frames if single else frames[:1]:
        size = first if frame is frames[0] else image_size(frame.path)
        if 0 in size:
            faults.append(f"{frame.path}: cannot be decoded as an image")
        elif 0 not in frame.size and frame.size != size:
            told = f"{frame.size[1]}x{frame.size[0]}"
            faults.append(f"{frame.path}: is {size[1]}x{size[0]}, {source.name} says {told}")
    return faults
