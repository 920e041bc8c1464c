"""What everything downstream of a model speaks: the poses of one frame, and of one video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK15, Skeleton

if TYPE_CHECKING:
    import supervision


def _empty(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


@dataclass
class FramePoses:
    """The people of one frame. Arrays share their first axis P (people); P may be 0.

    Pixel coordinates put (0, 0) at the *centre* of the top-left pixel of the frame as it is displayed
    (rotation metadata applied).
    """

    index: int
    """Position of the frame in its source, from 0, in decoding order."""
    time: float
    """Presentation time in seconds from the start of the source."""
    keypoints: np.ndarray = field(default_factory=lambda: _empty(0, POSETRACK15.num_joints, 2))
    """[P, J, 2] pixels, float32."""
    scores: np.ndarray = field(default_factory=lambda: _empty(0, POSETRACK15.num_joints))
    """[P, J] in 0..1: heatmap peak times box score."""
    boxes: np.ndarray = field(default_factory=lambda: _empty(0, 4))
    """[P, 4] person boxes as x1, y1, x2, y2 in pixels."""
    box_scores: np.ndarray = field(default_factory=lambda: _empty(0))
    """[P] in 0..1."""
    track_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """[P] identities that stay with a person through the video, from 0."""
    file_name: str | None = None
    """Name of the image file, for sources that are image files."""

    def __post_init__(self) -> None:
        self.keypoints = np.asarray(self.keypoints, dtype=np.float32)
        self.scores = np.asarray(self.scores, dtype=np.float32)
        self.boxes = np.asarray(self.boxes, dtype=np.float32).reshape(-1, 4)
        self.box_scores = np.asarray(self.box_scores, dtype=np.float32)
        self.track_ids = np.asarray(self.track_ids, dtype=np.int64)
        people = len(self.keypoints)
        for name in ("scores", "boxes", "box_scores", "track_ids"):
            if len(getattr(self, name)) != people:
                raise ValueError(f"{name} has {len(getattr(self, name))} people, keypoints has {people}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def choose(self, people: np.ndarray) -> FramePoses:
        """The frame with these of its people alone: positions, or [P] bool."""
        arrays = ("keypoints", "scores", "boxes", "box_scores", "track_ids")
        return replace(self, **{name: getattr(self, name)[people] for name in arrays})


@dataclass
class VideoPoses:
    """The poses of a whole video, with what is needed to write and draw them."""

    frames: Sequence[FramePoses]
    skeleton: Skeleton = POSETRACK15
    source: str = ""
    """The video as its user called it."""
    width: int = 0
    """Pixels, as displayed."""
    height: int = 0
    fps: float | None = None
    """Average frames per second; ``None`` where the source has no clock."""
    info: dict[str, Any] = field(default_factory=dict)
    """How the result was made: model, weights, detector, decoder, flip test, skipped frames, …"""

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[FramePoses]:
        return iter(self.frames)

    def save(self, path: str | os.PathLike[str], format: str = "posetrack18") -> None:
        """Writes the result as ``posetrack17|posetrack18|coco|csv|parquet``; whole or not at all."""
        from vidpose.io.formats import save_poses

        save_poses(self, path, format)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> VideoPoses:
        """Reads a file that :meth:`save` wrote as PoseTrack18 (or any PoseTrack18/21 file of one video)."""
        from vidpose.io.formats import load_poses

        return load_poses(path)

    def to_supervision(self, frame: int) -> supervision.KeyPoints:
        """The people of ``frame`` (position in this result) as supervision's ``KeyPoints``.

        Raises:
            InputError: there is no such frame.
        """
        from vidpose.io.formats import to_supervision

        if not -len(self.frames) <= frame < len(self.frames):
            raise InputError(f"there is no frame {frame}: the result has {len(self.frames)}")
        return to_supervision(self.frames[frame])
