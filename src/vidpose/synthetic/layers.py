"""Picture layers with coverage, and averages of pictures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass
class Layer:
    """One thing of the picture: its pixels and where they go."""

    x: int
    y: int
    rgba: np.ndarray
    """[h, w, 4] uint8, colours already multiplied by alpha."""
    depth: float

    def alpha_at(self, x: float, y: float) -> int:
        """Coverage 0..255 at a pixel of the frame."""
        column, row = round(x) - self.x, round(y) - self.y
        h, w = self.rgba.shape[:2]
        return int(self.rgba[row, column, 3]) if 0 <= row < h and 0 <= column < w else 0


def mean_image(images: list[np.ndarray]) -> np.ndarray:
    """Average of uint8 images, rounded."""
    if len(images) == 1:
        return images[0]
    total = images[0].astype(np.uint16)
    for image in images[1:]:
        cv2.add(total, image, dst=total, dtype=cv2.CV_16U)
    return cv2.convertScaleAbs(total, alpha=1 / len(images))


def paste(image: np.ndarray, layer: Layer) -> None:
    """Puts a premultiplied layer over the image, in place."""
    h, w = layer.rgba.shape[:2]
    roi = image[layer.y : layer.y + h, layer.x : layer.x + w]
    keep = cv2.bitwise_not(np.ascontiguousarray(layer.rgba[..., 3]))
    below = cv2.multiply(roi, cv2.merge([keep, keep, keep]), scale=1 / 255)
    cv2.add(below, cv2.cvtColor(layer.rgba, cv2.COLOR_RGBA2RGB), dst=roi)


def line_blur(image: np.ndarray, length: float, angle: float) -> np.ndarray:
    """Averages along a line centred on each pixel: what a turning camera does during the exposure.

    Args:
        image: [h, w, C] uint8 or float32. length: pixels. angle: radians.
    """
    small = image.dtype == np.uint8
    h, w = image.shape[:2]
    steps = int(np.clip(length / 1.6, 3, 15)) | 1
    total = np.zeros(image.shape, np.uint16 if small else np.float32)
    for i in range(steps):
        offset = length * (i / (steps - 1) - 0.5)
        m = np.array([[1, 0, offset * np.cos(angle)], [0, 1, offset * np.sin(angle)]])
        moved = cv2.warpAffine(image, m, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cv2.add(total, moved, dst=total, dtype=cv2.CV_16U if small else cv2.CV_32F)
    return cv2.convertScaleAbs(total, alpha=1 / steps) if small else total / np.float32(steps)
