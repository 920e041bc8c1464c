"""Clips: T crops of one person around a key frame, with targets, cut from frames that are decoded once."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from vidpose import progress
from vidpose.data.augment import clip_generator, draw_augmentation, draw_photometric
from vidpose.data.boxes import read_boxes
from vidpose.data.dataset import Person, PoseDataset
from vidpose.data.readers import read_image
from vidpose.errors import InputError
from vidpose.geometry import (
    apply_affine,
    crop_affine,
    input_to_heatmap,
    normalize_frames,
    warp_image,
)

CACHES = ("none", "ram")
_KEEP_FRAMES = 16


@dataclass(frozen=True)
class Sample:
    """One person in one key frame."""

    video: int
    frame: int
    box_xyxy: np.ndarray
    """[4] person box in the key frame."""
    box_score: float
    track_id: int
    person: Person | None
    """The annotation; ``None`` for a detected box."""


def clip_indices(key: int, num_frames: int, length: int) -> list[int]:
    """Frame positions of a clip, in order of time, the key frame in the middle.

    A neighbour before the first or after the last frame of the video repeats that frame; public code differs
    (it repeats the key frame, or duplicates on one side only), so this is a choice.
    """
    reach = num_frames // 2
    return [min(max(key + offset, 0), length - 1) for offset in range(-reach, reach + 1)]


def ground_truth_samples(data: PoseDataset) -> list[Sample]:
    """Every person with at least one labelled joint, frame by frame."""
    samples = []
    for v, video in enumerate(data.videos):
        for f, frame in enumerate(video.frames):
            for person in frame.people:
                if frame.is_labeled and (person.keypoints[:, 2] > 0).any():
                    samples.append(Sample(v, f, person.box_xyxy, 1.0, person.track_id, person))
    return samples


def detected_samples(data: PoseDataset, path: str | os.PathLike[str], threshold: float = 0.2) -> list[Sample]:
    """Every detected box of a labelled frame with a score of ``threshold``; track ids count per frame."""
    boxes = read_boxes(path, data, threshold)
    samples = []
    for v, video in enumerate(data.videos):
        for f, frame in enumerate(video.frames):
            if frame.is_labeled:
                for k, (box, score) in enumerate(boxes.get(frame.image_id, [])):
                    samples.append(Sample(v, f, box, score, k, None))
    return samples


class FrameStore:
    """Decoded frames of a data set.

    Args:
        cache: ``ram`` keeps every needed frame decoded in memory; workers forked afterwards share it.
            ``none`` keeps the last few, so that people of one frame, read in order, share its decoding.
        needed: (video, frame) positions to load for ``ram``.

    Raises:
        InputError: an image is missing or broken, or the frames do not fit into the free memory.
    """

    def __init__(
        self,
        data: PoseDataset,
        cache: str = "none",
        needed: Iterable[tuple[int, int]] = (),
        *,
        quiet: bool = True,
    ) -> None:
        if cache not in CACHES:
            raise InputError(f"data.cache is {cache!r}; known: {', '.join(CACHES)}")
        self.paths = [[frame.path for frame in video.frames] for video in data.videos]
        self.loaded: dict[tuple[int, int], np.ndarray] = {}
        self._recent: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        if cache == "ram":
            self._load(data, sorted(set(needed)), quiet)

    def _load(self, data: PoseDataset, needed: list[tuple[int, int]], quiet: bool) -> None:
        sizes = (data.videos[v].frames[f].size for v, f in needed)
        size = sum(3 * height * width for height, width in sizes)
        free = _free_memory()
        if free is not None and size > 0.9 * free:
            raise InputError(
                f"data.cache=ram needs {size / 1e9:.1f} GB for {len(needed)} frames, {free / 1e9:.1f} GB are "
                "free; use data.cache=none"
            )
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            images = pool.map(lambda key: read_image(self.paths[key[0]][key[1]]), needed)
            shown = progress.track(images, "reading frames", total=len(needed), unit="frames", quiet=quiet)
            self.loaded.update(zip(needed, shown, strict=True))

    def get(self, video: int, frame: int) -> np.ndarray:
        """uint8 RGB [H, W, 3] of a frame; not to be changed."""
        key = (video, frame)
        if key in self.loaded:
            return self.loaded[key]
        if key in self._recent:
            self._recent.move_to_end(key)
            return self._recent[key]
        image = read_image(self.paths[video][frame])
        self._recent[key] = image
        if len(self._recent) > _KEEP_FRAMES:
            self._recent.popitem(last=False)
        return image


def _free_memory() -> int | None:
    """Bytes that can be taken without swapping; ``None`` where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


class ClipDataset(Dataset):
    """Crops, joint targets and what is needed to bring a prediction back, for every sample.

    Items are taken by ``index`` or by ``(epoch, index)``; the augmentation of an item is a function of the
    seed and those two alone.

    Args:
        data: the videos.
        samples: people in key frames.
        num_frames: T, odd.
        input_size: (height, width) of a crop.
        heatmap_size: (h, w) of a heatmap.
        padding: enlargement of the box; 1.25 in the papers.
        augment: ``uniform``, ``gaussian`` or ``none``.
        augment_strength: part of the full rotation, scale and half-body augmentation, 0 to 1.
        photometric: strength of the change of pixels, 0 to 1.
        cache: ``ram`` or ``none``.
    """

    def __init__(
        self,
        data: PoseDataset,
        samples: Sequence[Sample],
        *,
        num_frames: int,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        padding: float = 1.25,
        augment: str = "none",
        augment_strength: float = 1.0,
        photometric: float = 0.0,
        seed: int = 0,
        cache: str = "none",
        quiet: bool = True,
    ) -> None:
        self.data = data
        self.samples = list(samples)
        self.num_frames = num_frames
        self.input_size = input_size
        self.heatmap_size = heatmap_size
        self.padding = padding
        self.augment = augment
        self.augment_strength = augment_strength
        self.photometric = photometric
        self.seed = seed
        self._people = [[{p.track_id: p for p in f.people} for f in v.frames] for v in data.videos]
        needed = ((s.video, i) for s in self.samples for i in self.frame_indices(s))
        self.frames = FrameStore(data, cache, needed if cache == "ram" else (), quiet=quiet)

    def __len__(self) -> int:
        return len(self.samples)

    def frame_indices(self, sample: Sample) -> list[int]:
        """Positions of the sample's T frames in its video."""
        return clip_indices(sample.frame, self.num_frames, len(self.data.videos[sample.video].frames))

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One sample.

        Returns:
            ``clip`` uint8 [T, H, W, 3] RGB in order of time; ``points`` float32 [T, J, 2] in heatmap pixels
            and ``weights`` float32 [T, J], 0 where a joint is unlabelled or outside the crop or the person is
            not labelled in that frame; ``index``, ``affine`` [2, 3] image to crop.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        sample = self.samples[index]
        skeleton = self.data.skeleton
        rng = clip_generator(self.seed, epoch, index)
        keypoints = (
            sample.person.keypoints
            if sample.person is not None
            else np.zeros((skeleton.num_joints, 3), dtype=np.float32)
        )
        drawn = draw_augmentation(
            rng,
            sample.box_xyxy,
            keypoints,
            skeleton,
            mode=self.augment,
            padding=self.padding,
            strength=self.augment_strength,
        )
        affine = crop_affine(
            drawn.box_xyxy,
            self.input_size,
            padding=drawn.padding,
            rotation_deg=drawn.rotation_deg,
            scale=drawn.scale,
            flip=drawn.flip,
        )
        indices = self.frame_indices(sample)
        clip = self._crop(sample, indices, affine)
        if self.photometric > 0 and self.augment != "none":
            clip = draw_photometric(rng, clip, self.photometric)
        points, weights = self._targets(sample, indices, affine, drawn.flip)
        return {"clip": clip, "points": points, "weights": weights, "index": index, "affine": affine}

    def _crop(self, sample: Sample, indices: list[int], affine: np.ndarray) -> np.ndarray:
        """[T, H, W, 3]: the same affine for all frames; a repeated frame is warped once."""
        height, width = self.input_size
        clip = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for t, index in enumerate(indices):
            if t and index == indices[t - 1]:
                clip[t] = clip[t - 1]
            else:
                clip[t] = warp_image(self.frames.get(sample.video, index), affine, self.input_size)
        return clip

    def _targets(
        self, sample: Sample, indices: list[int], affine: np.ndarray, flip: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        joints = self.data.skeleton.num_joints
        keypoints = np.zeros((len(indices), joints, 3))
        if sample.person is not None:
            for t, index in enumerate(indices):
                person = self._people[sample.video][index].get(sample.track_id)
                if person is not None:
                    keypoints[t] = person.keypoints
        points = apply_affine(affine, keypoints[..., :2])
        height, width = self.input_size
        inside = ((points > -0.5) & (points < np.array([width, height]) - 0.5)).all(axis=-1)
        weights = (keypoints[..., 2] > 0) & inside
        if flip:
            # The affine has mirrored the positions; what remains is the exchange of left and right.
            order = self.data.skeleton.flip_permutation
            points, weights = points[:, order], weights[:, order]
        points = input_to_heatmap(points, self.input_size, self.heatmap_size)
        return points.astype(np.float32), weights.astype(np.float32)


def collate_clips(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch: ``clips`` uint8 [B, T, 3, H, W] (a view; in memory [B, T, H, W, 3]), ``points``
    [B, T, J, 2], ``weights`` [B, T, J], ``index`` [B], ``affine`` float64 [B, 2, 3]."""
    # Torch's own collate puts the pixels straight into memory that the processes share.
    clips = default_collate([torch.from_numpy(item["clip"]) for item in items])
    return {
        "clips": clips.permute(0, 1, 4, 2, 3),  # [B, T, H, W, 3] -> [B, T, 3, H, W]
        "points": torch.from_numpy(np.stack([item["points"] for item in items])),
        "weights": torch.from_numpy(np.stack([item["weights"] for item in items])),
        "index": torch.tensor([item["index"] for item in items]),
        "affine": torch.from_numpy(np.stack([item["affine"] for item in items])),
    }


def prepare_clips(clips: Tensor, *, channels_last: bool = False) -> Tensor:
    """uint8 clips [B, T, 3, H, W] -> normalised float32, on their device, in the wanted memory order."""
    batch, frames = clips.shape[:2]
    out = normalize_frames(clips).flatten(0, 1)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    return out.contiguous(memory_format=memory).unflatten(0, (batch, frames))


def worker_init(worker: int) -> None:
    """One thread per loading process: the processes are the parallelism."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
