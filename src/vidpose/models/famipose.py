"""FAMI-Pose: feature alignment and mutual information maximisation (Liu et al., CVPR 2022).

Names are the paper's: z is the key frame's feature (``visual``), z_s that of the supporting frames
(``support``), z~ the aggregated feature (``enhanced``), y the label. Sizes are those of public code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.models.hrnet import conv_bn
from vidpose.models.information import MutualInformation, Term
from vidpose.models.layers import DeformConv2d, dilated_conv, offset_groups, one_of, residual_chain
from vidpose.models.single_frame import heatmap_layer
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

# silent: which side of each term learns. As in public code gradients reach z~, where a term has it, else the
# feature that meets the label.
PRIMARY = (  # -I(y; z~ | z), what z~ knows of the label beyond the key frame: maximised
    Term("enhanced", "label", -1),
    Term("enhanced", "visual", +1),
)
REGULARIZATION = (  # I(y; z_s | z~) + I(y; z | z~), what the aggregation lost: minimised
    Term("support", "label", +1),
    Term("enhanced", "support", -1),
    Term("visual", "label", +1),
    Term("enhanced", "visual", -1),
)

# What alpha multiplies, see tdmi.OBJECTIVE_SCALE. Gradient norms over model.head at initialisation, alpha
# (0.5) times the objective over the heatmap loss, for club (kl is within 3 %) and released, on augmented
# crops of ``vidpose data synthesize``, median of the draws: hrnet_w16_small at 128x96, 8 clips x 3 draws,
# untrained 0.29 and 0.21, trained backbone 0.18 and 0.14; untrained hrnet_w48 at 384x288, 2 clips, 0.46
# and 0.06.
OBJECTIVE_SCALE = {"club": 2e-3, "kl": 2e-3, "released": 1.0}
FIT_SCALE = 5e-4


class FAMIPose(PoseModel):
    """Features of the neighbours aligned with the key frame's, first as a whole, then point by point.

    Args:
        backbone: HRNet with features ``stage1`` .. ``stage4`` at a quarter of the input.
        global_transformation: of each neighbour's feature map: ``"translation"`` (public code), ``"affine"``,
            or ``"none"``.
        local_calibration: deformable convolutions on the aggregated neighbours.
        modulation: of their samples: ``"sigmoid"``: between 0 and 1, DCNv2's definition; ``"linear"``: any
            number, as in public code, where four of them in a row start near 0 and hardly learn.
        mutual_information: the objective on the features.
        estimator: of it, see :class:`vidpose.models.information.MutualInformation`.
        alpha: weight of the objective.
        beta: weight of its first part, what is gained over the key frame, against the regularisation.
    """

    name = "famipose"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 5,
        num_joints: int = 15,
        input_size: tuple[int, int] = (384, 288),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        global_transformation: str = "translation",
        local_calibration: bool = True,
        modulation: str = "sigmoid",
        mutual_information: bool = True,
        estimator: str = "club",
        alpha: float = 0.5,
        beta: float = 0.1,
    ) -> None:
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
        )
        one_of("global_transformation", global_transformation, ("translation", "affine", "none"))
        one_of("modulation", modulation, ("sigmoid", "linear"))
        channels: int = backbone.out_channels  # type: ignore[assignment]
        move: nn.Module | None = None
        if global_transformation != "none":
            move = GlobalTransformation(channels, affine=global_transformation == "affine")
        calibrate = LocalCalibration(channels, sigmoid=modulation == "sigmoid") if local_calibration else None
        self.head = FAMIPoseHead(channels, num_frames, num_joints, move, calibrate)
        self.alpha, self.beta = alpha, beta
        self.information: nn.ModuleDict | None = None
        if mutual_information:
            sizes = {"visual": channels, "support": channels, "enhanced": channels, "label": num_joints}
            self.information = nn.ModuleDict(
                {
                    "primary": MutualInformation(PRIMARY, sizes, estimator=estimator),
                    "regularization": MutualInformation(REGULARIZATION, sizes, estimator=estimator),
                }
            )

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4]."""
        return super().forward(clips)

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """``heatmap``, ``mutual_information``, the fit of its heads, ``total``.

        In eval mode only the heatmap loss is known.
        """
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)
        losses = {"heatmap": heatmap, "total": heatmap}
        if self.information is None or not out.extras:
            return losses
        objective = fit = heatmap.new_zeros(())
        for (part, information), weight in zip(self.information.items(), (self.beta, 1.0), strict=True):
            assert isinstance(information, MutualInformation)
            # silent: y is the ground truth, as for TDMI; public code takes its own heatmaps.
            label = out.heatmaps if information.estimator == "released" else target_heatmaps
            found = information({**out.extras, "label": label}, weights)
            objective = objective + weight * OBJECTIVE_SCALE[information.estimator] * found.pop("objective")
            fit = fit + FIT_SCALE * found.pop("fit")
            losses |= {f"information/{part}_{name}": value for name, value in found.items()}
        losses |= {"mutual_information": objective, "information_fit": fit}
        losses["total"] = heatmap + self.alpha * objective + fit
        return losses


class FAMIPoseHead(nn.Module):
    """All that FAMI-Pose trains: per-frame features of a clip -> heatmaps of its key frame."""

    def __init__(
        self,
        channels: int,
        num_frames: int,
        num_joints: int,
        move: nn.Module | None,
        calibrate: nn.Module | None,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.move = move
        self.aggregate = residual_chain((num_frames - 1) * channels, channels, 2)
        self.calibrate = calibrate
        self.enhance = residual_chain(2 * channels, channels, 3)
        self.heatmaps = heatmap_layer(channels, num_joints, 3)

    def forward(self, features: Features) -> PoseOutput:
        clip = clip_features({"stage4": features["stage4"]}, self.num_frames)["stage4"]  # [B, T, C, h, w]
        centre = self.num_frames // 2
        key = clip[:, centre]
        neighbours = torch.cat([clip[:, :centre], clip[:, centre + 1 :]], dim=1)  # [B, T - 1, C, h, w]
        if self.move is not None:  # global transformation, each neighbour by itself
            keys = key[:, None].expand_as(neighbours)
            moved = self.move(neighbours.flatten(0, 1), keys.flatten(0, 1))
            neighbours = moved.unflatten(0, (-1, self.num_frames - 1))
        # silent: that neighbours are aggregated before the local calibration is public code's order.
        support = self.aggregate(neighbours.flatten(1, 2))  # z_s [B, C, h, w]
        aligned = support if self.calibrate is None else self.calibrate(support, key)
        enhanced = self.enhance(torch.cat([key, aligned], dim=1))  # z~
        found = {"visual": key, "support": support, "enhanced": enhanced}
        return PoseOutput(self.heatmaps(enhanced), found if self.training else {})


class GlobalTransformation(nn.Module):
    """Moves a whole feature map so that it lies on the key frame's."""

    def __init__(self, channels: int, *, affine: bool, width: int = 16) -> None:
        super().__init__()
        self.regress = nn.Sequential(
            residual_chain(channels, width, 1),
            *(conv_bn(width, width, 3, 2) for _ in range(5)),
            # 3x3 is what five halvings leave of 96x72; other sizes are brought to it.
            nn.Sequential(nn.AdaptiveAvgPool2d(3), nn.Flatten()),
            nn.Linear(width * 3 * 3, 64),
            nn.Linear(64, 64),
            nn.Linear(64, 6 if affine else 2),
        )
        last = self.regress[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=0.001)  # the identity, nearly
        nn.init.zeros_(last.bias)

    def forward(self, neighbours: Tensor, keys: Tensor) -> Tensor:
        """Features [N, C, h, w] of neighbours and of their key frames -> moved neighbours [N, C, h, w]."""
        numbers = self.regress(neighbours - keys).float()  # [N, 2 or 6]: right and down in pixels, and matrix
        moved = F.grid_sample(
            neighbours.float(),
            self._grid(numbers, neighbours.shape[-2], neighbours.shape[-1]),
            padding_mode="zeros",
            align_corners=False,
        )
        return moved.to(neighbours.dtype)

    def _grid(self, numbers: Tensor, height: int, width: int) -> Tensor:
        """Where each place of the result comes from [N, h, w, 2], in grid_sample's unit: borders at -1, 1."""
        device = numbers.device
        x = ((2 * torch.arange(width, device=device) + 1) / width - 1).view(1, 1, -1)
        y = ((2 * torch.arange(height, device=device) + 1) / height - 1).view(1, -1, 1)
        right, down, *matrix = (number.view(-1, 1, 1) for number in numbers.unbind(dim=1))
        across, along = x - right * (2 / width), y - down * (2 / height)
        xx, xy, yx, yy = matrix or [torch.zeros_like(right)] * 4  # added to the identity
        # [N, 1 or h, w] and [N, h, 1 or w] meet in [N, h, w]
        return torch.stack([across + xx * x + xy * y, along + yx * x + yy * y], dim=-1)


class LocalCalibration(nn.Module):
    """Four modulated deformable convolutions: two on both frames' features, then two on the neighbours'."""

    def __init__(self, channels: int, *, sigmoid: bool) -> None:
        super().__init__()
        self.combine = residual_chain(2 * channels, channels, 1)
        self.steps = nn.ModuleList(CalibrationStep(channels, sigmoid=sigmoid) for _ in range(4))

    def forward(self, support: Tensor, key: Tensor) -> Tensor:
        """Features [B, C, h, w] of the neighbours and of the key frame -> aligned neighbours [B, C, h, w]."""
        guide = self.combine(torch.cat([support, key], dim=1))
        guide = self.steps[0](guide, guide)
        guide = self.steps[1](guide, guide)
        aligned = self.steps[2](support, guide)
        return self.steps[3](aligned, aligned)


class CalibrationStep(nn.Module):
    """A modulated deformable 3x3 convolution, dilated by 3, whose offsets come from a guide."""

    def __init__(self, channels: int, *, sigmoid: bool) -> None:
        super().__init__()
        groups = offset_groups(channels)
        self.sigmoid = sigmoid
        self.offset = dilated_conv(channels, 2 * 9 * groups)
        self.mask = dilated_conv(channels, 9 * groups)
        self.deform = DeformConv2d(channels, channels, padding=3, dilation=3)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        mask = self.mask(guide)
        return self.deform(x, self.offset(guide), mask.sigmoid() if self.sigmoid else mask)
