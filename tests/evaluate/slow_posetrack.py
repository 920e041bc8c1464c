"""The PoseTrack protocol once more, slow and obvious: dictionaries, loops, and every assignment tried."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

NAMES = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    "head_bottom", "nose", "head_top",
)  # fmt: skip
Point = tuple[float, float]


@dataclass
class Someone:
    """An annotated or predicted person."""

    joints: dict[int, Point]
    track: int | None = 0
    scores: dict[int, float] = field(default_factory=dict)
    head: tuple[float, float, float, float] | None = (0.0, 0.0, 30.0, 40.0)
    """x1, y1, x2, y2: the default's diagonal is 50, its head size 30 and the threshold 15 pixels."""


@dataclass
class Picture:
    """One frame. ``boxes`` are ignore regions: x1, y1, x2, y2 of rectangles."""

    truth: list[Someone] = field(default_factory=list)
    found: list[Someone] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)


Film = list[Picture]


def slow_scores(films: list[Film]) -> dict[str, list[float]]:
    """``ap``, ``precision``, ``recall``, ``mota``, ``motp`` of the 15 joints, per cent."""
    films = [[without_ignored(picture) for picture in film if picture.truth] for film in films]
    out: dict[str, list[float]] = {name: [] for name in ("ap", "precision", "recall", "mota", "motp")}
    for j in range(15):
        predictions: list[tuple[float, bool]] = []
        positives = 0
        for picture in itertools.chain(*films):
            positives += sum(j in person.joints for person in picture.truth)
            partner = partners(picture)
            for p, person in enumerate(picture.found):
                if j in person.joints:
                    right = p in partner and distance(picture.truth[partner[p]], person, j) <= 0.5
                    predictions.append((person.scores[j], right))
        ap, precision, recall = average_precision(predictions, positives)
        mota, motp = tracking(films, j)
        for name, value in (
            ("ap", ap),
            ("precision", precision),
            ("recall", recall),
            ("mota", mota),
            ("motp", motp),
        ):
            out[name].append(100 * value)
    return out


def without_ignored(picture: Picture) -> Picture:
    if not picture.boxes:
        return picture

    def clean(people: list[Someone]) -> list[Someone]:
        kept = []
        for person in people:
            joints = {
                j: (x, y)
                for j, (x, y) in person.joints.items()
                if not any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in picture.boxes)
            }
            if joints:
                kept.append(Someone(joints, person.track, person.scores, person.head))
        return kept

    return Picture(clean(picture.truth), clean(picture.found))


def distance(truth: Someone, found: Someone, j: int) -> float:
    if j not in truth.joints or j not in found.joints:
        return math.inf
    assert truth.head is not None
    x1, y1, x2, y2 = truth.head
    return math.dist(truth.joints[j], found.joints[j]) / (0.6 * math.dist((x1, y1), (x2, y2)))


def partners(picture: Picture) -> dict[int, int]:
    """Which prediction belongs to which annotated person: both must prefer each other."""

    def share(t: int, p: int) -> float:
        truth, found = picture.truth[t], picture.found[p]
        return sum(distance(truth, found, j) <= 0.5 for j in range(15)) / max(len(truth.joints), 1)

    wish = {}  # of each prediction, the first of its best people
    for p in range(len(picture.found)):
        if picture.truth:
            wish[p] = max(range(len(picture.truth)), key=lambda t: (share(t, p), -t))
    out = {}
    for t in range(len(picture.truth)):
        suitors = [p for p in wish if wish[p] == t and share(t, p) > 0]
        if suitors:
            out[max(suitors, key=lambda p: (share(t, p), -p))] = t
    return out


def average_precision(predictions: list[tuple[float, bool]], positives: int) -> tuple[float, float, float]:
    if not predictions:
        return 0.0, 0.0, 0.0
    if positives == 0:
        return math.nan, 0.0, math.nan
    ranked = [right for _, right in sorted(predictions, key=lambda entry: -entry[0])]
    precision_at = [sum(ranked[: n + 1]) / (n + 1) for n in range(len(ranked))]
    # Each right prediction raises the recall by 1 / positives at the best precision from there on.
    ap = sum(max(precision_at[n:]) for n, right in enumerate(ranked) if right) / positives
    return ap, sum(ranked) / len(ranked), sum(ranked) / positives


def tracking(films: list[Film], j: int) -> tuple[float, float]:
    objects = misses = false_positives = switches = matches = 0
    log = 0.0  # sum of the distances of all entries in the log of events
    for film in films:
        last_match: dict[int | None, int | None] = {}
        ever_matched_predictions: set[int | None] = set()
        transferred_to: dict[int | None, int | None] = {}
        for picture in film[:-1]:  # the last annotated frame of a video does not count
            if not picture.truth or not picture.found:
                objects, misses, false_positives = objects + 1, misses + 1, false_positives + 1
                continue
            people = [person for person in picture.truth if j in person.joints]
            others = [person for person in picture.found if j in person.joints]
            near = {
                (t, p): distance(people[t], others[p], j)
                for t in range(len(people))
                for p in range(len(others))
                if distance(people[t], others[p], j) <= 0.5
            }
            log += sum(near.values())  # every pair within reach is an entry
            kept: set[tuple[int, int]] = set()
            for t, p in sorted(near):  # two people may claim one identity: the first of the frame keeps it
                if last_match.get(people[t].track, "none") == others[p].track and p not in {
                    b for _, b in kept
                }:
                    kept.add((t, p))
            free = {
                (t, p): d
                for (t, p), d in near.items()
                if t not in {a for a, _ in kept} and p not in {b for _, b in kept}
            }
            for t, p in sorted(kept) + best_assignment(free):
                person, other, d = people[t].track, others[p].track, near[t, p]
                if (t, p) not in kept:
                    if person in last_match and last_match[person] != other:
                        switches += 1
                        if other not in ever_matched_predictions:
                            log += d
                    if other in transferred_to and transferred_to[other] != person:
                        log += d
                        if person not in last_match:
                            log += d
                    transferred_to[other] = person
                log += d
                matches += 1
                last_match[person] = other
                ever_matched_predictions.add(other)
                misses -= 1
                false_positives -= 1
            objects += len(people)
            misses += len(people)
            false_positives += len(others)
    mota = 1 - (misses + false_positives + switches) / objects if objects else math.nan
    return mota, 1 - log / matches if matches else 0.0


def best_assignment(free: dict[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Of all sets of pairs without a common member the largest, of these the one of least distance."""
    best: list[tuple[int, int]] = []
    for size in range(len(free) + 1):
        sets = [
            pairs
            for pairs in itertools.combinations(sorted(free), size)
            if len({t for t, _ in pairs}) == len({p for _, p in pairs}) == size
        ]
        if not sets:
            break
        best = list(min(sets, key=lambda pairs: sum(free[pair] for pair in pairs)))
    return best
