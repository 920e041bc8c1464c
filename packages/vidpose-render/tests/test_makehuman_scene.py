"""Rendered scenes, crops and data sets from MakeHuman's assets."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidpose.data.check import check_dataset
from vidpose.errors import InputError
from vidpose.synthetic.write import synthesize
from vidpose_render import scene as scenes
from vidpose_render.camera import look
from vidpose_render.crops import render_crop
from vidpose_render.draw import Exposure
from vidpose_render.figure import join
from vidpose_render.labels import JOINTS, depth_of_joints, see_person
from vidpose_render.occluders import box
from vidpose_render.seats import FOOTREST_M, KINDS, sample_seat
from vidpose_render.skinning import vertex_normals

JOINT = {name: k for k, name in enumerate(JOINTS)}


@pytest.fixture(scope="session")
def cast(assets_dir: Path) -> scenes.Cast:
    return scenes.load_cast(assets_dir, (7,), crowd=3)


def scene_of(cast: scenes.Cast, seed: int, **changed: object) -> scenes.Scene:
    rng = np.random.default_rng(seed)
    scene = scenes.sample_scene(
        cast, rng, frames=4, fps=25, size=(120, 160), hardness=0.0, people=(1, 1), fill=(0.6, 0.9)
    )
    scene.things.clear()
    return dataclasses.replace(scene, **changed)  # type: ignore[arg-type]


# --- what is seen, without assets ------------------------------------------------------------------------


def seen(nearness: float, owner: int, depth: float = 3.0) -> bool:
    """Whether joints ``depth`` metres straight ahead are visible behind a surface."""
    camera = look(np.zeros(3), np.array([0.0, 0.0, 1.0]), 0.0, 50.0, (8.0, 8.0))
    numbers = np.full((16, 16), owner, np.int32)  # figures of one triangle each
    near = np.full((16, 16), nearness, np.float32)
    exposure = Exposure(np.zeros((16, 16, 3)), near, numbers, np.arange(3))
    joints = np.tile([0.0, 0.0, depth], (len(JOINTS), 1))
    person = see_person(0, joints, joints, joints, camera, exposure, depth_of_joints(1.0))
    assert person.keypoints[0, :2] == pytest.approx(7.5, abs=1e-3)  # 0 is the first pixel's centre
    return bool(person.visible[JOINT["left_wrist"]])


def test_a_joint_is_visible_beneath_its_own_skin_and_not_behind_the_body_or_another() -> None:
    assert seen(1 / 2.95, owner=0)  # its own surface, 5 cm before it
    assert not seen(1 / 2.7, owner=0)  # its own trunk, 30 cm before it
    assert not seen(1 / 2.95, owner=1)
    assert seen(1 / 3.5, owner=1)  # another, behind
    assert seen(0.0, owner=-1)


def test_a_joint_behind_the_camera_is_nowhere() -> None:
    camera = look(np.zeros(3), np.array([0.0, 0.0, 1.0]), 0.0, 50.0, (8.0, 8.0))
    near, nothing = np.zeros((16, 16), np.float32), np.full((16, 16), -1, np.int32)
    exposure = Exposure(np.zeros((16, 16, 3)), near, nothing, np.arange(2))
    joints = np.tile([0.0, 0.0, -3.0], (len(JOINTS), 1))
    person = see_person(0, joints, joints, joints, camera, exposure, depth_of_joints(1.0))
    assert not person.visible.any() and not person.keypoints.any() and not person.box_xyxy.any()


# --- scenes ----------------------------------------------------------------------------------------------


def test_one_seed_gives_one_video_whatever_was_made_before(assets_dir: Path, cast: scenes.Cast) -> None:
    def film(cast: scenes.Cast) -> list[np.ndarray]:
        settings = {"frames": 2, "size": (72, 96), "fps": 25, "difficulty": "hard", "people": (1, 2)}
        return [picture for picture, _ in scenes.render_video(cast, (5, 1, 0), **settings)]

    other = dataclasses.replace(cast, _people={})
    other.hire(np.random.default_rng(99))
    np.testing.assert_array_equal(film(cast), film(other))


def test_visible_joints_lie_on_their_person_and_in_the_box(cast: scenes.Cast) -> None:
    away: list[float] = []
    for seed in range(4):
        picture, people, exposure = scene_of(cast, seed).frame(1, np.random.default_rng(0))
        assert picture.shape == (120, 160, 3) and len(people) == 1
        person = people[0]
        x, y = (person.keypoints[person.visible, :2] + 0.5).astype(int).T
        others = (exposure.owner != 0).astype(np.uint8)
        away += cv2.distanceTransform(others, cv2.DIST_L2, 3)[y, x].tolist()
        x1, y1, x2, y2 = person.box_xyxy
        rows, columns = np.nonzero(exposure.owner == 0)
        assert x1 - 3 <= columns.min() and columns.max() <= x2 + 3
        assert y1 - 3 <= rows.min() and rows.max() <= y2 + 3
    # nose and eyes may stick out of a thin outline by a pixel
    assert np.mean(np.array(away) == 0) > 0.85 and max(away) < 2


def test_a_wall_before_a_person_hides_all_joints_and_leaves_the_box(cast: scenes.Cast) -> None:
    scene = scene_of(cast, 1)
    before = scene.frame(1, np.random.default_rng(0))[1][0]
    camera = scene.camera(1.0)
    figure = join([(box(np.array([1.2, 8.0, 1.2])), np.full((4, 4, 3), 99, np.uint8), "thing")])
    place = camera.eye + camera.rotation[2] * 1.1 - [0, 4, 0]
    normals = vertex_normals(figure.vertices, figure.faces)
    scene.things.append(scenes.Thing(figure, place, np.zeros(3), normals))
    person = scene.frame(1, np.random.default_rng(0))[1][0]
    assert before.visible.any() and not person.visible.any()
    np.testing.assert_array_equal(person.keypoints, before.keypoints)
    np.testing.assert_array_equal(person.box_xyxy, before.box_xyxy)


def test_people_are_filmed_from_behind_as_often_as_from_the_front(cast: scenes.Cast) -> None:
    front = []
    for seed in range(30):
        scene = scene_of(cast, seed)
        _, joints = scene.actors[0].pose(2)
        hips = joints[JOINT["left_hip"]] - joints[JOINT["right_hip"]]
        trunk = joints[JOINT["head_bottom"]] - joints[JOINT["right_hip"]]
        front.append(np.cross(hips, trunk) @ (scene.path.start - joints[JOINT["right_hip"]]) > 0)
    assert 0.25 < np.mean(front) < 0.75


def test_an_open_shutter_blurs_what_moves(cast: scenes.Cast) -> None:
    def sharpness(shutter: float) -> float:
        total = 0.0
        for seed in range(3):
            scene = scene_of(cast, seed, shutter=shutter)
            scene.sensor = dataclasses.replace(scene.sensor, noise=(0, 0), jpeg=0, blur_px=0.0, smaller=1.0)
            scene.path = dataclasses.replace(scene.path, shake=(0.05, 6.0))
            image = scene.frame(1, np.random.default_rng(0))[0].astype(float)
            total += float(np.abs(np.diff(image, axis=0)).mean() + np.abs(np.diff(image, axis=1)).mean())
        return total

    assert sharpness(0.9) < 0.9 * sharpness(0.0)


def test_feet_stand_on_the_ground(cast: scenes.Cast) -> None:
    heights = []
    for seed in range(12):
        actor = scenes.sample_actor(cast, np.random.default_rng(seed), 4, 25.0, np.zeros(3))
        heights.append(actor.pose(2)[0][actor.who.outline, 1].min())
    assert abs(float(np.median(heights))) < 0.03  # some jump
    assert min(heights) > -0.08


def test_a_crop_is_about_its_person(cast: scenes.Cast) -> None:
    inside, height = [], []
    for seed in range(8):
        clip = render_crop(cast, np.random.default_rng(seed), frames=2, size=(64, 48))
        assert clip.images.shape == (2, 64, 48, 3) and clip.keypoints.shape == (2, len(JOINTS), 3)
        inside.append(clip.keypoints[1, :15, 2].mean())
        shown = clip.keypoints[1][clip.keypoints[1, :, 2] > 0]
        height.append(max(np.ptp(shown[:, 0]) / 48, np.ptp(shown[:, 1]) / 64))
    assert np.mean(inside) > 0.85 and 0.4 < np.mean(height) < 0.95


# --- data sets -------------------------------------------------------------------------------------------


def test_a_data_set_of_rendered_people_is_whole_and_kept(assets_dir: Path, tmp_path: Path) -> None:
    settings = {
        "videos": 1,
        "frames": 3,
        "size": (96, 128),
        "seed": 2,
        "kind": "makehuman",
        "assets": assets_dir,
    }
    first = synthesize(tmp_path / "set", quiet=True, **settings)  # type: ignore[arg-type]
    assert (first["kept"], first["frames"]) == (0, 3)
    assert check_dataset(tmp_path / "set").problems == [] or first["people"] == 0
    assert synthesize(tmp_path / "set", quiet=True, **settings)["kept"] == 1  # type: ignore[arg-type]
    [file] = (tmp_path / "set" / "annotations" / "train").glob("*.json")
    for person in json.loads(file.read_text())["annotations"]:
        coco = np.array(person["keypoints_coco17"]).reshape(17, 3)
        ours = np.array(person["keypoints"]).reshape(17, 3)
        np.testing.assert_allclose(coco[0, :2], ours[0, :2])  # the nose
        assert set(coco[:, 2]) <= {0, 1, 2}


def test_masks_hold_the_joints_that_are_seen(tmp_path: Path, assets_dir: Path) -> None:
    synthesize(
        tmp_path / "set", videos=2, frames=2, size=(144, 256), seed=3, difficulty="clean", kind="makehuman",
        assets=assets_dir, masks=True, quiet=True,
    )  # fmt: skip
    assert check_dataset(tmp_path / "set").problems == []
    inside = []
    for file in (tmp_path / "set" / "annotations" / "train").glob("*.json"):
        for person in json.loads(file.read_text())["annotations"]:
            assert person["segmentation"]["size"] == [144, 256]
            runs = person["segmentation"]["counts"]
            values = np.arange(len(runs)) % 2 == 1
            mask = np.repeat(values, runs).reshape(256, 144).T  # columns first
            near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))
            x1, y1, w, h = person["bbox"]
            rows, columns = np.nonzero(mask)
            assert len(rows) and rows.min() >= y1 - 4 and rows.max() <= y1 + h + 4
            assert columns.min() >= x1 - 4 and columns.max() <= x1 + w + 4
            for x, y, seen in np.array(person["keypoints"]).reshape(17, 3):
                if seen == 1:
                    inside.append(near[round(y), round(x)])
    assert len(inside) > 20 and np.mean(inside) > 0.9


@pytest.mark.parametrize("frames", [1, 3])
def test_clips_about_people_are_a_data_set_too(assets_dir: Path, tmp_path: Path, frames: int) -> None:
    settings = {"videos": 1, "size": (128, 96), "seed": 2} | {"kind": "makehuman", "assets": assets_dir}
    made = synthesize(tmp_path / "set", frames=frames, clips=4, quiet=True, **settings)  # type: ignore[arg-type]
    assert made["frames"] == 4 * frames
    report = check_dataset(tmp_path / "set")
    assert report.problems == []
    counts = report.splits["train"]
    assert (counts.videos, counts.frames) == ((1, 4) if frames == 1 else (4, 12))
    again = synthesize(tmp_path / "set", frames=frames, clips=4, quiet=True, **settings)  # type: ignore[arg-type]
    assert again["kept"] == 1


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kind": "makehuman"}, "--assets DIR"),
        ({"kind": "makehuman", "assets": "no/such"}, "no/such: no such folder"),
        ({"kind": "makehuman", "assets": "no/such", "clips": 0}, "1 to 10000 of them"),
        ({"kind": "makehuman", "assets": "no/such", "clips": 2, "masks": True}, "masks are for whole videos"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, str], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        synthesize(tmp_path / "set", videos=1, frames=1, quiet=True, **changed)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


# --- seats ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_seat_stands_on_the_ground_and_its_upper_side_is_where_it_should_be(kind: str) -> None:
    rng = np.random.default_rng(3)
    figure = sample_seat(rng, kind, 0.5)
    assert figure.vertices[:, 1].min() == pytest.approx(0, abs=1e-6) or kind == "wheelchair"
    assert figure.vertices[:, 1].min() >= -1e-6
    under = (np.abs(figure.vertices[:, 0]) < 0.3) & (np.abs(figure.vertices[:, 1] - 0.5) < 1e-5)
    assert under.sum() >= 4  # corners of the cushion
    assert np.ptp(figure.vertices[under, 2]) > 0.3


def test_people_sit_on_what_carries_them(cast: scenes.Cast) -> None:
    sitting = dataclasses.replace(cast, seated=1.0)
    rolled = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        actor = scenes.sample_actor(sitting, rng, 10, 25, np.zeros(3))
        assert actor.seat is not None
        for frame in (0, 5, 9):
            _, joints = actor.pose(frame)
            hips = joints[[JOINT["left_hip"], JOINT["right_hip"]]].mean(axis=0)
            seat = actor.seat.pose(frame)
            beneath = np.linalg.norm((seat - hips)[:, [0, 2]], axis=1) < 0.9
            assert beneath.any() and seat[:, 1].min() > -1e-4
            highest = seat[np.linalg.norm((seat - hips)[:, [0, 2]], axis=1) < 0.35, 1]
            assert len(highest) and highest.min() < hips[1]
        assert actor.place[1] in (0.0, pytest.approx(FOOTREST_M))
        rolled += np.linalg.norm(actor.seat.pose(9) - actor.seat.pose(0), axis=1).max() > 0.1
    assert rolled  # a wheelchair


def test_seats_hide_legs_and_nobody_sits_unless_asked(cast: scenes.Cast) -> None:
    assert scenes.sample_actor(cast, np.random.default_rng(0), 4, 25, np.zeros(3)).seat is None
    sitting = dataclasses.replace(cast, seated=1.0)
    shown = {True: 0.0, False: 0.0}
    for seed in range(6):
        for seats in shown:
            rng = np.random.default_rng(seed)
            scene = scenes.sample_scene(
                sitting, rng, frames=2, fps=25, size=(120, 160), hardness=0.0, people=(1, 1), fill=(0.6, 0.9)
            )
            assert any(thing is scene.actors[0].seat for thing in scene.things)
            if not seats:
                scene.things.clear()
            _, [person], _ = scene.frame(0, np.random.default_rng(0))
            shown[seats] += person.shown
    assert shown[True] < shown[False] - 0.1


def test_a_share_of_seated_people_is_told_in_the_labels_and_checked(assets_dir: Path, tmp_path: Path) -> None:
    options = {"videos": 1, "frames": 1, "size": (96, 128), "people": (1, 1), "quiet": True}
    synthesize(tmp_path / "a", kind="makehuman", assets=assets_dir, seated=1.0, **options)
    [labels] = (tmp_path / "a" / "annotations" / "train").glob("*.json")
    assert json.loads(labels.read_text())["info"]["seated"] == 1.0
    with pytest.raises(InputError, match="seated is 2"):
        synthesize(tmp_path / "b", kind="makehuman", assets=assets_dir, seated=2, **options)
