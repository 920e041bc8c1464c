"""PoseTrack17, PoseTrack18 and COCO files as plain dictionaries: to and from :class:`VideoPoses`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.results import FramePoses, VideoPoses
from vidpose.skeletons import (
    COCO17,
    POSETRACK15,
    POSETRACK17,
    POSETRACK18,
    SKELETONS,
    Skeleton,
    convert_keypoints,
)

_POSETRACK_SETS = (POSETRACK15.name, POSETRACK17.name, POSETRACK18.name)
_HEAD = ("nose", "head_bottom", "head_top")
_CORNERS = ("x1", "y1", "x2", "y2")

# ----------------------------------------------------------------------------------------------- shared parts


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: arrays as lists, paths as text, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (Sequence, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def shortest(values: np.ndarray) -> list[float]:
    """float32 numbers as the shortest decimals that read back as the same float32."""
    return [float(text) for text in map(str, np.asarray(values, dtype=np.float32).ravel())]


def joints_of(frame: FramePoses, skeleton: Skeleton, target: Skeleton) -> np.ndarray:
    """[P, J_target, 3] float32 x, y, score in another joint set; absent or not finite joints are zero."""
    joints = np.concatenate((frame.keypoints, frame.scores[..., None]), axis=-1).astype(np.float32)
    joints[~np.isfinite(joints).all(axis=-1)] = 0
    return joints if skeleton == target else convert_keypoints(joints, skeleton, target)


def finite_boxes(frame: FramePoses) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [P, 4] and box scores [P] with zeros for what is not finite."""
    return np.nan_to_num(frame.boxes, posinf=0, neginf=0), np.nan_to_num(frame.box_scores, posinf=0, neginf=0)


def box_xywh(box_xyxy: np.ndarray) -> list[float]:
    """x, y, width, height such that x + width and y + height read back as the same float32.

    Exact but for corners nearer to 0 than 1e-9 pixels.
    """
    x1, y1, x2, y2 = shortest(box_xyxy)
    sides = []
    for start, end in ((x1, x2), (y1, y2)):
        side = round(end - start, 4)
        sides.append(side if np.float32(start + side) == np.float32(end) else end - start)
    return [x1, y1, *sides]


def info_of(video: VideoPoses) -> dict[str, Any]:
    """What the layouts have no place for; ``"info"``, the first key of every JSON file written here."""
    return {
        "description": "written by vidpose",
        "source": str(video.source),
        "width": int(video.width),
        "height": int(video.height),
        "fps": plain(float(video.fps)) if video.fps else None,
        "skeleton": video.skeleton.name,
        "num_frames": len(video.frames),
        "details": plain(video.info),
    }


def apply_info(video: VideoPoses, info: Any) -> VideoPoses:
    """Fills ``video`` with what :func:`info_of` wrote."""
    if isinstance(info, dict):
        video.source = str(info.get("source") or "")
        video.width, video.height = int(info.get("width") or 0), int(info.get("height") or 0)
        video.fps = float(info["fps"]) if info.get("fps") else None
        details = info.get("details")
        video.info = dict(details) if isinstance(details, dict) else {}
    return video


def image_name(frame: FramePoses, video: VideoPoses) -> str:
    """The frame's file name, or one made from the source's name for frames of a video."""
    if frame.file_name is not None:
        return frame.file_name
    return f"{Path(video.source).stem or 'video'}/{frame.index:06d}.jpg"


def posetrack_video(video: VideoPoses) -> str | None:
    """The six digits of the PoseTrack18 video that all frames belong to, each once; otherwise ``None``.

    ``images/val/012834_mpii_test/000000.jpg`` -> ``"012834"``.
    """
    digits, numbers = set(), set()
    for frame in video.frames:
        path = PurePosixPath(image_name(frame, video))
        match = re.match(r"(\d{6})_mpii", path.parent.name)
        if not match or not path.stem.isdecimal() or int(path.stem) >= 10_000 or int(path.stem) in numbers:
            return None
        digits.add(match.group(1))
        numbers.add(int(path.stem))
    return digits.pop() if len(digits) == 1 else None


def posetrack_id(name: str, index: int, video_id: str | None) -> int:
    """An image's id as in PoseTrack18: 1, six digits of the video, four of the frame.

    Frames of other videos belong to video 0 and are numbered by index.
    """
    return 10**10 + index if video_id is None else int(f"1{video_id}{int(PurePosixPath(name).stem):04d}")


def _rows(value: Any, where: str, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InputError(f"{where}: {what} is not a list of objects")
    return value


def _numbers(value: Any, count: int | None, where: str, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{where}: {what} holds something that is not a number") from None
    if count is not None and len(numbers) != count:
        raise InputError(f"{where}: {what} has {len(numbers)} numbers, {count} are needed")
    return numbers


# --------------------------------------------------------------------------------------- PoseTrack18 and COCO


def to_posetrack18(video: VideoPoses) -> dict[str, Any]:
    """PoseTrack18 layout. PoseTrack joints fill its 17 places (ears zero), other joint sets their own.

    Its arrays are iterators, as those of all layouts here.
    """
    target = POSETRACK18 if video.skeleton.name in _POSETRACK_SETS else video.skeleton
    return _coco_style(video, target, visible=1)


def to_coco(video: VideoPoses) -> dict[str, Any]:
    """COCO keypoint layout with COCO's 17 joints, ``score`` and ``track_id`` on each annotation.

    PoseTrack's head_bottom and head_top have no place in it, and its eyes and ears none in PoseTrack: those
    are absent (0, 0, 0).
    """
    return _coco_style(video, COCO17, visible=2)


def _coco_style(video: VideoPoses, target: Skeleton, visible: int) -> dict[str, Any]:
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(target.joints),
        "skeleton": [[a + 1, b + 1] for a, b in target.limbs],
    }
    video_id = posetrack_video(video)
    return {
        "info": info_of(video),
        "images": _images(video, video_id),
        "annotations": _annotations(video, video_id, target, visible),
        "categories": [category],
    }


def _images(video: VideoPoses, video_id: str | None) -> Iterator[dict[str, Any]]:
    for frame in video.frames:
        name = image_name(frame, video)
        image_id = posetrack_id(name, frame.index, video_id)
        image: dict[str, Any] = {
            "id": image_id,
            "file_name": name,
            "frame_id": image_id,
            "vid_id": video_id or "000000",
            "nframes": len(video.frames),
            "is_labeled": True,
            "has_no_densepose": True,
            "width": int(video.width),
            "height": int(video.height),
            "index": int(frame.index),
            "time": float(frame.time),
        }
        if frame.file_name is None:
            image["from_video"] = True
        yield image


def _annotations(
    video: VideoPoses, video_id: str | None, target: Skeleton, visible: int
) -> Iterator[dict[str, Any]]:
    number = 0
    for frame in video.frames:
        image_id = posetrack_id(image_name(frame, video), frame.index, video_id)
        joints = joints_of(frame, video.skeleton, target)
        boxes, box_scores = finite_boxes(frame)
        for person in range(len(frame)):
            points, scores = joints[person, :, :2], joints[person, :, 2]
            numbers = shortest(points)
            present = joints[person].any(axis=-1)
            flags = np.where(present, visible, 0).tolist()
            bbox = box_xywh(boxes[person])
            number += 1
            yield {
                "id": number,
                "image_id": image_id,
                "category_id": 1,
                "track_id": int(frame.track_ids[person]),
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "iscrowd": 0,
                "score": shortest(box_scores[person])[0],
                "num_keypoints": int(present.sum()),
                "keypoints": [
                    v for i, flag in enumerate(flags) for v in (numbers[2 * i], numbers[2 * i + 1], flag)
                ],
                "scores": shortest(scores),
            }


def from_coco_style(data: dict[str, Any], where: str) -> VideoPoses:
    """Reads PoseTrack18, PoseTrack21 and COCO keypoint files of one video; joints by the names in the file.

    PoseTrack's placeholders for ears are dropped. Where a file has no scores (ground truth), a labelled joint
    scores 1.
    """
    images = _rows(data.get("images"), where, "'images'")
    annotations = _rows(data.get("annotations"), where, "'annotations'")
    stored, skeleton = _category_joints(data, where)
    videos = {str(image["vid_id"]) for image in images if "vid_id" in image}
    if len(videos) > 1:
        raise InputError(f"{where}: holds {len(videos)} videos; a file of one video is needed")
    frames: dict[Any, list[tuple[np.ndarray, np.ndarray, float, int]]] = {}
    for i, image in enumerate(images):
        if image.get("id") is None or image["id"] in frames:
            raise InputError(f"{where}: images[{i}]: its 'id' is missing or not the only one of its kind")
        frames[image["id"]] = []
    for i, row in enumerate(annotations):
        place = f"{where}: annotations[{i}]"
        if row.get("image_id") not in frames:
            raise InputError(f"{place}: image_id {row.get('image_id')!r} is not among the images")
        frames[row["image_id"]].append(_person(row, stored, place, len(frames[row["image_id"]])))
    indices = _indices(images)
    poses = []
    for image, index in zip(images, indices, strict=True):
        name = None if image.get("from_video") else image.get("file_name")
        poses.append(_frame(frames[image["id"]], index, image.get("time"), name, stored, skeleton))
    video = apply_info(VideoPoses(poses, skeleton), data.get("info"))
    if not video.width and images:
        video.width, video.height = int(images[0].get("width") or 0), int(images[0].get("height") or 0)
    return video


def _category_joints(data: dict[str, Any], where: str) -> tuple[Skeleton, Skeleton]:
    """(joints as stored in the file, joints of the result)."""
    categories = data.get("categories") or []
    category = next((c for c in categories if isinstance(c, dict) and c.get("keypoints")), None)
    if category is None:
        raise InputError(f"{where}: 'categories' names no keypoints")
    joints = tuple(str(name) for name in category["keypoints"])
    if len(set(joints)) != len(joints):
        raise InputError(f"{where}: 'categories' names a keypoint twice")
    for known in SKELETONS.values():
        if set(joints) == set(known.joints):
            stored = Skeleton(known.name, joints, known.limb_names)
            break
    else:
        limbs = category.get("skeleton") or []
        inside = [(a, b) for a, b in limbs if min(a, b) > 0 and max(a, b) <= len(joints)]
        stored = Skeleton("custom", joints, tuple((joints[a - 1], joints[b - 1]) for a, b in inside))
    if stored.name in _POSETRACK_SETS:
        written_from = (data.get("info") or {}).get("skeleton")
        return stored, SKELETONS[written_from] if written_from in _POSETRACK_SETS else POSETRACK15
    return stored, SKELETONS.get(stored.name, stored)


def _person(
    row: dict[str, Any], stored: Skeleton, place: str, position: int
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """(joints [J, 3] x, y, score; box xyxy [4]; box score; track id) of one annotation."""
    count = stored.num_joints
    if "keypoints" not in row:
        raise InputError(f"{place}: has no 'keypoints'")
    points = _numbers(row["keypoints"], 3 * count, place, "keypoints").reshape(count, 3)
    scores = _numbers(row.get("scores") or (), None, place, "scores")
    if len(scores) == 0:
        scores = (points[:, 2] > 0).astype(np.float64)
    elif len(scores) != count:
        raise InputError(f"{place}: scores has {len(scores)} numbers, {count} joints need as many")
    joints = np.column_stack((points[:, :2], scores))
    joints[(points == 0).all(axis=1)] = 0
    if row.get("bbox"):
        x, y, width, height = _numbers(row["bbox"], 4, place, "bbox")
    else:
        present = points[(points != 0).any(axis=1), :2]
        low, high = (present.min(axis=0), present.max(axis=0)) if len(present) else (np.zeros(2), np.zeros(2))
        (x, y), (width, height) = low, high - low
    track = row.get("track_id", position)
    if not isinstance(track, int):
        raise InputError(f"{place}: track_id {track!r} is not a whole number")
    score = row.get("score", 1.0)
    return joints, np.array([x, y, x + width, y + height]), float(1.0 if score is None else score), track


def _frame(
    people: list[tuple[np.ndarray, np.ndarray, float, int]],
    index: int,
    time: Any,
    file_name: str | None,
    stored: Skeleton,
    skeleton: Skeleton,
) -> FramePoses:
    joints = np.array([p[0] for p in people], dtype=np.float32).reshape(len(people), stored.num_joints, 3)
    if stored.joints != skeleton.joints:
        joints = convert_keypoints(joints, stored, skeleton, approximate=False)
    return FramePoses(
        index=index,
        time=float(time) if time is not None else float(index) / 25.0,
        keypoints=joints[..., :2],
        scores=joints[..., 2],
        boxes=np.array([p[1] for p in people], dtype=np.float32).reshape(len(people), 4),
        box_scores=np.array([p[2] for p in people], dtype=np.float32),
        track_ids=np.array([p[3] for p in people], dtype=np.int64),
        file_name=file_name,
    )


def _indices(images: list[dict[str, Any]]) -> list[int]:
    """Frame numbers: our own field, else the number in the file name, else the order in the file."""
    if all(isinstance(image.get("index"), int) for image in images):
        return [image["index"] for image in images]
    stems = [re.search(r"(\d+)$", PurePosixPath(str(image.get("file_name", ""))).stem) for image in images]
    numbers = [int(match.group(1)) for match in stems if match]
    return numbers if len(set(numbers)) == len(images) else list(range(len(images)))


# ------------------------------------------------------------------------------------------------ PoseTrack17


def to_posetrack17(video: VideoPoses) -> dict[str, Any]:
    """PoseTrack17 layout (``annolist``): every scalar a list of one, x1..y2 the head's box.

    The person's box, which the layout lacks, is in ``box``. Joints other than PoseTrack's 15 are dropped, and
    those that COCO lacks approximated (:func:`convert_keypoints`).
    """
    return {"info": info_of(video), "annolist": _annolist(video)}


def _annolist(video: VideoPoses) -> Iterator[dict[str, Any]]:
    for position, frame in enumerate(video.frames):
        joints = joints_of(frame, video.skeleton, POSETRACK17)
        boxes, box_scores = finite_boxes(frame)
        people = []
        for person in range(len(frame)):
            point = [
                {"id": [j], "x": [x], "y": [y], "is_visible": [int(score > 0)], "score": [score]}
                for j, (x, y, score) in enumerate(
                    zip(*(shortest(joints[person, :, axis]) for axis in range(3)), strict=True)
                )
                if x or y or score
            ]
            head = joints[person, [POSETRACK17.index[name] for name in _HEAD]]
            head = head[head[:, 2] > 0, :2]
            low, high = (head.min(axis=0), head.max(axis=0)) if len(head) else (np.zeros(2), np.zeros(2))
            rect: dict[str, Any] = {
                "track_id": [int(frame.track_ids[person])],
                "score": shortest(box_scores[person]),
                **_corners(np.hstack((low, high))),
                "box": [_corners(boxes[person])],
                "annopoints": [{"point": point}],
            }
            people.append(rect)
        image: dict[str, Any] = {
            "image": [{"name": image_name(frame, video)}],
            "imgnum": [position + 1],
            "is_labeled": [1],
            "ignore_regions": [],
            "index": [int(frame.index)],
            "time": [float(frame.time)],
            "annorect": people,
        }
        if frame.file_name is None:
            image["from_video"] = [1]
        yield image


def from_posetrack17(data: dict[str, Any], where: str) -> VideoPoses:
    """Reads an ``annolist`` file of one video into PoseTrack's 15 joints.

    Without ``box`` (files of others) a person's box is that of its joints, 30 % larger, as the official
    conversion makes it.
    """
    poses = []
    for i, image in enumerate(_rows(data.get("annolist"), where, "'annolist'")):
        place = f"{where}: annolist[{i}]"
        people = []
        for j, rect in enumerate(_rows(image.get("annorect") or [], place, "'annorect'")):
            spot = f"{place}: annorect[{j}]"
            joints = np.zeros((POSETRACK17.num_joints, 3))
            annopoints = rect.get("annopoints") or [{}]
            point = annopoints[0].get("point") if isinstance(annopoints, list) else annopoints.get("point")
            for row in _rows(point or [], spot, "'point'"):
                number = _one(row.get("id"), spot, "a point's id")
                if not 0 <= number < POSETRACK17.num_joints:
                    raise InputError(f"{spot}: joint id {number:g} is not one of 0 to 14")
                x, y = (_one(row.get(axis), spot, f"joint {number:g}'s {axis}") for axis in "xy")
                score = _one(row["score"], spot, "a joint's score") if row.get("score") else 1.0
                joints[int(number)] = (x, y, score)
            if rect.get("box"):
                box = np.array([_one(rect["box"][0].get(key), spot, f"box {key}") for key in _CORNERS])
            else:
                present = joints[(joints != 0).any(axis=1), :2]
                if not len(present):
                    continue
                low, high = present.min(axis=0), present.max(axis=0)
                box = np.hstack((low - 0.15 * (high - low), high + 0.15 * (high - low)))
            score = _one(rect["score"], spot, "score") if rect.get("score") else 1.0
            track = int(_one(rect["track_id"], spot, "track_id")) if rect.get("track_id") else j
            people.append((joints, box, score, track))
        index = int(_one(image["index"], place, "index")) if image.get("index") else i
        time = _one(image["time"], place, "time") if image.get("time") else None
        try:
            name = None if image.get("from_video") else str(image["image"][0]["name"])
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{place}: has no image name") from None
        poses.append(_frame(people, index, time, name, POSETRACK17, POSETRACK15))
    return apply_info(VideoPoses(poses, POSETRACK15), data.get("info"))


def _corners(box_xyxy: np.ndarray) -> dict[str, list[float]]:
    return {key: [value] for key, value in zip(_CORNERS, shortest(box_xyxy), strict=True)}


def _one(value: Any, where: str, what: str) -> float:
    """PoseTrack17 wraps every scalar in a list of one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where}: {what} is not a number in a list of one")
    return float(value)
