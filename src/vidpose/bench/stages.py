"""Where the time of an estimate goes: clocks around its stages, each without what is inside it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vidpose.infer import crops as crops_module
from vidpose.infer.crops import CropRunner
from vidpose.infer.estimator import PoseEstimator
from vidpose.infer.follow import Follower
from vidpose.infer.track import Tracker

STAGES = ("read", "detect", "track", "crop", "backbone", "head", "decode", "write", "other")
"""In order: decoding of frames; the detector with its second look; tracking; cutting crops out of frames;
the pose model's backbone and head; joints from heatmaps; the result's file; all the rest."""
NETWORKS = ("detect", "backbone", "head")
"""Stages that are networks; the detector's own scaling and crops count with it."""


class StageClock:
    """Seconds of stages. Time inside a nested stage counts for that one alone.

    Args:
        synchronize: called before each reading of the clock: ``torch.cuda.synchronize`` for GPUs.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._synchronize = synchronize
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what runs inside as ``name``, except within a stage ``detect``, which counts for itself."""
        if self._open and self._open[-1] == "detect":
            yield
            return
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed as a stage."""

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **options)

        return timed

    def _turn(self) -> None:
        self._synchronize()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


@contextmanager
def clocked(estimator: PoseEstimator) -> Iterator[StageClock]:
    """A clock around the stages of everything that ``estimator`` does inside; undone at the end.

    The streams' reading is not among them: its caller times it as :meth:`StageClock.stage` ``read``.
    """
    clock = StageClock(torch.cuda.synchronize if estimator.device.type == "cuda" else lambda: None)
    patched: list[tuple[Any, str, Any]] = []

    def patch(owner: Any, attribute: str, stage: str) -> None:
        own = vars(owner).get(attribute)
        patched.append((owner, attribute, own))
        setattr(owner, attribute, clock.wrap(stage, getattr(owner, attribute)))

    patch(type(estimator.detector), "__call__", "detect")
    patch(Tracker, "update", "track")
    patch(Tracker, "flush", "track")
    patch(Follower, "detected", "track")
    patch(Follower, "posed", "track")
    patch(crops_module, "decode_heatmaps", "decode")
    for method, stage in (("cut", "crop"), ("_extract", "backbone"), ("_head", "head")):
        patch(CropRunner, method, stage)
    try:
        yield clock
    finally:
        for owner, attribute, own in reversed(patched):
            if own is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, own)
