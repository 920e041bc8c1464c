"""STDPose: spatiotemporal dynamics from sparsely labelled video (Jiao et al., AAAI 2025).

Equations 6 to 13 are those of the paper's appendix. A frame has L = h·w tokens of width C and J heatmaps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.attention import (
    Attention,
    Block,
    FeedForward,
    attention_heads,
    initialise_linear,
    learned_embedding,
    maps_of,
    tokens_of,
)
from vidpose.models.hrnet import conv_bn
from vidpose.models.information import MutualInformation, Term
from vidpose.models.layers import one_of
from vidpose.models.single_frame import ConvHead, DeconvHead, SimpleHead, heatmap_layer
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

PATCH = 4  # heatmap pixels on a side of a token

FEATURE_TERMS = (Term("fused", "label", -1), Term("fused", "key", +1))  # Eq. 11, first bracket
HEATMAP_TERMS = (Term("merged", "label", -1), Term("merged", "key", +1))  # Eq. 11, second bracket

# What alpha and beta multiply, see tdmi.OBJECTIVE_SCALE: the gradient of the MI part is 0.1 to 1 times that
# of the heatmap loss at initialisation, over TFF and TKS, which are all that the objective reaches
# (docs/methods/stdpose.md has the measurement).
OBJECTIVE_SCALE = {"club": 3e-4, "kl": 3e-4, "released": 0.1}
FIT_SCALE = 5e-4


class STDPose(PoseModel):
    """Poses of a key frame from auxiliary frames, with their labels (propagation) or without (estimation).

    Args:
        backbone: ViT with feature ``tokens`` at a sixteenth of the input, or HRNet: its ``stage4`` in patches
            of 4x4 is what tokens are there (ours; the paper has ViT alone).
        tff: temporal feature fusion; without it the key frame's own feature takes its place.
        tks: temporal keypoints synthesis; without it the key frame's own heatmaps take its place.
        dam: the dynamic-aware mask; without it heatmaps are not masked.
        stda: spatiotemporal dynamics aggregation; without it what TFF and TKS give is decoded directly
            (Table 4 a to c), and the mask has no place.
        mutual_information: the objective of Eq. 11.
        k, theta: of the modified sigmoid (Eq. 3).
        alpha, beta: weights of the two brackets of Eq. 11.
        estimator: of mutual information, see :class:`vidpose.models.information.MutualInformation`.
        time_distance: tell the network how far in time each frame is from the key frame.
        interval: T of the paper, the distance of labelled frames, by which time distances are divided.
        width: C; ``None``: the backbone's.
        tff_depth, stda_depth: transformer blocks of TFF and pose-aggregation blocks of STDA.
        head: ``"classic"`` or ``"simple"``: that of the single-frame model whose heatmaps are initial; with
            HRNet it is HRNet's own.
        head_width: channels of the classic heads' deconvolutions.
        matching: look in the key frame for what lies at the joints of the auxiliary frames, and correct the
            decoded heatmaps by it, see :class:`Matching` (ours, not the paper's).
    """

    name = "stdpose"
    takes_labels = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 3,
        num_joints: int = 15,
        input_size: tuple[int, int] = (256, 192),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        tff: bool = True,
        tks: bool = True,
        dam: bool = True,
        stda: bool = True,
        mutual_information: bool = True,
        k: float = 1.5,
        theta: float = 0.5,
        alpha: float = 0.1,
        beta: float = 0.01,
        estimator: str = "club",
        time_distance: bool = True,
        interval: int = 7,
        width: int | None = None,
        tff_depth: int = 2,
        stda_depth: int = 2,
        head: str = "classic",
        head_width: int = 256,
        matching: bool = False,
    ) -> None:
        one_of("head", head, ("classic", "simple"))
        least = {"interval": interval, "tff_depth": tff_depth, "stda_depth": stda_depth}
        least |= {"head_width": head_width, "width": 1 if width is None else width}
        for switch, value in least.items():
            if value < 1:
                raise InputError(f"{switch} is {value}: it must be at least 1")
        if not (math.isfinite(k) and math.isfinite(theta) and k > 0):
            raise InputError(f"k is {k} and theta is {theta}: k must be above 0 and both be finite")
        inputs: int = backbone.out_channels  # type: ignore[assignment]
        initial: nn.Module
        if backbone.family == "hrnet":
            initial = ConvHead(inputs, num_joints)
            inputs *= PATCH * PATCH
        elif head == "simple":
            initial = SimpleHead(inputs, num_joints)
        else:
            initial = DeconvHead("tokens", inputs, num_joints, layers=2, width=head_width)
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
            initial_head=initial,
        )
        width = width or inputs
        length = (input_size[0] // 16) * (input_size[1] // 16)
        fusion = synthesis = mask = aggregation = None
        if tff:
            fusion = TemporalFeatureFusion(
                inputs, num_frames, length, width, tff_depth, time_distance=time_distance
            )
        if tks:
            synthesis = TemporalKeypointsSynthesis(num_frames, num_joints)
        if stda and dam:
            mask = DynamicAwareMask(num_joints, k, theta)
        if stda:
            aggregation = SpatioTemporalDynamicsAggregation(
                num_joints, length, width, stda_depth, masked=dam, features=width if tff else inputs
            )
        self.head = STDPoseHead(
            num_frames,
            num_joints,
            width if tff or stda else inputs,
            fusion,
            synthesis,
            mask,
            aggregation,
            Matching(inputs, num_frames, num_joints) if matching else None,
            interval=interval,
            head_width=head_width,
        )
        self.alpha, self.beta = alpha, beta
        self.feature_information: MutualInformation | None = None
        self.heatmap_information: MutualInformation | None = None
        if mutual_information and tff:
            sizes = {"fused": width, "key": inputs, "label": num_joints}
            self.feature_information = MutualInformation(FEATURE_TERMS, sizes, estimator=estimator)
        if mutual_information and tks:
            sizes = {"merged": num_joints, "key": num_joints, "label": num_joints}
            self.heatmap_information = MutualInformation(HEATMAP_TERMS, sizes, estimator=estimator)

    def extract(self, frames: Tensor) -> Features:
        """Features of single frames: ``tokens`` [N, D, H/16, W/16] and ``heatmaps`` [N, J, H/4, W/4]."""
        features = super().extract(frames)
        tokens = features.get("tokens")
        if tokens is None:
            tokens = F.pixel_unshuffle(features["stage4"], PATCH)
        return {"tokens": tokens, "heatmaps": features["heatmaps"]}

    def forward(
        self,
        clips: Tensor,
        *,
        given_heatmaps: Tensor | None = None,
        given_mask: Tensor | None = None,
        times: Tensor | None = None,
    ) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4].

        Args:
            given_heatmaps: [B, T, J, h, w], Gaussians of labels that are known.
            given_mask: [B, T] bool, of which frames; ``None``: of all but the key frame.
            times: [B, T] times of the frames, in frames, relative to the key frame's 0; ``None``: direct
                neighbours.
        """
        self._check(clips, 5)
        features = self.extract(clips.flatten(0, 1))
        return self.head(features, given_heatmaps=given_heatmaps, given_mask=given_mask, times=times)

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """``heatmap`` (Eq. 4), ``mutual_information`` (Eq. 11), the fit of its heads, ``total`` (Eq. 5)."""
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)  # Eq. 4
        losses = {"heatmap": heatmap}
        fit = objective = heatmap.new_zeros(())
        # silent: features are compared with the label at their own grid; the largest value keeps its peak 1.
        label = {"label": F.max_pool2d(target_heatmaps, PATCH)}
        for prefix, weight, information, variables in (
            ("feature", self.alpha, self.feature_information, label),
            ("pose", self.beta, self.heatmap_information, {"label": target_heatmaps}),
        ):
            if information is None or not out.extras:
                continue
            names = ("fused", "key_feature") if prefix == "feature" else ("merged", "key_heatmaps")
            variables |= {names[0]: out.extras[names[0]], "key": out.extras[names[1]]}
            if information.estimator == "released" and prefix == "pose":
                variables["label"] = out.heatmaps  # see tdmi.py: public code takes the model's own heatmaps
            elif information.estimator == "released":
                variables["label"] = F.max_pool2d(out.heatmaps, PATCH)
            found = information(variables, weights)
            scale = OBJECTIVE_SCALE[information.estimator]
            objective = objective + weight * scale * found.pop("objective")  # Eq. 11
            fit = fit + FIT_SCALE * found.pop("fit")
            losses |= {f"information/{prefix}_{name}": value for name, value in found.items()}
        if len(losses) > 1:
            losses |= {"mutual_information": objective, "information_fit": fit}
        return {**losses, "total": heatmap + objective + fit}  # Eq. 5


class STDPoseHead(nn.Module):
    """All that STDPose trains: features and heatmaps of a clip -> heatmaps of its key frame."""

    def __init__(
        self,
        num_frames: int,
        num_joints: int,
        width: int,
        fusion: TemporalFeatureFusion | None,
        synthesis: TemporalKeypointsSynthesis | None,
        mask: DynamicAwareMask | None,
        aggregation: SpatioTemporalDynamicsAggregation | None,
        matching: Matching | None,
        *,
        interval: int,
        head_width: int,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.interval = interval
        self.fusion, self.synthesis, self.mask, self.aggregation = fusion, synthesis, mask, aggregation
        self.matching = matching
        by_feature = aggregation is not None or fusion is not None or synthesis is None
        self.decoder = (
            DeconvHead("tokens", width, num_joints, layers=2, width=head_width) if by_feature else None
        )
        # silent: what joins TFF and TKS where there is no STDA; a convolution over both heatmaps.
        both = aggregation is None and fusion is not None and synthesis is not None
        self.join = heatmap_layer(2 * num_joints, num_joints, 3) if both else None

    def forward(
        self,
        features: Features,
        *,
        given_heatmaps: Tensor | None = None,
        given_mask: Tensor | None = None,
        times: Tensor | None = None,
    ) -> PoseOutput:
        clip = clip_features(features, self.num_frames)
        tokens, heatmaps = clip["tokens"], clip["heatmaps"]  # F [B, T, D, h', w'], H [B, T, J, h, w]
        key = self.num_frames // 2
        if given_heatmaps is not None:
            heatmaps = self._given(heatmaps, given_heatmaps, given_mask)
        fused = tokens_of(tokens[:, key])  # [B, L, D]
        times = self._times(times, tokens)
        if self.fusion is not None:
            fused = self.fusion(tokens_of(tokens), times)  # F~ [B, L, C]
        merged = heatmaps[:, key]
        if self.synthesis is not None:
            merged = self.synthesis(heatmaps)  # H~ [B, J, h, w], Eq. 6
        grid = (tokens.shape[-2], tokens.shape[-1])
        if self.aggregation is not None:
            moving = None if self.mask is None else self.mask(heatmaps)  # M [B, 1, h, w]
            fused_heatmaps = self.aggregation(merged, moving, fused)  # Eq. 13
            assert self.decoder is not None
            final = self.decoder.decode(maps_of(fused_heatmaps, grid))
        elif self.decoder is None:
            final = merged
        else:
            final = self.decoder.decode(maps_of(fused, grid))
            if self.join is not None:
                final = self.join(torch.cat([final, merged], dim=1))
        if self.matching is not None:
            final = self.matching(final, merged, heatmaps, tokens, times)
        if not self.training:
            return PoseOutput(final)
        extras = {"fused": maps_of(fused, grid), "merged": merged}
        return PoseOutput(final, {**extras, "key_feature": tokens[:, key], "key_heatmaps": heatmaps[:, key]})

    def _given(self, predicted: Tensor, given: Tensor, mask: Tensor | None) -> Tensor:
        """Heatmaps [B, T, J, h, w] with those of labelled frames in the place of predicted ones."""
        if given.shape != predicted.shape:
            raise ValueError(
                f"given_heatmaps must be {list(predicted.shape)} [B, T, J, h, w], got {list(given.shape)}"
            )
        if mask is None:
            mask = torch.ones(predicted.shape[:2], dtype=torch.bool, device=predicted.device)
            mask[:, self.num_frames // 2] = False
        if mask.shape != predicted.shape[:2]:
            raise ValueError(f"given_mask must be {list(predicted.shape[:2])} [B, T], got {list(mask.shape)}")
        return torch.where(mask.bool()[..., None, None, None], given.to(predicted.dtype), predicted)

    def _times(self, times: Tensor | None, like: Tensor) -> Tensor:
        """Times of the frames [B, T, 2]: over the interval, and over the whole span of the clip."""
        if times is None:
            half = self.num_frames // 2
            times = torch.arange(-half, half + 1, device=like.device).expand(like.shape[0], -1)
        if times.shape != like.shape[:2]:
            raise ValueError(f"times must be {list(like.shape[:2])} [B, T], got {list(times.shape)}")
        times = times.to(like.dtype)
        span = (times.amax(dim=1, keepdim=True) - times.amin(dim=1, keepdim=True)).clamp(min=1)
        return torch.stack([times / self.interval, times / span], dim=-1)


class Matching(nn.Module):
    """What lies at the joints of the auxiliary frames, looked for in the key frame (ours, not the paper's).

    TFF and STDA see labels in tokens of 4x4 heatmap pixels, too coarse to say how far a joint has moved. Here
    the feature under each joint of an auxiliary frame, its mean over the joint's heatmap, is compared with
    that of every heatmap pixel of the key frame. Convolutions over the similarities, beside the heatmaps,
    what is decoded and the time distances, correct what is decoded.

    Args:
        inputs: channels of a token; a sixteenth of them is taken for each heatmap pixel.

    Raises:
        InputError: they cannot be shared out so.
    """

    DESCRIPTORS, WIDTH = 32, 64

    def __init__(self, inputs: int, num_frames: int, num_joints: int) -> None:
        super().__init__()
        if inputs % PATCH**2:
            raise InputError(f"matching needs tokens of a multiple of {PATCH**2} channels, not of {inputs}")
        self.describe = nn.Sequential(
            conv_bn(inputs // PATCH**2, self.DESCRIPTORS, 3), nn.Conv2d(self.DESCRIPTORS, self.DESCRIPTORS, 1)
        )
        others = num_frames - 1
        seen = num_joints * (2 + num_frames + others) + others
        self.layers = nn.Sequential(
            conv_bn(seen, self.WIDTH, 3),
            nn.Conv2d(self.WIDTH, self.WIDTH, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(self.WIDTH),
            nn.ReLU(inplace=True),
            heatmap_layer(self.WIDTH, num_joints, 3),
        )

    def forward(
        self, decoded: Tensor, merged: Tensor, heatmaps: Tensor, tokens: Tensor, times: Tensor
    ) -> Tensor:
        """Better heatmaps [B, J, h, w] of the key frame.

        Args:
            decoded, merged: [B, J, h, w], what STDA's tokens were decoded to, and H~.
            heatmaps: [B, T, J, h, w]. tokens: [B, T, D, h/4, w/4].
            times: [B, T, 2], of which the first is over the interval.
        """
        key = heatmaps.shape[1] // 2
        others = [t for t in range(heatmaps.shape[1]) if t != key]
        found = self.similarities(tokens, heatmaps, key, others).flatten(1, 2)
        away = times[:, others, :1, None].expand(-1, -1, *decoded.shape[-2:])
        seen = [decoded, merged, heatmaps.flatten(1, 2), away, found]
        return decoded + self.layers(torch.cat([x.to(decoded.dtype) for x in seen], dim=1))

    def similarities(self, tokens: Tensor, heatmaps: Tensor, key: int, others: list[int]) -> Tensor:
        """[B, T - 1, J, h, w]: cosines of each joint's feature in other frames and those of the key frame."""
        maps = self.describe(F.pixel_shuffle(tokens.flatten(0, 1), PATCH))
        maps = F.normalize(maps.float(), dim=1).unflatten(0, tokens.shape[:2])  # [B, T, C, h, w]
        weights = heatmaps[:, others].float().clamp(min=0)
        weights = weights / weights.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-6)
        joints = F.normalize(torch.einsum("btjhw,btchw->btjc", weights, maps[:, others]), dim=-1)
        return torch.einsum("btjc,bchw->btjhw", joints, maps[:, key])


class TemporalFeatureFusion(nn.Module):
    """TFF: tokens of all frames through transformer blocks, then one MLP over the frames (Sec. 3.1)."""

    def __init__(
        self, inputs: int, num_frames: int, length: int, width: int, depth: int, *, time_distance: bool
    ) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, width) if inputs != width else nn.Identity()
        self.position = learned_embedding(num_frames, length, width)  # PE
        # silent: auxiliary frames may be 1 to T - 1 frames away and the paper does not tell the network.
        self.time = (
            nn.Sequential(nn.Linear(2, width), nn.GELU(), nn.Linear(width, width)) if time_distance else None
        )
        # silent: depth and heads.
        self.blocks = nn.Sequential(*(Block(width, attention_heads(width, 12)) for _ in range(depth)))
        self.norm = nn.LayerNorm(num_frames * width)
        # silent: the MLP sees the same place in all frames, T·C -> C.
        self.mlp = nn.Sequential(nn.Linear(num_frames * width, width), nn.GELU(), nn.Linear(width, width))
        initialise_linear(self)

    def forward(self, tokens: Tensor, times: Tensor) -> Tensor:
        """Tokens [B, T, L, D], times [B, T, 2] -> F~ [B, L, C]."""
        x = self.project(tokens) + self.position
        if self.time is not None:
            x = x + self.time(times)[:, :, None]
        encoded = self.blocks(x.flatten(1, 2)).view_as(x)  # all frames' tokens together, [B, T·L, C]
        return self.mlp(self.norm(encoded.transpose(1, 2).flatten(2)))  # [B, L, T·C] -> [B, L, C]


class TemporalKeypointsSynthesis(nn.Module):
    """TKS: each joint over time, then all joints, then both beside the heatmaps themselves (Eq. 6)."""

    def __init__(self, num_frames: int, num_joints: int) -> None:
        super().__init__()
        joints, sequence = num_joints, num_frames * num_joints
        # silent: convolutional blocks are one 3x3 convolution with BatchNorm and ReLU; the last is linear.
        self.temporal = nn.Sequential(
            nn.Conv2d(sequence, joints, 3, padding=1, groups=joints, bias=False),
            nn.BatchNorm2d(joints),
            nn.ReLU(inplace=True),
        )
        self.spatial = conv_bn(joints, joints, 3)
        self.synthesis = heatmap_layer(joints + sequence, joints, 3)
        with torch.no_grad():  # silent: it starts as the key frame's own heatmaps
            first = joints + (num_frames // 2) * joints
            for j in range(joints):
                self.synthesis.weight[j, first + j, 1, 1] = 1.0

    def forward(self, heatmaps: Tensor) -> Tensor:
        """H [B, T, J, h, w] -> H~ [B, J, h, w]."""
        by_joint = self.temporal(heatmaps.transpose(1, 2).flatten(1, 2))  # [B, J·T, h, w], joint by joint
        return self.synthesis(torch.cat([self.spatial(by_joint), heatmaps.flatten(1, 2)], dim=1))  # Eq. 6


class DynamicAwareMask(nn.Module):
    """DAM: where heatmaps move, forward and backward (Sec. 3.2)."""

    def __init__(self, num_joints: int, k: float, theta: float) -> None:
        super().__init__()
        self.k, self.theta = k, theta
        # silent: each direction compresses its own channels; no bias, which the softmax would cancel.
        self.forward_channel = nn.Conv2d(num_joints, 1, 1, bias=False)
        self.backward_channel = nn.Conv2d(num_joints, 1, 1, bias=False)
        self.direction = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, heatmaps: Tensor) -> Tensor:
        """H [B, T, J, h, w] -> M [B, 1, h, w] whose mean is 1."""
        key = heatmaps.shape[1] // 2
        residuals = heatmaps[:, 1:] - heatmaps[:, :-1]
        moving = torch.sigmoid(self.k * (residuals.abs() - self.theta))  # Eq. 3
        # silent: with more than two auxiliary frames, the mean over the residuals of a side.
        after = self.forward_channel(moving[:, key:].mean(dim=1))
        before = self.backward_channel(moving[:, :key].mean(dim=1))
        total = self.direction[0] * after + self.direction[1] * before  # [B, 1, h, w]
        mask = total.float().flatten(1).softmax(dim=1).view_as(total)
        # silent: times the number of positions, or masked heatmaps would be nothing.
        return mask * (mask.shape[-2] * mask.shape[-1])


class SpatioTemporalDynamicsAggregation(nn.Module):
    """STDA: heatmap tokens query the fused feature (Eqs. 12, 13)."""

    def __init__(
        self, num_joints: int, length: int, width: int, depth: int, *, masked: bool, features: int
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d((2 if masked else 1) * num_joints, width, PATCH, PATCH)
        self.position = learned_embedding(length, width)
        self.blocks = nn.ModuleList(PoseAggregation(width, features) for _ in range(depth))  # silent: N
        self.norm = nn.LayerNorm(width)

    def forward(self, merged: Tensor, mask: Tensor | None, fused: Tensor) -> Tensor:
        """H~ [B, J, h, w], M [B, 1, h, w], F~ [B, L, C] -> tokens [B, L, C]."""
        seen = merged if mask is None else torch.cat([merged * mask.to(merged.dtype), merged], dim=1)
        x = tokens_of(self.embed(seen)) + self.position
        for block in self.blocks:
            x = block(x, fused)
        return self.norm(x)


class PoseAggregation(nn.Module):
    """PA: self-attention, cross-attention to the feature (Eq. 12), feed-forward; LayerNorm before each."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        heads = attention_heads(width, 12)
        self.norm_self, self.norm_cross, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.norm_feature = nn.LayerNorm(features)
        self.self_attention = Attention(width, heads)
        self.cross_attention = Attention(width, heads, features)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor, fused: Tensor) -> Tensor:
        x = x + self.self_attention(self.norm_self(x))
        x = x + self.cross_attention(self.norm_cross(x), self.norm_feature(fused))  # Eq. 12
        return x + self.feed_forward(self.norm_out(x))
