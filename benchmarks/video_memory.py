"""Peak memory of reading a video, for a short and a twenty times longer one.

Each video is read in a process of its own, since peak memory never goes down again. Run with no arguments; prints a
table and the ratio, which should stay near 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import resource, sys, time
from vidpose.io.video import open_video
start = time.perf_counter()
with open_video(sys.argv[1]) as video:
    count = sum(1 for _ in video)
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
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--size", type=int, nargs=2, default=[360, 640], metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    peaks = []
    print(f"{'frames':>7} {'size':>10} {'file MB':>8} {'frames/s':>9} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            path = Path(folder) / f"{frames}.mp4"
            write(path, frames, tuple(arguments.size))
            result = subprocess.run(
                [sys.executable, "-c", READ, str(path)], check=True, capture_output=True, text=True
            )
            count, seconds, peak = (float(value) for value in result.stdout.split())
            if count != frames:
                raise SystemExit(f"{path.name}: {count:.0f} frames were read, {frames} were written")
            peaks.append(peak)
            megabytes = path.stat().st_size / 2**20
            size = f"{arguments.size[1]}x{arguments.size[0]}"
            print(f"{frames:>7} {size:>10} {megabytes:>8.1f} {frames / seconds:>9.0f} {peak:>8.1f}")
    print(f"peak of the longest / peak of the shortest: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
