"""What the label formats share: numbers that survive the way through a file, joint sets by name, people."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from vidpose.data.dataset import Person, Video
from vidpose.errors import InputError
from vidpose.geometry import enclosing_box, xywh_to_xyxy
from vidpose.skeletons import POSETRACK15, SKELETONS, Skeleton

TRACK_NAME = "track_name"
"""Key of a person's ``extra``: what DeepLabCut and SLEAP call the track, where that is more than a number."""
BOX_MARGIN = 0.15
"""A box that is made from joints grows by this share of its sides on each side, as PoseTrack17's."""


# --- numbers -----------------------------------------------------------------------------------------------


def plain(value: Any) -> int | float:
    """A number as a person would write it: 3 for 3.0, else the shortest decimal of the same float64."""
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def text(value: Any) -> str:
    """:func:`plain` as text."""
    return repr(plain(value))


def side(start: float, end: float) -> float:
    """The shortest decimal ``s`` with ``start + s == end`` in float64; where no number does that, as may be
    between a negative start and a positive end, one that misses by the last digit."""
    difference = end - start
    for digits in range(13):
        rounded = round(difference, digits)
        if start + rounded == end:
            return rounded
    near = (difference, math.nextafter(difference, math.inf), math.nextafter(difference, -math.inf))
    return next((value for value in near if start + value == end), difference)


def xywh(box_xyxy: np.ndarray, given: Any = None) -> list[int | float]:
    """x, y, width, height that read back as the same corners.

    Args:
        given: the numbers as a file had them; taken if they mean the same box.
    """
    if (
        isinstance(given, list)
        and len(given) == 4
        and np.array_equal(xywh_to_xyxy(np.array(given)), box_xyxy)
    ):
        return list(given)
    x1, y1, x2, y2 = map(float, box_xyxy)
    return [plain(value) for value in (x1, y1, side(x1, x2), side(y1, y2))]


# --- joint sets --------------------------------------------------------------------------------------------


def joint_name(label: str) -> str:
    """``"Left Shoulder"``, ``"left-shoulder"`` -> ``"left_shoulder"``."""
    return re.sub(r"[\s\-]+", "_", label.strip()).lower()


def joint_set(names: Iterable[str]) -> Skeleton:
    """The known joint set of exactly these names, else the smallest that has them all, else one of their own.

    No names at all: PoseTrack's 15.
    """
    unique = tuple(dict.fromkeys(names))
    if not unique:
        return POSETRACK15
    same = [s for s in SKELETONS.values() if set(s.joints) == set(unique)]
    same.sort(key=lambda s: s.joints != unique)  # PoseTrack15 and 17 differ in order only
    holding = [s for s in SKELETONS.values() if set(s.joints) > set(unique)]
    holding.sort(key=lambda s: s.num_joints)
    return (same or holding or [Skeleton("custom", unique, ())])[0]


# --- tracks that have names --------------------------------------------------------------------------------


def track_ids(names: Sequence[str], prefix: str) -> list[int]:
    """Ids of named tracks: the numbers that all names end in, if no two are the same; else their order.

    Args:
        prefix: behind it, a number may be negative.
    """
    found = [re.fullmatch(rf"{prefix}(-\d{{1,18}})|(?:.*\D)?(\d{{1,18}})", name, re.DOTALL) for name in names]
    numbers = [int(match[1] or match[2]) for match in found if match]
    return numbers if len(set(numbers)) == len(names) else list(range(len(names)))


def track_names(videos: Iterable[Video], prefix: str, reserved: Collection[str] = ()) -> dict[int, str]:
    """Track id -> name, in the order of the ids: the name that a file gave it, else ``prefix`` and the id.

    Args:
        reserved: names that mean something else in the format.

    Raises:
        InputError: two people of one frame have the same id.
    """
    names: dict[int, str] = {}
    for video in videos:
        for frame in video.frames:
            ids = [person.track_id for person in frame.people]
            if len(set(ids)) < len(ids):
                twice = next(track for track in ids if ids.count(track) > 1)
                raise InputError(f"{video.name}: {frame.file_name}: track_id {twice} is used twice")
            for person in frame.people:
                name = person.extra.get(TRACK_NAME)
                usable = isinstance(name, str) and name.strip() and name not in reserved
                names.setdefault(person.track_id, str(name) if usable else f"{prefix}{person.track_id}")
    if len(set(names.values())) < len(names):
        names = {track: f"{prefix}{track}" for track in names}
    return dict(sorted(names.items()))


# --- people ------------------------------------------------------------------------------------------------


def make_person(
    skeleton: Skeleton,
    *,
    joints: dict[str, tuple[float, float, bool]] | None = None,
    scores: dict[str, float] | None = None,
    box_xyxy: Sequence[float] | np.ndarray | None = None,
    head_box_xyxy: Sequence[float] | np.ndarray | None = None,
    track_id: int,
    person_id: int | None = None,
    score: float | None = None,
    is_crowd: bool = False,
    extra: dict[str, Any] | None = None,
) -> Person:
    """A person; without a box one is made from the joints.

    Args:
        joints: name -> x, y, visible, of the labelled ones.
        scores: name -> confidence, where there are any.
    """
    points = np.zeros((skeleton.num_joints, 3))
    visible = np.zeros(skeleton.num_joints, dtype=bool)
    for name, (x, y, seen) in (joints or {}).items():
        points[skeleton.index[name]] = (x, y, 1)
        visible[skeleton.index[name]] = seen
    joint_scores = None
    if scores:
        joint_scores = np.zeros(skeleton.num_joints)
        for name, value in scores.items():
            joint_scores[skeleton.index[name]] = value
    box = None if box_xyxy is None else np.asarray(box_xyxy, dtype=np.float64)
    return Person(
        keypoints=points,
        box_xyxy=made_box(points) if box is None else box,
        head_box_xyxy=None if head_box_xyxy is None else np.asarray(head_box_xyxy, dtype=np.float64),
        track_id=track_id,
        visible=visible,
        box_is_given=box is not None,
        is_crowd=is_crowd,
        person_id=person_id,
        score=score,
        joint_scores=joint_scores,
        extra=extra or {},
    )


def made_box(points: np.ndarray) -> np.ndarray:
    """[4] xyxy around the labelled joints, with a margin; zeros where there are none."""
    box = enclosing_box(points[:, :2], points[:, 2] > 0, margin=BOX_MARGIN)
    return np.zeros(4) if box is None else box


def parse_decimal(value: str, what: str) -> float:
    """A finite number of a text file; the :class:`InputError` says what it should have been."""
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"{what} {value!r} is not a number") from None
    if not math.isfinite(number):
        raise InputError(f"{what} is NaN or infinite")
    return number


def parse_integer(value: str, what: str) -> int:
    """A whole number of a text file, also where it is written as 3.0."""
    number = parse_decimal(value, what)
    if not number.is_integer():
        raise InputError(f"{what} {value!r} is not a whole number")
    return int(number)
