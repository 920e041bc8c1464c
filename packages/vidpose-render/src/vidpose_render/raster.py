"""Triangles to pixels on one processor core: depth, what is seen where, and its colour in light.

Screen coordinates: x to the right and y down in pixels, pixel centres at .5; the third is 1 / depth, which is
linear on the screen, and 0 or less behind the camera. Everything here is compiled by numba.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numba import njit

LEVELS = 10
"""Most sizes of one texture, each half of the one before."""
DOUBLE_SIDED, CUT_OUT = 1, 2
"""Flags of a material: triangles are seen from both sides; there are holes where a texture's alpha is 0."""
_ALPHA_MIN = 100
compiled: Any = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
"""Compiles a function on first use; the result is kept on disk."""
Corners = tuple[float, float, float, float, float, float, float, float, float]
"""Screen coordinates of a triangle's three corners."""


def build_textures(images: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Textures with all their smaller versions, one behind the other.

    Args:
        images: [h, w, 3 or 4] uint8, RGB or RGBA.

    Returns:
        pixels [n, 4] uint8, and (start, height, width) of each image and level
        [len(images), LEVELS, 3] int32; levels that an image has not are its smallest.
    """
    pixels: list[np.ndarray] = []
    table = np.zeros((len(images), LEVELS, 3), dtype=np.int32)
    start = 0
    for i, image in enumerate(images):
        alpha = np.full((*image.shape[:2], 1), 255, dtype=np.uint8)
        level = image if image.shape[2] == 4 else np.concatenate([image, alpha], axis=2)
        for k in range(LEVELS):
            height, width = level.shape[:2]
            table[i, k:] = start, height, width
            pixels.append(np.ascontiguousarray(level, dtype=np.uint8).reshape(-1, 4))
            start += height * width
            if min(height, width) < 2:
                break
            level = _halve(level)
    return np.concatenate(pixels) if pixels else np.zeros((1, 4), dtype=np.uint8), table


def _halve(image: np.ndarray) -> np.ndarray:
    """Half the size; colours weighted by alpha, or cut-outs would get the colour of nothing at their rims."""
    size = image.shape[1] // 2, image.shape[0] // 2
    even = image[: 2 * size[1], : 2 * size[0]]
    if even[..., 3].min() == 255:
        out: np.ndarray = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
        return out
    alpha = even[..., 3:].astype(np.float32)
    weighted = np.concatenate([even[..., :3] * alpha, alpha], axis=2)
    mean = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    plain = cv2.resize(even[..., :3].astype(np.float32), size, interpolation=cv2.INTER_AREA)
    colour = np.where(mean[..., 3:] > 0, mean[..., :3] / np.maximum(mean[..., 3:], 1e-6), plain)
    return (np.concatenate([colour, mean[..., 3:]], axis=2) + 0.5).astype(np.uint8)


@compiled
def project(
    vertices: np.ndarray, rotation: np.ndarray, translation: np.ndarray, lens: np.ndarray
) -> np.ndarray:
    """World coordinates [V, 3] to the screen [V, 3].

    Args:
        rotation, translation: [3, 3], [3]; to camera coordinates, x right, y down, z ahead.
        lens: focal length in pixels, centre x, centre y, and the least depth.
    """
    out = np.empty(vertices.shape, dtype=np.float32)
    f, cx, cy, near = lens[0], lens[1], lens[2], lens[3]
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z + translation[2]
        if depth < near:
            out[v, 0], out[v, 1], out[v, 2] = 0.0, 0.0, -1.0
            continue
        inverse = 1.0 / depth
        right = rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z + translation[0]
        down = rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z + translation[1]
        out[v, 0] = f * right * inverse + cx
        out[v, 1] = f * down * inverse + cy
        out[v, 2] = inverse
    return out


@compiled
def project_parallel(
    vertices: np.ndarray, axes: np.ndarray, origin: np.ndarray, scale: float, far: float
) -> np.ndarray:
    """World coordinates [V, 3] to the screen of a parallel projection [V, 3]; the third is ``far`` - depth.

    Args:
        axes: [3, 3] rows: right, down, ahead. origin: [3] what lies at the screen's corner 0, 0.
        scale: pixels per metre.
    """
    out = np.empty(vertices.shape, dtype=np.float32)
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0] - origin[0], vertices[v, 1] - origin[1], vertices[v, 2] - origin[2]
        out[v, 0] = scale * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z)
        out[v, 1] = scale * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z)
        out[v, 2] = far - (axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z)
    return out


@compiled
def _corners(screen: np.ndarray, faces: np.ndarray, t: int) -> Corners:
    a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
    return (
        screen[a, 0], screen[a, 1], screen[a, 2], screen[b, 0], screen[b, 1], screen[b, 2],
        screen[c, 0], screen[c, 1], screen[c, 2],
    )  # fmt: skip


@compiled
def _twice_area(corners: Corners) -> float:
    """Twice the area of a triangle on the screen, above 0 where one sees its corners go around clockwise."""
    ax, ay, _, bx, by, _, cx, cy, _ = corners
    return (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)


@compiled
def _bounds(corners: Corners, height: int, width: int) -> tuple[int, int, int, int]:
    """First and last column, first and last row of the pixels about a triangle; none where it is behind."""
    ax, ay, az, bx, by, bz, cx, cy, cz = corners
    if az <= 0.0 or bz <= 0.0 or cz <= 0.0:
        return 0, -1, 0, -1
    left = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
    right = min(int(np.floor(max(ax, bx, cx) - 0.5)), width - 1)
    top = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
    bottom = min(int(np.floor(max(ay, by, cy) - 0.5)), height - 1)
    return left, right, top, bottom


@compiled
def _shares(corners: Corners, scale: float, x: int, y: int) -> tuple[float, float]:
    """How much of a pixel's centre is the first and the second corner's; ``scale`` is 1 / twice the area."""
    ax, ay, _, bx, by, _, cx, cy, _ = corners
    px, py = x + 0.5, y + 0.5
    u = ((bx - px) * (cy - py) - (cx - px) * (by - py)) * scale
    v = ((cx - px) * (ay - py) - (ax - px) * (cy - py)) * scale
    return u, v


@compiled
def fill_depth(screen: np.ndarray, faces: np.ndarray, nearness: np.ndarray) -> None:
    """Raises ``nearness`` [h, w] to the nearest triangle at each pixel; both sides of triangles count."""
    height, width = nearness.shape
    for t in range(len(faces)):
        corners = _corners(screen, faces, t)
        area = _twice_area(corners)
        if area == 0.0:
            continue
        left, right, top, bottom = _bounds(corners, height, width)
        scale = 1.0 / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u, v = _shares(corners, scale, x, y)
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                near = u * corners[2] + v * corners[5] + w * corners[8]
                if near > nearness[y, x]:
                    nearness[y, x] = near


@compiled
def fill(
    screen: np.ndarray,
    faces: np.ndarray,
    uvs: np.ndarray,
    uv_faces: np.ndarray,
    materials: np.ndarray,
    flags: np.ndarray,
    texels: np.ndarray,
    levels: np.ndarray,
    first: int,
    nearness: np.ndarray,
    seen: np.ndarray,
) -> None:
    """Draws a mesh into the depth buffer: the nearest triangle of every pixel.

    Args:
        screen: [V, 3]. faces: [F, 3]. uvs: [U, 2]. uv_faces: [F, 3].
        materials: [F] int32 material of each triangle. flags: [M] of ``DOUBLE_SIDED`` and ``CUT_OUT``.
        texels, levels: of :func:`build_textures`, an image for each material.
        first: number of the mesh's first triangle in ``seen``.
        nearness: [h, w] float32, 1 / depth of what is there, 0 where nothing is; changed.
        seen: [h, w] int32, number of the triangle; changed.
    """
    height, width = nearness.shape
    for t in range(len(faces)):
        flag = flags[materials[t]]
        corners = _corners(screen, faces, t)
        area = _twice_area(corners)
        # Seen from outside, corners go around counter-clockwise: a negative area where y is down.
        if area == 0.0 or (area > 0.0 and not flag & DOUBLE_SIDED):
            continue
        left, right, top, bottom = _bounds(corners, height, width)
        scale = 1.0 / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                u, v = _shares(corners, scale, x, y)
                w = 1.0 - u - v
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                near = u * corners[2] + v * corners[5] + w * corners[8]
                if near <= nearness[y, x]:
                    continue
                if flag & CUT_OUT:
                    m = materials[t]
                    p, q, r = u * corners[2] / near, v * corners[5] / near, w * corners[8] / near
                    i, j, k = uv_faces[t, 0], uv_faces[t, 1], uv_faces[t, 2]
                    s = p * uvs[i, 0] + q * uvs[j, 0] + r * uvs[k, 0]
                    o = p * uvs[i, 1] + q * uvs[j, 1] + r * uvs[k, 1]
                    level = _level(t, area, uvs, uv_faces, levels, m)
                    start, rows, columns = levels[m, level, 0], levels[m, level, 1], levels[m, level, 2]
                    column = min(max(int(s * columns), 0), columns - 1)
                    row = min(max(int((1.0 - o) * rows), 0), rows - 1)
                    if texels[start + row * columns + column, 3] < _ALPHA_MIN:
                        continue
                nearness[y, x] = near
                seen[y, x] = first + t


@compiled
def _level(
    t: int, area: float, uvs: np.ndarray, uv_faces: np.ndarray, levels: np.ndarray, material: int
) -> int:
    """The texture size whose pixels are about as large as the screen's on a triangle of twice ``area``."""
    i, j, k = uv_faces[t, 0], uv_faces[t, 1], uv_faces[t, 2]
    on_texture = abs(
        (uvs[j, 0] - uvs[i, 0]) * (uvs[k, 1] - uvs[i, 1]) - (uvs[k, 0] - uvs[i, 0]) * (uvs[j, 1] - uvs[i, 1])
    )
    ratio = on_texture * levels[material, 0, 1] * levels[material, 0, 2] / max(abs(area), 1e-6)
    if ratio <= 1.0:
        return 0
    return min(int(0.5 * np.log2(ratio) + 0.5), LEVELS - 1)


@compiled
def shade(
    world: np.ndarray,
    normals: np.ndarray,
    screen: np.ndarray,
    faces: np.ndarray,
    uvs: np.ndarray,
    uv_faces: np.ndarray,
    materials: np.ndarray,
    gloss: np.ndarray,
    texels: np.ndarray,
    levels: np.ndarray,
    linear: np.ndarray,
    first: int,
    nearness: np.ndarray,
    seen: np.ndarray,
    eye: np.ndarray,
    ambient: np.ndarray,
    lights: np.ndarray,
    colours: np.ndarray,
    shadow: np.ndarray,
    shadow_axes: np.ndarray,
    shadow_origin: np.ndarray,
    shadow_scale: float,
    shadow_far: float,
    out: np.ndarray,
) -> None:
    """Colours the pixels at which a mesh is seen.

    Args:
        world, normals: [V, 3] positions and unit normals. The others as for :func:`fill`.
        gloss: [M, 2] strength and exponent of the highlight.
        linear: [256] linear intensity of a stored one.
        eye: [3] the camera.
        ambient: [9, 3] spherical harmonics of the surroundings, convolved with a cosine.
        lights: [K, 3] unit vectors to the lights. colours: [K, 3]. The first casts shadows.
        shadow: [h, w] nearness to the first light, 0 where nothing is, see :func:`project_parallel`.
        out: [h, w, 3] float32 linear RGB; changed.
    """
    height, width = nearness.shape
    count = len(faces)
    for y in range(height):
        for x in range(width):
            t = seen[y, x] - first
            if t < 0 or t >= count:
                continue
            a, b, c = faces[t, 0], faces[t, 1], faces[t, 2]
            corners = _corners(screen, faces, t)
            area = _twice_area(corners)
            u, v = _shares(corners, 1.0 / area, x, y)
            u, v = u * corners[2], v * corners[5]
            near = nearness[y, x]
            u, v = u / near, v / near
            w = 1.0 - u - v
            # texture
            m = materials[t]
            i, j, k = uv_faces[t, 0], uv_faces[t, 1], uv_faces[t, 2]
            s = u * uvs[i, 0] + v * uvs[j, 0] + w * uvs[k, 0]
            o = u * uvs[i, 1] + v * uvs[j, 1] + w * uvs[k, 1]
            level = _level(t, area, uvs, uv_faces, levels, m)
            start, rows, columns = levels[m, level, 0], levels[m, level, 1], levels[m, level, 2]
            tx = min(max(s * columns - 0.5, 0.0), columns - 1.0)
            ty = min(max((1.0 - o) * rows - 0.5, 0.0), rows - 1.0)
            column, row = int(tx), int(ty)
            fx, fy = tx - column, ty - row
            next_column, next_row = min(column + 1, columns - 1), min(row + 1, rows - 1)
            k00, k01 = start + row * columns + column, start + row * columns + next_column
            k10, k11 = start + next_row * columns + column, start + next_row * columns + next_column
            w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
            red = w00 * linear[texels[k00, 0]] + w01 * linear[texels[k01, 0]]
            red += w10 * linear[texels[k10, 0]] + w11 * linear[texels[k11, 0]]
            green = w00 * linear[texels[k00, 1]] + w01 * linear[texels[k01, 1]]
            green += w10 * linear[texels[k10, 1]] + w11 * linear[texels[k11, 1]]
            blue = w00 * linear[texels[k00, 2]] + w01 * linear[texels[k01, 2]]
            blue += w10 * linear[texels[k10, 2]] + w11 * linear[texels[k11, 2]]
            # place and normal
            gx = u * world[a, 0] + v * world[b, 0] + w * world[c, 0]
            gy = u * world[a, 1] + v * world[b, 1] + w * world[c, 1]
            gz = u * world[a, 2] + v * world[b, 2] + w * world[c, 2]
            nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
            ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
            nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
            vx, vy, vz = eye[0] - gx, eye[1] - gy, eye[2] - gz
            length = 1.0 / np.sqrt(vx * vx + vy * vy + vz * vz + 1e-12)
            vx, vy, vz = vx * length, vy * length, vz * length
            if nx * vx + ny * vy + nz * vz < 0.0 and area > 0.0:  # the back of a double-sided triangle
                nx, ny, nz = -nx, -ny, -nz
            length = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            nx, ny, nz = nx * length, ny * length, nz * length
            er = _irradiance(ambient, 0, nx, ny, nz)
            eg = _irradiance(ambient, 1, nx, ny, nz)
            eb = _irradiance(ambient, 2, nx, ny, nz)
            hr = hg = hb = 0.0
            for n in range(len(lights)):
                lx, ly, lz = lights[n, 0], lights[n, 1], lights[n, 2]
                facing = nx * lx + ny * ly + nz * lz
                if facing <= 0.0:
                    continue
                lit = 1.0
                if n == 0 and shadow.shape[0] > 0:
                    lit = _lit(
                        gx, gy, gz, facing, shadow, shadow_axes, shadow_origin, shadow_scale, shadow_far
                    )
                er += colours[n, 0] * facing * lit
                eg += colours[n, 1] * facing * lit
                eb += colours[n, 2] * facing * lit
                if gloss[m, 0] > 0.0 and lit > 0.0:
                    mx, my, mz = lx + vx, ly + vy, lz + vz
                    half = (nx * mx + ny * my + nz * mz) / np.sqrt(mx * mx + my * my + mz * mz + 1e-12)
                    if half > 0.0:
                        shine = gloss[m, 0] * half ** gloss[m, 1] * lit
                        hr += colours[n, 0] * shine
                        hg += colours[n, 1] * shine
                        hb += colours[n, 2] * shine
            out[y, x, 0] = red * er + hr
            out[y, x, 1] = green * eg + hg
            out[y, x, 2] = blue * eb + hb


@compiled
def _irradiance(ambient: np.ndarray, channel: int, x: float, y: float, z: float) -> float:
    """Light from all around on a surface of normal x, y, z (Ramamoorthi and Hanrahan, SIGGRAPH 2001)."""
    value = ambient[0, channel] + ambient[1, channel] * y + ambient[2, channel] * z + ambient[3, channel] * x
    value += ambient[4, channel] * x * y + ambient[5, channel] * y * z + ambient[7, channel] * x * z
    value += ambient[6, channel] * (3.0 * z * z - 1.0) + ambient[8, channel] * (x * x - y * y)
    return max(value, 0.0)


@compiled
def _lit(
    x: float,
    y: float,
    z: float,
    facing: float,
    shadow: np.ndarray,
    axes: np.ndarray,
    origin: np.ndarray,
    scale: float,
    far: float,
) -> float:
    """The share of a light that reaches a place, from 3x3 pixels of the shadow map."""
    dx, dy, dz = x - origin[0], y - origin[1], z - origin[2]
    column = scale * (axes[0, 0] * dx + axes[0, 1] * dy + axes[0, 2] * dz)
    row = scale * (axes[1, 0] * dx + axes[1, 1] * dy + axes[1, 2] * dz)
    near = far - (axes[2, 0] * dx + axes[2, 1] * dy + axes[2, 2] * dz)
    margin = 0.02 + 1.5 / scale * (1.0 - facing)  # metres: pixels of the map are steps on slanted surfaces
    height, width = shadow.shape
    left, top = int(column) - 1, int(row) - 1
    if left < 0 or top < 0 or left + 3 > width or top + 3 > height:
        return 1.0
    free = 0
    for r in range(top, top + 3):
        for c in range(left, left + 3):
            if shadow[r, c] <= near + margin:
                free += 1
    return free / 9.0


@compiled
def ground_shadow(
    rotation: np.ndarray,
    eye: np.ndarray,
    lens: np.ndarray,
    shadow: np.ndarray,
    axes: np.ndarray,
    origin: np.ndarray,
    scale: float,
    far: float,
    out: np.ndarray,
) -> None:
    """The share of the first light that reaches the ground y = 0 behind each pixel; 1 where there is none.

    Args:
        rotation: [3, 3] world to camera. eye: [3]. lens: focal length, centre x, centre y, least depth.
        out: [h, w] float32; changed.
    """
    height, width = out.shape
    for y in range(height):
        b = (y + 0.5 - lens[2]) / lens[0]
        for x in range(width):
            a = (x + 0.5 - lens[1]) / lens[0]
            dy = rotation[0, 1] * a + rotation[1, 1] * b + rotation[2, 1]
            out[y, x] = 1.0
            if dy >= -1e-4:
                continue
            distance = -eye[1] / dy
            if distance <= 0.0:
                continue
            gx = eye[0] + distance * (rotation[0, 0] * a + rotation[1, 0] * b + rotation[2, 0])
            gz = eye[2] + distance * (rotation[0, 2] * a + rotation[1, 2] * b + rotation[2, 2])
            out[y, x] = _lit(gx, 0.0, gz, 1.0, shadow, axes, origin, scale, far)
