"""PoseWarper: heatmaps of a neighbour warped to the key frame (Bertasius et al., NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidpose.errors import InputError
from vidpose.models.hrnet import init_residual
from vidpose.models.layers import DeformConv2d, check_dilations, one_of, residual_chain
from vidpose.models.single_frame import ConvHead
from vidpose.models.video_model import Features, PoseModel, PoseOutput, clip_features

DILATIONS = (3, 6, 12, 18, 24)

# What a frame 0, 1, 2 ... frames away from the key frame counts. The first three are those of public code for
# five frames, where they add up to 1. silent: farther frames; they go on falling as from the second to the
# third. Other clips' weights are scaled to a sum of 1.
TIME_WEIGHTS = (0.3, 0.25, 0.1)
TIME_DECAY = 0.4


class PoseWarper(PoseModel):
    """Single-frame heatmaps of all frames, each warped to the key frame, summed with fixed weights.

    Trained on pairs: from one neighbour at a random distance the key frame's heatmaps must come out. So the
    same warp propagates labels: give the heatmaps of a labelled neighbour, see :meth:`forward`.

    Args:
        backbone: HRNet with features ``stage1`` .. ``stage4`` at a quarter of the input.
        train_neighbour: ``"random"``: one frame of the clip, drawn for each sample, must give the key frame's
            heatmaps (the paper); ``"all"``: the sum of all warps is trained, as it is used at test time.
        aggregation: ``"weighted"``: frames count less with distance, see ``TIME_WEIGHTS``; ``"mean"``.
        warp_key: the key frame's own heatmaps pass the warp, too, as in public code; without, they are added
            as they are.
        dilations: of the deformable convolutions whose results are averaged.
        blocks: residual blocks between the difference of heatmaps and the offsets.
        width: their channels.
    """

    name = "posewarper"
    takes_labels = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_frames: int = 5,
        num_joints: int = 15,
        input_size: tuple[int, int] = (384, 288),
        freeze_backbone: bool = True,
        sigma: float | None = None,
        train_neighbour: str = "random",
        aggregation: str = "weighted",
        warp_key: bool = True,
        dilations: Sequence[int] = DILATIONS,
        blocks: int = 20,
        width: int = 128,
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
        one_of("train_neighbour", train_neighbour, ("random", "all"))
        one_of("aggregation", aggregation, ("weighted", "mean"))
        check_dilations(dilations)
        if blocks < 1 or width < 1:
            raise InputError(f"blocks is {blocks} and width is {width}: both must be at least 1")
        warper = HeatmapWarper(num_joints, dilations=dilations, blocks=blocks, width=width)
        self.head: PoseWarperHead = PoseWarperHead(
            warper,
            num_frames,
            one_neighbour=train_neighbour == "random",
            weights=time_weights(num_frames) if aggregation == "weighted" else [1 / num_frames] * num_frames,
            warp_key=warp_key,
        )

    def forward(
        self,
        clips: Tensor,
        given_heatmaps: Tensor | None = None,
        given_mask: Tensor | None = None,
        times: Tensor | None = None,
    ) -> PoseOutput:
        """Poses of the key frames of clips [B, T, 3, H, W]: heatmaps [B, J, H/4, W/4].

        Args:
            given_heatmaps: [B, T, J, h, w], of labelled frames. They are what is warped there, in place of
                the predicted heatmaps, from which the offsets still come. In a clip with labelled frames
                only these count: pose propagation.
            given_mask: [B, T] bool, which frames are labelled; ``None``: all but the key frame.
            times: [B, T] frames from the key frame; the warp does not depend on them.
        """
        self._check(clips, 5)
        return self.head(self.extract(clips.flatten(0, 1)), given_heatmaps, given_mask)


class PoseWarperHead(nn.Module):
    """All that PoseWarper trains: heatmaps of the frames of a clip -> heatmaps of its key frame."""

    time_weights: Tensor

    def __init__(
        self,
        warper: HeatmapWarper,
        num_frames: int,
        *,
        one_neighbour: bool,
        weights: Sequence[float],
        warp_key: bool,
    ) -> None:
        super().__init__()
        self.warper = warper
        self.num_frames = num_frames
        self.one_neighbour = one_neighbour
        self.warp_key = warp_key
        self.register_buffer("time_weights", torch.tensor(weights), persistent=False)

    def forward(
        self, features: Features, given_heatmaps: Tensor | None = None, given_mask: Tensor | None = None
    ) -> PoseOutput:
        clip = clip_features({"heatmaps": features["heatmaps"]}, self.num_frames)["heatmaps"]
        key = clip[:, self.num_frames // 2]  # [B, J, h, w]
        sampled, weights = clip, self.time_weights.expand(clip.shape[:2])  # [B, T, J, h, w], [B, T]
        if given_heatmaps is not None:
            sampled, weights = self._given(clip, weights, given_heatmaps, given_mask)
        if self.training and self.one_neighbour:
            # As in public code the draw is uniform and may be the key frame itself.
            drawn = torch.multinomial(self._candidates(weights), 1).squeeze(1)  # [B]
            clips = torch.arange(len(clip), device=clip.device)
            return PoseOutput(self.warper(clip[clips, drawn], key, sampled[clips, drawn]))
        centre = self.num_frames // 2
        sources, moved, shares = (self._warped(x) for x in (clip, sampled, weights))
        keys = key[:, None].expand_as(sources)
        warped = self.warper(*(x.flatten(0, 1) for x in (sources, keys, moved)))
        warped = warped.unflatten(0, shares.shape)  # [B·T, J, h, w] -> [B, T, J, h, w]
        out = (shares[..., None, None, None] * warped).sum(dim=1)
        if not self.warp_key:
            out = out + weights[:, centre, None, None, None] * sampled[:, centre]
        return PoseOutput(out)

    def _warped(self, x: Tensor) -> Tensor:
        """What is of the frames that are warped, of all frames' [B, T, ...]. Slices, because a list of
        positions would make a GPU wait."""
        centre = self.num_frames // 2
        return x if self.warp_key else torch.cat([x[:, :centre], x[:, centre + 1 :]], dim=1)

    def _candidates(self, weights: Tensor) -> Tensor:
        """Frames that training may draw [B, T]: those that count; the key frame only if it is ever warped."""
        known = (weights > 0).float()
        return known if self.warp_key else known * self._neighbours(weights.device)

    def _neighbours(self, device: torch.device) -> Tensor:
        """[T] bool: all frames but the key frame."""
        return torch.arange(self.num_frames, device=device) != self.num_frames // 2

    def _given(
        self, clip: Tensor, weights: Tensor, given: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Labels in place of predictions; in clips that have any, only labelled frames count."""
        if given.shape != clip.shape:
            raise ValueError(f"given_heatmaps must be {list(clip.shape)}, got {list(given.shape)}")
        if mask is None:
            mask = self._neighbours(clip.device).expand(clip.shape[:2])
        if mask.shape != clip.shape[:2]:
            raise ValueError(f"given_mask must be {list(clip.shape[:2])}, got {list(mask.shape)}")
        sampled = torch.where(mask[:, :, None, None, None], given.to(clip.dtype), clip)
        labelled = weights * mask
        labelled = labelled / labelled.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return sampled, torch.where(mask.any(dim=1, keepdim=True), labelled, weights)


class HeatmapWarper(nn.Module):
    """Heatmaps of one frame brought to another: offsets from the difference of both frames' heatmaps."""

    def __init__(self, num_joints: int, *, dilations: Sequence[int], blocks: int, width: int) -> None:
        super().__init__()
        self.offset_features = residual_chain(num_joints, width, blocks)
        # silent: public code starts all convolutions at N(0, 0.001), which BatchNorm undoes in training only.
        init_residual(self.offset_features)
        self.offsets = nn.ModuleList(
            # 3x3 kernel points, each with y and x, for every joint's own group
            nn.Conv2d(width, num_joints * 2 * 9, 3, padding=d, dilation=d, bias=False)
            for d in dilations
        )
        # All joints' samples meet in the kernel (public weights are [J, J, 3, 3]); joints only sample apart.
        self.deform = nn.ModuleList(
            DeformConv2d(num_joints, num_joints, padding=d, dilation=d, bias=False) for d in dilations
        )
        # As in public code the warp starts as the identity.
        for offsets, deform in zip(self.offsets, self.deform, strict=True):
            nn.init.zeros_(offsets.weight)  # type: ignore[arg-type]
            nn.init.dirac_(deform.weight)  # type: ignore[arg-type]

    def forward(self, source: Tensor, target: Tensor, sampled: Tensor | None = None) -> Tensor:
        """Warps heatmaps from the source frame to the target frame.

        Args:
            source, target: [N, J, h, w], the network's heatmaps of both frames; offsets come from them.
            sampled: [N, J, h, w], what is warped, of the source frame: its labels, say; ``None``: ``source``.

        Returns:
            [N, J, h, w], of the target frame.
        """
        sampled = source if sampled is None else sampled
        features = self.offset_features(target - source)
        warped = [
            deform(sampled, offsets(features))
            for offsets, deform in zip(self.offsets, self.deform, strict=True)
        ]
        return torch.stack(warped).mean(dim=0)


def time_weights(num_frames: int) -> list[float]:
    """What each frame of a clip counts, with sum 1: [T]; five frames: 0.1, 0.25, 0.3, 0.25, 0.1."""
    weights = list(TIME_WEIGHTS)
    while len(weights) <= num_frames // 2:
        weights.append(weights[-1] * TIME_DECAY)
    found = [weights[abs(t - num_frames // 2)] for t in range(num_frames)]
    return [w / sum(found) for w in found]
