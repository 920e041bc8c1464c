"""Joint sets of the field: names, flip pairs, limbs, OKS sigmas, and conversions between sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A named, ordered set of joints.

    ``left`` and ``right`` are the person's own left and right. Joint names are shared by all sets, so that
    conversion is a matter of names.
    """

    name: str
    joints: tuple[str, ...]
    limb_names: tuple[tuple[str, str], ...]

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @cached_property
    def index(self) -> dict[str, int]:
        """Joint name -> position."""
        return {name: i for i, name in enumerate(self.joints)}

    @cached_property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) positions that change places in a mirrored image."""
        return tuple(
            (i, self.index["right" + name[4:]])
            for i, name in enumerate(self.joints)
            if name.startswith("left")
        )

    @cached_property
    def flip_permutation(self) -> np.ndarray:
        """[J] int: ``mirrored[j] = original[flip_permutation[j]]``."""
        order = np.arange(self.num_joints)
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return order

    @cached_property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joint positions that a drawing connects."""
        return tuple((self.index[a], self.index[b]) for a, b in self.limb_names)

    @cached_property
    def upper_body(self) -> tuple[int, ...]:
        """Positions of the joints above the hips (half-body augmentation)."""
        return tuple(i for i in range(self.num_joints) if i not in self.lower_body)

    @cached_property
    def lower_body(self) -> tuple[int, ...]:
        """Positions of hips, knees and ankles."""
        return tuple(i for i, name in enumerate(self.joints) if name.endswith(("hip", "knee", "ankle")))

    @cached_property
    def sigmas(self) -> np.ndarray:
        """[J] float: COCO's object-keypoint-similarity sigmas, by joint name."""
        return np.array(
            [_SIGMAS[name.split("_", 1)[1] if name[:4] in ("left", "righ") else name] for name in self.joints]
        )


# COCO's published constants; for joints that COCO lacks, CrowdPose's (head top, neck).
_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062,
    "hip": 0.107, "knee": 0.087, "ankle": 0.089,
    "head_bottom": 0.079, "head_top": 0.079, "neck": 0.079, "chest": 0.079, "face": 0.035, "belly": 0.107,
}  # fmt: skip

_LEGS_AND_ARMS = (
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
)  # fmt: skip
_TORSO = (("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("left_hip", "right_hip"))
_POSETRACK_LIMBS = (
    ("head_top", "nose"), ("nose", "head_bottom"),
    ("head_bottom", "left_shoulder"), ("head_bottom", "right_shoulder"),
    *_TORSO, *_LEGS_AND_ARMS,
)  # fmt: skip


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


_LIMB_JOINTS = _both("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

POSETRACK15 = Skeleton("posetrack15", ("nose", "head_bottom", "head_top", *_LIMB_JOINTS), _POSETRACK_LIMBS)
"""PoseTrack18's order without the ears, which nobody annotates: what our models predict."""

POSETRACK17 = Skeleton(
    "posetrack17",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "head_bottom", "nose", "head_top",
    ),
    _POSETRACK_LIMBS,
)  # fmt: skip
"""The same 15 joints by the ids of PoseTrack17 files and of the official evaluation."""

POSETRACK18 = Skeleton(
    "posetrack18", ("nose", "head_bottom", "head_top", *_both("ear"), *_LIMB_JOINTS), _POSETRACK_LIMBS
)
"""The 17 positions of PoseTrack18 and 21 files; the ears are placeholders (0, 0, 0)."""

COCO17 = Skeleton(
    "coco17",
    ("nose", *_both("eye", "ear"), *_LIMB_JOINTS),
    (
        ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
        ("left_shoulder", "right_shoulder"), *_TORSO, *_LEGS_AND_ARMS,
    ),
)  # fmt: skip

HIEVE14 = Skeleton(
    "hieve14",
    (
        "nose", "chest", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    ),
    (("nose", "chest"), ("chest", "left_shoulder"), ("chest", "right_shoulder"), *_TORSO, *_LEGS_AND_ARMS),
)  # fmt: skip

JHMDB15 = Skeleton(
    "jhmdb15",
    (
        "neck", "belly", "face", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow",
        "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
    ),
    (
        ("face", "neck"), ("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "belly"),
        ("belly", "left_hip"), ("belly", "right_hip"), *_LEGS_AND_ARMS,
    ),
)  # fmt: skip

LSP14 = Skeleton(
    "lsp14",
    (
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
        "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "head_bottom",
        "head_top",
    ),
    (
        ("head_top", "head_bottom"), ("head_bottom", "left_shoulder"), ("head_bottom", "right_shoulder"),
        *_TORSO, *_LEGS_AND_ARMS,
    ),
)  # fmt: skip

SKELETONS: dict[str, Skeleton] = {
    s.name: s for s in (POSETRACK15, POSETRACK17, POSETRACK18, COCO17, HIEVE14, JHMDB15, LSP14)
}

# Names for nearly the same place on the body, tried in order where a set lacks a name.
_SYNONYMS: dict[str, tuple[str, ...]] = {
    "head_bottom": ("neck", "chest"),
    "neck": ("head_bottom", "chest"),
    "chest": ("head_bottom", "neck"),
    "face": ("nose",),
    "nose": ("face",),
}


def get_skeleton(name: str) -> Skeleton:
    """The joint set called ``name``; raises ``ValueError`` with the known names."""
    if name not in SKELETONS:
        raise ValueError(f"unknown joint set {name!r}; known: {', '.join(SKELETONS)}")
    return SKELETONS[name]


def symmetric_places(
    skeleton: Skeleton, middle: Mapping[str, float], left: Mapping[str, tuple[float, float]]
) -> list[tuple[float, float] | None]:
    """Where the joints of a symmetric figure are, x from its middle, the left ones at positive x.

    Args:
        middle: height of joints on the middle line, by name. left: (x, y) of a pair's left one, by part.

    Returns:
        A place for every joint; ``None`` for one that neither knows.
    """
    places: list[tuple[float, float] | None] = []
    for name in skeleton.joints:
        side, _, part = name.partition("_")
        if name in middle:
            places.append((0.0, middle[name]))
        elif side in ("left", "right") and part in left:
            x, y = left[part]
            places.append((x if side == "left" else -x, y))
        else:
            places.append(None)
    return places


def convert_keypoints(
    keypoints: np.ndarray, source: Skeleton, target: Skeleton, *, approximate: bool = True
) -> np.ndarray:
    """Re-orders keypoints from one joint set to another.

    Args:
        keypoints: [..., J_source, C], C >= 3: x, y, and score or visibility last; 0 in the last column means
            absent. Further columns in between are copied.
        approximate: fill joints that ``source`` lacks from a synonym (neck for head_bottom), and, for COCO
            sources, ``head_bottom = 2/3 mid-shoulder + 1/3 nose`` and ``head_top = nose + (nose -
            head_bottom)`` with the lowest of the scores that went in. Good for pictures; a table that uses it
            must say so.

    Returns:
        [..., J_target, C]; a joint with no source is all zero.
    """
    keypoints = np.asarray(keypoints)
    if keypoints.shape[-2] != source.num_joints:
        raise ValueError(f"{source.name} has {source.num_joints} joints, keypoints has {keypoints.shape[-2]}")
    if keypoints.shape[-1] < 3:
        raise ValueError("keypoints needs x, y and a score or visibility in its last axis")
    out = np.zeros((*keypoints.shape[:-2], target.num_joints, keypoints.shape[-1]), dtype=keypoints.dtype)
    for j, name in enumerate(target.joints):
        candidates = (name, *_SYNONYMS.get(name, ())) if approximate else (name,)
        found = next((c for c in candidates if c in source.index), None)
        if found is not None:
            out[..., j, :] = keypoints[..., source.index[found], :]
        elif approximate and name in ("head_bottom", "neck", "head_top"):
            made = _approximate_head(keypoints, source, name)
            if made is not None:
                out[..., j, :] = made
    return out


def _approximate_head(keypoints: np.ndarray, source: Skeleton, name: str) -> np.ndarray | None:
    """head_bottom or head_top from nose and shoulders (or from nose and a real head_bottom)."""
    if "nose" not in source.index or "left_shoulder" not in source.index:
        return None
    nose = keypoints[..., source.index["nose"], :]
    left = keypoints[..., source.index["left_shoulder"], :]
    right = keypoints[..., source.index["right_shoulder"], :]
    bottom = (left + right) / 2 * (2 / 3) + nose / 3
    lowest = np.minimum(nose[..., -1], np.minimum(left[..., -1], right[..., -1]))
    if name == "head_top" and "head_bottom" in source.index:
        bottom = keypoints[..., source.index["head_bottom"], :]
        lowest = np.minimum(nose[..., -1], bottom[..., -1])
    made = (bottom if name != "head_top" else 2 * nose - bottom).copy()
    made[..., -1] = lowest
    return np.where(lowest[..., None] > 0, made, 0)
