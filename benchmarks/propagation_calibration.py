"""Does the confidence of propagated joints mean what it says?

    python benchmarks/propagation_calibration.py --data DIR:SPLIT [DIR:SPLIT ...] [--plot FILE.png]

DIR is a data set of videos in which every frame is labelled. The labels of every T-th frame are kept, `auto`
propagates the others, and its joints are sorted by confidence into ten bins of one width. A joint is right
within PCKh 0.5 of its label (half of 0.6 times the diagonal of the head box; where there is none, half of
what the box tells of it). Joints of people who are not labelled in that frame are left out: nobody can say
where they are.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from propagation import read_runs, within_pckh

from vidpose.data.dataset import PoseDataset
from vidpose.errors import InputError
from vidpose.infer.propagation.dataset import fill_labels, thin_labels
from vidpose.infer.propagation.run import load_network
from vidpose.io.files import write_json
from vidpose.progress import track

BINS = 10


def joints(data: PoseDataset, interval: int) -> tuple[np.ndarray, np.ndarray]:
    """[N] confidences and [N] bool of what is right, of every propagated joint whose truth is known."""
    sure, right = [], []
    network = load_network("auto")
    for video in track(data.videos, f"T={interval}", unit="videos"):
        one = replace(data, videos=[video])
        filled = fill_labels(thin_labels(one, interval), "auto", network, extend=interval).videos[0]
        for frame, true in zip(filled.frames, video.frames, strict=True):
            people = {person.track_id: person for person in true.people}
            for person in frame.people:
                truth = people.get(person.track_id)
                if person.joint_scores is None or truth is None:
                    continue
                both = (person.keypoints[:, 2] > 0) & (truth.keypoints[:, 2] > 0)
                sure.append(person.joint_scores[both])
                right.append(within_pckh(truth, person.keypoints)[both])
    return np.concatenate(sure), np.concatenate(right)


def table(sure: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """For each bin its joints, their mean confidence, and the share that is right."""
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    rows = []
    for k in range(BINS):
        here = bins == k
        if here.any():
            rows.append(
                {
                    "joints": int(here.sum()),
                    "confidence": float(sure[here].mean()),
                    "right": float(right[here].mean()),
                }
            )
    return rows


def draw(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """The share of right joints over their confidence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="as it says")
    for name, rows in curves.items():
        axes.plot([r["confidence"] for r in rows], [r["right"] for r in rows], marker="o", ms=4, label=name)
    axes.set(xlabel="confidence", ylabel="share within PCKh 0.5", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, nargs="+", metavar="DIR:SPLIT")
    parser.add_argument("--intervals", type=int, nargs="+", default=[7, 15])
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--plot", type=Path, help="also draw them")
    options = parser.parse_args()
    curves: dict[str, list[dict[str, float]]] = {}
    try:
        for given in options.data:
            data = read_runs(given)
            for interval in options.intervals:
                sure, right = joints(data, interval)
                rows = table(sure, right)
                name = f"{data.root.name}, T = {interval}"
                curves[name] = rows
                error = sum(r["joints"] * abs(r["confidence"] - r["right"]) for r in rows) / len(sure)
                print(f"{name}: {len(sure)} joints, mean distance of confidence and truth {error:.3f}")
                for row in rows:
                    print(f"  {row['confidence']:.2f}  {row['right']:.2f}  {row['joints']:7}")
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, curves)
    if options.plot:
        draw(curves, options.plot)


if __name__ == "__main__":
    main()
