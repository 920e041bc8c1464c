"""vidpose: multi-frame human pose estimation in video.

The public names; each is imported when it is first used, so that ``import vidpose`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vidpose._version import __version__

if TYPE_CHECKING:
    from vidpose.errors import InputError
    from vidpose.evaluate import evaluate
    from vidpose.infer.estimator import PoseEstimator
    from vidpose.infer.propagation import propagate
    from vidpose.models.factory import create_model, list_models, load_model, load_weights, save_model
    from vidpose.results import FramePoses, VideoPoses
    from vidpose.skeletons import SKELETONS, Skeleton, get_skeleton

_HOME = {
    "InputError": "vidpose.errors",
    "evaluate": "vidpose.evaluate",
    "PoseEstimator": "vidpose.infer.estimator",
    "propagate": "vidpose.infer.propagation",
    "create_model": "vidpose.models.factory",
    "list_models": "vidpose.models.factory",
    "load_model": "vidpose.models.factory",
    "load_weights": "vidpose.models.factory",
    "save_model": "vidpose.models.factory",
    "FramePoses": "vidpose.results",
    "VideoPoses": "vidpose.results",
    "SKELETONS": "vidpose.skeletons",
    "Skeleton": "vidpose.skeletons",
    "get_skeleton": "vidpose.skeletons",
}

__all__ = [
    "SKELETONS",
    "FramePoses",
    "InputError",
    "PoseEstimator",
    "Skeleton",
    "VideoPoses",
    "__version__",
    "create_model",
    "evaluate",
    "get_skeleton",
    "list_models",
    "load_model",
    "load_weights",
    "propagate",
    "save_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vidpose' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
