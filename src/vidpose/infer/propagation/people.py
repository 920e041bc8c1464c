"""Sparse labels of one video as people over time, and where between them poses are wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.layouts.recognise import read_labels
from vidpose.errors import InputError
from vidpose.io.sources import natural_key

PROVENANCE = "provenance"
"""Key of an annotation: ``human``, ``propagated``, or ``mixed`` with ``human_joints``, their numbers."""
ABSENT = "absent_track_ids"
"""Key of a frame that is not labelled as a whole: the people who, somebody has said, are not there."""


@dataclass
class Track:
    """One person's labels. n labels, J joints."""

    track_id: int
    frames: np.ndarray
    """[n] int64 numbers of video frames, ascending."""
    people: list[Person]
    """The labels themselves, in the same order."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last frame of each stretch in which the person is wanted."""

    @property
    def keypoints(self) -> np.ndarray:
        """[n, J, 3] x, y in pixels, and 1 where labelled."""
        return np.stack([person.keypoints for person in self.people])

    def around(self, number: int) -> tuple[Person, Person, float]:
        """The labels before and after a frame, and where it lies between them, 0 to 1."""
        after = int(np.searchsorted(self.frames, number))
        left, right = max(after - 1, 0), min(after, len(self.frames) - 1)
        length = int(self.frames[right] - self.frames[left])
        share = (number - int(self.frames[left])) / length if length else 0.0
        return self.people[left], self.people[right], share

    def box_at(self, number: int) -> np.ndarray:
        """[4] the person's box in a frame: between those of the labels before and after it."""
        a, b, share = self.around(number)
        return (1 - share) * a.box_xyxy + share * b.box_xyxy


@dataclass
class VideoLabels:
    """The labels of one video."""

    video: Video
    data: PoseDataset
    """The data set of that one video, as read."""
    frames: dict[int, Frame]
    """Number of the video frame -> its entry in the labels; unlabelled entries included."""
    labelled: np.ndarray
    """[m] numbers of the labelled video frames, ascending; people may be absent from them."""
    tracks: list[Track]
    partial: dict[int, dict[int, Person]]
    """Track id -> number of a video frame that is not labelled as a whole -> a person of whom single joints
    were set by hand there."""
    reach: int
    """Frames by which people go on before their first and after their last label."""
    absent: dict[int, set[int]] = field(default_factory=dict)
    """Track id -> frames, not labelled as a whole, in which the person is said not to be."""
    remarks: list[str] = field(default_factory=list)
    """What is odd in the file, or was left out of it."""


def load_labels(
    path: str | Path,
    count: int,
    names: Sequence[str] | None = None,
    *,
    first_frame: int | None = None,
    extend: int | None = None,
) -> VideoLabels:
    """Reads the labels of a video in any format that ``vidpose data convert`` reads.

    Of poses that an earlier propagation made, only joints that a person has set since are labels.

    Args:
        path: one file, or a data set's folder with one video.
        count: frames of the video. names: its image files, where it is a sequence of images.
        first_frame: number that the labels give to the first frame; ``None``: found by looking.
        extend: frames by which people go on before their first and after their last label; ``None``: as many
            as usually lie between two labels.

    Raises:
        InputError: the labels cannot be read, hold several videos or nobody, or do not fit the video.
    """
    path = Path(path)
    labels = read_labels(path)
    videos = [(data, video) for data in labels.splits for video in data.videos]
    if len(videos) > 1 and all(len(video.frames) == 1 for _, video in videos):
        videos = [(videos[0][0], _merged([video for _, video in videos]))]
    if len(videos) != 1:
        raise InputError(f"{path}: holds {len(videos)} videos; propagation takes the labels of one")
    data, video = videos[0]
    numbers = frame_numbers(video, count, names, path, first_frame)
    entries = dict(zip(numbers, video.frames, strict=True))
    found = arrange_labels(data, video, entries, count, path, extend)
    found.remarks = labels.remarks
    return found


def arrange_labels(
    data: PoseDataset, video: Video, frames: dict[int, Frame], count: int, path: Path, extend: int | None
) -> VideoLabels:
    """Labels that are already read.

    Args:
        data: the data set of ``video``. frames: number of the video frame -> its entry in the labels.
        count, extend: as of :func:`load_labels`. path: of the labels, for messages.

    Raises:
        InputError: they hold nobody, or two people of one frame share an id.
    """
    partial = _partial(frames)
    absent = _absent(frames)
    frames = {number: _by_hand(frame) for number, frame in frames.items()}
    labelled = np.array(sorted(n for n, frame in frames.items() if frame.is_labeled), dtype=np.int64)
    reach = usual_interval(labelled) if extend is None else extend
    tracks = place_tracks(make_tracks(frames, labelled, path), partial, labelled, count, reach, absent)
    if not tracks:
        raise InputError(f"{path}: has no labelled person to propagate")
    return VideoLabels(video, data, frames, labelled, tracks, partial, reach, absent)


def _merged(images: list[Video]) -> Video:
    """Single images, as COCO's files have them, as frames of one video in the order of their names.

    They do not tell who is who: people are matched from image to image by the distance of their joints.
    """
    images = sorted(images, key=lambda video: natural_key(video.frames[0].file_name))
    frames: list[Frame] = []
    last: dict[int, Person] = {}
    for index, video in enumerate(images):
        frame = video.frames[0]
        known = list(last)
        people = [replace(person, track_id=-1) for person in frame.people]
        if known and people:
            cost = np.array([[_apart(person, last[k]) for k in known] for person in people])
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                people[row] = replace(people[row], track_id=known[column])
        free = max(known, default=-1) + 1
        for k, person in enumerate(people):
            if person.track_id < 0:
                people[k] = replace(person, track_id=free)
                free += 1
        last |= {person.track_id: person for person in people}
        frames.append(replace(frame, index=index, people=people))
    return replace(images[0], frames=frames)


def _apart(a: Person, b: Person) -> float:
    """Pixels between two poses: the mean over joints that both have, else from box to box."""
    both = (a.keypoints[:, 2] > 0) & (b.keypoints[:, 2] > 0)
    if both.any():
        return float(np.linalg.norm(a.keypoints[both, :2] - b.keypoints[both, :2], axis=1).mean())
    middles = [(p.box_xyxy[:2] + p.box_xyxy[2:]) / 2 for p in (a, b)]
    return float(np.linalg.norm(middles[0] - middles[1]))


def frame_numbers(
    video: Video, count: int, names: Sequence[str] | None, path: Path, first_frame: int | None
) -> list[int]:
    """The video frame of each entry of the labels."""
    entries = video.frames
    if names is not None and first_frame is None:
        place = {PurePosixPath(name).name: k for k, name in enumerate(names)}
        mine = [place.get(PurePosixPath(frame.file_name).name) for frame in entries]
        if None not in mine and len(set(mine)) == len(mine):
            return mine  # type: ignore[return-value]
    if all(frame.video_frame is not None for frame in entries):
        numbers = [int(frame.video_frame or 0) - (first_frame or 0) for frame in entries]
    elif len(entries) == count and first_frame is None:
        numbers = [frame.index for frame in entries]
    else:
        numbers = _numbers_of_names(entries, count, path, first_frame)
    low, high = min(numbers), max(numbers)
    if low < 0 or high >= count:
        raise InputError(
            f"{path}: labels of frame {low if low < 0 else high}, the video has frames 0 to {count - 1}; "
            "--first-frame says how the labels number the first"
        )
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{path}: two entries mean the same frame of the video")
    return numbers


def _numbers_of_names(entries: list[Frame], count: int, path: Path, first_frame: int | None) -> list[int]:
    """By the digits at the end of the frames' names, else by their order in time."""
    digits = [re.search(r"(\d+)\D*$", PurePosixPath(frame.file_name).stem) for frame in entries]
    if None in digits:
        numbers = [frame.index for frame in entries]
        return [number - (first_frame or 0) for number in numbers]
    numbers = [int(found.group(1)) for found in digits if found]
    if first_frame is None:
        # silent: from 0, unless the last frame of the video can only be meant by counting from 1.
        first_frame = 1 if max(numbers) == count and min(numbers) >= 1 else 0
    return [number - first_frame for number in numbers]


def usual_interval(labelled: np.ndarray) -> int:
    """The usual distance of labelled frames [m]: their median, at least 1."""
    return int(np.median(np.diff(labelled))) if len(labelled) > 1 else 1


def _by_hand(frame: Frame) -> Frame:
    """The frame without poses that propagation made; labelled only if it was so without them."""
    people = [person for person in frame.people if person.extra.get(PROVENANCE, "human") == "human"]
    made = len(people) < len(frame.people)
    return replace(frame, people=people, is_labeled=frame.is_labeled and (bool(people) or not made))


def _partial(frames: dict[int, Frame]) -> dict[int, dict[int, Person]]:
    """What persons have set in poses that propagation made."""
    found: dict[int, dict[int, Person]] = {}
    for number, frame in frames.items():
        for person in frame.people:
            if person.extra.get(PROVENANCE) != "mixed":
                continue
            keep = np.zeros(len(person.keypoints), dtype=bool)
            keep[[j for j in person.extra.get("human_joints", []) if 0 <= j < len(keep)]] = True
            own = replace(
                person, keypoints=person.keypoints * keep[:, None], visible=person.visible & keep, extra={}
            )
            found.setdefault(person.track_id, {})[number] = own
    return found


def _absent(frames: dict[int, Frame]) -> dict[int, set[int]]:
    """In which frames people are said not to be there."""
    found: dict[int, set[int]] = {}
    for number, frame in frames.items():
        told = frame.extra.get(ABSENT)
        for track_id in told if isinstance(told, list) else ():
            if isinstance(track_id, int):
                found.setdefault(track_id, set()).add(number)
    return found


def place_tracks(
    tracks: list[Track],
    partial: dict[int, dict[int, Person]],
    labelled: np.ndarray,
    count: int,
    reach: int,
    absent: Mapping[int, Collection[int]] | None = None,
) -> list[Track]:
    """Tracks of whole labels and of joints set elsewhere, with the stretches in which people are wanted.

    Args:
        partial, absent: as of :class:`VideoLabels`. labelled: [m] frames labelled as a whole.
        count: frames of the video. reach: as of :func:`spans`.
    """
    known = {track.track_id: track for track in tracks}
    out = []
    for track_id in sorted({*known, *(k for k, own in partial.items() if own)}):
        whole = known.get(track_id)
        own = dict(zip(whole.frames.tolist(), whole.people, strict=True)) if whole else {}
        own |= partial.get(track_id, {})
        track = Track(track_id, np.array(sorted(own), dtype=np.int64), [own[k] for k in sorted(own)])
        # A frame in which joints of one person were set says nothing of the others.
        told = np.array(sorted((absent or {}).get(track_id, ())), dtype=np.int64)
        track.spans = spans(track.frames, np.union1d(labelled, track.frames), count, reach, told)
        out.append(track)
    return out


def is_labelled(person: Person) -> bool:
    """One person, and not a crowd, with a joint."""
    return not person.is_crowd and bool((person.keypoints[:, 2] > 0).any())


def make_tracks(frames: dict[int, Frame], labelled: np.ndarray, path: Path) -> list[Track]:
    """The people of the labelled frames, by their track ids, without stretches.

    Args:
        frames: number of the video frame -> its labels. path: of the labels, for messages.

    Raises:
        InputError: two people of one frame share an id.
    """
    found: dict[int, Track] = {}
    for number in labelled.tolist():
        seen: set[int] = set()
        for person in frames[number].people:
            if not is_labelled(person):
                continue
            if person.track_id in seen:
                raise InputError(
                    f"{path}: frame {number}: two people have the track id {person.track_id}; "
                    "propagation must know who is who"
                )
            seen.add(person.track_id)
            track = found.setdefault(person.track_id, Track(person.track_id, np.zeros(0, dtype=np.int64), []))
            track.frames = np.append(track.frames, number)
            track.people.append(person)
    return [found[key] for key in sorted(found)]


def spans(
    frames: np.ndarray, labelled: np.ndarray, count: int, reach: int, absent: np.ndarray | None = None
) -> list[tuple[int, int]]:
    """Where a person with labels on ``frames`` is wanted.

    From label to label, unless a labelled frame between them lacks the person, or somebody has said that they
    are not there. Beyond the ends of such a stretch the person goes on for ``reach`` frames, at most half way
    to a labelled frame without them, and not to where they are said to be absent.

    Args:
        frames: [n] of the person's labels. labelled: [m] of all labelled frames.
        count: frames of the video. absent: [k] where the person is said not to be.
    """
    lacking = np.setdiff1d(labelled, frames)
    told = np.setdiff1d(absent if absent is not None else np.zeros(0, dtype=np.int64), frames)

    def beyond(label: int, other: int | None, step: int) -> int:
        """How many frames the person goes on before (-1) or after (1) a label, toward another one."""
        end = other if other is not None else (count if step > 0 else -1)
        between = [step * (rows - label) for rows in (lacking, told)]
        limits = [rows[(rows > 0) & (rows < step * (end - label))] for rows in between]
        most = [int(limits[0].min() - 1) // 2] if len(limits[0]) else []
        most += [int(limits[1].min()) - 1] if len(limits[1]) else []
        # From a label to another's side nothing but what is said ends the stretch.
        if other is None or len(limits[0]):
            most += [reach, step * (end - label) - 1]
        return min(most)

    out = []
    first, before = int(frames[0]), None
    for a, b in zip(frames.tolist(), [*frames[1:].tolist(), None], strict=True):
        breaks = b is None or any(((rows > a) & (rows < b)).any() for rows in (lacking, told))
        if breaks:
            out.append((first - beyond(first, before, -1), a + beyond(a, b, 1)))
            if b is not None:
                first, before = b, a
    return out
