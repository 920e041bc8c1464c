"""Drawing bodies: from posed points to a picture layer and its exact truth.

Parts are filled outlines whose texture is wrapped around the bone and shaded as a cylinder; they are painted
from the farthest to the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .body import FRAME, POINT
from .layers import Layer, mean_image
from .people import JOINT_POINTS, Looks
from .textures import HEAD_SHAPE

_YAW_BINS = 24
_LIGHT_BINS = 7
_BALL = 64
_BALL_REACH = 1.08
_CIRCLE = np.stack(
    [
        np.cos(np.linspace(0, 2 * np.pi, 12, endpoint=False)),
        np.sin(np.linspace(0, 2 * np.pi, 12, endpoint=False)),
    ],
    axis=1,
)
_ROUND = np.stack(
    [
        np.cos(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
        np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
    ],
    axis=1,
)
_ARC = np.linspace(0.0, 1.0, 8)


@dataclass
class BodyView:
    """Truth of one pose that drawing it gives as a by-product."""

    joints: np.ndarray
    """[15, 2] pixels."""
    unhidden: np.ndarray
    """[15] bool: not behind another part of the same body."""
    box: tuple[float, float, float, float] | None
    """x1, y1, x2, y2 around the part of the body inside the picture, whatever stands in front of it."""
    head_box: tuple[float, float, float, float]
    mask: np.ndarray
    """[h, w] uint8, 255 inside the body, aligned with the layer."""


@dataclass
class _Shapes:
    """Geometry of K poses in pixels; N parts."""

    capsules: np.ndarray
    """[K, pairs, 16, 2]"""
    ring_hulls: list[list[tuple[int, np.ndarray]]]
    """Per pose: (part, outline)."""
    low: np.ndarray
    """[K, N, 2] corner of each part's box"""
    high: np.ndarray
    start: np.ndarray
    """[K, N, 2] where the texture's first row lies"""
    end: np.ndarray
    radius: np.ndarray
    """[K, N] half width of the texture"""
    depth: np.ndarray
    """[K, N] metres"""
    pixels: np.ndarray
    """[K, P, 2]"""
    ellipse: list[tuple[np.ndarray, np.ndarray]]
    """Per pose: the skull's outline matrix in pixels and its view basis."""


class Figure:
    """Draws one person in any pose."""

    def __init__(self, looks: Looks, light: np.ndarray) -> None:
        """``light``: [3] unit vector towards the light, in the camera's axes."""
        self.looks, self.body, self.parts = looks, looks.body, looks.parts
        self.light = light
        self._cache: dict[tuple[int, int, int], np.ndarray] = {}
        self._index = {part.name: i for i, part in enumerate(self.parts)}
        self._head = self._index["head"]
        self._compile()

    def _compile(self) -> None:
        parts = self.parts
        self._head_points = np.array(self.looks.head_points).reshape(-1, 3) * self.body.head
        stations = [(i, *s) for i, part in enumerate(parts) for s in part.stations]
        self._st_part = np.array([s[0] for s in stations])
        self._st_ends = np.array([s[1:3] for s in stations]).T
        self._st_t, self._st_r = (
            np.array([s[3] for s in stations])[:, None],
            np.array([s[4] for s in stations]),
        )
        self._pairs = np.flatnonzero(self._st_part[1:] == self._st_part[:-1])
        self._pairs_of = [np.flatnonzero(self._st_part[self._pairs] == i).tolist() for i in range(len(parts))]
        self._st_first = np.flatnonzero(np.diff(self._st_part, prepend=-1))
        self._st_last = np.append(self._st_first[1:], len(stations)) - 1
        self._st_parts = self._st_part[self._st_first]
        rings = [(i, *r) for i, part in enumerate(parts) for r in part.rings]
        self._ri_part = np.array([r[0] for r in rings])
        self._ri_ends = np.array([r[1:3] for r in rings]).T
        self._ri_t, self._ri_frame = np.array([r[3] for r in rings])[:, None], np.array([r[4] for r in rings])
        self._ri_size, self._ri_shift = (
            np.array([r[5:7] for r in rings]),
            np.array([r[7] for r in rings])[:, None],
        )
        self._ri_first = np.flatnonzero(np.diff(self._ri_part, prepend=-1))
        self._ri_last = np.append(self._ri_first[1:], len(rings)) - 1
        self._ri_parts = self._ri_part[self._ri_first]
        self._frame_of = np.array([part.frame for part in parts])
        shape = np.array([part.texture.shape[:2] for part in parts])
        self._rows, self._columns = shape[:, 0], shape[:, 1] // 2
        self._bias = np.array([part.bias for part in parts])
        self._hair = [i for i, part in enumerate(parts) if part.hair]
        self._allowed = np.zeros((len(parts) + 1, 15), bool)
        for i, part in enumerate(parts):
            self._allowed[i + 1, list(part.joints)] = True
        self._allowed[[self._head + 1, self._index.get("brim", self._head) + 1], 0] = True
        grid = ((np.arange(_BALL) + 0.5) / _BALL * 2 - 1) * _BALL_REACH
        gx, gy = np.meshgrid(grid, grid)
        scale = np.minimum(1.0, 0.999 / np.maximum(np.hypot(gx, gy), 1e-6))
        gx, gy = gx * scale, gy * scale
        self._ball = np.stack([gx, gy, np.sqrt(np.clip(1 - gx**2 - gy**2, 0, 1))], axis=-1).astype(np.float32)
        lit = gx * self.light[0] + gy * self.light[1] - self._ball[..., 2] * self.light[2]
        self._ball_shade = (0.60 + 0.48 * np.clip(lit, -0.35, 1)).astype(np.float32)[..., None]

    # -- drawing -------------------------------------------------------------------------------------------

    def draw(
        self,
        points: np.ndarray,
        frames: np.ndarray,
        focal: float,
        centre: tuple[float, float],
        size: tuple[int, int],
        supersample: int = 2,
        middle: int = 0,
    ) -> tuple[Layer, BodyView] | None:
        """Paints the average of K poses (one pose, or the moments of an exposure).

        Args:
            points: [K, P, 3] metres in the camera's axes (x right, y down, z forward), z > 0.
            frames: [K, F, 3, 3] bone frames in the camera's axes.
            focal, centre: of the camera, in pixels.
            size: (height, width) of the picture.
            supersample: outline steps per pixel side in pose ``middle``; the others have 1.
            middle: the pose whose truth is told.

        Returns:
            the layer and its truth, or ``None`` when nothing of the body is inside the picture.
        """
        if len(self._head_points):
            turned = np.einsum("kij,nj->kni", frames[:, FRAME["head"]], self._head_points)
            points = np.concatenate([points, points[:, POINT["head_centre"], None] + turned], axis=1)
        shapes = self._shapes(points, frames, focal, centre)
        low, high = shapes.low.min(axis=(0, 1)), shapes.high.max(axis=(0, 1))
        x1, y1 = max(int(low[0]) - 1, 0), max(int(low[1]) - 1, 0)
        x2, y2 = min(int(high[0]) + 3, size[1]), min(int(high[1]) + 3, size[0])
        if x2 <= x1 or y2 <= y1:
            return None
        origin = np.array([x1 - 0.5, y1 - 0.5])
        head = self._head_patch(shapes.ellipse[middle], supersample)
        layers, view = [], None
        for k in range(len(points)):
            s = supersample if k == middle else 1
            rgba = np.zeros(((y2 - y1) * s, (x2 - x1) * s, 4), np.uint8)
            ids = np.zeros(rgba.shape[:2], np.uint8) if k == middle else None
            order = self._order(shapes.depth[k])
            self._paint(rgba, ids, shapes, k, order, frames[k], origin, s, head)
            if ids is not None:
                view = self._truth(points[k], frames[k], shapes, k, ids, origin, s)
            layers.append(
                rgba if s == 1 else cv2.resize(rgba, (x2 - x1, y2 - y1), interpolation=cv2.INTER_AREA)
            )
        assert view is not None
        return Layer(x1, y1, mean_image(layers), float(points[middle, POINT["pelvis"], 2])), view

    def _shapes(
        self, points: np.ndarray, frames: np.ndarray, focal: float, centre: tuple[float, float]
    ) -> _Shapes:
        count, parts, middle = len(points), len(self.parts), np.array(centre)
        low, high = np.full((count, parts, 2), np.inf), np.full((count, parts, 2), -np.inf)
        ends = np.zeros((2, count, parts, 3))
        radius, depth = np.zeros((count, parts)), np.zeros((count, parts))

        at = (
            points[:, self._st_ends[0]] * (1 - self._st_t) + points[:, self._st_ends[1]] * self._st_t
        )  # [K, S, 3]
        scale = focal / at[..., 2]
        px, r = at[..., :2] * scale[..., None] + middle, self._st_r * scale
        capsules = _capsules(
            px[:, self._pairs], r[:, self._pairs], px[:, self._pairs + 1], r[:, self._pairs + 1]
        )
        mine, first = self._st_parts, self._st_first
        low[:, mine] = np.minimum.reduceat(px - r[..., None], first, axis=1)
        high[:, mine] = np.maximum.reduceat(px + r[..., None], first, axis=1)
        ends[0][:, mine], ends[1][:, mine] = at[:, first], at[:, self._st_last]
        radius[:, mine] = np.maximum.reduceat(r, first, axis=1) + 0.5
        depth[:, mine] = np.add.reduceat(at[..., 2], first, axis=1) / np.diff(
            np.append(first, len(self._st_part))
        )

        mid = (
            points[:, self._ri_ends[0]] * (1 - self._ri_t) + points[:, self._ri_ends[1]] * self._ri_t
        )  # [K, R, 3]
        turn = frames[:, self._ri_frame]
        mid = mid + turn[..., 2] * self._ri_shift
        side, front = turn[..., 0] * self._ri_size[:, :1], turn[..., 2] * self._ri_size[:, 1:]
        ring = mid[:, :, None] + _CIRCLE[:, :1] * side[:, :, None] + _CIRCLE[:, 1:] * front[:, :, None]
        ring_px = (ring[..., :2] * (focal / ring[..., 2:]) + middle).astype(np.float32)  # [K, R, 12, 2]
        mine, first = self._ri_parts, self._ri_first
        low[:, mine] = np.minimum.reduceat(ring_px.min(axis=2), first, axis=1)
        high[:, mine] = np.maximum.reduceat(ring_px.max(axis=2), first, axis=1)
        ends[0][:, mine], ends[1][:, mine] = mid[:, first], mid[:, self._ri_last]
        for i, last in zip(mine, self._ri_last, strict=True):
            if self.parts[i].one_hull:
                ends[1][:, i] = (mid[:, last] + mid[:, last - 2]) / 2
        depth[:, mine] = np.add.reduceat(mid[..., 2], first, axis=1) / np.diff(
            np.append(first, len(self._ri_part))
        )

        head = points[:, POINT["head_centre"]]
        ends[:, :, self._head] = head + np.array([0, 0.1, 0])
        flat = ends[..., :2] * (focal / np.maximum(ends[..., 2:], 0.1)) + middle
        start, end = flat[0], flat[1]
        d = end - start
        normal = (
            np.stack([-d[..., 1], d[..., 0]], axis=-1)
            / np.maximum(np.linalg.norm(d, axis=-1), 1e-6)[..., None]
        )
        n = normal[:, self._ri_part]
        wide = np.hypot((side[..., :2] * n).sum(-1), (front[..., :2] * n).sum(-1)) * focal / mid[..., 2]
        wide += np.abs(((ring_px.mean(axis=2) - start[:, self._ri_part]) * n).sum(-1)) * 0.8
        radius[:, mine] = np.maximum.reduceat(wide, first, axis=1) + 0.5

        pixels = points[..., :2] * (focal / points[..., 2:]) + middle
        skull = frames[:, FRAME["head"]] * (np.array([0.68, 1.0, 0.86]) * self.body.head)
        ellipse = []
        for k in range(count):
            outline, basis = _lower_triangle(skull[k])
            outline = outline * (focal / head[k, 2])
            ellipse.append((outline, basis))
            reach = np.linalg.norm(outline, axis=1)
            low[k, self._head] = pixels[k, POINT["head_centre"]] - reach
            high[k, self._head] = pixels[k, POINT["head_centre"]] + reach
        depth[:, self._head] = head[:, 2]
        return _Shapes(
            capsules,
            [self._ring_hulls(q) for q in ring_px],
            low,
            high,
            start,
            end,
            radius,
            depth,
            pixels,
            ellipse,
        )

    def _ring_hulls(self, ring_px: np.ndarray) -> list[tuple[int, np.ndarray]]:
        out = []
        for i, first, last in zip(self._ri_parts, self._ri_first, self._ri_last, strict=True):
            if self.parts[i].one_hull:
                out.append((int(i), cv2.convexHull(ring_px[first : last + 1].reshape(-1, 2))[:, 0]))
            else:
                out += [
                    (int(i), cv2.convexHull(ring_px[j : j + 2].reshape(-1, 2))[:, 0])
                    for j in range(first, last)
                ]
        return out

    def _order(self, depth: np.ndarray) -> list[int]:
        """Parts from far to near."""
        key, names = (depth + self._bias).tolist(), self._index
        head = key[self._head]
        neck = max(key[names["shirt"]], head) + 0.01
        key[names["neck"]] = neck
        thighs = min(key[names["right_thigh"]], key[names["left_thigh"]])
        for i, part in enumerate(self.parts):
            if part.after == "thighs":
                key[i] = thighs - 0.004
            elif part.after is not None:
                key[i] = key[names[part.after]] - 0.002
        for i in self._hair:
            # silent: hair lies against the skull, so only the side that faces the viewer matters
            if depth[i] > depth[self._head]:
                key[i] = max(head + 0.012, depth[i], neck + 0.01 if depth[i] > neck - 0.03 else 0.0)
            else:
                key[i] = head - 0.004
        key[names["nose"]] = head + (0.005 if depth[names["nose"]] > depth[self._head] else -0.002)
        if "brim" in names:
            key[names["brim"]] = head + (0.006 if depth[names["brim"]] > depth[self._head] else -0.003)
        return sorted(range(len(key)), key=lambda i: -key[i])

    def _paint(
        self,
        rgba: np.ndarray,
        ids: np.ndarray | None,
        shapes: _Shapes,
        k: int,
        order: list[int],
        frames: np.ndarray,
        origin: np.ndarray,
        s: int,
        head: np.ndarray,
    ) -> None:
        h, w = rgba.shape[:2]
        start, end, radius = (
            (shapes.start[k] - origin) * s - 0.5,
            (shapes.end[k] - origin) * s - 0.5,
            shapes.radius[k] * s,
        )
        d = end - start
        length = np.maximum(np.linalg.norm(d, axis=1), 1e-3)
        unit = d / length[:, None]
        n = np.stack([-unit[:, 1], unit[:, 0]], axis=1)
        # the texture's columns span the width, its rows the bone; a bone seen end-on keeps some length
        along = unit * (np.maximum(length, 0.5 * radius) / self._rows)[:, None]
        across = n * (2 * radius / self._columns)[:, None]
        turn = frames[self._frame_of]
        yaw = np.arctan2(-turn[:, 2, 0], -turn[:, 2, 2])  # towards the camera is -z
        yaws = (np.round(yaw * (_YAW_BINS / (2 * np.pi))).astype(int) % _YAW_BINS).tolist()
        lights = np.round((n @ self.light[:2] + 1) / 2 * (_LIGHT_BINS - 1)).astype(int).tolist()
        low = np.maximum(((shapes.low[k] - origin) * s - 1.5).astype(int), 0)
        high = np.minimum(((shapes.high[k] - origin) * s + 2.5).astype(int), (w, h))
        matrices = np.empty((len(unit), 2, 3))
        matrices[:, :, 0], matrices[:, :, 1] = across, along
        matrices[:, :, 2] = start - n * radius[:, None] - low
        outline = shapes.ellipse[k][0] * s
        middle = (shapes.pixels[k, POINT["head_centre"]] - origin) * s - 0.5
        matrices[self._head, :, :2] = outline * (2 * _BALL_REACH / head.shape[0])
        corner = middle - matrices[self._head, :, :2] @ np.full(2, (head.shape[0] - 1) / 2)
        matrices[self._head, :, 2] = corner - low[self._head]
        outlines: list[list[np.ndarray]] = [[] for _ in order]
        fixed = np.round(((shapes.capsules[k] - origin) * s - 0.5) * 16).astype(np.int32)
        for part, pairs in enumerate(self._pairs_of):
            outlines[part] = [fixed[q] for q in pairs]
        for part, hull in shapes.ring_hulls[k]:
            outlines[part].append(np.round(((hull - origin) * s - 0.5) * 16).astype(np.int32))
        outlines[self._head] = [np.round((_ROUND @ outline.T + middle) * 16).astype(np.int32)]
        boxes = np.concatenate([low, high], axis=1).tolist()
        mask = np.zeros((h, w), np.uint8)
        for part in order:
            x1, y1, x2, y2 = boxes[part]
            if x2 <= x1 or y2 <= y1:
                continue
            inside = mask[y1:y2, x1:x2]
            for q in outlines[part]:
                cv2.fillConvexPoly(mask, q, 255, cv2.LINE_8, 4)
                if ids is not None:
                    cv2.fillConvexPoly(ids, q, part + 1, cv2.LINE_8, 4)
            patch = head if part == self._head else self._patch(part, yaws[part], lights[part])
            seen = cv2.warpAffine(
                patch,
                matrices[part],
                (x2 - x1, y2 - y1),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            cv2.copyTo(seen, inside, rgba[y1:y2, x1:x2])
            inside[:] = 0

    def _patch(self, part: int, yaw: int, light: int) -> np.ndarray:
        """[rows, columns, 4] uint8: the visible half of a wrapped texture, shaded as a cylinder."""
        key = (part, yaw, light)
        found = self._cache.get(key)
        if found is None:
            texture = self.parts[part].texture
            around = texture.shape[1]
            v = (np.arange(around // 2) + 0.5) / (around // 2) * 2 - 1
            angle = yaw / _YAW_BINS * 2 * np.pi + np.arcsin(v)
            columns = np.floor(angle / (2 * np.pi) * around).astype(int) % around
            side = light / (_LIGHT_BINS - 1) * 2 - 1
            facing = np.sqrt(max(1 - side * side, 0.0)) * 0.75
            lit = v * side + np.sqrt(1 - v * v) * facing
            rim = 0.80 + 0.20 * np.sqrt(1 - v**4)
            shade = (0.56 + 0.52 * np.clip(lit, -0.25, 1)) * rim
            found = np.empty((len(texture), around // 2, 4), np.uint8)
            found[..., :3] = np.clip(texture[:, columns] * shade[None, :, None], 0, 255)
            found[..., 3] = 255
            self._cache[key] = found
        return found

    def _head_patch(self, ellipse: tuple[np.ndarray, np.ndarray], s: int) -> np.ndarray:
        """[S, S, 4]: an exact view of the textured skull; each disc pixel looks up the direction it shows."""
        outline, basis = ellipse
        reach = float(np.abs(outline).max()) * s
        step = 1 if reach > 24 else 2 if reach > 10 else 4
        ball, shade = (a[step // 2 :: step, step // 2 :: step] for a in (self._ball, self._ball_shade))
        direction = ball @ basis.astype(np.float32)  # [S, S, 3]: right, down, front of the head
        rows, columns = HEAD_SHAPE
        lon = np.arctan2(direction[..., 0], direction[..., 2]) * np.float32(columns / (2 * np.pi))
        lat = np.arcsin(np.clip(direction[..., 1], -1, 1)) * np.float32(rows / np.pi) + np.float32(
            rows / 2 - 0.5
        )
        texture = self.parts[self._head].texture
        seen = cv2.remap(texture, (lon - 0.5) % columns, lat, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        patch = np.empty((*seen.shape[:2], 4), np.uint8)
        patch[..., :3] = np.clip(seen * shade, 0, 255)
        patch[..., 3] = 255
        return patch

    # -- truth ---------------------------------------------------------------------------------------------

    def _truth(
        self,
        points: np.ndarray,
        frames: np.ndarray,
        shapes: _Shapes,
        k: int,
        ids: np.ndarray,
        origin: np.ndarray,
        s: int,
    ) -> BodyView:
        """Visibility is read from the part that was painted last at each joint's pixel."""
        joints, z = shapes.pixels[k, list(JOINT_POINTS)], points[list(JOINT_POINTS), 2]
        unhidden = np.ones(15, bool)
        h, w = ids.shape
        trunk = {
            self._index[name] + 1: shapes.depth[k, self._index["shirt" if name == "shirt" else "seat"]]
            for name in ("shirt", "seat", "skirt")
            if name in self._index
        }
        places = np.round((joints - origin) * s - 0.5).astype(int).tolist()
        for j, (column, row) in enumerate(places):
            part = int(ids[row, column]) if 0 <= row < h and 0 <= column < w else 0
            if part == 0:
                continue
            unhidden[j] = self._allowed[part, j]
            if unhidden[j] and j in (3, 4, 9, 10) and part in trunk:
                # the trunk hides the shoulder and the hip of its far side
                unhidden[j] = z[j] <= trunk[part] + (0.10 if j < 5 else 0.055)
        gaze, ray = frames[FRAME["head"]][:, 2], points[POINT["head_centre"]]
        if gaze @ ray / np.linalg.norm(ray) > 0.2:
            unhidden[0] = False
        x, y, width, height = cv2.boundingRect(ids)
        box = None
        if width and height:
            left, top = x / s + origin[0] + 0.5, y / s + origin[1] + 0.5
            box = (left, top, left + (width - 1) / s, top + (height - 1) / s)
        skull = _ROUND @ shapes.ellipse[k][0].T + shapes.pixels[k, POINT["head_centre"]]
        extent = np.concatenate([skull, joints[1:3]])
        (x1, y1), (x2, y2) = extent.min(axis=0).tolist(), extent.max(axis=0).tolist()
        mask = (ids[s // 2 :: s, s // 2 :: s] > 0).astype(np.uint8) * 255
        return BodyView(joints, unhidden, box, (x1, y1, x2, y2), mask)


def _capsules(c0: np.ndarray, r0: np.ndarray, c1: np.ndarray, r1: np.ndarray) -> np.ndarray:
    """Convex hulls of pairs of circles: [..., 2], [...] twice -> [..., 16, 2]."""
    d = c1 - c0
    distance = np.maximum(np.hypot(d[..., 0], d[..., 1]), 1e-6)
    theta = np.arctan2(d[..., 1], d[..., 0])[..., None]
    phi = np.arccos(np.clip((r0 - r1) / distance, -1, 1))[..., None]
    back, front = theta + phi + (2 * np.pi - 2 * phi) * _ARC, theta - phi + 2 * phi * _ARC
    out = np.empty((*r0.shape, 16, 2))
    out[..., :8, 0], out[..., :8, 1] = np.cos(back), np.sin(back)
    out[..., 8:, 0], out[..., 8:, 1] = np.cos(front), np.sin(front)
    out[..., :8, :] = c0[..., None, :] + r0[..., None, None] * out[..., :8, :]
    out[..., 8:, :] = c1[..., None, :] + r1[..., None, None] * out[..., 8:, :]
    return out


def _lower_triangle(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """LQ of the two picture rows of an ellipsoid's axes [3, 3].

    Returns:
        L [2, 2] (unit disc -> outline) and Q [3, 3], whose rows are the directions on the unit sphere seen to
        the right, below and towards the viewer.
    """
    a, b, c = axes.tolist()
    l00 = sum(v * v for v in a) ** 0.5
    q0 = [v / l00 for v in a]
    l10 = sum(u * v for u, v in zip(b, q0, strict=True))
    rest = [u - l10 * v for u, v in zip(b, q0, strict=True)]
    l11 = max(sum(v * v for v in rest) ** 0.5, 1e-9)
    q1 = [v / l11 for v in rest]
    q2 = [q0[1] * q1[2] - q0[2] * q1[1], q0[2] * q1[0] - q0[0] * q1[2], q0[0] * q1[1] - q0[1] * q1[0]]
    if sum(u * v for u, v in zip(c, q2, strict=True)) > 0:  # positive z is away from the viewer
        q2 = [-v for v in q2]
    return np.array([[l00, 0.0], [l10, l11]]), np.array([q0, q1, q2])
