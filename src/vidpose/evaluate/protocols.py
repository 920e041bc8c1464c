"""The protocols by name: how each reads its files, scores frames, and says whose a prediction is."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpose.errors import InputError
from vidpose.evaluate.people import Frames
from vidpose.evaluate.posetrack_files import Sources

Path = str | os.PathLike[str]
BREAKDOWNS = ("joint", "video", "difficulty")


@dataclass(frozen=True)
class Options:
    """What a user may set beside the protocol; None where it was not set."""

    thresholds: tuple[float, ...] | None = None
    normalizer: str | None = None
    similarity: str | None = None
    frame_weights: Path | None = None


@dataclass(frozen=True)
class Protocol:
    """A protocol's three parts."""

    load: Callable[[Sources, Sources], Frames]
    """Both sides -> frames, with details."""
    score: Callable[[Frames, Options], dict[str, Any]]
    part: Callable[[Frames, Options], dict[str, Any]]
    """The same for some of the people: without what needs whole tracks."""
    owners: Callable[[Frames], np.ndarray] | None
    """[M] the annotated person of each prediction, -1 for none; None: no breakdown by difficulty."""
    options: tuple[str, ...] = ()
    """Fields of :class:`Options` that the protocol reads."""


def find_protocol(name: str) -> Protocol:
    """The protocol called ``name``; InputError with the known names."""
    if name not in _MAKERS:
        raise InputError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return _MAKERS[name]()


def check_options(name: str, protocol: Protocol, options: Options) -> None:
    """Refuses an option that the protocol does not read, thresholds that are none, and unknown units."""
    from vidpose.evaluate.units import UNITS

    for option, value in vars(options).items():
        if value is not None and option not in protocol.options:
            readers = [other for other in PROTOCOLS if option in find_protocol(other).options]
            raise InputError(
                f"--{option.replace('_', '-')} is not for the protocol {name}, only for {', '.join(readers)}"
            )
    for threshold in options.thresholds or ():
        if not 0 < threshold < float("inf"):
            raise InputError(f"threshold {threshold:g}: a number above 0 is needed")
    if options.normalizer is not None and options.normalizer not in UNITS:
        raise InputError(f"unknown normalizer {options.normalizer!r}; known: {', '.join(UNITS)}")


# -------------------- one function per protocol: imports are made when it is needed


def _posetrack() -> Protocol:
    from vidpose.evaluate.posetrack import load_posetrack, score_posetrack

    return Protocol(
        lambda gt, predictions: load_posetrack(gt, predictions, details=True),
        lambda frames, options: score_posetrack(frames),
        lambda frames, options: score_posetrack(frames, part=True),
        _head_owners,
    )


def _posetrack21() -> Protocol:
    from vidpose.evaluate.posetrack21 import load_posetrack21, score_posetrack21

    return Protocol(
        lambda gt, predictions: load_posetrack21(gt, predictions, details=True),
        lambda frames, options: score_posetrack21(frames),
        lambda frames, options: score_posetrack21(frames, part=True),
        _head_owners,
    )


def _hieve() -> Protocol:
    from vidpose.evaluate.frame_lists import read_frame_weights
    from vidpose.evaluate.hieve import load_hieve, score_hieve

    def score(frames: Frames, options: Options) -> dict[str, Any]:
        weights = None
        if options.frame_weights is not None:
            weights = read_frame_weights(options.frame_weights, frames)
        return score_hieve(frames, weights=weights, thresholds=options.thresholds)

    def part(frames: Frames, options: Options) -> dict[str, Any]:
        return score_hieve(frames, thresholds=options.thresholds)

    return Protocol(load_hieve, score, part, _head_owners, ("thresholds", "frame_weights"))


def _coco() -> Protocol:
    from vidpose.evaluate.coco import load_coco, oks_owners, score_coco

    def score(frames: Frames, options: Options) -> dict[str, Any]:
        return score_coco(frames)

    return Protocol(load_coco, score, score, oks_owners)


def _pck(name: str) -> Callable[[], Protocol]:
    def make() -> Protocol:
        from vidpose.evaluate.pck import SETTINGS, assign, load_people, score_pck
        from vidpose.evaluate.units import unit_sizes

        def score(frames: Frames, options: Options) -> dict[str, Any]:
            return score_pck(
                frames, protocol=name, thresholds=options.thresholds, normalizer=options.normalizer
            )

        def owners(frames: Frames) -> np.ndarray:
            unit = next(iter(SETTINGS[name][0].values()))
            chosen = assign(frames, unit_sizes(frames.truth, frames.joints, unit))
            owner = np.full(len(frames.predictions), -1, dtype=np.int64)
            has = np.flatnonzero(chosen >= 0)
            owner[chosen[has]] = has
            return owner

        units = ("normalizer",) if name in ("pck", "lsp") else ()
        return Protocol(load_people, score, score, owners, ("thresholds", *units))

    return make


def _hota() -> Protocol:
    from vidpose.evaluate.hota import load_tracks, score_hota

    def score(frames: Frames, options: Options) -> dict[str, Any]:
        return score_hota(frames, similarity=options.similarity or "box")

    return Protocol(load_tracks, score, score, None, ("similarity",))


def _head_owners(frames: Frames) -> np.ndarray:
    from vidpose.evaluate.matching import match

    return match(frames.truth, frames.predictions)[1]


_MAKERS: dict[str, Callable[[], Protocol]] = {
    "posetrack": _posetrack,
    "posetrack21": _posetrack21,
    "hieve": _hieve,
    "coco": _coco,
    "pck": _pck("pck"),
    "pckh": _pck("pckh"),
    "jhmdb": _pck("jhmdb"),
    "lsp": _pck("lsp"),
    "hota": _hota,
}
PROTOCOLS = tuple(_MAKERS)
