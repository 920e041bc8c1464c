"""Optical flow between crops, for methods and ablations that take motion from flow instead of features."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError, MissingExtraError
from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD
from vidpose.models.hrnet import conv_bn
from vidpose.models.layers import residual_chain

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
        [B, T - 1, 2, H, W], in pixels of the crop. On the ``meta`` device, where there are no pixels, no flow
        is estimated.
    """
    if frames.device.type == "meta":  # counting
        return frames.new_zeros(frames.shape[0], frames.shape[1] - 1, 2, *frames.shape[3:])
    mean = torch.tensor(IMAGENET_MEAN, device=frames.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=frames.device).view(3, 1, 1)
    with torch.no_grad(), torch.autocast(frames.device.type, enabled=False):  # the same in training and after
        # Flow estimators are made for images: public code that gives them normalised crops is in error.
        images = ((frames.float() * std + mean) * 255).clamp(0, 255)
        found = flow(images[:, :-1].flatten(0, 1), images[:, 1:].flatten(0, 1))
    return found.to(frames.dtype).unflatten(0, (frames.shape[0], frames.shape[1] - 1))


class FlowEncoder(nn.Module):
    """Motion feature from optical flow between consecutive frames: TDMI's Op-Flow, JM-Pose's ``M_t``.

    Args:
        num_frames: T.
        width: channels of the motion feature.
        flow: a function, see :func:`create_flow`; no part of the model's weights.
    """

    def __init__(self, num_frames: int, width: int, flow: FlowFunction) -> None:
        super().__init__()
        self.flow = flow
        self.cache = FlowCache()
        # silent: how flow becomes a feature; two stride-2 convolutions and four blocks, as in public code.
        self.layers = nn.Sequential(
            conv_bn(2 * (num_frames - 1), width, 3, 2),
            conv_bn(width, width, 3, 2),
            residual_chain(width, width, 4),
        )

    @property
    def flow_name(self) -> str | None:
        """``"dis"`` or ``"raft"``; ``None`` for any other function."""
        return "dis" if self.flow is dis_flow else "raft" if isinstance(self.flow, _RaftFlow) else None

    def forward(self, frames: Tensor) -> Tensor:
        """Normalised frames [B, T, 3, H, W] -> [B, width, H/4, W/4]."""
        return self.layers(self.motion(frames).flatten(1, 2))

    def motion(self, frames: Tensor) -> Tensor:
        """Flow of consecutive frames [B, T - 1, 2, H, W], remembered per clip in eval mode."""
        if self.training:  # augmentation makes every clip new
            return clip_flow(frames, self.flow)
        return self.cache(frames, self.flow)


class FlowCache:
    """Flow of the clips seen last, by their pixels: a validation that repeats does not estimate it again.

    Args:
        limit_bytes: what is kept, as half-precision numbers on the CPU; the oldest clips go first.
    """

    def __init__(self, limit_bytes: int = 256 * 2**20) -> None:
        self.limit_bytes = limit_bytes
        self.hits = 0
        self._kept: OrderedDict[tuple[FlowFunction, bytes], Tensor] = OrderedDict()
        self._bytes = 0

    def __call__(self, frames: Tensor, flow: FlowFunction) -> Tensor:
        """As :func:`clip_flow`."""
        if frames.device.type != "cpu" or torch.compiler.is_compiling():  # copying costs more than it saves
            return clip_flow(frames, flow)
        keys = [(flow, blake2b(clip.contiguous().view(torch.uint8).numpy()).digest()) for clip in frames]
        absent = [i for i, key in enumerate(keys) if key not in self._kept]
        self.hits += len(keys) - len(absent)
        known = {i: self._kept[key].to(frames.dtype) for i, key in enumerate(keys) if key in self._kept}
        if absent:
            for i, motion in zip(absent, clip_flow(frames[absent], flow), strict=True):
                known[i] = motion.half().to(frames.dtype)
                self._keep(keys[i], motion.half())
        return torch.stack([known[i] for i in range(len(keys))])

    def _keep(self, key: tuple[FlowFunction, bytes], motion: Tensor) -> None:
        if key in self._kept:  # the same clip twice in a batch
            return
        self._kept[key] = motion
        self._bytes += motion.numel() * 2
        while self._bytes > self.limit_bytes and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].numel() * 2


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
        height, width = first.shape[-2:]
        # RAFT's pyramid needs 128 pixels, and its stride a multiple of 8.
        size = [max(128, math.ceil(side / 8) * 8) for side in (height, width)]
        pair = [
            F.interpolate(x / 127.5 - 1, size=size, mode="bilinear", align_corners=False)
            for x in (first, second)
        ]
        found = self.network(*pair, num_flow_updates=20)[-1]
        found = F.interpolate(found, size=(height, width), mode="bilinear", align_corners=False)
        unit = torch.tensor((width / size[1], height / size[0]), device=found.device)  # x first
        return found * unit.view(1, 2, 1, 1)
