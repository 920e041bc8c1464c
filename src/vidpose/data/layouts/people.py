"""The people of an annotation file in COCO's style, which COCO and the PoseTrack family share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Person
from vidpose.data.faults import MAX_COORDINATE, Faults, Place, parse_box, parse_numbers, parse_whole
from vidpose.data.layouts.posetrack17 import PLACE
from vidpose.errors import InputError
from vidpose.geometry import enclosing_box

_PERSON_KEYS = {
    "id", "image_id", "category_id", "keypoints", "bbox", "bbox_head", "track_id", "person_id", "scores",
    "score", "iscrowd", PLACE,
}  # fmt: skip
_MODEL_KEYS = _PERSON_KEYS - {"id", "category_id", "bbox", "bbox_head", "iscrowd"}
_EXPECTED = ("id", "category_id", "keypoints", "bbox", "bbox_head", "track_id", "area")
"""Keys whose absence is told where most others of the file have them."""
_CHUNK = 2000
"""Annotations that are parsed together; one with a fault makes its chunk be gone through one by one."""


@dataclass(frozen=True)
class JointOrder:
    """How the numbers of a file become joints."""

    orders: dict[int, list[int]]
    """Joints in the file -> position there of each joint that comes out, -1 for one that is not there."""
    flagged: bool
    """True: the third number tells (COCO: 0 not labelled, 1 hidden, 2 visible). False: as PoseTrack's
    official evaluation has it, a joint is labelled unless its three numbers are 0, and 1 is visible."""

    @property
    def count(self) -> int:
        return len(next(iter(self.orders.values())))

    def keypoints(self, triples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[..., J_file, 3] -> [..., J, 3] with 1 where labelled, and [..., J] visible."""
        order = np.array(self.orders[triples.shape[-2]])
        out = triples[..., order, :]
        out[..., order < 0, :] = 0
        if self.flagged:
            labelled, visible = out[..., 2] > 0, out[..., 2] > 1
            out[~labelled] = 0
        else:
            labelled = (out != 0).any(axis=-1)
            visible = labelled & (out[..., 2] > 0)
        out[..., 2] = labelled
        return out, visible


def _extra(annotation: dict[str, Any]) -> dict[str, Any]:
    """What has no field of its own; and, of files that are not converted on the way, the values whose exact
    form a :class:`Person` does not keep: ids, and boxes whose corners are rounded sums."""
    hidden = _PERSON_KEYS if PLACE in annotation else _MODEL_KEYS
    return {key: value for key, value in annotation.items() if key not in hidden}


def people_by_image(
    annotations: list[Any],
    images: dict[int, dict[str, Any]],
    joints: JointOrder,
    file: Path,
    faults: Faults,
    other_categories: Collection[int] = (),
) -> dict[int, list[Person]]:
    """Image id -> people; what is wrong is told to ``faults``, and left out.

    Args:
        images: id -> entry of ``images``, with ``file_name``.
        other_categories: annotations of these are passed over: they are no people.
    """
    numbered = list(enumerate(annotations))
    if other_categories:
        numbered = [
            (k, a)
            for k, a in numbered
            if not isinstance(a, dict)
            or not isinstance(a.get("category_id"), int)
            or a["category_id"] not in other_categories
        ]
    people: dict[Any, list[Person]] = defaultdict(list)
    tracks: dict[Any, dict[int, int]] = defaultdict(dict)
    unnamed: list[tuple[Any, Person]] = []
    seen: dict[Any, int] = {}
    for start in range(0, len(numbered), _CHUNK):
        chunk = numbered[start : start + _CHUNK]
        batch = _parse_together([annotation for _, annotation in chunk], joints)
        for i, (k, annotation) in enumerate(chunk):
            if batch is None and not isinstance(annotation, dict):
                faults.at(file, "annotations", k).error("is not an object")
                continue
            image_id, number = annotation.get("image_id"), annotation.get("id")
            plain = batch is not None and image_id in images and number is not None and number not in seen
            if plain:
                assert batch is not None
                seen[number] = k
                person: Person | None = batch[i]
                place = None
            else:
                place = _place(annotation, k, images, file, faults)
                before = faults.errors
                _check_ids(annotation, k, images, seen, place)
                person = read_person(annotation, place, joints)
                if person is None or faults.errors > before:
                    continue
            assert person is not None
            if annotation.get("track_id") is None:
                unnamed.append((image_id, person))
            elif not person.is_crowd:
                if person.track_id in tracks[image_id]:
                    place = place or _place(annotation, k, images, file, faults)
                    first = tracks[image_id][person.track_id]
                    place.error(
                        f"track_id {person.track_id} is used twice in one frame, by annotations[{first}] too"
                    )
                    continue
                tracks[image_id][person.track_id] = k
            people[image_id].append(person)
    for image_id, person in unnamed:
        person.track_id = _free(tracks[image_id], person.is_crowd)
    if not faults.strict:
        _odd_entries(numbered, images, file, faults)
    return people


def _free(taken: dict[int, int], is_crowd: bool) -> int:
    """The first track id that nobody in the frame has."""
    number = next(n for n in range(len(taken) + 1) if n not in taken)
    if not is_crowd:
        taken[number] = -1
    return number


def _place(annotation: Any, k: int, images: dict[int, dict[str, Any]], file: Path, faults: Faults) -> Place:
    image_id = annotation.get("image_id")
    image = images.get(image_id) if isinstance(image_id, int) else None
    note = PurePosixPath(image["file_name"]).name if image is not None else ""
    return faults.at(file, *annotation.get(PLACE, ("annotations", k)), note=note)


def _check_ids(
    annotation: dict[str, Any], k: int, images: dict[int, Any], seen: dict[Any, int], place: Place
) -> None:
    image_id, number = annotation.get("image_id"), annotation.get("id")
    odd = [key for key in ("image_id", "id") if isinstance(annotation.get(key), (list, dict))]
    for key in odd:
        place.error(f"{key} is not a number")
    if odd:
        return
    if image_id not in images:
        place.error(
            "image_id is missing" if image_id is None else f"image_id {image_id!r} is not among the images"
        )
    if number is not None and number in seen:
        place.error(f"id {number} is used twice, by annotations[{seen[number]}] too")
    seen.setdefault(number, k)


def _odd_entries(
    numbered: list[tuple[int, Any]], images: dict[int, dict[str, Any]], file: Path, faults: Faults
) -> None:
    """Remarks on keys that most annotations of the file have and one lacks, or has as something else."""
    entries = [(k, a) for k, a in numbered if isinstance(a, dict)]
    for key in _EXPECTED:
        having = sum(key in a for _, a in entries)
        if 2 * having > len(entries) > having:
            for k, a in entries:
                if key not in a:
                    place = _place(a, k, images, file, faults)
                    place.remark(f"has no {key}, as {having} of {len(entries)} others have")
    for k, a in entries:
        for key in ("id", "category_id"):
            if type(a.get(key, 0)) is not int and not (key == "id" and isinstance(a[key], (list, dict))):
                _place(a, k, images, file, faults).remark(f"{key} {a[key]!r} is not a whole number")
        if a.get("iscrowd", 0) not in (0, 1):
            _place(a, k, images, file, faults).remark(f"iscrowd {a['iscrowd']!r} is neither 0 nor 1")


# --- one by one, with every fault told -----------------------------------------------------------------


def read_person(annotation: dict[str, Any], place: Place, joints: JointOrder) -> Person | None:
    """One annotation; ``None`` where a fault was found in it. A person without a track id has 0."""
    before = place.faults.errors
    keypoints = place.attempt(parse_keypoints, annotation.get("keypoints", []), joints)
    box = place.attempt(parse_box, annotation.get("bbox"), "bbox")
    head = place.attempt(parse_box, annotation.get("bbox_head"), "bbox_head")
    track_id = annotation.get("track_id")
    track_id = 0 if track_id is None else place.attempt(parse_whole, track_id, "track_id")
    person_id = annotation.get("person_id")
    if person_id is not None:
        person_id = place.attempt(parse_whole, person_id, "person_id")
    scores = place.attempt(_joint_scores, annotation.get("scores"), joints)
    score = annotation.get("score")
    if score is not None:
        numbers = place.attempt(parse_numbers, score, "score", 1)
        score = float(numbers[0]) if numbers is not None else None
    if place.faults.errors > before or keypoints is None or track_id is None:
        return None
    points, visible = keypoints
    given = box is not None
    if box is None:
        # silent: the public conversion of PoseTrack17 takes 1.3 times the extent of the joints.
        box = enclosing_box(points[:, :2], points[:, 2] > 0, margin=0.15)
    return Person(
        keypoints=points,
        box_xyxy=np.zeros(4) if box is None else box,
        head_box_xyxy=head,
        track_id=track_id,
        visible=visible,
        box_is_given=given,
        is_crowd=bool(annotation.get("iscrowd")),
        person_id=person_id,
        score=score,
        joint_scores=scores,
        extra=_extra(annotation),
    )


def parse_keypoints(values: Any, joints: JointOrder) -> tuple[np.ndarray, np.ndarray]:
    """[J, 3] with 1 where labelled, and [J] visible."""
    numbers = parse_numbers(values, "keypoints")
    if len(numbers) == 0:
        return np.zeros((joints.count, 3)), np.zeros(joints.count, dtype=bool)
    if len(numbers) % 3 or len(numbers) // 3 not in joints.orders:
        needed = ", ".join(
            f"{count} joints need {3 * count}" for count in sorted(joints.orders, reverse=True)
        )
        raise InputError(f"keypoints has {len(numbers)} numbers; {needed}")
    return joints.keypoints(numbers.reshape(-1, 3))


def _joint_scores(values: Any, joints: JointOrder) -> np.ndarray | None:
    if values is None or (isinstance(values, list) and not values):
        return None
    numbers = parse_numbers(values, "scores")
    if len(numbers) not in joints.orders:
        raise InputError(f"scores has {len(numbers)} numbers, one for each joint is needed")
    order = np.array(joints.orders[len(numbers)])
    return np.where(order >= 0, numbers[order], 0.0)


def lone_person(
    points: np.ndarray,
    labelled: np.ndarray,
    visible: np.ndarray,
    box: np.ndarray | None = None,
    track_id: int = 0,
) -> Person:
    """A person of an array file.

    Args:
        points: [J, 2] pixels.
        labelled: [J] bool.
        visible: [J] bool.
        box: [4] xyxy; ``None``: made from the joints.

    Raises:
        InputError: a number that makes no sense as a pixel.
    """
    parse_numbers(points, "the joints")
    points = np.where(labelled[:, None], points, 0.0)
    # silent: without a box, 1.3 times the extent of the joints, as for PoseTrack17.
    made = enclosing_box(points, labelled, margin=0.15) if box is None else box
    return Person(
        keypoints=np.column_stack([points, labelled]),
        box_xyxy=np.zeros(4) if made is None else made,
        head_box_xyxy=None,
        track_id=track_id,
        visible=visible & labelled,
        box_is_given=box is not None,
    )


# --- many at once, where nothing is wrong --------------------------------------------------------------


def _parse_together(annotations: list[Any], joints: JointOrder) -> list[Person] | None:
    """The people of annotations that are all as they should be; ``None`` where one is not."""
    keypoints = [a.get("keypoints") if isinstance(a, dict) else None for a in annotations]
    if not all(type(values) is list for values in keypoints):
        return None
    triples = _rows(keypoints, [3 * count for count in joints.orders])
    boxes = _boxes(annotations, "bbox")
    heads = _boxes(annotations, "bbox_head")
    if triples is None or boxes is None or heads is None:
        return None
    points = np.zeros((len(annotations), joints.count, 3))
    visible = np.zeros(points.shape[:2], dtype=bool)
    filled = np.array([bool(values) for values in keypoints])
    if filled.any():
        points[filled], visible[filled] = joints.keypoints(triples.reshape(len(triples), -1, 3))
    (box_values, given), (head_values, has_head) = boxes, heads
    if not all(given):
        _boxes_from_joints(box_values, np.array(given), points)
    out = []
    for k, annotation in enumerate(annotations):
        track_id, person_id = annotation.get("track_id", 0), annotation.get("person_id")
        score, scores = annotation.get("score"), annotation.get("scores")
        if type(track_id) is not int or scores or score is not None:
            return None
        if (person_id is not None and type(person_id) is not int) or max(track_id, -track_id) > 2**53:
            return None
        if type(annotation.get("image_id")) is not int or type(annotation.get("id", 0)) is not int:
            return None
        out.append(
            Person(
                keypoints=points[k],
                box_xyxy=box_values[k],
                head_box_xyxy=head_values[k] if has_head[k] else None,
                track_id=track_id,
                visible=visible[k],
                box_is_given=given[k],
                is_crowd=bool(annotation.get("iscrowd")),
                person_id=person_id,
                extra=_extra(annotation),
            )
        )
    return out


def _rows(values: list[Any], lengths: list[int]) -> np.ndarray | None:
    """[N, L] float64 of the lists that are not empty, all of one length; ``None`` where that is not so or
    a number is none that makes sense."""
    rows = [row for row in values if row]
    if not rows:
        return np.zeros((0, lengths[0]))
    if len(rows[0]) not in lengths or any(len(row) != len(rows[0]) for row in rows):
        return None
    try:
        plain = np.array(rows)
    except (ValueError, OverflowError, TypeError):
        return None
    if plain.dtype.kind not in "iuf" or plain.ndim != 2:
        return None
    numbers = plain.astype(np.float64)
    # NaN fails the comparison.
    return numbers if (np.abs(numbers) <= MAX_COORDINATE).all() else None


def _boxes(annotations: list[Any], key: str) -> tuple[np.ndarray, list[bool]] | None:
    """[N, 4] xyxy, zeros where absent, and whether it is there."""
    values = [annotation.get(key) for annotation in annotations]
    given = [value is not None and value != [] for value in values]
    if not all(type(value) is list for value, there in zip(values, given, strict=True) if there):
        return None
    rows = _rows([value for value, there in zip(values, given, strict=True) if there], [4])
    if rows is None or (rows[:, 2:] < 0).any():
        return None
    rows[:, 2:] += rows[:, :2]
    out = np.zeros((len(annotations), 4))
    out[given] = rows
    return out, given


def _boxes_from_joints(boxes: np.ndarray, given: np.ndarray, points: np.ndarray) -> None:
    """Fills in the boxes that are not given, as :func:`read_person` does."""
    labelled = points[..., 2:] > 0
    low = np.where(labelled, points[..., :2], np.inf).min(axis=1)
    high = np.where(labelled, points[..., :2], -np.inf).max(axis=1)
    wanted = ~given & labelled.any(axis=(1, 2))
    grow = 0.15 * (high[wanted] - low[wanted])
    boxes[wanted] = np.concatenate([low[wanted] - grow, high[wanted] + grow], axis=1)
