"""Signals that ask a process to end, as an exception: what is half-written is removed as at Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
REPEATED_S = 1.0
"""A signal this soon after the first one means the same: ``timeout`` sends two."""


class Stopped(BaseException):
    """The process was asked to end. Not an ``Exception``, so that nobody takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.status = 128 + number
        """The exit status that shells expect."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP raise :class:`Stopped` in the main thread.

    A signal that is ignored (``nohup``) or handled by somebody else stays so. Forked processes end at once,
    as they would without the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, last = os.getpid(), -REPEATED_S

    def stop(number: int, frame: Any) -> None:
        nonlocal last
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        repeated = time.monotonic() - last < REPEATED_S
        last = time.monotonic()
        if not repeated:
            raise Stopped(number)

    ours = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
