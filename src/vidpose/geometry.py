"""Boxes, the one affine between image and crop, heatmap targets and their decoding.

Coordinates put (0, 0) at the centre of the top-left pixel. A crop's box edges map to the centres of the
crop's first and last pixels, and a crop's first and last pixel centres to those of its heatmap ("unbiased" or
UDP convention, Huang et al., CVPR 2020): one convention for crop, targets and the way back.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidpose.device import upload
from vidpose.skeletons import Skeleton

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DECODERS = ("plain", "quarter", "dark", "udp")


# --- boxes -----------------------------------------------------------------------------------------


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] x, y, width, height -> x1, y1, x2, y2."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """[..., 4] x1, y1, x2, y2 -> x, y, width, height."""
    boxes = np.asarray(boxes, dtype=np.float64)
    return np.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def clip_boxes(boxes_xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes [..., 4] cut to an image of ``size`` (height, width)."""
    boxes = np.array(boxes_xyxy, dtype=np.float64)
    boxes[..., 0::2] = boxes[..., 0::2].clip(0, size[1])
    boxes[..., 1::2] = boxes[..., 1::2].clip(0, size[0])
    return boxes


def box_area(boxes_xyxy: np.ndarray) -> np.ndarray:
    """[..., 4] -> [...]; 0 for boxes turned inside out."""
    boxes = np.asarray(boxes_xyxy, dtype=np.float64)
    return (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of [N, 4] and [M, 4] -> [N, M]; 0 where both are empty."""
    a = np.asarray(a, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(b, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    union = box_area(a)[:, None] + box_area(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def enclosing_box(points: np.ndarray, valid: np.ndarray, margin: float = 0.0) -> np.ndarray | None:
    """The box [4] around the valid ones of ``points`` [J, 2], grown by ``margin`` of its size on each side.

    ``None`` where no point is valid.
    """
    chosen = np.asarray(points, dtype=np.float64)[np.asarray(valid, dtype=bool)]
    if len(chosen) == 0:
        return None
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    grow = (high - low) * margin
    return np.concatenate([low - grow, high + grow])


# --- the affine ------------------------------------------------------------------------------------


def crop_affine(
    box_xyxy: np.ndarray,
    input_size: tuple[int, int],
    *,
    padding: float = 1.25,
    rotation_deg: float = 0.0,
    scale: float = 1.0,
    flip: bool = False,
) -> np.ndarray:
    """The affine [2, 3] (float64) from image pixels to crop pixels.

    The box is grown about its centre to the crop's aspect ratio, then by ``padding`` (1.25 is the papers'
    "enlarged by 25 %") and ``scale``; the result's edges land on the crop's outermost pixel centres.

    Args:
        box_xyxy: [4], may lie outside the image; sides are at least one pixel.
        input_size: (height, width) of the crop.
        rotation_deg: turns the crop's content clockwise on screen.
        flip: mirrors the crop left to right, after everything else.
    """
    height, width = input_size
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise ValueError(f"box {[x1, y1, x2, y2]} is not finite")
    box_w, box_h = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    box_w = max(box_w, box_h * width / height) * padding * scale
    box_h = box_w * height / width
    cos, sin = math.cos(math.radians(rotation_deg)), math.sin(math.radians(rotation_deg))
    linear = np.array([[cos, -sin], [sin, cos]])
    linear = np.diag([(width - 1) / box_w, (height - 1) / box_h]) @ linear
    if flip:
        linear = np.diag([-1.0, 1.0]) @ linear
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.concatenate([linear, (middle - linear @ centre)[:, None]], axis=1)


def invert_affine(affine: np.ndarray) -> np.ndarray:
    """The inverse [2, 3] of an affine [2, 3]."""
    linear = np.linalg.inv(np.asarray(affine, dtype=np.float64)[:, :2])
    return np.concatenate([linear, -(linear @ affine[:, 2])[:, None]], axis=1)


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] through an affine [2, 3], in float64."""
    affine = np.asarray(affine, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ affine[:, :2].T + affine[:, 2]


def warp_image(image: np.ndarray, affine: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """The crop [h, w, C] of ``image`` [H, W, C] under ``affine``: bilinear, black outside the image."""
    import cv2

    return cv2.warpAffine(
        image, np.asarray(affine, dtype=np.float64), (input_size[1], input_size[0]), flags=cv2.INTER_LINEAR
    )


def normalize_image(image: np.ndarray) -> np.ndarray:
    """uint8 RGB [..., h, w, 3] -> float32 [..., 3, h, w] with ImageNet's mean and standard deviation."""
    width = image.shape[-2]  # whole rows at a time: three colours alone are too few for fast arithmetic
    mean = np.tile(np.asarray(IMAGENET_MEAN, dtype=np.float32) * 255, width)
    scale = np.tile(1 / (np.asarray(IMAGENET_STD, dtype=np.float32) * 255), width)
    rows = image.reshape(*image.shape[:-2], -1).astype(np.float32)
    rows -= mean
    rows *= scale
    return np.moveaxis(rows.reshape(image.shape), -1, -3)


def normalize_frames(frames: Tensor) -> Tensor:
    """uint8 RGB tensor [..., 3, h, w] -> float32, as :func:`normalize_image`, on the tensor's device."""
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1) * 255
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1) * 255
    return (frames.float() - mean) / std


def flip_keypoints(keypoints: np.ndarray, width: float, skeleton: Skeleton) -> np.ndarray:
    """Keypoints [..., J, C] of an image ``width`` wide, mirrored: x reflected, left and right exchanged."""
    out = np.array(keypoints)[..., skeleton.flip_permutation, :]
    out[..., 0] = width - 1 - out[..., 0]
    return out


# --- heatmaps --------------------------------------------------------------------------------------


def input_to_heatmap(
    points: np.ndarray, input_size: tuple[int, int], heatmap_size: tuple[int, int]
) -> np.ndarray:
    """Points [..., 2] in crop pixels -> heatmap pixels; outermost pixel centres coincide."""
    return np.asarray(points, dtype=np.float64) * _pixel_ratio(heatmap_size, input_size)


def heatmap_to_input(
    points: np.ndarray, input_size: tuple[int, int], heatmap_size: tuple[int, int]
) -> np.ndarray:
    """Points [..., 2] in heatmap pixels -> crop pixels."""
    return np.asarray(points, dtype=np.float64) * _pixel_ratio(input_size, heatmap_size)


def _pixel_ratio(to: tuple[int, int], source: tuple[int, int]) -> np.ndarray:
    return np.array([(to[1] - 1) / (source[1] - 1), (to[0] - 1) / (source[0] - 1)])


def gaussian_heatmaps(
    points: np.ndarray | Tensor,
    valid: np.ndarray | Tensor,
    heatmap_size: tuple[int, int],
    sigma: float,
    *,
    rounded: bool = False,
) -> Tensor:
    """Gaussian targets with peak 1 at the exact, sub-pixel position.

    Args:
        points: [..., J, 2] in heatmap pixels.
        valid: [..., J]; invalid joints give a heatmap of zeros.
        heatmap_size: (h, w).
        sigma: standard deviation in heatmap pixels.
        rounded: centre on the nearest pixel and cut at 3 sigma, as released code does.

    Returns:
        [..., J, h, w] float32 on the device of ``points``.
    """
    points = torch.as_tensor(points, dtype=torch.float32)
    valid = torch.as_tensor(valid, device=points.device)
    centre = (points + 0.5).floor() if rounded else points
    reach = 3 * sigma if rounded else math.inf

    def profile(length: int, axis: int) -> Tensor:
        away = torch.arange(length, dtype=torch.float32, device=points.device) - centre[..., axis : axis + 1]
        value = torch.exp(-away.square() / (2 * sigma**2))
        return torch.where(away.abs() <= reach, value, 0.0)

    height, width = heatmap_size
    maps = profile(height, 1).unsqueeze(-1) * profile(width, 0).unsqueeze(
        -2
    )  # [..., J, h, 1] x [..., J, 1, w]
    return torch.where((valid > 0)[..., None, None], maps, 0.0)


def decode_heatmaps(heatmaps: Tensor, method: str = "dark", sigma: float = 2.0) -> tuple[Tensor, Tensor]:
    """Joint positions from heatmaps.

    Args:
        heatmaps: [..., J, h, w].
        method: ``plain``: the peak's pixel. ``quarter``: a quarter pixel toward the larger neighbour (HRNet's
            code). ``dark``: smooth, then one Newton step on the logarithm (Zhang et al., CVPR 2020). ``udp``:
            the same with the floor of 0.001 that UDP's public code puts under the logarithm, so that heatmaps
            of almost nothing are not refined.
        sigma: standard deviation of the training targets in heatmap pixels; sets the smoothing.

    Returns:
        Points [..., J, 2] (x, y) in heatmap pixels, and scores [..., J], the raw peak clamped to 0..1.
    """
    if method not in DECODERS:
        raise ValueError(f"unknown decoder {method!r}; known: {', '.join(DECODERS)}")
    maps = heatmaps.detach().float()
    height, width = maps.shape[-2:]
    peak, where = maps.flatten(-2).max(dim=-1)
    peak = peak.nan_to_num(0.0)
    px, py = where % width, where // width
    points = torch.stack([px, py], dim=-1).float()
    scores = peak.clamp(0, 1)
    if method == "plain":
        return points, scores
    flat = maps.reshape(-1, height, width)
    x, y = px.reshape(-1), py.reshape(-1)
    if method == "quarter":
        shift = _quarter_shift(flat, x, y)
    else:
        shift = _refine(flat, x, y, sigma, floor=1e-10 if method == "dark" else 1e-3)
    return points + shift.reshape(points.shape), scores


def _at(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of maps [M, h, w] at integer positions, clamped to the border."""
    height, width = maps.shape[-2:]
    rows = torch.arange(len(maps), device=maps.device)
    return maps[rows, y.clamp(0, height - 1), x.clamp(0, width - 1)]


def _quarter_shift(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    dx = torch.sign(_at(maps, x + 1, y) - _at(maps, x - 1, y))
    dy = torch.sign(_at(maps, x, y + 1) - _at(maps, x, y - 1))
    return torch.where(inside[:, None], 0.25 * torch.stack([dx, dy], dim=-1), 0.0)


def _blur_kernel(sigma: float, device: torch.device) -> Tensor:
    """DARK's smoothing kernel [K]: 11 wide for sigma 2, 17 for 3, with OpenCV's standard deviation for it."""
    size = 2 * round(5.5 * sigma / 2) + 1
    std = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    steps = torch.arange(size, dtype=torch.float32, device=device) - size // 2
    kernel = torch.exp(-steps.square() / (2 * std**2))
    return kernel / kernel.sum()


def _refine(maps: Tensor, x: Tensor, y: Tensor, sigma: float, floor: float) -> Tensor:
    """Newton shift [M, 2] from the peaks (x, y) of maps [M, h, w], on the logarithm of the smoothed map.

    Where the smoothing kernel would reach over the border, what lies outside is unknown and any filling bends
    the parabola; there the map is taken as it is.
    """
    height, width = maps.shape[-2:]
    kernel = _blur_kernel(sigma, maps.device)
    reach = len(kernel) // 2 + 1
    inside = (x >= reach) & (x < width - reach) & (y >= reach) & (y < height - reach)
    # At the border the derivatives are taken one pixel inside: a Gaussian's logarithm is one parabola.
    cx, cy = x.clamp(1, width - 2), y.clamp(1, height - 2)
    steps = torch.arange(-reach, reach + 1, device=maps.device)
    rows, columns = (cy[:, None] + steps).clamp(0, height - 1), (cx[:, None] + steps).clamp(0, width - 1)
    which = torch.arange(len(maps), device=maps.device)[:, None, None]
    patches = maps[which, rows[:, :, None], columns[:, None, :]].clamp(min=0)  # [M, S, S] around the peaks
    smooth = torch.stack([F.pad(kernel, (k, 2 - k)) for k in range(3)])  # [3, S]
    raw = patches[:, reach - 1 : reach + 2, reach - 1 : reach + 2]
    near = torch.where(inside[:, None, None], smooth @ patches @ smooth.T, raw)  # [M, 3, 3]
    return _newton_shift(near.clamp(min=floor).log(), torch.stack([cx - x, cy - y], dim=-1))


def _newton_shift(logs: Tensor, offset: Tensor) -> Tensor:
    """-H^-1 g of the log-heatmap [M, 3, 3], as a shift [M, 2] from the peak; 0 where H is not a maximum's.

    Args:
        offset: [M, 2] from the peak to the middle of the nine.
    """
    here = logs[:, 1, 1]
    left, right, up, down = logs[:, 1, 0], logs[:, 1, 2], logs[:, 0, 1], logs[:, 2, 1]
    gx, gy = (right - left) / 2, (down - up) / 2
    hxx, hyy = right + left - 2 * here, down + up - 2 * here
    hxy = (logs[:, 2, 2] + logs[:, 0, 0] - logs[:, 0, 2] - logs[:, 2, 0]) / 4
    det = hxx * hyy - hxy.square()
    usable = (det > 1e-12) & (hxx < 0)
    det = torch.where(usable, det, torch.ones_like(det))
    shift = torch.stack([-(hyy * gx - hxy * gy) / det, -(hxx * gy - hxy * gx) / det], dim=-1) + offset
    # A step of more than a pixel means that the parabola does not describe this peak.
    return torch.where(usable[:, None], shift.clamp(-1, 1), 0.0)


def flip_heatmaps(heatmaps: Tensor, skeleton: Skeleton, *, shift: bool = False) -> Tensor:
    """Heatmaps [..., J, h, w] of a mirrored crop, brought back: mirrored, left and right exchanged.

    ``shift`` moves them one pixel to the right, as code with a biased affine must; ours needs it not.
    """
    order = upload(skeleton.flip_permutation, heatmaps.device)
    out = heatmaps.flip(-1).index_select(-3, order)
    if shift:
        out = torch.cat([out[..., :1], out[..., :-1]], dim=-1)
    return out


# --- similarity ------------------------------------------------------------------------------------


def object_keypoint_similarity(
    a: np.ndarray,
    b: np.ndarray,
    area: np.ndarray | float,
    sigmas: np.ndarray,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """COCO's OKS between keypoints [..., J, 2] and [..., J, 2] -> [...].

    Args:
        area: [...] of the reference person, pixels squared.
        sigmas: [J].
        valid: [..., J] joints to count; all by default; none gives 0.
    """
    distance = np.square(
        np.asarray(a, dtype=np.float64)[..., :2] - np.asarray(b, dtype=np.float64)[..., :2]
    ).sum(-1)
    scale = (
        2
        * np.square(2 * np.asarray(sigmas))
        * (np.asarray(area, dtype=np.float64)[..., None] + np.spacing(1))
    )
    similarity = np.exp(-distance / scale)
    counted = (
        np.ones_like(similarity) if valid is None else np.broadcast_to(valid, similarity.shape).astype(float)
    )
    total = counted.sum(-1)
    return np.divide((similarity * counted).sum(-1), total, out=np.zeros_like(total), where=total > 0)


def oks_nms(
    keypoints: np.ndarray, scores: np.ndarray, areas: np.ndarray, sigmas: np.ndarray, threshold: float
) -> np.ndarray:
    """Non-maximum suppression of poses: from the best on, those more alike than ``threshold`` to it go.

    Args:
        keypoints: [P, J, 2] pixels.
        scores: [P].
        areas: [P] pixels squared; the OKS of two poses is taken at the mean of their areas.
        sigmas: [J].
        threshold: OKS, 0 to 1.

    Returns:
        Positions of those that stay, best first.
    """
    kept: list[int] = []
    for p in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable").tolist():
        scale = (np.asarray(areas)[kept] + np.asarray(areas)[p]) / 2
        alike = object_keypoint_similarity(np.asarray(keypoints)[kept], keypoints[p], scale, sigmas)
        if not (alike > threshold).any():
            kept.append(p)
    return np.array(kept, dtype=np.int64)
