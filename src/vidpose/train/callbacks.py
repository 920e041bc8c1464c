"""Around the training loop: randomness per step, averaged weights, logs, validation, checkpoints."""

from __future__ import annotations

import csv
import io
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn

from vidpose.errors import InputError
from vidpose.io.files import write_text
from vidpose.progress import PLAIN_INTERVAL_S, format_seconds
from vidpose.train.module import step_seed


class StepCounter(lightning.Callback):
    """Counts the run's steps and seeds each one, so that its randomness does not depend on earlier ones."""

    def __init__(self, seed: int, start: int, steps_per_epoch: int) -> None:
        self.seed = seed
        self.step = start
        """Steps that are done."""
        self.steps_per_epoch = steps_per_epoch

    @property
    def epoch(self) -> int:
        """Epoch of the last finished step, from 0."""
        return max(self.step - 1, 0) // self.steps_per_epoch

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        torch.manual_seed(step_seed(self.seed, self.step, trainer.global_rank))

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.step += 1


class AveragedWeights(lightning.Callback):
    """An exponential moving average of the weights; statistics of BatchNorm are averaged with them.

    Args:
        decay: of the average; over the first steps it is smaller, (1 + n) / (10 + n), so that the average
            forgets the initialisation.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        state = _model(module).state_dict()
        if self.average:
            self.average = {key: value.to(state[key].device) for key, value in self.average.items()}
        else:
            self.average = {key: value.detach().clone() for key, value in state.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in _model(module).state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates = state_dict["updates"]
        self.average = state_dict["average"]

    @contextmanager
    def applied(self, module: Any) -> Any:
        """The averaged weights in place of the trained ones."""
        model = _model(module)
        trained = {key: value.detach().clone() for key, value in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(trained)


def _model(module: Any) -> nn.Module:
    return module.model


# --- logs ------------------------------------------------------------------------------------------------


class CsvLog:
    """Rows of numbers, flushed one by one; continued from a step as if the later rows had never been.

    Args:
        path: the file.
        start: rows of later steps are dropped.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        self.header: list[str] = []
        rows: list[list[str]] = []
        if path.is_file():
            lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
            self.header = lines[0] if lines else []
            whole = [row for row in lines[1:] if len(row) == len(self.header) and row[0].isdigit()]
            rows = [row for row in whole if int(row[0]) <= start]
        if self.header and rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([self.header, *rows])
            write_text(path, text.getvalue())
        else:
            self.header = []
            path.unlink(missing_ok=True)

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row; the first one decides the columns. ``step`` comes first."""
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not self.header:
                self.header = list(row)
                writer.writerow(self.header)
            writer.writerow([row.get(name, "") for name in self.header])


class LossLog(lightning.Callback):
    """Writes losses to ``log.csv`` and TensorBoard, and stops the run when the loss is no longer a number."""

    def __init__(
        self, counter: StepCounter, folder: Path, *, every: int, start: int, tensorboard: Any
    ) -> None:
        self.counter = counter
        self.folder = folder
        self.every = every
        self.start = start
        self.tensorboard = tensorboard
        self.csv: CsvLog | None = None
        self.bad_step: torch.Tensor | None = None
        self.since = time.monotonic()
        self.since_step = start
        self.lr = 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero:
            self.csv = CsvLog(self.folder / "log.csv", self.start)
        self.since, self.since_step = time.monotonic(), self.counter.step

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        step = self.counter.step
        loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        # Kept on the device: asking for the value at every step would make a GPU wait.
        bad = torch.where(torch.isfinite(loss), math.inf, float(step))
        self.bad_step = bad if self.bad_step is None else torch.minimum(self.bad_step, bad)
        if step % self.every and loss.device.type != "cpu":
            return
        self.check(module)
        if step % self.every or self.csv is None:
            return
        losses = getattr(module, "last_losses", None) or {"total": loss}
        values = {name: float(value) for name, value in losses.items()}
        rate = (step - self.since_step) / max(time.monotonic() - self.since, 1e-9)
        self.since, self.since_step = time.monotonic(), step
        row = {
            "step": step,
            "epoch": self.counter.epoch,
            "lr": self.lr,
            **values,
            "steps_per_s": round(rate, 3),
        }
        self.csv.write(row)
        if self.tensorboard is not None:
            for name, value in {"lr": self.lr, "steps_per_s": rate, **values}.items():
                self.tensorboard.add_scalar(f"train/{name}", value, step)

    def check(self, module: Any) -> None:
        """Raises :class:`InputError` if the loss has been NaN or infinite."""
        bad = float(self.bad_step) if self.bad_step is not None else math.inf
        if bad < math.inf:
            losses = getattr(module, "last_losses", {})
            terms = ", ".join(f"{name} {float(value):g}" for name, value in losses.items())
            raise InputError(
                f"step {int(bad)}: the loss is not a finite number{f' ({terms})' if terms else ''}; lower "
                "train.lr, set train.clip_grad or train.warmup_steps, or use train.precision=fp32; the last "
                "checkpoint is kept"
            )


# --- validation and checkpoints --------------------------------------------------------------------------


class Validation(lightning.Callback):
    """Scores the model at the end of epochs, and exports the best one.

    Args:
        score: module -> scores; ``"mAP"`` decides which is best.
        settings: what a printed score must name.
        export: (module, step, scores) -> writes the best weights.
    """

    def __init__(
        self,
        counter: StepCounter,
        folder: Path,
        score: Callable[[Any], dict[str, float]],
        export: Callable[[Any, int, dict[str, float]], None],
        *,
        every_epochs: int,
        total_steps: int,
        start: int,
        average: AveragedWeights | None,
        tensorboard: Any,
        report: Callable[[str], None],
        settings: str = "",
    ) -> None:
        self.counter = counter
        self.folder = folder
        self.score = score
        self.export = export
        self.every_steps = every_epochs * counter.steps_per_epoch
        self.total_steps = total_steps
        self.start = start
        self.average = average
        self.tensorboard = tensorboard
        self.report = report
        self.settings = settings
        self.best: float | None = None
        self.best_step = 0
        self.best_scores: dict[str, float] = {}
        self.improved = False
        self.csv: CsvLog | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero:
            self.csv = CsvLog(self.folder / "validation.csv", self.start)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        step = self.counter.step
        self.improved = False
        if step % self.every_steps and step != self.total_steps:
            return
        if self.average is not None:
            with self.average.applied(module):
                self._run(trainer, module, step)
        else:
            self._run(trainer, module, step)

    def _run(self, trainer: Any, module: Any, step: int) -> None:
        began = time.monotonic()
        scores = self.score(module)
        value = scores.get("mAP", math.nan)
        self.improved = self.best is None or value > self.best
        if self.improved:
            self.best, self.best_step, self.best_scores = value, step, scores
        if not trainer.is_global_zero:
            return
        if self.improved:
            self.export(module, step, scores)
        if self.csv is not None:
            self.csv.write({"step": step, "epoch": self.counter.epoch, **scores})
        if self.tensorboard is not None:
            for name, score in scores.items():
                self.tensorboard.add_scalar(f"val/{name}", score, step)
        best = "best so far" if self.improved else f"best {self.best:.2f} at step {self.best_step}"
        took = format_seconds(time.monotonic() - began)
        where = f"epoch {self.counter.epoch + 1}, step {step}"
        self.report(f"{where}: mAP {value:.2f} ({best}; {self.settings}), scored in {took}")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "best_scores": self.best_scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self.best_scores = state_dict["best_scores"]


class Checkpoints(lightning.Callback):
    """Writes ``last.ckpt`` whole, in place of the one before, and ``best.ckpt`` when validation improved."""

    def __init__(
        self,
        counter: StepCounter,
        folder: Path,
        *,
        every_steps: int,
        total_steps: int,
        losses: LossLog,
        validation: Validation | None,
        recipe: dict[str, Any],
    ) -> None:
        self.counter = counter
        self.folder = folder
        self.every_steps = every_steps
        self.total_steps = total_steps
        self.losses = losses
        self.validation = validation
        self.recipe = recipe

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        step = self.counter.step
        due = step % self.every_steps == 0 or step % self.counter.steps_per_epoch == 0
        improved = self.validation is not None and self.validation.improved
        if not (due or improved or step == self.total_steps):
            return
        self.losses.check(module)
        temporary = self.folder / ".last-writing.ckpt"
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                if temporary.is_file():
                    with open(temporary, "rb") as file:
                        os.fsync(file.fileno())
                os.replace(temporary, self.folder / "last.ckpt")
                if improved:
                    self._keep_best()
        except BaseException:
            if trainer.is_global_zero and temporary.is_file():
                temporary.unlink()
            raise

    def _keep_best(self) -> None:
        temporary = self.folder / ".best-writing.ckpt"
        temporary.unlink(missing_ok=True)
        try:
            try:
                # A second name for the same file: last.ckpt is replaced, never written into.
                os.link(self.folder / "last.ckpt", temporary)
            except OSError:
                shutil.copyfile(self.folder / "last.ckpt", temporary)
            os.replace(temporary, self.folder / "best.ckpt")
        finally:
            temporary.unlink(missing_ok=True)

    def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        # Where to go on is our own count of steps: the loop's counters differ between Lightning's versions.
        checkpoint.pop("loops", None)
        checkpoint["vidpose"] = {"step": self.counter.step, "recipe": self.recipe}


def read_progress(path: Path) -> dict[str, Any]:
    """``{"step", "recipe"}`` of a checkpoint, without loading its weights into memory."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return content["vidpose"]
    except Exception as error:
        raise InputError(f"{path}: is not a checkpoint of a training run: {type(error).__name__}") from error


# --- progress --------------------------------------------------------------------------------------------


class TrainingProgress(lightning.Callback):
    """A bar on a terminal, a plain line now and then elsewhere: step, loss, rate, time left."""

    def __init__(self, counter: StepCounter, total_steps: int, clips_per_step: int) -> None:
        self.counter = counter
        self.total_steps = total_steps
        self.clips_per_step = clips_per_step
        self.bar: Any = None
        self.task: Any = None
        self.began = self.last = 0.0
        self.began_step = 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.began = self.last = time.monotonic()
        self.began_step = self.counter.step
        if not trainer.is_global_zero:
            return
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            text = TextColumn("{task.fields[text]}")
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), text, TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("", total=self.total_steps, completed=self.counter.step, text="")
            self.bar.start()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        now = time.monotonic()
        if not trainer.is_global_zero or now - self.last < (
            0.5 if self.bar is not None else PLAIN_INTERVAL_S
        ):
            return
        self.last = now
        step = self.counter.step
        rate = (step - self.began_step) / max(now - self.began, 1e-9)
        loss = float(outputs["loss"] if isinstance(outputs, dict) else outputs)
        text = f"epoch {self.counter.epoch + 1}, loss {loss:.4g}, {rate * self.clips_per_step:.1f} clips/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=step, text=text)
        else:
            left = format_seconds((self.total_steps - step) / max(rate, 1e-9))
            self.line(f"training: step {step}/{self.total_steps}, {text}, {left} left")

    def line(self, text: str) -> None:
        """One line on standard error, above the bar where there is one."""
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._stop()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
