"""Where crops are cut and pictures resized for the networks: on the CPU by OpenCV, or on the device.

:class:`HostCutter` cuts with OpenCV and uploads the crops. :class:`DeviceCutter` uploads each frame once, as
8-bit integers, and cuts and resizes there. :func:`make_cutter` chooses by device.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor

from vidpose.data.frames import reduce_image, reduced_size
from vidpose.device import upload
from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD, invert_affine, normalize_frames, warp_image
from vidpose.models.person_detector import letterbox_batch, letterbox_size

Picture: TypeAlias = np.ndarray | Tensor
"""[H, W, 3] uint8 RGB in memory, or on the device."""

MAX_RESIZE_MATRICES = 32
"""So many matrices of :func:`resize_matrix` are kept on the device."""


class Cutter(Protocol):
    """Makes the networks' inputs from frames."""

    def hold(self, image: np.ndarray) -> None:
        """Says that this frame will be used more than once and not be changed until it is released."""
        ...

    def release(self, image: np.ndarray) -> None:
        """Says that a frame is needed no longer; nothing happens where it was not held."""
        ...

    def crops(self, crops: Sequence[tuple[np.ndarray, np.ndarray]], input_size: tuple[int, int]) -> Tensor:
        """Images [H, W, 3] uint8 RGB of any sizes and their affines [2, 3] -> normalised crops.

        Args:
            crops: N pairs, at least one; an affine goes from image pixels to crop pixels.
            input_size: (height, width) of the crops.

        Returns:
            [N, 3, h, w] float32 on the device, channels last in memory; black outside the image.
        """
        ...

    def reduce(self, image: Picture, long_side: int) -> Picture:
        """The image by area averaging with a longer side of at most ``long_side`` pixels; never enlarged."""
        ...

    def mirror(self, image: Picture) -> Picture:
        """The image [H, W, 3] mirrored left to right."""
        ...

    def letterbox(self, images: Sequence[Picture], long_side: int) -> tuple[Tensor, np.ndarray]:
        """What :func:`vidpose.models.person_detector.letterbox_batch` makes of N images of one size.

        Returns:
            The normalised canvases [N, 3, h, w] on the device, channels last in memory, and the scales [4].
        """
        ...


def make_cutter(device: torch.device) -> Cutter:
    """The cutter for networks on a device: OpenCV's for CPUs, else the device's own."""
    return HostCutter(device) if device.type == "cpu" else DeviceCutter(device)


class HostCutter:
    """Cuts and resizes on the CPU with OpenCV.

    Args:
        device: where the crops go.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def hold(self, image: np.ndarray) -> None:
        """Nothing is kept."""

    def release(self, image: np.ndarray) -> None:
        """Nothing is kept."""

    def crops(self, crops: Sequence[tuple[np.ndarray, np.ndarray]], input_size: tuple[int, int]) -> Tensor:
        """See :meth:`Cutter.crops`."""
        cut = np.stack([warp_image(image, affine, input_size) for image, affine in crops])
        # [N, h, w, 3] -> [N, 3, h, w], which in memory stays as it is: channels last
        return normalize_frames(upload(cut, self.device).permute(0, 3, 1, 2))

    def reduce(self, image: Picture, long_side: int) -> Picture:
        """See :meth:`Cutter.reduce`."""
        return reduce_image(_in_memory(image), long_side)

    def mirror(self, image: Picture) -> Picture:
        """See :meth:`Cutter.mirror`."""
        mirrored: np.ndarray = cv2.flip(_in_memory(image), 1)
        return mirrored

    def letterbox(self, images: Sequence[Picture], long_side: int) -> tuple[Tensor, np.ndarray]:
        """See :meth:`Cutter.letterbox`."""
        return letterbox_batch([_in_memory(image) for image in images], long_side, self.device)


def _in_memory(image: Picture) -> np.ndarray:
    assert isinstance(image, np.ndarray)
    return image


@dataclass
class _Held:
    """A frame that is used more than once."""

    image: weakref.ref[np.ndarray]
    pixels: Tensor | None = None
    """[H, W, 3] uint8 on the device, once they were needed."""


class DeviceCutter:
    """Uploads frames as 8-bit integers, and cuts and resizes them on the device.

    A frame that is held is uploaded when it is first needed; its copy on the device goes when the frame is
    released, or when nobody has the frame any more. Other frames are uploaded for each call.

    Pixels are those of OpenCV's functions within one of 255 levels (OpenCV 5; earlier ones round positions in
    :func:`vidpose.geometry.warp_image` to 1/32 pixel, which is up to four levels at hard edges).

    Args:
        device: any that PyTorch has; with ``cpu`` it does the same there, for tests.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.uploads = 0
        """Frames uploaded so far."""
        self._held: dict[int, _Held] = {}  # by id() of the image
        self._mean = torch.tensor(IMAGENET_MEAN, device=device) * 255
        self._std = torch.tensor(IMAGENET_STD, device=device) * 255
        self._matrices: dict[tuple[int, int], Tensor] = {}

    @property
    def frames_held(self) -> int:
        """Frames that are on the device now."""
        return sum(held.pixels is not None for held in list(self._held.values()))

    def hold(self, image: np.ndarray) -> None:
        """See :meth:`Cutter.hold`."""
        held, key = self._held, id(image)
        held[key] = _Held(weakref.ref(image, lambda _: held.pop(key, None)))

    def release(self, image: np.ndarray) -> None:
        """See :meth:`Cutter.release`."""
        self._held.pop(id(image), None)

    def crops(self, crops: Sequence[tuple[np.ndarray, np.ndarray]], input_size: tuple[int, int]) -> Tensor:
        """See :meth:`Cutter.crops`."""
        pixels = {id(image): self._pixels(image) for image, _ in crops}
        rows = [p.reshape(-1, 3) for p in pixels.values()]
        starts = dict(zip(pixels, np.cumsum([0, *map(len, rows)])[:-1], strict=True))
        places = np.array([(starts[id(image)], *image.shape[:2]) for image, _ in crops], dtype=np.int64)
        inverse = np.stack([invert_affine(affine) for _, affine in crops]).astype(np.float32)
        cut = sample_crops(
            rows[0] if len(rows) == 1 else torch.cat(rows),
            upload(places, self.device),
            upload(inverse, self.device),
            input_size,
        )
        return self._normalize(cut.round_())

    def reduce(self, image: Picture, long_side: int) -> Picture:
        """See :meth:`Cutter.reduce`."""
        height, width = image.shape[0], image.shape[1]
        size = reduced_size((height, width), long_side)
        return self._pixels(image) if size == (height, width) else self._resize(image, size).byte()

    def mirror(self, image: Picture) -> Picture:
        """See :meth:`Cutter.mirror`."""
        return self._pixels(image).flip(1)

    def letterbox(self, images: Sequence[Picture], long_side: int) -> tuple[Tensor, np.ndarray]:
        """See :meth:`Cutter.letterbox`."""
        size, canvas, scales = letterbox_size((images[0].shape[0], images[0].shape[1]), long_side)
        batch = torch.zeros(len(images), *canvas, 3, device=self.device)
        for k, image in enumerate(images):
            batch[k, : size[0], : size[1]] = self._resize(image, size)
        return self._normalize(batch), scales

    def _pixels(self, image: Picture) -> Tensor:
        """An image's pixels [H, W, 3] uint8 on the device."""
        if isinstance(image, Tensor):
            return image
        held = self._held.get(id(image))
        if held is None or held.image() is not image:
            return self._upload(image)
        if held.pixels is None:
            held.pixels = self._upload(image)
        return held.pixels

    def _upload(self, image: np.ndarray) -> Tensor:
        self.uploads += 1
        pixels = upload(image, self.device)
        return pixels.clone() if self.device.type == "cpu" else pixels  # must not keep the image alive

    def _resize(self, image: Picture, size: tuple[int, int]) -> Tensor:
        """The image [H, W, 3] at ``size`` (h, w), rounded to whole levels: [h, w, 3] float32.

        Area averaging where a side shrinks, linear where it grows, as ``cv2.resize`` does.
        """
        pixels = self._pixels(image).float()
        height, width = pixels.shape[:2]
        rows = self._matrix(height, size[0]) @ pixels.reshape(height, width * 3)  # [h, H] @ [H, W·3]
        rows = rows.reshape(size[0], width, 3).transpose(1, 2).reshape(-1, width)  # [h·3, W]
        resized = rows @ self._matrix(width, size[1]).T  # [h·3, w]
        resized = resized.add_(0.5).floor_()  # halves go up, as in cv2.resize
        return resized.reshape(size[0], 3, size[1]).transpose(1, 2)

    def _matrix(self, source: int, target: int) -> Tensor:
        """:func:`resize_matrix` on the device."""
        if (source, target) not in self._matrices:
            if len(self._matrices) >= MAX_RESIZE_MATRICES:
                self._matrices.clear()
            self._matrices[source, target] = upload(resize_matrix(source, target), self.device)
        return self._matrices[source, target]

    def _normalize(self, pixels: Tensor) -> Tensor:
        """[N, h, w, 3] float32 in 0..255, overwritten -> normalised [N, 3, h, w], channels last in memory."""
        return pixels.sub_(self._mean).div_(self._std).permute(0, 3, 1, 2)


def sample_crops(pixels: Tensor, places: Tensor, inverse: Tensor, input_size: tuple[int, int]) -> Tensor:
    """Crops of images of any sizes at once, bilinear and black outside the image, without rounding.

    Args:
        pixels: [P, 3] uint8: the rows of all images one after the other.
        places: [N, 3] int64: for each crop the position in ``pixels`` at which its image begins, and the
            image's height and width.
        inverse: [N, 2, 3] float32: from crop pixels to image pixels.
        input_size: (h, w) of the crops.

    Returns:
        [N, h, w, 3] float32 in 0..255.
    """
    height, width = input_size
    u = torch.arange(width, dtype=torch.float32, device=pixels.device)
    v = torch.arange(height, dtype=torch.float32, device=pixels.device)[:, None]
    # Multiplied out and not as a matrix product, which some GPUs round to 10 bits (TF32).
    a, b, c = (entry[:, None, None] for entry in inverse[:, 0].unbind(1))
    x = a * u + (b * v + c)  # [N, h, w]
    a, b, c = (entry[:, None, None] for entry in inverse[:, 1].unbind(1))
    y = a * u + (b * v + c)
    start, rows, columns = (entry[:, None, None] for entry in places.unbind(1))
    left, top = x.floor(), y.floor()
    right_share, bottom_share = x - left, y - top
    left, top = left.long(), top.long()
    out = torch.zeros(*x.shape, 3, device=pixels.device)
    for down in (0, 1):
        for across in (0, 1):
            column, row = left + across, top + down
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
            weight = (right_share if across else 1 - right_share) * (
                bottom_share if down else 1 - bottom_share
            )
            position = torch.where(inside, start + row * columns + column, start)
            values = pixels.index_select(0, position.reshape(-1)).reshape(out.shape)
            out.addcmul_(values.float(), (weight * inside)[..., None])
    return out


def resize_matrix(source: int, target: int) -> np.ndarray:
    """The matrix [target, source] (float32) that resizes one side of a picture from ``source`` pixels.

    Where it shrinks, each new pixel is the mean of the old ones that it covers (``cv2.INTER_AREA``); where it
    grows, it lies between two old ones, and the border is repeated (``cv2.INTER_LINEAR``).
    """
    scale = source / target
    if target < source:
        edges = np.arange(target + 1)[:, None] * scale
        covered = np.clip(edges - np.arange(source), 0, 1)  # [target + 1, source] left of each edge
        return (np.diff(covered, axis=0) / scale).astype(np.float32)
    at = ((np.arange(target) + 0.5) * scale - 0.5).clip(0, source - 1)[:, None]
    return np.maximum(1 - np.abs(at - np.arange(source)), 0).astype(np.float32)
