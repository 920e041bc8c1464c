"""Data sets as they are trained on and scored: read by their layout, in its joints, what cannot be used left
out."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts import LAYOUTS, Layout, find_layout
from vidpose.data.layouts.disk import image_size
from vidpose.errors import InputError
from vidpose.geometry import box_area
from vidpose.skeletons import Skeleton

T = TypeVar("T")


def read_dataset(root: str | os.PathLike[str], split: str, layout: str = "auto") -> PoseDataset:
    """Reads one split of a data set for training or scoring.

    Args:
        root: the data set's folder; where in it the annotations lie is found by looking.
        split: ``train``, ``val``, …
        layout: ``auto``, or a name of :data:`vidpose.data.layouts.LAYOUTS`, which it must then have.

    Returns:
        Videos in the joints of the layout; boxes cut to the picture; crowds and people without a box left
        out.

    Raises:
        InputError: ``file: where: what`` for anything that cannot be trained on or scored.
    """
    with uncollected():
        data, found = read_whole(root, split, layout)
        return usable(data, found.skeleton)


def read_whole(root: str | os.PathLike[str], split: str, layout: str = "auto") -> tuple[PoseDataset, Layout]:
    """One split with everything that its files say, in their joints; and how it lies on disk."""
    found = find_layout(Path(root), layout)
    with uncollected():
        data = found.read(Path(root), split, Faults())
    return data, LAYOUTS[data.layout] if layout == "auto" else found


def parse_place(place: str) -> tuple[str, str]:
    """``DIR:SPLIT``, as command lines name a split of a data set.

    Raises:
        InputError: it is not that.
    """
    folder, _, split = place.rpartition(":")
    if not folder or not split:
        raise InputError(f"{place}: give DIR:SPLIT, such as data/frames:val")
    return folder, split


@contextmanager
def uncollected() -> Iterator[None]:
    """Reading makes millions of objects and no cycles: to look for cycles among them again and again takes
    as long as the rest."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _changed(entry: T, **values: Any) -> T:
    """A copy of a dataclass with other values, as ``dataclasses.replace``, in a tenth of its time."""
    out = object.__new__(type(entry))
    out.__dict__ = {**entry.__dict__, **values}
    return out


def list_splits(root: str | os.PathLike[str], layout: str = "auto") -> list[str]:
    """Names of the splits that a data set's folder holds annotations of."""
    return find_layout(Path(root), layout).list_splits(Path(root))


def usable(data: PoseDataset, skeleton: Skeleton) -> PoseDataset:
    """The data set as models see it.

    Image sizes that the files lack are taken from the video's first image on disk.
    """
    sizes = []
    for video in data.videos:
        size = _missing_size(video)
        sizes += [frame.size if 0 not in frame.size else size for frame in video.frames]
    people = iter(_usable_people(data, sizes, skeleton))
    known = iter(sizes)
    videos = []
    for video in data.videos:
        frames = []
        for frame in video.frames:
            kept = [person for person in (next(people) for _ in frame.people) if person is not None]
            frames.append(_changed(frame, size=next(known), people=kept))
        videos.append(replace(video, frames=frames))
    return replace(data, videos=videos, skeleton=skeleton)


def _missing_size(video: Video) -> tuple[int, int]:
    """(height, width) for frames that do not say theirs."""
    missing = [frame for frame in video.frames if 0 in frame.size]
    if not missing:
        return 0, 0
    known = next((frame.size for frame in video.frames if 0 not in frame.size), None)
    first = next((frame for frame in missing if frame.path.is_file()), None)
    if known is not None or first is None:
        return known or (0, 0)
    if first.video_frame is None:
        return image_size(first.path)
    from vidpose.data.frames import read_frame

    height, width = read_frame(first).shape[:2]
    return int(height), int(width)


def _usable_people(
    data: PoseDataset, sizes: list[tuple[int, int]], skeleton: Skeleton
) -> list[Person | None]:
    """The people of all frames, one after the other; ``None`` for one that cannot be used.

    Args:
        sizes: (height, width) of all frames.
    """
    people = [person for _, frame in data.frames() for person in frame.people]
    if not people:
        return []
    order = np.array([data.skeleton.index.get(joint, -1) for joint in skeleton.joints])
    boxes = np.stack([person.box_xyxy for person in people])
    sides = np.array([(w, h, w, h) for h, w in sizes], dtype=np.float64)
    sides = np.repeat(sides, [len(frame.people) for _, frame in data.frames()], axis=0)
    known = sides.all(axis=1, keepdims=True)  # elsewhere there is nothing to cut to
    boxes = np.clip(boxes, np.where(known, 0, -np.inf), np.where(known, sides, np.inf))
    used = (box_area(boxes) > 0) & ~np.array([person.is_crowd for person in people])
    keypoints = np.stack([person.keypoints for person in people])[:, order]
    visible = np.stack([person.visible for person in people])[:, order]
    keypoints[:, order < 0], visible[:, order < 0] = 0, False
    out: list[Person | None] = []
    for k, person in enumerate(people):
        scores = person.joint_scores
        if scores is not None:
            scores = np.where(order >= 0, scores[order], 0.0)
        own = _changed(
            person, keypoints=keypoints[k], visible=visible[k], joint_scores=scores, box_xyxy=boxes[k]
        )
        out.append(own if used[k] else None)
    return out


def read_image(path: Path) -> np.ndarray:
    """A uint8 RGB image [H, W, 3]; an :class:`InputError` names a file that is missing or broken."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: {'cannot be decoded as an image' if path.is_file() else 'no such image'}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


__all__ = ["LAYOUTS", "Frame", "Person", "PoseDataset", "Video", "list_splits", "read_dataset", "read_image"]
