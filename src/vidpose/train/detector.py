"""Training of the small person detector: frames of a PoseTrack-layout data set, augmentation, loss, AP.

A labelled frame is scaled, moved, mirrored and recoloured; its people's boxes are what the network
learns, its ignore regions do not count. Several data sets can be mixed, and several frames in one image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidpose.data.frames import read_frame
from vidpose.data.mixture import without_images
from vidpose.data.readers import Frame, read_dataset
from vidpose.errors import InputError
from vidpose.geometry import box_area, box_iou, normalize_image
from vidpose.models.person_detector import (
    MULTIPLE,
    STRIDE,
    DetectorTargets,
    PersonDetector,
    make_targets,
    start_from,
)
from vidpose.train.module import TrainedModule
from vidpose.train.recipe import Recipe, check_types

MIN_VISIBLE = 0.25
"""With less than this share of the box inside the crop, a person is neither person nor background."""
MIN_SIDE_PX = 6.0
"""A person whose box is narrower or lower than this in the network's input is ignored."""
IGNORED = -2
"""What :func:`match` says of a box that does not count."""


@dataclass
class Sample:
    """One training image, as the network sees it."""

    image: np.ndarray
    """[H, W, 3] uint8 RGB."""
    boxes: np.ndarray
    """[P, 4] xyxy in its pixels, clipped to it."""
    mask: np.ndarray
    """[H/4, W/4] float32, 0 where nothing counts."""


class FrameDataset(Dataset):
    """The labelled frames of a data set, augmented for training or whole for validation.

    An item is asked for by ``(epoch, position)``, so that the same seed, epoch and position give the
    same pixels in whatever worker.

    Args:
        frames: labelled frames.
        size: (height, width) of a training image; ``None`` gives whole frames without augmentation.
        long_side: the network's input, from which the scale of a training image is jittered.
        seed: of the augmentation.
        mosaic: share of the training images that are made of four frames (:func:`mosaic`), 0 to 1.
        sources: [F] the data set of each frame, from 0; a mosaic's frames are of one. ``None``: one data set.
    """

    def __init__(
        self,
        frames: list[Frame],
        size: tuple[int, int] | None,
        *,
        long_side: int,
        seed: int = 0,
        mosaic: float = 0.0,
        sources: np.ndarray | None = None,
    ) -> None:
        self.frames = frames
        self.size = size
        self.long_side = long_side
        self.seed = seed
        self.mosaic = mosaic
        self.sources = np.zeros(len(frames), dtype=int) if sources is None else sources

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, item: tuple[int, int] | int) -> Any:
        epoch, position = item if isinstance(item, tuple) else (0, item)
        loaded = load_frame(self.frames[position])
        if self.size is None:
            return loaded
        rng = np.random.default_rng((self.seed, epoch, position))
        if self.mosaic > 0 and rng.random() < self.mosaic:
            same = np.flatnonzero(self.sources == self.sources[position])
            others = [load_frame(self.frames[i]) for i in rng.choice(same, 3)]
            sample = mosaic([loaded, *others], self.size, self.long_side, rng)
        else:
            sample = augment(*loaded, self.size, self.long_side, rng)
        sample.image = recolour(sample.image, rng)
        return sample


def load_frame(frame: Frame) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Image [H, W, 3] uint8 RGB, boxes [P, 4], polygons [n, 2] of the regions to ignore."""
    boxes = np.array([person.box_xyxy for person in frame.people], dtype=np.float64).reshape(-1, 4)
    ignored = [np.asarray(polygon, dtype=np.float64) for polygon in frame.ignore_regions]
    return read_frame(frame), boxes, ignored


def augment(
    image: np.ndarray,
    boxes: np.ndarray,
    ignored: list[np.ndarray],
    size: tuple[int, int],
    long_side: int,
    rng: np.random.Generator,
) -> Sample:
    """A random view of a frame: scale, place, mirror.

    Args:
        image: [H, W, 3] uint8.
        boxes: [P, 4] xyxy.
        ignored: polygons [n, 2].
        size: (height, width) of the result.
        long_side: the frame's longer side becomes this, times a factor of 0.5 to 2.
        rng: all randomness.
    """
    height, width = image.shape[:2]
    out_h, out_w = size
    factor = long_side / max(height, width) * float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
    stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
    scale_x, scale_y = factor * stretch, factor / stretch
    mirrored = rng.random() < 0.5
    # Anywhere that keeps the smaller of view and frame inside the larger.
    shift_x = rng.uniform(*sorted((0.0, out_w - width * scale_x)))
    shift_y = rng.uniform(*sorted((0.0, out_h - height * scale_y)))
    if len(boxes) and rng.random() < 0.5:  # half of the views hold a person's centre
        x1, y1, x2, y2 = boxes[rng.integers(len(boxes))]
        shift_x = _nearest(rng.uniform(0.2, 0.8) * out_w - (x1 + x2) / 2 * scale_x, out_w, width * scale_x)
        shift_y = _nearest(rng.uniform(0.2, 0.8) * out_h - (y1 + y2) / 2 * scale_y, out_h, height * scale_y)
    affine = np.array(
        [[scale_x, 0, shift_x + (scale_x - 1) / 2], [0, scale_y, shift_y + (scale_y - 1) / 2]],
        dtype=np.float64,
    )
    if mirrored:
        affine[0] = -affine[0]
        affine[0, 2] += out_w - 1
    view = _shrink_then_warp(image, affine, size)
    placed = _move_boxes(boxes, affine)
    inside = placed.copy()
    inside[:, 0::2] = inside[:, 0::2].clip(-0.5, out_w - 0.5)
    inside[:, 1::2] = inside[:, 1::2].clip(-0.5, out_h - 0.5)
    share = box_area(inside) / np.maximum(box_area(placed), 1e-6)
    sides = np.minimum(inside[:, 2] - inside[:, 0], inside[:, 3] - inside[:, 1])
    wanted = (share >= MIN_VISIBLE) & (sides >= MIN_SIDE_PX)
    mask = np.ones((out_h // STRIDE, out_w // STRIDE), dtype=np.float32)
    for polygon in ignored:
        _blank(mask, polygon @ affine[:, :2].T + affine[:, 2])
    for x1, y1, x2, y2 in inside[~wanted & (sides > 0)]:
        _blank(mask, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
    people = inside[wanted]
    for x1, y1, x2, y2 in people:  # a person stays a person where somebody ignored stands in front
        row = int(np.clip(((y1 + y2) / 2 + 0.5) // STRIDE, 0, mask.shape[0] - 1))
        col = int(np.clip(((x1 + x2) / 2 + 0.5) // STRIDE, 0, mask.shape[1] - 1))
        mask[row, col] = 1
    return Sample(view, people, mask)


def mosaic(
    frames: Sequence[tuple[np.ndarray, np.ndarray, list[np.ndarray]]],
    size: tuple[int, int],
    long_side: int,
    rng: np.random.Generator,
) -> Sample:
    """A random view of each of four frames at half the scale, side by side (Bochkovskiy et al., 2020).

    It makes pictures of several people out of pictures of one.

    Args:
        frames: four times image, boxes and polygons, as of :func:`augment`.
        size: (height, width) of the whole, multiples of 8.
        long_side: as of :func:`augment`.
        rng: all randomness.
    """
    height, width = size[0] // 2, size[1] // 2
    views = [augment(*frame, (height, width), long_side // 2, rng) for frame in frames]
    for view, (row, column) in zip(views, ((0, 0), (0, 1), (1, 0), (1, 1)), strict=True):
        view.boxes = view.boxes + np.array([column * width, row * height] * 2)
    image, mask = (
        np.concatenate([np.concatenate(parts[:2], axis=1), np.concatenate(parts[2:], axis=1)])
        for parts in ([view.image for view in views], [view.mask for view in views])
    )
    return Sample(image, np.concatenate([view.boxes for view in views]), mask)


def _nearest(shift: float, view: float, frame: float) -> float:
    """``shift``, moved so that the frame covers the view or lies inside it."""
    low, high = sorted((0.0, view - frame))
    return min(max(shift, low), high)


def _shrink_then_warp(image: np.ndarray, affine: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The affine view without aliasing: area-averaged to about the scale first."""
    scale = max(abs(affine[0, 0]), abs(affine[1, 1]))
    if scale < 0.75:
        height, width = image.shape[:2]
        new_w, new_h = max(round(width * scale), 1), max(round(height * scale), 1)
        image = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_AREA)
        sx, sy = width / new_w, height / new_h
        # small pixel -> frame pixel -> view pixel
        affine = affine @ np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    return cv2.warpAffine(image, affine, (size[1], size[0]), flags=cv2.INTER_LINEAR)


def _move_boxes(boxes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    a = boxes[:, :2] * affine[[0, 1], [0, 1]] + affine[:, 2]
    b = boxes[:, 2:] * affine[[0, 1], [0, 1]] + affine[:, 2]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], axis=1)


def _blank(mask: np.ndarray, polygon: np.ndarray) -> None:
    """Sets the cells of a polygon in input pixels to 0."""
    cv2.fillPoly(mask, [np.round((polygon + 0.5) / STRIDE - 0.5).astype(np.int32)], 0.0)


def recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random light, colour, grey, blur, noise, compression, covered patches; [H, W, 3] uint8 in and out."""
    view: np.ndarray = image.astype(np.float32)
    if rng.random() < 0.8:
        view = view * rng.uniform(0.6, 1.4) + rng.uniform(-30, 30)  # contrast and brightness
    if rng.random() < 0.5:
        view = view * rng.uniform(0.8, 1.2, size=3).astype(np.float32)  # colour of the light
    grey = view @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.4, 1.4)
    view = grey[..., None] + (view - grey[..., None]) * np.float32(saturation)
    if rng.random() < 0.3:
        view = 255 * (view.clip(0, 255) / 255) ** np.float32(rng.uniform(0.6, 1.7))
    kind = rng.random()
    if kind < 0.2:
        view = cv2.GaussianBlur(view, (0, 0), rng.uniform(0.4, 1.6))
    elif kind < 0.35:
        view = _motion_blur(view, int(rng.integers(2, 8)), rng.uniform(0, np.pi))
    if rng.random() < 0.3:
        view = view + rng.normal(0, rng.uniform(2, 12), size=view.shape).astype(np.float32)
    out: np.ndarray = view.clip(0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(25, 90))
        jpeg = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
    if rng.random() < 0.3:
        for _ in range(rng.integers(1, 4)):
            h, w = (int(side * rng.uniform(0.05, 0.2)) for side in out.shape[:2])
            y, x = int(rng.integers(out.shape[0] - h)), int(rng.integers(out.shape[1] - w))
            out[y : y + h, x : x + w] = rng.integers(0, 256, size=3)
    return np.ascontiguousarray(out)


def _motion_blur(view: np.ndarray, length: int, angle: float) -> np.ndarray:
    steps = np.linspace(-0.5, 0.5, 2 * length + 1) * length
    side = 2 * (length // 2 + 1) + 1
    kernel = np.zeros((side, side), dtype=np.float32)
    rows = np.round(side // 2 + steps * np.sin(angle)).astype(int)
    cols = np.round(side // 2 + steps * np.cos(angle)).astype(int)
    kernel[rows, cols] = 1
    return cv2.filter2D(view, -1, kernel / kernel.sum())


def collate(samples: list[Sample]) -> tuple[Tensor, DetectorTargets]:
    """Images [B, 3, H, W] normalised, and their targets."""
    images = torch.from_numpy(normalize_image(np.stack([s.image for s in samples])))
    masks = np.stack([s.mask for s in samples])
    return images, make_targets([s.boxes for s in samples], masks.shape[1:], masks)


def average_precision(
    detections: list[tuple[np.ndarray, np.ndarray]],
    truth: list[np.ndarray],
    ignored: list[list[np.ndarray]] | None = None,
    *,
    iou: float = 0.5,
) -> float:
    """Area under the precision-recall curve of one class, in percent (all points, precision made monotone).

    Args:
        detections: per image boxes [P, 4] and scores [P].
        truth: per image boxes [G, 4].
        ignored: per image polygons [n, 2]; an unmatched detection whose centre lies in one is not counted.
        iou: smallest overlap that counts as found; each person is found once.
    """
    scores, hits = count_hits(detections, truth, ignored, iou)
    total = sum(len(people) for people in truth)
    if not total or not len(hits):
        return 0.0
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = found / total
    return float(100 * np.sum(np.diff(recall, prepend=0.0) * precision))


def count_hits(
    detections: list[tuple[np.ndarray, np.ndarray]],
    truth: list[np.ndarray],
    ignored: list[list[np.ndarray]] | None,
    iou: float,
) -> tuple[np.ndarray, np.ndarray]:
    """[D] scores of all detections that count, and [D] bool: it found somebody."""
    regions = ignored if ignored is not None else [[] for _ in truth]
    whom = [match(b, s, p, r, iou=iou) for (b, s), p, r in zip(detections, truth, regions, strict=True)]
    scores = [s[w != IGNORED] for (_, s), w in zip(detections, whom, strict=True)]
    return np.concatenate([*scores, []]), np.concatenate([*(w[w != IGNORED] for w in whom), []]) >= 0


def match(
    boxes: np.ndarray, scores: np.ndarray, people: np.ndarray, ignored: list[np.ndarray], *, iou: float = 0.5
) -> np.ndarray:
    """[D] whom each of the boxes [D, 4] finds, best score first: the person's position in ``people`` [G, 4],
    -1 for nobody, ``IGNORED`` for nobody with its centre in one of the polygons ``ignored``.
    """
    whom = np.full(len(boxes), -1)
    free = np.ones(len(people), dtype=bool)
    overlap = box_iou(boxes, people)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, overlap[i], -1.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= iou:
            free[best] = False
            whom[i] = best
        elif _inside_any(boxes[i], ignored):
            whom[i] = IGNORED
    return whom


def _inside_any(box: np.ndarray, polygons: list[np.ndarray]) -> bool:
    centre = (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2)
    return any(
        cv2.pointPolygonTest(p.astype(np.float32), centre, False) >= 0 for p in polygons if len(p) >= 3
    )


class DetectorModule(TrainedModule):
    """One training step of :class:`PersonDetector`."""

    def training_step(self, batch: tuple[Tensor, DetectorTargets], index: int) -> Tensor:
        images, targets = batch
        out = self.model(images.contiguous(memory_format=torch.channels_last))
        return self.total(self.model.losses(out, targets))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        images, t = batch
        targets = DetectorTargets(*(x.to(device) for x in (t.heatmap, t.boxes, t.box_weights, t.mask)))
        return images.to(device), targets


def score_detector(
    model: PersonDetector, frames: FrameDataset, *, batch_size: int = 8, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """``{"mAP": ...}`` in percent: average precision of boxes at IoU 0.5 over whole frames.

    Args:
        model: in any mode; it is put into eval mode, and back.
        frames: without augmentation (``size=None``).
        dtype: of the network's arithmetic.
    """
    return {"mAP": average_precision(*detect_all(model, frames, batch_size, dtype))}


def detect_all(
    model: PersonDetector,
    frames: FrameDataset,
    batch_size: int = 8,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray], list[list[np.ndarray]]]:
    """Detections, people and regions to ignore of every frame."""
    training = model.training
    model.eval()
    detections, truth, ignored = [], [], []
    try:
        for first in range(0, len(frames), batch_size):
            batch = [frames[i] for i in range(first, min(first + batch_size, len(frames)))]
            detections += model.detect([image for image, _, _ in batch], min_score=0.02, dtype=dtype)
            truth += [people for _, people, _ in batch]
            ignored += [regions for _, _, regions in batch]
    finally:
        model.train(training)
    return detections, truth, ignored


def build(recipe: Recipe) -> tuple[PersonDetector, FrameDataset, FrameDataset]:
    """Model, training frames and validation frames of a recipe with ``task: detector``.

    Raises:
        InputError: the data set is missing or holds no labelled frame, or a switch is unknown.
    """
    options = recipe.model.model_dump(exclude_none=True)
    known = ("name", "pretrained", "backbone", "long_side", "head_channels")
    unknown = [key for key in options if key not in known]
    if unknown or options.pop("name") != PersonDetector.name:
        wrong = f"unknown model.{unknown[0]}" if unknown else f"model.name is {recipe.model.name!r}"
        raise InputError(f"recipe: {wrong}; a detector has name: person_detector, {', '.join(known[1:])}")
    check_types([PersonDetector.__init__], options)
    model = PersonDetector(**options)
    if recipe.train.init_from is not None:
        start_from(model, recipe.train.init_from)
    # The height of a 4:3 picture; portrait pictures are cut, which the jitter does anyway.
    size = (-(-model.long_side * 3 // 4 // MULTIPLE) * MULTIPLE, model.long_side)
    parts = _training_frames(recipe)
    training = FrameDataset(
        [frame for part in parts for frame in part],
        size,
        long_side=model.long_side,
        seed=recipe.train.seed,
        mosaic=recipe.data.mosaic,
        sources=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
    )
    return model, training, FrameDataset(_validation_frames(recipe), None, long_side=model.long_side)


def _training_frames(recipe: Recipe) -> list[list[Frame]]:
    """The labelled frames of ``data.root`` and of each part of ``data.mix``."""
    data = recipe.data
    if any(part.joint_weights for part in data.mix):
        raise InputError("recipe: data.mix: joint_weights are for pose models, a detector learns no joints")
    own = labelled_frames(data.root, data.train_split, data.layout, leave_out=data.leave_out)
    return [own, *(labelled_frames(p.root, p.split, p.layout, leave_out=p.leave_out) for p in data.mix)]


def _validation_frames(recipe: Recipe) -> list[Frame]:
    data, options = recipe.data, recipe.train
    layout = data.layout if data.val_root is None else "auto"
    return labelled_frames(
        data.val_root or data.root, data.val_split, layout, options.limit_val, options.val_every_frames
    )


def labelled_frames(
    root: str,
    split: str,
    layout: str = "auto",
    videos: int | None = None,
    every: int = 1,
    leave_out: str | None = None,
) -> list[Frame]:
    """Every so many-th labelled frame of the first ``videos`` of a split, of all for ``None``.

    Args:
        leave_out: a file of image names that do not count (:func:`without_images`).
    """
    data = read_dataset(root, split, layout)
    chosen = (without_images(data, leave_out) if leave_out else data).videos[:videos]
    frames = [f for video in chosen for f in [f for f in video.frames if f.is_labeled][::every]]
    if not frames:
        raise InputError(f"{root}: split {split!r} has no labelled frame")
    return frames
