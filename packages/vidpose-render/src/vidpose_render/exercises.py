"""Sequences of key poses at random: exercises, floor work, handstands, cartwheels, somersaults, leaps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import PchipInterpolator

from .keyposes import ANGLE, ANGLES, ARM, FAMILIES, LEG, LIMITS, LOOPS, POSES

# silent: no source says how often each should come; inverted bodies are what motion capture lacks most.
KIND_WEIGHTS = {
    "poses": 0.38,
    "exercise": 0.18,
    "handstand": 0.11,
    "cartwheel": 0.09,
    "somersault": 0.09,
    "leap": 0.1,
    "roll": 0.05,
    "mixture": 0.55,
}
FAMILY_WEIGHTS = {
    "standing": 8.0,
    "chair": 2.0,
    "floor": 2.0,
    "kneeling": 1.5,
    "hands": 2.0,
    "back": 1.5,
    "front": 1.0,
    "side": 0.7,
    "inverted": 1.5,
}
_GRAVITY = 9.81
_WOBBLE = np.array(
    [
        0.0
        if name in ("settle", "spin")
        else 1.5
        if name in ("pitch", "roll")
        else 7.0
        if "arm" in name
        else 3.0
        for name in ANGLES
    ]
)
_WOBBLE[[ANGLE["nod"], ANGLE["look"]]] = 8.0


@dataclass
class Flight:
    """A time without contact: the body's root on a parabola ``rise`` metres high, going forward."""

    start: float
    end: float
    rise: float
    speed: float
    """Metres per second along the floor, forward positive."""


@dataclass
class Script:
    """Key poses in time, in seconds."""

    kind: str
    times: list[float] = field(default_factory=list)
    angles: list[np.ndarray] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    turned: np.ndarray = field(default_factory=lambda: np.zeros(3))
    """Degrees of pitch, roll and spin that the whole turns so far have come to."""

    @property
    def end(self) -> float:
        return self.times[-1] if self.times else 0.0

    def add(self, pose: str, after: float, turn: tuple[float, float, float] | None = None) -> None:
        """``pose`` so many seconds after the one before; ``turn`` replaces how the pose's body lies."""
        angles = POSES[pose].copy()
        if turn is not None:
            angles[:3] = turn
        angles[:3] += self.turned
        self.put(angles, after)

    def put(self, angles: np.ndarray, after: float) -> None:
        """Angles [len(ANGLES)] so many seconds after the pose before."""
        self.times.append(self.end + max(after, 0.05) if self.times else 0.0)
        self.angles.append(angles)

    def at(self, times: np.ndarray) -> np.ndarray:
        """Angles [T, len(ANGLES)], smooth, never beyond the poses on both sides."""
        if len(self.times) == 1:
            return np.tile(self.angles[0], (len(times), 1))
        curve = PchipInterpolator(np.array(self.times), np.array(self.angles))
        return curve(np.clip(times, self.times[0], self.times[-1]))


def smooth_noise(rng: np.random.Generator, times: np.ndarray, columns: int) -> np.ndarray:
    """[T, columns] of variance about 1: three slow sines and a constant each; ``times`` in seconds."""
    out = np.tile(0.6 * rng.standard_normal(columns), (len(times), 1))
    for hertz in (0.15, 0.4, 0.9):
        rate = hertz * rng.uniform(0.7, 1.4, columns)
        out += 0.46 * np.sqrt(2) * np.sin(2 * np.pi * (times[:, None] * rate + rng.random(columns)))
    return out


def wobbled(rng: np.random.Generator, angles: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Angles [T, len(ANGLES)] that wander a little, within what joints can do."""
    noise = smooth_noise(rng, times, len(ANGLES)) * _WOBBLE * rng.uniform(0.4, 1.3)
    return np.clip(angles + noise, LIMITS[:, 0], LIMITS[:, 1])


def random_script(rng: np.random.Generator, duration: float, kind: str | None = None) -> Script:
    """A script of one kind that lasts at least ``duration`` seconds; it may begin in the midst of a movement.

    ``kind``: one of ``KIND_WEIGHTS`` or ``FAMILY_WEIGHTS``; None draws.
    """
    if kind is None:
        kind = _draw(rng, KIND_WEIGHTS)
    if kind == "poses":
        kind = _draw(rng, FAMILY_WEIGHTS)
    script = Script(kind)
    early = float(rng.uniform(0.0, 3.0))
    if kind in FAMILIES:
        _poses(rng, script, duration + early, FAMILIES[kind])
    else:
        again = _exercise(rng) if kind == "exercise" else _ACROBATICS[kind]
        while script.end < duration + early:
            again(rng, script)
    script.times = [t - early for t in script.times]
    script.flights = [Flight(f.start - early, f.end - early, f.rise, f.speed) for f in script.flights]
    return script


def _draw(rng: np.random.Generator, weights: dict[str, float]) -> str:
    chances = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=chances / chances.sum()))


def _poses(rng: np.random.Generator, script: Script, until: float, family: tuple[str, ...]) -> None:
    """From pose to pose of one family, some held for a while."""
    while script.end < until or len(script.times) < 2:
        pose = str(rng.choice(family))
        script.add(pose, rng.uniform(0.4, 1.3))
        if rng.random() < 0.5:
            script.add(pose, rng.uniform(0.15, 0.8))


def _exercise(rng: np.random.Generator) -> Callable[[np.random.Generator, Script], None]:
    loop = LOOPS[rng.integers(len(LOOPS))]
    beat = float(rng.uniform(0.35, 0.9))

    def once(rng: np.random.Generator, script: Script) -> None:
        for pose in loop:
            script.add(pose, beat * rng.uniform(0.9, 1.1))
            if rng.random() < 0.3:
                script.add(pose, 0.15)

    return once


def _handstand(rng: np.random.Generator, script: Script) -> None:
    script.add("overhead", rng.uniform(0.3, 0.8))
    script.add("kick_up", rng.uniform(0.5, 0.8))
    for _ in range(rng.integers(2, 5)):
        pose = str(rng.choice(FAMILIES["inverted"][:-1]))
        script.add(pose, rng.uniform(0.35, 0.8))
        script.add(pose, rng.uniform(0.1, 0.7))
    script.add("kick_up", rng.uniform(0.4, 0.7))
    script.add(str(rng.choice(["stand", "lunge_high"])), rng.uniform(0.5, 0.8))


def _cartwheel(rng: np.random.Generator, script: Script) -> None:
    """Sideways over both hands; without the hands on the floor now and then (an aerial)."""
    way = 360.0 if rng.random() < 0.5 else -360.0
    aerial = rng.random() < 0.2
    quick = rng.uniform(0.45, 0.75)
    script.add(str(rng.choice(["vee", "tee", "overhead"])), rng.uniform(0.2, 0.6))
    script.add("vee", 0.25, (0, way * 0.06, 0))
    begin = script.end
    script.add("air_star" if aerial else "hand_straddle", quick, (0, way * 0.5, 0))
    script.add("vee", quick, (0, way * 0.94, 0))
    if aerial:
        rise = _GRAVITY * (script.end - begin) ** 2 / 8
        script.flights.append(Flight(begin + 0.1, script.end - 0.1, rise * 0.6, 0.0))
    script.turned[1] += way
    script.add(str(rng.choice(["vee", "tee", "lunge_high", "stand"])), 0.3)


def _somersault(rng: np.random.Generator, script: Script) -> None:
    """Forward or backward through the air: tucked, piked, stretched; some with a twist."""
    way = 360.0 if rng.random() < 0.5 else -360.0
    rise = rng.uniform(0.45, 1.0)
    time = float(np.sqrt(8 * rise / _GRAVITY))
    shape = str(rng.choice(["air_tuck", "air_tuck", "air_pike", "air_layout", "air_straddle"]))
    spin = rng.choice([0.0, 0.0, 360.0, -360.0]) if shape == "air_layout" else 0.0
    script.add("stand", rng.uniform(0.2, 0.5))
    script.add("squat", 0.35)
    script.add("overhead", 0.3, (8 if way > 0 else -8, 0, 0))
    begin = script.end
    script.add(shape, 0.3 * time, (0.25 * way, 0, 0.2 * spin))
    script.add(shape, 0.4 * time, (0.72 * way, 0, 0.8 * spin))
    script.add("squat", 0.3 * time, (way + 20, 0, spin))
    script.flights.append(Flight(begin, script.end, rise, 0.9 * np.sign(way) * rng.uniform(0.3, 1.5)))
    script.turned += (way, 0, spin)
    script.add("deep_squat", 0.15)
    script.add(str(rng.choice(["stand", "overhead", "vee"])), 0.5)


def _leap(rng: np.random.Generator, script: Script) -> None:
    """A jump with a shape in the air, on the spot or running."""
    rise = rng.uniform(0.2, 0.65)
    time = float(np.sqrt(8 * rise / _GRAVITY))
    speed = float(rng.choice([0.0, rng.uniform(0.5, 3.5)]))
    shape = str(rng.choice(FAMILIES["air"]))
    spin = float(rng.choice([0.0, 0.0, 0.0, 180.0, 360.0, -360.0]))
    script.add(str(rng.choice(["stand", "relaxed", "sprint" if speed else "stand"])), rng.uniform(0.2, 0.6))
    script.add(str(rng.choice(["squat", "lunge", "deep_squat"])), 0.35)
    script.add("overhead" if rng.random() < 0.5 else "sprint", 0.3)
    begin = script.end
    around = POSES[shape][:3]
    script.add(shape, 0.4 * time, (around[0], around[1], 0.4 * spin))
    script.add(shape, 0.2 * time, (around[0], around[1], 0.6 * spin))
    script.add(str(rng.choice(["stand", "relaxed"])), 0.4 * time, (5, 0, spin))
    script.flights.append(Flight(begin, script.end, rise, speed))
    script.turned[2] += spin
    script.add(str(rng.choice(["squat", "deep_squat", "lunge"])), 0.2)
    script.add("stand", 0.4)


def _roll(rng: np.random.Generator, script: Script) -> None:
    """Head over heels on the floor, or lying about the body's length."""
    way = 360.0 if rng.random() < 0.6 else -360.0
    if rng.random() < 0.5 and (not script.times or script.turned[0] == 0):
        script.add("supine", rng.uniform(0.3, 0.6))
        script.add("supine", rng.uniform(0.5, 0.9), (-90, 0, 0.5 * way))
        script.add("supine", rng.uniform(0.5, 0.9), (-90, 0, way))
        script.turned[2] += way
        return
    script.add("deep_squat", rng.uniform(0.3, 0.6))
    script.add("air_tuck", 0.35, (0.28 * way, 0, 0))
    script.add("air_tuck", rng.uniform(0.35, 0.6), (0.75 * way, 0, 0))
    script.add("deep_squat", 0.35, (way + 28, 0, 0))
    script.turned[0] += way
    script.add(str(rng.choice(["stand", "deep_squat", "overhead"])), 0.5)


_LIMBS = {
    name: slice(ANGLE[f"{name}_flex"], ANGLE[f"{name}_flex"] + len(parts))
    for parts, names in ((ARM, ("left_arm", "right_arm")), (LEG, ("left_leg", "right_leg")))
    for name in names
}


def _mixture(rng: np.random.Generator, script: Script) -> None:
    """A pose that has a trunk, arms and legs of different ones, tilted anyhow; in the air now and then.

    silent: people climb, vault, dodge and fall in ways that no list holds.
    """
    names = list(POSES)

    def any_pose() -> np.ndarray:
        return POSES[names[rng.integers(len(names))]]

    angles = any_pose().copy()
    legs, arms = any_pose(), any_pose()
    together = rng.random(2) < 0.4
    for limb, columns in _LIMBS.items():
        pair, both = (legs, together[0]) if limb.endswith("leg") else (arms, together[1])
        one, other = (pair, pair) if both else (any_pose(), any_pose())
        share = rng.beta(0.5, 0.5)
        angles[columns] = share * one[columns] + (1 - share) * other[columns]
    kind = rng.random()
    if kind < 0.45:
        angles[:3] = rng.normal(0, (30, 18, 20))
    elif kind < 0.65:
        angles[:3] = rng.uniform(-180, 180), rng.uniform(-90, 90), rng.normal(0, 30)
    angles[ANGLE["settle"]] = 0.0
    begin = script.end
    script.put(angles, rng.uniform(0.35, 1.2))
    if rng.random() < 0.5:
        script.put(angles, rng.uniform(0.1, 0.5))
    if rng.random() < 0.3 and script.end > begin:
        script.flights.append(Flight(begin, script.end, rng.uniform(0.2, 0.9), rng.normal(0, 1.0)))


_ACROBATICS = {
    "handstand": _handstand,
    "cartwheel": _cartwheel,
    "somersault": _somersault,
    "leap": _leap,
    "roll": _roll,
    "mixture": _mixture,
}
