"""Parameters and multiply-adds of a model, counted without memory or arithmetic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vidpose.models.factory import create_model
from vidpose.models.video_model import PoseModel, count_parameters

GIGA = 2**30
"""The unit of ``gmacs``. HRNet's published 32.9 (W48, 384x288) are 35.3e9 multiply-adds, divided by 2^30, and
TDMI's 198, 5 x 32.9 and a head, follows it; ``gmacs`` can stand beside them, ``macs`` is exact."""

MULTIPLY_ADDS = "multiply-adds / 2^30, all frames, backbone included"


TWICE = "2 x multiply-adds / 2^30, all frames, backbone included"
DECIMAL = "multiply-adds / 1e9, all frames, backbone included"


class _WithoutBatchNorm(TorchFunctionMode):
    """Leaves out BatchNorm, which is not counted and takes half of the time on the ``meta`` device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm and isinstance(args[0], Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves out what fills weights: on ``meta`` there is nothing to fill, and it takes most of the time."""

    FILLERS = frozenset({"normal_", "uniform_", "fill_", "zero_", "constant_", "kaiming_uniform_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLERS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def multiply_adds(model: PoseModel) -> int:
    """Multiply-adds of one clip [1, T, 3, H, W] in eval mode, T frames through the backbone included.

    Counted are convolutions, transposed convolutions and matrix products (linear layers, attention, the sum
    of a deformable convolution); not bias, normalisation, activation, interpolation, nor the bilinear
    look-ups of a deformable convolution, as is customary.

    Args:
        model: on any device; on ``meta`` it costs neither memory nor arithmetic.
    """
    device = next(model.parameters()).device
    clip = torch.zeros(1, model.num_frames, 3, *model.input_size, device=device)
    training = model.training
    model.eval()
    try:
        # Attention as two matrix products: fused kernels of some devices are not counted.
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, _WithoutBatchNorm():
            model(clip)
    finally:
        model.train(training)
    return counter.get_total_flops() // 2


def meta_model(name: str, **arguments: Any) -> PoseModel:
    """``create_model`` without memory: every tensor on the ``meta`` device."""
    with torch.device("meta"), _WithoutInitialisation():
        return create_model(name, **arguments)


def count(model: PoseModel, *, decimal: bool = False) -> dict[str, Any]:
    """``params_trainable`` (backbone frozen), ``params_total``; ``macs`` of a clip, ``gmacs`` in units of
    2^30 (``decimal``: of 1e9; ``gmacs_convention`` says which), and ``gflops_2x``, twice that."""
    total, macs = count_parameters(model), multiply_adds(model)
    backbone = sum(p.numel() for p in model.backbone_parameters())
    unit = 1e9 if decimal else GIGA
    return {
        "params_trainable": total - backbone,
        "params_total": total,
        "gmacs": macs / unit,
        "gflops_2x": 2 * macs / unit,
        "macs": macs,
        "gmacs_convention": DECIMAL if decimal else MULTIPLY_ADDS,
    }
