"""The order of training samples as a function of (seed, step), so that a run can start at any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


def steps_per_epoch(length: int, batch_size: int, world_size: int = 1) -> int:
    """Full batches in ``length`` samples; at least one."""
    return max(length // (batch_size * world_size), 1)


class StepBatchSampler(Sampler):
    """Batches of ``(epoch, index)`` for the steps ``start`` to ``stop``.

    Each epoch is one permutation of all samples, drawn from (seed, epoch); what does not fill a batch is left
    for another epoch's order. Processes of one run take neighbouring batches.

    Args:
        length: number of samples.
        batch_size: per process.
        start, stop: steps, counted over all epochs.
        rank, world_size: this process among those that train together.
        groups: [length] numbers; samples of one number come one after the other, so that what they share is
            loaded once. ``None``: every sample by itself.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int,
        start: int,
        stop: int,
        rank: int = 0,
        world_size: int = 1,
        groups: np.ndarray | None = None,
    ) -> None:
        self.groups = groups
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.stop = stop
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = steps_per_epoch(self.length, self.batch_size, self.world_size)
        order, order_epoch = np.zeros(0, dtype=np.int64), -1
        for step in range(self.start, self.stop):
            epoch, k = divmod(step, per_epoch)
            if epoch != order_epoch:
                order, order_epoch = self.permutation(epoch), epoch
            first = (k * self.world_size + self.rank) * self.batch_size
            yield [(epoch, int(index)) for index in order[first : first + self.batch_size]]

    def permutation(self, epoch: int) -> np.ndarray:
        """[length] order of the samples in an epoch."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, epoch)))
        order = rng.permutation(self.length)
        if self.groups is not None:  # the groups in random order, and each one's samples in random order
            place = rng.permutation(int(self.groups.max()) + 1)[self.groups]
            order = order[np.argsort(place[order], kind="stable")]
        # Fewer samples than one step of all processes takes: repeated, so that every process has a batch.
        wanted = self.batch_size * self.world_size
        return np.resize(order, wanted) if self.world_size > 1 and len(order) < wanted else order
