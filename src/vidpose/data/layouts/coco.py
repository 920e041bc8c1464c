"""COCO keypoints, and any file in its style: one JSON per split, every image a video of one frame."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts.disk import ImageFinder
from vidpose.data.layouts.people import JointOrder, people_by_image
from vidpose.data.layouts.posetrack import category_joints, entry_size, index_images
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.skeletons import COCO17, SKELETONS, Skeleton

_IMAGE_KEYS = {"id", "file_name", "height", "width", "place"}
_OFFICIAL = "person_keypoints_"


def list_splits(root: Path) -> list[str]:
    """Names of the splits: ``train2017`` of ``annotations/person_keypoints_train2017.json``; of other files
    their names, where they have COCO's eyes among their joints."""
    return sorted(_files(root))


def _files(root: Path) -> dict[str, Path]:
    """Split -> annotation file."""
    for folder in (root / "annotations", root):
        files = sorted(folder.glob("*.json"))
        official = [file for file in files if file.stem.startswith(_OFFICIAL)]
        found = official or [file for file in files if _has_eyes(file)]
        if found:
            return {file.stem.removeprefix(_OFFICIAL): file for file in found}
    return {}


def _has_eyes(file: Path) -> bool:
    """Whether a file names the joint by which COCO differs from PoseTrack; without parsing it."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return b'"left_eye"' in content and b'"annotations"' in content and b'"images"' in content


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split in the joints of its file; ``area`` and the like stay in ``extra``."""
    files = _files(root)
    if split not in files:
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(sorted(files)) or 'none'}")
    file = files[split]
    content = read_json(file) if faults.strict else faults.at(file).attempt(read_json, file)
    empty = PoseDataset([], COCO17, root, split, "coco")
    if content is None:
        return empty
    entries = content.get("images") if isinstance(content, dict) else None
    annotations = content.get("annotations", []) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not isinstance(annotations, list):
        faults.at(file).error("has no lists 'images' and 'annotations', as a file in COCO's style has")
        return empty
    skeleton = _skeleton(content)
    order = JointOrder({skeleton.num_joints: list(range(skeleton.num_joints))}, flagged=True)
    images = index_images(entries, file, faults)
    others = _other_categories(content)
    people = people_by_image(annotations, images, order, file, faults, others)
    names = [entry["file_name"] for entry in images.values()]
    folder = _image_folder(root, split, names)
    if folder is None:
        paths = ImageFinder(root, faults).paths(names, file) if names else []
    else:
        paths = [folder / name for name in names]
    videos = []
    for path, entry in zip(paths, images.values(), strict=True):
        frame = Frame(
            path=path,
            file_name=entry["file_name"],
            image_id=entry["id"],
            index=0,
            size=entry_size(entry),
            is_labeled=True,
            people=people.get(entry["id"], []),
            extra={key: value for key, value in entry.items() if key not in _IMAGE_KEYS},
        )
        videos.append(Video(PurePosixPath(entry["file_name"]).stem, [frame], file))
    if not videos:
        faults.at(file).error("holds no image")
    return PoseDataset(videos, skeleton, root, split, "coco")


def _skeleton(content: dict[str, Any]) -> Skeleton:
    """The joint set of the file's category; a known one where the names are its."""
    names = tuple(re.sub(r"[\s-]+", "_", name.strip().lower()) for name in category_joints(content))
    if not names or len(set(names)) < len(names):
        return COCO17
    known = next((s for s in SKELETONS.values() if s.joints == names), None)
    return known or Skeleton("file", names, ())


def _other_categories(content: dict[str, Any]) -> set[int]:
    """Ids of the categories without joints, such as things beside people."""
    categories = content.get("categories")
    entries = [c for c in categories if isinstance(c, dict)] if isinstance(categories, list) else []
    others = {c["id"] for c in entries if not c.get("keypoints") and isinstance(c.get("id"), int)}
    return others if len(others) < len(entries) else set()


def _image_folder(root: Path, split: str, names: list[str]) -> Path | None:
    """The folder that the image names are relative to, by a few of them."""
    samples = [*names[:3], *names[len(names) // 2 : len(names) // 2 + 2]]
    folders: list[Path] = []
    for base in (root / "images", root, root.parent / "images", root.parent):
        folders += [base / split, *sorted(base.glob(f"{split}*/")), base]
    return next((folder for name in samples for folder in folders if (folder / name).is_file()), None)
