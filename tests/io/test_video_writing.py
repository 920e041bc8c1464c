"""Writing videos: what is written is what is read, and nothing half-done is left."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io import video_writer
from vidpose.io.video import VideoWriter, open_video


def test_written_frames_read_back(tmp_path, make_scene):
    path = tmp_path / "out" / "a.mp4"
    with VideoWriter(path, 30, (96, 160)) as writer:
        for i in range(8):
            writer.write(make_scene(i))
        assert not path.exists()
    with open_video(path) as video:
        frames = list(video)
        assert (video.width, video.height, video.fps) == (160, 96, pytest.approx(30))
    assert len(frames) == 8
    for frame in frames:
        assert np.abs(frame.image.astype(int) - make_scene(frame.index)).mean() < 12
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 30000 / 1001, 24000 / 1001, 7.5])
def test_the_rate_is_kept(tmp_path, make_scene, fps):
    with VideoWriter(tmp_path / "a.mp4", fps, (96, 160)) as writer:
        for i in range(10):
            writer.write(make_scene(i))
    with open_video(tmp_path / "a.mp4") as video:
        assert video.fps == pytest.approx(fps, rel=1e-3)
        assert np.allclose([f.time_s for f in video], np.arange(10) / fps, atol=2e-5)


def test_variable_frame_rate_is_kept(tmp_path, make_scene):
    times = [0.0, 0.033, 0.05, 0.9, 0.91, 3.0]
    with VideoWriter(tmp_path / "a.mp4", 30, (96, 160)) as writer:
        for i, time in enumerate(times):
            writer.write(make_scene(i), time)
    with open_video(tmp_path / "a.mp4") as video:
        assert np.allclose([f.time_s for f in video], times, atol=2e-5)


def test_times_that_do_not_grow_still_give_every_frame(tmp_path, make_scene):
    with VideoWriter(tmp_path / "a.mp4", 30, (96, 160)) as writer:
        for i, time in enumerate([0.0, 0.2, 0.2, 0.1, 0.4]):
            writer.write(make_scene(i), time)
    with open_video(tmp_path / "a.mp4") as video:
        times = [frame.time_s for frame in video]
    assert len(times) == 5 and np.all(np.diff(times) > 0)


def test_odd_sizes_grow_by_one_line_and_other_sizes_are_fitted(tmp_path):
    image = np.full((33, 51, 3), (10, 200, 30), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 10, (33, 51)) as writer:
        writer.write(image)
        writer.write(np.full((66, 51, 3), (200, 10, 30), np.uint8))
    with open_video(tmp_path / "a.mp4") as video:
        first, second = (frame.image.astype(int) for frame in video)
    assert first.shape == (34, 52, 3)
    assert np.abs(first - (10, 200, 30)).max() < 12
    assert np.abs(second[16, 26] - (200, 10, 30)).max() < 12 and second[16, 2].max() < 30


def test_an_error_in_the_block_leaves_nothing(tmp_path, make_scene):
    (tmp_path / "a.mp4").write_bytes(b"what was there before")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "a.mp4", 30, (96, 160)) as writer:
        writer.write(make_scene(0))
        raise RuntimeError("stop")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"what was there before"


@pytest.mark.parametrize(("name", "message"), [("a.json", "not a video's name"), ("a", "not a video's name")])
def test_a_name_that_is_no_videos_is_refused(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        VideoWriter(tmp_path / name, 30, (96, 160))
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_not_written(tmp_path):
    with pytest.raises(InputError, match="no frame"), VideoWriter(tmp_path / "a.mp4", 30, (96, 160)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_libx264_mpeg4_is_written(tmp_path, make_scene, monkeypatch):
    codecs = av.codecs_available - {"libx264"}
    monkeypatch.setattr(video_writer.av, "codecs_available", codecs)
    with VideoWriter(tmp_path / "a.mp4", 30000 / 1001, (96, 160)) as writer:
        for i in range(6):
            writer.write(make_scene(i))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    with open_video(tmp_path / "a.mp4") as video:
        assert np.allclose([f.time_s for f in video], np.arange(6) * 1001 / 30000, atol=5e-5)
