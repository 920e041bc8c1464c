"""The methods at their published sizes: time of a training step, peak memory, frames per second of inference.

    python benchmarks/full_size.py [--models tdmi vremd] [--batch N] [--steps N] [--precision bf16]
    python benchmarks/full_size.py --device cpu --batch 1 --steps 1 --precision fp32

Default backbone, input size and number of frames of each method; the backbone is frozen, as in training. A
frame of inference is a key frame of one person: all frames of its clip go through the backbone ("clips"), or
each frame once, where overlapping clips share the features ("shared"). Each model has a process of its own,
so that the peak of memory is its own: of the device on CUDA, else of the process, interpreter included.

Limit on a CPU at batch 1: 20 GiB for a training step. Exit status 1 if a method needs more or fails.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor

from vidpose.device import processor_name, resolve_device, resolve_precision
from vidpose.errors import InputError
from vidpose.geometry import gaussian_heatmaps
from vidpose.models.factory import create_model, model_entry
from vidpose.models.layers import fused_deform_conv2d
from vidpose.models.video_model import PoseModel

METHODS = ("tdmi", "jmpose", "stdpose", "vremd", "sdtc")
LIMIT_GIB = 20.0


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
    return processor_name()


def peak_memory(device: torch.device) -> float:
    """GiB: of the device on CUDA, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def draw(model: PoseModel, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Clips, and targets and weights of all their frames, as training gives them."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, model.num_frames)
    clips = torch.randn(*shape, 3, *model.input_size, generator=generator)
    size = torch.tensor(model.heatmap_size[::-1])
    points = torch.rand(*shape, model.num_joints, 2, generator=generator) * (size - 1)
    weights = torch.ones(*shape, model.num_joints)
    targets = gaussian_heatmaps(points, weights, model.heatmap_size, model.sigma)
    return clips.to(device), targets.to(device), weights.to(device)


def training(
    model: PoseModel, batch: int, steps: int, device: torch.device, dtype: torch.dtype
) -> dict[str, float]:
    """Seconds of one step of AdamW, forward and backward included, and the peak of memory."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-4)
    clips, targets, weights = draw(model, batch, device)
    key = model.num_frames // 2
    extra: dict[str, Any] = {}
    if model.needs_sequence_targets:
        extra = {"sequence_heatmaps": targets, "sequence_weights": weights}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            total = model.losses(model(clips), targets[:, key], weights[:, key], **extra)["total"]
        total.backward()
        optimizer.step()
        return total.detach()

    seconds = measure(step, steps, device)
    return {"step_s": seconds, "clips_per_s": batch / seconds, "peak_gib": peak_memory(device)}


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
    """Median seconds of a call, after some to warm up."""
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


def one(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measures one model in this process."""
    device = resolve_device(options.device)
    dtype = resolve_precision(options.precision or ("auto" if device.type == "cpu" else "bf16"), device)
    size: dict[str, Any] = {}
    if options.small:
        hrnet = "hrnet" in model_entry(name).families
        size = {"backbone": "hrnet_w8_small" if hrnet else "vit_32x1x2", "input_size": (64, 64)}
    torch.manual_seed(0)
    model = create_model(name, **size).to(device)
    train = training(model, options.batch, options.steps, device, dtype)
    return {
        "model": name,
        "backbone": model.config["backbone"],
        "input_size": list(model.input_size),
        "frames": model.num_frames,
        "machine": machine(device),
        "device": device.type,
        "torch": torch.__version__,
        "precision": str(dtype).removeprefix("torch."),
        "deformable_convolution": "ours" if fused_deform_conv2d() is None else "torchvision",
        "batch": options.batch,
        "training": train,
        "inference": inference(model, options.batch, options.steps, device, dtype),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(METHODS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", help="bf16, fp16 or fp32; bf16 on a GPU, else what the CPU has")
    parser.add_argument("--batch", type=int, default=16, help="clips of a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--small", action="store_true", help="tiny models, to see that the script works")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        resolve_device(options.device)
        for name in options.models:
            model_entry(name)
        if options.in_process:
            print(json.dumps(one(options.models[0], options)))
            return 0
    except InputError as error:
        print(f"full_size: {error}", file=sys.stderr)
        return 2
    results, failed = [], []
    for name in options.models:
        command = [sys.executable, __file__, "--in-process", "--models", name]
        command += ["--device", options.device, "--batch", str(options.batch), "--steps", str(options.steps)]
        command += ["--precision", options.precision] if options.precision else []
        command += ["--small"] if options.small else []
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if found.returncode:
            failed.append(name)
            continue
        results.append(json.loads(found.stdout.splitlines()[-1]))
        if not options.json:
            _print(results[-1], first=len(results) == 1)
    if options.json:
        print(json.dumps(results, indent=2))
    heavy = [
        r["model"]
        for r in results
        if r["device"] == "cpu" and r["batch"] == 1 and r["training"]["peak_gib"] > LIMIT_GIB
    ]
    for name in failed:
        print(f"{name}: failed", file=sys.stderr)
    for name in heavy:
        print(f"{name}: needs more than {LIMIT_GIB:.0f} GiB", file=sys.stderr)
    return 1 if failed or heavy else 0


def _print(result: dict[str, Any], *, first: bool) -> None:
    if first:
        print(
            f"{result['machine']}, torch {result['torch']}, {result['precision']}, batch {result['batch']};"
        )
        print(f"deformable convolution: {result['deformable_convolution']}\n")
        print(f"{'':10}{'backbone':>12}{'input':>10}{'T':>3}{'s/step':>9}{'train GiB':>11}", end="")
        print(f"{'frames/s: clips':>17}{'shared':>9}{'test GiB':>10}")
    train, test = result["training"], result["inference"]
    height, width = result["input_size"]
    print(
        f"{result['model']:10}{result['backbone']:>12}{f'{height}x{width}':>10}{result['frames']:>3}", end=""
    )
    print(f"{train['step_s']:>9.3f}{train['peak_gib']:>11.2f}{test['clips_frames_per_s']:>17.2f}", end="")
    print(f"{test['shared_features_frames_per_s']:>9.2f}{test['peak_gib']:>10.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
