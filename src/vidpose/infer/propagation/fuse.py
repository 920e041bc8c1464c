"""Several guesses of where a joint is become one, with a confidence; whom to trust is learned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vidpose.errors import InputError
from vidpose.skeletons import Skeleton
from vidpose.weight_sets import FUSION, find_file

from .columns import Columns

GUESSES = ("forward", "backward", "line", "curve", "network")
KINDS = ("nose", "head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
"""Of joints, by a part of their names."""
NUMBERS = 24
"""Features of a joint besides its kind."""
_LEAST = 1e-3  # of a person's height, below which distances are alike


@dataclass
class Guesses:
    """Where joints may be. F frames, K columns."""

    points: dict[str, np.ndarray]
    """Each of ``GUESSES`` -> [F, K, 2], NaN where there is none."""
    missed_forward: np.ndarray
    """[F, K] pixels by which flow's way back has missed since the label before."""
    missed_backward: np.ndarray
    """[F, K] the same to the label after."""
    seen_left: np.ndarray
    """[F, K] bool: the joint was visible in the label before."""
    seen_right: np.ndarray
    peaks: np.ndarray
    """[F, K] of the network's heatmaps, 0 where no network was asked."""
    heats: np.ndarray
    """[G - 1, F, K] what these heatmaps are where the other guesses lie."""


def features(columns: Columns, guesses: Guesses, joints: Skeleton) -> np.ndarray:
    """[F, K, NUMBERS + len(KINDS)] float32: what tells which guess is good; distances in people's heights."""
    frame = np.arange(len(columns.left))[:, None]
    has_left, has_right = columns.left >= 0, columns.right >= 0
    size = columns.size
    points = guesses.points
    asked = ~np.isnan(points["network"][..., 0])

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.log(_LEAST + np.nan_to_num(np.linalg.norm(a - b, axis=-1) / size))

    numbers = [
        columns.shares(),
        np.log1p(np.where(has_left, frame - columns.left, 0)),
        np.log1p(np.where(has_right, columns.right - frame, 0)),
        has_left,
        has_right,
        np.log(_LEAST + guesses.missed_forward / size) * has_left,
        np.log(_LEAST + guesses.missed_backward / size) * has_right,
        apart(points["forward"], points["backward"]),
        apart(points["forward"], points["line"]),
        apart(points["backward"], points["line"]),
        apart(points["curve"], points["line"]),
        apart(columns.at_left(), columns.at_right()),
        np.log(size) - 5,
        guesses.seen_left & has_left,
        guesses.seen_right & has_right,
        asked,
        np.log(0.01 + guesses.peaks) * asked,
        *(apart(points["network"], points[other]) * asked for other in ("forward", "backward", "line")),
        *(np.log(0.01 + heat) * asked for heat in guesses.heats),
    ]
    kinds = np.zeros((joints.num_joints, len(KINDS)), dtype=np.float32)
    for j, name in enumerate(joints.joints):
        for k, kind in enumerate(KINDS):
            if kind in name:
                kinds[j, k] = 1
                break
    people = columns.left.shape[1] // joints.num_joints
    of_joint = np.broadcast_to(np.tile(kinds, (people, 1)), (*columns.left.shape, len(KINDS)))
    return np.concatenate([np.stack(numbers, axis=-1).astype(np.float32), of_joint], axis=-1)


class Fusion(nn.Module):
    """Weights of the guesses and a confidence from :func:`features`.

    Args:
        inputs: number of features. width: of the two hidden layers.
    """

    def __init__(self, inputs: int = NUMBERS + len(KINDS), width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, len(GUESSES) + 1),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))

    def forward(self, numbers: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, inputs], guesses [N, G, 2] (NaN: none) -> points [N, 2], logits of confidence [N].

        Confidence is the probability of being within PCKh 0.5.
        """
        out = self.layers((numbers - self.mean) / self.deviation)  # type: ignore[operator]
        missing = torch.isnan(points[..., 0])
        weights = torch.softmax(out[:, :-1].masked_fill(missing, -1e9), dim=1)
        return (weights[..., None] * torch.nan_to_num(points)).sum(dim=1), out[:, -1]


def fusion_file(weights: str | os.PathLike[str] = "default") -> tuple[Path, str]:
    """The fusion's file in a set of weights, and the name of the set that holds it.

    Args:
        weights: name of a set; a network's file or a hub id means the default set.

    Raises:
        InputError: the set is unknown or not installed, or no fusion is.
    """
    found = find_file(FUSION, weights)
    if found is None:
        raise InputError(f"weights {weights}: {FUSION} is in no set here; --method dis needs no weights")
    return found


@lru_cache(maxsize=1)
def load_fusion(path: Path | None = None) -> Fusion:
    """The fusion in a file that :mod:`vidpose.train.fusion` wrote; ``None``: the default set's.

    Raises:
        InputError: no such file, or it holds something else.
    """
    model, file = Fusion(), path or fusion_file()[0]
    try:
        model.load_state_dict(load_file(file))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{file}: is not a fusion of propagated labels: {reason}") from error
    return model.eval()


def fuse(
    columns: Columns, guesses: Guesses, joints: Skeleton, model: Fusion
) -> tuple[np.ndarray, np.ndarray]:
    """[F, K, 2] points and [F, K] confidences of 0 to 1 where joints are open; NaN and 0 elsewhere."""
    points = np.full(columns.points.shape, np.nan, dtype=np.float32)
    confidence = np.zeros(columns.left.shape, dtype=np.float32)
    where = columns.open
    if where.any():
        numbers = torch.from_numpy(features(columns, guesses, joints)[where])
        each = torch.from_numpy(np.stack([guesses.points[g][where] for g in GUESSES], axis=1))
        with torch.inference_mode():
            found, logits = model(numbers, each)
        points[where], confidence[where] = found.numpy(), torch.sigmoid(logits).numpy()
    return points, confidence
