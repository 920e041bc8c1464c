"""Scores predictions with the protocols of the field: files in, numbers out."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vidpose.errors import InputError

if TYPE_CHECKING:
    from vidpose.evaluate.posetrack_files import Sources

__all__ = ["evaluate"]

PROTOCOLS = ("posetrack",)


def evaluate(gt: Sources, predictions: Sources, protocol: str = "posetrack") -> dict[str, Any]:
    """Scores predictions against ground truth.

    Args:
        gt: annotations: a file, a folder of files, parsed JSON, or a list of these.
        predictions: the same for the predictions, or ``VideoPoses``.
        protocol: ``"posetrack"``: the official evaluation of PoseTrack17, 18 and 21 (15 joints).

    Returns:
        ``{"ap", "precision", "recall", "mota", "motp", "summary"}``; the first five map the 15 joint names,
        the seven columns Head ... Ankle and ``Mean`` to percentages (NaN where undefined).

    Raises:
        InputError: for an unknown protocol, or naming file, frame and problem of what cannot be scored.
    """
    if protocol == "posetrack":
        from vidpose.evaluate.posetrack import evaluate_posetrack

        return evaluate_posetrack(gt, predictions)
    raise InputError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")


class _CallablePackage(ModuleType):
    """Lets ``vidpose.evaluate(...)`` be the function also where this package was imported first."""

    def __call__(self, gt: Sources, predictions: Sources, protocol: str = "posetrack") -> dict[str, Any]:
        return evaluate(gt, predictions, protocol)


sys.modules[__name__].__class__ = _CallablePackage
