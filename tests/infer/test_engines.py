"""Networks in other engines: the same outputs as PyTorch's, exported once, refused where they differ."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidpose.errors import InputError, MissingExtraError
from vidpose.infer import engine_checks, engines
from vidpose.infer.crops import CropRunner, Strip, make_windows
from vidpose.infer.detect import build_detector
from vidpose.infer.engine_checks import example_frames, run_torch
from vidpose.infer.engines import load_network, model_digest, resolve_engine
from vidpose.infer.estimator import PoseEstimator
from vidpose.models.factory import create_model
from vidpose.models.hrnet import fold_batch_norms
from vidpose.models.person_detector import PersonDetector, save_detector
from vidpose.skeletons import POSETRACK15

ENGINES = ("openvino", "onnxruntime")
CPU = torch.device("cpu")


def need(engine: str) -> str:
    """Skips the test where the engine's packages are missing."""
    for package in (engine, "onnx", "onnxscript"):
        pytest.importorskip(package)
    return engine


def pose_model(name: str = "tdmi", **options) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "tdmi":
        options = {"num_frames": 3, "fusion": "single", "spatial_modulation": False, **options}
    model = create_model(name, backbone="hrnet_w8_small", input_size=(64, 32), **options).eval()
    last = model.head.heatmaps if name == "tdmi" else model.head.final_layer
    torch.nn.init.normal_(last.weight, std=0.1)  # an untrained last layer says almost nothing
    return model


def small_detector() -> PersonDetector:
    torch.manual_seed(0)
    model = PersonDetector(backbone="hrnet_w8_small", long_side=64, head_channels=8).eval()
    torch.nn.init.normal_(model.centre.weight, std=0.3)
    return model


def folded(model: PersonDetector) -> PersonDetector:
    """As :class:`vidpose.infer.detect.SmallDetector` runs it: tests then share one export."""
    for part in (model.backbone, model.heads):
        fold_batch_norms(part)
    return model


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that the tests of this module share, so that each network is exported once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(engines.CACHE_VARIABLE, str(folder))
        yield folder


@pytest.fixture
def empty_cache(cache, tmp_path, monkeypatch):
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def no_export(monkeypatch):
    """Exporting takes no time and writes files that say nothing."""

    def write(model, *paths):
        for path in paths:
            path.write_bytes(b"")

    monkeypatch.setattr(engines, "export_parts", write)
    monkeypatch.setattr(engines, "installed_engines", lambda: ["openvino", "onnxruntime"])
    monkeypatch.setattr(engines, "_precision", lambda engine, dtype: "fp32")
    monkeypatch.setattr(
        engines, "_open", lambda store, engine, precision: engines.PoseNetwork(engine, precision, None, None)
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["tdmi", "hrnet"])
def test_heatmaps_are_those_of_the_model(engine, name, cache):
    model = pose_model(name)
    network = load_network(model, need(engine), torch.float32)
    assert network is not None and (network.engine, network.precision) == (engine, "fp32")
    for count, windows in ((1, [[0] * model.num_frames]), (9, [[7, 2, 2], [0, 1, 8], [3, 3, 3], [4, 5, 6]])):
        frames = torch.randn(count, 3, 64, 32)
        clips = torch.tensor(windows)[:, : model.num_frames]  # [K, T]
        with torch.no_grad():
            expected = model(frames[clips]).heatmaps.numpy()
        assert expected.std() > 1e-3
        found = network.heatmaps(network.extract(frames), clips.numpy())
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("flip_test", [False, True])
def test_keypoints_are_those_of_pytorch(engine, flip_test, cache):
    model = pose_model()
    network = load_network(model, need(engine), torch.float32)
    images = [image for image, _ in example_frames(7)]
    needed, windows = make_windows(range(7), 3, 0, 6)
    strips = [Strip(np.array(box), [images[n] for n in needed], windows) for box in ((90, 40, 200, 330),)]
    runners = [CropRunner(model, POSETRACK15, flip_test=flip_test, network=n) for n in (None, network)]
    (expected, peaks), (found, others) = (runner(strips)[0] for runner in runners)
    np.testing.assert_allclose(found, expected, atol=0.05)
    np.testing.assert_allclose(others, peaks, atol=1e-4)
    frames = torch.randn(6, 3, 64, 32)  # the way of live sources: features first, and the head later
    made = [runner.heatmaps_of(runner.features(frames)).detach() for runner in runners]
    np.testing.assert_allclose(made[1], made[0], atol=1e-4)
    assert runners[0].frames_extracted == runners[1].frames_extracted


@pytest.mark.parametrize("engine", ENGINES)
def test_boxes_are_those_of_pytorch(engine, cache):
    model = folded(small_detector())
    network = load_network(model, need(engine), torch.float32)
    assert network is not None
    image = example_frames(1)[0][0]
    images = [image, image[:200, :90], image[::2, 100:]]
    for side in (64, 128):
        options = {"min_score": 0.0, "max_people": 5, "long_side": side}
        pairs = zip(
            model.detect(images, **options),
            model.detect(images, network=network.maps, **options),
            strict=True,
        )
        for (boxes, scores), (others, confidence) in pairs:
            assert len(boxes)
            np.testing.assert_allclose(confidence, scores, atol=1e-4)
            np.testing.assert_allclose(others, boxes, atol=0.05)


def test_bfloat16_stays_as_near_as_pytorchs_own(cache):
    model = pose_model()
    network = load_network(model, need("openvino"), torch.bfloat16)
    assert network is not None and network.precision in ("bf16", "fp32")  # as the processor can
    inputs = engine_checks.sample_inputs(model)
    found, own = network(*inputs), run_torch(model, inputs, torch.bfloat16)
    reference = run_torch(model, inputs, torch.float32)
    value, place = engine_checks.difference(model, found, reference)
    assert value <= max(0.03, 1.5 * engine_checks.difference(model, own, reference)[0])
    assert place <= max(0.1, 1.5 * engine_checks.difference(model, own, reference)[1])


def test_a_detector_in_8_bit_integers(cache, monkeypatch):
    need("openvino")
    pytest.importorskip("nncf")
    model = folded(small_detector())
    monkeypatch.setitem(engine_checks.LIMITS, "int8", (1.0, 10.0))  # an untrained network is not sure
    network = load_network(model, "openvino", torch.float32, int8=True)
    assert network is not None and network.precision == "int8"
    (folder,) = (cache / "engines").glob("person_detector-*")
    assert (folder / "int8.bin").stat().st_size < 0.6 * (folder / "network.onnx").stat().st_size
    images = engine_checks.sample_inputs(model)[0]
    value, _ = engine_checks.difference(model, network(images), run_torch(model, (images,), torch.float32))
    assert 0 < value < 0.5


def test_a_network_is_exported_and_checked_once(empty_cache, no_export, monkeypatch, capsys):
    checked = []
    monkeypatch.setattr(engine_checks, "check", lambda *about: checked.append(about) or ([0.0, 0.0], None))
    model = pose_model("hrnet")
    assert load_network(model, "openvino", torch.float32) is not None
    assert "preparing hrnet for openvino" in capsys.readouterr().err
    monkeypatch.setattr(engines, "export_parts", None)
    assert load_network(model, "openvino", torch.float32) is not None
    assert len(checked) == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("digests", [True, False])
def test_a_damaged_network_is_made_anew(engine, digests, cache, capsys):
    """Cut off, or with other bytes; where no digest was kept the engine's own refusal tells."""
    need(engine)
    model = pose_model("hrnet")
    assert load_network(model, engine, torch.float32) is not None
    (folder,) = (cache / "engines").glob("hrnet-*")
    whole = (folder / "backbone.onnx").read_bytes()
    (folder / "backbone.onnx").write_bytes(whole[: len(whole) // 2])
    if not digests:
        checks = json.loads((folder / "checks.json").read_text())
        (folder / "checks.json").write_text(json.dumps({k: v for k, v in checks.items() if "sha" not in k}))
    capsys.readouterr()
    network = load_network(model, engine, torch.float32)
    assert network is not None and network.engine == engine
    told = [line for line in capsys.readouterr().err.splitlines() if "made anew" in line]
    assert len(told) == 1 and str(folder) in told[0] and "hrnet" in told[0]
    assert ("backbone.onnx is not what was written" if digests else "pars") in told[0].replace("Pars", "pars")
    frames = torch.randn(2, 3, 64, 32)
    found = network.heatmaps(network.extract(frames), np.array([[0], [1]]))
    with torch.no_grad():
        expected = model(frames[:, None]).heatmaps
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    assert load_network(model, engine, torch.float32) is not None
    assert capsys.readouterr().err == ""


def test_the_reason_of_an_engine_is_told_whole():
    said = "Exception from src/a.cpp:97:\nException from src/b.cpp:5:\n[ONNX Error] the file ends early.\n\n"
    assert engines._reason(RuntimeError(said)) == "[ONNX Error] the file ends early."
    assert engines._reason(RuntimeError("")) == "RuntimeError"


def test_other_weights_settings_and_code_are_other_networks(cache):
    model = pose_model("hrnet")
    before = model_digest(model)
    assert before == model_digest(pose_model("hrnet"))
    assert before != model_digest(pose_model("tdmi"))
    with torch.no_grad():
        next(model.parameters())[0, 0, 0, 0] += 1e-3
    assert before != model_digest(model)


def test_outputs_that_differ_are_told_and_not_used(cache, monkeypatch, capsys):
    engine = need("onnxruntime")
    monkeypatch.setattr(engines, "_processor", lambda: "another processor")  # where nothing is checked yet
    monkeypatch.setitem(engine_checks.LIMITS, "fp32", (-1.0, 0.0))
    model = pose_model("hrnet")
    for _ in range(2):  # the second time from what was kept
        assert load_network(model, engine, torch.float32) is None
        said = [line for line in capsys.readouterr().err.splitlines() if "preparing" not in line]
        assert len(said) == 1 and "hrnet runs in PyTorch and not in onnxruntime" in said[0]
        monkeypatch.setitem(engine_checks.LIMITS, "fp32", (1.0, 1.0))


def test_a_model_that_cannot_be_exported_runs_in_pytorch(empty_cache, monkeypatch, capsys):
    engine = need("openvino")
    model = pose_model(motion="flow", flow="dis", spatial_modulation=True)
    assert load_network(model, engine, torch.float32) is None
    assert "optical flow" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(engines.CACHE_VARIABLE, str(tmp_path / "file"))
    assert load_network(pose_model("hrnet"), "openvino", torch.float32) is None
    assert "cache folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shares", "chosen"),
    [
        ({"openvino": 0.8, "onnxruntime": 0.9}, "openvino"),
        ({"openvino": 0.9, "onnxruntime": 0.8}, "onnxruntime"),
        ({"openvino": 0.99, "onnxruntime": 1.3}, None),
    ],
)
def test_auto_takes_the_fastest_and_measures_once(shares, chosen, empty_cache, no_export, monkeypatch):
    measured = []
    monkeypatch.setattr(engine_checks, "check", lambda *about: ([0.0, 0.0], None))
    monkeypatch.setattr(
        engine_checks,
        "time_share",
        lambda model, network, dtype: measured.append(network.engine) or shares[network.engine],
    )
    model = pose_model("hrnet")
    for _ in range(2):
        network = load_network(model, "auto", torch.float32)
        assert (network and network.engine) == chosen
    assert measured == ["openvino", "onnxruntime"]


def test_auto_without_other_engines_is_pytorch(empty_cache, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert load_network(pose_model("hrnet"), "auto", torch.float32) is None
    assert not list(empty_cache.iterdir())


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    for engine in ENGINES:
        with pytest.raises(MissingExtraError, match=rf"pip install 'vidpose\[{engine}\]'"):
            resolve_engine(engine, "auto", CPU)
    with pytest.raises(MissingExtraError, match=r"pip install 'vidpose\[openvino\]'"):
        resolve_engine("auto", "int8", CPU)


def test_engines_besides_pytorch_are_for_cpus(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    assert resolve_engine("auto", "fp32", torch.device("cuda"))[0] == "torch"
    assert resolve_engine("auto", "fp32", CPU)[0] == "auto"
    with pytest.raises(InputError, match="runs on CPUs"):
        resolve_engine("openvino", "fp32", torch.device("cuda"))
    with pytest.raises(InputError, match="runs on CPUs"):
        resolve_engine("auto", "int8", torch.device("cuda"))


def test_8_bit_integers_are_for_our_own_detector(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="own detector"):
        build_detector("rtdetr", device="cpu", precision="int8", engine="openvino")


def test_a_result_says_which_engine_made_it(cache, tmp_path):
    need("onnxruntime")
    save_detector(small_detector(), tmp_path / "own.safetensors", {}, half=False)
    options = {"device": "cpu", "precision": "fp32", "detector": tmp_path / "own.safetensors"}
    made = PoseEstimator(pose_model("hrnet"), engine="onnxruntime", **options)
    told = ("engine", "precision", "detector_engine", "detector_precision")
    assert [made.info[name] for name in told] == ["onnxruntime", "fp32"] * 2
    plain = PoseEstimator(pose_model("hrnet"), engine="torch", **options)
    assert [plain.info[name] for name in told] == ["torch", "fp32"] * 2
    assert json.dumps(made.info)


class SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of mapped memory")
def test_signals_still_find_their_stack(cache):
    """Cores of OpenVINO that come and go leave an alternate signal stack that is not there any more."""
    need("openvino")
    network = load_network(pose_model(), "openvino", torch.float32)  # of two parts
    assert network is not None
    del network
    gc.collect()
    stack = SignalStack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    lines = Path("/proc/self/maps").read_text().splitlines()
    mapped = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in lines]
    disabled = 2  # SS_DISABLE: signals are handled on the ordinary stack
    assert stack.flags & disabled or any(start <= stack.start < end for start, end in mapped)
