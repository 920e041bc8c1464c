"""benchmarks/gpu.py runs on a CPU with tiny settings, and says what it promises."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from vidpose.bench.stages import STAGES

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "gpu", raising=False)


def test_it_runs_on_a_cpu(tmp_path: Path) -> None:
    import gpu

    arguments = ["--device", "cpu", "--methods", "hrnet", "stdpose-b", "--vit", "vit_32x2x2"]
    arguments += ["--frames", "5", "--people", "2", "--rounds", "2", "--size", "160x96"]
    assert gpu.main([*arguments, "-o", str(tmp_path / "gpu.json")]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["failed"] == {} and report["size"] == [160, 96]
    rows = {(row["method"], row["variant"]): row for row in report["rows"]}
    assert list(rows) == [(m, v) for m in ("hrnet", "stdpose-b") for v in ("host", "device")]  # no graphs
    for (method, variant), row in rows.items():
        assert row["poses"] == 10
        assert len(row["person_frames_per_s"]) == 2
        assert set(row["stages"]) == set(STAGES)
        assert sum(row["stages"].values()) == pytest.approx(1)
        assert row["backbone_share"] == row["stages"]["backbone"] > 0
        assert row["passes_per_pose"] == (1 if method == "hrnet" else pytest.approx(1))
        assert row["peak_mb"] > 0
        # three runs of five frames and the one with a clock
        assert row["uploads"] == (20 if variant == "device" else None)
    assert rows["hrnet", "device"]["from_host_px"]["median"] < 0.01
    assert rows["hrnet", "host"]["from_host_px"] == {"median": 0, "over_1": 0}
    assert report["decode"][0]["decode"] == "cpu" and report["decode"][0]["frames"] == 5


def test_poses_of_other_people_are_not_compared() -> None:
    import gpu

    one, two = np.zeros((1, 15, 2)), np.zeros((2, 15, 2))
    assert gpu.difference([one], [two]) is None
    assert gpu.difference(None, [two]) is None
    assert gpu.difference([one, two], [one + [3, 4], two]) == {"median": 0, "over_1": pytest.approx(1 / 3)}


def test_what_fails_is_named_and_the_rest_is_done(tmp_path: Path) -> None:
    import gpu

    arguments = ["--device", "cpu", "--methods", "vitpose-b", "hrnet", "--vit", "vit_x"]
    arguments += ["--frames", "2", "--people", "1", "--rounds", "1", "--size", "160x96"]
    assert gpu.main([*arguments, "--variants", "device", "-o", str(tmp_path / "gpu.json")]) == 1
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert "vit_x" in report["failed"]["vitpose-b"]
    assert [row["method"] for row in report["rows"]] == ["hrnet"]
