"""Joints that leap are put back; everything that moves, however fast, is left alone."""

from __future__ import annotations

import numpy as np
import pytest

from vidpose.infer.leaps import LeapFilter
from vidpose.results import FramePoses

BOX = [0.0, 0.0, 100.0, 200.0]


def frames(points: np.ndarray, scores: np.ndarray | None = None, track_id: int = 3) -> list[FramePoses]:
    """One person's [T, J, 2] as frames."""
    scores = np.full(points.shape[:2], 0.9) if scores is None else scores
    return [
        FramePoses(
            t, t / 25, points[t : t + 1], scores[t : t + 1], np.array([BOX]), np.ones(1), np.array([track_id])
        )
        for t in range(len(points))
    ]


def steadied(given: list[FramePoses], reach: int = 6) -> list[FramePoses]:
    pairs = list(LeapFilter(reach)((frame, frame.index) for frame in given))
    assert [rest for _, rest in pairs] == [frame.index for frame in given]
    return [frame for frame, _ in pairs]


def moving(length: int = 40, joints: int = 5) -> np.ndarray:
    """[T, J, 2] joints that swing, up to 4 pixels a frame."""
    t = np.arange(length)[:, None]
    phase = np.arange(joints)[None]
    return np.stack([100 + 60 * np.sin(0.07 * t + phase), 200 + 40 * np.cos(0.07 * t + phase)], axis=-1)


def test_a_leap_of_some_frames_is_put_back_and_the_rest_stays() -> None:
    truth = moving()
    seen = truth.copy()
    seen[10, 2] += (120, -40)
    seen[20:23, 0] += (-90, 70)  # three frames
    seen[0, 4] += 150  # at the very beginning
    out = np.stack([frame.keypoints[0] for frame in steadied(frames(seen))])
    leapt = np.abs(seen - truth).max(axis=-1) > 0
    np.testing.assert_array_equal(out[~leapt], seen.astype(np.float32)[~leapt])
    between = leapt.copy()
    between[0] = False
    assert np.linalg.norm(out - truth, axis=-1)[between].max() < 4
    np.testing.assert_array_equal(out[0, 4], seen[0, 4].astype(np.float32))  # nothing says what was before


def test_a_movement_that_begins_in_the_last_frames_is_left_alone() -> None:
    seen = np.full((20, 2, 2), 50.0)
    seen[16:, 0, 1] += (25, 100, 225, 400)
    out = np.stack([frame.keypoints[0] for frame in steadied(frames(seen))])
    np.testing.assert_array_equal(out, seen.astype(np.float32))


@pytest.mark.parametrize("speed", [0.0, 3.0, 40.0])
def test_steady_motion_and_true_turns_are_left_alone(speed: float) -> None:
    t = np.arange(30.0)
    there_and_back = np.where(t < 15, t, 30 - t)
    seen = np.stack([speed * there_and_back, speed * t], axis=-1)[:, None].repeat(3, axis=1)
    for frame, given in zip(steadied(frames(seen)), frames(seen), strict=True):
        np.testing.assert_array_equal(frame.keypoints, given.keypoints)


def test_scores_decide_where_the_joint_is() -> None:
    """Unsure frames that leap do not outvote sure ones, though they are more."""
    seen = np.full((13, 1, 2), 50.0)
    seen[[1, 2, 4, 5, 7, 8, 10, 11]] += 200
    scores = np.where(seen[:, :, 0] > 100, 0.05, 0.9)
    out = steadied(frames(seen, scores))
    assert all(np.allclose(frame.keypoints, 50) for frame in out)
    np.testing.assert_array_equal(np.stack([f.scores[0] for f in out]), scores.astype(np.float32))


def test_people_do_not_mix_and_may_come_and_go() -> None:
    rng = np.random.default_rng(0)
    first, second = moving(20), moving(20)[::-1] + (300, 0)
    given = []
    for t in range(20):
        here = [(7, first[t]), (2, second[t])] if t % 4 else [(2, second[t])]
        order = rng.permutation(len(here))
        ids, points = zip(*[here[k] for k in order], strict=True)
        given.append(
            FramePoses(
                t, t / 25, np.stack(points), np.ones((len(here), 5)), np.array([BOX] * len(here)),
                np.ones(len(here)), np.array(ids),
            )
        )  # fmt: skip
    given.append(FramePoses(20, 0.8, np.zeros((0, 5, 2)), np.zeros((0, 5))))
    for frame, before in zip(steadied(given), given, strict=True):
        assert frame.track_ids.tolist() == before.track_ids.tolist()
        np.testing.assert_array_equal(frame.keypoints, before.keypoints)


@pytest.mark.parametrize("reach", [0, 1, 6])
def test_it_waits_for_as_many_frames_as_it_must(reach: int) -> None:
    given = frames(moving(20))
    taken = []

    def source():
        for frame in given:
            taken.append(frame)
            yield frame, None

    leaps: LeapFilter[None] = LeapFilter(reach)
    for count, _ in enumerate(leaps(source()), 1):
        assert len(taken) == min(count + reach, 20) and len(leaps) == len(taken) - count
    assert list(LeapFilter(reach)(iter([]))) == []
    assert len(steadied(given, 0)) == 20
