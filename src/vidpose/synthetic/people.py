"""What people look like: bodies dressed at random, as lists of textured parts.

A part is one or more convex outlines (the hulls of circles along a bone, or of rings around the trunk) filled
with a texture that is wrapped around the bone. `paint.py` draws them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .body import FRAME, POINT, SIDES, Body
from .textures import CLOTHS, HAIRS, SKINS, Cloth, head_texture, pick, put_logo, skin_texture

JOINT_POINTS: tuple[int, ...] = tuple(
    POINT[name]
    for name in ("nose", "head_bottom", "head_top")
    + tuple(
        f"{s}_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for s in ("left", "right")
    )
)
"""Body points that are the joints of ``skeletons.POSETRACK15``, in its order."""

_JOINT = {point: j for j, point in enumerate(JOINT_POINTS)}
_AROUND = 96
_ALONG = 48


@dataclass
class Part:
    """One piece of a body. Its points are numbers of ``body.POINTS`` or, beyond, of ``Looks.head_points``."""

    name: str
    texture: np.ndarray
    """[rows along the bone, columns around it, 3]; column 0 is the front; columns go to the body's right."""
    frame: int
    """Bone frame that turns the texture (``body.FRAMES``)."""
    stations: list[tuple[int, int, float, float]] = field(default_factory=list)
    """(point a, point b, fraction from a to b, radius in metres): neighbours are joined by their hull."""
    rings: list[tuple[int, int, float, int, float, float, float]] = field(default_factory=list)
    """(point a, point b, fraction, frame, half width, half depth, forward offset): ellipses."""
    bias: float = 0.0
    """Added to the distance when parts are sorted from far to near."""
    after: str | None = None
    """Drawn right after (over) this part, whatever the distance."""
    joints: tuple[int, ...] = ()
    """Joints (0..14) that this part does not hide."""
    one_hull: bool = False
    """All rings share one outline."""
    hair: bool = False


Add = Callable[..., Part]


class Looks:
    """The parts of one person."""

    def __init__(self, body: Body, rng: np.random.Generator) -> None:
        self.body = body
        self.skin = pick(rng, SKINS, 7)
        self.hair = pick(rng, HAIRS, 8)
        self.parts: list[Part] = []
        self.head_points: list[tuple[float, float, float]] = []
        """Places on the head: (right, down, front) in half head heights from its centre."""
        self._build(rng)

    def _build(self, rng: np.random.Generator) -> None:
        b, g = self.body, self.body.girth
        top, bottom = Cloth(rng), Cloth(rng, ("plain", "plain", "plain", "stripes", "checks", "camo"))
        if rng.random() < 0.3:
            bottom.first = pick(rng, CLOTHS[[0, 4, 5, 1]], 8)
        lower = str(rng.choice(["trousers", "shorts", "skirt"] if b.female else ["trousers", "shorts"]))
        if lower == "trousers" and rng.random() < 0.2:
            lower = "shorts"
        sleeve = float(rng.choice([0.0, 0.45, 0.6, 2.0, 2.0]))
        if lower == "skirt" and rng.random() < 0.5:
            bottom = top  # a dress
        loose = float(rng.uniform(1.0, 1.25))
        shoe = pick(rng, CLOTHS, 10)
        shorts_length = float(rng.choice([0.5, 0.7, 0.95]))
        socks = rng.random() < 0.5
        gloves = rng.random() < 0.06
        long_hair = b.female and rng.random() < 0.75
        styles = (
            ["long", "bob", "ponytail", "bun"]
            if long_hair
            else ["short", "short", "short", "bald", "cap", "beanie"]
        )
        self.style = str(rng.choice(styles))

        def skin() -> np.ndarray:
            return skin_texture(self.skin, (_ALONG, _AROUND), rng)

        def cloth(kind: Cloth, length: float, around: float, part: int) -> np.ndarray:
            return kind.texture(length, around, (_ALONG, _AROUND), part)

        def add(name: str, texture: np.ndarray, frame: str, **kw) -> Part:
            part = Part(name, texture, FRAME[frame], **kw)
            self.parts.append(part)
            return part

        p = POINT
        waist_w, chest_w = (0.118, 0.142) if b.female else (0.135, 0.162)
        hip_w = 0.170 if b.female else 0.158
        chest_d = 0.112 if not b.female else 0.108
        hem = float(rng.choice([-0.04, 0.04, 0.12]))
        shirt = top.texture(b.spine, 0.9 * g, (_ALONG * 2, _AROUND * 2), 0)
        ink = np.clip(255 - top.first, 0, 255)
        if rng.random() < 0.6:
            front = np.roll(shirt, _AROUND, axis=1)  # straight ahead is column 0: bring it to the middle
            put_logo(front, rng, slice(_AROUND - 24, _AROUND + 24), slice(30, 62), ink)
            shirt = np.ascontiguousarray(np.roll(front, -_AROUND, axis=1))
        if rng.random() < 0.35:
            put_logo(shirt, rng, slice(_AROUND - 28, _AROUND + 28), slice(24, 64), ink)
        if rng.random() < 0.35:  # an open jacket: another colour and a line down the front
            inner = pick(rng, CLOTHS).astype(np.uint8)
            for columns in (slice(0, 11), slice(-11, None)):
                shirt[:, columns] = inner
        shirt[: 7 if rng.random() < 0.5 else 3] = (0.75 * ink + 0.25 * top.first).astype(np.uint8)
        collar = int(rng.integers(6, 16))
        for row in range(collar):  # a round neckline in front
            half = int(11 * np.sqrt(1 - (row / collar) ** 2)) + 1
            shirt[row, :half] = shirt[row, -half:] = self.skin.astype(np.uint8)
        w, sh = loose * 0.5 + 0.5, b.shoulder_half
        nb, pel = p["neck_base"], p["pelvis"]
        chest, pelvis = FRAME["chest"], FRAME["pelvis"]
        torso_joints = (1, 3, 4, 9, 10)
        add(
            "shirt",
            shirt,
            "chest",
            bias=-0.03,
            joints=torso_joints,
            rings=[
                (nb, pel, -0.05, chest, 0.062 * g, 0.058 * g, 0.0),
                (nb, pel, 0.02, chest, 0.52 * sh, 0.070 * g, -0.005),
                (nb, pel, 0.10, chest, 1.02 * sh, 0.078 * g, 0.0),
                (p["neck_base"], p["chest"], 1.35, chest, chest_w * g * w, chest_d * g * w, 0.012),
                (p["waist"], p["pelvis"], 0.05, chest, waist_w * g * w, 0.088 * g * w, 0.01),
                (p["waist"], p["pelvis"], 0.75, pelvis, (hip_w * g + 0.006) * w, 0.112 * g * w, 0.0),
                (
                    p["waist"],
                    p["pelvis"],
                    1.0 + hem / (0.38 * b.spine),
                    pelvis,
                    (hip_w * g + 0.008) * w,
                    0.112 * g * w,
                    0.0,
                ),
            ],
        )
        seat = cloth(bottom, 0.3, 0.9, 1)
        add(
            "seat",
            seat,
            "pelvis",
            bias=0.20,
            joints=torso_joints,
            rings=[
                (p["waist"], p["pelvis"], 0.45, pelvis, (waist_w + 0.02) * g, 0.095 * g, 0.0),
                (p["waist"], p["pelvis"], 0.95, pelvis, hip_w * g, 0.115 * g, 0.0),
                (p["waist"], p["pelvis"], 1.45, pelvis, 0.13 * g, 0.085 * g, 0.0),
            ],
        )
        add(
            "neck",
            skin(),
            "chest",
            bias=0.0,
            joints=(1,),
            stations=[
                (p["head_bottom"], nb, -0.25, 0.055 * g**0.5 * b.head / 0.118),
                (p["head_bottom"], nb, 1.15, 0.064 * g**0.5 * b.head / 0.118),
            ],
        )
        add(
            "head",
            head_texture(rng, self.skin, self.hair, self.style, b.female),
            "head",
            bias=-0.03,
            joints=(1, 2),
        )
        for i, side in enumerate(SIDES):
            self._limbs(
                add,
                skin,
                cloth,
                side,
                i,
                top,
                bottom,
                lower,
                sleeve,
                loose,
                shorts_length,
                shoe,
                socks,
                gloves,
            )
        if lower == "skirt":
            part = add(
                "skirt",
                cloth(bottom, 0.4, 1.2, 3),
                "pelvis",
                after="thighs",
                one_hull=True,
                joints=(*torso_joints, 11, 12),
            )
            part.rings = [(p["waist"], p["pelvis"], 0.55, pelvis, (waist_w + 0.022) * g, 0.1 * g, 0.0)]
            length = float(rng.uniform(0.5, 0.95))
            for s in SIDES:
                thigh = FRAME[f"{s}_thigh"]
                part.rings.append((p[f"{s}_hip"], p[f"{s}_knee"], 0.1, pelvis, 0.1 * g, 0.125 * g, 0.0))
                part.rings.append((p[f"{s}_hip"], p[f"{s}_knee"], length, thigh, 0.13 * g, 0.15 * g, 0.0))
        self._on_head(add, rng)

    def _limbs(
        self,
        add: Add,
        skin: Callable[[], np.ndarray],
        cloth: Callable[..., np.ndarray],
        side: str,
        index: int,
        top: Cloth,
        bottom: Cloth,
        lower: str,
        sleeve: float,
        loose: float,
        shorts: float,
        shoe: np.ndarray,
        socks: bool,
        gloves: bool,
    ) -> None:
        p, g, b = POINT, self.body.girth, self.body
        at = {
            n: p[f"{side}_{n}"]
            for n in (
                "shoulder",
                "elbow",
                "wrist",
                "knuckle",
                "fingertip",
                "hip",
                "knee",
                "ankle",
                "heel",
                "ball",
                "toe",
            )
        }
        j = {n: _JOINT[at[n]] for n in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")}
        s, e, w, h, k, a = (at[n] for n in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
        long = sleeve > 1
        arm = cloth(top, b.upper_arm, 0.35, 10 + index) if long else skin()
        r = 0.010 * loose if long else 0.0
        add(
            f"{side}_upper_arm",
            arm,
            f"{side}_upper_arm",
            joints=(j["shoulder"], j["elbow"]),
            bias=-0.01,
            stations=[(s, e, 0.0, 0.048 * g + r), (s, e, 0.35, 0.048 * g + r), (s, e, 1.0, 0.039 * g + r)],
        )
        fore = cloth(top, b.forearm, 0.3, 12 + index) if long else skin()
        add(
            f"{side}_forearm",
            fore,
            f"{side}_forearm",
            joints=(j["elbow"], j["wrist"]),
            bias=-0.02,
            stations=[(e, w, 0.0, 0.039 * g + r), (e, w, 0.28, 0.041 * g + r), (e, w, 0.97, 0.026 * g + r)],
        )
        if 0 < sleeve < 1:
            add(
                f"{side}_sleeve",
                cloth(top, 0.15, 0.35, 14 + index),
                f"{side}_upper_arm",
                after=f"{side}_upper_arm",
                joints=(j["shoulder"], j["elbow"]),
                stations=[(s, e, 0.0, 0.054 * g), (s, e, sleeve, 0.053 * g * loose + 0.004)],
            )
        hand = (
            skin_texture(np.array([40.0, 40, 46]), (_ALONG, _AROUND), np.random.default_rng(0))
            if gloves
            else skin()
        )
        size = b.hand / 0.17
        add(
            f"{side}_hand",
            hand,
            f"{side}_forearm",
            joints=(j["wrist"],),
            bias=-0.022,
            stations=[
                (w, at["knuckle"], -0.05, 0.026 * g**0.5 * size),
                (w, at["knuckle"], 0.9, 0.041 * size),
                (at["knuckle"], at["fingertip"], 1.0, 0.022 * size),
            ],
        )
        trousers = lower == "trousers"
        r = 0.012 * loose if trousers else 0.0
        leg = cloth(bottom, b.thigh, 0.5, 20 + index) if trousers else skin()
        add(
            f"{side}_thigh",
            leg,
            f"{side}_thigh",
            joints=(j["hip"], j["knee"]),
            bias=0.09,
            stations=[(h, k, 0.0, 0.085 * g + r), (h, k, 0.3, 0.079 * g + r), (h, k, 1.0, 0.054 * g + r)],
        )
        calf = cloth(bottom, b.shank, 0.4, 22 + index) if trousers else skin()
        if socks and not trousers:
            calf[_ALONG * 3 // 5 :] = np.clip(235 - calf[_ALONG * 3 // 5 :] // 12, 0, 255)
        flare = 0.010 * (loose - 1) * 4 if trousers else 0.0
        add(
            f"{side}_shank",
            calf,
            f"{side}_shank",
            joints=(j["knee"], j["ankle"]),
            bias=0.005,
            stations=[
                (k, a, 0.0, 0.053 * g + r),
                (k, a, 0.3, 0.057 * g + r),
                (k, a, 0.98, 0.036 * g + r + flare),
            ],
        )
        if lower == "shorts":
            add(
                f"{side}_short",
                cloth(bottom, 0.3, 0.5, 24 + index),
                f"{side}_thigh",
                after=f"{side}_thigh",
                joints=(j["hip"], j["knee"]),
                stations=[
                    (h, k, 0.0, 0.092 * g),
                    (h, k, 0.5 * shorts, 0.088 * g),
                    (h, k, shorts, 0.068 * g * loose + 0.014),
                ],
            )
        boot = skin_texture(shoe, (_ALONG, _AROUND), np.random.default_rng(index))
        boot[:, :10] = boot[:, -10:] = np.clip(300 - shoe, 0, 255).astype(np.uint8)
        f = b.foot / 0.2
        add(
            f"{side}_foot",
            boot,
            f"{side}_foot",
            joints=(j["ankle"],),
            bias=-0.012,
            stations=[
                (at["heel"], at["ball"], 0.1, 0.043 * f),
                (at["heel"], at["ball"], 0.45, 0.047 * f),
                (at["ball"], at["toe"], 0.0, 0.039 * f),
                (at["ball"], at["toe"], 1.0, 0.030 * f),
            ],
        )

    def _on_head(self, add: Add, rng: np.random.Generator) -> None:
        """Hair with volume, the nose, and a cap's brim: shapes fixed to the head."""
        h = self.body.head

        def point(right: float, down: float, front: float) -> int:
            self.head_points.append((right, down, front))
            return len(POINT) + len(self.head_points) - 1

        shade = skin_texture(self.hair, (_ALONG, _AROUND), rng)
        strands = 1 + 0.2 * np.sin(np.linspace(0, 60, _AROUND))[None, :, None] * rng.uniform(0.4, 1)
        shade = np.clip(shade * strands, 0, 255).astype(np.uint8)
        cap = [(-0.28, -0.22, 0.80), (0.05, -0.25, 0.74)]
        chains: dict[str, list[list[tuple[float, float, float]]]] = {
            "bald": [],
            "beanie": [],
            "cap": [],
            "short": [cap],
            "bob": [[(-0.2, -0.2, 0.86), (0.35, -0.35, 0.80), (0.95, -0.30, 0.62)]],
            "long": [[(-0.2, -0.2, 0.86), (0.5, -0.38, 0.80), (1.5, -0.62, 0.60), (2.5, -0.72, 0.34)]],
            "ponytail": [cap, [(-0.45, -0.85, 0.28), (0.3, -1.2, 0.30), (1.5, -1.15, 0.12)]],
            "bun": [cap, [(-0.75, -0.75, 0.38), (-0.8, -0.8, 0.36)]],
        }
        for i, chain in enumerate(chains[self.style]):  # (down, front, radius)
            places = [point(0.0, down, front) for down, front, _ in chain]
            add(
                f"hair{i}",
                shade,
                "head",
                joints=(2,),
                hair=True,
                stations=[(q, q, 0.0, c[2] * h) for q, c in zip(places, chain, strict=True)],
            )
        bridge, tip = point(0, 0.0, 0.84), point(0, 0.20, 0.97)
        nose = np.clip(self.skin * 1.04, 0, 255)
        add(
            "nose",
            skin_texture(nose, (_ALONG, _AROUND), rng),
            "head",
            joints=(0, 1, 2),
            stations=[(bridge, bridge, 0.0, 0.05 * h), (tip, tip, 0.0, 0.105 * h)],
        )
        if self.style == "cap":
            back, front = point(0, -0.44, 0.45), point(0, -0.36, 1.1)
            add(
                "brim",
                skin_texture(pick(rng, CLOTHS), (_ALONG, _AROUND), rng),
                "head",
                joints=(2,),
                rings=[
                    (back, back, 0.0, FRAME["head"], 0.62 * h, 0.30 * h, 0.0),
                    (front, front, 0.0, FRAME["head"], 0.46 * h, 0.34 * h, 0.0),
                ],
            )
