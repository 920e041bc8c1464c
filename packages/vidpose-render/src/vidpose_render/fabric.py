"""Pictures for skin, eyes, hair and cloth: MakeHuman's own with other colours, or patterns. All uint8 RGB(A).

# silent: all shares and ranges of colours here are a choice: nothing but shape should tell a person.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vidpose.synthetic.textures import smooth_noise

from .assets import METRES, TEXTURE_SIZE, Assets, Garment
from .body import BodyShape, landmark_vertices, skin_faces
from .garments import Piece, fit

HAIR_COLOURS = np.array(
    [(24, 20, 19), (38, 28, 24), (58, 40, 30), (84, 58, 40), (122, 86, 56), (168, 128, 82), (206, 172, 116),
     (122, 58, 34), (92, 88, 86), (150, 148, 146), (206, 204, 200)], np.float32,
)  # fmt: skip
"""Black to blond, red, and three greys."""
PATTERNS = ("stripes", "bands", "checks", "tartan", "dots", "noise", "patches", "blocks")


@dataclass
class Look:
    """What the picture of one piece of cloth is made from."""

    picture: np.ndarray | None
    """[H, W, 3] uint8 MakeHuman's own, or None."""
    shading: np.ndarray
    """[S, S] float32 light and dark of its folds, about 1."""
    size_m: float
    """Metres of cloth that the whole picture is wide."""
    chest: tuple[float, float]
    """Column and row, 0 to 1, of the middle of the chest."""


def look(assets: Assets, piece: Piece) -> Look:
    """How the picture of a piece lies on it; kept in memory."""
    return assets.keep(("look", piece.garment.path, piece.place), lambda: _look(assets, piece))


def _look(assets: Assets, piece: Piece) -> Look:
    path = assets.garment_texture(piece.garment)
    picture = assets.texture(path)[..., :3] if path is not None else None
    points = fit(assets, piece.garment, assets.base.vertices * np.float32(METRES))
    uvs = assets.obj(piece.garment).uvs
    corners, flat = points[piece.faces], uvs[piece.uv_faces].astype(np.float64)
    area = 0.5 * np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    a, b = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    flat_area = 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    size_m = float(np.sqrt(area.sum() / max(flat_area.sum(), 1e-9)))
    middle = corners.mean(1)
    high = middle[:, 1] > np.quantile(middle[:, 1], 0.55)
    front = np.flatnonzero(high & (np.abs(middle[:, 0]) < 0.05))
    face = front[np.argmax(middle[front, 2])] if len(front) else 0
    chest = flat[face].mean(0)
    shading = np.ones((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    if picture is not None:
        size = picture.shape[:2]
        mask = np.zeros(size, np.uint8)
        polygons = (flat * [size[1], size[0]] * [1, -1] + [0, size[0]]).round().astype(np.int32)
        cv2.fillPoly(mask, list(polygons), 1)
        light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) + 12
        middle_light = np.median(light[mask > 0]) if mask.any() else 128
        shading = np.where(mask > 0, (light / middle_light).clip(0.5, 1.5), 1).astype(np.float32)
    return Look(picture, shading, size_m, (float(chest[0]), float(1 - chest[1])))


def cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """[3] float32 RGB of a dyed cloth: black, white, grey, blue, strong or dull."""
    kind = rng.random()
    if kind < 0.14:
        hsv = (rng.uniform(0, 180), rng.uniform(0, 60), rng.uniform(14, 52))
    elif kind < 0.28:
        hsv = (rng.uniform(0, 180), rng.uniform(0, 22), rng.uniform(215, 252))
    elif kind < 0.38:
        hsv = (rng.uniform(0, 180), rng.uniform(0, 30), rng.uniform(70, 190))
    elif kind < 0.50:
        hsv = (rng.uniform(102, 120), rng.uniform(70, 190), rng.uniform(45, 170))
    elif kind < 0.78:
        hsv = (rng.uniform(0, 180), rng.uniform(120, 225), rng.uniform(90, 235))
    else:
        hsv = (rng.uniform(0, 180), rng.uniform(40, 140), rng.uniform(60, 200))
    return cv2.cvtColor(np.array([[hsv]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def cloth_texture(assets: Assets, piece: Piece, rng: np.random.Generator) -> np.ndarray:
    """[H, W, 3] a piece of cloth: as MakeHuman made it, in another hue, dyed, patterned or printed."""
    look_ = look(assets, piece)
    kind = rng.random()
    if look_.picture is not None and kind < 0.3:
        return look_.picture if kind < 0.1 else change_hue(look_.picture, rng)
    first = cloth_colour(rng)
    image = np.empty((*look_.shading.shape, 3), np.float32)
    image[:] = first
    if kind > 0.62:
        second = cloth_colour(rng)
        if np.abs(first - second).sum() < 90:
            second = 255 - second
        share = pattern(str(rng.choice(PATTERNS)), look_.shading.shape, look_.size_m, rng)
        image += share[..., None] * (second - first)
    if piece.place in ("upper", "whole") and rng.random() < 0.3:
        image = _printed(image.clip(0, 255).astype(np.uint8), look_, rng).astype(np.float32)
    strength = rng.uniform(0.4, 1.0)
    image *= (1 + strength * (look_.shading - 1))[..., None]
    return image.clip(0, 255).astype(np.uint8)


def change_hue(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture with its hues turned by any angle and its saturation and brightness changed."""
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    levels = np.arange(256, dtype=np.float32)
    tables = np.stack(
        [
            (levels + rng.uniform(0, 180)) % 180,
            levels * rng.uniform(0.3, 1.4),
            255 * (levels / 255) ** rng.uniform(0.6, 1.5),
        ],
        axis=1,
    )
    hsv = cv2.LUT(hsv, tables.clip(0, 255).astype(np.uint8)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def pattern(kind: str, shape: tuple[int, int], size_m: float, rng: np.random.Generator) -> np.ndarray:
    """[H, W] float32 share, 0 to 1, of a second colour, for a picture that shows ``size_m`` of cloth."""
    period = rng.uniform(0.015, 0.12) / size_m  # in widths of the picture
    rows, columns = (np.arange(n, dtype=np.float32) / shape[1] / period for n in shape)
    x, y = columns[None], rows[:, None]
    wide = rng.uniform(0.2, 0.7)
    zero = np.zeros(shape, np.float32)
    if kind == "stripes":
        return (x % 1 < wide) + zero
    if kind == "bands":
        return (y % 1 < wide) + zero
    if kind == "checks":
        return ((x % 1 < 0.5) ^ (y % 1 < 0.5)) + zero
    if kind == "tartan":
        return 0.5 * (x % 1 < wide) + 0.5 * (y % 1 < wide) + zero
    if kind == "dots":
        return ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < (0.5 * wide) ** 2) + zero
    if kind == "blocks":  # two colours, one above the other
        return (rows[:, None] > rng.uniform(0.2, 0.8) * rows[-1]) + zero
    cells = int(np.clip(1 / period, 3, 64))
    field = smooth_noise(shape, (cells, cells), rng, 2)
    return (field * (8 if kind == "patches" else 1.2) + 0.5).clip(0, 1)


def _printed(image: np.ndarray, look_: Look, rng: np.random.Generator) -> np.ndarray:
    """A number, a shape or a band on the chest, in place; returns the image."""
    height, width = image.shape[:2]
    unit = width / look_.size_m  # pixels per metre
    at = (int(look_.chest[0] * width), int(look_.chest[1] * height))
    ink = tuple(float(c) for c in cloth_colour(rng))
    size = max(int(rng.uniform(0.06, 0.12) * unit), 2)
    kind = rng.integers(4)
    if kind == 0:
        text = str(rng.integers(1, 99))
        scale = size / 12
        place = (at[0] - int(9 * len(text) * scale), at[1] + int(10 * scale))
        cv2.putText(
            image, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, ink, max(int(2 * scale), 1), cv2.LINE_AA
        )
    elif kind == 1:
        cv2.circle(image, at, size, ink, -1, cv2.LINE_AA)
        cv2.circle(image, at, size // 2, tuple(255 - c for c in ink), -1, cv2.LINE_AA)
    elif kind == 2:
        cv2.rectangle(image, (at[0] - size, at[1] - size // 2), (at[0] + size, at[1] + size // 2), ink, -1)
    else:
        cv2.line(image, (0, at[1]), (width, at[1]), ink, size)
    return image


def plain_texture(colour: np.ndarray, rng: np.random.Generator, grain: float = 0.08) -> np.ndarray:
    """[128, 128, 3] one colour with a little grain: felt, leather."""
    noise = smooth_noise((128, 128), (16, 16), rng, 3)[..., None]
    return (colour * (1 + grain * noise)).clip(0, 255).astype(np.uint8)


def shoe_texture(assets: Assets, garment: Garment, rng: np.random.Generator) -> np.ndarray:
    """[H, W, 3] shoes as they are, or in another hue and brightness."""
    path = assets.garment_texture(garment)
    if path is None:
        return plain_texture(cloth_colour(rng), rng)
    picture = assets.texture(path)[..., :3]
    if rng.random() < 0.45:
        return picture
    if rng.random() < 0.6:
        return change_hue(picture, rng)
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    shading = (0.9 * light / max(light.mean(), 40)).clip(0, 1.6)[..., None]
    return (shading * cloth_colour(rng)).clip(0, 255).astype(np.uint8)


def hair_colour(age: float, rng: np.random.Generator) -> np.ndarray:
    """[3] float32 RGB of hair: natural, grey with age, now and then dyed."""
    kind = rng.random()
    if kind < 0.04:
        colour = cloth_colour(rng)
    elif kind < 0.04 + np.clip((age - 45) / 35, 0.02, 0.9):
        colour = HAIR_COLOURS[rng.integers(8, 11)]
    else:
        colour = HAIR_COLOURS[rng.choice(8, p=(0.2, 0.2, 0.17, 0.15, 0.1, 0.08, 0.06, 0.04))]
    return (colour * np.float32(rng.uniform(0.8, 1.25))).clip(0, 255)


def hair_texture(
    assets: Assets, garment: Garment, colour: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """[H, W, 4] hair of one colour [3], with the light, dark and clear places of MakeHuman's picture."""
    path = assets.garment_texture(garment)
    if path is None:
        noise = smooth_noise((256, 256), (48, 48), rng, 2)[..., None]
        solid = (colour * (1 + 0.4 * noise)).clip(0, 255)
        return np.concatenate([solid, np.full((256, 256, 1), 255.0)], 2).astype(np.uint8)
    picture = assets.texture(path)
    light = cv2.cvtColor(picture[..., :3], cv2.COLOR_RGB2GRAY).astype(np.float32)
    alpha = picture[..., 3] if picture.shape[2] == 4 else np.full(light.shape, 255, np.uint8)
    middle = max(float(light[alpha > 128].mean()) if (alpha > 128).any() else 60.0, 12.0)
    shading = (0.25 + 0.75 * light / middle).clip(0.3, 1.7)[..., None]
    return np.concatenate([(colour * shading).clip(0, 255), alpha[..., None]], 2).astype(np.uint8)


def skin_texture(assets: Assets, shape: BodyShape, hair: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[H, W, 3] a skin that goes with the body, lighter or darker, brows of the hair's colour [3]."""
    if not assets.skins:
        tone = np.array([224, 172, 138], np.float32) * rng.uniform(0.25, 1.05)
        return plain_texture(tone, rng, 0.04)
    dark = rng.random() < 0.1 + 0.85 * shape.ethnicity[0] / sum(shape.ethnicity)
    sex = "female" if shape.sex < 0.5 else "male"
    scores = []
    for path in assets.skins:
        words = path.stem.lower().split("_")
        scores.append(
            2.0 * (sex in words) + 2.5 * (("darkskinned" in words) == dark)
            + ("old" in words) * (float(shape.age > 55) - float(shape.age < 45))
        )  # fmt: skip
    best = [path for path, score in zip(assets.skins, scores, strict=True) if score >= max(scores) - 0.6]
    picture = assets.texture(best[rng.integers(len(best))])[..., :3]
    gain = np.exp(rng.normal(0, 0.1)) * np.exp(rng.normal(0, 0.025, 3))
    is_dark = picture.mean() < 90
    if dark and not is_dark:
        gain *= rng.uniform(0.3, 0.6) ** np.array([0.85, 1.0, 1.15])
    elif not is_dark and rng.random() < 0.4:  # tan to brown
        gain *= rng.uniform(0.5, 0.95) ** np.array([0.8, 1.0, 1.2])
    elif is_dark:
        gain *= rng.uniform(0.9, 1.7)
    table = (np.arange(256)[:, None] * gain).clip(0, 255).astype(np.uint8)
    skin = cv2.LUT(np.ascontiguousarray(picture), table[None])
    size = np.array([skin.shape[1], skin.shape[0]])
    brows = np.zeros(skin.shape[:2], np.uint8)
    cv2.fillPoly(brows, list((_brows(assets) * size * 16).round().astype(np.int32)), 255, cv2.LINE_AA, 4)
    share = (cv2.GaussianBlur(brows, (5, 5), 0)[..., None] / 255.0) * rng.uniform(0.3, 0.85)
    rows, columns = brows.any(1), brows.any(0)
    at = np.ix_(rows, columns)
    skin[at] = skin[at] * (1 - share[at]) + 0.8 * hair * share[at]
    return skin


def _brows(assets: Assets) -> np.ndarray:
    """[F, 3, 2] triangles of both brows in the skin's picture, column and row 0 to 1.

    # silent: MakeHuman's brows are an asset of their own; here the strip of skin 2 cm above each eye.
    """

    def find() -> np.ndarray:
        points = assets.base.vertices * np.float32(METRES)
        faces, uv_faces = skin_faces(assets, len(assets.base.faces))
        middle, out = points[faces].mean(1), []
        for side, sign in (("left", 1), ("right", -1)):
            away = middle - points[landmark_vertices(assets)[f"{side}_eye"]]
            across, up = sign * away[:, 0], away[:, 1]
            arch = 0.021 - 6.0 * (across - 0.004) ** 2
            strip = (np.abs(up - arch) < 0.0035) & (across > -0.016) & (across < 0.024) & (away[:, 2] > -0.03)
            out.append(assets.base.uvs[uv_faces[strip]])
        return np.concatenate(out) * [1, -1] + [0, 1]

    return assets.keep("brows", find)


def eye_texture(assets: Assets, rng: np.random.Generator) -> np.ndarray:
    """[64, 64, 3] an eyeball: brown most often."""
    if not assets.eyes:
        image = np.full((64, 64, 3), 226, np.uint8)
        cv2.circle(image, (19, 45), 8, (70, 48, 30), -1, cv2.LINE_AA)
        cv2.circle(image, (19, 45), 3, (12, 12, 12), -1, cv2.LINE_AA)
        return image
    brown = [path for path in assets.eyes if "brown" in path.stem]
    choice = brown if brown and rng.random() < 0.8 else assets.eyes
    picture = cv2.resize(
        assets.texture(choice[rng.integers(len(choice))])[..., :3], (64, 64), interpolation=cv2.INTER_AREA
    )
    return (picture * rng.uniform(0.7, 1.0)).astype(np.uint8)
