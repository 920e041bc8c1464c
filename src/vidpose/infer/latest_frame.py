"""The newest frame of a source that goes on whether or not somebody is ready for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from vidpose.io.video import VideoFrame

POLL_S = 0.2
"""How long one waits for a frame before asking whether to stop."""


class Clock(Protocol):
    """Seconds that pass; tests put their own in."""

    def now(self) -> float:
        """Seconds since some start."""
        ...

    def wait(self, seconds: float) -> None:
        """Returns when so many have passed."""
        ...


class WallClock:
    """The machine's clock, which is never set back."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


def paced(frames: Iterable[VideoFrame], clock: Clock) -> Iterator[VideoFrame]:
    """Frames of a file at the times that it shows them, counted from the first one; none early."""
    start: float | None = None
    for frame in frames:
        if start is None:
            start = clock.now() - frame.time_s
        early = start + frame.time_s - clock.now()
        if early > 0:
            clock.wait(early)
        yield frame


@dataclass
class Arrived:
    """A frame and when it came."""

    frame: VideoFrame
    at_s: float


class LatestFrame:
    """Holds one frame: the newest that nobody has taken. A newer one takes its place, and is counted."""

    def __init__(self, clock: Clock) -> None:
        self.dropped = 0
        """Frames so far that nobody took."""
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: Arrived | None = None
        self._ended = False
        self._error: BaseException | None = None

    def put(self, frame: VideoFrame) -> None:
        """Offers the next frame."""
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = Arrived(frame, self._clock.now())
            self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """No more frames come; ``error`` is raised where the next one is asked for."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self, timeout_s: float = POLL_S) -> Arrived | None:
        """The newest frame; ``None``: none came in time, or see :attr:`over`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._ended, timeout_s)
            taken, self._waiting = self._waiting, None
            if taken is None and self._error is not None:
                raise self._error
            return taken

    @property
    def over(self) -> bool:
        """The source has ended, and its last frame was taken."""
        with self._changed:
            return self._ended and self._waiting is None


class FrameReader:
    """A thread that reads a source and always has its newest frame.

    Args:
        frames: the source; read in the thread alone.
        clock: stamps the frames.
        release: called in the thread when it reads no more.
    """

    def __init__(self, frames: Iterable[VideoFrame], clock: Clock, release: Callable[[], None]) -> None:
        self.latest = LatestFrame(clock)
        self._frames = frames
        self._release = release
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="vidpose-reader", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Reads no more; a camera that gives nothing keeps its thread until it does."""
        self._stopped.set()
        self._thread.join(timeout_s)

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            for frame in self._frames:
                if self._stopped.is_set():
                    break
                self.latest.put(frame)
        except BaseException as problem:  # it is for whoever waits for the next frame
            error = problem
        self.latest.end(error)
        self._release()
