"""HRNet, ViT and ResNet behind one small interface: frames in, named features out.

Every backbone has ``forward(frames [N, 3, H, W]) -> dict[str, Tensor]`` with leading axis N, and the
attributes ``family`` ("hrnet", "vit", "resnet"), ``channels`` (feature name -> channels), ``out_channels``
(of the last feature), ``stride`` (of that feature) and ``size_multiple`` (H and W must be multiples of it).
"""

from __future__ import annotations

import re

from torch import nn

from vidpose.errors import InputError
from vidpose.models.hrnet import BasicBlock, HRNet, hrnet_small
from vidpose.models.resnet import ResNet
from vidpose.models.vit import ViT

VITS: dict[str, tuple[int, int, int]] = {
    "vit_s": (384, 12, 12),
    "vit_b": (768, 12, 12),
    "vit_l": (1024, 24, 16),
    "vit_h": (1280, 32, 16),
}
"""Width, depth, heads of ViTPose's four sizes (ViTPose, Table 1; its S has 12 heads)."""

RESNETS: dict[str, tuple[int, int, int, int]] = {
    "resnet18": (2, 2, 2, 2),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}

BACKBONES = ("hrnet_w32", "hrnet_w48", "hrnet_w16_small", *VITS, *RESNETS)
"""The names of a paper or a checkpoint; ``hrnet_wN``, ``hrnet_wN_small`` work for any N."""


def backbone_family(name: str) -> str:
    """ "hrnet", "vit" or "resnet"; an unknown name is an :class:`InputError` that lists the known ones."""
    if name in VITS or re.fullmatch(r"vit_\d+x\d+x\d+", name):
        return "vit"
    if name in RESNETS:
        return "resnet"
    if re.fullmatch(r"hrnet_w[1-9]\d*(_small)?", name):
        return "hrnet"
    raise InputError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)} (and hrnet_wN for any N)")


def create_backbone(name: str, input_size: tuple[int, int]) -> nn.Module:
    """Builds a backbone with random weights.

    Args:
        name: one of :data:`BACKBONES`, ``hrnet_wN``, ``hrnet_wN_small``, or ``vit_DxLxH``
            (width, depth, heads).
        input_size: (H, W) of a frame; multiples of 32 (HRNet, ResNet) or 16 (ViT).

    Raises:
        InputError: unknown name, or an input size that does not divide.
    """
    family = backbone_family(name)
    multiple = 16 if family == "vit" else 32
    if min(input_size) < multiple or input_size[0] % multiple or input_size[1] % multiple:
        raise InputError(
            f"input_size {input_size[0]}x{input_size[1]} does not fit {name}: height and width must be "
            f"multiples of {multiple}"
        )
    if family == "vit":
        sizes = VITS.get(name) or tuple(int(n) for n in name[4:].split("x"))
        dim, depth, heads = sizes
        if min(sizes) < 1 or dim % heads:
            raise InputError(f"{name}: the width {dim} must be a multiple of the {heads} heads")
        return ViT(dim, depth, heads, input_size=input_size)
    if family == "resnet":
        return ResNet(RESNETS[name], **({"block": BasicBlock} if name == "resnet18" else {}))  # type: ignore[arg-type]
    width = int(name.split("_")[1][1:])
    return hrnet_small(width) if name.endswith("_small") else HRNet(width)


__all__ = ["BACKBONES", "HRNet", "ResNet", "ViT", "backbone_family", "create_backbone"]
