"""Processor time of a frame while one person is tracked, beside MediaPipe full doing the same.

    python benchmarks/tracking_speed.py VIDEO --mediapipe-python mp-venv/bin/python [--models hrnet tdmi]

Frames are decoded and scaled to 720 lines first, outside the measurement; both sides then run in one thread
from RGB frames to joints:

- vidpose: `estimate --tracker poses --max-people 1` with the weights that ship. The detector sees the
  first frame, which is not measured, and more where the pose becomes unsure, which is.
- MediaPipe: its full landmark network in the turned square that the landmarks of the frame before say,
  border, refinement and squares as in its graphs (benchmarks/mediapipe_poses.py, which says how to make the
  environment). The first square is that of vidpose's first box. Its smoothing is left out.

Both run in turns, in processes of their own; printed are the medians of ``--pairs`` turns and the median of
the ratios of a turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LINES = 720
WARM_UP = 6
"""Frames that are not measured."""


def mediapipe_worker(frames: Path) -> None:
    """In MediaPipe's environment: for each line with a box on standard input the seconds a frame."""
    from mediapipe_poses import (
        CENTRE,
        PADDING,
        RIM,
        LandmarkNet,
        installed_models,
        longer_side,
        look,
        look_upright,
    )

    net = LandmarkNet(installed_models() / "pose_landmark/pose_landmark_full.tflite", 1)
    images = np.load(frames, mmap_mode="r")
    for line in sys.stdin:
        box = np.array(json.loads(line))
        found = look(
            net, np.asarray(images[0]), (box[:2] + box[2:]) / 2 + 0.5, PADDING * longer_side(box), 0.0
        )
        start = 0.0
        for k, image in enumerate(images):
            if k == WARM_UP:
                start = time.process_time()
            found = look_upright(net, np.asarray(image), *found[[CENTRE, RIM], :2])
        print(json.dumps((time.process_time() - start) / (len(images) - WARM_UP)), flush=True)


def decoded(video: str, count: int) -> tuple[np.ndarray, float]:
    """[N, H, W, 3] the first frames at 720 lines, and the rate of the video."""
    import cv2

    from vidpose.io.video import open_video

    images = []
    with open_video(video) as source:
        width = round(source.width * LINES / source.height)
        for frame in source:
            images.append(cv2.resize(frame.image, (width, LINES), interpolation=cv2.INTER_AREA))
            if len(images) == count:
                break
        if source.fps is None or len(images) <= WARM_UP:
            raise SystemExit(f"{video}: a video with a clock and more than {WARM_UP} frames is needed")
        return np.stack(images), source.fps


class Memory:
    """Frames in memory, as a source."""

    def __init__(self, images: np.ndarray, fps: float) -> None:
        self.name = self.label = "memory"
        self.fps, self.num_frames = fps, len(images)
        self.height, self.width = images.shape[1:3]
        self.skipped, self.reports = 0, ()
        self._images = enumerate(images)

    def __next__(self) -> Any:
        from vidpose.io.video import VideoFrame

        k, image = next(self._images)
        return VideoFrame(k, k / self.fps, image)

    def close(self) -> None:
        pass


def vidpose_turn(estimator: Any, images: np.ndarray, fps: float) -> dict[str, Any]:
    """Seconds a frame, and what was done meanwhile."""
    from vidpose.infer.live import FollowStream

    stream = FollowStream(estimator, Memory(images, fps))  # type: ignore[arg-type]
    start, people, box = 0.0, 0, None
    for k, poses in enumerate(stream):
        if k == WARM_UP:
            start, seen = time.process_time(), stream.frames_seen
        people += len(poses)
        box = poses.boxes[0].tolist() if box is None and len(poses) else box
    seconds = (time.process_time() - start) / (len(images) - WARM_UP)
    if box is None:
        raise SystemExit("vidpose follows nobody in this video")
    return {
        "seconds": seconds,
        "detections": stream.frames_seen - seen,
        "poses": people / len(images),
        "box": box,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video")
    parser.add_argument("--mediapipe-python", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["hrnet", "tdmi"])
    parser.add_argument("--weights", default="default")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=90)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from vidpose import PoseEstimator

    torch.set_num_threads(1)
    images, fps = decoded(options.video, options.frames)
    common = {"device": "cpu", "precision": options.precision, "tracker": "poses", "max_people": 1}
    estimators = {name: PoseEstimator(name, options.weights, **common) for name in options.models}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.npy"
        np.save(path, images)
        command = [str(options.mediapipe_python), __file__, "--mediapipe-worker", str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            turns: dict[str, list[dict[str, Any]]] = {name: [] for name in estimators}
            peer: list[float] = []
            for _ in range(options.pairs):
                for name, estimator in estimators.items():
                    turns[name].append(vidpose_turn(estimator, images, fps))
                print(json.dumps(turns[options.models[0]][0]["box"]), file=worker.stdin, flush=True)
                peer.append(float(worker.stdout.readline()))
            worker.stdin.close()
    print(f"{len(images)} frames of {images.shape[2]}x{LINES}, {options.pairs} pairs, one thread")
    print(f"{'MediaPipe full':16}{1e3 * np.median(peer):7.1f} ms a frame")
    for name, mine in turns.items():
        seconds = np.array([turn["seconds"] for turn in mine])
        ratio, dtype = np.median(seconds / peer), str(estimators[name].dtype).removeprefix("torch.")
        print(
            f"{name:16}{1e3 * np.median(seconds):7.1f} ms a frame, {ratio:.2f} times MediaPipe ({dtype}, "
            f"{mine[0]['detections']} detections, {mine[0]['poses']:.2f} people a frame)"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--mediapipe-worker"]:
        mediapipe_worker(Path(sys.argv[2]))
    else:
        main()
