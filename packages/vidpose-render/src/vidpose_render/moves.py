"""Movements drawn at random: motion capture, mixtures of it, and exercises and acrobatics from key poses.

Three in ten movements are motion capture as it was recorded (mirrored, at another speed, from one clip into
the next). A quarter has the upper body of another clip, or joints that wander. The others go through key
poses: exercises, floor work, handstands, cartwheels, somersaults, leaps, and mixtures of all of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import read_json

from .assets import Assets
from .exercises import Script, random_script, smooth_noise, wobbled
from .ground import contact_places, contact_points, flights, ground, locked_path, settle
from .keyposes import POSES, as_clip
from .mocap import read_clip
from .retarget import alignment, retarget_rotations, scaled_root, standing_hip_height
from .rotations import (
    conjugate,
    from_rotvec,
    multiply,
    normalised,
    resample,
    resample_points,
    rotate,
    slerp,
    to_matrix,
    twist,
)
from .types import Motion, Rig

MOCAP_SHARE, MIXED_SHARE, KEYPOSE_SHARE = 0.3, 0.25, 0.45
SPEEDS = (0.5, 2.0)
BLEND_S = 0.5
_FEATURE_BONES = (
    "Spine1",
    "LeftArm",
    "LeftForeArm",
    "LeftUpLeg",
    "LeftLeg",
    "RightArm",
    "RightForeArm",
    "RightUpLeg",
)
_CELLS = 64
_UPPER = ("LowerBack", "Spine", "Neck", "Head", "Shoulder", "Arm", "Hand", "Finger", "Thumb")
# How far a joint wanders, degrees (standard deviation), by a part of the bone's name; the first that fits.
_WANDER = (
    ("ForeArm", 11.0),
    ("Arm", 14.0),
    ("Hand", 8.0),
    ("Shoulder", 3.0),
    ("Neck", 4.0),
    ("Head", 5.0),
    ("LowerBack", 4.0),
    ("Spine", 4.0),
    ("UpLeg", 6.0),
    ("Leg", 6.0),
    ("Foot", 4.0),
)


def default_rig(path: str | os.PathLike[str]) -> Rig:
    """The rig of the base mesh from ``rig.cmu_mb.json``: bones with ``parent``, ``head``, ``tail``.

    The file's axes are x to the person's left, y to the back, z up.

    Raises:
        InputError: the file has another layout.
    """
    bones = read_json(path)
    try:
        order = [name for name in bones if not bones[name]["parent"]]
        for name in order:  # grows while it is walked: parents come before children
            order += [child for child in bones if bones[child]["parent"] == name]
        ends = np.array(
            [[bones[n][end]["default_position"] for end in ("head", "tail")] for n in order], dtype=float
        )
        parents = [order.index(bones[n]["parent"]) if bones[n]["parent"] else -1 for n in order]
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError(
            f"{path}: is not a rig: each bone needs parent, head and tail with default_position"
        ) from None
    ends = np.stack([ends[..., 0], ends[..., 2], -ends[..., 1]], axis=-1).astype(np.float32)
    return Rig(tuple(order), np.array(parents, dtype=np.int32), ends[:, 0], ends[:, 1])


@dataclass
class _Take:
    """A movement in the making, quaternions per frame."""

    q: np.ndarray
    """[T, B, 4]."""
    root: np.ndarray
    """[T, 3] metres; only x and z count."""
    air: np.ndarray
    """[T] metres below the body."""


def _ease(t: np.ndarray) -> np.ndarray:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


class MoveLibrary:
    """All clips, retargeted to one rig, and what is made of them.

    Attributes:
        rig: the rig at rest that all movements are made on.
        names: the clips.
    """

    def __init__(self, rig: Rig, motions: list[tuple[str, np.ndarray, np.ndarray]]) -> None:
        """``motions``: name, global rotations [T, B, 4] and root [T, 3] in metres of clips at 30 frames/s."""
        if not motions:
            raise InputError("no motion capture: at least one clip is needed")
        self.rig = rig
        self.row = {name: i for i, name in enumerate(rig.names)}
        self.hip_height = standing_hip_height(rig)
        self.contacts = contact_points(rig)
        self.names = [name for name, _, _ in motions]
        self._q = [q for _, q, _ in motions]
        self._root = [root for _, _, root in motions]
        self._air: dict[int, np.ndarray] = {}
        self._align = alignment(as_clip(np.stack(list(POSES.values()))), rig)
        self._swap = np.array([self.row[self._other_side(name)] for name in rig.names])
        self._upper = np.array([any(part in name for part in _UPPER) for name in rig.names])
        self._starts, self._chances = self._rare_starts()

    @staticmethod
    def load(assets: Assets) -> MoveLibrary:
        """Every clip of a folder of assets on its rig.

        Raises:
            InputError: no clips, or a file that cannot be read.
        """
        if not assets.mocap:
            raise InputError(f"{assets.root}: no .bvh or .amc files below mocap/, motion capture is needed")
        rig = default_rig(assets.rig_path)
        clips = map(read_clip, assets.mocap)
        return MoveLibrary(rig, [(c.name, retarget_rotations(c, rig), scaled_root(c, rig)) for c in clips])

    # -- sampling

    def sample(
        self,
        rng: np.random.Generator,
        frames: int,
        fps: float,
        rig: Rig | None = None,
        sole: float | None = None,
        kind: str | None = None,
    ) -> Motion:
        """A movement of ``frames`` frames at ``fps`` frames per second that nobody made before.

        It begins at x = z = 0, turned to any side. Same generator state, same movement.

        Args:
            rig: whose feet are put on the floor, and ``sole`` the lowest y of its mesh at rest; without them
                the library's own rig (:func:`~.ground.ground` then does it for any other).
            kind: of :func:`~.exercises.random_script`; without it, anything.
        """
        if frames < 1 or not fps > 0:
            raise InputError(f"a movement needs frames and a rate above 0, not {frames} at {fps}")
        origin = 2 if kind else rng.choice(3, p=[MOCAP_SHARE, MIXED_SHARE, KEYPOSE_SHARE])
        times = np.arange(frames) / fps
        if origin == 2:
            take, name = self._key_poses(rng, times, fps, kind)
        else:
            take, name = self._mocap(rng, times, fps)
            if origin == 1:
                take, name = self._mixed(rng, take, times, fps, name)
        if rng.random() < 0.5:
            take, name = self._mirrored(take), name + " mirrored"
        # silent: a flat hand only stands on the floor; hands that hang are half closed.
        curls = np.deg2rad(rng.beta(1.6, 1.8, 2) * (35.0 if origin == 2 else 95.0))
        take.q = self._hands_closed(take.q, curls)
        motion = self._finished(take, rng.uniform(0, 2 * np.pi), fps, name)
        return motion if rig is None else ground(motion, rig, sole)

    def _finished(self, take: _Take, yaw: float, fps: float, name: str) -> Motion:
        turn = from_rotvec(np.array([0.0, yaw, 0.0]))
        root = rotate(turn, take.root - take.root[0])
        rotations = to_matrix(multiply(turn, take.q)).astype(np.float32)
        motion = Motion(rotations, root, self.hip_height, fps, name, take.air)
        return ground(motion, self.rig)

    def _hands_closed(self, q: np.ndarray, curls: np.ndarray) -> np.ndarray:
        """Global rotations [T, B, 4] with the fingers of both hands bent by ``curls`` [2] radians."""
        q = q.copy()
        for side, sign, curl in zip(("Left", "Right"), (-1.0, 1.0), curls, strict=True):
            base, fingers, thumb = (
                self.row[name] for name in (f"{side}FingerBase", f"{side}HandFinger1", f"{side[0]}Thumb")
            )
            ahead = normalised((self.rig.tails - self.rig.heads)[base].astype(np.float64))
            aside = (self.rig.tails[thumb] - self.rig.heads[base]).astype(np.float64)
            axis = normalised(aside - (aside @ ahead) * ahead)
            for bone, share in ((base, 0.25), (fingers, 1.0), (thumb, 0.3)):
                q[:, bone] = multiply(q[:, bone], from_rotvec(sign * share * curl * axis))
        return q

    def _mirrored(self, take: _Take) -> _Take:
        """Left for right: the mirror image of each bone's rotation goes to its partner."""
        return _Take(
            take.q[:, self._swap] * np.array([1, 1, -1, -1]), take.root * np.array([-1, 1, 1]), take.air
        )

    def _other_side(self, name: str) -> str:
        for a, b in (("Left", "Right"), ("Right", "Left")):
            if name.startswith(a):
                return b + name[len(a) :]
        if name[0] in "LR" and name[1:] in ("HipJoint", "Thumb"):
            return "RL"["LR".index(name[0])] + name[1:]
        return name

    # -- mocap

    def _rare_starts(self) -> tuple[np.ndarray, np.ndarray]:
        """Where a part may begin, [S, 2] clip and frame, and how likely: rare poses more than walking."""
        starts = [np.stack([np.full(len(q), i), np.arange(len(q))], 1)[::6] for i, q in enumerate(self._q)]
        features = []
        for q in self._q:
            some = q[::6].astype(np.float64)
            rows = [self.row[name] for name in _FEATURE_BONES]
            local = multiply(conjugate(some[:, :1]), some[:, rows])
            bones = normalised((self.rig.tails - self.rig.heads)[rows].astype(np.float64))
            up = rotate(conjugate(some[:, 0]), np.array([0.0, 1.0, 0.0]))
            features.append(np.concatenate([rotate(local, bones).reshape(len(some), -1), up], 1))
        points = np.concatenate(features)
        # Cells around points far from each other, each the farthest from those before it.
        nearest = np.zeros(len(points), dtype=np.int64)
        distance = ((points - points[0]) ** 2).sum(1)
        for cell in range(1, min(_CELLS, len(points))):
            new = ((points - points[distance.argmax()]) ** 2).sum(1)
            nearest[new < distance] = cell
            distance = np.minimum(distance, new)
        chances = 1.0 / np.bincount(nearest)[nearest] ** 0.7
        return np.concatenate(starts), chances / chances.sum()

    def _clip_air(self, clip: int) -> np.ndarray:
        """Metres below the body over a clip [T]; worked out when first asked for."""
        if clip not in self._air:
            places = contact_places(self.rig, self.contacts, to_matrix(self._q[clip]))
            self._air[clip] = flights(places[..., 1].min(1) + self._root[clip][:, 1], 30.0)
        return self._air[clip]

    def _part(self, rng: np.random.Generator, frames: int, fps: float) -> tuple[_Take, str]:
        """A part of one clip, at most ``frames`` long, at least two seconds of the clip where it can."""
        clip, first = self._starts[rng.choice(len(self._starts), p=self._chances)]
        speed = float(np.exp(rng.uniform(*np.log(SPEEDS))))
        last = len(self._q[clip]) - 1
        shortest = min(frames * 30.0 / fps * speed, 4 * BLEND_S * 30.0)
        first = int(np.clip(first, 0, max(last - shortest, 0)))
        positions = first + np.arange(frames) * speed * 30.0 / fps
        positions = positions[positions <= last] if positions[0] < last else positions[:1]
        air = resample_points(self._clip_air(clip), positions)
        return _Take(
            resample(self._q[clip], positions), resample_points(self._root[clip], positions), air
        ), self.names[clip]

    def _mocap(self, rng: np.random.Generator, times: np.ndarray, fps: float) -> tuple[_Take, str]:
        take, name = self._part(rng, len(times), fps)
        if len(times) > 2 * BLEND_S * fps and rng.random() < 0.35:  # leave the clip although it goes on
            keep = int(rng.uniform(BLEND_S * fps, len(times))) + 1
            take = _Take(take.q[:keep], take.root[:keep], take.air[:keep])
        for _ in range(100):
            if len(take.q) >= len(times):
                break
            more, other = self._part(rng, len(times), fps)
            take, name = self._joined(take, more, fps), f"{name} + {other}"
        if len(take.q) < len(times):  # clips of a frame or two: the last pose stays
            rows = np.minimum(np.arange(len(times)), len(take.q) - 1)
            take = _Take(take.q[rows], take.root[rows], take.air[rows])
        return _Take(take.q[: len(times)], take.root[: len(times)], take.air[: len(times)]), name

    def _joined(self, a: _Take, b: _Take, fps: float) -> _Take:
        """``b`` after ``a``, turned and moved to its place, one fading into the other over half a second."""
        overlap = max(min(round(BLEND_S * fps), len(a.q), len(b.q)), 1)
        start = len(a.q) - overlap
        middle = overlap // 2
        turn = from_rotvec(np.array([0, _heading(a.q[start + middle, 0]) - _heading(b.q[middle, 0]), 0]))
        bq, b_root = multiply(turn, b.q), rotate(turn, b.root)
        b_root = b_root + (a.root[start + middle] - b_root[middle])
        weight = _ease((np.arange(overlap) + 1) / (overlap + 1))
        q = slerp(a.q[start:], bq[:overlap], weight[:, None, None])
        root = a.root[start:] * (1 - weight[:, None]) + b_root[:overlap] * weight[:, None]
        air = a.air[start:] * (1 - weight) + b.air[:overlap] * weight
        return _Take(
            np.concatenate([a.q[:start], q, bq[overlap:]]),
            np.concatenate([a.root[:start], root, b_root[overlap:]]),
            np.concatenate([a.air[:start], air, b.air[overlap:]]),
        )

    def _mixed(
        self, rng: np.random.Generator, take: _Take, times: np.ndarray, fps: float, name: str
    ) -> tuple[_Take, str]:
        """The upper body from elsewhere, or wandering joints, or both."""
        choice = rng.random()
        q = take.q
        if choice < 0.7:
            if rng.random() < 0.5:
                other, source = self._mocap(rng, times, fps)
            else:
                other, source = self._key_poses(rng, times, fps, "standing")
            if rng.random() < 0.5:
                other = self._mirrored(other)
            # On the pelvis as the other held it, so that a bent trunk stays bent relative to the legs.
            moved = multiply(multiply(q[:, :1], conjugate(other.q[:, :1])), other.q)
            q = np.where(self._upper[:, None], moved, q)
            name = f"{name} under {source}"
        if choice > 0.45:
            q = self._wander(rng, q, times)
            name += " wandering"
        return _Take(q, take.root, take.air), name

    def _wander(self, rng: np.random.Generator, q: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Slow random turns of every joint, elbows and knees kept from bending backwards."""
        size = np.array([next((s for part, s in _WANDER if part in name), 0.0) for name in self.rig.names])
        noise = smooth_noise(rng, times, 3 * len(size)).reshape(len(times), -1, 3)
        turns = from_rotvec(np.deg2rad(noise * size[:, None] * rng.uniform(0.5, 1.3)))
        local = self._local(q)
        for b, name in enumerate(self.rig.names):
            if size[b]:
                local[:, b] = multiply(local[:, b], turns[:, b])
            if name.endswith(("ForeArm", "tLeg")):
                local[:, b] = self._hinge_limited(b, local[:, b])
        return self._global(local)

    def _local(self, q: np.ndarray) -> np.ndarray:
        out = q.copy()
        for b, parent in enumerate(self.rig.parents):
            if parent >= 0:
                out[:, b] = multiply(conjugate(q[:, parent]), q[:, b])
        return out

    def _global(self, local: np.ndarray) -> np.ndarray:
        out = local.copy()
        for b, parent in enumerate(self.rig.parents):
            if parent >= 0:
                out[:, b] = multiply(out[:, parent], local[:, b])
        return out

    def _hinge_limited(self, bone: int, local: np.ndarray) -> np.ndarray:
        """A hinge's rotations [T, 4] against its parent, bent between 0 and 150 degrees from straight."""
        bones = (self.rig.tails - self.rig.heads).astype(np.float64)
        upper, lower = bones[self.rig.parents[bone]], bones[bone]
        axis = normalised(np.cross(upper, lower))
        rest = np.arccos(np.clip(normalised(upper) @ normalised(lower), -1, 1))
        part = twist(local, axis)
        angle = 2 * np.arctan2((part[:, 1:] * axis).sum(1), part[:, 0])
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        excess = np.clip(angle, -rest, np.deg2rad(150.0) - rest) - angle
        return multiply(local, from_rotvec(excess[:, None] * axis))

    # -- key poses

    def _key_poses(
        self, rng: np.random.Generator, times: np.ndarray, fps: float, kind: str | None = None
    ) -> tuple[_Take, str]:
        tempo = float(np.exp(rng.uniform(np.log(0.7), np.log(1.35))))
        script = random_script(rng, float(times[-1]) * tempo, kind)
        air_times = np.array([t for f in script.flights for t in (f.start, f.end)])
        own = times * tempo
        angles = wobbled(rng, script.at(np.concatenate([own, air_times])), np.concatenate([own, air_times]))
        drift = 12.0 * smooth_noise(rng, np.concatenate([own, air_times]), 1)[:, 0]
        turning = rng.uniform(-40, 40) if script.kind == "standing" and rng.random() < 0.3 else 0.0
        yaw = drift + turning * np.concatenate([own, air_times])
        q = retarget_rotations(as_clip(angles, yaw), self.rig, self._align).astype(np.float64)
        places = contact_places(self.rig, self.contacts, to_matrix(q))
        if angles[:, -1].any():
            q = settle(q, self.rig, self.contacts, places, angles[:, -1])
            places = contact_places(self.rig, self.contacts, to_matrix(q))
        count = len(times)
        low = places[..., 1].min(1)
        air, travel = self._flown(script, own, low[:count], low[count:])
        heading = np.deg2rad(yaw[:count])
        velocity = tempo * travel[:, None] * np.stack([np.sin(heading), np.cos(heading)], axis=1)
        path = locked_path(places[:count], air, fps, velocity)
        return _Take(q[:count], path, air), script.kind

    @staticmethod
    def _flown(
        script: Script, times: np.ndarray, low: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Air below the body and speed forward [T], from its lowest points [T] and those at flights' ends."""
        air, speed = np.zeros(len(times)), np.zeros(len(times))
        for i, flight in enumerate(script.flights):
            share = (times - flight.start) / (flight.end - flight.start)
            inside = (share > 0) & (share < 1)
            # The root flies from where it lay at take-off to where it lies at landing.
            height = (
                -ends[2 * i] * (1 - share) - ends[2 * i + 1] * share + 4 * flight.rise * share * (1 - share)
            )
            air = np.where(inside, np.maximum(height + low, 0.0), air)
            speed = np.where(inside, flight.speed, speed)
        return air, speed


def _heading(q: np.ndarray) -> float:
    """Radians about y of where a pelvis [4] faces; where its head points if it lies on its back or front."""
    ahead = rotate(q.astype(np.float64), np.array([0.0, 0.0, 1.0]))
    if abs(ahead[1]) > 0.9:
        ahead = -np.sign(ahead[1]) * rotate(q.astype(np.float64), np.array([0.0, 1.0, 0.0]))
    return float(np.arctan2(ahead[0], ahead[2]))
