"""Bodies: bone lengths, named points and frames, and forward kinematics.

World axes are a camera's: x right, y down, z away from the viewer; the ground is y = 0, lengths are metres.
A body's own axes are x to its right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDES = ("right", "left")
SIDE_SIGN = {"right": 1.0, "left": -1.0}

_CENTRE_POINTS = ("pelvis", "waist", "chest", "neck_base", "head_bottom", "head_centre", "head_top", "nose")
_SIDE_POINTS = (
    "shoulder", "elbow", "wrist", "knuckle", "fingertip", "hip", "knee", "ankle", "heel", "ball", "toe",
)  # fmt: skip
POINTS: tuple[str, ...] = _CENTRE_POINTS + tuple(f"{s}_{p}" for s in SIDES for p in _SIDE_POINTS)
POINT = {name: i for i, name in enumerate(POINTS)}

_SIDE_FRAMES = ("upper_arm", "forearm", "thigh", "shank", "foot")
FRAMES: tuple[str, ...] = ("pelvis", "chest", "head") + tuple(f"{s}_{f}" for s in SIDES for f in _SIDE_FRAMES)
FRAME = {name: i for i, name in enumerate(FRAMES)}

_CENTRE_ANGLES = ("lean", "bend", "twist", "curl", "head_pitch", "head_yaw", "head_roll", "jump", "tilt")
_SIDE_ANGLES = (
    "arm_flex", "arm_out", "arm_twist", "elbow", "wrist", "leg_flex", "leg_out", "leg_twist", "knee", "ankle",
)  # fmt: skip
ANGLES: tuple[str, ...] = _CENTRE_ANGLES + tuple(f"{s}_{a}" for s in SIDES for a in _SIDE_ANGLES)
ANGLE = {name: i for i, name in enumerate(ANGLES)}
"""Degrees, except ``jump``: metres above the ground."""


@dataclass(frozen=True)
class Body:
    """Bone lengths in metres."""

    thigh: float
    shank: float
    sole: float
    spine: float
    shoulder_half: float
    hip_half: float
    upper_arm: float
    forearm: float
    hand: float
    neck: float
    head: float
    """Half the height of the head."""
    foot: float
    girth: float
    """Thickness of limbs and trunk relative to an average adult."""
    female: bool

    @property
    def height(self) -> float:
        return self.sole + self.shank + self.thigh + self.spine + self.neck + 2 * self.head


def random_body(rng: np.random.Generator) -> Body:
    """An adult, now and then a child."""
    female = bool(rng.random() < 0.5)
    child = rng.random() < 0.12
    stature = rng.normal(0.95 if female else 1.02, 0.04) * (rng.uniform(0.68, 0.85) if child else 1.0)
    stature = float(np.clip(stature, 0.62, 1.14))
    head = 0.118 * (1.0 if child else (0.4 + 0.6 * stature)) * rng.uniform(0.96, 1.05)
    legs = stature * rng.uniform(0.96, 1.04)
    arms = stature * rng.uniform(0.96, 1.04)
    return Body(
        thigh=0.43 * legs,
        shank=0.42 * legs,
        sole=0.075 * stature,
        spine=0.50 * stature * rng.uniform(0.97, 1.03),
        shoulder_half=(0.158 if female else 0.183) * stature * rng.uniform(0.94, 1.08),
        hip_half=(0.094 if female else 0.088) * stature,
        upper_arm=0.29 * arms,
        forearm=0.255 * arms,
        hand=0.17 * arms,
        neck=0.085 * stature,
        head=float(head),
        foot=0.20 * stature,
        girth=float(stature * np.clip(rng.lognormal(0.0, 0.13), 0.8, 1.4)),
        female=female,
    )


def _rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
    """[K] angles -> [K, 3, 3] rotations about a coordinate axis."""
    radians = np.deg2rad(degrees)
    c, s = np.cos(radians), np.sin(radians)
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    out = np.zeros((len(radians), 3, 3))
    out[:, axis, axis] = 1.0
    out[:, i, i] = c
    out[:, j, j] = c
    out[:, i, j] = -s
    out[:, j, i] = s
    return out


def pose_body(
    body: Body, angles: np.ndarray, position: np.ndarray, heading_deg: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Forward kinematics.

    Args:
        angles: [K, len(ANGLES)].
        position: [K, 2] x and z on the ground.
        heading_deg: [K], 0 faces away from the viewer, 90 faces right.

    Returns:
        points [K, len(POINTS), 3] and frames [K, len(FRAMES), 3, 3] (columns: right, along the bone, front).
    """
    count = len(angles)
    a = {name: angles[:, i] for name, i in ANGLE.items()}
    points = np.zeros((count, len(POINTS), 3))
    frames = np.zeros((count, len(FRAMES), 3, 3))

    def put(name: str, value: np.ndarray) -> None:
        points[:, POINT[name]] = value

    def bone(start: str, end: str, rotation: np.ndarray, vector: tuple[float, float, float]) -> None:
        put(end, points[:, POINT[start]] + rotation @ np.array(vector))

    pelvis = _rotation(1, heading_deg) @ _rotation(0, -a["tilt"])
    lower = pelvis @ _rotation(2, a["bend"] * 0.5) @ _rotation(0, -a["lean"])
    chest = lower @ _rotation(1, a["twist"]) @ _rotation(2, a["bend"] * 0.5) @ _rotation(0, -a["curl"])
    head = chest @ _rotation(1, a["head_yaw"]) @ _rotation(2, a["head_roll"]) @ _rotation(0, -a["head_pitch"])
    neck = chest @ _rotation(0, -0.4 * a["head_pitch"] - 6.0)
    frames[:, FRAME["pelvis"]], frames[:, FRAME["chest"]], frames[:, FRAME["head"]] = pelvis, chest, head

    bone("pelvis", "waist", lower, (0, -0.38 * body.spine, 0))
    bone("waist", "chest", chest, (0, -0.34 * body.spine, 0.0))
    bone("chest", "neck_base", chest, (0, -0.28 * body.spine, 0))
    bone("neck_base", "head_bottom", neck, (0, -body.neck, 0))
    bone("head_bottom", "head_centre", head, (0, -0.97 * body.head, 0.16 * body.head))
    bone("head_centre", "head_top", head, (0, -body.head, -0.05 * body.head))
    bone("head_centre", "nose", head, (0, 0.13 * body.head, 0.90 * body.head))
    for side in SIDES:
        s = SIDE_SIGN[side]
        lift = np.clip(a[f"{side}_arm_out"] - 40.0, 0.0, 130.0) + np.clip(
            np.abs(a[f"{side}_arm_flex"]) - 60.0, 0.0, 110.0
        )
        raise_m = 0.055 * body.spine * 2 * np.clip(lift / 110.0, 0.0, 1.0)
        offset = np.stack(
            [
                np.full(count, s * body.shoulder_half) - s * 0.25 * raise_m,
                0.095 * body.spine - raise_m,
                np.zeros(count),
            ],
            axis=1,
        )
        put(f"{side}_shoulder", points[:, POINT["neck_base"]] + np.einsum("kij,kj->ki", chest, offset))
        upper = (
            chest
            @ _rotation(2, -s * a[f"{side}_arm_out"])
            @ _rotation(0, a[f"{side}_arm_flex"])
            @ _rotation(1, s * a[f"{side}_arm_twist"])
        )
        lower_arm = upper @ _rotation(0, a[f"{side}_elbow"])
        hand = lower_arm @ _rotation(0, a[f"{side}_wrist"])
        bone(f"{side}_shoulder", f"{side}_elbow", upper, (0, body.upper_arm, 0))
        bone(f"{side}_elbow", f"{side}_wrist", lower_arm, (0, body.forearm, 0))
        bone(f"{side}_wrist", f"{side}_knuckle", hand, (0, 0.5 * body.hand, 0.004))
        bone(f"{side}_wrist", f"{side}_fingertip", hand, (0, 0.95 * body.hand, 0.012))
        bone("pelvis", f"{side}_hip", pelvis, (s * body.hip_half, 0.0, 0))
        thigh = (
            pelvis
            @ _rotation(2, -s * a[f"{side}_leg_out"])
            @ _rotation(0, a[f"{side}_leg_flex"])
            @ _rotation(1, s * (a[f"{side}_leg_twist"] + 6.0))
        )
        shank = thigh @ _rotation(0, -a[f"{side}_knee"])
        foot = shank @ _rotation(0, a[f"{side}_ankle"])
        bone(f"{side}_hip", f"{side}_knee", thigh, (0, body.thigh, 0))
        bone(f"{side}_knee", f"{side}_ankle", shank, (0, body.shank, 0))
        bone(f"{side}_ankle", f"{side}_heel", foot, (0, 0.45 * body.sole, -0.12 * body.foot))
        bone(f"{side}_ankle", f"{side}_ball", foot, (0, 0.5 * body.sole, 0.52 * body.foot))
        bone(f"{side}_ankle", f"{side}_toe", foot, (0, 0.62 * body.sole, 0.84 * body.foot))
        for name, frame in zip(_SIDE_FRAMES, (upper, lower_arm, thigh, shank, foot), strict=True):
            frames[:, FRAME[f"{side}_{name}"]] = frame
    feet = [POINT[f"{s}_{p}"] for s in SIDES for p in ("heel", "toe")]
    lowest = points[:, feet, 1].max(axis=1) + 0.5 * body.sole
    points[:, :, 1] -= (lowest + a["jump"])[:, None]
    points[:, :, 0] += position[:, 0, None]
    points[:, :, 2] += position[:, 1, None]
    return points, frames
