"""Reproducing a paper's tables: the plan, the runs, and our scores beside the printed ones."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from vidpose.data.layouts import LAYOUTS
from vidpose.device import processor_name
from vidpose.errors import InputError
from vidpose.evaluate.table import COLUMNS, MEAN, mean_of_columns
from vidpose.io.files import check_writable, read_json, write_json, write_text
from vidpose.models.backbones import backbone_family
from vidpose.models.factory import model_entry
from vidpose.train.published import (
    JOINT_COLUMNS,
    Paper,
    find_paper,
    find_rows,
    markdown_table,
    number,
)
from vidpose.train.recipe import Recipe
from vidpose.train.reproduce_plan import (
    NO_METHOD,
    Choices,
    PlannedRow,
    check_data_name,
    check_overrides,
    find_data,
    plan_rows,
)
from vidpose.train.runs import Run, RunProgress, check_runs, run_score, train_all, validations
from vidpose.train.validation import evaluation_settings

MACHINE = "machine.json"
"""In a run's folder: what it was computed on."""
_VIDEOS = {"posetrack17": 50, "posetrack18": 170}
"""Videos of the validation split, as TDMI's section 4.1 counts them."""


@dataclass
class ReproduceResult:
    """A paper's tables with our scores in them."""

    paper: str
    source: str
    runs: dict[str, int]
    """Numbers of rows that can be run, of runs, of those finished."""
    tables: list[dict[str, Any]] = field(default_factory=list)
    not_run: list[dict[str, str]] = field(default_factory=list)
    """Rows that cannot be run, and why."""
    files: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return format_reproduction(self)


def reproduce(
    paper: str,
    data: Sequence[str] | None = None,
    output: str | os.PathLike[str] = "runs/reproduce",
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    init: Sequence[str] = (),
    boxes: Sequence[str] = (),
    jobs: int = 1,
    dry_run: bool = False,
    quiet: bool = False,
    tell: Callable[[str], None] = lambda plan: None,
) -> ReproduceResult:
    """Trains and scores the rows of a paper's tables, and sets our scores beside the printed ones.

    Args:
        paper: tdmi, jmpose, stdpose, vremd or sdtc.
        data: as in :func:`vidpose.train.reproduce_plan.find_data`.
        output: every run is ``OUTPUT/DATASET/METHOD/seedN``, the same for all papers; ``OUTPUT/PAPER.md`` and
            ``.json`` are written anew after each run.
        overrides: ``key=value`` for all rows that they fit.
        rows: ``ROW``, ``TABLE/ROW`` or ``TABLE``; default: all that can be run.
        seeds: of each row.
        init: ``FILE`` or ``BACKBONE=FILE``: single-frame weights to start from.
        boxes: ``FILE`` or ``DATASET=FILE``: detected boxes of the validation split; default: ground truth.
        jobs: runs at the same time, each in a process of its own with one thread, if more than 1.
        dry_run: plan only; nothing is trained or written.
        quiet: no line per run.
        tell: gets the plan as text before anything runs.

    Raises:
        InputError: before anything runs, names, data, weights or the folder do not fit, or nothing can be
            run; after everything else has run, some runs failed.
    """
    wanted = find_paper(paper)
    chosen = find_rows(wanted, rows)
    check_overrides(overrides)
    folder = Path(output)
    choices = Choices(
        folder,
        find_data(data),
        tuple(check_runs(seeds, jobs)),
        tuple(overrides),
        _by_name("--init", init, backbone_family),
        _by_name("--boxes", boxes, check_data_name),
    )
    planned = plan_rows(chosen, choices)
    tell(format_plan(wanted, planned))
    if dry_run:
        return _result(wanted, planned, choices)
    _refuse(wanted, planned, rows)
    check_writable(folder)

    def write() -> ReproduceResult:
        result = _result(wanted, planned, choices)
        write_json(folder / f"{wanted.name}.json", result.to_dict(), indent=1)
        write_text(folder / f"{wanted.name}.md", f"{result}\n")
        return result

    result = write()
    first = _distinct([row.needs for row in planned if row.needs is not None])
    then = _distinct([run for row in planned for run in row.runs], but=first)
    shown = RunProgress(wanted.name, [*first, *then], quiet)
    failures: dict[Path, str] = {}
    for stage in (first, then):
        blocked = {
            run.folder for row in planned if row.needs and row.needs.folder in failures for run in row.runs
        }
        ready = [run for run in stage if run.folder not in blocked]
        for run in stage:
            if run.folder in blocked and not run.finished:
                failures[run.folder] = f"{run.row} seed {run.seed}: the run that it starts from failed"
        with closing(train_all(ready, jobs, _note_machine)) as ended:
            for run, problem in ended:
                shown(run, problem)
                if problem:
                    failures[run.folder] = f"{run.row} seed {run.seed}: {problem}"
                result = write()
    if failures:
        total = len(first) + len(then)
        raise InputError(f"{len(failures)} of {total} runs failed: {'; '.join(failures.values())}")
    return result


def _by_name(option: str, texts: Sequence[str], check: Callable[[str], Any]) -> dict[str, str]:
    """``NAME=FILE`` or ``FILE`` -> files by name, "" where none is named.

    Args:
        check: raises an :class:`InputError` for a name that is not known.
    """
    out: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        key, value = (name, file) if equals else ("", text)
        if key:
            check(key)
        if key in out:
            raise InputError(f"{option} {text}: {out[key]} was given for the same")
        out[key] = value
    return out


def _refuse(paper: Paper, planned: Sequence[PlannedRow], names: Sequence[str] | None) -> None:
    """A row that was asked for by its name and cannot be run; or nothing that can be run."""
    for row in planned:
        if row.reason and names and {row.name, row.full_name} & set(names):
            if any(other.runs and other.name == row.name for other in planned) and row.full_name not in names:
                continue  # in another table it can be
            raise InputError(f"{paper.name}: row {row.full_name} cannot be run: {row.reason}")
    if not any(row.runs for row in planned):
        reasons = "; ".join(dict.fromkeys(row.reason for row in planned if row.row.method))
        raise InputError(f"{paper.name}: none of the rows can be run: {reasons or planned[0].reason}")


def _distinct(runs: Sequence[Run], but: Sequence[Run] = ()) -> list[Run]:
    folders = {run.folder for run in but}
    out = []
    for run in runs:
        if run.folder not in folders:
            folders.add(run.folder)
            out.append(run)
    return out


def _note_machine(run: Run) -> None:
    """What a run is computed on; one that continues on another machine names both."""
    file = run.folder / MACHINE
    known = read_json(file) if file.is_file() else []
    here = machine(run.recipe)
    if here not in known:
        write_json(file, [*known, here], indent=1)


def machine(recipe: Recipe) -> str:
    """Name of the processor that a recipe's run uses here, and PyTorch's version."""
    if torch.cuda.is_available() and recipe.train.accelerator in ("auto", "gpu", "cuda"):
        name = torch.cuda.get_device_name()
    else:
        name = processor_name()
    return f"{name}, torch {torch.__version__}"


# --- the plan as text ------------------------------------------------------------------------------------


def format_plan(paper: Paper, planned: Sequence[PlannedRow]) -> str:
    """Which rows are run, by which recipe, how many runs that is, and which rows are not run and why."""
    first = _distinct([row.needs for row in planned if row.needs is not None])
    runs = _distinct([run for row in planned for run in row.runs], but=first)
    every = [*first, *runs]
    done = sum(run.finished for run in every)
    rows = sum(bool(row.runs) for row in planned)
    lines = [
        f"{paper.short}: {_count(rows, 'row')} of {len(planned)} can be run; {_count(len(every), 'run')}, "
        f"{done} of them finished"
    ]
    tables = list({row.table.name: row.table for row in planned}.values())
    for table in tables:
        mine = [row for row in planned if row.table is table and row.runs]
        if not mine:
            continue
        lines.append(f"  {table.name}, Table {table.table}: {mine[0].runs[0].recipe.data.root}")
        for row in mine:
            seeds = ", ".join(f"seed {run.seed}{' (finished)' if run.finished else ''}" for run in row.runs)
            start = (
                f"run {row.needs.row}"
                if row.needs
                else row.runs[0].recipe.train.init_from or "random weights"
            )
            lines.append(f"    {row.name}: {row.recipe}, {seeds}, from {start}")
    extra = _distinct(first, but=[run for row in planned for run in row.runs])
    if extra:
        lines.append("  trained first, for what starts from them")
        lines += [f"    {run.row}: from {run.recipe.train.init_from or 'random weights'}" for run in extra]
    reasons = _reasons([(row.full_name, row.reason) for row in planned if row.reason])
    if reasons:
        lines += ["  not run", *(f"    {reason}" for reason in reasons)]
    return "\n".join(lines)


def _reasons(rows: Sequence[tuple[str, str]]) -> list[str]:
    """``reason: table: row, row; table: row``, what is no method of ours last."""
    grouped: dict[str, dict[str, list[str]]] = {}
    for name, reason in sorted(rows, key=lambda row: row[1] == NO_METHOD):
        table, _, row = name.partition("/")
        grouped.setdefault(reason, {}).setdefault(table, []).append(row)
    return [
        f"{reason}: " + "; ".join(f"{table} ({', '.join(names)})" for table, names in tables.items())
        for reason, tables in grouped.items()
    ]


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


# --- the result ------------------------------------------------------------------------------------------


def _result(paper: Paper, planned: Sequence[PlannedRow], choices: Choices) -> ReproduceResult:
    every = _distinct([run for row in planned for run in (*filter(None, [row.needs]), *row.runs)])
    tables = []
    for table in {row.table.name: row.table for row in planned}.values():
        mine = [row for row in planned if row.table is table and row.runs]
        if not mine:
            continue
        tables.append(
            {
                "table": table.name,
                "number": table.table,
                "title": table.title,
                "data": table.data,
                "split": table.split,
                "rows": [_row_result(paper, row) for row in mine],
                "notes": _notes(paper, mine, choices),
            }
        )
    done = sum(run.finished for run in every)
    return ReproduceResult(
        paper=paper.name,
        source=f"{paper.short}: {paper.title}",
        runs={"rows": sum(bool(row.runs) for row in planned), "runs": len(every), "finished": done},
        tables=tables,
        not_run=[{"row": row.full_name, "reason": row.reason} for row in planned if row.reason],
        files=[str(choices.output / f"{paper.name}{suffix}") for suffix in (".md", ".json")],
    )


def _row_result(paper: Paper, row: PlannedRow) -> dict[str, Any]:
    runs = {run.seed: run for run in row.runs if run.finished and not math.isnan(run_score(run))}
    found = {seed: _scores(run) for seed, run in runs.items()}
    ours: dict[str, float | None] = {}
    for column in JOINT_COLUMNS:
        values = [scores[column] for scores in found.values() if column in scores]
        ours[column] = statistics.mean(values) if values and len(values) == len(found) else None
    means = [scores[MEAN] for scores in found.values()]
    columns = {name: value for name, value in ours.items() if value is not None}
    printed = row.table.scores(row.name)
    return {
        "row": row.name,
        "label": row.row.label,
        "source": paper.source(row.table.name, row.name),
        "recipe": row.recipe,
        "paper": printed,
        "ours": ours if found else None,
        "ours_sd": statistics.stdev(means) if len(means) > 1 else None,
        "ours_mean_of_columns": mean_of_columns(columns) if columns.keys() >= COLUMNS.keys() else None,
        "difference": {name: _minus(ours[name], printed[name]) for name in JOINT_COLUMNS} if found else None,
        "by_seed": {str(seed): scores[MEAN] for seed, scores in found.items()},
        "state": "finished"
        if len(runs) == len(row.runs)
        else f"{len(runs)} of {len(row.runs)} runs finished",
        "settings": _settings(row),
        "hardware": _machines(row.runs),
        "folders": [str(run.folder) for run in row.runs],
        "notes": [*_row_notes(row), *row.notes, *filter(None, [row.row.note, row.row.mean_note])],
    }


def _minus(ours: float | None, paper: float | None) -> float | None:
    return None if ours is None or paper is None else ours - paper


def _scores(run: Run) -> dict[str, float]:
    stored = read_json(run.folder / "result.json")["scores"]
    return {MEAN: run_score(run), **{name: float(stored[name]) for name in COLUMNS if name in stored}}


def _settings(row: PlannedRow) -> dict[str, Any]:
    recipe = row.runs[0].recipe
    settings = evaluation_settings(recipe)
    settings.pop("seed")
    settings["seeds"] = ", ".join(str(run.seed) for run in row.runs)
    settings["score"] = validations(recipe)
    return settings


def _machines(runs: Sequence[Run]) -> list[str]:
    files = [run.folder / MACHINE for run in runs]
    return list(dict.fromkeys(name for file in files if file.is_file() for name in read_json(file)))


def _row_notes(row: PlannedRow) -> list[str]:
    """Where the model that is run is not what the paper says of its own."""
    printed, recipe = row.row, row.runs[0].recipe
    entry = model_entry(recipe.model.name)
    backbone = recipe.model.backbone or entry.backbone
    size = list(recipe.model.input_size or entry.input_size)
    frames = 1 if entry.num_frames == 1 else recipe.model.num_frames or entry.num_frames
    notes = []
    if printed.backbone and not _same_backbone(printed.backbone, backbone):
        notes.append(f"backbone {backbone}, the paper's is {printed.backbone}")
    if printed.input_size and printed.input_size != size:
        notes.append(
            f"input {size[0]}x{size[1]}, the paper's is {printed.input_size[0]}x{printed.input_size[1]}"
        )
    if printed.frames and printed.frames != frames:
        notes.append(f"{_count(frames, 'frame')}, the paper has {printed.frames}")
    return notes


def _same_backbone(printed: str, ours: str) -> bool:
    """``HRNet-W48`` is hrnet_w48, ``ViT`` any vit."""
    name = printed.lower().replace("-", "_")
    return ours in (name, name.replace("_", "")) or ("_" not in name and ours.startswith(f"{name}_"))


def _notes(paper: Paper, rows: Sequence[PlannedRow], choices: Choices) -> list[str]:
    """What a reader must know before comparing: data, boxes, weights, decoder, hardware, changes."""
    said, table = paper.conditions, rows[0].table
    recipes = {row.name: row.runs[0].recipe for row in rows}
    data = next(iter(recipes.values())).data
    files = [
        sum(1 for _ in (run.folder / "validation" / "truth").glob("*.json")) for r in rows for run in r.runs
    ]
    videos = max(files, default=0)
    told = f"{_count(videos, 'video')} scored" if videos else "not scored yet"
    stated = f", of {_VIDEOS[table.data]} that the papers count" if table.data in _VIDEOS else ""
    notes = [f"Data: ours {data.root}, split {data.val_split}, {told}{stated}."]
    boxes = _told(recipes, lambda r: evaluation_settings(r)["boxes"])
    gap = (
        ": scores on ground-truth boxes are some 7 mAP higher than on detected ones"
        if "truth" in boxes
        else ""
    )
    notes.append(f"Boxes: ours {boxes}; the paper's are detected, {said.boxes}, and not published{gap}.")
    threshold = _told(recipes, lambda r: evaluation_settings(r)["box_threshold"])
    decoder = _told(
        recipes, lambda r: f"decoder {r.test.decoder}, flip test {'yes' if r.test.flip else 'no'}"
    )
    notes.append(f"Ours: box threshold {threshold}, {decoder}; the paper does not say: {said.silent}.")
    starts = {row.name: _start_told(row) for row in rows}
    notes.append(f"Weights: ours start from {_told_values(starts)}; the paper's own from {said.weights}.")
    protocol, seeds = LAYOUTS[table.data].protocol, ", ".join(map(str, choices.seeds))
    notes.append(f"Score: by protocol {protocol}, {_told(recipes, validations)}; seeds {seeds}.")
    if subsets := {evaluation_settings(r).get("subset") for r in recipes.values()} - {None}:
        notes.append(f"Scored on a part of the split: {'; '.join(sorted(map(str, subsets)))}.")
    machines = _machines([run for row in rows for run in row.runs])
    notes.append(f"Hardware: ours {'; '.join(machines) or 'not run yet'}.")
    changes = " ".join(f"`{text}`" for text in choices.overrides)
    used = ", ".join(dict.fromkeys(row.recipe for row in rows))
    notes.append(f"Recipes: {used}{f', changed by {changes}' if changes else ', as shipped'}.")
    if any(not row.row.own for row in rows):
        notes.append(
            f"Rows that are not {paper.short}'s own are mostly numbers that it copied from other papers; "
            "ours are all trained here."
        )
    return notes


def _start_told(row: PlannedRow) -> str:
    if row.needs is None:
        return row.runs[0].recipe.train.init_from or "random weights"
    start = row.needs.recipe.train.init_from or "random weights"
    return f"{start}, fine-tuned on this data set ({row.needs.row})"


def _told(recipes: dict[str, Recipe], what: Callable[[Recipe], Any]) -> str:
    return _told_values({name: str(what(recipe)) for name, recipe in recipes.items()})


def _told_values(values: dict[str, str]) -> str:
    """One value, or each with the rows that have it."""
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    if len(groups) == 1:
        return next(iter(groups))
    return "; ".join(f"{value} ({', '.join(names)})" for value, names in groups.items())


def format_reproduction(result: ReproduceResult) -> str:
    """The result as Markdown."""
    counts = result.runs
    done = f"{counts['finished']} of {_count(counts['runs'], 'run')} finished"
    told = f"{done}, for {_count(counts['rows'], 'row')}. AP in percent; Mean is that of the 15 joints."
    lines = [f"# {result.source}", "", told]
    for table in result.tables:
        lines += ["", f"## {table['table']}: Table {table['number']}, {table['title']}", ""]
        lines += ["  \n".join(table["notes"]), ""]
        rows = [["row", "", *JOINT_COLUMNS]]
        notes = []
        for row in table["rows"]:
            paper, ours = row["paper"], row["ours"] or dict.fromkeys(JOINT_COLUMNS)
            rows.append([row["label"], "paper", *(number(paper[c]) for c in JOINT_COLUMNS)])
            mean = [number(ours[c]) for c in JOINT_COLUMNS]
            if row["ours_sd"] is not None:
                mean[-1] += f" ± {row['ours_sd']:.1f}"
            rows.append(["", "ours", *mean])
            rows.append(["", "difference", *(_difference(ours[c], paper[c]) for c in JOINT_COLUMNS)])
            notes += [f"- {row['row']}: {note}." for note in row["notes"]]
            if row["ours"] is None:
                notes.append(f"- {row['row']}: not run yet.")
            elif row["state"] != "finished":
                notes.append(f"- {row['row']}: {row['state']}.")
            if row["ours_mean_of_columns"] is not None:
                notes.append(
                    f"- {row['row']}: our mean of the 7 columns is {row['ours_mean_of_columns']:.1f}."
                )
        lines += markdown_table(rows, left=2)
        if notes:
            lines += ["", *notes]
    if result.not_run:
        reasons = _reasons([(entry["row"], entry["reason"]) for entry in result.not_run])
        lines += ["", "## Not run", "", *(f"- {reason}." for reason in reasons)]
    return "\n".join(lines)


def _difference(ours: float | None, paper: float | None) -> str:
    gap = _minus(ours, paper)
    return "–" if gap is None else f"{gap:+.1f}"
