"""Scores of parts: by joint, by video, and by how hard the annotated people are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.difficulty import bins, measures, owners_by_overlap
from vidpose.evaluate.people import Frames
from vidpose.evaluate.protocols import BREAKDOWNS, Options, Protocol
from vidpose.evaluate.table import COLUMNS, MEAN, metrics_of


def check_breakdowns(by: tuple[str, ...], protocol: Protocol, name: str) -> None:
    """Refuses a kind of breakdown that is unknown or that the protocol does not have."""
    for kind in by:
        if kind not in BREAKDOWNS:
            raise InputError(f"unknown breakdown {kind!r}; known: {', '.join(BREAKDOWNS)}")
        if kind == "difficulty" and protocol.owners is None:
            raise InputError(
                f"{name} has no breakdown by difficulty: tracks go through easy and hard frames alike"
            )


def break_down(
    scores: Mapping[str, Any],
    frames: Frames,
    protocol: Protocol,
    options: Options,
    by: tuple[str, ...],
    images: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """What stands under ``by`` in the scores.

    ``joint``: joint -> metric -> value. ``video``: video -> its scores. ``difficulty``: kind -> bin -> the
    scores of the people in that bin. Of difficulty: the annotated people are restricted to the bin;
    predictions that belong to other people are left out; one that belongs to nobody by the protocol belongs
    to the person on whose box it lies most, and one that lies on nobody stays in the bins of its frame;
    frames without a person of the bin are left out.
    """
    out: dict[str, Any] = {}
    if "joint" in by:
        out["joint"] = {
            joint: {metric: values[joint] for metric, values in metrics_of(scores).items() if joint in values}
            for joint in frames.joints
        }
        out["joint"] = {joint: values for joint, values in out["joint"].items() if values}
    parts = replace(frames, notes=[])
    if "video" in by:
        out["video"] = {}
        for video in np.unique(frames.video):
            part = parts.keep(frames.video == video)
            name = _short(frames.video_names[int(np.flatnonzero(frames.video == video)[0])])
            while name in out["video"]:
                name += "'"
            out["video"][name] = protocol.score(part, replace(options, frame_weights=None))
    if "difficulty" in by and protocol.owners is not None:
        owner = owners_by_overlap(frames, protocol.owners(frames))
        out["difficulty"] = {}
        for kind, members in bins(measures(frames, images)).items():
            rows = out["difficulty"][kind] = {}
            for name, people in members.items():
                rows[name] = protocol.part(parts.restrict(people, owner), options)
    return out


def _short(video: str) -> str:
    return video.replace("\\", "/").rstrip("/").rpartition("/")[2]


def format_breakdown(scores: Mapping[str, Any], digits: int = 1) -> str:
    """The Markdown tables of what :func:`break_down` added to the scores; '' for none."""
    by = scores.get("by", {})
    tables = []
    if "joint" in by:
        metrics = list(dict.fromkeys(metric for values in by["joint"].values() for metric in values))
        rows = [
            [joint, *(_number(values.get(m), digits) for m in metrics)]
            for joint, values in by["joint"].items()
        ]
        tables.append(_table(["joint", *metrics], rows))
    if "video" in by:
        tables.append(_parts("video", by["video"], digits))
    for kind, members in by.get("difficulty", {}).items():
        tables.append(_parts(kind, members, digits))
    return "\n\n".join(tables)


def _parts(kind: str, parts: Mapping[str, Any], digits: int) -> str:
    """One row per part: people, the columns of the main metric (or the mean of every metric)."""
    first = next(iter(parts.values()))
    main = first["summary"]["main"]
    columns = [column for column in COLUMNS if column in first[main]]
    if columns:
        header = [kind, "people", *columns, f"{MEAN} {main}"]
        cells = [(main, column) for column in [*columns, MEAN]]
    else:
        names = list(metrics_of(first))
        header = [kind, "people", *(f"{metric}" for metric in names)]
        cells = [(metric, MEAN) for metric in names]
    rows = [
        [name, f"{part['summary']['people']:,}", *(_number(part[m].get(n), digits) for m, n in cells)]
        for name, part in parts.items()
    ]
    return _table(header, rows)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    from vidpose.evaluate.table import markdown

    return markdown([header, *rows])
