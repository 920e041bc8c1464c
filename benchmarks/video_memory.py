"""Peak memory of reading a video and of ``estimate`` on it, for a short and a much longer one.

Each run has a process of its own, since peak memory never goes down again. ``estimate`` runs with a small
model with random weights, one person who fills the frame, and ``--save-video``. Prints a table, and for both
what the longest video needed more than the shortest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
from vidpose.io.video import open_video
start = time.perf_counter()
with open_video(sys.argv[1]) as video:
    count = sum(1 for _ in video)
"""
ESTIMATE = """
import torch
torch.set_num_threads(1)
from vidpose.infer.estimate import estimate
from vidpose.infer.estimator import PoseEstimator
from vidpose.models.factory import create_model
model = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64)).eval()
estimator = PoseEstimator(model, detector="full-frame", device="cpu", precision="fp32")
start = time.perf_counter()
out = os.path.dirname(sys.argv[1]) + "/out"
count = estimate([sys.argv[1]], out, estimator=estimator, save_video=True, quiet=True)[0].frames
"""
RUN = """
import os, resource, sys, time
{job}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(count, seconds, peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def write(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A video of a drifting gradient with noise, so that frames differ and compress to a usual size."""
    import numpy as np

    from vidpose.io.video import VideoWriter

    rng = np.random.default_rng(0)
    height, width = size
    ramp = np.linspace(0, 255, width + 256, dtype=np.uint8)
    noise = rng.integers(0, 24, (8, height, width, 3), dtype=np.uint8)
    with VideoWriter(path, 30, size) as writer:
        for i in range(frames):
            row = ramp[i % 256 : i % 256 + width]
            writer.write(np.broadcast_to(row[None, :, None], (height, width, 3)) // 2 + noise[i % 8])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--jobs", nargs="+", choices=("read", "estimate"), default=["read", "estimate"])
    parser.add_argument("--size", type=int, nargs=2, default=[360, 640], metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    peaks: dict[str, list[float]] = {job: [] for job in arguments.jobs}
    print(f"{'job':>9} {'frames':>7} {'size':>10} {'file MB':>8} {'frames/s':>9} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            path = Path(folder) / f"{frames}.mp4"
            write(path, frames, tuple(arguments.size))
            for job in arguments.jobs:
                code = RUN.format(job={"read": READ, "estimate": ESTIMATE}[job])
                result = subprocess.run(
                    [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
                )
                count, seconds, peak = (float(value) for value in result.stdout.split())
                if count != frames:
                    raise SystemExit(f"{path.name}: {count:.0f} frames came out, {frames} were written")
                peaks[job].append(peak)
                megabytes = path.stat().st_size / 2**20
                size = f"{arguments.size[1]}x{arguments.size[0]}"
                rate = frames / seconds
                print(
                    f"{job:>9} {frames:>7} {size:>10} {megabytes:>8.1f} {rate:>9.0f} {peak:>8.1f}", flush=True
                )
    for job, (first, *_, last) in peaks.items():
        print(f"{job}: longest against shortest {last - first:+.1f} MB ({last / first:.3f} times)")


if __name__ == "__main__":
    main()
