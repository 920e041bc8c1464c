"""The field's table: seven columns and the mean, from scores of the 15 joints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidpose.skeletons import POSETRACK17

_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_HEAD = (
    "head_top", "head_bottom", "nose", "face", "left_eye", "right_eye", "left_ear", "right_ear",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = {
    "Head": ("head_top", "head_bottom", "nose"),
    **{part.capitalize(): (f"right_{part}", f"left_{part}") for part in _PARTS},
}
"""The columns of every published table and the joints that each averages."""
MEAN = "Mean"
_ROWS = {
    "ap": "AP", "ap50": "AP@50", "ap75": "AP@75", "ap90": "AP@90", "w_ap": "w_AP", "w_ap50": "w_AP@50",
    "w_ap75": "w_AP@75", "w_ap90": "w_AP@90", "precision": "Precision", "recall": "Recall",
    "mota": "MOTA", "motp": "MOTP", "ar": "AR", "oks": "OKS",
    "hota": "HOTA", "deta": "DetA", "assa": "AssA", "identity": "Identity", "clear": "CLEAR",
}  # fmt: skip
_SHOWN = {"posetrack": ("ap", "mota"), "posetrack21": ("ap", "mota", "hota")}


def with_columns(joints: Mapping[str, float]) -> dict[str, float]:
    """Joints -> the same, the columns, and ``Mean``, which for PoseTrack is the official total.

    The 15 joints of PoseTrack come in PoseTrack17's order. A column averages its joints and is undefined
    (NaN) if one of them is, and absent where the joint set has none of them; ``Mean`` averages all joints
    that are defined, so that of the 15 Head weighs three. Head is what a joint set has of head_top,
    head_bottom, nose, face, eyes and ears.
    """
    order = POSETRACK17.joints if set(joints) == set(POSETRACK17.joints) else tuple(joints)
    out = {name: float(joints[name]) for name in order}
    members = {
        column: [name for name in (_HEAD if column == "Head" else names) if name in out]
        for column, names in COLUMNS.items()
    }
    columns = {
        column: float(np.mean([out[name] for name in names])) for column, names in members.items() if names
    }
    defined = [value for value in out.values() if not math.isnan(value)]
    return {**out, **columns, MEAN: float(np.mean(defined)) if defined else math.nan}


def headline(scores: Mapping[str, Any]) -> float:
    """The one number that papers quote: the mean of the protocol's main metric."""
    return float(scores[scores["summary"]["main"]][MEAN])


def metrics_of(scores: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Metric -> its values, without the summary and the breakdowns."""
    return {name: values for name, values in scores.items() if name not in ("summary", "by", "settings")}


def mean_of_joints(columns: Mapping[str, float]) -> float:
    """The official mean from the seven printed columns: Head counts three times, the others twice."""
    weights = {column: len(members) for column, members in COLUMNS.items()}
    return sum(weights[column] * columns[column] for column in COLUMNS) / sum(weights.values())


def mean_of_columns(columns: Mapping[str, float]) -> float:
    """The plain mean of the seven columns (of those there are), which some papers print as their mean."""
    values = [columns[column] for column in COLUMNS if column in columns]
    return float(np.mean(values)) if values else math.nan


def json_ready(value: Any) -> Any:
    """The same structure with NaN as None, for JSON."""
    if isinstance(value, Mapping):
        return {key: json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_table(
    scores: Mapping[str, Any], *, metrics: tuple[str, ...] | None = None, digits: int = 1
) -> str:
    """Markdown tables of scores, one row per metric.

    Args:
        scores: what ``evaluate`` returns.
        metrics: rows; default those that the protocol's papers print.
        digits: decimals; an undefined number is a dash.

    Returns:
        the columns and the mean of metrics of joints, the numbers of others; breakdowns; below them counts,
        the mean of the columns and what the evaluation had to say.
    """
    summary = scores.get("summary", {})
    metrics = metrics or _SHOWN.get(summary.get("protocol"), tuple(metrics_of(scores)))
    tables: dict[tuple[str, ...], list[list[str]]] = {}
    for metric in metrics:
        values = scores[metric]
        columns = [name for name in COLUMNS if name in values]
        names = tuple([*columns, MEAN] if columns else values)
        row = [f"{float(values[name]):.{digits}f}" for name in names]
        tables.setdefault(names, []).append([_ROWS.get(metric, metric), *(_dash(cell) for cell in row)])
    lines = [markdown([["", *names], *rows]) for names, rows in tables.items()]
    text = "\n\n".join(lines)
    if scores.get("by"):
        from vidpose.evaluate.breakdown import format_breakdown

        text += "\n\n" + format_breakdown(scores, digits)
    if summary:
        text += "\n\n" + _summary_line(summary)
    return "\n".join([text, *(f"note: {note}" for note in summary.get("notes", []))])


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table with aligned columns; the first row is the header, numbers stand to the right."""
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("| " + " | ".join([row[0].ljust(widths[0]), *cells[1:]]) + " |")
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    lines.insert(1, rule)
    return "\n".join(lines)


def _dash(cell: str) -> str:
    return "-" if cell == "nan" else cell


def _summary_line(summary: Mapping[str, Any]) -> str:
    main = summary["main"]
    mean = summary.get("mean_of_columns", {}).get(main, math.nan)
    shown = "-" if math.isnan(mean) else f"{mean:.1f}"
    counts = (
        _count(summary["videos"], "video"),
        _count(summary["frames"], "annotated frame"),
        _count(summary["people"], "person", "people"),
        _count(summary["predicted_people"], "prediction") + " in them",
    )
    if summary["protocol"] in ("posetrack", "posetrack21"):
        what = f"Mean is the official mean of the 15 joints; the mean of the 7 columns is {shown} AP. "
    elif main in summary.get("mean_of_columns", {}):
        what = f"Mean is the mean of the joints; the mean of the columns is {shown} {_ROWS.get(main, main)}. "
    else:
        what = ""
    return f"{what}{', '.join(counts)}."


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"
