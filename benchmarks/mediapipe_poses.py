"""Poses of MediaPipe's landmark network in given boxes, for benchmarks/real.py, which starts this by itself.

    python -m venv mp-venv
    mp-venv/bin/pip install --no-deps mediapipe==0.10.21
    mp-venv/bin/pip install ai-edge-litert numpy opencv-python-headless
    mp-venv/bin/python benchmarks/mediapipe_poses.py JOBS.json OUT.json [--model pose_landmark_full.tflite]

It runs in an environment of its own and imports nothing of vidpose. JOBS.json is a list of
``{"image": FILE, "box_xyxy": [x1, y1, x2, y2]}``. OUT.json has ``joints``, their names, and for each of two
passes the joints of every job, ``[x, y, score]`` in image pixels: ``boxes`` looks once, into an upright
square of 1.25 times the longer side of the box; ``tracking`` looks again where the landmarks of the first
pass put the person, turned upright, as MediaPipe does from the second frame of a video on. The crop's border,
the refinement by heatmaps and the second square are those of MediaPipe's graph.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIZE, LANDMARKS, KERNEL, LEAST_HEAT = 256, 39, 7, 0.5
PADDING = 1.25
CENTRE, RIM = 33, 34
"""Auxiliary landmarks: the middle of the hips, and the point above it on a circle around the person."""
JOINTS = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8, "left_shoulder": 11,
    "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16,
    "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28,
}  # fmt: skip


class LandmarkNet:
    """The network of a tflite file."""

    def __init__(self, path: Path, threads: int) -> None:
        self.net = Interpreter(str(path), num_threads=threads)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        shapes = {tuple(out["shape"]): out["index"] for out in self.net.get_output_details()}
        self.landmarks, self.heatmaps = shapes[1, 5 * LANDMARKS], shapes[1, 64, 64, LANDMARKS]

    def __call__(self, crop: np.ndarray) -> np.ndarray:
        """[39, 3] x, y as shares of an RGB crop [256, 256, 3] uint8, and how sure the net is, 0 to 1."""
        self.net.set_tensor(self.input, crop[None].astype(np.float32) / 255)
        self.net.invoke()
        found = self.net.get_tensor(self.landmarks).reshape(LANDMARKS, 5)
        points = refine(found[:, :2] / SIZE, self.net.get_tensor(self.heatmaps)[0])
        return np.column_stack([points, sigmoid(found[:, 3])])


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


def refine(points: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """Moves points [39, 2] to the mean of the heat around them (RefineLandmarksFromHeatmapCalculator).

    Args:
        points: shares of the crop. heatmaps: [h, w, 39] logits.
    """
    height, width = heatmaps.shape[:2]
    out = points.copy()
    for k, (x, y) in enumerate(points):
        column, row = int(x * width), int(y * height)
        if not (0 <= column < width and 0 <= row < height):
            continue
        top, left = max(row - KERNEL // 2, 0), max(column - KERNEL // 2, 0)
        heat = sigmoid(heatmaps[top : row + KERNEL // 2 + 1, left : column + KERNEL // 2 + 1, k])
        if heat.max() >= LEAST_HEAT:
            rows, columns = np.mgrid[top : top + heat.shape[0], left : left + heat.shape[1]]
            out[k] = (columns * heat).sum() / heat.sum() / width, (rows * heat).sum() / heat.sum() / height
    return out


def to_image(centre: np.ndarray, side: float, turn: float) -> np.ndarray:
    """The affine [2, 3] from shares of a square crop to image pixels; ``turn``: clockwise, in radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    linear = side * np.array([[cos, -sin], [sin, cos]])
    # Shares and MediaPipe's pixels begin at the corner of the first pixel, labels at its centre.
    return np.column_stack([linear, centre - linear @ (0.5, 0.5) - 0.5])


def look(net: LandmarkNet, image: np.ndarray, centre: np.ndarray, side: float, turn: float) -> np.ndarray:
    """[39, 3] landmarks in image pixels, seen in a square."""
    affine = to_image(centre, side, turn)
    pixels = affine @ np.array([[1 / SIZE, 0, 0.5 / SIZE], [0, 1 / SIZE, 0.5 / SIZE], [0, 0, 1]])
    crop = cv2.warpAffine(
        image,
        pixels,
        (SIZE, SIZE),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    found = net(crop)
    found[:, :2] = found[:, :2] @ affine[:, :2].T + affine[:, 2]
    return found


def look_again(net: LandmarkNet, image: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The same in the square that landmarks [39, 3] say (AlignmentPointsRects, RectTransformation)."""
    towards = found[RIM, :2] - found[CENTRE, :2]
    turn = math.pi / 2 - math.atan2(-towards[1], towards[0])
    side = max(2 * PADDING * float(np.hypot(*towards)), 2.0)
    return look(net, image, found[CENTRE, :2] + 0.5, side, turn)


def run(net: LandmarkNet, jobs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """For each pass the named joints of every job."""
    rows = list(JOINTS.values())
    passes: dict[str, list[Any]] = {"boxes": [], "tracking": []}
    for job in jobs:
        image = cv2.imread(job["image"], cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f"{job['image']}: cannot be read as an image")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        x1, y1, x2, y2 = job["box_xyxy"]
        centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2]) + 0.5
        first = look(net, image, centre, PADDING * max(x2 - x1, y2 - y1, 1.0), 0.0)
        passes["boxes"].append(first[rows].tolist())
        passes["tracking"].append(look_again(net, image, first)[rows].tolist())
    return passes


def shipped_model() -> Path:
    """pose_landmark_full.tflite of the wheel that is installed; it is not imported."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("mediapipe is not installed here: pip install --no-deps mediapipe==0.10.21")
    return Path(spec.submodule_search_locations[0]) / "modules/pose_landmark/pose_landmark_full.tflite"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, help="default: the one in the installed wheel")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    net = LandmarkNet(options.model or shipped_model(), options.threads)
    start = time.monotonic()
    passes = run(net, json.loads(options.jobs.read_text()))
    seconds = time.monotonic() - start
    content = {"joints": list(JOINTS), "passes": passes, "seconds": seconds}
    options.out.write_text(json.dumps(content))


if __name__ == "__main__":
    main()
