"""Do suggested frames make better labels than evenly spaced ones?

    python benchmarks/suggest.py --data DIR:SPLIT [--intervals 7 5 4]

DIR is a data set of videos in which every frame is labelled. Of each video n = frames / T are labelled:
evenly spaced ones; or half of them evenly spaced and the others where `vidpose suggest` says, which knows
what is propagated from the first half. The others are propagated, and all frames scored by PoseTrack's
official mAP. Then the same with n x 0.9, 0.8 and 0.7 labels in all (--shares). Halved: half of them evenly
spaced and the others in the middle of the longest gaps between, which knows nothing of what is propagated.

With --told also a placement that nobody can have without the labels: `suggest` is told which of the joints
that were propagated from the first half are wrong (PCKh 0.5) in place of its confidences, each new label is
placed after the last one was propagated, and it bounds what better confidences would bring.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from propagation import official_ap, read_runs, within_pckh

from vidpose.data.convert import write_labels
from vidpose.data.dataset import PoseDataset, Video
from vidpose.errors import InputError
from vidpose.infer.propagation.dataset import fill_labels
from vidpose.infer.propagation.run import load_network
from vidpose.infer.propagation.suggest import by_doubt, evenly, suggest
from vidpose.io.files import write_json
from vidpose.models.video_model import PoseModel

WRONG = 0.02
"""Confidence in place of that of a joint that is wrong; 1 for a right one."""
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
    first = even(data, video, max(count // 2, 1))
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.json"
        write_labels([replace(data, videos=[with_labels(video, first)])], labels, "posetrack18")
        images = [str(frame.path) for frame in video.frames]
        more = suggest(images, labels, count - len(first)) if count > len(first) else []
    return first + [one.frame for one in more]


def even(data: PoseDataset, video: Video, count: int) -> list[int]:
    """``count`` evenly spaced frames."""
    return [frame for frame, _ in evenly(len(video.frames), count)]


def halved(data: PoseDataset, video: Video, count: int) -> list[int]:
    """``count`` frames: half of them evenly spaced, the others in the middle of the longest gaps."""
    first = even(data, video, max(count // 2, 1))
    away = np.abs(np.arange(len(video.frames))[:, None] - np.array(first)).min(axis=1, keepdims=True)
    alike = np.exp(-0.02 * away)  # confidence falls alike everywhere
    return first + [frame for frame, _ in by_doubt(alike, np.array(first), count - len(first))]


def told(data: PoseDataset, video: Video, count: int) -> list[int]:
    """``count`` frames: half of them evenly spaced, the others one by one where most joints are wrong."""
    chosen = even(data, video, max(count // 2, 1))
    while len(chosen) < count:
        found = _filled(replace(data, videos=[with_labels(video, chosen)])).videos[0]
        right = _right(video, found, data.skeleton.num_joints)
        chosen += [frame for frame, _ in by_doubt(right, np.array(sorted(chosen)), 1)]
    return chosen


def _right(truth: Video, found: Video, joints: int) -> np.ndarray:
    """[F, people x joints] 1 where a joint is within PCKh 0.5, ``WRONG`` where it is not or nobody was found,
    NaN where there is no truth."""
    ids = sorted({person.track_id for frame in truth.frames for person in frame.people})
    out = np.full((len(truth.frames), len(ids), joints), np.nan)
    for t, (true, made) in enumerate(zip(truth.frames, found.frames, strict=True)):
        people = {person.track_id: person.keypoints for person in made.people}
        for person in true.people:
            if person.head_box_xyxy is None:
                continue
            keypoints = people.get(person.track_id, np.zeros((joints, 3)))
            good = within_pckh(person, keypoints) & (keypoints[:, 2] > 0)
            known = person.keypoints[:, 2] > 0
            out[t, ids.index(person.track_id), known] = np.where(good, 1.0, WRONG)[known]
    return out.reshape(len(out), -1)


def score(truth: PoseDataset, chosen: list[list[int]]) -> float:
    """Official mAP of what is propagated from the labels of some frames of each video."""
    videos = [with_labels(video, frames) for video, frames in zip(truth.videos, chosen, strict=True)]
    return official_ap(truth, _filled(replace(truth, videos=videos)))["Mean"]


def _filled(data: PoseDataset) -> PoseDataset:
    return fill_labels(data, "auto", _network(), extend=10**6)


@cache
def _network() -> PoseModel | None:
    return load_network("auto")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT")
    parser.add_argument("--intervals", type=int, nargs="+", default=[7, 5, 4])
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES))
    parser.add_argument("--told", action="store_true", help="also place labels where joints are wrong")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    try:
        data = read_runs(options.data)
        placements = [even, suggested, halved, *([told] if options.told else [])]
        print(f"{'T':>3} {'':10}" + "".join(f"{f'x {share:.1f}':>9}" for share in options.shares), flush=True)
        for interval in options.intervals:
            counts = [max(round(len(video.frames) / interval), 2) for video in data.videos]
            pairs = list(zip(data.videos, counts, strict=True))
            for place in placements:
                name = place.__name__
                found = {
                    str(share): score(data, [place(data, v, max(round(share * n), 2)) for v, n in pairs])
                    for share in options.shares
                }
                rows.append({"T": interval, "placement": name, **found})
                cells = "".join(f"{value:9.1f}" for value in found.values())
                print(f"{interval:3} {name:10}{cells}", flush=True)
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, rows)


if __name__ == "__main__":
    main()
