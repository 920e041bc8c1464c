"""Bodies on the floor: what touches it, how high the root lies then, where it goes if nothing slides."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, grey_opening

from .retarget import ANKLE_HEIGHT, HEEL_BACK, TOE_TIP, foot_length, standing_hip_height
from .rotations import from_rotvec, multiply, rotate
from .skinning import bone_transforms, skin_points
from .types import Motion, Rig

_BASE_HIP = 0.878  # metres, the hip height of the base mesh, on which the radii below were measured

# Bone, place along it (0 head, 1 tail), radius in metres on the base mesh. Feet are added by their measures.
_SPHERES: tuple[tuple[str, float, float], ...] = (
    ("Hips", 0.0, 0.10),
    ("LowerBack", 0.5, 0.085),
    ("Spine", 0.5, 0.075),
    ("Spine1", 0.3, 0.09),
    ("Neck", 0.5, 0.05),
    ("Head", 0.35, 0.075),
    ("Head", 0.75, 0.065),
)
_LIMB_SPHERES: tuple[tuple[str, float, float], ...] = (
    ("UpLeg", 0.0, 0.095),
    ("UpLeg", 0.5, 0.07),
    ("Leg", 0.0, 0.052),
    ("Leg", 0.4, 0.045),
    ("Arm", 0.0, 0.06),
    ("ForeArm", 0.0, 0.035),
    ("ForeArm", 1.0, 0.022),
    ("FingerBase", 0.5, 0.017),
    ("HandFinger1", 1.0, 0.012),
)
_HANDS = ("Arm", "ForeArm", "FingerBase", "HandFinger1", "Head", "Neck")
_LEGS = ("Leg", "Foot", "ToeBase")
_LONGEST_FLIGHT_S = 0.9


@dataclass
class ContactPoints:
    """Spheres that stand for the body's surface."""

    bones: np.ndarray
    """[P] rows of the rig."""
    points: np.ndarray
    """[P, 3] float32 centres at rest."""
    radii: np.ndarray
    """[P] metres."""
    hands: np.ndarray
    """[P] bool: arms and head."""
    legs: np.ndarray
    """[P] bool: knees and feet."""


def contact_points(rig: Rig, sole: float | None = None) -> ContactPoints:
    """The spheres of one body. ``sole``: lowest y of its mesh at rest, else guessed from the feet's bones."""
    row = {name: i for i, name in enumerate(rig.names)}
    scale = standing_hip_height(rig, sole) / _BASE_HIP
    bones: list[int] = []
    points: list[np.ndarray] = []
    radii: list[float] = []
    sides = ("Left", "Right")
    spheres = (*_SPHERES, *((side + name, along, r) for side in sides for name, along, r in _LIMB_SPHERES))
    for name, along, radius in spheres:
        bones.append(row[name])
        points.append(rig.heads[row[name]] * (1 - along) + rig.tails[row[name]] * along)
        radii.append(radius * scale)
    length = foot_length(rig)
    for side in sides:
        ankle, ball = rig.heads[row[side + "Foot"]], rig.tails[row[side + "Foot"]]
        y = sole if sole is not None else ankle[1] - ANKLE_HEIGHT * length
        heel = np.array([ankle[0], y, ankle[2] - HEEL_BACK * length])
        tip = np.array([ball[0], y, ball[2] + TOE_TIP * length])
        for bone, place in (("Foot", heel), ("Foot", np.array([ball[0], y, ball[2]])), ("ToeBase", tip)):
            bones.append(row[side + bone])
            points.append(place)
            radii.append(0.0)

    def among(names: tuple[str, ...]) -> np.ndarray:
        plain = [rig.names[b].removeprefix("Left").removeprefix("Right") for b in bones]
        return np.array([name in names for name in plain])

    return ContactPoints(
        np.array(bones), np.array(points, dtype=np.float32), np.array(radii), among(_HANDS), among(_LEGS)
    )


def contact_places(rig: Rig, contacts: ContactPoints, rotations: np.ndarray) -> np.ndarray:
    """Lowest points of the spheres [T, P, 3] relative to the root, for global rotations [T, B, 3, 3]."""
    transforms = bone_transforms(rig, rotations, np.zeros((len(rotations), 3)))
    places = skin_points(contacts.bones, contacts.points, transforms).astype(np.float64)
    places[..., 1] -= contacts.radii
    return places


def flights(heights: np.ndarray, fps: float) -> np.ndarray:
    """Air below a body [T] from the height of its lowest point [T] over a floor that may rise and fall.

    What rises for less than 0.9 s is a jump; what stays up longer stands, climbs or hangs on something, and
    counts as in contact. The first 3 cm are the recording's error.
    """
    size = max(round(_LONGEST_FLIGHT_S * fps), 1)
    return np.maximum(heights - grey_opening(heights, size=size, mode="nearest") - 0.03, 0.0)


def ground(motion: Motion, rig: Rig, sole: float | None = None) -> Motion:
    """The movement for one body, whose lowest point touches y = 0 except in flight (``motion.clearance``).

    Args:
        motion: any movement; its path along the floor is scaled by the hip heights.
        rig: the body's bones at rest.
        sole: lowest y in metres of the body's mesh at rest, for feet exactly on the floor.
    """
    hip = standing_hip_height(rig, sole)
    scale = hip / motion.hip_height
    contacts = contact_points(rig, sole)
    low = contact_places(rig, contacts, motion.rotations.astype(np.float64))[..., 1].min(1)
    air = np.zeros(len(low)) if motion.clearance is None else motion.clearance.astype(np.float64) * scale
    root = motion.root.astype(np.float64) * scale
    root[:, 1] = air - low
    return replace(motion, root=root.astype(np.float32), hip_height=hip, clearance=air.astype(np.float32))


def locked_path(places: np.ndarray, air: np.ndarray, fps: float, travel: np.ndarray) -> np.ndarray:
    """A root's path along the floor [T, 3] (y = 0) on which what touches the floor does not slide.

    Args:
        places: [T, P, 3] contact points relative to the root.
        air: [T] metres below the body; in flight it goes on with ``travel``.
        travel: [T, 2] velocity along x and z in m/s while in the air.
    """
    steps = np.diff(places[..., [0, 2]], axis=0)  # [T - 1, P, 2]
    above = places[..., 1] - places[..., 1].min(1, keepdims=True)
    weight = np.exp(-(np.maximum(above[:-1], above[1:])) / 0.01)
    weight /= weight.sum(1, keepdims=True)
    velocity = -(steps * weight[..., None]).sum(1)
    flying = np.clip((0.5 * (air[:-1] + air[1:]) / 0.02), 0, 1)[:, None]
    velocity = (1 - flying) * velocity + flying * travel[:-1] / fps
    # silent: a third of a tenth of a second of smoothing, since points of contact change from frame to frame.
    velocity = (
        gaussian_filter1d(velocity, 0.033 * fps, axis=0, mode="nearest") if len(velocity) > 1 else velocity
    )
    path = np.zeros((len(places), 3))
    path[1:, [0, 2]] = np.cumsum(velocity, axis=0)
    return path


def settle(
    q: np.ndarray, rig: Rig, contacts: ContactPoints, places: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Pitches whole bodies until hands and legs stand equally low; at most 40 degrees.

    Args:
        q: [T, B, 4] global rotations, quaternions.
        places: [T, P, 3] from :func:`contact_places` of ``q``.
        share: [T] 0 to 1, how much of the turn is done.

    Returns:
        The turned ``q``.
    """
    across = rotate(q[:, 0].astype(np.float64), np.array([1.0, 0.0, 0.0]))
    across[:, 1] = 0
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    low, high = np.full(len(q), -40.0), np.full(len(q), 40.0)
    centres = places + np.array([0, 1.0, 0]) * contacts.radii[:, None]
    # Turned so that a positive angle lowers the hands: who lies on the back has them behind.
    reach = centres[:, contacts.hands].mean(1) - centres[:, contacts.legs].mean(1)
    behind = (np.cross(across, [0.0, 1.0, 0.0]) * reach).sum(1, keepdims=True) < 0
    across = np.where(behind, -across, across)
    for _ in range(14):
        middle = 0.5 * (low + high)
        turned = rotate(from_rotvec(across * np.deg2rad(middle)[:, None])[:, None], centres)
        heights = turned[..., 1] - contacts.radii
        hands_up = heights[:, contacts.hands].min(1) > heights[:, contacts.legs].min(1)
        low, high = np.where(hands_up, middle, low), np.where(hands_up, high, middle)
    turn = gaussian_filter1d(0.5 * (low + high), 1.5, mode="nearest") * share
    return multiply(from_rotvec(across * np.deg2rad(turn)[:, None])[:, None], q)
