"""The results tables that the five papers print, as data: every compared method, every column."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from vidpose.errors import InputError
from vidpose.evaluate.table import COLUMNS, MEAN, mean_of_columns, mean_of_joints
from vidpose.train.recipe import parse_yaml, recipe_folder

JOINT_COLUMNS = (*COLUMNS, MEAN)
ROUNDING = 0.1
"""How far a printed mean may be from that of the printed columns by rounding alone: all are rounded to one
decimal, so that either is off by at most 0.05."""
TITLES = {
    "posetrack17": "PoseTrack2017",
    "posetrack18": "PoseTrack2018",
    "posetrack21": "PoseTrack21",
    "hieve": "HiEve",
    "challenging-posetrack": "Challenging-PoseTrack",
}


class _Printed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PublishedRow(_Printed):
    """One line of a printed table."""

    label: str
    """The method as printed."""
    cites: str = ""
    """What the row cites, as printed: a number of the paper's references, or names and year."""
    method: str = ""
    """What vidpose calls it; empty where vidpose does not have it."""
    own: bool = False
    """The paper's own method."""
    backbone: str = ""
    """As far as the paper says, like the next two."""
    input_size: list[int] | None = None
    """[height, width]."""
    frames: int | None = None
    scores: list[float | None]
    """In the order of the table's columns; None where the paper has a dash, or for what ``note`` says."""
    note: str = ""
    mean_note: str = ""
    """Why the printed mean is not that of the 15 joints, where rounding does not explain it."""


class PublishedTable(_Printed):
    """One printed table, or the part of it on one data set."""

    name: str
    table: int
    """Its number in the paper."""
    first_line: int = 1
    """Line of the printed table in which the first row stands."""
    title: str
    data: str
    split: str
    task: Literal["estimation", "propagation", "pseudo-labels"] = "estimation"
    columns: list[str] = Field(default_factory=lambda: list(JOINT_COLUMNS))
    note: str = ""
    rows: dict[str, PublishedRow]

    @property
    def by_joint(self) -> bool:
        """Whether it has the field's seven columns and the mean."""
        return tuple(self.columns) == JOINT_COLUMNS

    def scores(self, row: str) -> dict[str, float | None]:
        """A row's numbers by column."""
        return dict(zip(self.columns, self.rows[row].scores, strict=True))

    def line(self, row: str) -> int:
        """Line of the printed table in which a row stands, from 1, without the head."""
        return self.first_line + list(self.rows).index(row)


class Conditions(_Printed):
    """How the paper's scores were made, as far as it says."""

    boxes: str
    weights: str
    silent: str
    """What it does not say."""


class Paper(_Printed):
    """One paper and its tables."""

    name: str
    short: str
    title: str
    conditions: Conditions
    tables: dict[str, PublishedTable]

    def source(self, table: str, row: str) -> str:
        """Where a row is printed: ``TDMI (CVPR 2023), Table 1, line 17``."""
        entry = self.tables[table]
        return f"{self.short}, Table {entry.table}, line {entry.line(row)}"


@cache
def all_papers() -> dict[str, Paper]:
    """The papers by the names that ``vidpose reproduce`` takes."""
    papers = {}
    for name in ("tdmi", "jmpose", "stdpose", "vremd", "sdtc"):
        file = recipe_folder() / "published" / f"{name}.yaml"
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        for table, entry in content["tables"].items():
            entry["name"] = table
        papers[name] = Paper(name=name, **content)
    return papers


def find_paper(name: str) -> Paper:
    """A paper by name, ``JM-Pose`` as ``jmpose``; an unknown one is an :class:`InputError`."""
    papers = all_papers()
    key = re.sub(r"[^a-z0-9]", "", name.lower())
    if key in papers:
        return papers[key]
    near = difflib.get_close_matches(key, papers, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"unknown paper {name!r}: {hint}known: {', '.join(papers)}")


def find_rows(paper: Paper, names: Sequence[str] | None) -> list[tuple[PublishedTable, str]]:
    """Rows by name.

    Args:
        names: ``ROW`` (in every table that has it), ``TABLE/ROW`` or ``TABLE``; None: all rows of all tables.

    Raises:
        InputError: a name that the paper does not have.
    """
    every = [(table, row) for table in paper.tables.values() for row in table.rows]
    if names is None:
        return every
    wanted: set[tuple[str, str]] = set()
    for name in names:
        found = {(t.name, row) for t, row in every if name in (row, f"{t.name}/{row}", t.name)}
        if not found:
            tables = ", ".join(paper.tables)
            rows = dict.fromkeys(row for _, row in every)
            near = difflib.get_close_matches(name.rpartition("/")[2], rows, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"{paper.name} has no row {name!r}: {hint}give ROW, TABLE/ROW or TABLE of `vidpose reproduce "
                f"{paper.name} --list`; its tables: {tables}"
            )
        wanted |= found
    return [(table, row) for table, row in every if (table.name, row) in wanted]


def means_of_row(table: PublishedTable, row: str) -> tuple[float, float] | None:
    """Means (of the 15 joints, of the 7 columns) from a row's printed columns; None where one is missing."""
    columns = {name: value for name, value in table.scores(row).items() if value is not None}
    if not table.by_joint or len(columns) < len(JOINT_COLUMNS):
        return None
    return mean_of_joints(columns), mean_of_columns(columns)


# --- as text ---------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 1) -> str:
    """A score, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def markdown_table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a Markdown table with columns of even width; the first row is the head.

    Args:
        left: so many columns are left-aligned, the others right.
    """
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = [f"{'-' * w} " if i < left else f"{'-' * w}:" for i, w in enumerate(widths)]
    return [lines[0], f"| {'| '.join(rule)}|", *lines[1:]]


def format_published(papers: Sequence[Paper]) -> str:
    """The papers' tables as text: names for ``--rows``, labels, scores, what vidpose calls the method."""
    return "\n".join(line for paper in papers for line in _paper_lines(paper, "")).rstrip()


def published_page() -> str:
    """``docs/published.md``."""
    lines = [
        "# Published tables",
        "",
        "Every results table of the five papers, row by row as printed, from "
        "[recipes/published](../recipes/published); made by",
        "`python -m vidpose.train.published`. [Reproduce](reproduce.md) sets our scores beside them.",
        "",
        "Scores are AP in percent. A dash is a number that the paper does not print, or that a note tells "
        "of. `row` is the",
        "name for `--rows`, `vidpose` the method's name here. The papers compare scores of different boxes, "
        "decoders and weights,",
        "most of which they do not name: rows of one table are not like for like.",
        "",
    ]
    for paper in all_papers().values():
        lines += _paper_lines(paper, "#")
    return "\n".join(lines).rstrip() + "\n"


def _paper_lines(paper: Paper, mark: str) -> Iterator[str]:
    said = paper.conditions
    yield f"{mark}# {paper.short}: {paper.title}".lstrip()
    yield ""
    yield f"Boxes: detected, {said.boxes}. Weights: {said.weights}. Not said: {said.silent}."
    yield ""
    for table in paper.tables.values():
        yield f"{mark}## {table.name}: Table {table.table}, {table.title}".lstrip()
        yield ""
        if table.note:
            yield from (table.note, "")
        rows = [["row", "as printed", "cites", "vidpose", *table.columns]]
        notes = []
        for name, row in table.rows.items():
            label = f"**{row.label}**" if row.own else row.label
            rows.append([name, label, row.cites, row.method or "–", *map(number, row.scores)])
            notes += [f"- {name}: {note}." for note in (row.note, row.mean_note) if note]
        yield from markdown_table(rows, left=4)
        yield ""
        if notes:
            yield from (*notes, "")


if __name__ == "__main__":
    print(published_page(), end="")
