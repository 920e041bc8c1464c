"""HOTA once more, slow and obvious: dictionaries, loops, and every assignment of a frame tried."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Hashable

Frame = tuple[list[Hashable], list[Hashable], dict[tuple[int, int], float]]
"""Ids of both sides, and the similarity of every pair."""
ALPHAS = [0.05 * k for k in range(1, 20)]


def pairings(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    if rows > columns:
        return [[(a, b) for b, a in pairs] for pairs in pairings(columns, rows)]
    return [list(enumerate(chosen)) for chosen in itertools.permutations(range(columns), rows)]


def slow_hota(videos: list[list[Frame]], *, whole_tracks: bool = True) -> dict[str, float]:
    """HOTA, DetA, AssA in 0..1. ``whole_tracks``: assign with regard for tracks, as HOTA's paper has it."""
    hota, deta, assa = [], [], []
    for alpha in ALPHAS:
        right = misses = false = 0
        shares = 0.0
        for frames in videos:
            aligned = alignment(frames) if whole_tracks else (lambda a, b: 1.0)
            pairs: Counter[tuple[Hashable, Hashable]] = Counter()
            truth_frames: Counter[Hashable] = Counter()
            found_frames: Counter[Hashable] = Counter()
            for truth, found, similarity in frames:
                truth_frames.update(truth)
                found_frames.update(found)
                value = {p: s * aligned(truth[p[0]], found[p[1]]) for p, s in similarity.items()}
                best = max(pairings(len(truth), len(found)), key=lambda ps: sum(value[p] for p in ps))
                hits = [p for p in best if similarity[p] >= alpha - 1e-12 and similarity[p] > 0]
                pairs.update((truth[a], found[b]) for a, b in hits)
                right += len(hits)
                misses += len(truth) - len(hits)
                false += len(found) - len(hits)
            for (a, b), n in pairs.items():
                shares += n * n / (truth_frames[a] + found_frames[b] - n)
        deta.append(right / max(right + misses + false, 1))
        assa.append(shares / max(right, 1))
        hota.append((deta[-1] * assa[-1]) ** 0.5)
    return {name: sum(v) / len(v) for name, v in (("HOTA", hota), ("DetA", deta), ("AssA", assa))}


def alignment(frames: list[Frame]) -> Callable[[Hashable, Hashable], float]:
    """How alike two tracks are over the whole video (Luiten et al. 2021, as TrackEval computes it)."""
    together: Counter[tuple[Hashable, Hashable]] = Counter()
    truth_frames: Counter[Hashable] = Counter()
    found_frames: Counter[Hashable] = Counter()
    for truth, found, similarity in frames:
        truth_frames.update(truth)
        found_frames.update(found)
        for (a, b), s in similarity.items():
            rest = sum(similarity[a, k] for k in range(len(found)))
            rest += sum(similarity[k, b] for k in range(len(truth))) - s
            together[truth[a], found[b]] += s / rest if rest > 0 else 0  # type: ignore[assignment]
    return lambda a, b: together[a, b] / (truth_frames[a] + found_frames[b] - together[a, b])
