"""Reading videos: order, times, orientation, damage, and errors that say what is wrong."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.video import open_video


def read_all(source, **options):
    with open_video(source, **options) as video:
        return video, list(video)


def test_frames_come_in_order_with_size_rate_and_name(tmp_path, make_video, make_scene):
    video, frames = read_all(make_video(tmp_path / "walk.mp4", 20))
    assert (video.name, video.width, video.height, video.num_frames) == ("walk", 160, 96, 20)
    assert video.fps == pytest.approx(30)
    assert [f.index for f in frames] == list(range(20))
    assert np.allclose([f.time_s for f in frames], np.arange(20) / 30, atol=1e-4)
    assert video.skipped == 0 and video.reports == []
    for frame in frames:
        assert frame.image.dtype == np.uint8 and frame.image.flags.writeable and frame.file_name is None
        assert np.abs(frame.image.astype(int) - make_scene(frame.index)).mean() < 12


def test_same_pixels_as_opencv_reads(tmp_path, make_video):
    path = make_video(tmp_path / "a.mp4", 6)
    capture = cv2.VideoCapture(str(path))
    for frame in open_video(path):
        ok, bgr = capture.read()
        assert ok
        assert np.abs(frame.image.astype(int) - bgr[..., ::-1]).max() <= 4
    assert not capture.read()[0]


def test_variable_frame_rate_keeps_its_time_stamps(tmp_path, make_video):
    times = [0.0, 0.04, 0.05, 0.5, 0.51, 2.0, 2.5, 2.52]
    _, frames = read_all(make_video(tmp_path / "vfr.mp4", len(times), times=times))
    assert np.allclose([f.time_s for f in frames], times, atol=1e-4)


@pytest.mark.parametrize("name", ["late.ts", "late.mkv", "late.mp4"])
def test_time_starts_at_the_first_frame_whatever_the_files_clock_says(tmp_path, make_video, name):
    times = [5.0, 5.1, 5.2, 5.35]
    _, frames = read_all(make_video(tmp_path / name, 4, times=times))
    assert np.allclose([f.time_s for f in frames], [0, 0.1, 0.2, 0.35], atol=2e-3)


def test_a_raw_stream_without_time_stamps_counts_at_its_rate(tmp_path, make_video):
    _, frames = read_all(make_video(tmp_path / "raw.h264", 5))
    assert np.allclose([f.time_s for f in frames], np.arange(5) / 30, atol=1e-4)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path, make_video, make_scene, degrees):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write rotation metadata")
    path = make_video(tmp_path / "phone.mp4", 3, rotation=degrees)
    video, frames = read_all(path)
    expected = np.rot90(make_scene(0), degrees // 90)
    assert (video.height, video.width) == expected.shape[:2]
    assert np.abs(frames[0].image.astype(int) - expected).mean() < 12
    ok, bgr = cv2.VideoCapture(str(path)).read()  # turns upright by itself
    assert ok and np.abs(frames[0].image.astype(int) - bgr[..., ::-1]).max() <= 4


def test_grey_and_ten_bit_video_become_rgb(tmp_path, make_video, make_scene):
    for name, codec, pix_fmt in (("grey.mkv", "ffv1", "gray"), ("ten.mkv", "ffv1", "yuv444p10le")):
        _, frames = read_all(make_video(tmp_path / name, 2, codec=codec, pix_fmt=pix_fmt, options={"g": "1"}))
        assert frames[0].image.shape == (96, 160, 3)
    assert np.abs(frames[1].image.astype(int) - make_scene(1)).mean() < 3


def test_size_change_in_mid_stream_is_scaled_back_and_reported(tmp_path, make_video):
    first = make_video(tmp_path / "1.ts", 5)
    second = make_video(tmp_path / "2.ts", 5, size=(64, 64))
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    video, frames = read_all(tmp_path / "both.ts")
    assert len(frames) >= 9
    assert {f.image.shape for f in frames} == {(96, 160, 3)}
    assert sum("64x64" in report for report in video.reports) == 1


# Damage


def test_corrupt_bytes_in_the_middle_are_skipped_counted_and_reported(tmp_path, make_video, make_scene):
    data = bytearray(make_video(tmp_path / "good.mp4", 60).read_bytes())
    middle = len(data) // 3
    data[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    (tmp_path / "bad.mp4").write_bytes(data)
    video, frames = read_all(tmp_path / "bad.mp4")
    assert video.skipped > 0
    assert len(frames) + video.skipped == 60
    assert video.reports and all("bad.mp4: frame" in report for report in video.reports)
    for frame in frames:  # a skipped frame keeps its number, so what follows is still in step
        assert frame.time_s == pytest.approx(frame.index / 30, abs=1e-3)
    assert frames[-1].index == 59
    assert np.abs(frames[-1].image.astype(int) - make_scene(59)).mean() < 12


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_a_cut_off_file_gives_what_is_there(tmp_path, make_video, share):
    options = {"movflags": "faststart"}
    data = make_video(tmp_path / "good.mp4", 60, container_options=options).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * share)])
    video, frames = read_all(tmp_path / "cut.mp4")
    assert 60 * share - 14 < len(frames) < 60
    assert np.allclose([f.time_s for f in frames], [f.index / 30 for f in frames], atol=1e-3)
    assert len(frames) + video.skipped == 60
    assert any("cut off" in report for report in video.reports)


def test_one_thread_finds_no_more_frames_than_many_in_a_cut_off_file(tmp_path, make_video):
    data = make_video(tmp_path / "good.mp4", 40, container_options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.6)])
    good = 0
    with av.open(str(tmp_path / "cut.mp4")) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                good += sum(not frame.is_corrupt for frame in packet.decode())
    assert len(read_all(tmp_path / "cut.mp4")[1]) == good


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"this is not a video\n" * 50, "is not a video"),
        ("notes.txt", b"this is not a video\n" * 50, "is a text file"),
        ("empty.mp4", b"", "is empty"),
        ("random.mkv", bytes(range(256)) * 40, "is not a video"),
        ("photo.jpg", b"", "is empty"),
        ("photo.png", b"no png" * 20, "cannot be decoded"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        open_video(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_a_video_cut_off_before_its_index_is_refused(tmp_path, make_video):
    data = make_video(tmp_path / "good.mp4", 30).read_bytes()  # moov at the end
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off before its index"):
        open_video(tmp_path / "cut.mp4")


def encode_audio(path: Path, cover: np.ndarray | None = None) -> Path:
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=44100)
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width, picture.pix_fmt = *cover.shape[:2], "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.rate, sound.pts = 44100, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
        if cover is not None:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            container.mux(picture.encode())
    return path


def test_sound_without_pictures_is_refused(tmp_path, make_scene):
    with pytest.raises(InputError, match=r"no video stream \(only audio\)"):
        open_video(encode_audio(tmp_path / "song.mp4"))
    with pytest.raises(InputError, match="no video stream"):
        open_video(encode_audio(tmp_path / "cover.mp4", make_scene(0)))


def test_a_video_without_frames_is_refused(tmp_path):
    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"none\.mkv"):
        open_video(tmp_path / "none.mkv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path, make_video):
    path = make_video(tmp_path / "secret.mp4", 2)
    path.chmod(0)
    with pytest.raises(InputError, match=r"secret\.mp4.*[Pp]ermission"):
        open_video(path)


def test_no_camera_and_no_server_are_one_line(tmp_path):
    with pytest.raises(InputError, match="camera 97"):
        open_video("97")
    with pytest.raises(InputError, match=r"rtsp://127\.0\.0\.1:9/x: cannot be opened"):
        open_video("rtsp://127.0.0.1:9/x")


# Image sequences


def write_images(folder: Path, names: list[str], make_scene) -> list[np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    images = [make_scene(i) for i in range(len(names))]
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    return images


def test_an_image_folder_is_read_in_natural_order(tmp_path, make_scene):
    images = write_images(tmp_path / "shot", [f"frame{i}.png" for i in range(12)], make_scene)
    (tmp_path / "shot" / "notes.txt").write_text("not an image")
    (tmp_path / "shot" / ".hidden.png").write_bytes(b"")
    video, frames = read_all(tmp_path / "shot")
    assert (video.name, video.num_frames, video.fps) == ("shot", 12, None)
    assert [f.file_name for f in frames] == [f"frame{i}.png" for i in range(12)]
    for frame, image in zip(frames, images, strict=True):
        assert np.array_equal(frame.image, image)
    assert np.allclose([f.time_s for f in read_all(tmp_path / "shot", fps=10)[1]], np.arange(12) / 10)


def test_a_damaged_jpeg_in_a_folder_is_skipped_and_counted(tmp_path, make_scene):
    write_images(tmp_path / "shot", [f"{i}.jpg" for i in range(5)], make_scene)
    bad = tmp_path / "shot" / "2.jpg"
    bad.write_bytes(bad.read_bytes()[:900])
    (tmp_path / "shot" / "4.jpg").write_bytes(b"")
    video, frames = read_all(tmp_path / "shot")
    assert [f.index for f in frames] == [0, 1, 3]
    assert video.skipped == 2
    assert "2.jpg: is cut off" in video.reports[0] and "4.jpg: is empty" in video.reports[1]


def test_a_folder_in_which_no_image_can_be_decoded_is_refused(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of its 2 frames"):
        open_video(tmp_path)


def test_sixteen_bit_grey_and_transparent_images_become_rgb(tmp_path, make_scene):
    image = make_scene(0)
    variants = {
        "grey.png": image[..., 0],
        "alpha.png": np.dstack([image[..., ::-1], image[..., 0]]),
        "deep.png": image[..., ::-1].astype(np.uint16) * 257,
        "deep_grey.tiff": image[..., 0].astype(np.uint16) * 257,
    }
    for name, stored in variants.items():
        assert cv2.imwrite(str(tmp_path / name), stored)
        _, frames = read_all(tmp_path / name)
        expected = image if "grey" not in name else np.repeat(image[..., :1], 3, axis=2)
        assert len(frames) == 1 and np.array_equal(frames[0].image, expected), name


def test_exif_orientation_is_applied_as_viewers_do(tmp_path, make_scene):
    ok, data = cv2.imencode(".jpg", make_scene(0)[..., ::-1])
    assert ok
    tiff = (
        b"MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    )
    segment = b"Exif\x00\x00" + tiff  # orientation 6: turn clockwise to display
    stored = data.tobytes()
    marked = stored[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + stored[2:]
    (tmp_path / "phone.jpg").write_bytes(marked)
    (frame,) = read_all(tmp_path / "phone.jpg")[1]
    assert np.abs(frame.image.astype(int) - np.rot90(make_scene(0), -1)).mean() < 12


def test_posetrack_images_keep_the_data_sets_names(tmp_path, make_scene):
    folder = tmp_path / "root" / "images" / "val" / "000001_mpii_test"
    write_images(folder, ["000000.jpg", "000001.jpg"], make_scene)
    _, frames = read_all(folder)
    assert [f.file_name for f in frames] == [f"images/val/000001_mpii_test/00000{i}.jpg" for i in range(2)]


def test_images_of_a_sequence_keep_their_own_sizes(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((40, 10, 3), np.uint8))
    assert [f.image.shape[:2] for f in read_all(tmp_path)[1]] == [(20, 30), (40, 10)]


def test_closing_early_ends_the_iteration(tmp_path, make_video):
    video = open_video(make_video(tmp_path / "a.mp4", 12))
    assert next(video).index == 0
    video.close()
    assert list(video) == []


def test_real_clips(shared_dir):
    if shared_dir is None or not (shared_dir / "clips" / "street.mp4").exists():
        pytest.skip("no real clips here")
    video, frames = read_all(shared_dir / "clips" / "street.mp4")
    assert (video.width, video.height, len(frames), video.fps) == (960, 540, 5, 5.0)
    with open_video(shared_dir / "clips" / "p2s_single_cam01.mp4") as portrait:
        assert (portrait.width, portrait.height) == (1080, 1920)
        assert next(portrait).image.shape == (1920, 1080, 3)
