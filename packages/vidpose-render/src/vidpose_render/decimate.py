"""Fewer triangles for a mesh whose vertices and texture coordinates stay what they are.

Edges are collapsed onto one of their ends (Garland and Heckbert, "Surface Simplification Using Quadric Error
Metrics", 1997), many at once: those whose surroundings do not touch. Shapes, weights and fittings that speak
of the original vertices so hold on.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def decimate(
    vertices: np.ndarray, faces: np.ndarray, uv_faces: np.ndarray, triangles: int, rounds: int = 60
) -> tuple[np.ndarray, np.ndarray]:
    """``faces`` and ``uv_faces`` of a mesh with about ``triangles`` triangles, rows of the same arrays.

    Arguments: vertices [V, 3]; faces and uv_faces [F, 3]. Vertices on the border and on seams of the texture
    stay, so a mesh of strips can stay as it is; no triangle turns over by more than 75 degrees.
    """
    points = vertices.astype(np.float64)
    faces, uv_faces = faces.astype(np.int64), uv_faces.astype(np.int64)
    if len(faces) <= triangles:
        return faces.astype(np.int32), uv_faces.astype(np.int32)
    quadrics = _quadrics(points, faces)
    for _ in range(rounds):
        if len(faces) <= triangles:
            break
        source, into = _collapses(points, faces, uv_faces, quadrics, (len(faces) - triangles) // 2 + 1)
        if not len(source):
            break
        quadrics[into] += quadrics[source]
        uv_of = _shared_uv(faces, uv_faces, source, into)
        onto = np.arange(len(points))
        onto[source] = into
        moved = onto[faces] != faces
        uv_faces = np.where(moved, uv_of[faces], uv_faces)
        faces = onto[faces]
        whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
        faces, uv_faces = faces[whole], uv_faces[whole]
    return faces.astype(np.int32), uv_faces.astype(np.int32)


def _quadrics(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 4, 4] sum over the triangles of a vertex of the squared distance to their plane, by area."""
    a, b, c = (points[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1) + 1e-20
    plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], 1) / area[:, None]
    each = plane[:, :, None] * plane[:, None, :] * (0.5 * area)[:, None, None]
    out = np.zeros((len(points), 4, 4))
    for i in range(3):
        for j in range(16):
            out[:, j // 4, j % 4] += np.bincount(faces[:, i], each[:, j // 4, j % 4], len(points))
    return out


def _collapses(
    points: np.ndarray, faces: np.ndarray, uv_faces: np.ndarray, quadrics: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices to remove and the neighbours that take their place, cheapest first, none touching another."""
    count = len(points)
    start, end = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    ones = np.ones(len(start))
    sides = sparse.csr_matrix((ones, (start, end)), (count, count))
    both = (sides + sides.T).tocsr()  # how many triangles an edge has
    edge = both.tocoo()
    fixed = np.zeros(count, bool)
    fixed[edge.row[edge.data != 2]] = True  # borders
    low, high = np.full(count, 1 << 60), np.full(count, -1)
    np.minimum.at(low, faces.ravel(), uv_faces.ravel())
    np.maximum.at(high, faces.ravel(), uv_faces.ravel())
    fixed |= (low != high) & (high >= 0)  # seams
    links = both.astype(bool).astype(np.float64)
    common = (links @ links).multiply(links).tocsr()
    source, into = edge.row, edge.col
    usable = ~fixed[source] & (np.asarray(common[source, into]).ravel() == 2)
    source, into = source[usable], into[usable]
    if not len(source):
        return source, into
    place = np.concatenate([points[into], np.ones((len(into), 1))], 1)
    error = np.einsum("ni,nij,nj->n", place, quadrics[source] + quadrics[into], place, optimize=True)
    length = ((points[source] - points[into]) ** 2).sum(1)
    # silent: a little of the edge's length^4 makes flat places lose short edges first and stay even
    cost = error + 0.002 * length**2
    order = np.lexsort((into, cost, source))
    source, into, cost = source[order], into[order], cost[order]
    best = np.concatenate([[True], source[1:] != source[:-1]])
    source, into, cost = source[best], into[best], cost[best]
    keep = ~_turns(points, faces, source, into)
    source, into, cost = source[keep], into[keep], cost[keep]
    order = np.argsort(cost, kind="stable")[: max(2 * most, len(source) // 2)]
    taken, locked = [], bytearray(count)
    starts, around = both.indptr.tolist(), both.indices.tolist()
    for row, vertex in zip(order.tolist(), source[order].tolist(), strict=True):
        ring = around[starts[vertex] : starts[vertex + 1]]
        if locked[vertex] or any(locked[other] for other in ring):
            continue
        locked[vertex] = 1
        for other in ring:
            locked[other] = 1
        taken.append(row)
        if len(taken) == most:
            break
    return source[taken], into[taken]


def _turns(points: np.ndarray, faces: np.ndarray, source: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Whether moving each source onto its neighbour would turn one of its triangles over."""
    target = np.full(len(points), -1)
    target[source] = into
    bad = np.zeros(len(points), bool)
    for corner in range(3):
        moving = faces[:, corner]
        onto = target[moving]
        left, right = faces[:, (corner + 1) % 3], faces[:, (corner + 2) % 3]
        stays = (onto >= 0) & (left != onto) & (right != onto)
        moving, onto, left, right = moving[stays], onto[stays], left[stays], right[stays]
        across = points[right] - points[left]
        before = np.cross(across, points[moving] - points[left])
        after = np.cross(across, points[onto] - points[left])
        size = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        bad[moving[(before * after).sum(1) < 0.25 * size + 1e-24]] = True
    return bad[source]


def _shared_uv(faces: np.ndarray, uv_faces: np.ndarray, source: np.ndarray, into: np.ndarray) -> np.ndarray:
    """[V] for each source the texture coordinate that its neighbour has in the triangles both share."""
    count = int(faces.max()) + 1
    target = np.full(count, -1)
    target[source] = into
    out = np.zeros(count, np.int64)
    for corner in range(3):
        for other in ((corner + 1) % 3, (corner + 2) % 3):
            shared = target[faces[:, corner]] == faces[:, other]
            out[faces[shared, corner]] = uv_faces[shared, other]
    return out
