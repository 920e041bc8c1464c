"""PoseTrack17's annotations (``annolist``, every scalar a list of one) in the layout of PoseTrack18."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK17, POSETRACK18

_SLOTS = [POSETRACK18.index[name] for name in POSETRACK17.joints]


def posetrack18_document(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """``images``, ``annotations`` and ``categories`` of one PoseTrack17 file.

    The person's box, which the layout lacks, is left out: readers make it from the joints. Image ids are made
    from the file's name and the frame's place in it.

    Args:
        content: the parsed file, with ``annolist``.
        file: for messages and image ids.

    Raises:
        InputError: the file is not of this layout.
    """
    frames = content["annolist"]
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{file}: 'annolist' is not a list of frames")
    first = zlib.crc32(file.stem.encode()) << 16
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for f, frame in enumerate(frames):
        where = f"{file}: annolist[{f}]"
        image: dict[str, Any] = {"id": first + f}
        try:
            image["file_name"] = _one(_one(frame["image"])["name"])
            labeled = _one(frame.get("is_labeled"))
            if labeled is not None:
                image["is_labeled"] = bool(labeled)
            regions = [region["point"] for region in frame.get("ignore_regions") or []]
            for axis in "xy":
                image[f"ignore_regions_{axis}"] = [[_one(p[axis]) for p in points] for points in regions]
            people = [_person(rect) for rect in frame.get("annorect") or []]
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise InputError(f"{where}: is not in PoseTrack17's layout: {error}") from None
        images.append(image)
        for person in people:
            person |= {"id": len(annotations), "image_id": image["id"], "category_id": 1}
            annotations.append(person)
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def _person(rect: dict[str, Any]) -> dict[str, Any]:
    keypoints: list[Any] = [0] * (3 * POSETRACK18.num_joints)
    points = (_one(rect.get("annopoints")) or {}).get("point") or []
    for point in points:
        joint = _one(point["id"])
        if joint not in range(len(_SLOTS)):
            raise KeyError(f"joint id {joint!r} is not one of 0 to 14")
        seen = _one(point.get("is_visible"))
        slot = 3 * _SLOTS[int(joint)]
        keypoints[slot : slot + 3] = [_one(point["x"]), _one(point["y"]), 1 if seen is None else seen]
    person: dict[str, Any] = {"keypoints": keypoints}
    track_id = _one(rect.get("track_id"))
    if track_id is not None:
        person["track_id"] = track_id
    corners = [_one(rect.get(key)) for key in ("x1", "y1", "x2", "y2")]
    if None not in corners:
        x1, y1, x2, y2 = corners
        person["bbox_head"] = [min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)]
    return person


def _one(value: Any) -> Any:
    """The value in a list of one; ``None`` for an empty list."""
    if isinstance(value, list):
        return value[0] if value else None
    return value
