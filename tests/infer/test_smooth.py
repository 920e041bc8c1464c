"""The One-Euro filter: calm at rest, prompt in motion, aware of time, tracks and confidence."""

from __future__ import annotations

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.infer.smooth import KeypointSmoother
from vidpose.results import FramePoses


def frame(
    index: int, points: np.ndarray, scores: float = 0.9, track: int = 0, fps: float = 25.0
) -> FramePoses:
    points = np.broadcast_to(np.asarray(points, dtype=float), (15, 2))
    return FramePoses(
        index, index / fps, points[None], np.full((1, 15), scores), [[0, 0, 100, 200]], [0.9], [track]
    )


def test_rest_is_calmer():
    rng = np.random.default_rng(0)
    smoother = KeypointSmoother()
    raw = [frame(t, np.array([50.0, 80.0]) + rng.normal(0, 1.5, (15, 2))) for t in range(100)]
    out = np.array([smoother(f).keypoints[0] for f in raw])
    before = np.diff(np.array([f.keypoints[0] for f in raw])[20:], axis=0).std()
    assert np.diff(out[20:], axis=0).std() < 0.5 * before
    assert np.abs(out[20:].mean(axis=0) - [50, 80]).max() < 1.0


def test_fast_motion_is_followed():
    smoother = KeypointSmoother()
    for t in range(40):
        given = frame(t, [10.0 + 12 * t, 80.0])
        out = smoother(given)
    assert np.abs(out.keypoints - given.keypoints).max() < 8  # less than a frame's motion behind


def test_twice_the_time_step_smooths_less():
    """The same jump is followed further when more time has passed."""
    moved = {}
    for fps in (10.0, 60.0):
        smoother = KeypointSmoother()
        smoother(frame(0, [0.0, 0.0], fps=fps))
        moved[fps] = smoother(frame(1, [2.0, 0.0], fps=fps)).keypoints[0, 0, 0]
    assert 0 < moved[60.0] < moved[10.0] < 2.0


def test_unsure_joints_move_less_and_absent_ones_are_passed_on():
    sure, unsure = KeypointSmoother(), KeypointSmoother()
    sure(frame(0, [0.0, 0.0]))
    unsure(frame(0, [0.0, 0.0]))
    assert (
        unsure(frame(1, [9.0, 0.0], 0.1)).keypoints[0, 0, 0] < sure(frame(1, [9.0, 0.0])).keypoints[0, 0, 0]
    )
    smoother = KeypointSmoother()
    smoother(frame(0, [0.0, 0.0], 0.0))
    assert smoother(frame(1, [300.0, 0.0], 0.9)).keypoints[0, 0, 0] == 300.0


def test_tracks_do_not_mix_and_are_forgotten():
    smoother = KeypointSmoother()
    smoother(frame(0, [0.0, 0.0], track=0))
    assert smoother(frame(1, [90.0, 0.0], track=1)).keypoints[0, 0, 0] == 90.0
    assert smoother(frame(60, [50.0, 0.0], track=0)).keypoints[0, 0, 0] == 50.0
    assert len(smoother._tracks) == 1


def test_standing_clock_is_survived():
    smoother = KeypointSmoother()
    for _ in range(3):
        out = smoother(frame(0, [5.0, 5.0]))
    assert np.isfinite(out.keypoints).all()
    with pytest.raises(InputError):
        KeypointSmoother(min_cutoff=0)
