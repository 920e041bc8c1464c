"""Pacing and dropping, by a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from vidpose.infer.latest_frame import FrameReader, LatestFrame, paced
from vidpose.io.video import VideoFrame


class FakeClock:
    def __init__(self) -> None:
        self.time, self.waits = 100.0, list[float]()

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


def frames(count: int, step: float = 0.04) -> Iterator[VideoFrame]:
    for k in range(count):
        yield VideoFrame(k, k * step, np.zeros((2, 2, 3), np.uint8))


def test_a_file_is_played_at_its_own_rate() -> None:
    clock = FakeClock()
    came = []
    for frame in paced(frames(5), clock):
        came.append(clock.now() - 100)
        clock.time += 0.1 if frame.index == 1 else 0.01  # the second one takes long
    np.testing.assert_allclose(came, [0, 0.04, 0.14, 0.15, 0.16])
    np.testing.assert_allclose(clock.waits, [0.03])


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    clock = FakeClock()
    latest = LatestFrame(clock)
    for frame in frames(3):
        latest.put(frame)
        clock.time += 1
    taken = latest.take()
    assert taken is not None and (taken.frame.index, taken.at_s, latest.dropped) == (2, 102.0, 2)
    assert latest.take(timeout_s=0) is None and not latest.over
    latest.put(next(frames(1)))
    latest.end()
    assert not latest.over  # one waits
    assert latest.take() is not None and latest.over and latest.dropped == 2
    assert latest.take() is None


def test_an_error_of_the_source_is_raised_where_its_frame_is_wanted() -> None:
    def broken() -> Iterator[VideoFrame]:
        yield from frames(1)
        raise OSError("the camera is gone")

    released = threading.Event()
    reader = FrameReader(broken(), FakeClock(), released.set)
    reader.stop(10)
    assert released.is_set()
    assert reader.latest.take() is not None
    with pytest.raises(OSError, match="gone"):
        reader.latest.take()
