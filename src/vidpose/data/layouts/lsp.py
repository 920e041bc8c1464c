"""Leeds Sports Pose and its extended training set: ``joints.mat`` beside a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.faults import Faults
from vidpose.data.layouts.disk import image_size, numbered
from vidpose.data.layouts.people import lone_person
from vidpose.data.layouts.posetrack17_mat import load_mat
from vidpose.errors import InputError
from vidpose.skeletons import LSP14

_TRAIN = 1000
"""The first 1000 of the 2000 images of LSP are for training."""


def list_splits(root: Path) -> list[str]:
    """``train`` and ``test`` of LSP, ``train`` of the extended set; a folder that holds both has the
    extended set as ``extended``."""
    return list(_splits(root))


def _splits(root: Path) -> dict[str, tuple[Path, str]]:
    """Split -> (``joints.mat``, which part of it)."""
    files = sorted([*root.glob("joints.mat"), *root.glob("*/joints.mat")])
    files = [file for file in files if _image_folder(file) is not None]
    extended = [file for file in files if _is_extended(file)]
    plain = [file for file in files if file not in extended]
    out = {"train": (plain[0], "first"), "test": (plain[0], "second")} if plain else {}
    if extended:
        out["extended" if plain else "train"] = (extended[0], "all")
    return out


def _is_extended(file: Path) -> bool:
    """Whether joints come first in the array (14 x 3 x N), as in the extended set alone."""
    from scipy.io import whosmat

    try:
        shapes = {name: shape for name, shape, _ in whosmat(str(file))}
    except Exception:  # told when it is read
        return False
    return shapes.get("joints", ())[:1] == (LSP14.num_joints,)


def _image_folder(file: Path) -> Path | None:
    return next((f for f in (file.parent / "images", file.parent / "Images") if f.is_dir()), None)


def read(root: Path, split: str, faults: Faults) -> PoseDataset:
    """One split; every image is a video of one frame with one person.

    LSP's third number is 1 for a hidden joint; the extended set's is 1 for one that was labelled.
    """
    splits = _splits(root)
    if split not in splits:
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(splits) or 'none'}")
    file, part = splits[split]
    data = PoseDataset([], LSP14, root, split, "lsp")
    joints = _joints(file) if faults.strict else faults.at(file).attempt(_joints, file)
    folder = _image_folder(file)
    if joints is None or folder is None:
        return data
    names = numbered([entry.name for entry in folder.iterdir()])
    order = sorted(names)
    if len(order) != len(joints):
        faults.at(file).remark(f"holds {len(joints)} people, {folder} {len(order)} images")
    half = _TRAIN if len(joints) > _TRAIN else len(joints) // 2
    chosen = {"first": range(half), "second": range(half, len(joints)), "all": range(len(joints))}[part]
    width = 5 if part == "all" else 4
    for n in chosen:
        # Mirrors that left images out keep the order, not the numbers.
        by_order = len(order) == len(joints)
        name = names[order[n]] if by_order else names.get(n + 1, f"im{n + 1:0{width}d}.jpg")
        person = faults.at(file, note=f"image {name}").attempt(_person, joints[n], part == "all")
        path = folder / name
        people = [] if person is None else [person]
        frame = Frame(path, f"{folder.name}/{name}", n + 1, 0, image_size(path), True, people)
        data.videos.append(Video(path.stem, [frame], file))
    return data


def _joints(file: Path) -> np.ndarray:
    """[N, 14, 3]."""
    joints: Any = load_mat(file).get("joints")
    if not isinstance(joints, np.ndarray) or joints.ndim != 3 or joints.dtype.kind not in "iuf":
        raise InputError("holds no array 'joints' of three axes")
    shape = joints.shape
    if shape[0] == LSP14.num_joints and shape[1] >= 2:
        joints = joints.transpose(2, 0, 1)
    elif shape[1] == LSP14.num_joints and shape[0] >= 2:
        joints = joints.transpose(2, 1, 0)
    else:
        raise InputError(f"'joints' is {'x'.join(map(str, shape))}, 3x14xN or 14x3xN is needed")
    flags = joints[..., 2:3] if joints.shape[2] > 2 else np.zeros((*joints.shape[:2], 1))
    return np.concatenate([joints[..., :2], flags], axis=-1).astype(np.float64)


def _person(triples: np.ndarray, extended: bool) -> Person:
    flag = triples[:, 2] > 0
    labelled = flag if extended else np.ones(len(triples), dtype=bool)
    # silent: the arrays are MATLAB's, which counts pixels from 1.
    return lone_person(triples[:, :2] - 1, labelled, labelled if extended else ~flag)
