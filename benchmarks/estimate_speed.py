"""Frames a second of ``estimate`` with the weights that ship, all of it: reading, detecting, tracking, poses.

    python benchmarks/estimate_speed.py VIDEO [--model tdmi] [--weights default] [--detector auto] [--limit 8]

Only the best person of a frame is kept. The first frames, which warm up, are not timed. Exit status 1 below
the limit.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

import torch

from vidpose import PoseEstimator
from vidpose.errors import InputError

WARM_UP = 12


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video")
    parser.add_argument("--model", default="tdmi")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--detector", default="auto")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--limit", type=float, default=8.0, help="frames a second")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    try:
        estimator = PoseEstimator(
            options.model, options.weights, options.detector, device="cpu", max_people=1
        )
        frames = people = 0
        began = time.perf_counter()
        for result in estimator.stream(options.video):
            frames += 1
            people += len(result.boxes)
            if frames == WARM_UP:
                began = time.perf_counter()
        if frames <= WARM_UP:
            raise InputError(f"{options.video}: {frames} frames, more than {WARM_UP} are needed")
    except InputError as error:
        parser.error(str(error))
    speed = (frames - WARM_UP) / (time.perf_counter() - began)
    print(
        f"{speed:.1f} frames/s on {options.threads} threads ({speed / options.limit:.2f} of the limit), "
        f"{str(estimator.dtype).removeprefix('torch.')}, {people / frames:.2f} people a frame"
    )
    return int(speed < options.limit)


if __name__ == "__main__":
    sys.exit(main())
