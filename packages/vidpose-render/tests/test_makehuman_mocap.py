"""Reading motion capture, and laying it on the rig."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose_render.acclaim import read_amc, read_asf
from vidpose_render.assets import Assets
from vidpose_render.mocap import read_bvh, read_clip
from vidpose_render.moves import default_rig
from vidpose_render.retarget import match_bones, retarget_rotations, scaled_root
from vidpose_render.rotations import conjugate, multiply, rotate, to_matrix, to_rotvec
from vidpose_render.types import Rig

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
  JOINT Arm
  {
    OFFSET 0 1 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 2 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.033333
1 2 3 90 0 0 0 0 0
1 2 3 30 20 10 0 0 90
"""

ASF = """:version 1.10
:units
  length 0.45
  angle deg
:root
  order TX TY TZ RX RY RZ
  axis XYZ
  position 0 0 0
  orientation 0 0 0
:bonedata
  begin
    id 1
    name upper
    direction 1 0 0
    length 2
    axis 0 0 -90 XYZ
    dof rx ry rz
  end
  begin
    id 2
    name lower
    direction 1 0 0
    length 1
    axis 0 0 0 XYZ
    dof ry
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""

AMC = """#!OML:ASF
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 90
upper 90 0 0
lower 90
2
root 1 2 3 10 20 30
upper 0 0 0
lower 0
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def about(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    out = np.eye(3)
    out[i, i], out[i, j], out[j, i], out[j, j] = c, -s, s, c
    return out


def test_bvh_rotations_multiply_in_the_order_written(tmp_path: Path) -> None:
    clip = read_bvh(write(tmp_path, "a.bvh", BVH))
    hips = about("z", 30) @ about("y", 20) @ about("x", 10)
    assert np.allclose(to_matrix(clip.rotations[1]), [hips, hips @ about("y", 90)], atol=1e-6)


def test_bvh_bones_end_at_the_next_joint_or_the_end_site(tmp_path: Path) -> None:
    clip = read_bvh(write(tmp_path, "a.bvh", BVH))
    assert clip.tails.tolist() == [[0, 1, 0], [2, 1, 0]]


def test_bvh_of_another_rate_is_resampled(tmp_path: Path) -> None:
    rows = "".join(f"{x} 0 0 {10 * x + 1} 0 0 0 0 0\n" for x in range(9))
    text = BVH[: BVH.index("Frames")] + "Frames: 9\nFrame Time: 0.00833333\n" + rows
    clip = read_bvh(write(tmp_path, "fast.bvh", text))
    assert np.allclose(clip.root[:, 0], [0, 4, 8], atol=1e-3)
    assert np.allclose(to_matrix(clip.rotations[1, 0]), about("z", 41), atol=1e-4)


def test_bvh_rest_pose_in_front_is_dropped(tmp_path: Path) -> None:
    text = BVH.replace("1 2 3 90 0 0 0 0 0", "1 2 3 0 0 0 0 0 0")
    assert len(read_bvh(write(tmp_path, "a.bvh", text)).root) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HIER", "a.bvh:1: a BVH file begins with HIERARCHY"),
        ("OFFSET 0 1 0", "OFFSET 0 1", "a.bvh:8: OFFSET has 2 numbers"),
        ("CHANNELS 3", "CHANNELS 4", "a.bvh:9: CHANNELS announces 4"),
        ("Zrotation Xrotation Yrotation", "Zrotation Xrotation Yscale", "a.bvh:9: channel Yscale"),
        ("Frames: 2", "Frames: two", "a.bvh:17: needs 'Frames"),
        ("Frames: 2", "Frames: 3", "holds 2 frames, 'Frames:' announces 3"),
        ("0.033333", "0", "a.bvh:18: Frame Time"),
        ("1 2 3 30 20 10", "1 2 3 30 20", "a.bvh:20: a frame has 8 numbers, 9 are needed"),
        ("1 2 3 30 20 10", "1 2 3 30 20 nan", "a.bvh:20: a frame must be finite"),
        ("1 2 3 30 20 10", "1 2 3 30 20 x", "a.bvh:20: a frame must be numbers"),
        ("MOTION\n", "", "'Frames: 2' is not understood"),
    ],
)
def test_bad_bvh_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, "a.bvh", BVH.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_bvh(path)
    assert message in str(error.value) and str(path) in str(error.value)


def test_amc_angles_are_about_the_bone_own_axes(tmp_path: Path) -> None:
    clip = read_amc(write(tmp_path, "a.amc", AMC), read_asf(write(tmp_path, "a.asf", ASF)))
    # The upper bone's x axis lies along -y at rest; turned by 90 degrees about it, then the root's.
    upper = about("z", 90) @ about("y", -90)
    expected = [about("z", 90), upper, upper @ about("y", 90)]
    assert np.allclose(to_matrix(clip.rotations[0]), expected, atol=1e-6)


def test_amc_root_turns_about_x_first(tmp_path: Path) -> None:
    clip = read_amc(write(tmp_path, "a.amc", AMC), read_asf(write(tmp_path, "a.asf", ASF)))
    expected = about("z", 30) @ about("y", 20) @ about("x", 10)
    assert np.allclose(to_matrix(clip.rotations[1, 0]), expected, atol=1e-6)


def test_asf_bones_follow_each_other(tmp_path: Path) -> None:
    skeleton = read_asf(write(tmp_path, "a.asf", ASF))
    assert skeleton.tails.tolist() == [[0, 0, 0], [2, 0, 0], [3, 0, 0]]


def test_amc_bones_may_come_in_another_order_in_each_frame(tmp_path: Path) -> None:
    skeleton = read_asf(write(tmp_path, "a.asf", ASF))
    mixed = AMC.replace("upper 0 0 0\nlower 0\n", "lower 0\nupper 0 0 0\n")
    a = read_amc(write(tmp_path, "a.amc", AMC), skeleton)
    b = read_amc(write(tmp_path, "b.amc", mixed), skeleton)
    assert np.array_equal(a.rotations, b.rotations)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lower 90", "lower 90 3", "a.amc:7: lower has 2 numbers, 1 are needed"),
        ("lower 90", "lower x", "a.amc:7: lower must be numbers"),
        ("lower 90\n", "", "a.amc:4: frame lacks lower"),
        ("lower 90", "tail 90", "a.amc:7: the skeleton has no moving bone 'tail'"),
        ("lower 90", "upper 90 0 0", "a.amc:7: upper is there twice"),
        ("1\nroot", "root", "a.amc:4: a frame begins with its number"),
    ],
)
def test_bad_amc_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    skeleton = read_asf(write(tmp_path, "a.asf", ASF))
    path = write(tmp_path, "a.amc", AMC.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_amc(path, skeleton)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("length 2\n", "", "upper has no 'length'"),
        (
            "direction 1 0 0\n    length 1",
            "direction 1 0\n    length 1",
            "a.asf:22: direction of lower has 2",
        ),
        ("dof ry", "dof l", "a.asf:25: lower: 'l' cannot be used"),
        ("upper lower\n", "upper low\n", "a.asf:30: there is no bone low"),
        ("    upper lower\n", "", "not joined to the root in :hierarchy: lower"),
        ("angle deg", "angle grad", "a.asf:4: angle must be deg or rad"),
    ],
)
def test_bad_asf_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, "a.asf", ASF.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        read_asf(path)
    assert message in str(error.value)


def test_amc_without_a_skeleton_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs one \.asf skeleton beside it, found 0"):
        read_clip(write(tmp_path, "a.amc", AMC))


def test_unknown_joint_names_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known skeleton"):
        match_bones(read_bvh(write(tmp_path, "a.bvh", BVH)))


@pytest.fixture(scope="module")
def rig(assets_dir: Path) -> Rig:
    return default_rig(Assets.load(assets_dir).rig_path)


def test_one_take_as_bvh_and_as_amc_moves_alike(assets_dir: Path) -> None:
    """Two readers, two files that others converted from one recording; it also tells the AMC rate."""
    folder = assets_dir / "mocap"
    bvh = read_bvh(folder / "bvh" / "cmu_full_01_01.bvh")
    amc = read_clip(folder / "asfamc" / "01" / "01_01.amc")
    # The BVH file is thinned from the original with a shift of some hundredths of a second.
    count = len(bvh.root)
    for a, b in (("LeftForeArm", "lradius"), ("RightLeg", "rtibia"), ("Head", "head"), ("Hips", "root")):
        mine, theirs = bvh.rotations[:, bvh.joints.index(a)], amc.rotations[1:, amc.joints.index(b)][:count]
        angles = np.rad2deg(np.linalg.norm(to_rotvec(multiply(conjugate(mine), theirs)), axis=-1))
        assert np.median(angles) < 1.5, a


@pytest.mark.parametrize("name", ["bvh/cmu_full_01_01.bvh", "bvh/cmu_136_21.bvh", "asfamc/02/02_03.amc"])
def test_limbs_of_the_rig_point_where_the_recorded_limbs_point(assets_dir: Path, rig: Rig, name: str) -> None:
    clip = read_clip(assets_dir / "mocap" / name)
    rotations, match = to_matrix(retarget_rotations(clip, rig)), match_bones(clip)
    for bone in ("LeftArm", "RightForeArm", "LeftUpLeg", "RightLeg", "LeftFoot"):
        row, joint = rig.names.index(bone), match[bone]
        mine = rotations[:, row] @ (rig.tails - rig.heads)[row]
        theirs = rotate(clip.rotations[:, joint], clip.tails[joint] - clip.heads[joint])
        cosine = (mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
        limit = np.cos(np.deg2rad(1.0))
        assert cosine.min() > limit, bone


def test_a_walker_goes_where_its_face_points(assets_dir: Path, rig: Rig) -> None:
    clip = read_clip(assets_dir / "mocap" / "asfamc" / "02" / "02_01.amc")
    speed = np.diff(scaled_root(clip, rig), axis=0) * clip.fps
    ahead = (speed * to_matrix(retarget_rotations(clip, rig))[:-1, 0, :, 2]).sum(1)
    assert 0.7 < np.median(ahead) < 1.8


def test_elbows_and_knees_bend_the_right_way(assets_dir: Path, rig: Rig) -> None:
    clip = read_clip(assets_dir / "mocap" / "asfamc" / "02" / "02_03.amc")
    rotations = to_matrix(retarget_rotations(clip, rig))
    bones = (rotations @ (rig.tails - rig.heads)[:, :, None])[..., 0]
    across = rotations[:, 0, :, 0]  # to the person's left
    for upper, lower, sign in (("LeftUpLeg", "LeftLeg", 1), ("RightArm", "RightForeArm", -1)):
        a, b = bones[:, rig.names.index(upper)], bones[:, rig.names.index(lower)]
        bend = sign * (np.cross(a, b) * across).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert bend.max() > 0.7 and bend.min() > -0.1, upper
