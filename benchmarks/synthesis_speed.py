"""How fast synthetic videos are made on one core, written as JPEG frames.

Run: python benchmarks/synthesis_speed.py [--videos 6] [--frames 60]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

LIMIT_FPS = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    from vidpose.synthetic import synthesize

    print("640x360, one process, one thread, JPEG frames and labels written; limit: 20 frames/s per core")
    print("per core = per second of CPU time, which a busy machine does not change; frames/s is by the clock")
    print(
        f"{'difficulty':<12}{'frames':>8}{'people/frame':>14}{'frames/s':>10}"
        f"{'CPU frames/s':>14}{'x limit':>9}"
    )
    for difficulty in ("clean", "mixed", "hard"):
        with tempfile.TemporaryDirectory() as folder:
            start, cpu = time.perf_counter(), time.process_time()
            done = synthesize(folder, videos=arguments.videos, frames=arguments.frames, seed=arguments.seed,
                              difficulty=difficulty, quiet=True)  # fmt: skip
            took, cpu = time.perf_counter() - start, time.process_time() - cpu
        rate = done["frames"] / took
        people = done["people"] / done["frames"]
        print(f"{difficulty:<12}{done['frames']:>8}{people:>14.1f}{rate:>10.1f}{done['frames'] / cpu:>14.1f}"
              f"{done['frames'] / cpu / LIMIT_FPS:>9.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
