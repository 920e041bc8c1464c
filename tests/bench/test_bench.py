"""``vidpose bench``: what it counts must add up; no figure is asserted."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest

from vidpose.bench import run_bench
from vidpose.bench import stages as stages_module
from vidpose.bench.machine import forget_peak_memory, peak_memory
from vidpose.bench.peers import load_peer
from vidpose.bench.report import linear_fit, to_markdown, write_chart
from vidpose.bench.stages import STAGES, StageClock
from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.infer import crops, upright
from vidpose.infer.crops import CropRunner

VIDEO = str(resources.files("vidpose") / "examples" / "people.mp4")


class FakeTime:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(name="fake")
def _fake(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(stages_module, "time", fake)
    return fake


def test_time_of_a_nested_stage_counts_once(fake: FakeTime) -> None:
    clock = StageClock()
    with clock.stage("other"):
        fake.now += 1
        with clock.stage("crop"):
            fake.now += 2
        fake.now += 4
    assert clock.seconds["other"] == 5
    assert clock.seconds["crop"] == 2
    assert sum(clock.seconds.values()) == fake.now


def test_networks_inside_the_detector_are_the_detectors(fake: FakeTime) -> None:
    clock = StageClock()
    with clock.stage("detect"), clock.stage("backbone"):
        fake.now += 3
    assert clock.seconds["detect"] == 3
    assert clock.seconds["backbone"] == 0


def test_time_before_an_error_is_counted(fake: FakeTime) -> None:
    clock = StageClock()

    def fails() -> None:
        fake.now += 1
        raise ValueError

    with pytest.raises(ValueError):
        clock.wrap("read", fails)()
    with clock.stage("write"):
        fake.now += 1
    assert (clock.seconds["read"], clock.seconds["write"]) == (1, 1)


def test_a_line_is_fitted() -> None:
    slope, intercept, explained = linear_fit([1, 2, 4], [5, 7, 11])
    assert slope == pytest.approx(2)
    assert intercept == pytest.approx(3)
    assert explained == pytest.approx(1)


def test_peak_memory_sees_what_was_held() -> None:
    if not forget_peak_memory():
        pytest.skip("the system cannot forget a peak")
    before = peak_memory()
    held = np.ones(8_000_000)
    del held
    assert peak_memory() - before > 40e6


def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(InputError, match="unknown peer 'openpose'"):
        load_peer("openpose")


def test_a_bench_adds_up_and_leaves_nothing_behind(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upright, "LEAST_LEAN_DEG", 181.0)  # nobody is seen twice
    untouched = CropRunner._head, CropRunner.cut, crops.decode_heatmaps
    arguments = ["bench", "--model", "hrnet", "--detector", "full-frame", "--pairs", "3"]
    arguments += ["--max-frames", "5", "--no-growth", "--output", str(tmp_path), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    assert (CropRunner._head, CropRunner.cut, crops.decode_heatmaps) == untouched
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["video"]["frames"] == found["poses"] == 5
    assert set(found["stages"]) == set(STAGES)
    assert min(found["stages"].values()) >= 0
    assert found["stages"]["backbone"] > 0
    assert found["passes_per_pose"] == 1
    assert len(found["frames_per_s"]) == 3
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bench.md").read_text() == capsys.readouterr().out


def test_growth_takes_the_frames_over_and_over(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr("vidpose.bench.run.PEOPLE", (1, 2))
    report = run_bench(VIDEO, model="hrnet", detector="full-frame", pairs=3, max_frames=3)
    assert [row["frames"] for row in report.length] == [3, 6, 12]
    assert [row["people"] for row in report.people] == [1, 2]
    assert report.clips == []  # one frame a pose
    text = to_markdown(report)
    assert "| 12 |" in text
    write_chart(report, tmp_path / "chart.png")


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(InputError, match="at least 3 runs"):
        run_bench(VIDEO, pairs=1)
