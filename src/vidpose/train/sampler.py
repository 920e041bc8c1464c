"""The order of training samples as a function of (seed, step), so that a run can start at any step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
        sources: [length] which data set a sample comes from, from 0; ``None``: one data set.
        shares: how many samples each data set gives, relative to the others. An epoch still has ``length``
            samples; a data set's own are taken in random order, all of them before one is taken again.
        turns: the samples that an epoch draws by shares come again so many epochs later; 0: others do.
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
        sources: np.ndarray | None = None,
        shares: Sequence[float] = (),
        turns: int = 0,
    ) -> None:
        self.turns = turns
        self.groups = groups
        self._pools = [] if sources is None else [np.flatnonzero(sources == k) for k in range(len(shares))]
        self._counts = _apportion(length, shares) if self._pools else []
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
        if self._pools:
            turn = epoch % self.turns if self.turns else epoch
            parts = [self._drawn(k, turn) for k in range(len(self._pools))]
            order = np.concatenate(parts)[order]
        if self.groups is not None:  # the groups in random order, and each one's samples in random order
            place = rng.permutation(int(self.groups.max()) + 1)[self.groups]
            order = order[np.argsort(place[order], kind="stable")]
        # Fewer samples than one step of all processes takes: repeated, so that every process has a batch.
        wanted = self.batch_size * self.world_size
        return np.resize(order, wanted) if self.world_size > 1 and len(order) < wanted else order

    def _drawn(self, source: int, epoch: int) -> np.ndarray:
        """The samples of a data set in an epoch: the next ones of its endless random order."""
        pool, count = self._pools[source], self._counts[source]
        start = epoch * count
        rounds = range(start // len(pool), (start + max(count, 1) - 1) // len(pool) + 1)
        seeds = (np.random.SeedSequence((self.seed, source, turn, 1)) for turn in rounds)
        endless = np.concatenate([np.random.default_rng(seed).permutation(pool) for seed in seeds])
        first = start - rounds[0] * len(pool)
        return endless[first : first + count]


def _apportion(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in the ratio of the shares that add up to ``total``."""
    edges = np.round(np.cumsum([0.0, *shares]) / sum(shares) * total).astype(int)
    return np.diff(edges).tolist()
