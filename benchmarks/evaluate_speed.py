"""Speed of the PoseTrack evaluation: 4,000 frames with 6 people each, 1 s allowed besides parsing JSON.

    python benchmarks/evaluate_speed.py [--frames N] [--people N] [--poseval DIR]

``--poseval DIR`` is a checkout of leonid-pishchulin/poseval, to be measured beside it on the same files; it
needs motmetrics, shapely, click and tqdm. Times are processor time, which other programs disturb least; where
the limit applies the clock's is given too.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.evaluate import evaluate
from vidpose.skeletons import POSETRACK17, POSETRACK18

LIMIT_S = 1.0
FRAMES_PER_VIDEO = 100


def make_case(folder: Path, layout: str, frames: int, people: int, crowded: bool, seed: int) -> None:
    """Writes ``gt/*.json`` and ``pred/*.json``: people that walk, predictions with errors and changing ids.

    ``crowded`` puts everybody into one place and predicts each person twice, so that nearly every joint is
    within reach of several.
    """
    rng = np.random.default_rng(seed)
    for side in ("gt", "pred"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for video, first in enumerate(range(0, frames, FRAMES_PER_VIDEO)):
        count = min(FRAMES_PER_VIDEO, frames - first)
        spread = 40.0 if crowded else 900.0
        base = rng.uniform(0, spread, (people, 1, 2)) + rng.normal(0, 45, (people, 15, 2))
        walk = np.cumsum(rng.normal(0, 2, (count, people, 1, 2)), axis=0)
        truth = base + walk + rng.normal(0, 1, (count, people, 15, 2))  # [T, P, 15, 2]
        copies = 2 if crowded else 1
        found = np.repeat(truth, copies, axis=1)
        found = found + rng.normal(
            0, rng.choice([2.0, 12.0], p=[0.85, 0.15], size=(*found.shape[:3], 1)), found.shape
        )
        annotated = rng.random((count, people, 15)) < 0.9
        scores = rng.random(found.shape[:3])
        tracks = np.arange(people * copies)
        sides: dict[str, list[list[tuple[int, np.ndarray, np.ndarray, np.ndarray | None]]]] = {
            "gt": [],
            "pred": [],
        }
        for t in range(count):
            sides["gt"].append([(p, truth[t, p], annotated[t, p], None) for p in range(people)])
            if rng.random() < 0.05:
                rng.shuffle(tracks)
            everywhere = np.ones(15, dtype=bool)
            sides["pred"].append(
                [(int(tracks[p]), found[t, p], everywhere, scores[t, p]) for p in range(len(tracks))]
            )
        name = f"{video:06d}_mpii_test"
        write = _posetrack17 if layout == "posetrack17" else _posetrack18
        for side, people_of_frames in sides.items():
            (folder / side / f"{name}.json").write_text(json.dumps(write(name, video, people_of_frames)))


def _posetrack17(name: str, video: int, frames: list[Any]) -> dict[str, Any]:
    out = []
    for t, people in enumerate(frames):
        rects = []
        for track, xy, present, scores in people:
            points = [
                {"id": [j], "x": [round(float(xy[j, 0]), 3)], "y": [round(float(xy[j, 1]), 3)],
                 **({"score": [float(scores[j])]} if scores is not None else {"is_visible": [1]})}
                for j in range(15) if present[j]
            ]  # fmt: skip
            rects.append(
                {"track_id": [track], "x1": [0.0], "y1": [0.0], "x2": [30.0], "y2": [30.0],
                 "annopoints": [{"point": points}]}
            )  # fmt: skip
        out.append({"image": [{"name": f"images/{name}/{t:08d}.jpg"}], "imgnum": [t + 1], "annorect": rects})
    return {"annolist": out}


def _posetrack18(name: str, video: int, frames: list[Any]) -> dict[str, Any]:
    slots = [POSETRACK18.index[joint] for joint in POSETRACK17.joints]
    images, annotations = [], []
    for t, people in enumerate(frames):
        image_id = 10_000_000_000 + video * 10_000 + t
        images.append({"id": image_id, "file_name": f"images/{name}/{t:08d}.jpg", "vid_id": f"{video:06d}"})
        for track, xy, present, scores in people:
            keypoints, values = np.zeros((17, 3)), np.zeros(17)
            keypoints[slots, :2] = np.where(present[:, None], xy.round(3), 0)
            keypoints[slots, 2] = present
            if scores is not None:
                values[slots] = scores
            annotations.append(
                {"image_id": image_id, "id": len(annotations), "track_id": track, "category_id": 1,
                 "keypoints": keypoints.ravel().tolist(), "bbox_head": [0.0, 0.0, 30.0, 30.0],
                 "scores": values.tolist() if scores is not None else []}
            )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.joints)}
    return {"images": images, "annotations": annotations, "categories": [category]}


def measure(folder: Path, repeats: int) -> tuple[float, float, float, float]:
    """Seconds, the best of ``repeats``, parsing once.

    Processor time to parse the JSON, to evaluate the folders (parsing included), to evaluate what was parsed,
    and the clock's time for the last.
    """
    names = sorted(path.name for path in (folder / "gt").glob("*.json"))
    gc.disable()
    started = time.process_time()
    parsed = [[json.loads((folder / side / name).read_text()) for name in names] for side in ("gt", "pred")]
    parse_s = time.process_time() - started
    gc.enable()
    cpu_s = wall_s = folders_s = float("inf")
    for _ in range(repeats):
        started, clock = time.process_time(), time.perf_counter()
        evaluate(parsed[0], parsed[1])
        cpu_s = min(cpu_s, time.process_time() - started)
        wall_s = min(wall_s, time.perf_counter() - clock)
    del parsed
    for _ in range(repeats):
        started = time.process_time()
        evaluate(folder / "gt", folder / "pred")
        folders_s = min(folders_s, time.process_time() - started)
    return parse_s, folders_s, cpu_s, wall_s


def measure_original(folder: Path, checkout: str) -> float:
    """Processor seconds that the original takes for the same files, reading included."""
    sys.path.insert(0, checkout)
    from poseval.eval_helpers import load_data_dir
    from poseval.evaluateAP import evaluateAP
    from poseval.evaluateTracking import evaluateTracking

    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = load_data_dir(["", str(folder / "gt"), f"{folder / 'pred'}/"])
        evaluateAP(truth, found, "", False)
        evaluateTracking(truth, found, "", False)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=4000)
    parser.add_argument("--people", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--poseval", metavar="DIR", help="a checkout of the original, to be measured beside it"
    )
    options = parser.parse_args()
    print(
        f"{options.frames} frames x {options.people} people, {platform.processor() or platform.machine()}\n"
    )
    print(
        "| files | crowded | parse s | evaluate s | of the limit | evaluate, clock s | folders, all s "
        "| original, all s | times faster |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    for layout in ("posetrack17", "posetrack18"):
        for crowded in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                make_case(folder, layout, options.frames, options.people, crowded, seed=0)
                parse_s, folders_s, cpu_s, wall_s = measure(folder, options.repeats)
                original = faster = "-"
                if options.poseval:
                    original_s = measure_original(folder, options.poseval)
                    original, faster = f"{original_s:.1f}", f"{original_s / folders_s:.0f}"
            cells = (
                layout, "yes" if crowded else "no", f"{parse_s:.2f}", f"{cpu_s:.2f}",
                f"{100 * cpu_s / LIMIT_S:.0f} %", f"{wall_s:.2f}", f"{folders_s:.2f}", original, faster,
            )  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
