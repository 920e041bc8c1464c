"""TDMI at its published size on a GPU: time of a training step, peak memory, frames per second of inference.

    python benchmarks/tdmi_gpu.py [--batch N] [--steps N] [--precision bf16]
    python benchmarks/tdmi_gpu.py --device cpu --small

HRNet-W48, 384x288, 5 frames; the backbone is frozen, as in training. A frame of inference is a key frame of
one person: all five frames of its clip go through the backbone, or each frame once, where overlapping clips
share the features (``vidpose estimate --hold``). Without a GPU it says so and exits with 2;
``--small`` measures a tiny model, to see that the script works.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidpose.device import resolve_device, resolve_precision
from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.factory import create_model
from vidpose.models.layers import fused_deform_conv2d
from vidpose.models.video_model import PoseModel


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def machine(device: torch.device) -> str:
    """The name of what computes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple {platform.machine()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> float:
    """GiB: of the device on CUDA, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def draw(model: PoseModel, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Clips, targets and weights as training gives them."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)
    size = torch.tensor(model.heatmap_size[::-1])
    points = torch.rand(batch, model.num_joints, 2, generator=generator) * (size - 1)
    weights = torch.ones(batch, model.num_joints)
    targets = gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma)
    return clips.to(device), targets.to(device), weights.to(device)


def training(
    model: PoseModel, batch: int, steps: int, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Seconds of one step of Adam, forward and backward included, and the peak of memory."""
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    clips, targets, weights = draw(model, batch, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = model.losses(model(clips), targets, weights)["total"]
        total.backward()
        optimizer.step()
        return total.detach()

    times = measure(step, steps, device)
    return {"step_s": times, "clips_per_s": batch / times, "peak_gib": peak_memory(device)}


def inference(
    model: PoseModel, batch: int, steps: int, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Key frames per second with whole clips, and with features of single frames that clips share."""
    model.eval()
    clips, *_ = draw(model, batch, device)
    frames = clips[:, 0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def whole() -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return model(clips).heatmaps

    def shared() -> Tensor:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            features = model.extract(frames)
            window = {k: torch.stack([v] * model.num_frames, dim=1) for k, v in features.items()}
            return model.head(window).heatmaps

    clip_s = measure(whole, steps, device)
    peak = peak_memory(device)
    return {
        "clips_frames_per_s": batch / clip_s,
        "shared_features_frames_per_s": batch / measure(shared, steps, device),
        "peak_gib": peak,
    }


def measure(call: Any, steps: int, device: torch.device) -> float:
    """Median seconds of a call, after three to warm up."""
    for _ in range(min(3, steps)):
        call()
    synchronize(device)
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", help="bf16, fp16 or fp32; bf16 on a GPU, else what the CPU has")
    parser.add_argument("--batch", type=int, default=16, help="clips of a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="a tiny model instead of the published size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        device = resolve_device(options.device)
        if device.type == "cpu" and not options.small:
            print(
                "tdmi_gpu: no GPU is used here, and on a CPU the published size says nothing; "
                "for a tiny model add --device cpu --small",
                file=sys.stderr,
            )
            return 2
        dtype = resolve_precision(options.precision or ("auto" if device.type == "cpu" else "bf16"), device)
    except InputError as error:
        print(f"tdmi_gpu: {error}", file=sys.stderr)
        return 2
    size: dict[str, Any] = {"backbone": "hrnet_w48", "input_size": (384, 288), "num_frames": 5}
    batch, steps = options.batch, options.steps
    if options.small:
        size = {"backbone": "hrnet_w8_small", "input_size": (64, 64), "num_frames": 5}
        batch, steps = min(batch, 2), min(steps, 3)
    torch.manual_seed(0)
    model = create_model("tdmi", **size).to(device)
    result = {
        "machine": machine(device),
        "torch": torch.__version__,
        "model": {**size, "input_size": list(size["input_size"])},
        "precision": str(dtype).removeprefix("torch."),
        "deformable_convolution": "ours" if fused_deform_conv2d() is None else "torchvision",
        "batch": batch,
        "training": training(model, batch, steps, device, dtype),
        "inference": inference(model, batch, steps, device, dtype),
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return 0
    train, test = result["training"], result["inference"]
    height, width = size["input_size"]
    print(f"{result['machine']}, torch {result['torch']}, {result['precision']}, batch {batch}")
    print(
        f"tdmi, {size['backbone']}, {height}x{width}, {size['num_frames']} frames; "
        f"deformable convolution: {result['deformable_convolution']}"
    )
    print(
        f"training:  {1e3 * train['step_s']:.1f} ms a step, {train['clips_per_s']:.1f} clips/s, "
        f"peak {train['peak_gib']:.2f} GiB"
    )
    print(
        f"inference: {test['clips_frames_per_s']:.1f} frames/s from clips, "
        f"{test['shared_features_frames_per_s']:.1f} with shared features, peak {test['peak_gib']:.2f} GiB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
