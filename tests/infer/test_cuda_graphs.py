"""Graphs of few batch sizes give what the networks give; a stand-in records where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dots import DotModel
from torch import Tensor

from vidpose.infer import cuda_graphs
from vidpose.infer.crops import CropRunner, Strip, make_windows
from vidpose.infer.cuda_graphs import (
    Function,
    GraphedFunction,
    GraphedPoseModel,
    Tensors,
    batches,
    find_recorder,
    graph_pose_model,
)
from vidpose.infer.detect import build_detector
from vidpose.infer.estimator import PoseEstimator
from vidpose.models.factory import create_model
from vidpose.skeletons import POSETRACK15


class Recorder:
    """As a graph does, runs on the tensors that it was made with and gives its outputs in the same place."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, function: Function, inputs: Tensors) -> Callable[[], Tensors]:
        self.rows.append(len(next(iter(inputs.values()))))
        outputs = function(inputs)

        def replay() -> Tensors:
            for name, value in function(inputs).items():
                outputs[name].copy_(value)
            return outputs

        return replay


def doubled(inputs: Tensors) -> Tensors:
    return {"doubled": inputs["x"] * 2}


def test_batches_are_cut_and_filled_up():
    assert list(batches(1)) == [(0, 1, 1)]
    assert list(batches(5)) == [(0, 5, 8)]
    assert list(batches(40)) == [(0, 40, 48)]
    assert list(batches(133)) == [(0, 64, 64), (64, 128, 64), (128, 133, 8)]


def test_a_function_is_recorded_once_for_each_size_and_its_outputs_stay():
    record = Recorder()
    graphed = GraphedFunction(doubled, record)
    inputs = [torch.full((n, 3), float(n)) for n in (5, 7, 8, 3, 70, 5)]
    outputs = [graphed({"x": x})["doubled"] for x in inputs]
    for x, found in zip(inputs, outputs, strict=True):  # none was overwritten by a later one
        assert torch.equal(found, 2 * x)
    assert record.rows == [8, 4, 64]  # 5, 7 and 8 share the first; 70 is 64 and 6
    graphed({"x": torch.ones(8, 4)})  # another shape
    assert record.rows == [8, 4, 64, 8]


def test_rows_of_a_clip_stay_together():
    def first_and_mean(inputs: Tensors) -> Tensors:
        clips = inputs["x"].unflatten(0, (-1, 3))
        return {"first": clips[:, 0], "mean": clips.mean(dim=1)}

    record = Recorder()
    graphed = GraphedFunction(first_and_mean, record, group=3)
    x = torch.arange(66 * 3.0)[:, None]
    found = graphed({"x": x})
    assert torch.equal(found["first"], x[::3])
    assert torch.equal(found["mean"], x[1::3])
    assert record.rows == [192, 6]


def test_channels_stay_last():
    places = []

    def note(function: Function, inputs: Tensors) -> Callable[[], Tensors]:
        places.append(inputs["x"])
        return lambda: function(inputs)

    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    assert torch.equal(GraphedFunction(doubled, note)({"x": x})["doubled"], 2 * x)
    assert places[0].is_contiguous(memory_format=torch.channels_last)


def test_where_recording_fails_a_line_says_so_and_the_function_runs(capsys: pytest.CaptureFixture[str]):
    def fails(function: Function, inputs: Tensors) -> Callable[[], Tensors]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore lines")

    graphed = GraphedFunction(doubled, fails, name="the detector")
    for n in (3, 70, 3):
        assert torch.equal(graphed({"x": torch.ones(n, 2)})["doubled"], torch.full((n, 2), 2.0))
    said = capsys.readouterr().err
    assert said == (
        "vidpose: the detector runs without CUDA graphs: operation not permitted when stream is capturing\n"
    )


def test_many_shapes_run_without_more_graphs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cuda_graphs, "MAX_GRAPHS", 2)
    record = Recorder()
    graphed = GraphedFunction(doubled, record)
    for width in (1, 2, 3, 4, 1):
        assert torch.equal(graphed({"x": torch.ones(2, width)})["doubled"], torch.full((2, width), 2.0))
    assert len(record.rows) == 2


SMALL = {"backbone": "hrnet_w16_small", "input_size": (128, 96), "pretrained": False}


@pytest.mark.parametrize("name", ["hrnet", "tdmi"])
@torch.inference_mode()
def test_a_pose_model_gives_the_same_poses(name: str):
    torch.manual_seed(0)
    model = create_model(name, **SMALL).eval()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (200, 160, 3), dtype=np.uint8) for _ in range(7)]
    frames = model.num_frames if model.kind == "video" else 1
    _, windows = make_windows(range(7), frames, 0, 6)
    strips = [Strip(np.array([10.0 * k, 5, 90 + 10 * k, 180]), images, windows) for k in range(3)]
    record = Recorder()
    network = GraphedPoseModel(model, torch.float32, record)
    for flip_test in (False, True):
        expected = CropRunner(model, POSETRACK15, flip_test=flip_test)(strips)
        found = CropRunner(model, POSETRACK15, flip_test=flip_test, network=network)(strips)
        for (points, peaks), (ours, our_peaks) in zip(expected, found, strict=True):
            assert our_peaks == pytest.approx(peaks, abs=1e-5)
            assert ours == pytest.approx(points, abs=1e-2)
    assert record.rows == [8, 8 * frames]  # backbone and head: seven of each


def test_a_model_of_optical_flow_runs_without(capsys: pytest.CaptureFixture[str]):
    model = create_model("jmpose", **SMALL, motion="flow")
    assert graph_pose_model(model, torch.float32, Recorder()) is None
    assert "jmpose runs without CUDA graphs: it takes motion from optical flow" in capsys.readouterr().err


def test_the_detector_gives_the_same_boxes():
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    options = {"device": "cpu", "precision": "fp32", "min_score": 0.0}
    record = Recorder()
    [expected] = build_detector(**options)([image])
    detector = build_detector(record=record, **options)
    for _ in range(2):
        [found] = detector([image])
        assert found.boxes_xyxy == pytest.approx(expected.boxes_xyxy, abs=1e-3)
        assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert record.rows[:3] == [1, 1, 1]  # its three views
    assert len(record.rows) == len(set(record.rows[3:])) + 3  # and each size of the second look


def test_without_cuda_a_line_says_so(capsys: pytest.CaptureFixture[str]):
    estimator = PoseEstimator(DotModel(), detector="full-frame", device="cpu", cuda_graphs=True)
    assert estimator.runner.network is None
    said = capsys.readouterr().err
    assert said == "vidpose: CUDA graphs need a CUDA device: on cpu the networks run without\n"
    assert find_recorder(torch.device("cpu")) is None


def test_a_recorder_is_the_estimators_own(monkeypatch: pytest.MonkeyPatch):
    record = Recorder()
    monkeypatch.setattr("vidpose.infer.estimator.find_recorder", lambda device: record)
    torch.manual_seed(0)
    model = create_model("hrnet", **SMALL)
    estimator = PoseEstimator(model, detector="full-frame", device="cpu", precision="fp32", cuda_graphs=True)
    assert isinstance(estimator.runner.network, GraphedPoseModel)
    assert estimator.info["engine"] == "torch" and estimator.info["precision"] == "fp32"
    image: Tensor | np.ndarray = np.zeros((100, 80, 3), np.uint8)
    estimator.runner([Strip(np.array([0.0, 0, 79, 99]), [image], np.zeros((1, 1), np.int64))])
    assert record.rows == [1, 1]
