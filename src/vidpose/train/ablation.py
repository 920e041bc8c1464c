"""Ablations: the rows of a paper's table trained and scored, each run once, stopped ones continued."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from vidpose.errors import InputError
from vidpose.io.files import check_writable, write_json, write_text
from vidpose.models.factory import model_entry, model_switches
from vidpose.train.ablation_tables import AblationResult, Row, Table, compare_rows, find_table
from vidpose.train.recipe import ModelSection, Recipe, load_recipe
from vidpose.train.runs import (
    Run,
    RunProgress,
    as_begun,
    check_runs,
    run_identity,
    run_score,
    stored_recipe,
    switch_defaults,
    train_all,
    validations,
)
from vidpose.train.validation import evaluation_settings

SINGLE_FRAME_SWITCHES = {"head", "head_width"}
"""What a recipe says of the single-frame model under a method: a row of another model keeps these."""
PATCH = 16  # a scaled input is rounded down to a multiple of it


def row_recipe(base: Recipe, row: Row, seed: int, output: Path) -> Recipe:
    """The recipe of one row and seed."""
    content = base.model_dump(exclude_none=True)
    entry = model_entry(base.model.name)
    model = content["model"]
    name = row.settings.get("model.name", base.model.name)
    if name != base.model.name:
        switches = set(base.model.model_extra or {}) - SINGLE_FRAME_SWITCHES
        model = {key: value for key, value in model.items() if key not in switches}
        # The same backbone and crops, not the other model's defaults.
        model = {"backbone": entry.backbone, "input_size": list(entry.input_size), **model}
        if model_entry(name).num_frames == 1:
            model.pop("num_frames", None)
        content["model"] = model
    if row.input_scale is not None:
        sides = model.get("input_size", entry.input_size)
        model["input_size"] = [int(side * row.input_scale) // PATCH * PATCH for side in sides]
    changes = {**row.settings, "train.seed": seed, "output": str(output)}
    overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    return load_recipe(Recipe.model_validate(content), overrides)


class Planner:
    """Where the runs of a table are, given what is already in an output folder.

    Args:
        table: the table.
        base: the recipe that its rows change.
        output: folder of all tables; run folders are ``OUTPUT/TABLE/ROW/seedN``.
    """

    def __init__(self, table: Table, base: Recipe, output: Path) -> None:
        self.table, self.base, self.output = table, base, output
        self.known: dict[str, tuple[Path, ModelSection]] = {}
        """Folder and spelling of every run, on disk or planned, by what its score depends on."""
        self.seeds: set[int] = set()
        """Of every run in the folder."""
        for file in sorted(output.glob("*/*/seed*/recipe.yaml")):
            stored = stored_recipe(file.parent)
            if stored is not None:
                self.known.setdefault(run_identity(stored), (file.parent, stored.model))
                self.seeds.add(stored.train.seed)

    def run(self, name: str, seed: int) -> Run:
        """The run of a row: in its own folder, or in that of an identical run of any table.

        Raises:
            InputError: the row's own folder holds a run with other settings.
        """
        own = self.output / self.table.name / name / f"seed{seed}"
        recipe = row_recipe(self.base, self.table.rows[name], seed, own)
        folder, spelt = own, recipe.model
        if (own / "recipe.yaml").is_file():
            spelt = as_begun(own, recipe).model
        else:
            folder, spelt = self.known.setdefault(run_identity(recipe), (own, recipe.model))
        # A run continues only with the model as it was written when it began.
        return Run(name, seed, recipe.model_copy(update={"output": str(folder), "model": spelt}))

    def scores(self, seeds: Sequence[int]) -> dict[str, dict[int, Run]]:
        """Finished runs by row and seed, of these seeds and of all others in the folder."""
        found: dict[str, dict[int, Run]] = {}
        for name, row in self.table.rows.items():
            for seed in [] if row.skip else sorted({*seeds, *self.seeds}):
                try:
                    run = self.run(name, seed)
                except InputError:
                    continue  # not asked for this time, and run with other settings
                if run.finished:
                    found.setdefault(name, {})[seed] = run
        return found


def _chosen_rows(table: Table, names: Sequence[str] | None) -> list[str]:
    for name in names or ():
        if name not in table.rows:
            raise InputError(f"{table.name} has no row {name!r}; it has: {', '.join(table.rows)}")
        if table.rows[name].skip:
            raise InputError(f"{table.name}: row {name} cannot be run: {table.rows[name].skip}")
    chosen = [name for name, row in table.rows.items() if (not names or name in names) and not row.skip]
    if not chosen:
        reasons = dict.fromkeys(row.skip for row in table.rows.values())
        raise InputError(f"{table.name}: none of its rows can be run: {'; '.join(reasons)}")
    return chosen


def _check_recipe(table: Table, base: Recipe, source: str) -> None:
    """A recipe fits a table if it trains the table's full method."""
    if base.model.name != table.model:
        raise InputError(
            f"{table.name} is a table of {table.model}, the recipe {source} trains {base.model.name}"
        )
    given, defaults = base.model.model_extra or {}, switch_defaults(table.model)
    unknown = [switch for switch in given if switch not in model_switches(table.model)]
    if unknown:
        raise InputError(f"{source}: {table.model} has no switch {unknown[0]}")
    for switch, value in given.items():
        key = f"model.{switch}"
        own = [row for row in table.rows.values() if "model.name" not in row.settings and not row.skip]
        by_row = [key in row.settings for row in own]
        if any(by_row) and not all(by_row) and value != defaults.get(switch):
            raise InputError(
                f"{source}: sets {key}={value}, which the rows of {table.name} switch: leave it out"
            )


# --- running ---------------------------------------------------------------------------------------------


def ablate(
    recipe: str | os.PathLike[str] | Recipe,
    table: str,
    output: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    jobs: int = 1,
    quiet: bool = False,
) -> AblationResult:
    """Trains and scores the rows of a paper's ablation table; a stopped one continues where it was.

    Args:
        recipe: as in :func:`vidpose.train.run.train`; it trains the table's full method.
        table: a name of :func:`vidpose.train.ablation_tables.all_tables`.
        output: every run is ``OUTPUT/TABLE/ROW/seedN``, or the identical run of another row or table in this
            folder; ``OUTPUT/TABLE.md`` and ``.json`` are written anew after each run.
        overrides: ``key=value`` for all rows.
        rows: names of the rows to run; default: all that can be run.
        seeds: of each row; default: the recipe's.
        jobs: runs at the same time, each in a process of its own with one thread, if more than 1.
        quiet: no line per run.

    Raises:
        InputError: before anything runs, recipe, table, rows and folder do not fit; after everything else
            has run, some runs failed.
    """
    source = str(recipe) if not isinstance(recipe, Recipe) else "recipe"
    wanted = find_table(table)
    base = load_recipe(recipe, list(overrides))
    _check_recipe(wanted, base, source)
    names = _chosen_rows(wanted, rows)
    seeds = check_runs([base.train.seed] if seeds is None else seeds, jobs)
    folder = Path(output)
    check_writable(folder)
    planner = Planner(wanted, base, folder)
    # Seed by seed, so that the first whole table is there early.
    runs = [planner.run(name, seed) for seed in seeds for name in names]

    def write() -> AblationResult:
        result = _result(planner, source, list(overrides), seeds)
        write_json(folder / f"{table}.json", result.to_dict(), indent=1)
        write_text(folder / f"{table}.md", f"{result}\n")
        return result

    result = write()
    failures: list[str] = []
    shown = RunProgress(wanted.name, runs, quiet)
    with closing(train_all(runs, jobs)) as ended:
        for run, problem in ended:
            shown(run, problem)
            if problem:
                failures.append(f"{run.row} seed {run.seed}: {problem}")
            result = write()
    if failures:
        raise InputError(f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}")
    return result


def _result(planner: Planner, source: str, overrides: list[str], seeds: Sequence[int]) -> AblationResult:
    table, base = planner.table, planner.base
    found = planner.scores(seeds)
    scores = {
        name: {seed: run_score(run) for seed, run in by_seed.items() if not math.isnan(run_score(run))}
        for name, by_seed in found.items()
    }
    rows = compare_rows(table, scores)
    for row in rows:
        row["folders"] = [str(run.folder) for run in found.get(row["row"], {}).values()]
    settings = evaluation_settings(base)
    settings.pop("seed")
    settings["seeds"] = sorted({seed for by_seed in scores.values() for seed in by_seed} | set(seeds))
    settings["score"] = validations(base)
    settings["data"] = f"{Path(base.data.val_root or base.data.root).name}, split {base.data.val_split}"
    return AblationResult(
        table=table.name,
        paper=table.paper,
        printed={"table": table.table, "title": table.title, "data": table.data, "metric": table.metric},
        recipe=source,
        overrides=overrides,
        settings=settings,
        rows=rows,
        disagree=[row["row"] for row in rows if row["sign"] == "disagrees"],
        note=table.note,
        files=[str(planner.output / f"{table.name}{suffix}") for suffix in (".md", ".json")],
    )
