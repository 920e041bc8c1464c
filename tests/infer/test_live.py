"""Boxes from poses, and live streams, against a scene whose truth is known."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

import cv2
import numpy as np
import pytest
from dots import SIZE, DotModel, box_at, dots_at, picture, write_scene

from vidpose.errors import InputError
from vidpose.infer import estimator as estimator_module
from vidpose.infer.detect import Detection
from vidpose.infer.estimate import estimate
from vidpose.infer.estimator import PoseEstimator
from vidpose.infer.live import FollowStream, LiveStream
from vidpose.infer.second_look import LookFit
from vidpose.infer.stream import PoseStream
from vidpose.io.video import VideoFrame, VideoSource, open_video
from vidpose.io.video_writer import VideoWriter

FRAMES = 40


class Patient:
    """A clock on which frames come one after the other: the next one when the last one was handled."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


class Boxes:
    """A detector that knows where the two people are."""

    name = "boxes"
    fit = LookFit(
        margins=(0.39, 0.37, 0.42, 0.475), weights=(0, 1, 1)
    )  # from the dots to the box around them

    def __init__(self, people: int = 2) -> None:
        self.people = people
        self.seen: list[int] = []

    def __call__(self, images, keys=None):
        self.seen += [key.index for key in keys]
        boxes = [np.stack([box_at(key.index, person) for person in range(self.people)]) for key in keys]
        return [Detection(b, np.linspace(0.9, 0.8, self.people)) for b in boxes]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "scene.mp4"
    with VideoWriter(path, 25, SIZE) as writer:
        for t in range(FRAMES):
            writer.write(picture(t, 2), t / 25)
    return path


def estimator(detector=None, model=None, **options) -> PoseEstimator:
    options = {"device": "cpu", "precision": "fp32", "detector": detector or Boxes(), **options}
    options.setdefault("upright", False)  # dots never stand
    return PoseEstimator(model or DotModel(), **options)


def live(estimator: PoseEstimator, frames: list[VideoFrame], **options) -> LiveStream:
    """A stream of frames of which each comes when the one before it was handled."""
    source = open_video_of(frames)
    return LiveStream(estimator, source, **options)


def open_video_of(frames):
    class Log:
        label, skipped, reports = "frames", 0, ()

    return VideoSource("frames", 25.0, None, iter(frames), Log())  # type: ignore[arg-type]


def frames_of(count: int) -> list[VideoFrame]:
    return [VideoFrame(t, t / 25, picture(t, 2)) for t in range(count)]


@pytest.mark.parametrize("kind", ["video", "image"])
def test_poses_are_exact_where_the_detector_sees_every_twelfth_frame(video, kind):
    detector = Boxes()
    model = DotModel(num_frames=5 if kind == "video" else 1, kind=kind)
    result = estimator(detector, model, tracker="poses")(video)
    assert [frame.index for frame in result] == list(range(FRAMES))
    # 0.5 s are 12.5 frames. The dots span less than the people, so the box has to follow them.
    assert detector.seen == [0, 13, 26, 39]  # 0.5 s are 12.5 frames
    assert (result.info["tracker"], result.info["detect_every"]) == ("poses", 0.5)
    for t, frame in enumerate(result):
        assert frame.track_ids.tolist() == [0, 1]
        for person in range(2):
            np.testing.assert_allclose(frame.keypoints[person, :3], dots_at(t, person), atol=1.0)
    if kind == "video":  # the first and the last frame of the clip
        np.testing.assert_allclose(
            result.frames[20].keypoints[0, 3:5, 0], [dots_at(18)[0, 0], dots_at(22)[0, 0]], atol=1
        )


@pytest.mark.parametrize("kind", ["video", "image"])
def test_who_comes_in_between_two_detections_is_followed_back(tmp_path, kind):
    came = 6  # detections at 0 and 13
    path = tmp_path / "scene.mp4"
    with VideoWriter(path, 25, SIZE) as writer:
        for t in range(20):
            writer.write(picture(t, 1 if t < came else 2), t / 25)

    class Arriving(Boxes):
        def __call__(self, images, keys=None):
            found = super().__call__(images, keys)
            return [
                Detection(f.boxes_xyxy[: 1 + (k.index >= came)], f.scores[: 1 + (k.index >= came)])
                for f, k in zip(found, keys, strict=True)
            ]

    detector = Arriving()
    model = DotModel(num_frames=5 if kind == "video" else 1, kind=kind)
    with estimator(detector, model, tracker="poses", steady=False).stream(path) as stream:
        held = 0
        for t, frame in enumerate(stream):
            held = max(held, stream.frames_held)
            assert frame.track_ids.tolist() == ([0] if t < came else [0, 1]), t
            for person in frame.track_ids.tolist():
                np.testing.assert_allclose(frame.keypoints[person, :3], dots_at(t, person), atol=1.0)
            assert frame.index == t
    assert detector.seen == [0, 13] and held <= 13 + 2 * 2 + 2


def test_a_held_crop_sends_each_frame_through_the_backbone_once(video):
    moving = estimator(tracker="poses", hold=1)
    held = estimator(tracker="poses")
    moving(video)
    held(video)
    assert held.runner.frames_extracted < 2 * 2 * FRAMES < moving.runner.frames_extracted


def test_the_flip_test_uses_features_of_both_sides(video):
    plain = estimator(tracker="poses")(video)
    flipped = estimator(tracker="poses", flip_test=True)(video)
    a, b = (np.stack([f.keypoints[0, :3] for f in r]) for r in (plain, flipped))
    np.testing.assert_allclose(a, b, atol=1.0)
    assert np.abs(a - b).max() > 0


def test_live_clips_end_with_the_key_frame(video):
    with estimator(live=True).stream(video) as stream:
        assert isinstance(stream, LiveStream)
        frames = list(stream)
    assert len(frames) + stream.info["dropped"] == FRAMES
    seen = [frame for frame in frames if len(frame) == 2]
    assert seen and all(frame.track_ids.tolist() == [0, 1] for frame in seen)
    for frame in seen:
        np.testing.assert_allclose(frame.keypoints[0, :3], dots_at(frame.index), atol=1.0)
        np.testing.assert_allclose(frame.keypoints[0, 4], dots_at(frame.index)[0], atol=1.0)  # its last frame
    assert stream.info["live"] and not stream.info["steady"] and stream.info["max_delay_s"] >= 0


def test_a_live_file_is_paced_by_the_clock(video):
    clock = Patient()
    with open_video(video) as source, LiveStream(estimator(), source, pace=True, clock=clock) as stream:
        count = len(list(stream))
    assert clock.time == pytest.approx((FRAMES - 1) / 25, abs=0.01)
    assert count + stream.dropped == FRAMES


@pytest.mark.parametrize("kind", ["video", "image"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_file_that_ends_before_the_detector_answers_has_poses_in_its_last_frame(kind, count):
    class Slow(Boxes):
        """Answers when all frames were taken."""

        def __call__(self, images, keys=None):
            assert taken.wait(60)
            return super().__call__(images, keys)

    taken = threading.Event()

    def frames():
        yield from frames_of(count)
        taken.set()  # asked for one more frame: the reader has all

    class Log:
        label, skipped, reports = "frames", 0, ()

    source = VideoSource("frames", 25.0, count, frames(), Log())  # type: ignore[arg-type]
    slow = estimator(Slow(), DotModel(num_frames=5 if kind == "video" else 1, kind=kind))
    with LiveStream(slow, source, pace=True, clock=Patient()) as stream:
        found = list(stream)
    assert len(found) + stream.dropped == count and found[-1].index == count - 1
    assert found[-1].track_ids.tolist() == [0, 1]
    np.testing.assert_allclose(found[-1].keypoints[0, :3], dots_at(count - 1), atol=1.5)


@pytest.mark.parametrize(
    ("tracker", "kind"), [(None, LiveStream), ("poses", LiveStream), ("bytetrack", PoseStream)]
)
def test_a_camera_is_live_unless_boxes_are_to_be_tracked(monkeypatch, tracker, kind):
    monkeypatch.setattr(estimator_module, "open_video", lambda *about, **options: open_video_of(frames_of(3)))
    with estimator(tracker=tracker).stream(0) as stream:
        assert type(stream) is kind
        assert stream.info["tracker"] == (tracker if tracker == "bytetrack" else "poses")
        list(stream)


def test_an_error_of_the_detector_ends_the_stream(video):
    def broken(images, keys):
        raise InputError("no detector today")

    with pytest.raises(InputError, match="today"), estimator(broken, live=True).stream(video) as stream:
        list(stream)


def test_a_live_stream_stops_when_asked_and_may_be_closed_early(video):
    with estimator(live=True).stream(video, stop=lambda: True) as stream:
        assert list(stream) == []
    stream = estimator(live=True).stream(video)
    next(stream)
    stream.close()
    assert list(stream) == []


def test_two_followers_of_one_person_become_one(video):
    def doubled(images, keys):
        first = box_at(keys[0].index, 0)
        return [Detection(np.stack([first, first + [-30, 0, -30, 0]]), np.array([0.9, 0.8]))]

    doubled.fit = Boxes.fit
    result = estimator(doubled, tracker="poses")(video)
    assert [frame.track_ids.tolist() for frame in result.frames[1:13]] == [
        [0]
    ] * 12  # until it is asked again


def test_pictures_are_not_followed_and_not_live(tmp_path):
    images = write_scene(tmp_path, 4)
    result = estimator(Boxes(1), tracker="poses")(images)
    assert result.info["tracker"] == "bytetrack" and len(result) == 4
    with pytest.raises(InputError, match="no clock"):
        estimator(live=True).stream(images)


def test_a_file_of_boxes_moves_the_boxes_itself(tmp_path, video):
    write_scene(tmp_path, FRAMES)
    entries = (
        (tmp_path / "boxes.json")
        .read_text()
        .replace('"image_name": "', '"frame_id": "')
        .replace('.png"', '"')
    )
    (tmp_path / "boxes.json").write_text(entries.replace('"frame_id": "0000', '"frame_id": "'))
    cv2.setNumThreads(1)
    stream = estimator(tmp_path / "boxes.json", tracker="poses").stream(video)
    assert isinstance(stream, FollowStream)
    for t, frame in enumerate(stream):
        np.testing.assert_allclose(frame.boxes[0], box_at(t), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tracker": "luck"}, "poses, bytetrack"),
        ({"detect_every": 11, "tracker": "poses"}, "0 to 10 seconds"),
        ({"detect_every": 2, "tracker": "none"}, "0 to 1 seconds"),
        ({"live": True, "tracker": "none"}, "identities"),
        ({"live": True, "tracker": "bytetrack"}, "a live source is followed by poses: tracker 'bytetrack'"),
    ],
)
def test_wrong_options_are_told(options, said):
    with pytest.raises(InputError, match=said):
        estimator(**options)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_live_source_that_is_stopped_keeps_its_poses(video, tmp_path, capsys, number):
    class Stopping(Boxes):
        def __call__(self, images, keys=None):
            if len(self.seen) == 1:
                os.kill(os.getpid(), number)
            return super().__call__(images, keys)

    [summary] = estimate([str(video)], tmp_path, quiet=True, estimator=estimator(Stopping(), live=True))
    assert summary.interrupted and 0 < summary.frames < FRAMES
    assert "the poses so far are being written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.json"]


def test_the_summary_counts_dropped_frames_and_tells_the_delay(video, tmp_path):
    [summary] = estimate([str(video)], tmp_path, quiet=True, estimator=estimator(live=True))
    assert summary.frames + summary.dropped == FRAMES and summary.max_delay_s is not None
    assert f"{summary.dropped} frames dropped, delay at most {summary.max_delay_s:.2f} s" in str(summary)
    details = json.loads((tmp_path / "scene.json").read_text())["info"]["details"]
    assert (details["live"], details["dropped"]) == (True, summary.dropped)
    [plain] = estimate([str(video)], tmp_path / "plain", quiet=True, estimator=estimator())
    assert (plain.dropped, plain.max_delay_s) == (0, None) and "dropped" not in str(plain)
