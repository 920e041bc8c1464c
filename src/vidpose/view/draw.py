"""Pictures of poses: skeletons, boxes, identities and time on a frame; contact sheets; PNG files."""

from __future__ import annotations

import colorsys
import math
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import atomic_path
from vidpose.io.outputs import PNG_MARK
from vidpose.results import FramePoses
from vidpose.skeletons import POSETRACK15, Skeleton

Color = tuple[int, int, int]

LEFT: Color = (255, 149, 38)
RIGHT: Color = (40, 168, 255)
CENTRE: Color = (240, 240, 235)
_DARK: Color = (18, 20, 24)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SHIFT = 4  # cv2 takes coordinates in sixteenths of a pixel


def track_color(track_id: int) -> Color:
    """A bright colour that stays with an identity; neighbouring identities differ most."""
    hue = (0.11 + track_id * 0.61803398875) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.60, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_poses(
    image: np.ndarray,
    frame_poses: FramePoses,
    skeleton: Skeleton = POSETRACK15,
    *,
    min_score: float = 0.2,
    color: Literal["side", "track"] = "side",
    boxes: bool = True,
    ids: bool = True,
    time: bool = True,
) -> np.ndarray:
    """A copy of ``image`` with the frame's people drawn over it.

    Args:
        image: [H, W, 3] uint8 RGB.
        frame_poses: people in pixels of ``image``.
        skeleton: joint set of ``frame_poses``.
        min_score: joints below it, and limbs that end at one, are left out.
        color: ``"side"``: the person's left orange, right blue, middle white; ``"track"``: one colour each.
        boxes, ids, time: whether to draw person boxes, identities on them, and the frame's time.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    canvas = np.ascontiguousarray(image).copy()
    height, width = canvas.shape[:2]
    unit = _unit(height, width)
    # The nearest people last: larger boxes cover smaller ones.
    order = np.argsort([_extent(box) for box in frame_poses.boxes]).astype(int)
    if boxes:
        _draw_boxes(canvas, frame_poses.boxes[order], frame_poses.track_ids[order], unit)
    for person in order:
        one_color = track_color(int(frame_poses.track_ids[person])) if color == "track" else None
        points, scores = frame_poses.keypoints[person], frame_poses.scores[person]
        size = _extent(frame_poses.boxes[person])
        _draw_skeleton(canvas, points, scores, skeleton, min_score, one_color, size, unit)
    if ids:
        for person in order:
            track_id = int(frame_poses.track_ids[person])
            x1, y1 = frame_poses.boxes[person][:2]
            if np.isfinite((x1, y1)).all():
                _chip(canvas, str(track_id), (x1, y1), unit, fill=track_color(track_id), above=True)
    if time:
        label = f"{_clock(frame_poses.time)}   frame {frame_poses.index}"
        _chip(canvas, label, (8 * unit, height - 8 * unit), unit, above=True, opacity=0.6)
    return canvas


def contact_sheet(
    images: Sequence[np.ndarray],
    columns: int = 4,
    labels: Sequence[str] | None = None,
    *,
    tile_width: int = 480,
) -> np.ndarray:
    """Several images side by side in rows, each scaled to ``tile_width``, with a label in its corner.

    Args:
        images: [H, W, 3] uint8 RGB; sizes may differ, the tallest shape gives the tile's height.
        columns: images in a row.
        labels: one text for each image, or ``None``.
        tile_width: pixels; smaller images are not enlarged beyond it.

    Returns:
        [H', W', 3] uint8 RGB.
    """
    if not images:
        raise InputError("a contact sheet needs at least one image")
    if labels is not None and len(labels) != len(images):
        raise InputError(f"a contact sheet of {len(images)} images needs as many labels, not {len(labels)}")
    columns = max(1, min(columns, len(images)))
    tile_height = round(max(image.shape[0] / image.shape[1] for image in images) * tile_width)
    gap = max(4, tile_width // 60)
    rows = math.ceil(len(images) / columns)
    sheet = np.full(
        (rows * (tile_height + gap) + gap, columns * (tile_width + gap) + gap, 3), _DARK, dtype=np.uint8
    )
    for i, image in enumerate(images):
        scale = min(tile_height / image.shape[0], tile_width / image.shape[1])
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        if labels is not None and labels[i]:
            unit = _unit(tile_height, tile_width)
            _chip(tile, labels[i], (6 * unit, 6 * unit), unit, above=False, opacity=0.65)
        top = gap + (i // columns) * (tile_height + gap) + (tile_height - size[1]) // 2
        left = gap + (i % columns) * (tile_width + gap) + (tile_width - size[0]) // 2
        sheet[top : top + size[1], left : left + size[0]] = tile
    return sheet


def save_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes [H, W, 3] uint8 RGB as PNG, whole or not at all; a text chunk in it names vidpose."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))
    if not ok:
        raise InputError(f"{path}: the image cannot be encoded as PNG")
    coded = data.tobytes()
    header = 8 + 25  # the signature and the chunk IHDR
    text = b"tEXt" + PNG_MARK
    chunk = struct.pack(">I", len(PNG_MARK)) + text + struct.pack(">I", zlib.crc32(text))
    with atomic_path(path) as temporary:
        temporary.write_bytes(coded[:header] + chunk + coded[header:])


def _unit(height: int, width: int) -> float:
    """The thinnest line that reads well: 1 pixel at 640x360, about 2.2 at 1080p."""
    return max(0.75, (math.sqrt(height * width) / 480) ** 0.72)


def _extent(box_xyxy: np.ndarray) -> float:
    """The longer side of a box in pixels, 0 if it is empty or not finite."""
    sides = np.array([box_xyxy[2] - box_xyxy[0], box_xyxy[3] - box_xyxy[1]], dtype=np.float64)
    return float(sides.max(initial=0)) if np.isfinite(sides).all() else 0.0


def _clock(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "--:--"
    minutes, rest = divmod(max(seconds, 0.0), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"


def _fixed(point: np.ndarray | tuple[float, float]) -> tuple[int, int]:
    """A point in cv2's fixed-point coordinates; far away ones are brought near, cv2 overflows otherwise."""
    return tuple(round(max(-1e5, min(1e5, float(v))) * (1 << _SHIFT)) for v in point)  # type: ignore[return-value]


def _line(canvas: np.ndarray, a: np.ndarray, b: np.ndarray, color: Color, thickness: float) -> None:
    cv2.line(canvas, _fixed(a), _fixed(b), color, max(1, round(thickness)), cv2.LINE_AA, _SHIFT)


def _dot(canvas: np.ndarray, at: np.ndarray, radius: float, color: Color) -> None:
    cv2.circle(canvas, _fixed(at), round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)


def _side_color(*names: str) -> Color:
    sides = {name.split("_", 1)[0] for name in names}
    if "left" in sides and "right" not in sides:
        return LEFT
    if "right" in sides and "left" not in sides:
        return RIGHT
    return CENTRE


def _draw_skeleton(
    canvas: np.ndarray,
    points: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    min_score: float,
    one_color: Color | None,
    size: float,
    unit: float,
) -> None:
    """Limbs with a dark edge, then joints; line width follows the person's size within the frame's limits."""
    shown = (scores >= max(min_score, 1e-9)) & np.isfinite(points).all(axis=-1)
    width = float(np.clip(size * 0.012, 0.9 * unit, 3.8 * unit))
    edge = max(0.6, 0.42 * width)
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    for a, b in limbs:
        _line(canvas, points[a], points[b], _DARK, width + 2 * edge)
    for a, b in limbs:
        color = one_color or _side_color(skeleton.joints[a], skeleton.joints[b])
        _line(canvas, points[a], points[b], color, width)
    for j in np.flatnonzero(shown):
        color = one_color or _side_color(skeleton.joints[j])
        _dot(canvas, points[j], 0.95 * width + edge, _DARK)
        _dot(canvas, points[j], 0.95 * width, tuple(round(0.55 * c + 0.45 * 255) for c in color))  # type: ignore[arg-type]


def _draw_boxes(canvas: np.ndarray, boxes_xyxy: np.ndarray, track_ids: np.ndarray, unit: float) -> None:
    """Faint frames with strong corners, so that they do not compete with the skeletons."""
    drawn = [
        (tuple(float(v) for v in box), track_color(int(track)))
        for box, track in zip(boxes_xyxy, track_ids, strict=True)
        if _extent(box) > 0
    ]
    if not drawn:
        return
    faint = canvas.copy()
    for (x1, y1, x2, y2), color in drawn:
        cv2.rectangle(
            faint, _fixed((x1, y1)), _fixed((x2, y2)), color, max(1, round(unit)), cv2.LINE_AA, _SHIFT
        )
    cv2.addWeighted(faint, 0.4, canvas, 0.6, 0, dst=canvas)
    for (x1, y1, x2, y2), color in drawn:
        short = min(x2 - x1, y2 - y1)
        arm = min(0.16 * short, 20 * unit)
        thickness = float(np.clip(0.012 * short, 0.8 * unit, 1.6 * unit))
        for x, dx in ((x1, arm), (x2, -arm)):
            for y, dy in ((y1, arm), (y2, -arm)):
                for end in ((x + dx, y), (x, y + dy)):
                    _line(canvas, np.array((x, y)), np.array(end), color, thickness)


def _chip(
    canvas: np.ndarray,
    text: str,
    at: tuple[float, float],
    unit: float,
    *,
    fill: Color = _DARK,
    above: bool,
    opacity: float = 1.0,
) -> None:
    """Text on a small plate whose left edge is at ``at``, above or below it, kept inside the image."""
    height, width = canvas.shape[:2]
    scale = 0.40 * unit
    thickness = max(1, round(1.1 * unit))
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, thickness)
    pad = max(2, round(3.5 * unit))
    plate_width, plate_height = text_width + 2 * pad, text_height + 2 * pad
    left = int(np.clip(round(at[0]), 0, max(0, width - plate_width)))
    top = int(np.clip(round(at[1] - plate_height if above else at[1]), 0, max(0, height - plate_height)))
    area = canvas[top : top + plate_height, left : left + plate_width]
    area[:] = np.round(area * (1 - opacity) + np.array(fill) * opacity).astype(np.uint8)
    bright = 0.299 * fill[0] + 0.587 * fill[1] + 0.114 * fill[2] > 110
    ink = _DARK if bright else (245, 245, 245)
    cv2.putText(
        canvas, text, (left + pad, top + pad + text_height), _FONT, scale, ink, thickness, cv2.LINE_AA
    )
