"""What `estimate` does on a GPU: people a second, where the time goes, memory, and whether the poses agree.

    python benchmarks/gpu.py -o gpu.json                     # under 8 minutes on one GPU
    python benchmarks/gpu.py --device cpu --frames 8 --people 1 --rounds 1 --methods hrnet -o cpu.json

For each method it runs, in turns, the variants

- host: crops cut by OpenCV on the CPU and uploaded;
- device: frames uploaded once, crops cut there;
- graphs: as device, and the networks by CUDA graphs.

Frames come from memory at ``--size``, in each ``--people`` boxes side by side, so that neither decoding nor
detection limits what is measured; nobody is seen twice. ``hrnet`` and ``tdmi`` have the weights that ship;
``vitpose-b`` and ``stdpose-b`` are ViT-B at 256x192 with random weights: their speed counts, not their poses.
``detector`` rows are hrnet behind the detector that ships. ``decode`` rows read the packaged video file.

A method that has used its share of ``--budget-s`` gets no further rounds. The JSON has for each method and
variant the person-frames a second of each round, the shares of the stages in one more run with a clock (which
waits for the GPU between stages), peak memory, frames uploaded, and how far the keypoints are from host's.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import vidpose
from vidpose.bench.machine import describe_machine, forget_peak_memory, peak_memory
from vidpose.bench.stages import clocked
from vidpose.cli_options import height_and_width
from vidpose.device import resolve_device
from vidpose.errors import InputError
from vidpose.infer.cutters import DeviceCutter, HostCutter
from vidpose.infer.detect import Detection, FrameKey
from vidpose.infer.estimator import PoseEstimator
from vidpose.io.files import write_json
from vidpose.io.hardware import decode_names
from vidpose.io.video import VideoFrame, open_video
from vidpose.models.factory import create_model

CLIP = Path(vidpose.__file__).parent / "examples" / "people.mp4"
METHODS = ("hrnet", "tdmi", "vitpose-b", "stdpose-b", "detector")
VARIANTS = ("host", "device", "graphs")
WARM_UP_FRAMES = 24
FPS = 25.0


class SideBySide:
    """A detector that finds ``count`` people side by side in every frame."""

    name = "given"

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            left = np.arange(self.count) * width / self.count
            right = left + width / self.count - 1
            boxes = np.stack([left, 0 * left, right, 0 * left + height - 1], axis=1)
            found.append(Detection(boxes, np.ones(self.count)))
        return found


class FromMemory:
    """Frames in memory as a video, over and over; each is an array of its own, as a decoder's is."""

    def __init__(self, images: Sequence[np.ndarray], count: int, source: Any) -> None:
        self._frames = self._make(images, count)
        self._source = source

    def _make(self, images: Sequence[np.ndarray], count: int) -> Iterator[VideoFrame]:
        for k in range(count):
            yield VideoFrame(k, k / FPS, images[k % len(images)][:])

    def __iter__(self) -> FromMemory:
        return self

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def build(method: str, variant: str, options: argparse.Namespace, device: torch.device) -> PoseEstimator:
    """An estimator that differs between variants in what cuts the crops and starts the kernels."""
    shared: dict[str, Any] = {
        "device": str(device),
        "batch_size": options.batch_size,
        "upright": False,
        "oks_nms": 1.0,
        "detector": "auto" if method == "detector" else SideBySide(options.people),
        "cutter": HostCutter(device) if variant == "host" else DeviceCutter(device),
        "cuda_graphs": variant == "graphs",
    }
    torch.manual_seed(0)
    name = "hrnet" if method == "detector" else method.removesuffix("-b")
    if not method.endswith("-b"):
        return PoseEstimator(name, "default", **shared)
    model = create_model(name, backbone=options.vit, input_size=(256, 192))
    return PoseEstimator(model, **shared)


def run(
    estimator: PoseEstimator, images: Sequence[np.ndarray], count: int, clock: Any = None
) -> tuple[float, list[np.ndarray]]:
    """Seconds for so many frames, and the keypoints [P, J, 2] of each."""
    began = time.perf_counter()
    with clock.stage("other") if clock else nullcontext(), estimator.stream(CLIP) as stream:
        stream.video = FromMemory(images, count, stream.video)  # type: ignore[assignment]
        keypoints = [poses.keypoints for poses in stream]
    return time.perf_counter() - began, keypoints


def measure(
    method: str, options: argparse.Namespace, device: torch.device, images: Sequence[np.ndarray]
) -> list[dict[str, Any]]:
    """A row for each variant."""
    end = time.perf_counter() + options.budget_s / len(options.methods)
    variants = [name for name in options.variants if name != "graphs" or device.type == "cuda"]
    estimators = {name: build(method, name, options, device) for name in variants}
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    keypoints: dict[str, list[np.ndarray]] = {}
    memory: dict[str, float] = {}
    for estimator in estimators.values():
        run(estimator, images, min(WARM_UP_FRAMES, options.frames))
    for number in range(options.rounds):
        for name in variants if number % 2 == 0 else variants[::-1]:
            if number and time.perf_counter() > end:
                break
            forget(device)
            seconds, keypoints[name] = run(estimators[name], images, options.frames)
            memory[name] = peak_mb(device)
            speeds[name].append(sum(map(len, keypoints[name])) / seconds)
    return [
        {
            "method": method,
            "variant": name,
            "precision": estimators[name].info["precision"],
            "input_size": estimators[name].info["input_size"],
            "people": options.people if method != "detector" else "detected",
            "frames": options.frames,
            "poses": sum(map(len, keypoints[name])),
            "person_frames_per_s": speeds[name],
            "median_person_frames_per_s": statistics.median(speeds[name]),
            **shares(estimators[name], images, options.frames),
            "peak_mb": memory[name],
            "uploads": getattr(estimators[name].cutter, "uploads", None),
            "from_host_px": difference(keypoints.get("host"), keypoints[name]),
        }
        for name in variants
    ]


def shares(estimator: PoseEstimator, images: Sequence[np.ndarray], count: int) -> dict[str, Any]:
    """Shares of the stages in a run with a clock, the backbone's among them, and backbone passes a pose."""
    passes = estimator.runner.frames_extracted
    with clocked(estimator) as clock:
        _, keypoints = run(estimator, images, count, clock)
    total = sum(clock.seconds.values())
    stages = {name: seconds / total for name, seconds in clock.seconds.items()}
    passes = estimator.runner.frames_extracted - passes
    poses = max(sum(map(len, keypoints)), 1)
    return {"stages": stages, "backbone_share": stages["backbone"], "passes_per_pose": passes / poses}


def difference(expected: list[np.ndarray] | None, found: list[np.ndarray]) -> dict[str, float] | None:
    """Median distance of keypoints in pixels, and the share of those more than one pixel away.

    ``None`` where frames have different numbers of people.
    """
    if expected is None or [len(a) for a in expected] != [len(a) for a in found]:
        return None
    away = np.concatenate(
        [np.linalg.norm(a - b, axis=-1).reshape(-1) for a, b in zip(expected, found, strict=True)]
    )
    return {"median": float(np.median(away)), "over_1": float((away > 1).mean())} if len(away) else None


def forget(device: torch.device) -> None:
    """Starts a new peak of memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        forget_peak_memory()


def peak_mb(device: torch.device) -> float:
    """The most megabytes since :func:`forget`: of tensors on a GPU, else of the process."""
    found = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    return float(found / 2**20)


def decoding(frames: int) -> list[dict[str, Any]]:
    """Frames a second of the packaged video by the CPU and by CUDA, and how far their pixels are apart."""
    rows: list[dict[str, Any]] = []
    expected: list[np.ndarray] = []
    for name in [name for name in ("cpu", "cuda") if name in decode_names()]:
        began = time.perf_counter()
        with open_video(CLIP, decode=name) as video:
            found = [frame.image for frame in islice(video, frames)]
        seconds = time.perf_counter() - began
        expected = expected or found
        levels = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(expected, found, strict=False)]
        row = {"decode": name, "frames": len(found), "frames_per_s": len(found) / seconds}
        rows.append({**row, "mean_levels_from_cpu": statistics.mean(levels)})
    return rows


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--frames", type=int, default=128, help="of each run")
    parser.add_argument("--people", type=int, default=8, help="in each frame")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1920x1080", help="of the frames")
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--vit", default="vit_b", help="backbone of the -b methods")
    parser.add_argument("--budget-s", type=float, default=400, help="seconds after which rounds end")
    parser.add_argument("-o", "--output", type=Path, default=None, help="JSON file; default: printed")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = read_options(arguments)
    device = resolve_device(options.device)
    height, width = height_and_width(options.size)
    with open_video(CLIP) as video:
        images = [cv2.resize(f.image, (width, height)) for f in islice(video, min(options.frames, 64))]
    report: dict[str, Any] = {
        "version": vidpose.__version__,
        "machine": describe_machine(device),
        "size": [width, height],
        "rows": [],
        "failed": {},
    }
    tasks: dict[str, Callable[[], list[dict[str, Any]]]] = {
        method: lambda method=method: measure(method, options, device, images)  # type: ignore[misc]
        for method in options.methods
    }
    tasks["decode"] = lambda: decoding(len(images))
    for name, task in tasks.items():
        try:
            rows = task()
        except (InputError, RuntimeError) as error:  # the others are still worth their time
            report["failed"][name] = str(error).splitlines()[0]
            continue
        report["decode" if name == "decode" else "rows"] = (
            rows if name == "decode" else [*report["rows"], *rows]
        )
        for row in rows if name != "decode" else []:
            print(
                f"{row['method']:10} {row['variant']:7} {row['median_person_frames_per_s']:9.1f} "
                f"person-frames/s, backbone {row['backbone_share']:.0%}, {row['peak_mb']:.0f} MB",
                file=sys.stderr,
                flush=True,
            )
        if options.output is not None:  # also what there is so far
            write_json(options.output, report, indent=1)
    if options.output is None:
        print(json.dumps(report, indent=1))
    return int(bool(report["failed"]))


if __name__ == "__main__":
    sys.exit(main())
