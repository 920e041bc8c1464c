"""Reads COCO's layout, which is PoseTrack18's and 21's: ``images``, ``annotations``, ``categories``."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.sequence import (
    JOINTS,
    MISSING_SCORE,
    Sequence,
    Tracks,
    as_list,
    as_object,
    frame_number,
    head_size,
    is_finite,
    numbers,
    shown,
)
from vidpose.skeletons import POSETRACK15, POSETRACK18


def read_posetrack18(
    data: dict[str, Any],
    source: str,
    *,
    ground_truth: bool,
    joints: tuple[str, ...] | None = JOINTS,
    details: bool = False,
) -> Sequence:
    """Parsed JSON of one PoseTrack18, PoseTrack21 or COCO file -> :class:`Sequence`.

    The joints' order comes from the keypoint names in ``categories``; without categories 17 keypoints are
    PoseTrack18's. A joint is absent where x, y and visibility are all 0: an invisible joint with coordinates
    counts, as the official evaluation has it.

    Args:
        joints: the joints to read, by name; None for all of the file's category, without PoseTrack18's
            placeholders for ears where nobody has any.
        details: also read boxes, visibility, areas, crowds and scores of people.

    Raises:
        InputError: naming file, frame, annotation and problem.
    """
    out = Sequence(source)
    frame_of = _read_images(as_list(data["images"], f"{source}: 'images'"), out, ground_truth)
    annotations = as_list(data["annotations"], f"{source}: 'annotations'")
    order, num_keypoints, out.joints = _joint_order(data.get("categories"), source, joints, annotations)
    extra = DetailReader(num_keypoints) if details else None
    num_joints = len(order)

    tracks = Tracks()
    rows: list[tuple[int, int, int]] = []  # frame, annotation, track
    heads: list[float] = []
    keypoints: list[Any] = []
    scores: list[Any] = []
    scored: list[bool] = []
    empty: list[bool] = []
    homeless = 0
    for k, annotation in enumerate(annotations):
        image_id = as_object(annotation, f"{source}: annotation {k}").get("image_id")
        f = frame_of.get(image_id) if isinstance(image_id, int | str | float) else None
        if f is None:
            if image_id is None:
                raise InputError(f"{source}: annotation {k}: has no image_id")
            homeless += 1
            continue
        place = f"{source}: frame {out.names[f] or f}: annotation {k}"
        values = _flat_keypoints(annotation, num_keypoints, place, required=not details)
        if extra:
            extra.read(annotation, place)
        rows.append((f, k, tracks.number(annotation.get("track_id"), place)))
        empty.append(not values)
        keypoints += values or [0] * (3 * num_keypoints)
        if ground_truth:
            heads.append(_head(annotation.get("bbox_head"), place))
            continue
        given = as_list(annotation.get("scores"), f"{place}: 'scores'")
        if given and len(given) != num_keypoints:
            raise InputError(
                f"{place}: scores has {len(given)} numbers, {num_keypoints} keypoints need {num_keypoints}"
            )
        scored.append(bool(given))
        scores += given or [MISSING_SCORE] * num_keypoints
    if homeless:
        out.notes.append(f"{source}: {homeless} annotations name an image that 'images' lacks: passed over")

    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    out.frame, out.person, out.track = table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()

    def at(i: int, size: int, what: str) -> str:
        row, k = divmod(i, num_keypoints * size)
        return f"{source}: frame {out.frame_label(rows[row][0])}: annotation {rows[row][1]}: {what}[{k}]"

    xyv = numbers(keypoints, lambda i: at(i, 3, "keypoints")).reshape(-1, num_keypoints, 3)[:, order]
    out.xy = xyv[..., :2].copy()
    out.present = (xyv != 0).any(axis=-1) & ~np.array(empty, dtype=bool)[:, None]
    if ground_truth:
        out.scores = np.full((len(rows), num_joints), MISSING_SCORE)
        out.head_size = np.array(heads, dtype=np.float64)
    else:
        out.scores = numbers(scores, lambda i: at(i, 1, "scores")).reshape(-1, num_keypoints)[:, order]
        out.head_size = np.full(len(rows), np.nan)
    out.people = np.bincount(out.frame, minlength=len(out.names))
    if extra:
        out.details = {**extra.arrays(), "flag": xyv[..., 2].copy()}
    return out.in_frame_order()


def _read_images(images: list[Any], out: Sequence, ground_truth: bool) -> dict[Any, int]:
    """Fills the frames of ``out``; image id -> position."""
    frame_of: dict[Any, int] = {}
    folders: list[str] = []
    video_ids: list[Any] = []
    for f, image in enumerate(images):
        image = as_object(image, f"{out.source}: image {f}")
        name = image.get("file_name")
        name = name if isinstance(name, str) and name else None
        place = f"{out.source}: frame {name or f}"
        image_id = image.get("id")
        if isinstance(image_id, bool) or not isinstance(image_id, int | str):
            raise InputError(f"{place}: image id is {shown(image_id)}, a whole number is needed")
        if image_id in frame_of:
            raise InputError(
                f"{place}: image id {shown(image_id)} is another image's too, ids must be unique"
            )
        frame_of[image_id] = f
        out.names.append(name)
        out.image_ids.append(image_id)
        out.numbers.append(frame_number(name))
        labelled = image.get("is_labeled")
        out.labelled.append(bool(labelled) if isinstance(labelled, int) else None)
        folders.append((name or "").replace("\\", "/").rpartition("/")[0])
        video_id = image.get("vid_id")
        video_ids.append(str(video_id) if isinstance(video_id, int | str) and video_id != "" else None)
        if ground_truth:
            regions = _regions(image, place)
            if regions:
                out.regions[f] = regions
    out.videos = folders if any(video is None for video in video_ids) else video_ids
    return frame_of


def _joint_order(
    categories: Any, source: str, joints: tuple[str, ...] | None, annotations: list[Any]
) -> tuple[list[int], int, tuple[str, ...]]:
    """Positions of the wanted joints among a person's keypoints, how many keypoints there are, and names."""
    entries = [
        as_object(c, f"{source}: category {i}")
        for i, c in enumerate(as_list(categories, f"{source}: 'categories'"))
    ]
    named = [entry for entry in entries if entry.get("keypoints")]
    if len(named) > 1:
        named = [entry for entry in named if entry.get("name") == "person"]
        if len(named) != 1:
            raise InputError(
                f"{source}: several categories have keypoints, exactly one called 'person' is needed"
            )
    if named:
        names = as_list(named[0]["keypoints"], f"{source}: 'categories': 'keypoints'")
    elif joints in (None, JOINTS):
        names = list(POSETRACK18.joints)
    else:  # predictions without categories: in the order of the ground truth's category
        names = list(joints or ())
    if joints is None:
        if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
            raise InputError(f"{source}: 'categories': 'keypoints' are not different names of joints")
        joints = tuple(names)
        if tuple(names) == POSETRACK18.joints and not _has_ears(annotations):
            joints = POSETRACK15.joints
    missing = [joint for joint in joints if joint not in names]
    if missing:
        raise InputError(f"{source}: the category's keypoints lack {', '.join(missing)}")
    return [names.index(joint) for joint in joints], len(names), joints


def _has_ears(annotations: list[Any]) -> bool:
    first = 3 * POSETRACK18.index["left_ear"]
    return any(
        isinstance(annotation, dict)
        and isinstance(annotation.get("keypoints"), list)
        and any(
            isinstance(value, int | float) and value for value in annotation["keypoints"][first : first + 6]
        )
        for annotation in annotations
    )


class DetailReader:
    """Gathers what :attr:`Sequence.details` holds, annotation by annotation."""

    def __init__(self, num_keypoints: int) -> None:
        self.num_keypoints = num_keypoints
        self.boxes: list[list[float]] = []
        self.numbers: dict[str, list[float]] = {"area": [], "score": []}
        self.crowds: list[bool] = []

    def read(self, annotation: dict[str, Any], place: str) -> None:
        box = as_list(annotation.get("bbox"), f"{place}: 'bbox'")
        if box and (len(box) != 4 or not all(is_finite(value) for value in box)):
            raise InputError(f"{place}: bbox is not four finite numbers x, y, width, height")
        self.boxes.append([float(value) for value in box] or [float("nan")] * 4)
        for key, values in self.numbers.items():
            value = annotation.get(key)
            if value is not None and not is_finite(value):
                raise InputError(f"{place}: {key} is {shown(value)}, a finite number is needed")
            values.append(float("nan") if value is None else float(value))
        self.crowds.append(bool(annotation.get("iscrowd")))

    def arrays(self) -> dict[str, np.ndarray]:
        """``box`` [N, 4], ``area``, ``score`` [N] and ``crowd`` [N] bool."""
        numbers = {key: np.array(values, dtype=np.float64) for key, values in self.numbers.items()}
        box = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        return {"box": box, "crowd": np.array(self.crowds, dtype=bool), **numbers}


def _flat_keypoints(
    annotation: dict[str, Any], num_keypoints: int, place: str, *, required: bool = True
) -> list[Any]:
    """x, y, v of each keypoint in one list; [] for a person with an empty list."""
    if annotation.get("keypoints") is None:
        if not required and annotation.get("bbox"):
            return []
        raise InputError(f"{place}: has no keypoints")
    values = as_list(annotation["keypoints"], f"{place}: 'keypoints'")
    if len(values) == num_keypoints and all(isinstance(v, list) and len(v) == 3 for v in values):
        values = [number for triple in values for number in triple]
    if values and len(values) != 3 * num_keypoints:
        raise InputError(
            f"{place}: keypoints has {len(values)} numbers, {num_keypoints} joints need {3 * num_keypoints}"
        )
    return values


def _head(box: Any, place: str) -> float:
    try:
        x, y, width, height = box
        size = head_size(x, y, x + width, y + height)
        if size < float("inf"):
            return size
    except (TypeError, ValueError, OverflowError):
        pass
    box = as_list(box, f"{place}: 'bbox_head'")
    if not box:
        return float("nan")
    if len(box) != 4 or not all(is_finite(value) for value in box):
        raise InputError(f"{place}: bbox_head is not four finite numbers x, y, width, height")
    x, y, width, height = box
    return head_size(x, y, x + width, y + height)


def _regions(image: dict[str, Any], place: str) -> list[np.ndarray]:
    all_x = as_list(image.get("ignore_regions_x"), f"{place}: 'ignore_regions_x'")
    all_y = as_list(image.get("ignore_regions_y"), f"{place}: 'ignore_regions_y'")
    if all_x and all_y and not isinstance(all_x[0], list) and not isinstance(all_y[0], list):
        all_x, all_y = [all_x], [all_y]  # one polygon, not wrapped
    if len(all_x) != len(all_y):
        raise InputError(
            f"{place}: ignore_regions_x has {len(all_x)} polygons, ignore_regions_y {len(all_y)}"
        )
    polygons = []
    for r, (xs, ys) in enumerate(zip(all_x, all_y, strict=True)):
        where = f"{place}: ignore region {r}"
        xs, ys = as_list(xs, f"{where}: x"), as_list(ys, f"{where}: y")
        if len(xs) != len(ys):
            raise InputError(f"{where}: has {len(xs)} x and {len(ys)} y")
        x = numbers(xs, lambda i, where=where: f"{where}: x[{i}]")  # type: ignore[misc]
        y = numbers(ys, lambda i, where=where: f"{where}: y[{i}]")  # type: ignore[misc]
        polygons.append(np.stack([x, y], axis=-1))
    return polygons
