"""Procedural textures: cloth, skin, heads and hair, all uint8 RGB and seamless around the body."""

from __future__ import annotations

import cv2
import numpy as np

Color = np.ndarray
"""[3] float RGB, 0..255."""

SKINS = np.array(
    [(250, 219, 196), (236, 192, 160), (224, 172, 138), (198, 142, 104), (165, 110, 76), (126, 80, 54),
     (92, 58, 40), (68, 44, 34)], dtype=np.float64,
)  # fmt: skip
HAIRS = np.array(
    [(26, 22, 20), (48, 34, 26), (80, 54, 34), (124, 84, 48), (196, 160, 96), (222, 198, 142), (142, 60, 34),
     (150, 148, 146), (214, 212, 208)], dtype=np.float64,
)  # fmt: skip
CLOTHS = np.array(
    [(30, 32, 38), (60, 62, 70), (128, 128, 130), (226, 224, 218), (32, 48, 92), (48, 92, 160),
     (120, 168, 214), (150, 28, 36), (214, 58, 48), (232, 128, 44), (238, 204, 72), (44, 110, 62),
     (120, 168, 84), (96, 44, 116), (206, 120, 160), (118, 84, 56), (188, 164, 124), (36, 124, 128)],
    dtype=np.float64,
)  # fmt: skip


def smooth_noise(
    shape: tuple[int, int],
    cells: tuple[int, int],
    rng: np.random.Generator,
    octaves: int = 3,
    wrap: bool = False,
) -> np.ndarray:
    """[H, W] float32 value noise with mean near 0 and range about -1..1.

    ``cells``: blobs of the coarsest octave along (height, width); ``wrap`` makes the columns periodic.
    """
    h, w = shape
    out = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows, cols = max(cells[0] << octave, 1), max(cells[1] << octave, 1)
        if rows > h or cols > w:
            break
        grid = rng.uniform(-1, 1, (rows + 2, cols)).astype(np.float32)
        if wrap:
            grid = np.concatenate([grid[:, -2:], grid, grid[:, :2]], axis=1)
            margin = max(round(2 * w / cols), 1)
            big = cv2.resize(grid, (w + 2 * margin, h), interpolation=cv2.INTER_CUBIC)[:, margin : margin + w]
        else:
            big = cv2.resize(grid, (w, h), interpolation=cv2.INTER_CUBIC)
        out += big * (0.62**octave)
    return out * 0.75


def pick(rng: np.random.Generator, palette: np.ndarray, spread: float = 14.0) -> Color:
    """A colour near one of a palette's."""
    return np.clip(palette[rng.integers(len(palette))] + rng.normal(0, spread, 3), 6, 248)


def _finish(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


CLOTH_KINDS = ("plain", "plain", "stripes", "hoops", "checks", "dots", "camo", "tie_dye")


class Cloth:
    """A colour scheme and a pattern that all pieces of one garment share."""

    def __init__(self, rng: np.random.Generator, kinds: tuple[str, ...] = CLOTH_KINDS) -> None:
        self.kind = str(rng.choice(kinds))
        self.first = pick(rng, CLOTHS)
        self.second = pick(rng, CLOTHS)
        if np.abs(self.first - self.second).sum() < 90:
            self.second = np.clip(255 - self.second, 10, 245)
        self.period_m = float(rng.uniform(0.05, 0.14))
        self.seed = int(rng.integers(1 << 31))

    def texture(self, length_m: float, around_m: float, shape: tuple[int, int], part: int) -> np.ndarray:
        """[rows along the bone, columns around it, 3]."""
        rng = np.random.default_rng((self.seed, part))
        h, w = shape
        along = np.arange(h)[:, None] * (length_m / h) / self.period_m
        turns = max(round(around_m / self.period_m), 2)
        around = np.arange(w)[None, :] / w * turns
        zero = np.zeros((h, w))
        if self.kind == "stripes":
            mix = (around % 1.0 < 0.5) + zero
        elif self.kind == "hoops":
            mix = (along % 1.0 < 0.5) + zero
        elif self.kind == "checks":
            mix = 0.5 * (along % 1.0 < 0.5) + 0.5 * (around % 1.0 < 0.5)
        elif self.kind == "dots":
            mix = (((along % 1.0) - 0.5) ** 2 + ((around % 1.0) - 0.5) ** 2 < 0.09) + zero
        elif self.kind in ("camo", "tie_dye"):
            rows = max(int(length_m / self.period_m * 0.7), 2)
            field = smooth_noise((h, w), (rows, max(turns // 2, 2)), rng, 2, wrap=True)
            mix = np.clip(field * (6 if self.kind == "camo" else 1.3) + 0.5, 0, 1)
        else:
            mix = zero
        image = self.first + (self.second - self.first) * mix[..., None]
        folds = smooth_noise((h, w), (3, 5), rng, 3, wrap=True)
        return _finish(image * (1 + 0.13 * folds[..., None]) + 5 * folds[..., None])


def skin_texture(color: Color, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Skin with a little tone variation."""
    tone = smooth_noise(shape, (3, 4), rng, 2, wrap=True)[..., None]
    return _finish(color * (1 + 0.05 * tone) + np.array([4.0, 0.0, -2.0]) * tone)


def put_logo(
    texture: np.ndarray, rng: np.random.Generator, columns: slice, rows: slice, color: Color
) -> None:
    """A number, a word or an emblem onto part of a garment, in place."""
    h, w = rows.stop - rows.start, columns.stop - columns.start
    patch = np.ascontiguousarray(texture[rows, columns])  # columns grow to the person's right: a mirror image
    ink = tuple(float(c) for c in color)
    kind = rng.integers(4)
    if kind == 0:
        text = str(rng.integers(1, 99))
        (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 1.0, 2)
        scale = min(0.9 * w / wide, 0.9 * h / high)
        place = (int((w - scale * wide) / 2), int((h + scale * high) / 2))
        cv2.putText(patch, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, ink, 3, cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(patch, (w // 2, h // 2), min(h, w) // 3, ink, -1, cv2.LINE_AA)
        cv2.circle(
            patch, (w // 2, h // 2), min(h, w) // 6, tuple(float(255 - c) for c in color), -1, cv2.LINE_AA
        )
    elif kind == 2:
        cv2.rectangle(patch, (0, h // 3), (w, 2 * h // 3), ink, -1)
    else:
        points = np.array([[w / 2, 0], [w * 0.9, h * 0.9], [w * 0.1, h * 0.9]]).astype(np.int32)
        cv2.fillConvexPoly(patch, points, ink, cv2.LINE_AA)
    texture[rows, columns] = patch[:, ::-1]


HEAD_SHAPE = (112, 224)
"""Rows from the crown to the chin, columns once around, starting at the middle of the face."""


def head_texture(rng: np.random.Generator, skin: Color, hair: Color, style: str, female: bool) -> np.ndarray:
    """A face on an unrolled sphere. Column 0 is straight ahead and columns grow to the person's right."""
    h, w = HEAD_SHAPE
    face = skin_texture(skin, HEAD_SHAPE, rng).astype(np.float32)
    lat = (90 - (np.arange(h) + 0.5) * 180 / h)[:, None]
    lon = ((np.arange(w) + 0.5) * 360 / w + 180)[None, :] % 360 - 180  # front in the middle while painting
    face = np.roll(face, w // 2, axis=1)
    lon = np.roll(lon, w // 2, axis=1)

    def xy(longitude: float, latitude: float) -> tuple[int, int]:
        return int((longitude + 180) * w / 360 * 16), int((90 - latitude) * h / 180 * 16)

    def ellipse(
        longitude: float, latitude: float, size: tuple[float, float], color: Color, angle: float = 0
    ) -> None:
        axes = (int(size[0] * w / 360 * 16), int(size[1] * h / 180 * 16))
        cv2.ellipse(
            face,
            xy(longitude, latitude),
            axes,
            angle,
            0,
            360,
            tuple(float(c) for c in color),
            -1,
            cv2.LINE_AA,
            4,
        )

    dark, blush = skin * 0.62, np.clip(skin * np.array([1.06, 0.86, 0.86]), 0, 255)
    for sign in (-1, 1):
        ellipse(sign * 30, -18, (12, 9), 0.5 * (blush + skin))
        ellipse(sign * 90, -3, (9, 15), skin * 0.8)
        ellipse(sign * 90, -3, (5, 9), skin * 0.66)
        ellipse(sign * 22, 3, (13, 8), skin * 0.78)
    ellipse(0, -12, (8, 14), np.clip(skin * 1.08, 0, 255))
    for sign in (-1, 1):
        ellipse(sign * 6, -19, (3.5, 3), dark)
    lips = np.clip(skin * np.array([0.92, 0.6, 0.6]), 0, 255) if not female else np.array([176.0, 58.0, 66.0])
    mouth = rng.uniform(1.5, 6.5)
    ellipse(0, -40, (16, mouth + 3.0), lips)
    if mouth > 4.5:
        ellipse(
            0, -40, (11, mouth - 2), np.array([70.0, 20.0, 22.0]) if rng.random() < 0.5 else np.full(3, 232.0)
        )
    if not female and rng.random() < 0.35:
        beard = (np.abs(lon) < 78) & (lat < -24 - 14 * np.cos(np.deg2rad(lon * 1.1)) * (np.abs(lon) < 60))
        beard &= ~((np.abs(lon) < 15) & (np.abs(lat + 40) < 6))
        strength = rng.uniform(0.45, 0.95)
        face[beard] = face[beard] * (1 - strength) + hair * strength
    iris = np.array([[60, 40, 24], [70, 96, 60], [70, 110, 150]][rng.integers(3)], float)
    for sign in (-1, 1):
        ellipse(sign * 22, 3, (10, 5.5), np.full(3, 240.0))
        ellipse(sign * 22, 3, (5.0, 5.5), iris)
        ellipse(sign * 22, 3, (2.5, 3), np.full(3, 12.0))
        ellipse(sign * 22, 15, (12, 2.6), hair * 0.8, sign * 5)
    if rng.random() < 0.15:  # glasses
        lens = np.full(3, 24.0) if rng.random() < 0.5 else skin * 0.7
        for sign in (-1, 1):
            ellipse(sign * 22, 3, (15, 10), np.full(3, 30.0))
            ellipse(sign * 22, 3, (12, 7.5), lens)
        cv2.line(
            face,
            (int(88 * w / 360), int(87 * h / 180)),
            (int(272 * w / 360), int(87 * h / 180)),
            (25, 25, 25),
            1,
        )
    strands = smooth_noise(HEAD_SHAPE, (3, 40), rng, 2)[..., None]
    if style != "bald":
        line = 40 + rng.uniform(-5, 9) + 9 * np.cos(np.deg2rad(lon * 3 + rng.uniform(-40, 40)))
        side = 5.0 if style == "short" else -30.0
        blend = np.clip((np.abs(lon) - 42) / 34, 0, 1)
        blend = blend * blend * (3 - 2 * blend)
        back = np.clip((np.abs(lon) - 95) / 30, 0, 1)
        limit = line * (1 - blend) + side * blend * (1 - back) + (-42.0) * back
        covered = np.clip((lat - limit) / 4 + 0.5, 0, 1)[..., None]
        face = face * (1 - covered) + np.clip(hair * (1 + 0.22 * strands) + 6 * strands, 0, 255) * covered
    if style in ("cap", "beanie"):
        color = pick(rng, CLOTHS)
        edge = 30.0 if style == "cap" else 26.0
        covered = np.repeat(lat > edge, w, axis=1)
        ribs = 0.12 * np.sin(np.deg2rad(lon) * 24)[..., None] if style == "beanie" else 0.0
        face = np.where(covered[..., None], np.clip(color * (1 + 0.1 * strands + ribs), 0, 255), face)
        face[np.repeat((lat > edge) & (lat < edge + 8), w, axis=1)] = color * 0.7
        if style == "cap":
            ellipse(0, 52, (12, 9), 255 - color)
    return _finish(np.roll(face, -(w // 2), axis=1))
