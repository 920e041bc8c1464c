"""CLEAR-MOT per joint, as the official PoseTrack evaluation counts it, for all frames at once.

Most (frame, joint) cells need no assignment: where no annotated joint is within reach of two predictions and
no prediction within reach of two joints, every pair within reach is matched, whatever was matched before.
Only the other cells are walked through in time, earlier matches first and the rest by minimal distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment


@dataclass
class Edges:
    """All (annotated, predicted) pairs of one joint within the distance threshold. E pairs."""

    truth: np.ndarray
    """[E] row of the annotated person."""
    prediction: np.ndarray
    """[E] row of the predicted person."""
    joint: np.ndarray
    """[E] 0..14."""
    distance: np.ndarray
    """[E] in head sizes."""

    def take(self, which: np.ndarray) -> Edges:
        """The pairs at ``which`` (mask or positions)."""
        return Edges(self.truth[which], self.prediction[which], self.joint[which], self.distance[which])

    @classmethod
    def join(cls, parts: list[Edges]) -> Edges:
        """The pairs of several, one after the other."""
        none = np.zeros(0, dtype=np.int64)
        parts = [cls(none, none, none, np.zeros(0)), *parts]
        return cls(
            np.concatenate([part.truth for part in parts]),
            np.concatenate([part.prediction for part in parts]),
            np.concatenate([part.joint for part in parts]),
            np.concatenate([part.distance for part in parts]),
        )


@dataclass
class TrackingCounts:
    """[15] each, summed over videos."""

    objects: np.ndarray
    misses: np.ndarray
    false_positives: np.ndarray
    switches: np.ndarray
    matches: np.ndarray
    """Matched pairs, switches included."""
    distance: np.ndarray
    """Sum over every event that carries a distance, as the original adds them up: see ``_switches``."""


def count_tracking(
    edges: Edges,
    truth_frame: np.ndarray,
    truth_track: np.ndarray,
    truth_present: np.ndarray,
    prediction_frame: np.ndarray,
    prediction_track: np.ndarray,
    prediction_present: np.ndarray,
    counted: np.ndarray,
    num_joints: int,
) -> TrackingCounts:
    """Misses, false positives, switches and distances of each joint.

    Args:
        edges: pairs within reach; rows index the people arrays below.
        truth_frame, prediction_frame: [N], [M] frame of each person, ascending; frames of a video in its
            order of time, one video after the other.
        truth_track, prediction_track: [N], [M] identities, not shared between videos.
        truth_present, prediction_present: [N, J], [M, J] joints.
        counted: [F] bool, frames that take part and hold people on both sides.

    Returns:
        the counts of CLEAR-MOT (Bernardin, Stiefelhagen 2008), earlier matches kept first.
    """
    edges = edges.take(counted[truth_frame[edges.truth]])
    edges = edges.take(np.lexsort((edges.prediction, edges.truth, edges.joint, truth_frame[edges.truth])))
    double = _double_tracks(truth_frame, truth_track)
    clear = _is_clear(edges, truth_frame, len(truth_frame), len(prediction_frame), num_joints, double)
    matches = edges.take(clear)
    if not clear.all():
        matches = _resolve(
            edges, clear, truth_frame, truth_track, truth_present, prediction_frame, prediction_track,
            prediction_present, num_joints,
        )  # fmt: skip

    objects = truth_present[counted[truth_frame]].sum(axis=0).astype(np.float64)
    hypotheses = prediction_present[counted[prediction_frame]].sum(axis=0).astype(np.float64)
    matched = np.bincount(matches.joint, minlength=num_joints).astype(np.float64)
    switches, event_distance = _switches(matches, truth_track, prediction_track, num_joints)
    distance = event_distance + np.bincount(edges.joint, weights=edges.distance, minlength=num_joints)
    return TrackingCounts(objects, objects - matched, hypotheses - matched, switches, matched, distance)


def _double_tracks(frame: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Frames in which one annotated identity stands twice."""
    order = np.lexsort((track, frame))
    same = (np.diff(frame[order]) == 0) & (np.diff(track[order]) == 0)
    return np.unique(frame[order][1:][same])


def _is_clear(
    edges: Edges,
    truth_frame: np.ndarray,
    num_truth: int,
    num_predictions: int,
    num_joints: int,
    double: np.ndarray,
) -> np.ndarray:
    """[E] bool: edges of cells in which nothing competes."""
    truth_key = edges.truth * num_joints + edges.joint
    prediction_key = edges.prediction * num_joints + edges.joint
    contested = (np.bincount(truth_key, minlength=num_truth * num_joints)[truth_key] > 1) | (
        np.bincount(prediction_key, minlength=num_predictions * num_joints)[prediction_key] > 1
    )
    frames = truth_frame[edges.truth]
    contested |= np.isin(frames, double)
    cell = frames * num_joints + edges.joint
    return ~np.isin(cell, np.unique(cell[contested]))


def _switches(
    matches: Edges, truth_track: np.ndarray, prediction_track: np.ndarray, num_joints: int
) -> tuple[np.ndarray, np.ndarray]:
    """[15] identity switches and [15] summed distances of the matching events, from matches in order of time.

    The original sums the distances of all events: one per match or switch, one more where a prediction's
    identity goes over to another person (transfer), one where it does so to a person never matched before
    (migrate), and one where a switch is to an identity never matched before (ascend).
    """
    truth, prediction = truth_track[matches.truth], prediction_track[matches.prediction]
    count = len(truth)
    previous = _previous(truth * num_joints + matches.joint)
    seen = previous >= 0
    fresh = ~seen | (prediction[previous] != prediction) if count else seen
    switched = seen & fresh
    hypothesis_key = prediction * num_joints + matches.joint
    ascend = switched & (_previous(hypothesis_key) < 0)
    # To whom a prediction's identity went when it was last matched anew; matches that are kept do not count.
    transfer = np.zeros(count, dtype=bool)
    new = np.flatnonzero(fresh)
    before = _previous(hypothesis_key[new])
    transfer[new] = (before >= 0) & (truth[new][before] != truth[new])
    migrate = transfer & ~seen
    weight = matches.distance * (1.0 + ascend + transfer + migrate)
    return (
        np.bincount(matches.joint, weights=switched, minlength=num_joints),
        np.bincount(matches.joint, weights=weight, minlength=num_joints),
    )


def _previous(key: np.ndarray) -> np.ndarray:
    """[E] position of the last earlier entry with the same key, -1 for none."""
    order = np.argsort(key, kind="stable")
    out = np.full(len(key), -1, dtype=np.int64)
    same = np.flatnonzero(np.diff(key[order]) == 0)
    out[order[same + 1]] = order[same]
    return out


def _resolve(
    edges: Edges,
    clear: np.ndarray,
    truth_frame: np.ndarray,
    truth_track: np.ndarray,
    truth_present: np.ndarray,
    prediction_frame: np.ndarray,
    prediction_track: np.ndarray,
    prediction_present: np.ndarray,
    num_joints: int,
) -> Edges:
    """All matches, in the order of time, those of contested cells decided one after the other."""
    # State: what identity each annotated person's joint was matched to in its frame; -1 none.
    state = np.full(len(truth_frame) * num_joints, -1, dtype=np.int64)
    sure = edges.take(clear)
    state[sure.truth * num_joints + sure.joint] = prediction_track[sure.prediction]
    states = state.tolist()
    earlier, twins = _earlier_rows(truth_frame, truth_track)
    last_frame = int(max(truth_frame.max(initial=-1), prediction_frame.max(initial=-1)))
    truth_start = np.searchsorted(truth_frame, np.arange(last_frame + 2)).tolist()
    prediction_start = np.searchsorted(prediction_frame, np.arange(last_frame + 2)).tolist()
    contested = edges.take(~clear)
    cell = truth_frame[contested.truth] * num_joints + contested.joint
    bounds = [0, *(np.flatnonzero(np.diff(cell)) + 1).tolist(), len(cell)]
    truth_of, prediction_of = contested.truth.tolist(), contested.prediction.tolist()
    track_of = prediction_track[contested.prediction].tolist()
    distance_of = contested.distance.tolist()
    frame_of, joint_of = truth_frame[contested.truth].tolist(), contested.joint.tolist()
    chosen: list[int] = []  # positions among the contested edges, in the order of events
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        joint = joint_of[first]
        here: list[int] = []
        settled: set[int] = set()
        taken: set[int] = set()
        row = wanted = -1
        for e in range(first, last):  # 1. earlier matches stay while they are within reach
            if truth_of[e] != row:
                row = truth_of[e]
                back = earlier[row]
                while back >= 0 and states[back * num_joints + joint] < 0:
                    back = earlier[back]
                wanted = states[back * num_joints + joint] if back >= 0 else -1
            if track_of[e] == wanted and prediction_of[e] not in taken and row not in settled:
                here.append(e)
                settled.add(row)
                taken.add(prediction_of[e])
        left = [e for e in range(first, last) if truth_of[e] not in settled and prediction_of[e] not in taken]
        if len(left) == 1 or _disjoint(left, truth_of, prediction_of):
            here += left
        else:  # 2. the rest at the least total distance
            frame = frame_of[first]
            people = range(truth_start[frame], truth_start[frame + 1])
            people_here = [r for r in people if truth_present[r, joint]]
            others = range(prediction_start[frame], prediction_start[frame + 1])
            others_here = [r for r in others if prediction_present[r, joint]]
            here += _assign(left, truth_of, prediction_of, distance_of, people_here, others_here)
        for e in here:
            row = truth_of[e]
            for same in (row, *twins.get(row, ())):
                states[same * num_joints + joint] = track_of[e]
        chosen += here
    decided = contested.take(np.array(chosen, dtype=np.int64))
    both = Edges.join([sure, decided])
    return both.take(np.argsort(truth_frame[both.truth], kind="stable"))


def _earlier_rows(frame: np.ndarray, track: np.ndarray) -> tuple[list[int], dict[int, list[int]]]:
    """[N] the same identity's row in an earlier frame (-1: none); and the other rows of one frame with it."""
    order = np.lexsort((frame, track))
    earlier = [-1] * len(frame)
    twins: dict[int, list[int]] = {}
    frames, tracks = frame.tolist(), track.tolist()
    group: list[int] = []
    before = -1
    for row in order.tolist():
        if group and tracks[group[0]] == tracks[row] and frames[group[0]] == frames[row]:
            group.append(row)
            for member in group:
                twins[member] = [other for other in group if other != member]
        else:
            before = group[-1] if group and tracks[group[0]] == tracks[row] else -1
            group = [row]
        earlier[row] = before
    return earlier, twins


def _disjoint(edges: list[int], truth_of: list[int], prediction_of: list[int]) -> bool:
    return len({truth_of[e] for e in edges}) == len(edges) == len({prediction_of[e] for e in edges})


def _assign(
    edges: list[int],
    truth_of: list[int],
    prediction_of: list[int],
    distance_of: list[float],
    people: list[int],
    others: list[int],
) -> list[int]:
    """The edges of the largest assignment with the least total distance.

    The matrix has a row for each annotated joint and a column for each predicted one of the frame, and pairs
    out of reach at a price that no assignment pays needlessly, so that of equally good assignments the solver
    finds the one that it finds for the original.
    """
    row_at = {row: i for i, row in enumerate(people)}
    column_at = {row: i for i, row in enumerate(others)}
    finite = [distance_of[e] for e in edges]
    price = 2 * min(len(people), len(others)) * (max(finite) + 1) + 1
    cost = np.full((len(people), len(others)), price)
    edge_at = {}
    for e in edges:
        place = row_at[truth_of[e]], column_at[prediction_of[e]]
        cost[place] = distance_of[e]
        edge_at[place] = e
    found = zip(*(index.tolist() for index in linear_sum_assignment(cost)), strict=True)
    return [edge_at[place] for place in found if place in edge_at]
