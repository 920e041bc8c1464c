"""Data sets as they are trained on and scored: read by their layout, in its joints, what cannot be used left
out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts import LAYOUTS, find_layout
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes
from vidpose.skeletons import Skeleton


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
    folder = Path(root)
    found = find_layout(folder, layout)
    return usable(found.read(folder, split, Faults()), found.skeleton)


def list_splits(root: str | os.PathLike[str], layout: str = "auto") -> list[str]:
    """Names of the splits that a data set's folder holds annotations of."""
    return find_layout(Path(root), layout).list_splits(Path(root))


def usable(data: PoseDataset, skeleton: Skeleton) -> PoseDataset:
    """The data set as models see it.

    Image sizes that the files lack are taken from the video's first image on disk.
    """
    order = [data.skeleton.index.get(joint, -1) for joint in skeleton.joints]
    videos = []
    for video in data.videos:
        size = _missing_size(video)
        frames = []
        for frame in video.frames:
            sized = frame.size if 0 not in frame.size else size
            people = (_usable_person(person, order, sized) for person in frame.people)
            frames.append(replace(frame, size=sized, people=[p for p in people if p is not None]))
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
    height, width = read_image(first.path).shape[:2]
    return int(height), int(width)


def _usable_person(person: Person, order: list[int], size: tuple[int, int]) -> Person | None:
    box = clip_boxes(person.box_xyxy, size) if 0 not in size else person.box_xyxy
    if person.is_crowd or box_area(box) <= 0:
        return None
    blank = [i < 0 for i in order]
    keypoints, visible = person.keypoints[order], person.visible[order]
    scores = None if person.joint_scores is None else person.joint_scores[order]
    if any(blank):
        keypoints[blank], visible[blank] = 0, False
        if scores is not None:
            scores[blank] = 0
    return replace(person, keypoints=keypoints, visible=visible, joint_scores=scores, box_xyxy=box)


def read_image(path: Path) -> np.ndarray:
    """A uint8 RGB image [H, W, 3]; an :class:`InputError` names a file that is missing or broken."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: {'cannot be decoded as an image' if path.is_file() else 'no such image'}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


__all__ = ["LAYOUTS", "Frame", "Person", "PoseDataset", "Video", "list_splits", "read_dataset", "read_image"]
