"""What the readers of PoseTrack files fill: the frames and people of one file as flat arrays, checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK17

JOINTS = POSETRACK17.joints
NUM_JOINTS = len(JOINTS)
MISSING_SCORE = -9999.0
"""What the official evaluation gives a predicted joint that has no score."""
NO_TRACK = -1


def _ints() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass
class Sequence:
    """The frames and people of one file. F frames, N people, 15 joints in PoseTrack17's order or others."""

    source: str
    """File name (or what stands for it) for messages."""
    joints: tuple[str, ...] = JOINTS
    """Names of the J joints; all shapes below that say 15 have J."""
    names: list[str | None] = field(default_factory=list)
    """[F] image file names as written."""
    image_ids: list[int | str | None] = field(default_factory=list)
    """[F] PoseTrack18 and 21 only."""
    numbers: list[int | None] = field(default_factory=list)
    """[F] the frame's number where its name is one: ``000012.jpg`` -> 12."""
    videos: list[str] = field(default_factory=list)
    """[F] the video a frame belongs to; a PoseTrack17 file is one video."""
    labelled: list[bool | None] = field(default_factory=list)
    """[F] ``is_labeled``; None where the file does not say."""
    people: np.ndarray = field(default_factory=_ints)
    """[F] people listed, those without a list of joints included."""
    regions: dict[int, list[np.ndarray]] = field(default_factory=dict)
    """frame -> polygons [n, 2] inside which joints do not count."""
    frame: np.ndarray = field(default_factory=_ints)
    """[N] the person's frame, ascending."""
    person: np.ndarray = field(default_factory=_ints)
    """[N] for messages: position in the frame (PoseTrack17) or among the annotations (PoseTrack18)."""
    xy: np.ndarray = field(default_factory=lambda: np.zeros((0, NUM_JOINTS, 2)))
    """[N, 15, 2] pixels."""
    present: np.ndarray = field(default_factory=lambda: np.zeros((0, NUM_JOINTS), dtype=bool))
    """[N, 15] annotated (or predicted) joints."""
    scores: np.ndarray = field(default_factory=lambda: np.zeros((0, NUM_JOINTS)))
    """[N, 15], ``MISSING_SCORE`` where the file has none."""
    head_size: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """[N] 0.6 of the head box's diagonal in pixels; NaN without a head box."""
    track: np.ndarray = field(default_factory=_ints)
    """[N] the track id, numbered densely within the file; ``NO_TRACK`` without one."""
    details: dict[str, np.ndarray] = field(default_factory=dict)
    """What only some protocols need, read where asked for. [N, ...] each: ``box`` x, y, width, height (NaN
    without), ``flag`` [J] the visibility as written, ``area`` (NaN without), ``crowd`` bool, ``score`` of the
    person (NaN without)."""
    notes: list[str] = field(default_factory=list)

    def frame_label(self, frame: int) -> str:
        """A frame's name, or its position where it has none."""
        return self.names[frame] or str(frame)

    def place(self, row: int) -> str:
        """Where person ``row`` stands in the file, for messages."""
        return (
            f"{self.source}: frame {self.frame_label(int(self.frame[row]))}: person {int(self.person[row])}"
        )

    def in_frame_order(self) -> Sequence:
        """Sorts the people by frame; people of one frame keep their order."""
        order = np.argsort(self.frame, kind="stable")
        for name in ("frame", "person", "xy", "present", "scores", "head_size", "track"):
            setattr(self, name, getattr(self, name)[order])
        self.details = {name: values[order] for name, values in self.details.items()}
        return self

    def check_tracks(self) -> None:
        """Refuses two people of one frame with the same track id."""
        rows = np.flatnonzero(self.track != NO_TRACK)
        keys = self.frame[rows] * (int(self.track.max(initial=0)) + 1) + self.track[rows]
        order = np.argsort(keys, kind="stable")
        double = np.flatnonzero(np.diff(keys[order]) == 0)
        if len(double):
            row = int(rows[order[double[0] + 1]])
            raise InputError(
                f"{self.place(row)}: another person of this frame has the same track_id, ids must differ"
            )


class Tracks:
    """The track ids of one file, numbered densely in order of appearance."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def number(self, value: Any, place: str) -> int:
        """The dense number of an id; ``NO_TRACK`` for none; InputError for anything but a whole number."""
        if type(value) is not int:
            if value is None or value == []:
                return NO_TRACK
            if not isinstance(value, float) or not value.is_integer():
                raise InputError(f"{place}: track_id is {shown(value)}, a whole number is needed")
            value = int(value)
        return self._numbers.setdefault(value, len(self._numbers))


def numbers(values: list[Any], describe: Callable[[int], str]) -> np.ndarray:
    """A flat list as float64 [n]; its first entry that is not a finite number is an InputError.

    ``describe(i)`` says where entry ``i`` stands; it is called for a wrong entry only.
    """
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        array = np.zeros(0, dtype=object)
    if array.ndim == 1 and array.dtype.kind in "iuf" and array.size == len(values):
        array = array.astype(np.float64, copy=False)
        if np.isfinite(array).all():
            return array
    for i, value in enumerate(values):
        if not is_finite(value):
            raise InputError(f"{describe(i)} is {shown(value)}, a finite number is needed")
    return np.array([float(value) for value in values], dtype=np.float64)


def is_finite(value: Any) -> bool:
    """Whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """A JSON value in few characters, for messages."""
    if isinstance(value, dict | list):
        return f"{kind_of(value)} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "a number of too many digits"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def kind_of(value: Any) -> str:
    """What JSON calls the type of a value."""
    kinds: dict[type, str] = {
        dict: "object",
        list: "list",
        str: "string",
        bool: "boolean",
        type(None): "null",
    }
    return kinds.get(type(value), "number")


def as_list(value: Any, place: str) -> list[Any]:
    """``value`` where it is a list, [] for null, else InputError."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{place} is of type {kind_of(value)}, a list is needed")
    return value


def as_object(value: Any, place: str) -> dict[str, Any]:
    """``value`` where it is an object, else InputError."""
    if not isinstance(value, dict):
        raise InputError(f"{place} is of type {kind_of(value)}, an object is needed")
    return value


def frame_number(name: str | None) -> int | None:
    """``images/a/000012.jpg`` -> 12; None for a name that is not a number."""
    if name is None:
        return None
    stem = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = stem.rpartition(".")[0] or stem
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 18 else None


def head_size(x1: float, y1: float, x2: float, y2: float) -> float:
    """The unit of distance: 0.6 of the head box's diagonal, in pixels."""
    return 0.6 * math.hypot(x2 - x1, y2 - y1)
