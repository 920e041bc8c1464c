"""How fast rendered people are made: crops of one person and whole frames, per second of processor time.

    python packages/vidpose-render/benchmarks/render_speed.py --assets DIR

Limits: at least 40 crops of 256x192 and 6 frames of 640x360 per second and core, all included: scene, bodies,
clothes, light, blur, noise, compression and labels. Exit status 1 if one is not met.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vidpose_render.crops import render_crop
from vidpose_render.scene import load_cast, render_video

LIMIT_CROPS, LIMIT_FRAMES = 40.0, 6.0
WARM_UP = 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=300)
    parser.add_argument("--videos", type=int, default=10, help="of ten frames each")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    cast = load_cast(options.assets, (1,), crowd=16, repeats=10)
    rng = np.random.default_rng(0)
    for _ in range(WARM_UP):  # compilation, parsing of assets, the people
        render_crop(cast, rng)
    start = time.process_time()
    for _ in range(options.crops):
        render_crop(cast, rng)
    crops = options.crops / (time.process_time() - start)
    cast = replace(cast, repeats=1)
    start = time.process_time()
    count = 0
    for video in range(options.videos):
        size, people = (360, 640), (2, 5)
        for _ in render_video(
            cast, (1, video), frames=10, size=size, fps=25, difficulty="mixed", people=people
        ):
            count += 1
    frames = count / (time.process_time() - start)
    print(f"{'':32}{'per second of one core':>24}{'limit':>8}")
    print(f"{'crops 256x192, hard, 1-3 people':32}{crops:24.1f}{LIMIT_CROPS:8.0f}")
    print(f"{'frames 640x360, mixed, 2-5':32}{frames:24.1f}{LIMIT_FRAMES:8.0f}")
    sys.exit(0 if crops >= LIMIT_CROPS and frames >= LIMIT_FRAMES else 1)


if __name__ == "__main__":
    main()
