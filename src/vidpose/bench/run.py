"""``vidpose bench``: stages, speed, memory, growth, and other software on the same frames."""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidpose import progress
from vidpose._version import __version__
from vidpose.bench.machine import describe_machine, forget_peak_memory, matmul_rate, peak_memory
from vidpose.bench.peers import check_peers, load_peer
from vidpose.bench.stages import NETWORKS, StageClock, clocked
from vidpose.errors import InputError
from vidpose.infer.detect import Detection, FrameKey
from vidpose.infer.estimator import PoseEstimator
from vidpose.io.formats import save_poses
from vidpose.io.video import open_video
from vidpose.results import FramePoses

PEOPLE = (1, 2, 4, 8)
LENGTHS = (1, 2, 4)
MIN_PAIRS = 3


@dataclass
class BenchReport:
    """What :func:`run_bench` measured. Times are wall-clock seconds."""

    version: str
    machine: dict[str, Any]
    video: dict[str, Any]
    """File, frames, width, height, fps."""
    model: dict[str, Any]
    """Model, weights, backbone, input size, frames a clip, detector, engine and precision."""
    start_s: float
    """Loading the models, and all until the poses of the first frame; without imports."""
    frames_per_s: list[float]
    """Of each run over the whole video, the first one, which warms up, left out."""
    poses: int
    tracks: int
    stages: dict[str, float]
    """Seconds of each of ``STAGES`` in the median run."""
    passes_per_pose: float
    """Frames through the pose model's backbone for each pose."""
    gflop: dict[str, float]
    """Billions of floating-point operations: of one backbone pass, and of the head for one pose."""
    matmul_gflops: float
    """Billions a second that the machine reaches in a product of matrices of the same precision."""
    share_of_matmul: float
    """What the backbone and head reach, as a share of that."""
    length: list[dict[str, float]] = field(default_factory=list)
    """Frames, seconds and peak megabytes of the frames once, twice and four times over."""
    people: list[dict[str, float]] = field(default_factory=list)
    """People a frame, and seconds a frame."""
    clips: list[dict[str, float]] = field(default_factory=list)
    """Frames a clip (T), and milliseconds a pose in PyTorch, with random weights."""
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """For each: seconds a frame, and ours divided by its, pair by pair; or why it did not run."""

    @property
    def outside_networks(self) -> float:
        """Share of the time that is spent outside the detector and the pose model's networks."""
        total = sum(self.stages.values())
        return 1 - sum(self.stages[name] for name in NETWORKS) / total if total else float("nan")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "outside_networks": self.outside_networks}


def run_bench(
    video: str | os.PathLike[str],
    *,
    model: str = "tdmi",
    pairs: int = 5,
    max_frames: int = 300,
    growth: bool = True,
    peers: Sequence[str] = (),
    quiet: bool = True,
    **options: Any,
) -> BenchReport:
    """Measures estimation on a video.

    Args:
        video: a file that :class:`PoseEstimator` takes.
        model: a name of ``list_models()``.
        max_frames: the first so many of its frames are used.
        pairs: runs; with peers, each is followed by one of every peer.
        growth: also measures how time grows with length, people and frames a clip.
        peers: of ``vitpose``, ``mediapipe``, ``rtmlib``; one that is not installed is named in the report.
        quiet: no progress on standard error.
        options: of :class:`PoseEstimator`.

    Raises:
        InputError: the video or an option cannot be used.
    """
    if pairs < MIN_PAIRS:
        raise InputError(f"pairs is {pairs}: at least {MIN_PAIRS} runs are needed for a median")
    check_peers(peers)
    frames, facts = _read(video, max_frames)
    began = time.perf_counter()
    estimator = PoseEstimator(model, **options)
    with estimator.stream(video) as stream:
        next(stream, None)
    start = time.perf_counter() - began
    runners, said = _load_peers(peers)
    runs: list[_Run] = []
    times: dict[str, list[float]] = {name: [] for name in runners}
    ours: list[float] = []
    count = len(frames)
    _estimate(estimator, video, count)  # warms up
    for run in runners.values():
        run(frames[:4])
    for _ in progress.track(range(pairs), "measuring", unit="runs", quiet=quiet):
        runs.append(_estimate(estimator, video, count))
        ours.append(runs[-1].seconds / runs[-1].frames)
        for name, run in runners.items():
            began = time.perf_counter()
            run(frames)
            times[name].append((time.perf_counter() - began) / len(frames))
    middle = sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]
    gflop = _gflop(estimator)
    reached = _reached(middle, gflop)
    rate = matmul_rate(estimator.device, estimator.dtype)
    report = BenchReport(
        version=__version__,
        machine=describe_machine(estimator.device),
        video=facts,
        model={
            key: estimator.info[key]
            for key in (
                "model", "weights", "backbone", "input_size", "num_frames", "detector", "engine", "precision",
            )
            if key in estimator.info
        },
        start_s=start,
        frames_per_s=[run.frames / run.seconds for run in runs],
        poses=middle.poses,
        tracks=middle.tracks,
        stages=middle.stages,
        passes_per_pose=middle.passes / max(middle.poses, 1),
        gflop=gflop,
        matmul_gflops=rate / 1e9,
        share_of_matmul=reached / rate,
    )  # fmt: skip
    for name, values in times.items():
        report.peers[name] = {
            "seconds_a_frame": statistics.median(values),
            "ratio": statistics.median(a / b for a, b in zip(ours, values, strict=True)),
            "ratios": [a / b for a, b in zip(ours, values, strict=True)],
        }
    report.peers |= {name: {"not_run": why} for name, why in said.items()}
    if growth:
        report.length = _over_length(estimator, video, count)
        report.people = _over_people(estimator, video, count)
        report.clips = _over_clips(estimator)
    return report


@dataclass
class _Run:
    frames: int
    poses: int
    tracks: int
    passes: int
    seconds: float
    stages: dict[str, float]


def _read(video: str | os.PathLike[str], max_frames: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    with open_video(video) as source:
        frames = [frame.image for frame in islice(source, max_frames)]
        facts = {
            "file": Path(os.fspath(video)).name,
            "frames": len(frames),
            "width": source.width,
            "height": source.height,
            "fps": source.fps,
        }
    if not frames:
        raise InputError(f"{os.fspath(video)}: no frame could be read")
    return frames, facts


def _load_peers(names: Sequence[str]) -> tuple[dict[str, Callable[..., int]], dict[str, str]]:
    runners, said = {}, {}
    for name in names:
        try:
            runners[name] = load_peer(name)
        except ImportError as error:
            said[name] = f"not installed ({error})"
    return runners, said


class _Frames:
    """The first ``count`` frames of a video, over and over where it is shorter; reading is timed."""

    def __init__(self, video: str | os.PathLike[str], source: Any, count: int, clock: StageClock) -> None:
        self._video = video
        self._source = source
        self._count = count
        self._clock = clock
        self._index = 0

    def __iter__(self) -> _Frames:
        return self

    def __next__(self) -> Any:
        if self._index == self._count:
            raise StopIteration
        with self._clock.stage("read"):
            frame = next(self._source, None)
            if frame is None:
                self._source.close()
                self._source = open_video(self._video)
                frame = next(self._source)
        found = replace(frame, index=self._index, time_s=self._index / (self._source.fps or 25.0))
        self._index += 1
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _estimate(
    estimator: PoseEstimator, video: str | os.PathLike[str], count: int, *, write: bool = True
) -> _Run:
    """One run over ``count`` frames; ``write``: the result is written to a temporary file."""
    passes = estimator.runner.frames_extracted
    kept: list[FramePoses] = []
    frames = poses = 0
    tracks: set[int] = set()
    with clocked(estimator) as clock, tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with clock.stage("other"), estimator.stream(video) as stream:
            stream.video = _Frames(video, stream.video, count, clock)  # type: ignore[assignment]
            for result in stream:
                frames += 1
                poses += len(result)
                tracks |= set(result.track_ids.tolist())
                if write:
                    kept.append(result)
            if write:
                with clock.stage("write"):
                    save_poses(stream.result(kept), Path(folder) / "poses.json")
        seconds = time.perf_counter() - began
    passes = estimator.runner.frames_extracted - passes
    return _Run(frames, poses, len(tracks), passes, seconds, clock.seconds)


@torch.inference_mode()
def _gflop(estimator: PoseEstimator) -> dict[str, float]:
    """Operations of one backbone pass and of the head for one pose."""
    from torch.utils.flop_counter import FlopCounterMode

    model: Any = estimator.model
    count = estimator.runner.num_frames
    frames = torch.zeros(1, 3, *model.input_size, device=estimator.device)
    with FlopCounterMode(display=False) as backbone:
        features = model.extract(frames)
    clip = {name: value.expand(count, *value.shape[1:]).contiguous() for name, value in features.items()}
    with FlopCounterMode(display=False) as head:
        model.head(clip)
    return {"backbone": backbone.get_total_flops() / 1e9, "head": head.get_total_flops() / 1e9}


def _reached(run: _Run, gflop: dict[str, float]) -> float:
    """Operations a second of backbone and head."""
    work = 1e9 * (gflop["backbone"] * run.passes + gflop["head"] * run.poses)
    seconds = run.stages["backbone"] + run.stages["head"]
    return work / seconds if seconds else float("nan")


def _over_length(estimator: PoseEstimator, video: Any, frames: int) -> list[dict[str, float]]:
    rows = []
    for times in LENGTHS:
        gc.collect()
        forget_peak_memory()
        run = _estimate(estimator, video, times * frames, write=False)
        rows.append({"frames": run.frames, "seconds": run.seconds, "peak_mb": peak_memory() / 2**20})
    return rows


class _GivenPeople:
    """A detector that finds ``count`` people side by side in every frame."""

    name = "given"

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, images: list[np.ndarray], keys: Sequence[FrameKey] | None = None) -> list[Detection]:
        found = []
        for image in images:
            height, width = image.shape[:2]
            left = np.arange(self.count) * width / self.count
            boxes = np.stack(
                [left, np.zeros(self.count), left + width / self.count - 1, np.full(self.count, height - 1)],
                axis=1,
            )
            found.append(Detection(boxes, np.ones(self.count)))
        return found


def _over_people(estimator: PoseEstimator, video: Any, frames: int) -> list[dict[str, float]]:
    rows = []
    kept = estimator.detector, estimator.oks_nms
    estimator.oks_nms = 1.0
    try:
        for count in PEOPLE:
            estimator.detector = _GivenPeople(count)
            run = _estimate(estimator, video, frames)
            rows.append({"people": count, "seconds_a_frame": run.seconds / run.frames})
    finally:
        estimator.detector, estimator.oks_nms = kept
    return rows


@torch.inference_mode()
def _over_clips(estimator: PoseEstimator) -> list[dict[str, float]]:
    """Milliseconds of a pose by frames a clip, each frame passing the backbone once (crops are shared)."""
    from vidpose.infer.crops import CropRunner, Strip, make_windows
    from vidpose.models.factory import create_model

    config = dict(estimator.model.config)
    rows: list[dict[str, float]] = []
    if estimator.model.kind != "video":
        return rows
    rng = np.random.default_rng(0)
    height, width = estimator.model.input_size
    images = [rng.integers(0, 255, (2 * height, 2 * width, 3), dtype=np.uint8) for _ in range(16)]
    for count in (3, 5, 7):
        try:
            model = create_model(**{**config, "num_frames": count})
        except InputError:
            continue  # this model takes other numbers of frames
        runner = CropRunner(
            model.to(estimator.device).eval(), estimator.heatmap_skeleton, dtype=estimator.dtype
        )
        _, windows = make_windows(range(16), count, 0, 15)
        strip = Strip(np.array([0.0, 0.0, 2 * width - 1, 2 * height - 1]), images, windows)
        runner([strip])
        times = []
        for _ in range(3):
            began = time.perf_counter()
            runner([strip])
            times.append(time.perf_counter() - began)
        rows.append({"num_frames": count, "ms_a_pose": 1000 * statistics.median(times) / 16})
    return rows
