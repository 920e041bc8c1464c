"""What convolutional methods share: residual chains, modulated deformable convolution (DCNv2), choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpose.errors import InputError
from vidpose.models.hrnet import BasicBlock, residual_layer


def residual_chain(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """``blocks`` residual blocks of two 3x3 convolutions each, [N, inputs, h, w] -> [N, outputs, h, w].

    The first block changes the number of channels, its shortcut being a 1x1 convolution where they differ.
    """
    return residual_layer(BasicBlock, inputs, outputs, blocks)


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    fused: bool | None = None,
) -> Tensor:
    """Modulated deformable convolution (Zhu et al., "Deformable ConvNets v2", CVPR 2019).

    Channels, order of offsets and results are those of ``torchvision.ops.deform_conv2d``: weights transfer.

    Args:
        x: [N, C, H, W].
        offset: [N, 2·G·kh·kw, H', W'], in pixels of ``x``; per offset group and kernel point first y, then x.
        mask: [N, G·kh·kw, H', W'], what each sample is multiplied by; ``None``: 1 (DCNv1).
        weight: [C', C / groups, kh, kw]; the number of groups follows from its second axis.
        bias: [C'].
        fused: whether torchvision's kernel computes it; ``None``: where it is installed and the graph is not
            being traced, compiled or exported.

    Returns:
        [N, C', H', W'].
    """
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    if fused is None:
        fused = _use_fused_kernel(x)
    if fused:
        kernel = fused_deform_conv2d()
        if kernel is None:
            raise RuntimeError("fused=True needs torchvision, which does not import here")
        wide = torch.promote_types(x.dtype, torch.float32)  # the fused kernel does not take every short type
        tensors = (x.to(wide), offset.to(wide), weight.to(wide), None if bias is None else bias.to(wide))
        out = kernel(*tensors, stride, padding, dilation, None if mask is None else mask.to(wide))
        return out.to(weight.dtype)
    return _deform_conv2d_by_grid_sampling(x, offset, mask, weight, bias, stride, padding, dilation)


def _use_fused_kernel(x: Tensor) -> bool:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return x.device.type in ("cpu", "cuda") and fused_deform_conv2d() is not None


def _deform_conv2d_by_grid_sampling(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """One bilinear look-up of all kernel points of all offset groups, then one matrix product.

    The largest tensor has kh·kw times the size of the input, as in any convolution by matrix product.
    """
    n, channels, height, width = x.shape
    outputs, per_group, kh, kw = weight.shape
    points = kh * kw
    offset_groups = offset.shape[1] // (2 * points)
    rows, columns = offset.shape[-2:]
    sites = rows * columns
    groups = channels // per_group
    # Positions need at least single precision: in bfloat16 a coordinate near 96 is known to half a pixel.
    wide = torch.promote_types(x.dtype, torch.float32)
    device = x.device

    # Kernel points without offsets, in grid_sample's unit (borders of the map at -1 and 1): [K, 2, H'W'].
    y = _lattice(rows, kh, stride[0], padding[0], dilation[0], wide, device).view(kh, 1, rows, 1)
    x_ = _lattice(columns, kw, stride[1], padding[1], dilation[1], wide, device).view(1, kw, 1, columns)
    shape = (kh, kw, rows, columns)
    regular = torch.stack(((y * (2 / height) - 1).expand(shape), (x_ * (2 / width) - 1).expand(shape)), dim=2)
    # Filled on the device: a copy from memory would make GPUs wait, and cannot be in a CUDA graph.
    unit = torch.stack(
        [torch.full((1, 1, 1), 2 / side, dtype=wide, device=device) for side in (height, width)], 2
    )
    grid = torch.addcmul(
        regular.view(1, points, 2, sites), offset.to(wide).reshape(-1, points, 2, sites), unit
    )

    # grid_sample wants (x, y) last: the map is transposed instead of the grid, which is larger, flipped.
    maps = x.to(wide).reshape(n * offset_groups, channels // offset_groups, height, width).transpose(2, 3)
    samples = F.grid_sample(
        maps, grid.transpose(2, 3), mode="bilinear", padding_mode="zeros", align_corners=False
    )  # [N·G, C/G, K, H'W']
    if mask is not None:
        samples = samples * mask.to(wide).reshape(n * offset_groups, 1, points, sites)
    samples = samples.reshape(n, groups, per_group * points, sites).to(weight.dtype)
    out = weight.reshape(groups, outputs // groups, per_group * points) @ samples
    out = out.reshape(n, outputs, rows, columns)
    return out if bias is None else out + bias.view(1, -1, 1, 1).to(out.dtype)


def _lattice(
    size: int, kernel: int, stride: int, padding: int, dilation: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Kernel points of every output along one axis, [kernel, size], as pixel centres (0.5 is the first)."""
    out = torch.arange(size, dtype=dtype, device=device) * stride - padding + 0.5
    return torch.arange(kernel, dtype=dtype, device=device).view(-1, 1) * dilation + out


class DeformConv2d(nn.Module):
    """:func:`deform_conv2d` with its own weight and bias; the state dict is that of torchvision's class."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int | tuple[int, int] = 3,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = _pair(stride), _pair(padding), _pair(dilation)
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, *_pair(kernel_size)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor | None = None) -> Tensor:
        """[N, C, H, W], offsets [N, 2·G·K, H', W'] and mask [N, G·K, H', W'] -> [N, C', H', W']."""
        return deform_conv2d(
            x,
            offset,
            mask,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )


class ModulatedSampling(nn.Module):
    """A modulated deformable 3x3 convolution that finds by itself where to look: TDMI Eqs. 3, 4, JM-Pose 3-5.

    Args:
        width: channels of what is sampled and of the result.
        guide_width: channels of what offsets and weights are read from; ``None``: ``width``.
    """

    def __init__(self, width: int, guide_width: int | None = None) -> None:
        super().__init__()
        groups = offset_groups(width)
        guide = guide_width or width
        # silent: one residual block each; public code shares one and gives it the key frame's feature, too.
        self.offset = nn.Sequential(residual_chain(guide, width, 1), dilated_conv(width, 2 * 9 * groups))
        self.weight = nn.Sequential(residual_chain(guide, width, 1), dilated_conv(width, 9 * groups))
        self.deform = DeformConv2d(width, width)

    def forward(self, x: Tensor, guide: Tensor | None = None) -> Tensor:
        """x [N, width, h, w], guide [N, guide_width, h, w] (default: x itself) -> [N, width, h, w]."""
        guide = x if guide is None else guide
        offset = self.offset(guide)
        # silent: the sigmoid is DCNv2's definition; public code leaves it out.
        weight = self.weight(guide).sigmoid()
        return self.deform(x, offset, weight)


def dilated_conv(inputs: int, outputs: int, dilation: int = 3) -> nn.Conv2d:
    """The 3x3 convolution in front of a deformable one: offsets start near zero."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
    nn.init.normal_(layer.weight, std=0.001)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


@cache
def fused_deform_conv2d() -> Callable[..., Tensor] | None:
    """torchvision's kernel, or ``None`` where torchvision is absent or does not fit the installed torch."""
    try:
        from torchvision.ops import deform_conv2d as kernel
    except Exception:  # a mismatched build fails with RuntimeError, AttributeError or OSError
        return None
    return kernel


def offset_groups(channels: int, most: int = 12) -> int:
    """Offset groups of a deformable convolution: ``most`` groups, but at least four channels in each.

    silent: papers print 12 groups for 48 channels; other widths take the largest number that divides them.
    """
    return max(g for g in range(1, most + 1) if channels % g == 0 and (g == 1 or channels // g >= 4))


def one_of(name: str, value: str, known: Collection[str]) -> None:
    """Refuses a switch whose value is not among the known ones."""
    if value not in known:
        raise InputError(f"{name} is {value!r}: known are {', '.join(known)}")


def check_dilations(dilations: Sequence[int]) -> None:
    """Refuses what cannot be dilations of convolutions."""
    if not dilations or any(not isinstance(d, int) or d < 1 for d in dilations):
        raise InputError(f"dilations is {dilations!r}: it must be one or more whole numbers of at least 1")


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
