"""VREMD: visual representation enhancement and motion disentanglement (Jiao et al., AAAI 2025).

Full title: "Optimizing Human Pose Estimation Through Focused Human and Joint Regions". Equations are the
paper's. A clip has T frames, a frame L = h·w tokens of width D; the key frame is the middle one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.attention import (
    Attention,
    Block,
    FeedForward,
    attention_heads,
    learned_embedding,
    maps_of,
    tokens_of,
)
from vidpose.models.layers import DeformConv2d, dilated_conv, offset_groups, one_of
from vidpose.models.single_frame import DeconvHead
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features, heatmap_loss

HEADS = 16  # silent: at most; those of ViT-L, 64 channels each


class VREMD(PoseModel):
    """Multi-frame pose estimation from tokens masked to human and joints, and from motion of two directions.

    Without ``hkme`` and ``bmd`` it is the paper's baseline (Table 4): the backbone and a detection head.

    Args:
        backbone: ViT with feature ``tokens`` at a sixteenth of the input.
        hkme: the Human-Keypoint Mask Enhanced module. Without it the ADC blocks receive the key frame's
            backbone feature in place of F, and there are no keypoint tokens: the output is H_m alone.
        bmd: the Bidirectional Motion Disentanglement module. Without it F takes the place of M in H_m.
        human_mask: Eq. 1. Without it (Table 5 a, c) F_c is the backbone's feature.
        keypoint_mask: Eq. 2. Without it (Table 5 a, b) F_f is F_c, and there are no keypoint tokens.
        motion: what the ADC blocks sample with: ``"dca"``, deformable cross attention (Eq. 4);
            ``"deformable_attention"``: offsets and weights from the motion alone (Table 6, DA); or
            ``"deformable_conv"``: deformable convolutions replace the ADC blocks (Table 6, DC).
        bidirectional: forward and backward motion in separate branches; else they are merged and processed
            jointly (Table 6, BS).
        supervise_each: also a loss on each of H_k and H_m; the paper has one on their mean alone (Eq. 5).
        width: D; ``None``: the backbone's, else a linear layer projects its tokens.
        human_depth, keypoint_depth, aggregation_depth, adc_depth: numbers of blocks.
        num_samples: N of Eq. 4.
        head_width: channels of the deconvolutions that decode H_m.
    """

    name = "vremd"
    detection_head = "head.motion_heatmaps."

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 3,
        num_joints: int = 15,
        input_size: tuple[int, int] = (256, 192),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        hkme: bool = True,
        bmd: bool = True,
        human_mask: bool = True,
        keypoint_mask: bool = True,
        motion: str = "dca",
        bidirectional: bool = True,
        supervise_each: bool = False,
        width: int | None = None,
        human_depth: int = 2,
        keypoint_depth: int = 2,
        aggregation_depth: int = 1,
        adc_depth: int = 2,
        num_samples: int = 4,
        head_width: int = 256,
    ) -> None:
        super().__init__(
            backbone,
            num_frames=num_frames,
            num_joints=num_joints,
            input_size=input_size,
            sigma=sigma,
            freeze_backbone=freeze_backbone,
        )
        one_of("motion", motion, ("dca", "deformable_attention", "deformable_conv"))
        sizes = {"human_depth": human_depth, "keypoint_depth": keypoint_depth, "adc_depth": adc_depth}
        sizes |= {"aggregation_depth": aggregation_depth, "num_samples": num_samples}
        sizes |= {"head_width": head_width, "width": 1 if width is None else width}
        for switch, value in sizes.items():
            if value < 1:
                raise InputError(f"{switch} is {value}: it must be at least 1")
        channels: int = backbone.out_channels  # type: ignore[assignment]
        dim = channels if width is None else width
        enhance: HumanKeypointMaskEnhanced | None = None
        if hkme:
            human = HumanMask(dim, num_frames, human_depth) if human_mask else None
            keypoint = KeypointMask(dim, num_frames, num_joints, keypoint_depth) if keypoint_mask else None
            enhance = HumanKeypointMaskEnhanced(dim, num_frames, human, keypoint, aggregation_depth)
        disentangle: BidirectionalMotionDisentanglement | None = None
        grid = (self.input_size[0] // 16, self.input_size[1] // 16)
        if bmd:
            branch = _branch(motion, dim, grid, num_samples)
            disentangle = BidirectionalMotionDisentanglement(
                dim, num_frames, adc_depth, branch, bidirectional=bidirectional
            )
        # silent: how M and F_t are aggregated; a linear layer of both that starts as F_t, with up-sampling by
        # ViTPose's classic head. So a trained single-frame head is where H_m starts.
        gather = _gathering(dim, channels) if hkme or bmd else None
        by_motion = DeconvHead("tokens", channels, num_joints, layers=2, width=head_width)
        by_keypoints: FeedForward | None = None
        if hkme and keypoint_mask:
            by_keypoints = FeedForward(dim, 1.0, self.heatmap_size[0] * self.heatmap_size[1])
            nn.init.normal_(by_keypoints[2].weight, std=0.001)  # type: ignore[arg-type] # as heatmap_layer
        project = nn.Identity() if width is None else nn.Linear(channels, dim)
        self.head = VREMDHead(num_frames, project, enhance, disentangle, by_keypoints, gather, by_motion)
        self.supervise_each = supervise_each

    def forward(self, clips: Tensor) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4]."""
        return super().forward(clips)

    def losses(self, out: PoseOutput, target_heatmaps: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """``heatmap`` (Eq. 5), with ``supervise_each`` also ``keypoint_heatmap`` and ``motion_heatmap``.

        ``total`` is their sum. In eval mode, and where a model has no H_k, there is only the first.
        """
        losses = {"heatmap": heatmap_loss(out.heatmaps, target_heatmaps, weights)}  # Eq. 5
        if self.supervise_each:
            for name, heatmaps in out.extras.items():
                losses[name] = heatmap_loss(heatmaps, target_heatmaps, weights)
        return {**losses, "total": torch.stack(list(losses.values())).sum()}


class VREMDHead(nn.Module):
    """All that VREMD trains: per-frame tokens of a clip -> heatmaps of its key frame."""

    def __init__(
        self,
        num_frames: int,
        project: nn.Module,
        enhance: HumanKeypointMaskEnhanced | None,
        disentangle: BidirectionalMotionDisentanglement | None,
        keypoint_heatmaps: FeedForward | None,
        gather: nn.Linear | None,
        motion_heatmaps: DeconvHead,
    ) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.project = project
        self.enhance = enhance
        self.disentangle = disentangle
        self.keypoint_heatmaps = keypoint_heatmaps
        self.gather = gather
        self.motion_heatmaps = motion_heatmaps

    def forward(self, features: Features) -> PoseOutput:
        maps = clip_features(features, self.num_frames)["tokens"]  # [B·T, D, h, w] -> [B, T, D, h, w]
        tokens = tokens_of(maps)
        frames = self.project(tokens)  # [B, T, L, D]
        middle = self.num_frames // 2
        motion = enhanced = frames[:, middle]  # Table 4 (b): ADC blocks receive the backbone's feature
        keypoints = None
        if self.enhance is not None:
            enhanced, keypoints = self.enhance(frames)  # F, T_t: Eqs. 1, 2
            motion = enhanced  # silent: what is decoded where there is no motion (Table 4 a)
        if self.disentangle is not None:
            motion = self.disentangle(frames, enhanced)  # M: Eq. 4
        decoded = tokens[:, middle]  # F_t
        if self.gather is not None:
            decoded = self.gather(torch.cat([motion, decoded], dim=-1))
        by_motion = self.motion_heatmaps.decode(maps_of(decoded, (maps.shape[-2], maps.shape[-1])))  # H_m
        if self.keypoint_heatmaps is None or keypoints is None:
            return PoseOutput(by_motion)
        by_keypoints = self.keypoint_heatmaps(keypoints).unflatten(-1, by_motion.shape[-2:])  # H_k
        extras = {"keypoint_heatmap": by_keypoints, "motion_heatmap": by_motion}
        # silent: whether "adding with equal weights" is sum or mean; the mean keeps H_k and H_m heatmaps.
        return PoseOutput((by_keypoints + by_motion) / 2, extras if self.training else {})


def _gathering(width: int, channels: int) -> nn.Linear:
    """[motion, key frame] [..., width + channels] -> [..., channels]; it starts as the key frame."""
    layer = nn.Linear(width + channels, channels)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight[:, width:] = torch.eye(channels)
    return layer


# --- Human-Keypoint Mask Enhanced module ---------------------------------------------------------------


class HumanKeypointMaskEnhanced(nn.Module):
    """HKME: tokens of all frames, masked coarse to fine, become one enhanced feature of the clip."""

    def __init__(
        self, width: int, num_frames: int, human: HumanMask | None, keypoint: KeypointMask | None, depth: int
    ) -> None:
        super().__init__()
        # silent: in the paper nothing tells the tokens of one frame from those of another.
        self.time = learned_embedding(num_frames, 1, width)
        self.human = human
        self.keypoint = keypoint
        self.aggregate = SpatioTemporalAggregation(width, num_frames, depth)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, T, L, D] -> F [B, L, D], keypoint tokens T_t of the key frame [B, J, D]."""
        x = frames + self.time
        key_tokens = None
        if self.human is not None:
            x = self.human(x)  # F_c
        if self.keypoint is not None:
            x, tokens = self.keypoint(x)  # F_f, T_k
            key_tokens = tokens[:, tokens.shape[1] // 2]
        return self.aggregate(x), key_tokens


class HumanMask(nn.Module):
    """A class token in each frame learns what human is, and weighs the frame's tokens (Eq. 1)."""

    def __init__(self, width: int, num_frames: int, depth: int) -> None:
        super().__init__()
        self.token = learned_embedding(num_frames, 1, width)  # T_h
        self.blocks = _blocks(width, depth)
        self.norm = nn.LayerNorm(width)  # silent: pre-norm blocks end with one

    def forward(self, frames: Tensor) -> Tensor:
        """[B, T, L, D] -> F_c of that shape."""
        tokens = self.token.to(frames.dtype).expand(frames.shape[0], -1, -1, -1)
        x = torch.cat([tokens, frames], dim=2).flatten(0, 1)  # [B·T, 1 + L, D]: each frame by itself
        x = self.norm(self.blocks(x)).unflatten(0, frames.shape[:2])
        token, visual = x[:, :, :1], x[:, :, 1:]  # T_h, F̄
        return visual * human_mask(visual, token)  # Eq. 1


class KeypointMask(nn.Module):
    """J keypoint tokens per frame look for their joints in all frames, and weigh all tokens (Eq. 2)."""

    def __init__(self, width: int, num_frames: int, num_joints: int, depth: int) -> None:
        super().__init__()
        self.tokens = learned_embedding(num_frames, num_joints, width)  # T_k
        self.blocks = _blocks(width, depth)
        self.norm = nn.LayerNorm(width)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """F_c [B, T, L, D] -> F_f of that shape, keypoint tokens [B, T, J, D]."""
        num_frames, num_joints, _ = self.tokens.shape
        split = num_frames * num_joints
        tokens = self.tokens.to(frames.dtype).flatten(0, 1).expand(frames.shape[0], -1, -1)
        x = torch.cat([tokens, frames.flatten(1, 2)], dim=1)  # [B, T·J + T·L, D]
        x = self.norm(self.blocks(x))
        tokens, visual = x[:, :split], x[:, split:]  # T̂_k, F̂
        refined = visual * keypoint_mask(visual, tokens)
        return refined.unflatten(1, frames.shape[1:3]), tokens.unflatten(1, (num_frames, num_joints))


def human_mask(visual: Tensor, token: Tensor) -> Tensor:
    """``Mask_h`` of Eq. 1: visual [..., L, D] and token [..., 1, D] -> [..., L, 1].

    silent: the paper has no scale; without 1/√D the products of normalised tokens are of size √D.
    """
    return visual @ token.transpose(-1, -2) / math.sqrt(visual.shape[-1])


def keypoint_mask(visual: Tensor, tokens: Tensor) -> Tensor:
    """``Mask_k`` of Eq. 2: visual [B, S, D] of all frames and their K keypoint tokens [B, K, D] -> [B, S, 1].

    Each token's softmax over the S places sums to 1. silent: the scale 1/√D in it, and that the sum over the
    tokens is divided by its mean K/S, or the mask would shrink features more the more places there are.
    """
    scores = tokens @ visual.transpose(1, 2) / math.sqrt(visual.shape[-1])  # Map [B, K, S]
    places, count = visual.shape[1], tokens.shape[1]
    return scores.softmax(dim=-1).sum(dim=1)[..., None] * (places / count)  # Eq. 2


class SpatioTemporalAggregation(nn.Module):
    """Attention in each frame, then over the frames at each place; an MLP makes one of T tokens."""

    def __init__(self, width: int, num_frames: int, depth: int) -> None:
        super().__init__()
        self.spatial = _blocks(width, depth)
        self.temporal = _blocks(width, depth)
        # silent: the MLP acts on the T frames of each place and channel. It starts as PyTorch's layers do:
        # with so few inputs, transformers' start would make F vanish.
        hidden = 4 * num_frames
        last = nn.Linear(hidden, 1, bias=False)  # one for all channels, which a LayerNorm takes away
        self.mlp = nn.Sequential(nn.Linear(num_frames, hidden), nn.GELU(), last)

    def forward(self, frames: Tensor) -> Tensor:
        """F_f [B, T, L, D] -> F [B, L, D]."""
        batch, length = frames.shape[0], frames.shape[2]
        x = self.spatial(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        x = x.transpose(1, 2).flatten(0, 1)  # [B, T, L, D] -> [B·L, T, D]
        x = self.temporal(x).transpose(1, 2)  # [B·L, D, T]
        return self.mlp(x)[..., 0].unflatten(0, (batch, length))


def _blocks(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(Block(width, attention_heads(width, HEADS)) for _ in range(depth)))


# --- Bidirectional Motion Disentanglement module -------------------------------------------------------


class BidirectionalMotionDisentanglement(nn.Module):
    """BMD: feature differences to both sides of the key frame -> the motion M of what F points at."""

    def __init__(
        self, width: int, num_frames: int, depth: int, branch: Callable[[], nn.Module], *, bidirectional: bool
    ) -> None:
        super().__init__()
        side = num_frames // 2
        # silent: longer clips; the differences of all frames of a side, concatenated, make its M_f or M_b.
        sides = (nn.Linear(side * width, width, bias=False) if side > 1 else nn.Identity() for _ in range(2))
        self.forwards, self.backwards = sides
        # silent: how the joint processing begins (Table 6 a-c); one linear layer of both directions.
        self.merge = nn.Identity() if bidirectional else nn.Linear(2 * width, width, bias=False)
        directions = 2 if bidirectional else 1
        self.blocks = nn.ModuleList(AdaptiveDeformableCross(width, directions, branch) for _ in range(depth))
        self.fuse = nn.Linear(directions * width, width)
        # silent: the start. With transformers' N(0, 0.02) hardly a gradient reaches F where D is small.
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, frames: Tensor, constraint: Tensor) -> Tensor:
        """Backbone features [B, T, L, D] and the enhanced feature F [B, L, D] -> M [B, L, D]."""
        key = frames.shape[1] // 2
        ahead = frames[:, key + 1 :] - frames[:, key : key + 1]  # F_{t+1} - F_t: [B, δ, L, D]
        behind = frames[:, :key].flip(1) - frames[:, key : key + 1]  # F_{t-1} - F_t
        forward = self.forwards(ahead.transpose(1, 2).flatten(2))  # M_f: [B, L, δ·D] -> [B, L, D]
        backward = self.backwards(behind.transpose(1, 2).flatten(2))  # M_b
        x = self.merge(torch.cat([forward, backward], dim=-1))
        for block in self.blocks:
            x = block(x, constraint)
        return self.fuse(x)


class AdaptiveDeformableCross(nn.Module):
    """ADC block: the motion of each direction, in a branch of its own, selected under the constraint F."""

    def __init__(self, width: int, directions: int, branch: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        # silent: whether directions share weights; they do not, being "decoupled".
        self.branches = nn.ModuleList(branch() for _ in range(directions))

    def forward(self, motion: Tensor, constraint: Tensor) -> Tensor:
        """Motion [B, L, directions·D], F [B, L, D] -> motion of the same shape."""
        constraint = self.norm(constraint)
        parts = motion.chunk(len(self.branches), dim=-1)
        return torch.cat([f(x, constraint) for f, x in zip(self.branches, parts, strict=True)], dim=-1)


def _branch(motion: str, width: int, grid: tuple[int, int], samples: int) -> Callable[[], nn.Module]:
    """What makes the branches of ADC blocks, by the switch ``motion``."""
    if motion == "deformable_conv":
        return lambda: DeformableConvolutionBranch(width, grid)
    kind = DeformableCrossAttention if motion == "dca" else DeformableAttention
    heads = attention_heads(width, HEADS)
    return lambda: AttentionBranch(width, heads, kind(width, heads, grid, samples))


class AttentionBranch(nn.Module):
    """Deformable (cross) attention beside cross attention; an MLP of both.

    silent: normalisation and residual, here pre-norm as in the other blocks; and what cross attention is
    between, here from motion to F.
    """

    def __init__(self, width: int, heads: int, deformable: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.deformable = deformable
        self.cross = Attention(width, heads)
        self.mlp = FeedForward(2 * width, 1.0, width)

    def forward(self, motion: Tensor, constraint: Tensor) -> Tensor:
        x = self.norm(motion)
        found = [self.deformable(x, constraint), self.cross(x, constraint)]
        return motion + self.mlp(torch.cat(found, dim=-1))


class DeformableCrossAttention(nn.Module):
    """DCA (Eq. 4): every query of motion attends to N places, which the constraint F helps to find.

    Offsets are in ``grid_sample``'s unit, borders of the map at -1 and 1, and bounded by a tanh: no query
    reaches further than half of the map. Each attention head has N places of its own.

    Args:
        width: D; heads: of D / heads channels each.
        grid: (h, w) of the tokens.
        samples: N.
    """

    def __init__(self, width: int, heads: int, grid: tuple[int, int], samples: int) -> None:
        super().__init__()
        self.heads, self.grid, self.samples = heads, grid, samples
        matrices = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.query, self.constraint, self.key, self.value = matrices  # W_q, W_z, W_k, W_v
        # silent: the convolution is 3x3, each head sees its own channels of q and z.
        self.context = nn.Conv2d(2 * width, width, 3, padding=1, groups=heads)  # psi
        self.offset = nn.Conv2d(width, heads * samples * 2, 1, groups=heads)  # theta
        _spread(self.offset.weight, self.offset.bias, heads, grid, samples)

    def forward(self, x: Tensor, constraint: Tensor) -> Tensor:
        """Motion x [B, L, D], constraint F [B, L, D] -> [B, L, D]."""
        q = heads_of(self.query(x), self.grid, self.heads)  # [B, G, d, h, w]
        z = heads_of(self.constraint(constraint), self.grid, self.heads)
        offset = self.offset(F.gelu(self.context(torch.cat([q, z], dim=2).flatten(1, 2))))
        # Sampling and W_k, W_v are both linear, so that projecting first gives the same with less work.
        projected = [heads_of(layer(x), self.grid, self.heads) for layer in (self.key, self.value)]
        found = sample(torch.cat(projected, dim=2), offset, self.samples)
        k, v = found.chunk(2, dim=2)  # W_k x̄_n, W_v x̄_n: [B, G, d, N, L]
        q = q.flatten(3)[:, :, :, None]  # [B, G, d, 1, L]
        weights = ((q * k).sum(dim=2, keepdim=True) / math.sqrt(q.shape[2])).softmax(dim=3)
        out = (weights * v).sum(dim=3)  # Eq. 4: [B, G, d, L]
        return out.flatten(1, 2).transpose(1, 2)


class DeformableAttention(nn.Module):
    """DA of Table 6 (Zhu et al., "Deformable DETR", ICLR 2021): offsets and weights from the query alone."""

    def __init__(self, width: int, heads: int, grid: tuple[int, int], samples: int) -> None:
        super().__init__()
        self.heads, self.grid, self.samples = heads, grid, samples
        self.weight = nn.Linear(width, heads * samples)
        self.value = nn.Linear(width, width, bias=False)
        self.offset = nn.Conv2d(width, heads * samples * 2, 1)
        _spread(self.offset.weight, self.offset.bias, heads, grid, samples)

    def forward(self, x: Tensor, constraint: Tensor) -> Tensor:
        """Motion x [B, L, D] -> [B, L, D]; the constraint is not used."""
        value = heads_of(self.value(x), self.grid, self.heads)
        found = sample(value, self.offset(maps_of(x, self.grid)), self.samples)  # [B, G, d, N, L]
        weights = self.weight(x).transpose(1, 2).unflatten(1, (self.heads, 1, self.samples)).softmax(dim=3)
        return (weights * found).sum(dim=3).flatten(1, 2).transpose(1, 2)


class DeformableConvolutionBranch(nn.Module):
    """DC of Table 6 (Dai et al., ICCV 2017): a deformable convolution in place of the ADC block.

    silent: what the offsets are read from; from motion and F, as those of DCA.
    """

    def __init__(self, width: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.norm = nn.LayerNorm(width)
        self.offset = dilated_conv(2 * width, 2 * 9 * offset_groups(width), dilation=1)
        self.deform = DeformConv2d(width, width)

    def forward(self, motion: Tensor, constraint: Tensor) -> Tensor:
        x = maps_of(self.norm(motion), self.grid)
        offset = self.offset(torch.cat([x, maps_of(constraint, self.grid)], dim=1))
        return motion + tokens_of(self.deform(x, offset))


def heads_of(tokens: Tensor, grid: tuple[int, int], heads: int) -> Tensor:
    """[B, L, D] -> [B, G, d, h, w]: the map of each of G heads."""
    return maps_of(tokens, grid).unflatten(1, (heads, -1))


def sample(maps: Tensor, offset: Tensor, samples: int) -> Tensor:
    """``phi(Δp + p_z)`` of Eq. 4: bilinear look-ups around the places of the regular grid.

    Args:
        maps: [B, G, d, h, w], one map for each of G heads.
        offset: [B, G·N·2, h, w] before the tanh; the last factor is x, y.
        samples: N.

    Returns:
        [B, G, d, N, h·w]; outside of the map is 0: no motion.
    """
    batch, heads, _, height, width = maps.shape
    wide = torch.promote_types(maps.dtype, torch.float32)  # positions need single precision
    moved = offset.to(wide).tanh().flatten(2).unflatten(1, (heads, samples, 2)).transpose(3, 4)
    y = (torch.arange(height, dtype=wide, device=maps.device) * 2 + 1) / height - 1
    x = (torch.arange(width, dtype=wide, device=maps.device) * 2 + 1) / width - 1
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    places = torch.stack([columns, rows], dim=-1).flatten(0, 1)  # p_z [h·w, 2], pixel centres
    found = F.grid_sample(
        maps.to(wide).flatten(0, 1),
        (places + moved).flatten(0, 1),  # [B·G, N, h·w, 2]
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return found.unflatten(0, (batch, heads)).to(maps.dtype)


def _spread(weight: Tensor, bias: Tensor | None, heads: int, grid: tuple[int, int], samples: int) -> None:
    """Starts offsets as Deformable DETR does: each head looks in its own direction, 1 to N tokens far.

    silent: the paper does not say; from zero offsets all N places would be one.
    """
    assert bias is not None
    start = []
    for head in range(heads):
        angle = 2 * math.pi * head / heads
        for n in range(1, samples + 1):
            steps = (n * math.cos(angle) * 2 / grid[1], n * math.sin(angle) * 2 / grid[0])
            start += [math.atanh(max(-0.9, min(0.9, step))) for step in steps]
    nn.init.trunc_normal_(weight, std=0.02)
    with torch.no_grad():
        bias.copy_(torch.tensor(start))
