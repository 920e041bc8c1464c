"""PoseTrack17, 18 and 21 annotations as plain dataclasses, with every fault named by file and place."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.posetrack17 import posetrack18_document
from vidpose.errors import InputError
from vidpose.geometry import box_area, clip_boxes, enclosing_box, xywh_to_xyxy
from vidpose.io.files import read_json
from vidpose.skeletons import POSETRACK15, POSETRACK18, Skeleton

VERSIONS = ("17", "18", "21")
MAX_COORDINATE = 1e5
"""Pixels; beyond it a coordinate is a mistake, not a joint outside the picture."""


@dataclass
class Person:
    """One annotated person of one frame."""

    keypoints: np.ndarray
    """[J, 3] float32: x, y in pixels, 1 where labelled, else 0, 0, 0."""
    box_xyxy: np.ndarray
    """[4] float64, cut to the image."""
    head_box_xyxy: np.ndarray | None
    track_id: int
    visible: np.ndarray
    """[J] bool: labelled and not occluded."""


@dataclass
class Frame:
    """One frame of a video; unlabelled frames serve as neighbours of labelled ones."""

    path: Path
    file_name: str
    image_id: int
    index: int
    """Position in the video, from 0, in order of time."""
    size: tuple[int, int]
    """(height, width) in pixels; (0, 0) where neither the file nor the image tells."""
    is_labeled: bool
    people: list[Person] = field(default_factory=list)
    ignore_regions: list[np.ndarray] = field(default_factory=list)


@dataclass
class Video:
    """A video: its frames in order of time."""

    name: str
    frames: list[Frame]
    source: Path
    """The annotation file."""


@dataclass
class PoseDataset:
    """One split of a data set."""

    videos: list[Video]
    skeleton: Skeleton
    root: Path
    split: str

    def frames(self) -> Iterator[tuple[Video, Frame]]:
        """Every frame of every video."""
        for video in self.videos:
            for frame in video.frames:
                yield video, frame


def read_posetrack(root: str | os.PathLike[str], split: str, version: str = "18") -> PoseDataset:
    """Reads one split of PoseTrack17, 18 or 21: a folder with one JSON per video, found by looking.

    Args:
        root: folder that holds ``annotations/SPLIT``, ``posetrack_data/annotations/SPLIT``,
            ``posetrack_data/SPLIT`` or ``SPLIT``, and the images that the files name.
        split: ``train``, ``val``, …
        version: ``17``, ``18`` or ``21``; which of the layouts a file has is seen in the file.

    Raises:
        InputError: ``file: where: what`` for anything that cannot be trained on or scored.
    """
    folder = Path(root)
    if str(version) not in VERSIONS:
        raise InputError(f"PoseTrack version {version!r} is unknown; known: {', '.join(VERSIONS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set data.root to the folder that holds the annotations")
    files = find_annotations(folder, split)
    videos: list[Video] = []
    for file in files:
        videos.extend(read_file(file, folder))
    if not videos:
        raise InputError(f"{files[0].parent}: the annotation files hold no image")
    _fill_sizes(videos)
    return PoseDataset(videos, POSETRACK15, folder, split)


def list_splits(root: Path) -> list[str]:
    """Names of the splits that a data set's folder holds annotations of."""
    data = root / "posetrack_data"
    for place in (data / "annotations", root / "annotations", data, root):
        folders = sorted(entry for entry in place.glob("*") if next(entry.glob("*.json"), None) is not None)
        found = [folder.name for folder in folders if folder != root / "annotations"]
        if not found and place == root / "annotations":
            found = sorted(file.stem for file in place.glob("*.json"))  # one merged file per split
        if found:
            return found
    return []


def find_annotations(root: Path, split: str) -> list[Path]:
    """The annotation files of a split, sorted by name; an :class:`InputError` lists where it looked."""
    places = [
        root / "posetrack_data" / "annotations" / split,
        root / "annotations" / split,
        root / "posetrack_data" / split,
        root / split,
    ]
    for place in places:
        files = sorted(place.glob("*.json")) if place.is_dir() else []
        if files:
            return files
    for place in (root / "annotations" / f"{split}.json", root / f"{split}.json"):
        if place.is_file():
            return [place]
    looked = ", ".join(str(p.relative_to(root)) for p in places)
    raise InputError(f"{root}: no annotation file (*.json) for split {split!r}; looked in {looked}")


# --- one file --------------------------------------------------------------------------------------------


def read_document(file: Path) -> Any:
    """A parsed annotation file; one of PoseTrack17 is brought into PoseTrack18's layout."""
    content = read_json(file)
    if isinstance(content, dict) and "annolist" in content:
        return posetrack18_document(content, file)
    return content


def read_file(file: Path, root: Path) -> list[Video]:
    """The videos of one JSON file: one in PoseTrack's own files, several in a merged one."""
    content = read_document(file)
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise InputError(
            f"{file}: has no list 'images'; a PoseTrack18 file has images, annotations, categories"
        )
    annotations = content.get("annotations", [])
    if not isinstance(annotations, list):
        raise InputError(f"{file}: 'annotations' is not a list")
    joints = _joint_order(content, file)
    by_image: dict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    images = _index_images(content["images"], file)
    seen: set[Any] = set()
    for k, annotation in enumerate(annotations):
        where = f"{file}: annotations[{k}]"
        if not isinstance(annotation, dict):
            raise InputError(f"{where}: is not an object")
        for key in ("image_id", "id", "track_id"):
            if isinstance(annotation.get(key), (list, dict)):
                raise InputError(f"{where}: {key} is not a number")
        if annotation.get("image_id") not in images:
            raise InputError(f"{where}: image_id {annotation.get('image_id')!r} is not among the images")
        if "id" in annotation:
            if annotation["id"] in seen:
                raise InputError(f"{where}: id {annotation['id']} is used twice")
            seen.add(annotation["id"])
        by_image[annotation["image_id"]].append((k, annotation))

    base = _image_base(root, file, [entry["file_name"] for entry in images.values()])
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in images.values():
        groups[str(PurePosixPath(entry["file_name"]).parent)].append(entry)
    videos = []
    for folder, entries in groups.items():
        name = file.stem if len(groups) == 1 else PurePosixPath(folder).name
        frames = []
        for index, entry in enumerate(sorted(entries, key=_time_key(entries))):
            size = image_size(entry)
            people = _people(by_image.get(entry["id"], []), file, entry, size, joints)
            frames.append(
                Frame(
                    path=base / entry["file_name"],
                    file_name=entry["file_name"],
                    image_id=entry["id"],
                    index=index,
                    size=size,
                    is_labeled=bool(entry.get("is_labeled", bool(people))),
                    people=people,
                    ignore_regions=_ignore_regions(entry, file),
                )
            )
        videos.append(Video(name, frames, file))
    return videos


def _index_images(images: list[Any], file: Path) -> dict[int, dict[str, Any]]:
    known: dict[int, dict[str, Any]] = {}
    for k, entry in enumerate(images):
        where = f"{file}: images[{k}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is not an object")
        for key, kind in (("id", int), ("file_name", str)):
            if not isinstance(entry.get(key), kind) or isinstance(entry.get(key), bool):
                raise InputError(f"{where}: {key} is missing or not {'a number' if kind is int else 'text'}")
        if entry["id"] in known:
            raise InputError(f"{where}: id {entry['id']} is used twice")
        known[entry["id"]] = entry
    return known


def image_size(entry: dict[str, Any]) -> tuple[int, int]:
    """(height, width) of an entry of ``images``; (0, 0) where it does not say."""
    sides = [entry.get("height"), entry.get("width")]
    if not all(isinstance(s, (int, float)) and 1 <= s <= MAX_COORDINATE for s in sides):
        return 0, 0
    return int(sides[0]), int(sides[1])  # type: ignore[arg-type]


def _time_key(entries: list[dict[str, Any]]) -> Any:
    """Order of time: frame_id where every image has its own, else the file name."""
    ids = [entry.get("frame_id") for entry in entries]
    if all(isinstance(i, int) for i in ids) and len(set(ids)) == len(ids):
        return lambda entry: entry["frame_id"]
    return lambda entry: entry["file_name"]


def _joint_order(content: dict[str, Any], file: Path) -> list[int] | None:
    """Positions of the 15 joints in the file's keypoints, from its category; ``None``: by the usual order."""
    categories = content.get("categories")
    if not isinstance(categories, list) or not categories or not isinstance(categories[0], dict):
        return None
    names = categories[0].get("keypoints")
    if not isinstance(names, list):
        return None
    known = {str(name): i for i, name in enumerate(names)}
    if all(joint in known for joint in POSETRACK15.joints):
        return [known[joint] for joint in POSETRACK15.joints]
    return None


_POSITIONS = {
    POSETRACK18.num_joints: [POSETRACK18.index[joint] for joint in POSETRACK15.joints],
    POSETRACK15.num_joints: list(range(POSETRACK15.num_joints)),
}


def _people(
    annotations: list[tuple[int, dict[str, Any]]],
    file: Path,
    entry: dict[str, Any],
    size: tuple[int, int],
    joints: list[int] | None,
) -> list[Person]:
    people: list[Person] = []
    for k, annotation in annotations:
        where = f"{file}: annotations[{k}] ({PurePosixPath(entry['file_name']).name})"
        if annotation.get("iscrowd"):
            continue
        keypoints, visible = parse_keypoints(annotation.get("keypoints", []), where, joints)
        box = parse_box(annotation.get("bbox"), where, "bbox")
        if box is None:
            # silent: the public conversion of PoseTrack17 takes 1.3 times the extent of the joints.
            box = enclosing_box(keypoints[:, :2], keypoints[:, 2] > 0, margin=0.15)
        if box is None:
            continue
        if size[0] > 0 and size[1] > 0:
            box = clip_boxes(box, size)
        if box_area(box) <= 0:
            continue
        track_id = annotation.get("track_id", len(people))
        if not isinstance(track_id, (int, float)) or track_id != track_id // 1 or abs(track_id) > 2**53:
            raise InputError(f"{where}: track_id {track_id!r} is not a whole number")
        if any(person.track_id == int(track_id) for person in people):
            raise InputError(f"{where}: track_id {track_id} is used twice in one frame")
        head = parse_box(annotation.get("bbox_head"), where, "bbox_head")
        people.append(Person(keypoints, box, head, int(track_id), visible))
    return people


def _numbers(values: Any, where: str, what: str) -> np.ndarray:
    try:
        numbers = np.asarray(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {what} holds something that is not a number") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{where}: {what} holds NaN or infinity")
    if len(numbers) and np.abs(numbers).max() > MAX_COORDINATE:
        largest = np.abs(numbers).max()
        raise InputError(
            f"{where}: {what} holds {largest:g}; pixels of at most {MAX_COORDINATE:g} make sense"
        )
    return numbers


def parse_keypoints(values: Any, where: str, joints: list[int] | None) -> tuple[np.ndarray, np.ndarray]:
    """[J, 3] with 1 where labelled, and [J] visible."""
    num_joints = POSETRACK15.num_joints
    numbers = _numbers(values, where, "keypoints")
    if len(numbers) == 0:
        return np.zeros((num_joints, 3), dtype=np.float32), np.zeros(num_joints, dtype=bool)
    if len(numbers) % 3 or len(numbers) // 3 not in _POSITIONS:
        raise InputError(
            f"{where}: keypoints has {len(numbers)} numbers; 17 joints need 51, 15 joints need 45"
        )
    triples = numbers.reshape(-1, 3)
    order = joints if joints is not None and max(joints) < len(triples) else _POSITIONS[len(triples)]
    triples = triples[order]
    # The official evaluation counts a joint as annotated unless all three numbers are 0.
    labelled = (triples != 0).any(axis=1)
    keypoints = np.where(labelled[:, None], triples, 0.0).astype(np.float32)
    keypoints[:, 2] = labelled
    return keypoints, labelled & (triples[:, 2] > 0)


def parse_box(values: Any, where: str, what: str) -> np.ndarray | None:
    """x, y, width, height -> xyxy; ``None`` where absent."""
    if values is None or (isinstance(values, list) and not values):
        return None
    numbers = _numbers(values, where, what)
    if len(numbers) != 4:
        raise InputError(f"{where}: {what} has {len(numbers)} numbers, 4 are needed: x, y, width, height")
    return xywh_to_xyxy(numbers)


def _ignore_regions(entry: dict[str, Any], file: Path) -> list[np.ndarray]:
    regions = []
    where = f"{file}: image {entry['file_name']}"
    xs, ys = entry.get("ignore_regions_x") or [], entry.get("ignore_regions_y") or []
    if not isinstance(xs, list) or not isinstance(ys, list):
        raise InputError(f"{where}: ignore_regions_x and ignore_regions_y must be lists of lists")
    if len(xs) != len(ys):
        raise InputError(f"{where}: ignore_regions_x has {len(xs)} regions, ignore_regions_y {len(ys)}")
    for x, y in zip(xs, ys, strict=True):
        px, py = _numbers(x, where, "ignore_regions_x"), _numbers(y, where, "ignore_regions_y")
        if len(px) != len(py):
            raise InputError(f"{where}: an ignore region has {len(px)} x and {len(py)} y")
        regions.append(np.stack([px, py], axis=-1))
    return regions


# --- images ----------------------------------------------------------------------------------------------


def _image_base(root: Path, file: Path, names: list[str]) -> Path:
    """The folder that the file's image names are relative to; ``root`` where no image is found at all."""
    candidates = [root, root / "posetrack_data", root / "images", root.parent, *list(file.parents)[:4]]
    for name in names[:3] + names[len(names) // 2 : len(names) // 2 + 2]:
        for base in candidates:
            if (base / name).is_file():
                return base
    return root


def _fill_sizes(videos: list[Video]) -> None:
    """Image sizes where the files do not say: from the first image of the video that is on disk."""
    for video in videos:
        missing = [frame for frame in video.frames if 0 in frame.size]
        if not missing:
            continue
        known = next((frame.size for frame in video.frames if 0 not in frame.size), None)
        first = next((frame.path for frame in missing if frame.path.is_file()), None)
        size = known or (read_image(first).shape[:2] if first is not None else None)
        if size is None:
            continue
        for frame in missing:
            frame.size = (int(size[0]), int(size[1]))
            for person in frame.people:
                person.box_xyxy = clip_boxes(person.box_xyxy, frame.size)
            frame.people = [person for person in frame.people if box_area(person.box_xyxy) > 0]


def read_image(path: Path) -> np.ndarray:
    """A uint8 RGB image [H, W, 3]; an :class:`InputError` names a file that is missing or broken."""
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: {'cannot be decoded as an image' if path.is_file() else 'no such image'}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


# --- detected boxes --------------------------------------------------------------------------------------


def read_boxes(
    path: str | os.PathLike[str], dataset: PoseDataset, threshold: float = 0.2
) -> dict[int, list[tuple[np.ndarray, float]]]:
    """Detected person boxes of a split.

    Args:
        path: JSON list of ``{"image_name" | "file_name" | "image_id", "bbox": [x, y, w, h], "score"}``;
            entries of other categories than 1, below ``threshold``, or of frames outside the split are left
            out.

    Returns:
        image id -> [(box_xyxy [4], cut to the image, score)], in the file's order.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path}: is not a list of boxes")
    by_name = {_short_name(frame.file_name): frame for _, frame in dataset.frames()}
    by_id = {frame.image_id: frame for _, frame in dataset.frames()}
    boxes: dict[int, list[tuple[np.ndarray, float]]] = defaultdict(list)
    matched = 0
    for k, entry in enumerate(entries):
        where = f"{path}: [{k}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where}: is not an object")
        name = entry.get("image_name") or entry.get("file_name")
        frame = by_name.get(_short_name(str(name))) if name else by_id.get(entry.get("image_id"))  # type: ignore[arg-type]
        box, score = parse_box(entry.get("bbox"), where, "bbox"), entry.get("score")
        if box is None or isinstance(score, bool) or not isinstance(score, (int, float)) or math.isnan(score):
            raise InputError(f"{where}: needs bbox [x, y, width, height] and a number as score")
        if frame is None:
            continue
        matched += 1
        if 0 not in frame.size:
            box = clip_boxes(box, frame.size)
        if entry.get("category_id", 1) == 1 and score >= threshold and box_area(box) > 0:
            boxes[frame.image_id].append((box, float(score)))
    if entries and not matched:
        raise InputError(
            f"{path}: none of its {len(entries)} boxes belongs to an image of split {dataset.split!r}"
        )
    return dict(boxes)


def _short_name(name: str) -> str:
    """The last two parts of a file name, video and frame: what differently rooted names share."""
    return "/".join(PurePosixPath(name).parts[-2:])
