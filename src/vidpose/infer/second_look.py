"""A second look at what the small detector found: a pose in every box says where the person is, and whether
there is one.

The detector sees each image three times: as it is, mirrored and smaller, and larger, as views err in
different places and small people need pixels (:func:`see`). It sees a whole picture at few pixels; a pose
model sees each box at its own size. The box around a pose and the detector's box are mixed, and both make
the score (:class:`LookFit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vidpose.errors import InputError
from vidpose.geometry import box_iou, clip_boxes, enclosing_box
from vidpose.infer.crops import CropRunner, Strip
from vidpose.infer.cutters import Cutter, Picture, make_cutter
from vidpose.models.person_detector import MULTIPLE, DetectorOutput, PersonDetector, non_maximum_suppression
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK15

if TYPE_CHECKING:
    from vidpose.infer.engines import PoseRunner

VIEWS: tuple[tuple[float, bool], ...] = ((1.0, False), (10 / 13, True), (2.0, False))
"""Size as a share of the detector's own, and whether mirrored: 416, 320 and 832 pixels for 416."""
FIRST_SCORE = 0.1
"""Boxes of the detector below this, averaged over the views, are not looked at."""
SAME_IOU = 0.55
"""Boxes of two views that overlap by as much are of one person."""
SURE_PEAK = 0.3
"""Joints with a lower peak do not say where a person ends."""
MIN_JOINTS = 4
_CLOSEST = 0.005  # scores are kept this far from 0 and 1 in their logits


def view_sides(long_side: int) -> list[int]:
    """Pixels of the longer side of each view, for a detector whose own is ``long_side``."""
    return [max(round(long_side * share / MULTIPLE), 1) * MULTIPLE for share, _ in VIEWS]


def see(
    model: PersonDetector,
    images: Sequence[np.ndarray],
    *,
    nms_iou: float = 0.65,
    max_people: int = 100,
    dtype: torch.dtype = torch.float32,
    network: Callable[[Tensor], DetectorOutput] | None = None,
    cutter: Cutter | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per uint8 RGB image [H, W, 3] boxes [P, 4] and scores [P] of its ``VIEWS`` together.

    Boxes of one person are averaged by their scores. A view that misses a person gives the score 0.
    ``cutter``: resizes the images; ``None``: that of the model's device.
    """
    cutter = make_cutter(next(model.parameters()).device) if cutter is None else cutter
    options: dict[str, Any] = {
        "nms_iou": nms_iou,
        "max_people": max_people,
        "dtype": dtype,
        "network": network,
        "prepare": cutter.letterbox,
    }
    options["min_score"] = FIRST_SCORE / len(VIEWS)
    sides = view_sides(model.long_side)
    # All views from one small copy: to shrink a large picture takes as long as to see it.
    reduced = [cutter.reduce(image, max(sides)) for image in images]
    views = []
    for side, (_, mirrored) in zip(sides, VIEWS, strict=True):
        shown: list[Picture] = [cutter.mirror(image) if mirrored else image for image in reduced]
        found = model.detect(shown, long_side=side, **options)
        if mirrored:
            found = [
                (boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [image.shape[1] - 1, 0] * 2, scores)
                for image, (boxes, scores) in zip(reduced, found, strict=True)
            ]
        views.append(found)
    results = []
    for large, small, seen in zip(images, reduced, zip(*views, strict=True), strict=True):
        boxes, scores = join_views(seen)
        kept = non_maximum_suppression(boxes, scores, nms_iou)
        kept = kept[scores[kept] >= FIRST_SCORE][:max_people]
        ratio = np.tile(np.array(large.shape[1::-1]) / np.array(small.shape[1::-1]), 2)
        results.append(((boxes[kept] + 0.5) * ratio - 0.5, scores[kept]))
    return results


def join_views(views: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [P, 4] and scores [P] of several views as one list.

    The best box that is left takes from every other view the best one that overlaps it.
    """
    boxes = np.concatenate([boxes.reshape(-1, 4) for boxes, _ in views])
    scores = np.concatenate([scores for _, scores in views])
    view = np.repeat(np.arange(len(views)), [len(scores) for _, scores in views])
    same = box_iou(boxes, boxes) >= SAME_IOU
    free = np.ones(len(boxes), dtype=bool)
    joined, sums = [], []
    for best in np.argsort(-scores, kind="stable"):
        if not free[best]:
            continue
        together = [best]
        for other in set(range(len(views))) - {view[best]}:
            candidates = np.flatnonzero(free & same[best] & (view == other))
            if len(candidates):
                together.append(candidates[scores[candidates].argmax()])
        free[together] = False
        sums.append(scores[together].sum())
        joined.append((boxes[together] * scores[together, None]).sum(axis=0) / sums[-1])
    return np.array(joined).reshape(-1, 4), np.array(sums) / len(views)


@dataclass(frozen=True)
class LookFit:
    """How the opinions are weighed; ``python -m vidpose.train.detector_scores`` fits it on labels."""

    margins: tuple[float, ...]
    """Left, top, right, bottom: how far a box reaches beyond the joints, in shares of their extent's longer
    side."""
    weights: tuple[float, ...]
    """Constant, and weights of the logits of the detector's score and of the mean peak of the pose in its
    box."""

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> LookFit | None:
        """The fit that a detector's file brings along, if any.

        Raises:
            InputError: it is not one.
        """
        stored = card.get("second_look")
        if stored is None:
            return None
        try:
            fit = cls(*(tuple(float(v) for v in stored[name]) for name in ("margins", "weights")))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the detector's second_look cannot be read: {error}") from error
        if (len(fit.margins), len(fit.weights)) != (4, 3):
            raise InputError("the detector's second_look needs 4 margins and 3 weights")
        return fit

    def to_card(self) -> dict[str, list[float]]:
        """What :meth:`from_card` reads."""
        return {"margins": list(self.margins), "weights": list(self.weights)}


class Looker:
    """Runs a single-frame pose model over boxes.

    Args:
        model: of PoseTrack's 15 joints, in eval mode on its device.
        dtype: of autocast.
        network: the model in another engine.
        cutter: of :class:`CropRunner`.
    """

    def __init__(
        self,
        model: PoseModel,
        dtype: torch.dtype = torch.float32,
        network: PoseRunner | None = None,
        cutter: Cutter | None = None,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "network": network, "cutter": cutter}
        self._run = CropRunner(model, POSETRACK15, batch_size=16, **options)

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence[np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per image keypoints [P, J, 2] in its pixels and peaks [P, J] in 0..1 for its boxes [P, 4]."""
        window = np.zeros((1, 1), dtype=np.int64)
        strips = [Strip(box, [im], window) for im, mine in zip(images, boxes, strict=True) for box in mine]
        looked, joints = self._run(strips), POSETRACK15.num_joints
        keypoints = np.array([points for points, _ in looked]).reshape(-1, joints, 2)
        peaks = np.array([scores for _, scores in looked]).reshape(-1, joints)
        ends = np.cumsum([len(mine) for mine in boxes])[:-1]
        return list(zip(np.split(keypoints, ends), np.split(peaks, ends), strict=True))


def extents(keypoints: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """[P, 4] xyxy around the sure joints of keypoints [P, J, 2]; NaN where too few are sure."""
    around = np.full((len(peaks), 4), np.nan)
    for person, sure in enumerate(peaks >= SURE_PEAK):
        if sure.sum() >= MIN_JOINTS:
            around[person] = enclosing_box(keypoints[person], sure)
    return around


def mix_boxes(
    boxes: np.ndarray,
    keypoints: np.ndarray,
    peaks: np.ndarray,
    margins: Sequence[float],
    size: tuple[int, int],
) -> np.ndarray:
    """Boxes [P, 4] drawn towards the poses in them, the more the surer these are: the mean peak of the sure
    joints.

    They stay in an image of ``size`` (height, width).
    """
    around = extents(keypoints, peaks)
    side = np.maximum(around[:, 2] - around[:, 0], around[:, 3] - around[:, 1])
    around = around + side[:, None] * np.array(margins) * [-1, -1, 1, 1]
    sure = peaks >= SURE_PEAK
    trust = ((peaks * sure).sum(axis=1) / sure.sum(axis=1).clip(1))[:, None]
    return clip_boxes(np.where(np.isnan(around), boxes, (1 - trust) * boxes + trust * around), size)


def opinions(scores: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """[P, 3]: ones, and the logits of the boxes' scores [P] and of the mean peaks [P, J] of poses."""
    both = np.stack([scores, peaks.mean(axis=1)], axis=1).clip(_CLOSEST, 1 - _CLOSEST)
    return np.concatenate([np.ones((len(scores), 1)), np.log(both / (1 - both))], axis=1)


def second_look(
    look: Looker, fit: LookFit, images: Sequence[np.ndarray], found: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Better boxes [P, 4] and scores [P] for what a detector found in uint8 RGB images [H, W, 3].

    Args:
        look: the pose model.
        fit: how opinions are weighed.
        images: of any sizes.
        found: per image the detector's boxes and scores.
    """
    poses = look(images, [boxes for boxes, _ in found])
    results = []
    for image, (boxes, scores), (keypoints, peaks) in zip(images, found, poses, strict=True):
        mixed = mix_boxes(boxes, keypoints, peaks, fit.margins, (image.shape[0], image.shape[1]))
        results.append((mixed, probability(opinions(scores, peaks), fit.weights)))
    return results


def probability(opinions: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """[P] probabilities of opinions [P, N]."""
    result: np.ndarray = 1 / (1 + np.exp(-(opinions @ np.array(weights))))
    return result
