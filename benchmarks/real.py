"""How good are pose models on real people? Data sets are read where they lie; nothing is copied.

    python benchmarks/real.py --lsp DIR hrnet:default runs/hrnet_small/best.safetensors
    python benchmarks/real.py --data jhmdb:val --every 5 hrnet:default tdmi:default --out real.json
    python benchmarks/real.py --data posetrack18:val --data coco:val2017 tdmi:default --pictures real.jpg
    python benchmarks/real.py --lsp DIR --occlude --hidden hrnet:default         # half hidden people
    python benchmarks/real.py --data data/synthetic:val --hidden tdmi:default    # rendered crowds

``--lsp`` is LSP-extended: joints.mat and images. Scored are the last 600 people with six labelled joints or
more, which no training may see. ``--data`` is any folder that vidpose reads, and its split; people with six
labelled joints count. Poses are estimated in the boxes of the labels. A model of several frames sees the
neighbours of a video's frame, and a picture without neighbours in each of its frames. People who lean are
looked at again in a crop turned upright, as ``vidpose estimate`` does (``--no-upright``: one look).

Scored are the joints that both the model and the labels have, by name; "12 joints" are the shoulders, elbows,
wrists, hips, knees and ankles, which compares models of different joint sets (``--joints 12``: no others
count anywhere). Columns are per cent of joints within a part of

- crop: the height of the crop, 1.25 times the box in the shape 6:5 of the weights that ship, for all models;
- box: the larger side of the box;
- torso: left shoulder to right hip; PCKh: the segment from head_top to head_bottom, where it is labelled;

and the share of people whose left and right are exchanged ("mirrored": with the sides exchanged, the paired
joints are nearer to their labels by 5 % of the box's larger side on average). AP is the data set's own
protocol in these boxes, where it has one that works. Below each table stand 95 % intervals, and the paired
differences of every model to the first, over the 12 joints that both have: by bootstrap over pictures or
videos, clips of one film together where the film can be told from the name (JHMDB).

MediaPipe's landmark network runs in an environment of its own (benchmarks/mediapipe_poses.py says how to make
it), in the same boxes:

    python benchmarks/real.py --lsp DIR hrnet:default mediapipe:full --mediapipe-python mp-venv/bin/python

It looks into the box, where its own landmarks then say, as in tracking, and where its own detector says; the
best of the three on this very data is what is reported.

``--occlude`` pastes parts of other pictures over 20 to 50 % of each box, always the same ones; all labelled
joints count. ``--hidden`` splits scores into visible and hidden joints, by the labels and the occluders.
``--every N`` scores every N-th labelled frame of a video. Models run in bf16 autocast where the device
computes in it natively, which the first line says; on LSP-extended hrnet had 72.5 so and 72.7 with
``--precision fp32``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import contact_sheet
import cv2
import numpy as np
import torch
from occluders import occlude
from real_scores import (
    PARTS,
    TWELVE,
    Tally,
    box_sides,
    by_part,
    common_joints,
    difference,
    film_of,
    limits,
    mean_distances,
    mirrored,
    share_interval,
    subset,
    tally,
)

from vidpose import progress
from vidpose.data.clips import Sample, ground_truth_samples
from vidpose.data.dataset import PoseDataset
from vidpose.data.frames import read_frame
from vidpose.data.readers import parse_place, read_whole, usable
from vidpose.device import PRECISIONS, precision_name, resolve_device, resolve_precision
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import COLUMNS
from vidpose.infer.crops import CropRunner, Strip, make_windows
from vidpose.infer.upright import UprightRunner
from vidpose.infer.weights import load_pose_model
from vidpose.io.files import check_writable, read_json, write_json
from vidpose.models.factory import list_models, load_model
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import SKELETONS, Skeleton, convert_keypoints
from vidpose.train.predict import (
    choose_frames,
    model_joints,
    write_predictions,
    write_truth,
)
from vidpose.train.validation import main_score

HELD_OUT, LEAST_JOINTS = 600, 6
MEDIAPIPE = "mediapipe:full"
UNNAMED = {15: "posetrack15", 17: "coco17", 14: "hieve14"}
"""Joints of models that were made with their number alone."""


# --- people ------------------------------------------------------------------------------------------------


@dataclass
class People:
    """Labelled people of a data set. N people, J joints of the data."""

    title: str
    data: PoseDataset
    samples: list[Sample]
    scored: np.ndarray
    """[S] which of the N have enough labelled joints for the table; AP takes all."""
    joints: tuple[str, ...]
    """Names of the joints that count."""
    visible: np.ndarray
    """[S, J] bool: labelled and not hidden."""
    groups: list[str]
    """[S] what is resampled together."""
    protocol: Callable[[np.ndarray], dict[str, Any]] | None = None
    """Scores predictions [N, J, 3] by the data set's own protocol."""

    @property
    def truth(self) -> np.ndarray:
        """[S, J, 3] x, y in pixels and 1 where labelled and counted."""
        out = np.stack([_keypoints(self.samples[k]) for k in self.scored])
        return out * subset(self.data.skeleton, self.joints)[:, None]

    @property
    def boxes(self) -> np.ndarray:
        """[S, 4] x1, y1, x2, y2."""
        return np.stack([self.samples[k].box_xyxy for k in self.scored])

    @property
    def is_video(self) -> bool:
        return any(len(video.frames) > 1 for video in self.data.videos)


def _keypoints(sample: Sample) -> np.ndarray:
    assert sample.person is not None
    return sample.person.keypoints


def read_people(
    title: str, root: Path, split: str, *, layout: str = "auto", every: int = 1, joints: str = "all"
) -> People:
    """The people of a split: of LSP the last 600 with enough joints, else those of every n-th frame."""
    whole, found = read_whole(root, split, layout)
    data = usable(whole, found.skeleton)
    chosen = choose_frames(data, every=every)
    samples = [s for s in ground_truth_samples(data) if (s.video, s.frame) in chosen]
    enough = [k for k, s in enumerate(samples) if _keypoints(s)[:, 2].sum() >= LEAST_JOINTS]
    if layout == "lsp":
        samples = [samples[k] for k in enough[-HELD_OUT:]]
        enough = list(range(len(samples)))
    if not enough:
        raise InputError(f"{root}: split {split!r} has no person with {LEAST_JOINTS} joints")
    names = TWELVE if joints == "12" else data.skeleton.joints
    visible = np.stack([samples[k].person.visible for k in enough])  # type: ignore[union-attr]
    groups = [film_of(data.videos[samples[k].video].name) for k in enough]
    people = People(title, data, samples, np.array(enough), names, visible, groups)
    if data.layout != "lsp":
        people.protocol = lambda found_: protocol_score(whole, found.protocol, chosen, people, found_)
    return people


def occluded(people: People, folder: Path, reach: int) -> People:
    """The scored people with something in front of them."""
    scored = [people.samples[k] for k in people.scored]
    hidden = occlude(people.data, scored, people.groups, folder, reach=reach)
    return replace(
        people,
        title=f"{people.title}, occluded",
        data=hidden.data,
        samples=hidden.samples,
        scored=np.arange(len(scored)),
        visible=hidden.visible,
        protocol=None,
    )


def protocol_score(
    whole: PoseDataset, protocol: str, chosen: set[tuple[int, int]], people: People, found: np.ndarray
) -> dict[str, Any]:
    """The main score of the data set's protocol, over the joints that the model has and that count.

    Args:
        whole: as read, crowds and all. chosen: the (video, frame) that are scored. found: [N, J, 3].
    """
    data = people.data
    labelled = np.any([_keypoints(sample)[:, 2] > 0 for sample in people.samples], axis=0)
    known = labelled & (found[..., 2] > 0).any(axis=0) & subset(data.skeleton, people.joints)
    names = [name for name, kept in zip(data.skeleton.joints, known, strict=True) if kept]
    with tempfile.TemporaryDirectory() as work:
        truth, predictions = Path(work) / "truth", Path(work) / "predictions"
        write_truth(whole, chosen, truth, data.skeleton)
        for path in truth.glob("*.json"):
            keep_joints(path, names)
        kept = np.where(known[:, None], found, 0.0)
        write_predictions(data, chosen, people.samples, kept[..., :2], kept[..., 2], predictions)
        scores = evaluate(truth, predictions, protocol=protocol)
    values = {key: value for key, value in main_score(scores).items() if np.isfinite(value)}
    own = scores[scores["summary"]["main"]]
    if set(names) <= own.keys():  # a joint without labels is 0 there, and would count in the mean
        values["mAP"] = float(np.nanmean([own[name] for name in names]))
        values = {key: value for key, value in values.items() if set(COLUMNS.get(key, ())) <= set(names)}
    return {"protocol": protocol, "metric": scores["summary"]["main"], "joints": len(names), **values}


def keep_joints(path: Path, names: list[str]) -> None:
    """Takes the labels of all other joints out of an annotation file."""
    content = read_json(path)
    order = content["categories"][0]["keypoints"]
    kept = np.array([name in names for name in order])
    for annotation in content["annotations"]:
        triples = np.reshape(annotation.get("keypoints") or np.zeros(3 * len(order)), (-1, 3))
        annotation["keypoints"] = np.where(kept[:, None], triples, 0).reshape(-1).tolist()
        if "num_keypoints" in annotation:
            annotation["num_keypoints"] = int((kept & (triples[:, 2] > 0)).sum())
    write_json(path, content)


# --- models ------------------------------------------------------------------------------------------------


@dataclass
class Poses:
    """What a model says of N people. J joints of the data."""

    found: np.ndarray
    """[N, J, 3] x, y in image pixels and a score; 0 in the last column for joints that the model has not."""
    note: str = ""


@dataclass
class Settings:
    """How models of vidpose run."""

    flip: bool
    upright: bool
    device: torch.device
    dtype: torch.dtype
    batch_size: int


def predict(model: PoseModel, people: People, settings: Settings) -> np.ndarray:
    """[N, J, 3], as of :class:`Poses`."""
    joints = model_joints(model) or SKELETONS[UNNAMED[model.num_joints]]
    runner = CropRunner(
        model.to(settings.device).eval(),
        joints,
        flip_test=settings.flip,
        batch_size=settings.batch_size,
        dtype=settings.dtype,
    )
    look = UprightRunner(runner) if settings.upright else runner
    read = lru_cache(4 * settings.batch_size)(
        lambda video, frame: read_frame(people.data.videos[video].frames[frame])
    )

    def strip_of(sample: Sample) -> Strip:
        last = len(people.data.videos[sample.video].frames) - 1
        needed, windows = make_windows([sample.frame], runner.num_frames, 0, last)
        return Strip(sample.box_xyxy, [read(sample.video, frame) for frame in needed], windows)

    whole = []
    starts = range(0, len(people.samples), settings.batch_size)
    for start in progress.track(starts, "predicting", unit="batches"):
        strips = [strip_of(sample) for sample in people.samples[start : start + settings.batch_size]]
        whole += [
            np.concatenate([points, np.maximum(peaks, 1e-9)[..., None]], axis=2)[0]
            for points, peaks in look(strips)
        ]
    return in_joints_of(people.data, np.stack(whole), joints)


def in_joints_of(data: PoseDataset, found: np.ndarray, joints: Skeleton) -> np.ndarray:
    """Predictions [N, J', 3] in the data's joints, by name."""
    if not common_joints(joints, data.skeleton).any():
        raise InputError(f"no joint in common: the model has {joints.name}, the labels {data.skeleton.name}")
    return convert_keypoints(found, joints, data.skeleton, approximate=False)


def predict_mediapipe(python: Path, people: People) -> dict[str, np.ndarray]:
    """[N, J, 3] for each of MediaPipe's ways to choose the crop."""
    script = Path(__file__).with_name("mediapipe_poses.py")
    with tempfile.TemporaryDirectory() as work:
        jobs, out = Path(work) / "jobs.json", Path(work) / "out.json"
        write_json(jobs, [_job(people.data, sample, Path(work)) for sample in people.samples])
        command = [str(python), str(script), str(jobs), str(out), "--threads", str(torch.get_num_threads())]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            why = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            raise InputError(f"{MEDIAPIPE} did not run with --mediapipe-python {python}: {why}") from error
        content = json.loads(out.read_text())
    joints = Skeleton("mediapipe", tuple(content["joints"]), ())
    return {name: in_joints_of(people.data, np.array(rows), joints) for name, rows in content["ways"].items()}


def _job(data: PoseDataset, sample: Sample, folder: Path) -> dict[str, Any]:
    frame = data.videos[sample.video].frames[sample.frame]
    path = frame.path
    if frame.video_frame is not None:
        path = folder / f"{sample.video}_{sample.frame}.png"
        if not path.exists():
            cv2.imwrite(str(path), read_frame(frame)[..., ::-1])
    return {"image": str(path.resolve()), "box_xyxy": [float(value) for value in sample.box_xyxy]}


def open_model(name: str) -> tuple[PoseModel | None, str]:
    """A model of vidpose in eval mode, ``None`` for MediaPipe; and what its weights are called."""
    if name == MEDIAPIPE:
        return None, "mediapipe"
    kind, _, which = name.partition(":")
    if which and kind in list_models():
        return load_pose_model(kind, which)
    return load_model(name), name


def find_poses(name: str, model: PoseModel | None, people: People, settings: Settings, python: Path) -> Poses:
    """The poses of a model; of MediaPipe those of its best crop."""
    ways = {"": predict(model, people, settings)} if model is not None else {}
    ways = ways or predict_mediapipe(python, people)
    if not any(any_counts(people, found) for found in ways.values()):
        raise InputError("none of the joints that count are both labelled here and known to the model")
    right = {key: headline(people, found) for key, found in ways.items()}
    best = max(right, key=lambda key: right[key])
    shown = ", ".join(f"by {key} {value:.1f}" for key, value in right.items())
    return Poses(ways[best], f"the best crop of: {shown}" if len(ways) > 1 else "")


# --- scores ------------------------------------------------------------------------------------------------


def headline_metrics(people: People) -> tuple[str, str]:
    """The two metrics that get intervals: of the box for video, of the crop for pictures."""
    unit = "box" if people.is_video else "crop"
    return f"PCK 0.1 {unit}", f"PCK 0.05 {unit}"


def headline(people: People, found: np.ndarray) -> float:
    """The first of them over the 12 joints."""
    return tallies(people, found)[headline_metrics(people)[0]].of(_twelve(people)).per_cent()


def _twelve(people: People) -> np.ndarray:
    return subset(people.data.skeleton, TWELVE)


def tallies(people: People, found: np.ndarray, *, hidden: bool = False) -> dict[str, Tally]:
    """For each metric which joints count and are right; ``hidden``: visible and hidden ones apart, too."""
    truth = people.truth
    lengths = limits(truth, people.boxes, people.data.skeleton)
    out = {name: tally(found[people.scored], truth, length) for name, length in lengths.items()}
    for name in headline_metrics(people) if hidden else ():
        out[f"{name} visible"] = out[name].of(people.visible)
        out[f"{name} hidden"] = out[name].of(~people.visible)
    return out


def any_counts(people: People, found: np.ndarray) -> bool:
    """Whether anything can be scored."""
    return bool(((found[people.scored, :, 2] > 0) & (people.truth[..., 2] > 0)).any())


def score(people: People, poses: Poses, done: dict[str, Tally]) -> dict[str, Any]:
    """The numbers of one model on one data set."""
    joints, found = people.data.skeleton, poses.found[people.scored]
    swapped = mirrored(found, people.truth, box_sides(people.boxes), joints)
    out: dict[str, Any] = {name: by_part(one, joints) for name, one in done.items()}
    out["mirrored"] = float(100 * np.nanmean(swapped)) if not np.isnan(swapped).all() else float("nan")
    if people.protocol is not None:
        try:
            out["AP"] = people.protocol(poses.found)
        except InputError as error:
            out["AP"] = {"none": f"none: {str(error).rpartition(': ')[2]}"}
    return {**out, "note": poses.note}


def intervals(people: People, done: dict[str, dict[str, Tally]]) -> dict[str, dict[str, Any]]:
    """For each model and headline metric: per cent and interval, and the difference to the first model's."""
    chosen, out = _twelve(people), {}
    reference = next(iter(done), "")
    for name, own in done.items():
        rows: dict[str, Any] = {}
        for metric in [key for key in own if key.startswith(headline_metrics(people))]:
            this = own[metric].of(chosen)
            rows[metric] = {"value": this.per_cent(), "interval": share_interval(this, people.groups)}
            if name != reference:
                first = done[reference][metric].of(chosen)
                value, *span = difference(first, this, people.groups)
                rows[metric] |= {"difference": value, "difference_interval": span}
        out[name] = rows
    return out


def draw_people(people: People, poses: Poses, path: Path) -> None:
    """A sheet of the best, median and worst people; labels are white dots."""
    found, truth = poses.found[people.scored], people.truth
    misses = mean_distances(found, truth, box_sides(people.boxes))
    shown = []
    for k, miss in enumerate(misses):
        if not np.isnan(miss):
            sample = people.samples[people.scored[k]]
            labels, scores = truth[k][truth[k, :, 2] > 0][:, :2], (found[k, :, 2] > 0).astype(float)
            video = str(sample.video)
            box = sample.box_xyxy
            shown.append(
                contact_sheet.Shown(float(miss), video, sample.frame, found[k, :, :2], scores, box, labels)
            )
    contact_sheet.draw(
        shown,
        lambda pose: read_frame(people.data.videos[int(pose.video)].frames[pose.frame]),
        path,
        skeleton=people.data.skeleton,
    )


# --- output ------------------------------------------------------------------------------------------------


def print_header(people: People, settings: Settings) -> None:
    kind = "films or videos" if people.is_video else "pictures"
    dtype = precision_name(settings.dtype)
    print(
        f"\n{people.title}: {len(people.scored)} people of {len(set(people.groups))} {kind}, labelled boxes, "
        f"DARK, {'people who lean seen twice' if settings.upright else 'one look'}, "
        f"{'with' if settings.flip else 'no'} flip test, "
        f"{'fp32' if dtype == 'fp32' else f'{dtype} autocast'} on {settings.device.type}"
    )
    names = "".join(f"{name[-8:]:>9}" for name in PARTS)
    print(f"{'':54}{names}{'12 joints':>11}{'all':>7}{'mirrored':>10}")


def print_scores(name: str, scores: dict[str, Any]) -> None:
    metrics = {key: values for key, values in scores.items() if key.startswith("PCK")}
    for k, (metric, values) in enumerate(metrics.items()):
        if np.isnan(values["all"]):
            continue
        cells = "".join(f"{values[part]:9.1f}" for part in PARTS).replace("nan", "  -")
        ends = f"{values['12 joints']:11.1f}{values['all']:7.1f}"
        ends += f"{scores['mirrored']:10.1f}" if not k else ""
        print(f"{name[-30:] if not k else '':32}{metric:22}{cells}{ends}")
    if "AP" in scores:
        ap = scores["AP"]
        numbers = "  ".join(f"{key} {value:.1f}" for key, value in ap.items() if isinstance(value, float))
        shown = ap.get("none") or f"{numbers}  ({ap['joints']} joints, {ap['protocol']})"
        print(f"{'':32}{'AP':22}{shown}")
    took = f"{scores['seconds']:.0f} s, of the processor {scores['cpu_seconds']:.0f} s"
    print(f"{'':32}{took}{'; ' if scores['note'] else ''}{scores['note']}")


def print_intervals(rows: dict[str, dict[str, Any]]) -> None:
    print("12 joints, 95 % intervals; differences to the first model are paired")
    for name, metrics in rows.items():
        for k, (metric, row) in enumerate(metrics.items()):
            if np.isnan(row["value"]):
                continue
            low, high = row["interval"]
            text = f"{row['value']:6.1f} [{low:.1f}, {high:.1f}]"
            if "difference" in row:
                low, high = row["difference_interval"]
                text = f"{text:24}{row['difference']:+6.1f} [{low:+.1f}, {high:+.1f}]"
            print(f"{name[-30:] if not k else '':32}{metric:22}{text}")


def cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def plain(value: Any) -> Any:
    """Without NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


# --- command -----------------------------------------------------------------------------------------------


def compare(
    people: People,
    models: dict[str, PoseModel | None],
    settings: Settings,
    options: argparse.Namespace,
    sheets: list[Path],
) -> dict[str, Any]:
    """Scores all models on one data set; takes a path of ``sheets`` for each picture."""
    print_header(people, settings)
    done: dict[str, dict[str, Tally]] = {}
    results: dict[str, Any] = {}
    for name, model in models.items():
        start, busy = time.monotonic(), cpu_seconds()
        try:
            poses = find_poses(name, model, people, settings, options.mediapipe_python)
        except InputError as error:
            print(f"{name[-30:]:32}{error}")
            results[name] = {"none": str(error)}
            continue
        took = {"seconds": time.monotonic() - start, "cpu_seconds": cpu_seconds() - busy}
        done[name] = tallies(people, poses.found, hidden=options.hidden)
        results[name] = {**score(people, poses, done[name]), **took}
        print_scores(name, results[name])
        if sheets:
            draw_people(people, poses, sheets.pop(0))
    rows = intervals(people, done)
    if rows:
        print_intervals(rows)
    groups = len(set(people.groups))
    return {"people": len(people.scored), "resampled": groups, "models": results, "intervals": rows}


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the options that there are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


PICTURES = (".jpg", ".jpeg", ".png")


def parse_options() -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="+", help=f"weights files, MODEL:default for those that ship, {MEDIAPIPE}"
    )
    parser.add_argument("--lsp", type=Path, help="folder of LSP-extended")
    parser.add_argument("--data", action="append", default=[], metavar="DIR:SPLIT")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th frame of a video")
    parser.add_argument("--joints", choices=("all", "12"), default="all", help="which joints count")
    parser.add_argument("--hidden", action="store_true", help="visible and hidden joints apart")
    parser.add_argument("--occlude", action="store_true", help="paste parts of other pictures over people")
    parser.add_argument(
        "--upright",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look again at people who lean, in a turned crop, as estimate does",
    )
    parser.add_argument(
        "--flip-test", action="store_true", help="average with the mirrored picture's heatmaps"
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="auto: bf16 where native")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--mediapipe-python", type=Path, default=Path(sys.executable), help="Python that has MediaPipe"
    )
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    parser.add_argument(
        "--pictures",
        type=Path,
        help="also draw best, median and worst people; of several models or data sets FILE-1, FILE-2, …",
    )
    options = parser.parse_args()
    if not options.lsp and not options.data:
        parser.error("nothing to score: give --lsp or --data")
    for name in ("every", "batch_size"):
        value = getattr(options, name)
        if value < 1:
            parser.error(f"--{name.replace('_', '-')} is {value}: 1 or more is needed")
    try:
        check_files(options.out, options.pictures)
    except InputError as error:
        parser.error(str(error))
    options.error = parser.error
    return options


def check_files(out: Path | None, pictures: Path | None) -> None:
    """Finds out before any work whether the results can be written.

    Raises:
        InputError: they cannot.
    """
    if pictures is not None and pictures.suffix.lower() not in PICTURES:
        raise InputError(f"--pictures {pictures}: the name of a picture ends in {', '.join(PICTURES)}")
    for name, path in (("--out", out), ("--pictures", pictures)):
        if path is None:
            continue
        if path.is_dir():
            raise InputError(f"{name} {path}: is a folder; name a file")
        check_writable(path.absolute().parent)
        path.absolute().parent.mkdir(parents=True, exist_ok=True)


def check_mediapipe(python: Path) -> None:
    """Finds out before any work whether a Python has what benchmarks/mediapipe_poses.py needs.

    Raises:
        InputError: it has not, or is none.
    """
    needed = ("mediapipe", "ai_edge_litert", "cv2", "numpy")
    code = f"from importlib.util import find_spec; print(*(n for n in {needed} if find_spec(n) is None))"
    advice = "benchmarks/mediapipe_poses.py says how to make an environment for it"
    try:
        done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{MEDIAPIPE}: --mediapipe-python {python} does not run: {why}") from error
    if done.stdout.strip():
        lacks = ", ".join(done.stdout.split())
        raise InputError(f"{MEDIAPIPE}: --mediapipe-python {python} lacks {lacks}; {advice}")


def sheet_paths(path: Path | None, count: int) -> list[Path]:
    """``count`` names like ``path``."""
    if path is None:
        return []
    if count == 1:
        return [path]
    return [path.with_name(f"{path.stem}-{k + 1}{path.suffix}") for k in range(count)]


@torch.no_grad()
def run(options: argparse.Namespace) -> dict[str, Any]:
    """All data sets in turn."""
    if MEDIAPIPE in options.models:
        check_mediapipe(options.mediapipe_python)
    device = resolve_device("auto")
    settings = Settings(
        options.flip_test,
        options.upright,
        device,
        resolve_precision(options.precision, device),
        options.batch_size,
    )
    opened = {name: open_model(name) for name in options.models}
    models = {name: model for name, (model, _) in opened.items()}
    reach = max([model.num_frames // 2 for model in models.values() if model is not None], default=0)
    places = [(f"LSP-extended, last {HELD_OUT} usable people", options.lsp, "train", "lsp")]
    places = places if options.lsp else []
    places += [(place, *parse_place(place), "auto") for place in options.data]
    sheets = sheet_paths(options.pictures, len(places) * len(models))
    sets = [f"{name} is {which}'s" for name, (_, which) in opened.items() if name.endswith(":default")]
    print(*sets, sep=", ")
    results: dict[str, Any] = {}
    for title, root, split, layout in places:
        people = read_people(
            title, Path(root), split, layout=layout, every=options.every, joints=options.joints
        )
        with ExitStack() as stack:
            if options.occlude:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                people = occluded(people, Path(folder), reach if people.is_video else 0)
            results[people.title] = compare(people, models, settings, options, sheets)
    chosen = {
        key: getattr(options, key) for key in ("every", "joints", "upright", "flip_test", "occlude", "hidden")
    }
    weights = {name: known_as for name, (_, known_as) in opened.items()}
    return {
        "settings": {**chosen, "precision": precision_name(settings.dtype), "weights": weights},
        "data": results,
    }


def failures(results: dict[str, Any]) -> list[str]:
    """The models that have no scores, and why."""
    return [
        f"{name} on {title}: {scores['none']}"
        for title, data in results["data"].items()
        for name, scores in data["models"].items()
        if "none" in scores
    ]


def main() -> None:
    options = parse_options()
    try:
        results = run(options)
        if options.out:
            write_json(options.out, plain(results), indent=1)
        failed = failures(results)
        if failed:
            raise InputError(f"not scored: {'; '.join(failed)}")
    except InputError as error:
        options.error(str(error))


if __name__ == "__main__":
    main()
