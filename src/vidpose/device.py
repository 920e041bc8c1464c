"""Which device and which number format to compute with: asked of the machine, never assumed."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch

from vidpose.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def resolve_device(device: str = "auto") -> torch.device:
    """``auto`` takes CUDA, then Apple's MPS, then the CPU; also takes ``cuda:1``.

    Raises:
        InputError: an unknown device, or one that this machine does not have.
    """
    name = device.split(":")[0]
    if name not in DEVICES:
        raise InputError(f"unknown device {device!r}; known: {', '.join(DEVICES)}")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(d for d in ("cuda", "mps", "cpu") if available[d]))
    if not available[name]:
        raise InputError(
            f"device {device!r} is not available to this PyTorch ({torch.__version__}); use cpu or auto"
        )
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"device {device!r} is not understood; write cpu, cuda, cuda:1 or mps") from None
    if name == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {device!r}: this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The number format of a precision name on a device.

    ``auto``: bfloat16 where the processor computes with it natively (CUDA from Ampere on, CPUs with AVX-512
    BF16 or AMX), else float32; elsewhere bfloat16 is emulated and slower.

    Raises:
        InputError: an unknown name, or float16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; known: {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision 'fp16' is for GPUs; on a CPU use bf16, fp32 or auto")
    if precision == "auto":
        return torch.bfloat16 if native_bfloat16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def native_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    # Private in PyTorch, and named differently between versions: absent means no.
    asked = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(ask()) for ask in asked if ask is not None)


def precision_name(dtype: torch.dtype) -> str:
    """``fp32``, ``bf16`` or ``fp16``."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def upload(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on a device; on the CPU it shares the array's memory where it can.

    To CUDA it goes by way of pinned memory, so that nobody waits for the copy: work that is queued after it
    finds it done, and the array may be changed at once.
    """
    tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def processor_facts(*names: str) -> list[str]:
    """What Linux says of the processor under keys that begin so, each once; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return list(dict.fromkeys(line.partition(":")[2].strip() for line in lines if line.startswith(names)))


def processor_name() -> str:
    """The processor's name as the system gives it."""
    return next(iter(processor_facts("model name")), platform.processor() or platform.machine())
