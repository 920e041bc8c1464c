"""Frames of data sets: images, frames of video files, packed shards of either, decoded when asked for."""

from __future__ import annotations

import json
import mmap
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from vidpose import progress
from vidpose.cpus import usable_cpus
from vidpose.data.dataset import Frame, PoseDataset
from vidpose.data.readers import read_image
from vidpose.errors import InputError
from vidpose.io.seek import VideoFiles

CACHES = ("none", "ram", "pack")

PACK_FOLDER = "pack"
"""Where in a data set's folder its packed frames are looked for."""
PACK_FORMAT = "vidpose frames"
PACK_VERSION = 1
INDEX = "index.jsonl"

_KEEP_FRAMES = 16
VIDEOS_OPEN = 8
"""Video files that one process reads from at a time."""
_VIDEOS = VideoFiles(VIDEOS_OPEN)


def read_frame(frame: Frame, long_side: int | None = None) -> np.ndarray:
    """uint8 RGB [H, W, 3] of a frame: an image file, or frame ``video_frame`` of a video file.

    The frames of a video file are decoded one after the other where they are read in order, and from the
    nearest key frame where not.

    Args:
        long_side: reduced so that the longer side has at most so many pixels (:func:`reduced_size`).

    Raises:
        InputError: the file is missing or broken, or the video has no such frame.
    """
    return _read(frame.path, frame.video_frame, long_side, frame.size)


def _read(path: Path, number: int | None, long_side: int | None, size: tuple[int, int]) -> np.ndarray:
    if number is not None:
        if not path.is_file():
            raise InputError(f"{path}: no such video")
        return reduce_image(_VIDEOS.read(path, number), long_side)
    if long_side is not None and max(size) >= 2 * long_side:
        image = _read_reduced(path, long_side, size)
        if image is not None:
            return image
    return reduce_image(read_image(path), long_side)


def reduced_size(size: tuple[int, int], long_side: int | None) -> tuple[int, int]:
    """(height, width) of a frame whose longer side is reduced to ``long_side``; never enlarged."""
    if long_side is None or max(size) <= long_side:
        return size
    ratio = long_side / max(size)
    return max(round(size[0] * ratio), 1), max(round(size[1] * ratio), 1)


def reduce_image(image: np.ndarray, long_side: int | None) -> np.ndarray:
    """The image by area averaging at :func:`reduced_size`; the image itself where that is its size."""
    import cv2

    height, width = reduced_size((image.shape[0], image.shape[1]), long_side)
    if (height, width) == image.shape[:2]:
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _read_reduced(path: Path, long_side: int, size: tuple[int, int]) -> np.ndarray | None:
    """The decoder gives a half, quarter or eighth of the picture, which is quicker than the whole."""
    import cv2

    factor = next(f for f in (8, 4, 2) if max(size) >= f * long_side)
    if size[0] % factor or size[1] % factor:
        return None  # the decoder would round up, and positions would be off by part of a pixel
    flags = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    image = cv2.imread(str(path), flags[factor])
    if image is None or image.shape[:2] != (size[0] // factor, size[1] // factor):
        return None
    height, width = reduced_size(size, long_side)
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    if image.shape[:2] == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def frame_key(root: Path, path: Path, number: int | None) -> str:
    """What a frame is called in a pack: its file below the data set's folder, and its number in a video."""
    try:
        name = path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        name = path.resolve().as_posix().lstrip("/")
    return name if number is None else f"{name}/{number:06d}"


class FramePack:
    """Packed frames (:mod:`vidpose.data.pack` writes them): tar files, and for each a list of its frames.

    The tar files are mapped into memory, so that every process shares what the system has read of them.

    Args:
        folder: of the pack.

    Raises:
        InputError: it is not a pack, is incomplete, or a shard is not as long as it was.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        header, *shards = _read_lines(self.folder / INDEX)
        if header.get("format") != PACK_FORMAT or header.get("version") != PACK_VERSION:
            raise InputError(
                f"{self.folder / INDEX}: is no index of version {PACK_VERSION}; delete it and pack again"
            )
        self.frame_size: int | None = header["frame_size"]
        self.pixels: str = header["pixels"]
        self.rows: dict[str, tuple[int, ...]] = {}
        """Name -> shard, offset, length, height and width of the original, CRC-32 of the bytes."""
        self._names: list[str] = [shard["file"] for shard in shards]
        self._lengths: list[int] = [shard["bytes"] for shard in shards]
        self._shards = self._map_all()
        for k, shard in enumerate(shards):
            for row in _read_lines(self.folder / shard["list"])[1:]:
                self.rows[row["frame"]] = (
                    k, row["offset"], row["bytes"], row["height"], row["width"], row["crc32"],
                )  # fmt: skip

    def _map_all(self) -> list[np.ndarray]:
        files = zip(self._names, self._lengths, strict=True)
        return [_map(self.folder / name, length) for name, length in files]

    def __getstate__(self) -> dict[str, Any]:
        """For processes that are not forked: the files are mapped again, not copied."""
        return {**self.__dict__, "_shards": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shards = self._map_all()

    def read(self, row: Sequence[int], *, check: bool | None = None) -> np.ndarray:
        """uint8 RGB [H, W, 3] of a row of ``rows``; raw pixels are a view of the file, not to be changed.

        Args:
            check: compare the checksum; by default of images, not of raw pixels, which it would slow down.

        Raises:
            InputError: the bytes are not those that were packed.
        """
        import cv2

        shard, offset, length, height, width, crc = (int(value) for value in row)
        data = self._shards[shard][offset : offset + length]
        raw = self.pixels == "raw"
        good = len(data) == length
        if good and (not raw if check is None else check):
            good = zlib.crc32(data.tobytes()) == crc
        image = None
        if good and raw:
            # A PPM file: its header is text, then come the pixels in order.
            height, width = reduced_size((height, width), self.frame_size)
            start = length - 3 * height * width
            image = data[start:].reshape(height, width, 3) if start > 0 else None
        elif good:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
            if image is not None:
                image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
        if image is None:
            raise InputError(
                f"{self.folder / self._names[shard]}: frame at byte {offset} is damaged; delete the file and "
                "pack again"
            )
        return image

    def verify(self) -> None:
        """Reads and decodes every frame; raises on the first that is damaged."""
        for row in self.rows.values():
            self.read(row, check=True)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"{path}: cannot be read: {reason}; make it with vidpose data pack") from None
    rows = []
    for k, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{k}: is damaged; delete it and pack again")
        rows.append(row)
    if not rows:
        raise InputError(f"{path}: is empty; delete it and pack again")
    return rows


def _map(path: Path, length: int) -> np.ndarray:
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; pack again") from None
    if len(mapped) != length:
        raise InputError(f"{path}: has {len(mapped)} bytes, {length} were written; delete it and pack again")
    return np.frombuffer(mapped, dtype=np.uint8)


class FrameStore:
    """Frames of a data set, decoded when asked for.

    What it holds per frame are rows of arrays, not objects: a forked process that counted references would
    copy them all.

    Args:
        cache: ``ram`` keeps every needed frame decoded in memory; workers forked afterwards share it.
            ``pack`` reads packed frames. ``none`` and ``pack`` keep the last few, so that people of one
            frame, read in order, share its decoding.
        needed: (video, frame) positions to load for ``ram``, and that a pack must hold.
        frame_size: reduce frames to this longer side (a choice that changes pixels).
        pack: folder of the packed frames; by default ``pack`` in the data set's folder.

    Raises:
        InputError: an image is missing or broken, the frames do not fit into the free memory, or the pack
            lacks frames or was made for another ``frame_size``.
    """

    def __init__(
        self,
        data: PoseDataset,
        cache: str = "none",
        needed: Iterable[tuple[int, int]] = (),
        *,
        frame_size: int | None = None,
        pack: str | os.PathLike[str] | None = None,
        quiet: bool = True,
    ) -> None:
        if cache not in CACHES:
            raise InputError(f"data.cache is {cache!r}; known: {', '.join(CACHES)}")
        frames = [frame for _, frame in data.frames()]
        self.starts = np.cumsum([0, *(len(video.frames) for video in data.videos)])
        """[V + 1] number of the first frame of each video, counted over all."""
        self.frame_size = frame_size
        self.decoded = 0
        """Frames decoded so far, by this process."""
        self._paths = np.array([os.fsencode(frame.path) for frame in frames] or [b""])
        self._numbers = np.array([-1 if f.video_frame is None else f.video_frame for f in frames], np.int64)
        self._sizes = np.array([frame.size for frame in frames], np.int64).reshape(-1, 2)
        self._loaded: dict[int, np.ndarray] = {}
        self._recent: OrderedDict[int, np.ndarray] = OrderedDict()
        self._pack: FramePack | None = None
        wanted = sorted({int(self.starts[v]) + f for v, f in needed}) if cache != "none" else []
        if cache == "ram":
            self._load(wanted, quiet)
        elif cache == "pack":
            self._open_pack(data, frames, wanted, Path(pack) if pack is not None else data.root / PACK_FOLDER)

    def _load(self, wanted: list[int], quiet: bool) -> None:
        sizes = (reduced_size((int(h), int(w)), self.frame_size) for h, w in self._sizes[wanted])
        size = sum(3 * height * width for height, width in sizes)
        free = _free_memory()
        if free is not None and size > 0.9 * free:
            raise InputError(
                f"data.cache=ram needs {size / 1e9:.1f} GB for {len(wanted)} frames, {free / 1e9:.1f} GB are "
                "free; use data.cache=pack or none"
            )
        # Frames of one video file come from one decoder, in order; images from as many threads as there are.
        threads = 1 if (self._numbers[wanted] >= 0).any() else usable_cpus()
        with ThreadPoolExecutor(max_workers=threads) as pool:
            images = pool.map(self._decode, wanted)
            shown = progress.track(images, "reading frames", total=len(wanted), unit="frames", quiet=quiet)
            self._loaded.update(zip(wanted, shown, strict=True))

    def _open_pack(self, data: PoseDataset, frames: list[Frame], wanted: list[int], folder: Path) -> None:
        if not (folder / INDEX).is_file():
            raise InputError(
                f"{folder}: holds no packed frames; make them with vidpose data pack {data.root}, or use "
                "data.cache=none"
            )
        pack = FramePack(folder)
        if pack.frame_size != self.frame_size:
            raise InputError(
                f"{folder}: holds frames {_size_text(pack.frame_size)}, the recipe wants them "
                f"{_size_text(self.frame_size)}: set data.frame_size={pack.frame_size or 'null'} or repack"
            )
        absent = (-1,) * 6
        rows = [pack.rows.get(frame_key(data.root, f.path, f.video_frame), absent) for f in frames]
        self._rows = np.array(rows, np.int64).reshape(-1, 6)
        missing = [k for k in wanted if self._rows[k, 0] < 0]
        if missing:
            raise InputError(
                f"{folder}: lacks {len(missing)} of {len(wanted)} frames of split {data.split!r}, "
                f"{frames[missing[0]].file_name} among them; add them with vidpose data pack {data.root} "
                f"--split {data.split} (--neighbours for longer clips)"
            )
        pack.rows = {}  # by name they are not needed any more
        self._pack = pack

    def _decode(self, frame: int) -> np.ndarray:
        if self._pack is not None:
            self.decoded += self._pack.pixels != "raw"
            return self._pack.read(self._rows[frame])
        self.decoded += 1
        number = int(self._numbers[frame])
        size = int(self._sizes[frame, 0]), int(self._sizes[frame, 1])
        path = Path(os.fsdecode(bytes(self._paths[frame])))
        return _read(path, None if number < 0 else number, self.frame_size, size)

    def get(self, video: int, frame: int) -> np.ndarray:
        """uint8 RGB [H, W, 3] of a frame, reduced to ``frame_size``; not to be changed."""
        key = int(self.starts[video]) + frame
        if key in self._loaded:
            return self._loaded[key]
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        image = self._decode(key)
        self._recent[key] = image
        if len(self._recent) > _KEEP_FRAMES:
            self._recent.popitem(last=False)
        return image

    def scale(self, video: int, frame: int, image: np.ndarray) -> tuple[float, float] | None:
        """(x, y) by which the frame's ``image`` is smaller than the frame; ``None``: it is not."""
        if self.frame_size is None:
            return None
        key = int(self.starts[video]) + frame
        height, width = self._rows[key, 3:5] if self._pack is not None else self._sizes[key]
        if not height or not width or (height, width) == image.shape[:2]:
            return None
        return image.shape[1] / float(width), image.shape[0] / float(height)


def _size_text(long_side: int | None) -> str:
    return "as they are" if long_side is None else f"with a long side of {long_side}"


def scaled_affine(affine: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    """The affine [2, 3] for an image that was reduced by ``scale`` (x, y), from the original's affine.

    Reducing keeps the picture's outer edges: pixel x of the reduced image lies at (x + 0.5) / scale - 0.5.
    """
    if scale is None:
        return affine
    back = np.array([[1 / scale[0], 0, 0.5 / scale[0] - 0.5], [0, 1 / scale[1], 0.5 / scale[1] - 0.5]])
    return np.concatenate([affine[:, :2] @ back[:, :2], affine[:, :2] @ back[:, 2:] + affine[:, 2:]], axis=1)


def _free_memory() -> int | None:
    """Bytes that can be taken without swapping; ``None`` where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
