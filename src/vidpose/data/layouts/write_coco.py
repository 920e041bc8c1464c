"""COCO keypoint files (``person_keypoints_SPLIT.json``), of single images or of videos: written, and read in
whatever joints their category names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts.coco import _image_folder, _other_categories
from vidpose.data.layouts.disk import ImageFinder
from vidpose.data.layouts.people import JointOrder, people_by_image
from vidpose.data.layouts.posetrack import _polygons, entry_size, index_images
from vidpose.data.layouts.posetrack17 import PLACE
from vidpose.data.layouts.shared import joint_name, joint_set, made_box, plain, xywh
from vidpose.data.layouts.write_posetrack import annotation_ids
from vidpose.data.layouts.write_posetrack import image_ids as posetrack_ids
from vidpose.io.files import read_json
from vidpose.skeletons import Skeleton

LAYOUT = "coco"
_LARGEST_ID = 10**12
BOX_IS_MADE = "bbox_is_from_joints"
"""Our key on an annotation whose box, which COCO demands, nobody drew."""
_TYPED = ("has_labeled_person", "bbox", "bbox_head", BOX_IS_MADE)
_IMAGE_KEYS = {
    "id", "file_name", "height", "width", "is_labeled", "ignore_regions_x", "ignore_regions_y", "video_id",
    "frame_index", PLACE,
}  # fmt: skip


# --- writing -----------------------------------------------------------------------------------------------


def coco_document(data: PoseDataset) -> dict[str, Any]:
    """``images``, ``annotations``, ``categories`` and ``videos`` of one split.

    Beyond COCO's own fields: ``video_id``, ``frame_index`` and ``is_labeled`` on images, ``track_id`` on
    annotations, and what the PoseTrack family has; other readers pass over them.
    """
    ids = image_ids(data.videos)
    numbers = annotation_ids(data.videos, ids)
    images, annotations, videos = [], [], []
    for v, video in enumerate(data.videos):
        entry: dict[str, Any] = {"id": v + 1, "name": video.name}
        if video.fps is not None:
            entry["fps"] = plain(video.fps)
        videos.append(entry)
        for frame, image_id, mine in zip(video.frames, ids[v], numbers[v], strict=True):
            images.append(_image(frame, image_id, v + 1))
            for person, number in zip(frame.people, mine, strict=True):
                annotations.append(_annotation(person, image_id, number))
    return {
        "info": {"description": "written by vidpose", "layout": LAYOUT},
        "videos": videos,
        "images": images,
        "annotations": annotations,
        "categories": [category(data.skeleton)],
    }


def category(skeleton: Skeleton) -> dict[str, Any]:
    """The person with its joints; limbs count from 1."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.joints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }


def image_ids(videos: Sequence[Video]) -> list[list[int]]:
    """Ids as they are where they are unique, else 1, 2, 3, …; PoseTrack18's for those that are very long."""
    given = [[frame.image_id for frame in video.frames] for video in videos]
    flat = [number for ids in given for number in ids]
    if max(flat, default=0) > _LARGEST_ID:  # those that readers make of a PoseTrack17 file's name
        return posetrack_ids(videos)
    if len(set(flat)) == len(flat):
        return given
    count = iter(range(1, len(flat) + 1))
    return [[next(count) for _ in ids] for ids in given]


def _image(frame: Frame, image_id: int, video_id: int) -> dict[str, Any]:
    image = {key: value for key, value in frame.extra.items() if key not in _TYPED}
    image |= {"id": image_id, "file_name": frame.file_name}
    if 0 not in frame.size:
        image["height"], image["width"] = frame.size
    image |= {"video_id": video_id, "frame_index": frame.index, "is_labeled": frame.is_labeled}
    if frame.ignore_regions:
        for axis, key in enumerate(("ignore_regions_x", "ignore_regions_y")):
            image[key] = [[plain(v) for v in region[:, axis]] for region in frame.ignore_regions]
    return image


def _annotation(person: Person, image_id: int, number: int) -> dict[str, Any]:
    given = {key: value for key, value in person.extra.items() if key not in _TYPED}
    labelled = person.keypoints[:, 2] > 0
    bbox = xywh(person.box_xyxy, person.extra.get("bbox"))
    annotation = {"area": plain(bbox[2] * bbox[3]), **given, "id": number, "image_id": image_id}
    annotation |= {"category_id": 1, "iscrowd": int(person.is_crowd), "track_id": person.track_id}
    annotation["bbox"] = bbox
    if not person.box_is_given:
        annotation[BOX_IS_MADE] = True
    annotation["num_keypoints"] = int(labelled.sum())
    flags = np.where(labelled, 1 + person.visible, 0)
    annotation["keypoints"] = [
        value
        for (x, y, _), flag in zip(person.keypoints, flags.tolist(), strict=True)
        for value in ((plain(x), plain(y), flag) if flag else (0, 0, 0))
    ]
    if person.head_box_xyxy is not None:
        annotation["bbox_head"] = xywh(person.head_box_xyxy, person.extra.get("bbox_head"))
    if person.person_id is not None:
        annotation["person_id"] = person.person_id
    if person.score is not None:
        annotation["score"] = plain(person.score)
    if person.joint_scores is not None:
        annotation["scores"] = [plain(value) for value in person.joint_scores]
    return annotation


# --- reading -----------------------------------------------------------------------------------------------


def read_file(file: Path, split: str, faults: Faults, root: Path | None = None) -> PoseDataset:
    """One split from a file with ``images``, ``annotations`` and a category that names its joints.

    Images that name no video are videos of one frame.
    """
    content = read_json(file)
    root = root or file.parent
    whole = faults.at(file)
    images = content.get("images")
    annotations = content.get("annotations", [])
    if not isinstance(images, list) or not isinstance(annotations, list):
        whole.error("'images' and 'annotations' are not two lists")
        return PoseDataset([], joint_set(()), root, split, LAYOUT)
    skeleton, order = _joints(content, annotations, file, faults)
    entries = index_images(images, file, faults)
    people = people_by_image(annotations, entries, order, file, faults, _other_categories(content))
    made = {a.get("id") for a in annotations if isinstance(a, dict) and a.get(BOX_IS_MADE)}
    for person in (person for mine in people.values() for person in mine):
        person.extra.pop(BOX_IS_MADE, None)
        if person.extra.get("id") in made:
            person.extra.pop("bbox", None)
            person.box_xyxy, person.box_is_given = made_box(person.keypoints), False
    names = [entry["file_name"] for entry in entries.values()]
    paths = dict(zip(entries, _paths(names, root, split, file, faults), strict=True))
    return PoseDataset(_videos(content, entries, people, paths, file, faults), skeleton, root, split, LAYOUT)


def _paths(names: list[str], root: Path, split: str, file: Path, faults: Faults) -> list[Path]:
    folder = _image_folder(root, split, names)
    if folder is not None:
        return [folder / name for name in names]
    return ImageFinder(root, faults).paths(names, file) if names else []


def _joints(
    content: dict[str, Any], annotations: list[Any], file: Path, faults: Faults
) -> tuple[Skeleton, JointOrder]:
    """The joint set that the first category with joints names, and the way from the file's order to its."""
    categories = content.get("categories")
    for entry in categories if isinstance(categories, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("keypoints"), list) and entry["keypoints"]:
            names = [joint_name(str(name)) for name in entry["keypoints"]]
            break
    else:
        faults.at(file, "categories").error("names no keypoints")
        names = list(joint_set(()).joints)
    if len(set(names)) < len(names):
        faults.at(file, "categories").error("names a joint twice")
    skeleton = joint_set(names)
    if set(skeleton.joints) != set(names):
        skeleton = Skeleton("custom", tuple(names), ())
    known = {name: i for i, name in enumerate(names)}
    order = {len(names): [known.get(name, -1) for name in skeleton.joints]}
    return skeleton, JointOrder(order, flagged=_is_flagged(content, annotations))


def _is_flagged(content: dict[str, Any], annotations: list[Any]) -> bool:
    """Whether the third numbers are COCO's 0, 1, 2. Files that never say 2 have PoseTrack's 0 and 1."""
    info = content.get("info")
    if isinstance(info, dict) and info.get("layout") == LAYOUT:
        return True
    flags = (a.get("keypoints") for a in annotations if isinstance(a, dict))
    return any(isinstance(values, list) and 2 in values[2::3] for values in flags)


def _videos(
    content: dict[str, Any],
    entries: dict[int, dict[str, Any]],
    people: dict[int, list[Person]],
    paths: dict[int, Path],
    file: Path,
    faults: Faults,
) -> list[Video]:
    listed = content.get("videos")
    entered = listed if isinstance(listed, list) else []
    known = {v["id"]: v for v in entered if isinstance(v, dict) and isinstance(v.get("id"), (int, str))}
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for image_id, entry in entries.items():
        video_id = entry.get("video_id", entry.get("vid_id"))
        groups[("video", video_id) if isinstance(video_id, (int, str)) else ("image", image_id)].append(entry)
    videos = []
    for (kind, number), group in groups.items():
        key = next((k for k in ("frame_index", "frame_id") if _numbered(group, k)), "file_name")
        frames = []
        for index, entry in enumerate(sorted(group, key=lambda entry: entry[key])):
            frames.append(_frame(entry, index, people.get(entry["id"], []), paths[entry["id"]], file, faults))
        about = known.get(number, {}) if kind == "video" else {}
        path = PurePosixPath(frames[0].file_name)
        made = str(path.with_suffix("")) if kind == "image" else path.parent.name or file.stem
        fps = about.get("fps")
        rate = float(fps) if isinstance(fps, (int, float)) and fps > 0 else None
        videos.append(Video(str(about.get("name") or made), frames, file, fps=rate))
    return videos


def _numbered(group: list[dict[str, Any]], key: str) -> bool:
    values = [entry.get(key) for entry in group]
    return all(type(value) is int for value in values) and len(set(values)) == len(values)


def _frame(
    entry: dict[str, Any], index: int, people: list[Person], path: Path, file: Path, faults: Faults
) -> Frame:
    place = faults.at(file, "images", note=f"image {entry['file_name']}")
    regions = place.attempt(_polygons, entry.get("ignore_regions_x"), entry.get("ignore_regions_y"))
    return Frame(
        path=path,
        file_name=entry["file_name"],
        image_id=entry["id"],
        index=index,
        size=entry_size(entry),
        # silent: COCO has no such key; an image without people is one with nobody in it.
        is_labeled=bool(entry.get("is_labeled", True)),
        people=people,
        ignore_regions=regions or [],
        extra={key: value for key, value in entry.items() if key not in _IMAGE_KEYS},
    )
