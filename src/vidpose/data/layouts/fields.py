"""Which label format holds which field; what a target cannot hold is taken out and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.layouts.mot import is_scored
from vidpose.data.layouts.shared import TRACK_NAME, made_box
from vidpose.data.layouts.write_posetrack import PLACEHOLDERS, derived_image_fields
from vidpose.skeletons import (
    COCO17,
    HIEVE14,
    POSETRACK15,
    POSETRACK17,
    POSETRACK18,
    Skeleton,
    convert_keypoints,
)

_ALWAYS = frozenset({"box", "track_id", "score"})
_NAMED_TRACKS = frozenset({"track_id", "file_name", "keypoints", "joint_scores"})
_POSES = _ALWAYS | {
    "file_name", "is_labeled", "ignore_regions", "keypoints", "visible", "head_box", "joint_scores",
}  # fmt: skip
_MOST = _POSES | {"image_id", "size", "is_crowd", "person_id"}

HOLDS: dict[str, frozenset[str]] = {
    "posetrack17": _POSES,
    "posetrack18": _MOST - {"person_id"} | {"extra"},
    "posetrack21": _MOST | {"extra"},
    "coco": _MOST | {"fps", "extra"},
    "cvat": _MOST,
    "labelstudio": _MOST,
    "mot": _ALWAYS | {"size", "is_crowd", "fps"},
    "csv": _MOST | {"fps"},
    "deeplabcut": _NAMED_TRACKS,
    "sleap": _NAMED_TRACKS | {"score", "image_id", "size", "fps"},
    "hieve": _ALWAYS | {"file_name", "keypoints", "visible", "joint_scores"},
}
"""Format -> fields that it reads and writes. ``extra``: whatever else images and annotations have."""
KEPT = {"deeplabcut": {TRACK_NAME}, "sleap": {TRACK_NAME, "tracking_score"}}
"""Format -> the keys of people's ``extra`` that it holds, where it does not hold any."""
EXPORTS = ("hieve",)
"""Formats of predictions, written for a test server."""

NATIVE: dict[str, Skeleton] = {
    "posetrack17": POSETRACK17,
    "posetrack18": POSETRACK18,
    "posetrack21": POSETRACK18,
    "coco": COCO17,
    "hieve": HIEVE14,
}
"""Joints of the formats that have a set of their own; the others take any."""

_NAMES = {
    "file_name": "image names", "image_id": "image ids", "size": "image sizes", "fps": "frame rates",
    "is_labeled": "frames' marks of being labelled", "ignore_regions": "ignore regions",
    "person_id": "person ids", "score": "scores of people", "joint_scores": "people's joint scores",
    "box": "person boxes", "head_box": "head boxes", "is_crowd": "crowds",
    "visible": "marks of hidden joints",
}  # fmt: skip
_REMADE = {"id", "bbox", "bbox_head", "category_id", "iscrowd", "num_keypoints", "area", "visibility"}
"""Keys of an annotation that say again what a person's other fields say, or what is the format's own."""


@dataclass
class Ledger:
    """What a conversion lost and what it made up; one count for each field."""

    dropped: Counter[str] = field(default_factory=Counter)
    made: Counter[str] = field(default_factory=Counter)


# --- joints ------------------------------------------------------------------------------------------------


def target_skeleton(data: PoseDataset, target: str, chosen: Skeleton | None) -> Skeleton:
    """The joints to write: those asked for, the format's, or the data's without PoseTrack's placeholders."""
    if target in NATIVE and chosen is None:
        return NATIVE[target]
    if chosen is not None:
        return chosen
    if data.skeleton == POSETRACK18:
        ears = [POSETRACK18.index[name] for name in PLACEHOLDERS]
        people = (person for _, frame in data.frames() for person in frame.people)
        if not any(person.keypoints[ears, 2].any() for person in people):
            return POSETRACK15
    return data.skeleton


def with_joints(data: PoseDataset, skeleton: Skeleton, ledger: Ledger, *, approximate: bool) -> PoseDataset:
    """The data set in another joint set, by the joints' names."""
    source = data.skeleton
    if source == skeleton:
        return data
    lost = [j for j, name in enumerate(source.joints) if name not in skeleton.index]
    new = [j for j, name in enumerate(skeleton.joints) if name not in source.index]

    def convert(person: Person) -> Person:
        table = np.column_stack([person.keypoints[:, :2], person.visible, person.keypoints[:, 2]])
        out = convert_keypoints(table, source, skeleton, approximate=approximate)
        labelled = out[:, 3] > 0
        _count_joints(ledger.dropped, (source.joints[j] for j in lost if person.keypoints[j, 2]))
        _count_joints(ledger.made, (skeleton.joints[j] for j in new if labelled[j]), " approximated")
        scores = person.joint_scores
        if scores is not None:
            triples = np.column_stack([person.keypoints[:, :2], scores])
            scores = convert_keypoints(triples, source, skeleton, approximate=approximate)[:, 2]
        points = np.where(labelled[:, None], np.column_stack([out[:, :2], labelled]), 0.0)
        visible = labelled & (out[:, 2] > 1 - 1e-9)
        return replace(person, keypoints=points, visible=visible, joint_scores=scores)

    return replace(_each_person(data, convert), skeleton=skeleton)


def _count_joints(counter: Counter[str], names: Iterable[str], what: str = "") -> None:
    """Counts by the part of the body: both ears are ``ears``."""
    for name in names:
        side, _, part = name.partition("_")
        counter[(part + "s" if side in ("left", "right") else f"{name} joints") + what] += 1


def _each_person(data: PoseDataset, change: Any) -> PoseDataset:
    videos = [
        replace(v, frames=[replace(f, people=[change(p) for p in f.people]) for f in v.frames])
        for v in data.videos
    ]
    return replace(data, videos=videos)


# --- fields ------------------------------------------------------------------------------------------------


def restrict(data: PoseDataset, target: str, ledger: Ledger) -> PoseDataset:
    """The data set as the target can hold it, after :func:`with_joints`; what is lost is counted."""
    videos = []
    for video in data.videos:
        scored = is_scored(video)
        frames = [_frame(video, frame, data, target, scored, ledger) for frame in video.frames]
        kept = replace(video, frames=frames)
        if video.fps is not None and "fps" not in HOLDS[target]:
            ledger.dropped[_NAMES["fps"]] += 1
            kept.fps = None
        videos.append(kept)
    return replace(data, videos=videos)


def _frame(video: Video, frame: Frame, data: PoseDataset, target: str, scored: bool, ledger: Ledger) -> Frame:
    holds, lost = HOLDS[target], ledger.dropped
    told = HOLDS.get(data.layout, _MOST)
    for key, there in (
        ("file_name", True),
        ("image_id", frame.image_id != frame.video_frame),
        ("size", 0 not in frame.size),
    ):
        lost[_NAMES[key]] += key in told and key not in holds and there
    people = [
        made for person in frame.people if (made := _person(person, target, scored, ledger)) is not None
    ]
    if "is_labeled" not in holds:
        lost[_NAMES["is_labeled"]] += frame.is_labeled != bool(people)
    if "ignore_regions" not in holds:
        lost[_NAMES["ignore_regions"]] += len(frame.ignore_regions)
    if "extra" not in holds:
        same = derived_image_fields(frame.image_id, len(video.frames))
        same["has_labeled_person"] = bool(frame.is_labeled and frame.people)
        for key, value in frame.extra.items():
            lost[f"{key!r} of images"] += key not in same or same[key] != value
    elif target != "posetrack21":
        lost["'has_labeled_person' of images"] += "has_labeled_person" in frame.extra
    return replace(
        frame,
        size=frame.size if "size" in holds else (0, 0),
        ignore_regions=frame.ignore_regions if "ignore_regions" in holds else [],
        people=people,
        extra=frame.extra if "extra" in holds else {},
    )


def _person(person: Person, target: str, scored: bool, ledger: Ledger) -> Person | None:
    """The person without what the target does not hold; ``None``: it cannot hold the person at all."""
    holds, lost = HOLDS[target], ledger.dropped
    if person.is_crowd and ("is_crowd" not in holds or (target == "mot" and scored)):
        # As one more person it would be trained on and scored.
        lost[_NAMES["is_crowd"]] += 1
        return None
    labelled = person.keypoints[:, 2] > 0
    if target == "mot" and not person.box_is_given:
        lost["people without a box"] += 1
        return None
    if target == "cvat" and not person.box_is_given and not labelled.any() and person.head_box_xyxy is None:
        lost["people with neither box nor joints"] += 1
        return None
    if "box" not in holds and not labelled.any():
        lost["people without joints"] += 1
        return None
    out = replace(person, keypoints=person.keypoints.copy(), visible=person.visible.copy())
    if "keypoints" not in holds:
        lost["joints"] += int(labelled.sum())
        out.keypoints[:], out.visible[:], out.joint_scores = 0, False, None
    if target in NATIVE and target not in ("coco", *EXPORTS):
        _without_placeholders(out, target, ledger)
    if "visible" not in holds and "keypoints" in holds:
        lost[_NAMES["visible"]] += int((labelled & ~person.visible).sum())
        out.visible = labelled
    if "box" not in holds:
        lost[_NAMES["box"]] += person.box_is_given
        out.box_is_given, out.box_xyxy = False, made_box(out.keypoints)
    if "score" not in holds and person.score is not None:
        lost[_NAMES["score"]] += 1
        out.score = None
    if "head_box" not in holds and person.head_box_xyxy is not None:
        lost[_NAMES["head_box"]] += 1
        out.head_box_xyxy = None
    if "person_id" not in holds and person.person_id is not None:
        lost[_NAMES["person_id"]] += 1
        out.person_id = None
    if person.joint_scores is not None and out.joint_scores is None and "keypoints" not in holds:
        lost[_NAMES["joint_scores"]] += 1
    if "extra" not in holds:
        kept = KEPT.get(target, set()) | {"visibility"}
        for key in person.extra:
            told = key not in _REMADE and key not in KEPT.get(target, ())
            lost[f"{key!r} of people"] += told and not (target == "mot" and key == "visibility")
        out.extra = {key: value for key, value in person.extra.items() if key in kept}
    if not person.box_is_given:
        out.box_xyxy = made_box(person.keypoints)
        ledger.made["boxes from joints"] += target in ("coco", "labelstudio")
    return out


def _without_placeholders(person: Person, target: str, ledger: Ledger) -> None:
    """Zeroes PoseTrack's ears, and joints that its files cannot tell from absent ones."""
    if len(person.keypoints) == POSETRACK18.num_joints:
        for name in PLACEHOLDERS:
            j = POSETRACK18.index[name]
            ledger.dropped["ears"] += int(person.keypoints[j, 2])
            person.keypoints[j], person.visible[j] = 0, False
    nowhere = (person.keypoints[:, 2] > 0) & ~(person.keypoints[:, :2] != 0).any(axis=1) & ~person.visible
    if nowhere.any():
        ledger.dropped["hidden joints at 0, 0"] += int(nowhere.sum())
        person.keypoints[nowhere] = 0
