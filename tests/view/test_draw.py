"""Pictures: what must be seen is there, what must not is not, and no pose crashes them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vidpose.errors import InputError
from vidpose.results import FramePoses
from vidpose.skeletons import COCO17, POSETRACK15
from vidpose.view.draw import LEFT, RIGHT, contact_sheet, draw_poses, save_png, track_color

# A standing person in a frame of 360x640; image x of the person's own left is larger.
PERSON = {
    "nose": (320, 60), "head_bottom": (320, 80), "head_top": (320, 40), "shoulder": (30, 90),
    "elbow": (50, 140), "wrist": (60, 190), "hip": (20, 190), "knee": (24, 250), "ankle": (26, 310),
}  # fmt: skip


def person() -> np.ndarray:
    points = []
    for name in POSETRACK15.joints:
        side, _, part = name.partition("_")
        if side in ("left", "right"):
            dx, y = PERSON[part]
            points.append((320 + dx if side == "left" else 320 - dx, y))
        else:
            points.append(PERSON[name])
    return np.array([points], dtype=np.float32)


def frame(scores: float | np.ndarray = 0.9) -> FramePoses:
    return FramePoses(4, 61.5, person(), np.full((1, 15), scores), [[240, 30, 400, 320]], [0.9], [3])


def middle(joint_a: str, joint_b: str) -> tuple[int, int]:
    points = person()[0]
    x, y = (points[POSETRACK15.index[joint_a]] + points[POSETRACK15.index[joint_b]]) / 2
    return round(float(y)), round(float(x))


GREY = np.full((360, 640, 3), 90, np.uint8)


def test_left_and_right_limbs_have_their_colours():
    drawn = draw_poses(GREY, frame())
    assert np.abs(drawn[middle("left_knee", "left_ankle")].astype(int) - LEFT).max() < 30
    assert np.abs(drawn[middle("right_elbow", "right_wrist")].astype(int) - RIGHT).max() < 30
    assert np.array_equal(GREY, np.full_like(GREY, 90))  # the input is left alone


def test_one_colour_for_each_track():
    drawn = draw_poses(GREY, frame(), color="track")
    for side in ("left", "right"):
        at = middle(f"{side}_knee", f"{side}_ankle")
        assert np.abs(drawn[at].astype(int) - track_color(3)).max() < 30
    assert len({track_color(i) for i in range(50)}) == 50


def test_joints_below_the_score_are_left_out():
    scores = np.full(15, 0.9)
    scores[POSETRACK15.index["left_ankle"]] = 0.1
    drawn = draw_poses(GREY, frame(scores), boxes=False, ids=False, time=False)
    assert np.array_equal(drawn[middle("left_knee", "left_ankle")], (90, 90, 90))
    shown = draw_poses(GREY, frame(scores), min_score=0.05, boxes=False, ids=False, time=False)
    assert not np.array_equal(shown[middle("left_knee", "left_ankle")], (90, 90, 90))


def test_each_part_can_be_switched_off():
    nothing = FramePoses(0, 0.0)
    assert np.array_equal(draw_poses(GREY, nothing, time=False), GREY)
    assert not np.array_equal(draw_poses(GREY, nothing)[330:], GREY[330:])  # the time, at the bottom
    hidden = frame(0.0)
    assert np.array_equal(draw_poses(GREY, hidden, boxes=False, ids=False, time=False), GREY)
    box_only = draw_poses(GREY, hidden, ids=False, time=False)
    assert not np.array_equal(box_only[175, 240], (90, 90, 90)) and np.array_equal(
        box_only[175, 320], (90, 90, 90)
    )
    assert not np.array_equal(draw_poses(GREY, hidden, boxes=False, time=False), GREY)


@pytest.mark.parametrize("scale", [0.25, 3])
def test_lines_grow_with_the_picture(scale):
    size = (round(360 * scale), round(640 * scale))
    big = frame()
    big.keypoints, big.boxes = big.keypoints * scale, big.boxes * scale
    drawn = draw_poses(np.full((*size, 3), 90, np.uint8), big, boxes=False, ids=False, time=False)
    plain = draw_poses(GREY, frame(), boxes=False, ids=False, time=False)
    ratio = (drawn != 90).any(axis=-1).sum() / (plain != 90).any(axis=-1).sum()
    assert scale < ratio < scale * scale if scale > 1 else scale * scale < ratio < 1


@settings(max_examples=30, deadline=None)
@given(
    keypoints=hnp.arrays(np.float32, (2, 17, 2), elements=st.floats(width=32)),
    boxes=hnp.arrays(np.float32, (2, 4), elements=st.floats(width=32)),
    scores=hnp.arrays(np.float32, (2, 17), elements=st.floats(width=32)),
    size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_no_numbers_crash_it(keypoints, boxes, scores, size):
    image = np.zeros((*size, 3), np.uint8)
    poses = FramePoses(0, float("nan"), keypoints, scores, boxes, [1, 1], [0, 10**12])
    assert draw_poses(image, poses, COCO17).shape == image.shape


def test_a_contact_sheet_holds_every_image_and_label():
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0), (0, 250, 250)]
    images = [np.full((90, 160, 3), color, np.uint8) for color in colors]
    sheet = contact_sheet(images, 3, [f"frame {i}" for i in range(5)], tile_width=160)
    assert sheet.shape[1] > sheet.shape[0]
    for color in colors:
        assert (sheet == color).all(axis=-1).sum() > 0.6 * 90 * 160
    bare = contact_sheet(images, 3, tile_width=160)
    assert (bare == colors[0]).all(axis=-1).sum() == 90 * 160
    mixed = contact_sheet([images[0], np.zeros((300, 100, 3), np.uint8)], 9)
    assert mixed.ndim == 3
    with pytest.raises(InputError, match="at least one image"):
        contact_sheet([])
    with pytest.raises(InputError, match="as many labels"):
        contact_sheet(images, 3, ["one"])


def test_png_is_exact(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    save_png(tmp_path / "out" / "a.png", image)
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "a.png"))[..., ::-1], image)
