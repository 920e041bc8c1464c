"""What a source string means: a video file, an image sequence, a camera or a stream."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from vidpose.errors import InputError

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2")
)
VIDEO_SUFFIXES = frozenset(
    (
        ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv",
        ".flv", ".3gp", ".ogv", ".gif", ".h264", ".h265", ".hevc", ".mjpeg", ".mjpg", ".y4m", ".vob", ".mxf",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One thing to read frames from, recognised but not yet opened."""

    kind: Literal["video", "images", "camera", "stream"]
    label: str
    """How the user called it; the beginning of every error message about it."""
    name: str
    """Stem for the names of output files."""
    path: Path | None = None
    images: list[Path] = field(default_factory=list)
    camera: int = 0


_BLOCK, _BLOCKS = 1 << 16, 64
_SAMPLED_IMAGES = 16


def source_digest(source: Source) -> str | None:
    """32 hexadecimal digits by which a source is known again, wherever it lies.

    Of a video's size and of 64 blocks of 64 KiB, spread evenly; of an image sequence's names and sizes, and
    in the same way of 16 of its images. ``None``: a camera or stream, or a file that cannot be read.
    """
    if source.kind in ("camera", "stream"):
        return None
    digest = hashlib.blake2b(digest_size=16)
    files = source.images or [path for path in [source.path] if path is not None]
    step = max(1, -(-len(files) // _SAMPLED_IMAGES))
    try:
        for k, path in enumerate(files):
            size = path.stat().st_size
            if source.images:
                digest.update(os.fsencode(path.name) + b"\0%d\0" % size)
            if k % step == 0:
                _add_blocks(digest, path, size)
    except OSError:
        return None
    return digest.hexdigest()


def _add_blocks(digest: hashlib.blake2b, path: Path, size: int) -> None:
    digest.update(str(size).encode())
    step = max(_BLOCK, (size - _BLOCK) // (_BLOCKS - 1))
    with path.open("rb") as file:
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(_BLOCK))


def natural_key(path: str | os.PathLike[str]) -> list[tuple[int, int, str]]:
    """Sort key under which ``frame2`` comes before ``frame10``."""
    parts = re.split(r"(\d+)", os.fspath(path))
    return [(1, int(part), part) if part.isdigit() else (0, 0, part) for part in parts]


def find_source(source: str | int | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Source:
    """Recognises one source: camera index, URL, video file, image, image folder, glob, or list of images.

    Raises:
        InputError: nothing is there, a folder or glob holds no image, or a glob means several videos.
    """
    if isinstance(source, int) or (isinstance(source, str) and source.isdecimal()):
        if int(source) < 0:
            raise InputError(f"camera {source}: a camera index is 0 or more")
        return Source("camera", f"camera {int(source)}", f"camera{int(source)}", camera=int(source))
    if isinstance(source, Sequence) and not isinstance(source, str):
        return _listed_images([Path(item) for item in source])
    text = os.fspath(source)
    if "://" in text and not text.startswith("file://"):
        return Source("stream", text, _url_name(text))
    path = Path(text.removeprefix("file://")).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.exists():
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return Source("images", text, path.stem, path, [path])
        return Source("video", text, path.stem, path)
    if glob.has_magic(text):
        images, videos, folders = _matches(text)
        if images and not videos:
            return Source("images", text, _glob_name(text, images), images=images)
        others = videos + folders
        if not images and len(others) == 1:
            return find_source(others[0])
        counts = ((len(images), "images"), (len(videos), "videos"), (len(folders), "image folders"))
        held = " and ".join(f"{count} {kind}" for count, kind in counts if count)
        raise InputError(f"{text}: matches {held}; give one of them, or a pattern of images only")
    raise InputError(_missing(text))


def expand_sources(sources: Iterable[str]) -> list[str]:
    """The sources that a command line means: one string for each result that is to be written.

    A glob of videos or of image folders becomes one source for each; a glob of images stays one sequence; a
    folder that holds videos and no images becomes its videos.

    Raises:
        InputError: something is not there, or a folder holds both images and videos.
    """
    expanded: list[str] = []
    for text in sources:
        path = Path(text).expanduser()
        if path.is_dir():
            images, videos = _folder_content(path)
            if images and videos:
                raise InputError(f"{text}: holds images and videos; give a glob such as '{text}/*.mp4'")
            expanded += [str(video) for video in videos] or [_checked(text)]
        elif glob.has_magic(text) and not path.exists() and "://" not in text:
            images, videos, folders = _matches(text)
            expanded += [str(item) for item in sorted(videos + folders, key=natural_key)]
            if images:
                if videos or folders:
                    raise InputError(f"{text}: matches images and videos or folders; make it match one kind")
                expanded.append(text)
        else:
            expanded.append(_checked(text))
    if not expanded:
        raise InputError("no source: give a video, an image folder, a glob, a camera index or a URL")
    return expanded


def image_file_name(path: Path) -> str:
    """The name under which an image appears in results.

    The file's own name; inside a PoseTrack tree (``…/images/val/VIDEO/000000.jpg``) the name that the data
    set's annotations use, from ``images/`` on, so that results can be scored as they are.
    """
    folders = path.absolute().parts[-4:-1]
    if "images" in folders[:-1]:
        return "/".join((*folders[folders.index("images") :], path.name))
    return path.name


def _checked(text: str) -> str:
    find_source(text)
    return text


def _missing(text: str) -> str:
    if text == "-":
        return "-: standard input cannot be read; give a file, a folder, a glob, a camera index or a URL"
    if text.startswith("-"):
        return f"{text}: no such file, and not a known option"
    return f"{text}: no such file or folder"


def _listed_images(paths: list[Path]) -> Source:
    if not paths:
        raise InputError("an empty list of images; give at least one")
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{path}: is not an image; a list of sources is one sequence of images")
    return Source("images", str(paths[0].parent), paths[0].parent.absolute().name or "images", images=paths)


def _folder_content(path: Path) -> tuple[list[Path], list[Path]]:
    try:
        files = [item for item in path.iterdir() if not item.name.startswith(".") and item.is_file()]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    files.sort(key=natural_key)
    images = [item for item in files if item.suffix.lower() in IMAGE_SUFFIXES]
    return images, [item for item in files if item.suffix.lower() in VIDEO_SUFFIXES]


def _folder(path: Path) -> Source:
    images, videos = _folder_content(path)
    if images:
        return Source("images", str(path), path.absolute().name or "images", path, images)
    if videos:
        raise InputError(f"{path}: holds {len(videos)} videos and no images; give one video: {videos[0]}")
    raise InputError(f"{path}: holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")


def _matches(pattern: str) -> tuple[list[Path], list[Path], list[Path]]:
    """Images, videos and folders of images that a glob matches, in natural order; at least one."""
    found = [Path(item) for item in glob.glob(os.path.expanduser(pattern), recursive=True)]
    found.sort(key=natural_key)
    images = [item for item in found if item.suffix.lower() in IMAGE_SUFFIXES and item.is_file()]
    videos = [item for item in found if item.suffix.lower() in VIDEO_SUFFIXES and item.is_file()]
    folders = [item for item in found if item.is_dir() and _folder_content(item)[0]]
    if not (images or videos or folders):
        kinds = "no image, video or image folder" if found else "nothing"
        raise InputError(f"{pattern}: matches {kinds}")
    return images, videos, folders


def _glob_name(pattern: str, images: list[Path]) -> str:
    stem = re.sub(r"\[.*?\]|[*?]", "", Path(pattern).stem).strip("._- ")
    return stem or images[0].parent.absolute().name or "images"


def _url_name(url: str) -> str:
    parts = urlsplit(url)
    stem = Path(parts.path.rstrip("/")).stem or parts.hostname or "stream"
    return re.sub(r"[^\w.-]+", "_", stem)
