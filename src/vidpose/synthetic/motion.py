"""How bodies move: joint angles over time, and walks through the scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import ANGLE, ANGLES, SIDE_SIGN, SIDES, pose_body, random_body

# name -> (speed in m/s, how often it is drawn); angles are in `_angles`.
MOTIONS: dict[str, tuple[tuple[float, float], float]] = {
    "walk": ((0.9, 1.9), 3.0),
    "run": ((2.6, 4.4), 2.2),
    "walk_wave": ((0.8, 1.4), 0.8),
    "stand": ((0.0, 0.0), 0.5),
    "wave": ((0.0, 0.0), 1.2),
    "jumping_jack": ((0.0, 0.0), 1.3),
    "squat": ((0.0, 0.0), 0.9),
    "dance": ((0.0, 0.3), 2.2),
    "jump": ((0.0, 0.6), 1.0),
    "box": ((0.0, 0.3), 1.1),
    "kick": ((0.0, 0.0), 0.9),
    "throw": ((0.0, 0.2), 0.8),
    "bow": ((0.0, 0.0), 0.6),
    "lunge": ((0.0, 0.0), 0.6),
}


class Motion:
    """One way of moving with its own amplitudes; ``angles(t)`` is a smooth function of time."""

    def __init__(self, kind: str, rng: np.random.Generator) -> None:
        self.kind = kind
        low, high = MOTIONS[kind][0]
        self.speed = float(rng.uniform(low, high))
        self.size = float(rng.uniform(0.8, 1.2))
        self.rate = float(rng.uniform(0.8, 1.25))
        self.phase = float(rng.uniform(0, 2 * np.pi))
        self.side = str(rng.choice(SIDES))
        self.free = rng.uniform(-1, 1, (24, 2))
        self.spin_deg_s = float(rng.uniform(-120, 120)) if kind == "dance" else 0.0
        if kind in ("kick", "throw", "box") and rng.random() < 0.4:
            self.spin_deg_s = float(rng.uniform(-60, 60))

    def angles(self, t: np.ndarray) -> np.ndarray:
        """[K] seconds -> [K, len(ANGLES)]."""
        values: dict[str, float | np.ndarray] = {
            "right_elbow": 12.0,
            "left_elbow": 12.0,
            "right_arm_out": 9.0,
            "left_arm_out": 9.0,
            "right_knee": 4.0,
            "left_knee": 4.0,
            "right_leg_out": 3.0,
            "left_leg_out": 3.0,
        }
        values.update(self._angles(t))
        out = np.zeros((len(t), len(ANGLES)))
        for name, value in values.items():
            out[:, ANGLE[name]] = value
        drift = 2 * np.pi * t[:, None] * (0.25 + 0.35 * np.abs(self.free[:3, 0])) + 3 * self.free[:3, 1]
        out[:, ANGLE["head_yaw"]] += 28 * np.sin(drift[:, 0])
        out[:, ANGLE["head_pitch"]] += 7 * np.sin(drift[:, 1]) + 3
        out[:, ANGLE["head_roll"]] += 5 * np.sin(drift[:, 2])
        return out

    def _wave(self, t: np.ndarray, hertz: float, shift: float = 0.0) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * self.rate * t + self.phase + shift)

    def _angles(self, t: np.ndarray) -> dict[str, np.ndarray]:
        k, o = self.size, "left" if self.side == "right" else "right"
        if self.kind in ("walk", "walk_wave", "run"):
            out = self._gait(t)
            if self.kind == "walk_wave":
                out |= self._arm_wave(t, self.side)
            return out
        if self.kind == "stand":
            slow = self._wave(t, 0.4)
            hips = self.free[0, 0] > 0  # hands on the hips, or one arm folded
            fold = {"elbow": 95.0, "arm_out": 42.0, "arm_flex": -12.0, "arm_twist": -55.0} if hips else {}
            out = {f"{s}_{name}": np.full(len(t), v) for s in SIDES for name, v in fold.items()}
            return out | {"bend": 4 * slow, "twist": 10 * self._wave(t, 0.3, 1.0)}
        if self.kind == "wave":
            out = self._arm_wave(t, self.side)
            if self.free[0, 0] > 0.2:
                out |= self._arm_wave(t, o)
            return out | {"bend": 6 * self._wave(t, 0.6), "twist": 8 * self._wave(t, 0.5, 1.0)}
        if self.kind == "jumping_jack":
            open_ = 0.5 - 0.5 * self._wave(t, 1.1)
            hop = 0.12 * np.abs(self._wave(t, 1.1, np.pi / 2)) * k
            out = {"jump": hop}
            for s in SIDES:
                out |= {
                    f"{s}_arm_out": 12 + 150 * open_,
                    f"{s}_leg_out": 3 + 24 * k * open_,
                    f"{s}_elbow": 12 + 25 * self.free[1, 0] ** 2 * open_,
                    f"{s}_knee": 14 * (1 - open_),
                    f"{s}_leg_flex": 6 * (1 - open_),
                    f"{s}_arm_flex": 10 * open_,
                }
            return out
        if self.kind == "squat":
            down = 0.5 - 0.5 * self._wave(t, 0.6)
            out = {"lean": 30 * down * k, "tilt": 8 * down, "head_pitch": -18 * down}
            for s in SIDES:
                out |= {
                    f"{s}_leg_flex": 8 + 82 * down * k,
                    f"{s}_knee": 6 + 100 * down * k,
                    f"{s}_leg_out": 5 + 14 * down,
                    f"{s}_ankle": 14 * down,
                    f"{s}_arm_flex": (20 + 80 * down) * (1 if self.free[0, 0] > 0 else 0.2),
                    f"{s}_elbow": 10 + (0 if self.free[0, 0] > 0 else 90) * down,
                }
            return out
        if self.kind == "dance":
            return self._dance(t)
        if self.kind == "jump":
            cycle = (0.62 * self.rate * t + self.phase / (2 * np.pi)) % 1.0
            crouch = np.exp(-(((cycle - 0.3) / 0.11) ** 2)) + 0.8 * np.exp(-(((cycle - 0.88) / 0.08) ** 2))
            air = np.clip(1 - ((cycle - 0.58) / 0.2) ** 2, 0, None)
            out = {"jump": 0.38 * k * air, "lean": 34 * crouch - 6 * air, "head_pitch": -14 * crouch}
            for s in SIDES:
                out |= {
                    f"{s}_leg_flex": 6 + 58 * crouch + 30 * air * (self.free[0, 0] > 0),
                    f"{s}_knee": 6 + 85 * crouch + 55 * air * (self.free[0, 0] > 0),
                    f"{s}_arm_flex": -45 * crouch + 150 * air,
                    f"{s}_arm_out": 10 + 18 * air,
                    f"{s}_ankle": 16 * crouch - 35 * air,
                    f"{s}_elbow": 25 + 10 * air,
                }
            return out
        if self.kind == "box":
            punch = {
                "right": np.clip(self._wave(t, 1.5), 0, 1) ** 3,
                "left": np.clip(-self._wave(t, 1.5), 0, 1) ** 3,
            }
            out = {
                "twist": 28 * (punch["left"] - punch["right"]),
                "lean": np.full(len(t), 8.0),
                "jump": 0.02 * np.abs(self._wave(t, 2.0)),
            }
            for s in SIDES:
                out |= {
                    f"{s}_arm_flex": 38 + 52 * punch[s],
                    f"{s}_elbow": 118 - 106 * punch[s],
                    f"{s}_arm_out": 14 + 4 * punch[s],
                    f"{s}_arm_twist": np.full(len(t), -18.0),
                    f"{s}_knee": 24 + 8 * self._wave(t, 2.0),
                    f"{s}_leg_out": np.full(len(t), 9.0),
                }
            out["left_leg_flex"] = np.full(len(t), 26.0)
            out["right_leg_flex"] = np.full(len(t), -4.0)
            return out
        if self.kind == "kick":
            go = np.clip(self._wave(t, 0.75), -1, 1)
            up, back = np.clip(go, 0, 1) ** 2, np.clip(-go, 0, 1)
            s = self.side
            return {
                f"{s}_leg_flex": 95 * k * up - 28 * back,
                f"{s}_knee": 12 + 70 * back + 20 * up * (1 - up),
                f"{o}_knee": 12 + 8 * up,
                "lean": -12 * up + 8 * back,
                f"{s}_arm_flex": -40 * up + 25 * back,
                f"{o}_arm_flex": 50 * up - 25 * back,
                f"{s}_arm_out": 20 + 20 * up,
                f"{o}_arm_out": 20 + 25 * up,
                f"{o}_elbow": 30 + 0 * up,
                f"{s}_ankle": -25 * up,
            }
        if self.kind == "throw":
            go = self._wave(t, 0.9)
            wind, release = np.clip(-go, 0, 1), np.clip(go, 0, 1) ** 2
            s = self.side
            sign = SIDE_SIGN[s]
            return {
                f"{s}_arm_out": 70 * wind + 40 * release + 12,
                f"{s}_arm_flex": -20 * wind + 105 * release,
                f"{s}_arm_twist": 85 * wind,
                f"{s}_elbow": 12 + 95 * wind,
                "lean": -8 * wind + 26 * release,
                "twist": sign * (32 * wind - 36 * release),
                f"{o}_arm_flex": 60 * wind - 20 * release,
                f"{o}_leg_flex": 22 + 18 * wind,
                f"{o}_knee": 14 + 22 * wind,
                f"{s}_leg_flex": -18 + 0 * wind,
                f"{s}_knee": 10 + 14 * release,
            }
        if self.kind == "bow":
            down = 0.5 - 0.5 * self._wave(t, 0.5)
            out = {"tilt": 42 * down, "lean": 38 * down * k, "curl": 16 * down, "head_pitch": 10 * down}
            for s in SIDES:
                out |= {
                    f"{s}_leg_flex": 44 * down,
                    f"{s}_knee": 6 + 10 * down,
                    f"{s}_arm_flex": 65 * down,
                    f"{s}_arm_out": 8 + 10 * (1 - down),
                    f"{s}_elbow": 8 + 0 * down,
                }
            return out
        # lunge
        down = 0.5 - 0.5 * self._wave(t, 0.55)
        s = self.side
        out = {
            f"{s}_leg_flex": 20 + 60 * down,
            f"{s}_knee": 10 + 72 * down,
            f"{o}_leg_flex": -10 - 16 * down,
            f"{o}_knee": 14 + 55 * down,
            f"{o}_ankle": 10 + 25 * down,
            "lean": 6 + 8 * down,
            "bend": 14 * self._wave(t, 0.55, 1.0),
        }
        for side in SIDES:
            out |= {
                f"{side}_arm_out": 30 + 110 * down * (self.free[2, 0] > 0),
                f"{side}_elbow": 18 + 40 * down,
            }
        return out

    def _arm_wave(self, t: np.ndarray, side: str) -> dict[str, np.ndarray]:
        swing = self._wave(t, 1.9, 0.0 if side == "right" else 0.9)
        return {
            f"{side}_arm_out": 100 + 22 * self.size + 8 * swing,
            f"{side}_arm_flex": 10 + 0 * t,
            f"{side}_arm_twist": 88 + 0 * t,
            f"{side}_elbow": 55 + 38 * self.size * swing,
            f"{side}_wrist": 14 * swing,
        }

    def _gait(self, t: np.ndarray) -> dict[str, np.ndarray]:
        running = self.kind == "run"
        stride = (1.05 + 0.28 * self.speed) if not running else (1.35 + 0.27 * self.speed)
        phi = 2 * np.pi * self.speed / stride * t + self.phase
        k = self.size * (0.75 + 0.2 * self.speed if not running else 1.0)
        out = {
            "lean": np.full(len(t), 13.0 if running else 4.0),
            "twist": (12 if running else 6) * np.sin(phi),
        }
        out["head_pitch"] = -0.7 * out["lean"]
        if running:
            out["jump"] = 0.07 * np.clip(np.cos(2 * phi + 0.4), 0, 1)
        carry = {"right": 1.0, "left": 1.0}
        if not running and self.free[4, 0] > 0.6:  # a phone at the ear, a bag: one arm stays
            carry[self.side] = 0.0
        for s, shift in (("right", 0.0), ("left", np.pi)):
            swing = np.sin(phi + shift)
            lift = np.clip(np.cos(phi + shift + (0.55 if running else 0.3)), 0, 1)
            if running:
                out |= {
                    f"{s}_leg_flex": 16 + 44 * k * swing,
                    f"{s}_knee": 16 + 88 * k * lift,
                    f"{s}_ankle": 10 - 24 * np.clip(-swing, 0, 1),
                    f"{s}_arm_flex": 4 - 46 * k * swing,
                    f"{s}_elbow": 92 - 16 * swing,
                    f"{s}_arm_out": 14 + 0 * t,
                    f"{s}_arm_twist": -14 + 0 * t,
                }
            else:
                out |= {
                    f"{s}_leg_flex": 4 + 27 * k * swing,
                    f"{s}_knee": 6 + 56 * lift**1.5,
                    f"{s}_ankle": 4 - 16 * np.clip(-swing, 0, 1) ** 2,
                }
                if carry[s]:
                    out |= {f"{s}_arm_flex": -25 * k * swing, f"{s}_elbow": 16 - 10 * swing}
                else:
                    out |= {
                        f"{s}_arm_flex": 38 + 0 * t,
                        f"{s}_elbow": 118 + 8 * self.free[5, 0] + 0 * t,
                        f"{s}_arm_out": 16 + 0 * t,
                        f"{s}_arm_twist": -20 + 0 * t,
                    }
        return out

    def _dance(self, t: np.ndarray) -> dict[str, np.ndarray]:
        """Random harmonics of one beat for every joint: never the same dance twice."""
        f, beat = self.free, 0.8

        def groove(row: int, centre: float, spread: float) -> np.ndarray:
            double = 0.45 * self._wave(t, 2 * beat, 5 * f[row, 1])
            return centre + spread * (0.75 * self._wave(t, beat, 3 * f[row, 0]) + double)

        out = {
            "bend": groove(0, 0, 15),
            "twist": groove(1, 0, 26),
            "lean": groove(2, 5, 10),
            "jump": 0.05 * np.clip(self._wave(t, 2 * beat), 0, 1),
        }
        for row, s in ((3, "right"), (13, "left")):
            out |= {
                f"{s}_arm_out": groove(row, 65 + 40 * f[row, 0], 55),
                f"{s}_arm_flex": groove(row + 1, 20, 35),
                f"{s}_arm_twist": groove(row + 2, 35, 50),
                f"{s}_elbow": groove(row + 3, 68, 50),
                f"{s}_leg_flex": groove(row + 4, 18, 24),
                f"{s}_knee": groove(row + 5, 34, 26),
                f"{s}_leg_out": groove(row + 6, 11, 9),
                f"{s}_leg_twist": groove(row + 7, 6, 14),
            }
        return out


@dataclass
class _Segment:
    start: float
    end: float
    motion: Motion
    times: np.ndarray
    x: np.ndarray
    z: np.ndarray
    heading: np.ndarray


class Actor:
    """A body that walks, stops and turns through the scene; answers for any time in increasing order."""

    FACES_CAMERA = 0.65
    BLEND_S = 0.3
    STEP_S = 0.02

    def __init__(
        self, rng: np.random.Generator, lane_m: float, half_view: float, liveliness: float = 1.0
    ) -> None:
        """``lane_m`` is the distance it prefers, ``half_view`` = half width of the picture / focal length."""
        self.rng = rng
        self.body = random_body(rng)
        self.lane = lane_m
        self.half_view = half_view
        weights = np.array([weight for _, weight in MOTIONS.values()])
        weights[[i for i, name in enumerate(MOTIONS) if name == "stand"]] /= max(liveliness, 0.1)
        self._weights = weights / weights.sum()
        inside = rng.random() < 0.8
        spread = lane_m * half_view
        x = rng.uniform(-0.85, 0.85) * spread if inside else rng.choice([-1, 1]) * (spread + 0.5)
        self._next = (0.0, float(x), lane_m, self._standing_heading(float(rng.uniform(0, 360))))
        self._first = None if inside else str(rng.choice(["walk", "run"]))
        self.segments: list[_Segment] = []

    def _standing_heading(self, otherwise: float) -> float:
        """Degrees. As in most footage, who stands mostly faces the camera: without this, left and right could
        only be told by face and side together, which small networks take very long to find."""
        if self.rng.random() < self.FACES_CAMERA:
            return 180.0 + 35.0 * float(self.rng.standard_normal())
        return otherwise

    def _extend(self) -> None:
        rng = self.rng
        start, x, z, heading = self._next
        kind = self._first or str(rng.choice(list(MOTIONS), p=self._weights))
        self._first = None
        away = abs(x) > 1.02 * z * self.half_view
        if away:
            kind = "run" if rng.random() < 0.4 else "walk"
        motion = Motion(kind, rng)
        length = float(rng.uniform(1.2, 3.2))
        limit = self.lane * self.half_view
        if motion.speed > 0.5:
            leave = 1.5 if rng.random() < 0.15 else 0.8
            target_x = rng.uniform(-1, 1) * limit * (0.6 if away else leave)
            target_z = self.lane * (1 + 0.16 * rng.uniform(-1, 1))
            dx, dz = target_x - x, target_z - z
            distance = float(np.hypot(dx, dz))
            target = float(np.rad2deg(np.arctan2(dx, dz)))
            length = float(np.clip(distance / motion.speed, 0.7, 3.5))
        else:
            target = self._standing_heading(heading + float(rng.uniform(-100, 100)))
        turn = (target - heading + 180) % 360 - 180
        times = np.arange(0.0, length + self.STEP_S, self.STEP_S)
        ease = np.clip(times / 0.55, 0, 1)
        headings = heading + turn * ease * ease * (3 - 2 * ease) + motion.spin_deg_s * times
        speed = motion.speed * np.clip(times / 0.25, 0.3, 1)
        xs = x + np.concatenate([[0], np.cumsum(speed * np.sin(np.deg2rad(headings)) * self.STEP_S)[:-1]])
        zs = z + np.concatenate([[0], np.cumsum(speed * np.cos(np.deg2rad(headings)) * self.STEP_S)[:-1]])
        zs = np.clip(zs, 0.8 * self.lane, 1.25 * self.lane)
        self.segments.append(_Segment(start, start + length, motion, start + times, xs, zs, headings))
        end = np.array([np.interp(start + length, start + times, v) for v in (xs, zs, headings)])
        self._next = (start + length, float(end[0]), float(end[1]), float(end[2]) % 360.0)

    def _prepare(self, until: float) -> None:
        while self._next[0] <= until:
            self._extend()

    def pose(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[K] increasing seconds -> points [K, P, 3] and frames [K, F, 3, 3] in the world."""
        self._prepare(float(times[-1]) + 0.1)
        while len(self.segments) > 2 and self.segments[1].end < times[0] - 1.0:
            self.segments.pop(0)
        times = np.maximum(times, self.segments[0].start)
        angles = np.zeros((len(times), len(ANGLES)))
        position = np.zeros((len(times), 2))
        heading = np.zeros(len(times))
        for i, segment in enumerate(self.segments):
            mine = (times >= segment.start) & (times < segment.end)
            if not mine.any():
                continue
            t = times[mine]
            value = segment.motion.angles(t)
            if i and (t[0] - segment.start) < self.BLEND_S:
                weight = np.clip((t - segment.start) / self.BLEND_S, 0, 1)[:, None]
                weight = weight * weight * (3 - 2 * weight)
                value = weight * value + (1 - weight) * self.segments[i - 1].motion.angles(t)
            angles[mine] = value
            position[mine, 0] = np.interp(t, segment.times, segment.x)
            position[mine, 1] = np.interp(t, segment.times, segment.z)
            heading[mine] = np.interp(t, segment.times, segment.heading)
        return pose_body(self.body, angles, position, heading)
