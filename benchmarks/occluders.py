"""People with something in front of them: parts of other pictures, in polygons, for benchmarks/real.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from vidpose.data.clips import Sample
from vidpose.data.dataset import PoseDataset, Video
from vidpose.data.frames import read_frame

LEAST, MOST = 0.2, 0.5
"""Of the box that is hidden."""


def random_polygon(
    rng: np.random.Generator, box_xyxy: np.ndarray, size: tuple[int, int], share: float
) -> np.ndarray:
    """A mask [H, W] bool of a polygon that hides ``share`` of the box.

    Its middle lies in the box, five to nine corners around it at changing distances; it is enlarged until so
    much of the box is covered, and may reach beyond.
    """
    x1, y1, x2, y2 = box_xyxy
    middle = rng.uniform((x1, y1), (x2, y2))
    corners = int(rng.integers(5, 10))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(0, 0.7, corners)) / corners
    rays = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.6, 1, (corners, 1))
    low, high = 0.0, 4 * float(np.hypot(x2 - x1, y2 - y1))
    for _ in range(16):
        radius = (low + high) / 2
        mask = np.zeros(size, dtype=np.uint8)
        cv2.fillPoly(mask, [np.round(middle + radius * rays).astype(np.int32)], 1)
        if covered(mask, box_xyxy) < share:
            low = radius
        else:
            high = radius
    return mask.astype(bool)


def covered(mask: np.ndarray, box_xyxy: np.ndarray) -> float:
    """The share of a box's pixels that a mask [H, W] covers."""
    x1, y1, x2, y2 = (round(value) for value in box_xyxy)
    inside = mask[max(y1, 0) : max(y2, y1 + 1), max(x1, 0) : max(x2, x1 + 1)]
    return float(inside.mean()) if inside.size else 1.0


def fill_from(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The image [H, W, 3] with a part of another picture, drawn at random, in place of the mask [H, W]."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return image
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    scale = max(height / other.shape[0], width / other.shape[1], 1.0)
    if scale > 1:
        side = (int(np.ceil(other.shape[1] * scale)), int(np.ceil(other.shape[0] * scale)))
        other = cv2.resize(other, side, interpolation=cv2.INTER_LINEAR)
    top, left = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(other.shape[:2], (height, width), strict=True)
    )
    out = image.copy()
    at = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    patch = other[top : top + height, left : left + width]
    out[at] = np.where(mask[at][..., None], patch, out[at])
    return out


@dataclass
class Hidden:
    """People with occluders. N people, J joints."""

    data: PoseDataset
    """A video for each person: the key frame and its neighbours, without labels."""
    samples: list[Sample]
    visible: np.ndarray
    """[N, J] bool: not under the occluder, and visible before."""


def occlude(
    data: PoseDataset, samples: list[Sample], groups: list[str], folder: Path, *, reach: int, seed: int = 0
) -> Hidden:
    """Writes pictures of people in front of whom a part of another picture stands still.

    A fifth to a half of the box is covered, in the key frame and, at the same place of the picture, in its
    neighbours. The same seed makes the same pictures.

    Args:
        samples: N people with labels. groups: of each; the other picture is of another one, if there is one.
        folder: for the pictures, as PNG. reach: neighbours on each side of the key frame.
    """
    videos, moved, visible = [], [], []
    for n, sample in enumerate(samples):
        rng = np.random.default_rng((seed, n))
        frames = data.videos[sample.video].frames
        first, last = max(sample.frame - reach, 0), min(sample.frame + reach, len(frames) - 1)
        others = [k for k, group in enumerate(groups) if group != groups[n]] or [n]
        source = samples[others[int(rng.integers(len(others)))]]
        other = read_frame(data.videos[source.video].frames[source.frame])
        key = read_frame(frames[sample.frame])
        size = (key.shape[0], key.shape[1])
        mask = random_polygon(rng, sample.box_xyxy, size, float(rng.uniform(LEAST, MOST)))
        state = rng.bit_generator.state  # every frame gets the same part of the other picture
        kept = []
        for k in range(first, last + 1):
            rng.bit_generator.state = state
            path = folder / f"{n:06d}_{k - first}.png"
            image = read_frame(frames[k])
            image = fill_from(rng, image, mask, other) if image.shape[:2] == size else image
            cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
            kept.append(replace(frames[k], path=path, video_frame=None, index=k - first, people=[]))
        videos.append(Video(f"{n:06d}", kept, data.videos[sample.video].source))
        moved.append(replace(sample, video=n, frame=sample.frame - first))
        visible.append(_uncovered(sample, mask))
    return Hidden(replace(data, videos=videos), moved, np.stack(visible))


def _uncovered(sample: Sample, mask: np.ndarray) -> np.ndarray:
    """[J] bool."""
    assert sample.person is not None
    x, y = np.round(sample.person.keypoints[:, :2]).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    hidden = np.zeros(len(x), dtype=bool)
    hidden[inside] = mask[y[inside], x[inside]]
    return sample.person.visible & ~hidden
