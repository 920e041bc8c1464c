"""The papers' ablation tables as data, and the report that sets our scores beside the printed ones."""

from __future__ import annotations

import difflib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidpose.errors import InputError
from vidpose.train.recipe import parse_yaml, recipe_folder


class Row(BaseModel):
    """One line of a printed table."""

    model_config = ConfigDict(extra="forbid")

    label: str
    """As printed."""
    paper: float
    """The printed score."""
    settings: dict[str, Any] = Field(default_factory=dict, alias="set")
    """What differs from the full method, by dotted keys of the recipe. Another ``model.name`` drops the
    recipe's switches, which are not that model's."""
    baseline: bool = False
    """A single-frame model: its head on the same backbone, trained as every row is."""
    input_scale: float | None = None
    """Multiple of the recipe's input size."""
    note: str = ""
    skip: str = ""
    """Why the row cannot be run."""


class Table(BaseModel):
    """One printed table."""

    model_config = ConfigDict(extra="forbid")

    name: str
    paper: str
    model: str
    data: str
    metric: str
    table: int
    """Its number in the paper."""
    title: str
    full: str
    """Name of the row that is the whole method."""
    note: str = ""
    settings: dict[str, Any] = Field(default_factory=dict, alias="set")
    """What every row but baselines has, besides its own."""
    rows: dict[str, Row]

    @model_validator(mode="after")
    def _settings_of_rows(self) -> Table:
        for row in self.rows.values():
            if not row.baseline:
                row.settings = {**self.settings, **row.settings}
        return self


@cache
def all_tables() -> dict[str, Table]:
    """Every table that ``vidpose ablate --table`` takes, by name."""
    tables: dict[str, Table] = {}
    for file in sorted((recipe_folder() / "ablations").glob("*.yaml")):
        content = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        for name, table in content.pop("tables").items():
            tables[name] = Table(name=name, **{**content, **table})
    return tables


def find_table(name: str) -> Table:
    """A table by name; an unknown one is an :class:`InputError` with the nearest known one."""
    tables = all_tables()
    if name not in tables:
        near = difflib.get_close_matches(name, tables, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"unknown table {name!r}: {hint}known: {', '.join(tables)}")
    return tables[name]


def find_tables(name: str | None = None) -> list[Table]:
    """One table, or all of them."""
    return list(all_tables().values()) if name is None else [find_table(name)]


def format_tables(tables: Sequence[Table]) -> str:
    """Tables with their rows, as text."""
    lines: list[str] = []
    for table in tables:
        lines += [f"{table.name}: {table.title} ({table.paper.partition(':')[0]}, Table {table.table})"]
        for name, row in table.rows.items():
            told = f"not run: {row.skip}" if row.skip else _changes(row)
            full = "  <- the full method" if name == table.full else ""
            lines.append(f"  {name:22}{row.paper:6.1f}  {row.label}  [{told}]{full}")
    return "\n".join(lines)


def _changes(row: Row) -> str:
    """``model.rdm=false``, in the words of a recipe's overrides."""
    changes = [f"{key}={json.dumps(value).strip(chr(34))}" for key, value in row.settings.items()]
    if row.input_scale is not None:
        changes.append(f"model.input_size x {row.input_scale:g}")
    return ", ".join(changes) or "as the recipe is"


# --- scores beside the printed ones ----------------------------------------------------------------------


def compare_rows(table: Table, scores: Mapping[str, Mapping[int, float]]) -> list[dict[str, Any]]:
    """Every row of the table: printed and own score, differences to the full method, agreement of signs.

    Differences are taken seed by seed (the same seed: the same order of samples, the same augmentation). A
    difference of at most two standard errors is "within noise", a rule of thumb and no test; with one seed
    the noise is not known, and the sign alone decides.

    Args:
        scores: by row and seed; rows without scores are told as not run.
    """
    full = scores.get(table.full, {})
    out = []
    for name, row in table.rows.items():
        own = scores.get(name, {})
        values = list(own.values())
        gaps = [own[seed] - full[seed] for seed in sorted(own.keys() & full.keys())]
        is_full = name == table.full
        printed = None if is_full else round(row.paper - table.rows[table.full].paper, 2)
        difference = statistics.mean(gaps) if gaps and not is_full else None
        error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 and not is_full else None
        out.append(
            {
                "row": name,
                "label": row.label,
                "changes": _changes(row),
                "paper": row.paper,
                "paper_difference": printed,
                "ours": statistics.mean(values) if values else None,
                "ours_sd": statistics.stdev(values) if len(values) > 1 else None,
                "by_seed": {str(seed): own[seed] for seed in sorted(own)},
                "difference": difference,
                "difference_error": error,
                "sign": "" if printed is None else _sign(printed, difference, error),
                "full": is_full,
                "note": row.note,
                "skip": row.skip,
            }
        )
    return out


def _sign(printed: float, difference: float | None, error: float | None) -> str:
    if difference is None:
        return ""
    if printed == 0:
        return "none printed"
    if abs(difference) <= 2 * (error or 0.0):
        return "within noise"
    return "agrees" if (difference > 0) == (printed > 0) else "disagrees"


@dataclass
class AblationResult:
    """A table with our scores in it."""

    table: str
    paper: str
    printed: dict[str, Any]
    """Number and title of the table, data set and metric of its scores."""
    recipe: str
    overrides: list[str]
    settings: dict[str, Any]
    """Boxes, decoder, flip test, seeds, and how many times each run was scored."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    disagree: list[str] = field(default_factory=list)
    """Rows whose difference to the full method has the other sign than the printed one."""
    note: str = ""
    files: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return format_report(self)


def format_report(result: AblationResult) -> str:
    """The result as Markdown."""
    printed = result.printed
    metric = printed["metric"]
    seeds = result.settings["seeds"]
    recipe = f"`{result.recipe}`" + "".join(f" `{change}`" for change in result.overrides)
    told = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in result.settings.items())
    lines = [
        f"# {result.table}",
        "",
        f"{result.paper}, Table {printed['table']}: {printed['title']}.",
        f"Paper: {metric} on {printed['data']}. Ours: recipe {recipe}; {told}.",
        *([result.note] if result.note else []),
        "",
        f"| row | as printed | change | paper {metric} | paper's difference | our {metric} | "
        "our difference | by seed | sign |",
        "| --- | --- | --- | --: | --: | --: | --: | --- | --- |",
    ]
    for row in result.rows:
        state = row["sign"] or ("not run" if row["ours"] is None else "full method" if row["full"] else "")
        cells = [
            f"**{row['row']}**" if row["full"] else row["row"],
            row["label"],
            row["changes"],
            f"{row['paper']:.1f}",
            _number(row["paper_difference"], signed=True),
            _number(row["ours"], row["ours_sd"]),
            _number(row["difference"], row["difference_error"], signed=True),
            " ".join(f"{value:.1f}" for value in row["by_seed"].values()),
            "skipped" if row["skip"] else state,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    lines += ["", f"Rows that disagree in sign: {', '.join(result.disagree) or 'none'}."]
    if len(seeds) > 1:
        lines.append(
            f"Our {metric}: mean ± standard deviation over seeds. Our difference to the full method: mean ± "
            "standard error over the seeds that both have, seed by seed; at most two standard errors: within "
            "noise."
        )
    else:
        lines.append("One seed: the noise is not known, and only signs are compared.")
    if all(not row["by_seed"] for row in result.rows if row["full"]):
        lines.append("The full method has not been run: there are no differences to it.")
    notes = [
        f"- {row['row']}: {row['note'] or row['skip']}" for row in result.rows if row["note"] or row["skip"]
    ]
    baselines = [row["row"] for row in result.rows if find_table(result.table).rows[row["row"]].baseline]
    if baselines:
        notes.append(
            f"- {', '.join(baselines)}: a single-frame model on the same backbone, frozen as in the other "
            "rows; its head starts from the same weights and is trained as every row is"
        )
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def _number(value: float | None, spread: float | None = None, *, signed: bool = False) -> str:
    if value is None:
        return "–"
    text = f"{value:+.1f}" if signed else f"{value:.1f}"
    return text if spread is None else f"{text} ± {spread:.1f}"
