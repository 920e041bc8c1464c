"""SDTC: semantical motion by masked reconstruction, and spatiotemporal collaboration (Feng and Chen).

"Learning Semantical Dynamics and SpatioTemporal Collaboration for Human Pose Estimation in Video": equations
are the paper's. A clip has T frames, a frame L = h·w tokens of width C.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.attention import (
    Attention,
    Block,
    FeedForward,
    attend,
    attention_heads,
    initialise_linear,
    learned_embedding,
    maps_of,
    sine_cosine_embedding,
    tokens_of,
)
from vidpose.models.flow import FlowEncoder, create_flow
from vidpose.models.hrnet import conv_bn
from vidpose.models.layers import one_of
from vidpose.models.single_frame import DeconvHead, SimpleHead
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

PATCH = 4  # heatmap pixels on a side of a token: a token covers 16 pixels of the input


class SDTC(PoseModel):
    """Multi-frame pose estimation from motion that is learned by recovering masked tokens and frames.

    Args:
        backbone: ViT with feature ``tokens`` at a sixteenth of the input.
        motion: ``"mlsme"``, the multi-level semantic motion encoder, or ``"flow"`` (Table 4: Optical Flow).
        fusion: of space and motion: ``"smml"``, ``"add"`` or ``"conv"`` (Table 4).
        patch_level, frame_level: the two motion encoders (Table 5). Without both, plain transformer blocks
            without masks take their place; frame level alone is not defined.
        masking_ratio: r of tube and frame masks; 0: no masks and no reconstruction.
        self_refinement, cross_propagation, adaptive_fusion: the three parts of SMML (Table 6). Without the
            last, both features are added.
        space_embedding, time_embedding: positional encodings (Table 7).
        context_weight: the paper's lambda (Eq. 15, Table 8).
        width: C; ``None``: 352 for ViT-B, which meets the published size, else as wide as the backbone, but
            at most 352.
        layers: joint and divided attention layers of each motion encoder, pairs of them.
        head: what up-samples in front of the heatmaps: ``"simple"``, bilinear and a 3x3 convolution, or
            ``"classic"``, two deconvolutions.
        head_width: channels of these.
        flow: ``"auto"``, ``"raft"`` or ``"dis"`` where ``motion="flow"``.
    """

    name = "sdtc"
    detection_head = "head.heatmaps."
    needs_sequence_targets = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 5,
        num_joints: int = 15,
        input_size: tuple[int, int] = (256, 192),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        motion: str = "mlsme",
        fusion: str = "smml",
        patch_level: bool = True,
        frame_level: bool = True,
        masking_ratio: float = 0.5,
        self_refinement: bool = True,
        cross_propagation: bool = True,
        adaptive_fusion: bool = True,
        space_embedding: bool = True,
        time_embedding: bool = True,
        context_weight: float = 0.01,
        width: int | None = None,
        layers: int = 1,
        head: str = "simple",
        head_width: int = 256,
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
        one_of("motion", motion, ("mlsme", "flow"))
        one_of("fusion", fusion, ("smml", "add", "conv"))
        one_of("head", head, ("simple", "classic"))
        if layers < 1 or (width is not None and width < 4):
            raise InputError(f"layers is {layers} and width is {width}: at least 1 and 4")
        if not 0 <= masking_ratio < 1:
            raise InputError(f"masking_ratio is {masking_ratio}: it must be in [0, 1)")
        if frame_level and not patch_level:
            raise InputError("frame_level needs patch_level: frames are masked in the patch-level feature")
        inputs: int = backbone.out_channels  # type: ignore[assignment]
        # silent: the width. The published parameters and multiply-adds agree with 352 channels over ViT-B.
        width = width or min(inputs, 352)
        grid = (input_size[0] // 16, input_size[1] // 16)
        encoder: nn.Module
        if motion == "flow":
            encoder = FlowMotion(num_frames, width, create_flow(flow))
        elif not patch_level:
            encoder = PlainMotion(width, 2 * layers)
        else:
            encoder = MultiLevelSemanticMotionEncoder(
                width, inputs, num_joints, frame_level=frame_level, ratio=masking_ratio, layers=layers
            )
        collaboration: nn.Module
        if fusion == "smml":
            collaboration = SpatialMotionMutualLearning(
                width, grid, refine=self_refinement, propagate=cross_propagation, adapt=adaptive_fusion
            )
        else:
            collaboration = PlainFusion(width, by_convolution=fusion == "conv")
        # silent: a 3x3 convolution alone cannot leave the tokens' 16x12. ViTPose's simple head is one behind
        # bilinear up-sampling.
        decoder: SimpleHead | DeconvHead = SimpleHead(inputs, num_joints)
        if head == "classic":
            decoder = DeconvHead("tokens", inputs, num_joints, layers=2, width=head_width)
        self.head = SDTCHead(
            inputs,
            num_frames,
            width,
            grid,
            encoder,
            collaboration,
            decoder,
            space_embedding=space_embedding,
            time_embedding=time_embedding,
        )
        self.context_weight = context_weight

    def extract(self, frames: Tensor) -> Features:
        features = super().extract(frames)
        if isinstance(self.head, SDTCHead) and isinstance(self.head.encoder, FlowMotion):
            return {**features, "frames": frames}
        return features

    def losses(
        self,
        out: PoseOutput,
        target_heatmaps: Tensor,
        weights: Tensor,
        sequence_heatmaps: Tensor | None = None,
        sequence_weights: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``heatmap`` (Eq. 14), ``context`` and ``pose`` (the two parts of Eq. 15), ``total`` (Eq. 16).

        Args:
            sequence_heatmaps: [B, T, J, h, w] of every frame of the clip; ``None``: only the key frame's.
            sequence_weights: [B, T, J], 0 where a frame or joint has no label.
        """
        heatmap = heatmap_loss(out.heatmaps, target_heatmaps, weights)  # Eq. 14
        if "masked" not in out.extras:
            return {"heatmap": heatmap, "total": heatmap}
        masked = out.extras["masked"]  # [B, T, L], 1 where a token was masked
        if sequence_heatmaps is None or sequence_weights is None:
            frames, key = masked.shape[1], masked.shape[1] // 2
            sequence_heatmaps = target_heatmaps[:, None].expand(-1, frames, -1, -1, -1)
            sequence_weights = weights.new_zeros(len(weights), frames, weights.shape[1])
            sequence_weights[:, key] = weights
        # silent: Eq. 15 multiplies both complementary masks, which keeps the tokens that both hide; the text
        # says "masked locations/frames", and the union is that.
        error = (out.extras["context"].float() - out.extras["tokens"].float()).abs().mean(dim=-1)
        context = self.context_weight * (error * masked).sum() / masked.sum().clamp(min=1)
        pose = self._masked_heatmap_loss(out.extras["poses"], sequence_heatmaps, sequence_weights, masked)
        return {"heatmap": heatmap, "context": context, "pose": pose, "total": heatmap + context + pose}

    @staticmethod
    def _masked_heatmap_loss(poses: Tensor, targets: Tensor, weights: Tensor, masked: Tensor) -> Tensor:
        """Squared error over the masked places of labelled joints [B, T, J, h, w]; Eq. 15's second part."""
        rows, columns = targets.shape[-2:]
        hidden = masked.unflatten(-1, (rows // PATCH, columns // PATCH))
        hidden = hidden.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)[:, :, None]
        error = (poses.float() - targets.float()).square() * hidden  # [B, T, J, h, w]
        per_joint = error.sum(dim=(-2, -1)) / hidden.sum(dim=(-2, -1)).clamp(min=1)  # [B, T, J]
        known = (weights > 0) & (hidden.sum(dim=(-2, -1)) > 0)
        # silent: a neighbour without a label has no pose to recover.
        return (per_joint * weights * known).sum() / known.sum().clamp(min=1)


class SDTCHead(nn.Module):
    """All that SDTC trains: tokens of a clip -> heatmaps of its key frame."""

    time: nn.Parameter | None

    def __init__(
        self,
        inputs: int,
        num_frames: int,
        width: int,
        grid: tuple[int, int],
        encoder: nn.Module,
        collaboration: nn.Module,
        decoder: SimpleHead | DeconvHead,
        *,
        space_embedding: bool,
        time_embedding: bool,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.grid = grid
        self.project = nn.Linear(inputs, width) if inputs != width else nn.Identity()
        initialise_linear(self.project)
        space = sine_cosine_embedding(*grid, width) if space_embedding else torch.zeros(1, 1, width)
        self.space: Tensor
        self.register_buffer("space", space, persistent=False)
        self.time = learned_embedding(num_frames, 1, width) if time_embedding else None
        self.encoder = encoder
        self.by_flow = isinstance(encoder, FlowMotion)
        # Sec. 3.2: "the features of each frame are concatenated in the channel dimension, and fed into
        # convolutions". silent: 1x1, which the published size asks for.
        self.gather_space = _gathering(num_frames, width)
        self.gather_motion = None if self.by_flow else _gathering(num_frames, width)
        self.collaboration = collaboration
        self.to_tokens = nn.Linear(width, inputs)
        nn.init.normal_(self.to_tokens.weight, std=0.001)
        nn.init.zeros_(self.to_tokens.bias)
        self.heatmaps = decoder

    def forward(self, features: Features) -> PoseOutput:
        clip = clip_features(features, self.num_frames)
        tokens = tokens_of(clip["tokens"])  # [B, T, D, h, w] -> [B, T, L, D]
        place = self.space if self.time is None else self.space + self.time  # [T or 1, L or 1, C]
        sequence = self.project(tokens) + place  # R: [B, T, L, C]
        extras: dict[str, Tensor] = {}
        if self.by_flow:
            motion = self.encoder(clip["frames"])  # [B, C, h, w]
        else:
            encoded, extras = self.encoder(sequence, place)  # Eqs. 1 to 5: [B, T, L, C]
            assert self.gather_motion is not None
            motion = self.gather_motion(self._maps(encoded))
        space = self.gather_space(self._maps(sequence))
        fused = self.collaboration(space, motion)  # Eqs. 6 to 13
        if extras:
            extras["tokens"] = tokens.detach()
            extras["poses"] = F.pixel_shuffle(maps_of(extras["poses"], self.grid), PATCH)  # [B, T, J, 4h, 4w]
        # silent: how the aggregated feature meets the head. It is added to the key frame's tokens, nearly 0
        # at the start, so that a trained single-frame head is where the detection head starts.
        decoded = tokens[:, self.num_frames // 2] + self.to_tokens(tokens_of(fused))
        heatmaps = self.heatmaps({"tokens": maps_of(decoded, self.grid)}).heatmaps
        return PoseOutput(heatmaps, extras if self.training else {})

    def _maps(self, sequence: Tensor) -> Tensor:
        """Frames side by side: [B, T, L, C] -> [B, T·C, h, w]."""
        return maps_of(sequence, self.grid).flatten(1, 2)


def _gathering(num_frames: int, width: int) -> nn.Conv2d:
    """The 1x1 convolution from all frames to one; silent: it starts as the key frame, and others near 0."""
    layer = nn.Conv2d(num_frames * width, width, 1)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    first = (num_frames // 2) * width
    with torch.no_grad():
        layer.weight[:, first : first + width, 0, 0] += torch.eye(width)
    return layer


# --- Sec. 3.1: multi-level semantic motion encoder -----------------------------------------------------


class MultiLevelSemanticMotionEncoder(nn.Module):
    """Motion M = R^P + R^F, and in training what was recovered of the masked tokens.

    silent: Eqs. 1 and 4 replace tokens whose place and time have been added before. As in masked autoencoders
    the learned token gets them again: masked tokens would else be all alike, and nothing could be recovered.
    """

    def __init__(
        self, width: int, inputs: int, num_joints: int, *, frame_level: bool, ratio: float, layers: int
    ) -> None:
        super().__init__()
        self.ratio = ratio
        self.patch_encoder = MotionEncoder(width, layers)
        self.frame_encoder = MotionEncoder(width, layers) if frame_level else None
        self.decoder = MotionDecoder(width, inputs, num_joints) if ratio > 0 else None
        self.patch_token = learned_embedding(width) if ratio > 0 else None  # L_c
        self.frame_token = learned_embedding(width) if ratio > 0 and frame_level else None  # L_f

    def forward(self, sequence: Tensor, place: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """R [B, T, L, C] and what stands in it for place and time -> M [B, T, L, C].

        In training also ``context``, ``poses`` and ``masked``.
        """
        batch, frames, length, _ = sequence.shape
        hide = self.training and self.decoder is not None
        if hide:
            assert self.patch_token is not None
            tube = random_mask(batch, length, self.ratio, sequence.device)[:, None]  # the same in all frames
            masked = tube.expand(-1, frames, -1)
            sequence = torch.where(tube[..., None], self.patch_token + place, sequence)  # Eq. 1
        by_patch = self.patch_encoder(sequence)  # R^P, Eqs. 2, 3
        motion = hybrid = by_patch
        if self.frame_encoder is not None:
            if hide:
                assert self.frame_token is not None
                # silent: whether the key frame may be hidden; it may.
                whole = random_mask(batch, frames, self.ratio, sequence.device)[..., None]
                masked = masked | whole
                hybrid = torch.where(whole[..., None], self.frame_token + place, by_patch)  # Eq. 4
            motion = by_patch + self.frame_encoder(hybrid)  # Eq. 5
        if not hide or self.decoder is None:
            return motion, {}
        context, poses = self.decoder(hybrid)
        return motion, {"context": context, "poses": poses, "masked": masked.to(sequence.dtype)}


def random_mask(batch: int, count: int, ratio: float, device: torch.device) -> Tensor:
    """[batch, count], true at ``ratio`` of the places, rounded, never none and never all of several."""
    hidden = min(max(round(ratio * count), 1), count - 1)
    order = torch.rand(batch, count, device=device).argsort(dim=1)
    return order < hidden


class MotionEncoder(nn.Module):
    """Joint space-time attention, then divided space-time attention (Fig. 4 a, b)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        # silent: how many layers of each are "mixed"; one pair, which the published size allows.
        self.layers = nn.Sequential(
            *(kind(width) for _ in range(layers) for kind in (JointAttention, DividedAttention))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, L, C] -> [B, T, L, C]."""
        return self.layers(x)


class JointAttention(nn.Module):
    """All tokens of all frames attend to each other (Eq. 2).

    silent: Eq. 2 shows neither normalisation nor residual; pre-norm with residual, as everywhere.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, attention_heads(width, 8))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1, 2)  # [B, T, L, C] -> [B, T·L, C]
        return x + self.attention(self.norm(tokens)).view_as(x)


class DividedAttention(nn.Module):
    """Attention over time at each place, over space in each frame, then a feed-forward network (Eq. 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        heads = attention_heads(width, 8)
        self.norm_time, self.norm_space, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.time = Attention(width, heads)
        self.space = Attention(width, heads)
        self.feed_forward = FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        y = self.norm_time(x).transpose(1, 2).flatten(0, 1)  # [B, T, L, C] -> [B·L, T, C]
        x = x + self.time(y).unflatten(0, (batch, -1)).transpose(1, 2)  # TA+
        y = self.norm_space(x).flatten(0, 1)  # [B·T, L, C]
        x = x + self.space(y).unflatten(0, (batch, frames))  # SA+
        return x + self.feed_forward(self.norm_out(x))


class MotionDecoder(nn.Module):
    """Recovers tokens and heatmaps from the masked feature: two self-attention layers, two MLP heads."""

    def __init__(self, width: int, inputs: int, num_joints: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(JointAttention(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.context = FeedForward(width, 1.0, inputs)
        self.pose = FeedForward(width, 1.0, num_joints * PATCH**2)  # silent: each token draws its 4x4 pixels

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, L, C] -> context [B, T, L, D] and the 4x4 heatmap pixels of every token [B, T, L, J·16]."""
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.context(x), self.pose(x)


class PlainMotion(nn.Module):
    """Table 5 (a): plain vision transformer blocks over all tokens, no masks, nothing recovered."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, attention_heads(width, 8)) for _ in range(depth)))

    def forward(self, sequence: Tensor, place: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """R [B, T, L, C] -> motion of that shape; ``place`` is not used."""
        return self.blocks(sequence.flatten(1, 2)).view_as(sequence), {}


class FlowMotion(nn.Module):
    """Table 4 (a, b): pixel-wise motion from optical flow, brought to the tokens' grid."""

    def __init__(self, num_frames: int, width: int, flow) -> None:
        super().__init__()
        self.encoder = FlowEncoder(num_frames, width, flow)
        self.down = nn.Sequential(conv_bn(width, width, 3, 2), conv_bn(width, width, 3, 2))

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, 3, H, W] -> [B, C, H/16, W/16]."""
        return self.down(self.encoder(frames))


# --- Sec. 3.2: spatial-motion mutual learning ----------------------------------------------------------


class SpatialMotionMutualLearning(nn.Module):
    """Space and motion refine themselves, tell each other, and are weighed pixel by pixel."""

    def __init__(
        self, width: int, grid: tuple[int, int], *, refine: bool, propagate: bool, adapt: bool
    ) -> None:
        super().__init__()
        self.refine_space = SelfRefinement(width) if refine else nn.Identity()
        self.refine_motion = SelfRefinement(width) if refine else nn.Identity()
        self.to_space = SpatialMotionCrossAttention(width) if propagate else None
        self.to_motion = SpatialMotionCrossAttention(width) if propagate else None
        self.fuse = AdaptiveFusion(width) if adapt else None

    def forward(self, space: Tensor, motion: Tensor) -> Tensor:
        """Two maps [B, C, h, w] -> one."""
        space, motion = self.refine_space(space), self.refine_motion(motion)  # Eqs. 6 to 8
        if self.to_space is not None and self.to_motion is not None:
            space, motion = self.to_space(space, motion), self.to_motion(motion, space)  # Eq. 10
        return space + motion if self.fuse is None else self.fuse(space, motion)


class SelfRefinement(nn.Module):
    """Pixels enhanced by the context features of their own modality, after OCR (Eqs. 6 to 8)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = conv_bn(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # [B, C, HW]
        regions = flat.float().log_softmax(dim=1)  # Eq. 6: log O, over channels
        # silent: Eq. 7 sums over all positions. Each region is divided by its mass, as in OCR (in logarithms,
        # as a region may be empty): its context is a mean of pixels. Divided by the number of positions it
        # would be C times smaller, and Eq. 8 flat.
        weights = regions.softmax(dim=-1).to(flat.dtype)
        context = flat @ weights.transpose(1, 2)  # Eq. 7: OC [B, C, C]
        relation = (flat.transpose(1, 2) @ context).softmax(dim=-1)  # Eq. 8: [B, HW, C]
        refined = (relation @ context.transpose(1, 2)).transpose(1, 2)
        # silent: the paper shows no residual; OCR keeps the pixel beside its context, without which the mean
        # over the whole image would take its place.
        return x + self.out(refined.unflatten(-1, x.shape[-2:]))


class SpatialMotionCrossAttention(nn.Module):
    """SMCA: what the guidance knows at every place, brought into the source (Eq. 9)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.value = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.key = nn.Conv2d(width, width, 1, bias=False)
        self.out = conv_bn(width, width, 1)

    def forward(self, source: Tensor, guidance: Tensor) -> Tensor:
        q, k, v = (
            tokens_of(self.query(source)),
            tokens_of(self.key(guidance)),
            tokens_of(self.value(guidance)),
        )
        found = attend(q, k, v)  # silent: d is the number of channels
        return self.out(source + maps_of(found, (source.shape[-2], source.shape[-1])))


class AdaptiveFusion(nn.Module):
    """Both features weighed by attention that sees both (Eqs. 11 to 13)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = conv_bn(2 * width, width, 1)
        self.weigh_space, self.weigh_motion = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.space, self.motion = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, space: Tensor, motion: Tensor) -> Tensor:
        mixed = self.mix(torch.cat([space, motion], dim=1))  # Eq. 11
        by_space = self.weigh_space(mixed).sigmoid()  # Eq. 12
        by_motion = self.weigh_motion(mixed).sigmoid()
        return by_space * self.space(space) + by_motion * self.motion(motion)  # Eq. 13


class PlainFusion(nn.Module):
    """Table 4: addition, or concatenation and a convolution, in place of SMML."""

    def __init__(self, width: int, *, by_convolution: bool) -> None:
        super().__init__()
        self.conv = conv_bn(2 * width, width, 3) if by_convolution else None

    def forward(self, space: Tensor, motion: Tensor) -> Tensor:
        return space + motion if self.conv is None else self.conv(torch.cat([space, motion], dim=1))
