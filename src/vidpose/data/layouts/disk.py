"""Where a data set's pictures are, whatever a mirror called the folders; and how large they are."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from vidpose.data.faults import Faults
from vidpose.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")
_DEPTH = 7
"""Folders below the root that are looked into."""


def walk(root: Path, depth: int = _DEPTH) -> Iterator[tuple[Path, list[str]]]:
    """(folder, names of its files) of a root and the folders below it, parents first; links are followed."""
    todo = [(root, 0)]
    seen: set[str] = set()
    while todo:
        folder, level = todo.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        files: list[str] = []
        folders: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except OSError:
            continue
        yield folder, sorted(files)
        if level < depth:
            todo += [(folder / name, level + 1) for name in sorted(folders) if not name.startswith(".")]


def find_folder(root: Path, *names: str) -> Path | None:
    """The first folder of these names in ``root``, its folders, or theirs."""
    for name in names:
        for pattern in (name, f"*/{name}", f"*/*/{name}"):
            found = next((path for path in sorted(root.glob(pattern)) if path.is_dir()), None)
            if found is not None:
                return found
    return None


def numbered(names: list[str], suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> dict[int, str]:
    """Number in a file's name -> name, of the pictures among ``names``; copies (``0012_crop.jpg``) aside."""
    out: dict[int, str] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        digits = re.fullmatch(r"\D*(\d+)", stem)
        if digits and suffix.lower() in suffixes:
            out.setdefault(int(digits[1]), name)
    return out


class ImageFinder:
    """Paths of the images that annotation files name.

    A name is taken as it is below the root, or below a folder near the annotations; failing that, the
    video's folder is looked for by its name, once for all videos, and the frame in it by name, by the name
    with another suffix, or by its number.

    Args:
        faults: told what was assumed.
    """

    def __init__(self, root: Path, faults: Faults) -> None:
        self.root, self.faults = root, faults
        self._folders: dict[str, list[tuple[Path, list[str]]]] | None = None

    def paths(self, names: list[str], file: Path, others: list[str] | None = None) -> list[Path]:
        """One path for each name of a video's frames, in order of time; names that are nowhere are put
        below the root.

        Args:
            names: as the annotations call the images.
            file: the annotation file.
            others: a second name for each, such as the one before frames were renamed.
        """
        samples = names[:2] + names[len(names) // 2 : len(names) // 2 + 1]
        base = self._base(samples, file)
        if base is not None:
            return [base / name for name in names]
        if others is not None:
            base = self._base(others[:2], file)
            if base is not None:
                self.faults.assume(f"{self.root}: images are found by their original names, below {base}")
                return [base / name for name in others]
        found = self._by_folder(names)
        return found if found is not None else [self.root / name for name in names]

    def _base(self, names: list[str], file: Path) -> Path | None:
        root = self.root
        candidates = [root, root / "posetrack_data", root / "images", root.parent, *list(file.parents)[:4]]
        return next((base for name in names for base in candidates if (base / name).is_file()), None)

    def folders(self, name: str) -> list[tuple[Path, list[str]]]:
        """(folder, names of its files) of every folder below the root that is called ``name``."""
        if self._folders is None:
            self._folders = {}
            for folder, files in walk(self.root):
                if any(file.lower().endswith(IMAGE_SUFFIXES) for file in files):
                    self._folders.setdefault(folder.name, []).append((folder, files))
        return self._folders.get(name, [])

    def _by_folder(self, names: list[str]) -> list[Path] | None:
        parts = PurePosixPath(names[0]).parts
        if len(parts) < 2:
            return None
        split = parts[-3] if len(parts) > 2 else ""  # the same video's name may be in several splits
        near = sorted(self.folders(parts[-2]), key=lambda entry: split not in entry[0].parts)
        for folder, files in near:
            how, matched = _match([PurePosixPath(name).name for name in names], files)
            if matched:
                self.faults.assume(
                    f"{self.root}: images {'/'.join(parts[:-2]) or '.'}/VIDEO are found in {folder.parent}"
                    + (f", frames matched by {how}" if how else "")
                )
                return [folder / name for name in matched]
        return None


def _match(wanted: list[str], files: list[str]) -> tuple[str, list[str]]:
    """How the names of a video's frames were brought together with the files of a folder, and the files;
    none: they do not fit together."""
    there = set(files)
    if wanted[0] in there or wanted[-1] in there:
        return "", wanted
    by_stem = {os.path.splitext(name)[0]: name for name in files if name.lower().endswith(IMAGE_SUFFIXES)}
    stems = [os.path.splitext(name)[0] for name in wanted]
    if stems[0] in by_stem or stems[-1] in by_stem:
        return "name with another suffix", [by_stem.get(s, w) for s, w in zip(stems, wanted, strict=True)]
    on_disk = numbered(files)
    asked = [next(iter(numbered([name])), -1) for name in wanted]
    if all(number in on_disk for number in asked):
        return "number", [on_disk[number] for number in asked]
    if len(on_disk) >= len(wanted):
        # silent: the public renaming numbers a video's frames from 1 in order of time.
        order = sorted(on_disk)[: len(wanted)]
        return "order, as the frames were renamed", [on_disk[number] for number in order]
    return "", []


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels; (0, 0) for what is no image.

    The header of a JPEG or PNG file is enough; anything else is decoded.
    """
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError:
        return 0, 0
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        width, height = struct.unpack(">II", head[16:24])
        return height, width
    size = _jpeg_size(head) if head[:2] == b"\xff\xd8" else None
    return size or _decoded_size(path)


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 < len(head) and head[position] == 0xFF:
        marker, length = head[position + 1], int.from_bytes(head[position + 2 : position + 4], "big")
        if marker == 0xE1 and head[position + 4 : position + 8] == b"Exif":
            return None  # it may say that the picture is turned
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", head[position + 5 : position + 9])
            return height, width
        position += 2 + length
    return None


def _decoded_size(path: Path) -> tuple[int, int]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return (0, 0) if image is None else (int(image.shape[0]), int(image.shape[1]))


def find_video(name: str, folders: Iterable[Path]) -> Path | None:
    """The first video file of this name, whatever its suffix, in one of the folders."""
    places = (folder / f"{name}{suffix}" for folder in folders for suffix in VIDEO_SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def video_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of a video file; (0, 0) where it is not there or cannot be read."""
    if not path.is_file():
        return 0, 0
    from vidpose.io.video import open_video

    try:
        with open_video(path) as video:
            return video.height, video.width
    except InputError:
        return 0, 0
