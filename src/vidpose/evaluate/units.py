"""The units of distance of people: head size, torso, box; and how much of a person is annotated where."""

from __future__ import annotations

import numpy as np

from vidpose.evaluate.people import People
from vidpose.evaluate.sequence import head_size

HEAD_OF_BOX = 0.113
"""Head size by the longer side of the box: the median of 16,000 rendered people; their middle half lies
between 0.104 and 0.127. The torso, which is not always in the picture, tells no more: 0.301 to 0.373."""
UNITS = ("head", "torso", "box")
# silent: joint sets without head box; the length that is nearest to a head's in what they annotate
_HEAD_ENDS = (("head_top", "head_bottom"), ("nose", "chest"), ("face", "neck"))


def head_sizes(people: People, joints: tuple[str, ...]) -> np.ndarray:
    """[N] pixels: of the head box (0.6 of its diagonal), else head_top to head_bottom (LSP's head segment),
    nose to chest (HiEve) or face to neck (JHMDB); NaN without any."""
    sizes = people.head_size.copy()
    for ends in _HEAD_ENDS:
        if set(ends) <= set(joints):
            sizes = np.where(np.isnan(sizes), _length(people.xy, people.present, joints, *ends), sizes)
    return np.where(sizes > 0, sizes, np.nan)


def pckh_unit(head_box_xyxy: np.ndarray | None, box_xyxy: np.ndarray) -> float:
    """PCKh's unit of a person in pixels: of the head box [4], without one estimated from the box [4]."""
    if head_box_xyxy is not None:
        return head_size(*head_box_xyxy)
    x1, y1, x2, y2 = box_xyxy
    return HEAD_OF_BOX * float(max(x2 - x1, y2 - y1))


def torso_lengths(xy: np.ndarray, present: np.ndarray, joints: tuple[str, ...]) -> np.ndarray:
    """[N] pixels: left shoulder to right hip, below one pixel or without it the other diagonal; else NaN.

    Args:
        xy: [N, J, 2] pixels. present: [N, J] bool.
    """
    lengths = np.full(len(xy), np.nan)
    for left, right in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")):
        if {left, right} <= set(joints):
            length = _length(xy, present, joints, left, right)
            lengths = np.where(np.isnan(lengths) | (lengths < 1), length, lengths)
    return np.where(lengths >= 1, lengths, np.nan)


def box_sizes(people: People) -> np.ndarray:
    """[N] pixels: the longer side of the box."""
    sizes = people.boxes[:, 2:].max(axis=1, initial=-np.inf)
    return np.where(sizes > 0, sizes, np.nan)


def unit_sizes(people: People, joints: tuple[str, ...], unit: str) -> np.ndarray:
    """[N] pixels by one of ``UNITS``."""
    if unit == "box":
        return box_sizes(people)
    if unit == "torso":
        return torso_lengths(people.xy, people.present, joints)
    return head_sizes(people, joints)


def _length(xy: np.ndarray, present: np.ndarray, joints: tuple[str, ...], a: str, b: str) -> np.ndarray:
    i, j = joints.index(a), joints.index(b)
    length = np.linalg.norm(xy[:, i] - xy[:, j], axis=-1)
    return np.where(present[:, i] & present[:, j], length, np.nan)


def box_overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[A, B] intersection over union of boxes x, y, width, height; 0 where one is NaN or empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = np.prod(a[:, None, 2:], axis=-1) + np.prod(b[None, :, 2:], axis=-1) - shared
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap = shared / union
    return np.where(union > 0, np.nan_to_num(overlap), 0.0)


def people_of(people: People, frame: int) -> np.ndarray:
    """[P] rows of the people of a frame."""
    return np.arange(*np.searchsorted(people.frame, [frame, frame + 1]))
