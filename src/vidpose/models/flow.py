"""Optical flow between crops, for methods and ablations that take motion from flow instead of features."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vidpose.errors import InputError, MissingExtraError
from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD

FlowFunction = Callable[[Tensor, Tensor], Tensor]
"""Two batches of RGB images [N, 3, H, W] in 0..255 -> [N, 2, H, W]: how far each pixel of the first moves."""

FLOWS = ("auto", "dis", "raft")


def create_flow(name: str = "auto") -> FlowFunction:
    """A flow function by name.

    Args:
        name: ``"raft"`` (Teed and Deng, ECCV 2020; torchvision's large model and weights, 20 iterations),
            ``"dis"`` (Kroeger et al., ECCV 2016; OpenCV, needs no weights), or ``"auto"``: RAFT where
            torchvision imports and its weights are already on this machine, else DIS.

    Raises:
        InputError: an unknown name; RAFT without torchvision.
    """
    if name not in FLOWS:
        raise InputError(f"flow is {name!r}: known are {', '.join(FLOWS)}")
    if name == "dis":
        return dis_flow
    try:
        from torchvision.models.optical_flow import Raft_Large_Weights
    except Exception as error:  # a build that does not fit torch fails with RuntimeError
        if name == "raft":
            raise MissingExtraError("RAFT optical flow", "torchvision") from error
        return dis_flow
    weights = Raft_Large_Weights.DEFAULT
    stored = os.path.join(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    return _RaftFlow(weights) if name == "raft" or os.path.exists(stored) else dis_flow


def clip_flow(frames: Tensor, flow: FlowFunction) -> Tensor:
    """Flow between consecutive frames of clips, without gradients.

    Args:
        frames: [B, T, 3, H, W], normalised with ImageNet's mean and deviation.

    Returns:
        [B, T - 1, 2, H, W], in pixels of the crop.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1)
    with torch.no_grad():
        # Flow estimators are made for images: public code that gives them normalised crops is in error.
        images = ((frames.float() * std + mean) * 255).clamp(0, 255)
        found = flow(images[:, :-1].flatten(0, 1), images[:, 1:].flatten(0, 1))
    return found.to(frames.dtype).unflatten(0, (frames.shape[0], frames.shape[1] - 1))


def dis_flow(first: Tensor, second: Tensor) -> Tensor:
    """Dense inverse search on the luminance, one pair at a time on the CPU."""
    import cv2

    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    luma = torch.tensor((0.299, 0.587, 0.114), device=first.device).view(1, 3, 1, 1)
    gray = [(x.float() * luma).sum(dim=1).round().byte().cpu().numpy() for x in (first, second)]
    flows = [method.calc(a, b, None) for a, b in zip(*gray, strict=True)]  # each [H, W, 2]
    return torch.from_numpy(np.stack(flows)).permute(0, 3, 1, 2).to(first.device)


class _RaftFlow:
    """torchvision's RAFT; not a module, so that its weights are no part of the model that uses it."""

    def __init__(self, weights) -> None:
        from torchvision.models.optical_flow import raft_large

        self.network = raft_large(weights=weights, progress=False).eval()

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        self.network.to(first.device)
        return self.network(first / 127.5 - 1, second / 127.5 - 1, num_flow_updates=20)[-1]
