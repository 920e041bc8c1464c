"""Drawing of triangles, light and cameras against slow versions and identities."""

from __future__ import annotations

import numpy as np
import pytest

from vidpose_render import raster
from vidpose_render.camera import look, sample_path
from vidpose_render.draw import Posed, behind, cast_shadows, expose
from vidpose_render.figure import join
from vidpose_render.light import Panorama, Surroundings, _directions, surround, view
from vidpose_render.occluders import ball, board, box, pole, sample_thing
from vidpose_render.sensor import Sensor, sample_sensor
from vidpose_render.skinning import vertex_normals

H, W = 30, 40


def soup(seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Screen vertices [V, 3] and triangles of random sizes, some beyond the borders or behind the camera."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform([-5, -5], [W + 5, H + 5], (count, 1, 2))
    xy = centre + rng.normal(0, 1, (count, 3, 2)) * rng.choice([0.5, 4, 15], (count, 1, 1))
    near = rng.uniform(0.1, 1, (count, 3, 1)) * np.where(rng.random((count, 1, 1)) < 0.1, -1, 1)
    screen = np.concatenate([xy, near], axis=2).reshape(-1, 3).astype(np.float32)
    return screen, np.arange(3 * count, dtype=np.int32).reshape(-1, 3)


def slow_fill(screen: np.ndarray, faces: np.ndarray, *, double: bool) -> tuple[np.ndarray, np.ndarray]:
    nearness, seen = np.zeros((H, W)), np.full((H, W), -1)
    y, x = np.mgrid[:H, :W] + 0.5
    for t, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = screen[face].astype(np.float64)
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if min(az, bz, cz) <= 0 or (area > 0 and not double):
            continue
        u = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
        v = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
        near = u * az + v * bz + (1 - u - v) * cz
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (near > nearness)
        nearness[hit], seen[hit] = near[hit], t
    return nearness, seen


def fill(screen: np.ndarray, faces: np.ndarray, flag: int) -> tuple[np.ndarray, np.ndarray]:
    texels, levels = raster.build_textures([np.full((4, 4, 3), 200, dtype=np.uint8)])
    nearness, seen = np.zeros((H, W), np.float32), np.full((H, W), -1, np.int32)
    uvs, materials = np.zeros((1, 2), np.float32), np.zeros(len(faces), np.int32)
    flags = np.array([flag], np.int32)
    raster.fill(screen, faces, uvs, 0 * faces, materials, flags, texels, levels, 0, nearness, seen)
    return nearness, seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("double", [False, True], ids=["one-sided", "two-sided"])
def test_the_nearest_triangle_of_each_pixel_as_in_the_slow_version(seed: int, double: bool) -> None:
    screen, faces = soup(seed)
    nearness, seen = fill(screen, faces, raster.DOUBLE_SIDED if double else 0)
    slow_near, slow_seen = slow_fill(screen, faces, double=double)
    assert (seen != slow_seen).mean() < 0.003  # pixel centres that lie on an edge to single precision
    same = seen == slow_seen
    np.testing.assert_allclose(nearness[same], slow_near[same], rtol=1e-3, atol=1e-3)
    assert len(np.unique(seen)) > 5


def test_depth_alone_is_that_of_two_sided_triangles() -> None:
    screen, faces = soup(9)
    nearness = np.zeros((H, W), np.float32)
    raster.fill_depth(screen, faces, nearness)
    np.testing.assert_allclose(nearness, fill(screen, faces, raster.DOUBLE_SIDED)[0], rtol=1e-5)


def test_a_texture_is_halved_until_one_side_is_one_pixel() -> None:
    image = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)
    texels, levels = raster.build_textures([image, image[:2, :2]])
    assert levels[0, :4].tolist() == [[0, 8, 4], [32, 4, 2], [40, 2, 1], [40, 2, 1]]
    assert levels[1, 0].tolist() == [42, 2, 2]
    np.testing.assert_array_equal(texels[:32, :3], image.reshape(-1, 3))
    block = image[:2, :2].astype(float).mean(axis=(0, 1))
    np.testing.assert_allclose(texels[32, :3], block, atol=0.51)


def test_colours_of_what_is_cut_out_do_not_bleed_into_smaller_textures() -> None:
    image = np.zeros((4, 4, 4), dtype=np.uint8)
    image[..., 0], image[:, :1, 3], image[:, 1:, 0] = 250, 255, 10
    texels, levels = raster.build_textures([image])
    start = levels[0, 1, 0]
    assert texels[start].tolist() == [250, 0, 0, 128]


def test_camera_and_compiled_projection_agree() -> None:
    rng = np.random.default_rng(0)
    camera = look(np.array([1.0, 2.0, -3.0]), np.array([0.0, 1.0, 0.5]), 0.2, 300.0, (32.0, 24.0))
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(camera.rotation) == pytest.approx(1, abs=1e-5)
    points = rng.normal(0, 1, (50, 3)).astype(np.float32)
    screen = raster.project(points, camera.rotation, camera.translation, camera.lens)
    seen = camera.see(points)
    ahead = seen[:, 2] > camera.lens[3]
    np.testing.assert_allclose(screen[ahead, :2], seen[ahead, :2], rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(1 / screen[ahead, 2], seen[ahead, 2], rtol=1e-4)
    assert (screen[~ahead, 2] < 0).all()
    np.testing.assert_allclose(camera.see(np.array([[0.0, 1.0, 0.5]]))[0, :2], [32, 24], atol=1e-3)


def test_what_is_above_is_up_and_what_is_to_the_left_of_one_who_faces_the_camera_is_right() -> None:
    camera = look(np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 0.0]), 0.0, 100.0, (20.0, 20.0))
    head, left_hand = camera.see(np.array([[0.0, 1.8, 0.0], [0.5, 1.0, 0.0]]))
    assert head[1] < 20 and left_hand[0] > 20


def test_a_zoom_and_a_push_make_a_person_larger() -> None:
    rng = np.random.default_rng(1)
    path = sample_path(rng, np.array([0.0, 1.0, 0.0]), 1.7, (256, 192))
    path.zoom, path.velocity, path.shake = 0.3, np.zeros(3), (0.0, 1.0)
    target = np.array([0.0, 1.0, 0.0])
    one, two = path.at(0.0, target, target), path.at(1.0, target, target)
    assert two.lens[0] > 1.3 * one.lens[0]
    np.testing.assert_allclose(one.eye, two.eye)


@pytest.mark.parametrize("mesh", [box(np.array([0.5, 0.4, 0.3])), ball(0.3), pole(0.1, 1.0), board(1.0, 1.0)])
def test_things_stand_on_the_ground_and_their_triangles_face_outwards(mesh: object) -> None:
    vertices, faces = mesh.vertices, mesh.faces  # type: ignore[attr-defined]
    assert vertices[:, 1].min() == pytest.approx(0, abs=1e-6)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inside = np.array([0.0, vertices[:, 1].mean(), -1e-3])
    outwards = (normals * (corners.mean(axis=1) - inside)).sum(axis=1)
    solid = np.linalg.norm(normals, axis=1) > 1e-9
    assert (outwards[solid] > 0).all()


def grey(value: float = 0.5, sun: float = 0.0) -> Surroundings:
    """Even light from everywhere and a sun above."""
    ambient = np.zeros((9, 3), np.float32)
    ambient[0] = value
    return Surroundings(
        np.full((16, 32, 3), value, np.float32), ambient, np.array([[0.0, 1.0, 0.0]], np.float32),
        np.full((1, 3), sun, np.float32), shadow=sun / (sun + value),
    )  # fmt: skip


def white(mesh: object) -> Posed:
    figure = join([(mesh, np.full((4, 4, 3), 255, np.uint8), "thing")])  # type: ignore[list-item]
    return Posed(figure, figure.vertices, vertex_normals(figure.vertices, figure.faces))


def picture(posed: list[Posed], light: Surroundings) -> tuple[np.ndarray, np.ndarray]:
    camera = look(np.array([0.0, 1.5, 3.0]), np.array([0.0, 0.4, 0.0]), 0.0, 60.0, (32.0, 24.0))
    shadows = cast_shadows(posed, light.lights[0], np.zeros(3), 2.0)
    out = expose(posed, camera, light, shadows, behind(camera, light, shadows, (48, 64)))
    return out.light, out.owner


def test_white_in_even_light_is_as_bright_as_what_surrounds_it() -> None:
    light, owner = picture([white(ball(0.5))], grey())
    assert (owner == 0).sum() > 50
    np.testing.assert_allclose(light, 0.5, atol=0.01)


def test_what_faces_the_sun_is_brighter_and_what_is_below_lies_in_shadow() -> None:
    light, owner = picture([white(ball(0.5))], grey(0.3, sun=0.5))
    rows = np.flatnonzero((owner == 0).any(axis=1))
    column = 32
    assert light[rows[0] + 2, column, 0] > 0.7
    assert light[rows[-1] - 1, column, 0] == pytest.approx(0.3, abs=0.02)
    assert light[rows[-1] + 1, column, 0] < 0.05 + light[2, 2, 0] * 0.9  # the ground beside the ball


def test_the_nearer_figure_hides_the_other() -> None:
    near, far = white(box(np.array([0.5, 0.5, 0.1]))), white(box(np.array([2.0, 0.6, 0.1])))
    far.vertices = far.vertices + np.float32([0, 0, -1])
    owner = picture([near, far], grey())[1]
    alone = picture([near], grey())[1]
    np.testing.assert_array_equal(owner == 0, alone == 0)
    assert (owner == 1).sum() > 50


def test_holes_of_a_cut_out_show_what_is_behind() -> None:
    texture = np.full((64, 64, 4), 255, np.uint8)
    texture[:, 32:, 3] = 0
    mesh = board(1.0, 1.0)
    figure = join([(mesh, texture, "thing")])
    owner = picture([Posed(figure, figure.vertices, vertex_normals(figure.vertices, figure.faces))], grey())[
        1
    ]
    whole = picture([white(mesh)], grey())[1] == 0
    assert (owner == 0)[:, :31].sum() == whole[:, :31].sum()
    assert not (owner == 0)[:, 33:].any()


def test_even_surroundings_give_their_own_light_and_direction_is_kept() -> None:
    rng = np.random.default_rng(0)
    even = surround(Panorama.of(np.full((64, 128, 3), 255, np.uint8)), rng)
    np.testing.assert_allclose(even.ambient[0], 1, rtol=0.01)
    np.testing.assert_allclose(even.ambient[1:], 0, atol=0.01)
    above = np.zeros((64, 128, 3), np.uint8)
    above[:32] = 255
    assert (surround(Panorama.of(above), rng).ambient[1] > 0.3).all()
    directions, solid = _directions(32)
    assert solid.sum() == pytest.approx(4 * np.pi, rel=1e-3)
    assert directions[0, 0, 1] > 0.99 and directions[16, 32, 2] > 0.99


def test_a_camera_sees_the_part_of_the_surroundings_it_looks_at() -> None:
    light = grey()
    light.picture = np.zeros((64, 128, 3), np.float32)
    light.picture[28:32, 62:66] = 1  # straight ahead along +z, just above the horizon
    camera = look(np.array([0.0, 1.6, 0.0]), np.array([0.0, 1.6, 5.0]), 0.0, 40.0, (24.0, 24.0))
    seen = view(light, camera.rotation, camera.eye, camera.lens, (48, 48))[..., 0]
    y, x = np.argwhere(seen > 0.5).mean(axis=0)
    assert (round(x), round(y)) == (24, 20)  # 5.6 degrees above the horizon


def test_a_good_sensor_keeps_what_it_sees() -> None:
    sensor = Sensor(1.0, np.ones(3), 2.2, 1.0, 1.0, (0, 0), 0.0, 0.0, 1.0, 0, False)
    light = np.random.default_rng(0).uniform(0, 0.8, (8, 8, 3)).astype(np.float32)
    out = sensor.develop(light, np.random.default_rng(0))
    np.testing.assert_allclose(out, 255 * light ** (1 / 2.2), atol=0.51)


def test_any_sensor_and_any_thing_works() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        out = sample_sensor(rng).develop(rng.uniform(0, 3, (20, 30, 3)).astype(np.float32), rng, seed / 10)
        assert out.shape == (20, 30, 3) and out.dtype == np.uint8
        mesh, texture = sample_thing(rng)
        assert mesh.faces.max() < len(mesh.vertices) and texture.dtype == np.uint8
