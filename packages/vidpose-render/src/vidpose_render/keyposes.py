"""Poses that motion capture of walking people lacks, as joint angles: inverted, on the floor, in the air.

# silent: no source; the angles were chosen by hand within a trained person's range and looked at as pictures.
"""

from __future__ import annotations

import numpy as np

from .mocap import Clip
from .rotations import from_rotvec, multiply

ROOT = ("pitch", "roll", "spin")
"""How the whole body lies, degrees: spun about its length, then rolled to its right, then pitched forward."""
SPINE = ("bend", "side", "turn", "nod", "look")
"""Trunk forward, to its right, to its left; head forward, to its left."""
ARM = ("flex", "out", "twist", "elbow")
"""Upper arm forward, after sideways, after turned inward; elbow. 0: the arm hangs, the thumb forward."""
LEG = ("flex", "out", "twist", "knee", "ankle")
"""Thigh forward, after sideways, after turned outward; knee; the toes down."""
ANGLES = (
    *ROOT,
    *SPINE,
    *(f"{s}_arm_{name}" for s in ("left", "right") for name in ARM),
    *(f"{s}_leg_{name}" for s in ("left", "right") for name in LEG),
    "settle",
)
ANGLE = {name: i for i, name in enumerate(ANGLES)}
"""Column of each angle; the last, ``settle``, is no angle: 1 where hands and legs both stand on the floor."""

_LIMITS = {"knee": (0, 155), "elbow": (0, 148), "ankle": (-40, 70), "flex": (-75, 185), "out": (-40, 178)}
LIMITS = np.array(
    [
        (-1e4, 1e4)
        if name in ROOT
        else _LIMITS.get(name.split("_")[-1], (-90, 90))
        if name != "settle"
        else (0, 1)
        for name in ANGLES
    ],
    dtype=float,
)

# name | pitch roll spin | bend side turn nod look | left arm | right arm | left leg | right leg
# `=`: as the left; `f` at the ankle: the sole lies flat; `*` behind the name: hands and legs both stand.
_TABLE = """
stand          |    0 0 0 |       0 0 0 0 0 | 0 8 0 10 | = | 0 3 5 2 f | =
relaxed        |    0 4 0 |     3 -5 5 8 20 | 10 10 20 35 | 0 8 0 15 | 8 5 12 15 f | 0 6 5 0 f
overhead       |    0 0 0 |    -5 0 0 -15 0 | 172 8 0 5 | = | 0 5 5 2 f | =
vee            |    0 0 0 |      0 0 0 -5 0 | 20 140 0 8 | = | 0 20 10 2 f | =
tee            |    0 0 0 |       0 0 0 0 0 | 0 88 0 4 | = | 0 6 5 2 f | =
akimbo         |    0 0 0 |       0 0 0 0 0 | 0 45 75 100 | = | 0 12 12 2 f | =
hands_on_head  |    0 0 0 |       0 0 0 5 0 | 0 120 -80 135 | = | 0 8 8 2 f | =
arms_crossed   |    0 0 0 |       5 0 0 5 0 | 42 0 65 105 | 38 0 60 100 | 0 6 8 2 f | =
phone          |    0 0 0 |    5 5 0 10 -20 | 35 25 -15 142 | 0 8 0 10 | 0 5 8 2 f | 10 8 10 20 f
reach          |    8 0 0 |      10 0 0 0 0 | 95 0 0 5 | = | 18 5 5 14 f | =
wave_high      |    0 0 0 |     0 5 0 -10 0 | 0 150 -40 35 | 0 12 0 15 | 0 6 5 2 f | =
bow            |   40 0 0 |     40 0 0 10 0 | 75 5 0 10 | = | 45 4 5 6 f | =
touch_toes     |   70 0 0 |     55 0 0 10 0 | 128 5 0 5 | = | 72 6 5 4 f | =
side_bend      |    0 0 0 |      0 32 0 0 0 | 0 168 0 15 | 0 40 70 100 | 0 22 5 2 f | =
trunk_turn     |    0 0 0 |     5 0 40 0 30 | 0 80 0 10 | 70 -15 0 30 | 0 15 10 10 f | =
squat          |   25 0 0 |    15 0 0 -20 0 | 88 5 0 5 | = | 105 15 15 110 f | =
deep_squat     |   28 0 0 |    28 0 0 -20 0 | 65 10 0 30 | = | 128 28 25 135 f | =
horse          |    5 0 0 |       5 0 0 0 0 | 60 30 30 90 | = | 55 48 40 75 f | =
lunge          |    5 0 0 |       5 0 0 0 0 | 0 15 0 20 | 30 15 0 60 | 90 4 0 85 f | -35 4 0 22 45
lunge_high     |    0 0 0 |   -10 0 0 -15 0 | 168 8 0 5 | = | 80 4 0 75 f | -45 4 0 12 40
side_lunge     | 10 -10 0 |     15 -5 0 0 0 | 0 90 0 5 | = | 60 60 35 85 f | 8 50 5 0 f
front_kick     |  -10 0 0 |     12 0 10 5 0 | 40 30 20 80 | 10 35 0 50 | 100 5 0 10 25 | -10 5 15 8 f
high_kick      |  -18 0 0 |      10 0 0 5 0 | 0 60 0 10 | 0 70 0 10 | 140 8 0 4 35 | -15 5 15 4 f
side_kick      |   0 30 0 |    0 -18 0 0 30 | 50 25 50 110 | 55 20 40 115 | 15 78 0 4 0 | 0 30 30 8 f
back_kick      |   55 0 0 |    10 0 0 -30 0 | 50 25 40 100 | = | -40 10 0 10 0 | 55 4 5 12 f
arabesque      |   65 0 0 |   -22 0 0 -35 0 | 90 20 0 5 | 0 90 0 5 | -48 5 20 3 50 | 65 4 8 3 f
needle         |   95 0 0 |      25 0 0 0 0 | 130 8 0 5 | = | -65 4 0 3 50 | 95 4 5 3 f
tree           |    0 0 0 |       0 0 0 0 0 | 168 -6 0 25 | = | 50 48 60 128 25 | 0 2 5 2 f
knee_up        |   -5 0 0 |     8 0 -10 0 0 | -40 12 0 85 | 48 8 0 95 | 105 3 0 112 10 | -5 3 5 4 f
heel_hold      |    5 0 0 |       0 0 0 0 0 | -45 12 0 25 | 150 10 0 5 | -18 2 0 138 40 | 5 2 5 2 f
big_toe_hold   |    0 0 0 |       0 0 0 0 0 | 60 60 0 5 | 0 85 0 5 | 70 70 20 2 20 | 0 4 8 2 f
archer         |    0 0 0 |     0 0 10 0 70 | 0 90 0 2 | 20 88 60 140 | 0 15 15 4 f | =
punch          |    5 0 0 |    8 0 -28 0 20 | 90 0 0 4 | 30 12 35 132 | 32 5 0 30 f | -20 10 20 22 f
uppercut       |    5 0 0 |     5 10 30 0 0 | 115 10 0 70 | 30 12 35 132 | 20 8 0 35 f | 15 12 20 40 f
throw          |   -5 0 0 |  -10 0 -30 0 20 | 80 10 0 15 | 0 105 -80 95 | 35 5 0 20 f | -15 8 30 15 f
bat            |   12 0 0 |   20 0 -30 0 50 | 70 -25 30 40 | 60 20 30 90 | 30 15 10 25 f | 25 15 20 28 f
ballet         |    0 0 0 | -5 -8 0 -10 -20 | 60 50 0 35 | 160 10 0 25 | 65 60 40 4 60 | 0 3 40 2 f
sprint         |   15 0 0 |   8 0 -12 -15 0 | -55 12 0 90 | 50 5 0 100 | 85 2 0 100 10 | -25 2 0 10 45
front_split    |   12 0 0 |     0 0 0 -10 0 | 0 88 0 4 | = | 100 0 0 2 45 | -72 0 0 2 50
side_split     |   15 0 0 |    10 0 0 -10 0 | 45 25 0 5 | = | 20 85 0 2 40 | =
chair          |   -5 0 0 |       5 0 0 5 0 | 28 10 10 62 | = | 86 8 5 88 f | =
chair_lean     |   22 0 0 |    30 0 0 -10 0 | 48 12 20 62 | = | 110 15 8 95 f | =
chair_crossed  |   -8 0 0 |      5 0 10 5 0 | 25 8 20 70 | 30 10 10 60 | 95 -12 0 75 20 | 84 4 5 86 f
chair_back     |  -25 0 0 |     10 0 0 20 0 | 10 60 0 60 | 0 110 -70 120 | 66 10 10 40 f | =
long_sit       |  -12 0 0 |       8 0 0 5 0 | -28 15 0 5 | = | 78 5 8 4 10 | =
straddle_sit   |   15 0 0 |      20 0 0 0 0 | 80 30 0 5 | = | 95 50 10 3 10 | =
cross_legged   |   -5 0 0 |      12 0 0 8 0 | 25 12 20 55 | = | 88 38 78 132 30 | =
hug_knees      |  -12 0 0 |     30 0 0 20 0 | 62 2 30 45 | = | 135 5 0 120 10 | =
kneel_sit      |    5 0 0 |       5 0 0 5 0 | 22 8 10 35 | = | 65 8 0 152 55 | =
kneel          |    0 0 0 |       0 0 0 0 0 | 0 10 0 15 | = | 0 8 0 92 55 | =
one_knee       |    5 0 0 |      10 0 0 0 0 | 35 10 10 70 | 0 12 0 20 | 92 5 0 88 f | 2 4 0 92 -20
crawl_left*    |   85 0 0 |     5 0 0 -35 0 | 110 5 0 8 | 62 5 0 12 | 58 5 0 80 50 | 104 5 0 100 50
crawl_right*   |   85 0 0 |     5 0 0 -35 0 | 62 5 0 12 | 110 5 0 8 | 104 5 0 100 50 | 58 5 0 80 50
bear*          |   95 0 0 |     5 0 0 -25 0 | 115 5 0 5 | 80 8 0 10 | 118 6 0 70 10 | 85 6 0 60 10
plank*         |   80 0 0 |     0 0 0 -10 0 | 82 8 0 3 | = | 2 3 0 2 -20 | =
push_up*       |   88 0 0 |     0 0 0 -15 0 | 0 55 -20 105 | = | 0 4 0 2 -20 | =
climber*       |   80 0 0 |     8 0 0 -20 0 | 85 8 0 3 | = | 110 5 0 110 0 | 2 3 0 2 -20
down_dog*      |  125 0 0 |       5 0 0 0 0 | 168 8 0 3 | = | 95 8 0 4 -20 | =
side_plank     |   0 68 0 |      0 -5 0 0 0 | 0 95 0 2 | 0 85 0 2 | 0 4 0 2 0 | =
cobra          |   85 0 0 |   -55 0 0 -30 0 | 48 12 0 30 | = | -5 6 0 2 55 | =
bridge*        |  -95 0 0 |   -60 0 0 -30 0 | 178 8 0 8 | = | -20 12 0 80 20 | =
crab*          |  -75 0 0 |      5 0 0 25 0 | -62 12 0 5 | = | 60 10 5 95 10 | =
supine         |  -90 0 0 |       0 0 0 0 0 | 5 20 0 10 | = | 2 8 15 4 30 | =
spread_eagle   |  -90 0 0 |      0 0 0 0 20 | 0 120 0 15 | 0 95 -60 60 | 5 28 20 8 30 | 25 20 30 45 30
sit_up         |  -45 0 0 |     30 0 0 15 0 | 0 110 -70 130 | = | 75 8 0 95 10 | =
leg_raise      |  -90 0 0 |       0 0 0 0 0 | 5 25 0 5 | = | 85 4 0 4 20 | =
prone          |   90 0 0 |   -3 0 0 -15 50 | 0 100 -85 85 | = | 0 10 10 4 55 | =
superman       |   90 0 0 |   -28 0 0 -25 0 | 165 10 0 5 | = | -18 8 0 5 55 | =
side_lying     |  10 90 0 |      10 5 0 5 0 | 70 5 0 50 | 140 -10 0 80 | 70 -5 0 80 20 | 30 -10 0 50 20
shoulderstand  | -165 0 0 |     30 0 0 45 0 | -40 12 0 90 | = | 10 4 0 2 50 | =
handstand      |  180 0 0 |    -5 0 0 -25 0 | 176 6 0 3 | = | -2 2 0 2 60 | =
hand_split     |  180 0 0 |    -8 0 0 -25 0 | 175 8 0 3 | = | 85 4 0 3 50 | -65 4 0 4 50
hand_straddle  |  178 0 0 |     0 0 0 -20 0 | 172 10 0 3 | = | 15 68 0 3 50 | =
hand_stag      |  185 0 0 |   -12 0 0 -30 0 | 174 8 0 5 | = | 55 5 0 95 40 | -40 5 0 60 40
hand_tuck      |  172 0 0 |    15 0 0 -20 0 | 160 8 0 8 | = | 115 5 0 130 20 | =
headstand      |  178 0 0 |       0 0 0 0 0 | 140 15 10 85 | = | 5 4 0 4 40 | =
kick_up        |  100 0 0 |     0 0 0 -20 0 | 172 8 0 3 | = | -50 4 0 5 50 | 70 4 0 15 10
air_tuck       |    0 0 0 |     30 0 0 15 0 | 70 5 20 60 | = | 122 8 0 138 40 | =
air_pike       |   10 0 0 |      20 0 0 0 0 | 92 5 0 4 | = | 112 4 0 4 50 | =
air_star       |    0 0 0 |    -8 0 0 -10 0 | 0 130 0 4 | = | 0 45 0 4 40 | =
air_straddle   |   15 0 0 |      15 0 0 0 0 | 70 40 0 4 | = | 85 60 0 4 50 | =
air_arch       |    0 0 0 |   -28 0 0 -25 0 | 150 25 0 10 | = | -25 10 0 60 50 | =
air_layout     |    0 0 0 |   -10 0 0 -15 0 | 20 15 0 10 | = | -10 3 0 3 55 | =
split_leap     |    5 0 0 |    -5 0 0 -10 0 | 80 30 0 4 | 0 95 0 4 | 92 5 0 3 50 | -70 5 0 5 50
hurdle         |   20 0 0 |  20 0 -10 -10 0 | 10 25 0 40 | 80 5 0 40 | 95 5 0 20 10 | -10 75 20 110 20
air_kick       |   0 10 0 |     5 -5 0 0 20 | 40 30 30 90 | 30 40 0 60 | 85 30 0 5 20 | 60 20 0 115 30
"""


def _parse() -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for line in _TABLE.strip().splitlines():
        name, root, spine, *limbs = (part.split() for part in line.split("|"))
        limbs = [limbs[i - 1] if part == ["="] else part for i, part in enumerate(limbs)]
        for part in limbs[2:]:
            if part[4] == "f":
                part[4] = str(np.clip(float(part[0]) - float(part[3]) - float(root[0]), -40, 60))
        values = [float(v) for part in (root, spine, *limbs) for v in part]
        out[name[0].rstrip("*")] = np.array([*values, float(name[0].endswith("*"))])
    return out


POSES = _parse()

FAMILIES: dict[str, tuple[str, ...]] = {
    "standing": tuple(list(POSES)[: list(POSES).index("front_split") + 2]),
    "chair": ("chair", "chair_lean", "chair_crossed", "chair_back"),
    "floor": ("long_sit", "straddle_sit", "cross_legged", "hug_knees", "front_split", "side_split"),
    "kneeling": ("kneel_sit", "kneel", "one_knee", "deep_squat"),
    "hands": ("crawl_left", "crawl_right", "bear", "plank", "push_up", "climber", "down_dog"),
    "back": ("supine", "spread_eagle", "sit_up", "leg_raise", "crab", "bridge"),
    "front": ("prone", "superman", "cobra", "push_up"),
    "side": ("side_lying", "side_plank"),
    "inverted": ("handstand", "hand_split", "hand_straddle", "hand_stag", "hand_tuck", "headstand"),
    "air": tuple(name for name in POSES if name.startswith("air_")) + ("split_leap", "hurdle"),
}
"""Poses between which one moves without standing up."""

LOOPS: tuple[tuple[str, ...], ...] = (
    ("crawl_left", "crawl_right"),
    ("stand", "deep_squat"),
    ("stand", "vee"),
    ("stand", "touch_toes", "overhead"),
    ("plank", "push_up"),
    ("supine", "sit_up"),
    ("supine", "leg_raise"),
    ("plank", "climber"),
    ("lunge", "stand"),
    ("relaxed", "front_kick"),
    ("relaxed", "side_kick"),
    ("lunge", "high_kick"),
    ("punch", "uppercut"),
    ("bear", "down_dog"),
    ("hand_split", "hand_straddle", "handstand"),
    ("crab", "bridge"),
)
"""Exercises done again and again."""


def _turn(degrees: np.ndarray, axis: int) -> np.ndarray:
    vector = np.zeros((*degrees.shape, 3))
    vector[..., axis] = np.deg2rad(degrees)
    return from_rotvec(vector)


_BONES: tuple[tuple[str, int, tuple[float, float, float]], ...] = (
    ("Hips", -1, (0, 0, 0)),
    ("LowerBack", 0, (0, 1, 0)),
    ("Spine", 1, (0, 1, 0)),
    ("Spine1", 2, (0, 1, 0)),
    ("Neck", 3, (0, 1, 0)),
    ("Neck1", 4, (0, 1, 0)),
    ("Head", 5, (0, 1, 0)),
    *(
        bone
        for first, s, side in ((7, 1.0, "Left"), (16, -1.0, "Right"))
        for bone in (
            (f"{side}Shoulder", 3, (s, 0, 0)),
            (f"{side}Arm", first, (0, -1, 0)),
            (f"{side}ForeArm", first + 1, (0, -1, 0)),
            (f"{side}FingerBase", first + 2, (0, -1, 0)),
            (f"{side[0]}Thumb", first + 3, (0, -1, 1)),
            (f"{side}UpLeg", 0, (0, -1, 0)),
            (f"{side}Leg", first + 5, (0, -1, 0)),
            (f"{side}Foot", first + 6, (0, -0.34, 1)),
            (f"{side}ToeBase", first + 7, (0, 0, 1)),
        )
    ),
)


def as_clip(angles: np.ndarray, yaw: np.ndarray | float = 0.0) -> Clip:
    """Angles [T, len(ANGLES)] in degrees as a clip of a skeleton that rests upright with hanging arms.

    ``yaw``: degrees to its left that the whole body is turned by.
    """
    count = len(angles)

    def get(name: str) -> np.ndarray:
        return angles[:, ANGLE[name]]

    local: dict[str, np.ndarray] = {}
    root = multiply(_turn(get("pitch"), 0), multiply(_turn(get("roll"), 2), _turn(get("spin"), 1)))
    local["Hips"] = multiply(_turn(np.broadcast_to(yaw, (count,)), 1), root)
    third = multiply(
        _turn(get("bend") / 3, 0), multiply(_turn(get("side") / 3, 2), _turn(get("turn") / 3, 1))
    )
    local["LowerBack"] = local["Spine"] = local["Spine1"] = third
    look = multiply(_turn(get("nod") / 3, 0), _turn(get("look") / 3, 1))
    local["Neck"] = local["Neck1"] = local["Head"] = look
    for side, s in (("Left", 1.0), ("Right", -1.0)):
        flex, out, twist, bend = (get(f"{side.lower()}_arm_{name}") for name in ARM)
        upper = multiply(_turn(-flex, 0), multiply(_turn(s * out, 2), _turn(-s * twist, 1)))
        # Collar bones rise with the arm, by a third of what it is above 60 degrees, and go with it sideways.
        down = hanging(upper)
        lift = np.clip(np.rad2deg(np.arccos(np.clip(-down[:, 1], -1, 1))) - 60, 0, 100) / 3
        collar = multiply(_turn(s * 0.8 * lift, 2), _turn(-s * 18 * np.clip(down[:, 2], -0.6, 1), 1))
        local[f"{side}Shoulder"] = collar
        conj = collar * np.array([1, -1, -1, -1])
        local[f"{side}Arm"] = multiply(conj, upper)
        local[f"{side}ForeArm"] = _turn(-bend, 0)
        flex, out, twist, bend, ankle = (get(f"{side.lower()}_leg_{name}") for name in LEG)
        local[f"{side}UpLeg"] = multiply(_turn(-flex, 0), multiply(_turn(s * out, 2), _turn(s * twist, 1)))
        local[f"{side}Leg"] = _turn(bend, 0)
        local[f"{side}Foot"] = _turn(ankle, 0)
    still = np.tile([1.0, 0, 0, 0], (count, 1))
    rotations = np.zeros((count, len(_BONES), 4))
    heads = np.zeros((len(_BONES), 3))
    tails = np.zeros((len(_BONES), 3))
    for i, (name, parent, direction) in enumerate(_BONES):
        rotations[:, i] = local.get(name, still)
        if parent >= 0:
            rotations[:, i] = multiply(rotations[:, parent], rotations[:, i])
            heads[i] = tails[parent]
        tails[i] = heads[i] + direction
    names = tuple(name for name, _, _ in _BONES)
    parents = np.array([parent for _, parent, _ in _BONES], dtype=np.int32)
    return Clip(
        "key poses",
        names,
        parents,
        heads,
        tails,
        rotations.astype(np.float32),
        np.zeros((count, 3), np.float32),
    )


def hanging(q: np.ndarray) -> np.ndarray:
    """Where the hanging direction (0, -1, 0) points after rotations ``q`` [T, 4]: [T, 3]."""
    w, x, y, z = q[:, 0], q[:, 1], q[:, 2], q[:, 3]
    return -np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], axis=1)
