"""Clothes on bodies: fitted to a shape, taken apart into pieces, cut shorter, kept outside the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from .assets import METRES, Assets, Garment
from .decimate import decimate
from .skinning import vertex_normals

GARMENT_TRIANGLES = {"cloth": 3600, "shoes": 1600, "hair": 4000, "hat": 900}
"""Triangles to which a garment is thinned where its strips and borders allow."""
_LEG = ("UpLeg", "Leg")
_FOOT = ("Foot", "ToeBase")
_TRUNK = ("Spine", "Spine1", "Shoulder", "Arm", "ForeArm", "Hand", "Neck", "Neck1")


@dataclass
class Piece:
    """A part of a garment that can be worn alone; faces are rows of the whole garment's vertices."""

    garment: Garment
    place: str
    """upper, lower, whole (both), shoes, hair or hat."""
    faces: np.ndarray
    """[F, 3] int32."""
    uv_faces: np.ndarray
    """[F, 3] int32."""
    hides: np.ndarray
    """[H] int32 vertices of the base mesh that the piece covers."""
    under: np.ndarray
    """[H] int32 vertex of the garment nearest to each of them."""


def fit(assets: Assets, garment: Garment, vertices: np.ndarray) -> np.ndarray:
    """[N, 3] float32 metres: a garment's vertices on a shaped body.

    Each hangs on three vertices of the base mesh by barycentric weights; its offset grows per axis with the
    distance of two reference vertices (``.mhclo``).

    Arguments: vertices [V, 3] metres of the shaped base mesh.
    """
    cloth = assets.mhclo(garment)
    scale = np.full(3, METRES, np.float32)
    for axis, (a, b, size) in cloth.scales.items():
        scale[axis] = abs(vertices[a, axis] - vertices[b, axis]) / size
    held = np.einsum("nk,nkd->nd", cloth.barycentric, vertices[cloth.indices])
    return (held + cloth.offsets * scale).astype(np.float32)


def garment_weights(assets: Assets, garment: Garment) -> np.ndarray:
    """[N, B] float32 skin weights of a garment, mixed like its places; each row sums to 1."""

    def mix() -> np.ndarray:
        cloth = assets.mhclo(garment)
        dense = np.einsum("nk,nkb->nb", cloth.barycentric, assets.dense_weights[cloth.indices])
        dense = np.maximum(
            dense, 0
        )  # silent: negative barycentric weights must not make negative skin weights
        return dense / dense.sum(1, keepdims=True)

    return assets.keep(("garment weights", garment.path), mix)


def pieces(assets: Assets, garment: Garment) -> list[Piece]:
    """A garment taken apart where its mesh is in separate parts, by the bones these follow."""
    return assets.keep(("pieces", garment.path), lambda: _take_apart(assets, garment))


def _take_apart(assets: Assets, garment: Garment) -> list[Piece]:
    mesh, cloth = assets.obj(garment), assets.mhclo(garment)
    faces, uv_faces = decimate(mesh.vertices, mesh.faces, mesh.uv_faces, GARMENT_TRIANGLES[garment.kind])
    places = np.array([garment.kind])
    of_face = np.zeros(len(faces), np.int64)
    if garment.kind == "cloth":
        part = _parts(faces, len(cloth.indices))
        places = np.array(["upper", "lower", "whole", "shoes"])
        of_face = _places(assets, garment, faces, part)[faces[:, 0]]
    on_base = fit(assets, garment, assets.base.vertices * np.float32(METRES))
    used = np.unique(faces)
    place_of_vertex = np.zeros(len(cloth.indices), np.int64)
    place_of_vertex[faces.ravel()] = np.repeat(of_face, 3)
    near = np.zeros(0, np.int64)
    if len(cloth.delete):
        near = used[cKDTree(on_base[used]).query(assets.base.vertices[cloth.delete] * METRES)[1]]
    out = []
    for number, place in enumerate(places):
        mine = of_face == number
        if mine.any():
            hidden = place_of_vertex[near] == number
            out.append(
                Piece(
                    garment,
                    str(place),
                    faces[mine],
                    uv_faces[mine],
                    cloth.delete[hidden],
                    near[hidden].astype(np.int32),
                )
            )
    return out


def _parts(faces: np.ndarray, count: int) -> np.ndarray:
    """[N] number of the connected part of each vertex."""
    start, end = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = sparse.coo_matrix((np.ones(len(start)), (start, end)), (count, count))
    return connected_components(graph, directed=False)[1]


def _places(assets: Assets, garment: Garment, faces: np.ndarray, part: np.ndarray) -> np.ndarray:
    """[N] 0 upper, 1 lower, 2 whole, 3 shoes for each vertex: the same for all of a connected part."""
    dense = garment_weights(assets, garment)
    names = list(assets.bones)

    def share(endings: tuple[str, ...]) -> np.ndarray:
        columns = [i for i, n in enumerate(names) if n.removeprefix("Left").removeprefix("Right") in endings]
        return dense[:, columns].sum(1)

    used = np.unique(faces)
    size = np.bincount(part[used], minlength=part.max() + 1)
    leg, foot, trunk = (
        np.bincount(part[used], share(names_)[used], part.max() + 1) / np.maximum(size, 1)
        for names_ in (_LEG, _FOOT, _TRUNK)
    )
    place = np.zeros(part.max() + 1, np.int64)
    place[leg > 0.25] = 1
    place[(leg > 0.2) & (trunk > 0.2)] = 2
    place[foot > 0.6] = 3
    out = place[part]
    large = size[part] >= max(0.05 * len(used), 30)  # silent: buttons and pockets go with what they sit on
    host = used[large[used]]
    small = used[~large[used] & (out[used] != 3)]
    if len(small) and len(host):
        points = fit(assets, garment, assets.base.vertices * np.float32(METRES))
        near = host[cKDTree(points[host]).query(points[small])[1]]
        votes = np.zeros((part.max() + 1, 4))
        np.add.at(votes, (part[small], out[near]), 1)
        moved = np.unique(part[small])
        place[moved] = votes[moved].argmax(1)
        out = place[part]
    return out


@dataclass
class Worn:
    """A piece on one body."""

    piece: Piece
    vertices: np.ndarray
    """[N, 3] float32 metres, of the whole garment."""
    weights: np.ndarray
    """[N, B] float32."""
    uvs: np.ndarray
    """[U, 2] float32."""
    faces: np.ndarray
    uv_faces: np.ndarray
    hides: np.ndarray
    """[H] vertices of the base mesh that are covered."""


def wear(assets: Assets, piece: Piece, vertices: np.ndarray) -> Worn:
    """A piece fitted to a shaped body, uncut."""
    return Worn(
        piece,
        fit(assets, piece.garment, vertices),
        garment_weights(assets, piece.garment),
        assets.obj(piece.garment).uvs,
        piece.faces,
        piece.uv_faces,
        piece.hides,
    )


def cut(worn: Worn, beyond: np.ndarray) -> Worn:
    """Cloth without what lies beyond a line; its edge runs along the line.

    Arguments: beyond [N] how far each vertex lies past the line in any unit, 0 on it, below 0
    where cloth stays.

    Triangles wholly beyond go. Of those that the line crosses, the far corners move onto the line, each to
    the mean of where its sides cross. What the cloth no longer covers, with a row of triangles to spare, is
    no longer hidden.
    """
    past = beyond > 0
    if not past[worn.faces].any():
        return worn
    kept = ~past[worn.faces].all(1)
    faces, uv_faces = worn.faces[kept], worn.uv_faces[kept]
    vertices, weights, uvs = worn.vertices.copy(), worn.weights.copy(), worn.uvs.copy()
    starts, ends = faces[:, [0, 1, 2, 1, 2, 0]].ravel(), faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    uv_starts = uv_faces[:, [0, 1, 2, 1, 2, 0]].ravel()
    uv_ends = uv_faces[:, [1, 2, 0, 0, 1, 2]].ravel()
    crossing = ~past[starts] & past[ends]
    starts, ends = starts[crossing], ends[crossing]
    uv_starts, uv_ends = uv_starts[crossing], uv_ends[crossing]
    inside = np.maximum(beyond[starts], -1e3)
    share = np.clip(-inside / (beyond[ends] - inside), 0.02, 1)[:, None]
    for array, a, b in ((vertices, starts, ends), (weights, starts, ends), (uvs, uv_starts, uv_ends)):
        moved, row = np.unique(b, return_inverse=True)
        total = np.zeros((len(moved), array.shape[1]))
        np.add.at(total, row, array[a] + share * (array[b] - array[a]))
        array[moved] = total / np.bincount(row)[:, None]
    safe = np.ones(len(vertices), bool)
    safe[worn.faces[past[worn.faces].any(1)].ravel()] = False  # touched by the cut
    safe[past] = False
    still = safe[worn.piece.under[np.searchsorted(worn.piece.hides, worn.hides)]]
    return Worn(worn.piece, vertices, weights, uvs, faces, uv_faces, worn.hides[still])


def covered(worn: Worn, points: np.ndarray, rows: np.ndarray, reach_m: float = 0.03) -> np.ndarray:
    """[N] whether each of the points lies right under a piece, not near its edge.

    Arguments: points [N, 3]; rows of it that are asked for; a point farther than ``reach_m`` from the cloth
    is not covered.
    """
    out = np.zeros(len(points), bool)
    used = np.unique(worn.faces)
    edges = worn.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    code = np.sort(edges, axis=1) @ np.array([len(worn.vertices), 1])
    _, first, times = np.unique(code, return_index=True, return_counts=True)
    edge = np.zeros(len(worn.vertices), bool)
    edge[edges[first[times == 1]].ravel()] = True
    edge[worn.faces[edge[worn.faces].any(1)].ravel()] = True
    if not len(rows) or not len(used):
        return out
    distance, near = cKDTree(worn.vertices[used]).query(points[rows], distance_upper_bound=reach_m)
    rows, near = rows[np.isfinite(distance)], used[near[np.isfinite(distance)]]
    height = ((points[rows] - worn.vertices[near]) * vertex_normals(worn.vertices, worn.faces)[near]).sum(1)
    out[rows] = ~edge[near] & (height < 0.001)
    return out


def keep_outside(
    points: np.ndarray,
    rows: np.ndarray,
    inner: np.ndarray,
    inner_normals: np.ndarray,
    inner_rows: np.ndarray,
    gap_m: float,
    reach_m: float = 0.04,
) -> None:
    """Pushes vertices in place so that they stay ``gap_m`` outside a surface, along its normals.

    Arguments: points [N, 3] and the rows of it to move; inner [M, 3], its unit normals, and the rows that
    count; what lies deeper than ``reach_m`` below the surface is left alone (it belongs elsewhere).
    """
    if not len(rows) or not len(inner_rows):
        return
    distance, near = cKDTree(inner[inner_rows]).query(points[rows], distance_upper_bound=reach_m)
    found = np.isfinite(distance)
    rows, near = rows[found], inner_rows[near[found]]
    height = ((points[rows] - inner[near]) * inner_normals[near]).sum(1)
    push = np.clip(gap_m - height, 0, reach_m)
    points[rows] += push[:, None] * inner_normals[near]
