"""COCO's numbers against pycocotools on the same files, and the similarity of single joints."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people_files import by_frame, people_file, random_people

from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table, headline
from vidpose.skeletons import COCO17, HIEVE14, JHMDB15, SKELETONS, Skeleton

NAMES = ("Mean", "50", "75", "medium", "large")


def official(gt: dict[str, Any], predictions: list[dict[str, Any]], sigmas: np.ndarray) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(gt)
        truth.dataset["info"] = {}
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(copy.deepcopy(predictions)), "keypoints")
        run.params.kpt_oks_sigmas = sigmas
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [100 * value if value > -1 else math.nan for value in run.stats]


@pytest.mark.parametrize("skeleton", [COCO17, HIEVE14, JHMDB15], ids=lambda s: s.name)
def test_the_ten_numbers_are_those_of_pycocotools(skeleton: Skeleton) -> None:
    gt, predictions = random_people(skeleton.joints, 3, frames=12, crowds=True)
    scores = evaluate(gt, predictions, "coco")
    ours = [scores[metric][name] for metric in ("ap", "ar") for name in NAMES]
    assert ours == pytest.approx(
        official(gt, predictions["annotations"], skeleton.sigmas), abs=1e-9, nan_ok=True
    )
    assert headline(scores) == scores["ap"]["Mean"]


def test_cocos_own_results_file_has_no_boxes_and_is_read(tmp_path: Path) -> None:
    gt, predictions = random_people(COCO17.joints, 4)
    results = [
        {key: a[key] for key in ("image_id", "category_id", "keypoints", "score")}
        for a in predictions["annotations"]
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    scores = evaluate(gt, path, "coco")
    ours = [scores[metric][name] for metric in ("ap", "ar") for name in NAMES]
    assert ours == pytest.approx(official(gt, results, COCO17.sigmas), abs=1e-9, nan_ok=True)


def test_files_of_several_videos_are_one_set() -> None:
    pairs = [random_people(COCO17.joints, seed, frames=3) for seed in (5, 6)]
    joined_gt, joined = copy.deepcopy(pairs[0])
    for joint_file, part in ((joined_gt, pairs[1][0]), (joined, pairs[1][1])):
        part = copy.deepcopy(part)
        for entry in part["images"]:
            entry["id"] += 1000
        for k, entry in enumerate(part["annotations"]):
            entry["image_id"] += 1000
            entry["id"] = 10_000 + k
        joint_file["images"] += part["images"]
        joint_file["annotations"] += part["annotations"]
    scores = evaluate([gt for gt, _ in pairs], [found for _, found in pairs], "coco")
    ours = [scores[metric][name] for metric in ("ap", "ar") for name in NAMES]
    assert ours == pytest.approx(
        official(joined_gt, joined["annotations"], COCO17.sigmas), abs=1e-9, nan_ok=True
    )


def test_a_joint_s_similarity_by_hand() -> None:
    area, nose = 900.0, COCO17.sigmas[0]
    keypoints = np.zeros((17, 3))
    keypoints[:2] = [[100, 100, 2], [200, 100, 1]]
    moved = keypoints.copy()
    moved[0, 0] += 3
    moved[:, 2] = 1
    moved[1] = 0
    box = [0.0, 0.0, 30.0, 30.0]
    gt = people_file(COCO17.joints, [[{"keypoints": keypoints, "area": area, "bbox": box}]])
    found = people_file(COCO17.joints, [[{"keypoints": moved, "score": 0.5}]])
    scores = evaluate(gt, found, "coco")["oks"]
    assert scores["nose"] == pytest.approx(100 * math.exp(-9 / (2 * area * (2 * nose) ** 2)))
    assert scores["left_eye"] == 0
    assert math.isnan(scores["left_ankle"])


def test_joints_similarities_of_one_pair_a_frame_average_to_its_oks() -> None:
    gt, found = random_people(COCO17.joints, 9, frames=10, people=1)
    keep = {a["image_id"]: a for a in found["annotations"]}
    found["annotations"] = list(keep.values())
    total, number = np.zeros(17), np.zeros(17)
    predictions = by_frame(found)
    for image, people in by_frame(gt).items():
        for person in people:
            labelled = person["keypoints"][:, 2] > 0
            number += labelled
            for other in predictions[image]:
                squared = ((person["keypoints"][:, :2] - other["keypoints"][:, :2]) ** 2).sum(axis=1)
                value = np.exp(-squared / (2 * person["area"] * (2 * COCO17.sigmas) ** 2))
                total += np.where(labelled & (other["keypoints"] != 0).any(axis=1), value, 0)
    scores = evaluate(gt, found, "coco")["oks"]
    assert [scores[joint] for joint in COCO17.joints] == pytest.approx(
        (100 * total / number).tolist(), abs=1e-6
    )


def test_nobody_found_is_zero_and_the_table_shows_it() -> None:
    gt, found = random_people(COCO17.joints, 1)
    scores = evaluate(gt, {**found, "annotations": []}, "coco")
    assert scores["ap"]["Mean"] == scores["ar"]["50"] == 0
    assert "| AP" in format_table(scores)


def test_a_person_without_area_takes_a_share_of_the_box() -> None:
    gt, found = random_people(COCO17.joints, 2)
    with_area = copy.deepcopy(gt)
    for annotation in gt["annotations"]:
        del annotation["area"]
    for annotation in with_area["annotations"]:
        annotation["area"] = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]
    scores = evaluate(gt, found, "coco")
    assert scores["ap"] == pytest.approx(evaluate(with_area, found, "coco")["ap"], nan_ok=True)
    assert any("0.53" in note for note in scores["summary"]["notes"])


def test_without_the_extra_the_pip_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycocotools.coco", "pycocotools.cocoeval", "faster_coco_eval"):
        monkeypatch.setitem(sys.modules, name, None)
    gt, found = random_people(COCO17.joints, 2)
    with pytest.raises(InputError, match=r"pip install 'vidpose\[coco\]'"):
        evaluate(gt, found, "coco")


def test_a_joint_without_sigma_is_refused() -> None:
    gt, found = random_people(("nose", "tail"), 2)
    with pytest.raises(InputError, match="'tail' has no OKS sigma"):
        evaluate(gt, found, "coco")


def test_predictions_that_lack_a_joint_are_refused() -> None:
    gt, _ = random_people(COCO17.joints, 2)
    _, found = random_people(SKELETONS["posetrack15"].joints, 2)
    with pytest.raises(InputError, match="keypoints lack left_eye"):
        evaluate(gt, found, "coco")
