"""Plain vision transformers as ViTPose uses them (Xu et al., NeurIPS 2022), of transformers' modules."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 16


class ViT(nn.Module):
    """ViT whose only feature is the grid of tokens after the last LayerNorm.

    ``self.vit`` is a ``VitPoseBackbone`` of transformers, so state-dict names are those of the checkpoints on
    the hub; what is ours is the input size: any multiple of 16, with the learned position embedding
    interpolated where an input differs from ``input_size``.

    Args:
        dim: token width D.
        depth: number of layers.
        heads: attention heads.
        input_size: (H, W) for which the position embedding is made.
    """

    family = "vit"
    stride = 16
    size_multiple = PATCH

    def __init__(self, dim: int, depth: int, heads: int, *, input_size: tuple[int, int] = (256, 192)) -> None:
        super().__init__()
        from transformers import VitPoseBackbone, VitPoseBackboneConfig  # heavy: only where a ViT is built

        config = VitPoseBackboneConfig(
            image_size=list(input_size),
            patch_size=[PATCH, PATCH],
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            layer_norm_eps=1e-6,  # ViTPose's own; the hub's configurations say 1e-12, which changes nothing
        )
        self.vit = VitPoseBackbone(config)
        self.grid = (input_size[0] // PATCH, input_size[1] // PATCH)
        self.channels = {"tokens": dim}
        self.out_channels = dim

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Frames [N, 3, H, W] -> ``tokens`` [N, D, H/16, W/16]."""
        embeddings = self.vit.embeddings
        x = embeddings.patch_embeddings.projection(frames)  # [N, D, h, w]
        grid = (x.shape[-2], x.shape[-1])
        position = embeddings.position_embeddings
        if grid != self.grid:
            position = interpolate_positions(position, self.grid, grid)
        x = x.flatten(2).transpose(1, 2)  # [N, D, h, w] -> [N, h·w, D]
        x = x + position[:, 1:] + position[:, :1]
        for layer in self.vit.encoder.layer:
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x  # a tuple in transformers 4
        x = self.vit.layernorm(x)
        return {"tokens": x.transpose(1, 2).unflatten(2, grid)}  # [N, h·w, D] -> [N, D, h, w]


def interpolate_positions(position: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """A learned position embedding for another grid of tokens, bicubic as in the papers' fine-tuning.

    Args:
        position: [1, 1 + h·w, D]; the first entry is the class token's, which ViTPose adds to every token and
            which stays as it is.
        grid: (h, w) of ``position``.
        target: (h, w) wanted.
    """
    if grid == target:
        return position
    shared, maps = position[:, :1], position[:, 1:]
    maps = maps.unflatten(1, grid).permute(0, 3, 1, 2)  # [1, h·w, D] -> [1, D, h, w]
    maps = F.interpolate(maps.float(), size=target, mode="bicubic", align_corners=False)
    return torch.cat([shared, maps.flatten(2).transpose(1, 2).to(position.dtype)], dim=1)
