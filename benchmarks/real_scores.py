"""The arithmetic of benchmarks/real.py: shares of joints, mirrored people, intervals by resampling."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vidpose.evaluate.units import torso_lengths
from vidpose.geometry import crop_affine
from vidpose.skeletons import Skeleton

PARTS = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder", "head_bottom", "head_top", "nose")
TWELVE = tuple(
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
CROP = (192, 160)
"""(height, width) whose shape the crop has that a score is a share of; one for all models."""
RESAMPLES = 2000
MIRROR_MARGIN, MIRROR_CAP, MIRROR_JOINTS = 0.05, 0.3, 4
_ACTIONS = (
    "brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup",
    "push", "run", "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk",
    "wave",
)  # fmt: skip
_CLIP = re.compile(rf"(?:\d{{6}}_)?(.+)_(?:{'|'.join(_ACTIONS)})_[fhlu]_[cn]m_np\d+_\w\w_\w{{3}}_\d+")


def film_of(video: str) -> str:
    """What to resample: the film of a clip that is called as JHMDB's are, else the video itself."""
    found = _CLIP.fullmatch(video.rsplit("/", 1)[-1])
    return found[1].lower() if found else video


# --- lengths -----------------------------------------------------------------------------------------------


def crop_heights(boxes: np.ndarray) -> np.ndarray:
    """[N] image pixels: the height of the crop around boxes [N, 4], 1.25 times the box, as CROP is shaped."""
    affines = [crop_affine(box, CROP) for box in boxes]
    return np.array([CROP[0] / np.sqrt(np.linalg.det(affine[:, :2])) for affine in affines])


def box_sides(boxes: np.ndarray) -> np.ndarray:
    """[N] image pixels: the larger side of boxes [N, 4]."""
    return np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1.0)


def head_lengths(truth: np.ndarray, joints: Skeleton) -> np.ndarray:
    """[N] pixels from head_top to head_bottom; NaN where one is not labelled."""
    if not {"head_top", "head_bottom"} <= set(joints.joints):
        return np.full(len(truth), np.nan)
    top, bottom = (truth[:, joints.index[name]] for name in ("head_top", "head_bottom"))
    length = np.linalg.norm(top[:, :2] - bottom[:, :2], axis=-1)
    return np.where((top[:, 2] > 0) & (bottom[:, 2] > 0) & (length >= 1), length, np.nan)


def limits(truth: np.ndarray, boxes: np.ndarray, joints: Skeleton) -> dict[str, np.ndarray]:
    """For each metric how far a joint may be from its label: [N] pixels, NaN where a person has no such unit.

    Args:
        truth: [N, J, 3] x, y and 1 where labelled. boxes: [N, 4] x1, y1, x2, y2.
    """
    heights, sides = crop_heights(boxes), box_sides(boxes)
    return {
        "PCK 0.1 crop": 0.1 * heights,
        "PCK 0.05 crop": 0.05 * heights,
        "PCK 0.1 box": 0.1 * sides,
        "PCK 0.05 box": 0.05 * sides,
        "PCK 0.2 torso": 0.2 * torso_lengths(truth[..., :2], truth[..., 2] > 0, joints.joints),
        "PCKh 0.5": 0.5 * head_lengths(truth, joints),
    }


# --- scores ------------------------------------------------------------------------------------------------


def common_joints(model: Skeleton, joints: Skeleton) -> np.ndarray:
    """[J] bool: the joints of the data that the model has, by name."""
    return np.array([name in model.index for name in joints.joints])


def subset(joints: Skeleton, names: tuple[str, ...]) -> np.ndarray:
    """[J] bool: the joints of these names."""
    return np.array([name in names for name in joints.joints])


@dataclass
class Tally:
    """Which joints count, and which of them are right. N people, J joints of the data."""

    counts: np.ndarray
    """[N, J] bool."""
    right: np.ndarray
    """[N, J] bool, within ``counts``."""

    def of(self, chosen: np.ndarray) -> Tally:
        """Those of them that are ``chosen``: bool [J] or [N, J]."""
        return Tally(self.counts & chosen, self.right & chosen)

    def per_cent(self) -> float:
        """NaN where nothing counts."""
        total = self.counts.sum()
        return float(100 * self.right.sum() / total) if total else float("nan")


def tally(found: np.ndarray, truth: np.ndarray, limit: np.ndarray) -> Tally:
    """Joints within ``limit`` [N] pixels of their labels.

    Args:
        found: [N, J, 3], 0 in the last column for joints that the model does not have: they do not count.
        truth: [N, J, 3], likewise for joints without a label.
    """
    counts = (truth[..., 2] > 0) & (found[..., 2] > 0) & ~np.isnan(limit)[:, None]
    distance = np.linalg.norm(found[..., :2] - truth[..., :2], axis=-1)
    return Tally(counts, counts & (distance <= limit[:, None]))


def by_part(done: Tally, joints: Skeleton) -> dict[str, float]:
    """Per cent of each part of the body, left and right together, of the twelve joints, and of all."""
    out = {part: done.of(subset(joints, (part, f"left_{part}", f"right_{part}"))) for part in PARTS}
    out |= {"12 joints": done.of(subset(joints, TWELVE)), "all": done}
    return {name: one.per_cent() for name, one in out.items()}


def mean_distances(found: np.ndarray, truth: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """[N] mean distance of the joints that count, in larger sides of the box; NaN where none does."""
    counts = (truth[..., 2] > 0) & (found[..., 2] > 0)
    distance = np.linalg.norm(found[..., :2] - truth[..., :2], axis=-1) / sides[:, None]
    total = counts.sum(axis=1)
    return np.where(total, (distance * counts).sum(axis=1) / np.maximum(total, 1), np.nan)


def mirrored(found: np.ndarray, truth: np.ndarray, sides: np.ndarray, joints: Skeleton) -> np.ndarray:
    """[N] 1 for people whose left and right are exchanged, else 0; NaN for those with too few joints to say.

    With the sides exchanged, the mean distance of the paired joints must be smaller by 0.05 of the larger
    side of the box; no distance counts more than 0.3 of it.

    Args:
        found, truth: as of :func:`tally`. sides: [N] pixels.
    """
    order = joints.flip_permutation
    paired = order != np.arange(joints.num_joints)
    counts = (truth[..., 2] > 0) & (found[..., 2] > 0) & (found[:, order, 2] > 0) & paired
    total = counts.sum(axis=1)
    means = []
    for points in (found, found[:, order]):
        distance = np.linalg.norm(points[..., :2] - truth[..., :2], axis=-1) / sides[:, None]
        means.append((np.minimum(distance, MIRROR_CAP) * counts).sum(axis=1) / np.maximum(total, 1))
    return np.where(total >= MIRROR_JOINTS, means[0] - means[1] > MIRROR_MARGIN, np.nan)


# --- intervals ---------------------------------------------------------------------------------------------


def resample(groups: list[str], times: int = RESAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap samples of whole groups: people of one film or video stay together.

    Args:
        groups: of N people.

    Returns:
        [N] the number of each person's group, and [times, G] how often each group was drawn.
    """
    names, member = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), times)
    return member.reshape(-1), drawn


def group_sums(values: np.ndarray, member: np.ndarray) -> np.ndarray:
    """[G] sums over the people of each group of [N] or [N, J]."""
    return np.bincount(member, values.reshape(len(member), -1).sum(axis=1))


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap values; those that are NaN are left out."""
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def shares(right: np.ndarray, counts: np.ndarray, member: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """[times] per cent of what counts that is right, in each bootstrap sample."""
    total = drawn @ group_sums(counts, member)
    return np.where(total > 0, 100 * (drawn @ group_sums(right, member)) / np.maximum(total, 1), np.nan)


def share_interval(done: Tally, groups: list[str]) -> tuple[float, float]:
    """The 95 % interval of :meth:`Tally.per_cent`."""
    return interval(shares(done.right, done.counts, *resample(groups)))


def difference(first: Tally, second: Tally, groups: list[str]) -> tuple[float, float, float]:
    """How much better the second is, over the joints that count for both: per cent, and its 95 % interval.

    Both are scored on the same bootstrap samples (paired).
    """
    counts = first.counts & second.counts
    a, b = first.of(counts), second.of(counts)
    member, drawn = resample(groups)
    values = shares(b.right, counts, member, drawn) - shares(a.right, counts, member, drawn)
    return b.per_cent() - a.per_cent(), *interval(values)
