"""Training runs in folders: which are the same one, each trained once, stopped ones continued."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vidpose.errors import InputError
from vidpose.io.files import read_json, write_text
from vidpose.models.factory import model_entry, model_switches
from vidpose.progress import format_seconds
from vidpose.train.recipe import Recipe, load_recipe

PROGRAM = (sys.executable, "-m", "vidpose.cli")


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
        **switch_defaults(recipe.model.name),
        **given,
    }
    sections = ("model", "data", "train", "test")
    flat = {f"{name}.{key}": value for name in sections for key, value in content[name].items()}
    return {key: value for key, value in sorted(flat.items()) if key not in _FREE_KEYS}


def switch_defaults(name: str) -> dict[str, Any]:
    """A model's switches with their defaults, where they have one."""
    defaults: dict[str, Any] = {}
    classes: Any = model_entry(name).load().__mro__
    for cls in reversed(classes):
        for parameter in inspect.signature(cls.__init__).parameters.values():
            if parameter.default is not inspect.Parameter.empty:
                defaults[parameter.name] = parameter.default
    return {switch: defaults[switch] for switch in model_switches(name) if switch in defaults}


def run_identity(recipe: Recipe) -> str:
    """Equal where two runs are the same one."""
    return json.dumps(run_settings(recipe), sort_keys=True)


def stored_recipe(folder: Path) -> Recipe | None:
    """The recipe of a run on disk; None where there is none that this version reads."""
    try:
        return load_recipe(folder / "recipe.yaml")
    except InputError:
        return None


def as_begun(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe of the run in a folder, as it was written when the run began.

    Raises:
        InputError: the folder holds a run with settings other than the recipe's; the keys are named.
    """
    stored = stored_recipe(folder)
    old, new = run_settings(stored) if stored else {}, run_settings(recipe)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if stored is None or changed:
        raise InputError(
            f"{folder}: was run with other settings, {', '.join(changed[:5])} differ: undo that, give "
            "another folder with -o, or delete this one"
        )
    return stored


def check_runs(seeds: Sequence[int], jobs: int) -> list[int]:
    """Each seed once; an :class:`InputError` where there is none, one is below 0, or ``jobs`` is below 1."""
    chosen = list(dict.fromkeys(seeds))
    if not chosen or min(chosen) < 0:
        raise InputError(f"seeds are {chosen}: give at least one, none below 0")
    if jobs < 1:
        raise InputError(f"jobs is {jobs}: it must be at least 1")
    return chosen


def validations(recipe: Recipe) -> str:
    """What a run's score is, in words: the validation set may have chosen it."""
    times = math.ceil(recipe.train.epochs / recipe.train.val_every_epochs)
    return "of the last step" if times == 1 else f"the best of up to {times} validations of a run"


# --- training --------------------------------------------------------------------------------------------


def train_all(
    runs: Sequence[Run], jobs: int, begin: Callable[[Run], None] = lambda run: None
) -> Generator[tuple[Run, str], None, None]:
    """Trains what is not finished; gives each run when it is, with what went wrong ("" where nothing did).

    Args:
        runs: those in one folder are one run.
        jobs: at the same time, each in a process of its own with one thread, if more than 1.
        begin: called with each run right before it is trained.
    """
    waiting: dict[Path, Run] = {}
    for run in runs:
        if run.finished or run.folder in waiting:
            continue  # trained, or about to be, as another row
        waiting[run.folder] = run
    if jobs == 1 and all(run.recipe.train.devices == 1 for run in runs):
        for run in waiting.values():
            yield run, _attempt(_train_here, run, begin)
        return
    processes = _Processes(threads=1 if jobs > 1 else None)
    pool = ThreadPoolExecutor(jobs)
    futures = {pool.submit(_attempt, processes.train, run, begin): run for run in waiting.values()}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        processes.stop()
        pool.shutdown(wait=True)


def _attempt(train: Callable[[Run], None], run: Run, begin: Callable[[Run], None]) -> str:
    """A row that cannot be trained does not keep the others from being trained."""
    try:
        begin(run)
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


class RunProgress:
    """One line per run on standard error."""

    def __init__(self, name: str, runs: Sequence[Run], quiet: bool) -> None:
        self.name, self.quiet = name, quiet
        self.total = len({run.folder for run in runs if not run.finished})
        self.done, self.began = 0, time.monotonic()
        for run in runs:
            if run.finished:
                self._print(run, f"mAP {run_score(run):.2f}, there already in {run.folder}")

    def __call__(self, run: Run, problem: str) -> None:
        self.done += 1
        took = time.monotonic() - self.began
        left = took / self.done * (self.total - self.done)
        of = f"run {self.done} of {self.total}, {format_seconds(took)} so far, {format_seconds(left)} left"
        self._print(run, f"failed: {problem} ({of})" if problem else f"mAP {run_score(run):.2f} ({of})")

    def _print(self, run: Run, text: str) -> None:
        if not self.quiet:
            print(f"{self.name}: {run.row}, seed {run.seed}: {text}", file=sys.stderr, flush=True)


def run_score(run: Run) -> float:
    """mAP of a finished run; NaN where it was not validated."""
    value = read_json(run.folder / "result.json").get("best")
    return math.nan if value is None else float(value)
