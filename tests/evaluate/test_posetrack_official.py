"""The official evaluator's numbers, per joint, on the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pose_files import random_films, write_folders
from slow_posetrack import NAMES, slow_scores

from vidpose.evaluate import evaluate

SORTED_ON_RECORD = 31223589
METRICS = ("ap", "precision", "recall", "mota", "motp")
# The order in which the official evaluator met the files: where scores are equal, AP depends on it.
ORDER = {"pt17_a": (2, 3, 1, 0), "pt17_b": (5, 2, 3, 1, 4, 0), "pt18_a": (2, 3, 1, 0)}
Case = tuple[list[Path], list[Path], dict[str, list[float]]]


def official_case(name: str, shared: Path | None, tmp_path: Path) -> Case:
    """Files and the official numbers; where they are absent, our own films and the slow version's numbers."""
    if shared is None:
        films = random_films(len(name), films=4, frames=8)
        gt, predictions = write_folders(tmp_path, films, name[2:4])
        expected = slow_scores(films)
        names = sorted(path.name for path in gt.iterdir())
    else:
        gt, predictions = (shared / "fixtures" / "poseval" / name / side for side in ("gt", "pred"))
        expected = json.loads((gt.parent / "expected.json").read_text())
        names = [f"{number:06d}_mpii_test.json" for number in ORDER[name]]
    return [gt / file for file in names], [predictions / file for file in names], expected


def default_sort_is_the_recorded_one() -> bool:
    """numpy's default sort leaves equal numbers in an order that depends on the processor."""
    values = np.random.default_rng(0).integers(0, 40, 500).astype(float)
    return int(np.argsort(values) @ np.arange(500)) == SORTED_ON_RECORD


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", sorted(ORDER))
def test_every_joint_and_the_total(name: str, metric: str, shared_dir: Path | None, tmp_path: Path) -> None:
    gt, predictions, expected = official_case(name, shared_dir, tmp_path)
    scores = evaluate(gt, predictions)[metric]
    tolerance = 1e-6 if metric != "ap" or default_sort_is_the_recorded_one() else 0.02
    np.testing.assert_allclose(
        [scores[joint] for joint in NAMES], expected[metric][:15], rtol=0, atol=tolerance
    )
    if len(expected[metric]) == 16:
        assert scores["Mean"] == pytest.approx(expected[metric][15], abs=tolerance)


@pytest.mark.parametrize("name", sorted(ORDER))
def test_any_order_of_files_stays_in_the_range_that_equal_scores_allow(
    name: str, shared_dir: Path | None, tmp_path: Path
) -> None:
    gt, predictions, expected = official_case(name, shared_dir, tmp_path)
    lowest, highest = evaluate(gt, predictions)["summary"]["ap_range"]
    official = float(np.nanmean(expected["ap"][:15]))
    assert lowest - 1e-9 <= official <= highest + 1e-9
    for turned in (gt[::-1], sorted(gt)):
        scores = evaluate(turned, predictions)
        assert lowest - 1e-9 <= scores["ap"]["Mean"] <= highest + 1e-9
        assert [scores["mota"][joint] for joint in NAMES] == pytest.approx(expected["mota"][:15], nan_ok=True)


@pytest.mark.parametrize("name", sorted(ORDER))
def test_folders_score_like_their_files(name: str, shared_dir: Path | None, tmp_path: Path) -> None:
    gt, predictions, _ = official_case(name, shared_dir, tmp_path)
    listed = [path for path in gt[0].parent.iterdir() if path.suffix == ".json"]
    by_folder = evaluate(gt[0].parent, str(predictions[0].parent) + "/")
    np.testing.assert_equal(by_folder, evaluate(listed, predictions))
