"""COCO's keypoint AP and AR by object keypoint similarity (OKS), by pycocotools, for any joint set."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from vidpose.errors import InputError, MissingExtraError
from vidpose.evaluate.people import Frames, People, assemble
from vidpose.evaluate.posetrack_files import Sources, load_pairs
from vidpose.evaluate.table import MEAN, mean_of_columns, with_columns
from vidpose.evaluate.units import people_of
from vidpose.skeletons import Skeleton

AREA_OF_BOX = 0.53
"""silent: files without ``area`` (COCO measures a mask). CrowdPose's tools take this share of the box."""
_MIN_OKS = 0.1  # silent: below it a prediction is nobody's
_NAMES = (MEAN, "50", "75", "medium", "large")


def load_coco(gt: Sources, predictions: Sources) -> Frames:
    """All frames, with the joints of the ground truth; a joint is annotated where its visibility is above 0.

    Raises:
        InputError: a joint has no OKS sigma, or the problem of a file.
    """
    frames = assemble(load_pairs(gt, predictions, joints=None, details=True), "labelled")
    frames.truth.present = frames.truth.details["flag"] > 0
    joint_sigmas(frames.joints)
    return frames


def joint_sigmas(joints: tuple[str, ...]) -> np.ndarray:
    """[J] OKS sigmas by joint name; InputError for a name that has none."""
    sigmas = []
    for joint in joints:
        try:
            sigmas.append(float(Skeleton("", (joint,), ()).sigmas[0]))
        except KeyError:
            raise InputError(f"joint {joint!r} has no OKS sigma, rename it in the file's category") from None
    return np.array(sigmas)


def score_coco(frames: Frames) -> dict[str, Any]:
    """COCO's ten numbers and each joint's similarity.

    Returns:
        ``ap`` and ``ar``, each ``Mean`` (over OKS 0.50:0.95), ``50``, ``75``, ``medium`` and ``large``;
        ``oks``: for every joint the mean similarity of that joint alone, over annotated joints, of people
        paired one to one by their OKS, 0 where the person has no prediction or the prediction no joint.

    Raises:
        MissingExtraError: neither pycocotools nor faster-coco-eval is installed.
    """
    stats = _official(frames)
    scores: dict[str, Any] = {
        "ap": dict(zip(_NAMES, stats[:5], strict=True)),
        "ar": dict(zip(_NAMES, stats[5:], strict=True)),
    }
    for values in scores.values():
        values[MEAN] = values.pop(MEAN)  # last
    joint_values = 100 * _joint_similarity(frames)
    scores["oks"] = with_columns(dict(zip(frames.joints, joint_values.tolist(), strict=True)))
    notes = list(frames.notes)
    if not (frames.truth.details["area"] >= 0).all():
        notes.append(f"people without area have {AREA_OF_BOX:g} of their box's")
    scores["summary"] = {
        "protocol": "coco",
        "main": "ap",
        "videos": len(np.unique(frames.video)),
        "frames": len(frames),
        "people": len(frames.truth),
        "predicted_people": len(frames.predictions),
        "mean_of_columns": {"oks": mean_of_columns(scores["oks"])},
        "notes": notes,
    }
    return scores


def areas(people: People) -> np.ndarray:
    """[N] square pixels: as annotated, else a share of the box."""
    given = people.details["area"]
    return np.where(np.isnan(given), AREA_OF_BOX * np.prod(people.boxes[:, 2:], axis=1), given)


def similarities(frames: Frames, person: np.ndarray, prediction: np.ndarray, area: np.ndarray) -> np.ndarray:
    """[pairs, J] similarity of annotated joints, exp(-d^2 / (2 area (2 sigma)^2)); 0 where one lacks it."""
    truth, found = frames.truth, frames.predictions
    squared = ((truth.xy[person] - found.xy[prediction]) ** 2).sum(axis=-1)
    variance = (2 * joint_sigmas(frames.joints)) ** 2
    value = np.exp(-squared / (2 * variance * (area[person][:, None] + np.spacing(1))))
    return np.where(truth.present[person] & found.present[prediction], value, 0.0)


def oks_owners(frames: Frames) -> np.ndarray:
    """[M] the annotated person with the largest OKS for each prediction; -1 where none reaches 0.1."""
    owner = np.full(len(frames.predictions), -1, dtype=np.int64)
    for here, there, oks, _ in _frame_oks(frames):
        best = oks.argmax(axis=0)
        owner[there] = np.where(oks.max(axis=0) >= _MIN_OKS, here[best], -1)
    return owner


def _frame_oks(frames: Frames) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each frame with people on both sides: their rows, [P, Q] OKS and [P, Q, J] similarities."""
    truth, found = frames.truth, frames.predictions
    area = np.nan_to_num(areas(truth))
    out = []
    for frame in np.intersect1d(truth.frame, found.frame):
        here, there = people_of(truth, frame), people_of(found, frame)
        shape = len(here), len(there)
        values = similarities(frames, np.repeat(here, shape[1]), np.tile(there, shape[0]), area)
        count = np.maximum(truth.present[here].sum(axis=1), 1)
        oks = values.sum(axis=1).reshape(shape) / count[:, None]
        out.append((here, there, oks, values.reshape(*shape, -1)))
    return out


def _joint_similarity(frames: Frames) -> np.ndarray:
    """[J] mean similarity of each joint over the annotated ones; NaN where there is none."""
    truth = frames.truth
    wanted = truth.present & ~truth.details["crowd"][:, None]
    total = np.zeros(len(frames.joints))
    scores = frames.predictions.person_scores
    for here, there, oks, values in _frame_oks(frames):
        free = np.ones(len(here), dtype=bool)
        for column in np.argsort(-scores[there], kind="stable"):  # COCO's order: the surest first
            left = np.where(free & ~truth.details["crowd"][here], oks[:, column], 0)
            best = int(left.argmax())
            if left[best] > 0:
                free[best] = False
                total += values[best, column]
    number = wanted.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return total / np.where(number > 0, number, np.nan)


# -------------------- the official numbers


def _official(frames: Frames) -> list[float]:
    """Five AP and five AR in per cent, in ``_NAMES``' order; NaN where COCO has -1 (nobody of that size)."""
    coco_class, evaluator_class = _tools()
    ids = list(range(1, len(frames) + 1))
    truth = coco_class()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in ids],
        "annotations": _annotations(frames.truth),
        "categories": [{"id": 1, "name": "person"}],
    }
    results = _results(frames.predictions)
    if not results:
        return [0.0] * 10 if len(frames.truth) else [float("nan")] * 10
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        evaluator = evaluator_class(truth, truth.loadRes(results), "keypoints")
        evaluator.params.kpt_oks_sigmas = joint_sigmas(frames.joints)
        evaluator.params.imgIds = ids
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [100 * float(value) if value > -1 else float("nan") for value in evaluator.stats[:10]]


def _annotations(people: People) -> list[dict[str, Any]]:
    boxes, area = np.nan_to_num(people.boxes), np.nan_to_num(areas(people))
    return [
        {
            "id": i + 1,
            "image_id": int(people.frame[i]) + 1,
            "category_id": 1,
            "keypoints": _flat(people.xy[i], people.details["flag"][i]),
            "num_keypoints": int(people.present[i].sum()),
            "bbox": boxes[i].tolist(),
            "area": float(area[i]),
            "iscrowd": int(people.details["crowd"][i]),
        }
        for i in range(len(people))
    ]


def _results(people: People) -> list[dict[str, Any]]:
    scores = people.person_scores
    boxes = people.details["box"]
    # Given boxes decide whether an unmatched prediction is medium or large; without them the joints' extent.
    boxed = not np.isnan(boxes).any()
    return [
        {
            **({"bbox": boxes[i].tolist()} if boxed else {}),
            "image_id": int(people.frame[i]) + 1,
            "category_id": 1,
            "keypoints": _flat(people.xy[i], people.scores[i]),
            "score": float(scores[i]),
        }
        for i in range(len(people))
    ]


def _flat(xy: np.ndarray, last: np.ndarray) -> list[float]:
    return np.concatenate([xy, last[:, None]], axis=1).reshape(-1).tolist()


def _tools() -> tuple[Any, Any]:
    """The classes COCO and COCOeval of the library that is installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        pass
    else:
        return COCO, COCOeval
    try:
        from faster_coco_eval import COCO as FastCOCO
        from faster_coco_eval import COCOeval_faster
    except ImportError:
        raise MissingExtraError("the protocol coco", "coco") from None
    return FastCOCO, COCOeval_faster
