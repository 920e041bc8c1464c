"""Shapes of bodies: MakeHuman's macro targets mixed, the rig fitted, skin, eyes and joint points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidpose.errors import InputError

from .assets import METRES, Assets
from .decimate import decimate
from .files import BonePoint
from .types import Mesh, Rig, Weights

ETHNICITIES = ("african", "asian", "caucasian")
SKIN_TRIANGLES = 9000
"""Triangles of the whole skin; the base mesh has 26,756, most of them in hands, feet and face."""
CHILD, YOUNG, OLD = 10.0, 25.0, 90.0
"""Ages in years of MakeHuman's three shapes."""
_GROWTH = ((4.0, 1.02), (6.0, 1.16), (8.0, 1.28), (10.0, 1.39), (12.0, 1.50), (14.0, 1.62), (16.0, 1.70))
"""Years and mean stature in metres of children (WHO growth reference, both sexes, rounded)."""


@dataclass(frozen=True)
class BodyShape:
    """One body by MakeHuman's macro sliders."""

    age: float = 25.0
    """Years, 4 to 90. Below 10 the shape of a child of 10."""
    sex: float = 1.0
    """0 female to 1 male."""
    weight: float = 0.5
    """0 thin, 0.5 average, 1 heavy."""
    muscle: float = 0.5
    """0 slack, 0.5 average, 1 athletic."""
    height: float = 0.5
    """0 to 1: proportions of short to tall people."""
    ethnicity: tuple[float, float, float] = (0.0, 0.0, 1.0)
    """Shares of :data:`ETHNICITIES`, at least 0, not all 0."""
    stature_m: float | None = None
    """Height of the standing person in metres; None: as the targets make it."""

    def __post_init__(self) -> None:
        for name in ("sex", "weight", "muscle", "height"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"body shape: {name} {getattr(self, name)}, 0 to 1 is needed")
        if not 4 <= self.age <= OLD:
            raise InputError(f"body shape: age {self.age}, 4 to 90 years are needed")
        if len(self.ethnicity) != 3 or min(self.ethnicity) < 0 or not 0 < sum(self.ethnicity) < np.inf:
            raise InputError(
                f"body shape: ethnicity {self.ethnicity}, three shares that are not all 0 are needed"
            )
        if self.stature_m is not None and not 0.5 <= self.stature_m <= 2.5:
            raise InputError(f"body shape: stature {self.stature_m} m, 0.5 to 2.5 m are needed")


def sample_shape(rng: np.random.Generator) -> BodyShape:
    """A body as one might meet it: three in four between 16 and 60 years, one in eight a child.

    # silent: no source says how people in videos are spread; stature follows the usual means and deviations
    # (men 1.76 ± 0.07 m, women 1.63 ± 0.065 m, children by the WHO's growth reference).
    """
    kind = rng.random()
    if kind < 0.125:
        age = rng.uniform(5, 16)
    elif kind < 0.88:
        age = rng.uniform(16, 60)
    else:
        age = rng.uniform(60, 88)
    male = rng.random() < 0.5
    between = 0.3 * rng.beta(1, 3)
    sex = 1 - between if male else between
    heavy = rng.random() < 0.12
    weight = rng.uniform(0.75, 1.0) if heavy else np.clip(rng.normal(0.47, 0.17), 0.02, 0.9)
    muscle = np.clip(rng.normal(0.6 if age < 45 else 0.45, 0.2), 0.0, 1.0)
    mean, spread = (1.76, 0.07) if male else (1.63, 0.065)
    if age < 18:
        years, metres = zip(*_GROWTH, (18.0, mean), strict=True)
        mean, spread = float(np.interp(age, years, metres)), 0.06
    tall = float(np.clip(rng.normal(0, 1), -2.2, 2.4))
    mix = rng.dirichlet((0.35, 0.35, 0.35)) + 1e-3
    return BodyShape(
        float(age),
        float(sex),
        float(weight),
        float(muscle),
        float(np.clip(0.5 + (0.05 if tall > 0 else 0.09) * tall + rng.normal(0, 0.04), 0, 1)),
        (float(mix[0]), float(mix[1]), float(mix[2])),
        mean + spread * tall - (0.03 if age > 70 else 0.0),
    )


def macro_targets(shape: BodyShape) -> dict[str, float]:
    """Name of each target that shapes a body and its weight.

    The weights of the ethnic targets sum to 1, those of the universal ones too; the height target's weight is
    how far the height lies from 0.5, doubled (MakeHuman's macro modifiers).
    """
    sexes = _positive({"male": shape.sex, "female": 1 - shape.sex})
    if shape.age < YOUNG:
        grown = (max(shape.age, CHILD) - CHILD) / (YOUNG - CHILD)
        ages = _positive({"young": grown, "child": 1 - grown})
    else:
        past = (shape.age - YOUNG) / (OLD - YOUNG)
        ages = _positive({"old": past, "young": 1 - past})
    total = sum(shape.ethnicity)
    races = _positive({name: share / total for name, share in zip(ETHNICITIES, shape.ethnicity, strict=True)})
    muscles, weights = _slider(shape.muscle, "muscle"), _slider(shape.weight, "weight")
    out: dict[str, float] = {}
    tall = 2 * shape.height - 1
    for sex, a in sexes.items():
        for age, b in ages.items():
            out.update({f"{race}-{sex}-{age}": a * b * c for race, c in races.items()})
            for muscle, c in muscles.items():
                out.update({f"universal-{sex}-{age}-{muscle}-{w}": a * b * c * d for w, d in weights.items()})
            if tall:
                end = "maxheight" if tall > 0 else "minheight"
                out[f"{sex}-{age}-averagemuscle-averageweight-{end}"] = a * b * abs(tall)
    return out


def _positive(shares: dict[str, float]) -> dict[str, float]:
    return {name: share for name, share in shares.items() if share > 0}


def _slider(value: float, what: str) -> dict[str, float]:
    end = 2 * value - 1
    return _positive({f"{'max' if end > 0 else 'min'}{what}": abs(end), f"average{what}": 1 - abs(end)})


def shape_vertices(assets: Assets, shape: BodyShape) -> np.ndarray:
    """[V, 3] float32 metres: the base mesh, helpers included, of one shape; the soles are on y = 0.

    A height target that is not there (children have none) changes nothing; with ``stature_m`` the whole
    body is scaled to that height.

    Raises:
        InputError: an ethnic or universal target is not in the assets.
    """
    out = assets.base.vertices.copy()
    for name, weight in macro_targets(shape).items():
        if not name.endswith("height") or name in assets.targets:
            out += np.float32(weight) * assets.target(name)
    skin = out[_skin_vertices(assets)]
    low, high = skin[:, 1].min(), skin[:, 1].max()
    out[:, 1] -= low
    out *= METRES if shape.stature_m is None else shape.stature_m / (high - low)
    return out.astype(np.float32)


def _skin_vertices(assets: Assets) -> np.ndarray:
    """Vertices of the group ``body``, ascending."""
    return assets.keep("skin vertices", lambda: np.unique(assets.base.faces[_group(assets, "body")]))


def _group(assets: Assets, name: str) -> np.ndarray:
    if name not in assets.base.groups:
        raise InputError(f"{assets.base_path}: has no group '{name}', MakeHuman's base mesh hm08 is needed")
    return assets.base.groups[name]


def fit_rig(assets: Assets, vertices: np.ndarray) -> Rig:
    """The rig of a shaped body: bones begin and end at joint cubes or at means of vertices of the mesh.

    Arguments: vertices [V, 3] metres, from :func:`shape_vertices`.
    """
    bones = assets.bones
    names = tuple(bones)
    ends = assets.keep(
        "bone ends",
        lambda: [[_point_vertices(assets, p) for p in (bone.head, bone.tail)] for bone in bones.values()],
    )
    places = np.array([[vertices[rows].mean(0) for rows in pair] for pair in ends], np.float32)
    parents = np.array([names.index(bone.parent) if bone.parent else -1 for bone in bones.values()], np.int32)
    return Rig(names, parents, places[:, 0], places[:, 1])


def _point_vertices(assets: Assets, point: BonePoint) -> np.ndarray:
    if point.cube is not None:
        if point.cube not in assets.base.groups:
            raise InputError(f"{assets.rig_path}: joint cube {point.cube} is no group of {assets.base_path}")
        return np.unique(assets.base.faces[assets.base.groups[point.cube]])
    if max(point.vertices) >= assets.vertex_count:
        raise InputError(
            f"{assets.rig_path}: vertex {max(point.vertices)}, the base mesh has {assets.vertex_count}"
        )
    return np.array(point.vertices, np.int64)


def four_largest(dense: np.ndarray) -> Weights:
    """The four largest weights of each row of [V, B], divided by their sum."""
    bones = np.argsort(-dense, axis=1, kind="stable")[:, :4]
    values = np.maximum(np.take_along_axis(dense, bones, 1), 0)
    if bones.shape[1] < 4:
        lack = 4 - bones.shape[1]
        bones, values = np.pad(bones, ((0, 0), (0, lack))), np.pad(values, ((0, 0), (0, lack)))
    values = values / values.sum(1, keepdims=True)
    return Weights(bones.astype(np.int32), values.astype(np.float32))


def skin_weights(assets: Assets) -> Weights:
    """Skin weights of all vertices of the base mesh, for bones in the order of :func:`fit_rig`."""
    return assets.keep("skin weights", lambda: four_largest(assets.dense_weights))


def skin_faces(assets: Assets, triangles: int = SKIN_TRIANGLES) -> tuple[np.ndarray, np.ndarray]:
    """The visible skin, thinned: faces [F, 3] of the base mesh and their texture coordinates' rows [F, 3]."""
    rows = _group(assets, "body")
    return assets.keep(
        ("skin faces", triangles),
        lambda: decimate(
            assets.base.vertices, assets.base.faces[rows], assets.base.uv_faces[rows], triangles
        ),
    )


def eye_mesh(assets: Assets, vertices: np.ndarray) -> Mesh | None:
    """The front halves of both eyes, or None where the base mesh has none.

    MakeHuman's eye pictures show an eyeball of radius 0.28 around (0.29, 0.30); each eye is projected onto it
    from the front, the base mesh's own coordinates of the eyes belong to the skin's picture.
    """
    faces, uvs = [], np.zeros((len(vertices), 2), np.float32)
    for name in ("helper-l-eye", "helper-r-eye"):
        if name not in assets.base.groups:
            return None
        mine = assets.base.faces[assets.base.groups[name]]
        rows = np.unique(mine)
        low, high = assets.base.vertices[rows].min(0), assets.base.vertices[rows].max(0)
        middle, radius = (low + high) / 2, (high - low)[:2].max() / 2
        from_middle = (assets.base.vertices[rows] - middle) / radius
        uvs[rows] = np.array([0.29, 0.30]) + 0.27 * from_middle[:, :2]
        front = (assets.base.vertices[mine][:, :, 2] > middle[2] - 0.2 * radius).all(1)
        faces.append(mine[front])
    both = np.concatenate(faces).astype(np.int32)
    return Mesh(vertices, both, uvs, both)


LANDMARKS = ("nose", "head_top", "left_eye", "right_eye", "left_ear", "right_ear")


def landmarks(assets: Assets, vertices: np.ndarray) -> dict[str, np.ndarray]:
    """Name of each of :data:`LANDMARKS` to its place [3] in metres at rest.

    Each is one vertex of the base mesh, except the top of the head, the highest of the shape's skin.
    """
    rows = landmark_vertices(assets)
    out = {name: vertices[row] for name, row in rows.items()}
    skin = _skin_vertices(assets)
    out["head_top"] = vertices[skin[np.argmax(vertices[skin, 1])]]
    return out


def landmark_vertices(assets: Assets) -> dict[str, int]:
    """Vertices of the base mesh that are the landmarks, found by their place.

    The nose is the foremost vertex of the head on the midline, an eye its foremost vertex, the top of the
    head the highest. An ear is the vertex nearest to the middle of what lies within 4 cm of the outermost.
    """
    return assets.keep("landmarks", lambda: _find_landmarks(assets))


def _find_landmarks(assets: Assets) -> dict[str, int]:
    points = assets.base.vertices * METRES
    skin = _skin_vertices(assets)
    names = list(assets.bones)
    if "Head" not in names:
        raise InputError(f"{assets.rig_path}: has no bone Head")
    head = skin[assets.dense_weights[skin, names.index("Head")] > 0.5]
    midline = head[np.abs(points[head, 0]) < 0.002]
    if not len(midline):
        raise InputError(f"{assets.base_path}: the head has no vertex on the midline, hm08 is needed")
    out = {
        "nose": int(midline[np.argmax(points[midline, 2])]),
        "head_top": int(head[np.argmax(points[head, 1])]),
    }
    for side, sign in (("left", 1), ("right", -1)):
        group = assets.base.groups.get(f"helper-{side[0]}-eye")
        eye = np.unique(assets.base.faces[group]) if group is not None else _eye_region(points, head, sign)
        out[f"{side}_eye"] = int(eye[np.argmax(points[eye, 2])])
        outer = head[np.argmax(sign * points[head, 0])]
        ear = head[np.linalg.norm(points[head] - points[outer], axis=1) < 0.04]
        ear = ear[sign * points[ear, 0] > 0.85 * sign * points[outer, 0]]
        out[f"{side}_ear"] = int(ear[np.argmin(np.linalg.norm(points[ear] - points[ear].mean(0), axis=1))])
    return out


def _eye_region(points: np.ndarray, head: np.ndarray, sign: int) -> np.ndarray:
    """Skin where an eye would be: 1.5 to 4.5 cm from the midline, in the middle of the head's height."""
    low, high = points[head, 1].min(), points[head, 1].max()
    height = (points[head, 1] - low) / max(high - low, 1e-6)
    across = sign * points[head, 0]
    rows = head[(across > 0.015) & (across < 0.045) & (np.abs(height - 0.5) < 0.1)]
    return rows if len(rows) else head


_HEADS = {
    "head_bottom": "Neck", "left_shoulder": "LeftArm", "right_shoulder": "RightArm",
    "left_elbow": "LeftForeArm", "right_elbow": "RightForeArm", "left_wrist": "LeftHand",
    "right_wrist": "RightHand", "left_hip": "LeftUpLeg", "right_hip": "RightUpLeg", "left_knee": "LeftLeg",
    "right_knee": "RightLeg", "left_ankle": "LeftFoot", "right_ankle": "RightFoot",
}  # fmt: skip


_RIDES_ON = {
    "shoulder": "{Side}Shoulder", "elbow": "{Side}Arm", "wrist": "{Side}ForeArm", "hip": "Hips",
    "knee": "{Side}UpLeg",
}  # fmt: skip
"""Bones that carry the joints which are moved from where bones turn to where people click."""
_UP = {"shoulder": 0.06, "hip": -0.06}
"""Shares of the torso, from the middle of the hips to that of the shoulders."""
_OUT = {"shoulder": 0.03, "hip": 0.10}
"""Shares of the way from the joint of the other side."""
_ALONG = {"elbow": ("shoulder", 0.036), "wrist": ("elbow", 0.06), "knee": ("hip", 0.083)}
"""Shares of the limb, away from the joint that is named.

All are estimated by benchmarks/joint_offsets.py on people of LSP-extended that no score is taken from, with a
model trained on rendered people whose joints lay where bones turn.
"""


@dataclass
class JointPoints:
    """Points that ride rigidly on a bone: joints of PoseTrack and COCO together."""

    names: tuple[str, ...]
    """K names as in :mod:`vidpose.skeletons`."""
    bones: np.ndarray
    """[K] int32 rows of the rig."""
    rest: np.ndarray
    """[K, 3] float32 metres at rest."""


def joint_points(assets: Assets, rig: Rig, vertices: np.ndarray) -> JointPoints:
    """Where the joints of PoseTrack (15) and COCO (17) are on a shaped body.

    Joints of the limbs are the heads of their bones, moved to where people click (shoulders and hips lie
    nearer the surface); ``head_bottom`` is the neck's; nose, eyes, ears and the top of the head ride on the
    head.

    Raises:
        InputError: the rig lacks a bone.
    """
    index = {name: row for row, name in enumerate(rig.names)}
    carriers = {bone.format(Side=side) for bone in _RIDES_ON.values() for side in ("Left", "Right")}
    lacking = sorted((set(_HEADS.values()) | carriers) - set(index))
    if lacking:
        raise InputError(f"{assets.rig_path}: has no bone {lacking[0]}, the rig cmu_mb is needed")
    face = landmarks(assets, vertices)
    names = (*LANDMARKS, *_HEADS)
    bones = [index["Head"]] * len(LANDMARKS)
    rest = [face[name] for name in LANDMARKS]
    turns = {name: rig.heads[index[bone]] for name, bone in _HEADS.items()}
    torso = sum(turns[f"{s}_shoulder"] - turns[f"{s}_hip"] for s in ("left", "right")) / 2
    for name, bone in _HEADS.items():
        side, _, part = name.partition("_")
        point = turns[name]
        if part in _UP:
            other = turns[f"{'right' if side == 'left' else 'left'}_{part}"]
            point = point + _UP[part] * torso + _OUT[part] * (point - other)
        elif part in _ALONG:
            start, share = _ALONG[part]
            point = point + share * (point - turns[f"{side}_{start}"])
        if part in _RIDES_ON:
            bone = _RIDES_ON[part].format(Side=side.capitalize())
        bones.append(index[bone])
        rest.append(point)
    return JointPoints(names, np.array(bones, np.int32), np.array(rest, np.float32))
