"""Posing and skinning, against slow obvious versions."""

from __future__ import annotations

import numpy as np

from vidpose_render import skinning
from vidpose_render.rotations import from_rotvec, to_matrix
from vidpose_render.types import Motion, Rig, Weights


def toy_rig() -> Rig:
    heads = np.array([[0, 1, 0], [0, 1.5, 0], [0.3, 1.5, 0]], dtype=np.float32)
    tails = np.array([[0, 1.5, 0], [0.3, 1.5, 0], [0.6, 1.5, 0]], dtype=np.float32)
    return Rig(("Hips", "Spine", "Arm"), np.array([-1, 0, 1], dtype=np.int32), heads, tails)


def toy_motion(rng: np.random.Generator, frames: int = 3) -> Motion:
    rotations = to_matrix(from_rotvec(rng.normal(size=(frames, 3, 3)))).astype(np.float32)
    return Motion(rotations, rng.normal(size=(frames, 3)).astype(np.float32), 1.0, 30.0, "toy")


def test_rest_pose_moves_nothing_but_the_root() -> None:
    rig = toy_rig()
    still = Motion(np.tile(np.eye(3), (1, 3, 1, 1)), np.array([[2.0, 1.0, 3.0]]), 1.0, 30.0, "rest")
    transforms = skinning.pose_bones(rig, still, 0, 1.0)
    moved = skinning.skin_points(np.arange(3), rig.tails, transforms)
    assert np.allclose(moved, rig.tails + [2, 0, 3], atol=1e-6)


def test_bones_stay_joined_and_keep_their_lengths() -> None:
    rig, motion = toy_rig(), toy_motion(np.random.default_rng(1))
    transforms = skinning.pose_bones(rig, motion, 1, 1.0)
    heads = skinning.skin_points(np.arange(3), rig.heads, transforms)
    tails = skinning.skin_points(np.arange(3), rig.tails, transforms)
    assert np.allclose(tails[:-1], heads[1:], atol=1e-6)
    assert np.allclose(np.linalg.norm(tails - heads, axis=1), np.linalg.norm(rig.tails - rig.heads, axis=1))


def test_the_root_is_scaled_by_the_hip_height() -> None:
    rig, motion = toy_rig(), toy_motion(np.random.default_rng(1))
    transforms = skinning.pose_bones(rig, motion, 2, 1.5)
    assert np.allclose(
        skinning.skin_points(np.array([0]), rig.heads[:1], transforms)[0], 1.5 * motion.root[2]
    )


def test_skinning_equals_the_sum_over_bones() -> None:
    rng = np.random.default_rng(2)
    vertices = rng.normal(size=(50, 3)).astype(np.float32)
    weights = Weights(
        rng.integers(0, 3, (50, 4)).astype(np.int32), rng.dirichlet(np.ones(4), 50).astype(np.float32)
    )
    transforms = rng.normal(size=(3, 3, 4)).astype(np.float32)
    slow = np.zeros((50, 3))
    for v in range(50):
        for bone, value in zip(weights.bones[v], weights.values[v], strict=True):
            slow[v] += value * (transforms[bone] @ np.append(vertices[v], 1.0))
    fast = skinning.skin(vertices, weights, transforms)
    assert fast.dtype == np.float32
    assert np.allclose(fast, slow, atol=1e-5)


def test_normals_of_a_cube_point_away_from_its_middle() -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float32)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    # Each quad cut both ways, so that no corner counts a side twice as much as another.
    cuts = [((0, 1, 2), (0, 2, 3)), ((1, 2, 3), (1, 3, 0))]
    faces = np.array([[q[i] for i in t] for q in quads for cut in cuts for t in cut], dtype=np.int32)
    assert np.allclose(skinning.vertex_normals(corners, faces), corners / np.sqrt(3), atol=1e-6)


def test_a_vertex_without_triangles_has_no_normal() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], dtype=np.float32)
    normals = skinning.vertex_normals(vertices, np.array([[0, 1, 2]], dtype=np.int32))
    assert normals.tolist() == [[0, 0, 1]] * 3 + [[0, 0, 0]]


def test_points_are_skinned_over_many_frames_at_once() -> None:
    rig, motion = toy_rig(), toy_motion(np.random.default_rng(3))
    many = skinning.bone_transforms(rig, motion.rotations, motion.root)
    one = [skinning.pose_bones(rig, motion, t, motion.hip_height) for t in range(3)]
    bones, points = np.array([2, 0]), np.array([[0.1, 0.2, 0.3], [1, 2, 3]])
    each = np.stack([skinning.skin_points(bones, points, transforms) for transforms in one])
    assert np.allclose(skinning.skin_points(bones, points, many), each, atol=1e-6)
