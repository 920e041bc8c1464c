"""The people of all annotated frames of both sides, and the ways of leaving some of them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.posetrack_files import Pairing
from vidpose.evaluate.regions import points_inside
from vidpose.evaluate.sequence import JOINTS, NO_TRACK, Sequence

RULES = ("people", "labelled", "all")
"""Which frames take part: those with annotated people (poseval), those not marked as unlabelled, or all."""


@dataclass
class People:
    """The people of all frames of one side, by frame. N people, J joints."""

    frame: np.ndarray
    """[N] ascending."""
    xy: np.ndarray
    """[N, J, 2] pixels."""
    present: np.ndarray
    """[N, J] bool."""
    scores: np.ndarray
    """[N, J]."""
    head_size: np.ndarray
    """[N] pixels; NaN without a head box."""
    track: np.ndarray
    """[N] identities, not shared between videos; ``NO_TRACK`` without one."""
    place: Callable[[int], str]
    """Row before any selection -> where that person stands in its file."""
    origin: np.ndarray
    """[N] that row."""
    details: dict[str, np.ndarray] = field(default_factory=dict)
    """As in :class:`Sequence`; empty where the files were read without."""

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, keep: np.ndarray) -> People:
        """The people at ``keep`` (mask or positions)."""
        return People(
            self.frame[keep], self.xy[keep], self.present[keep], self.scores[keep], self.head_size[keep],
            self.track[keep], self.place, self.origin[keep],
            {name: values[keep] for name, values in self.details.items()},
        )  # fmt: skip

    @property
    def boxes(self) -> np.ndarray:
        """[N, 4] x, y, width, height: as annotated, else the extent of the joints; NaN without either."""
        box = self.details["box"].copy()
        missing = np.isnan(box).any(axis=1) & self.present.any(axis=1)
        low = np.where(self.present[..., None], self.xy, np.inf).min(axis=1, initial=np.inf)
        high = np.where(self.present[..., None], self.xy, -np.inf).max(axis=1, initial=-np.inf)
        box[missing] = np.concatenate([low, high - low], axis=1)[missing]
        return box

    @property
    def person_scores(self) -> np.ndarray:
        """[N] the score of each person, where the file has none the mean of the joints'; 0 without either."""
        count = np.maximum(self.present.sum(axis=1), 1)
        mean = np.where(self.present, self.scores, 0).sum(axis=1) / count
        return np.where(np.isnan(self.details["score"]), mean, self.details["score"])


@dataclass
class Frames:
    """The annotated frames of all videos, one video after the other, each in its order of time. F frames."""

    video: np.ndarray
    """[F] ascending."""
    regions: dict[int, list[np.ndarray]]
    truth: People
    predictions: People
    notes: list[str]
    joints: tuple[str, ...] = JOINTS
    names: list[str] = field(default_factory=list)
    """[F] image names."""
    numbers: list[int | None] = field(default_factory=list)
    """[F] the number in the name."""
    image_ids: list[int | str | None] = field(default_factory=list)
    video_names: list[str] = field(default_factory=list)
    """[F] what the frame's video is called."""

    def __len__(self) -> int:
        return len(self.video)

    def keep(self, keep: np.ndarray) -> Frames:
        """Only the frames [F] bool ``keep``."""
        position = np.full(len(self), -1, dtype=np.int64)
        position[keep] = np.arange(int(keep.sum()))
        kept = np.flatnonzero(keep).tolist()

        def side(people: People) -> People:
            chosen = people.take(position[people.frame] >= 0)
            chosen.frame = position[chosen.frame]
            return chosen

        return replace(
            self,
            video=self.video[keep],
            regions={int(position[f]): polygons for f, polygons in self.regions.items() if position[f] >= 0},
            truth=side(self.truth),
            predictions=side(self.predictions),
            notes=list(self.notes),
            names=[self.names[f] for f in kept],
            numbers=[self.numbers[f] for f in kept],
            image_ids=[self.image_ids[f] for f in kept],
            video_names=[self.video_names[f] for f in kept],
        )

    def restrict(self, people: np.ndarray, owner: np.ndarray) -> Frames:
        """Only some annotated people: the scores of a bin of difficulty.

        Predictions that belong to other people are left out, those that belong to nobody stay, and frames
        without any of the people are dropped.

        Args:
            people: [N] bool, annotated people to keep.
            owner: [M] the annotated person that each prediction belongs to; -1: nobody.
        """
        stays = (owner < 0) | people[np.maximum(owner, 0)] if len(people) else owner < 0
        kept = replace(self, truth=self.truth.take(people), predictions=self.predictions.take(stays))
        busy = np.bincount(kept.truth.frame, minlength=len(self)) > 0
        return kept.keep(busy)


def assemble(pairs: list[Pairing], rule: str = "people") -> Frames:
    """The frames of all files that take part, with their people and predictions.

    Args:
        rule: of ``RULES``. ``people``: frames without annotated people are left out, predictions and all;
            ``labelled``: frames marked with ``is_labeled`` false are; ``all``: none is.

    Raises:
        InputError: nobody is annotated.
    """
    frame_video: list[int] = []
    names: list[str] = []
    numbers: list[int | None] = []
    image_ids: list[int | str | None] = []
    video_names: list[str] = []
    regions: dict[int, list[np.ndarray]] = {}
    truth_parts: list[tuple[Sequence, np.ndarray]] = []
    found_parts: list[tuple[Sequence, np.ndarray]] = []
    num_videos = 0
    for pair in pairs:
        found_frame = np.full(sum(len(s.names) for s in pair.predictions), -1, dtype=np.int64)
        for sequence, partner in zip(pair.truth, pair.frames, strict=True):
            frame = np.full(len(sequence.names), -1, dtype=np.int64)
            for order in _videos(sequence):
                for f in order:
                    if rule == "people" and sequence.people[f] == 0:
                        continue
                    if rule == "labelled" and sequence.labelled[f] is False:
                        continue
                    frame[f] = len(frame_video)
                    frame_video.append(num_videos)
                    names.append(sequence.frame_label(f))
                    numbers.append(sequence.numbers[f])
                    image_ids.append(sequence.image_ids[f])
                    video_names.append(_video_name(sequence, f))
                    if f in sequence.regions:
                        regions[int(frame[f])] = sequence.regions[f]
                    if partner[f] >= 0:
                        found_frame[partner[f]] = frame[f]
                num_videos += 1
            truth_parts.append((sequence, frame))
        first = 0
        for sequence in pair.predictions:
            found_parts.append((sequence, found_frame[first : first + len(sequence.names)]))
            first += len(sequence.names)
    if not frame_video or not any(sequence.people.any() for sequence, _ in truth_parts):
        raise InputError(f"{pairs[0].truth[0].source}: the ground truth has no annotated person in any frame")
    video = np.array(frame_video, dtype=np.int64)
    notes = [note for pair in pairs for note in pair.notes]
    return Frames(
        video, regions, _people(truth_parts, video), _people(found_parts, video), notes,
        truth_parts[0][0].joints, names, numbers, image_ids, video_names,
    )  # fmt: skip


def _video_name(sequence: Sequence, f: int) -> str:
    """What a table calls the video of a frame: its folder or id, else its file."""
    if sequence.videos[f]:
        return sequence.videos[f]
    folder = (sequence.names[f] or "").replace("\\", "/").rpartition("/")[0]
    return folder or sequence.source


def _videos(sequence: Sequence) -> list[list[int]]:
    """The frames of each video of a file in order of time: by number where all have one, else as written."""
    groups: dict[str, list[int]] = {}
    for f, name in enumerate(sequence.videos):
        groups.setdefault(name, []).append(f)
    for name, order in groups.items():
        numbers = [sequence.numbers[f] for f in order]
        if None not in numbers and len(set(numbers)) == len(numbers):
            groups[name] = sorted(order, key=lambda f: sequence.numbers[f] or 0)
    return list(groups.values())


def _people(parts: list[tuple[Sequence, np.ndarray]], video: np.ndarray) -> People:
    """The people of those files' frames that take part (``frame`` >= 0), by frame."""
    sizes = [len(sequence.frame) for sequence, _ in parts]
    starts = np.cumsum([0, *sizes])
    frame = np.concatenate([frame[sequence.frame] for sequence, frame in parts])
    part = np.repeat(np.arange(len(parts)), sizes)
    track = np.concatenate([sequence.track for sequence, _ in parts])
    order = np.argsort(frame, kind="stable")
    order = order[frame[order] >= 0]
    identity = np.full(len(order), NO_TRACK, dtype=np.int64)
    known = np.flatnonzero(track[order] != NO_TRACK)
    rows = order[known]
    if len(known):
        keys = np.stack([video[frame[rows]], part[rows], track[rows]], axis=1)
        identity[known] = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    def place(row: int) -> str:
        at = int(np.searchsorted(starts, row, side="right")) - 1
        return parts[at][0].place(row - int(starts[at]))

    def gather(name: str) -> np.ndarray:
        return np.concatenate([getattr(sequence, name) for sequence, _ in parts])[order]

    return People(
        frame[order],
        gather("xy"),
        gather("present"),
        gather("scores"),
        gather("head_size"),
        identity,
        place,
        order,
        {name: np.concatenate([sequence.details[name] for sequence, _ in parts])[order]
         for name in parts[0][0].details},
    )  # fmt: skip


def remove_ignored(frames: Frames, sides: tuple[str, ...] = ("truth", "predictions")) -> None:
    """Takes joints strictly inside an ignore region, and people left without any, from both sides."""
    for side in sides:
        people: People = getattr(frames, side)
        keep = np.ones(len(people.frame), dtype=bool)
        for f, polygons in frames.regions.items():
            rows = slice(*np.searchsorted(people.frame, [f, f + 1]))
            xy = people.xy[rows].reshape(-1, 2)
            inside = np.zeros(len(xy), dtype=bool)
            for polygon in polygons:
                inside |= points_inside(xy, polygon)
            people.present[rows] &= ~inside.reshape(people.present[rows].shape)
            keep[rows] = people.present[rows].any(axis=1)
        setattr(frames, side, people.take(keep))
