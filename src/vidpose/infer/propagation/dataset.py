"""Propagation in every video of a data set: labels on some frames become a training set on all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidpose import progress
from vidpose.data.convert import write_labels
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.models.video_model import PoseModel
from vidpose.weight_sets import tell_weights

from .frames import NumberedFrames
from .network import check_joints, fingerprint
from .people import PROVENANCE, arrange_labels, is_labelled
from .run import check_method, load_network, propagate_labels, used_weights
from .store import BlockStore, discard, job_key


@dataclass
class TrainSetReport:
    """What :func:`propagate_dataset` wrote."""

    source: str
    out: str
    split: str
    method: str
    interval: int | None
    videos: int
    given: int
    """Poses whose labels were used."""
    propagated: int
    weights: str | None = None
    """The network's set of weights, or its file; ``None``: no network was asked."""
    fusion_weights: str | None = None
    """The set of ``auto``'s fusion."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.videos} videos in {self.split}, {self.given} poses given and "
            f"{self.propagated} propagated by {self.method}"
        )


def thin_labels(data: PoseDataset, interval: int) -> PoseDataset:
    """The data with the labels of every ``interval``-th labelled frame of each video alone.

    The first that is kept is number ``interval // 2``, as in PoseWarper's protocol.
    """
    if interval < 1:
        raise InputError(f"labels of every {interval}-th frame: it must be at least 1")

    def thinned(video: Video) -> Video:
        labelled = [k for k, frame in enumerate(video.frames) if frame.is_labeled]
        # silent: a video with fewer labels than half an interval keeps its middle one, not none.
        kept = set(labelled[interval // 2 :: interval] or labelled[len(labelled) // 2 :][:1])
        frames = [
            frame if k in kept or not frame.is_labeled else replace(frame, is_labeled=False, people=[])
            for k, frame in enumerate(video.frames)
        ]
        return replace(video, frames=frames)

    return replace(data, videos=[thinned(video) for video in data.videos])


def trusted_labels(data: PoseDataset, confidence: float) -> PoseDataset:
    """The data without propagated joints below a confidence (0 to 1). Labels by hand stay."""

    def trusted(person: Person) -> Person:
        if person.joint_scores is None or person.extra.get(PROVENANCE, "human") == "human":
            return person
        weak = person.joint_scores < confidence
        weak[[j for j in person.extra.get("human_joints", []) if j < len(weak)]] = False
        keypoints = np.where(weak[:, None], 0.0, person.keypoints)
        return replace(person, keypoints=keypoints, visible=person.visible & ~weak)

    videos = [
        replace(v, frames=[replace(f, people=[trusted(p) for p in f.people]) for f in v.frames])
        for v in data.videos
    ]
    return replace(data, videos=videos)


def fill_labels(
    data: PoseDataset,
    method: str = "auto",
    model: PoseModel | None = None,
    *,
    weights: str | os.PathLike[str] = "default",
    one_way: bool = False,
    extend: int | None = None,
    work: Path | None = None,
    quiet: bool = True,
) -> PoseDataset:
    """The data with poses in the frames that have none.

    Args:
        model: of a method that asks a network; ``None``: that of ``weights``.
        weights: name of the set of ``auto``'s fusion, and of the network.
        one_way: flow from the nearest label alone.
        extend: frames by which people go on before their first and after their last label; ``None``: as many
            as usually lie between two labels.
        work: folder for finished parts, so that a killed job continues; ``None``: nothing is kept.

    Raises:
        InputError: frames that cannot be read, or two people of one frame with the same track id.
    """
    check_method(method, one_way)
    model = model if model is not None else load_network(method, weights)
    videos = []
    for number, video in enumerate(progress.track(data.videos, "propagate", unit="videos", quiet=quiet)):
        if len(video.frames) < 2 or not any(_by_hand(person) for f in video.frames for person in f.people):
            videos.append(video)
            continue
        folder = work / f"{number:05d}" if work is not None else None
        videos.append(_fill(video, data, method, model, weights, one_way, extend, folder))
    return replace(data, videos=videos)


def _by_hand(person: Person) -> bool:
    """Whether something of the person can be propagated: an earlier propagation's poses are made anew."""
    return is_labelled(person) and person.extra.get(PROVENANCE) != "propagated"


def _fill(
    video: Video,
    data: PoseDataset,
    method: str,
    model: PoseModel | None,
    weights: str | os.PathLike[str],
    one_way: bool,
    extend: int | None,
    work: Path | None,
) -> Video:
    frames = NumberedFrames(_source(video.frames))
    try:
        places = [k if f.video_frame is None else f.video_frame for k, f in enumerate(video.frames)]
        if max(places) >= frames.count:
            raise InputError(f"{frames.path(0)}: has {frames.count} frames, labels tell of {max(places)}")
        entries = dict(zip(places, video.frames, strict=True))
        labels = arrange_labels(data, video, entries, frames.count, video.source, extend)
        store = None
        if work is not None:
            told = [
                (n, f.is_labeled, [(p.track_id, p.keypoints.tobytes()) for p in f.people])
                for n, f in entries.items()
            ]
            settings = method, fingerprint(model), extend, frames.count, frames.grey_side, told
            store = BlockStore(work, job_key([frames.path(0)], settings))
        filled = propagate_labels(
            labels, frames, method, model, weights=weights, one_way=one_way, store=store
        ).frames
    finally:
        frames.close()
    # The frames that the data set names, with its own numbers and names for them.
    return replace(
        video,
        frames=[
            replace(entry, people=filled[place].people, is_labeled=filled[place].is_labeled)
            for place, entry in entries.items()
        ],
    )


def _source(frames: Sequence[Frame]) -> str | list[str]:
    """What the frames of a video are read from: a video file, or images."""
    if frames[0].video_frame is not None:
        return str(frames[0].path)
    return [str(frame.path) for frame in frames]


def propagate_dataset(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    method: str = "auto",
    *,
    split: str = "train",
    interval: int | None = None,
    weights: str | os.PathLike[str] = "default",
    extend: int | None = None,
    work: str | os.PathLike[str] | None = None,
    quiet: bool = True,
) -> TrainSetReport:
    """Fills the unlabelled frames of a data set and writes it as another, in PoseTrack18's layout.

    Every pose keeps its provenance (``human`` or ``propagated``) and, where propagated, its joints'
    confidences as ``scores``; images are linked, not copied.

    Args:
        source: a data set that ``vidpose data check`` knows. out: a new or empty folder.
        interval: labels of every so many-th labelled frame are used, the others left out; ``None``: all.
        others: as of :func:`vidpose.propagate`.

    Raises:
        InputError: a data set that cannot be read, an ``out`` that is taken, or nothing that can be filled.
    """
    check_method(method)
    target = Path(out)
    if target.suffix or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InputError(f"{out}: must be a new or empty folder, for a data set in PoseTrack18's layout")
    data = read_dataset(source, split)
    if interval is not None:
        data = thin_labels(data, interval)
    given = sum(len(frame.people) for _, frame in data.frames())
    if not given:
        raise InputError(f"{source}: split {split!r} has no labelled person to propagate")
    model = load_network(method, weights)
    check_joints(method, model, data.skeleton, f"{source}, split {split}")
    network, fusion = used_weights(method, weights)
    tell_weights(network, fusion=fusion, quiet=quiet)
    place = Path(work) if work is not None else None
    filled = fill_labels(data, method, model, weights=weights, extend=extend, work=place, quiet=quiet)
    total = sum(len(frame.people) for _, frame in filled.frames())
    if total == given:
        if place is not None:
            discard(place)
        raise InputError(
            f"{source}: nothing to fill in split {split!r}: no frame without labels has people before or "
            "after it; --interval N leaves labels out"
        )
    linked = all(frame.video_frame is None for _, frame in data.frames())
    write_labels([filled], target, "posetrack18", images="link" if linked else "copy", quiet=quiet)
    counts = len(data.videos), given, total - given
    return TrainSetReport(str(source), str(out), split, method, interval, *counts, network, fusion)
