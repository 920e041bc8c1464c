"""Ablations: the rows of a paper's table trained and scored, each run once, stopped ones continued."""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vidpose.errors import InputError
from vidpose.io.files import check_writable, read_json, write_json, write_text
from vidpose.models.factory import model_entry, model_switches
from vidpose.progress import format_seconds
from vidpose.train.ablation_tables import AblationResult, Row, Table, compare_rows, find_table
from vidpose.train.recipe import ModelSection, Recipe, load_recipe
from vidpose.train.validation import evaluation_settings

PROGRAM = (sys.executable, "-m", "vidpose.cli")
SINGLE_FRAME_SWITCHES = {"head", "head_width"}
"""What a recipe says of the single-frame model under a method: a row of another model keeps these."""
PATCH = 16  # a scaled input is rounded down to a multiple of it


@dataclass(frozen=True)
class Run:
    """One training run: what it is called, its recipe, and where it is (another table's folder, maybe)."""

    row: str
    seed: int
    recipe: Recipe

    @property
    def folder(self) -> Path:
        return Path(self.recipe.output)

    @property
    def finished(self) -> bool:
        return (self.folder / "result.json").is_file()

    @property
    def begun(self) -> bool:
        return (self.folder / "recipe.yaml").is_file() or (self.folder / "last.ckpt").is_file()


# What may differ between two runs that count as the same one: none of it changes a score.
_FREE_KEYS = {
    "train.num_workers", "train.checkpoint_every_steps", "train.log_every_steps", "train.tensorboard",
    "data.cache",
}  # fmt: skip


def run_settings(recipe: Recipe) -> dict[str, Any]:
    """All that a run's score depends on, by dotted keys, with the model's defaults filled in.

    Two runs are the same one where this is equal, however their recipes were written.
    """
    content = recipe.dump()
    given = {key: value for key, value in content["model"].items() if value is not None}
    entry = model_entry(recipe.model.name)
    content["model"] = {
        "backbone": entry.backbone,
        "num_frames": entry.num_frames,
        "input_size": list(entry.input_size),
        "freeze_backbone": not recipe.train.train_backbone,
        **_switch_defaults(recipe.model.name),
        **given,
    }
    sections = ("model", "data", "train", "test")
    flat = {f"{name}.{key}": value for name in sections for key, value in content[name].items()}
    return {key: value for key, value in sorted(flat.items()) if key not in _FREE_KEYS}


def _switch_defaults(name: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    classes: Any = model_entry(name).load().__mro__
    for cls in reversed(classes):
        for parameter in inspect.signature(cls.__init__).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                defaults[parameter.name] = parameter.default
    return {switch: defaults[switch] for switch in model_switches(name) if switch in defaults}


def _identity(recipe: Recipe) -> str:
    return json.dumps(run_settings(recipe), sort_keys=True)


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
            stored = _stored(file.parent)
            if stored is not None:
                self.known.setdefault(_identity(stored), (file.parent, stored.model))
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
            stored = _stored(own)
            old, new = run_settings(stored) if stored else {}, run_settings(recipe)
            changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
            if stored is None or changed:
                raise InputError(
                    f"{own}: was run with other settings, {', '.join(changed[:5])} differ: undo that, give "
                    "another folder with -o, or delete this one"
                )
            spelt = stored.model
        else:
            folder, spelt = self.known.setdefault(_identity(recipe), (own, recipe.model))
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


def _stored(folder: Path) -> Recipe | None:
    """The recipe of a run on disk; None where there is none that this version reads."""
    try:
        return load_recipe(folder / "recipe.yaml")
    except InputError:
        return None


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
    given, defaults = base.model.model_extra or {}, _switch_defaults(table.model)
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
    seeds = list(dict.fromkeys([base.train.seed] if seeds is None else seeds))
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds are {seeds}: give at least one, none below 0")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}: it must be at least 1")
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
    shown = _Progress(wanted.name, runs, jobs, quiet)
    with closing(_train_all(runs, jobs)) as ended:
        for run, problem in ended:
            shown(run, problem)
            if problem:
                failures.append(f"{run.row} seed {run.seed}: {problem}")
            result = write()
    if failures:
        raise InputError(f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}")
    return result


def _train_all(runs: Sequence[Run], jobs: int) -> Generator[tuple[Run, str], None, None]:
    """Each run when it is finished, with what went wrong ("" where nothing did)."""
    waiting: dict[Path, Run] = {}
    for run in runs:
        if run.finished or run.folder in waiting:
            continue  # trained, or about to be, as another row
        waiting[run.folder] = run
    if jobs == 1 and all(run.recipe.train.devices == 1 for run in runs):
        for run in waiting.values():
            yield run, _attempt(_train_here, run)
        return
    processes = _Processes(threads=1 if jobs > 1 else None)
    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(_attempt, processes.train, run): run for run in waiting.values()}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        processes.stop()
        pool.shutdown(wait=True)


def _attempt(train: Callable[[Run], None], run: Run) -> str:
    """A row that cannot be trained does not keep the others from being trained."""
    try:
        train(run)
    except InputError as error:
        return str(error)
    return ""


def _train_here(run: Run) -> None:
    from vidpose.train.run import train

    train(run.recipe, resume=run.begun, quiet=True)


class _Processes:
    """Runs as processes of their own: ``vidpose train``, with a log beside the run's folder."""

    def __init__(self, threads: int | None) -> None:
        self.environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
        self.running: list[subprocess.Popen[bytes]] = []
        self.stopped = False

    def train(self, run: Run) -> None:
        file = run.folder.with_name(f"{run.folder.name}.yaml")
        log = run.folder.with_name(f"{run.folder.name}.log")
        write_text(file, yaml.safe_dump(run.recipe.dump(), sort_keys=False))
        command = [*PROGRAM, "train", str(file), "--quiet"]
        with open(log, "wb") as out:
            process = subprocess.Popen(
                [*command, *(["--resume"] if run.begun else [])], stdout=out, stderr=out, env=self.environment
            )
            self.running.append(process)
            if self.stopped:
                process.terminate()
            status = process.wait()
        self.running.remove(process)
        if status:
            said = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            if status == 2:
                raise InputError(said.removeprefix("vidpose: "))
            raise RuntimeError(f"{run.row} seed {run.seed} ended with status {status}: {said} (see {log})")

    def stop(self) -> None:
        self.stopped = True
        for process in list(self.running):
            process.terminate()


class _Progress:
    """One line per run on standard error."""

    def __init__(self, table: str, runs: Sequence[Run], jobs: int, quiet: bool) -> None:
        self.table, self.jobs, self.quiet = table, jobs, quiet
        self.total = len({run.folder for run in runs if not run.finished})
        self.done, self.began = 0, time.monotonic()
        for run in runs:
            if run.finished:
                self._print(run, f"mAP {_score(run):.2f}, there already in {run.folder}")

    def __call__(self, run: Run, problem: str) -> None:
        self.done += 1
        took = time.monotonic() - self.began
        left = took / self.done * (self.total - self.done)
        of = f"run {self.done} of {self.total}, {format_seconds(took)} so far, {format_seconds(left)} left"
        self._print(run, f"failed: {problem} ({of})" if problem else f"mAP {_score(run):.2f} ({of})")

    def _print(self, run: Run, text: str) -> None:
        if not self.quiet:
            print(f"{self.table}: {run.row}, seed {run.seed}: {text}", file=sys.stderr, flush=True)


def _score(run: Run) -> float:
    value = read_json(run.folder / "result.json").get("best")
    return math.nan if value is None else float(value)


def _result(planner: Planner, source: str, overrides: list[str], seeds: Sequence[int]) -> AblationResult:
    table, base = planner.table, planner.base
    found = planner.scores(seeds)
    scores = {
        name: {seed: _score(run) for seed, run in by_seed.items() if not math.isnan(_score(run))}
        for name, by_seed in found.items()
    }
    rows = compare_rows(table, scores)
    for row in rows:
        row["folders"] = [str(run.folder) for run in found.get(row["row"], {}).values()]
    settings = evaluation_settings(base)
    settings.pop("seed")
    settings["seeds"] = sorted({seed for by_seed in scores.values() for seed in by_seed} | set(seeds))
    times = math.ceil(base.train.epochs / base.train.val_every_epochs)
    settings["score"] = (
        "of the last step" if times == 1 else f"the best of up to {times} validations of a run"
    )
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
