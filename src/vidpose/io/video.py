"""Frames of videos, image sequences, cameras and streams, one at a time, with their true times."""

from __future__ import annotations

import heapq
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

from vidpose.errors import InputError
from vidpose.io.hardware import find_accelerators, is_accelerated, restore_colors, tell_software
from vidpose.io.sources import Source, expand_sources, find_source, image_file_name
from vidpose.io.video_writer import VideoWriter

__all__ = ["VideoFrame", "VideoSource", "VideoWriter", "expand_sources", "open_video"]

NOMINAL_FPS = 25.0
"""Rate at which ``time_s`` counts where a source has no clock: image files, raw streams."""
MAX_REPORTS = 100
MAX_READ_ERRORS = 100
NETWORK_TIMEOUT_S = (15.0, 30.0)  # to open, to wait for data


@dataclass
class VideoFrame:
    """One frame as it is displayed: rotation and mirroring of the container are already applied."""

    index: int
    """Position in the source from 0; a frame that could not be decoded keeps its number."""
    time_s: float
    """Presentation time in seconds since the source's first frame."""
    image: np.ndarray
    """[H, W, 3] uint8 RGB."""
    file_name: str | None = None
    """The image file's name, for sources that are image files."""


class VideoSource:
    """A lazy, single-pass iterator of :class:`VideoFrame`; holds one frame, however long the source is.

    Made by :func:`open_video`. Also a context manager; ``close`` may be called at any time.
    """

    def __init__(
        self,
        name: str,
        fps: float | None,
        num_frames: int | None,
        frames: Iterator[VideoFrame],
        log: _DamageLog,
    ) -> None:
        self.name = name
        """Stem for output files: ``walk`` for ``clips/walk.mp4``."""
        self.fps = fps
        """Average frames per second, or ``None`` where the source has no clock."""
        self.num_frames = num_frames
        """Number of frames as far as it can be known beforehand, or ``None``."""
        self.label = re.sub(r"://[^/@]*@", "://", log.label)
        """How the user called the source; a URL without its password."""
        self._frames = frames
        self._log = log
        self._first = next(frames, None)
        if self._first is None:
            count = log.skipped or num_frames or 0
            problem = f"none of its {count} frames can be decoded" if count else "holds no frames"
            raise InputError(f"{log.label}: {problem}")
        self.height, self.width = self._first.image.shape[:2]
        self.sizes: Counter[tuple[int, int]] = Counter()
        """How many frames so far have which (height, width); the first size is that of the first frame."""

    @property
    def skipped(self) -> int:
        """Frames so far that could not be decoded and were left out."""
        return self._log.skipped

    @property
    def reports(self) -> list[str]:
        """What was wrong with the source so far, one line each (at most 100 lines)."""
        return self._log.reports

    def __iter__(self) -> Iterator[VideoFrame]:
        return self

    def __next__(self) -> VideoFrame:
        if self._first is not None:
            frame, self._first = self._first, None
        else:
            frame = next(self._frames)
        self.sizes[frame.image.shape[0], frame.image.shape[1]] += 1
        return frame

    def close(self) -> None:
        """Releases the file, camera or connection; later iteration gives nothing."""
        self._first = None
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_video(
    source: str | int | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    fps: float | None = None,
    decode: str = "cpu",
) -> VideoSource:
    """Opens a video file, image folder, glob of images, image, list of images, camera or URL.

    The first frame is decoded at once, so that a source that cannot be read fails here.

    Args:
        source: a path; a glob that matches images; a camera index (``0`` or ``"0"``); an RTSP, HTTP or other
            URL that FFmpeg opens; or a list of image paths.
        fps: rate of an image sequence. Without it the sequence has ``fps`` ``None`` and its ``time_s`` counts
            at 25 frames per second.
        decode: what decodes videos, cameras and streams: of :func:`vidpose.io.hardware.decode_names`. Where a
            device cannot, the CPU does, and a line on standard error says so.

    Raises:
        InputError: an unknown ``decode``, or the source is missing, empty, cut off, not a video, or has no
            frame that can be decoded.
    """
    found = find_source(source)
    log = _DamageLog(found.label)
    if found.kind == "images":
        return VideoSource(found.name, fps, len(found.images), _image_frames(found.images, fps, log), log)
    stream = _open_stream(found, decode)
    accelerated = stream.accelerated
    try:
        return VideoSource(found.name, stream.fps, stream.num_frames, _video_frames(stream, log), log)
    except BaseException as error:
        stream.close()
        if not (accelerated and isinstance(error, InputError)):
            raise
        reason = str(error)
    tell_software(found.label, decode, reason)
    return open_video(source, fps=fps)


class _DamageLog:
    """Counts what had to be left out and says where."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.skipped = 0
        self.reports: list[str] = []

    def note(self, report: str, skipped: int = 0) -> None:
        self.skipped += skipped
        if len(self.reports) < MAX_REPORTS:
            self.reports.append(f"{self.label}: {report}")


def _numbered(first: int, count: int) -> str:
    return f"frame {first}" if count == 1 else f"frames {first} to {first + count - 1}"


# ------------------------------------------------------------------------------------------------ image files


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an image file as [H, W, 3] uint8 RGB.

    Grey is repeated, alpha dropped, 16 bits reduced to 8, and a JPEG's EXIF orientation applied (as viewers
    and ``cv2.imread`` do).

    Raises:
        InputError: the file is missing, unreadable, cut off or not an image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    image = None
    # A JPEG without end-of-image marker is cut off; some OpenCV versions fill the rest with grey.
    cut_off = data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if data and not cut_off:
        try:
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is None:
        problem = "is empty" if not data else "is cut off or damaged" if cut_off else "cannot be decoded"
        raise InputError(f"{path}: {problem}, an image is needed")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _image_frames(paths: list[Path], fps: float | None, log: _DamageLog) -> Iterator[VideoFrame]:
    for index, path in enumerate(paths):
        try:
            image = read_image(path)
        except InputError as error:
            if len(paths) == 1:
                raise
            log.note(f"frame {index} left out: {error}", skipped=1)
            continue
        yield VideoFrame(index, index / (fps or NOMINAL_FPS), image, image_file_name(path))


# ----------------------------------------------------------------------------------------- videos and streams


class _Stream:
    """An open container and its video stream."""

    def __init__(self, source: Source, threads: str = "AUTO", accelerator: Any = None) -> None:
        self.source = source
        self.live = source.kind in ("camera", "stream")
        self.accelerated = False
        """A device decodes it."""
        self.container = _open_container(source, accelerator)
        try:
            self.stream = self._choose_stream()
        except BaseException:
            self.container.close()
            raise
        # Frame threads keep several frames in flight: speed for files, but delay for what is live.
        self.stream.thread_type = "SLICE" if self.live else threads

    def _choose_stream(self) -> Any:
        label = self.source.label
        if self.container.format.name == "tty":  # FFmpeg renders any .txt file as a film of a terminal
            raise InputError(f"{label}: is a text file, a video is needed")
        streams = [s for s in self.container.streams.video if not _is_cover_picture(s)]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in self.container.streams if s.type != "video"}))
            held = f" (only {kinds})" if kinds else ""
            raise InputError(f"{label}: has no video stream{held}")
        return max(streams, key=lambda s: (s.width or 0) * (s.height or 0))

    @property
    def has_clock(self) -> bool:
        return self.live or self.stream.duration is not None or self.container.duration is not None

    @property
    def fps(self) -> float | None:
        stream = self.stream
        rates = [stream.average_rate, stream.guessed_rate, stream.base_rate]
        if not self.has_clock:  # a raw stream: the average is made up, the codec's own rate is not
            rates = [stream.guessed_rate, stream.average_rate]
        return next((float(rate) for rate in rates if rate), None)

    @property
    def num_frames(self) -> int | None:
        if self.stream.frames:
            return int(self.stream.frames)
        duration = self.stream.duration
        seconds = float(duration * self.stream.time_base) if duration else 0.0
        seconds = seconds or (self.container.duration or 0) / av.time_base
        return round(seconds * self.fps) if seconds > 0 and self.fps else None

    def frames_behind_end(self) -> int:
        """Frames that an MP4's index promises but a cut-off file no longer holds."""
        if self.source.path is None or "mp4" not in self.container.format.name:
            return 0
        entries = getattr(self.stream, "index_entries", ())
        size = self.source.path.stat().st_size
        missing = 0
        for i in range(len(entries) - 1, -1, -1):
            if entries[i].pos < size:
                break
            missing += 1
        return missing

    def close(self) -> None:
        self.container.close()


def _open_stream(source: Source, decode: str) -> _Stream:
    """The source, decoded by the first device that can, or in software."""
    accelerators = find_accelerators(decode)
    reason = _needs_cpu(source) if accelerators else ""
    for accelerator in accelerators if not reason else ():
        try:
            stream = _Stream(source, "SLICE", accelerator)
        except (InputError, RuntimeError) as error:  # of the device, or of the source: that shows below
            reason = str(error)
            continue
        if is_accelerated(stream.stream):
            stream.accelerated = True
            return stream
        reason = f"it does not decode {stream.stream.codec_context.name}"
        stream.close()
    stream = _Stream(source)
    if accelerators and decode != "auto":
        tell_software(source.label, decode, reason)
    return stream


def _needs_cpu(source: Source) -> str:
    """Why no device can decode a source; empty: one may. PyAV brings back a device's frames without their
    side data, to which the display matrix belongs."""
    if source.path is None:
        return "devices decode files alone"
    stream = _Stream(source)
    try:
        frame = next(iter(_Decoder(stream)), None)
        turned = frame is not None and frame.side_data.get(SideDataType.DISPLAYMATRIX) is not None
    finally:
        stream.close()
    return "it says how it is turned, which a device's frames do not" if turned else ""


def _open_container(source: Source, accelerator: Any = None) -> Any:
    options: dict[str, str] = {}
    extra = {} if accelerator is None else {"hwaccel": accelerator}
    try:
        if source.kind == "camera":
            device, driver, options = _camera_device(source.camera)
            return av.open(device, format=driver, options=options, timeout=NETWORK_TIMEOUT_S, **extra)
        if source.kind == "stream":
            if source.label.startswith("rtsp"):
                options = {"rtsp_transport": "tcp"}
            return av.open(source.label, options=options, timeout=NETWORK_TIMEOUT_S, **extra)
        path = source.path
        if path is not None and path.is_file() and path.stat().st_size == 0:
            raise InputError(f"{source.label}: is empty, a video is needed")
        return av.open(f"file:{path}", **extra)  # "file:" because FFmpeg takes "a:b.mp4" for a protocol
    except av.FFmpegError as error:
        problem = error.strerror or str(error)
        if isinstance(error, av.InvalidDataError):
            problem = "is not a video, or is cut off before its index"
        elif isinstance(error, FileNotFoundError):
            problem = "no such camera" if source.kind == "camera" else "no such file"
        else:
            problem = f"cannot be opened: {problem}"
        raise InputError(f"{source.label}: {problem}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{source.label}: cannot be opened: {error}") from None


def _camera_device(index: int) -> tuple[str, str, dict[str, str]]:
    """FFmpeg's device name, driver and options of a camera by platform."""
    if sys.platform == "darwin":
        return str(index), "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        from av.device import enumerate_input_devices

        cameras = [d.description for d in enumerate_input_devices("dshow") if "video" in d.media_types]
        if index >= len(cameras):
            raise InputError(f"camera {index}: no such camera; {len(cameras)} found")
        return f"video={cameras[index]}", "dshow", {}
    return f"/dev/video{index}", "v4l2", {}


def _is_cover_picture(stream: Any) -> bool:
    disposition = getattr(stream, "disposition", None)
    return disposition is not None and bool(disposition & type(disposition).attached_pic)


def _video_frames(stream: _Stream, log: _DamageLog) -> Iterator[VideoFrame]:
    """All frames that can be decoded, in display order, numbered with the lost ones counted."""
    reformatter = VideoReformatter()
    origin: int | None = None  # in ticks of the stream's time base
    last_pts: int | None = None
    index = 0
    time_s = 0.0
    size: tuple[int, ...] | None = None  # of the first frame
    decoded_size: tuple[int, ...] | None = None
    decoder = _Decoder(stream)
    tail: _Stream | None = None
    try:
        while True:
            for frame in decoder:
                lost, decoder.lost = decoder.lost, 0
                if lost:
                    log.note(f"{_numbered(index, lost)} cannot be decoded", lost)
                    index += lost
                if origin is None and frame.pts is not None:
                    start = stream.stream.start_time
                    origin = frame.pts if start is None else min(start, frame.pts)
                if stream.accelerated:
                    restore_colors(frame, stream.stream.codec_context)
                image = _upright(frame, reformatter)
                size = size or image.shape
                if image.shape != size:
                    if image.shape != decoded_size:
                        height, width = image.shape[:2]
                        log.note(f"from frame {index} on the size is {width}x{height}, scaled back")
                    decoded_size = image.shape
                    # As players do: the picture fills the frame that the video began with.
                    image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
                step_s = 1 / (stream.fps or NOMINAL_FPS)
                if frame.pts is None:
                    time_s = index * step_s
                else:
                    if (
                        last_pts is not None and frame.pts <= last_pts
                    ):  # the clock was set back: go on from here
                        origin = frame.pts - round((time_s + step_s) / frame.time_base)
                    time_s = float((frame.pts - (origin or 0)) * frame.time_base)
                yield VideoFrame(index, time_s, image)
                last_pts = frame.pts
                index += 1
            if not decoder.unseen or tail is not None or stream.live or last_pts is None:
                break
            # With frame threads a broken end takes good frames with it: once more without, from there on.
            tail = _Stream(stream.source, threads="NONE")
            decoder = _Decoder(tail, after=last_pts)
        lost = decoder.lost + (decoder.unseen if decoder.damaged else 0)
        if lost:
            log.note(f"{_numbered(index, lost)} cannot be decoded, at the end", lost)
        missing = 0 if stream.live else stream.frames_behind_end()
        if missing:
            log.note(f"the file is cut off: {_numbered(index + lost, missing)} missing", missing)
        if decoder.broken_off:
            log.note(f"reading stopped after frame {index + lost - 1}: {decoder.broken_off}")
    finally:
        stream.close()
        if tail is not None:
            tail.close()


def _upright(frame: Any, reformatter: VideoReformatter) -> np.ndarray:
    """The frame as [H, W, 3] uint8 RGB, turned and mirrored as its display matrix says."""
    image = reformatter.reformat(frame, format="rgb24").to_ndarray()
    side = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side is not None:
        a, b, _, c, d, *_ = np.frombuffer(bytes(side), dtype=np.int32).tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):  # x' = ax, y' = dy
            image = image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
        else:  # x' = cy, y' = bx
            image = image.transpose(1, 0, 2)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
    return np.require(image, requirements=["C", "W", "O"])


class _Decoder:
    """One pass over a stream's packets: good frames in display order, and how many are lost between them.

    Lost frames are the time stamps that went in and did not come out. They count only once the stream has
    shown an error, because healthy streams may hold packets that are never displayed (alternate references,
    second fields).
    """

    def __init__(self, stream: _Stream, after: int | None = None) -> None:
        self._stream = stream
        self._after = after
        self._pending: list[int] = []
        self._given_up: set[int] = set()
        self.damaged = False
        self.lost = 0
        """Lost frames since the last one given out; the reader sets it back to 0."""
        self.broken_off = ""

    @property
    def unseen(self) -> int:
        """Frames that went in and have not come out."""
        return len(self._pending)

    def __iter__(self) -> Iterator[Any]:
        container, stream = self._stream.container, self._stream.stream
        if self._after is not None:
            container.seek(self._after, stream=stream, backward=True)
        for packet in self._packets(container, stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if isinstance(error, EOFError):
                    continue
                self.damaged = True
                if packet.pts is None and packet.size:
                    self.lost += 1
                continue
            for frame in frames:
                if self._is_good(frame):
                    yield frame

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        packets = container.demux(stream)
        errors = 0
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                errors += 1
                self.damaged = True
                if self._stream.live or errors > MAX_READ_ERRORS:
                    self.broken_off = error.strerror or str(error)
                    return
                packets = container.demux(stream)
                continue
            errors = 0
            wanted = self._after is None or packet.pts is None or packet.pts > self._after
            if packet.pts is not None and packet.size and wanted and not packet.is_discard:
                heapq.heappush(self._pending, packet.pts)
            yield packet

    def _is_good(self, frame: Any) -> bool:
        if frame.pts is not None:
            if self._after is not None and frame.pts <= self._after:
                return False
            if frame.pts in self._given_up:  # out of order after damage: its place is behind us
                return False
            while self._pending and self._pending[0] < frame.pts:
                earlier = heapq.heappop(self._pending)
                if self.damaged:
                    self._given_up.add(earlier)
                    self.lost += 1
            if self._pending and self._pending[0] == frame.pts:
                heapq.heappop(self._pending)
        if frame.is_corrupt:
            self.damaged = True
            self.lost += 1
            return False
        return True
