"""Packing a data set's frames into a few large files, which loads faster than many small ones.

A shard is a tar file of images, which ``tar`` and WebDataset read too; beside it lies a list of where each
frame begins, by which frames are read at random. Of the kept formats, WebDataset's own readers go from the
first to the last frame, LMDB and Arrow need a library each to get at the images again, and MosaicML's shards
are for data that lies elsewhere: a tar with a list has none of that, and no dependency.
"""

from __future__ import annotations

import io
import json
import os
import queue
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidpose import progress
from vidpose.data.dataset import Frame, PoseDataset
from vidpose.data.frames import (
    INDEX,
    PACK_FOLDER,
    PACK_FORMAT,
    PACK_VERSION,
    VIDEOS_OPEN,
    frame_key,
    read_frame,
    reduce_image,
)
from vidpose.data.readers import list_splits, read_dataset
from vidpose.errors import InputError
from vidpose.io.files import atomic_path, check_writable, sweep_temporaries, write_text

SHARD_FRAMES = 512
"""A shard is closed after so many frames, at the end of a video."""


@dataclass(frozen=True)
class PackOptions:
    """How frames are stored."""

    frame_size: int | None = None
    """Long side that frames are reduced to; ``None``: as they are."""
    quality: int = 95
    """Of JPEGs that are made: of reduced frames, of frames of videos."""
    raw: bool = False
    """Pixels as they are decoded (PPM), so that nothing is left to decode: about 16 times as large."""


@dataclass
class PackSummary:
    """What packing has done."""

    folder: str
    frames: int
    kept: int
    """Frames of shards that were there already."""
    megabytes: float
    pixels: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        kept = f" ({self.kept} were there already)" if self.kept else ""
        return f"{self.folder}: {self.frames} frames{kept} in {self.megabytes:.1f} MB, {self.pixels}"


@dataclass(frozen=True)
class _Item:
    key: str
    frame: Frame


def pack_frames(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    splits: Sequence[str] = (),
    layout: str = "auto",
    options: PackOptions = PackOptions(),
    neighbours: int | None = 2,
    workers: int = 1,
    quiet: bool = True,
) -> PackSummary:
    """Packs the frames that training and scoring need: labelled ones and their neighbours.

    Every frame is decoded once, which also shows that it can be. Image files that are not reduced are stored
    byte by byte; reduced frames and frames of videos become JPEGs, or raw pixels. What an earlier call packed
    stays, if its source files have not changed since; so a call that was broken off is continued by the same
    call, and a further split is added by another. What else lies in the folder stays as it is.

    Args:
        root: the data set's folder.
        output: the pack's folder; by default ``pack`` in the data set's folder, where training looks.
        splits: by default all.
        neighbours: frames on either side of a labelled one; ``None``: every frame.
        workers: threads.

    Raises:
        InputError: a frame is missing or broken; the folder holds a pack with other options, or a file that
            is not of a pack and has a name that the pack needs.
    """
    if workers < 1:
        raise InputError(f"--workers is {workers}: it must be at least 1")
    if not 1 <= options.quality <= 100:
        raise InputError(f"--quality is {options.quality}: it must be 1 to 100")
    if options.frame_size is not None and options.frame_size < 16:
        raise InputError(f"--size is {options.frame_size}: it must be at least 16, or none")
    if neighbours is not None and neighbours < 0:
        raise InputError(f"--neighbours is {neighbours}: it must be at least 0, or all")
    folder = Path(output) if output is not None else Path(root) / PACK_FOLDER
    check_writable(folder)
    shards: list[tuple[str, list[_Item]]] = []
    taken: set[str] = set()
    for split in splits or list_splits(root, layout):
        data = read_dataset(root, split, layout)
        for k, items in enumerate(_shards(data, neighbours, taken)):
            shards.append((f"{split.replace('/', '-')}-{k:05d}", items))
    if not shards:
        raise InputError(f"{root}: has no labelled frame to pack")
    header = _header(options)
    names = {name for name, _ in shards}
    _check_names(folder, names)
    others = _other_shards(folder, header, names)
    found = {name: _kept(folder, name, items, header) for name, items in shards}
    kept = {name: entry for name, entry in found.items() if entry is not None}
    (folder / INDEX).unlink(missing_ok=True)  # from here on the pack is incomplete
    sweep_temporaries(folder)
    todo = [(name, items) for name, items in shards if name not in kept]
    written = _write_all(folder, todo, header, options, workers, quiet)
    entries = [*others, *(kept.get(name) or written[name] for name, _ in shards)]
    write_text(folder / INDEX, "".join(json.dumps(line) + "\n" for line in [header, *entries]))
    _delete_stale(folder, names)
    return PackSummary(
        str(folder),
        sum(entry["frames"] for entry in entries),
        sum(entry["frames"] for entry in [*others, *kept.values()]),
        sum(entry["bytes"] for entry in entries) / 1e6,
        "raw pixels" if options.raw else "images",
    )


def _header(options: PackOptions) -> dict[str, Any]:
    return {
        "format": PACK_FORMAT,
        "version": PACK_VERSION,
        "pixels": "raw" if options.raw else "images",
        "frame_size": options.frame_size,
        "quality": None if options.raw else options.quality,
    }


def _shards(data: PoseDataset, neighbours: int | None, taken: set[str]) -> Iterator[list[_Item]]:
    """The needed frames in order, cut at ends of videos; ``taken``: those that other splits have."""
    items: list[_Item] = []
    for video in data.videos:
        for f in _needed(video.frames, neighbours):
            frame = video.frames[f]
            key = frame_key(data.root, frame.path, frame.video_frame)
            if key not in taken:
                taken.add(key)
                items.append(_Item(key, frame))
        if len(items) >= SHARD_FRAMES:
            yield items
            items = []
    if items:
        yield items


def _needed(frames: list[Frame], neighbours: int | None) -> list[int]:
    if neighbours is None:
        return list(range(len(frames)))
    wanted = np.zeros(len(frames), dtype=bool)
    for f, frame in enumerate(frames):
        if frame.is_labeled:
            wanted[max(f - neighbours, 0) : f + neighbours + 1] = True
    return np.flatnonzero(wanted).tolist()


# --- what is there already -------------------------------------------------------------------------------


def _read_header(path: Path) -> dict[str, Any] | None:
    """First line of a file that a pack consists of; ``None``: there is none, or it is of something else."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.readline(1 << 16))
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and header.get("format") == PACK_FORMAT else None


def _check_names(folder: Path, names: set[str]) -> None:
    """Refuses to take the place of files that are not of a pack.

    A shard's list is there before its tar file, so what lies beside no list of ours is not ours.
    """
    lists = {INDEX: folder / INDEX, **{f"{name}.tar": folder / f"{name}.jsonl" for name in sorted(names)}}
    for data, owner in lists.items():
        taken = [path for path in (folder / data, owner) if os.path.lexists(path)]
        if taken and _read_header(owner) is None:
            raise InputError(
                f"{taken[0]}: is there already and is not of a pack; move it away, or give -o ANOTHER"
            )


def _read_list(folder: Path, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """Header and rows of a shard's list, if both files are there and whole."""
    header = _read_header(folder / f"{name}.jsonl")
    if header is None:
        return None
    try:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines[1:]]
        size = (folder / f"{name}.tar").stat().st_size
    except (OSError, ValueError):
        return None
    whole = header.get("bytes") == size and header.get("frames") == len(rows)
    return (header, rows) if whole and all(isinstance(row, dict) for row in rows) else None


def _entry(name: str, shard: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": f"{name}.tar", "list": f"{name}.jsonl", "frames": shard["frames"], "bytes": shard["bytes"],
    }  # fmt: skip


def _kept(folder: Path, name: str, items: list[_Item], header: dict[str, Any]) -> dict[str, Any] | None:
    """The shard's line of the index, if it holds these frames as they are now."""
    found = _read_list(folder, name)
    if found is None or any(found[0].get(key) != value for key, value in header.items()):
        return None
    rows = found[1]
    if [row.get("frame") for row in rows] != [item.key for item in items]:
        return None
    stamps: dict[Path, list[int]] = {}
    for row, item in zip(rows, items, strict=True):
        path = item.frame.path
        if path not in stamps:
            stamps[path] = _stamp(path)
        if row.get("source") != stamps[path]:
            return None
    return _entry(name, found[0])


def _other_shards(folder: Path, header: dict[str, Any], mine: set[str]) -> list[dict[str, Any]]:
    """Lines of the index of shards of other splits, which stay."""
    entries = []
    for file in sorted(folder.glob("*.jsonl")):
        found = None if file.name == INDEX else _read_list(folder, file.stem)
        if found is None:
            continue
        different = [key for key, value in header.items() if found[0].get(key) != value]
        if different:
            raise InputError(
                f"{folder}: holds a pack with other options ({', '.join(different)}); "
                "delete it, or give -o ANOTHER"
            )
        if _split(file.stem) not in set(map(_split, mine)):
            entries.append(_entry(file.stem, found[0]))
    return entries


def _split(name: str) -> str:
    """``train-00000`` -> ``train``."""
    return name.rpartition("-")[0]


def _delete_stale(folder: Path, names: set[str]) -> None:
    """Shards of an earlier call of these splits that the index no longer names."""
    splits = set(map(_split, names))
    for file in folder.glob("*.jsonl"):
        if file.name == INDEX or file.stem in names or _split(file.stem) not in splits:
            continue
        tar = file.with_suffix(".tar")
        if _read_list(folder, file.stem) is not None:
            tar.unlink()
            file.unlink()
        elif _read_header(file) is not None and not tar.exists():
            file.unlink()


def _stamp(path: Path) -> list[int]:
    try:
        state = path.stat()
    except OSError:
        raise InputError(f"{path}: no such file") from None
    return [state.st_size, state.st_mtime_ns]


# --- writing ---------------------------------------------------------------------------------------------


def _write_all(
    folder: Path,
    shards: list[tuple[str, list[_Item]]],
    header: dict[str, Any],
    options: PackOptions,
    workers: int,
    quiet: bool,
) -> dict[str, dict[str, Any]]:
    total = sum(len(items) for _, items in shards)
    done: queue.SimpleQueue[str | Future] = queue.SimpleQueue()
    written: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(max_workers=min(workers, VIDEOS_OPEN)) as pool:
        futures = {
            pool.submit(_write_shard, folder, name, items, header, options, done): name
            for name, items in shards
        }
        for future in futures:
            future.add_done_callback(done.put)

        def frames() -> Iterator[str]:
            while len(written) < len(shards):
                news = done.get()
                if isinstance(news, str):
                    yield news
                else:
                    written[futures[news]] = news.result()

        try:
            for _ in progress.track(frames(), "packing", total=total, unit="frames", quiet=quiet):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return written


def _write_shard(
    folder: Path,
    name: str,
    items: list[_Item],
    header: dict[str, Any],
    options: PackOptions,
    done: queue.SimpleQueue[Any],
) -> dict[str, Any]:
    """Writes a shard; its line of the index.

    The list is there before the tar file: what is beside no list is not of a pack (:func:`_check_names`).
    """
    rows = []
    with atomic_path(folder / f"{name}.tar") as temporary:
        # The plain format of 1988 has no place for long or accented names; pax has, in a header of its own.
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for item in items:
                stamp = _stamp(item.frame.path)
                data, size, suffix = _encode(item.frame, options)
                member = tarfile.TarInfo(_member_name(item, suffix))
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
                blocks = -(-len(data) // tarfile.BLOCKSIZE)
                rows.append(
                    {
                        "frame": item.key, "offset": tar.offset - blocks * tarfile.BLOCKSIZE,
                        "bytes": len(data), "height": size[0], "width": size[1],
                        "crc32": zlib.crc32(data), "source": stamp,
                    }
                )  # fmt: skip
                done.put(item.key)
        shard = {**header, "frames": len(rows), "bytes": temporary.stat().st_size}
        (folder / f"{name}.tar").unlink(missing_ok=True)  # the list of another may have its size
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in [shard, *rows]))
    return _entry(name, shard)


def _member_name(item: _Item, suffix: str) -> str:
    return (
        item.key + suffix if item.frame.video_frame is not None else str(Path(item.key).with_suffix(suffix))
    )


def _encode(frame: Frame, options: PackOptions) -> tuple[bytes, tuple[int, int], str]:
    """Bytes to store, (height, width) of the original, suffix."""
    import cv2

    image = read_frame(frame)
    size = image.shape[0], image.shape[1]
    image = reduce_image(image, options.frame_size)
    if options.raw:
        header = f"P6\n{image.shape[1]} {image.shape[0]}\n255\n".encode()
        return header + image.tobytes(), size, ".ppm"
    if image.shape[:2] == size and frame.video_frame is None:
        return frame.path.read_bytes(), size, frame.path.suffix
    coded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, options.quality]
    )[1]
    return coded.tobytes(), size, ".jpg"
