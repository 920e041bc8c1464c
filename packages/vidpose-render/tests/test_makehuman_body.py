"""Shapes of bodies: the mixing of targets by hand, and what MakeHuman's real body must look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.skeletons import COCO17, POSETRACK15
from vidpose_render.assets import Assets
from vidpose_render.body import (
    BodyShape,
    eye_mesh,
    fit_rig,
    four_largest,
    joint_points,
    macro_targets,
    sample_shape,
    shape_vertices,
    skin_faces,
    skin_weights,
)
from vidpose_render.decimate import decimate


@pytest.fixture(scope="module")
def assets(assets_dir: Path) -> Assets:
    return Assets.load(assets_dir)


@pytest.fixture(scope="module")
def man(assets: Assets) -> np.ndarray:
    return shape_vertices(assets, BodyShape())


def test_an_average_man_is_two_targets() -> None:
    assert macro_targets(BodyShape()) == {
        "caucasian-male-young": 1.0,
        "universal-male-young-averagemuscle-averageweight": 1.0,
    }


@pytest.mark.parametrize("seed", range(5))
def test_weights_sum_to_one_in_each_family(seed: int) -> None:
    targets = macro_targets(sample_shape(np.random.default_rng(seed)))
    families = {"universal": 0.0, "ethnic": 0.0}
    for name, weight in targets.items():
        if not name.endswith("height"):
            families["universal" if name.startswith("universal") else "ethnic"] += weight
    assert np.allclose(list(families.values()), 1)


def test_between_young_and_old_both_weigh_by_years() -> None:
    targets = macro_targets(BodyShape(age=25 + 65 / 4))
    assert np.isclose(targets["caucasian-male-young"], 0.75)
    assert np.isclose(targets["caucasian-male-old"], 0.25)


def test_a_tall_person_takes_the_target_of_maximal_height() -> None:
    assert macro_targets(BodyShape(height=0.75))["male-young-averagemuscle-averageweight-maxheight"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"weight": 1.5}, "weight 1.5, 0 to 1"),
        ({"age": 2}, "age 2, 4 to 90"),
        ({"ethnicity": (0, 0, 0)}, "three shares"),
        ({"stature_m": 9}, "stature 9 m"),
    ],
)
def test_a_shape_out_of_range_is_refused(wrong: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        BodyShape(**wrong)


def test_sampled_statures_are_those_of_people() -> None:
    rng = np.random.default_rng(0)
    shapes = [sample_shape(rng) for _ in range(400)]
    grown = [s.stature_m for s in shapes if s.age >= 18 and s.stature_m is not None]
    assert 1.66 < np.mean(grown) < 1.74
    assert min(grown) > 1.4 and max(grown) < 2.0


def test_four_largest_weights_by_hand() -> None:
    weights = four_largest(np.array([[0.1, 0.2, 0.3, 0.05, 0.35]]))
    assert weights.bones.tolist() == [[4, 2, 1, 0]]
    assert np.allclose(weights.values, np.array([[0.35, 0.3, 0.2, 0.1]]) / 0.95)


def bumpy_plane(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float64)
    at = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([at, at + 1, at + n], 1), np.stack([at + 1, at + n + 1, at + n], 1)])
    return points, faces


def area(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (points[faces[:, i]] for i in range(3))
    return 0.5 * np.cross(b - a, c - a)


def test_a_thinned_plane_is_still_that_plane_with_no_triangle_turned() -> None:
    points, faces = bumpy_plane(20)
    fewer, uv = decimate(points, faces, faces, 300)
    assert len(fewer) <= 310
    assert np.isclose(area(points, fewer)[:, 2].sum(), 19 * 19) and (area(points, fewer)[:, 2] > 0).all()
    assert (fewer == uv).all()  # texture coordinates went along with their vertices


def test_the_soles_are_on_the_ground_and_the_stature_is_met(assets: Assets) -> None:
    points = shape_vertices(assets, BodyShape(sex=0.2, weight=0.9, stature_m=1.61))
    skin = points[np.unique(assets.base.faces[assets.base.groups["body"]])]
    assert np.allclose([skin[:, 1].min(), skin[:, 1].max()], [0, 1.61], atol=1e-5)


def test_mixed_targets_are_the_weighted_sum(assets: Assets) -> None:
    shape = BodyShape(age=40, sex=0.3, weight=0.8, muscle=0.2, height=0.6, ethnicity=(1, 2, 1))
    slow = assets.base.vertices.astype(np.float64)
    for name, weight in macro_targets(shape).items():
        slow = slow + weight * assets.target(name)
    fast = shape_vertices(assets, shape)
    assert np.allclose(fast - fast[0], 0.1 * (slow - slow[0]), atol=1e-5)


def test_a_heavy_body_is_wider_at_the_waist(assets: Assets) -> None:
    hips = np.unique(assets.base.faces[assets.base.groups["joint-pelvis"]])

    def waist(weight: float) -> float:
        points = shape_vertices(assets, BodyShape(weight=weight))
        skin = points[np.unique(assets.base.faces[assets.base.groups["body"]])]
        level = points[hips, 1].mean() + 0.12
        return float(np.ptp(skin[(np.abs(skin[:, 1] - level) < 0.03) & (np.abs(skin[:, 0]) < 0.28), 2]))

    assert waist(1.0) > 1.2 * waist(0.0)


def test_a_child_has_a_larger_head_for_its_height(assets: Assets) -> None:
    def share(age: float) -> float:
        points = shape_vertices(assets, BodyShape(age=age, stature_m=1.5))
        rig = fit_rig(assets, points)
        return float(1.5 - rig.heads[rig.names.index("Neck"), 1])

    assert share(10) > 1.15 * share(30)


def test_the_rig_has_its_parents_first(assets: Assets, man: np.ndarray) -> None:
    rig = fit_rig(assets, man)
    assert len(rig.names) == 31
    assert (rig.parents < np.arange(31)).all() and (rig.parents == -1).sum() == 1


def test_a_bone_begins_at_the_middle_of_its_joint_cube(assets: Assets, man: np.ndarray) -> None:
    rig = fit_rig(assets, man)
    lines = assets.base_path.read_text().splitlines()
    start = lines.index("g joint-l-knee")
    corners = {int(w.split("/")[0]) - 1 for line in lines[start + 1 : start + 7] for w in line.split()[1:]}
    assert np.allclose(rig.heads[rig.names.index("LeftLeg")], man[sorted(corners)].mean(0), atol=1e-6)


def test_limbs_join_end_to_end(assets: Assets, man: np.ndarray) -> None:
    rig = fit_rig(assets, man)
    for upper, lower in (("LeftArm", "LeftForeArm"), ("RightUpLeg", "RightLeg"), ("Neck", "Neck1")):
        assert np.allclose(rig.tails[rig.names.index(upper)], rig.heads[rig.names.index(lower)], atol=1e-6)


def test_skin_weights_are_four_that_sum_to_one(assets: Assets) -> None:
    weights = skin_weights(assets)
    assert weights.bones.shape == (19158, 4)
    assert np.allclose(weights.values.sum(1), 1, atol=1e-5) and (weights.values >= 0).all()


def test_joint_points_cover_posetrack_and_coco(assets: Assets, man: np.ndarray) -> None:
    points = joint_points(assets, fit_rig(assets, man), man)
    assert set(POSETRACK15.joints) | set(COCO17.joints) == set(points.names)


def test_the_face_is_where_a_face_is(assets: Assets, man: np.ndarray) -> None:
    points = joint_points(assets, fit_rig(assets, man), man)
    at = dict(zip(points.names, points.rest, strict=True))
    assert at["head_top"][1] > at["left_eye"][1] > at["nose"][1] > at["head_bottom"][1]
    assert at["nose"][2] > at["left_eye"][2] > at["left_ear"][2]
    assert at["left_ear"][0] > at["left_eye"][0] > 0.02 > abs(at["nose"][0])


def test_the_left_of_a_person_is_at_positive_x_and_mirrors_the_right(assets: Assets, man: np.ndarray) -> None:
    points = joint_points(assets, fit_rig(assets, man), man)
    at = dict(zip(points.names, points.rest, strict=True))
    for name in (name for name in points.names if name.startswith("left_")):
        other = at["right_" + name[5:]]
        assert at[name][0] > 0 and np.allclose(at[name], other * [-1, 1, 1], atol=0.006)


def test_thinned_skin_keeps_its_volume(assets: Assets, man: np.ndarray) -> None:
    def volume(faces: np.ndarray) -> float:
        a, b, c = (man[faces[:, i]].astype(np.float64) for i in range(3))
        return float((a * np.cross(b, c)).sum() / 6)

    faces, _ = skin_faces(assets)
    whole = volume(assets.base.faces[assets.base.groups["body"]])
    assert len(faces) < 9800
    assert whole > 0 and abs(volume(faces) / whole - 1) < 0.02  # positive: counter-clockwise from outside


def test_eyes_look_forward_with_the_iris_in_the_middle(assets: Assets, man: np.ndarray) -> None:
    mesh = eye_mesh(assets, man)
    assert mesh is not None
    left = np.unique(assets.base.faces[assets.base.groups["helper-l-eye"]])
    depth = assets.base.vertices[left, 2]
    pupil = left[depth > depth.max() - 0.001]  # a ring of vertices
    assert np.allclose(mesh.uvs[pupil].mean(0), [0.29, 0.30], atol=0.01)


def test_joints_lie_where_people_click(assets: Assets, man: np.ndarray) -> None:
    """Shoulders up and out, hips down and out, knees down: by centimetres, from where the bones turn."""
    rig = fit_rig(assets, man)
    points = joint_points(assets, rig, man)
    at = dict(zip(points.names, points.rest, strict=True))
    moved = {
        name: at[f"left_{name}"] - rig.heads[rig.names.index(f"Left{bone}")]
        for name, bone in {"shoulder": "Arm", "hip": "UpLeg", "knee": "Leg", "ankle": "Foot"}.items()
    }
    assert 0.01 < moved["shoulder"][1] < 0.05 and 0.003 < moved["shoulder"][0] < 0.03
    assert -0.05 < moved["hip"][1] < -0.01 and 0.005 < moved["hip"][0] < 0.04
    assert -0.06 < moved["knee"][1] < -0.02
    assert np.allclose(moved["ankle"], 0)
