"""From boxes and frames to keypoints: one affine for all frames of a clip, features shared between clips.

A :class:`Strip` is a stretch of a track that is cut out under one affine. Each of its frames goes through the
backbone once, however many clips it is part of; the head then sees one clip for each key frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidpose.geometry import (
    apply_affine,
    box_iou,
    crop_affine,
    decode_heatmaps,
    flip_heatmaps,
    heatmap_to_input,
    invert_affine,
    normalize_frames,
    warp_image,
)
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton


@dataclass
class Strip:
    """Key frames of one person that share a crop."""

    box_xyxy: np.ndarray
    """[4] the crop's box, before padding."""
    images: list[np.ndarray]
    """The frames [H, W, 3] uint8 that the clips are made of, each once."""
    windows: np.ndarray
    """[K, T] positions in ``images``: the clip of each key frame, in order of time."""


def make_windows(keys: Sequence[int], num_frames: int, first: int, last: int) -> tuple[list[int], np.ndarray]:
    """The frames that clips around ``keys`` need, and each clip's positions among them.

    A neighbour outside ``first`` .. ``last`` is the nearest frame inside.

    Returns:
        Sorted frame numbers, and [K, T] positions in that list.
    """
    reach = num_frames // 2
    numbers = np.asarray(keys)[:, None] + np.arange(-reach, reach + 1)  # [K, T]
    numbers = numbers.clip(first, last)
    needed = np.unique(numbers)
    return needed.tolist(), np.searchsorted(needed, numbers)


def split_track(boxes: np.ndarray, min_iou: float) -> list[tuple[int, int]]:
    """Cuts consecutive boxes [K, 4] of a track into ranges whose mean box overlaps each by ``min_iou``."""

    def cut(start: int, end: int) -> list[tuple[int, int]]:
        mean = boxes[start:end].mean(axis=0)
        if end - start == 1 or box_iou(mean[None], boxes[start:end]).min() >= min_iou:
            return [(start, end)]
        middle = (start + end) // 2
        return cut(start, middle) + cut(middle, end)

    return cut(0, len(boxes)) if len(boxes) else []


class CropRunner:
    """Runs a pose model over strips.

    Args:
        model: in eval mode on its device.
        skeleton: of its heatmaps, for the flip test.
        decoder: ``plain``, ``quarter``, ``dark`` or ``udp``.
        flip_test: averages the heatmaps with those of the mirrored crop.
        batch_size: key frames for which the head runs at once.
        padding: by which the boxes grow (1.25: by 25 %).
        dtype: of autocast.
    """

    def __init__(
        self,
        model: PoseModel,
        skeleton: Skeleton,
        *,
        decoder: str = "dark",
        flip_test: bool = False,
        batch_size: int = 8,
        padding: float = 1.25,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model = model
        self.skeleton = skeleton
        self.decoder = decoder
        self.flip_test = flip_test
        self.batch_size = batch_size
        self.padding = padding
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.frames_extracted = 0
        """Frames that went through the backbone so far (mirrored ones not counted)."""

    @property
    def num_frames(self) -> int:
        """T: 1 for models of single frames, whatever they were built for."""
        return self.model.num_frames if self.model.kind == "video" else 1

    def __call__(self, strips: Sequence[Strip]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each strip keypoints [K, J, 2] in image pixels (float64) and heatmap peaks [K, J] in 0..1."""
        results: list[tuple[np.ndarray, np.ndarray]] = []
        batch: list[Strip] = []
        size = 0
        for strip in strips:
            if batch and size + len(strip.windows) > self.batch_size:
                results += self._run(batch)
                batch, size = [], 0
            batch.append(strip)
            size += len(strip.windows)
        return results + (self._run(batch) if batch else [])

    @torch.inference_mode()
    def _run(self, strips: list[Strip]) -> list[tuple[np.ndarray, np.ndarray]]:
        model = self.model
        affines = [crop_affine(strip.box_xyxy, model.input_size, padding=self.padding) for strip in strips]
        crops = np.stack(
            [
                warp_image(image, affine, model.input_size)
                for strip, affine in zip(strips, affines, strict=True)
                for image in strip.images
            ]
        )  # [N, h, w, 3]
        offsets = np.cumsum([0, *(len(strip.images) for strip in strips)])
        windows = np.concatenate([s.windows + o for s, o in zip(strips, offsets[:-1], strict=True)])  # [K, T]
        # [N, h, w, 3] -> [N, 3, h, w], which in memory stays as it is: channels last
        frames = normalize_frames(torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2))
        self.frames_extracted += len(frames)
        heatmaps = self._heatmaps(frames, windows)
        if self.flip_test:
            mirrored = self._heatmaps(frames.flip(-1), windows)
            heatmaps = (heatmaps + flip_heatmaps(mirrored, self.skeleton)) / 2
        points, peaks = decode_heatmaps(heatmaps, self.decoder, model.sigma)
        in_crop = heatmap_to_input(points.cpu().numpy(), model.input_size, model.heatmap_size)  # [K, J, 2]
        scores = peaks.cpu().numpy().astype(np.float64)
        results = []
        start = 0
        for strip, affine in zip(strips, affines, strict=True):
            end = start + len(strip.windows)
            results.append((apply_affine(invert_affine(affine), in_crop[start:end]), scores[start:end]))
            start = end
        return results

    def _heatmaps(self, frames: Tensor, windows: np.ndarray) -> Tensor:
        """Frames [N, 3, h, w] and clips [K, T] -> heatmaps [K, J, h/4, w/4], float32."""
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            features = self._extract(frames)
            index = torch.from_numpy(windows.reshape(-1)).to(self.device)  # [K, T] -> [K·T]
            if len(index) != len(frames) or not torch.equal(
                index, torch.arange(len(frames), device=self.device)
            ):
                features = {name: value.index_select(0, index) for name, value in features.items()}
            heatmaps = self._head(features)
        if heatmaps.dim() == 5:  # models of all T frames: the key frame's
            heatmaps = heatmaps[:, heatmaps.shape[1] // 2]
        return heatmaps.float()

    def _extract(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames [N, 3, h, w] -> the backbone's features, each [N, ...]."""
        model: Any = self.model
        features: dict[str, Tensor] = model.extract(frames)
        return features

    def _head(self, features: dict[str, Tensor]) -> Tensor:
        """Features of clips, each [K·T, ...] -> heatmaps [K, J, h/4, w/4], or [K, T, J, h/4, w/4]."""
        model: Any = self.model
        heatmaps: Tensor = model.head(features).heatmaps
        return heatmaps
