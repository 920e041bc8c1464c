"""From boxes and frames to keypoints, with features shared between clips.

A :class:`Strip` is a stretch of a track. Its crops follow the person (:class:`PathCrop`) or show one region.
Each of its frames goes through the backbone once, however many clips it is part of; the head then sees one
clip for each key frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vidpose.device import upload
from vidpose.geometry import (
    apply_affine,
    crop_affine,
    decode_heatmaps,
    flip_heatmaps,
    heatmap_to_input,
    invert_affine,
)
from vidpose.infer.cutters import Cutter, make_cutter
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton

if TYPE_CHECKING:
    from vidpose.infer.engines import PoseRunner


CENTRE_REACH = 2
"""A crop's centre is the mean over so many boxes before and after, and the frame's own."""
SIZE_REACH = 4
"""And its sides are."""


def follow_boxes(boxes: np.ndarray) -> np.ndarray:
    """The smooth path [K, 4] of crops that follow consecutive boxes [K, 4].

    Near the ends centres are averaged over fewer boxes, as many before as after, so that they do not lag.
    """
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    path, last = [], len(boxes) - 1
    for k in range(len(boxes)):
        near = min(CENTRE_REACH, k, last - k)
        centre = centres[k - near : k + near + 1].mean(axis=0)
        half = sizes[max(k - SIZE_REACH, 0) : k + SIZE_REACH + 1].mean(axis=0) / 2
        path.append(np.concatenate([centre - half, centre + half]))
    return np.array(path).reshape(-1, 4)


@dataclass
class PathCrop:
    """Crops that follow a person from frame to frame, and what later key frames need of them.

    As each frame has one crop, whichever clip it is part of, the frame passes the backbone once.
    """

    rotation_deg: float = 0.0
    """See :attr:`Strip.rotation_deg`."""
    end: int = 0
    """Number of the frame after the last key frame."""
    recent: dict[int, np.ndarray] = field(default_factory=dict)
    """The person's boxes [4] in the last frames, by number of the frame."""
    boxes: dict[int, np.ndarray] = field(default_factory=dict)
    """Those of the crops that later clips share."""
    features: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Theirs, [1, ...] each."""

    def follow(
        self, first: int, boxes: np.ndarray, after: np.ndarray, needed: Sequence[int], num_frames: int
    ) -> np.ndarray:
        """The boxes [M, 4] of the crops of the next key frames' clips, before padding.

        Args:
            first: number of the first key frame; the others follow one another.
            boxes: [K, 4] of the person in the key frames.
            after: [A, 4] of the person in the frames after them, where they are known.
            needed: M numbers of the frames of all clips; where the person is in none of these boxes, the
                crop is that of the nearest frame.
            num_frames: T of the clips.
        """
        self.end = first + len(boxes)
        known = {**self.recent, **dict(enumerate(boxes, first))}
        path = follow_boxes(np.array([*known.values(), *after]))
        start = self.end - len(known)
        places = np.clip(np.asarray(needed) - start, 0, len(path) - 1)
        found = [self.boxes.get(n, path[place]) for n, place in zip(needed, places, strict=True)]
        self.recent = {n: known[n] for n in list(known)[-SIZE_REACH:]}
        shared = slice(1 - num_frames, None) if num_frames > 1 else slice(0)
        self.boxes = dict(zip(needed[shared], found[shared], strict=True))
        return np.array(found)


@dataclass
class TrackCrops:
    """The crops that follow a person."""

    upright: PathCrop = field(default_factory=PathCrop)
    turned: PathCrop | None = None
    """Of :mod:`vidpose.infer.upright`."""


@dataclass
class Strip:
    """Successive key frames of one person."""

    box_xyxy: np.ndarray
    """[4] what all its crops show, or [M, 4] for each image; before padding."""
    images: list[np.ndarray]
    """The frames [H, W, 3] uint8 that the clips are made of, each once."""
    windows: np.ndarray
    """[K, T] positions in ``images``: the clip of each key frame, in order of time."""
    rotation_deg: float = 0.0
    """By how much the crops' content is turned clockwise."""
    numbers: list[int] | None = None
    """Of the frames in ``images``."""
    path: PathCrop | None = None
    """Holds features of earlier strips, and takes those of this one. Needs ``numbers``."""
    track: TrackCrops | None = None
    """Where the person's turned crops are held. Needs ``numbers``."""


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
        cutter: cuts the crops; ``None``: that of the model's device.
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
        network: PoseRunner | None = None,
        cutter: Cutter | None = None,
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
        self.cutter = make_cutter(self.device) if cutter is None else cutter
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
        affines = [self._affines(strip) for strip in strips]
        offsets = np.cumsum([0, *(len(strip.images) for strip in strips)])
        windows = np.concatenate([s.windows + o for s, o in zip(strips, offsets[:-1], strict=True)])  # [K, T]
        heatmaps = self.heatmaps_of(self._features(strips, affines, flip), windows)
        of_keys = [
            mine[k]
            for strip, mine in zip(strips, affines, strict=True)
            for k in strip.windows[:, strip.windows.shape[1] // 2]
        ]
        points, scores = self.place(heatmaps, of_keys)
        ends = np.cumsum([len(strip.windows) for strip in strips])[:-1]
        return list(zip(np.split(points, ends), np.split(scores, ends), strict=True))

    def _affines(self, strip: Strip) -> list[np.ndarray]:
        """The affine [2, 3] of each of a strip's images."""
        size = self.model.input_size
        boxes = strip.box_xyxy if strip.box_xyxy.ndim == 2 else strip.box_xyxy[None]
        affines = [
            crop_affine(box, size, padding=self.padding, rotation_deg=strip.rotation_deg) for box in boxes
        ]
        return affines if strip.box_xyxy.ndim == 2 else affines * len(strip.images)

    def _features(
        self, strips: list[Strip], affines: list[list[np.ndarray]], flip: bool
    ) -> dict[str, Tensor]:
        """The features [N, ...] of all the strips' frames; those that are held are not computed again."""
        held = [strip.path.features if strip.path is not None else {} for strip in strips]
        numbers = [strip.numbers or [-1] * len(strip.images) for strip in strips]
        missing = [
            (image, affine)
            for strip, mine, ns, known in zip(strips, affines, numbers, held, strict=True)
            for image, affine, n in zip(strip.images, mine, ns, strict=True)
            if n not in known
        ]
        found = self.features(self.cut(missing), flip_test=flip) if missing else {}
        if any(held):
            rows, used = [], 0
            for n, known in ((n, known) for ns, known in zip(numbers, held, strict=True) for n in ns):
                if n in known:
                    rows.append(known[n])
                else:
                    rows.append({name: value[used : used + 1] for name, value in found.items()})
                    used += 1
            found = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        end = 0
        for strip, ns in zip(strips, numbers, strict=True):
            end += len(ns)
            if strip.path is not None and self.num_frames > 1:
                count = min(self.num_frames - 1, len(ns))
                strip.path.features = {
                    n: {name: value[k : k + 1].clone() for name, value in found.items()}
                    for n, k in zip(ns[-count:], range(end - count, end), strict=True)
                }
        return found

    def cut(self, crops: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
        """Images [H, W, 3] uint8 and their affines [2, 3] -> normalised crops [N, 3, h, w] on the device."""
        return self.cutter.crops(crops, self.model.input_size)

    def heatmaps(self, frames: Tensor, windows: np.ndarray, *, flip_test: bool | None = None) -> Tensor:
        """Crops [N, 3, h, w] and clips [K, T] of positions in them -> heatmaps [K, J, h/4, w/4], float32."""
        return self.heatmaps_of(self.features(frames, flip_test=flip_test), windows)

    def features(self, frames: Tensor, *, flip_test: bool | None = None) -> dict[str, Tensor]:
        """The backbone's features [N, ...] of crops [N, 3, h, w], and of the mirrored ones with flip test."""
        with self._autocast():
            found = self._extract(frames)
            if self.flip_test if flip_test is None else flip_test:
                mirrored = self._extract(frames.flip(-1))
                found = {**found, **{f"{name}{_MIRRORED}": value for name, value in mirrored.items()}}
        return found

    def heatmaps_of(self, features: dict[str, Tensor], windows: np.ndarray | None = None) -> Tensor:
        """Features [N, ...] of :meth:`features` -> heatmaps of the key frames [K, J, h/4, w/4], float32.

        Args:
            windows: clips [K, T] of positions in them; ``None``: the features are of K clips, [K·T, ...].
        """
        plain = {name: value for name, value in features.items() if not name.endswith(_MIRRORED)}
        if windows is None:
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
        found = torch.cat([points, peaks[..., None]], dim=-1).cpu().numpy()  # [K, J, 3]: one transfer
        in_crop = heatmap_to_input(found[..., :2], model.input_size, model.heatmap_size)  # [K, J, 2]
        placed = [
            apply_affine(invert_affine(affine), one) for affine, one in zip(affines, in_crop, strict=True)
        ]
        return np.stack(placed), found[..., 2].astype(np.float64)

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
        index = windows.reshape(-1)  # [K, T] -> [K·T]
        if not np.array_equal(index, np.arange(len(next(iter(features.values()))))):
            positions = upload(index, self.device)
            features = {name: value.index_select(0, positions) for name, value in features.items()}
        model: Any = self.model
        heatmaps: Tensor = model.head(features).heatmaps
        return heatmaps
