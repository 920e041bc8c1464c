"""Tracks on simulated people: entering, leaving, missed, crossing, flickering; and bounded memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.errors import InputError
from vidpose.geometry import box_iou
from vidpose.infer.detect import Detection
from vidpose.infer.track import Tracker, Tracks

KINDS = ("bytetrack", "ocsort", "botsort")


def person(t: float, start: tuple[float, float], speed: tuple[float, float]) -> np.ndarray:
    x, y = start[0] + speed[0] * t, start[1] + speed[1] * t
    return np.array([x, y, x + 60, y + 150])


def detection(boxes: list[np.ndarray], score: float = 0.9) -> Detection:
    return Detection(np.array(boxes, dtype=float).reshape(-1, 4), np.full(len(boxes), score))


def run(tracker: Tracker, frames: list[Detection], images: bool = False) -> list[Tracks]:
    ready: list[Tracks] = []
    for i, frame in enumerate(frames):
        new = tracker.update(frame, np.zeros((360, 640, 3), dtype=np.uint8) if images else None)
        assert len(new) <= 1
        ready += new
        assert len(ready) >= i + 1 - tracker.look_ahead
    ready += tracker.flush()
    assert len(ready) == len(frames)
    for tracks in ready:
        assert len(set(tracks.track_ids.tolist())) == len(tracks)
        assert (tracks.track_ids >= 0).all()
    return ready


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missed", range(1, 9))
def test_a_person_missed_for_some_frames_keeps_track_and_boxes(kind, missed):
    truth = [person(t, (20, 100), (5, 1)) for t in range(40)]
    gap = range(15, 15 + missed)
    frames = [detection([] if t in gap else [truth[t]]) for t in range(40)]
    ready = run(Tracker(kind, fps=30), frames)
    for t, tracks in enumerate(ready):
        assert tracks.track_ids.tolist() == [0], t
        assert box_iou(tracks.boxes_xyxy, truth[t][None])[0, 0] > 0.9
        assert tracks.detected.tolist() == [t not in gap]
        assert (tracks.scores[0] < 0.9) == (t in gap)


@pytest.mark.parametrize("kind", KINDS)
def test_entering_and_leaving(kind):
    """Each person is there from the first box to the last, and not outside."""
    spans = {0: (0, 40), 1: (10, 25), 2: (30, 40)}
    starts = {0: (20, 100), 1: (300, 80), 2: (450, 120)}
    frames = [
        detection([person(t, starts[k], (3, 0)) for k, (a, b) in spans.items() if a <= t < b])
        for t in range(40)
    ]
    ready = run(Tracker(kind, fps=30), frames)
    seen = {i: [t for t, tracks in enumerate(ready) if i in tracks.track_ids] for i in range(3)}
    assert seen == {k: list(range(a, b)) for k, (a, b) in spans.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_crossing_people_keep_their_identities(kind):
    paths = [((20, 100), (8, 0)), ((420, 130), (-8, 0))]
    frames = [detection([person(t, *path) for path in paths]) for t in range(50)]
    ready = run(Tracker(kind, fps=30), frames)
    for t, tracks in enumerate(ready):
        assert tracks.track_ids.tolist() == [0, 1]
        for k, path in enumerate(paths):
            assert box_iou(tracks.boxes_xyxy[k : k + 1], person(t, *path)[None])[0, 0] > 0.99


def test_weak_boxes_continue_a_track_and_start_none():
    frames = [detection([person(t, (20, 100), (4, 0))], 0.9 if t < 10 else 0.25) for t in range(20)]
    ready = run(Tracker(fps=30), frames)
    assert [tracks.track_ids.tolist() for tracks in ready] == [[0]] * 20
    assert all(tracks.detected.all() for tracks in ready)
    alone = run(Tracker(fps=30), [detection([person(t, (20, 100), (4, 0))], 0.25) for t in range(20)])
    assert sum(map(len, alone)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_flickers_are_dropped_and_late_confirmation_reaches_back(kind):
    """A box of one frame goes; a person seen in every second frame at first is kept from the first box on."""
    frames = []
    for t in range(30):
        boxes = [person(t, (20, 100), (2, 0))]
        if t == 12:
            boxes.append(person(0, (400, 50), (0, 0)))
        if t in (15, 17, 19) or t > 20:
            boxes.append(person(t, (250, 120), (1, 0)))
        frames.append(detection(boxes))
    ready = run(Tracker(kind, fps=30), frames)
    assert len(ready[12]) == 1
    assert [len(tracks) for tracks in ready] == [1] * 15 + [2] * 15
    assert [tracks.track_ids.tolist() for tracks in ready[15:]] == [[0, 1]] * 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fps", "kept"), [(1, 5), (3, 5), (5, 0), (30, 0)])
def test_at_few_frames_a_second_nobody_is_dropped_because_boxes_do_not_overlap(kind, fps, kept):
    far = [detection([person(0, (20 + 150 * t, 100), (0, 0))]) for t in range(5)]
    nobody = detection([])
    ready = run(Tracker(kind, fps=fps), [*far, nobody, nobody])
    assert sum(map(len, ready)) == kept
    weak = [replace(one, scores=one.scores * 0 + 0.5) for one in far]
    assert sum(map(len, run(Tracker(kind, fps=fps), [*weak, nobody, nobody]))) == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_short_videos_lose_nobody(count):
    frames = [detection([person(t, (20, 100), (2, 0)), person(t, (300, 80), (0, 0))]) for t in range(count)]
    frames[-1] = detection([*frames[-1].boxes_xyxy, person(0, (500, 100), (0, 0))])
    ready = run(Tracker(), frames)
    assert [len(tracks) for tracks in ready] == [2] * (count - 1) + [3]


def test_without_tracker_everything_passes_at_once():
    tracker = Tracker("none")
    tracks = tracker.update(detection([person(0, (0, 0), (0, 0)), person(0, (100, 0), (0, 0))], 0.05))[0]
    assert tracks.track_ids.tolist() == [0, 1] and tracks.detected.all()
    assert len(tracker.update(detection([]))[0]) == 0
    assert tracker.flush() == []


def test_smoothing_keeps_steady_motion_and_calms_noise():
    rng = np.random.default_rng(0)
    truth = [person(t, (20, 100), (4, 0)) for t in range(40)]
    steady = run(Tracker(smooth_radius=3), [detection([box]) for box in truth])
    for t, tracks in enumerate(steady):
        np.testing.assert_allclose(tracks.boxes_xyxy[0], truth[t], atol=1e-9)
    noisy = [detection([box + rng.normal(0, 3, 4)]) for box in truth]
    raw = np.array([tracks.boxes_xyxy[0] for tracks in run(Tracker(), noisy)])
    calm = np.array([tracks.boxes_xyxy[0] for tracks in run(Tracker(smooth_radius=3), noisy)])
    assert np.abs(calm - truth).mean() < 0.7 * np.abs(raw - truth).mean()


def test_memory_does_not_grow():
    """People come and go for thousands of frames; what the tracker holds stays the same."""
    tracker = Tracker(fps=30)

    def held() -> int:
        return len(tracker._window) + len(tracker._gone) + len(tracker._trails)

    sizes = []
    for t in range(1500):
        tracker.update(detection([person(t % 50, (20, 100), (6, 0))] if t % 100 < 50 else []))
        sizes.append(held())
    assert max(sizes[1000:]) <= max(sizes[:300])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(KINDS), st.integers(0, 14))
def test_whatever_comes_in_every_frame_comes_out_once(seed, kind, look_ahead):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(int(rng.integers(0, 25))):
        corners = rng.uniform(0, 300, (int(rng.integers(0, 5)), 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 150, corners.shape)], axis=1)
        frames.append(Detection(boxes, rng.uniform(0, 1, len(boxes))))
    ready = run(Tracker(kind, look_ahead=look_ahead), frames)
    for tracks in ready:
        assert tracks.boxes_xyxy.shape == (len(tracks), 4)
        assert np.isfinite(tracks.boxes_xyxy).all() and ((tracks.scores >= 0) & (tracks.scores <= 1)).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(KINDS), st.integers(0, 14))
def test_where_one_box_is_enough_every_box_comes_out_once(seed, kind, look_ahead):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(int(rng.integers(1, 12))):
        people = np.flatnonzero(rng.random(4) < 0.6)
        boxes = [person(rng.uniform(0, 2), (20 + 150 * k, 100), (4, 1)) for k in people]
        frames.append(Detection(np.array(boxes).reshape(-1, 4), rng.uniform(0.2, 1, len(boxes))))
    ready = run(Tracker(kind, look_ahead=look_ahead, min_hits=1, min_track_score=0.2), frames)
    for given_boxes, tracks in zip(frames, ready, strict=True):
        found = tracks.boxes_xyxy[tracks.detected]
        assert sorted(found.tolist()) == sorted(given_boxes.boxes_xyxy.tolist())


def test_camera_motion_takes_the_images():
    frames = [detection([person(t, (20, 100), (4, 0))]) for t in range(10)]
    assert all(len(tracks) == 1 for tracks in run(Tracker("botsort", fps=30), frames, images=True))


@pytest.mark.parametrize("options", [{"kind": "sort"}, {"look_ahead": 99}, {"smooth_radius": 20}])
def test_wrong_options_are_told(options):
    with pytest.raises(InputError):
        Tracker(**options)
