"""From boxes and frames to keypoints: one affine for all frames of a clip, features shared between clips.

A :class:`Strip` is a stretch of a track that is cut out under one affine. Each of its frames goes through the
backbone once, however many clips it is part of; the head then sees one clip for each key frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from vidpose.infer.engines import PoseNetwork


@dataclass
class Strip:
    """Key frames of one person that share a crop."""

    box_xyxy: np.ndarray
    """[4] the crop's box, before padding."""
    images: list[np.ndarray]
    """The frames [H, W, 3] uint8 that the clips are made of, each once."""
    windows: np.ndarray
    """[K, T] positions in ``images``: the clip of each key frame, in order of time."""
    rotation_deg: float = 0.0
    """By how much the crop's content is turned clockwise."""


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


_MIRRORED = "/mirrored"


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
        network: the model in another engine, which then runs in its place.
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
        network: PoseNetwork | None = None,
    ) -> None:
        self.model = model
        self.skeleton = skeleton
        self.decoder = decoder
        self.flip_test = flip_test
        self.batch_size = batch_size
        self.padding = padding
        self.dtype = dtype
        self.network = network
        self.device = next(model.parameters()).device
        self.frames_extracted = 0
        """Crops that went through the backbone so far, mirrored ones, too."""

    @property
    def num_frames(self) -> int:
        """T: 1 for models of single frames, whatever they were built for."""
        return self.model.num_frames if self.model.kind == "video" else 1

    def __call__(
        self, strips: Sequence[Strip], *, flip_test: bool | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each strip keypoints [K, J, 2] in image pixels (float64) and heatmap peaks [K, J] in 0..1.

        Args:
            flip_test: ``None``: as the runner was made.
        """
        flip = self.flip_test if flip_test is None else flip_test
        results: list[tuple[np.ndarray, np.ndarray]] = []
        batch: list[Strip] = []
        size = 0
        for strip in strips:
            if batch and size + len(strip.windows) > self.batch_size:
                results += self._run(batch, flip)
                batch, size = [], 0
            batch.append(strip)
            size += len(strip.windows)
        return results + (self._run(batch, flip) if batch else [])

    @torch.inference_mode()
    def _run(self, strips: list[Strip], flip: bool) -> list[tuple[np.ndarray, np.ndarray]]:
        affines = [
            crop_affine(
                strip.box_xyxy,
                self.model.input_size,
                padding=self.padding,
                rotation_deg=strip.rotation_deg,
            )
            for strip in strips
        ]
        frames = self.cut(
            [(image, affine) for strip, affine in zip(strips, affines, strict=True) for image in strip.images]
        )
        offsets = np.cumsum([0, *(len(strip.images) for strip in strips)])
        windows = np.concatenate([s.windows + o for s, o in zip(strips, offsets[:-1], strict=True)])  # [K, T]
        heatmaps = self.heatmaps(frames, windows, flip_test=flip)
        counts = [len(strip.windows) for strip in strips]
        points, scores = self.place(
            heatmaps, [a for a, n in zip(affines, counts, strict=True) for _ in range(n)]
        )
        ends = np.cumsum(counts)[:-1]
        return list(zip(np.split(points, ends), np.split(scores, ends), strict=True))

    def cut(self, crops: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Images [H, W, 3] uint8 and their affines [2, 3] -> normalised crops [N, 3, h, w] on the device."""
        cut = np.stack([warp_image(image, affine, self.model.input_size) for image, affine in crops])
        # [N, h, w, 3] -> [N, 3, h, w], which in memory stays as it is: channels last
        return normalize_frames(torch.from_numpy(cut).to(self.device).permute(0, 3, 1, 2))

    def heatmaps(self, frames: Tensor, windows: np.ndarray, *, flip_test: bool | None = None) -> Tensor:
        """Crops [N, 3, h, w] and clips [K, T] of positions in them -> heatmaps [K, J, h/4, w/4], float32."""
        heatmaps = self._heatmaps(frames, windows)
        if self.flip_test if flip_test is None else flip_test:
            mirrored = self._heatmaps(frames.flip(-1), windows)
            heatmaps = (heatmaps + flip_heatmaps(mirrored, self.skeleton)) / 2
        return heatmaps

    def features(self, frames: Tensor, *, flip_test: bool | None = None) -> dict[str, Tensor]:
        """The backbone's features [N, ...] of crops [N, 3, h, w], and of the mirrored ones with flip test."""
        with self._autocast():
            found = self._extract(frames)
            if self.flip_test if flip_test is None else flip_test:
                mirrored = self._extract(frames.flip(-1))
                found = {**found, **{f"{name}{_MIRRORED}": value for name, value in mirrored.items()}}
        return found

    def heatmaps_of(self, features: dict[str, Tensor]) -> Tensor:
        """Features of :meth:`features` for all frames of K clips [K·T, ...] -> heatmaps [K, J, h/4, w/4]."""
        plain = {name: value for name, value in features.items() if not name.endswith(_MIRRORED)}
        windows = np.arange(len(next(iter(plain.values())))).reshape(-1, self.num_frames)
        heatmaps = self._key_heatmaps(plain, windows)
        if len(plain) < len(features):
            mirrored = self._key_heatmaps({name: features[f"{name}{_MIRRORED}"] for name in plain}, windows)
            heatmaps = (heatmaps + flip_heatmaps(mirrored, self.skeleton)) / 2
        return heatmaps

    def place(self, heatmaps: Tensor, affines: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints [K, J, 2] in image pixels (float64) and peaks [K, J] of heatmaps [K, J, h/4, w/4].

        Args:
            affines: of the crop of each.
        """
        model = self.model
        points, peaks = decode_heatmaps(heatmaps, self.decoder, model.sigma)
        in_crop = heatmap_to_input(points.cpu().numpy(), model.input_size, model.heatmap_size)  # [K, J, 2]
        placed = [
            apply_affine(invert_affine(affine), one) for affine, one in zip(affines, in_crop, strict=True)
        ]
        return np.stack(placed), peaks.cpu().numpy().astype(np.float64)

    def _heatmaps(self, frames: Tensor, windows: np.ndarray) -> Tensor:
        """Frames [N, 3, h, w] and clips [K, T] -> heatmaps [K, J, h/4, w/4], float32."""
        with self._autocast():
            features = self._extract(frames)
        return self._key_heatmaps(features, windows)

    def _key_heatmaps(self, features: dict[str, Tensor], windows: np.ndarray) -> Tensor:
        """Features [N, ...] and clips [K, T] -> heatmaps of the key frames [K, J, h/4, w/4], float32."""
        with self._autocast():
            heatmaps = self._head(features, windows)
        if heatmaps.dim() == 5:  # models of all T frames: the key frame's
            heatmaps = heatmaps[:, heatmaps.shape[1] // 2]
        return heatmaps.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def _extract(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames [N, 3, h, w] -> the backbone's features, each [N, ...]."""
        self.frames_extracted += len(frames)
        if self.network is not None:
            return self.network.extract(frames)
        model: Any = self.model
        features: dict[str, Tensor] = model.extract(frames)
        return features

    def _head(self, features: dict[str, Tensor], windows: np.ndarray) -> Tensor:
        """Features [N, ...], clips [K, T] -> heatmaps [K, J, h/4, w/4], or of all frames [K, T, J, …]."""
        if self.network is not None:
            return self.network.heatmaps(features, windows)
        index = torch.from_numpy(windows.reshape(-1)).to(self.device)  # [K, T] -> [K·T]
        count = len(next(iter(features.values())))
        if len(index) != count or not torch.equal(index, torch.arange(count, device=self.device)):
            features = {name: value.index_select(0, index) for name, value in features.items()}
        model: Any = self.model
        heatmaps: Tensor = model.head(features).heatmaps
        return heatmaps
