"""Do suggested frames make better labels than evenly spaced ones?

    python benchmarks/suggest.py --data DIR:SPLIT [--intervals 7 5 4]

DIR is a data set of videos in which every frame is labelled. Of each video n = frames / T are labelled:
evenly spaced ones; or half of them evenly spaced and the others where `vidpose suggest` says, which knows
what is propagated from the first half. The others are propagated, and all frames scored by PoseTrack's
official mAP. Then the same with n x 0.9, 0.8 and 0.7 labels in all (--shares).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from propagation import official_ap, read_runs

from vidpose.data.convert import write_labels
from vidpose.data.dataset import PoseDataset, Video
from vidpose.errors import InputError
from vidpose.infer.propagation.dataset import fill_labels
from vidpose.infer.propagation.suggest import evenly, suggest
from vidpose.io.files import write_json

SHARES = (1.0, 0.9, 0.8, 0.7)


def with_labels(video: Video, chosen: Iterable[int]) -> Video:
    """The video with the labels of some frames."""
    kept = set(chosen)
    frames = [
        frame if k in kept else replace(frame, is_labeled=False, people=[])
        for k, frame in enumerate(video.frames)
    ]
    return replace(video, frames=frames)


def suggested(data: PoseDataset, video: Video, count: int) -> list[int]:
    """``count`` frames: half of them evenly spaced, the others as suggested after these."""
    first = [frame for frame, _ in evenly(len(video.frames), max(count // 2, 1))]
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.json"
        write_labels([replace(data, videos=[with_labels(video, first)])], labels, "posetrack18")
        images = [str(frame.path) for frame in video.frames]
        more = suggest(images, labels, count - len(first)) if count > len(first) else []
    return first + [one.frame for one in more]


def score(truth: PoseDataset, chosen: list[list[int]]) -> float:
    """Official mAP of what is propagated from the labels of some frames of each video."""
    videos = [with_labels(video, frames) for video, frames in zip(truth.videos, chosen, strict=True)]
    found = fill_labels(replace(truth, videos=videos), extend=10**6)
    return official_ap(truth, found)["Mean"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT")
    parser.add_argument("--intervals", type=int, nargs="+", default=[7, 5, 4])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    rows = []
    try:
        data = read_runs(options.data)
        print(
            f"{'T':>3}{'even':>9}" + "".join(f"{f'x {share:.1f}':>9}" for share in options.shares), flush=True
        )
        for interval in options.intervals:
            counts = [max(round(len(video.frames) / interval), 2) for video in data.videos]
            pairs = list(zip(data.videos, counts, strict=True))
            even = score(data, [[k for k, _ in evenly(len(v.frames), n)] for v, n in pairs])
            found = [
                score(data, [suggested(data, v, max(round(share * n), 2)) for v, n in pairs])
                for share in options.shares
            ]
            rows.append(
                {"T": interval, "even": even, **dict(zip(map(str, options.shares), found, strict=True))}
            )
            print(f"{interval:3}{even:9.1f}" + "".join(f"{value:9.1f}" for value in found), flush=True)
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, rows)


if __name__ == "__main__":
    main()
