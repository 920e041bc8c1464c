"""PoseTrack17's annotations (``annolist``, every scalar a list of one) in the layout of PoseTrack18."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from vidpose.data.faults import Faults, Key
from vidpose.data.layouts.shared import side
from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK17, POSETRACK18

_SLOTS = [POSETRACK18.index[name] for name in POSETRACK17.joints]
_JOINTS = range(len(_SLOTS))
PLACE = "place"
"""Key under which a converted entry keeps its way into the original file."""


def posetrack18_document(content: dict[str, Any], file: Path, faults: Faults) -> dict[str, Any]:
    """``images``, ``annotations`` and ``categories`` of one PoseTrack17 file.

    The person's box, which the layout lacks, is left out unless our own ``box`` is there: readers make it
    from the joints. Image ids are made from the file's name and the frame's place in it.

    Args:
        content: the parsed file, with ``annolist``.
        file: for faults and image ids.
        faults: takes every frame and person that is not of this layout.
    """
    frames = content["annolist"]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints)}
    document = {"images": images, "annotations": annotations, "categories": [category]}
    if not isinstance(frames, list) or not frames:
        faults.at(file).error("'annolist' is not a list of frames")
        return document
    first = zlib.crc32(file.stem.encode()) << 16
    for f, frame in enumerate(frames):
        place = ("annolist", f)
        image = faults.at(file, *place).attempt(_image, frame)
        if image is None:
            continue
        image |= {"id": first + f, PLACE: place}
        images.append(image)
        rects = frame.get("annorect") or []
        if not isinstance(rects, list):
            faults.at(file, *place).error("'annorect' is not a list of people")
            continue
        for r, rect in enumerate(rects):
            way: tuple[Key, ...] = (*place, "annorect", r)
            note = Path(image["file_name"]).name
            person = faults.at(file, *way, note=note).attempt(_person, rect)
            if person is not None:
                person |= {"id": len(annotations), "image_id": image["id"], "category_id": 1, PLACE: way}
                annotations.append(person)
    return document


def _image(frame: Any) -> dict[str, Any]:
    try:
        image: dict[str, Any] = {"file_name": one(one(frame["image"])["name"])}
        labeled = one(frame.get("is_labeled"))
        if labeled is not None:
            image["is_labeled"] = bool(labeled)
        regions = [region["point"] for region in frame.get("ignore_regions") or []]
        for axis in "xy":
            image[f"ignore_regions_{axis}"] = [[one(p[axis]) for p in points] for points in regions]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"is not in PoseTrack17's layout: {error}") from None
    if not isinstance(image["file_name"], str):
        raise InputError("image name is missing or not text")
    return image


def _person(rect: Any) -> dict[str, Any]:
    try:
        return _converted(rect)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"is not in PoseTrack17's layout: {error}") from None


def _converted(rect: dict[str, Any]) -> dict[str, Any]:
    keypoints: list[Any] = [0] * (3 * POSETRACK18.num_joints)
    scores: list[Any] = [0] * POSETRACK18.num_joints
    points = (one(rect.get("annopoints")) or {}).get("point") or []
    for point in points:
        joint = one(point["id"])
        if joint not in _JOINTS:
            raise KeyError(f"joint id {joint!r} is not one of 0 to 14")
        seen = one(point.get("is_visible"))
        slot = _SLOTS[int(joint)]
        at = 3 * slot
        keypoints[at], keypoints[at + 1] = one(point["x"]), one(point["y"])
        keypoints[at + 2] = 1 if seen is None else seen
        if point.get("score"):
            scores[slot] = one(point["score"])
    person: dict[str, Any] = {"keypoints": keypoints}
    if any(scores):
        person["scores"] = scores
    for key in ("track_id", "score"):
        value = one(rect.get(key))
        if value is not None:
            person[key] = value
    head = _corners(rect)
    if head is not None:
        person["bbox_head"] = head
    box = _corners(one(rect.get("box")) or {})
    if box is not None:
        person["bbox"] = box
    return person


def _corners(rect: dict[str, Any]) -> list[Any] | None:
    """x, y, width, height of ``x1``, ``y1``, ``x2``, ``y2``; ``None`` where one is missing."""
    corners = [one(rect.get(key)) for key in ("x1", "y1", "x2", "y2")]
    if None in corners:
        return None
    x1, y1, x2, y2 = corners
    left, right, top, bottom = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    return [left, top, side(left, right), side(top, bottom)]


def one(value: Any) -> Any:
    """The value in a list of one; ``None`` for an empty list."""
    if isinstance(value, list):
        return value[0] if value else None
    return value
