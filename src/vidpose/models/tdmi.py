"""TDMI: temporal differences and mutual information (Feng et al., CVPR 2023). Equations are the paper's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidpose.errors import InputError
from vidpose.models.flow import FlowEncoder, create_flow
from vidpose.models.hrnet import conv_bn
from vidpose.models.information import MutualInformation, Term
from vidpose.models.layers import ModulatedSampling, one_of, residual_chain
from vidpose.models.single_frame import heatmap_layer
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

STAGE_BLOCKS = {"stage1": 3, "stage2": 3, "stage3": 2, "stage4": 2}  # Sec. 3.1

# silent: which side of each term learns. Gradients reach the representation (the first argument here) and not
# the target, as in public code; I(Mu;Mn) teaches both, or nothing would train MLP_n.
OBJECTIVE = (  # Eq. 13
    Term("useful", "noisy", +1, both_ways=True),  # Eq. 8
    # Eq. 13 prints Eq. 8 a second time with a minus sign, where Eq. 9 must stand.
    Term("useful", "motion", -1),  # Eq. 9
    # Eqs. 11, 12 as printed: what the simplification keeps of "information that fusion loses" also lowers
    # the label information of useful motion and key frame.
    Term("useful", "label", +1),  # Eq. 11
    Term("enhanced", "useful", -1),
    Term("visual", "label", +1),  # Eq. 12
    Term("enhanced", "visual", -1),
)

# What alpha = 1 multiplies. A KL in nats is thousands of times the number that public code computes, so the
# printed alpha has no meaning for it; these make the gradient of the MI part 0.1 to 1 times that of the
# heatmap loss at initialisation (docs/methods/tdmi.md has the measurement).
OBJECTIVE_SCALE = {"club": 2.75e-4, "kl": 2.75e-4, "released": 1.0}
FIT_SCALE = 5e-4  # of the loss of the estimator's own heads: small, so that clipping does not see it


class TDMI(PoseModel):
    """Multi-frame pose estimation from feature differences, of which the task-relevant part is distilled.

    Args:
        backbone: HRNet with features ``stage1`` .. ``stage4`` at a quarter of the input.
        tde: the temporal difference encoder; without it there is no motion (and no RDM), only the key frame.
        motion: what motion is encoded from: ``"difference"`` (Eq. 1) or ``"flow"`` (the paper's Op-Flow).
        spatial_modulation: deformable convolutions on each stage (Eqs. 3, 4).
        fusion: of the stages: ``"progressive"`` (Eq. 5), ``"concat"``, or ``"single"``: only the last stage.
        rdm: the representation disentanglement module.
        factorization: of motion in useful and noisy: ``"attention"`` (Eq. 6) or ``"channel_split"``.
        mutual_information: the objective of Eq. 13 on the factors.
        spatio_temporal: TDMI-ST: a feature of the whole sequence in place of the key frame's.
        estimator: of mutual information, see :class:`vidpose.models.information.MutualInformation`.
        alpha: weight of the objective (Eq. 15).
        width: working channels; ``None``: 84 for HRNet-W48, which meets the published size, else as many as
            the backbone has.
        flow: ``"auto"``, ``"raft"`` or ``"dis"`` where ``motion="flow"``; any other function can be put in
            ``model.head.encoder.flow``.
    """

    name = "tdmi"

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 5,
        num_joints: int = 15,
        input_size: tuple[int, int] = (384, 288),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        tde: bool = True,
        motion: str = "difference",
        spatial_modulation: bool = True,
        fusion: str = "progressive",
        rdm: bool = True,
        factorization: str = "attention",
        mutual_information: bool = True,
        spatio_temporal: bool = False,
        estimator: str = "club",
        alpha: float = 1.0,
        width: int | None = None,
        flow: str = "auto",
    ) -> None:
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
        )
        one_of("motion", motion, ("difference", "flow"))
        one_of("fusion", fusion, ("progressive", "concat", "single"))
        one_of("factorization", factorization, ("attention", "channel_split"))
        channels: int = backbone.out_channels  # type: ignore[assignment]
        if width is None:
            width = 84 if channels == 48 else channels
        if width < 2:
            raise InputError(f"width is {width}: it must be at least 2")
        encoder: nn.Module | None = None
        if tde and motion == "flow":
            encoder = FlowEncoder(num_frames, width, create_flow(flow))
        elif tde:
            encoder = TemporalDifferenceEncoder(
                channels, num_frames, width, spatial_modulation=spatial_modulation, fusion=fusion
            )
        factors: RepresentationFactorization | None = None
        if tde and rdm:
            factors = RepresentationFactorization(width, factorization, noisy=mutual_information)
        self.head = TDMIHead(
            channels, num_frames, num_joints, width, encoder, factors, spatio_temporal=spatio_temporal
        )
        self.alpha = alpha
        self.information: MutualInformation | None = None
        if factors is not None and mutual_information:
            sizes = {"motion": width, "visual": channels, "enhanced": width, "label": num_joints}
            sizes |= {"useful": factors.useful_channels, "noisy": factors.noisy_channels}
            self.information = MutualInformation(OBJECTIVE, sizes, estimator=estimator)

    def extract(self, frames: Tensor) -> Features:
        features = super().extract(frames)
        if not isinstance(self.head, TDMIHead):
            return features
        if isinstance(self.head.encoder, FlowEncoder):
            return {"stage4": features["stage4"], "frames": frames}
        return {stage: features[stage] for stage in self.head.stages}

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4]."""
        return super().forward(clips)

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """``heatmap`` (Eq. 14), ``mutual_information`` (Eq. 13), the fit of its heads, ``total`` (Eq. 15).

        In eval mode only the heatmap loss is known.
        """
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)  # Eq. 14
        if self.information is None or not out.extras:
            return {"heatmap": heatmap, "total": heatmap}
        released = self.information.estimator == "released"
        # silent: y is the ground truth, as the paper's word "label" says; public code takes its own heatmaps.
        label = out.heatmaps if released else target_heatmaps
        found = self.information({**out.extras, "label": label}, weights)
        objective = OBJECTIVE_SCALE[self.information.estimator] * found.pop("objective")
        fit = FIT_SCALE * found.pop("fit")
        return {
            "heatmap": heatmap,
            "mutual_information": objective,
            "information_fit": fit,
            **{f"information/{name}": value for name, value in found.items()},
            "total": heatmap + self.alpha * objective + fit,  # Eq. 15
        }


class TDMIHead(nn.Module):
    """All that TDMI trains: per-frame features of a clip -> heatmaps of its key frame."""

    def __init__(
        self,
        channels: int,
        num_frames: int,
        num_joints: int,
        width: int,
        encoder: nn.Module | None,
        factors: RepresentationFactorization | None,
        *,
        spatio_temporal: bool,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.encoder = encoder
        self.stages = encoder.stages if isinstance(encoder, TemporalDifferenceEncoder) else ["stage4"]
        """Of the backbone that are looked at."""
        self.factors = factors
        # silent: how TDMI-ST aggregates the sequence; here one convolution over all frames' channels.
        self.sequence = conv_bn(num_frames * channels, channels, 3) if spatio_temporal else None
        moving = 0 if encoder is None else width if factors is None else factors.useful_channels
        # silent: "several residual blocks" are three, as in public code.
        self.enhance = residual_chain(moving + channels, width, 3)
        self.heatmaps = heatmap_layer(width, num_joints, 3)

    def forward(self, features: Features) -> PoseOutput:
        clip = clip_features(features, self.num_frames)  # [B·T, C, h, w] -> [B, T, C, h, w]
        key = clip["stage4"][:, self.num_frames // 2]
        visual = key if self.sequence is None else self.sequence(clip["stage4"].flatten(1, 2))
        found = {"visual": visual}
        fused = [visual]
        if self.encoder is not None:
            by_flow = isinstance(self.encoder, FlowEncoder)
            motion = self.encoder(clip["frames"] if by_flow else clip)  # Eqs. 1 to 5
            found["motion"] = found["useful"] = motion
            if self.factors is not None:
                found["useful"], noisy = self.factors(found["motion"])  # Eq. 6
                if noisy is not None:
                    found["noisy"] = noisy
            fused = [found["useful"], visual]
        found["enhanced"] = self.enhance(torch.cat(fused, dim=1))
        return PoseOutput(self.heatmaps(found["enhanced"]), found if self.training else {})


class TemporalDifferenceEncoder(nn.Module):
    """Motion from differences of the features of consecutive frames, at four depths (Sec. 3.1)."""

    def __init__(
        self, channels: int, num_frames: int, width: int, *, spatial_modulation: bool, fusion: str
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.stages = ["stage4"] if fusion == "single" else list(STAGE_BLOCKS)
        differences = (num_frames - 1) * channels
        self.intra = nn.ModuleDict(
            {s: residual_chain(differences, width, STAGE_BLOCKS[s]) for s in self.stages}
        )
        self.modulate = nn.ModuleDict(
            {s: ModulatedSampling(width) if spatial_modulation else nn.Identity() for s in self.stages}
        )
        if fusion == "progressive":
            # silent: "several 3x3 convolutions" are two residual blocks; with one, no width meets both the
            # published parameters and the published multiply-adds with 12 offset groups.
            self.accumulate = nn.ModuleDict({s: residual_chain(width, width, 2) for s in self.stages})
        elif fusion == "concat":
            self.accumulate = nn.ModuleDict({"all": residual_chain(len(self.stages) * width, width, 2)})

    def forward(self, clip: Features) -> Tensor:
        """Features [B, T, C, h, w] of each stage -> motion M [B, width, h, w]."""
        modulated = {}
        for stage in self.stages:
            frames = clip[stage]
            differences = frames[:, 1:] - frames[:, :-1]  # Eq. 1: [B, T - 1, C, h, w]
            motion = self.intra[stage](differences.flatten(1, 2))  # Eq. 2: D^j [B, width, h, w]
            modulated[stage] = self.modulate[stage](motion)  # Eqs. 3, 4
        if self.fusion == "single":
            return modulated["stage4"]
        if self.fusion == "concat":
            return self.accumulate["all"](torch.cat(list(modulated.values()), dim=1))
        total: Tensor | None = None
        for stage, motion in modulated.items():  # Eq. 5
            total = self.accumulate[stage](motion if total is None else total + motion)
        assert total is not None
        return total


class RepresentationFactorization(nn.Module):
    """Useful and noisy parts of motion (Eq. 6), or its two halves (Table 7 c).

    The noisy part serves the objective alone: nothing makes it in eval mode or where there is no objective.
    """

    def __init__(self, width: int, factorization: str, *, noisy: bool) -> None:
        super().__init__()
        self.split = width // 2 if factorization == "channel_split" else None
        self.useful_channels = self.split or width
        self.noisy_channels = width - self.split if self.split else width
        self.useful = None if self.split else _channel_attention(width)
        self.noisy = None if self.split or not noisy else _channel_attention(width)

    def forward(self, motion: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.useful is None:
            return motion[:, : self.split], motion[:, self.split :]
        useful = self.useful(motion) * motion  # Eq. 6
        noisy = self.noisy(motion) * motion if self.training and self.noisy is not None else None
        return useful, noisy


def _channel_attention(width: int, hidden: int = 128) -> nn.Sequential:
    """``sigmoid(MLP(GAP(x)))`` [B, width, 1, 1]; silent: 128 hidden units, as in public code."""
    layers = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1)]
    return nn.Sequential(*layers, nn.Sigmoid())
