"""How right are poses between labels? Every rival of `vidpose propagate`, by the distance of the labels.

    python benchmarks/propagation.py --data DIR:SPLIT [--intervals 7 15] [--methods auto dis interpolate]

DIR is a data set of videos in which every frame is labelled. Of each video's longest labelled run the labels
of every T-th frame are kept, from frame T / 2 on, as PoseWarper's protocol has it, and the others are
propagated. Scored is PoseTrack's official mAP over all frames of the runs, and over those without labels
alone. A method ending in `/1` takes optical flow from the nearest label only; networks are given with their
weights, `stdpose=runs/stdpose/best.safetensors`, once for each seed: their scores are averaged in the plot.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.convert import write_labels
from vidpose.data.dataset import Person, PoseDataset, Video
from vidpose.data.readers import parse_place, read_dataset
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.sequence import head_size
from vidpose.infer.propagation import METHODS
from vidpose.infer.propagation.dataset import fill_labels, thin_labels
from vidpose.infer.propagation.run import load_network
from vidpose.io.files import write_json
from vidpose.progress import track

INTERVALS = (2, 3, 5, 7, 9, 15)
RIVALS = ("copy", "interpolate", "spline", "dis/1", "dis", "auto")
COLUMNS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "Mean")


def longest_run(video: Video) -> Video:
    """The longest stretch of labelled frames; its frames are numbered from 0."""
    labelled = [frame.is_labeled for frame in video.frames]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], labelled, [False]]).astype(int)))
    start, end = max(edges.reshape(-1, 2).tolist(), key=lambda run: run[1] - run[0], default=(0, 0))
    frames = [replace(frame, index=k) for k, frame in enumerate(video.frames[start:end])]
    return replace(video, frames=frames)


def read_runs(given: str) -> PoseDataset:
    """The longest labelled run of every video of ``DIR:SPLIT``, where it has three frames or more."""
    data = read_dataset(*parse_place(given))
    return replace(data, videos=[run for v in data.videos if len((run := longest_run(v)).frames) > 2])


def parse(method: str) -> tuple[str, str, str]:
    """Name, weights and way of a method as of the command line."""
    name, _, weights = method.partition("=")
    name, _, way = name.partition("/")
    return name, weights or "default", way


def propagated(data: PoseDataset, interval: int, method: str) -> PoseDataset:
    """Every video of a data set, its labels thinned and propagated."""
    name, weights, way = parse(method)
    title, model, videos = f"{name} T={interval}", load_network(name, weights), []
    for video in track(data.videos, title, unit="videos"):
        thinned = thin_labels(replace(data, videos=[video]), interval)
        videos += fill_labels(thinned, name, model, one_way=way == "1", extend=interval).videos
    return replace(data, videos=videos)


def official_ap(truth: PoseDataset, found: PoseDataset) -> dict[str, float]:
    """PoseTrack's official AP, by joint and in the mean."""
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("truth", "found")]
        for data, place in zip((truth, found), places, strict=True):
            write_labels([data], place, "posetrack18")
        result = evaluate(*(place / "annotations" / truth.split for place in places))
    return {name: float(result["ap"][name]) for name in COLUMNS}


def within_pckh(truth: Person, keypoints: np.ndarray) -> np.ndarray:
    """[J] bool: keypoints [J, 2 or more] within PCKh 0.5 of a person's (half of 0.6 times the diagonal of
    their head box, which is labelled)."""
    assert truth.head_box_xyxy is not None
    size = head_size(*truth.head_box_xyxy)
    near: np.ndarray = np.linalg.norm(keypoints[:, :2] - truth.keypoints[:, :2], axis=1) <= 0.5 * size
    return near


def score(truth: PoseDataset, found: PoseDataset, interval: int) -> dict[str, dict[str, float]]:
    """Official AP over all frames, and over those that had no labels."""
    scores = {}
    for title in ("all", "unlabelled"):
        parts = []
        for data in (truth, found):
            videos = []
            for video in data.videos:
                kept = [
                    f for k, f in enumerate(video.frames) if title == "all" or k % interval != interval // 2
                ]
                videos.append(replace(video, frames=kept))
            parts.append(replace(data, videos=videos))
        scores[title] = official_ap(*parts)
    return scores


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """mAP of frames without labels over the distance of the labels, a line for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in results if row["frames"] == "unlabelled"]
    for method in dict.fromkeys(row["method"].partition("=")[0] for row in rows):
        by_interval: dict[int, list[float]] = {}
        for row in rows:
            if row["method"].partition("=")[0] == method:
                by_interval.setdefault(row["T"], []).append(row["Mean"])
        points = list(by_interval), [float(np.mean(values)) for values in by_interval.values()]
        axes.plot(*points, marker="o", ms=4, label=method, linewidth=2.5 if method == "auto" else 1.2)
    axes.set(xlabel="frames from label to label", ylabel="mAP of frames without labels", ylim=(0, 100))
    axes.set_xticks(sorted({row["T"] for row in results}))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT")
    parser.add_argument("--intervals", type=int, nargs="+", default=list(INTERVALS))
    parser.add_argument("--methods", nargs="+", default=list(RIVALS))
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--plot", type=Path, help="also draw the curves over T")
    options = parser.parse_args()
    if not {parse(method)[0] for method in options.methods} <= set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}")
    results = []
    try:
        data = read_runs(options.data)
        print(f"{'':4}{'method':34}{'frames':12}" + "".join(f"{name:>9}" for name in COLUMNS))
        for interval in options.intervals:
            for method in options.methods:
                found = propagated(data, interval, method)
                for title, values in score(data, found, interval).items():
                    results.append({"T": interval, "method": method, "frames": title, **values})
                    cells = "".join(f"{values[name]:9.1f}" for name in COLUMNS)
                    print(f"{interval:<4}{method[-33:]:34}{title:12}{cells}", flush=True)
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, results)
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
