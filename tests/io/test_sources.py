"""What a source on the command line means."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.sources import find_source, natural_key
from vidpose.io.video import expand_sources, open_video


@pytest.fixture
def tree(tmp_path, make_video):
    (tmp_path / "clips").mkdir()
    for name in ("b10.mp4", "b2.mp4"):
        make_video(tmp_path / "clips" / name, 2)
    for folder in ("shot1", "shot2"):
        (tmp_path / "frames" / folder).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(str(tmp_path / "frames" / folder / f"cam_{i}.jpg"), np.zeros((8, 8, 3), np.uint8))
    return tmp_path


def test_natural_order():
    assert sorted(["f10", "f9", "f1b", "f1"], key=natural_key) == ["f1", "f1b", "f9", "f10"]


def test_a_glob_of_videos_becomes_the_videos(tree):
    assert expand_sources([f"{tree}/clips/*.mp4"]) == [f"{tree}/clips/b2.mp4", f"{tree}/clips/b10.mp4"]


def test_a_folder_of_videos_becomes_the_videos(tree):
    assert expand_sources([f"{tree}/clips"]) == [f"{tree}/clips/b2.mp4", f"{tree}/clips/b10.mp4"]


def test_a_glob_of_images_is_one_sequence(tree):
    pattern = f"{tree}/frames/shot1/cam_*.jpg"
    assert expand_sources([pattern]) == [pattern]
    with open_video(pattern) as video:
        assert (video.num_frames, video.name) == (3, "cam")
    with open_video(f"{tree}/frames/shot1/*.jpg") as video:
        assert video.name == "shot1"


def test_a_glob_of_image_folders_becomes_the_folders(tree):
    assert expand_sources([f"{tree}/frames/*"]) == [f"{tree}/frames/shot1", f"{tree}/frames/shot2"]


def test_a_list_of_images_is_one_sequence(tree):
    paths = [tree / "frames" / "shot2" / f"cam_{i}.jpg" for i in (2, 0)]
    with open_video(paths) as video:
        assert [frame.file_name for frame in video] == ["cam_2.jpg", "cam_0.jpg"]


def test_cameras_and_urls_pass_through():
    given = ["0", "rtsp://host:554/live/main", "https://host/a/walk.mp4?x=1"]
    assert expand_sources(given) == given
    assert [find_source(s).name for s in given] == ["camera0", "main", "walk"]
    assert find_source(2).camera == 2


def test_a_name_with_brackets_or_colons_is_a_file_first(tree, make_video):
    for name in ("take[1].mp4", "a:b.mp4"):
        path = make_video(tree / name, 2)
        assert expand_sources([str(path)]) == [str(path)]
        with open_video(path) as video:
            assert len(list(video)) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.mp4", "no such file or folder"),
        ("nothing/*.mp4", "matches nothing"),
        ("-", "standard input"),
        ("--savevideo", "not a known option"),
    ],
)
def test_what_is_not_there_is_one_line(source, message):
    with pytest.raises(InputError, match=message):
        expand_sources([source])


def test_folders_without_images_and_mixtures_are_refused(tree):
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        expand_sources([f"{tree}/empty"])
    (tree / "clips" / "poster.jpg").write_bytes((tree / "frames" / "shot1" / "cam_0.jpg").read_bytes())
    with pytest.raises(InputError, match="images and videos"):
        expand_sources([f"{tree}/clips"])
    with pytest.raises(InputError, match="images and 2 videos"):
        open_video(f"{tree}/clips/*")
    with pytest.raises(InputError, match="no source"):
        expand_sources([])
