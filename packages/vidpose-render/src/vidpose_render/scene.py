"""Scenes: people, things, light and a camera, sampled by seed and drawn frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vidpose.errors import InputError
from vidpose.skeletons import COCO17, POSETRACK15
from vidpose.synthetic import FrameTruth, PersonTruth

from . import draw, skinning
from .assets import Assets
from .camera import Camera, CameraPath, sample_path
from .degradations import Degradation, sample_degradations
from .draw import Exposure, Posed
from .figure import Figure, join
from .labels import JOINTS, Seen, depth_of_joints, see_person
from .light import Panorama, Surroundings, surround
from .moves import MoveLibrary
from .occluders import paint, picture_part, sample_thing
from .rotations import resample_points
from .seats import FOOTREST_M, KINDS, sample_seat
from .sensor import Sensor, sample_sensor
from .types import Motion
from .wardrobe import make_person

HARDNESS = {"clean": 0.0, "mixed": 0.6, "hard": 1.0}
_SUBFRAMES = 5
_TINY_PX = 18
_LEAST_JOINTS = 3
_STEADY_PX = 0.7
_PLAYS, _PLAY_FRAMES = 10, 60
_BODY = POSETRACK15.num_joints  # the first of JOINTS


@dataclass
class Dressed:
    """A person with all that is computed once."""

    figure: Figure
    bones: np.ndarray
    """[len(JOINTS)] int32 bone of each joint."""
    places: np.ndarray
    """[len(JOINTS), 3] float32 each joint at rest."""
    outline: np.ndarray
    """Vertices that tell the extent of the body."""
    head: np.ndarray
    """Vertices of the head."""
    depths: np.ndarray
    sole: float
    """Lowest y at rest: the soles of the shoes."""


def dress_up(assets: Assets, rng: np.random.Generator) -> Dressed:
    """A person of random shape and clothes."""
    person = make_person(assets, rng)
    figure = join(
        [(part.mesh, part.texture, part.kind) for part in person.parts],
        [part.weights for part in person.parts],
        person.rig,
    )
    order = [person.joints.index(name) for name in JOINTS]
    assert figure.weights is not None
    skin = np.concatenate(
        [np.full(len(p.mesh.vertices), p.kind in ("skin", "cloth", "shoes")) for p in person.parts]
    )
    used = np.zeros(len(figure.vertices), dtype=bool)
    used[np.unique(figure.faces)] = True
    of_head = figure.weights.bones[:, 0] == person.rig.names.index("Head")
    of_skin = np.concatenate([np.full(len(p.mesh.vertices), p.kind == "skin") for p in person.parts])
    height = float(person.rig.heads[:, 1].max() - figure.vertices[used, 1].min()) + 0.15
    return Dressed(
        figure=figure,
        bones=person.joint_bones[order],
        places=person.joint_places[order],
        outline=np.flatnonzero(skin & used)[::5],
        head=np.flatnonzero(of_head & of_skin & used)[::3],
        depths=depth_of_joints(height / 1.7),
        sole=float(figure.vertices[used, 1].min()),
    )


@dataclass
class Actor:
    """A person who moves about a scene."""

    who: Dressed
    motion: Motion
    place: np.ndarray
    """[3] metres: where the motion's own origin lies."""
    turn: np.ndarray
    """[3, 3] rotation about the upright."""
    seat: Thing | None = None
    """What the person sits on."""

    def pose(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices [V, 3] and joints [len(JOINTS), 3] in the world at ``time`` in frames."""
        first = min(int(time), len(self.motion.root) - 1)
        vertices, joints = self._at(first)
        share = time - first
        if share > 1e-3 and first + 1 < len(self.motion.root):
            after, joints_after = self._at(first + 1)
            vertices = vertices + np.float32(share) * (after - vertices)
            joints = joints + share * (joints_after - joints)
        return vertices, joints

    def _at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        figure = self.who.figure
        assert figure.rig is not None and figure.weights is not None
        transforms = skinning.pose_bones(figure.rig, self.motion, frame, self.motion.hip_height)
        whole = np.concatenate([self.turn @ transforms[:, :, :3], self.turn @ transforms[:, :, 3:]], axis=2)
        whole[:, :, 3] += self.place
        whole = whole.astype(np.float32)
        return (
            skinning.skin(figure.vertices, figure.weights, whole),
            skinning.skin_points(self.who.bones, self.who.places, whole),
        )


@dataclass
class Thing:
    """A thing that stands still, or moves in a straight line or along a path."""

    figure: Figure
    place: np.ndarray
    velocity: np.ndarray
    """[3] metres per frame."""
    normals: np.ndarray
    path: np.ndarray | None = None
    """[T, 3] metres from ``place`` in each frame, in place of ``velocity``."""

    def pose(self, time: float) -> np.ndarray:
        where = self.place + self.velocity * time
        if self.path is not None:
            where = self.place + resample_points(self.path, np.array([time]))[0]
        moved: np.ndarray = self.figure.vertices + where.astype(np.float32)
        return moved


@dataclass
class Scene:
    """Everything about a video but its pixels."""

    actors: list[Actor]
    things: list[Thing]
    surroundings: Surroundings
    path: CameraPath
    sensor: Sensor
    size: tuple[int, int]
    fps: float
    shutter: float
    """Share of the time between frames that the shutter is open."""
    defocus: np.ndarray
    """[frames] pixels of blur beyond the lens's own."""
    degradations: list[Degradation | None]
    """What is wrong with each frame."""
    flat: np.ndarray | None = None
    """[h, w, 3] linear RGB backdrop in place of the surroundings."""

    def frame(
        self, index: int, rng: np.random.Generator, people: int | None = None
    ) -> tuple[np.ndarray, list[Seen], Exposure]:
        """The picture [h, w, 3] uint8 RGB, its people (the first few), and the middle exposure."""
        cameras = [self.camera(index + self.shutter * k) for k in (0.0, 0.5, 1.0)]
        begin = [actor.pose(index) for actor in self.actors]
        end = [actor.pose(index + 1) for actor in self.actors]
        moved = self._moved(begin, end, cameras)
        count = 1 if moved < 1 else 3 if moved < 5 else _SUBFRAMES
        times = self.shutter * (np.arange(count) + 0.5) / count
        total: np.ndarray | None = None
        kept: Exposure | None = None
        behind: np.ndarray | None = None
        steady = self._turned(cameras) < _STEADY_PX
        for k, time in enumerate(times):
            posed, joints = self._posed(begin, end, float(time), index)
            if k == 0:
                shadows = self._shadows(posed)
            camera = cameras[1] if count == 1 else self.camera(index + float(time))
            if behind is None or not steady:
                behind = draw.behind(
                    cameras[1] if steady else camera, self.surroundings, shadows, self.size, self.flat
                )
            exposure = draw.expose(posed, camera, self.surroundings, shadows, behind)
            total = exposure.light if total is None else total + exposure.light
            if k == count // 2:
                kept, seen_joints, seen_posed, at = exposure, joints, posed, camera
        assert kept is not None and total is not None
        truths = [
            see_person(
                k, seen_joints[k], seen_posed[k].vertices[actor.who.outline],
                seen_posed[k].vertices[actor.who.head], at, kept, actor.who.depths,
            )
            for k, actor in enumerate(self.actors[:people])
        ]  # fmt: skip
        picture = self.sensor.develop(
            total / np.float32(count), rng, float(self.defocus[index]), self.degradations[index]
        )
        return picture, truths, kept

    def events(self, index: int) -> tuple[str, ...]:
        """What label files say is wrong with a frame."""
        degradation = self.degradations[index]
        return () if degradation is None else (degradation.kind,)

    def camera(self, time: float) -> Camera:
        """The camera at ``time`` in frames."""
        actor = self.actors[0]
        roots = actor.motion.root
        first = actor.turn @ roots[0] + actor.place
        low = min(int(time), len(roots) - 1)
        high = min(low + 1, len(roots) - 1)
        now = actor.turn @ (roots[low] + (time - low) * (roots[high] - roots[low])) + actor.place
        return self.path.at(time / self.fps, now, first)

    def _moved(self, begin: Any, end: Any, cameras: list[Camera]) -> float:
        """Pixels by which joints move while the shutter is open, the 90th percentile."""
        far = []
        for (_, a), (_, b) in zip(begin, end, strict=True):
            one = cameras[0].see(a)
            two = cameras[2].see(a + self.shutter * (b - a))
            ahead = (one[:, 2] > 0.1) & (two[:, 2] > 0.1)
            far.append(np.linalg.norm(one[ahead, :2] - two[ahead, :2], axis=1))
        every = np.concatenate(far) if far else np.zeros(1)
        return float(np.sort(every)[int(0.9 * len(every))]) if len(every) else 0.0

    def _posed(self, begin: Any, end: Any, time: float, index: int) -> tuple[list[Posed], list[np.ndarray]]:
        posed, joints = [], []
        share = np.float32(time)
        for actor, (va, ja), (vb, jb) in zip(self.actors, begin, end, strict=True):
            vertices = va + share * (vb - va)
            figure = actor.who.figure
            posed.append(Posed(figure, vertices, skinning.vertex_normals(vertices, figure.faces)))
            joints.append(ja + time * (jb - ja))
        posed += [Posed(thing.figure, thing.pose(index + time), thing.normals) for thing in self.things]
        return posed, joints

    def _shadows(self, posed: list[Posed]) -> Any:
        middle = posed[0].vertices.mean(axis=0)
        return draw.cast_shadows(posed, self.surroundings.lights[0], middle, radius=3.0)

    def _turned(self, cameras: list[Camera]) -> float:
        """Pixels by which the backdrop moves between the first and the last camera, about."""
        ahead = cameras[0].eye + cameras[0].rotation[2] * 5
        one, two = cameras[0].see(ahead), cameras[2].see(ahead)
        return float(np.linalg.norm(one[:2] - two[:2]))


# --- sampling ------------------------------------------------------------------------------------------


@dataclass
class Cast:
    """Where scenes take their people, movements, things and surroundings from.

    Person and thing number k of a seed are always the same, whoever else was made before. Where ``repeats``
    is above 1, a scene depends on those before it.
    """

    assets: Assets
    library: MoveLibrary
    panoramas: list[Panorama]
    seed: tuple[int, ...] = (0,)
    crowd: int = 400
    """How many people there are."""
    kept: int = 32
    """How many of them stay in memory, those used last."""
    repeats: int = 1
    """In how many scenes a person plays parts of one movement."""
    things: int = 120
    seated: float = 0.0
    """Share of the people who sit on something."""
    _people: dict[int, Dressed] = field(default_factory=dict, repr=False)
    _things: dict[int, Figure] = field(default_factory=dict, repr=False)
    _plays: list[list[Any]] = field(default_factory=list, repr=False)

    def hire(self, rng: np.random.Generator) -> Dressed:
        number = int(rng.integers(self.crowd))
        dressed = self._people.pop(number, None)
        if dressed is None:
            dressed = dress_up(self.assets, np.random.default_rng((*self.seed, number)))
        self._people[number] = dressed
        if len(self._people) > self.kept:
            del self._people[next(iter(self._people))]
        return dressed

    def thing(self, rng: np.random.Generator) -> Figure:
        """A thing on the ground around x = z = 0."""
        number = int(rng.integers(self.things))
        if number not in self._things:
            own = np.random.default_rng((*self.seed, self.crowd + number))
            mesh, texture = sample_thing(own, [panorama.picture for panorama in self.panoramas])
            self._things[number] = join([(mesh, texture, "thing")])
        return self._things[number]

    def play(self, rng: np.random.Generator, frames: int, fps: float) -> tuple[Dressed, Motion]:
        """A person and a movement of ``frames``."""
        if self.repeats == 1:
            who = self.hire(rng)
            return who, self._move(rng, who, frames, fps)
        if len(self._plays) < _PLAYS:
            who = self.hire(rng)
            self._plays.append([who, self._move(rng, who, frames + _PLAY_FRAMES, fps), self.repeats])
        number = int(rng.integers(len(self._plays)))
        who, motion, left = self._plays[number]
        self._plays[number][2] -= 1
        if left == 1 or len(motion.root) < frames:
            del self._plays[number]
        if len(motion.root) < frames:  # of a call with fewer frames
            return self.play(rng, frames, fps)
        start = int(rng.integers(len(motion.root) - frames + 1))
        part = slice(start, start + frames)
        air = motion.clearance[part] if motion.clearance is not None else None
        return who, replace(motion, rotations=motion.rotations[part], root=motion.root[part], clearance=air)

    def sit(self, rng: np.random.Generator, frames: int, fps: float) -> tuple[Dressed, Motion]:
        """A person who sits, always with a movement of their own."""
        who = self.hire(rng)
        return who, self._move(rng, who, frames, fps, "chair")

    def _move(
        self, rng: np.random.Generator, who: Dressed, frames: int, fps: float, kind: str | None = None
    ) -> Motion:
        assert who.figure.rig is not None
        return self.library.sample(rng, frames, fps, who.figure.rig, who.sole, kind)


def sample_actor(cast: Cast, rng: np.random.Generator, frames: int, fps: float, place: np.ndarray) -> Actor:
    """A person who is at ``place`` [3] in the middle of the video, turned anywhere."""
    sits = cast.seated > 0 and rng.random() < cast.seated  # without them nothing is drawn
    who, motion = (cast.sit if sits else cast.play)(rng, frames + 1, fps)
    turn = _turn(rng.uniform(0, 2 * np.pi))
    middle = turn @ motion.root[frames // 2]
    actor = Actor(who, motion, place - middle * [1, 0, 1], turn)
    if sits:
        _put_on_seat(actor, rng, frames // 2)
    return actor


def _turn(angle: float) -> np.ndarray:
    """[3, 3] rotation by so many radians about the upright."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _turned(figure: Figure, angle: float) -> Figure:
    """A thing's figure, turned by so many radians about the upright."""
    return replace(figure, vertices=(figure.vertices @ _turn(angle).T).astype(np.float32))


def _put_on_seat(actor: Actor, rng: np.random.Generator, frame: int) -> None:
    """Puts a seat under a person who sits; a wheelchair carries them along now and then."""
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    facing = actor.turn @ actor.motion.rotations[frame, 0] @ np.array([0.0, 0.0, 1.0])
    motion, rolls = actor.motion, kind == "wheelchair" and rng.random() < 0.6
    if rolls:
        speed = rng.uniform(-0.3, 1.5) / motion.fps
        ahead = actor.turn.T @ (facing * [1, 0, 1])
        drive = (np.arange(len(motion.root)) - frame)[:, None] * speed * ahead
        actor.motion = motion = replace(motion, root=(motion.root + drive).astype(np.float32))
    if kind == "wheelchair":
        actor.place = actor.place + [0, FOOTREST_M, 0]
    _, joints = actor.pose(frame)
    hips = joints[[JOINTS.index("left_hip"), JOINTS.index("right_hip")]].mean(axis=0)
    size = motion.hip_height / 0.92  # of one of 1.7 metres
    figure = sample_seat(rng, kind, max(float(hips[1]) - 0.1 * size, 0.15), size)
    figure = _turned(figure, np.arctan2(facing[0], facing[2]))
    normals = skinning.vertex_normals(figure.vertices, figure.faces)
    path = (motion.root - motion.root[frame]) @ actor.turn.T * [1, 0, 1]
    actor.seat = Thing(figure, hips * [1, 0, 1], np.zeros(3), normals, path)


def sample_scene(
    cast: Cast,
    rng: np.random.Generator,
    *,
    frames: int,
    fps: float,
    size: tuple[int, int],
    hardness: float,
    people: tuple[int, int],
    fill: tuple[float, float] = (0.3, 1.0),
    backdrop: tuple[int, int] | None = None,
) -> Scene:
    """A scene with a first person whom the camera films, and others about it.

    Args:
        size: (h, w) of the picture. backdrop: size of a flat one; ``None``: the same.
    """
    count = int(rng.integers(people[0], people[1] + 1))
    first = sample_actor(cast, rng, frames, fps, np.zeros(3))
    _, joints = first.pose(frames // 2)
    target = joints[:_BODY].mean(axis=0)
    extent = float(np.ptp(joints[:, 1]) + 0.25)
    path = sample_path(rng, target, max(extent, 0.8), size, fill=fill)
    toward = path.start - target
    toward[1] = 0
    toward /= max(np.linalg.norm(toward), 1e-6)
    across = np.array([toward[2], 0.0, -toward[0]])
    actors = [first]
    for _ in range(count - 1):
        depth = rng.normal(-0.8, 1.2) if rng.random() < 0.7 else -rng.uniform(2, 8)
        place = toward * min(depth, 0.6 * np.linalg.norm(path.start)) + across * rng.normal(
            0, 0.8 + 0.4 * abs(depth)
        )
        if np.linalg.norm(place) < 0.35:
            place = across * 0.5 * rng.choice([-1, 1])
        actors.append(sample_actor(cast, rng, frames, fps, place))
    things = _sample_things(
        cast, rng, hardness, toward, across, float(np.linalg.norm(path.start - target)), frames
    )
    things += [actor.seat for actor in actors if actor.seat is not None]
    surroundings = surround(cast.panoramas[int(rng.integers(len(cast.panoramas)))], rng)
    flat = _flat_backdrop(cast, rng, backdrop or size) if rng.random() < 0.2 else None
    own = np.random.default_rng(path.seed)  # so that single pictures are the same with degradations or not
    degradations = sample_degradations(own, frames, hardness, (backdrop or size)[0])
    things += _passing_things(cast, own, degradations, path.start, first, across)
    return Scene(
        actors=actors,
        things=things,
        surroundings=surroundings,
        path=path,
        sensor=sample_sensor(rng, hardness),
        size=size,
        fps=fps,
        shutter=float(rng.uniform(0.02, 0.2 + 0.4 * hardness)),
        defocus=_defocus(rng, frames, hardness, backdrop or size),
        degradations=degradations,
        flat=flat,
    )


def _sample_things(
    cast: Cast,
    rng: np.random.Generator,
    hardness: float,
    toward: np.ndarray,
    across: np.ndarray,
    distance: float,
    frames: int,
) -> list[Thing]:
    """Things in front of and behind the people; those behind are what else a detector might take for one."""
    out = []
    counts = int(rng.poisson(0.35 * (0.3 + hardness))), int(rng.poisson(2.0))
    for before in (True,) * counts[0] + (False,) * counts[1]:
        figure = cast.thing(rng)
        depth = rng.uniform(0.25, 0.6) * distance if before else -rng.uniform(0.3, 5)
        place = toward * depth + across * rng.normal(0, 0.7 if before else 2.0)
        place[1] = rng.choice([0.0, rng.uniform(0, 1.2)], p=[0.8, 0.2])
        figure = _turned(figure, rng.uniform(0, 2 * np.pi))
        moving = rng.random() < 0.3
        velocity = across * rng.normal(0, 0.04) if moving else np.zeros(3)
        normals = skinning.vertex_normals(figure.vertices, figure.faces)
        out.append(Thing(figure, place - velocity * frames / 2, velocity, normals))
    return out


def _passing_things(
    cast: Cast,
    rng: np.random.Generator,
    degradations: list[Degradation | None],
    eye: np.ndarray,
    actor: Actor,
    across: np.ndarray,
) -> list[Thing]:
    """A thing for each ``occluder``, which crosses between the camera and the person in its frames."""
    out = []
    for degradation, stretch in groupby(range(len(degradations)), key=degradations.__getitem__):
        if degradation is None or degradation.kind != "occluder":
            continue
        start, *rest = stretch
        length = 1 + len(rest)
        middle = start + length / 2
        figure = cast.thing(rng)
        target = actor.pose(min(int(middle), len(degradations) - 1))[1][:_BODY].mean(axis=0)
        share = rng.uniform(0.3, 0.7)  # of the way from the camera to the person
        place = eye + share * (target - eye)
        place = place - [0, float(figure.vertices[:, 1].mean()) + rng.normal(0, 0.3) * share, 0]
        width = float(np.ptp(figure.vertices @ across.astype(np.float32)))
        # It covers the person's middle for about the degradation's frames.
        speed = (width + 0.3 * share) / length * rng.uniform(0.7, 1.3)
        velocity = across * speed * rng.choice([-1, 1])
        normals = skinning.vertex_normals(figure.vertices, figure.faces)
        out.append(Thing(figure, place - velocity * middle, velocity, normals))
    return out


def _flat_backdrop(cast: Cast, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A backdrop without a horizon: a plain wall, a part of a picture, or many parts."""
    kind = rng.random()
    if kind < 0.3:
        colour = (paint(rng) / 255) ** np.float32(2.2)
        small = rng.normal(1, 0.15, (3, 4)).astype(np.float32)
        shade = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
        return np.clip(np.ones((*size, 3), dtype=np.float32) * colour * shade, 0, 1)
    pictures = [panorama.picture for panorama in cast.panoramas]
    out = picture_part(pictures[int(rng.integers(len(pictures)))], rng, size, (0.25, 0.8))
    if kind < 0.65:  # a crowd of parts, as of a room full of things
        for _ in range(int(rng.integers(3, 12))):
            part = (rng.uniform(0.1, 0.6, 2) * size).astype(int)
            top, left = (int(rng.integers(0, size[k] - part[k] + 1)) for k in range(2))
            piece = picture_part(pictures[int(rng.integers(len(pictures)))], rng, tuple(part), (0.1, 0.6))
            out[top : top + part[0], left : left + part[1]] = piece
    return out


def _defocus(rng: np.random.Generator, frames: int, hardness: float, size: tuple[int, int]) -> np.ndarray:
    """[frames] pixels: mostly none; now and then a stretch of frames is out of focus."""
    out = np.zeros(frames)
    if rng.random() < 0.2 * hardness:
        centre, width = rng.uniform(0, frames), rng.uniform(1, max(frames / 2, 2))
        strength = rng.uniform(0.002, 0.012) * size[0]
        out = strength * np.exp(-0.5 * ((np.arange(frames) - centre) / width) ** 2)
    return out


# --- videos and crops ----------------------------------------------------------------------------------


def render_video(
    cast: Cast,
    seed: int | tuple[int, ...],
    *,
    frames: int,
    size: tuple[int, int],
    fps: float,
    difficulty: str,
    people: tuple[int, int],
    instances: bool = False,
) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    """Frames of one scene with all their labels; ``instances``: also the map of who is where."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(
        cast, rng, frames=frames, fps=fps, size=size, hardness=HARDNESS[difficulty], people=people
    )
    for index in range(frames):
        picture, seen, exposure = scene.frame(index, rng)
        truths, ignored = [], []
        for k, person in enumerate(seen):
            if not is_labelled(person):
                continue
            x1, y1, x2, y2 = person.box_xyxy
            if y2 - y1 < _TINY_PX:
                ignored.append(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=np.float32))
                continue
            truths.append(person_truth(k, person))
        truth = FrameTruth(index, (index + scene.shutter / 2) / fps, truths, ignored, scene.events(index))
        if instances:
            is_person = exposure.owner < len(scene.actors)
            truth.instances = np.where(is_person, exposure.owner + 1, 255).astype(np.uint8)
        yield picture, truth


_COCO = [JOINTS.index(name) for name in COCO17.joints]


def is_labelled(person: Seen) -> bool:
    """Whether annotators would label a person: with a few joints in the picture, one of them to be seen."""
    x1, y1, x2, y2 = person.box_xyxy
    inside, visible = person.keypoints[:_BODY, 2], person.visible[:_BODY]
    return bool(x2 > x1 and y2 > y1 and inside.sum() >= _LEAST_JOINTS and visible.any())


def person_truth(track_id: int, person: Seen) -> PersonTruth:
    """What a label file says of a person."""
    return PersonTruth(
        track_id=track_id,
        keypoints=person.keypoints[:_BODY],
        visible=person.visible[:_BODY],
        box_xyxy=person.box_xyxy,
        head_box_xyxy=person.head_box_xyxy,
        depth_m=person.depth_m,
        coco17=_coco(person),
    )


def _coco(person: Seen) -> np.ndarray:
    """[17, 3] COCO's joints with COCO's flags."""
    out = person.keypoints[_COCO].copy()
    out[:, 2] *= 1 + person.visible[_COCO]
    return out


def load_cast(
    assets: str | os.PathLike[str],
    seed: tuple[int, ...],
    crowd: int = 400,
    repeats: int = 1,
    seated: float = 0.0,
) -> Cast:
    """People, movements and surroundings of an assets folder; ``seated``: share of people who sit.

    Raises:
        InputError: something that no scene can do without is missing.
    """
    found = Assets.load(Path(assets))
    pictures = []
    for path in find_panoramas(found):
        picture = cv2.imread(str(path))
        if picture is None:
            raise InputError(f"{path}: cannot be decoded as an image")
        pictures.append(Panorama.of(picture[..., ::-1]))
    return Cast(found, MoveLibrary.load(found), pictures, seed, crowd, repeats=repeats, seated=seated)


def find_panoramas(assets: Assets) -> list[Path]:
    """The pictures of all directions that light the scenes; :class:`InputError` where there is none."""
    if not assets.panoramas:
        raise InputError(f"{assets.root}: no panoramas/*.jpg, which light the scenes and stand behind them")
    return list(assets.panoramas)
