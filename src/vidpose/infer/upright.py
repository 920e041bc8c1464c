"""A second look at people who do not stand upright, in a crop that is turned until they do.

Pose models see few people upside down. The first pose says how the trunk leans; the crop is turned by as
much, drawn closely around the pose, and seen mirrored as well. Of both poses the surer one stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vidpose.infer.crops import CropRunner, PathCrop, Strip
from vidpose.infer.second_look import extents
from vidpose.skeletons import Skeleton

LEAST_LEAN_DEG = 45.0
"""Who leans less is seen as well as those who stand."""
SHARED_LEAN_DEG = 20.0
"""Frames share a turned crop while their leans differ from its own by as much at most."""
MARGIN = 0.1
"""Of the turned box around the joints, in shares of their extent's longer side."""

_SHOULDERS, _HIPS = ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")


class UprightRunner:
    """Runs a pose model over strips, and again over people who lean; called as a :class:`CropRunner`."""

    def __init__(self, runner: CropRunner) -> None:
        self.runner = runner

    def __call__(self, strips: Sequence[Strip]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each strip keypoints [K, J, 2] in image pixels (float64) and heatmap peaks [K, J] in 0..1."""
        results = self.runner(strips)
        places, turned = [], []
        for number, (strip, (points, peaks)) in enumerate(zip(strips, results, strict=True)):
            for keys, again in self._turned(strip, points, peaks):
                places.append((number, keys))
                turned.append(again)
        for (number, keys), (points, peaks) in zip(places, self.runner(turned, flip_test=True), strict=True):
            old_points, old_peaks = results[number]
            if is_surer(peaks, old_peaks[keys]):
                old_points[keys], old_peaks[keys] = points, peaks
        return results

    def _turned(self, strip: Strip, points: np.ndarray, peaks: np.ndarray) -> Iterator[tuple[slice, Strip]]:
        """The strip's key frames in which the person leans, in parts that lean alike."""
        leans = np.array([lean_deg(pose, self.runner.skeleton) for pose in points])
        for start, end in _alike(leans):
            path = self._path(strip, start, leans[start:end])
            lean = -path.rotation_deg
            boxes = np.array([turned_box(points[k], peaks[k], lean) for k in range(start, end)])
            keys = slice(start, end)
            places, windows = np.unique(strip.windows[keys], return_inverse=True)
            windows = windows.reshape(end - start, -1)
            numbers = [strip.numbers[n] for n in places] if strip.numbers is not None else places.tolist()
            first = numbers[windows[0, windows.shape[1] // 2]]
            crops = path.follow(first, boxes, boxes[:0], numbers, self.runner.num_frames)
            again = Strip(crops, [strip.images[n] for n in places], windows, path.rotation_deg)
            if strip.track is not None:
                again.numbers, again.path, strip.track.turned = numbers, path, path
            yield keys, again

    def _path(self, strip: Strip, start: int, leans: np.ndarray) -> PathCrop:
        """The turned crops up to the frame before a strip's key frame ``start``, where they suit the leans
        [K], or new ones."""
        path = strip.track.turned if strip.track is not None else None
        key = strip.windows[start, strip.windows.shape[1] // 2]
        if (
            path is not None
            and strip.numbers is not None
            and path.end == strip.numbers[key]
            and all(angle_between_deg(lean, -path.rotation_deg) <= SHARED_LEAN_DEG for lean in leans)
        ):
            return path
        return PathCrop(rotation_deg=-mean_angle_deg(leans))


def lean_deg(points: np.ndarray, skeleton: Skeleton) -> float:
    """How far a pose leans to the right on screen: -180 to 180 degrees from the hips to the shoulders.

    0 for those who lean by less than :data:`LEAST_LEAN_DEG`, and where the joint set has no shoulders and
    hips.

    Args:
        points: [J, 2] pixels.
    """
    if not all(name in skeleton.joints for name in (*_SHOULDERS, *_HIPS)):
        return 0.0
    trunk = [skeleton.index[name] for name in (*_SHOULDERS, *_HIPS)]
    up = points[trunk[:2]].mean(axis=0) - points[trunk[2:]].mean(axis=0)
    lean = float(np.degrees(np.arctan2(up[0], -up[1])))
    return lean if abs(lean) >= LEAST_LEAN_DEG else 0.0


def turned_box(points: np.ndarray, peaks: np.ndarray, lean: float) -> np.ndarray:
    """The box [4] around the sure joints, or all where these are few, as they lie when the image is turned
    about the box's centre by ``-lean`` degrees.

    Args:
        points: [J, 2] pixels. peaks: [J] in 0..1.
    """
    turn = np.radians(-lean)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    turned = points @ matrix.T
    [around] = extents(turned[None], peaks[None])
    low, high = around[:2], around[2:]
    if np.isnan(around).any():
        low, high = turned.min(axis=0), turned.max(axis=0)
    centre, sides = (low + high) / 2 @ matrix, high - low
    half = sides / 2 + MARGIN * sides.max()
    return np.concatenate([centre - half, centre + half])


def is_surer(peaks: np.ndarray, than: np.ndarray) -> bool:
    """Whether the second poses with these peaks [..., J] replace the first ones."""
    return bool(peaks.mean() >= than.mean())


def mean_angle_deg(angles: np.ndarray) -> float:
    """Mean direction of angles [N] in degrees."""
    return float(np.degrees(np.angle(np.exp(1j * np.radians(angles)).mean())))


def angle_between_deg(a: float, b: float) -> float:
    """The smaller angle between two directions, 0 to 180 degrees."""
    return abs((a - b + 180) % 360 - 180)


def _alike(leans: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of successive leans [K] that are not 0 and within :data:`SHARED_LEAN_DEG` of their mean."""
    start = 0
    for k in range(len(leans) + 1):
        inside = leans[start : k + 1]
        fits = k < len(leans) and bool(inside.all())
        if fits:
            mean = mean_angle_deg(inside)
            fits = all(angle_between_deg(lean, mean) <= SHARED_LEAN_DEG for lean in inside)
        if not fits:
            if k > start:
                yield start, k
            start = k if k < len(leans) and leans[k] else k + 1
