"""Synthetic videos: the pixels and the labels tell the same story, and the files are what readers expect."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.skeletons import POSETRACK15, POSETRACK18
from vidpose.synthetic import generate_video, synthesize
from vidpose.synthetic.body import POINT, pose_body, random_body
from vidpose.synthetic.motion import MOTIONS, Motion
from vidpose.synthetic.paint import Figure
from vidpose.synthetic.people import JOINT_POINTS, Looks

SMALL = (144, 256)
LIGHT = np.array([-0.5, -0.7, -0.5]) / np.linalg.norm([0.5, 0.7, 0.5])


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def posed(seed: int, kind: str, heading: float, time: float = 0.3):
    """A figure alone, 3 m away, drawn into a layer: looks, joints' truth, layer."""
    rng = np.random.default_rng(seed)
    looks = Looks(random_body(rng), rng)
    angles = Motion(kind, rng).angles(np.array([time]))
    points, frames = pose_body(looks.body, angles, np.array([[0.0, 3.4]]), np.array([heading]))
    return looks, points + np.array([0.0, 1.0, 0.0]), frames


def drawn(looks: Looks, points: np.ndarray, frames: np.ndarray):
    result = Figure(looks, LIGHT).draw(points, frames, 540.0, (160.0, 180.0), (360, 320))
    assert result is not None
    return result


# -- pixels and truth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", ["clean", "hard"])
def test_same_seed_same_pixels_and_labels(difficulty: str) -> None:
    first = list(generate_video(4, 4, SMALL, difficulty=difficulty))
    second = list(generate_video(4, 4, SMALL, difficulty=difficulty))
    for (image, truth), (again, same) in zip(first, second, strict=True):
        np.testing.assert_array_equal(image, again)
        for p, q in zip(truth.people, same.people, strict=True):
            np.testing.assert_array_equal(p.keypoints, q.keypoints)


def test_other_seed_other_video_and_a_prefix_does_not_depend_on_the_length() -> None:
    image = next(iter(generate_video(4, 1, SMALL)))[0]
    assert np.abs(image.astype(int) - next(iter(generate_video(5, 1, SMALL)))[0]).mean() > 5
    np.testing.assert_array_equal(image, next(iter(generate_video(4, 9, SMALL)))[0])


@pytest.mark.parametrize("seed", range(6))
def test_labels_are_inside_the_picture_or_zero_and_visible_joints_lie_on_their_body(seed: int) -> None:
    height, width = SMALL
    people = 0
    for image, truth in generate_video(seed, 6, SMALL, difficulty="hard", instances=True):
        assert image.shape == (*SMALL, 3) and image.dtype == np.uint8
        assert truth.instances is not None
        for person in truth.people:
            people += 1
            x, y, labelled = person.keypoints.T
            inside = labelled > 0
            assert (x[inside] >= 0).all() and (x[inside] <= width - 1).all()
            assert (y[inside] >= 0).all() and (y[inside] <= height - 1).all()
            assert (person.keypoints[~inside] == 0).all()
            assert not (person.visible & ~inside).any()
            assert inside.sum() >= 3 and person.visible.any()
            x1, y1, x2, y2 = person.box_xyxy
            assert 0 <= x1 < x2 <= width - 1 and 0 <= y1 < y2 <= height - 1
            body = cv2.dilate((truth.instances == person.track_id + 1).astype(np.uint8), np.ones((5, 5)))
            for j in np.flatnonzero(person.visible):
                assert body[round(float(y[j])), round(float(x[j]))], POSETRACK15.joints[j]
    assert people >= 6


@pytest.mark.parametrize("heading", [0.0, 75.0, 180.0, 250.0])
def test_painted_forearms_are_where_elbow_and_wrist_of_their_side_are_labelled(heading: float) -> None:
    looks, points, frames = posed(3, "jumping_jack", heading)
    colors = {"left_forearm": (255, 0, 0), "right_forearm": (0, 255, 0)}
    for part in looks.parts:
        part.texture = np.zeros_like(part.texture)
        part.texture[:] = colors.get(part.name, (0, 0, 255))
    layer, view = drawn(looks, points, frames)
    for side, channel in (("left", 0), ("right", 1)):
        rows, columns = np.nonzero(layer.rgba[..., channel] > 60)
        if len(rows) < 40:  # hidden by the trunk
            continue
        middle = np.array([columns.mean() + layer.x, rows.mean() + layer.y])
        joints = [view.joints[POSETRACK15.index[f"{side}_{name}"]] for name in ("elbow", "wrist")]
        assert np.linalg.norm(middle - np.mean(joints, axis=0)) < 5.0


def test_joints_are_the_pinhole_projection_of_the_posed_skeleton() -> None:
    looks, points, frames = posed(8, "dance", 140.0)
    _, view = drawn(looks, points, frames)
    expected = points[0, list(JOINT_POINTS)]
    expected = expected[:, :2] / expected[:, 2:] * 540 + (160, 180)
    np.testing.assert_allclose(view.joints, expected, atol=1e-6)


def test_face_is_seen_from_the_front_and_not_from_behind() -> None:
    nose = POSETRACK15.index["nose"]
    assert drawn(*posed(2, "stand", 180.0))[1].unhidden[nose]
    assert not drawn(*posed(2, "stand", 0.0))[1].unhidden[nose]


def test_left_is_on_the_right_hand_side_of_the_picture_from_the_front() -> None:
    left, right = (POSETRACK15.index[f"{s}_shoulder"] for s in ("left", "right"))
    front, back = drawn(*posed(2, "walk", 180.0))[1].joints, drawn(*posed(2, "walk", 0.0))[1].joints
    assert front[left, 0] > front[right, 0]
    assert back[left, 0] < back[right, 0]


def test_side_view_hides_the_far_shoulder_behind_the_trunk_or_arm() -> None:
    view = drawn(*posed(5, "stand", 90.0))[1]  # faces right: the left side is the far one
    assert not view.unhidden[POSETRACK15.index["left_hip"]]


@pytest.mark.parametrize("kind", list(MOTIONS))
def test_bones_keep_their_length_and_feet_stay_above_the_ground(kind: str) -> None:
    rng = np.random.default_rng(1)
    body, motion = random_body(rng), Motion(kind, rng)
    times = np.linspace(0, 3, 50)
    points, _ = pose_body(body, motion.angles(times), np.zeros((50, 2)), np.zeros(50))
    for a, b, length in (
        ("hip", "knee", body.thigh),
        ("knee", "ankle", body.shank),
        ("elbow", "wrist", body.forearm),
    ):
        for side in ("left", "right"):
            bone = points[:, POINT[f"{side}_{a}"]] - points[:, POINT[f"{side}_{b}"]]
            np.testing.assert_allclose(np.linalg.norm(bone, axis=1), length, rtol=1e-9)
    assert points[..., 1].max() <= 1e-9
    assert (np.abs(np.diff(points, axis=0)).max(axis=(1, 2)) < 1.0).all()  # no jumps within 0.06 s


def test_boxes_hold_the_silhouette_and_the_head() -> None:
    layer, view = drawn(*posed(6, "wave", 200.0))
    rows, columns = np.nonzero(layer.rgba[..., 3] > 127)
    assert view.box is not None
    x1, y1, x2, y2 = view.box
    assert abs(x1 - (columns.min() + layer.x)) <= 1 and abs(x2 - (columns.max() + layer.x)) <= 1
    assert abs(y1 - (rows.min() + layer.y)) <= 1 and abs(y2 - (rows.max() + layer.y)) <= 1
    hx1, hy1, hx2, hy2 = view.head_box
    for name in ("head_top", "head_bottom"):
        x, y = view.joints[POSETRACK15.index[name]]
        assert hx1 <= x <= hx2 and hy1 <= y <= hy2


def test_backdrop_moves_by_the_homography_that_the_truth_tells() -> None:
    for seed in range(12, 30):
        frames = list(generate_video(seed, 16, SMALL, difficulty="clean", instances=True))
        (a, first), (b, last) = frames[0], frames[-1]
        move = last.camera @ np.linalg.inv(first.camera)
        corner = move @ np.array([SMALL[1] / 2, SMALL[0] / 2, 1.0])
        if np.hypot(*(corner[:2] / corner[2] - (SMALL[1] / 2, SMALL[0] / 2))) > 2.5:
            break
    else:
        pytest.fail("no seed with a moving camera")
    warped = cv2.warpPerspective(a, move, (SMALL[1], SMALL[0]))
    mask_a = (first.instances == 0).astype(np.uint8)
    free = cv2.erode(
        cv2.warpPerspective(mask_a, move, (SMALL[1], SMALL[0])) & (last.instances == 0), np.ones((9, 9))
    )
    difference = {
        name: np.abs(i.astype(float) - b)[free > 0].mean() for name, i in (("still", a), ("moved", warped))
    }
    assert difference["moved"] < 0.7 * difference["still"]


def test_hard_videos_have_short_degraded_stretches_with_clean_frames_between() -> None:
    events = [set(t.events) - {"occluder"} for _, t in generate_video(1, 80, (96, 128), difficulty="hard")]
    degraded = [bool(e) for e in events]
    assert 0.15 < np.mean(degraded) < 0.75
    stretches = [len(s) for s in "".join("x" if d else "." for d in degraded).split(".") if s]
    assert max(stretches) <= 4
    assert not any(t.events for _, t in generate_video(1, 5, (96, 128), difficulty="clean"))


def test_people_move() -> None:
    tracks: dict[int, list[np.ndarray]] = {}
    for _, truth in generate_video(3, 12, SMALL, difficulty="mixed"):
        for person in truth.people:
            tracks.setdefault(person.track_id, []).append(person.keypoints)
    steps = [np.abs(np.diff(np.stack(t)[:, :, :2], axis=0)).max() for t in tracks.values() if len(t) > 5]
    assert max(steps) > 2.0


def test_masks_hold_the_joints_that_are_seen(tmp_path: Path) -> None:
    synthesize(tmp_path, videos=2, frames=2, size=SMALL, seed=3, difficulty="clean", masks=True, quiet=True)
    inside = []
    for file in (tmp_path / "annotations" / "train").glob("*.json"):
        for person in json.loads(file.read_text())["annotations"]:
            assert person["segmentation"]["size"] == list(SMALL)
            runs = person["segmentation"]["counts"]
            mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(SMALL[::-1]).T  # columns first
            near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))
            x1, y1, w, h = person["bbox"]
            rows, columns = np.nonzero(mask)
            assert len(rows) and rows.min() >= y1 - 4 and rows.max() <= y1 + h + 4
            assert columns.min() >= x1 - 4 and columns.max() <= x1 + w + 4
            seen = [joint for joint in np.array(person["keypoints"]).reshape(17, 3) if joint[2] == 1]
            inside += [near[round(y), round(x)] for x, y, _ in seen]
    assert len(inside) > 20 and np.mean(inside) > 0.9


# -- files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    synthesize(root, videos=2, frames=4, seed=11, split="val", size=SMALL, write="both", quiet=True)
    return root


def test_files_follow_posetrack18(made: Path) -> None:
    for index in range(2):
        name = f"val_s000011_{index:04d}"
        document = json.loads((made / "annotations" / "val" / f"{name}.json").read_text())
        (category,) = document["categories"]
        assert category["keypoints"] == list(POSETRACK18.joints)
        assert [i["file_name"] for i in document["images"]] == [
            f"images/val/{name}/{n:06d}.jpg" for n in range(4)
        ]
        ids = {}
        for image in document["images"]:
            assert (
                str(image["id"]) == f"1{image['vid_id']}{len(ids):04d}" and image["frame_id"] == image["id"]
            )
            assert image["is_labeled"] and image["nframes"] == 4
            assert len(image["ignore_regions_x"]) == len(image["ignore_regions_y"])
            assert cv2.imread(str(made / image["file_name"])).shape == (image["height"], image["width"], 3)
            ids[image["id"]] = []
        for label in document["annotations"]:
            ids[label["image_id"]].append(label["track_id"])
            keypoints = np.array(label["keypoints"]).reshape(17, 3)
            assert (keypoints[[3, 4]] == 0).all()
            assert set(keypoints[:, 2]) <= {0, 1}
            assert label["num_keypoints"] == (keypoints[:, :2] != 0).any(axis=1).sum()
            assert min(label["bbox"][2:]) > 0 and min(label["bbox_head"][2:]) > 0
        assert all(len(set(tracks)) == len(tracks) for tracks in ids.values())
        assert len({a["id"] for a in document["annotations"]}) == len(document["annotations"])


def test_the_readers_take_it_and_give_the_generated_truth(made: Path) -> None:
    from vidpose.data.readers import read_dataset

    dataset = read_dataset(made, "val")
    assert [v.name for v in dataset.videos] == ["val_s000011_0000", "val_s000011_0001"]
    truths = [t for _, t in generate_video((11, 2, 0), 4, SMALL)]
    for frame, truth in zip(dataset.videos[0].frames, truths, strict=True):
        assert tuple(frame.size) == SMALL
        assert [p.track_id for p in frame.people] == [p.track_id for p in truth.people]
        for read, person in zip(frame.people, truth.people, strict=True):
            np.testing.assert_allclose(read.keypoints[:, :2], person.keypoints[:, :2], atol=1e-3)


def test_movies_play_the_frames(made: Path) -> None:
    with av.open(str(made / "videos" / "val" / "val_s000011_0000.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.average_rate == 25
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
    assert len(frames) == 4
    image = next(iter(generate_video((11, 2, 0), 4, SMALL)))[0]
    assert np.abs(frames[0].astype(float) - image).mean() < 12


def test_bytes_do_not_depend_on_workers_or_on_how_many_videos(tmp_path: Path) -> None:
    options = {"frames": 3, "seed": 2, "size": (96, 128), "quiet": True}
    synthesize(tmp_path / "one", videos=2, **options)
    synthesize(tmp_path / "two", videos=3, workers=2, **options)
    one, two = digest(tmp_path / "one"), digest(tmp_path / "two")
    assert one and one.items() <= two.items()


def test_second_call_keeps_whole_videos_and_mends_broken_ones(tmp_path: Path) -> None:
    options = {"frames": 3, "seed": 2, "size": (96, 128), "quiet": True}
    assert synthesize(tmp_path, videos=2, **options)["kept"] == 0
    before = digest(tmp_path)
    assert synthesize(tmp_path, videos=2, **options)["kept"] == 2
    (tmp_path / "annotations" / "train" / "train_s000002_0000.json").unlink()
    (tmp_path / "images" / "train" / "train_s000002_0001" / "000001.jpg").unlink()
    assert synthesize(tmp_path, videos=2, **options)["kept"] == 0
    assert digest(tmp_path) == before
    assert synthesize(tmp_path, videos=2, **{**options, "difficulty": "hard"})["kept"] == 0
    assert digest(tmp_path) != before


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"videos": 0}, "videos"),
        ({"frames": 0}, "frames"),
        ({"frames": 20_000}, "frames"),
        ({"seed": -1}, "seed"),
        ({"split": "dev"}, "split"),
        ({"size": (10, 640)}, "size"),
        ({"size": (97, 129), "write": "video"}, "even"),
        ({"fps": 0}, "fps"),
        ({"write": "gif"}, "write"),
        ({"difficulty": "easy"}, "difficulty"),
        ({"people": (5, 2)}, "people"),
        ({"workers": 0}, "workers"),
    ],
)
def test_bad_options_are_one_line(tmp_path: Path, option: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        synthesize(tmp_path, quiet=True, **option)
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(InputError, match="folder"):
        synthesize(tmp_path / "out", videos=1, frames=1, quiet=True)
    with pytest.raises(InputError, match="seed"):
        generate_video(-1, 2)
