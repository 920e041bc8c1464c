"""A result over its video: every frame of the result, no other, and the right one under each pose."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.formats import save_poses
from vidpose.io.video import open_video
from vidpose.results import FramePoses, VideoPoses
from vidpose.view.report import drawn_frames, view, write_contact_sheet


@pytest.fixture
def film(tmp_path):
    """Six images of growing brightness."""
    folder = tmp_path / "film"
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((90, 160, 3), 30 * i, np.uint8))
    return folder


def result(film, indices) -> VideoPoses:
    return VideoPoses(
        [FramePoses(i, i / 25) for i in indices], source=str(film), width=160, height=90, fps=25
    )


def test_each_pose_meets_its_frame_and_frames_without_poses_are_left_out(film):
    drawn = list(drawn_frames(result(film, [1, 2, 4]), str(film), time=False))
    assert [frame.index for _, frame in drawn] == [1, 2, 4]
    assert [int(image[0, 0, 0]) for image, _ in drawn] == [30, 60, 120]


def test_a_contact_sheet_is_spread_over_the_video(film, tmp_path):
    write_contact_sheet(result(film, range(6)), str(film), tmp_path / "sheet.png", count=3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[..., 0]
    assert {0, 60, 150} <= set(np.unique(sheet[sheet.shape[0] // 2])) or {0, 90, 150} <= set(
        np.unique(sheet[sheet.shape[0] // 2])
    )


def test_an_mp4_has_the_results_frames(film, tmp_path):
    save_poses(result(film, range(6)), tmp_path / "a.json")
    assert view(tmp_path / "a.json", quiet=True) == tmp_path / "a.mp4"
    with open_video(tmp_path / "a.mp4") as video:
        brightness = [float(np.median(frame.image)) for frame in video]
    np.testing.assert_allclose(brightness, [30 * i for i in range(6)], atol=4)


def test_what_does_not_fit_is_told(film, tmp_path):
    save_poses(result(film, range(6)), tmp_path / "a.json")
    with pytest.raises(InputError, match=r"use \.mp4 or \.png"):
        view(tmp_path / "a.json", output=tmp_path / "a.gif")
    save_poses(result(film, [70, 80]), tmp_path / "b.json")
    for name in ("b.mp4", "b.png"):
        with pytest.raises(InputError, match="none of the frames"):
            view(tmp_path / "b.json", output=tmp_path / name)
        assert not (tmp_path / name).exists()
    with pytest.raises(InputError, match="--source"):
        save_poses(VideoPoses([FramePoses(0, 0.0)]), tmp_path / "c.json")
        view(tmp_path / "c.json")
