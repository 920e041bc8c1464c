"""A small person detector on the backbone of the poses: one heatmap of person centres, four distances a cell.

Centres as points after CenterNet (Zhou et al., "Objects as Points", 2019); the box as distances from the
cell to its four sides, learned with GIoU in a Gaussian around the centre, after TTFNet (Liu et al., AAAI
2020). Fully convolutional: any input whose sides are multiples of 32.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.geometry import box_iou, normalize_image
from vidpose.models.backbones import create_backbone
from vidpose.models.checkpoint_files import locate, read_checkpoint
from vidpose.models.checkpoint_formats import convert

STRIDE = 4
"""Input pixels per cell of the heatmap."""
MULTIPLE = 32
"""Input sides are multiples of this: HRNet's coarsest branch."""
_MAX_LOG_DISTANCE = 6.0  # e^6 cells = 1614 input pixels, more than any input side
_CPU_PIXELS = 2**20  # of one batch on a CPU, beyond which its memory makes it slower
_PRIOR = 0.01  # share of cells that the untrained head calls a centre (Lin et al., focal loss)


@dataclass
class DetectorOutput:
    """What the network says about a batch, on the grid of h x w = H/4 x W/4 cells."""

    logits: Tensor
    """[N, h, w] centre heatmap before the sigmoid."""
    distances: Tensor
    """[N, 4, h, w] from the cell's centre to the left, top, right, bottom side, in input pixels, > 0."""


Prepare: TypeAlias = Callable[[list[Any], int], tuple[Tensor, np.ndarray]]
"""From N images of one size and the longer side to what :func:`letterbox_batch` returns."""


@dataclass
class DetectorTargets:
    """What :meth:`PersonDetector.losses` compares an output with."""

    heatmap: Tensor
    """[N, h, w] in 0..1, 1 at the cell of each person's centre."""
    boxes: Tensor
    """[N, 4, h, w] the box (x1, y1, x2, y2, input pixels) that each cell is responsible for."""
    box_weights: Tensor
    """[N, h, w] >= 0; the weights of one person sum to 1."""
    mask: Tensor
    """[N, h, w] 1 where the heatmap counts, 0 in regions to ignore."""


class PersonDetector(nn.Module):
    """Detects people; one class.

    Args:
        backbone: an HRNet name of ``create_backbone``; the small ones are meant.
        long_side: pixels of the longer side of the input that :func:`letterbox` makes; a multiple of 32.
        head_channels: width of the two heads' 3x3 convolution.
        pretrained: weights for the backbone, as in ``create_model``; here only ``False``.
    """

    name = "person_detector"
    kind = "detector"

    def __init__(
        self,
        *,
        backbone: str = "hrnet_w16_small",
        long_side: int = 448,
        head_channels: int = 32,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if long_side < MULTIPLE or long_side % MULTIPLE:
            raise InputError(f"person_detector: long_side must be a multiple of {MULTIPLE}, got {long_side}")
        if pretrained:
            raise InputError("person_detector: starts from no other weights, use pretrained=False")
        self.config: dict[str, Any] = {
            "name": self.name,
            "backbone": backbone,
            "long_side": long_side,
            "head_channels": head_channels,
        }
        self.card: dict[str, Any] = {}
        """What its file says of how it was made."""
        self.long_side = long_side
        self.backbone = create_backbone(backbone, (long_side, long_side))
        channels: int = self.backbone.channels["stage4"]  # type: ignore[index, assignment]
        self.heads = nn.Sequential(
            nn.Conv2d(channels, 2 * head_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * head_channels),
            nn.ReLU(inplace=True),
        )
        self.centre = nn.Conv2d(head_channels, 1, 1)
        self.sides = nn.Conv2d(head_channels, 4, 1)
        nn.init.constant_(self.centre.bias, float(np.log(_PRIOR / (1 - _PRIOR))))  # type: ignore[arg-type]
        nn.init.normal_(self.centre.weight, std=0.01)
        nn.init.normal_(self.sides.weight, std=0.01)
        nn.init.constant_(self.sides.bias, 2.0)  # type: ignore[arg-type]  # e^2 cells: 30 px to each side

    def forward(self, images: Tensor) -> DetectorOutput:
        """Normalised RGB [N, 3, H, W], sides multiples of 32 -> :class:`DetectorOutput`."""
        features = self.heads(self.backbone(images)["stage4"])  # [N, C, h, w] -> [N, 2D, h, w]
        for_centre, for_sides = features.chunk(2, dim=1)
        logits = self.centre(for_centre)[:, 0]
        distances = self.sides(for_sides).clamp(-_MAX_LOG_DISTANCE, _MAX_LOG_DISTANCE).exp() * STRIDE
        return DetectorOutput(logits, distances)

    def losses(
        self, out: DetectorOutput, targets: DetectorTargets, *, box_factor: float = 2.0
    ) -> dict[str, Tensor]:
        """``{"heatmap", "box", "total"}``: penalty-reduced focal loss and GIoU loss, both per person."""
        heatmap = focal_loss(out.logits, targets.heatmap, targets.mask)
        weights = targets.box_weights * targets.mask
        loss = 1 - generalized_iou(cells_to_boxes(out.distances), targets.boxes)  # [N, h, w]
        box = (loss * weights).sum() / weights.sum().clamp(min=1e-6)
        return {"heatmap": heatmap, "box": box, "total": heatmap + box_factor * box}

    @torch.inference_mode()
    def detect(
        self,
        images: Sequence[np.ndarray | Tensor],
        *,
        min_score: float = 0.2,
        nms_iou: float = 0.6,
        max_people: int = 100,
        long_side: int | None = None,
        dtype: torch.dtype = torch.float32,
        network: Callable[[Tensor], DetectorOutput] | None = None,
        prepare: Prepare | None = None,
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """People of uint8 RGB images [H, W, 3]: per image boxes [P, 4] (xyxy, its pixels) and scores [P].

        Images of one size go through the network together, on a CPU as many as are fast. Boxes are clipped to
        the image, best first.
        ``long_side``: of the input, if not the model's own. ``network``: runs in place of :meth:`forward`.
        ``prepare``: makes its input, instead of :func:`letterbox_batch`, and may take other images.
        """
        found: list[tuple[np.ndarray, np.ndarray]] = [(np.zeros((0, 4)), np.zeros(0))] * len(images)
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault((image.shape[0], image.shape[1]), []).append(i)
        parameter = next(self.parameters())
        groups = []
        for (height, width), members in by_size.items():
            pixels = (long_side or self.long_side) ** 2 * min(height, width) // max(height, width)
            most = max(_CPU_PIXELS // max(pixels, 1), 1) if parameter.device.type == "cpu" else len(members)
            groups += [(height, width, members[k : k + most]) for k in range(0, len(members), most)]
        for height, width, members in groups:
            chosen_images: Any = [images[i] for i in members]
            batch, scale = (
                letterbox_batch(chosen_images, long_side or self.long_side, parameter.device)
                if prepare is None
                else prepare(chosen_images, long_side or self.long_side)
            )
            with torch.autocast(parameter.device.type, dtype=dtype, enabled=dtype != torch.float32):
                out = self(batch) if network is None else network(batch)
            for i, boxes, scores in zip(members, *decode(out, max_people=2 * max_people), strict=True):
                boxes = (boxes + 0.5) / scale - 0.5  # the canvas' pixels -> the image's
                boxes = np.clip(boxes, -0.5, np.array([width, height, width, height]) - 0.5)
                wide = (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)
                chosen = np.flatnonzero((scores >= min_score) & wide)
                boxes, scores = boxes[chosen], scores[chosen]
                kept = non_maximum_suppression(boxes, scores, nms_iou)[:max_people]
                found[i] = boxes[kept], scores[kept]
        return found


def save_detector(
    model: PersonDetector,
    path: str | os.PathLike[str],
    card: Mapping[str, Any] | None = None,
    *,
    half: bool = True,
) -> None:
    """Writes a detector as ``save_model`` does; ``half`` stores float16, half the size."""
    from vidpose.models.factory import save_model

    save_model(copy.deepcopy(model).half() if half else model, path, card)  # type: ignore[arg-type]


def load_detector(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> PersonDetector:
    """Reads a detector that :func:`save_detector` or ``save_model`` wrote, as float32 in eval mode.

    Raises:
        InputError: no such file, or not a checkpoint of this detector.
    """
    path = locate(source)
    checkpoint = read_checkpoint(path)
    description = checkpoint.description or {}
    config = dict(description.get("config") or {})
    if config.pop("name", None) != PersonDetector.name:
        raise InputError(f"{path}: is not a checkpoint of vidpose's person detector")
    try:
        model = PersonDetector(**config)
        model.load_state_dict(checkpoint.tensors)
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{path}: does not fit its own description: {str(error).splitlines()[0]}") from error
    model.card = description.get("card") or {}
    return model.to(device).eval()


def start_from(model: PersonDetector, source: str | os.PathLike[str]) -> int:
    """Fills a detector from another one, or its backbone from a pose model's; returns how many tensors.

    Args:
        source: a file, a folder or a hub id, as of ``load_weights``.

    Raises:
        InputError: the checkpoint does not hold the detector's whole backbone. The model is unchanged.
    """
    checkpoint = read_checkpoint(locate(source))
    tensors, own = convert(checkpoint).tensors, model.state_dict()
    fitting = {key: v for key, v in tensors.items() if key in own and v.shape == own[key].shape}
    if len(fitting) < len(own):  # no detector of this shape: the backbone alone
        fitting = {key: v for key, v in fitting.items() if key.startswith("backbone.")}
    wanted = [k for k in own if k.startswith("backbone.") and not k.endswith("num_batches_tracked")]
    missing = [key for key in wanted if key not in fitting]
    if missing:
        raise InputError(
            f"{checkpoint.path}: {len(missing)} of {len(wanted)} tensors of the detector's backbone "
            f"{model.config['backbone']} are not in it, or have another shape: {missing[0]}"
        )
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def letterbox(image: np.ndarray, long_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks or grows an image so that its longer side is ``long_side``, and pads right and below with
    black.

    Args:
        image: [H, W, 3] uint8.
        long_side: pixels.

    Returns:
        The canvas [h, w, 3] uint8 with sides that are multiples of 32, and the scales [4] that take the
        image's x1, y1, x2, y2 to the canvas: ``(x + 0.5) * scale - 0.5``.
    """
    import cv2

    (new_h, new_w), size, scales = letterbox_size((image.shape[0], image.shape[1]), long_side)
    method = cv2.INTER_AREA if long_side < max(image.shape[:2]) else cv2.INTER_LINEAR
    small = cv2.resize(image, (new_w, new_h), interpolation=method)
    canvas = np.zeros((*size, 3), dtype=np.uint8)
    canvas[:new_h, :new_w] = small
    return canvas, scales


def letterbox_size(
    size: tuple[int, int], long_side: int
) -> tuple[tuple[int, int], tuple[int, int], np.ndarray]:
    """(height, width) of an image of ``size`` on the canvas of :func:`letterbox`, of the canvas, and the
    scales [4]."""
    height, width = size
    ratio = long_side / max(height, width)
    new_w, new_h = max(round(width * ratio), 1), max(round(height * ratio), 1)
    canvas = -(-new_h // MULTIPLE) * MULTIPLE, -(-new_w // MULTIPLE) * MULTIPLE
    return (new_h, new_w), canvas, np.array([new_w / width, new_h / height] * 2)


def letterbox_batch(
    images: Sequence[np.ndarray], long_side: int, device: torch.device
) -> tuple[Tensor, np.ndarray]:
    """The network's input for images [H, W, 3] uint8 of one size.

    Returns:
        The normalised canvases [N, 3, h, w] of :func:`letterbox` on the device, channels last in memory, and
        their scales [4].
    """
    canvases = [letterbox(image, long_side) for image in images]
    batch = torch.from_numpy(normalize_image(np.stack([canvas for canvas, _ in canvases])))
    return batch.to(device, memory_format=torch.channels_last), canvases[0][1]


def cell_centres(size: tuple[int, int], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """x [w] and y [h] of the centres of a grid's cells, in input pixels (0 = centre of the first pixel)."""
    height, width = size
    xs = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * STRIDE - 0.5
    ys = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * STRIDE - 0.5
    return xs, ys


def cells_to_boxes(distances: Tensor) -> Tensor:
    """[N, 4, h, w] distances to the sides -> [N, 4, h, w] boxes x1, y1, x2, y2 in input pixels."""
    height, width = distances.shape[-2:]
    xs, ys = cell_centres((height, width), distances.device)
    left, top, right, bottom = distances.float().unbind(1)  # each [N, h, w]
    return torch.stack([xs - left, ys[:, None] - top, xs + right, ys[:, None] + bottom], dim=1)


def decode(out: DetectorOutput, *, max_people: int = 200) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Local maxima of the heatmap as boxes in input pixels: per image [P, 4] and scores [P], best first."""
    scores = out.logits.float().sigmoid()
    peaks = F.max_pool2d(scores[:, None], 3, stride=1, padding=1)[:, 0] == scores
    flat = (scores * peaks).flatten(1)
    best, where = flat.topk(min(max_people, flat.shape[1]), dim=1)  # [N, P]
    boxes = cells_to_boxes(out.distances).flatten(2).transpose(1, 2)  # [N, h*w, 4]
    boxes = boxes.gather(1, where[..., None].expand(-1, -1, 4))
    found = torch.cat([boxes, best[..., None]], dim=-1).cpu().numpy().astype(np.float64)  # one transfer
    return list(found[..., :4]), list(found[..., 4])


def non_maximum_suppression(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Positions of the boxes to keep, best first: greedy, a box goes when one kept overlaps it by more
    than ``iou``.

    Args:
        boxes: [P, 4] xyxy.
        scores: [P].
        iou: 0..1; 1 keeps all.
    """
    order = np.argsort(-scores, kind="stable")
    overlap = box_iou(boxes[order], boxes[order])
    alive = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= overlap[i, i + 1 :] <= iou
    return order[alive]


def make_targets(
    boxes: list[np.ndarray], size: tuple[int, int], masks: np.ndarray | None = None, *, alpha: float = 0.54
) -> DetectorTargets:
    """Gaussian centre heatmaps and box targets of a batch.

    Args:
        boxes: per image [P, 4] xyxy in input pixels.
        size: (h, w) of the grid: the input's over 4.
        masks: [N, h, w], 0 where the heatmap is to be ignored.
        alpha: the Gaussian reaches over ``alpha`` of the box (3 sigma to each side; TTFNet).

    A cell claimed by several people belongs to the smallest of them.
    """
    height, width = size
    count = len(boxes)
    heatmap = torch.zeros(count, height, width)
    sides = torch.zeros(count, 4, height, width)
    weights = torch.zeros(count, height, width)
    xs, ys = (axis.numpy() for axis in cell_centres(size))
    for n, people in enumerate(boxes):
        people = np.asarray(people, dtype=np.float64).reshape(-1, 4)
        areas = (people[:, 2] - people[:, 0]) * (people[:, 3] - people[:, 1])
        for box in people[np.argsort(-areas, kind="stable")]:
            x1, y1, x2, y2 = box
            # silent: at least half a cell, so that a person of a few cells still has neighbours with weight
            sigma_x = max(alpha * (x2 - x1) / 6 / STRIDE, 0.5)
            sigma_y = max(alpha * (y2 - y1) / 6 / STRIDE, 0.5)
            col = int(np.clip(((x1 + x2) / 2 + 0.5) // STRIDE, 0, width - 1))
            row = int(np.clip(((y1 + y2) / 2 + 0.5) // STRIDE, 0, height - 1))
            across = np.exp(-((np.arange(width) - col) ** 2) / (2 * sigma_x**2))
            down = np.exp(-((np.arange(height) - row) ** 2) / (2 * sigma_y**2))
            near = (np.abs(np.arange(height) - row) <= 3 * sigma_y)[:, None] & (
                np.abs(np.arange(width) - col) <= 3 * sigma_x
            )
            gauss = torch.from_numpy(np.where(near, down[:, None] * across, 0.0)).float()
            heatmap[n] = torch.maximum(heatmap[n], gauss)
            inside = ((ys > y1) & (ys < y2))[:, None] & ((xs > x1) & (xs < x2))
            mine = torch.from_numpy(near & inside)
            mine[row, col] = True
            sides[n][:, mine] = torch.tensor(box, dtype=torch.float32)[:, None]
            weights[n][mine] = gauss[mine] / gauss[mine].sum()
    mask = torch.ones_like(heatmap) if masks is None else torch.as_tensor(masks, dtype=torch.float32)
    return DetectorTargets(heatmap, sides, weights, mask)


def focal_loss(
    logits: Tensor, target: Tensor, mask: Tensor, *, alpha: float = 2.0, beta: float = 4.0
) -> Tensor:
    """CenterNet Eq. 1: focal loss, less strict near a centre; summed and divided by the number of centres."""
    logits = logits.float()
    positive = (target >= 1).float() * mask
    negative = (target < 1).float() * mask
    p = logits.sigmoid()
    hit = -F.logsigmoid(logits) * (1 - p) ** alpha * positive
    false = -F.logsigmoid(-logits) * p**alpha * (1 - target) ** beta * negative
    return (hit.sum() + false.sum()) / positive.sum().clamp(min=1)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., CVPR 2019) of boxes [N, 4, ...] with boxes of the same shape -> [N, ...]."""
    ax1, ay1, ax2, ay2 = a.unbind(1)
    bx1, by1, bx2, by2 = b.unbind(1)
    inner_w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    inner_h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    inner = inner_w * inner_h
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inner
    hull = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)) * (
        torch.maximum(ay2, by2) - torch.minimum(ay1, by1)
    )
    return inner / union.clamp(min=1e-6) - (hull - union) / hull.clamp(min=1e-6)
