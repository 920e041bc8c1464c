"""Progress of long jobs: a bar on a terminal, a plain line now and then elsewhere, silence on request."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

PLAIN_INTERVAL_S = 10.0


def format_seconds(seconds: float) -> str:
    """``75.2`` -> ``'1:15'``, ``3700`` -> ``'1:01:40'``."""
    minutes, rest = divmod(int(max(seconds, 0.0) + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def track(
    items: Iterable[T], description: str, *, total: int | None = None, unit: str = "it", quiet: bool = False
) -> Iterator[T]:
    """Yields ``items`` and shows count, rate and time left on standard error.

    ``total`` may be unknown (cameras, streams): then no time left is shown.
    """
    if quiet:
        yield from items
        return
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, description, total, unit)
    else:
        yield from _plain(items, description, total, unit)


def _bar(items: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, rate="")
        start = time.monotonic()
        for count, item in enumerate(items, 1):
            yield item
            rate = count / max(time.monotonic() - start, 1e-9)
            progress.update(task, completed=count, rate=f"{rate:.1f} {unit}/s")


def _plain(items: Iterable[T], description: str, total: int | None, unit: str) -> Iterator[T]:
    start = last = time.monotonic()
    count = 0
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S:
            last = now
            rate = count / max(now - start, 1e-9)
            left = f", {format_seconds((total - count) / rate)} left" if total else ""
            of = f"/{total}" if total else ""
            print(
                f"{description}: {count}{of} {unit}, {rate:.1f} {unit}/s{left}", file=sys.stderr, flush=True
            )
    took = time.monotonic() - start
    rate = count / max(took, 1e-9)
    print(
        f"{description}: {count} {unit} in {format_seconds(took)}, {rate:.1f} {unit}/s",
        file=sys.stderr,
        flush=True,
    )
