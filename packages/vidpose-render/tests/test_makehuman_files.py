"""Readers of MakeHuman's files against hand-made files, and the search for what a folder offers."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose_render.assets import Assets
from vidpose_render.files import (
    read_mhclo,
    read_mhmat,
    read_obj,
    read_rig,
    read_target,
    read_weights,
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\ng body\nf 1/1 2/2 3/3 4/4\n"


def test_obj_splits_a_quad_into_the_triangles_around_its_first_corner(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path / "a.obj", SQUARE))
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.uv_faces.tolist() == mesh.faces.tolist()


def test_obj_groups_hold_the_rows_of_their_triangles(tmp_path: Path) -> None:
    mesh = read_obj(write(tmp_path / "a.obj", SQUARE + "g joint-x\nf 1 2 3\n"))
    assert {name: rows.tolist() for name, rows in mesh.groups.items()} == {"body": [0, 1], "joint-x": [2]}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("f 1 2 9", "a.obj:11: vertex 9 of a face, 4"),
        ("f 1 2", "a.obj:11: a face needs at least 3 corners, has 2"),
        ("f 1 2 x", "a.obj:11: 'x' is no corner"),
        ("v 1 nan 2", "a.obj:11: a vertex needs 3 numbers"),
        ("vt 1", "a.obj:11: a texture coordinate needs 2 numbers"),
        ("f 1/9 2/1 3/1", "a.obj:11: texture coordinate 9 of a face, 4"),
    ],
)
def test_obj_names_the_line_that_is_wrong(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_obj(write(tmp_path / "a.obj", SQUARE + line + "\n"))


def test_obj_without_faces_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no faces"):
        read_obj(write(tmp_path / "a.obj", "v 0 0 0\n"))


def test_target_adds_at_the_vertices_it_names(tmp_path: Path) -> None:
    path = tmp_path / "a.target.gz"
    path.write_bytes(gzip.compress(b"# made by hand\n2 .5 -1 2e-1\n0 1 2 3\n"))
    assert np.allclose(read_target(path, 3), [[1, 2, 3], [0, 0, 0], [0.5, -1, 0.2]])


def test_an_empty_target_changes_nothing(tmp_path: Path) -> None:
    assert not read_target(write(tmp_path / "a.target", ""), 5).any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1 2 3\n1 2 3\n", "a.target:2: 'index dx dy dz' is needed, has '1 2 3'"),
        ("0 1 2 3\n\n1 2 x 3\n", "a.target:3: a line of a target needs 4 numbers"),
        ("7 1 2 3\n", "a.target:1: vertex 7, the base mesh has 3"),
        ("0 1 2 3 4\n1 2 3\n", "a.target:1: 'index dx dy dz' is needed"),
    ],
)
def test_target_names_the_line_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_target(write(tmp_path / "a.target", text), 3)


def test_a_torn_gzip_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "a.target.gz"
    path.write_bytes(gzip.compress(b"0 1 2 3\n" * 999)[:30])
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_target(path, 3)


def bone(parent: str, **ends: dict) -> dict:
    cube = {"strategy": "CUBE", "cube_name": "joint-a"}
    return {"parent": parent, "head": cube, "tail": cube, **ends}


def test_rig_reads_the_three_strategies(tmp_path: Path) -> None:
    mean = {"strategy": "MEAN", "vertex_indices": [3, 5]}
    vertex = {"strategy": "VERTEX", "vertex_index": 4}
    path = write(tmp_path / "rig.json", json.dumps({"a": bone(""), "b": bone("a", head=mean, tail=vertex)}))
    bones = read_rig(path)
    assert bones["a"].head.cube == "joint-a"
    assert (bones["b"].head.vertices, bones["b"].tail.vertices) == ((3, 5), (4,))


@pytest.mark.parametrize(
    ("bones", "words"),
    [
        ({"a": bone("z")}, "bone a: parent z is not in the file"),
        ({"a": bone("b"), "b": bone("a")}, "is its own ancestor"),
        ({"a": bone("", tail={"strategy": "XY"})}, "bone a: tail needs strategy CUBE"),
        ({"a": {}}, "bone a: 'parent' is missing"),
        ([], "is no rig"),
    ],
)
def test_rig_names_the_bone_that_is_wrong(tmp_path: Path, bones: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_rig(write(tmp_path / "rig.json", json.dumps(bones)))


def test_weights_are_divided_by_their_sum(tmp_path: Path) -> None:
    path = write(tmp_path / "w.json", json.dumps({"weights": {"a": [[0, 1], [1, 0.5]], "b": [[1, 1.5]]}}))
    assert np.allclose(read_weights(path, ["a", "b"], 2), [[1, 0], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"z": []}, "bone z is not in the rig"),
        ({"a": [[9, 1]]}, r"bone a: entry \[9, 1\], a vertex below 2"),
        ({"a": [[0, -1]]}, r"bone a: entry \[0, -1\]"),
        ({"a": [[0, 1]]}, "vertex 1 has no weight"),
        ({"a": [[0]]}, r"bone a: a list of \[vertex, weight\]"),
    ],
)
def test_weights_name_the_bone_that_is_wrong(tmp_path: Path, table: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_weights(write(tmp_path / "w.json", json.dumps({"weights": table})), ["a", "b"], 2)


MHCLO = """# comment
name thing
obj_file thing.obj
tag Female
x_scale 0 1 2.0
verts 0
material thing.mhmat
 5
1 2 3 0.2 0.3 0.5
1 2 3 0.2 0.3 0.5 0.1 -0.2 0.3
delete_verts
1 - 3 5
7 -
"""


def test_mhclo_reads_every_kind_of_line(tmp_path: Path) -> None:
    cloth = read_mhclo(write(tmp_path / "thing.mhclo", MHCLO.replace("7 -\n", "7 - 8\n")), 10)
    assert cloth.indices.tolist() == [[5, 5, 5], [1, 2, 3], [1, 2, 3]]
    assert np.allclose(cloth.barycentric, [[1, 0, 0], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    assert np.allclose(cloth.offsets, [[0, 0, 0], [0, 0, 0], [0.1, -0.2, 0.3]])
    assert cloth.delete.tolist() == [1, 2, 3, 5, 7, 8]
    assert cloth.scales == {0: (0, 1, 2.0)}
    assert (cloth.obj_file, cloth.material, cloth.tags) == ("thing.obj", "thing.mhmat", ("Female",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MHCLO, "thing.mhclo:13: delete_verts needs vertices below 10"),
        ("verts 0\n1 2\n", "thing.mhclo:2: a vertex needs 1, 6 or 9 numbers"),
        ("verts 0\n12\n", "thing.mhclo:2: vertex 12, the base mesh has 10"),
        ("1 2 3\n", "thing.mhclo:1: numbers before a line 'verts 0'"),
        ("x_scale 0 1\n", "thing.mhclo:1: x_scale needs 3 numbers"),
        ("x_scale 0 99 1\n", "thing.mhclo:1: x_scale needs two base vertices"),
        ("name a\n", "has no vertices"),
    ],
)
def test_mhclo_names_the_line_that_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_mhclo(write(tmp_path / "thing.mhclo", text), 10)


def test_mhmat_gives_the_rest_of_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mhmat", "# c\nname x\n\ndiffuseTexture my picture.png\ntransparent True\n")
    assert read_mhmat(path) == {"name": "x", "diffuseTexture": "my picture.png", "transparent": "True"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one of everything that a search must tell apart."""
    data = tmp_path / "makehuman"
    write(data / "3dobjs" / "base.obj", SQUARE)
    write(data / "targets" / "x" / "some-shape.target", "0 1 0 0\n")
    write(data / "rigs" / "standard" / "rig.cmu_mb.json", json.dumps({"b": bone("a"), "a": bone("")}))
    write(data / "rigs" / "standard" / "weights.cmu_mb.json", "{}")
    write(data / "clothes" / "shoes01" / "shoes01.mhclo", "tag Shoes\nverts 0\n1\n")
    write(data / "clothes" / "cap" / "cap.mhclo", "tag Caps\nverts 0\n1\n")
    write(
        data / "clothes" / "female_suit" / "female_suit.mhclo",
        "obj_file s.obj\nmaterial s.mhmat\nverts 0\n0\n1\n2\n",
    )
    write(data / "clothes" / "female_suit" / "s.mhmat", "diffuseTexture s.png\n")
    write(data / "hair" / "h" / "h.mhclo", "tag Male\nverts 0\n1\n")
    write(data / "eyes" / "e.mhclo", "verts 0\n1\n")
    write(tmp_path / "mocap" / "bvh" / "a.bvh", "")
    cv2.imwrite(str(data / "clothes" / "female_suit" / "s.jpg"), np.full((600, 300, 3), 200, np.uint8))
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:, :4] = (0, 0, 200, 255)
    cv2.imwrite(str(data / "hair" / "h" / "h.png"), clear)
    return tmp_path


def test_garments_are_told_apart_by_folder_tag_and_name(folder: Path) -> None:
    found = {(g.path.stem, g.kind, g.sex) for g in Assets.load(folder).garments}
    assert found == {
        ("shoes01", "shoes", "any"),
        ("cap", "hat", "any"),
        ("female_suit", "cloth", "female"),
        ("h", "hair", "male"),
    }


def test_makehumans_own_folder_works_alone(folder: Path) -> None:
    assert Assets.load(folder / "makehuman").target("some-shape")[0].tolist() == [1, 0, 0]


def test_bones_come_after_their_parents(folder: Path) -> None:
    assert list(Assets.load(folder).bones) == ["a", "b"]


def test_a_texture_is_found_under_another_ending_and_reduced(folder: Path) -> None:
    assets = Assets.load(folder)
    suit = next(g for g in assets.garments if g.kind == "cloth")
    path = assets.garment_texture(suit)
    assert path is not None and path.name == "s.jpg"
    assert assets.texture(path).shape == (512, 256, 3)


def test_colour_spreads_into_what_is_clear(folder: Path) -> None:
    image = Assets.load(folder).texture(folder / "makehuman" / "hair" / "h" / "h.png")
    assert image[0, 7, 3] == 0
    assert abs(int(image[0, 7, 0]) - 200) <= 3 and image[0, 7, 1] <= 3


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("makehuman/3dobjs/base.obj", "no 3dobjs/base.obj"),
        ("makehuman/rigs/standard/rig.cmu_mb.json", "no rig.cmu_mb.json"),
        ("makehuman/rigs/standard/weights.cmu_mb.json", "no weights.cmu_mb.json"),
        ("makehuman/targets/x/some-shape.target", "no targets/"),
    ],
)
def test_what_cannot_be_done_without_is_asked_for(folder: Path, gone: str, words: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(InputError, match=words):
        Assets.load(folder)


def test_a_mesh_with_more_vertices_than_its_fitting_is_refused(folder: Path) -> None:
    write(folder / "makehuman" / "clothes" / "female_suit" / "s.obj", SQUARE)
    assets = Assets.load(folder)
    with pytest.raises(InputError, match=r"3 vertices are fitted, s\.obj has 4"):
        assets.obj(next(g for g in assets.garments if g.kind == "cloth"))


def test_pickles_without_what_is_in_memory(folder: Path) -> None:
    assets = Assets.load(folder)
    assets.base.vertices[:] = 7
    copy = pickle.loads(pickle.dumps(assets))
    assert copy.base.vertices.max() == 1


def test_everything_of_the_real_folder_is_found(assets_dir: Path) -> None:
    assets = Assets.load(assets_dir)
    kinds = [g.kind for g in assets.garments]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"cloth": 12, "shoes": 6, "hair": 10, "hat": 2}
    assert (len(assets.skins), len(assets.eyes), len(assets.targets)) == (11, 6, 80)
    assert assets.base.vertices.shape == (19158, 3)
