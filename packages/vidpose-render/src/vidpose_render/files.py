"""Readers of MakeHuman's files: meshes, targets, rigs, weights, clothes and materials.

Lengths stay in the files' unit, the decimetre. Formats: those of MakeHuman 1.2 and MPFB 2.
"""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import read_json


@dataclass
class ObjFile:
    """A Wavefront mesh; faces of more corners are split into triangles, fan-wise."""

    vertices: np.ndarray
    """[V, 3] float32 decimetres."""
    faces: np.ndarray
    """[F, 3] int32 rows of ``vertices``."""
    uvs: np.ndarray
    """[U, 2] float32, v up."""
    uv_faces: np.ndarray
    """[F, 3] int32 rows of ``uvs``; all zero where the file has no texture coordinates."""
    groups: dict[str, np.ndarray]
    """Name of each ``g`` group to the rows of its triangles in ``faces``."""


@dataclass
class BonePoint:
    """Where a bone begins or ends: the mean of a joint cube or of some vertices of the base mesh."""

    cube: str | None
    vertices: tuple[int, ...]


@dataclass
class RigBone:
    """One bone of a rig file; ``parent`` is empty for the root."""

    parent: str
    head: BonePoint
    tail: BonePoint


@dataclass
class MhcloFile:
    """How a garment hangs on the base mesh."""

    path: Path
    indices: np.ndarray
    """[N, 3] int32 vertices of the base mesh that carry each garment vertex."""
    barycentric: np.ndarray
    """[N, 3] float32; some are negative, each row sums to about 1."""
    offsets: np.ndarray
    """[N, 3] float32 decimetres at the scale of the shape it was made on."""
    scales: dict[int, tuple[int, int, float]]
    """Axis to (a, b, s): offsets along it are multiplied by |base[a] − base[b]| / s along it."""
    delete: np.ndarray
    """[D] int32 vertices of the base mesh to hide, ascending."""
    name: str = ""
    obj_file: str = ""
    material: str = ""
    tags: tuple[str, ...] = field(default=())


def _lines(path: Path) -> list[str]:
    """The lines of a text file, unpacked where its name ends in ``.gz``."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: is not a whole gzip file: {error}; fetch it again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _floats(path: Path, number: int, words: list[str], count: int, what: str) -> list[float]:
    try:
        values = [float(word) for word in words[:count]]
    except ValueError:
        values = []
    if len(values) < count or not all(map(math.isfinite, values)):
        raise InputError(f"{path}:{number}: {what} needs {count} numbers, has '{' '.join(words)}'")
    return values


def read_obj(path: str | Path) -> ObjFile:
    """Reads ``v``, ``vt``, ``f`` and ``g`` of a Wavefront file; other lines are passed over.

    Raises:
        InputError: a face names a vertex that the file lacks or has fewer than three corners, a number is
            missing or no number, or there is no vertex or no face.
    """
    path = Path(path)
    vertices: list[list[float]] = []
    uvs: list[list[float]] = []
    faces: list[tuple[int, int, int]] = []
    uv_faces: list[tuple[int, int, int]] = []
    groups: dict[str, list[int]] = {}
    members = groups.setdefault("", [])
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words:
            continue
        key = words[0]
        if key == "v":
            vertices.append(_floats(path, number, words[1:], 3, "a vertex"))
        elif key == "vt":
            uvs.append(_floats(path, number, words[1:], 2, "a texture coordinate"))
        elif key == "g":
            members = groups.setdefault(words[1] if len(words) > 1 else "", [])
        elif key == "f":
            corners = [_corner(path, number, word, len(vertices), len(uvs)) for word in words[1:]]
            if len(corners) < 3:
                raise InputError(f"{path}:{number}: a face needs at least 3 corners, has {len(corners)}")
            first = corners[0]
            for second, third in zip(corners[1:], corners[2:], strict=False):
                members.append(len(faces))
                faces.append((first[0], second[0], third[0]))
                uv_faces.append((first[1], second[1], third[1]))
    if not vertices or not faces:
        raise InputError(f"{path}: has no {'faces' if vertices else 'vertices'}, a Wavefront mesh is needed")
    return ObjFile(
        np.array(vertices, np.float32),
        np.array(faces, np.int32),
        np.array(uvs or [[0.0, 0.0]], np.float32),
        np.array(uv_faces, np.int32),
        {name: np.array(rows, np.int32) for name, rows in groups.items() if rows},
    )


def _corner(path: Path, number: int, word: str, vertices: int, uvs: int) -> tuple[int, int]:
    parts = word.split("/")
    try:
        vertex = int(parts[0])
        uv = int(parts[1]) if len(parts) > 1 and parts[1] else 0
    except ValueError:
        raise InputError(
            f"{path}:{number}: '{word}' is no corner of a face, 'v' or 'v/vt' is needed"
        ) from None
    if not 1 <= vertex <= vertices:
        raise InputError(f"{path}:{number}: vertex {vertex} of a face, {vertices} vertices stand above")
    if not 0 <= uv <= uvs:
        raise InputError(f"{path}:{number}: texture coordinate {uv} of a face, {uvs} stand above")
    return vertex - 1, max(uv - 1, 0)


def read_target(path: str | Path, vertices: int) -> np.ndarray:
    """[V, 3] float32 decimetres to add to the base mesh, from lines ``index dx dy dz``; may be gzipped.

    Raises:
        InputError: a line is not an index below ``vertices`` and three numbers.
    """
    path = Path(path)
    lines = _lines(path)
    out = np.zeros((vertices, 3), np.float32)
    kept = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if not kept:
        return out
    rows = _table(" nan ".join([line for _, line in kept]) + " nan")  # nan: the end of a line
    if rows is None:
        for number, line in kept:
            if len(line.split()) != 4:
                raise InputError(
                    f"{path}:{number}: 'index dx dy dz' is needed, has '{line_of(line.split())}'"
                )
            _floats(path, number, line.split(), 4, "a line of a target")
        raise InputError(f"{path}: cannot be read as a target, lines 'index dx dy dz' are needed")
    index = rows[:, 0].astype(np.int64)
    wrong = np.flatnonzero((index != rows[:, 0]) | (index < 0) | (index >= vertices))
    if len(wrong):
        number, line = kept[wrong[0]]
        raise InputError(f"{path}:{number}: vertex {line.split()[0]}, the base mesh has {vertices}")
    out[index] = rows[:, 1:]
    return out


def _table(text: str) -> np.ndarray | None:
    """[N, 4] float64 of numbers that stand by fours between nan; None where they do not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older NumPy warns and stops at a word, newer raises
        try:
            values = np.fromstring(text, np.float64, sep=" ")
        except ValueError:
            return None
    if len(values) % 5:
        return None
    rows = values.reshape(-1, 5)
    if not np.isfinite(rows[:, :4]).all() or not np.isnan(rows[:, 4]).all() or len(rows) != text.count("nan"):
        return None
    return rows[:, :4]


def read_rig(path: str | Path) -> dict[str, RigBone]:
    """The bones of MPFB's ``rig.*.json``: parents, and heads and tails by strategy CUBE, MEAN or VERTEX.

    Raises:
        InputError: a bone lacks a field, names an unknown parent or strategy, or is its own ancestor.
    """
    path = Path(path)
    value = read_json(path)
    if isinstance(value, dict) and isinstance(value.get("bones"), dict):
        value = value["bones"]
    if not isinstance(value, dict) or not value:
        raise InputError(f"{path}: is no rig, an object of bones is needed")
    bones = {}
    for name, bone in value.items():
        if not isinstance(bone, dict) or not isinstance(bone.get("parent"), str):
            raise InputError(f"{path}: bone {name}: 'parent' is missing, a bone's name or '' is needed")
        if bone["parent"] and bone["parent"] not in value:
            raise InputError(f"{path}: bone {name}: parent {bone['parent']} is not in the file")
        bones[name] = RigBone(
            bone["parent"], _bone_point(path, name, bone, "head"), _bone_point(path, name, bone, "tail")
        )
    for name in bones:
        seen, at = {name}, bones[name].parent
        while at:
            if at in seen:
                raise InputError(f"{path}: bone {name}: is its own ancestor")
            seen.add(at)
            at = bones[at].parent
    return bones


def _bone_point(path: Path, name: str, bone: dict[str, Any], end: str) -> BonePoint:
    point = bone.get(end)
    point = point if isinstance(point, dict) else {}
    strategy = point.get("strategy")
    if strategy == "CUBE" and isinstance(point.get("cube_name"), str):
        return BonePoint(point["cube_name"], ())
    indices: Any = None
    if strategy == "MEAN":
        indices = point.get("vertex_indices")
    elif strategy == "VERTEX":
        indices = [point.get("vertex_index")]
    if isinstance(indices, list) and indices and all(type(i) is int and i >= 0 for i in indices):
        return BonePoint(None, tuple(indices))
    raise InputError(
        f"{path}: bone {name}: {end} needs strategy CUBE with 'cube_name', MEAN with 'vertex_indices' or "
        f"VERTEX with 'vertex_index'"
    )


def read_weights(path: str | Path, bones: list[str], vertices: int) -> np.ndarray:
    """[V, B] float32 skin weights of a ``weights.*.json``, each row divided by its sum.

    Raises:
        InputError: a bone of the file is not in ``bones``, an entry is not [vertex, weight ≥ 0], or a vertex
            has no weight at all.
    """
    path = Path(path)
    value = read_json(path)
    table = value.get("weights") if isinstance(value, dict) else None
    if not isinstance(table, dict):
        raise InputError(f"{path}: has no object 'weights' of bones")
    out = np.zeros((vertices, len(bones)), np.float32)
    for name, pairs in table.items():
        if name not in bones:
            raise InputError(f"{path}: bone {name} is not in the rig")
        try:
            rows = np.array(pairs, np.float64).reshape(-1, 2)
        except (ValueError, TypeError):
            raise InputError(f"{path}: bone {name}: a list of [vertex, weight] is needed") from None
        index = rows[:, 0].astype(np.int64)
        bad = (index != rows[:, 0]) | (index < 0) | (index >= vertices) | ~(rows[:, 1] >= 0)
        if bad.any():
            raise InputError(
                f"{path}: bone {name}: entry {pairs[int(np.argmax(bad))]}, a vertex below {vertices} and a "
                f"weight of at least 0 are needed"
            )
        out[index, bones.index(name)] = rows[:, 1]
    total = out.sum(1, keepdims=True)
    if not (total > 0).all():
        raise InputError(f"{path}: vertex {int(np.argmin(total))} has no weight")
    return out / total


_AXES = {"x_scale": 0, "y_scale": 1, "z_scale": 2}


def read_mhclo(path: str | Path, vertices: int) -> MhcloFile:
    """Reads a garment's fitting (``.mhclo``).

    After ``verts`` each line is one vertex of the base mesh, or three, three barycentric weights and maybe an
    offset; settings may stand between. ``delete_verts`` lists vertices and ranges ``a - b``.

    Raises:
        InputError: a line cannot be read, a vertex is beyond ``vertices``, or no vertex line is there.
    """
    path = Path(path)
    settings: dict[str, str] = {}
    tags: list[str] = []
    scales: dict[int, tuple[int, int, float]] = {}
    rows: list[list[float]] = []
    delete: set[int] = set()
    section = ""
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = words[0]
        if key[0].isalpha() or key[0] == "_":
            if key in ("verts", "delete_verts"):
                section = key
            elif key == "tag":
                tags.append(" ".join(words[1:]))
            elif key in _AXES:
                a, b, s = _floats(path, number, words[1:], 3, key)
                if not (a == int(a) and b == int(b) and min(a, b) >= 0 and max(a, b) < vertices and s > 0):
                    raise InputError(f"{path}:{number}: {key} needs two base vertices and a length above 0")
                scales[_AXES[key]] = (int(a), int(b), s)
            elif len(words) > 1:
                settings[key] = " ".join(words[1:])
        elif section == "delete_verts":
            delete.update(_ranges(path, number, words, vertices))
        elif section == "verts":
            rows.append(_fitting(path, number, words, vertices))
        else:
            raise InputError(f"{path}:{number}: numbers before a line 'verts 0'")
    if not rows:
        raise InputError(f"{path}: has no vertices after a line 'verts 0'")
    table = np.array(rows, np.float64)
    return MhcloFile(
        path,
        table[:, :3].astype(np.int32),
        table[:, 3:6].astype(np.float32),
        table[:, 6:].astype(np.float32),
        scales,
        np.array(sorted(delete), np.int32),
        settings.get("name", path.stem),
        settings.get("obj_file", f"{path.stem}.obj"),
        settings.get("material", ""),
        tuple(tags),
    )


def _fitting(path: Path, number: int, words: list[str], vertices: int) -> list[float]:
    if len(words) not in (1, 6, 9):
        raise InputError(
            f"{path}:{number}: a vertex needs 1, 6 or 9 numbers (index; three indices, three weights; and an "
            f"offset), has {len(words)}"
        )
    values = _floats(path, number, words, len(words), "a vertex")
    if len(values) == 1:
        values = [values[0]] * 3 + [1.0, 0.0, 0.0]
    for index in values[:3]:
        if index != int(index) or not 0 <= index < vertices:
            raise InputError(f"{path}:{number}: vertex {index:g}, the base mesh has {vertices}")
    return values + [0.0] * (9 - len(values))


def _ranges(path: Path, number: int, words: list[str], vertices: int) -> list[int]:
    out: list[int] = []
    at = 0
    try:
        while at < len(words):
            first = last = int(words[at])
            at += 1
            if at < len(words) and words[at] == "-":
                last = int(words[at + 1])
                at += 2
            if not 0 <= first <= last < vertices:
                raise ValueError
            out.extend(range(first, last + 1))
    except (ValueError, IndexError):
        raise InputError(
            f"{path}:{number}: delete_verts needs vertices below {vertices} and ranges 'a - b', "
            f"has '{line_of(words)}'"
        ) from None
    return out


def line_of(words: list[str]) -> str:
    """Words of a line for a message, cut when long."""
    text = " ".join(words)
    return text if len(text) <= 60 else text[:57] + "..."


def read_mhmat(path: str | Path) -> dict[str, str]:
    """The settings of a material, key to the rest of its line; of keys that come twice the last.

    ``diffuseTexture`` names the picture, relative to the file.
    """
    out = {}
    for line in _lines(Path(path)):
        words = line.split(None, 1)
        if len(words) == 2 and not words[0].startswith(("#", "//")):
            out[words[0]] = words[1].strip()
    return out
