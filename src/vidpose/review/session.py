"""What the page shows and changes: labels, edits on top of them, and what propagation makes of both."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person
from vidpose.data.layouts.shared import BOX_MARGIN
from vidpose.errors import InputError
from vidpose.geometry import enclosing_box
from vidpose.infer.propagation.columns import Columns, arrange
from vidpose.infer.propagation.frames import NumberedFrames
from vidpose.infer.propagation.motion import PairFlows
from vidpose.infer.propagation.people import PROVENANCE, load_labels, make_tracks, place_tracks
from vidpose.infer.propagation.run import PropagatedLabels, assemble, by_fusion, load_network, used_weights
from vidpose.infer.propagation.store import Arrays, BlockStore
from vidpose.io.files import content_digest
from vidpose.io.sources import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vidpose.weight_sets import tell_weights

from .journal import Journal, MisfitError
from .standing import standing_in_box

STATES = ("visible", "occluded", "absent")
"""Of a joint that a person has set: seen, hidden, or not to be labelled at all."""
PERSON_STATES = ("gone", "removed")
"""Of a whole person (joint -1): not in this frame, or nowhere in the video."""
_MOST_BLOCKS = 40_000


class Conflict(Exception):
    """An edit was made on labels that somebody has changed since."""


@dataclass(frozen=True)
class Edit:
    """One joint of one person in one frame, set by hand; or, as joint -1, the whole person."""

    frame: int
    track: int
    joint: int
    state: str
    """One of ``STATES``, or of ``PERSON_STATES`` for joint -1."""
    x: float = 0.0
    y: float = 0.0

    @classmethod
    def of(cls, entry: dict[str, Any], frames: int, tracks: list[int], joints: int) -> Edit:
        """Checks what a page has sent.

        Raises:
            InputError: a field is missing, of the wrong kind or not finite.
            MisfitError: there is no such frame, person or joint.
        """
        try:
            edit = cls(
                _whole(entry["frame"]), _whole(entry["track"]), _whole(entry["joint"]), entry["state"],
                _pixels(entry.get("x", 0)), _pixels(entry.get("y", 0)),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"an edit needs frame, track, joint, state, x and y: {error}") from None
        if not 0 <= edit.frame < frames or edit.track not in tracks or not -1 <= edit.joint < joints:
            raise MisfitError(
                f"no joint {edit.joint} of person {edit.track} in frame {edit.frame} of this video"
            )
        known = STATES if edit.joint >= 0 else PERSON_STATES
        if edit.state not in known:
            raise InputError(f"state {edit.state!r} is unknown; known: {', '.join(known)}")
        return edit


def read_edits(entries: Any, frames: int, tracks: list[int], joints: int) -> list[Edit]:
    """Edits that are made at once.

    Args:
        entries: a list of JSON objects as of :class:`Edit`; the track after the highest adds a person.
        frames: of the video. tracks: of the people there are. joints: of each.

    Raises:
        InputError, MisfitError: as of :meth:`Edit.of`; or it is no list, or an empty one.
    """
    following = max(tracks) + 1
    if not isinstance(entries, list) or not entries:
        raise InputError("an edit without a joint")
    edits = [Edit.of(entry, frames, [*tracks, following], joints) for entry in entries]
    if any(edit.joint < 0 and edit.track == following for edit in edits):
        raise MisfitError(f"there is no person {following}")
    return edits


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _pixels(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    if not abs(value) < 1e6:  # nor is NaN
        raise InputError("x and y must be finite, and within a million pixels")
    return float(value)


class ReviewSession:
    """The labels of one video under correction.

    Args:
        video: a video file, image folder or glob.
        labels: labels of some or all of its frames. Poses that are marked ``propagated`` are made anew.
        output: where :meth:`save` writes; a journal of the edits lies beside it, locked until :meth:`close`.
        weights: of the network and the fusion of propagation (:func:`vidpose.propagate`).
        quiet: no progress of propagation on standard error.

    Every edit is a label of one joint. Methods may be called from several threads.

    Raises:
        InputError: video or labels cannot be used, or the journal: it is another's, or in use.
    """

    def __init__(
        self, video: str | Path, labels: Path, output: Path, *, weights: str = "default", quiet: bool = True
    ) -> None:
        self._weights, self._quiet = weights, quiet
        self.frames = NumberedFrames(video)
        self.labels = load_labels(labels, self.frames.count, self.frames.names)
        self.output = output
        self.joints = self.labels.data.skeleton
        self.journal = Journal(journal_path(output), self._fingerprint(labels), self._checker())
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        self.lock = threading.RLock()
        """To be held while the arrays below are read together."""
        self.result: PropagatedLabels | None = None
        self._flows = PairFlows(self.frames, "dis")
        self._network = load_network("auto", self._weights)
        network, fusion = used_weights("auto", self._weights)
        tell_weights(network, fusion=fusion, quiet=self._quiet)
        self._carried: OrderedDict[bytes, tuple[np.ndarray, ...]] = OrderedDict()
        self.track_ids: list[int] = []
        """[P] of the labels' people, then of those added here, whether that was undone or not."""
        self.points = np.zeros(0, dtype=np.float32)
        """[F, P, J, 2] pixels."""
        self.confidence = np.zeros(0, dtype=np.float32)
        """[F, P, J] of propagated joints; 1 for those set by a person."""
        self.state = np.zeros(0, dtype=np.int8)
        """[F, P, J] of ``STATES``, from 1; 0: nothing known."""
        self.human = np.zeros(0, dtype=bool)
        """[F, P, J] set by a person."""
        self.propagate()

    def _fingerprint(self, labels: Path) -> dict[str, Any]:
        """What the edits belong to."""
        return {
            "content of the labels": content_digest(labels, IMAGE_SUFFIXES | VIDEO_SUFFIXES),
            "name of the video": self.frames.name,
            "height and width": list(self.frames.size),
            "number of frames": self.frames.count,
        }

    def _checker(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """A check of entries of the journal, in their order."""
        tracks = [track.track_id for track in self.labels.tracks]

        def check(entry: dict[str, Any]) -> dict[str, Any]:
            if entry in ({"undo": True}, {"redo": True}):
                return entry
            if set(entry) != {"set"}:
                raise InputError("it is neither an edit, nor undo, nor redo")
            edits = read_edits(entry["set"], self.frames.count, tracks, self.joints.num_joints)
            tracks.extend({edit.track for edit in edits} - set(tracks))
            return {"set": [vars(edit) for edit in edits]}

        return check

    @property
    def next_track(self) -> int:
        """The number of the next person who is added."""
        return max(self.track_ids) + 1

    @property
    def revision(self) -> int:
        """Number of entries of the journal: another one, other labels."""
        return len(self.journal.entries)

    @property
    def standing(self) -> list[tuple[float, float] | None]:
        """[J] where a new person's joints are in their box; ``None``: the labels never have that joint."""
        used = np.any([t.keypoints[:, :, 2].any(axis=0) for t in self.labels.tracks], axis=0)
        pose = standing_in_box(self.joints)
        return [place if known else None for place, known in zip(pose, used, strict=True)]

    # -- edits

    def edit(self, entries: list[dict[str, Any]], revision: int) -> None:
        """Sets joints by hand, all of them or none; other poses stay until :meth:`propagate`.

        Where people come or go, all poses are made anew.

        Args:
            entries: as of :class:`Edit`; with the track ``next_track`` they add a person.
            revision: of the labels that the page has shown.

        Raises:
            InputError: an entry that means nothing here, or the journal cannot be written.
            Conflict: the labels have another revision by now.
        """
        with self.lock:
            self._check(revision)
            edits = read_edits(entries, self.frames.count, self.track_ids, self.joints.num_joints)
            self.journal.append({"set": [vars(edit) for edit in edits]})
            if any(edit.joint < 0 or edit.track not in self.track_ids for edit in edits):
                self.propagate()
                return
            for edit in edits:
                self._show(edit)

    def undo(self, revision: int) -> None:
        """Takes the last edit back that still holds."""
        with self.lock:
            self._check(revision)
            if not self._stack()[0]:
                raise InputError("there is nothing to undo")
            self.journal.append({"undo": True})
            self.propagate()

    def redo(self, revision: int) -> None:
        """Makes the edit again that was taken back last, unless another was made since."""
        with self.lock:
            self._check(revision)
            if not self._stack()[1]:
                raise InputError("there is nothing to redo")
            self.journal.append({"redo": True})
            self.propagate()

    def _check(self, revision: int) -> None:
        if revision != self.revision:
            raise Conflict

    def _stack(self) -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
        """Edits that hold, in order, and those that were undone, the next to redo last."""
        done: list[list[dict[str, Any]]] = []
        undone: list[list[dict[str, Any]]] = []
        for entry in self.journal.entries:
            if "set" in entry:
                done.append(entry["set"])
                undone.clear()
            elif "undo" in entry and done:
                undone.append(done.pop())
            elif "redo" in entry and undone:
                done.append(undone.pop())
        return done, undone

    def _show(self, edit: Edit) -> None:
        at = edit.frame, self.track_ids.index(edit.track), edit.joint
        self.points[at] = edit.x, edit.y
        self.confidence[at] = 1.0
        self.state[at] = 1 + STATES.index(edit.state)
        self.human[at] = True

    # -- propagation

    def propagate(self) -> None:
        """Makes all poses between labels anew; what no edit has touched since the last time is kept."""
        with self.lock:
            told = [track.track_id for track in self.labels.tracks]
            added = [edit["track"] for entry in self.journal.entries for edit in entry.get("set", ())]
            self.track_ids = list(dict.fromkeys([*told, *added]))
            self.result = self._solve()
            self._arrays(self.result)

    def _solve(self) -> PropagatedLabels:
        given, partial, absent = self._edited()
        labels = self.labels
        whole = make_tracks(given, labels.labelled, labels.video.source)
        tracks = place_tracks(whole, partial, labels.labelled, self.frames.count, labels.reach, absent)
        columns = arrange(tracks, self.frames.count)
        points, confidence = np.zeros((self.frames.count, 0, 2)), np.zeros((self.frames.count, 0))
        if tracks:  # not everybody was removed
            store, title = _Kept(self._carried, columns), f"propagate {self.frames.name}"
            points, confidence = by_fusion(
                columns, tracks, self._flows, self.joints, self._network, store, title, self._quiet,
                weights=self._weights,
            )  # fmt: skip
        labels = replace(labels, frames=given, tracks=tracks, partial=partial, absent=absent)
        return assemble(labels, columns, points, confidence, self.frames, "auto")

    def _edited(self) -> tuple[dict[int, Frame], dict[int, dict[int, Person]], dict[int, set[int]]]:
        """The frames of the labels with the edits in them, joints that were set in other frames, and where
        people were said not to be."""
        given = {k: replace(f, people=list(f.people)) for k, f in self.labels.frames.items()}
        partial = {track_id: dict(self.labels.partial.get(track_id, {})) for track_id in self.track_ids}
        absent = {track_id: set(self.labels.absent.get(track_id, ())) for track_id in self.track_ids}
        for entry in self._stack()[0]:
            for values in entry:
                edit = Edit(**values)
                own, away = partial[edit.track], absent[edit.track]
                frame = given.get(edit.frame)
                labelled = frame.people if frame is not None and frame.is_labeled else None
                if edit.joint >= 0:
                    away.discard(edit.frame)
                if edit.state == "removed":
                    for entered in given.values():
                        _take_out(entered.people, edit.track)
                    own.clear()
                    away.clear()
                elif edit.state == "gone":
                    own.pop(edit.frame, None)
                    if labelled is not None:
                        _take_out(labelled, edit.track)
                    else:
                        away.add(edit.frame)
                elif labelled is not None:
                    k = next((k for k, p in enumerate(labelled) if p.track_id == edit.track), len(labelled))
                    person = labelled[k] if k < len(labelled) else self._empty(edit)
                    labelled[k : k + 1] = [_with_joint(person, edit)]
                else:
                    own[edit.frame] = _with_joint(own.get(edit.frame) or self._empty(edit), edit)
        return given, partial, absent

    def _empty(self, edit: Edit) -> Person:
        """A person without joints, in the box that they have there by now, or in their nearest label's.

        People who were added have no box but that around their joints.
        """
        count = self.joints.num_joints
        empty = Person(
            keypoints=np.zeros((count, 3)),
            box_xyxy=np.zeros(4),
            head_box_xyxy=None,
            track_id=edit.track,
            visible=np.zeros(count, dtype=bool),
            box_is_given=False,
        )
        track = next((track for track in self.labels.tracks if track.track_id == edit.track), None)
        if track is None:
            return empty
        people = self.result.frames[edit.frame].people if self.result is not None else []
        shown = next((p for p in people if p.track_id == edit.track), None)
        if shown is None:
            shown = track.people[int(np.abs(track.frames - edit.frame).argmin())]
        return replace(
            empty,
            box_xyxy=shown.box_xyxy,
            head_box_xyxy=shown.head_box_xyxy,
            box_is_given=shown.box_is_given,
            person_id=shown.person_id,
        )

    def _arrays(self, result: PropagatedLabels) -> None:
        shape = self.frames.count, len(self.track_ids), self.joints.num_joints
        self.points = np.zeros((*shape, 2), dtype=np.float32)
        self.confidence = np.zeros(shape, dtype=np.float32)
        self.state = np.zeros(shape, dtype=np.int8)
        self.human = np.zeros(shape, dtype=bool)
        for number, frame in enumerate(result.frames):
            for person in frame.people:
                p = self.track_ids.index(person.track_id)
                known = person.keypoints[:, 2] > 0
                self.points[number, p] = person.keypoints[:, :2]
                self.state[number, p] = np.where(known, np.where(person.visible, 1, 2), 0)
                scores = person.joint_scores if person.joint_scores is not None else np.ones(len(known))
                self.confidence[number, p] = np.where(known, scores, 0)
                if person.extra[PROVENANCE] == "human":
                    self.human[number, p] = known
                elif person.extra[PROVENANCE] == "mixed":
                    self.human[number, p, person.extra["human_joints"]] = True
        given = {(n, p.track_id) for n, frame in enumerate(result.frames) for p in frame.people}
        for entry in self._stack()[0]:
            for values in entry:
                edit = Edit(**values)
                if edit.joint >= 0 and (edit.frame, edit.track) in given:
                    self._show(edit)

    # -- what the page asks

    def least_certain(self) -> list[int]:
        """Frames that are less sure than their neighbours by their least sure joint, the least sure first.

        Empty: every joint was set by a person.
        """
        with self.lock:
            open_ = ((self.state == 1) | (self.state == 2)) & ~self.human
            worst = np.where(open_, self.confidence, np.inf).min(axis=(1, 2))
        before, after = np.append(np.inf, worst[:-1]), np.append(worst[1:], np.inf)
        dips = np.flatnonzero(np.isfinite(worst) & (worst <= before) & (worst < after))
        found: list[int] = dips[np.argsort(worst[dips], kind="stable")].tolist()
        return found

    def save(self) -> Path:
        """Writes all labels; poses in between are made anew before.

        Raises:
            InputError: they cannot be written.
        """
        with self.lock:
            self.propagate()
            assert self.result is not None
            self.journal.bind()  # by which the next review knows that the output is its own
            self.result.save(self.output)
            return self.output

    def close(self) -> None:
        """Lets another process review; may be called again."""
        self.frames.close()
        self.journal.close()


def journal_path(output: Path) -> Path:
    """Where the edits of a review are, whose labels go to ``output``."""
    return output.with_name(f"{output.name}.edits")


class _Kept(BlockStore):
    """Blocks in memory, by the labels in them."""

    def __init__(self, kept: OrderedDict[bytes, Arrays], columns: Columns, name: str = "") -> None:
        super().__init__(None, "")
        self._kept, self._columns, self._name = kept, columns, name

    def part(self, name: str) -> _Kept:
        return _Kept(self._kept, self._columns, name)

    def get(self, start: int, end: int, make: Callable[[], Arrays], given: Arrays = ()) -> Arrays:
        here, columns = slice(start, end + 1), self._columns
        parts = (columns.points[here], columns.known[here], columns.wanted[here], *given)
        key = hashlib.blake2b(
            b"".join(part.tobytes() for part in parts) + repr((self._name, start, end)).encode()
        ).digest()
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > _MOST_BLOCKS:
                self._kept.popitem(last=False)
        return self._kept[key]


def _take_out(people: list[Person], track_id: int) -> None:
    people[:] = [person for person in people if person.track_id != track_id]


def _with_joint(person: Person, edit: Edit) -> Person:
    keypoints, visible = person.keypoints.copy(), person.visible.copy()
    there = edit.state != "absent"
    keypoints[edit.joint] = (edit.x, edit.y, 1) if there else 0
    visible[edit.joint] = edit.state == "visible"
    scores = None
    if person.joint_scores is not None:
        scores = person.joint_scores.copy()
        scores[edit.joint] = 1.0 if there else 0.0
    box = person.box_xyxy
    if not person.box_is_given and there:
        around = enclosing_box(keypoints[:, :2], keypoints[:, 2] > 0, margin=BOX_MARGIN)
        box = around if around is not None else box
    return replace(person, keypoints=keypoints, visible=visible, joint_scores=scores, box_xyxy=box)
