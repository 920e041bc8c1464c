"""The one interface of every pose model: features of single frames, and a head over those of T frames."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vidpose.errors import InputError

Features = dict[str, Tensor]
"""Named per-frame features. The first axis of every tensor is N = B·T, clip by clip: ``n = b * T + t``."""


@dataclass
class PoseOutput:
    """What a model returns for B clips."""

    heatmaps: Tensor
    """[B, J, h, w] of the key frame (propagation models: [B, T, J, h, w])."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Intermediate values that the losses need; empty in eval mode."""


class PoseModel(nn.Module):
    """Base of all pose models: a backbone that sees one frame at a time, and a head that sees T of them.

    Subclasses set ``name`` and ``kind``, give a backbone (frames [N, 3, H, W] -> :data:`Features`), build
    ``self.head`` (features -> :class:`PoseOutput`), and extend :meth:`losses`. A method that refines
    single-frame heatmaps gives an ``initial_head`` as well, and finds them as feature ``"heatmaps"``.

    Args:
        backbone: module from frames to features.
        num_frames: T, odd; the key frame stands in the middle.
        num_joints: J.
        input_size: (H, W) of a crop in pixels.
        sigma: standard deviation of the target Gaussians in heatmap pixels; ``None``: 3 where the input is at
            least 384 high, else 2.
        freeze_backbone: no gradient into the backbone, its BatchNorm statistics and dropout fixed.
        initial_head: see the attribute.
    """

    name: ClassVar[str] = ""
    kind: ClassVar[str] = "video"
    needs_sequence_targets: ClassVar[bool] = False
    """Whether :meth:`losses` takes the labels of the whole clip, too: ``sequence_heatmaps`` [B, T, J, h, w]
    and ``sequence_weights`` [B, T, J]."""
    takes_labels: ClassVar[bool] = False
    """Whether :meth:`forward` takes labels of other frames (``given_heatmaps``, ``given_mask``) and
    the ``times`` of its frames: pose propagation."""
    detection_head: ClassVar[str] = ""
    """Prefix of the parameters, in ``head``, of a detection head that is built like a single-frame model's:
    it is trained, and starts from the head of the checkpoint that fills the backbone."""
    initial_head: nn.Module | None
    """A single-frame head from features to initial heatmaps, for methods that refine them. It belongs to the
    backbone: loaded from the same checkpoint, frozen and thawed with it, not counted as the method's own."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int,
        num_joints: int,
        input_size: tuple[int, int],
        sigma: float | None = None,
        freeze_backbone: bool = True,
        initial_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if num_frames < 1 or num_frames % 2 == 0:
            raise InputError(
                f"num_frames is {num_frames}: it must be odd, so that the key frame is in the middle"
            )
        if self.kind == "video" and num_frames < 3:
            raise InputError(f"num_frames is {num_frames}: {self.name} needs at least 3 frames")
        if num_joints < 1:
            raise InputError(f"num_joints is {num_joints}: it must be at least 1")
        self.backbone = backbone
        self.initial_head = initial_head
        self.head: nn.Module = nn.Identity()
        self.num_frames = num_frames
        self.num_joints = num_joints
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.heatmap_size = (self.input_size[0] // 4, self.input_size[1] // 4)
        # silent: no paper ties sigma to the input; 3 at 384x288 and 2 at 256x192 are the public defaults.
        self.sigma = float(sigma) if sigma is not None else (3.0 if self.input_size[0] >= 384 else 2.0)
        self.config: dict[str, Any] = {}
        self.notes: list[str] = []
        self.freeze_backbone = freeze_backbone
        self.set_backbone_trainable(not freeze_backbone)

    def set_backbone_trainable(self, trainable: bool) -> None:
        """Freezes or thaws the backbone; frozen means frozen: statistics too."""
        self.freeze_backbone = not trainable
        for parameter in self.backbone_parameters():
            parameter.requires_grad_(trainable)
        self.train(self.training)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the single-frame network: the backbone and, where there is one, its initial head."""
        yield from self.backbone.parameters()
        if self.initial_head is not None:
            yield from self.initial_head.parameters()

    def train(self, mode: bool = True) -> PoseModel:
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
            if self.initial_head is not None:
                self.initial_head.eval()
        return self

    def extract(self, frames: Tensor) -> Features:
        """Features of single frames.

        Args:
            frames: [N, 3, H, W], normalised RGB.

        Returns:
            Tensors whose first axis is N: the backbone's, and ``heatmaps`` [N, J, h, w] of an initial head.
        """
        self._check(frames, 4)
        with torch.no_grad() if self.freeze_backbone else nullcontext():
            features = self.backbone(frames)
            if self.initial_head is not None:
                features = {**features, "heatmaps": self.initial_head(features).heatmaps}
            return features

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames: ``head(extract(clips.flatten(0, 1)))``.

        Args:
            clips: [B, T, 3, H, W], normalised RGB, in order of time, key frame in the middle.
        """
        self._check(clips, 5)
        return self.head(self.extract(clips.flatten(0, 1)))  # [B, T, 3, H, W] -> [B·T, 3, H, W]

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """The loss terms, ``"total"`` among them.

        Args:
            out: what ``forward`` returned in training mode.
            target_heatmaps: [B, J, h, w].
            weights: [B, J], 0 for joints without a label.
        """
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)
        return {"heatmap": heatmap, "total": heatmap}

    def _check(self, frames: Tensor, dims: int) -> None:
        layout = "[B, T, 3, H, W]" if dims == 5 else "[N, 3, H, W]"
        if frames.dim() != dims or frames.shape[-3] != 3:
            raise ValueError(f"{self.name} takes frames {layout}, got {list(frames.shape)}")
        if tuple(frames.shape[-2:]) != self.input_size:
            raise ValueError(
                f"{self.name} was built for input_size {self.input_size}, got {tuple(frames.shape[-2:])}"
            )
        if dims == 5 and frames.shape[1] != self.num_frames:
            raise ValueError(f"{self.name} was built for {self.num_frames} frames, got {frames.shape[1]}")


def clip_features(features: Features, num_frames: int) -> Features:
    """Features per clip: every [B·T, ...] tensor becomes [B, T, ...].

    Tensors that already have T as second of at least five axes pass through, so that a head takes both what
    ``extract`` returned and what a cache stacked.
    """
    out: Features = {}
    for key, value in features.items():
        if value.dim() >= 5 and value.shape[1] == num_frames:
            out[key] = value
            continue
        if value.shape[0] % num_frames:
            raise ValueError(
                f"feature {key!r} has {value.shape[0]} frames, not a multiple of T = {num_frames}"
            )
        out[key] = value.reshape(-1, num_frames, *value.shape[1:])  # [B·T, ...] -> [B, T, ...]
    return out


def heatmap_loss(heatmaps: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """``L_H``: squared error, averaged over pixels and over the joints that have a label.

    Args:
        heatmaps, targets: [..., J, h, w].
        weights: [..., J]; 0 leaves a joint out, other values weigh it.

    Returns:
        A scalar; 0 (with a graph) where no joint has a label.
    """
    error = (heatmaps.float() - targets.float()).square().mean(dim=(-2, -1))  # [..., J, h, w] -> [..., J]
    weights = weights.to(error.dtype)
    visible = (weights > 0).sum().clamp(min=1)
    return (error * weights).sum() / visible


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Number of scalars in the parameters, all or only those that take gradients."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
