"""What the methods on vision transformers share: attention, transformer blocks, tokens and maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError


class Attention(nn.Module):
    """Multi-head attention, ``softmax(QKᵀ/√d) V`` with its own output projection.

    Args:
        dim: width of queries and of the output.
        heads: number of heads; must divide ``dim``.
        context_dim: width of what keys and values are made of; ``None``: ``dim``.
    """

    def __init__(self, dim: int, heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        if dim % heads:
            raise InputError(f"width {dim} cannot be split into {heads} attention heads")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(context_dim or dim, dim, bias=False)  # one would cancel in the softmax
        self.value = nn.Linear(context_dim or dim, dim)
        self.out = nn.Linear(dim, dim)
        initialise_linear(self)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Tokens x [N, L, dim] attend to ``context`` [N, S, context_dim] (default: to themselves)."""
        context = x if context is None else context
        q, k, v = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [N, L, D] -> [N, heads, L, d]
            for layer, tokens in ((self.query, x), (self.key, context), (self.value, context))
        )
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """``softmax(scale · QKᵀ) V`` of [..., L, d], [..., S, d], [..., S, d] -> [..., L, d]; scale: 1/√d."""
    # Fused kernels want the channels of a token side by side, and would else fall back to the whole matrix.
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    # On CPUs the fused kernel of short types takes two to five times as long backward as that of float32.
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        out = F.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), scale=scale)
    return out.to(q.dtype)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between; ``ratio`` times wider in the middle."""

    def __init__(self, dim: int, ratio: float = 4.0, out_dim: int | None = None) -> None:
        hidden = round(dim * ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, out_dim or dim))
        initialise_linear(self)


class Block(nn.Module):
    """A pre-norm transformer block: self-attention and a feed-forward network, each with its residual."""

    def __init__(self, dim: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, ratio)

    def forward(self, x: Tensor) -> Tensor:
        """[N, L, dim] -> [N, L, dim]."""
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


def initialise_linear(module: nn.Module) -> None:
    """Linear layers as vision transformers start: N(0, 0.02), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def learned_embedding(*shape: int) -> nn.Parameter:
    """A learned embedding, N(0, 0.02)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))


def attention_heads(dim: int, most: int) -> int:
    """The largest number of heads up to ``most`` that divides ``dim`` and leaves 32 channels or more each."""
    return max(h for h in range(1, most + 1) if dim % h == 0 and (h == 1 or dim // h >= 32))


def sine_cosine_embedding(height: int, width: int, dim: int) -> Tensor:
    """Fixed two-dimensional position embedding [1, h·w, dim]: half of the channels for rows, half columns.

    Frequencies fall from 1 to 1/10000 as in Vaswani et al. (2017); ``dim`` must be a multiple of 4.
    """
    if dim % 4:
        raise InputError(f"width is {dim}: a sine-cosine position embedding needs a multiple of 4")
    frequencies = torch.exp(torch.arange(dim // 4) * (-math.log(10000.0) / (dim // 4)))
    rows = torch.arange(height)[:, None] * frequencies  # [h, dim/4]
    columns = torch.arange(width)[:, None] * frequencies
    parts = [
        f(angle).view(shape).expand(height, width, -1)
        for angle, shape in ((rows, (height, 1, -1)), (columns, (1, width, -1)))
        for f in (torch.sin, torch.cos)
    ]
    return torch.cat(parts, dim=-1).flatten(0, 1)[None]


def tokens_of(maps: Tensor) -> Tensor:
    """[..., D, h, w] -> [..., h·w, D]."""
    return maps.flatten(-2).transpose(-1, -2)


def maps_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """[..., h·w, D] -> [..., D, h, w]."""
    return tokens.transpose(-1, -2).unflatten(-1, grid)
