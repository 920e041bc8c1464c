"""Poses of one frame after the other, with the features of earlier frames kept.

For streams: the model needs the frames before the key frame in the same crop. A person's crop is held while
the person stays in its middle, so that each frame passes the backbone once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vidpose.geometry import box_iou, crop_affine
from vidpose.infer.crops import CropRunner
from vidpose.infer.upright import SHARED_LEAN_DEG, angle_between_deg, is_surer, lean_deg, turned_box

HOLD_IOU = 0.7
"""A crop is held while it overlaps the one around the present box by as much."""


@dataclass
class _Crop:
    """A person's crop, and what is known in it."""

    box_xyxy: np.ndarray
    affine: np.ndarray
    lean_deg: float = 0.0
    """Of the person whom the crop turns upright."""
    features: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """By position of the frame, its features [1, ...]."""


class HeldCrops:
    """Runs a pose model over the people of successive frames.

    Args:
        runner: the model, and how its heatmaps are decoded.
        hold_iou: see :data:`HOLD_IOU`; above 1 every frame has its own crop.
        upright: people who lean are looked at again (:mod:`vidpose.infer.upright`).
    """

    def __init__(self, runner: CropRunner, hold_iou: float = HOLD_IOU, *, upright: bool = True) -> None:
        self.runner = runner
        self.hold_iou = hold_iou
        self.upright = upright
        self._crops: dict[int, _Crop] = {}
        self._turned: dict[int, _Crop] = {}

    @torch.inference_mode()
    def __call__(
        self, images: Mapping[int, np.ndarray], key: int, boxes: Mapping[int, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints [P, J, 2] in image pixels and heatmap peaks [P, J] in 0..1 of the people of a frame.

        Args:
            images: [H, W, 3] uint8 RGB by position of the frame, without gaps, the key frame among them. A
                neighbour beyond the first or last one is that one, as at the ends of a video.
            key: position of the key frame.
            boxes: [4] by a person's number, which stays the person's own.
        """
        runner = self.runner
        if not boxes:
            self._crops, self._turned = {}, {}
            joints = runner.skeleton.num_joints
            return np.zeros((0, joints, 2)), np.zeros((0, joints))
        self._crops = {person: self._held(self._crops.get(person), box) for person, box in boxes.items()}
        points, peaks = self._look(list(self._crops.values()), images, key, runner.flip_test)
        if not self.upright:
            return points, peaks
        turned: dict[int, _Crop] = {}
        positions = []
        for k, person in enumerate(boxes):
            lean = lean_deg(points[k], runner.skeleton)
            if lean:
                box = turned_box(points[k], peaks[k], lean)
                turned[person] = self._held(self._turned.get(person), box, lean)
                positions.append(k)
        self._turned = turned
        if turned:
            again, sure = self._look(list(turned.values()), images, key, True)
            for k, pose, peak in zip(positions, again, sure, strict=True):
                if is_surer(peak, peaks[k]):
                    points[k], peaks[k] = pose, peak
        return points, peaks

    def _look(
        self, crops: list[_Crop], images: Mapping[int, np.ndarray], key: int, flip_test: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints [P, J, 2] and peaks [P, J] of the people in these crops."""
        runner = self.runner
        affines = [crop.affine for crop in crops]
        if runner.num_frames == 1:  # nothing to keep
            frames = runner.cut([(images[key], affine) for affine in affines])
            return runner.place(
                runner.heatmaps(frames, np.arange(len(frames))[:, None], flip_test=flip_test), affines
            )
        reach = runner.num_frames // 2
        window = np.arange(key - reach, key + reach + 1).clip(min(images), max(images)).tolist()
        self._extract(crops, images, sorted(set(window)), flip_test)
        features = [crop.features[n] for crop in crops for n in window]
        joined = {name: torch.cat([one[name] for one in features]) for name in features[0]}  # [P·T, ...]
        return runner.place(runner.heatmaps_of(joined), affines)

    def _extract(
        self, crops: list[_Crop], images: Mapping[int, np.ndarray], needed: list[int], flip_test: bool
    ) -> None:
        """Computes the features that are missing, all at once, and forgets those that are needed no more."""
        missing = [(crop, n) for crop in crops for n in needed if n not in crop.features]
        if missing:
            frames = self.runner.cut([(images[n], crop.affine) for crop, n in missing])
            features = self.runner.features(frames, flip_test=flip_test)
            for k, (crop, n) in enumerate(missing):
                crop.features[n] = {name: value[k : k + 1] for name, value in features.items()}
        for crop in crops:
            crop.features = {n: kept for n, kept in crop.features.items() if n >= needed[0]}

    def _held(self, held: _Crop | None, box: np.ndarray, lean: float = 0.0) -> _Crop:
        """The crop that is held, if it still shows the person in its middle and upright, or a new one.

        Models of single frames have nothing to keep, and get a new one.
        """
        if (
            held is not None
            and self.runner.num_frames > 1
            and angle_between_deg(held.lean_deg, lean) <= SHARED_LEAN_DEG
        ):
            regions = np.stack([self._region(held.box_xyxy), self._region(box)])
            if box_iou(regions[:1], regions[1:])[0, 0] >= self.hold_iou:
                return held
        size, padding = self.runner.model.input_size, self.runner.padding
        return _Crop(box, crop_affine(box, size, padding=padding, rotation_deg=-lean), lean)

    def _region(self, box: np.ndarray) -> np.ndarray:
        """[4] what a crop around ``box`` shows, without the padding."""
        height, width = self.runner.model.input_size
        centre, (w, h) = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        half = np.array([max(w, h * width / height), max(h, w * height / width)]) / 2
        return np.concatenate([centre - half, centre + half])
