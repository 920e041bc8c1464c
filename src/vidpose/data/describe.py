"""What a data set holds, in numbers: counts, joints, tracks, boxes, crowding and motion of each split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.readers import list_splits, read_whole, uncollected, usable
from vidpose.errors import InputError
from vidpose.geometry import box_area
from vidpose.progress import track
from vidpose.skeletons import Skeleton

QUANTILES = (5, 25, 50, 75, 95)
CROWDED_IOU = 0.3
"""Above this overlap with another person's box a person counts as crowded, as in the breakdown of scores."""
_PAIRS_AT_ONCE = 1_000_000
_SIZES_SHOWN = 5


@dataclass
class SplitCounts:
    """The content of one split."""

    videos: int = 0
    frames: int = 0
    labeled_frames: int = 0
    people: int = 0
    tracks: int = 0
    labeled_joints: int = 0
    images_missing: int = 0


@dataclass
class Measures:
    """One split, a value for each person, track, frame or video: what a picture of it is drawn from."""

    skeleton: Skeleton
    labeled: np.ndarray
    """[N, J] bool."""
    visible: np.ndarray
    """[N, J] bool: labelled and not occluded."""
    people_per_frame: np.ndarray
    """[F] int, of labelled frames."""
    labeled_per_video: np.ndarray
    """[V] int: labelled frames."""
    track_lengths: np.ndarray
    """[T] int: frames in which the person is labelled."""
    box_heights: np.ndarray
    """[N] pixels."""
    box_aspects: np.ndarray
    """[N] height / width."""
    box_centres: np.ndarray
    """[N, 2] x, y as shares of the picture's width and height; NaN where its size is unknown."""
    boxes_given: np.ndarray
    """[N] bool; the other boxes are made from the joints."""
    overlaps: np.ndarray
    """[N] largest IoU with the box of another person of the frame."""
    head_sizes: np.ndarray
    """[H] pixels, 0.6 times the diagonal of the head box: the unit of PCKh; only of people who have one."""
    motion: np.ndarray
    """[M, J] way of each joint to the next labelled frame of its track, per frame in between, over the box's
    height in the first; NaN where a joint is not labelled in both."""
    steps: np.ndarray
    """[M] int: frames from the one to the other."""
    image_sizes: dict[tuple[int, int], int]
    """(height, width) of a video's first frame -> videos, most frequent first; (0, 0): unknown."""
    single_images: bool
    """Every video is one frame: there are neither tracks nor motion."""
    left_out: int = 0
    """Annotated people who are not used: crowds, and people without a box."""
    samples: list[tuple[str, Frame]] = field(default_factory=list)
    """(video, frame) to look at, spread over the videos."""

    @property
    def speeds(self) -> np.ndarray:
        """[M'] the median of the joints' motions, where at least one is known."""
        known = ~np.isnan(self.motion).all(axis=1)
        return np.nanmedian(self.motion[known], axis=1) if known.any() else np.zeros(0)

    @property
    def joint_speeds(self) -> np.ndarray:
        """[J] median motion of each joint; NaN where none is known."""
        out = np.full(self.skeleton.num_joints, np.nan)
        known = ~np.isnan(self.motion).all(axis=0)
        if known.any():
            out[known] = np.nanmedian(self.motion[:, known], axis=0)
        return out

    @property
    def crowded(self) -> float:
        """Share of people whose box overlaps another by more than ``CROWDED_IOU``; NaN without people."""
        return float((self.overlaps > CROWDED_IOU).mean()) if len(self.overlaps) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Summaries as plain values; ``None`` where there is nothing to summarise."""
        names, people = self.skeleton.joints, max(len(self.labeled), 1)
        shares = {
            "labeled": self.labeled.sum(axis=0) / people,
            "visible": self.visible.sum(axis=0) / people,
            "occluded": (self.labeled & ~self.visible).sum(axis=0) / people,
            "speed": self.joint_speeds,
        }
        joints = {
            name: {what: _number(values[j]) for what, values in shares.items()}
            for j, name in enumerate(names)
        }
        return {
            "skeleton": self.skeleton.name,
            "joints": joints,
            "people_left_out": self.left_out,
            "boxes_made_from_joints": int((~self.boxes_given).sum()),
            "labeled_frames_per_video": _summary(self.labeled_per_video),
            "people_per_labeled_frame": _summary(self.people_per_frame),
            "track_length_labeled_frames": None if self.single_images else _summary(self.track_lengths),
            "box_height_px": _summary(self.box_heights),
            "box_height_over_width": _summary(self.box_aspects),
            "head_size_px": _summary(self.head_sizes),
            "overlap_iou": _summary(self.overlaps),
            f"share_overlap_above_{CROWDED_IOU}": _number(self.crowded),
            "speed_box_heights_per_frame": _summary(self.speeds),
            "frames_between_labels": _summary(self.steps),
        }


@dataclass
class DatasetDescription:
    """What :func:`describe_dataset` counted."""

    root: str
    layout: str
    """As people call it."""
    splits: dict[str, SplitCounts]
    measures: dict[str, Measures]

    @property
    def image_sizes(self) -> dict[str, dict[str, int]]:
        """split -> "HxW" -> videos."""
        return {
            split: {f"{height}x{width}": count for (height, width), count in values.image_sizes.items()}
            for split, values in self.measures.items()
        }

    @property
    def joints(self) -> dict[str, dict[str, int]]:
        """split -> joint -> how often labelled."""
        return {
            split: dict(zip(values.skeleton.joints, values.labeled.sum(axis=0).tolist(), strict=True))
            for split, values in self.measures.items()
        }

    @property
    def box_heights(self) -> dict[str, list[float]]:
        """split -> 5th, 25th, 50th, 75th, 95th percentile in pixels."""
        return {split: quantiles(values.box_heights) for split, values in self.measures.items()}

    def to_dict(self) -> dict[str, Any]:
        return {
            "root": self.root,
            "layout": self.layout,
            "splits": {split: asdict(counts) for split, counts in self.splits.items()},
            "image_sizes": self.image_sizes,
            "joints": self.joints,
            "box_heights": self.box_heights,
            "statistics": {split: values.to_dict() for split, values in self.measures.items()},
        }

    def __str__(self) -> str:
        lines = [f"{self.root}: {self.layout}"]
        for split, counts in self.splits.items():
            lines.append(counts_line(split, counts))
            lines += [f"  {line}" for line in _text(self.measures[split])]
        return "\n".join(lines)


def counts_line(split: str, counts: SplitCounts) -> str:
    """One split's counts for people to read."""
    return (
        f"{split}: {counts.videos} videos, {counts.frames} frames ({counts.labeled_frames} labelled), "
        f"{counts.people} people in {counts.tracks} tracks, {counts.labeled_joints} joints"
    )


def _text(values: Measures) -> list[str]:
    sizes = [
        f"{height}x{width} ({count} video{'s' if count > 1 else ''})"
        for (height, width), count in values.image_sizes.items()
    ]
    more = len(sizes) - _SIZES_SHOWN
    shown = sizes[:_SIZES_SHOWN] + ([f"{more} more"] if more > 0 else [])
    lines = [f"image sizes: {', '.join(shown)}"]
    if values.left_out:
        lines.append(f"left out: {values.left_out} crowds and people without a box")
    percentiles = ", ".join(map(str, QUANTILES))

    def spread(what: str, numbers: np.ndarray, form: str, unit: str) -> None:
        if len(numbers):
            listed = ", ".join(format(number, form) for number in quantiles(numbers))
            lines.append(f"{what} ({percentiles} %): {listed}{unit}")

    spread("box heights", values.box_heights, ".0f", " px")
    spread("people per labelled frame", values.people_per_frame, ".3g", "")
    if not values.single_images:
        spread("track lengths", values.track_lengths, ".3g", " labelled frames")
        spread("motion per frame", 100 * values.speeds, ".2g", " % of the box's height")
    if len(values.overlaps):
        lines.append(f"overlap another by IoU > {CROWDED_IOU}: {100 * values.crowded:.1f} % of people")
        lines.append(f"labelled joints, % of people: {_shares(values.skeleton, values.labeled)}")
        if (values.labeled & ~values.visible).any():
            lines.append(f"visible joints, % of people: {_shares(values.skeleton, values.visible)}")
    return lines


def _shares(skeleton: Skeleton, flags: np.ndarray) -> str:
    shares = 100 * flags.mean(axis=0)
    return ", ".join(f"{joint} {share:.0f}" for joint, share in zip(skeleton.joints, shares, strict=True))


def describe_dataset(
    root: str | os.PathLike[str],
    layout: str = "auto",
    *,
    splits: Sequence[str] = (),
    samples: int = 0,
    quiet: bool = True,
) -> DatasetDescription:
    """Reads a data set as training does and measures it.

    Args:
        layout: ``auto``, or a name of :data:`vidpose.data.layouts.LAYOUTS`.
        splits: by default all.
        samples: frames of each split to keep for looking at.
        quiet: show no progress.

    Raises:
        InputError: no such split, or the first fault of an annotation file.
    """
    folder = Path(root)
    known = list_splits(folder, layout)
    for split in splits:
        if split not in known:
            raise InputError(f"{folder}: has no split {split!r}; it has {', '.join(known)}")
    description = DatasetDescription(str(folder), "", {}, {})
    for split in track(list(dict.fromkeys(splits)) or known, "read", unit="splits", quiet=quiet):
        with uncollected():
            whole, found = read_whole(folder, split, layout)
            data = usable(whole, found.skeleton)
            description.layout = found.title
            description.splits[split] = count_content(data.videos)
            values = measure(data)
        values.left_out = sum(len(frame.people) for _, frame in whole.frames()) - len(values.labeled)
        values.samples = sample_frames(data, samples)
        description.measures[split] = values
    return description


def count_content(videos: list[Video]) -> SplitCounts:
    """Videos, frames, people, tracks and joints; images are not looked for."""
    counts = SplitCounts(videos=len(videos))
    for video in videos:
        people = [person for frame in video.frames for person in frame.people]
        counts.frames += len(video.frames)
        counts.labeled_frames += sum(frame.is_labeled for frame in video.frames)
        counts.people += len(people)
        counts.tracks += len({person.track_id for person in people})
        counts.labeled_joints += int(sum((person.keypoints[:, 2] > 0).sum() for person in people))
    return counts


# --- measuring -------------------------------------------------------------------------------------------


def measure(data: PoseDataset) -> Measures:
    """A split's people, frames and tracks as arrays; nothing is read from disk."""
    people: list[Person] = []
    places: list[tuple[int, int, int, int, int]] = []  # video, frame of all, index, height, width
    number = 0
    for v, video in enumerate(data.videos):
        for frame in video.frames:
            people += frame.people
            places += [(v, number, frame.index, *frame.size)] * len(frame.people)
            number += 1
    where = np.array(places, dtype=np.int64).reshape(-1, 5)
    count, joints = len(people), data.skeleton.num_joints
    boxes = np.array([person.box_xyxy for person in people], dtype=np.float64).reshape(count, 4)
    keypoints = np.array([person.keypoints for person in people], dtype=np.float64).reshape(count, joints, 3)
    visible = np.array([person.visible for person in people], dtype=bool).reshape(count, joints)
    tracks = np.array([person.track_id for person in people], dtype=np.int64)
    sides = boxes[:, 2:] - boxes[:, :2]  # [N, 2] width, height
    pictures = np.where(where[:, [4, 3]] > 0, where[:, [4, 3]], np.nan)
    lengths = np.unique(np.column_stack([where[:, 0], tracks]), axis=0, return_counts=True)[1]
    motion, steps = _motion(keypoints, np.column_stack([where[:, 0], tracks]), where[:, 2], sides[:, 1])
    heads = [person.head_box_xyxy for person in people if person.head_box_xyxy is not None]
    head_boxes = np.array(heads, dtype=np.float64).reshape(-1, 4)
    head_sizes = 0.6 * np.linalg.norm(head_boxes[:, 2:] - head_boxes[:, :2], axis=1)
    sizes = Counter(video.frames[0].size for video in data.videos if video.frames)
    frames = [frame for _, frame in data.frames() if frame.is_labeled]
    return Measures(
        skeleton=data.skeleton,
        labeled=keypoints[..., 2] > 0,
        visible=visible & (keypoints[..., 2] > 0),
        people_per_frame=np.array([len(frame.people) for frame in frames], dtype=np.int64),
        labeled_per_video=np.array(
            [sum(frame.is_labeled for frame in video.frames) for video in data.videos], dtype=np.int64
        ),
        track_lengths=lengths,
        box_heights=sides[:, 1],
        box_aspects=sides[:, 1] / np.maximum(sides[:, 0], 1e-9),
        box_centres=(boxes[:, :2] + boxes[:, 2:]) / 2 / pictures,
        boxes_given=np.array([person.box_is_given for person in people], dtype=bool),
        overlaps=_overlaps(boxes, where[:, 1]),
        head_sizes=head_sizes[head_sizes > 0],
        motion=motion,
        steps=steps,
        image_sizes=dict(sizes.most_common()),
        single_images=all(len(video.frames) <= 1 for video in data.videos),
    )


def _motion(
    keypoints: np.ndarray, tracks: np.ndarray, index: np.ndarray, heights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``Measures.motion`` and ``steps``.

    Args:
        keypoints: [N, J, 3].
        tracks: [N, 2] video and track id.
        index: [N] of the frame in the video.
        heights: [N] pixels.
    """
    order = np.lexsort((index, tracks[:, 1], tracks[:, 0]))
    first, second = order[:-1], order[1:]
    same = (tracks[first] == tracks[second]).all(axis=1) & (index[first] < index[second])
    first, second = first[same], second[same]
    steps = index[second] - index[first]
    moved = np.linalg.norm(keypoints[first, :, :2] - keypoints[second, :, :2], axis=-1)
    moved[(keypoints[first, :, 2] <= 0) | (keypoints[second, :, 2] <= 0)] = np.nan
    return moved / (steps * np.maximum(heights[first], 1e-9))[:, None], steps


def _overlaps(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """[N] largest IoU of each box with another of its frame; frames with as many people go together.

    Args:
        boxes: [N, 4] xyxy.
        frame: [N] ascending.
    """
    out = np.zeros(len(boxes))
    _, start, counts = np.unique(frame, return_index=True, return_counts=True)
    for people in np.unique(counts[counts > 1]).tolist():
        rows = start[counts == people][:, None] + np.arange(people)  # [F, P]
        at_once = max(_PAIRS_AT_ONCE // people**2, 1)
        for k in range(0, len(rows), at_once):
            chunk = rows[k : k + at_once]
            a, b = boxes[chunk][:, :, None], boxes[chunk][:, None]  # [F, P, 1, 4], [F, 1, P, 4]
            low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
            shared = (high - low).clip(0).prod(axis=-1)  # [F, P, P]
            iou = shared / np.maximum(box_area(a) + box_area(b) - shared, 1e-9)
            iou[:, np.arange(people), np.arange(people)] = 0
            out[chunk] = iou.max(axis=-1)
    return out


def sample_frames(data: PoseDataset, count: int) -> list[tuple[str, Frame]]:
    """``count`` labelled frames with people, evenly spread over the videos, and in them over time."""
    videos = [
        (video.name, frames)
        for video in data.videos
        if (frames := [frame for frame in video.frames if frame.is_labeled and frame.people])
    ]
    if not videos or count <= 0:
        return []
    chosen = Counter(int((k + 0.5) * len(videos) / count) for k in range(count))
    samples = []
    for v, wanted in sorted(chosen.items()):
        name, frames = videos[v]
        wanted = min(wanted, len(frames))
        samples += [(name, frames[int((i + 0.5) * len(frames) / wanted)]) for i in range(wanted)]
    return samples


def quantiles(values: np.ndarray) -> list[float]:
    """``QUANTILES`` of the values; empty where there are none."""
    return np.percentile(values, QUANTILES).tolist() if len(values) else []


def _summary(values: np.ndarray) -> dict[str, float | int] | None:
    if not len(values):
        return None
    names = [f"p{q}" for q in QUANTILES]
    low, high = float(values.min()), float(values.max())
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "min": low,
        **dict(zip(names, quantiles(values), strict=True)),
        "max": high,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
