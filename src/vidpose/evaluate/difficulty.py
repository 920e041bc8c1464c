"""How hard a person is: occlusion, blur, speed, size and crowding of annotated people, and hard frames.

The rules are ours; docs/evaluation.md states them. They look at the ground truth (and its images) only, so
that every method is measured on the same people.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.people import Frames
from vidpose.evaluate.sequence import NO_TRACK
from vidpose.evaluate.units import box_overlaps, head_sizes, people_of

BINS: dict[str, tuple[tuple[str, float], ...]] = {
    "occlusion": (("none", 0.0), ("some", 0.3), ("heavy", np.inf)),
    "speed": (("slow", 0.1), ("medium", 0.3), ("fast", np.inf)),
    "size": (("small", 100.0), ("medium", 250.0), ("large", np.inf)),
    "crowding": (("alone", 0.0), ("touching", 0.3), ("crowded", np.inf)),
}
"""Kind -> bins in order of value, each with the highest value that belongs to it. silent: all edges."""
BLUR_BINS = ("blurred", "middling", "sharp")
UNKNOWN = "unknown"
HARD = {"occlusion": "heavy", "speed": "fast", "crowding": "crowded", "blur": "blurred"}
"""What makes a person hard; a frame in which half of the people are is challenging."""
_BOX_HEIGHT = 128  # pixels: boxes are compared at one size, since enlarged people look blurred


def measures(frames: Frames, images: str | os.PathLike[str] | None = None) -> dict[str, np.ndarray]:
    """Kind -> [N] value of every annotated person; NaN where it cannot be told.

    ``occlusion``: share of annotated joints that are not visible. ``speed``: median displacement of the
    joints to the next or the last annotated frame of the track, the larger of both, in head sizes per frame.
    ``size``: height of the box in pixels. ``crowding``: largest overlap (IoU) with another annotated person's
    box. ``blur``, with ``images``: sharpness inside the box, see :func:`sharpness`.

    Raises:
        InputError: an image is missing or cannot be read.
    """
    truth = frames.truth
    boxes = truth.boxes
    flag = truth.details["flag"]
    # COCO marks visible joints with 2 and hidden ones with 1, PoseTrack with 1 and 0.
    visible = flag >= (2 if (flag == 2).any() else 1)
    number = truth.present.sum(axis=1)
    with np.errstate(invalid="ignore"):
        hidden = (truth.present & ~visible).sum(axis=1) / np.where(number > 0, number, np.nan)
    crowding = np.full(len(truth), np.nan)
    for frame in np.unique(truth.frame):
        rows = people_of(truth, frame)
        overlap = box_overlaps(boxes[rows], boxes[rows])
        np.fill_diagonal(overlap, 0)
        crowding[rows] = np.where(np.isnan(boxes[rows]).any(axis=1), np.nan, overlap.max(axis=1))
    out = {"occlusion": hidden, "speed": _speeds(frames), "size": boxes[:, 3], "crowding": crowding}
    if images is not None:
        out["blur"] = sharpness(frames, images)
    return out


def bins(values: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Kind -> bin -> [N] bool of the people in it; bins without people are left out."""
    out: dict[str, dict[str, np.ndarray]] = {}
    for kind, numbers in values.items():
        if kind == "blur":  # silent: sharpness has no absolute scale, so thirds of the people
            names: tuple[str, ...] = BLUR_BINS
            known = numbers[~np.isnan(numbers)]
            edges = [*(np.quantile(known, [1 / 3, 2 / 3]) if len(known) else (0, 0)), np.inf]
        else:
            names = tuple(name for name, _ in BINS[kind])
            edges = [edge for _, edge in BINS[kind]]
        position = np.searchsorted(edges, numbers)  # [N]; NaN sorts behind infinity
        members = {name: position == i for i, name in enumerate(names)}
        members[UNKNOWN] = np.isnan(numbers)
        out[kind] = {name: mask for name, mask in members.items() if mask.any()}
    return out


def owners_by_overlap(frames: Frames, owner: np.ndarray) -> np.ndarray:
    """[M] the same owners, and for predictions without one the annotated person whose box they overlap most.

    So a pose that missed every joint counts against the person on whom it lies. -1: overlaps nobody.
    """
    owner = owner.copy()
    truth_boxes, found_boxes = frames.truth.boxes, frames.predictions.boxes
    for frame in np.unique(frames.predictions.frame[owner < 0]):
        here, there = people_of(frames.truth, frame), people_of(frames.predictions, frame)
        there = there[owner[there] < 0]
        if not len(here) or not len(there):
            continue
        overlap = box_overlaps(truth_boxes[here], found_boxes[there])
        owner[there] = np.where(overlap.max(axis=0) > 0, here[overlap.argmax(axis=0)], -1)
    return owner


RULE_BEGINS = "at least half of the annotated people have"
"""By which a list of hard frames is known again."""


def challenging(frames: Frames, images: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The frames in which at least half of the annotated people are hard: ``{"rule", "frames"}``, by name.

    A person is hard who is heavily occluded, fast, crowded or (with ``images``) blurred, by the bins of this
    module. JM-Pose's Challenging-PoseTrack (806 frames with occlusion, tangled and crowded people) is of this
    kind; its list is not public and this rule does not reproduce it.
    """
    truth = frames.truth
    hard = np.zeros(len(truth), dtype=bool)
    kinds = bins(measures(frames, images))
    for kind, members in kinds.items():
        hard |= members.get(HARD.get(kind, ""), np.zeros(len(truth), dtype=bool))
    people = np.bincount(truth.frame, minlength=len(frames))
    share = np.bincount(truth.frame, weights=hard, minlength=len(frames)) / np.maximum(people, 1)
    names = [frames.names[f] for f in np.flatnonzero((people > 0) & (share >= 0.5))]
    what = [
        "more than 30 % of the annotated joints not visible",
        "joints that move more than 0.3 head sizes per frame (median)",
        "a box that overlaps another person's by an IoU above 0.3",
        *(["a sharpness in the lowest third"] if images is not None else []),
    ]
    rule = f"{RULE_BEGINS} {'; or '.join(what)}"
    return {"rule": rule, "frames": names}


# -------------------- speed


def _speeds(frames: Frames) -> np.ndarray:
    """[N] head sizes per frame; NaN without track, neighbour or head size."""
    truth = frames.truth
    size = head_sizes(truth, frames.joints)
    speed = np.full(len(truth), np.nan)
    order = np.lexsort((truth.frame, truth.track))
    order = order[truth.track[order] != NO_TRACK]
    first, second = order[:-1], order[1:]
    same = (truth.track[first] == truth.track[second]) & (truth.frame[first] < truth.frame[second])
    first, second = first[same], second[same]
    if not len(first):
        return speed
    moved = np.linalg.norm(truth.xy[first] - truth.xy[second], axis=-1)
    moved[~(truth.present[first] & truth.present[second])] = np.nan
    comparable = ~np.isnan(moved).all(axis=1)
    first, second, moved = first[comparable], second[comparable], moved[comparable]
    steps = np.array(
        [_steps(frames, a, b) for a, b in zip(truth.frame[first], truth.frame[second], strict=True)]
    )
    pixels = np.nanmedian(moved, axis=1) / np.maximum(steps, 1) if len(moved) else np.zeros(0)
    for rows in (first, second):
        speed[rows] = np.fmax(speed[rows], pixels / size[rows])
    return speed


def _steps(frames: Frames, a: int, b: int) -> int:
    before, after = frames.numbers[a], frames.numbers[b]
    return after - before if before is not None and after is not None and after > before else b - a


# -------------------- blur


def sharpness(frames: Frames, images: str | os.PathLike[str]) -> np.ndarray:
    """[N] variance of the Laplacian over the variance of the grey values, in the box scaled to one height.

    Raises:
        InputError: the image of a frame with people is missing or cannot be read.
    """
    import cv2

    truth, boxes = frames.truth, frames.truth.boxes
    out = np.full(len(truth), np.nan)
    for frame in np.unique(truth.frame):
        path = find_image(Path(images), frames.names[frame])
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise InputError(f"{path}: cannot be read as an image")
        for row in people_of(truth, frame):
            if np.isnan(boxes[row]).any():
                continue
            x, y, width, height = boxes[row]
            left, top = max(int(x), 0), max(int(y), 0)
            crop = picture[top : max(int(y + height), top), left : max(int(x + width), left)]
            if min(crop.shape) < 4:
                continue
            scale = _BOX_HEIGHT / crop.shape[0]
            size = max(round(crop.shape[1] * scale), 4), _BOX_HEIGHT
            scaled = cv2.resize(crop, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            grey = scaled.astype(np.float64)
            if grey.var() > 0:
                out[row] = cv2.Laplacian(grey, cv2.CV_64F).var() / grey.var()
    return out


def find_image(folder: Path, name: str) -> Path:
    """The image of that name below a folder: by the whole name, its last two parts or its last part.

    Raises:
        InputError: there is none.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for tail in dict.fromkeys((tuple(parts), tuple(parts[-2:]), tuple(parts[-1:]))):
        path = folder.joinpath(*tail)
        if tail and path.is_file():
            return path
    raise InputError(f"{folder}: has no image {name}, which --images needs for the blur of people")
