"""The best, the median and the worst poses of a benchmark in one picture, for multiview.py and real.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vidpose.geometry import apply_affine, crop_affine, warp_image
from vidpose.results import FramePoses
from vidpose.skeletons import POSETRACK15, Skeleton
from vidpose.view.draw import draw_poses

COLUMNS, TILE, GAP = 7, (240, 180), 25


@dataclass
class Shown:
    """One pose."""

    miss: float
    """How far it is from right, in the benchmark's unit of length."""
    video: str
    frame: int
    points: np.ndarray
    """[J, 2] image pixels."""
    scores: np.ndarray
    """[J] 0 for a joint that is not drawn."""
    box_xyxy: np.ndarray
    """[4] what is cut out, before the crop's padding."""
    labels: np.ndarray | None = None
    """[L, 2] drawn as white dots."""


def draw(
    poses: list[Shown],
    read: Callable[[Shown], np.ndarray],
    path: Path,
    *,
    skeleton: Skeleton = POSETRACK15,
) -> None:
    """The best, the median and the worst poses, seven of each, no two of one second of one video.

    Args:
        read: gives the image [H, W, 3] uint8 RGB of a pose. path: JPEG or PNG by its ending.
    """
    ordered = sorted(poses, key=lambda pose: pose.miss)
    middle = ordered[len(ordered) // 2].miss
    rows = []
    for order in (ordered, sorted(ordered, key=lambda pose: abs(pose.miss - middle)), ordered[::-1]):
        tiles = [_tile(pose, read(pose), skeleton) for pose in apart(order)]
        blank = np.zeros_like(tiles[0])
        rows.append(np.hstack(tiles + [blank] * (COLUMNS - len(tiles))))
    quality = [] if path.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 88]
    cv2.imwrite(str(path), np.vstack(rows), quality)


def apart(poses: Iterable[Shown], count: int = COLUMNS) -> list[Shown]:
    """The first poses that are not within 25 frames of one another in the same video."""
    kept: list[Shown] = []
    for pose in poses:
        if all(p.video != pose.video or abs(p.frame - pose.frame) > GAP for p in kept):
            kept.append(pose)
        if len(kept) == count:
            break
    return kept


def _tile(pose: Shown, image: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """[240, 180, 3] uint8 BGR around a pose, drawn over it."""
    affine = crop_affine(pose.box_xyxy, TILE)
    crop = warp_image(image, affine, TILE)
    at = apply_affine(affine, pose.points)[None]
    people = FramePoses(
        pose.frame, 0.0, at, pose.scores[None], np.zeros((1, 4)), np.ones(1), np.zeros(1, dtype=int)
    )
    drawn = draw_poses(crop, people, skeleton, boxes=False, ids=False, time=False)
    tile = np.ascontiguousarray(drawn[..., ::-1])
    for x, y in apply_affine(affine, pose.labels) if pose.labels is not None else ():
        cv2.circle(tile, (round(x), round(y)), 2, (255, 255, 255), -1, cv2.LINE_AA)
    for color, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(tile, f"{100 * pose.miss:.1f}%", (6, 18), font, 0.5, color, width, cv2.LINE_AA)
    return tile
