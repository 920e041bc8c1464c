"""Clothes on bodies: fitting by hand on a toy, and whole persons from the real assets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidpose_render.assets import Assets, Garment
from vidpose_render.body import BodyShape, fit_rig, shape_vertices
from vidpose_render.fabric import PATTERNS, pattern
from vidpose_render.files import MhcloFile
from vidpose_render.garments import (
    Piece,
    Worn,
    covered,
    cut,
    fit,
    garment_weights,
    keep_outside,
    pieces,
)
from vidpose_render.skinning import vertex_normals
from vidpose_render.wardrobe import Person, choose_outfit, dress, make_person


@pytest.fixture(scope="module")
def assets(assets_dir: Path) -> Assets:
    return Assets.load(assets_dir)


@pytest.fixture(scope="module")
def people(assets: Assets) -> list[Person]:
    return [make_person(assets, np.random.default_rng(seed)) for seed in range(6)]


GARMENT = Garment(Path("toy.mhclo"), "cloth", "any")


def toy() -> Assets:
    """Assets whose one garment hangs on a base mesh of three vertices."""
    assets = Assets(Path(), Path(), {}, Path(), Path(), [], [], [GARMENT], [], [])
    cloth = MhcloFile(
        GARMENT.path,
        np.array([[0, 1, 2], [2, 2, 2]], np.int32),
        np.array([[0.5, 0.25, 0.25], [1, 0, 0]], np.float32),
        np.array([[1.0, 2.0, 3.0], [0, 0, 0]], np.float32),
        {0: (0, 1, 4.0), 1: (0, 2, 2.0)},
        np.zeros(0, np.int32),
    )
    assets.keep(("mhclo", GARMENT.path), lambda: cloth)
    assets.keep("weights", lambda: np.array([[1, 0], [0, 1], [0.5, 0.5]], np.float32))
    return assets


def test_a_garment_hangs_on_three_vertices_with_an_offset_scaled_per_axis() -> None:
    base = np.array([[0, 0, 0], [-0.8, 0, 0], [0, 0.6, 0]], np.float32)
    # 0.25 of each far vertex; offset x 1 * 0.8/4, y 2 * 0.6/2, z 3 dm in metres (no z_scale)
    expected = [[0.25 * -0.8 + 0.2, 0.25 * 0.6 + 0.6, 0.3], [0, 0.6, 0]]
    assert np.allclose(fit(toy(), GARMENT, base), expected)


def test_skin_weights_mix_like_the_places() -> None:
    assert np.allclose(garment_weights(toy(), GARMENT), [[0.625, 0.375], [0.5, 0.5]])


def sheet(n: int = 9) -> Worn:
    """A square of cloth in z = 0, facing +z, 0 to n−1 along x and y, one hidden vertex under each."""
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    points = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)
    at = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate([np.stack([at, at + 1, at + n], 1), np.stack([at + 1, at + n + 1, at + n], 1)])
    rows = np.arange(n * n, dtype=np.int32)
    piece = Piece(GARMENT, "lower", faces, faces, rows, rows)
    return Worn(piece, points, np.eye(n * n, dtype=np.float32), points[:, :2] / n, faces, faces, rows)


def test_a_cut_ends_on_its_line() -> None:
    worn = sheet()
    short = cut(worn, 3.4 - worn.vertices[:, 1])
    left = short.vertices[np.unique(short.faces)]
    assert np.isclose(left[:, 1].min(), 3.4)
    assert np.isclose(np.linalg.norm(area(short), axis=1).sum(), 8 * (8 - 3.4), rtol=0.02)


def area(worn: Worn) -> np.ndarray:
    a, b, c = (worn.vertices[worn.faces[:, i]] for i in range(3))
    return 0.5 * np.cross(b - a, c - a)


def test_texture_coordinates_follow_the_cut() -> None:
    worn = sheet()
    short = cut(worn, 3.4 - worn.vertices[:, 1])
    used = np.unique(short.faces)
    assert np.allclose(short.uvs[used], short.vertices[used, :2] / 9, atol=1e-6)


def test_weights_still_sum_to_one_at_the_cut() -> None:
    worn = sheet()
    assert np.allclose(cut(worn, 3.4 - worn.vertices[:, 1]).weights.sum(1), 1, atol=1e-5)


def test_a_cut_shows_what_it_uncovers_with_a_row_to_spare() -> None:
    worn = sheet()
    hidden = cut(worn, 3.4 - worn.vertices[:, 1]).hides
    assert sorted(set(worn.vertices[hidden, 1].tolist())) == [5, 6, 7, 8]


def test_a_cut_that_meets_nothing_changes_nothing() -> None:
    worn = sheet()
    assert cut(worn, -1 - worn.vertices[:, 1]) is worn


def test_normals_of_a_sheet_point_to_its_front() -> None:
    worn = sheet()
    assert np.allclose(vertex_normals(worn.vertices, worn.faces), [0, 0, 1])


def test_cloth_inside_the_skin_is_pushed_out_and_cloth_outside_stays() -> None:
    skin = sheet()
    normals = vertex_normals(skin.vertices, skin.faces)
    points = np.array([[2, 2, -0.01], [3, 3, 0.02], [4, 4, -0.5]], np.float32)
    keep_outside(points, np.arange(3), skin.vertices, normals, np.arange(81), 0.005)
    assert np.allclose(points[:, 2], [0.005, 0.02, -0.5])


def test_covered_is_what_lies_just_under_cloth_away_from_its_edge() -> None:
    points = np.array([[4, 4, -0.01], [4, 4, 0.01], [4, 4, -0.2], [0, 4, -0.01], [4, 5, -0.01]], np.float32)
    assert covered(sheet(), points, np.arange(4)).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_mixes_two_colours(kind: str) -> None:
    share = pattern(kind, (128, 128), 1.0, np.random.default_rng(3))
    assert share.shape == (128, 128) and 0 <= share.min() < share.max() <= 1


def test_a_suit_comes_apart_into_shirt_and_trousers(assets: Assets) -> None:
    suit = next(g for g in assets.garments if g.path.stem == "male_casualsuit04")
    assert [piece.place for piece in pieces(assets, suit)] == ["upper", "lower"]


def test_the_same_seed_gives_the_same_person(assets: Assets, people: list[Person]) -> None:
    again = make_person(assets, np.random.default_rng(3))
    assert len(again.parts) == len(people[3].parts)
    for a, b in zip(again.parts, people[3].parts, strict=True):
        assert (a.mesh.vertices == b.mesh.vertices).all() and (a.texture == b.texture).all()


def test_a_person_stands_on_the_ground_in_shoes_too(people: list[Person]) -> None:
    for person in people:
        lowest = min(float(part.mesh.vertices[:, 1].min()) for part in person.parts)
        assert abs(lowest) < 1e-4


def test_joints_ride_with_the_rig_when_shoes_lift_a_person(people: list[Person]) -> None:
    for person in people:
        ankle = person.joints.index("left_ankle")
        assert person.rig.names[person.joint_bones[ankle]] == "LeftFoot"
        head = person.rig.heads[person.rig.names.index("LeftFoot")]
        assert np.allclose(person.joint_places[ankle], head)
        assert person.hip_height == person.rig.heads[person.rig.names.index("Hips"), 1]


def test_persons_are_light_enough(people: list[Person]) -> None:
    assert max(person.triangles for person in people) < 25_000


def test_parts_index_only_what_they_have(people: list[Person]) -> None:
    for part in (part for person in people for part in person.parts):
        count = len(part.mesh.vertices)
        assert np.unique(part.mesh.faces).tolist() == list(range(count))
        assert (
            part.mesh.uv_faces.max() < len(part.mesh.uvs)
            and part.mesh.faces.shape == part.mesh.uv_faces.shape
        )
        assert part.weights.values.shape == (count, 4) and np.allclose(
            part.weights.values.sum(1), 1, atol=1e-4
        )


def test_textures_are_small_and_bytes(people: list[Person]) -> None:
    for part in (part for person in people for part in person.parts):
        assert part.texture.dtype == np.uint8 and part.texture.shape[2] == (4 if part.kind == "hair" else 3)
        assert max(part.texture.shape[:2]) <= 512


def test_skin_under_cloth_is_gone(people: list[Person]) -> None:
    dressed = [p for p in people if any(part.kind == "cloth" for part in p.parts)]
    assert dressed
    assert all(len(part.mesh.faces) < 8500 for p in dressed for part in p.parts if part.kind == "skin")


def test_cut_trousers_bare_the_calves(assets: Assets) -> None:
    shape = BodyShape()
    points = shape_vertices(assets, shape)
    rig = fit_rig(assets, points)
    trousers = next(
        p
        for g in assets.garments
        if g.path.stem == "male_casualsuit04"
        for p in pieces(assets, g)
        if p.place == "lower"
    )
    outfit = choose_outfit(assets, shape, np.random.default_rng(0))
    outfit = type(outfit)((trousers,), 0.5, None)
    parts = {part.kind: part for part in dress(assets, shape, points, np.random.default_rng(0), outfit)}
    hip, knee = (rig.heads[rig.names.index(name), 1] for name in ("LeftUpLeg", "LeftLeg"))
    assert np.isclose(parts["cloth"].mesh.vertices[:, 1].min(), (hip + knee) / 2, atol=0.02)
    skin = parts["skin"].mesh.vertices
    assert ((skin[:, 1] < knee) & (skin[:, 1] > knee - 0.1)).sum() > 20


def test_women_and_children_wear_a_top(assets: Assets) -> None:
    rng = np.random.default_rng(0)
    for shape in [BodyShape(sex=0.0)] * 40 + [BodyShape(age=9)] * 40:
        outfit = choose_outfit(assets, shape, rng)
        assert {"upper", "whole"} & {piece.place for piece in outfit.pieces}


def test_many_legs_are_bare(assets: Assets) -> None:
    rng = np.random.default_rng(0)
    legs = [choose_outfit(assets, BodyShape(sex=i % 2), rng).legs for i in range(300)]
    assert 0.35 < np.mean([leg is not None and leg < 1.0 for leg in legs]) < 0.65


def test_cloth_lies_outside_the_skin(assets: Assets) -> None:
    from scipy.spatial import cKDTree

    deep = []
    for seed in range(4):
        shape = BodyShape(sex=seed % 2, weight=0.9)
        points = shape_vertices(assets, shape)
        parts = dress(assets, shape, points, np.random.default_rng(seed))
        skin = next(part.mesh for part in parts if part.kind == "skin")
        normals = vertex_normals(skin.vertices, skin.faces)
        for part in (part for part in parts if part.kind == "cloth"):
            distance, near = cKDTree(skin.vertices).query(part.mesh.vertices)
            height = ((part.mesh.vertices - skin.vertices[near]) * normals[near]).sum(1)
            deep.append(float(((distance < 0.015) & (height < -0.003)).mean()))
    assert np.mean(deep) < 0.01
