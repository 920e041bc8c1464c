"""Smoothing of keypoints over time: the One-Euro filter (Casiez et al., CHI 2012), one for each track."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vidpose.errors import InputError
from vidpose.results import FramePoses

_FORGET_S = 1.0  # a track that was away for longer starts anew
_SURE = 0.5  # joints with at least this score follow their measurement as the filter says; weaker ones less


@dataclass
class _State:
    time: float
    keypoints: np.ndarray  # [J, 2] as last given out
    speed: np.ndarray  # [J, 2] smoothed, in box sizes per second
    known: np.ndarray  # [J] bool: has been seen


class KeypointSmoother:
    """Calms jitter while a joint rests, and follows it when it moves fast.

    Lengths are measured in sizes of the person's box, so that one setting suits near and far people. A joint
    of which the model is unsure is pulled less far by its measurement.

    Args:
        min_cutoff: Hz, above 0; lower is calmer at rest.
        beta: how much the cutoff (Hz) rises with speed (box sizes per second); higher follows faster.
        speed_cutoff: Hz, of the smoothing of the speed itself.
    """

    def __init__(self, min_cutoff: float = 1.7, beta: float = 10.0, speed_cutoff: float = 1.0) -> None:
        if not (min_cutoff > 0 and beta >= 0 and speed_cutoff > 0):
            raise InputError("smoothing: min_cutoff and speed_cutoff must be above 0, beta at least 0")
        self.min_cutoff = min_cutoff
        self.beta = beta
        self.speed_cutoff = speed_cutoff
        self._tracks: dict[int, _State] = {}

    def __call__(self, frame: FramePoses) -> FramePoses:
        """The frame with smoothed keypoints; frames must come in order of time."""
        keypoints = frame.keypoints.astype(np.float64)
        for i, track_id in enumerate(frame.track_ids.tolist()):
            box = frame.boxes[i]
            size = max(math.sqrt(max(box[2] - box[0], 1.0) * max(box[3] - box[1], 1.0)), 1.0)
            keypoints[i] = self._step(track_id, frame.time, keypoints[i], frame.scores[i], size)
        gone = [key for key, state in self._tracks.items() if frame.time - state.time > _FORGET_S]
        for key in gone:
            del self._tracks[key]
        return replace(frame, keypoints=keypoints)

    def _step(
        self, key: int, time: float, measured: np.ndarray, scores: np.ndarray, size: float
    ) -> np.ndarray:
        usable = scores > 0
        state = self._tracks.get(key)
        if state is None or not 0 < time - state.time <= _FORGET_S:
            self._tracks[key] = _State(time, measured.copy(), np.zeros_like(measured), usable.copy())
            return measured
        elapsed = time - state.time
        speed = (measured - state.keypoints) / size / elapsed
        speed = state.speed + _share(self.speed_cutoff, elapsed) * (speed - state.speed)
        cutoff = self.min_cutoff + self.beta * np.linalg.norm(speed, axis=-1, keepdims=True)
        share = _share(cutoff, elapsed) * np.clip(scores / _SURE, 0.1, 1.0)[:, None]
        smoothed = state.keypoints + share * (measured - state.keypoints)
        both = (usable & state.known)[:, None]
        out = np.where(both, smoothed, measured)
        # An unseen joint keeps its last place and gives no speed, so that its return is not a leap.
        state.keypoints = np.where(usable[:, None], out, state.keypoints)
        state.speed = np.where(both, speed, 0.0)
        state.known |= usable
        state.time = time
        return out


def _share(cutoff: float | np.ndarray, elapsed: float) -> float | np.ndarray:
    """The share of a new value that a first-order low-pass of ``cutoff`` Hz takes over in ``elapsed`` s."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * elapsed))
