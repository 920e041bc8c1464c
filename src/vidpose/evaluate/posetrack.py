"""The official PoseTrack evaluation: average precision per joint, and CLEAR-MOT tracking metrics per joint.

It reproduces the numbers of leonid-pishchulin/poseval; docs/evaluation.md lists the steps and every place
where the two differ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.posetrack_files import Pairing, Sources, load_pairs
from vidpose.evaluate.regions import points_inside
from vidpose.evaluate.sequence import JOINTS, NO_TRACK, NUM_JOINTS, Sequence
from vidpose.evaluate.table import MEAN, mean_of_columns, with_columns
from vidpose.evaluate.tracking import Edges, count_tracking

DISTANCE_THRESHOLD = 0.5
"""In head sizes (0.6 of the head box's diagonal): a predicted joint within it is right."""
_PAIRS_AT_ONCE = 100_000


@dataclass
class People:
    """The people of all frames of one side, by frame. N people, 15 joints."""

    frame: np.ndarray
    """[N] ascending."""
    xy: np.ndarray
    """[N, 15, 2] pixels."""
    present: np.ndarray
    """[N, 15] bool."""
    scores: np.ndarray
    """[N, 15]."""
    head_size: np.ndarray
    """[N] pixels; NaN without a head box."""
    track: np.ndarray
    """[N] identities, not shared between videos; ``NO_TRACK`` without one."""
    place: Callable[[int], str]
    """Row before any selection -> where that person stands in its file."""
    origin: np.ndarray
    """[N] that row."""

    def take(self, keep: np.ndarray) -> People:
        """The people at ``keep`` (mask or positions)."""
        return People(
            self.frame[keep], self.xy[keep], self.present[keep], self.scores[keep], self.head_size[keep],
            self.track[keep], self.place, self.origin[keep],
        )  # fmt: skip


@dataclass
class Frames:
    """The annotated frames of all videos, one video after the other, each in its order of time."""

    video: np.ndarray
    """[F] ascending."""
    regions: dict[int, list[np.ndarray]]
    truth: People
    predictions: People
    notes: list[str]


def evaluate_posetrack(gt: Sources, predictions: Sources) -> dict[str, Any]:
    """Scores predictions by the official PoseTrack protocol (15 joints).

    Args:
        gt: PoseTrack17, 18 or 21 annotations: file, folder of files, parsed JSON, or a list of these.
        predictions: the same, in either layout, or ``VideoPoses``.

    Returns:
        ``{"ap", "precision", "recall", "mota", "motp"}``, each name -> percentage (float): the 15 joints
        in PoseTrack17's order, the columns Head ... Ankle and ``Mean``, the official total (mean of the 15
        joints without the undefined); NaN where nothing defines a number. ``"summary"`` holds counts, notes,
        ``mean_of_columns`` (the mean of the seven columns that some papers print) and ``ap_range``, the
        lowest and highest mean AP that the order of equal scores allows.

    Raises:
        InputError: naming file, frame and problem.
    """
    frames = _assemble(load_pairs(gt, predictions))
    _remove_ignored(frames)
    truth, found = frames.truth, frames.predictions
    _check_heads(truth)
    labels, edges = _match(truth, found)
    scores: dict[str, Any] = {}
    scores["ap"], scores["precision"], scores["recall"], lowest, highest = _average_precision(
        truth.present, found, labels
    )
    if _joint_mean(highest) - _joint_mean(lowest) >= 0.05:
        frames.notes.append(
            f"many scores are equal: their order alone lets the mean AP be {_joint_mean(lowest):.1f} to "
            f"{_joint_mean(highest):.1f}"
        )
    why_not = _untracked(frames)
    if why_not:
        scores["mota"] = scores["motp"] = np.full(NUM_JOINTS, np.nan)
        frames.notes.append(why_not)
    else:
        scores["mota"], scores["motp"] = _tracking(frames, edges)
    scores = {metric: with_columns(dict(zip(JOINTS, map(float, values), strict=True)))
              for metric, values in scores.items()}  # fmt: skip
    scores["summary"] = {
        "protocol": "posetrack",
        "videos": len(np.unique(frames.video)),
        "frames": len(frames.video),
        "people": len(truth.frame),
        "predicted_people": len(found.frame),
        "mean_of_columns": {metric: mean_of_columns(values) for metric, values in scores.items()},
        "ap_range": [_joint_mean(lowest), _joint_mean(highest)],
        "notes": frames.notes,
    }
    return scores


def _joint_mean(values: np.ndarray) -> float:
    return with_columns(dict(zip(JOINTS, values.tolist(), strict=True)))[MEAN]


# -------------------- frames, people


def _assemble(pairs: list[Pairing]) -> Frames:
    """Annotated frames with their people and predictions; frames without annotated people are left out."""
    frame_video: list[int] = []
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
                    if sequence.people[f] == 0:
                        continue
                    frame[f] = len(frame_video)
                    frame_video.append(num_videos)
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
    if not frame_video:
        raise InputError(f"{pairs[0].truth[0].source}: the ground truth has no annotated person in any frame")
    video = np.array(frame_video, dtype=np.int64)
    notes = [note for pair in pairs for note in pair.notes]
    return Frames(video, regions, _people(truth_parts, video), _people(found_parts, video), notes)


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
    )


def _remove_ignored(frames: Frames) -> None:
    """Takes joints strictly inside an ignore region, and people left without any, from both sides."""
    for side in ("truth", "predictions"):
        people: People = getattr(frames, side)
        keep = np.ones(len(people.frame), dtype=bool)
        for f, polygons in frames.regions.items():
            rows = slice(*np.searchsorted(people.frame, [f, f + 1]))
            xy = people.xy[rows].reshape(-1, 2)
            inside = np.zeros(len(xy), dtype=bool)
            for polygon in polygons:
                inside |= points_inside(xy, polygon)
            people.present[rows] &= ~inside.reshape(-1, NUM_JOINTS)
            keep[rows] = people.present[rows].any(axis=1)
        setattr(frames, side, people.take(keep))


def _check_heads(truth: People) -> None:
    headless = np.flatnonzero(np.isnan(truth.head_size) & truth.present.any(axis=1))
    if len(headless):
        raise InputError(
            f"{truth.place(int(truth.origin[headless[0]]))}: has joints but no head box "
            "(x1, y1, x2, y2 in PoseTrack17, bbox_head in PoseTrack18), which is the unit of distance"
        )


# -------------------- matching


def _match(truth: People, found: People) -> tuple[np.ndarray, Edges]:
    """Which predicted joints are right, and all pairs of joints within the threshold.

    Each prediction keeps the annotated person of which it gets the largest share of joints right, then each
    annotated person the prediction with the largest share; of equals the first. Scores play no part.

    Returns:
        labels [M, 15] of the predictions, and the pairs for tracking.
    """
    num_frames = int(max(truth.frame.max(initial=-1), found.frame.max(initial=-1))) + 1
    truth_count = np.bincount(truth.frame, minlength=num_frames)
    truth_start = np.cumsum(truth_count) - truth_count
    partners = truth_count[found.frame]  # [M] annotated people in the prediction's frame
    best_share = np.zeros(len(found.frame))
    best_truth = np.full(len(found.frame), -1, dtype=np.int64)
    joints_of = np.maximum(truth.present.sum(axis=1), 1)
    parts: list[Edges] = []
    for rows in _chunks(partners):
        count = partners[rows]
        prediction = np.repeat(np.arange(rows.start, rows.stop), count)
        first = np.cumsum(count) - count  # [rows] where the prediction's pairs start
        person = (
            np.arange(len(prediction))
            - np.repeat(first, count)
            + np.repeat(truth_start[found.frame[rows]], count)
        )
        distance = _distances(truth, found, person, prediction)
        right = distance <= DISTANCE_THRESHOLD  # [pairs, 15]
        share = right.sum(axis=1) / joints_of[person]
        some = np.flatnonzero(count)
        best = np.maximum.reduceat(share, first[some]) if len(some) else np.zeros(0)
        best_share[rows.start + some] = best
        top = np.flatnonzero(share == np.repeat(best, count[some]))[::-1]
        best_truth[prediction[top]] = person[top]  # backwards, so that the first of equals is written last
        pair, joint = np.nonzero(right)
        parts.append(Edges(person[pair], prediction[pair], joint, distance[pair, joint]))
    labels = np.zeros((len(found.frame), NUM_JOINTS), dtype=bool)
    candidates = np.flatnonzero(best_share > 0)
    order = candidates[np.lexsort((candidates, -best_share[candidates], best_truth[candidates]))]
    if len(order):
        chosen = order[np.diff(best_truth[order], prepend=-1) != 0]
        labels[chosen] = _distances(truth, found, best_truth[chosen], chosen) <= DISTANCE_THRESHOLD
    return labels, Edges.join(parts)


def _chunks(partners: np.ndarray) -> list[slice]:
    """Cuts the predictions so that a piece has about ``_PAIRS_AT_ONCE`` pairs: memory stays bounded."""
    piece = (np.cumsum(partners) - partners) // _PAIRS_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(piece)) + 1).tolist(), len(partners)]
    return [slice(a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True) if b > a]


def _distances(truth: People, found: People, person: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """[pairs, 15] in head sizes; infinite where one of the two lacks the joint."""
    difference = truth.xy[person] - found.xy[prediction]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        distance = (
            np.sqrt(difference[..., 0] ** 2 + difference[..., 1] ** 2) / truth.head_size[person][:, None]
        )
    distance[~(truth.present[person] & found.present[prediction])] = np.inf
    return distance


# -------------------- metrics


def _average_precision(truth_present: np.ndarray, found: People, labels: np.ndarray) -> np.ndarray:
    """[5, 15] per cent: AP, final precision and recall, lowest and highest AP that equal scores allow.

    Without annotated joints AP and recall are undefined (NaN) if there are predictions, 0 if there are none.
    """
    out = np.zeros((5, NUM_JOINTS))
    positives = truth_present.sum(axis=0)
    for j in range(NUM_JOINTS):
        rows = np.flatnonzero(found.present[:, j])
        if not len(rows):
            continue
        if positives[j] == 0:
            out[:, j] = np.nan, 0.0, np.nan, np.nan, np.nan
            continue
        right, scores = labels[rows, j], found.scores[rows, j]
        out[1, j] = 100 * right.sum() / len(rows)
        out[2, j] = 100 * right.sum() / positives[j]
        # Of equal scores the original takes them as numpy's default sort leaves them, which is arbitrary; the
        # same sort of the same numbers in the same order gives the same AP.
        order = np.argsort(scores)[::-1]
        out[[0, 3, 4], j] = 100 * _area(right[order], positives[j])
        if (np.diff(scores[order]) == 0).any():
            out[3, j] = 100 * _area(right[np.lexsort((right, -scores))], positives[j])
            out[4, j] = 100 * _area(right[np.lexsort((~right, -scores))], positives[j])
    return out


def _area(right: np.ndarray, positives: int) -> float:
    """Area under the precision envelope of predictions from the surest down (all-point VOC AP)."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(hits / positives, prepend=0.0) * envelope))


def _untracked(frames: Frames) -> str | None:
    """Why tracking cannot be scored; None where it can."""
    for name, people in (("ground truth", frames.truth), ("predictions", frames.predictions)):
        missing = np.flatnonzero(people.track == NO_TRACK)
        if len(missing):
            where = people.place(int(people.origin[missing[0]]))
            return f"{where}: this person of the {name} has no track_id: MOTA and MOTP are not scored"
    return None


def _tracking(frames: Frames, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """[15] MOTA and [15] MOTP in per cent.

    As the original has it: the last annotated frame of every video does not count, and a frame in which one
    side is empty counts as one miss and one false positive of each joint.
    """
    truth, found = frames.truth, frames.predictions
    num_frames = len(frames.video)
    last = np.diff(frames.video, append=-1) != 0
    both = np.bincount(truth.frame, minlength=num_frames).astype(bool)
    both &= np.bincount(found.frame, minlength=num_frames).astype(bool)
    counts = count_tracking(
        edges,
        truth.frame,
        truth.track,
        truth.present,
        found.frame,
        found.track,
        found.present,
        both & ~last,
        NUM_JOINTS,
    )
    one_sided = int(np.sum(~both & ~last))
    objects = counts.objects + one_sided
    errors = counts.misses + counts.false_positives + counts.switches + 2 * one_sided
    with np.errstate(invalid="ignore", divide="ignore"):
        mota = 100 * (1 - errors / np.where(objects > 0, objects, np.nan))
        motp = np.where(counts.matches > 0, 100 * (1 - counts.distance / counts.matches), 0.0)
    return mota, motp
