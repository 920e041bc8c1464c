"""From a recorded skeleton to the rig of 31 bones.

A bone of the rig gets the recorded bone's global rotation times the rotation that lays its own rest
direction on that of the recorded skeleton at rest. So limbs point where the recorded limbs point, whatever
the two rest poses are; hips, spine, neck, head and collar bones, upright in both, are taken as they are.
"""

from __future__ import annotations

import numpy as np

from vidpose.errors import InputError

from .mocap import Clip
from .rotations import (
    conjugate,
    from_rotvec,
    multiply,
    normalised,
    rotate,
    smallest,
    to_rotvec,
    twist,
)
from .types import Rig

_SPINE = ("Hips", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head")
_LEG = ("UpLeg", "Leg", "Foot", "ToeBase")
_ARM = ("Shoulder", "Arm", "ForeArm", "Hand")
# The recorded bone of each bone of the rig, in three vocabularies, `{s}` being the side. The hand follows the
# bone that bends the wrist: in these skeletons `lwrist` is the last third of the forearm, which only twists.
_NAMES: dict[str, dict[str, str]] = {
    "acclaim": {
        **dict(
            zip(
                _SPINE,
                ("root", "lowerback", "upperback", "thorax", "lowerneck", "upperneck", "head"),
                strict=True,
            )
        ),
        **dict(zip(_LEG, ("{s}femur", "{s}tibia", "{s}foot", "{s}toes"), strict=True)),
        **dict(zip(_ARM, ("{s}clavicle", "{s}humerus", "{s}radius", "{s}hand"), strict=True)),
        "Thumb": "{s}thumb",
    },
    "rig": {
        **{name: name for name in _SPINE},
        **{name: "{S}" + name for name in (*_LEG, *_ARM[:3])},
        "Hand": "{S}FingerBase",
        "Thumb": "{C}Thumb",
    },
    "daz": {
        **dict(
            zip(_SPINE, ("Hips", "lowerback", "Chest", "Chest2", "lowerneck", "Neck", "Head"), strict=True)
        ),
        **dict(zip(_LEG, ("{S}Hip", "{S}Knee", "{S}Ankle", "{S}Toe"), strict=True)),
        **dict(zip(_ARM, ("{S}Collar", "{S}Shoulder", "{S}Elbow", "{s}hand"), strict=True)),
        "Thumb": "{C}Thumb",
    },
}
_MARKS = {"acclaim": "lfemur", "rig": "LeftUpLeg", "daz": "LeftHip"}
_OPTIONAL = ("Hand", "Thumb", "ToeBase")
_MIN_BEND = np.deg2rad(15.0)


def match_bones(clip: Clip) -> dict[str, int]:
    """The row in ``clip`` for each bone of the rig that has one; thumbs only tell how a hand is turned.

    Raises:
        InputError: the joints have names of none of the three known kinds, or some are missing.
    """
    kind = next((kind for kind, mark in _MARKS.items() if mark in clip.joints), None)
    if kind is None:
        known = ", ".join(_MARKS.values())
        raise InputError(
            f"{clip.name}: no known skeleton: none of {known} is among the joints {', '.join(clip.joints)}"
        )
    out: dict[str, int] = {}
    missing: list[str] = []
    for part, pattern in _NAMES[kind].items():
        sides = ("",) if part in _SPINE else ("Left", "Right")
        for side in sides:
            name = pattern.format(s=side[:1].lower(), C=side[:1], S=side)
            bone = f"{side[:1]}Thumb" if part == "Thumb" else side + part
            if name in clip.joints:
                out[bone] = clip.joints.index(name)
            elif part not in _OPTIONAL:
                missing.append(name)
    if missing:
        raise InputError(f"{clip.name}: the skeleton lacks {', '.join(missing)}")
    return out


def standing_hip_height(rig: Rig, sole: float | None = None) -> float:
    """Height in metres of the hips' head of a person who stands with straight legs.

    ``sole``: lowest y of the body at rest; without it what feet usually have below the ankle bone.
    """
    row = {name: i for i, name in enumerate(rig.names)}
    hip, knee, ankle = (rig.heads[row["Left" + part]] for part in ("UpLeg", "Leg", "Foot"))
    below = ankle[1] - sole if sole is not None else foot_length(rig) * ANKLE_HEIGHT
    drop = rig.heads[row["Hips"]][1] - hip[1]
    return float(drop + np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle) + below)


# Measures of the base mesh's foot, as shares of the bone from ankle to ball.
ANKLE_HEIGHT = 0.49
HEEL_BACK = 0.53
TOE_TIP = 0.27


def foot_length(rig: Rig) -> float:
    """Metres from the ankle to the ball of the foot."""
    row = rig.names.index("LeftFoot")
    return float(np.linalg.norm(rig.tails[row] - rig.heads[row]))


def hinge_axis(upper: np.ndarray, lower: np.ndarray) -> np.ndarray | None:
    """The axis [3] about which a joint bends over a clip, at rest; None where it hardly bends or in all ways.

    ``upper`` and ``lower`` are global rotations [T, 4] of the bones on both sides.
    """
    turns = to_rotvec(multiply(conjugate(upper), lower).astype(np.float64))
    angles = np.linalg.norm(turns, axis=-1)
    total = turns.sum(0)
    # silent: where nine frames of ten bend by less than 15 degrees, or axes scatter, none can be told.
    if np.quantile(angles, 0.9) < _MIN_BEND or np.linalg.norm(total) < 0.8 * angles.sum():
        return None
    return total / np.linalg.norm(total)


def _turn_about(axis: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The rotation vector about the unit ``axis`` that brings ``a`` nearest to ``b``."""
    across = np.cross(axis, a) @ b
    along = a @ b - (a @ axis) * (b @ axis)
    return axis * np.arctan2(across, along)


def _align_limb(clip: Clip, rig: Rig, match: dict[str, int], bones: tuple[str, ...]) -> dict[str, np.ndarray]:
    """For bones along a limb the rotation [4] from the rig's rest to the rig in the clip's rest pose.

    Each begins from its parent's, so that a joint bent at rest is straightened without twisting.
    """
    row = {name: i for i, name in enumerate(rig.names)}
    out: dict[str, np.ndarray] = {}
    before = np.array([1.0, 0, 0, 0])
    for bone in bones:
        joint = match.get(bone)
        if joint is not None:
            end = rig.tails[row[bone]]
            if bone.endswith("Hand"):
                end = rig.tails[row[bone.replace("Hand", "FingerBase")]]
            direction = rotate(before, (end - rig.heads[row[bone]]).astype(np.float64))
            target = clip.tails[joint] - clip.heads[joint]
            if np.linalg.norm(target) > 1e-6:
                before = multiply(smallest(direction, target), before)
        out[bone] = before
    return out


def _align_arm(clip: Clip, rig: Rig, match: dict[str, int], side: str) -> dict[str, np.ndarray]:
    """As for legs, and turned about their length: upper arms as the elbows bend, hands as the thumbs lie."""
    row = {name: i for i, name in enumerate(rig.names)}
    arm, fore, hand = (side + part for part in ("Arm", "ForeArm", "Hand"))
    out = _align_limb(clip, rig, match, (arm, fore, hand))

    def along(bone: str) -> np.ndarray:
        return normalised(clip.tails[match[bone]] - clip.heads[match[bone]])

    def turn(bones: tuple[str, ...], by: np.ndarray) -> None:
        for bone in bones:
            out[bone] = multiply(from_rotvec(by), out[bone])

    axis = hinge_axis(clip.rotations[:, match[arm]], clip.rotations[:, match[fore]])
    upper_dir, fore_dir = ((rig.tails - rig.heads)[row[bone]].astype(np.float64) for bone in (arm, fore))
    own = np.cross(upper_dir, fore_dir)
    if axis is not None and np.linalg.norm(own) > 0.05 * np.linalg.norm(upper_dir) * np.linalg.norm(fore_dir):
        turn((arm, fore, hand), _turn_about(along(arm), rotate(out[arm], own), axis))
    thumb = match.get(f"{side[0]}Thumb")
    if hand in match and thumb is not None and np.linalg.norm(along(hand)) > 0.5:
        mine = rig.tails[row[f"{side[0]}Thumb"]] - rig.heads[row[hand]]
        by = _turn_about(
            along(hand), rotate(out[hand], mine.astype(float)), clip.tails[thumb] - clip.heads[thumb]
        )
        turn((hand,), by)
        turn((fore,), 0.5 * np.linalg.norm(by) * np.sign(by @ along(hand)) * along(fore))
    return out


def _limit_wrist(q: np.ndarray, rig: Rig, side: str) -> None:
    """Shares a hand's twist with its forearm, keeps the wrist's bend plausible; changes ``q`` [T, B, 4]."""
    row = {name: i for i, name in enumerate(rig.names)}
    fore, hand = row[side + "ForeArm"], row[side + "Hand"]
    axis = normalised((rig.tails[fore] - rig.heads[fore]).astype(np.float64))
    relative = multiply(conjugate(q[:, fore]), q[:, hand])
    spin = twist(relative, axis)
    swing = multiply(relative, conjugate(spin))
    bend = to_rotvec(swing)
    size = np.linalg.norm(bend, axis=-1, keepdims=True)
    swing = from_rotvec(bend * np.minimum(1.0, np.deg2rad(75.0) / np.maximum(size, 1e-9)))
    angle = np.clip((to_rotvec(spin) * axis).sum(-1, keepdims=True), -np.deg2rad(110), np.deg2rad(110))
    # Half of the twist goes to the forearm, as in a real one; its far end stays where it was.
    q[:, hand] = multiply(q[:, fore], multiply(swing, from_rotvec(angle * axis)))
    q[:, fore] = multiply(q[:, fore], from_rotvec(0.5 * angle * axis))


def alignment(clip: Clip, rig: Rig) -> dict[str, np.ndarray]:
    """For each bone of the limbs the rotation [4] from the rig's rest to the clip's rest."""
    match = match_bones(clip)
    align: dict[str, np.ndarray] = {}
    for side in ("Left", "Right"):
        align |= _align_limb(clip, rig, match, tuple(side + part for part in _LEG))
        align |= _align_arm(clip, rig, match, side)
    return align


def retarget_rotations(clip: Clip, rig: Rig, align: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Global rotations [T, B, 4] float32 of the rig's bones away from its rest, as quaternions.

    ``align``: from :func:`alignment`, where it is known already.

    Raises:
        InputError: the clip's skeleton is unknown (:func:`match_bones`).
    """
    match = match_bones(clip)
    if align is None:
        align = alignment(clip, rig)
    q = np.zeros((len(clip.root), len(rig.names), 4))
    for i, bone in enumerate(rig.names):
        joint = match.get(bone) if bone not in ("LThumb", "RThumb") else None
        if joint is None:
            q[:, i] = q[:, rig.parents[i]] if rig.parents[i] >= 0 else np.array([1.0, 0, 0, 0])
            continue
        q[:, i] = clip.rotations[:, joint]
        if bone in align:
            q[:, i] = multiply(q[:, i], align[bone])
    for side in ("Left", "Right"):
        _limit_wrist(q, rig, side)
        for bone in (f"{side}FingerBase", f"{side}HandFinger1", f"{side[0]}Thumb"):
            q[:, rig.names.index(bone)] = q[:, rig.names.index(side + "Hand")]
    return q.astype(np.float32)


def scaled_root(clip: Clip, rig: Rig) -> np.ndarray:
    """The root's path [T, 3] float32 in metres for a body with the rig's legs.

    Raises:
        InputError: the clip's skeleton has no legs to scale by.
    """
    match = match_bones(clip)
    row = {name: i for i, name in enumerate(rig.names)}

    def leg(heads: np.ndarray, rows: list[int]) -> float:
        return float(np.linalg.norm(np.diff(heads[rows], axis=0), axis=1).sum())

    bones = ["LeftUpLeg", "LeftLeg", "LeftFoot"]
    own, theirs = leg(rig.heads, [row[b] for b in bones]), leg(clip.heads, [match[b] for b in bones])
    if theirs <= 0:
        raise InputError(f"{clip.name}: the skeleton's left leg has no length")
    return (clip.root * (own / theirs)).astype(np.float32)
