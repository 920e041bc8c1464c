"""JHMDB: 15 joints of one person in every frame of short videos, in MATLAB files."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts.disk import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    ImageFinder,
    find_folder,
    image_size,
    numbered,
)
from vidpose.data.layouts.people import lone_person
from vidpose.data.layouts.posetrack17_mat import load_mat
from vidpose.errors import InputError
from vidpose.skeletons import JHMDB15

_LISTS = {"splits": "", "sub_splits": "sub_"}
"""Folder of lists -> what its splits are called by; ``sub_`` has the videos with the whole body in view."""
_PARTS = {"1": "train", "2": "test"}
_LIST_NAME = re.compile(r"(.+)_test_split(\d+)\.txt")


def list_splits(root: Path) -> list[str]:
    """``train1``, ``test1``, … of the three official divisions, ``sub_train1``, … of the sub-set's; ``all``
    where the lists are missing."""
    joints = find_folder(root, "joint_positions")
    if joints is None or next(joints.glob("*/*/joint_positions.mat"), None) is None:
        return []
    out = []
    for folder, prefix in _LISTS.items():
        lists = find_folder(root, folder)
        found = (_LIST_NAME.fullmatch(file.name) for file in lists.glob("*.txt")) if lists else ()
        numbers = sorted({match[2] for match in found if match})
        out += [f"{prefix}{part}{number}" for number in numbers for part in _PARTS.values()]
    return out or ["all"]


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split. Boxes are those of the puppet masks where these are there, else made from the joints."""
    if split not in (known := list_splits(root)):
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(known) or 'none'}")
    joints = find_folder(root, "joint_positions")
    assert joints is not None
    finder = ImageFinder(root, faults)
    masks = find_folder(root, "puppet_mask")
    videos = []
    for v, name in enumerate(_videos(root, joints, split, faults)):
        file = joints / name / "joint_positions.mat"
        place = faults.at(file)
        positions = _positions(file) if faults.strict else place.attempt(_positions, file)
        if positions is None:
            continue
        boxes = None
        mask = masks / name / "puppet_mask.mat" if masks is not None else None
        if mask is not None and mask.is_file():
            parse = partial(_mask_boxes, mask, len(positions))
            boxes = parse() if faults.strict else faults.at(mask).attempt(parse)
        videos.append(_video(v, name, file, positions, boxes, finder, faults))
    if not videos:
        faults.at(joints).error(f"no video of split {split!r} is there")
    return PoseDataset(videos, JHMDB15, root, split, "jhmdb")


def _videos(root: Path, joints: Path, split: str, faults: Faults) -> list[str]:
    """``class/video`` of a split, in order; a listed video without annotations is told."""
    if split == "all":
        return sorted(
            f"{f.parent.parent.name}/{f.parent.name}" for f in joints.glob("*/*/joint_positions.mat")
        )
    folder = "sub_splits" if split.startswith("sub_") else "splits"
    part, number = split.removeprefix("sub_")[:-1], split[-1]
    lists = find_folder(root, folder)
    names = []
    for file in sorted(lists.glob(f"*_test_split{number}.txt")) if lists else ():
        match = _LIST_NAME.fullmatch(file.name)
        for n, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            words = line.split()
            if not words or match is None:
                continue
            place = faults.at(file, line=n)
            if len(words) != 2 or words[1] not in _PARTS:
                place.error(f"{line.strip()!r} is not VIDEO.avi and 1 (training) or 2 (test)")
                continue
            name = f"{match[1]}/{words[0].removesuffix('.avi')}"
            if _PARTS[words[1]] != part:
                continue
            if (joints / name / "joint_positions.mat").is_file():
                names.append(name)
            else:
                place.error(f"{joints / name}/joint_positions.mat is not there")
    return names


def _positions(file: Path) -> np.ndarray:
    """[T, 15, 2], pixels from 0."""
    positions: Any = load_mat(file).get("pos_img")
    if not isinstance(positions, np.ndarray) or positions.dtype.kind not in "iuf":
        raise InputError(f"{file}: holds no array 'pos_img'")
    if positions.ndim == 2:  # a video of one frame
        positions = positions[..., None]
    if positions.ndim != 3 or positions.shape[:2] != (2, JHMDB15.num_joints):
        raise InputError(f"{file}: pos_img is {'x'.join(map(str, positions.shape))}, 2x15xT is needed")
    # MATLAB counts pixels from 1.
    return positions.transpose(2, 1, 0).astype(np.float64) - 1


def _mask_boxes(file: Path, frames: int) -> np.ndarray:
    """[T, 4] xyxy around the masks; NaN where a frame has none."""
    masks: Any = load_mat(file).get("part_mask")
    if not isinstance(masks, np.ndarray) or masks.ndim not in (2, 3):
        raise InputError(f"{file}: holds no array 'part_mask'")
    masks = masks[..., None] if masks.ndim == 2 else masks
    boxes = np.full((frames, 4), np.nan)
    for t in range(min(frames, masks.shape[2])):
        rows, columns = masks[..., t].any(axis=1).nonzero()[0], masks[..., t].any(axis=0).nonzero()[0]
        if len(rows):
            boxes[t] = columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5
    return boxes


def _video(
    number: int,
    name: str,
    file: Path,
    positions: np.ndarray,
    boxes: np.ndarray | None,
    finder: ImageFinder,
    faults: Faults,
) -> Video:
    paths, is_video = _pictures(finder, name, len(positions))
    size = (0, 0) if is_video else next((image_size(path) for path in paths if path.is_file()), (0, 0))
    everything = np.ones(JHMDB15.num_joints, dtype=bool)
    frames = []
    for t, path in enumerate(paths):
        place = faults.at(file, note=f"frame {t + 1}")
        box = None if boxes is None or np.isnan(boxes[t]).any() else boxes[t]
        person = place.attempt(lone_person, positions[t], everything, everything, box)
        frames.append(
            Frame(
                path=path,
                file_name=f"{name}/{t + 1:05d}{'.png' if is_video else path.suffix}",
                image_id=number * 10_000 + t,
                index=t,
                size=size,
                is_labeled=True,
                people=[] if person is None else [person],
                video_frame=t if is_video else None,
            )
        )
    return Video(Path(name).name, frames, file, extra={"action": name.partition("/")[0]})


def _pictures(finder: ImageFinder, name: str, count: int) -> tuple[list[Path], bool]:
    """The paths of a video's frames, and whether they are frames of a video file."""
    images = find_folder(finder.root, "Rename_Images", "Frames", "frames", "images")
    if images is not None and (images / name).is_dir():
        folders = [(images / name, [entry.name for entry in (images / name).iterdir()])]
    else:
        folders = finder.folders(Path(name).name)
    for folder, files in folders:
        there = numbered(files)
        if there:
            suffix = Path(next(iter(there.values()))).suffix
            return [folder / there.get(t + 1, f"{t + 1:05d}{suffix}") for t in range(count)], False
    for suffix in VIDEO_SUFFIXES:
        video = next(iter(sorted(finder.root.glob(f"*/{name}{suffix}"))), None)
        if video is not None:
            return [video] * count, True
    base = images or finder.root / "Rename_Images"
    return [base / name / f"{t + 1:05d}{IMAGE_SUFFIXES[2]}" for t in range(count)], False
