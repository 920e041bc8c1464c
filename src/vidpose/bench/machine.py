"""What a machine can do at best, and how much memory a process has held."""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from vidpose.device import processor_name

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def describe_machine(device: torch.device) -> dict[str, object]:
    """Processor or GPU, threads, and versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


@torch.inference_mode()
def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5, side: int = 1536) -> float:
    """Floating-point operations a second of the product of two square matrices: the best of some tries.

    Args:
        dtype: of the matrices.
        seconds: time spent, after warming up.
        side: rows of the matrices.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))

    def once() -> float:
        began = time.perf_counter()
        _finish(a @ b)
        return time.perf_counter() - began

    once()
    best = once()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, once())
    return 2 * side**3 / best


def _finish(result: Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()


def forget_peak_memory() -> bool:
    """Sets the peak of :func:`peak_memory` to what is held now; false where the system cannot (not Linux)."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def peak_memory() -> int:
    """Bytes: the most that the process has held since the last :func:`forget_peak_memory`, else ever."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
