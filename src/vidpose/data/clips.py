"""Clips: T crops of one person around a key frame, with targets, cut from frames that are decoded once."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate, get_worker_info

from vidpose.data.augment import (
    clip_generator,
    draw_augmentation,
    draw_photometric,
    hide_heads,
    paste_occluders,
)
from vidpose.data.boxes import read_boxes
from vidpose.data.dataset import Person, PoseDataset
from vidpose.data.frames import FrameStore, scaled_affine
from vidpose.errors import InputError
from vidpose.geometry import (
    apply_affine,
    crop_affine,
    input_to_heatmap,
    invert_affine,
    normalize_frames,
)


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


def spread_indices(
    key: int, interval: int | tuple[int, int], length: int, epoch: int, index: int, seed: int
) -> list[int]:
    """Positions of three frames: two ``interval`` apart, and the key frame, anywhere between them.

    Of two intervals, least and most, one between them is drawn. Where one of the two would lie outside the
    video, the other takes its place, as in propagation beyond the first and the last label; where both would,
    they are as far apart as the video allows. The draw depends on the last three arguments.
    """
    least, most = (interval, interval) if isinstance(interval, int) else interval
    rng = np.random.default_rng((seed, epoch, index, most))
    interval = int(rng.integers(least, most + 1)) if least < most else most
    before = int(rng.integers(1, interval))
    left, right, last = key - before, key + interval - before, length - 1
    if left < 0 and right > last:
        left, right = (last if key == 0 else 0), (0 if key == last else last)
    elif left < 0:
        left = right
    elif right > last:
        right = left
    return [left, key, right]


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


class _People:
    """All people of a data set as arrays.

    Loading processes are forked and share what they only read. Of a Python object they count references,
    which writes to it, so that over an epoch each would come to hold a copy of every label.
    """

    def __init__(
        self, data: PoseDataset, samples: Sequence[Sample], *, confidence_weights: bool = False
    ) -> None:
        joints = data.skeleton.num_joints
        people: list[Person] = []
        starts = [0]
        for _, frame in data.frames():
            people += frame.people
            starts.append(len(people))
        rows = {id(person): row for row, person in enumerate(people)}
        for sample in samples:  # people that are not in the data set's frames
            if sample.person is not None and id(sample.person) not in rows:
                rows[id(sample.person)] = len(people)
                people.append(sample.person)
        self.starts = np.array(starts)
        """[F + 1] the first person of each frame, frames counted over all videos."""
        self.tracks = np.array([person.track_id for person in people], dtype=np.int64)
        self.keypoints = np.zeros((len(people), joints, 3))
        """[P, J, 3] x, y, and how much the joint counts in training: 0 to 1."""
        for row, person in enumerate(people):
            self.keypoints[row] = person.keypoints
            if confidence_weights and person.joint_scores is not None:
                self.keypoints[row, :, 2] *= person.joint_scores
        self.sample_videos = np.array([sample.video for sample in samples], dtype=np.int64)
        self.sample_frames = np.array([sample.frame for sample in samples], dtype=np.int64)
        self.sample_tracks = np.array([sample.track_id for sample in samples], dtype=np.int64)
        self.sample_boxes = np.zeros((len(samples), 4))
        for s, sample in enumerate(samples):
            self.sample_boxes[s] = sample.box_xyxy
        self.sample_rows = np.array(
            [-1 if sample.person is None else rows[id(sample.person)] for sample in samples], dtype=np.int64
        )
        """[S] the sample's annotation; -1: it is a detected box."""

    def find(self, frame: int, track_id: int) -> np.ndarray | None:
        """Keypoints [J, 3] of a person in a frame; ``None`` where it is not labelled there."""
        first, end = self.starts[frame], self.starts[frame + 1]
        found = np.flatnonzero(self.tracks[first:end] == track_id)
        return self.keypoints[first + found[-1]] if len(found) else None


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
        hide_heads: share of the clips whose faces are made unknowable, 0 to 1.
        occlude: share of the clips with pieces of other pictures before the person, 0 to 1.
        interval: frames from the first to the last frame of a clip of three, the key frame anywhere between;
            two numbers: any of these and between; ``None``: neighbouring frames.
        confidence_weights: joints that have confidences count as much as these say, and not 1.
        cache, frame_size, pack: as of :class:`vidpose.data.frames.FrameStore`.

    Raises:
        InputError: an interval for clips of another length.
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
        hide_heads: float = 0.0,
        occlude: float = 0.0,
        seed: int = 0,
        interval: int | tuple[int, int] | None = None,
        confidence_weights: bool = False,
        cache: str = "none",
        frame_size: int | None = None,
        pack: str | os.PathLike[str] | None = None,
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
        self.hide_heads = hide_heads
        self.occlude = occlude
        self.seed = seed
        if interval is not None and num_frames != 3:
            raise InputError(f"an interval is for clips of 3 frames, not of {num_frames}")
        self.interval = interval
        self._people = _People(data, self.samples, confidence_weights=confidence_weights)
        self._lengths = np.array([len(video.frames) for video in data.videos], dtype=np.int64)
        needed = ((s.video, i) for s in self.samples for i in self.frame_indices(s))
        if interval is not None:  # any frame may be drawn
            needed = ((v, i) for v, video in enumerate(data.videos) for i in range(len(video.frames)))
        self.frames = FrameStore(data, cache, needed, frame_size=frame_size, pack=pack, quiet=quiet)
        self._wide: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def frame_indices(self, sample: Sample) -> list[int]:
        """Positions of the sample's T frames in its video."""
        return clip_indices(sample.frame, self.num_frames, len(self.data.videos[sample.video].frames))

    def groups(self, frames: int) -> np.ndarray:
        """[S] numbers that samples of the same ``frames`` neighbouring frames of a video share."""
        places = np.column_stack([self._people.sample_videos, self._people.sample_frames // frames])
        return np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """One sample.

        Returns:
            ``clip`` uint8 [T, H, W, 3] RGB in order of time; ``points`` float32 [T, J, 2] in heatmap pixels
            and ``weights`` float32 [T, J]: 1 or a joint's confidence, 0 where it is unlabelled or outside the
            crop or the person not labelled in that frame; ``times`` float32 [T] of the frames, 0 in
            the key frame; ``index``, ``affine`` [2, 3] image to crop.
        """
        return self._item(key, np.empty((self.num_frames, *self.input_size, 3), dtype=np.uint8))

    def __getitems__(self, keys: Sequence[int | tuple[int, int]]) -> ClipItems:
        """Many samples, in the order of ``keys``; a frame that several need is decoded once."""
        where = self._people
        indices = [key[1] if isinstance(key, tuple) else key for key in keys]
        order = sorted(
            range(len(keys)), key=lambda k: (where.sample_videos[indices[k]], where.sample_frames[indices[k]])
        )
        clips = _batch_memory((len(keys), self.num_frames, *self.input_size, 3))
        items: list[dict[str, Any]] = [{}] * len(keys)
        for k in order:
            items[k] = self._item(keys[k], clips[k].numpy())
        return ClipItems(items, clips)

    def _item(self, key: int | tuple[int, int], clip: np.ndarray) -> dict[str, Any]:
        """As ``__getitem__``, its pixels written into ``clip``."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        people, skeleton = self._people, self.data.skeleton
        video, row = int(people.sample_videos[index]), int(people.sample_rows[index])
        frame, length = int(people.sample_frames[index]), int(self._lengths[video])
        indices = clip_indices(frame, self.num_frames, length)
        if self.interval is not None:
            indices = spread_indices(frame, self.interval, length, epoch, index, self.seed)
        rng = clip_generator(self.seed, epoch, index)
        drawn = draw_augmentation(
            rng,
            people.sample_boxes[index],
            people.keypoints[row] if row >= 0 else np.zeros((skeleton.num_joints, 3)),
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
        self._crop(video, indices, affine, clip)
        if self.photometric > 0 and self.augment != "none":
            clip[...] = draw_photometric(rng, clip, self.photometric)
        keypoints = np.zeros((len(indices), skeleton.num_joints, 3))
        if row >= 0:
            for t, number in enumerate(indices):
                found = people.find(int(self.frames.starts[video]) + number, int(people.sample_tracks[index]))
                if found is not None:
                    keypoints[t] = found
        if self.augment != "none":
            in_crop = keypoints.copy()
            in_crop[..., :2] = apply_affine(affine, keypoints[..., :2])
            clip[...] = hide_heads(rng, clip, in_crop, skeleton, self.hide_heads)
            if self.occlude > 0 and rng.random() < self.occlude:
                joints = in_crop[len(indices) // 2]
                places = joints[joints[:, 2] > 0, :2]
                clip[...] = paste_occluders(rng, clip, places, self._other_picture(rng))
        points, weights = self._targets(keypoints, affine, drawn.flip)
        times = np.array(indices, dtype=np.float32) - frame
        return {
            "clip": clip, "points": points, "weights": weights, "times": times, "index": index,
            "affine": affine,
        }  # fmt: skip

    def _other_picture(self, rng: np.random.Generator) -> np.ndarray:
        """A frame of a random sample."""
        index = int(rng.integers(len(self.samples)))
        return self.frames.get(int(self._people.sample_videos[index]), int(self._people.sample_frames[index]))

    def _crop(self, video: int, indices: list[int], affine: np.ndarray, clip: np.ndarray) -> None:
        """Fills [T, H, W, 3]: the same affine for all frames; a repeated frame is warped once."""
        for t, index in enumerate(indices):
            if t and index == indices[t - 1]:
                clip[t] = clip[t - 1]
            else:
                image = self.frames.get(video, index)
                scale = self.frames.scale(video, index, image)
                self._warp(image, scaled_affine(affine, scale), clip[t])

    def _warp(self, image: np.ndarray, affine: np.ndarray, crop: np.ndarray) -> None:
        """:func:`vidpose.geometry.warp_image` into ``crop``, to the same pixels.

        OpenCV warps four channels twice as fast as three, so the part of the image that the crop shows is
        given a fourth.
        """
        import cv2

        height, width = self.input_size
        corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]])
        seen = apply_affine(invert_affine(affine), corners)
        (x1, y1), (x2, y2) = seen.min(axis=0), seen.max(axis=0)
        x1, y1 = max(math.floor(x1) - 2, 0), max(math.floor(y1) - 2, 0)
        x2, y2 = min(math.ceil(x2) + 3, image.shape[1]), min(math.ceil(y2) + 3, image.shape[0])
        if x2 <= x1 or y2 <= y1:
            crop[...] = 0
            return
        if self._wide is None or self._wide.shape[:2] != image.shape[:2]:
            self._wide = np.zeros((*image.shape[:2], 4), dtype=np.uint8)
        self._wide[y1:y2, x1:x2] = cv2.cvtColor(image[y1:y2, x1:x2], cv2.COLOR_RGB2RGBA)
        warped = cv2.warpAffine(self._wide, affine, (width, height), flags=cv2.INTER_LINEAR)
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=crop)

    def _targets(
        self, keypoints: np.ndarray, affine: np.ndarray, flip: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points and weights in heatmap pixels of keypoints [T, J, 3] in image pixels."""
        points = apply_affine(affine, keypoints[..., :2])
        height, width = self.input_size
        inside = ((points > -0.5) & (points < np.array([width, height]) - 0.5)).all(axis=-1)
        weights = keypoints[..., 2] * inside
        if flip:
            # The affine has mirrored the positions; what remains is the exchange of left and right.
            order = self.data.skeleton.flip_permutation
            points, weights = points[:, order], weights[:, order]
        points = input_to_heatmap(points, self.input_size, self.heatmap_size)
        return points.astype(np.float32), weights.astype(np.float32)


class ClipItems(list):
    """Samples whose ``clip`` are the rows of one tensor ``clips`` uint8 [B, T, H, W, 3]."""

    def __init__(self, items: Sequence[dict[str, Any]], clips: Tensor) -> None:
        super().__init__(items)
        self.clips = clips


def _batch_memory(shape: tuple[int, ...]) -> Tensor:
    """An empty uint8 tensor; in a loading process in memory that it shares, as torch's own collate makes."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.tensor([], dtype=torch.uint8).set_(storage).view(shape)  # type: ignore[call-overload]


def collate_clips(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch: ``clips`` uint8 [B, T, 3, H, W] (a view; in memory [B, T, H, W, 3]), ``points``
    [B, T, J, 2], ``weights`` [B, T, J], ``times`` [B, T], ``index`` [B], ``affine`` float64 [B, 2, 3]."""
    if isinstance(items, ClipItems):
        clips = items.clips
    else:
        clips = default_collate([torch.from_numpy(item["clip"]) for item in items])
    return {
        "clips": clips.permute(0, 1, 4, 2, 3),  # [B, T, H, W, 3] -> [B, T, 3, H, W]
        "points": torch.from_numpy(np.stack([item["points"] for item in items])),
        "weights": torch.from_numpy(np.stack([item["weights"] for item in items])),
        "times": torch.from_numpy(np.stack([item["times"] for item in items])),
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

    gc.freeze()  # looking for garbage among the parent's objects writes to their pages, which copies them
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
