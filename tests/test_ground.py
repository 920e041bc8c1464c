"""Joint sets, results, whole-or-nothing files, progress."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.files import atomic_path, read_json, write_json
from vidpose.progress import format_seconds, track
from vidpose.results import FramePoses
from vidpose.skeletons import COCO17, POSETRACK15, POSETRACK17, POSETRACK18, SKELETONS, convert_keypoints


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_joint_sets_are_consistent(skeleton):
    assert len(set(skeleton.joints)) == skeleton.num_joints
    assert (skeleton.flip_permutation[skeleton.flip_permutation] == np.arange(skeleton.num_joints)).all()
    for left, right in skeleton.flip_pairs:
        assert skeleton.joints[left].replace("left", "right") == skeleton.joints[right]
    reached = {j for limb in skeleton.limbs for j in limb}
    assert {skeleton.joints[j] for j in set(range(skeleton.num_joints)) - reached} <= {
        "left_ear",
        "right_ear",
    }
    assert sorted(skeleton.upper_body + skeleton.lower_body) == list(range(skeleton.num_joints))
    assert (skeleton.sigmas > 0).all()


def test_published_orders():
    assert POSETRACK17.joints[12:] == ("head_bottom", "nose", "head_top")
    assert POSETRACK18.index["left_ear"] == 3 and POSETRACK18.index["right_ankle"] == 16
    assert COCO17.joints[1:5] == ("left_eye", "right_eye", "left_ear", "right_ear")
    assert COCO17.flip_pairs[0] == (1, 2)
    assert not any({1, 2} & set(pair) for pair in POSETRACK15.flip_pairs)
    assert np.allclose(COCO17.sigmas[[0, 5, 16]], [0.026, 0.079, 0.089])


def test_posetrack_orders_convert_without_loss():
    pose = np.random.default_rng(0).uniform(1, 9, (4, 15, 3))
    for other in (POSETRACK17, POSETRACK18):
        back = convert_keypoints(convert_keypoints(pose, POSETRACK15, other), other, POSETRACK15)
        assert np.array_equal(back, pose)


def test_coco_gets_the_documented_head():
    pose = np.ones((17, 3))
    pose[COCO17.index["nose"]] = [10, 0, 0.9]
    pose[COCO17.index["left_shoulder"]] = [20, 30, 0.5]
    pose[COCO17.index["right_shoulder"]] = [0, 30, 0.7]
    made = convert_keypoints(pose, COCO17, POSETRACK15)
    assert np.allclose(made[1], [10, 20, 0.5])
    assert np.allclose(made[2], [10, -20, 0.5])
    assert (convert_keypoints(pose, COCO17, POSETRACK15, approximate=False)[1:3] == 0).all()
    pose[COCO17.index["left_shoulder"], 2] = 0
    assert (convert_keypoints(pose, COCO17, POSETRACK15)[1:3] == 0).all()


def test_frame_poses_refuses_uneven_arrays():
    with pytest.raises(ValueError, match="boxes has 1 people, keypoints has 2"):
        FramePoses(
            0, 0.0, np.zeros((2, 15, 2)), np.zeros((2, 15)), np.zeros((1, 4)), np.zeros(2), np.zeros(2)
        )
    assert len(FramePoses(0, 0.0)) == 0


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100000])
def test_bad_json_is_one_line_that_names_the_file(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json") as error:
        read_json(path)
    assert "\n" not in str(error.value)


def test_progress_yields_everything_and_says_how_long(capsys):
    assert list(track(range(5), "work", unit="frame")) == [0, 1, 2, 3, 4]
    assert "work: 5 frame in" in capsys.readouterr().err
    assert list(track(range(5), "work", quiet=True)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""
    assert format_seconds(3725) == "1:02:05"


def test_importing_vidpose_is_light():
    code = "import sys, vidpose; print([m for m in ('torch','cv2','av','lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
