"""Where people move: the camera and the backdrop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .textures import CLOTHS, SKINS, pick, smooth_noise

BACKDROPS = ("street", "park", "hall", "room", "stadium", "abstract")


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """World -> camera, radians; positive yaw looks right, positive pitch looks down."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    spin = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return spin @ nod @ turn


@dataclass
class View:
    """The camera at one moment."""

    rotation: np.ndarray
    """[3, 3] world -> camera axes."""
    focal: float
    height_m: float
    centre: tuple[float, float]

    def to_camera(self, world: np.ndarray) -> np.ndarray:
        """[..., 3] world metres -> [..., 3] in the camera's axes."""
        return (world + np.array([0.0, self.height_m, 0.0])) @ self.rotation.T

    def project(self, world: np.ndarray) -> np.ndarray:
        """[..., 3] world metres -> [..., 2] pixels."""
        c = self.to_camera(world)
        return c[..., :2] * (self.focal / np.maximum(c[..., 2:], 1e-3)) + np.array(self.centre)

    @property
    def matrix(self) -> np.ndarray:
        """[3, 3] camera axes -> homogeneous pixels."""
        return np.array([[self.focal, 0, self.centre[0]], [0, self.focal, self.centre[1]], [0, 0, 1]])


class Camera:
    """A camera that turns, zooms and shakes about a fixed point, so its backdrop moves by a homography."""

    MARGIN = 0.36

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], distance_m: float, moving: float
    ) -> None:
        """``distance_m``: of the people it looks at; ``moving``: 0 tripod .. 1 lively hand."""
        h, w = size
        self.size = size
        self.focal = 1.5 * h
        self.height = float(rng.uniform(0.9, 1.9))
        self.pitch = float(np.arctan2(self.height - 0.88, distance_m) + rng.normal(0, 0.012))
        style = rng.choice(["still", "pan", "hand", "hand", "zoom"]) if moving else "still"
        self.pan = float(rng.uniform(0.03, 0.12)) * moving * (style in ("pan", "hand"))
        self.pan_hz = float(rng.uniform(0.08, 0.35))
        self.zoom = float(rng.uniform(0.06, 0.16)) * moving * (style == "zoom")
        self.zoom_hz = float(rng.uniform(0.15, 0.5))
        self.sway = float(rng.uniform(0.002, 0.007)) * moving * (style != "still")
        self.phases = rng.uniform(0, 2 * np.pi, 12)
        margin_x, margin_y = round(w * self.MARGIN), round(h * self.MARGIN)
        self.canvas = (h + 2 * margin_y, w + 2 * margin_x)
        self.reference = View(
            _rotation(0, self.pitch, 0),
            self.focal,
            self.height,
            ((self.canvas[1] - 1) / 2, (self.canvas[0] - 1) / 2),
        )

    def at(self, time: float) -> View:
        """The view at a time in seconds."""
        p, s = self.phases, self.sway
        wave = [
            np.sin(2 * np.pi * f * time + q) for f, q in zip((1.3, 1.7, 2.9, 3.7, 0.9), p[2:7], strict=True)
        ]
        yaw = self.pan * np.sin(2 * np.pi * self.pan_hz * time + p[0]) + s * (wave[0] + 0.5 * wave[2])
        pitch = self.pitch + s * (wave[1] + 0.5 * wave[3]) * 0.8
        zoom = 1 + self.zoom * (0.6 + np.sin(2 * np.pi * self.zoom_hz * time + p[1]))
        h, w = self.size
        return View(
            _rotation(yaw, pitch, 1.5 * s * wave[4]),
            self.focal * zoom,
            self.height,
            ((w - 1) / 2, (h - 1) / 2),
        )

    def backdrop_to_frame(self, view: View) -> np.ndarray:
        """[3, 3] homography from pixels of the backdrop to pixels of a frame."""
        between = view.rotation @ self.reference.rotation.T
        h = view.matrix @ between @ np.linalg.inv(self.reference.matrix)
        return h / h[2, 2]


def _tile(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """A surface texture, [h, w, 3] float32."""
    h, w = shape
    base = pick(
        rng, np.array([(150, 140, 126), (120, 120, 124), (170, 150, 120), (110, 92, 76), (190, 186, 178)]), 12
    )
    image = np.empty((h, w, 3), np.float32)
    image[:] = base
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    if kind == "bricks":
        bh = int(rng.integers(9, 18))
        bw = int(bh * rng.uniform(2, 3))
        row = (y // bh).astype(int)
        shifted = x + (row % 2) * bw / 2
        column = (shifted // bw).astype(int)
        tint = rng.normal(0, 13, (row.max() + 1, column.max() + 1, 1)).astype(np.float32)
        image[:] = pick(rng, np.array([(150, 82, 62), (168, 128, 98), (130, 126, 124)]), 10)
        image += tint[row, column]
        image[((y % bh) < 2) | ((shifted % bw) < 2)] = base * 0.9
    elif kind == "grass":
        image[:] = pick(rng, np.array([(84, 122, 58), (104, 132, 66), (70, 104, 54)]), 8)
        image += 34 * smooth_noise(shape, (h // 8, w // 8), rng, 3)[..., None]
    elif kind in ("tiles", "planks"):
        ph = int(rng.integers(26, 60))
        pw = ph if kind == "tiles" else ph * 5
        row, column = (y // ph).astype(int), (x // pw).astype(int)
        tint = rng.normal(0, 9, (row.max() + 1, column.max() + 1, 1)).astype(np.float32)
        image += tint[row, column]
        image[((y % ph) < 2) | ((x % pw) < 2)] *= 0.72
    elif kind == "wallpaper":
        other = pick(rng, CLOTHS, 20) * 0.5 + base * 0.5
        period = int(rng.integers(18, 50))
        which = rng.integers(3)
        mix = (
            (x // period) % 2
            if which == 0
            else ((x // period) + (y // period)) % 2
            if which == 1
            else (((x % period) - period / 2) ** 2 + ((y % period) - period / 2) ** 2 < (period / 3.4) ** 2)
        )
        image += (other - base) * mix[..., None].astype(np.float32)
    image *= 1 + 0.13 * smooth_noise(shape, (3, 5), rng, 6)[..., None]
    return image


def _blobs(
    image: np.ndarray, rng: np.random.Generator, box: tuple[int, int, int, int], color: np.ndarray, count: int
):
    """Foliage: many overlapping discs around a box, darker below."""
    x1, y1, x2, y2 = box
    for _ in range(count):
        x, y = int(rng.uniform(x1, x2)), int(rng.uniform(y1, y2))
        radius = int(max(3, rng.uniform(0.10, 0.26) * (x2 - x1)))
        light = 1.2 - 0.5 * (y - y1) / max(y2 - y1, 1) + rng.normal(0, 0.1)
        cv2.circle(image, (x, y), radius, tuple(float(c) for c in color * light), -1, cv2.LINE_AA)


def paint_backdrop(camera: Camera, rng: np.random.Generator, kind: str | None = None) -> np.ndarray:
    """A large still [H, W, 3] uint8 with the ground in true perspective; the camera looks at parts of it."""
    kind = kind or str(rng.choice(BACKDROPS))
    h, w = camera.canvas
    ground_kind = {
        "street": "tiles",
        "park": "grass",
        "hall": "planks",
        "room": "planks",
        "stadium": "grass",
        "abstract": "wallpaper",
    }[kind]
    wall_distance = float(rng.uniform(11, 20))
    edge = camera.reference.project(np.array([[-40.0, 0, wall_distance], [40.0, 0, wall_distance]]))[
        :, 1
    ].mean()
    foot = int(np.clip(edge, 10, h - 10))
    image = np.empty((h, w, 3), np.float32)
    wall = _tile(
        rng,
        {
            "street": "bricks",
            "park": "plain",
            "hall": "bricks",
            "room": "wallpaper",
            "stadium": "plain",
            "abstract": "wallpaper",
        }[kind],
        (foot + 4, w),
    )
    if kind in ("park", "stadium"):
        sky = np.linspace(0, 1, foot + 4)[:, None, None]
        top, low = (
            pick(rng, np.array([(96, 150, 214), (130, 150, 180), (190, 196, 204)]), 10),
            np.full(3, 226.0),
        )
        wall = (
            top * (1 - sky) + low * sky + 22 * smooth_noise((foot + 4, w), (3, 6), rng, 4)[..., None]
        ).astype(np.float32)
    image[: foot + 4] = wall
    surface = np.clip(_tile(rng, ground_kind, (512, 512)), 0, 255).astype(np.uint8)
    if kind in ("stadium", "hall"):
        ink = (235.0, 235.0, 230.0)
        cv2.circle(surface, (256, 256), 110, ink, 5, cv2.LINE_AA)
        cv2.line(surface, (0, 256), (511, 256), ink, 5)
        cv2.rectangle(surface, (20, 20), (490, 490), ink, 5)
    reach = 12.0
    corners = np.array(
        [[-reach, 0, 2.2], [reach, 0, 2.2], [reach, 0, wall_distance], [-reach, 0, wall_distance]]
    )
    target = camera.reference.project(corners).astype(np.float32)
    m = cv2.getPerspectiveTransform(np.array([[0, 511], [511, 511], [511, 0], [0, 0]], np.float32), target)
    floor = cv2.warpPerspective(surface, m, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    image[foot:] = floor[foot:]
    furnished = np.clip(image, 0, 255).astype(np.uint8)
    _furnish(furnished, rng, kind, foot)
    image = furnished.astype(np.float32)
    image *= 1 + 0.10 * smooth_noise((h, w), (2, 3), rng, 3)[..., None]
    image += rng.normal(0, 3.0, (h, w, 1)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def _furnish(image: np.ndarray, rng: np.random.Generator, kind: str, foot: int) -> None:
    """Windows, trees, posters, spectators and clutter against the wall."""
    h, w = image.shape[:2]

    def rect(x: float, y: float, ww: float, hh: float, color: np.ndarray) -> None:
        cv2.rectangle(image, (int(x), int(y)), (int(x + ww), int(y + hh)), tuple(float(c) for c in color), -1)

    if kind == "street":
        step = int(rng.integers(90, 170))
        for x in range(int(rng.integers(0, step)), w, step):
            for y in range(foot - 90, -120, -130):
                glass = np.array([70.0, 90.0, 110.0]) * rng.uniform(0.5, 1.7)
                rect(x, y - 70, step * 0.5, 100, np.full(3, 220.0) * rng.uniform(0.6, 1))
                rect(x + 5, y - 65, step * 0.5 - 10, 90, glass)
                rect(x + step * 0.25 - 2, y - 65, 4, 90, np.full(3, 200.0))
    if kind in ("park", "street", "stadium"):
        for _ in range(int(rng.integers(4, 10)) if kind == "park" else int(rng.integers(0, 3))):
            left, size = rng.uniform(0, w), rng.uniform(0.12, 0.32) * h
            bark = np.array([86.0, 66.0, 48.0]) * rng.uniform(0.7, 1.3)
            rect(left - size * 0.07, foot - size * 1.1, size * 0.14, size * 1.15, bark)
            leaf = np.array([64.0, 106.0, 52.0]) * rng.uniform(0.6, 1.3)
            _blobs(
                image,
                rng,
                (
                    int(left - size * 0.6),
                    int(foot - 2.0 * size),
                    int(left + size * 0.6),
                    int(foot - size * 0.8),
                ),
                leaf,
                34,
            )
        for _ in range(6):
            left, size = rng.uniform(0, w), rng.uniform(0.04, 0.1) * h
            _blobs(
                image,
                rng,
                (int(left - size), int(foot - size), int(left + size), int(foot)),
                np.array([60.0, 98.0, 50.0]) * rng.uniform(0.6, 1.2),
                14,
            )
    if kind in ("stadium", "hall"):
        top = max(int(foot - rng.uniform(0.2, 0.4) * h), 0)
        for y in range(top, foot - 12, 11):
            for x in range(0, w, 9):
                if rng.random() < 0.85:
                    cx, cy = int(x + rng.integers(-2, 3)), int(y + rng.integers(-2, 3))
                    rect(cx - 4, cy + 3, 8, 9, pick(rng, CLOTHS, 20))
                    cv2.circle(image, (cx, cy), 3, tuple(float(c) for c in pick(rng, SKINS, 10)), -1)
        rect(0, foot - 14, w, 14, pick(rng, CLOTHS, 10))
        for x in range(0, w, 120):
            cv2.putText(
                image,
                str(rng.choice(["RUN 400", "CUP", "FINAL", "GO TEAM", "OPEN"])),
                (x, foot - 3),
                cv2.FONT_HERSHEY_DUPLEX,
                0.45,
                (240.0, 240.0, 240.0),
                1,
                cv2.LINE_AA,
            )
    if kind in ("room", "abstract", "hall", "street"):
        for _ in range(int(rng.integers(4, 11))):
            left, above = rng.uniform(0, w), rng.uniform(0.05, 0.9) * foot
            ww, hh = rng.uniform(24, 110), rng.uniform(24, 100)
            rect(left, above, ww, hh, pick(rng, CLOTHS, 25))
            rect(left + 4, above + 4, ww - 8, hh - 8, pick(rng, CLOTHS, 25))
            if rng.random() < 0.6:
                cv2.circle(
                    image,
                    (int(left + ww / 2), int(above + hh / 2)),
                    int(min(ww, hh) / 4),
                    tuple(float(c) for c in pick(rng, CLOTHS, 25)),
                    -1,
                    cv2.LINE_AA,
                )
    for _ in range(int(rng.integers(2, 8))):  # clutter at the foot of the wall
        ww, hh = rng.uniform(20, 90), rng.uniform(16, 70)
        left = rng.uniform(0, w)
        color = pick(rng, CLOTHS, 20)
        rect(left, foot - hh + 6, ww, hh, color)
        rect(left, foot - hh + 6, ww, hh * 0.25, color * 1.2)
        rect(left + ww * 0.72, foot - hh + 6, ww * 0.28, hh, color * 0.75)
