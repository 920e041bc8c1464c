"""Trains what ``vidpose propagate --method auto`` trusts: ``python -m vidpose.train.fusion DATA... -o FILE``.

DATA are data sets of videos that are labelled in every frame (PoseTrack's layout, split ``train``); STDPose
must not have been trained on them, or it is trusted too much. Labels are thinned to every T-th frame, T from
2 to 22, the rest is propagated by every guess there is, and a small network learns from how wrong each of
them was: weights that bring their mean nearest to the truth, and the probability that this is within PCKh
0.5. Joints without labels teach nothing; PCKh's unit of people without head box is estimated from their box
(:func:`vidpose.evaluate.units.pckh_unit`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vidpose import progress
from vidpose.data.dataset import Video
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.evaluate.units import pckh_unit
from vidpose.infer.propagation.columns import Columns, arrange
from vidpose.infer.propagation.frames import NumberedFrames
from vidpose.infer.propagation.fuse import GUESSES, Fusion, features
from vidpose.infer.propagation.motion import PairFlows
from vidpose.infer.propagation.people import Track, make_tracks, place_tracks, usual_interval
from vidpose.infer.propagation.run import load_network, make_guesses
from vidpose.io.files import atomic_path
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton

INTERVALS = (2, 3, 5, 7, 7, 9, 15, 15, 22)
ASKED = 0.75
"""Share of the videos in which the network is asked: the fusion knows what to do without it, too."""


@dataclass
class Examples:
    """N joints that were propagated."""

    features: np.ndarray
    """[N, inputs] float32."""
    points: np.ndarray
    """[N, G, 2] float32 every guess, NaN where there is none."""
    truth: np.ndarray
    """[N, 2] float32."""
    unit: np.ndarray
    """[N] float32 pixels of PCKh's unit."""


def thin(video: Video, labelled: np.ndarray) -> tuple[Columns, list[Track], np.ndarray, np.ndarray]:
    """A fully labelled video with the labels of some frames.

    Returns:
        columns and tracks of the labels that are left; the truth [F, K, 2], NaN where there is none; PCKh's
        unit [F, K].
    """
    frames = {frame.index: frame for frame in video.frames}
    count = len(video.frames)
    reach = usual_interval(labelled) if len(labelled) > 1 else count
    tracks = place_tracks(make_tracks(frames, labelled, video.source), {}, labelled, count, reach)
    if not tracks:
        raise InputError(f"{video.name}: nobody is labelled in the frames that keep their labels")
    columns = arrange(tracks, count)
    shape = columns.known.shape
    truth = np.full((*shape, 2), np.nan, dtype=np.float32)
    unit = np.full(shape, np.nan, dtype=np.float32)
    joints = shape[1] // len(tracks)
    whole = {t.track_id: t for t in make_tracks(frames, np.arange(count), video.source)}
    for p, track in enumerate(tracks):
        mine = slice(p * joints, (p + 1) * joints)
        for number, person in zip(whole[track.track_id].frames, whole[track.track_id].people, strict=True):
            known = person.keypoints[:, 2] > 0
            truth[number, mine][known] = person.keypoints[known, :2]
            unit[number, mine] = pckh_unit(person.head_box_xyxy, person.box_xyxy)
    return columns, tracks, truth, unit


def examples(
    video: Video, joints: Skeleton, interval: int, rng: np.random.Generator, network: PoseModel
) -> Examples | None:
    """Joints of one video between labels on every ``interval``-th frame; ``None`` where there are none."""
    labelled = np.arange(int(rng.integers(interval)), len(video.frames), interval)
    try:
        columns, tracks, truth, unit = thin(video, labelled)
    except InputError:
        return None
    frames = NumberedFrames(video.frames[0].path.parent)
    asked = network if rng.random() < ASKED else None
    guesses = make_guesses(columns, tracks, PairFlows(frames, "dis"), joints, asked)
    frames.close()
    where = columns.open & ~np.isnan(truth[..., 0]) & (unit > 1)
    points = np.stack([guesses.points[name][where] for name in GUESSES], axis=1)
    return Examples(features(columns, guesses, joints)[where], points, truth[where], unit[where])


def gather(root: str, split: str, draws: int, rng: np.random.Generator, network: PoseModel) -> list[Examples]:
    """Joints of each video of a data set, ``draws`` times between labels of some interval.

    Raises:
        InputError: the data set cannot be read.
    """
    found: list[Examples] = []
    data = read_dataset(root, split)
    for video in progress.track(data.videos, f"guesses in {root}", unit="videos"):
        drawn = rng.choice(INTERVALS, min(draws, len(INTERVALS)), replace=False).tolist()
        each = (examples(video, data.skeleton, interval, rng, network) for interval in drawn)
        found += [one for one in each if one is not None]
    return found


def join(found: Sequence[Examples]) -> Examples:
    """All as one."""
    names = ("features", "points", "truth", "unit")
    return Examples(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def fit(data: Examples, *, steps: int = 6000, batch: int = 1024, seed: int = 0) -> Fusion:
    """Trains the fusion for the share of joints within PCKh 0.5, smoothed, and for the mean distance."""
    torch.manual_seed(seed)
    numbers, points, truth, unit = (
        torch.from_numpy(a.astype(np.float32)) for a in (data.features, data.points, data.truth, data.unit)
    )
    model = Fusion(numbers.shape[1])
    model.mean.copy_(numbers.mean(0))  # type: ignore[operator]
    model.deviation.copy_(numbers.std(0) + 1e-3)  # type: ignore[operator]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(numbers), (batch,))
        found, logits = model(numbers[rows], points[rows])
        error = (found - truth[rows]).norm(dim=1) / unit[rows]
        right = (error.detach() <= 0.5).float()
        loss = (1 - torch.exp(-((error / 0.4) ** 2))).mean() + 0.15 * error.clamp(max=3).mean()
        loss = loss + 0.2 * F.binary_cross_entropy_with_logits(logits, right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--network", default="default", help="weights of the STDPose whose guesses count")
    parser.add_argument("--split", default="train")
    parser.add_argument("--draws", type=int, default=4, help="of those intervals for each video")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found: list[Examples] = []
    try:
        network = load_network("auto", options.network)
        assert network is not None
        for number, root in enumerate(options.data):
            rng = np.random.default_rng([options.seed, number])
            found += gather(root, options.split, options.draws, rng, network)
    except InputError as error:
        print(f"vidpose: {error}", file=sys.stderr)
        sys.exit(2)
    every = join(found)
    model = fit(every, steps=options.steps, seed=options.seed)
    with atomic_path(options.output) as path:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    print(f"{options.output}: from {len(every.unit):,} joints")


if __name__ == "__main__":
    main()
