"""A labelled data set in memory: videos, their frames, the people in them; what every reader makes and every
writer takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.skeletons import Skeleton


@dataclass
class Person:
    """One annotated person of one frame."""

    keypoints: np.ndarray
    """[J, 3] float64: x, y in pixels, 1 where labelled, else 0, 0, 0."""
    box_xyxy: np.ndarray
    """[4] float64 pixels."""
    head_box_xyxy: np.ndarray | None
    track_id: int
    """The person within the video."""
    visible: np.ndarray
    """[J] bool: labelled and not occluded."""
    box_is_given: bool = True
    """False: the file has no box, this one is made from the joints (or is all zero where there are none)."""
    is_crowd: bool = False
    """The annotation stands for a group; it is neither trained on nor scored."""
    person_id: int | None = None
    """The person across videos (PoseTrack21)."""
    score: float | None = None
    """Confidence of the person, in files that have one."""
    joint_scores: np.ndarray | None = None
    """[J] confidences of the joints, in files that have them."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of the file that only layouts of the same family know."""


@dataclass
class Frame:
    """One frame of a video; unlabelled frames serve as neighbours of labelled ones."""

    path: Path
    """The image; for a frame of a video file, that file."""
    file_name: str
    """As the annotations call it."""
    image_id: int
    index: int
    """Position in the video, from 0, in order of time."""
    size: tuple[int, int]
    """(height, width) in pixels; (0, 0) where neither the file nor the image tells."""
    is_labeled: bool
    people: list[Person] = field(default_factory=list)
    ignore_regions: list[np.ndarray] = field(default_factory=list)
    """Polygons [N, 2] in pixels."""
    video_frame: int | None = None
    """Position in the video file ``path``, in decoding order; ``None``: ``path`` is an image."""
    extra: dict[str, Any] = field(default_factory=dict)
    """As of :class:`Person`."""


@dataclass
class Video:
    """A video: its frames in order of time. A set of single images is many videos of one frame."""

    name: str
    frames: list[Frame]
    source: Path
    """The annotation file."""
    fps: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """As of :class:`Person`."""


@dataclass
class PoseDataset:
    """One split of a data set."""

    videos: list[Video]
    skeleton: Skeleton
    root: Path
    split: str
    layout: str = "posetrack18"
    """Name of the layout that it was read from."""

    def frames(self) -> Iterator[tuple[Video, Frame]]:
        """Every frame of every video."""
        for video in self.videos:
            for frame in video.frames:
                yield video, frame
