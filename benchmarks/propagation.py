"""How right are poses between labels? Every rival of `vidpose propagate`, by the distance of the labels.

    python benchmarks/propagation.py --data DIR:SPLIT [--intervals 7 15] [--methods auto dis interpolate]

DIR is a data set of videos in which every frame is labelled. Of each video's longest labelled run the labels
of every T-th frame are kept, from frame T / 2 on, as PoseWarper's protocol has it, and the others are
propagated. A method ending in `/1` takes optical flow from the nearest label only; networks are given with
their weights, a file or the name of a set, `stdpose=runs/stdpose/best.safetensors`, once for each seed: their
scores are averaged in the plot. `--limit N` takes N videos, evenly spaced. Scored are

- PoseTrack's official mAP over all frames of the runs, and over those without labels alone, where people have
  head boxes, which are its unit;
- the share of the joints without labels within 0.05 and 0.1 of the larger side of the person's true box. All
  joints count that propagation was to fill: a method that leaves one out has it wrong.

Below each table of shares stand the paired differences of `auto` to every rival, with 95 % intervals by
bootstrap over videos; clips of one film stay together where names tell it (JHMDB).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from real_scores import PARTS, Tally, box_sides, by_part, difference, film_of, tally

from vidpose.data.convert import write_labels
from vidpose.data.dataset import Person, PoseDataset, Video
from vidpose.data.readers import parse_place, read_dataset
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.units import pckh_unit
from vidpose.infer.propagation import METHODS
from vidpose.infer.propagation.dataset import fill_labels, thin_labels
from vidpose.infer.propagation.run import load_network
from vidpose.io.files import write_json
from vidpose.progress import track

INTERVALS = (2, 3, 5, 7, 9, 15)
RIVALS = ("copy", "interpolate", "spline", "dis/1", "dis", "auto")
BOX_SHARES = (0.05, 0.1)
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


def evenly_chosen(data: PoseDataset, count: int | None) -> PoseDataset:
    """``count`` of the videos, evenly spaced; all where there are no more."""
    if count is None or count >= len(data.videos):
        return data
    places = np.linspace(0, len(data.videos) - 1, count).round().astype(int)
    return replace(data, videos=[data.videos[k] for k in places])


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
        filled = fill_labels(thinned, name, model, weights=weights, one_way=way == "1", extend=interval)
        videos += filled.videos
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
    their head box, or what the box tells of it)."""
    size = pckh_unit(truth.head_box_xyxy, truth.box_xyxy)
    near: np.ndarray = np.linalg.norm(keypoints[:, :2] - truth.keypoints[:, :2], axis=1) <= 0.5 * size
    return near


def is_kept(position: int, interval: int) -> bool:
    """Whether a frame of a run keeps its labels."""
    return position % interval == interval // 2


def has_head_boxes(data: PoseDataset) -> bool:
    """Whether all people with joints have one: mAP's unit of distance."""
    people = [person for _, frame in data.frames() for person in frame.people]
    return all(p.head_box_xyxy is not None for p in people if (p.keypoints[:, 2] > 0).any())


def map_scores(truth: PoseDataset, found: PoseDataset, interval: int) -> dict[str, dict[str, float]]:
    """Official AP over all frames, and over those that had no labels."""
    scores = {}
    for title in ("all", "unlabelled"):
        parts = []
        for data in (truth, found):
            videos = []
            for video in data.videos:
                kept = [f for k, f in enumerate(video.frames) if title == "all" or not is_kept(k, interval)]
                videos.append(replace(video, frames=kept))
            parts.append(replace(data, videos=videos))
        scores[title] = official_ap(*parts)
    return scores


@dataclass
class Unlabelled:
    """N people in frames without labels, J joints."""

    keypoints: np.ndarray
    """[N, J, 3] x, y in pixels, and 1 where the joint was to be filled and the truth is known."""
    boxes: np.ndarray
    """[N, 4] x1, y1, x2, y2."""
    films: list[str]
    """[N] what is resampled together."""
    keys: list[tuple[int, int, int]]
    """[N] number of the video, position of the frame, track id."""

    def poses_of(self, found: PoseDataset) -> np.ndarray:
        """[N, J, 3] of what a method has filled in; NaN and 1 where it has nothing."""
        out = np.full_like(self.keypoints, np.nan)
        out[..., 2] = 1
        for row, (v, k, track_id) in zip(out, self.keys, strict=True):
            for person in found.videos[v].frames[k].people:
                if person.track_id == track_id:
                    known = person.keypoints[:, 2] > 0
                    row[known, :2] = person.keypoints[known, :2]
        return out


def unlabelled_people(truth: PoseDataset, filled: PoseDataset, interval: int) -> Unlabelled:
    """The people whose poses are to be compared.

    Args:
        filled: by a method that fills every joint that can be filled, as ``copy`` does.
    """
    keypoints, boxes, films, keys = [], [], [], []
    for v, (video, other) in enumerate(zip(truth.videos, filled.videos, strict=True)):
        for k, (frame, there) in enumerate(zip(video.frames, other.frames, strict=True)):
            made = {person.track_id: person.keypoints[:, 2] > 0 for person in there.people}
            for person in frame.people:
                if is_kept(k, interval) or person.is_crowd or person.track_id not in made:
                    continue
                keypoints.append(person.keypoints * made[person.track_id][:, None])
                boxes.append(person.box_xyxy)
                films.append(film_of(video.name))
                keys.append((v, k, person.track_id))
    if not keys:
        raise InputError(f"{truth.root}: no frame without labels has a person to fill in")
    return Unlabelled(np.stack(keypoints), np.stack(boxes), films, keys)


def tallies(people: Unlabelled, found: PoseDataset) -> dict[float, Tally]:
    """For each of ``BOX_SHARES`` which joints are within that part of the box's larger side."""
    poses, sides = people.poses_of(found), box_sides(people.boxes)
    return {share: tally(poses, people.keypoints, share * sides) for share in BOX_SHARES}


def compared(
    done: dict[str, dict[float, Tally]], people: Unlabelled, data: PoseDataset
) -> list[dict[str, Any]]:
    """For each share of the box and each method: per cent by part of the body and of all joints; ``auto``
    minus the method with its interval, where ``auto`` is among the methods (the first, of several)."""
    rows = []
    auto = next((method for method in done if parse(method)[0] == "auto"), None)
    for share in BOX_SHARES:
        for method, scores in done.items():
            row: dict[str, Any] = {"method": method, "frames": "unlabelled", "box_share": share}
            parts = by_part(scores[share], data.skeleton)
            row |= {name: value for name, value in parts.items() if not np.isnan(value)}
            row["joints"] = int(scores[share].counts.sum())
            if auto not in (None, method):
                row["auto_minus"] = difference(scores[share], done[auto][share], people.films)
            rows.append(row)
    return rows


def show(rows: list[dict[str, Any]], interval: int) -> None:
    """Prints what :func:`compared` gives."""
    parts = [name for name in (*PARTS[::-1], "all") if name in rows[0]]
    print(
        f"\n{'T':4}{'method':34}{'of box':>8}" + "".join(f"{name.replace('head_', ''):>9}" for name in parts)
    )
    for row in rows:
        cells = "".join(f"{row[name]:9.1f}" for name in parts)
        print(f"{interval:<4}{row['method'][-33:]:34}{row['box_share']:8}{cells}")
    for row in rows:
        if "auto_minus" in row:
            mean, low, high = row["auto_minus"]
            told = f"auto minus {row['method'][-33:]}"
            print(f"{interval:<4}{told:45}{row['box_share']:<6}{mean:+6.2f} [{low:+.2f}, {high:+.2f}]")
    print(f"{rows[0]['joints']:,} joints", flush=True)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """mAP of frames without labels over the distance of the labels, a line for each method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in results if row["frames"] == "unlabelled" and "Mean" in row]
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


def run(data: PoseDataset, interval: int, methods: list[str]) -> list[dict[str, Any]]:
    """Propagates by every method, prints the tables, and gives their rows."""
    results: list[dict[str, Any]] = []
    people = unlabelled_people(data, propagated(data, interval, "copy"), interval)
    done: dict[str, dict[float, Tally]] = {}
    heads = has_head_boxes(data)
    if heads:
        print(f"\n{'T':4}{'mAP of':34}{'frames':12}" + "".join(f"{name:>9}" for name in COLUMNS))
    else:
        print("\npeople without head boxes: PoseTrack's mAP is left out")
    for method in methods:
        found = propagated(data, interval, method)
        done[method] = tallies(people, found)
        for title, values in (map_scores(data, found, interval) if heads else {}).items():
            results.append({"T": interval, "method": method, "frames": title, **values})
            cells = "".join(f"{values[name]:9.1f}" for name in COLUMNS)
            print(f"{interval:<4}{method[-33:]:34}{title:12}{cells}", flush=True)
    rows = compared(done, people, data)
    show(rows, interval)
    return results + [{"T": interval, **row} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, metavar="DIR:SPLIT")
    parser.add_argument("--intervals", type=int, nargs="+", default=list(INTERVALS))
    parser.add_argument("--methods", nargs="+", default=list(RIVALS))
    parser.add_argument("--limit", type=int, metavar="N", help="that many videos, evenly spaced")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument("--plot", type=Path, help="also draw the curves over T")
    options = parser.parse_args()
    if not {parse(method)[0] for method in options.methods} <= set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}")
    results: list[dict[str, Any]] = []
    try:
        data = evenly_chosen(read_runs(options.data), options.limit)
        films = {film_of(video.name) for video in data.videos}
        print(f"{len(data.videos)} videos of {len(films)} films")
        for interval in options.intervals:
            results += run(data, interval, options.methods)
            if options.out:
                write_json(options.out, results)
    except InputError as error:
        parser.error(str(error))
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
