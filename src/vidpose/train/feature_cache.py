"""Features of a frozen backbone on disk, so that a head is trained on them many times.

A frozen backbone gives the same features for the same pixels. With ``train.cache_features=K`` each sample is
augmented in K ways in place of a new one in every epoch: the first K epochs fill the cache, the others read
it and neither decode frames nor run the backbone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidpose.data.clips import ClipDataset, collate_clips
from vidpose.errors import InputError
from vidpose.io.files import write_json
from vidpose.models.video_model import Features, PoseModel

FOLDER = "features"
_TARGETS = ("points", "weights", "times")


class FeatureCache:
    """Arrays of half precision in files, one row for each augmented sample, written once.

    Args:
        folder: made if missing; what an earlier run of the same recipe left there is used.
        model: whose ``extract`` the features are of; its backbone must be frozen.
        samples: S of the data set.
        turns: K augmentations of each.

    Raises:
        InputError: the backbone is trained, the disk has too little space, or the folder holds others.
    """

    def __init__(self, folder: Path, model: PoseModel, samples: int, turns: int) -> None:
        if not model.freeze_backbone:
            raise InputError("recipe: train.cache_features is for a frozen backbone, this one is trained")
        self.folder, self.samples, self.turns = folder, samples, turns
        frames, joints = model.num_frames, model.num_joints
        features = probe(model)
        shapes = {f"feature_{name}": tuple(value.shape) for name, value in features.items()}
        shapes |= {"points": (frames, joints, 2), "weights": (frames, joints), "times": (frames,)}
        rows = samples * turns
        layout = {"rows": rows, "shapes": {name: list(shape) for name, shape in shapes.items()}}
        self._open(layout, shapes, rows)

    def _open(self, layout: dict[str, Any], shapes: dict[str, tuple[int, ...]], rows: int) -> None:
        described = self.folder / "layout.json"
        new = not described.is_file()
        if not new and json.loads(described.read_text(encoding="utf-8")) != layout:
            raise InputError(f"{self.folder}: holds features of another recipe; delete it")
        self.folder.mkdir(parents=True, exist_ok=True)
        size = sum(rows * int(np.prod(shape)) * _type(name).itemsize for name, shape in shapes.items())
        free = shutil.disk_usage(self.folder).free
        if new and size > 0.9 * free:
            raise InputError(
                f"train.cache_features={self.turns} needs {size / 1e9:.1f} GB in {self.folder}, "
                f"{free / 1e9:.1f} GB are free"
            )
        self._arrays = {
            name: _memmap(self.folder / f"{name}.bin", _type(name), (rows, *shape), new)
            for name, shape in shapes.items()
        }
        self._done = _memmap(self.folder / "done.bin", np.dtype(np.uint8), (rows,), new)
        write_json(described, layout)

    def rows(self, keys: Sequence[tuple[int, int]]) -> np.ndarray:
        """[B] the rows of samples ``(epoch, index)``."""
        return np.array([epoch % self.turns * self.samples + index for epoch, index in keys])

    def complete(self, rows: np.ndarray) -> bool:
        """Whether all of these have been written."""
        return bool(self._done[rows].all())

    def read(self, rows: np.ndarray) -> dict[str, Tensor]:
        """What :meth:`write` was given for rows [B]."""
        return {name: torch.from_numpy(np.asarray(array[rows])) for name, array in self._arrays.items()}

    def write(self, rows: np.ndarray, features: Features, targets: dict[str, Tensor]) -> Features:
        """Keeps features ([B·T, ...]) and targets ([B, ...]) of rows [B].

        Returns:
            The features as :meth:`read` would give them back, so that a run does not depend on which of its
            features were kept before.
        """
        kept: Features = {}
        for name, value in features.items():
            half = value.detach().half()
            kept[name] = half.to(value.dtype)
            array = self._arrays[f"feature_{name}"]
            array[rows] = half.reshape(len(rows), *array.shape[1:]).cpu().numpy()
        for name in _TARGETS:
            self._arrays[name][rows] = targets[name].cpu().numpy()
        self._done[rows] = 1
        return kept


def _type(name: str) -> np.dtype[Any]:
    return np.dtype(np.float32 if name in _TARGETS else np.float16)


def _memmap(path: Path, kind: np.dtype[Any], shape: tuple[int, ...], new: bool) -> np.memmap:
    try:
        return np.memmap(path, dtype=kind, mode="w+" if new else "r+", shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be used: {error}; delete its folder") from None


@torch.no_grad()
def probe(model: PoseModel) -> Features:
    """Features of one empty clip: each [T, ...]."""
    device = next(model.parameters()).device
    return model.extract(torch.zeros(model.num_frames, 3, *model.input_size, device=device))


class CachedClips(Dataset):
    """Clips of a data set, or their features where they are in the cache."""

    def __init__(self, clips: ClipDataset, cache: FeatureCache) -> None:
        self.clips, self.cache = clips, cache

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Any:
        """A batch: features, or clips whose features are still to be kept."""
        rows = self.cache.rows(keys)
        if self.cache.complete(rows):
            return self.cache.read(rows)
        return rows, self.clips.__getitems__([(epoch % self.cache.turns, index) for epoch, index in keys])


def collate_cached(batch: Any) -> dict[str, Tensor]:
    """A batch of :class:`CachedClips`: ``feature_NAME`` [B, T, ...], or ``clips`` and their ``rows`` [B]."""
    if isinstance(batch, dict):
        return batch
    rows, items = batch
    return {**collate_clips(items), "rows": torch.from_numpy(rows)}


@contextmanager
def given_features(model: PoseModel, features: Features) -> Iterator[None]:
    """Within it, ``model.extract`` gives these features, whatever the frames."""
    model.extract = lambda frames: features  # type: ignore[method-assign]
    try:
        yield
    finally:
        del model.extract


def cached_features(batch: dict[str, Tensor]) -> Features | None:
    """[B·T, ...] float32 features of a batch that came from the cache."""
    found = {k.removeprefix("feature_"): v for k, v in batch.items() if k.startswith("feature_")}
    return {name: value.flatten(0, 1).float() for name, value in found.items()} or None


__all__ = ["CachedClips", "FeatureCache", "cached_features", "collate_cached", "given_features", "probe"]
