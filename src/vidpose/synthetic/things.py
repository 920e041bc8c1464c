"""Things in front of people: poles, boxes, signs and bushes that stand, and what passes or flies by."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .layers import Layer, mean_image
from .scene import View
from .textures import CLOTHS, SKINS, pick

SPRITE = 96


def make_sprite(rng: np.random.Generator, kind: str) -> np.ndarray:
    """[96, 96, 4] uint8 with premultiplied alpha: pole, box, sign, bush, vehicle, ball, hand or leaf."""
    s = SPRITE
    rgb = np.zeros((s, s, 3), np.float32)
    alpha = np.zeros((s, s), np.uint8)
    first, second = pick(rng, CLOTHS, 20), pick(rng, CLOTHS, 20)
    if kind in ("pole", "box", "vehicle"):
        alpha[:] = 255
        rgb[:] = first
        if kind == "pole":
            if rng.random() < 0.4:
                rgb[(np.arange(s) // 12) % 2 == 0] = second
            rgb *= (0.55 + 0.6 * np.sin(np.linspace(0.35, 2.9, s)))[None, :, None]
        else:
            for _ in range(5):
                x, y = rng.integers(0, s - 20, 2)
                cv2.rectangle(
                    rgb,
                    (int(x), int(y)),
                    (int(x + rng.integers(8, 40)), int(y + rng.integers(8, 30))),
                    tuple(float(c) for c in pick(rng, CLOTHS, 25)),
                    -1,
                )
            if kind == "vehicle":
                alpha[:34, :14] = alpha[:34, -14:] = 0
                rgb[8:30, 20:76] = (70, 92, 110)
                cv2.circle(rgb, (22, 88), 12, (20.0, 20.0, 22.0), -1)
                cv2.circle(rgb, (74, 88), 12, (20.0, 20.0, 22.0), -1)
    elif kind == "sign":
        rgb[:] = (130, 132, 136)
        alpha[:, 45:51] = 255
        shape = rng.integers(3)
        if shape == 0:
            cv2.circle(alpha, (48, 28), 27, 255, -1)
            cv2.circle(rgb, (48, 28), 28, tuple(float(c) for c in first), -1)
        elif shape == 1:
            cv2.rectangle(alpha, (6, 4), (90, 50), 255, -1)
            cv2.rectangle(rgb, (5, 3), (91, 51), tuple(float(c) for c in first), -1)
        else:
            triangle = np.array([[48, 2], [92, 56], [4, 56]])
            cv2.fillConvexPoly(alpha, triangle, 255)
            cv2.fillConvexPoly(rgb, triangle, tuple(float(c) for c in first))
        lettered = rgb.astype(np.uint8)  # text needs 8 bits
        cv2.putText(
            lettered,
            str(rng.integers(10, 99)),
            (24, 42),
            cv2.FONT_HERSHEY_DUPLEX,
            1.2,
            tuple(float(c) for c in second),
            2,
            cv2.LINE_AA,
        )
        rgb = lettered.astype(np.float32)
    elif kind in ("bush", "leaf"):
        leaf = np.array([62.0, 104.0, 50.0]) * rng.uniform(0.6, 1.4) if kind == "bush" else first
        for _ in range(70 if kind == "bush" else 9):
            x, y = (int(v) for v in rng.uniform(16, 80, 2))
            radius = int(rng.uniform(6, 15))
            cv2.circle(alpha, (x, y), radius, 255, -1)
            cv2.circle(rgb, (x, y), radius + 1, tuple(float(c) for c in leaf * rng.uniform(0.6, 1.4)), -1)
        if kind == "bush":
            alpha[80:, 12:84] = 255
            rgb[80:] = leaf * 0.7
    elif kind == "ball":
        cv2.circle(alpha, (48, 48), 45, 255, -1)
        rgb[:] = first
        for angle in rng.uniform(0, np.pi, 3):
            dx, dy = int(48 * np.cos(angle)), int(48 * np.sin(angle))
            cv2.line(rgb, (48 - dx, 48 - dy), (48 + dx, 48 + dy), tuple(float(c) for c in second), 7)
        yy, xx = np.mgrid[0:s, 0:s]
        rgb *= (1.15 - 0.55 * np.hypot(xx - 36, yy - 34) / 60)[..., None]
    else:  # a hand with its forearm
        skin = pick(rng, SKINS, 8)
        rgb[:] = skin * 0.9
        cv2.rectangle(alpha, (34, 44), (62, 95), 255, -1)
        cv2.ellipse(alpha, (48, 36), (22, 20), 0, 0, 360, 255, -1)
        for x in (31, 41, 51, 61):
            cv2.line(alpha, (x, 34), (int(48 + (x - 46) * 1.3), 8), 255, 9)
        cv2.line(alpha, (28, 44), (12, 30), 255, 10)
        rgb *= (0.75 + 0.4 * np.sin(np.linspace(0.4, 2.8, s)))[None, :, None]
        rgb[62:] = first
    alpha = cv2.GaussianBlur(alpha, (3, 3), 0)
    rgb += rng.normal(0, 5, (s, s, 1))
    premultiplied = np.clip(rgb, 0, 255) * (alpha[..., None] / 255.0)
    return np.dstack([premultiplied.astype(np.uint8), alpha])


@dataclass
class Thing:
    """A flat object that faces the camera: standing, or flying on a straight line."""

    sprite: np.ndarray
    size_m: tuple[float, float]
    """Width, height."""
    origin: np.ndarray
    """[3] world position of its middle at time 0."""
    velocity: np.ndarray
    """[3] metres per second."""
    spin: float = 0.0
    """Radians per second."""

    def draw(self, view: View, time: float, exposure_s: float, size: tuple[int, int]) -> Layer | None:
        """The layer at a moment, smeared along its way during the exposure; ``None`` out of the picture."""
        place = self.origin + self.velocity * time
        c = view.to_camera(place)
        if c[2] < 0.4:
            return None
        scale = view.focal / c[2]
        x, y = c[:2] * scale + np.array(view.centre)
        ahead = view.project(place + self.velocity * exposure_s) - (x, y)
        w, h = self.size_m[0] * scale, self.size_m[1] * scale
        reach = np.hypot(w, h) / 2 if self.spin else 0.0
        half_w, half_h = max(w / 2, reach) + abs(ahead[0]) / 2 + 1, max(h / 2, reach) + abs(ahead[1]) / 2 + 1
        x1, y1 = max(int(np.floor(x - half_w)), 0), max(int(np.floor(y - half_h)), 0)
        x2, y2 = min(int(np.ceil(x + half_w)) + 1, size[1]), min(int(np.ceil(y + half_h)) + 1, size[0])
        if x2 <= x1 or y2 <= y1:
            return None
        angle = self.spin * time
        cos, sin = np.cos(angle), np.sin(angle)
        m = np.array([[cos * w, -sin * h], [sin * w, cos * h]]) / SPRITE
        travel = float(np.hypot(*ahead))
        steps = int(np.clip(np.ceil(travel / 3.0), 1, 7))
        layers = []
        for i in range(steps):
            shift = ahead * ((i + 0.5) / steps - 0.5)
            corner = np.array([x - x1, y - y1]) + shift - m @ np.full(2, (SPRITE - 1) / 2)
            layers.append(
                cv2.warpAffine(
                    self.sprite, np.column_stack([m, corner]), (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR
                )
            )
        return Layer(x1, y1, mean_image(layers), float(c[2]))


def standing_thing(rng: np.random.Generator, x: float, z: float) -> Thing:
    """A pole, box, sign or bush on the ground."""
    kind = str(rng.choice(["pole", "pole", "box", "sign", "bush"]))
    w, h = {
        "pole": (rng.uniform(0.07, 0.22), 3.6),
        "box": (rng.uniform(0.35, 0.8), rng.uniform(0.3, 0.8)),
        "sign": (rng.uniform(0.4, 0.7), rng.uniform(1.3, 2.1)),
        "bush": (rng.uniform(0.5, 1.1), rng.uniform(0.4, 0.9)),
    }[kind]
    return Thing(make_sprite(rng, kind), (float(w), float(h)), np.array([x, -h / 2, z]), np.zeros(3))


def passing_thing(rng: np.random.Generator, time: float, z: float, half_view: float) -> Thing:
    """Something that crosses the whole picture quickly, close to the camera."""
    kind = str(rng.choice(["pole", "vehicle", "box", "sign"]))
    speed = float(rng.uniform(5, 11)) * float(rng.choice([-1.0, 1.0]))
    w, h = {
        "pole": (rng.uniform(0.08, 0.2), 3.4),
        "vehicle": (rng.uniform(0.7, 1.3), rng.uniform(0.6, 1.0)),
        "box": (rng.uniform(0.25, 0.5), rng.uniform(0.4, 1.0)),
        "sign": (rng.uniform(0.4, 0.6), 1.8),
    }[kind]
    start = -np.sign(speed) * (z * half_view + w)
    return Thing(
        make_sprite(rng, kind),
        (float(w), float(h)),
        np.array([start - speed * time, -h / 2 - (0.4 if kind == "box" else 0.0), z]),
        np.array([speed, 0.0, 0.0]),
    )


def flying_thing(rng: np.random.Generator, time: float, target: np.ndarray) -> Thing:
    """A ball, leaf, hand or box that passes in front of a place on a body at a given time."""
    kind = str(rng.choice(["ball", "leaf", "hand", "hand", "box"]))
    direction = rng.uniform(0, 2 * np.pi)
    speed = rng.uniform(3.0, 7.0)
    velocity = np.array([speed * np.cos(direction), 0.6 * speed * np.sin(direction), 0.0])
    side = float(rng.uniform(0.16, 0.36))
    place = target + np.array([0.0, 0.0, -0.4])
    shape = (side, side * (1.6 if kind == "hand" else 1.0))
    return Thing(
        make_sprite(rng, kind),
        shape,
        place - velocity * time,
        velocity,
        float(rng.uniform(-6, 6)) if kind != "hand" else float(rng.uniform(-2, 2)),
    )
