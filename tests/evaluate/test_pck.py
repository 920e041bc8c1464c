"""PCK, PCKh, JHMDB's and LSP's PCK against a slow version and by hand."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from people_files import by_frame, people_file, random_people

from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table, headline
from vidpose.skeletons import COCO17, JHMDB15, LSP14, POSETRACK15, Skeleton

SPREAD = np.array([[40.0 * j, 20.0 * (j % 3)] for j in range(17)]) + 50


def length(person: dict[str, Any], skeleton: Skeleton, unit: str) -> float:
    keypoints = person["keypoints"]
    if unit == "box":
        return max(person["bbox"][2:])
    if unit == "head":
        return 0.6 * math.hypot(*person["bbox_head"][2:])
    for a, b in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")):
        one, two = keypoints[skeleton.index[a]], keypoints[skeleton.index[b]]
        if one[2] and two[2]:
            return math.dist(one[:2], two[:2])
    return math.nan


def slow_pck(
    gt: dict[str, Any], found: dict[str, Any], skeleton: Skeleton, unit: str, threshold: float
) -> list[float]:
    """Per cent of each joint; every way of pairing people and predictions is tried."""
    right, number = np.zeros(skeleton.num_joints), np.zeros(skeleton.num_joints)
    predictions = by_frame(found)
    for image, people in by_frame(gt).items():
        others: list[Any] = [*predictions[image], *[None] * len(people)]

        def joint(person: dict[str, Any], other: Any, j: int, unit: str = unit) -> float:
            if other is None or not other["keypoints"][j].any():
                return math.inf
            size = length(person, skeleton, unit)
            away = math.dist(person["keypoints"][j, :2], other["keypoints"][j, :2])
            return away / (1 if math.isnan(size) else size)

        def price(
            chosen: tuple[int, ...], people: Any = people, others: Any = others, joint: Any = joint
        ) -> float:
            total = 0.0
            for person, k in zip(people, chosen, strict=True):
                labelled = np.flatnonzero(person["keypoints"][:, 2])
                total += sum(min(joint(person, others[k], j), 1) for j in labelled) / max(len(labelled), 1)
            return total

        best = min(itertools.permutations(range(len(others)), len(people)), key=price)
        for person, k in zip(people, best, strict=True):
            if math.isnan(length(person, skeleton, unit)):
                continue
            for j in np.flatnonzero(person["keypoints"][:, 2]):
                number[j] += 1
                right[j] += joint(person, others[k], int(j)) <= threshold
    with np.errstate(invalid="ignore"):
        return (100 * right / np.where(number > 0, number, np.nan)).tolist()


@pytest.mark.parametrize(
    ("protocol", "metric", "skeleton", "unit", "threshold"),
    [
        ("pck", "pck@0.2", COCO17, "box", 0.2),
        ("pck", "pck@0.05", COCO17, "box", 0.05),
        ("pckh", "pckh@0.5", POSETRACK15, "head", 0.5),
        ("jhmdb", "pck@0.1", JHMDB15, "box", 0.1),
        ("jhmdb", "tpck@0.2", JHMDB15, "torso", 0.2),
        ("lsp", "pck@0.2", LSP14, "torso", 0.2),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_joint_as_in_the_slow_version(
    protocol: str, metric: str, skeleton: Skeleton, unit: str, threshold: float, seed: int
) -> None:
    gt, found = random_people(skeleton.joints, seed, people=2)
    scores = evaluate(gt, found, protocol)
    expected = slow_pck(gt, found, skeleton, unit, threshold)
    assert [scores[metric][joint] for joint in skeleton.joints] == pytest.approx(expected, nan_ok=True)
    assert scores[metric]["Mean"] == pytest.approx(np.nanmean(expected))
    assert scores["summary"]["main"] in scores and headline(scores) >= 0


def slow_apk(gt: dict[str, Any], found: dict[str, Any], skeleton: Skeleton, threshold: float) -> list[float]:
    """Per cent of each joint, one candidate after the other."""
    truth, predictions = by_frame(gt), by_frame(found)
    out = []
    for j in range(skeleton.num_joints):
        positives = sum(person["keypoints"][j, 2] > 0 for people in truth.values() for person in people)
        candidates = [
            (other["keypoints"][j, 2], image, other["keypoints"][j, :2])
            for image, others in predictions.items()
            for other in others
            if other["keypoints"][j].any()
        ]
        hit, right = set(), []
        for _, image, xy in sorted(candidates, key=lambda c: -c[0]):
            away = [
                (math.dist(person["keypoints"][j, :2], xy) / length(person, skeleton, "box"), k)
                for k, person in enumerate(truth[image])
                if person["keypoints"][j, 2]
            ]
            distance, k = min(away, default=(math.inf, -1))
            right.append(distance <= threshold and (image, k) not in hit)
            if right[-1]:
                hit.add((image, k))
        area, recall = 0.0, 0.0
        for k in range(len(right)):
            if right[k]:
                best = max(sum(right[: m + 1]) / (m + 1) for m in range(k, len(right)))
                area, recall = area + best / positives, recall + 1 / positives
        out.append(100 * area if positives else math.nan)
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("threshold", [0.2, 0.05])
def test_jhmdbs_average_precision_as_in_the_slow_version(seed: int, threshold: float) -> None:
    gt, found = random_people(JHMDB15.joints, seed, people=3)
    scores = evaluate(gt, found, "jhmdb", thresholds=[threshold])[f"apk@{threshold}"]
    expected = slow_apk(gt, found, JHMDB15, threshold)
    assert [scores[joint] for joint in JHMDB15.joints] == pytest.approx(expected, nan_ok=True)
    assert 0 < scores["Mean"] < 100


def test_average_precision_falls_where_a_wrong_joint_is_surer_than_a_right_one() -> None:
    def score(of_the_wrong: float) -> float:
        keypoints = np.column_stack([SPREAD[:15], np.ones(15)])
        wrong = keypoints.copy()
        wrong[:, :2] += 1000
        wrong[:, 2] = of_the_wrong
        truth = people_file(
            JHMDB15.joints, [[{"keypoints": keypoints, "bbox": [0.0, 0.0, 100.0, 200.0]}]] * 2
        )
        right = {"keypoints": keypoints * [1, 1, 0.5], "scores": [0.5] * 15}
        other = {"keypoints": wrong, "scores": [of_the_wrong] * 15}
        scores = evaluate(truth, people_file(JHMDB15.joints, [[right], [other]]), "jhmdb")
        assert scores["pck@0.2"]["Mean"] == 50
        return float(scores["apk@0.2"]["Mean"])

    assert (score(0.1), score(0.9)) == (50, 25)


def one_person(skeleton: Skeleton, shift: float, joint: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A person, and a prediction of which one joint is moved by ``shift`` pixels."""
    xy = SPREAD[: skeleton.num_joints]
    keypoints = np.column_stack([xy, np.ones(len(xy))])
    moved = keypoints.copy()
    moved[skeleton.index[joint], 1] += shift
    box = [0.0, 0.0, 100.0, 200.0]
    return (
        people_file(skeleton.joints, [[{"keypoints": keypoints, "bbox": box}]]),
        people_file(skeleton.joints, [[{"keypoints": moved}]]),
    )


def test_the_threshold_itself_is_right_and_the_unit_is_the_longer_side() -> None:
    for shift, expected in ((40.0, 100.0), (40.01, 0.0)):
        gt, found = one_person(COCO17, shift, "nose")
        assert evaluate(gt, found, "pck")["pck@0.2"]["nose"] == expected


def test_lsps_torso_is_left_shoulder_to_right_hip() -> None:
    torso = math.dist(SPREAD[LSP14.index["left_shoulder"]], SPREAD[LSP14.index["right_hip"]])
    for shift, expected in ((0.199 * torso, 100.0), (0.201 * torso, 0.0)):
        gt, found = one_person(LSP14, shift, "left_wrist")
        assert evaluate(gt, found, "lsp")["pck@0.2"]["left_wrist"] == expected


def test_jhmdbs_head_column_is_the_face() -> None:
    gt, found = one_person(JHMDB15, 1000.0, "face")
    assert evaluate(gt, found, "jhmdb")["pck@0.2"]["Head"] == 0
    gt, found = one_person(JHMDB15, 1000.0, "neck")
    scores = evaluate(gt, found, "jhmdb")
    assert scores["pck@0.2"]["Head"] == 100
    assert scores["pck@0.2"]["Mean"] == pytest.approx(100 * 14 / 15)


def test_thresholds_and_normalizer_can_be_set() -> None:
    gt, found = one_person(COCO17, 30.0, "nose")
    scores = evaluate(gt, found, "pck", thresholds=[0.1, 0.3], normalizer="box")
    assert [m for m in scores if m.startswith("pck")] == ["pck@0.1", "pck@0.3"]
    assert (scores["pck@0.1"]["nose"], scores["pck@0.3"]["nose"]) == (0, 100)
    assert evaluate(gt, found, "pck", normalizer="torso")["summary"]["unit"] == {"pck": "torso"}


def test_a_person_that_nobody_found_has_all_joints_wrong_and_a_note() -> None:
    gt, found = one_person(COCO17, 0.0, "nose")
    scores = evaluate(gt, {**found, "annotations": []}, "pck")
    assert scores["pck@0.2"]["Mean"] == 0 and scores["summary"]["missed_people"] == 1
    assert "1 of 1 people have no prediction" in format_table(scores)


def test_people_without_the_unit_are_left_out_with_a_note() -> None:
    gt, found = one_person(COCO17, 0.0, "nose")
    scores = evaluate(gt, found, "pckh")  # COCO has no head box, nor head_top
    assert math.isnan(headline(scores))
    assert scores["summary"]["notes"] == ["pckh: 1 people without head size are left out"]


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("pck", {"normalizer": "arm"}, "unknown normalizer 'arm'; known: head, torso, box"),
        ("pck", {"thresholds": [0.2, -1]}, "threshold -1: a number above 0"),
        ("pckh", {"normalizer": "box"}, "--normalizer is not for the protocol pckh, only for pck, lsp"),
        ("posetrack", {"thresholds": [0.5]}, "--thresholds is not for the protocol posetrack"),
        ("coco", {"similarity": "box"}, "--similarity is not for the protocol coco, only for hota"),
    ],
)
def test_options_of_other_protocols_are_refused(protocol: str, options: Any, message: str) -> None:
    gt, found = one_person(COCO17, 0.0, "nose")
    with pytest.raises(InputError, match=message):
        evaluate(gt, found, protocol, **options)
