"""Single-frame models: SimpleBaseline, HRNet, ViTPose. They are baselines, and the source of backbones."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.video_model import Features, PoseModel, PoseOutput


class DeconvHead(nn.Module):
    """Stride-2 transposed convolutions (4x4, BatchNorm, ReLU), then a 1x1 convolution to heatmaps.

    With three: SimpleBaseline (Xiao et al., ECCV 2018). With two: ViTPose's classic head. Names are theirs.
    """

    def __init__(self, feature: str, inputs: int, num_joints: int, *, layers: int, width: int = 256) -> None:
        super().__init__()
        self.feature = feature
        blocks: list[nn.Module] = []
        for before, after in pairwise([inputs, *[width] * layers]):
            deconv = nn.ConvTranspose2d(before, after, 4, 2, padding=1, bias=False)
            nn.init.normal_(deconv.weight, std=0.001)
            blocks += [deconv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.deconv_layers = nn.Sequential(*blocks)
        self.final_layer = heatmap_layer(width, num_joints, 1)

    def forward(self, features: Features) -> PoseOutput:
        return PoseOutput(self.decode(features[self.feature]))

    def decode(self, x: Tensor) -> Tensor:
        """Maps [N, inputs, h, w] -> heatmaps, twice as large for each deconvolution."""
        return self.final_layer(self.deconv_layers(x))


class SimpleHead(nn.Module):
    """ViTPose's simple head: ReLU, bilinear up-sampling by 4, a 3x3 convolution to heatmaps."""

    def __init__(self, inputs: int, num_joints: int) -> None:
        super().__init__()
        self.final_layer = heatmap_layer(inputs, num_joints, 3)

    def forward(self, features: Features) -> PoseOutput:
        return PoseOutput(self.decode(F.relu(features["tokens"])))

    def decode(self, x: Tensor) -> Tensor:
        """Maps [N, inputs, h, w] -> heatmaps [N, J, 4h, 4w]."""
        return self.final_layer(F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False))


class ConvHead(nn.Module):
    """HRNet's head: a 1x1 convolution of the highest resolution after stage 4."""

    def __init__(self, inputs: int, num_joints: int) -> None:
        super().__init__()
        self.final_layer = heatmap_layer(inputs, num_joints, 1)

    def forward(self, features: Features) -> PoseOutput:
        return PoseOutput(self.final_layer(features["stage4"]))


def heatmap_layer(inputs: int, num_joints: int, kernel: int) -> nn.Conv2d:
    """The last convolution, initialised N(0, 0.001) so that training starts from empty heatmaps."""
    layer = nn.Conv2d(inputs, num_joints, kernel, padding=kernel // 2)
    nn.init.normal_(layer.weight, std=0.001)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class SingleFrameModel(PoseModel):
    """A backbone and a heatmap head over one frame.

    It takes one frame [B, 3, H, W] or a clip [B, T, 3, H, W] of any length and sees its middle frame.
    """

    kind = "image"

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        num_joints: int,
        input_size: tuple[int, int],
        num_frames: int = 1,
        sigma: float | None = None,
        freeze_backbone: bool = True,
    ) -> None:
        if num_frames != 1:
            raise InputError(f"num_frames is {num_frames}: {self.name} is a single-frame model and takes 1")
        super().__init__(
            backbone,
            num_frames=1,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
        )
        self.head = head

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of frames [B, 3, H, W] or of clips [B, T, 3, H, W] (middle frame): [B, J, H/4, W/4]."""
        if clips.dim() == 5:
            clips = clips[:, clips.shape[1] // 2]  # [B, T, 3, H, W] -> [B, 3, H, W]
        return self.head(self.extract(clips))

    @property
    def silent_joints(self) -> tuple[int, ...]:
        """Joints whose heatmap is always 0, because the loaded checkpoint did not know them."""
        final = self.head.final_layer
        assert isinstance(final, nn.Conv2d) and final.bias is not None
        with torch.no_grad():
            used = final.weight.abs().amax(dim=(1, 2, 3)) + final.bias.abs()
        return tuple(int(j) for j in torch.nonzero(used == 0).flatten())

    @property
    def approximate_head(self) -> bool:
        """Whether head joints must be derived from nose and shoulders (``skeletons.convert_keypoints``).

        True after a COCO-17 head was loaded into a PoseTrack model; false once those joints were trained.
        """
        return bool(self.silent_joints)


class SimpleBaseline(SingleFrameModel):
    """Simple Baselines for Human Pose Estimation (Xiao et al., ECCV 2018): a ResNet, three deconvolutions."""

    name = "simple_baseline"

    def __init__(
        self, backbone: nn.Module, *, num_joints: int, input_size: tuple[int, int], **common
    ) -> None:
        head = DeconvHead("stage4", backbone.out_channels, num_joints, layers=3)  # type: ignore[arg-type]
        super().__init__(backbone, head, num_joints=num_joints, input_size=input_size, **common)


class HRNetPose(SingleFrameModel):
    """Deep High-Resolution Representation Learning (Sun et al., CVPR 2019)."""

    name = "hrnet"

    def __init__(
        self, backbone: nn.Module, *, num_joints: int, input_size: tuple[int, int], **common
    ) -> None:
        head = ConvHead(backbone.out_channels, num_joints)  # type: ignore[arg-type]
        super().__init__(backbone, head, num_joints=num_joints, input_size=input_size, **common)


class ViTPose(SingleFrameModel):
    """ViTPose (Xu et al., NeurIPS 2022).

    Args:
        head: ``"classic"`` (two deconvolutions) or ``"simple"`` (bilinear up-sampling and one convolution).
        head_width: channels of the classic head's deconvolutions.
    """

    name = "vitpose"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_joints: int,
        input_size: tuple[int, int],
        head: str = "classic",
        head_width: int = 256,
        **common: Any,
    ) -> None:
        inputs: int = backbone.out_channels  # type: ignore[assignment]
        if head == "classic":
            module: nn.Module = DeconvHead("tokens", inputs, num_joints, layers=2, width=head_width)
        elif head == "simple":
            module = SimpleHead(inputs, num_joints)
        else:
            raise InputError(f"head is {head!r}: vitpose has 'classic' and 'simple'")
        super().__init__(backbone, module, num_joints=num_joints, input_size=input_size, **common)
