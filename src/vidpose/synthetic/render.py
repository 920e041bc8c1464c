"""Frames: people, things and backdrop put together, then everything a lens and a sensor do to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vidpose.errors import InputError

from .body import FRAMES, POINT
from .labels import FrameTruth, PersonTruth
from .layers import Layer, line_blur, paste
from .motion import Actor
from .paint import BodyView, Figure
from .people import Looks
from .scene import Camera, View, paint_backdrop
from .synthesizer import SynthesisSettings
from .things import Thing, flying_thing, passing_thing, standing_thing

VERSION = 1
"""Raised whenever the same seed gives other pixels or labels."""
DIFFICULTIES = ("clean", "mixed", "hard")
_SUBFRAMES = 9
_BLOCK = 8


@dataclass(frozen=True)
class _Hardness:
    gap: tuple[int, float]
    """Frames between two degraded stretches: least, mean."""
    strength: float
    objects_hz: float
    shutter: tuple[float, float]
    noise: tuple[float, float]
    moving: float


_HARDNESS = {
    "clean": _Hardness((10**9, 0.0), 0.0, 0.0, (0.08, 0.2), (0.5, 2.0), 0.3),
    "mixed": _Hardness((3, 4.0), 0.85, 1.0, (0.2, 0.6), (1.0, 6.0), 0.8),
    "hard": _Hardness((2, 2.5), 1.1, 2.0, (0.4, 0.9), (2.0, 9.0), 1.0),
}


def generate_video(
    seed: int | tuple[int, ...],
    frames: int = 60,
    size: tuple[int, int] = (360, 640),
    *,
    fps: float = 25.0,
    difficulty: str = "mixed",
    people: tuple[int, int] = (2, 5),
    instances: bool = False,
) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    """Films a scene of moving people, one frame at a time; memory does not grow with the number of frames.

    Args:
        seed: whole number(s) >= 0; the same seed gives the same pixels.
        frames: number of frames, >= 1.
        size: (height, width), each >= 96.
        fps: frames per second, > 0: how far things move between frames.
        difficulty: ``clean`` (no degraded frames), ``mixed``, ``hard``.
        people: fewest and most people, 1..20.
        instances: also give the map of who is where (``FrameTruth.instances``).

    Yields:
        image [H, W, 3] uint8 RGB, and its :class:`FrameTruth`.

    Raises:
        InputError: an argument is out of its range.
    """
    check_settings(frames=frames, size=size, fps=fps, difficulty=difficulty, people=people)
    if min(np.atleast_1d(seed)) < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")
    return _film(seed, frames, size, fps, difficulty, people, instances)


class DrawnPeople:
    """The :class:`~vidpose.synthetic.synthesizer.Synthesizer` that comes with vidpose."""

    version = VERSION
    options = frozenset({"masks"})

    def check(self, settings: SynthesisSettings) -> None:
        """All that can be wrong, :func:`check_settings` has said."""

    def generate(
        self, settings: SynthesisSettings, seed: tuple[int, ...]
    ) -> Iterator[tuple[np.ndarray, FrameTruth]]:
        """:func:`generate_video` with these settings."""
        return generate_video(
            seed,
            settings.frames,
            settings.size,
            fps=settings.fps,
            difficulty=settings.difficulty,
            people=settings.people,
            instances=settings.masks,
        )


def check_settings(
    *, frames: int, size: tuple[int, int], fps: float, difficulty: str, people: tuple[int, int]
) -> None:
    """Raises InputError for settings that no video can have."""
    if frames < 1 or frames > 10_000:
        raise InputError(f"frames is {frames}; a video has 1 to 10000 (PoseTrack image ids hold four digits)")
    if len(size) != 2 or min(size) < 96 or max(size) > 4096:
        raise InputError(f"size is {tuple(size)}; give height and width, each 96 to 4096")
    if not 1 <= fps <= 240:
        raise InputError(f"fps is {fps}; give 1 to 240")
    if difficulty not in DIFFICULTIES:
        raise InputError(f"difficulty {difficulty!r} is unknown; known: {', '.join(DIFFICULTIES)}")
    if len(people) != 2 or not 1 <= people[0] <= people[1] <= 20:
        raise InputError(f"people is {tuple(people)}; give the fewest and the most, 1 to 20")


def _film(
    seed: int | tuple[int, ...],
    frames: int,
    size: tuple[int, int],
    fps: float,
    difficulty: str,
    people: tuple[int, int],
    instances: bool,
) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    scene = _Scene(np.random.default_rng(seed), size, fps, difficulty, people)
    for index in range(frames):
        yield scene.shoot(index, instances)


class _Scene:
    """One scene with its camera; frames are shot in order."""

    def __init__(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        fps: float,
        difficulty: str,
        people: tuple[int, int],
    ) -> None:
        self.size, self.fps, self.hardness = size, fps, _HARDNESS[difficulty]
        hard = self.hardness
        h, w = size
        self.half_view = w / (3.0 * h)
        count = int(rng.integers(people[0], people[1] + 1))
        near = float(np.exp(rng.uniform(np.log(3.0), np.log(6.5))))
        far = float(np.clip(near * rng.uniform(1.2, 2.6), near + 0.5 * count, 13.5))
        lanes = np.exp(np.linspace(np.log(near), np.log(far), count) + rng.uniform(-0.05, 0.05, count))
        self.camera = Camera(rng, size, float(np.sqrt(near * far)), hard.moving)
        light = np.array([rng.uniform(-0.8, 0.8), -rng.uniform(0.5, 1.0), -rng.uniform(0.4, 0.8)])
        light /= np.linalg.norm(light)
        self.actors, self.figures = [], []
        for lane in rng.permutation(lanes):
            actor = Actor(np.random.default_rng(rng.integers(1 << 62)), float(lane), self.half_view, 1.5)
            self.actors.append(actor)
            self.figures.append(Figure(Looks(actor.body, rng), light))
        self.shutter_s = float(rng.uniform(*hard.shutter)) / fps
        self.backdrop = paint_backdrop(self.camera, rng)
        self.ignore = self._spectators(rng, light) if rng.random() < 0.35 else []
        self.things: list[Thing] = []
        for _ in range(int(rng.integers(0, 3)) if difficulty == "clean" else int(rng.integers(1, 4))):
            z = float(rng.uniform(0.72 * near, far))
            self.things.append(standing_thing(rng, float(rng.uniform(-0.9, 0.9) * z * self.half_view), z))
        self.near = near
        self.passing: list[tuple[int, Thing]] = []
        sigma = float(rng.uniform(*hard.noise))
        bank = (
            rng.normal(0, sigma, (h + 48, w + 48, 3)) * 0.8 + rng.normal(0, sigma, (h + 48, w + 48, 1)) * 0.6
        )
        self.noise = (np.clip(bank, 0, 255).astype(np.uint8), np.clip(-bank, 0, 255).astype(np.uint8))
        self.flicker = float(rng.uniform(0, 0.05)) * (rng.random() < 0.5)
        self.grade = (float(rng.uniform(0.85, 1.15)), rng.uniform(0.93, 1.07, 3))
        self.compression = int(rng.integers(35, 75)) if difficulty != "clean" and rng.random() < 0.35 else 0
        self.rng = rng
        self.event: tuple[str, float, float] | None = None
        self.event_left = 0
        self.quiet = int(rng.integers(1, 7)) if hard.strength else 10**9
        self._block: list[tuple[np.ndarray, np.ndarray]] = []
        self._block_start = -_BLOCK
        self.shadow = _shadow_sprite()

    def _spectators(self, rng: np.random.Generator, light: np.ndarray) -> list[np.ndarray]:
        """Unlabelled far people, painted into the backdrop; gives polygons in backdrop pixels."""
        view, size = self.camera.reference, self.camera.canvas
        polygons = []
        for _ in range(int(rng.integers(1, 3))):
            z = float(rng.uniform(15, 21))
            x = float(rng.uniform(-1.0, 1.0)) * z * self.half_view
            boxes = []
            for i in range(int(rng.integers(2, 5))):
                actor = Actor(rng, z, self.half_view)
                points, frames = actor.pose(np.array([0.5]))
                points[..., 0] += x + 0.55 * i - points[0, 0, 0]
                drawn = Figure(Looks(actor.body, rng), light).draw(
                    view.to_camera(points), view.rotation @ frames, view.focal, view.centre, size
                )
                if drawn is None or drawn[1].box is None:
                    continue
                paste(self.backdrop, drawn[0])
                boxes.append(drawn[1].box)
            if boxes:
                b = np.array(boxes)
                (x1, y1), (x2, y2) = b[:, :2].min(axis=0) - 4, b[:, 2:].max(axis=0) + 4
                polygons.append(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
        return polygons

    # -- one frame -----------------------------------------------------------------------------------------

    def _poses(self, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per person: points and frames at the sub-frame times of frame ``index``."""
        if not 0 <= index - self._block_start < _BLOCK:
            self._block_start = index
            offsets = (np.arange(_SUBFRAMES) / (_SUBFRAMES - 1) - 0.5) * self.shutter_s
            times = ((index + np.arange(_BLOCK))[:, None] / self.fps + self.shutter_s / 2 + offsets).ravel()
            self._block = [
                (
                    p.reshape(_BLOCK, _SUBFRAMES, len(POINT), 3),
                    f.reshape(_BLOCK, _SUBFRAMES, len(FRAMES), 3, 3),
                )
                for p, f in (actor.pose(times) for actor in self.actors)
            ]
        k = index - self._block_start
        return [(p[k], f[k]) for p, f in self._block]

    def shoot(self, index: int, instances: bool) -> tuple[np.ndarray, FrameTruth]:
        h, w = self.size
        time = index / self.fps + self.shutter_s / 2
        view = self.camera.at(time)
        homography = self.camera.backdrop_to_frame(view)
        image = cv2.warpPerspective(
            self.backdrop, homography, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        poses = self._poses(index)
        items: list[tuple[Layer, int, BodyView | None]] = []
        for person, (points, frames) in enumerate(poses):
            self._cast_shadow(image, points[_SUBFRAMES // 2], view)
            drawn = self._draw_person(person, points, frames, view)
            if drawn is not None:
                items.append((drawn[0], person, drawn[1]))
        occluders = self._objects(index, time, poses)
        for thing in (*self.things, *occluders):
            layer = thing.draw(view, time, self.shutter_s, self.size)
            if layer is not None:
                items.append((layer, -1, None))
        items.sort(key=lambda item: -item[0].depth)
        for layer, _, _ in items:
            paste(image, layer)
        people = [
            truth
            for i, (_, person, body) in enumerate(items)
            if body is not None
            for truth in (
                self._person_truth(person, body, [item[0] for item in items[i + 1 :]], items[i][0]),
            )
            if truth is not None
        ]
        events = (("occluder",) if occluders else ()) + self._advance_events()
        image = self._expose(image, events)
        truth = FrameTruth(
            index,
            time,
            sorted(people, key=lambda p: p.track_id),
            self._regions(homography),
            events,
            homography,
            _instance_map(items, self.size) if instances else None,
        )
        return image, truth

    def _draw_person(
        self, person: int, points: np.ndarray, frames: np.ndarray, view: View
    ) -> tuple[Layer, BodyView] | None:
        camera_points = view.to_camera(points)
        z = camera_points[..., 2]
        if z.min() < 0.5:
            return None
        pixels = camera_points[..., :2] * (view.focal / z)[..., None]
        travel = float(np.abs(pixels[-1] - pixels[0]).max())
        count = 1 if travel < 1.5 else 3 if travel < 6 else 5 if travel < 16 else 9
        middle = _SUBFRAMES // 2
        times = [middle] if count == 1 else list(range(0, _SUBFRAMES, (_SUBFRAMES - 1) // (count - 1)))
        return self.figures[person].draw(
            camera_points[times],
            view.rotation @ frames[times],
            view.focal,
            view.centre,
            self.size,
            2 if count < 5 else 1,
            times.index(middle),
        )

    def _cast_shadow(self, image: np.ndarray, points: np.ndarray, view: View) -> None:
        feet = points[[POINT["right_ankle"], POINT["left_ankle"]]]
        middle, spread = (
            feet.mean(axis=0),
            0.28 + 0.5 * float(np.abs(feet[0, [0, 2]] - feet[1, [0, 2]]).max()),
        )
        ground = np.array([middle[0], 0.0, middle[2]])
        corners = view.project(
            ground + np.array([[-spread, 0, 0], [spread, 0, 0], [0, 0, -0.2], [0, 0, 0.2]])
        )
        x1, x2, y2, y1 = corners[0, 0], corners[1, 0], corners[2, 1], corners[3, 1]
        if x2 - x1 < 2 or y2 - y1 < 1:
            return
        s = self.shadow.shape[0]
        m = np.array([[(x2 - x1) / s, 0, x1], [0, (y2 - y1) / s, y1]])
        bx1, by1 = max(int(x1), 0), max(int(y1), 0)
        bx2, by2 = min(int(x2) + 1, self.size[1]), min(int(y2) + 1, self.size[0])
        if bx2 <= bx1 or by2 <= by1:
            return
        m[:, 2] -= (bx1, by1)
        layer = cv2.warpAffine(self.shadow, m, (bx2 - bx1, by2 - by1), flags=cv2.INTER_LINEAR)
        paste(image, Layer(bx1, by1, layer, 0.0))

    def _person_truth(
        self, person: int, body: BodyView, before: list[Layer], layer: Layer
    ) -> PersonTruth | None:
        h, w = self.size
        if body.box is None:
            return None
        x, y = body.joints[:, 0], body.joints[:, 1]
        inside = (x >= 0) & (y >= 0) & (x <= w - 1) & (y <= h - 1)
        visible = inside & body.unhidden
        for j in np.flatnonzero(visible):
            if any(other.alpha_at(x[j], y[j]) > 127 for other in before):
                visible[j] = False
        # silent: PoseTrack leaves out people who can hardly be seen; here those with fewer than 3 joints in
        # the picture or with none visible
        if inside.sum() < 3 or not visible.any():
            return None
        keypoints = np.zeros((15, 3), np.float32)
        keypoints[inside, :2] = body.joints[inside]
        keypoints[inside, 2] = 1
        x1, y1, x2, y2 = body.box
        box = np.array([max(x1, 0.0), max(y1, 0.0), min(x2, w - 1.0), min(y2, h - 1.0)])
        return PersonTruth(person, keypoints, visible, box, np.array(body.head_box), layer.depth)

    def _regions(self, homography: np.ndarray) -> list[np.ndarray]:
        h, w = self.size
        out = []
        for polygon in self.ignore:
            p = np.column_stack([polygon, np.ones(len(polygon))]) @ homography.T
            p = np.clip(p[:, :2] / p[:, 2:], 0, (w - 1, h - 1))
            if np.ptp(p[:, 0]) >= 2 and np.ptp(p[:, 1]) >= 2:
                out.append(p)
        return out

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _objects(self, index: int, time: float, poses: list) -> list[Thing]:
        """Things that cross quickly in front of the people in this frame."""
        rng, rate = self.rng, self.hardness.objects_hz / self.fps
        if rate and rng.random() < rate:
            if rng.random() < 0.4:
                z = float(rng.uniform(1.6, max(0.75 * self.near, 2.0)))
                thing = passing_thing(rng, time, z, self.half_view)
                frames = int(np.ceil(2.4 * z * self.half_view / abs(thing.velocity[0]) * self.fps)) + 2
            else:
                points = poses[int(rng.integers(len(poses)))][0][_SUBFRAMES // 2]
                frames = int(np.ceil(0.3 * self.fps))
                meet = time + 0.5 * frames / self.fps
                thing = flying_thing(rng, meet, points[int(rng.integers(len(points)))])
            self.passing.append((index + frames, thing))
        self.passing = [(end, thing) for end, thing in self.passing if index < end]
        return [thing for _, thing in self.passing]

    def _advance_events(self) -> tuple[str, ...]:
        """Starts, continues and ends stretches of 1..4 degraded frames with clean ones in between."""
        rng, hard = self.rng, self.hardness
        if self.event_left == 0:
            self.event = None
            if self.quiet > 0:
                self.quiet -= 1
                return ()
            kind = str(
                rng.choice(["defocus", "shake", "flash", "dark", "blocks"], p=[0.36, 0.3, 0.1, 0.12, 0.12])
            )
            self.event_left = int(rng.choice([1, 2, 3, 4], p=[0.42, 0.35, 0.15, 0.08]))
            strength = hard.strength * float(rng.uniform(0.7, 1.4))
            self.event = (kind, strength, float(rng.uniform(0, np.pi)))
            self.quiet = hard.gap[0] + int(rng.geometric(1 / (hard.gap[1] + 1))) - 1
        self.event_left -= 1
        assert self.event is not None
        return (self.event[0],)

    def _expose(self, image: np.ndarray, events: tuple[str, ...]) -> np.ndarray:
        """Lens, shutter, sensor and codec."""
        rng, (h, w) = self.rng, self.size
        kind, strength, angle = self.event if self.event is not None else ("", 0.0, 0.0)
        unit = h / 360.0
        if kind == "defocus":
            image = cv2.GaussianBlur(image, (0, 0), float(3.2 * strength * unit * rng.uniform(0.8, 1.2)))
        elif kind == "shake":
            image = line_blur(image, 19 * strength * unit, angle + float(rng.normal(0, 0.15)))
        gain = 1 + self.flicker * float(rng.normal())
        if kind == "flash":
            gain *= 1 + 1.5 * strength
        elif kind == "dark":
            gain *= 0.30 / max(strength, 0.6)
        gamma, tint = self.grade
        ramp = np.linspace(0, 1, 256)[:, None] ** gamma * 255 * gain * tint
        image = cv2.LUT(image, np.clip(ramp, 0, 255).astype(np.uint8)[:, None, :].reshape(1, 256, 3))
        dx, dy = int(rng.integers(48)), int(rng.integers(48))
        swap = int(rng.integers(2))
        more, less = (bank[dy : dy + h, dx : dx + w] for bank in (self.noise[swap], self.noise[1 - swap]))
        image = cv2.subtract(cv2.add(image, more), less)
        quality = int(rng.integers(6, 13)) if kind == "blocks" else self.compression
        if quality:
            ok, packed = cv2.imencode(
                ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
            )
            assert ok
            decoded = cv2.imdecode(packed, cv2.IMREAD_COLOR)
            assert decoded is not None
            image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
        return image


def _shadow_sprite() -> np.ndarray:
    side = 48
    grid = (np.arange(side) + 0.5) / side * 2 - 1
    alpha = np.clip(1 - np.hypot(*np.meshgrid(grid, grid)), 0, 1) ** 0.8 * 150
    sprite = np.zeros((side, side, 4), np.uint8)
    sprite[..., 3] = alpha
    return sprite


def _instance_map(items: list[tuple[Layer, int, BodyView | None]], size: tuple[int, int]) -> np.ndarray:
    out = np.zeros(size, np.uint8)
    for layer, person, body in items:
        solid = body.mask if body is not None else (layer.rgba[..., 3] > 127).astype(np.uint8) * 255
        h, w = solid.shape
        out[layer.y : layer.y + h, layer.x : layer.x + w][solid > 0] = person + 1 if person >= 0 else 255
    return out
