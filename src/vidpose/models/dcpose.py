"""DCPose: deep dual consecutive network (Liu et al., CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.hrnet import conv_bn
from vidpose.models.layers import DeformConv2d, check_dilations, one_of
from vidpose.models.single_frame import ConvHead
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features

DILATIONS = (3, 6, 9, 12, 15)


class DCPose(PoseModel):
    """Heatmaps of the key frame and its neighbours, merged, compared, and resampled where that says to look.

    The paper has one frame on each side. silent: longer clips; every further frame enters as the two do,
    weighted by its time distance.

    Args:
        backbone: HRNet with features ``stage1`` .. ``stage4`` at a quarter of the input.
        ptm: the Pose Temporal Merger; without it the key frame's own heatmaps are what is resampled.
        prf: the Pose Residual Fusion; without it only merged heatmaps say where to look.
        pcn: the Pose Correction Network; without it the merged heatmaps are the result.
        time_weighting: neighbours count less with their distance; without, all count 1.
        modulation: of the samples: ``"linear"``: any number, as in the released weights; ``"sigmoid"``:
            between 0 and 1, DCNv2's definition.
        dilations: of the correction network's deformable convolutions, whose results are averaged.
    """

    name = "dcpose"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 3,
        num_joints: int = 15,
        input_size: tuple[int, int] = (384, 288),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        ptm: bool = True,
        prf: bool = True,
        pcn: bool = True,
        time_weighting: bool = True,
        modulation: str = "linear",
        dilations: Sequence[int] = DILATIONS,
    ) -> None:
        channels: int = backbone.out_channels  # type: ignore[assignment]
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
            initial_head=ConvHead(channels, num_joints),
        )
        one_of("modulation", modulation, ("linear", "sigmoid"))
        check_dilations(dilations)
        if not ptm and not (prf and pcn):
            raise InputError("ptm=False needs prf=True and pcn=True: nothing else would see the neighbours")
        self.head = DCPoseHead(
            num_frames,
            num_joints,
            ptm=ptm,
            prf=prf and pcn,
            correction=PoseCorrectionNetwork(
                num_joints, (ptm + 2 * prf) * num_joints, dilations, sigmoid=modulation == "sigmoid"
            )
            if pcn
            else None,
            weights=time_weights(num_frames) if time_weighting else [1.0] * (num_frames - 1),
        )

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4]."""
        return super().forward(clips)


class DCPoseHead(nn.Module):
    """All that DCPose trains: heatmaps of the frames of a clip -> heatmaps of its key frame."""

    time_weights: Tensor

    def __init__(
        self,
        num_frames: int,
        num_joints: int,
        *,
        ptm: bool,
        prf: bool,
        correction: PoseCorrectionNetwork | None,
        weights: Sequence[float],
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        neighbours = num_frames - 1
        # silent: widths and numbers of blocks; as in public code J and 1, 2J and 2.
        self.merge = residual_steps((1 + neighbours) * num_joints, num_joints, 1) if ptm else None
        self.fuse = residual_steps(2 * neighbours * num_joints, 2 * num_joints, 2) if prf else None
        self.correct = correction
        self.register_buffer("time_weights", torch.tensor(weights), persistent=False)

    def forward(self, features: Features) -> PoseOutput:
        clip = clip_features({"heatmaps": features["heatmaps"]}, self.num_frames)["heatmaps"]
        centre = self.num_frames // 2
        key = clip[:, centre : centre + 1]  # [B, 1, J, h, w]
        neighbours = torch.cat([clip[:, :centre], clip[:, centre + 1 :]], dim=1)  # [B, T - 1, J, h, w]
        weights = self.time_weights.to(clip.dtype).view(-1, 1, 1, 1)

        merged = key.squeeze(1)
        guides = []
        if self.merge is not None:  # Pose Temporal Merger: each joint's own heatmaps side by side
            each = torch.cat([key, weights * neighbours], dim=1)  # [B, T, J, h, w]
            merged = self.merge(each.transpose(1, 2).flatten(1, 2))  # -> [B, J, h, w]
            guides.append(merged)
        if self.correct is None:
            return PoseOutput(merged)
        if self.fuse is not None:  # Pose Residual Fusion: residuals, as they are and weighted
            residuals = key - neighbours
            pairs = torch.stack([residuals, weights * residuals], dim=2)  # [B, T - 1, 2, J, h, w]
            guides.insert(0, self.fuse(pairs.permute(0, 3, 1, 2, 4, 5).flatten(1, 3)))  # -> [B, 2J, h, w]
        return PoseOutput(self.correct(merged, torch.cat(guides, dim=1)))


class PoseCorrectionNetwork(nn.Module):
    """Modulated deformable convolutions of several dilations on merged heatmaps, averaged."""

    def __init__(self, num_joints: int, guide: int, dilations: Sequence[int], *, sigmoid: bool) -> None:
        super().__init__()
        width = 64
        self.sigmoid = sigmoid
        self.combine = residual_steps(guide, width, 2)
        self.offsets = nn.ModuleList(_dilated(width, num_joints * 2 * 9, d) for d in dilations)
        self.masks = nn.ModuleList(_dilated(width, num_joints * 9, d) for d in dilations)
        self.deform = nn.ModuleList(
            DeformConv2d(num_joints, num_joints, padding=d, dilation=d) for d in dilations
        )
        for deform in self.deform:
            nn.init.dirac_(deform.weight)  # type: ignore[arg-type]

    def forward(self, heatmaps: Tensor, guides: Tensor) -> Tensor:
        """Heatmaps [B, J, h, w] and what says where to look [B, guide, h, w] -> heatmaps [B, J, h, w]."""
        features = self.combine(guides)
        found = []
        for offsets, masks, deform in zip(self.offsets, self.masks, self.deform, strict=True):
            mask = masks(features)
            found.append(deform(heatmaps, offsets(features), mask.sigmoid() if self.sigmoid else mask))
        return torch.stack(found).mean(dim=0)


class ResidualSteps(nn.Module):
    """The residual steps block (Cai et al., ECCV 2020): four parts, part i through i 3x3 convolutions.

    Convolution j of a part also takes what convolution j of the part before it gave.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        branch = max(inputs * 26 // 64, 1)
        self.reduce = conv_bn(inputs, 4 * branch, 1)
        self.steps = nn.ModuleDict(
            {f"{i}_{j}": conv_bn(branch, branch, 3) for i in range(1, 5) for j in range(1, i + 1)}
        )
        self.expand = conv_bn(4 * branch, outputs, 1, relu=False)
        self.shortcut = conv_bn(inputs, outputs, 1, relu=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h, w]."""
        before: list[Tensor] = []
        ends = []
        for i, part in enumerate(self.reduce(x).chunk(4, dim=1), start=1):
            steps: list[Tensor] = []
            for j in range(1, i + 1):
                y = steps[-1] if steps else part
                steps.append(self.steps[f"{i}_{j}"](y + before[j - 1] if j < i else y))
            before = steps
            ends.append(steps[-1])
        return F.relu(self.expand(torch.cat(ends, dim=1)) + self.shortcut(x))


def residual_steps(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """``blocks`` residual steps blocks, [N, inputs, h, w] -> [N, outputs, h, w]."""
    return nn.Sequential(
        ResidualSteps(inputs, outputs), *(ResidualSteps(outputs, outputs) for _ in range(blocks - 1))
    )


def time_weights(num_frames: int) -> list[float]:
    """What each neighbour counts [T - 1], with sum 1: the inverse of its distance to the key frame.

    For one frame on each side these are the paper's: at p and n around c, (n-c)/(n-p) and (c-p)/(n-p).
    """
    centre = num_frames // 2
    inverse = [1 / abs(t - centre) for t in range(num_frames) if t != centre]
    return [w / sum(inverse) for w in inverse]


def _dilated(inputs: int, outputs: int, dilation: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False)
    nn.init.normal_(layer.weight, std=0.001)
    return layer
