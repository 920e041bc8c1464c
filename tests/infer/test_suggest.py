"""Which frames to label next: where confidence falls, and never where a label is already."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.infer.propagation.suggest import by_doubt, evenly, suggest


def falling(rates: np.ndarray, labelled: np.ndarray, joints: int = 15) -> np.ndarray:
    """[F, K] confidences that fall from label to label by the frame's rate."""
    frames = np.arange(len(rates))
    away = np.abs(frames[:, None] - labelled[None]).min(axis=1)
    confidence = np.exp(-rates * away)[:, None].repeat(joints, axis=1)
    confidence[labelled] = np.nan
    return confidence


def test_new_labels_go_where_confidence_falls() -> None:
    labelled = np.array([0, 30, 60, 90])
    rates = np.full(91, 0.001)
    rates[31:60] = 0.1
    frames = [frame for frame, _ in by_doubt(falling(rates, labelled), labelled, 4)]
    assert sum(30 < frame < 60 for frame in frames) >= 3 and len(set(frames)) == 4


@pytest.mark.parametrize(("count", "expected"), [(1, [15]), (2, [10, 20]), (4, [6, 12, 18, 24])])
def test_where_all_frames_are_alike_new_labels_are_evenly_spaced(count: int, expected: list[int]) -> None:
    labelled = np.array([0, 30])
    found = by_doubt(falling(np.full(31, 0.05), labelled), labelled, count)
    np.testing.assert_allclose(sorted(frame for frame, _ in found), expected, atol=2)


def test_the_gain_is_that_of_the_model() -> None:
    """One gap, one new label: nothing is better than the frame that is suggested, by trying all."""
    rng = np.random.default_rng(0)
    labelled = np.array([0, 20])
    rates = rng.uniform(0.01, 0.3, 21)
    confidence = falling(rates, labelled, joints=1)
    # What the function makes of single rates: half way to their mean.
    usual = np.exp(np.log(rates[1:20]).mean())
    mixed = np.sqrt(rates * usual)
    frames = np.arange(21)

    def right(labels: list[int]) -> float:
        away = np.abs(frames[:, None] - np.array(labels)[None]).min(axis=1)
        return float(np.exp(-mixed * away).sum())

    gains = {k: right([0, 20, k]) - right([0, 20]) for k in range(1, 20)}
    [(frame, gain)] = by_doubt(confidence, labelled, 1)
    assert frame == max(gains, key=lambda k: gains[k])
    assert gain == pytest.approx(gains[frame], rel=1e-5)


def test_labelled_frames_are_never_suggested_and_all_others_can_be() -> None:
    labelled = np.array([3, 4, 9])
    confidence = np.full((12, 5), np.nan)
    confidence[5:9] = 1.0  # nothing to gain
    found = [frame for frame, _ in by_doubt(confidence, labelled, 9)]
    assert sorted(found) == [0, 1, 2, 5, 6, 7, 8, 10, 11]


def test_without_labels_frames_are_evenly_spaced(tmp_path: Path) -> None:
    for k in range(10):
        cv2.imwrite(str(tmp_path / f"{k:03d}.png"), np.full((32, 32, 3), k, np.uint8))
    found = suggest(tmp_path, None, 2)
    assert [(one.frame, one.file_name) for one in found] == [(2, "002.png"), (7, "007.png")]
    assert [frame for frame, _ in evenly(7, 7)] == list(range(7))
    with pytest.raises(InputError, match="has 10 frames without labels"):
        suggest(tmp_path, None, 11)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_posetrack(tmp_path, splits=("train",), videos=1, frames=9, unlabeled=(1, 2, 3, 5, 6, 7))
    images = next((root / "images" / "train").iterdir())
    labels = next((root / "annotations" / "train").iterdir())

    def answer(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            main(["suggest", *arguments])
        said = capsys.readouterr()
        return exit.value.code or 0, said.out, said.err

    status, out, _ = answer(str(images), str(labels), "-n", "2", "--json", "-q")
    told = json.loads(out)
    assert status == 0 and len(told) == 2 and {one["frame"] for one in told} <= {1, 2, 3, 5, 6, 7}
    status, out, _ = answer(str(images), str(labels), "-n", "3", "-q")
    assert status == 0 and out.count("frame ") == 3
    status, out, err = answer(str(images), str(labels), "-n", "7")
    assert status == 2 and not out and err.splitlines()[-1].endswith("has 6 frames without labels")
