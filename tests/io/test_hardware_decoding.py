"""Decoding by a device: what is chosen, and that the CPU steps in with one line."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io import hardware
from vidpose.io import video as video_module
from vidpose.io.hardware import check_decode, decode_names, find_accelerators
from vidpose.io.video import open_video


def pixels(path, **options) -> list[np.ndarray]:
    with open_video(path, **options) as video:
        return [frame.image for frame in video]


@pytest.fixture
def clip(tmp_path, make_video):
    return make_video(tmp_path / "walk.mp4", 5)


@pytest.fixture
def absent(monkeypatch):
    """A device that PyAV was built for and that is not there, and the call that opens it."""

    def fail(*arguments, **options):
        if "hwaccel" in options:
            raise av.error.PermissionError(1, "Operation not permitted")
        return real(*arguments, **options)

    real = av.open
    monkeypatch.setattr(hardware, "decode_names", lambda: ["cpu", "auto", "cuda"])
    monkeypatch.setattr(av, "open", fail)


@pytest.mark.parametrize("name", ["gpu", "", "cpu:1", "auto:0", "CUDA"])
def test_unknown_names_are_refused(name, clip):
    with pytest.raises(InputError, match=r"known here: cpu, auto"):
        open_video(clip, decode=name)


def test_names_that_are_known():
    assert decode_names()[:2] == ["cpu", "auto"]
    for name in decode_names():
        check_decode(name)
    assert find_accelerators("cpu") == []


def test_a_device_with_its_number(monkeypatch):
    accelerators = pytest.importorskip("av.codec.hwaccel")
    made = []
    monkeypatch.setattr(hardware, "decode_names", lambda: ["cpu", "auto", "vaapi", "cuda"])
    monkeypatch.setattr(accelerators, "HWAccel", lambda kind, device: made.append((kind, device)))
    find_accelerators("cuda:1")
    find_accelerators("auto")
    assert made == [("cuda", "1"), ("cuda", None), ("vaapi", None)]


def test_without_the_device_the_cpu_decodes_and_one_line_says_so(clip, absent, capsys):
    expected = pixels(clip)
    assert capsys.readouterr().err == ""
    found = pixels(clip, decode="cuda")
    assert all(map(np.array_equal, found, expected)) and len(found) == len(expected)
    [line] = capsys.readouterr().err.splitlines()
    assert line == (
        f"vidpose: {clip} is decoded on the CPU and not by cuda: cannot be opened: Operation not permitted"
    )


def test_auto_falls_back_without_a_word(clip, absent, capsys):
    assert len(pixels(clip, decode="auto")) == 5
    assert capsys.readouterr().err == ""


def test_a_missing_file_is_one_error(tmp_path, absent, capsys):
    with pytest.raises(InputError, match="no such file"):
        open_video(tmp_path / "none.mp4", decode="cuda")
    assert capsys.readouterr().err == ""


@pytest.fixture
def present(monkeypatch):
    """A device that decodes, for which the CPU stands in; gives the list of what is asked to open."""
    opened = []

    def real_open(source, accelerator=None):
        opened.append(accelerator)
        return own(source)

    own = video_module._open_container
    monkeypatch.setattr(video_module, "find_accelerators", lambda decode: ["device"])
    monkeypatch.setattr(video_module, "is_accelerated", lambda stream: True)
    monkeypatch.setattr(video_module, "_open_container", real_open)
    return opened


def test_frames_of_a_device_are_the_same(clip, present, capsys):
    found = pixels(clip, decode="cuda")
    assert present == [None, "device"]  # a look at the first frame comes before
    assert all(map(np.array_equal, found, pixels(clip))) and len(found) == 5
    assert capsys.readouterr().err == ""


def test_turned_videos_stay_on_the_cpu(tmp_path, make_video, present, capsys):
    if not hasattr(av.video.stream.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write rotation metadata")
    path = make_video(tmp_path / "phone.mp4", 3, rotation=90)
    assert pixels(path, decode="cuda")[0].shape == (160, 96, 3)
    assert present == [None, None]
    assert "it says how it is turned" in capsys.readouterr().err


def test_a_device_that_gives_no_frame_is_left(clip, present, monkeypatch, capsys):
    real = video_module._video_frames
    monkeypatch.setattr(
        video_module,
        "_video_frames",
        lambda stream, log: iter(()) if stream.accelerated else real(stream, log),
    )
    tried = iter([["device"], []])
    monkeypatch.setattr(video_module, "find_accelerators", lambda decode: next(tried))
    assert len(pixels(clip, decode="cuda")) == 5
    [line] = capsys.readouterr().err.splitlines()
    assert "not by cuda" in line and "can be decoded" in line
