"""Makes a trained detector's scores probabilities, and fits its second look:
``python -m vidpose.train.detector_scores FILE DIR:SPLIT [DIR:SPLIT ...] -o OUT``.

Each DIR holds labelled frames that training has not seen, all of them count alike. FILE stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from vidpose.data.readers import parse_place
from vidpose.errors import InputError
from vidpose.infer.detect import LOOKER
from vidpose.infer.second_look import Looker, LookFit, extents, mix_boxes, opinions, see
from vidpose.infer.weights import load_pose_model
from vidpose.models.person_detector import PersonDetector, load_detector, save_detector
from vidpose.train.detector import IGNORED, FrameDataset, count_hits, detect_all, labelled_frames, match


def fit_probability(seen: np.ndarray, hits: np.ndarray) -> tuple[float, ...]:
    """Weights of opinions [D, N] that explain best which detections were right, [D] bool (Platt, 1999).

    Raises:
        InputError: too few detections, or none right or none wrong.
    """
    if len(hits) < 10 or hits.all() or not hits.any():
        raise InputError(f"{len(hits)} detections, {int(hits.sum())} of them right: too few to calibrate by")
    right, wrong = hits.sum(), (~hits).sum()
    wanted = np.where(hits, (right + 1) / (right + 2), 1 / (wrong + 2))  # Platt's, lest few examples overfit

    def loss(weights: np.ndarray) -> float:
        z = seen @ weights
        return float(np.logaddexp(0, z).sum() - wanted @ z)

    start = np.zeros(seen.shape[1])
    return tuple(float(w) for w in minimize(loss, start).x)


def calibrate(
    model: PersonDetector, frames: FrameDataset, *, dtype: torch.dtype = torch.float32
) -> tuple[float, float]:
    """Makes a score the probability that its box finds somebody (IoU 0.5).

    The focal loss leaves scores that order boxes well and are too low. The scale and the shift of the logits
    that explain the frames best go into the model's last layer; returns them.

    Args:
        model: in any mode; it is put into eval mode, and back.
        frames: with labels, that training has not seen; without augmentation.
        dtype: of the network's arithmetic.

    Raises:
        InputError: as of :func:`fit_probability`.
    """
    scores, hits = count_hits(*detect_all(model, frames, dtype=dtype), 0.5)
    seen = np.stack([np.ones(len(scores)), np.log(scores / (1 - scores))], axis=1)
    shift, scale = fit_probability(seen, hits)
    with torch.no_grad():
        model.centre.weight.mul_(scale)
        model.centre.bias.mul_(scale).add_(shift)  # type: ignore[union-attr]
    return scale, shift


def fit_second_look(
    model: PersonDetector, look: Looker, frames: FrameDataset, *, dtype: torch.dtype = torch.float32
) -> LookFit:
    """How boxes and the poses in them are weighed (:func:`vidpose.infer.second_look.second_look`).

    Args:
        model: calibrated.
        look: the pose model that looks.
        frames: as of :func:`calibrate`.
        dtype: of the detector's arithmetic.

    Raises:
        InputError: as of :func:`fit_probability`.
    """
    images, people, ignored = zip(*(frames[i] for i in range(len(frames))), strict=True)
    found = [pair for image in images for pair in see(model, [image], dtype=dtype)]
    poses = look(images, [boxes for boxes, _ in found])
    margins = _margins(found, poses, people)
    seen, hits = [], []
    for image, (boxes, scores), (keypoints, peaks), whole, regions in zip(
        images, found, poses, people, ignored, strict=True
    ):
        mixed = mix_boxes(boxes, keypoints, peaks, margins, (image.shape[0], image.shape[1]))
        whom = match(mixed, scores, whole, regions)
        seen.append(opinions(scores, peaks)[whom != IGNORED])
        hits.append(whom[whom != IGNORED] >= 0)
    return LookFit(margins, fit_probability(np.concatenate(seen), np.concatenate(hits)))


def _margins(
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    poses: Sequence[tuple[np.ndarray, np.ndarray]],
    people: Sequence[np.ndarray],
) -> tuple[float, ...]:
    """The median share by which people's boxes reach beyond the sure joints of the poses in their boxes."""
    shares = [np.zeros((0, 4))]
    for (boxes, scores), pose, truth in zip(found, poses, people, strict=True):
        whom = match(boxes, scores, truth, [])
        around = extents(*pose)[whom >= 0]
        side = np.maximum(around[:, 2] - around[:, 0], around[:, 3] - around[:, 1])
        shares.append((truth[whom[whom >= 0]] - around) / side[:, None] * [-1, -1, 1, 1])
    known = np.concatenate(shares)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        raise InputError("no person is found whose joints are sure: nothing to fit a second look by")
    return tuple(float(v) for v in np.median(known, axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("detector", help="one of ours, .safetensors")
    parser.add_argument("data", nargs="+", metavar="DIR:SPLIT")
    parser.add_argument("--weights", default="default", help=f"of {LOOKER}, which takes the second look")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        places = [parse_place(place) for place in options.data]
        model = load_detector(options.detector)
        labelled = [frame for place in places for frame in labelled_frames(*place)]
        frames = FrameDataset(labelled, None, long_side=model.long_side)
        scale, shift = calibrate(model, frames)
        fit = fit_second_look(model, Looker(load_pose_model(LOOKER, options.weights)[0]), frames)
        told = "; ".join(f"{Path(folder).name}:{split}" for folder, split in places)
        how = {"on": told, "scale": scale, "shift": shift}
        card = {**model.card, "calibrated": how, "second_look": fit.to_card()}
        save_detector(model, options.output, card, half=False)
    except (InputError, OSError) as error:
        print(f"vidpose: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{options.output}: logits times {scale:.3f} plus {shift:.3f}; second look {fit}")


if __name__ == "__main__":
    main()
