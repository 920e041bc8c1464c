"""Writes a video as CVAT for video 1.1 has it (``annotations.xml``); see :mod:`vidpose.data.layouts.cvat`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from vidpose.data.dataset import Frame, Person, Video
from vidpose.data.layouts.shared import text
from vidpose.skeletons import Skeleton

_FLAGS = 'outside="{}" occluded="{}" keyframe="1"'


def cvat_document(video: Video, skeleton: Skeleton) -> Iterator[str]:
    """Lines of the document. Every shape is a keyframe; where a track ends or has a gap, one that is outside
    says so."""
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>"
    yield "  <version>1.1</version>"
    yield "  <meta>"
    yield from _task(video, skeleton)
    yield from _own(video)
    yield "  </meta>"
    number = 0
    for group, appearances in enumerate(_people(video.frames), start=1):
        for label, lines in _parts(appearances, len(video.frames), skeleton):
            yield f'  <track id="{number}" label="{label}" source="manual" group_id="{group}">'
            yield from lines
            yield "  </track>"
            number += 1
    for frame in video.frames:
        for region in frame.ignore_regions:
            points = ";".join(f"{text(x)},{text(y)}" for x, y in region)
            yield f'  <track id="{number}" label="ignore" source="manual">'
            for index in range(frame.index, min(frame.index + 2, len(video.frames))):
                flags = _FLAGS.format(int(index > frame.index), 0)
                yield f'    <polygon frame="{index}" points="{points}" {flags} z_order="0"></polygon>'
            yield "  </track>"
            number += 1
    yield "</annotations>"


def _task(video: Video, skeleton: Skeleton) -> Iterator[str]:
    frames = video.frames
    height, width = next((frame.size for frame in frames if 0 not in frame.size), (0, 0))
    yield "    <task>"
    yield f"      <name>{escape(video.name)}</name>"
    yield f"      <size>{len(frames)}</size>"
    yield "      <mode>interpolation</mode>"
    yield "      <overlap>0</overlap>"
    yield "      <start_frame>0</start_frame>"
    yield f"      <stop_frame>{max(len(frames) - 1, 0)}</stop_frame>"
    yield "      <frame_filter></frame_filter>"
    yield "      <labels>"
    inputs = (("track_id", "number"), ("person_id", "number"), ("score", "text"), ("crowd", "checkbox"))
    attributes = "".join(
        f"<attribute><name>{name}</name><mutable>True</mutable><input_type>{kind}</input_type></attribute>"
        for name, kind in (*inputs, ("order", "number"))
    )
    for label, kind in (("person", "rectangle"), ("head", "rectangle"), ("ignore", "polygon")):
        yield f"        <label><name>{label}</name><type>{kind}</type>"
        yield f"          <attributes>{'' if label == 'ignore' else attributes}</attributes></label>"
    yield "        <label><name>pose</name><type>skeleton</type>"
    yield f"          <attributes>{attributes}</attributes><svg>{escape(_drawing(skeleton))}</svg></label>"
    for joint in skeleton.joints:
        score = (
            "<attribute><name>score</name><mutable>True</mutable><input_type>text</input_type></attribute>"
        )
        yield f"        <label><name>{escape(joint)}</name><type>points</type>"
        yield f"          <attributes>{score}</attributes><parent>pose</parent></label>"
    yield "      </labels>"
    yield f"      <original_size><width>{width}</width><height>{height}</height></original_size>"
    yield "    </task>"


def _drawing(skeleton: Skeleton) -> str:
    """The skeleton as CVAT's label editor draws it: joints on a circle, limbs between them."""
    angles = 2 * np.pi * np.arange(skeleton.num_joints) / max(skeleton.num_joints, 1)
    places = np.stack([50 + 40 * np.sin(angles), 50 - 40 * np.cos(angles)], axis=-1).round(2)
    parts = []
    for a, b in skeleton.limbs:
        (x1, y1), (x2, y2) = places[a], places[b]
        parts.append(
            f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" data-type="edge" data-node-from="{a + 1}" '
            f'data-node-to="{b + 1}"></line>'
        )
    for j, (name, (x, y)) in enumerate(zip(skeleton.joints, places, strict=True), start=1):
        parts.append(
            f'<circle r="1.5" cx="{x}" cy="{y}" data-type="element node" data-element-id="{j}" '
            f'data-node-id="{j}" data-label-name={quoteattr(name)}></circle>'
        )
    return "".join(parts)


def _own(video: Video) -> Iterator[str]:
    """Names, ids and sizes of the frames, and which are labelled."""
    yield f"    <vidpose video={quoteattr(video.name)}>"
    for frame in video.frames:
        yield (
            f'      <frame number="{frame.index}" name={quoteattr(frame.file_name)} id="{frame.image_id}" '
            f'labeled="{int(frame.is_labeled)}" height="{frame.size[0]}" width="{frame.size[1]}"></frame>'
        )
    yield "    </vidpose>"


def _people(frames: Sequence[Frame]) -> list[dict[int, tuple[int, Person]]]:
    """For each person frame -> (place in the frame, person); crowds that share a track id are apart."""
    tracks: dict[tuple[int, bool, int], dict[int, tuple[int, Person]]] = defaultdict(dict)
    for frame in frames:
        for place, person in enumerate(frame.people):
            twin = 0
            while frame.index in tracks.get((person.track_id, person.is_crowd, twin), {}):
                twin += 1
            tracks[person.track_id, person.is_crowd, twin][frame.index] = (place, person)
    return list(tracks.values())


def _parts(
    appearances: dict[int, tuple[int, Person]], count: int, skeleton: Skeleton
) -> Iterator[tuple[str, list[str]]]:
    """(label, lines) of the tracks of one person."""
    for label in ("person", "pose", "head"):
        lines: list[str] = []
        last: Person | None = None
        for index in range(count):
            place, person = appearances.get(index, (0, None))
            shown = person if person is not None and _has(person, label) else None
            if shown is not None:
                lines += _shape(shown, label, index, place, skeleton, gone=False)
            elif last is not None:
                lines += _shape(last, label, index, 0, skeleton, gone=True)
            last = shown
        if lines:
            yield label, lines


def _has(person: Person, label: str) -> bool:
    if label == "pose":
        return bool((person.keypoints[:, 2] > 0).any())
    return person.box_is_given if label == "person" else person.head_box_xyxy is not None


def _shape(
    person: Person, label: str, index: int, place: int, skeleton: Skeleton, *, gone: bool
) -> Iterator[str]:
    if label == "pose":
        yield f'    <skeleton frame="{index}" keyframe="1" z_order="0">'
        yield from _attributes(person, place)
        for joint, (x, y, labelled) in enumerate(person.keypoints):
            name = quoteattr(skeleton.joints[joint])
            flags = _FLAGS.format(int(gone or not labelled), int(labelled and not person.visible[joint]))
            yield f'      <points label={name} {flags} points="{text(x)},{text(y)}">'
            if labelled and person.joint_scores is not None:
                yield f'        <attribute name="score">{text(person.joint_scores[joint])}</attribute>'
            yield "      </points>"
        yield "    </skeleton>"
        return
    box = person.box_xyxy if label == "person" else person.head_box_xyxy
    assert box is not None
    corners = " ".join(
        f'{key}="{text(value)}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)
    )
    yield f'    <box frame="{index}" {corners} {_FLAGS.format(int(gone), 0)} z_order="0">'
    yield from _attributes(person, place)
    yield "    </box>"


def _attributes(person: Person, place: int) -> Iterator[str]:
    values = {
        "track_id": str(person.track_id),
        "person_id": None if person.person_id is None else str(person.person_id),
        "score": None if person.score is None else text(person.score),
        "crowd": "true" if person.is_crowd else "false",
        "order": str(place),
    }
    for name, value in values.items():
        if value is not None:
            yield f'      <attribute name="{name}">{value}</attribute>'
