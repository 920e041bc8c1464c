"""Exported files against the models they come from, run by other runtimes, and what is refused."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import torch

from vidpose.errors import InputError, MissingExtraError
from vidpose.geometry import normalize_image
from vidpose.models import export
from vidpose.models.export import TOLERANCE, export_model
from vidpose.models.factory import create_model
from vidpose.skeletons import POSETRACK15

MODELS = {
    # One of the four stages: each has the same layers, and tracing takes time.
    "tdmi_st": {"backbone": "hrnet_w8_small", "input_size": (32, 64), "num_frames": 3, "fusion": "single"},
    "vitpose": {"backbone": "vit_32x2x4", "input_size": (64, 48)},
}


def build(name):
    torch.manual_seed(0)
    model = create_model(name, **MODELS[name]).eval()
    for parameter in (
        model.head.heatmaps if hasattr(model.head, "heatmaps") else model.head.final_layer
    ).parameters():
        torch.nn.init.normal_(parameter, std=0.1)  # an untrained last layer says almost nothing
    return model


def clips_for(model, batch, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.num_frames, 3, *model.input_size, generator=generator)


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_gives_the_heatmaps_of_the_model(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = build(name)
    report = export_model(model, tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]  # weights inside, no second file
    assert report.bytes == (tmp_path / "model.onnx").stat().st_size
    assert report.max_difference <= TOLERANCE and report.format == "ONNX"
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, found.name) == ("clips", "heatmaps")
    assert list(given.shape[1:]) == report.inputs["clips"][1:] == [model.num_frames, 3, *model.input_size]
    said = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert said["vidpose.joints"] == list(POSETRACK15.joints)
    assert said["vidpose.input_size"] == list(model.input_size)
    pixels = np.array([0.0, 128.0, 255.0])
    normalised = (pixels - said["vidpose.mean"]) / said["vidpose.std"]
    assert normalised == pytest.approx(normalize_image(pixels.astype(np.uint8)[None, None])[:, 0, 0])
    for batch in (1, 4):
        clips = clips_for(model, batch)
        with torch.no_grad():
            expected = model(clips).heatmaps.numpy()
        assert expected.std() > 1e-3
        np.testing.assert_allclose(session.run(None, {"clips": clips.numpy()})[0], expected, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_program_gives_the_heatmaps_of_the_model(name, tmp_path):
    model = build(name)
    report = export_model(model, tmp_path / "model.pt2")
    assert report.format == "torch.export" and report.outputs["heatmaps"] == ["B", 15, *model.heatmap_size]
    program = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 4):
        clips = clips_for(model, batch)
        with torch.no_grad():
            torch.testing.assert_close(program(clips), model(clips).heatmaps, atol=1e-5, rtol=1e-4)
    assert json.loads(json.dumps(report.to_dict()))["model"] == name
    assert str(tmp_path / "model.pt2") in str(report) and "torch.export" in str(report)


@pytest.mark.parametrize("name", ["model.engine", "model", "model.onnx.txt"])
def test_other_suffixes_are_refused(name, tmp_path):
    with pytest.raises(InputError, match=r"unknown export format .*use \.onnx or \.pt2"):
        export_model(build("vitpose"), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name.split(".")[0] in ("onnxruntime", "onnxscript"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidpose\[export\]'"):
        export_model(build("vitpose"), tmp_path / "model.onnx")
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_a_graph_that_differs_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="differs from the original"):
        export_model(build("vitpose"), tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())
