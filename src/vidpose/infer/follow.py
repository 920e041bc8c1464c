"""People followed from frame to frame by their poses, with a detector that is asked now and then.

The pose of one frame says where the person is in the next one: the box is drawn around the joints that are
sure, and the next crop is cut there. A detector finds those who come in, and tells whether those who are
followed are still there. It is asked after a fixed time, and at once where somebody becomes unsure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vidpose.geometry import box_iou
from vidpose.infer.detect import Detection
from vidpose.infer.second_look import mix_boxes

MARGINS = (0.095, 0.05, 0.095, 0.13)
"""Left, top, right, bottom: how far a person reaches beyond the joints, in shares of their extent's longer
side; where the detector does not say (:class:`vidpose.infer.second_look.LookFit`)."""
MIN_GAP_S = 0.15
"""Seconds between two detections at least, also where somebody is unsure or nobody is there."""
LOST_S = 1.0
"""Who comes back within so many seconds keeps the identity."""
MATCH_IOU = 0.3
"""A detected box that overlaps a followed one by as much is of the same person."""
STRONG_SCORE = 0.5
"""A weaker box does not bring a lost person back."""
MAX_MISSED = 2
"""Detections in a row that may miss a person whose pose is sure."""
MISSED_SCORE = 0.5
"""A detection that misses a person leaves this share of the score, as tracking gives interpolated boxes."""
LEAST_PEAK, USUAL_SHARE = 0.15, 0.6
"""A pose is unsure whose mean peak is below the first number, or below this share of what is usual for the
person."""
MIN_SIDE = 8.0
"""Pixels: a smaller box has left the frame."""
_USUAL_RATE = 0.1  # of the running mean of peaks


@dataclass
class Person:
    """One who is followed."""

    track_id: int
    """-1 until the first pose confirms the detector."""
    box_xyxy: np.ndarray
    """[4] pixels: where the next pose is looked for."""
    score: float
    """Of the last detection, 0 to 1."""
    usual_peak: float | None = None
    """Running mean of the mean peaks of the person's poses."""
    unsure: bool = False
    missed: int = 0
    """Detections in a row without the person."""
    last_s: float = 0.0
    """When the person was there last."""


class Follower:
    """Who is followed, and where.

    Args:
        every_s: seconds from one detection to the next.
        min_track_score: smallest score of a box that starts a track.
        max_people: so many are followed at most; while there are as many, and all are sure, the detector
            rests.
        margins: see :data:`MARGINS`.
        by_poses: boxes follow the poses; otherwise those of the detector, which then must see every frame,
            are taken as they are.
    """

    def __init__(
        self,
        *,
        every_s: float = 0.5,
        min_track_score: float = 0.7,
        max_people: int = 50,
        margins: Sequence[float] = MARGINS,
        by_poses: bool = True,
    ) -> None:
        self.every_s = every_s
        self.min_track_score = min_track_score
        self.max_people = max_people
        self.margins = tuple(margins)
        self.by_poses = by_poses
        self.people: list[Person] = []
        self._lost: list[Person] = []
        self._next_id = 0
        self._asked_s: float | None = None
        self._urgent = False

    def wants_detection(self, time_s: float) -> bool:
        """Whether the detector should see the frame at ``time_s``."""
        if self._asked_s is None or not self.by_poses:
            return True
        passed = time_s - self._asked_s + 1e-6
        if self._urgent or not self.people or any(person.unsure for person in self.people):
            return passed >= min(MIN_GAP_S, self.every_s)
        return len(self.people) < self.max_people and passed >= self.every_s

    def asked(self, time_s: float) -> None:
        """Notes that the detector sees the frame at ``time_s``."""
        self._asked_s = time_s
        self._urgent = False

    def boxes(self) -> dict[int, np.ndarray]:
        """By identity the boxes [4] of all who have one; to be handed to :meth:`detected` later."""
        return {p.track_id: p.box_xyxy for p in self.people if p.track_id >= 0}

    def detected(
        self, found: Detection, time_s: float, boxes_then: Mapping[int, np.ndarray] | None = None
    ) -> None:
        """Takes what the detector found.

        Args:
            found: boxes and scores, best first.
            time_s: of the present frame.
            boxes_then: :meth:`boxes` of the frame that the detector saw, if that is an earlier one. Who was
                not followed then is left as is.
        """
        known = [p for p in self.people if boxes_then is None or p.track_id in boxes_then]
        boxes = [p.box_xyxy if boxes_then is None else boxes_then[p.track_id] for p in known]
        pairs = _matches(found.boxes_xyxy, boxes)
        for box, who in pairs.items():
            self._seen(known[who], found.boxes_xyxy[box], float(found.scores[box]), time_s)
        for who, person in enumerate(known):
            if who not in pairs.values():
                self._unseen(person)
        free = [k for k in range(len(found)) if k not in pairs]
        if boxes_then is not None:  # who came in meanwhile is known already
            late = _matches(found.boxes_xyxy[free], [p.box_xyxy for p in self.people if p not in known])
            free = [k for i, k in enumerate(free) if i not in late]
        self._begin([(found.boxes_xyxy[k], float(found.scores[k])) for k in free], time_s)

    def posed(
        self, keypoints: np.ndarray, peaks: np.ndarray, size: tuple[int, int], time_s: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the poses of all of :attr:`people` in the present frame.

        Args:
            keypoints: [P, J, 2] pixels. peaks: [P, J] in 0..1.
            size: (height, width) of the frame.
            time_s: of the frame.

        Returns:
            Positions [N] in P of the people who are really there, and their boxes [N, 4] around the poses.
            The others are followed no longer.
        """
        old = np.array([p.box_xyxy for p in self.people]).reshape(-1, 4)
        boxes = mix_boxes(old, keypoints, peaks, self.margins, size) if self.by_poses else old
        kept = []
        for k, person in enumerate(self.people):
            mean_peak = float(peaks[k].mean())
            usual = mean_peak if person.usual_peak is None else person.usual_peak
            person.unsure = self.by_poses and is_unsure(mean_peak, usual)
            person.usual_peak = usual + _USUAL_RATE * (mean_peak - usual)
            person.box_xyxy = boxes[k]
            if self.by_poses and (has_left(boxes[k]) or (person.unsure and person.track_id < 0)):
                continue
            kept.append(k)
            person.last_s = time_s
            if person.track_id < 0:
                person.track_id, self._next_id = self._next_id, self._next_id + 1
        self._keep(kept)
        return np.array(kept, dtype=np.int64), boxes[kept]

    def join(self, doubles: Sequence[int]) -> dict[int, int]:
        """Follows these identities no longer: each has the pose of somebody else, whose box is nearest.

        Returns:
            New identities of the others, by their old ones: of two, the older identity stays.
        """
        gone = [p for p in self.people if p.track_id in doubles]
        self.people = [p for p in self.people if p.track_id not in doubles]
        before = {id(p): p.track_id for p in self.people}
        renamed = {}
        for person in gone:
            if not self.people:
                break
            overlap = box_iou(person.box_xyxy[None], np.array([p.box_xyxy for p in self.people]))[0]
            other = self.people[int(overlap.argmax())]
            if overlap.max() >= MATCH_IOU and person.track_id < other.track_id:
                renamed[before[id(other)]] = person.track_id
                other.track_id = person.track_id
        return renamed

    def _seen(self, person: Person, box: np.ndarray, score: float, time_s: float) -> None:
        person.score, person.missed, person.last_s = score, 0, time_s
        if person.unsure or not self.by_poses:
            person.box_xyxy = box
            person.unsure, person.usual_peak = False, None

    def _unseen(self, person: Person) -> None:
        person.missed += 1
        person.score *= MISSED_SCORE
        if person.unsure or not self.by_poses or person.missed > MAX_MISSED:
            self._keep([k for k, p in enumerate(self.people) if p is not person])

    def _begin(self, found: list[tuple[np.ndarray, float]], time_s: float) -> None:
        """Boxes of nobody who is followed: of somebody who was lost, or who is new."""
        self._lost = [p for p in self._lost if time_s - p.last_s <= LOST_S]
        back = _matches(np.array([box for box, _ in found]).reshape(-1, 4), [p.box_xyxy for p in self._lost])
        revived = []
        for k, (box, score) in enumerate(found):
            if len(self.people) >= self.max_people:
                break
            if k in back and score >= min(STRONG_SCORE, self.min_track_score):
                person = self._lost[back[k]]
                revived.append(person)
                self.people.append(Person(person.track_id, box, score, last_s=time_s))
            elif score >= self.min_track_score:
                self.people.append(Person(-1, box, score, last_s=time_s))
        self._lost = [p for p in self._lost if p not in revived]

    def _keep(self, kept: Sequence[int]) -> None:
        gone = [p for k, p in enumerate(self.people) if k not in kept]
        self._lost += [p for p in gone if p.track_id >= 0]
        self._urgent |= bool(gone)
        self.people = [self.people[k] for k in kept]


def is_unsure(mean_peak: float, usual_peak: float) -> bool:
    """Whether a pose with this mean peak is unsure, for a person with the usual one."""
    return mean_peak < max(LEAST_PEAK, USUAL_SHARE * usual_peak)


def has_left(box_xyxy: np.ndarray) -> bool:
    """Whether so little of a box [4] is left in the frame that nobody is there."""
    return float((box_xyxy[2:] - box_xyxy[:2]).min()) < MIN_SIDE


def _matches(found: np.ndarray, boxes: Sequence[np.ndarray]) -> dict[int, int]:
    """Positions in ``found`` [F, 4] -> positions in ``boxes``, of the pairs that overlap."""
    overlap = box_iou(found, np.array(boxes).reshape(-1, 4))
    rows, columns = linear_sum_assignment(-overlap)
    return {int(r): int(c) for r, c in zip(rows, columns, strict=True) if overlap[r, c] >= MATCH_IOU}
