"""The field's table: seven columns and the mean, from scores of the 15 joints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vidpose.skeletons import POSETRACK17

_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
COLUMNS: dict[str, tuple[str, ...]] = {
    "Head": ("head_top", "head_bottom", "nose"),
    **{part.capitalize(): (f"right_{part}", f"left_{part}") for part in _PARTS},
}
"""The columns of every published table and the joints that each averages."""
MEAN = "Mean"
_ROWS = {"ap": "AP", "precision": "Precision", "recall": "Recall", "mota": "MOTA", "motp": "MOTP"}


def with_columns(joints: Mapping[str, float]) -> dict[str, float]:
    """15 joints -> the same, the seven columns, and ``Mean``, the official total.

    A column averages its joints and is undefined (NaN) if one of them is; ``Mean`` averages all joints that
    are defined, so that Head weighs three of fifteen.
    """
    out = {name: float(joints[name]) for name in POSETRACK17.joints}
    columns = {column: float(np.mean([out[name] for name in members])) for column, members in COLUMNS.items()}
    defined = [value for value in out.values() if not math.isnan(value)]
    return {**out, **columns, MEAN: float(np.mean(defined)) if defined else math.nan}


def mean_of_joints(columns: Mapping[str, float]) -> float:
    """The official mean from the seven printed columns: Head counts three times, the others twice."""
    weights = {column: len(members) for column, members in COLUMNS.items()}
    return sum(weights[column] * columns[column] for column in COLUMNS) / sum(weights.values())


def mean_of_columns(columns: Mapping[str, float]) -> float:
    """The plain mean of the seven columns, which some papers print as their mean."""
    return float(np.mean([columns[column] for column in COLUMNS]))


def json_ready(value: Any) -> Any:
    """The same structure with NaN as None, for JSON."""
    if isinstance(value, Mapping):
        return {key: json_ready(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def format_table(
    scores: Mapping[str, Any], *, metrics: tuple[str, ...] = ("ap", "mota"), digits: int = 1
) -> str:
    """A Markdown table of the seven columns and the official mean, one row per metric.

    Args:
        scores: what ``evaluate`` returns.
        metrics: rows, out of ap, precision, recall, mota, motp.
        digits: decimals; an undefined number is a dash.

    Returns:
        the table, below it the mean of the seven columns and what the evaluation had to say.
    """
    names = [*COLUMNS, MEAN]
    rows = [["", *names]]
    for metric in metrics:
        values = [float(scores[metric][name]) for name in names]
        rows.append(
            [_ROWS.get(metric, metric), *("-" if math.isnan(v) else f"{v:.{digits}f}" for v in values)]
        )
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(names) + 1)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("| " + " | ".join([row[0].ljust(widths[0]), *cells[1:]]) + " |")
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    lines.insert(1, rule)
    summary = scores.get("summary", {})
    lines += ["", _summary_line(summary)] if summary else []
    lines += [f"note: {note}" for note in summary.get("notes", [])]
    return "\n".join(lines)


def _summary_line(summary: Mapping[str, Any]) -> str:
    mean = summary["mean_of_columns"]["ap"]
    shown = "-" if math.isnan(mean) else f"{mean:.1f}"
    counts = (
        _count(summary["videos"], "video"),
        _count(summary["frames"], "annotated frame"),
        _count(summary["people"], "person", "people"),
        _count(summary["predicted_people"], "prediction") + " in them",
    )
    return (
        f"Mean is the official mean of the 15 joints; the mean of the 7 columns is {shown} AP. "
        f"{', '.join(counts)}."
    )


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number:,} {one if number == 1 else more or one + 's'}"
