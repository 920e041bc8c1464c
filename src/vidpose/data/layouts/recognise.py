"""Finds out in what format labels are, a folder or one file, and reads them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidpose.data.dataset import PoseDataset
from vidpose.data.faults import Fault, Faults
from vidpose.data.layouts import (
    LAYOUTS,
    coco,
    csv_table,
    cvat,
    deeplabcut,
    label_studio,
    mot,
    posetrack,
    sleap,
    write_coco,
)
from vidpose.data.layouts.disk import ImageFinder
from vidpose.errors import InputError
from vidpose.io.files import read_json
from vidpose.skeletons import POSETRACK15, POSETRACK18

_SPLITS = ("train", "val", "test")
_HEAD_BYTES = 4096
Read = Callable[[Path, str, Faults], PoseDataset]
_BY_FOLDER: dict[str, tuple[Callable[[Path], list[Path]], Read]] = {
    "mot": (mot.find_sequences, mot.read_source),
    "deeplabcut": (deeplabcut.find_files, deeplabcut.read_source),
    "sleap": (sleap.find_files, sleap.read_source),
}
"""Formats of which a folder is one split: what finds its parts, what reads it."""


class Remarks(Faults):
    """The first error is raised; remarks are kept for the one who converts."""

    def add(self, fault: Fault) -> None:
        super().add(fault)
        if not fault.is_error:
            self.found.append(fault)


@dataclass
class Labels:
    """What a source holds."""

    format: str
    splits: list[PoseDataset]
    remarks: list[str]
    """What was left out of it, one line each."""


def read_labels(source: Path, format: str = "auto", split: str | None = None) -> Labels:
    """Reads every split of a folder, or a file.

    Args:
        format: ``auto``: found by looking; else a name of :func:`formats`.
        split: of a folder: this one only; of a file: what to call it.

    Raises:
        InputError: nothing there that is known, more than one thing, or the first fault of the labels.
    """
    if format != "auto" and format not in formats():
        raise InputError(f"--from {format!r} is unknown; known: auto, {', '.join(formats())}")
    faults = Remarks()
    if source.is_dir():
        name, found = _read_folder(source, format, split, faults)
    elif source.is_file():
        name, found = _read_file(source, format, split or split_of(source), faults)
    else:
        raise InputError(f"{source}: no such file or folder")
    if not any(data.videos for data in found):
        raise InputError(f"{source}: holds no frame")
    return Labels(name, found, [str(fault) for fault in faults.found])


def formats() -> list[str]:
    """Every format that can be read."""
    return list(dict.fromkeys([*LAYOUTS, "cvat", "labelstudio", "csv", *_BY_FOLDER]))


def split_of(path: Path) -> str:
    """``train``, ``val`` or ``test``, if a file's folder is called so or the word is in its own name; else
    ``train``."""
    place = path.absolute()
    for name in (place.parent.name, place.name):
        match = re.fullmatch(r"(train|val|test)\d*", name.lower())
        if match:
            return match.group(1)
    if path.is_file() and not re.match(r"\d{6}_", path.name):  # PoseTrack's 012834_mpii_test is a video
        words = re.split(r"[^a-z]+", path.stem.lower())
        return next((split for split in _SPLITS if split in words), _SPLITS[0])
    return _SPLITS[0]


# --- folders -----------------------------------------------------------------------------------------------


def _read_folder(root: Path, format: str, split: str | None, faults: Faults) -> tuple[str, list[PoseDataset]]:
    found = {name: splits for name, splits in _folder_kinds(root, format).items() if splits}
    # By content, where the layouts go by the files' names.
    hidden = {"labelstudio": posetrack.NAMES, "cvat": ("hieve",)}
    shadowed = {name for kind, names in hidden.items() if kind in found for name in names}
    found = {name: splits for name, splits in found.items() if name not in shadowed}
    if not found:
        what = "" if format == "auto" else f" of {format}"
        raise InputError(f"{root}: no labels{what} found; known are {', '.join(formats())}")
    if len(found) > 1:
        raise InputError(
            f"{root}: holds labels of {' and '.join(found)}; say which with --from, or name one file"
        )
    splits = next(iter(found.values()))
    if split is not None and split not in splits:
        raise InputError(f"{root}: no split {split!r}; there are {', '.join(splits)}")
    chosen = [split] if split is not None else list(splits)
    data = [splits[key](root, key, faults) for key in chosen]
    return data[0].layout, data


def _folder_kinds(root: Path, format: str) -> dict[str, dict[str, Read]]:
    """Format -> split -> reader, of everything that a folder holds."""
    out: dict[str, dict[str, Read]] = {}
    if format in ("auto", "cvat"):
        out["cvat"] = {split: _of_files(cvat.read_files, files) for split, files in _cvat_files(root).items()}
    if format in ("auto", "labelstudio"):
        exports = _files(root, ".json", lambda file: _starts_with_list(file) and _is_export(file))
        out["labelstudio"] = {s: _of_file(label_studio.read_file, file) for s, file in exports.items()}
    if format in ("auto", "csv"):
        tables = _files(root, ".csv", csv_table.looks_like_table)
        out["csv"] = {split: _of_file(csv_table.read_file, file) for split, file in tables.items()}
    for name, (find, read) in _BY_FOLDER.items():
        if format in ("auto", name):
            out[name] = {s: _of_source(read, folder) for s, folder in _splits(root, find).items()}
    for name, layout in LAYOUTS.items():
        if format not in ("auto", name) or (format == "auto" and set(out) & set(LAYOUTS)):
            continue
        splits = layout.list_splits(root)
        if not splits and name in posetrack.NAMES:
            splits = _loose_files(root)
        if splits:
            out[name] = dict.fromkeys(splits, _folder_reader(name, splits))
    return out


def _of_file(read: Callable[..., PoseDataset], file: Path) -> Read:
    return lambda root, split, faults: read(file, split, faults, root)


def _of_files(read: Callable[..., PoseDataset], files: list[Path]) -> Read:
    return lambda root, split, faults: read(files, split, faults, root)


def _of_source(read: Read, folder: Path) -> Read:
    return lambda root, split, faults: read(folder, split, faults)


def _folder_reader(name: str, splits: list[str]) -> Read:
    if name == "coco":
        return lambda root, split, faults: write_coco.read_file(coco._files(root)[split], split, faults, root)
    if splits == [""]:
        return _read_loose
    return LAYOUTS[name].read


def _files(root: Path, suffix: str, fits: Callable[[Path], bool]) -> dict[str, Path]:
    """Split -> file, of ``root/annotations`` or else of ``root``; the file's name is the split's."""
    for folder in (root / "annotations", root):
        found = {file.stem: file for file in sorted(folder.glob(f"*{suffix}")) if fits(file)}
        if found:
            return found
    return {}


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _starts_with_list(file: Path) -> bool:
    return _head(file).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"["


def _is_export(file: Path) -> bool:
    return label_studio.looks_like_export(read_json(file))


def _cvat_files(root: Path) -> dict[str, list[Path]]:
    """Split -> files: ``annotations/SPLIT/*.xml``, ``annotations/*.xml`` or ``*.xml``."""
    folders = [entry for entry in sorted((root / "annotations").glob("*")) if entry.is_dir()]
    places = [(folder.name, folder) for folder in folders]
    for split, folder in [*places, (split_of(root), root / "annotations"), (split_of(root), root)]:
        files = [file for file in sorted(folder.glob("*.xml")) if _is_cvat(file)]
        if files and (split, folder) in places:
            found = {name: [f for f in sorted(place.glob("*.xml")) if _is_cvat(f)] for name, place in places}
            return {name: files for name, files in found.items() if files}
        if files:
            return {split: files}
    return {}


def _is_cvat(file: Path) -> bool:
    head = _head(file)
    return b"<annotations" in head and (b"<meta" in head or b"<track" in head or b"<image" in head)


def _splits(root: Path, find: Callable[[Path], list[Path]]) -> dict[str, Path]:
    """Split -> folder in which ``find`` finds something: the folder itself, or those in it."""
    if find(root):
        return {split_of(root): root}
    folders = [entry for entry in sorted(root.glob("*")) if entry.is_dir()]
    return {folder.name: folder for folder in folders if find(folder)}


def _loose_files(root: Path) -> list[str]:
    """One split without a name where a folder holds nothing but files of videos, as results are."""
    files = sorted(root.glob("*.json"))
    return [""] if files and all(_has_people(file) for file in files) else []


def _has_people(file: Path) -> bool:
    content = _head(file)
    return b'"images"' in content or b'"annolist"' in content


def _read_loose(root: Path, split: str, faults: Faults) -> PoseDataset:
    split = split_of(root)
    parts = [_read_json(file, read_json(file), "auto", split, faults) for file in sorted(root.glob("*.json"))]
    if len({part.skeleton for part in parts}) > 1 or len({part.layout for part in parts}) > 1:
        raise InputError(f"{root}: its files are of several kinds; name one of them")
    return replace(parts[0], videos=[video for part in parts for video in part.videos], root=root)


# --- files -------------------------------------------------------------------------------------------------


def _read_file(file: Path, format: str, split: str, faults: Faults) -> tuple[str, list[PoseDataset]]:
    head = _head(file).lstrip(b"\xef\xbb\xbf \t\r\n")
    if format == "cvat" or (format == "auto" and head[:1] == b"<"):
        data = cvat.read_files([file], split, faults)
    elif format == "sleap" or (format == "auto" and sleap.is_hdf5(head)):
        data = sleap.read_source(file, split, faults)
    elif format == "deeplabcut" or (format == "auto" and head and deeplabcut.looks_like_deeplabcut(file)):
        data = deeplabcut.read_source(file, split, faults)
    elif format == "csv" or (format == "auto" and head and csv_table.looks_like_table(file)):
        data = csv_table.read_file(file, split, faults)
    elif format == "mot" or (format == "auto" and head and mot.looks_like_mot(file)):
        data = mot.read_source(file, split, faults)
    elif file.suffix.lower() == ".json" or re.match(rb"\{|\[\s*[{\]]", head):
        data = _read_json(file, read_json(file), format, split, faults)
    elif file.suffix == ".mat" and format in ("auto", "posetrack17"):
        content = posetrack._parse(file)
        videos = posetrack.read_content(content, file, ImageFinder(file.parent, faults), faults)
        data = PoseDataset(videos, POSETRACK18, file.parent, split, "posetrack17")
    else:
        raise InputError(
            f"{file}: is none of the known formats (JSON of PoseTrack, COCO or Label Studio, CVAT's XML, "
            "MOT's gt.txt, DeepLabCut's CSV, SLEAP's analysis HDF5, or a CSV with the columns frame, joint, "
            "x, y)"
        )
    return data.layout, [data]


def _read_json(file: Path, content: Any, format: str, split: str, faults: Faults) -> PoseDataset:
    kind = _json_kind(content) if format == "auto" else format
    if kind == "labelstudio":
        return label_studio.read_file(file, split, faults)
    if kind == "coco":
        return write_coco.read_file(file, split, faults)
    if kind in posetrack.NAMES:
        videos = posetrack.read_content(content, file, ImageFinder(file.parent, faults), faults)
        name = posetrack._name(content) if format == "auto" else kind
        return PoseDataset(videos, POSETRACK18, file.parent, split, name)
    if isinstance(content, list) and content and isinstance(content[0], dict) and "bbox" in content[0]:
        raise InputError(f"{file}: is a list of detected boxes, not of labels; nothing to convert")
    raise InputError(
        f"{file}: is JSON, but neither PoseTrack's (images, annotations or annolist), nor COCO's, nor an "
        "export of Label Studio (tasks with data and annotations)"
    )


def _json_kind(content: Any) -> str | None:
    """The format of parsed JSON; by the joints' names where the layout alone does not tell."""
    if label_studio.looks_like_export(content):
        return "labelstudio"
    if not isinstance(content, dict):
        return None
    if "annolist" in content:
        return "posetrack17"
    if not isinstance(content.get("images"), list):
        return None
    info = content.get("info")
    if isinstance(info, dict) and info.get("layout") == write_coco.LAYOUT:
        return "coco"
    names = set(posetrack.category_joints(content))
    return "posetrack18" if not names or names >= set(POSETRACK15.joints) else "coco"
