"""The second look at people who lean: leans, turned crops, and what it gains."""

from __future__ import annotations

import json
import sys
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidpose.geometry import apply_affine, crop_affine, enclosing_box
from vidpose.infer.crops import CropRunner, Strip, make_windows
from vidpose.infer.held_crops import HeldCrops
from vidpose.infer.upright import (
    MARGIN,
    UprightRunner,
    angle_between_deg,
    lean_deg,
    mean_angle_deg,
    turned_box,
)
from vidpose.infer.weights import load_pose_model
from vidpose.io.video import open_video
from vidpose.skeletons import POSETRACK15, Skeleton

MIDDLE = 29
"""The frame of the packaged video in which the person who stands is all in the picture."""
CLIP = Path(sys.modules["vidpose"].__file__).parent / "examples" / "people.mp4"
STANDING = np.array(
    [
        (0, -70), (0, -58), (0, -85), (12, -52), (-12, -52), (16, -30), (-16, -30), (18, -8), (-18, -8),
        (8, 0), (-8, 0), (9, 40), (-9, 40), (10, 80), (-10, 80),
    ],
    dtype=float,
)  # fmt: skip
"""[15, 2] a person with the hips' middle at the origin."""


def turned(points: np.ndarray, clockwise_deg: float) -> np.ndarray:
    angle = np.radians(clockwise_deg)
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).T


@pytest.mark.parametrize("angle", [-170, -90, -46, 60, 90, 179])
def test_a_lean_is_the_angle_by_which_a_person_was_turned(angle: float) -> None:
    assert lean_deg(turned(STANDING, angle), POSETRACK15) == pytest.approx(angle)


def test_who_stands_does_not_lean_nor_does_what_has_no_trunk() -> None:
    assert lean_deg(turned(STANDING, 44), POSETRACK15) == 0
    assert lean_deg(turned(STANDING, 90), Skeleton("mouse", ("snout", "tail"), ())) == 0


def test_angles_go_round() -> None:
    assert mean_angle_deg(np.array([170.0, -170.0])) == pytest.approx(180)
    assert angle_between_deg(175, -175) == pytest.approx(10)


@pytest.mark.parametrize("angle", [-120.0, 60.0, 180.0])
def test_a_turned_crop_shows_the_person_standing_and_whole(angle: float) -> None:
    lying = turned(STANDING, angle) + (300, 200)
    box = turned_box(lying, np.ones(15), angle)
    inside = apply_affine(crop_affine(box, (192, 160), padding=1.0, rotation_deg=-angle), lying)
    assert lean_deg(inside, POSETRACK15) == 0
    assert inside[2, 1] < inside[1, 1] < inside[9:11, 1].min()  # head above neck above hips
    top, bottom = inside[:, 1].min() / 191, inside[:, 1].max() / 191
    assert top == pytest.approx(MARGIN / (1 + 2 * MARGIN)) and bottom == pytest.approx(1 - top)
    unsure = np.ones(15)
    unsure[13:] = 0.1  # joints that are not sure do not say where a person ends
    shorter = turned_box(lying, unsure, angle)
    assert np.ptp(shorter.reshape(2, 2), axis=0)[1] < 0.8 * np.ptp(box.reshape(2, 2), axis=0)[1]
    assert turned_box(lying, np.full(15, 0.1), angle) == pytest.approx(box)  # few sure ones: all count


def labelled(frame: int) -> np.ndarray:
    """[15, 2] the true joints of a person who stands, those that are hidden, too."""
    content = json.loads(CLIP.with_suffix(".json").read_text())
    image = content["images"][frame]["id"]
    person = next(a for a in content["annotations"] if a["image_id"] == image and a["track_id"] == 2)
    names = content["categories"][0]["keypoints"]
    joints = np.array(person["keypoints"]).reshape(-1, 3)
    return joints[[names.index(name) for name in POSETRACK15.joints], :2]


@cache
def tilted(angle: float) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, CropRunner]:
    """Frames of the packaged video turned by ``angle``; box and pose [15, 2] in the middle one."""
    runner = CropRunner(load_pose_model("hrnet")[0].eval(), POSETRACK15)
    with open_video(str(CLIP)) as video:
        frames = [frame.image for frame in islice(video, MIDDLE - 2, MIDDLE + 3)]
    pose = labelled(MIDDLE)
    height, width = frames[0].shape[:2]
    side = float(np.hypot(height, width))
    affine = cv2.getRotationMatrix2D((width / 2, height / 2), -angle, 1.0)
    affine[:, 2] += (side - width) / 2, (side - height) / 2
    lying = apply_affine(affine, pose)
    around = enclosing_box(lying, np.ones(15, dtype=bool), margin=0.1)
    assert around is not None
    frames = [cv2.warpAffine(frame, affine, (int(side), int(side))) for frame in frames]
    return frames, around, lying, runner


def miss(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance as a share of the person's longer side."""
    return float(np.linalg.norm(found - truth, axis=-1).mean() / np.ptp(truth, axis=0).max())


@pytest.mark.parametrize("angle", [100.0, 180.0])
def test_people_on_their_heads_are_seen_as_well_as_standing_ones(angle: float) -> None:
    frames, box, truth, runner = tilted(angle)
    _, windows = make_windows([2, 3], 1, 0, 4)
    strip = Strip(box, frames[2:4], windows)
    (plain, _), (twice, _) = runner([strip])[0], UprightRunner(runner)([strip])[0]
    assert miss(twice[0], truth) < 0.08 and miss(twice[0], truth) < 0.7 * miss(plain[0], truth)
    assert miss(twice[1], truth) < 0.1  # the next frame: the person has moved on


def test_streams_look_again_as_whole_videos_do() -> None:
    frames, box, truth, runner = tilted(180.0)
    images = dict(enumerate(frames))
    seen = HeldCrops(runner)
    first, _ = seen(images, 2, {7: box})
    whole = UprightRunner(runner)([Strip(box, [frames[2]], np.zeros((1, 1), int))])[0][0]
    assert first[0] == pytest.approx(whole[0], abs=1e-3)
    plain, _ = HeldCrops(runner, upright=False)(images, 2, {7: box})
    assert miss(first[0], truth) <= miss(plain[0], truth)


def test_a_single_frame_model_sees_each_box_as_it_is() -> None:
    frames, box, _, runner = tilted(180.0)
    held, moved = HeldCrops(runner, upright=False), box + (3, 2, 3, 2)
    held(dict(enumerate(frames)), 2, {7: box})
    points, _ = held(dict(enumerate(frames)), 3, {7: moved})
    alone, _ = runner([Strip(moved, [frames[3]], np.zeros((1, 1), int))])[0]
    assert np.array_equal(points, alone)


def test_who_stands_is_seen_once() -> None:
    frames, box, _, runner = tilted(0.0)
    before = runner.frames_extracted
    strip = Strip(box, [frames[2]], np.zeros((1, 1), int))
    (points, peaks), (again, same) = UprightRunner(runner)([strip])[0], runner([strip])[0]
    assert runner.frames_extracted == before + 2  # one for each call
    assert np.array_equal(points, again) and np.array_equal(peaks, same)
