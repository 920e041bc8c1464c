"""What ``make demo`` runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest

from vidpose import PoseEstimator, demo
from vidpose.io.video import open_video
from vidpose.weight_sets import find_weight_set

WEIGHTS = find_weight_set("default").require()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def test_demo_names_a_video_and_a_sheet_and_scores_both_models(
    shown: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.run(shown)
    text = capsys.readouterr().out
    means = [float(row.split("|")[-2]) for row in re.findall(r"^\| AP +\|.*$", text, flags=re.MULTILINE)]
    assert len(means) == 2 and min(means) > 30
    video = Path(re.findall(r"annotated video: (.+)", text)[0])
    sheet = Path(re.findall(r"contact sheet: +(.+)", text)[0])
    with open_video(str(video)) as frames:
        assert sum(1 for _ in frames) == 75
    assert cv2.imread(str(sheet)) is not None
    poses = json.loads(Path(re.findall(r"poses: +(.+)", text)[0]).read_text())
    assert len(poses["images"]) == 75
    assert poses["annotations"], "the shipped detector found nobody"


def test_shipped_weights_are_small_and_say_where_they_come_from() -> None:
    sizes = {path.stem: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert {"person_detector", "tdmi", "hrnet"} <= set(sizes)
    # tdmi's backbone is in hrnet's file, which also takes the detector's second look
    assert sizes["person_detector"] + sizes["tdmi"] + sizes["hrnet"] <= 24e6
    for name in ("tdmi", "hrnet"):
        card = PoseEstimator(model=name, detector="full-frame", device="cpu").model.card
        assert isinstance(card, dict)
        for run in card.get("mean_of", [card]):
            assert run["steps"] > 0 and run["scores"]["mAP"] > 45 and "seed" in run and "data" in run
