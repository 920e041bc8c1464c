"""Points carried from frame to frame by optical flow, both ways, and how far they can be trusted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np

from vidpose.errors import InputError

from .frames import NumberedFrames

FLOWS = ("dis", "farneback", "raft")
_KEEP = 48
Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Two grey images [h, w] uint8 -> [h, w, 2] float32: how far each pixel of the first moves."""


def create_flow(name: str) -> Flow:
    """``dis`` (Kroeger et al., 2016), ``farneback`` (2003), both OpenCV's, or ``raft`` (torchvision's).

    Raises:
        InputError: an unknown name; RAFT without torchvision.
    """
    if name == "dis":
        method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return lambda first, second: method.calc(first, second, None)
    if name == "farneback":
        return lambda first, second: cv2.calcOpticalFlowFarneback(
            first, second, None, 0.5, 4, 21, 3, 7, 1.5, 0
        )  # type: ignore[call-overload]
    if name != "raft":
        raise InputError(f"flow is {name!r}: known are {', '.join(FLOWS)}")
    import torch

    from vidpose.models.flow import create_flow as create_model

    model = create_model("raft")

    def raft(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        h, w = first.shape
        pair = []
        for image in (first, second):  # RAFT takes multiples of 8
            padded = cv2.copyMakeBorder(image, 0, -h % 8, 0, -w % 8, cv2.BORDER_REPLICATE)
            pair.append(torch.from_numpy(padded).float().expand(1, 3, *padded.shape))
        with torch.inference_mode():
            found: np.ndarray = model(*pair)[0].permute(1, 2, 0).numpy()[:h, :w]
        return found

    return raft


class PairFlows:
    """Flow between neighbouring frames, both ways; the pairs used last are kept."""

    def __init__(self, frames: NumberedFrames, name: str) -> None:
        self.frames = frames
        self._flow = create_flow(name)
        self._pairs: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __call__(self, start: int, end: int) -> np.ndarray:
        """[h, w, 2] pixels of the reduced frames."""
        key = start, end
        if key not in self._pairs:
            self._pairs[key] = self._flow(self.frames.grey(start), self.frames.grey(end))
            while len(self._pairs) > 2 * _KEEP:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end(key)
        return self._pairs[key]


def sample(field: np.ndarray, points: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """[N, 2] flow at points [N, 2]: the median of five places, the others ``reach`` [N] pixels away."""
    around = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=np.float32)
    places = (points[:, None] + around * reach[:, None, None]).astype(np.float32)
    h, w = field.shape[:2]
    places[..., 0] = places[..., 0].clip(0, w - 1)
    places[..., 1] = places[..., 1].clip(0, h - 1)
    found = cv2.remap(field, places[..., 0], places[..., 1], cv2.INTER_LINEAR)
    return np.median(found, axis=1)


def step(
    flows: PairFlows, start: int, end: int, points: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Points of frame ``start`` in the neighbouring frame ``end``, and how far the way back misses them.

    Args:
        points: [N, 2] pixels of the video. reach: [N] pixels, see :func:`sample`.

    Returns:
        [N, 2] and [N], in pixels of the video.
    """
    scale = flows.frames.scale
    at = (points + 0.5) * scale - 0.5
    there = at + sample(flows(start, end), at, reach * scale)
    back = there + sample(flows(end, start), there, reach * scale)
    missed = np.linalg.norm(back - at, axis=-1) / scale
    return (there + 0.5) / scale - 0.5, missed
