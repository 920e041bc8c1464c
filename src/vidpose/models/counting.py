"""Parameters and multiply-adds of the models, beside the figures that their papers print."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from vidpose.models.factory import MODELS, create_model, list_models
from vidpose.models.video_model import PoseModel, count_parameters

GIGA = 2**30
"""The unit of ``gmacs``. HRNet's published 32.9 (W48, 384x288) are 35.3e9 multiply-adds, divided by 2^30, and
TDMI's 198, 5 x 32.9 and a head, follows it; ``gmacs`` can stand beside them, ``macs`` is exact."""

MULTIPLY_ADDS = "multiply-adds / 2^30, all frames, backbone included"

Paper = dict[str, Any]
_NO_PAPER: Paper = {
    "params": None,
    "gflops": None,
    "gflops_convention": None,
    "posetrack17": None,
    "posetrack18": None,
    "posetrack21": None,
}


def _paper(**figures: Any) -> Paper:
    return {**_NO_PAPER, **figures}


_TDMI_COST = {"params": 5.3, "gflops": 198.0, "gflops_convention": MULTIPLY_ADDS}

PAPER: dict[tuple[str, str], Paper] = {
    ("tdmi", "hrnet_w48"): _paper(**_TDMI_COST, posetrack17=85.7, posetrack18=83.5, posetrack21=83.5),
    ("tdmi_st", "hrnet_w48"): _paper(**_TDMI_COST, posetrack17=85.9, posetrack18=83.6, posetrack21=83.8),
    ("simple_baseline", "resnet50"): _paper(posetrack17=72.4),
    ("simple_baseline", "resnet152"): _paper(posetrack17=76.7),
    ("hrnet", "hrnet_w48"): _paper(posetrack17=77.3),
}
"""Published figures by (model, backbone): parameters in millions, mAP on the validation sets. The baselines'
scores are those that the papers' tables quote."""

_OTHER_BACKBONES = {
    "simple_baseline": ("resnet50",),
    "hrnet": ("hrnet_w32", "hrnet_w16_small"),
    "vitpose": ("vit_s", "vit_l", "vit_h"),
}


class _WithoutBatchNorm(TorchFunctionMode):
    """Leaves out BatchNorm, which is not counted and takes half of the time on the ``meta`` device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.batch_norm and isinstance(args[0], Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


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
    with torch.device("meta"):
        return create_model(name, **arguments)


def count(model: PoseModel) -> dict[str, Any]:
    """``params_trainable`` (backbone frozen), ``params_total``, ``macs`` of a clip and ``gmacs`` (/ 2^30)."""
    total, macs = count_parameters(model), multiply_adds(model)
    return {
        "params_trainable": total - count_parameters(model.backbone),
        "params_total": total,
        "gmacs": macs / GIGA,
        "macs": macs,
        "gmacs_convention": MULTIPLY_ADDS,
    }


def model_table(name: str | None = None) -> list[dict[str, Any]]:
    """The table of methods: one row per model and published backbone, ours beside the paper's figures.

    Args:
        name: one model only.

    Returns:
        Rows with ``name``, ``kind``, ``backbone``, ``input_size`` [h, w], ``frames``, what :func:`count`
        gives, and ``paper``: ``params`` (millions), ``gflops``, ``gflops_convention``, mAP on
        ``posetrack17``, ``posetrack18``, ``posetrack21``; ``None`` where no figure was published.
    """
    rows = []
    for model_name in [name] if name is not None else list_models():
        default = MODELS[model_name].backbone if model_name in MODELS else ""
        for backbone in (default, *_OTHER_BACKBONES.get(model_name, ())):
            rows.append(_row(model_name, backbone))
    return rows


def _row(name: str, backbone: str) -> dict[str, Any]:
    model = meta_model(name, backbone=backbone or None)
    return {
        "name": name,
        "kind": model.kind,
        "backbone": backbone,
        "input_size": list(model.input_size),
        "frames": model.num_frames,
        **count(model),
        "paper": dict(PAPER.get((name, backbone), _NO_PAPER)),
    }
