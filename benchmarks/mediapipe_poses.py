"""Poses of MediaPipe's landmark network in given boxes, for benchmarks/real.py, which starts this by itself.

    python -m venv mp-venv
    mp-venv/bin/pip install --no-deps mediapipe==0.10.21
    mp-venv/bin/pip install ai-edge-litert numpy opencv-python-headless
    mp-venv/bin/python benchmarks/mediapipe_poses.py JOBS.json OUT.json [--models FOLDER]

It runs in an environment of its own and imports nothing of vidpose. JOBS.json is a list of
``{"image": FILE, "box_xyxy": [x1, y1, x2, y2]}``; with ``"mirrored": true`` the picture is mirrored for the
networks, and their answer mirrored back, left and right exchanged. OUT.json has ``joints``, their names, and
for each of three ways to choose the crop (``--ways``: some of them) the joints of every job,
``[x, y, score]`` in image pixels:

- ``boxes``: an upright square of 1.25 times the longer side of the box;
- ``tracking``: a second look where the landmarks of the first put the person, turned upright, as MediaPipe
  does from the second frame of a video on;
- ``detector``: where MediaPipe's own detector puts the person, turned upright. It sees a square of twice the
  longer side; of its detections the surest one whose hips lie in the box counts; without one it is as
  ``boxes``.

The crop's border, the refinement by heatmaps and the turned squares are those of MediaPipe's graphs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

SIZE, LANDMARKS, KERNEL, LEAST_HEAT = 256, 39, 7, 0.5
VIEW, LEAST_SCORE, ANCHORS = 224, 0.5, ((8, 2), (16, 2), (32, 6))
"""Of the detector: pixels of its input, the score of a person, and for each stride its anchors at a place."""
PADDING, AROUND = 1.25, 2.0
WAYS = ("boxes", "tracking", "detector")
CENTRE, RIM = 33, 34
"""Auxiliary landmarks: the middle of the hips, and the point above it on a circle around the person."""
JOINTS = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8, "left_shoulder": 11,
    "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14, "left_wrist": 15, "right_wrist": 16,
    "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26, "left_ankle": 27, "right_ankle": 28,
}  # fmt: skip

PARTNERS = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9]
"""Of each landmark, where a mirrored picture has it: the face's here, then pairs of left and right."""
PARTNERS += [k + 1 if k % 2 else k - 1 for k in range(11, 33)]
PARTNERS += range(33, LANDMARKS)


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


class Detector:
    """MediaPipe's person detector, for the two points that say where the crop is and how it is turned."""

    def __init__(self, path: Path, threads: int) -> None:
        self.net = Interpreter(str(path), num_threads=threads)
        self.net.allocate_tensors()
        self.input = self.net.get_input_details()[0]["index"]
        self.outputs = {int(out["shape"][-1]): out["index"] for out in self.net.get_output_details()}
        places = []
        for stride, count in ANCHORS:
            side = VIEW // stride
            rows, columns = np.mgrid[:side, :side].reshape(2, -1)
            places.append(np.repeat((np.column_stack([columns, rows]) + 0.5) / side, count, axis=0))
        self.anchors = np.concatenate(places)

    def __call__(self, image: np.ndarray, box: np.ndarray) -> np.ndarray | None:
        """[2, 2] the middle of the hips and a point of the circle in image pixels; ``None``: no hips lie
        in the box [4]."""
        affine = to_image((box[:2] + box[2:]) / 2 + 0.5, AROUND * longer_side(box), 0.0)
        crop = cut(image, affine, VIEW, cv2.BORDER_CONSTANT)
        self.net.set_tensor(self.input, crop[None].astype(np.float32) / 127.5 - 1)
        self.net.invoke()
        scores = sigmoid(self.net.get_tensor(self.outputs[1]).reshape(-1))
        # Box (4 numbers), then four points, of which the first two count: pixels beside the anchor.
        points = self.net.get_tensor(self.outputs[12]).reshape(-1, 6, 2)[:, 2:4]
        points = (points / VIEW + self.anchors[:, None]) @ affine[:, :2].T + affine[:, 2]
        inside = ((points[:, 0] >= box[:2]) & (points[:, 0] <= box[2:])).all(axis=1)
        best = int(np.argmax(scores * inside))
        return points[best] if inside[best] and scores[best] >= LEAST_SCORE else None


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -100, 100)))


def longer_side(box: np.ndarray) -> float:
    return max(*(box[2:] - box[:2]), 1.0)


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


def cut(image: np.ndarray, affine: np.ndarray, size: int, border: int) -> np.ndarray:
    """The crop [size, size, 3] of an image under the affine of :func:`to_image`."""
    pixels = affine @ np.array([[1 / size, 0, 0.5 / size], [0, 1 / size, 0.5 / size], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pixels, (size, size), flags=flags, borderMode=border)


def look(net: LandmarkNet, image: np.ndarray, centre: np.ndarray, side: float, turn: float) -> np.ndarray:
    """[39, 3] landmarks in image pixels, seen in a square."""
    affine = to_image(centre, side, turn)
    found = net(cut(image, affine, SIZE, cv2.BORDER_REPLICATE))
    found[:, :2] = found[:, :2] @ affine[:, :2].T + affine[:, 2]
    return found


def look_upright(net: LandmarkNet, image: np.ndarray, hips: np.ndarray, rim: np.ndarray) -> np.ndarray:
    """The same in the square around the circle that two points say, the second one above the first
    (AlignmentPointsRects, RectTransformation)."""
    towards = rim - hips
    turn = math.pi / 2 - math.atan2(-towards[1], towards[0])
    return look(net, image, hips + 0.5, max(2 * PADDING * float(np.hypot(*towards)), 2.0), turn)


def mirror(points: np.ndarray, width: int) -> np.ndarray:
    """Landmarks [39, 3] of a mirrored picture as those of the picture."""
    out = points[PARTNERS]
    out[:, 0] = width - 1 - out[:, 0]
    return out


def run(
    net: LandmarkNet, detector: Detector, jobs: list[dict[str, Any]], wanted: Sequence[str] = WAYS
) -> dict[str, list[Any]]:
    """For each wanted way to choose the crop the named joints of every job."""
    rows = list(JOINTS.values())
    ways: dict[str, list[Any]] = {way: [] for way in wanted}
    for job in jobs:
        image = cv2.imread(job["image"], cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f"{job['image']}: cannot be read as an image")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        box = np.array(job["box_xyxy"], dtype=np.float64)
        mirrored = bool(job.get("mirrored"))
        if mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
            box[[0, 2]] = image.shape[1] - 1 - box[[2, 0]]
        found: dict[str, np.ndarray] = {}
        points = detector(image, box) if "detector" in wanted else None
        if wanted != ("detector",) or points is None:
            found["boxes"] = look(net, image, (box[:2] + box[2:]) / 2 + 0.5, PADDING * longer_side(box), 0.0)
        if "tracking" in wanted:
            hips, rim = found["boxes"][[CENTRE, RIM], :2]
            found["tracking"] = look_upright(net, image, hips, rim)
        if "detector" in wanted:
            found["detector"] = found["boxes"] if points is None else look_upright(net, image, *points)
        for way in wanted:
            answer = mirror(found[way], image.shape[1]) if mirrored else found[way]
            ways[way].append(answer[rows].tolist())
    return ways


def installed_models() -> Path:
    """The folder of the networks in the wheel that is installed; it is not imported."""
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("mediapipe is not installed here: pip install --no-deps mediapipe==0.10.21")
    return Path(spec.submodule_search_locations[0]) / "modules"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("jobs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path, help="folder `modules` of the wheel; default: as installed")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="default: all three")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    folder = options.models or installed_models()
    net = LandmarkNet(folder / "pose_landmark/pose_landmark_full.tflite", options.threads)
    detector = Detector(folder / "pose_detection/pose_detection.tflite", options.threads)
    start = time.monotonic()
    ways = run(net, detector, json.loads(options.jobs.read_text()), tuple(options.ways))
    seconds = time.monotonic() - start
    options.out.write_text(json.dumps({"joints": list(JOINTS), "ways": ways, "seconds": seconds}))


if __name__ == "__main__":
    main()
