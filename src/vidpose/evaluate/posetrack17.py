"""Reads the PoseTrack17 layout: ``{"annolist": [{"image", "annorect", "ignore_regions"}, ...]}``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.sequence import (
    MISSING_SCORE,
    NUM_JOINTS,
    Sequence,
    Tracks,
    as_list,
    as_object,
    frame_number,
    head_size,
    is_finite,
    numbers,
    shown,
)


def read_posetrack17(
    data: dict[str, Any], source: str, *, ground_truth: bool, details: bool = False
) -> Sequence:
    """Parsed JSON of one PoseTrack17 file -> :class:`Sequence`.

    Every scalar of this layout is a list of one; a bare scalar is read too. Joint ids other than 0..14 are
    passed over, and of a joint that is given twice the first stays, as the official evaluation has it.

    Raises:
        InputError: naming file, frame, person and problem.
    """
    out = Sequence(source)
    tracks = Tracks()
    people: list[int] = []
    rows: list[tuple[int, int, int, int]] = []  # frame, person, track, points
    heads: list[float] = []
    flat: list[Any] = []  # the points of all people
    for f, frame in enumerate(as_list(data["annolist"], f"{source}: 'annolist'")):
        name = _image_name(as_object(frame, f"{source}: frame {f}"))
        place = f"{source}: frame {name or f}"
        rects = as_list(frame.get("annorect"), f"{place}: 'annorect'")
        out.names.append(name)
        labelled = _scalar(frame.get("is_labeled"))
        out.labelled.append(bool(labelled) if isinstance(labelled, int) else None)
        people.append(len(rects))
        if ground_truth and frame.get("ignore_regions"):
            out.regions[f] = _regions(frame["ignore_regions"], place)
        for k, rect in enumerate(rects):
            points = _points(rect, place, k)
            if points is None:
                continue
            rows.append(
                (f, k, tracks.number(_scalar(rect.get("track_id")), f"{place}: person {k}"), len(points))
            )
            if ground_truth:
                heads.append(_head(rect, f"{place}: person {k}"))
            flat += points

    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    out.frame, out.person, out.track = table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()
    row = np.repeat(np.arange(len(rows)), table[:, 3])
    first = np.cumsum(table[:, 3]) - table[:, 3]

    def point_place(i: int) -> str:
        return f"{out.place(int(row[i]))}: point {i - int(first[row[i]])}"

    scores: list[Any] = []
    try:
        ids = [point["id"][0] for point in flat]
        xs = [point["x"][0] for point in flat]
        ys = [point["y"][0] for point in flat]
        if not ground_truth:
            scores = [point["score"][0] for point in flat]
    except (KeyError, TypeError, IndexError):
        careful = [_careful_point(point, point_place, i) for i, point in enumerate(flat)]
        ids, xs, ys, scores = (list(values) for values in zip(*careful, strict=True))

    def describe(what: str) -> Callable[[int], str]:
        return lambda i: f"{point_place(i)}: {what}"

    joint = numbers(ids, describe("id"))
    xy = np.stack([numbers(xs, describe("x")), numbers(ys, describe("y"))], axis=-1)
    known = np.flatnonzero((joint >= 0) & (joint < NUM_JOINTS) & (joint % 1 == 0))[::-1]
    at = row[known], joint[known].astype(np.int64)  # backwards, so that the first of a double is written last
    out.xy = np.zeros((len(rows), NUM_JOINTS, 2))
    out.xy[at] = xy[known]
    out.present = np.zeros((len(rows), NUM_JOINTS), dtype=bool)
    out.present[at] = True
    out.scores = np.full((len(rows), NUM_JOINTS), MISSING_SCORE)
    if not ground_truth:
        out.scores[at] = numbers(scores, describe("score"))[known]
    out.head_size = np.array(heads, dtype=np.float64) if ground_truth else np.full(len(rows), np.nan)
    out.people = np.array(people, dtype=np.int64)
    out.image_ids = [None] * len(out.names)
    out.numbers = [frame_number(name) for name in out.names]
    out.videos = [""] * len(out.names)
    if details:
        flags = [_scalar(point.get("is_visible", 1)) for point in flat]
        flag = np.zeros((len(rows), NUM_JOINTS))
        flag[at] = np.array([is_finite(v) and v != 0 for v in flags], dtype=np.float64)[known]
        nothing = np.full(len(rows), np.nan)
        out.details = {
            "box": np.full((len(rows), 4), np.nan),  # this layout has no person boxes
            "flag": flag,
            "area": nothing,
            "crowd": np.zeros(len(rows), dtype=bool),
            "score": nothing.copy(),
        }
    return out


def _scalar(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _image_name(frame: dict[str, Any]) -> str | None:
    image = _scalar(frame.get("image"))
    name = _scalar(image.get("name")) if isinstance(image, dict) else image
    return name if isinstance(name, str) and name else None


def _points(rect: Any, place: str, person: int) -> list[Any] | None:
    """The joints of a person; None for one that carries no list of joints at all."""
    try:
        points = rect["annopoints"][0]["point"]
        if type(points) is list:
            return points
    except (KeyError, TypeError, IndexError):
        pass
    annopoints = as_object(rect, f"{place}: person {person}").get("annopoints")
    if isinstance(annopoints, list):
        annopoints = annopoints[0] if annopoints else None
    if not annopoints:
        return None
    annopoints = as_object(annopoints, f"{place}: person {person}: 'annopoints'")
    if "point" not in annopoints:
        return None
    return as_list(annopoints["point"], f"{place}: person {person}: 'point'")


def _careful_point(point: Any, place: Callable[[int], str], i: int) -> tuple[Any, Any, Any, Any]:
    """id, x, y, score of a point that is not written as usual: bare scalars, or no score."""
    if not isinstance(point, dict):
        as_object(point, place(i))
    for key in ("id", "x", "y"):
        if key not in point:
            raise InputError(f"{place(i)}: has no '{key}', each joint needs id, x and y")
    score = _scalar(point["score"]) if "score" in point else MISSING_SCORE
    return _scalar(point["id"]), _scalar(point["x"]), _scalar(point["y"]), score


def _head(rect: dict[str, Any], place: str) -> float:
    try:
        size = head_size(rect["x1"][0], rect["y1"][0], rect["x2"][0], rect["y2"][0])
        if size < float("inf"):
            return size
    except (KeyError, TypeError, IndexError, OverflowError):
        pass
    corners = [_scalar(rect.get(key)) for key in ("x1", "y1", "x2", "y2")]
    if any(corner is None or corner == [] for corner in corners):
        return float("nan")
    for key, corner in zip(("x1", "y1", "x2", "y2"), corners, strict=True):
        if not is_finite(corner):
            raise InputError(f"{place}: head box {key} is {shown(corner)}, a finite number is needed")
    return head_size(*corners)


def _regions(value: Any, place: str) -> list[np.ndarray]:
    polygons = []
    for r, region in enumerate(as_list(value, f"{place}: 'ignore_regions'")):
        where = f"{place}: ignore region {r}"
        corners = as_list(as_object(region, where).get("point"), f"{where}: 'point'")
        xy = [_scalar(as_object(corner, f"{where}: corner {i}").get(axis))
              for i, corner in enumerate(corners) for axis in "xy"]  # fmt: skip
        polygons.append(
            numbers(xy, lambda i, where=where: f"{where}: corner {i // 2}: {'xy'[i % 2]}").reshape(-1, 2)  # type: ignore[misc]
        )
    return polygons
