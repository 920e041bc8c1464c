"""Writes image tasks for Label Studio, with the labelling configuration that they need; see
:mod:`vidpose.data.layouts.label_studio`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from vidpose.data.dataset import Frame, Person, PoseDataset
from vidpose.data.layouts.label_studio import CROWD, HEAD, HIDDEN, IGNORE, MADE
from vidpose.data.layouts.shared import plain
from vidpose.errors import InputError
from vidpose.skeletons import SKELETONS, Skeleton


def tasks(data: PoseDataset) -> Iterator[dict[str, Any]]:
    """One task for each frame. People with scores are a model's, so they are ``predictions``; else
    ``annotations``. Frames that are not labelled have neither."""
    joints = data.skeleton.name if data.skeleton.name in SKELETONS else None
    everyone = (person for _, frame in data.frames() for person in frame.people)
    is_model = any(person.score is not None or person.joint_scores is not None for person in everyone)
    number = 0
    for video in data.videos:
        for frame in video.frames:
            number += 1
            about: dict[str, Any] = {"image": frame.file_name, "video": video.name, "frame": frame.index}
            about |= {"image_id": frame.image_id, "is_labeled": frame.is_labeled}
            if 0 not in frame.size:
                about |= {"width": frame.size[1], "height": frame.size[0]}
            if joints:
                about["joints"] = joints
            results = list(_results(frame, data.skeleton))
            key = "predictions" if is_model else "annotations"
            entry: dict[str, Any] = {"result": results}
            if is_model:
                entry["model_version"] = "vidpose"
            kept = [entry] if results or frame.is_labeled else []
            yield {"id": number, "data": about, "annotations": [], key: kept}


def config(skeleton: Skeleton) -> str:
    """The labelling configuration."""
    joints = "".join(f"    <Label value={quoteattr(joint)}/>\n" for joint in skeleton.joints)
    return (
        "<View>\n"
        '  <Image name="image" value="$image" zoom="true"/>\n'
        '  <RectangleLabels name="box" toName="image">\n'
        f'    <Label value="person"/>\n    <Label value="{HEAD}"/>\n'
        "  </RectangleLabels>\n"
        '  <KeyPointLabels name="joint" toName="image">\n'
        f"{joints}"
        "  </KeyPointLabels>\n"
        '  <PolygonLabels name="region" toName="image">\n'
        f'    <Label value="{IGNORE}"/>\n'
        "  </PolygonLabels>\n"
        '  <Number name="track_id" toName="image" perRegion="true" whenTagName="box"/>\n'
        '  <Number name="person_id" toName="image" perRegion="true" whenTagName="box"/>\n'
        '  <Choices name="flags" toName="image" perRegion="true" choice="multiple" whenTagName="box">\n'
        f'    <Choice value="{CROWD}"/>\n    <Choice value="{MADE}"/>\n'
        "  </Choices>\n"
        '  <Choices name="visibility" toName="image" perRegion="true" whenTagName="joint">\n'
        f'    <Choice value="{HIDDEN}"/>\n'
        "  </Choices>\n"
        "</View>\n"
    )


def _results(frame: Frame, skeleton: Skeleton) -> Iterator[dict[str, Any]]:
    for r, region in enumerate(frame.ignore_regions):
        value = {"points": _percents(region, frame).tolist(), "closed": True, "polygonlabels": [IGNORE]}
        yield _region(f"ignore{r}", "region", "polygonlabels", value, frame)
    for p, person in enumerate(frame.people):
        name = f"person{p}"
        box = _rectangle(person.box_xyxy, frame)
        yield _region(
            name, "box", "rectanglelabels", {**box, "rectanglelabels": ["person"]}, frame, person.score
        )
        for key, number in (("track_id", person.track_id), ("person_id", person.person_id)):
            if number is not None:
                yield _region(name, key, "number", {**box, "number": number}, frame)
        flags = [flag for flag, on in ((CROWD, person.is_crowd), (MADE, not person.box_is_given)) if on]
        if flags:
            yield _region(name, "flags", "choices", {**box, "choices": flags}, frame)
        if person.head_box_xyxy is not None:
            value = {**_rectangle(person.head_box_xyxy, frame), "rectanglelabels": [HEAD]}
            yield _region(f"{name}head", "box", "rectanglelabels", value, frame, parent=name)
        yield from _joints(person, name, frame, skeleton)


def _joints(person: Person, name: str, frame: Frame, skeleton: Skeleton) -> Iterator[dict[str, Any]]:
    for j, joint in enumerate(skeleton.joints):
        if not person.keypoints[j, 2]:
            continue
        (x, y), region = _percents(person.keypoints[None, j, :2], frame)[0].tolist(), f"{name}joint{j}"
        place = {"x": x, "y": y, "width": 0.5}
        score = None if person.joint_scores is None else float(person.joint_scores[j])
        value = {**place, "keypointlabels": [joint]}
        yield _region(region, "joint", "keypointlabels", value, frame, score, parent=name)
        if not person.visible[j]:
            yield _region(region, "visibility", "choices", {**place, "choices": [HIDDEN]}, frame)


def _region(
    name: str,
    source: str,
    kind: str,
    value: dict[str, Any],
    frame: Frame,
    score: float | None = None,
    parent: str | None = None,
) -> dict[str, Any]:
    result: dict[str, Any] = {"id": name, "from_name": source, "to_name": "image", "type": kind}
    result |= {"original_width": frame.size[1], "original_height": frame.size[0], "image_rotation": 0}
    if parent is not None:
        result["parentID"] = parent
    if score is not None:
        result["score"] = plain(score)
    return {**result, "value": value}


def _percents(points: np.ndarray, frame: Frame) -> np.ndarray:
    """[N, 2] pixels -> percents of the picture."""
    if 0 in frame.size:
        raise InputError(
            f"{frame.path}: the picture's size is needed for Label Studio's percents, and neither the labels "
            "tell it nor is the picture there"
        )
    return points * 100 / np.array([frame.size[1], frame.size[0]])


def _rectangle(box_xyxy: np.ndarray, frame: Frame) -> dict[str, float]:
    (x1, y1), (x2, y2) = _percents(box_xyxy.reshape(2, 2), frame).tolist()
    return {"x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1, "rotation": 0}
