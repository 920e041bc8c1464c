"""Labels on some frames of a video become labels on all: the whole job."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vidpose import progress
from vidpose.data.convert import FORMATS, file_suffix, write_labels
from vidpose.data.dataset import Frame, Person, PoseDataset
from vidpose.device import resolve_device
from vidpose.errors import InputError
from vidpose.infer.weights import load_pose_model, pose_file
from vidpose.io.files import check_writable, temporary_folder
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton
from vidpose.weight_sets import set_name, tell_weights

from . import methods
from .columns import Columns, arrange
from .frames import NumberedFrames
from .fuse import Guesses, fuse, fusion_file, load_fusion
from .motion import FLOWS, PairFlows
from .network import NETWORKS, by_network, check_joints, fingerprint
from .people import ABSENT, PROVENANCE, Track, VideoLabels, load_labels
from .store import Arrays, BlockStore, discard, job_key

METHODS = ("auto", "interpolate", "spline", "copy", *FLOWS, *NETWORKS)
_ASKED = {"auto": "stdpose", **NETWORKS}
"""Of methods that ask a network: its name."""


@dataclass
class PropagatedLabels:
    """Labels of every frame of a video."""

    data: PoseDataset
    """One video. Labels that were given are as they were; others have ``joint_scores``: confidences, the
    probability of being within PCKh 0.5. ``extra["provenance"]`` tells which is which."""
    format: str
    """Format of the labels that were given."""
    method: str
    given: int
    """Poses that were given."""
    made: int
    """Poses that were propagated."""
    remarks: list[str] = field(default_factory=list)
    """What is odd in the labels' file, or was left out of it."""
    weights: str | None = None
    """The network's set of weights, or its file; ``None``: no network was asked."""
    fusion_weights: str | None = None
    """The set of ``auto``'s fusion."""

    @property
    def skeleton(self) -> Skeleton:
        return self.data.skeleton

    @property
    def frames(self) -> list[Frame]:
        """All frames of the video, in order of time."""
        return self.data.videos[0].frames

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        """Writes one file of labels, whole or not at all.

        ``format``: one of :data:`vidpose.data.convert.FORMATS`; ``None``: that of the labels that were given,
        or what the suffix says (``.xml``: CVAT, ``.csv``: our table, ``.h5``: SLEAP).

        Raises:
            InputError: a format that cannot be written, a suffix that is not its, or a place that cannot be
                written to.
        """
        target = Path(path)
        check_output(target, [], format)
        name = format or file_format(target, self.format)
        joints = self.skeleton.name if name == "coco" and self.skeleton.name != "coco17" else None
        try:
            with temporary_folder(target.absolute()) as temporary:
                made = temporary / target.name
                try:
                    write_labels([self.data], made, name, joints=joints)
                except InputError as error:
                    raise InputError(str(error).replace(str(made), str(target))) from error
                os.replace(made, target)
        except OSError as error:
            raise InputError(f"{target}: cannot be written: {error.strerror or error}") from error

    def __str__(self) -> str:
        numbers = self.to_dict()
        told = (
            f"{numbers['frames']} frames, {numbers['people']} people, {self.given} poses given and "
            f"{self.made} propagated by {self.method}"
        )
        return "\n".join([told, *(f"note: {remark}" for remark in self.remarks)])

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "weights": self.weights,
            "fusion_weights": self.fusion_weights,
            "frames": len(self.frames),
            "people": len({person.track_id for frame in self.frames for person in frame.people}),
            "given": self.given,
            "propagated": self.made,
            "remarks": self.remarks,
        }


_BY_SUFFIX = {".json": "posetrack18", ".xml": "cvat", ".csv": "csv", ".h5": "sleap"}


def file_format(path: Path, given: str) -> str:
    """What to write into a file: the format of the labels that were given, where its name ends as theirs."""
    fits = given in FORMATS and file_suffix(given) == path.suffix.lower()
    return given if fits else _BY_SUFFIX[path.suffix.lower()]


def check_output(path: Path, inputs: Sequence[str], format: str | None) -> None:
    """Refuses a result that cannot be written, or that would take the place of what it is made from.

    Raises:
        InputError: so.
    """
    if format is not None and format not in FORMATS:
        raise InputError(f"--format {format!r} is unknown; known: {', '.join(FORMATS)}")
    suffix = path.suffix.lower()
    if suffix not in ({file_suffix(format)} if format else _BY_SUFFIX):
        expected = file_suffix(format) if format else " or ".join(_BY_SUFFIX)
        raise InputError(f"{path}: the result is a file of labels, its name must end in {expected}")
    for given in inputs:
        if Path(given).exists() and path.exists() and os.path.samefile(given, path):
            raise InputError(f"{path}: is an input; name another file for the result")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file for the result")
    check_writable(path.absolute().parent)


def propagate(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    labels: str | os.PathLike[str],
    method: str = "auto",
    *,
    weights: str | os.PathLike[str] = "default",
    one_way: bool = False,
    first_frame: int | None = None,
    extend: int | None = None,
    work: str | os.PathLike[str] | None = None,
    quiet: bool = True,
) -> PropagatedLabels:
    """Labels on some frames of a video become labels on all.

    Args:
        source: a video file, image folder or glob, or a list of images.
        labels: a file of labels of some of its frames, in any format that ``vidpose data convert`` reads.
        method: ``auto``: labels carried by optical flow from both sides, straight and smooth curves and what
            STDPose sees, fused by learned confidence; or one of ``METHODS`` alone: ``copy`` the nearest
            label, ``interpolate``, ``spline``, optical flow from both labels, blended by distance, or a
            network that takes labels; ``stdpose-estimation`` is shown none.
        weights: of ``auto``'s STDPose, of ``stdpose`` and of ``posewarper``: name of a set
            (:mod:`vidpose.weight_sets`), a file or a hub id. ``auto``'s fusion is of the same set.
        one_way: flow from the nearest label alone.
        first_frame: number that the labels give to the first frame; ``None``: found by looking.
        extend: frames by which people go on before their first and after their last label; ``None``: as many
            as usually lie between two labels.
        work: folder for finished parts: a job that was killed continues there when it is run again. Whoever
            has saved the result removes it. ``None``: nothing is kept.

    Raises:
        InputError: the video or the labels cannot be read, or do not fit each other; no frame is left to
            fill, or the method knows none of the joints.
    """
    check_method(method, one_way)
    frames = NumberedFrames(source)
    try:
        found = load_labels(Path(labels), frames.count, frames.names, first_frame=first_frame, extend=extend)
        _check_open(found, frames, str(labels))
        model = load_network(method, weights)
        if unknown := check_joints(method, model, found.data.skeleton, str(labels)):
            found.remarks.append(unknown)
        network, fusion = used_weights(method, weights)
        tell_weights(network, fusion=fusion, quiet=quiet)
        store = None
        if work:
            settings = method, fingerprint(model), first_frame, extend, frames.count, frames.grey_side
            files = [frames.path(0), frames.path(frames.count - 1), labels]
            store = BlockStore(Path(work), job_key(files, settings))
        result = propagate_labels(
            found, frames, method, model, weights=weights, one_way=one_way, store=store, quiet=quiet
        )
        if not result.made:
            if work:
                discard(Path(work))
            raise InputError(f"{labels}: {method} has filled no frame of {frames.name}; try another --method")
        result.weights, result.fusion_weights = network, fusion
        return result
    finally:
        frames.close()


def _check_open(labels: VideoLabels, frames: NumberedFrames, name: str) -> None:
    """Raises:
    InputError: no frame is left to fill.
    """
    unlabelled = np.ones(frames.count, dtype=bool)
    unlabelled[labels.labelled] = False
    if arrange(labels.tracks, frames.count).open[unlabelled].any():
        return
    count = len(labels.labelled)
    why = (
        "all of them are labelled"
        if count == frames.count
        else f"{count} are labelled, all that people reach"
    )
    hint = "" if count == frames.count else "; --extend N lets people go on beyond their labels"
    raise InputError(f"{name}: nothing to fill in the {frames.count} frames of {frames.name}: {why}{hint}")


def check_method(method: str, one_way: bool = False) -> None:
    """Raises:
    InputError: an unknown method, or one that has no single way.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is unknown; known: {', '.join(METHODS)}")
    if one_way and method not in FLOWS:
        raise InputError(f"one way is for {', '.join(FLOWS)}, not for {method}")


def load_network(method: str, weights: str | os.PathLike[str] = "default") -> PoseModel | None:
    """The model of a method that asks a network (``auto``: STDPose), ``None`` for others.

    Args:
        weights: name of a set, a file or a hub id.

    Raises:
        InputError: as of :func:`vidpose.infer.weights.load_pose_model`.
    """
    name = _ASKED.get(method)
    return None if name is None else load_pose_model(name, weights)[0].to(resolve_device("auto"))


def used_weights(method: str, weights: str | os.PathLike[str] = "default") -> tuple[str | None, str | None]:
    """The set of weights, or the file, of the network that a method asks, and the set of its fusion.

    ``None``: it has none.

    Raises:
        InputError: the set is unknown or not installed, or has no such network.
    """
    name = _ASKED.get(method)
    if name is None:
        return None, None
    network = os.fspath(weights) if set_name(weights) is None else pose_file(name, weights)[1]
    return network, fusion_file(weights)[1] if method == "auto" else None


def propagate_labels(
    labels: VideoLabels,
    frames: NumberedFrames,
    method: str = "auto",
    model: PoseModel | None = None,
    *,
    weights: str | os.PathLike[str] = "default",
    one_way: bool = False,
    store: BlockStore | None = None,
    quiet: bool = True,
) -> PropagatedLabels:
    """:func:`propagate` with labels in memory.

    Args:
        model: of a method that asks a network (:func:`load_network`). weights: of ``auto``'s fusion: name of
            a set. store: for finished parts.
    """
    columns = arrange(labels.tracks, frames.count)
    store = store or BlockStore(None, "")
    points, confidence = _solve(columns, frames, labels, method, model, weights, one_way, store, quiet)
    return assemble(labels, columns, points, confidence, frames, method)


def _solve(
    columns: Columns,
    frames: NumberedFrames,
    labels: VideoLabels,
    method: str,
    network: PoseModel | None,
    weights: str | os.PathLike[str],
    one_way: bool,
    store: BlockStore,
    quiet: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """[F, K, 2] points and [F, K] confidences where joints are open."""
    simple = {"copy": methods.copy, "interpolate": methods.interpolate, "spline": methods.spline}
    if method in simple:
        points = simple[method](columns)
        return points, _plain_confidence(columns, points)
    tracks, joints, title = labels.tracks, labels.data.skeleton, f"propagate {frames.name}"
    if method == "auto":
        flows = PairFlows(frames, "dis")
        return by_fusion(columns, tracks, flows, joints, network, store, title, quiet, weights=weights)
    if network is not None:
        shown = method != "stdpose-estimation"
        found = by_network(
            columns, tracks, frames, network, joints, shown=shown, store=store, title=title, quiet=quiet
        )
        return found[:2]
    guesses = make_guesses(columns, tracks, PairFlows(frames, method), joints, None, store, title, quiet)
    forward, backward = guesses.points["forward"], guesses.points["backward"]
    if one_way:
        before = (columns.shares() <= 0.5)[..., None]
        near, far = np.where(before, forward, backward), np.where(before, backward, forward)
        points = np.where(np.isnan(near), far, near)
    else:
        points = methods.blend(columns, forward, backward)
    return points, _plain_confidence(columns, points)


def by_fusion(
    columns: Columns,
    tracks: list[Track],
    flows: PairFlows,
    joints: Skeleton,
    network: PoseModel | None = None,
    store: BlockStore | None = None,
    title: str = "",
    quiet: bool = True,
    *,
    weights: str | os.PathLike[str] = "default",
) -> tuple[np.ndarray, np.ndarray]:
    """[F, K, 2] points and [F, K] confidences of ``auto``, where joints are open.

    Args:
        network: whose guesses count, too. weights: name of the set that the fusion is taken from; the default
            set where it is a file or a hub id.
    """
    guesses = make_guesses(columns, tracks, flows, joints, network, store, title, quiet)
    return fuse(columns, guesses, joints, load_fusion(fusion_file(weights)[0]))


def seen_labels(columns: Columns, tracks: list[Track]) -> np.ndarray:
    """[F, K] bool: labelled there, and visible."""
    seen = np.zeros(columns.known.shape, dtype=bool)
    joints = columns.known.shape[1] // max(len(tracks), 1)
    for p, track in enumerate(tracks):
        seen[track.frames, p * joints : (p + 1) * joints] = [person.visible for person in track.people]
    return seen


def seen_in_nearest(columns: Columns, seen: np.ndarray) -> np.ndarray:
    """[F, K] bool: visible in the nearest label of the same joint."""
    nearest = np.where(columns.shares() <= 0.5, columns.left, columns.right)
    return np.take_along_axis(seen, np.maximum(nearest, 0), axis=0) & (nearest >= 0)


def make_guesses(
    columns: Columns,
    tracks: list[Track],
    flows: PairFlows,
    joints: Skeleton,
    network: PoseModel | None = None,
    store: BlockStore | None = None,
    title: str = "",
    quiet: bool = True,
) -> Guesses:
    """Every guess for every open joint; those of ``network`` where there is one."""
    shape = columns.known.shape
    store = store or BlockStore(None, "")
    (forward, lost), (backward, lost_back) = _carried(columns, flows, store, title, quiet)
    points = {
        "forward": forward,
        "backward": backward,
        "line": methods.interpolate(columns),
        "curve": methods.spline(columns),
    }
    guessed = np.full((*shape, 2), np.nan, dtype=np.float32)
    peaks = np.zeros(shape, dtype=np.float32)
    heats = np.zeros((len(points), *shape), dtype=np.float32)
    if network is not None:
        guessed, peaks, heats = by_network(
            columns,
            tracks,
            flows.frames,
            network,
            joints,
            others=list(points.values()),
            store=store.part("asked"),
            title=f"{title}, network",
            quiet=quiet,
        )
    seen = seen_labels(columns, tracks)
    return Guesses(
        {**points, "network": guessed},
        lost,
        lost_back,
        np.take_along_axis(seen, np.maximum(columns.left, 0), axis=0),
        np.take_along_axis(seen, np.maximum(columns.right, 0), axis=0),
        peaks,
        heats,
    )


def _carried(columns: Columns, flows: PairFlows, store: BlockStore, title: str, quiet: bool) -> list[Arrays]:
    """Points [F, K, 2] and misses [F, K] of labels carried forward, and of those carried backward.

    A long block goes in pieces, which hand on what they carry: forward through all, and back again.
    """
    shape = columns.known.shape
    ways: list[Arrays] = [
        (np.full((*shape, 2), np.nan, dtype=np.float32), np.zeros(shape, dtype=np.float32)) for _ in range(2)
    ]
    jobs: list[tuple[int, int, bool | None]] = []  # first and last frame; backward, None: both ways
    for pieces in columns.pieces():
        if len(pieces) == 1:
            jobs.append((*pieces[0], None))
        else:
            jobs += [(*piece, False) for piece in pieces] + [(*piece, True) for piece in pieces[::-1]]
    parts = store.part("forward"), store.part("backward")
    for start, end, backward in progress.track(jobs, title, unit="intervals", quiet=quiet):
        here = slice(start, end + 1)
        if backward is None:

            def both(start: int = start, end: int = end) -> Arrays:
                there = methods.carry(columns, flows, start, end)
                return *there, *methods.carry(columns, flows, start, end, backward=True)

            found = store.get(start, end, both)
            (ways[0][0][here], ways[0][1][here]), (ways[1][0][here], ways[1][1][here]) = found[:2], found[2:]
            continue
        points, missed = ways[backward]
        first = end if backward else start
        handed_on = points[first].copy(), missed[first].copy()

        def one(start: int = start, end: int = end, back: bool = backward, given: Any = handed_on) -> Arrays:
            return methods.carry(columns, flows, start, end, backward=back, handed_on=given)

        reached = (columns.right if backward else columns.left)[here] >= 0
        given = (*handed_on, reached, columns.size[here])
        points[here], missed[here] = parts[backward].get(start, end, one, given)
    return ways


def _plain_confidence(columns: Columns, points: np.ndarray) -> np.ndarray:
    """[F, K] that falls with the distance to the labels: no more than an order."""
    frame = np.arange(len(columns.left))[:, None]
    left = np.where(columns.left >= 0, frame - columns.left, 10**6)
    right = np.where(columns.right >= 0, columns.right - frame, 10**6)
    return np.where(np.isnan(points[..., 0]), 0, 1 / (1 + 0.1 * np.minimum(left, right))).astype(np.float32)


def assemble(
    labels: VideoLabels,
    columns: Columns,
    points: np.ndarray,
    confidence: np.ndarray,
    frames: NumberedFrames,
    method: str,
) -> PropagatedLabels:
    """All frames of the video: labelled ones as they are, in others what is propagated.

    Joints that ``columns`` knows in a frame which the labels do not call labelled are set by hand there.
    """
    joints = labels.data.skeleton.num_joints
    names = _names(labels, frames)
    ids = _ids(labels, frames.count)
    there = columns.known | (columns.open & ~np.isnan(points[..., 0]))
    points = np.where(columns.known[..., None], columns.points, points)
    confidence = np.where(columns.known, 1.0, confidence)
    visible = seen_in_nearest(columns, seen_labels(columns, labels.tracks))
    made = given = 0
    out = []
    for number in range(frames.count):
        entry = labels.frames.get(number)
        if entry is None:
            entry = Frame(
                frames.path(number), names[number], ids[number], number, frames.size, False,
                video_frame=number if frames.names is None else None,
            )  # fmt: skip
        people = []
        for person in entry.people:
            given += 1
            people.append(replace(person, extra={**person.extra, PROVENANCE: "human"}))
        if not entry.is_labeled:
            for p, track in enumerate(labels.tracks):
                here = number, slice(p * joints, (p + 1) * joints)
                if there[here].any():
                    made += 1
                    person = _person(track, number, points[here], confidence[here], there[here])
                    person.visible = there[here] & visible[here]
                    by_hand = np.flatnonzero(columns.known[here])
                    if len(by_hand):
                        person.extra = {PROVENANCE: "mixed", "human_joints": by_hand.tolist()}
                    people.append(person)
        entry = replace(entry, index=number, people=people, is_labeled=entry.is_labeled or bool(people))
        gone = sorted(track_id for track_id, told in labels.absent.items() if number in told)
        if gone or ABSENT in entry.extra:
            entry.extra = {
                **{k: v for k, v in entry.extra.items() if k != ABSENT},
                **({ABSENT: gone} if gone else {}),
            }
        out.append(entry)
    video = replace(labels.video, frames=out)
    data = replace(labels.data, videos=[video])
    return PropagatedLabels(data, labels.data.layout, method, given, made, labels.remarks)


def _person(
    track: Track, number: int, points: np.ndarray, confidence: np.ndarray, known: np.ndarray
) -> Person:
    """A propagated pose. Boxes lie between those of the labels around it, or around its joints."""
    a, b, share = track.around(number)
    nearest = a if share <= 0.5 else b
    keypoints = np.zeros((len(points), 3))
    keypoints[known, :2], keypoints[known, 2] = points[known].astype(np.float64).round(3), 1
    head = None
    if a.head_box_xyxy is not None and b.head_box_xyxy is not None:
        head = (1 - share) * a.head_box_xyxy + share * b.head_box_xyxy
    return Person(
        keypoints=keypoints,
        box_xyxy=track.box_at(number),
        head_box_xyxy=head,
        track_id=track.track_id,
        visible=known,
        box_is_given=a.box_is_given and b.box_is_given,
        person_id=nearest.person_id,
        joint_scores=np.where(known, confidence, 0.0).astype(np.float64).round(4),
        extra={PROVENANCE: "propagated"},
    )


def _names(labels: VideoLabels, frames: NumberedFrames) -> Sequence[str]:
    """A name for every frame, made as the labels' own are."""
    number, example = min(labels.frames.items())
    pattern = re.search(r"(\d+)(\D*)$", PurePosixPath(example.file_name).stem)
    if frames.names is not None and pattern is None:
        return frames.names
    path = PurePosixPath(example.file_name)
    suffix = path.suffix or ".jpg"
    start, width, rest = f"{path.stem}_", 6, ""
    offset = 0
    if pattern is not None:
        start = path.stem[: pattern.start(1)]
        width, rest = len(pattern.group(1)), pattern.group(2)
        offset = int(pattern.group(1)) - number
    made = [f"{start}{k + offset:0{width}d}{rest}{suffix}" for k in range(frames.count)]
    return [str(path.with_name(name)) for name in made]


def _ids(labels: VideoLabels, count: int) -> list[int]:
    """An image id for every frame: counted on from the labels' where theirs follow the frames' numbers."""
    given = {number: frame.image_id for number, frame in labels.frames.items()}
    offsets = {image_id - number for number, image_id in given.items()}
    if len(offsets) == 1:
        offset = offsets.pop()
        return [k + offset for k in range(count)]
    free = max(given.values()) + 1
    return [given.get(k, free + k) for k in range(count)]
