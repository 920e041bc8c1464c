"""Boxes for every frame from a detector that sees some: interpolated where people match, seen where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.infer.detect import Detection, FrameKey
from vidpose.infer.sparse_detect import LONGEST, SparseDetection, interval_frames

Scene = Callable[[int], list[tuple[float, float, float]]]
"""Frame number -> the (x, y, score) of its people, who are 20 x 40 pixels large."""


class Scripted:
    """A detector that knows the scene; the frame's number is its image's value."""

    name = "scripted"

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.seen: list[int] = []

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        self.seen += [int(image[0, 0, 0]) for image in images]
        return [true_boxes(self.scene, int(image[0, 0, 0])) for image in images]


def true_boxes(scene: Scene, frame: int) -> Detection:
    people = sorted(scene(frame), key=lambda person: -person[2])
    boxes = [[x, y, x + 20, y + 40] for x, y, _ in people]
    return Detection(np.array(boxes, dtype=float).reshape(-1, 4), np.array([p[2] for p in people]))


def run(scene: Scene, frames: int, interval: int, chunk: int = 4) -> tuple[list[Detection], list[int]]:
    detector = Scripted(scene)
    sparse = SparseDetection(detector, interval)
    out: list[Detection] = []
    for start in range(0, frames, chunk):
        numbers = range(start, min(start + chunk, frames))
        images = [np.full((2, 2, 3), n, np.uint8) for n in numbers]
        out += sparse.update(images, [FrameKey(n) for n in numbers])
    out += sparse.flush()
    assert sparse.frames_seen == len(detector.seen)
    return out, detector.seen


def same(found: list[Detection], scene: Scene) -> bool:
    truth = [true_boxes(scene, n) for n in range(len(found))]
    return all(
        len(a) == len(b) and np.allclose(a.boxes_xyxy, b.boxes_xyxy) and np.allclose(a.scores, b.scores)
        for a, b in zip(found, truth, strict=True)
    )


def test_even_motion_is_interpolated_exactly_from_every_fourth_frame() -> None:
    def scene(n: int) -> list[tuple[float, float, float]]:
        return [(10 + 2.0 * n, 5 + 1.0 * n, 0.9), (90 - 1.5 * n, 60, 0.7 - 0.01 * n)]

    found, seen = run(scene, 18, 4)
    assert seen == [0, 4, 8, 12, 16, 17] and same(found, scene)


@pytest.mark.parametrize("change", range(1, 12))
def test_who_comes_or_leaves_is_found_in_every_frame(change: int) -> None:
    def scene(n: int) -> list[tuple[float, float, float]]:
        return [(10, 5, 0.9)] + ([(60, 5, 0.8)] if n >= change else [(200, 5, 0.6)])

    found, seen = run(scene, 13, 4)
    assert same(found, scene) and len(seen) < 10


def test_who_moves_too_far_is_looked_for_between() -> None:
    def scene(n: int) -> list[tuple[float, float, float]]:
        return [(15.0 * n, 5, 0.9)]

    found, seen = run(scene, 9, 4)
    assert same(found, scene) and seen == [0, 4, 2, 1, 3, 8, 6, 5, 7]


def test_a_weak_box_without_a_partner_is_no_reason_to_look() -> None:
    def scene(n: int) -> list[tuple[float, float, float]]:
        return [(10, 5, 0.9)] + ([(100, 5, 0.3)] if n == 4 else [])

    found, seen = run(scene, 9, 4)
    assert seen == [0, 4, 8] and [len(d) for d in found] == [1, 1, 1, 1, 2, 1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7), st.integers(0, 2**16))
def test_every_frame_comes_out_once_and_in_order(frames: int, interval: int, chunk: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, 300, (frames, 3, 2))
    there = rng.random((frames, 3)) < 0.7

    def scene(n: int) -> list[tuple[float, float, float]]:
        return [(x, y, 0.9) for (x, y), here in zip(places[n], there[n], strict=True) if here]

    found, seen = run(scene, frames, interval, chunk)
    assert len(found) == frames and len(seen) == len(set(seen))
    for n in seen:
        assert len(found[n]) == int(there[n].sum())
    if interval == 1:
        assert seen == list(range(frames)) and same(found, scene)


def test_the_interval_is_a_time() -> None:
    assert [interval_frames(0.15, fps) for fps in (6.0, 25.0, 30.0, 60.0, 240.0)] == [1, 4, 4, 9, LONGEST]
    assert interval_frames(0.15, None) == interval_frames(0.0, 25.0) == 1
