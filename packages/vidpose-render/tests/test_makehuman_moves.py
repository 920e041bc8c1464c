"""Movements drawn at random, and bodies on the ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose_render import ground as grounds
from vidpose_render.assets import Assets
from vidpose_render.exercises import random_script
from vidpose_render.keyposes import ANGLE, FAMILIES, LIMITS, LOOPS, POSES, as_clip
from vidpose_render.mocap import read_bvh, read_clip
from vidpose_render.moves import MoveLibrary, default_rig
from vidpose_render.retarget import retarget_rotations, scaled_root
from vidpose_render.rotations import to_matrix
from vidpose_render.skinning import joint_positions
from vidpose_render.types import Motion, Rig


def toy_rig() -> Rig:
    """A person of 1.7 m with the rig's names, arms down and out, toes forward."""
    bones: list[tuple[str, str, tuple[float, float, float], tuple[float, float, float]]] = [
        ("Hips", "", (0, 0.9, 0), (0, 0.98, 0)),
        ("LowerBack", "Hips", (0, 0.98, 0), (0, 1.1, 0)),
        ("Spine", "LowerBack", (0, 1.1, 0), (0, 1.25, 0)),
        ("Spine1", "Spine", (0, 1.25, 0), (0, 1.42, 0)),
        ("Neck", "Spine1", (0, 1.42, 0), (0, 1.47, 0)),
        ("Neck1", "Neck", (0, 1.47, 0), (0, 1.52, 0)),
        ("Head", "Neck1", (0, 1.52, 0), (0, 1.68, 0)),
    ]
    for side, s in (("Left", 1.0), ("Right", -1.0)):
        c = side[0]
        bones += [
            (f"{c}HipJoint", "Hips", (0, 0.9, 0), (s * 0.1, 0.88, 0)),
            (f"{side}UpLeg", f"{c}HipJoint", (s * 0.1, 0.88, 0), (s * 0.12, 0.48, 0.02)),
            (f"{side}Leg", f"{side}UpLeg", (s * 0.12, 0.48, 0.02), (s * 0.14, 0.08, 0)),
            (f"{side}Foot", f"{side}Leg", (s * 0.14, 0.08, 0), (s * 0.15, 0.03, 0.13)),
            (f"{side}ToeBase", f"{side}Foot", (s * 0.15, 0.03, 0.13), (s * 0.15, 0.03, 0.15)),
            (f"{side}Shoulder", "Spine1", (s * 0.02, 1.38, 0), (s * 0.17, 1.36, 0)),
            (f"{side}Arm", f"{side}Shoulder", (s * 0.17, 1.36, 0), (s * 0.34, 1.18, 0)),
            (f"{side}ForeArm", f"{side}Arm", (s * 0.34, 1.18, 0), (s * 0.48, 1.05, 0.14)),
            (f"{side}Hand", f"{side}ForeArm", (s * 0.48, 1.05, 0.14), (s * 0.5, 1.03, 0.17)),
            (f"{side}FingerBase", f"{side}Hand", (s * 0.5, 1.03, 0.17), (s * 0.52, 1.01, 0.23)),
            (f"{side}HandFinger1", f"{side}FingerBase", (s * 0.52, 1.01, 0.23), (s * 0.52, 1.0, 0.25)),
            (f"{c}Thumb", f"{side}Hand", (s * 0.48, 1.04, 0.18), (s * 0.46, 1.03, 0.2)),
        ]
    names = tuple(bone[0] for bone in bones)
    parents = np.array([names.index(bone[1]) if bone[1] else -1 for bone in bones], dtype=np.int32)
    heads, tails = (np.array([bone[k] for bone in bones], dtype=np.float32) for k in (2, 3))
    return Rig(names, parents, heads, tails)


@pytest.fixture(scope="module")
def library() -> MoveLibrary:
    """Two made-up clips: a squat done again and again, arms that swing on one side only."""
    rig = toy_rig()
    motions = []
    for name, ends, arm in (("squats", ("stand", "squat"), "left"), ("swings", ("stand", "reach"), "right")):
        weight = (0.5 - 0.5 * np.cos(np.arange(150) / 8))[:, None]
        angles = POSES[ends[0]] * (1 - weight) + POSES[ends[1]] * weight
        angles[:, ANGLE[f"{arm}_arm_out"]] += 40
        clip = as_clip(angles)
        clip.root[:, 2] = np.arange(150) * 0.01
        motions.append((name, retarget_rotations(clip, rig), scaled_root(clip, rig)))
    return MoveLibrary(rig, motions)


def lowest(rig: Rig, motion: Motion) -> np.ndarray:
    """The lowest point of the stand-in spheres per frame, worked out from the joints alone."""
    contacts = grounds.contact_points(rig)
    joints = joint_positions(rig, motion.rotations.astype(np.float64), motion.root.astype(np.float64))
    out = []
    for bone, point, radius in zip(contacts.bones, contacts.points, contacts.radii, strict=True):
        place = joints[:, bone] + motion.rotations[:, bone] @ (point - rig.heads[bone])
        out.append(place[:, 1] - radius)
    return np.min(out, axis=0)


def test_same_seed_same_movement(library: MoveLibrary) -> None:
    one, two = (library.sample(np.random.default_rng(7), 40, 25.0) for _ in range(2))
    assert np.array_equal(one.rotations, two.rotations) and np.array_equal(one.root, two.root)


@pytest.mark.parametrize("seed", range(12))
def test_a_sample_is_rotations_and_touches_the_ground(library: MoveLibrary, seed: int) -> None:
    motion = library.sample(np.random.default_rng(seed), 50, 25.0)
    assert motion.rotations.shape == (50, 31, 3, 3) and motion.root.shape == (50, 3)
    gram = motion.rotations @ motion.rotations.swapaxes(-1, -2)
    assert np.allclose(gram, np.eye(3), atol=1e-4) and np.all(np.linalg.det(motion.rotations) > 0.99)
    assert motion.clearance is not None
    assert np.allclose(lowest(library.rig, motion), motion.clearance, atol=1e-3)


@pytest.mark.parametrize("frames", [1, 2, 400])
def test_any_number_of_frames(library: MoveLibrary, frames: int) -> None:
    for seed in range(5):
        assert len(library.sample(np.random.default_rng(seed), frames, 30.0).root) == frames


def test_no_frames_are_refused(library: MoveLibrary) -> None:
    with pytest.raises(InputError, match="needs frames and a rate above 0"):
        library.sample(np.random.default_rng(0), 0, 25.0)


def test_movement_is_continuous(library: MoveLibrary) -> None:
    for seed in range(12):
        motion = library.sample(np.random.default_rng(seed), 100, 60.0)
        joints = joint_positions(library.rig, motion.rotations.astype(np.float64), motion.root)
        metres_per_s = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 60
        assert metres_per_s.max() < 25, motion.name


def test_mirrored_twice_is_the_same_and_once_swaps_sides(library: MoveLibrary) -> None:
    take, _ = library._mocap(np.random.default_rng(3), np.arange(20) / 30, 30.0)
    once = library._mirrored(take)
    assert np.allclose(library._mirrored(once).q, take.q)
    rig, row = library.rig, library.row
    here, there = (joint_positions(rig, to_matrix(t.q), np.zeros((20, 3))) for t in (take, once))
    assert np.allclose(there[:, row["LeftHand"]], here[:, row["RightHand"]] * [-1, 1, 1], atol=1e-6)


def test_wandering_elbows_and_knees_do_not_bend_backwards(library: MoveLibrary) -> None:
    times = np.arange(300) / 30
    rig, row = library.rig, library.row
    q = library._wander(np.random.default_rng(1), np.tile([1.0, 0, 0, 0], (300, 31, 1)), times)
    joints = joint_positions(rig, to_matrix(q), np.zeros((300, 3)))
    for a, b, c, sign in (("UpLeg", "Leg", "Foot", 1.0), ("Arm", "ForeArm", "Hand", 1.0)):
        upper = joints[:, row["Left" + b]] - joints[:, row["Left" + a]]
        lower = joints[:, row["Left" + c]] - joints[:, row["Left" + b]]
        rest = np.cross(*(rig.tails[row["Left" + n]] - rig.heads[row["Left" + n]] for n in (a, b)))
        hinge = to_matrix(q[:, row["Left" + a]]) @ rest
        bend = sign * (np.cross(upper, lower) * hinge).sum(1) / np.linalg.norm(rest)
        bend /= np.linalg.norm(upper, axis=1) * np.linalg.norm(lower, axis=1)
        assert bend.min() > -0.05, b


def test_ground_puts_any_body_on_the_floor(library: MoveLibrary) -> None:
    small = toy_rig()
    small.heads, small.tails = small.heads * 0.7, small.tails * 0.7
    motion = library.sample(np.random.default_rng(2), 40, 25.0)
    mine = grounds.ground(motion, small)
    assert mine.clearance is not None
    assert np.allclose(lowest(small, mine), mine.clearance, atol=1e-3)
    assert mine.hip_height == pytest.approx(0.7 * motion.hip_height, rel=1e-3)


def test_a_hop_is_a_flight_and_a_climb_is_none() -> None:
    t = np.arange(90)
    hop = np.where((t > 40) & (t < 55), 0.3, 0.0)
    climb = np.clip((t - 30) / 30, 0, 1)
    assert grounds.flights(hop, 30.0)[47] == pytest.approx(0.27)
    assert grounds.flights(climb, 30.0).max() < 0.01


def test_the_foot_that_stands_does_not_slide() -> None:
    """A leg that swings below the root by hand: the root must go on over the foot."""
    angle = np.linspace(-0.4, 0.4, 40)
    foot = np.stack([0 * angle, -np.cos(angle), np.sin(angle)], axis=1)
    other = foot + [0.2, 0.3, 0]
    places = np.stack([foot, other], axis=1)
    path = grounds.locked_path(places, np.zeros(40), 30.0, np.zeros((40, 2)))
    walked = path[:, 2] + foot[:, 2]
    assert np.ptp(walked[3:-3]) < 0.01 and np.ptp(path[:, 2]) > 0.7


def test_hands_and_knees_both_stand_after_settling(library: MoveLibrary) -> None:
    q = retarget_rotations(as_clip(np.tile(POSES["crawl_left"], (4, 1))), library.rig, library._align)
    contacts = library.contacts
    q = grounds.settle(
        q.astype(np.float64),
        library.rig,
        contacts,
        grounds.contact_places(library.rig, contacts, to_matrix(q)),
        np.ones(4),
    )
    heights = grounds.contact_places(library.rig, contacts, to_matrix(q))[..., 1]
    assert np.allclose(heights[:, contacts.hands].min(1), heights[:, contacts.legs].min(1), atol=0.01)


@pytest.mark.parametrize(("pose", "below"), [("handstand", True), ("stand", False), ("needle", True)])
def test_key_poses_have_their_heads_where_the_names_say(library: MoveLibrary, pose: str, below: bool) -> None:
    q = retarget_rotations(as_clip(POSES[pose][None]), library.rig, library._align)
    joints = joint_positions(library.rig, to_matrix(q), np.zeros((1, 3)))[0]
    assert (joints[library.row["Head"], 1] < joints[library.row["Hips"], 1]) == below


def test_key_poses_keep_to_the_limits_of_joints() -> None:
    table = np.array(list(POSES.values()))
    assert np.all(table >= LIMITS[:, 0]) and np.all(table <= LIMITS[:, 1])


def test_families_and_exercises_name_known_poses() -> None:
    used = {name for group in (*FAMILIES.values(), *LOOPS) for name in group}
    assert used <= set(POSES)


def test_a_somersault_turns_once_and_flies(library: MoveLibrary) -> None:
    script = random_script(np.random.default_rng(0), 6.0, "somersault")
    pitch = script.at(np.array([f.end for f in script.flights]))[:, 0]
    pitch -= script.at(np.array([f.start for f in script.flights]))[:, 0]
    assert np.all(np.abs(np.abs(pitch) - 360) < 40)
    motion = library._finished(
        library._key_poses(np.random.default_rng(0), np.arange(120) / 30, 30.0, "somersault")[0],
        0.0,
        30.0,
        "",
    )
    assert motion.clearance is not None and motion.clearance.max() > 0.2


def test_rig_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rig.json"
    path.write_text('{"Hips": {"parent": ""}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"rig\.json: is not a rig"):
        default_rig(path)


def test_assets_without_clips_are_refused(tmp_path: Path, assets_dir: Path) -> None:
    (tmp_path / "makehuman").symlink_to(assets_dir / "makehuman")
    with pytest.raises(InputError, match=r"no \.bvh or \.amc files"):
        MoveLibrary.load(Assets.load(tmp_path))


def test_recorded_jump_leaves_the_ground(assets_dir: Path) -> None:
    rig = default_rig(Assets.load(assets_dir).rig_path)
    clip = read_clip(assets_dir / "mocap" / "asfamc" / "02" / "02_04.amc")  # a jump on the spot
    walk = read_bvh(assets_dir / "mocap" / "bvh" / "cmu_07_01.bvh")
    both = MoveLibrary(rig, [(c.name, retarget_rotations(c, rig), scaled_root(c, rig)) for c in (clip, walk)])
    assert 0.1 < both._clip_air(0).max() < 0.6
    assert both._clip_air(1).max() < 0.03
