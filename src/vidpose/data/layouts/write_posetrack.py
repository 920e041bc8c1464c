"""Writes videos as PoseTrack17, 18 and 21 have them: one JSON document for each video."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, Video
from vidpose.data.layouts.shared import plain, xywh
from vidpose.skeletons import POSETRACK17, POSETRACK18

_FIRST_ID = 10**10
_EARS = ("left_ear", "right_ear")
CATEGORY: dict[str, Any] = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(POSETRACK18.joints),
    # The limbs that the data set's files list; they are COCO's and count from 1.
    "skeleton": [
        [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9],
        [8, 10], [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
    ],
}  # fmt: skip


# --- ids ---------------------------------------------------------------------------------------------------


def image_ids(videos: Sequence[Video]) -> list[list[int]]:
    """An id for each frame of each video: 1, six digits of the video, four of the frame.

    Ids that are of this form and unique are kept. Else the video's digits are those that its name begins with
    or its place in the list, the frame's those of its file name or its index.
    """
    given = [[frame.image_id for frame in video.frames] for video in videos]
    flat = [number for ids in given for number in ids]
    in_form = all(_FIRST_ID <= number < 2 * _FIRST_ID for number in flat) and len(set(flat)) == len(flat)
    if in_form and all(len({number // 10**4 for number in ids}) <= 1 for ids in given):
        return given
    starts = [re.match(r"\d{6}(?!\d)", video.name) for video in videos]
    numbers = [int(match.group()) if match else None for match in starts]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(1, len(videos) + 1))
    frames = [_frame_numbers(video.frames) for video in videos]
    # silent: the data set has no video of more than 9999 frames; theirs get more digits.
    digits = max((len(str(number)) for row in frames for number in row), default=0)
    return [
        [int(f"1{number:06d}{frame:0{max(digits, 4)}d}") for frame in row]
        for number, row in zip(numbers, frames, strict=True)
    ]


def _frame_numbers(frames: Sequence[Frame]) -> list[int]:
    stems = [PurePosixPath(frame.file_name).stem for frame in frames]
    if all(stem.isascii() and stem.isdecimal() and len(stem) < 10 for stem in stems):
        numbers = [int(stem) for stem in stems]
        if all(a < b for a, b in zip(numbers, numbers[1:], strict=False)):
            return numbers
    return [frame.index for frame in frames]


def annotation_ids(videos: Sequence[Video], ids: Sequence[Sequence[int]]) -> list[list[list[int]]]:
    """An id for each person of each frame of each video: as it was, or the image's id and two more digits."""
    people = [person for video in videos for frame in video.frames for person in frame.people]
    given = [person.extra.get("id") for person in people]
    if given and all(type(number) is int for number in given) and len(set(given)) == len(given):
        return [[[p.extra["id"] for p in frame.people] for frame in video.frames] for video in videos]
    most = max((len(frame.people) for video in videos for frame in video.frames), default=0)
    step = 100 if most <= 100 else 10 ** len(str(most))
    return [
        [[number * step + k for k in range(len(f.people))] for f, number in zip(v.frames, row, strict=True)]
        for v, row in zip(videos, ids, strict=True)
    ]


# --- PoseTrack18 and 21 ------------------------------------------------------------------------------------


def posetrack18_document(
    video: Video, ids: Sequence[int], numbers: Sequence[Sequence[int]], *, is_21: bool = False
) -> dict[str, Any]:
    """``images``, ``annotations`` and ``categories``; joints are those of :data:`POSETRACK18`, ears zero.

    Args:
        ids: of the frames, from :func:`image_ids`.
        numbers: of the people of each frame, from :func:`annotation_ids`.
        is_21: PoseTrack21: with ``has_labeled_person``, ``person_id`` and ignore regions on every image.
    """
    images, annotations = [], []
    for frame, image_id, mine in zip(video.frames, ids, numbers, strict=True):
        images.append(_image(frame, image_id, len(video.frames), is_21))
        for person, number in zip(frame.people, mine, strict=True):
            annotations.append(_annotation(person, image_id, number, is_21))
    return {"images": images, "annotations": annotations, "categories": [CATEGORY]}


def derived_image_fields(image_id: int, frames: int) -> dict[str, Any]:
    """What the layout says of an image that follows from its id and its video."""
    return {
        "frame_id": image_id,
        "vid_id": str(image_id)[1:7],
        "nframes": frames,
        "has_no_densepose": True,
    }


def _image(frame: Frame, image_id: int, frames: int, is_21: bool) -> dict[str, Any]:
    image = {**derived_image_fields(image_id, frames), **frame.extra}
    if frame.extra.get("frame_id") == frame.image_id:
        image["frame_id"] = image_id
    image |= {"id": image_id, "file_name": frame.file_name, "is_labeled": frame.is_labeled}
    if 0 not in frame.size:
        image["height"], image["width"] = frame.size
    if frame.ignore_regions or is_21:
        for axis, key in enumerate(("ignore_regions_x", "ignore_regions_y")):
            image[key] = [[plain(v) for v in region[:, axis]] for region in frame.ignore_regions]
    image.pop("has_labeled_person", None)
    if is_21:
        image["has_labeled_person"] = bool(
            frame.extra.get("has_labeled_person", frame.is_labeled and frame.people)
        )
    return image


def _annotation(person: Person, image_id: int, number: int, is_21: bool) -> dict[str, Any]:
    given = {key: value for key, value in person.extra.items() if key not in ("bbox", "bbox_head")}
    annotation = {"category_id": 1, **given, "id": number, "image_id": image_id}
    annotation["track_id"] = person.track_id
    if is_21 and person.person_id is not None:
        annotation["person_id"] = person.person_id
    if person.box_is_given:
        annotation["bbox"] = xywh(person.box_xyxy, person.extra.get("bbox"))
    if person.head_box_xyxy is not None:
        annotation["bbox_head"] = xywh(person.head_box_xyxy, person.extra.get("bbox_head"))
    annotation["keypoints"] = [
        value
        for (x, y, labelled), seen in zip(person.keypoints, person.visible, strict=True)
        for value in ((plain(x), plain(y), int(seen)) if labelled else (0, 0, 0))
    ]
    if "num_keypoints" in given:
        annotation["num_keypoints"] = int((person.keypoints[:, 2] > 0).sum())
    scores = person.joint_scores
    annotation["scores"] = [] if scores is None else [plain(value) for value in scores]
    if person.score is not None:
        annotation["score"] = plain(person.score)
    if person.is_crowd or "iscrowd" in person.extra:
        annotation["iscrowd"] = int(person.is_crowd)
    return annotation


# --- PoseTrack17 -------------------------------------------------------------------------------------------


def posetrack17_document(video: Video) -> dict[str, Any]:
    """``annolist``: every scalar in a list of one; x1 … y2 is the head's box; joints of :data:`POSETRACK17`.

    The person's box, which the layout lacks, is in ``box``; other readers pass over it.
    """
    annolist = []
    for position, frame in enumerate(video.frames):
        regions = [
            {"point": [{"x": [plain(x)], "y": [plain(y)]} for x, y in region]}
            for region in frame.ignore_regions
        ]
        annolist.append(
            {
                "image": [{"name": frame.file_name}],
                "imgnum": [position + 1],
                "is_labeled": [int(frame.is_labeled)],
                "ignore_regions": regions,
                "annorect": [_rect(person) for person in frame.people],
            }
        )
    return {"annolist": annolist}


def _rect(person: Person) -> dict[str, Any]:
    rect: dict[str, Any] = {"track_id": [person.track_id]}
    if person.score is not None:
        rect["score"] = [plain(person.score)]
    if person.head_box_xyxy is not None:
        rect |= _corners(person.head_box_xyxy)
    if person.box_is_given:
        rect["box"] = [_corners(person.box_xyxy)]
    points = []
    for joint, (x, y, labelled) in enumerate(person.keypoints):
        if labelled:
            point = {"id": [joint], "x": [plain(x)], "y": [plain(y)]}
            point["is_visible"] = [int(person.visible[joint])]
            if person.joint_scores is not None:
                point["score"] = [plain(person.joint_scores[joint])]
            points.append(point)
    rect["annopoints"] = [{"point": points}]
    return rect


def _corners(box_xyxy: np.ndarray) -> dict[str, list[int | float]]:
    return {key: [plain(v)] for key, v in zip(("x1", "y1", "x2", "y2"), box_xyxy, strict=True)}


JOINTS = {"posetrack17": POSETRACK17, "posetrack18": POSETRACK18, "posetrack21": POSETRACK18}
PLACEHOLDERS = _EARS
"""Joints of PoseTrack18 that are always zero in its files."""
