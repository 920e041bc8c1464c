"""Engines: other software than PyTorch that runs the networks of ``estimate`` on a CPU.

A network is written as ONNX once (:mod:`vidpose.models.export`), run beside PyTorch on crops
or pictures of the packaged example (:mod:`vidpose.infer.engine_checks`), and kept in the user's cache folder
with what that check found. An engine whose outputs fail the check is not used: PyTorch is.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias, overload

import numpy as np
import torch
from torch import Tensor

from vidpose.device import (
    PRECISIONS,
    native_bfloat16,
    precision_name,
    processor_facts,
    processor_name,
    resolve_precision,
)
from vidpose.errors import InputError, MissingExtraError
from vidpose.io.files import atomic_path, content_digest, read_json, temporary_folder, write_json
from vidpose.models.export import WINDOWS, export_detector, export_parts
from vidpose.models.person_detector import DetectorOutput, PersonDetector
from vidpose.models.video_model import PoseModel

ENGINES = ("auto", "torch", "openvino", "onnxruntime")
CACHE_VARIABLE = "VIDPOSE_CACHE"
"""Environment variable with the folder in which exported networks are kept."""
INT8 = "int8"
MIN_GAIN = 0.97
"""``auto`` leaves PyTorch for an engine that takes at most this share of its time."""
_FILES = "sha256 of files"
_LONGEST = 300
"""Characters of an engine's own words that are told."""


class Session(Protocol):
    """A file of ONNX that an engine has loaded."""

    inputs: list[str]
    outputs: list[str]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, float32, which stay as they are when it is called again."""
        ...


class PoseRunner(Protocol):
    """What runs a pose model in place of PyTorch's eager mode."""

    engine: str
    precision: str

    def extract(self, frames: Tensor) -> dict[str, Tensor]:
        """See :meth:`PoseNetwork.extract`."""
        ...

    def heatmaps(self, features: dict[str, Tensor], windows: np.ndarray) -> Tensor:
        """See :meth:`PoseNetwork.heatmaps`."""
        ...


@dataclass
class PoseNetwork:
    """A pose model in an engine."""

    engine: str
    precision: str
    """``fp32`` or ``bf16``: what it computes in."""
    backbone: Session
    head: Session

    def extract(self, frames: Tensor) -> dict[str, Tensor]:
        """Normalised RGB [N, 3, H, W] -> the features that the head uses, each [N, ...]."""
        found = self.backbone(frames.numpy())
        return {name: torch.from_numpy(x) for name, x in zip(self.backbone.outputs, found, strict=True)}

    def heatmaps(self, features: dict[str, Tensor], windows: np.ndarray) -> Tensor:
        """Features [N, ...] and clips of positions in them [K, T] -> heatmaps [K, J, h, w]."""
        given = [windows if name == WINDOWS else features[name].numpy() for name in self.head.inputs]
        return torch.from_numpy(self.head(*given)[0])

    def __call__(self, frames: np.ndarray, windows: np.ndarray) -> list[np.ndarray]:
        """Both at once: [heatmaps]."""
        return [self.heatmaps(self.extract(torch.from_numpy(frames)), windows).numpy()]


@dataclass
class DetectorNetwork:
    """A person detector in an engine."""

    engine: str
    precision: str
    """``fp32``, ``bf16`` or ``int8``."""
    session: Session

    def maps(self, images: Tensor) -> DetectorOutput:
        """As :meth:`PersonDetector.forward`."""
        logits, distances = self(images.numpy())
        return DetectorOutput(torch.from_numpy(logits), torch.from_numpy(distances))

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """[logits, distances]."""
        return self.session(images)


Network: TypeAlias = PoseNetwork | DetectorNetwork


def resolve_engine(engine: str, precision: str, device: torch.device) -> tuple[str, torch.dtype, bool]:
    """What to compute with.

    Args:
        engine: of :data:`ENGINES`.
        precision: ``auto``, ``fp32``, ``bf16``, ``fp16``, or ``int8``: the detector in 8-bit integers, which
            OpenVINO alone does; pose models as ``auto``.
        device: where PyTorch computes.

    Returns:
        The engine (``torch`` on other devices than CPUs), PyTorch's number format, and whether the detector
        runs in 8-bit integers.

    Raises:
        InputError: an unknown name, an engine that is not installed, or one that cannot do what is asked.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    if precision not in (known := (*PRECISIONS, INT8)):
        raise InputError(f"unknown precision {precision!r}; known: {', '.join(known)}")
    int8 = precision == INT8
    if int8:
        if engine not in ("auto", "openvino"):
            raise InputError(f"precision 'int8' needs engine openvino (--engine openvino), not {engine}")
        engine = "openvino"
    if engine == "auto" and device.type != "cpu":
        engine = "torch"
    if engine not in ("auto", "torch"):
        if device.type != "cpu":
            raise InputError(
                f"engine {engine!r} runs on CPUs, not on {device.type}: use torch, or device cpu"
            )
        require_engine(engine, quantize=int8)
    return engine, resolve_precision("auto" if int8 else precision, device), int8


def require_engine(engine: str, *, quantize: bool = False) -> None:
    """Raises :class:`MissingExtraError` where the packages of an engine are not installed."""
    needed = [engine, "onnx", "onnxscript", *(["nncf"] if quantize else [])]
    if any(find_spec(name) is None for name in needed):
        raise MissingExtraError(f"engine {engine!r}", engine)


def installed_engines() -> list[str]:
    """The engines besides PyTorch whose packages are installed."""
    found = []
    for engine in ENGINES[2:]:
        try:
            require_engine(engine)
        except MissingExtraError:
            continue
        found.append(engine)
    return found


@overload
def load_network(model: PoseModel, engine: str, dtype: torch.dtype) -> PoseNetwork | None: ...
@overload
def load_network(
    model: PersonDetector, engine: str, dtype: torch.dtype, *, int8: bool = False
) -> DetectorNetwork | None: ...
def load_network(model: Any, engine: str, dtype: torch.dtype, *, int8: bool = False) -> Network | None:
    """A model in an engine, exported, checked and measured on first use.

    Args:
        model: float32, in eval mode, on the CPU.
        engine: as :func:`resolve_engine` gave it.
        dtype: in which PyTorch would compute. ONNX Runtime always computes in float32, and OpenVINO in
            bfloat16 only where the processor does so natively.
        int8: a detector in 8-bit integers, calibrated on the packaged example.

    Returns:
        ``None``: PyTorch runs the model, because ``engine`` says so, because ``auto`` found nothing faster,
        or because export or check failed, of which a line on standard error tells.
    """
    if engine == "torch":
        return None
    asked = [engine]
    if engine == "auto":
        # Without bfloat16, which it lacks, ONNX Runtime takes longer than PyTorch with it.
        slow = ["onnxruntime"] if dtype == torch.bfloat16 and native_bfloat16(torch.device("cpu")) else []
        asked = [name for name in installed_engines() if name not in slow]
        if not asked:
            return None
    try:
        store = _Store(model)
    except (OSError, InputError) as error:
        _warn(model, engine, f"the cache folder cannot be used ({error})")
        return None
    best: tuple[float, Network] | None = None
    for name in asked:
        network = _checked(store, model, name, dtype, int8=int8)
        if network is None:
            continue
        if engine != "auto":
            return network
        share = _measured(store, model, network, dtype)
        if share <= MIN_GAIN and (best is None or share < best[0]):
            best = share, network
    return best[1] if best is not None else None


def cache_folder() -> Path:
    """Where exported networks are kept: ``VIDPOSE_CACHE``, or ``vidpose`` in the user's cache folder."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser()
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "vidpose"


# --- what is kept -----------------------------------------------------------------------------------


class _Store:
    """The folder of one model in the cache: its files, and what was found about them."""

    def __init__(self, model: PoseModel | PersonDetector) -> None:
        self.folder = cache_folder() / "engines" / f"{model.name}-{model_digest(model)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        kinds = ("network",) if isinstance(model, PersonDetector) else ("backbone", "head")
        self.networks = [self.folder / f"{kind}.onnx" for kind in kinds]
        self.quantized = [self.folder / "int8.xml", self.folder / "int8.bin"]

    def read(self, key: str) -> dict[str, Any]:
        """What was found under a key; empty: nothing yet."""
        return self._all().get(key, {})

    def write(self, key: str, **values: Any) -> dict[str, Any]:
        """Adds to what is known under a key, and returns all of it."""
        known = self._all()
        known[key] = {**known.get(key, {}), **values}
        write_json(self.folder / "checks.json", known, indent=1)
        return known[key]

    def remember(self, *paths: Path) -> None:
        """Keeps the digests of files that were written, by which :meth:`damage` knows them."""
        self.write(_FILES, **{path.name: content_digest(path) for path in paths})

    def damage(self) -> str | None:
        """What is wrong with a file that was kept; ``None``: nothing is known to be."""
        for name, digest in self.read(_FILES).items():
            path = self.folder / name
            if not path.is_file():
                return f"{path} is missing"
            if content_digest(path) != digest:
                return f"{path} is not what was written"
        return None

    def clear(self) -> None:
        """Deletes the files and what was found about them."""
        for path in (*self.networks, *self.quantized, self.folder / "checks.json"):
            path.unlink(missing_ok=True)

    def _all(self) -> dict[str, dict[str, Any]]:
        try:
            known = read_json(self.folder / "checks.json")
        except (InputError, OSError):
            return {}
        entries = known.items() if isinstance(known, dict) else ()
        return {key: value for key, value in entries if isinstance(value, dict)}


def model_digest(model: torch.nn.Module) -> str:
    """Names a model's export: its weights, its settings, the code of its modules and PyTorch's version."""
    digest = hashlib.sha256(f"{torch.__version__} {_version('onnxscript')}".encode())
    settings = {
        name: getattr(model, name, None)
        for name in ("config", "input_size", "num_frames", "num_joints", "long_side")
    }
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    sources = {type(part).__module__ for part in model.modules()} | {"vidpose.models.export"}
    for source in sorted(name for name in sources if not name.startswith("torch.")):
        file = getattr(sys.modules.get(source), "__file__", None)
        digest.update(Path(file).read_bytes() if file and Path(file).is_file() else source.encode())
    return digest.hexdigest()[:20]


def _key(engine: str, precision: str) -> str:
    """Names a check of an export: engine, number format, processor."""
    return f"{engine} {_version(engine)}, {precision}, {_processor()}"


def _processor() -> str:
    """The processor's name, and whether it computes in bfloat16."""
    name = " ".join(processor_facts("model", "cpu family")) or processor_name()
    return f"{name}{', bf16' if native_bfloat16(torch.device('cpu')) else ''}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "0"


# --- export, check, measure -------------------------------------------------------------------------


def _checked(
    store: _Store, model: PoseModel | PersonDetector, engine: str, dtype: torch.dtype, *, int8: bool
) -> Network | None:
    """The model in an engine, whose outputs were found good here or earlier."""
    from vidpose.infer import engine_checks

    precision = INT8 if int8 else _precision(engine, dtype)
    key = _key(engine, precision)
    fault = store.read(key).get("fault")
    try:
        if fault is None:
            try:
                network = _prepared(store, model, engine, precision)
                if "deviation" not in store.read(key):
                    deviation, fault = engine_checks.check(model, network)
                    store.write(key, deviation=deviation, fault=fault)
            except (InputError, OSError, MemoryError):
                raise
            except Exception as error:  # whatever torch's exporter or the engine raise: PyTorch can still run
                fault = _reason(error)
                store.write(key, fault=fault)
    except (InputError, OSError, MemoryError) as error:  # of today: tried again the next time
        fault = _reason(error)
    if fault is None:
        return network
    _warn(model, engine, fault)
    return None


def _reason(error: BaseException) -> str:
    """What an error says, in one line; without the places in an engine's source where it came by."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Exception from ", "Check '"))]
    text = " ".join(told or lines).strip()
    return (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...") or type(error).__name__


def _prepared(store: _Store, model: PoseModel | PersonDetector, engine: str, precision: str) -> Network:
    """The model in an engine; files that were kept and are damaged are written anew."""
    damage = store.damage()
    kept = all(path.is_file() for path in store.networks)
    if damage is None:
        try:
            _prepare(store, model, engine, int8=precision == INT8)
            return _open(store, engine, precision)
        except Exception as error:
            if not kept or isinstance(error, (InputError, MemoryError)):
                raise
            damage = f"{store.folder}: {_reason(error)}"
    print(f"vidpose: {model.name} for {engine} is made anew: {damage}", file=sys.stderr, flush=True)
    store.clear()
    _prepare(store, model, engine, int8=precision == INT8)
    return _open(store, engine, precision)


def _prepare(store: _Store, model: PoseModel | PersonDetector, engine: str, *, int8: bool) -> None:
    """Writes what is not in the cache yet."""
    if not all(path.is_file() for path in store.networks):
        print(f"vidpose: preparing {model.name} for {engine}; this is done once", file=sys.stderr, flush=True)
        with ExitStack() as stack:
            paths = [stack.enter_context(atomic_path(path)) for path in store.networks]
            if isinstance(model, PersonDetector):
                export_detector(model, paths[0])
            else:
                export_parts(model, *paths)
        store.remember(*store.networks)
    if int8 and not all(path.is_file() for path in store.quantized):
        print(f"vidpose: preparing {model.name} in int8; this is done once", file=sys.stderr, flush=True)
        assert isinstance(model, PersonDetector)
        _quantize(store, model)


def _quantize(store: _Store, model: PersonDetector) -> None:
    """Post-training quantisation of a detector on pictures of the packaged example."""
    from vidpose.infer.engine_checks import calibration_images

    os.environ.setdefault("NNCF_CI", "1")  # no reports of its use over the network
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    images = calibration_images(model)
    with redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            _openvino_core().read_model(store.networks[0]),
            nncf.Dataset(images),
            subset_size=len(images),
            preset=nncf.QuantizationPreset.MIXED,
        )
    with temporary_folder(store.quantized[0]) as folder:
        openvino.save_model(quantized, f"{folder}/int8.xml", compress_to_fp16=False)
        for path in store.quantized:
            os.replace(folder / path.name, path)
    store.remember(*store.quantized)


def _measured(
    store: _Store, model: PoseModel | PersonDetector, network: Network, dtype: torch.dtype
) -> float:
    """The engine's time as a share of PyTorch's."""
    from vidpose.infer import engine_checks

    key = _key(network.engine, network.precision)
    name = f"share of torch {precision_name(dtype)}, {torch.get_num_threads()} threads"
    found = store.read(key)
    if name not in found:
        found = store.write(key, **{name: engine_checks.time_share(model, network, dtype)})
    return float(found[name])


def _warn(model: torch.nn.Module, engine: str, fault: str) -> None:
    name = getattr(model, "name", type(model).__name__)
    print(f"vidpose: {name} runs in PyTorch and not in {engine}: {fault}", file=sys.stderr, flush=True)


# --- the engines ------------------------------------------------------------------------------------


def _precision(engine: str, dtype: torch.dtype) -> str:
    """What an engine computes in where PyTorch would compute in ``dtype``."""
    if engine != "openvino" or dtype != torch.bfloat16:
        return "fp32"
    capabilities = _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "bf16" if "BF16" in capabilities else "fp32"


@cache
def _openvino_core() -> Any:
    """OpenVINO's core, made once and kept.

    Each core gives its thread an alternate signal stack and puts the one before back when it ends. Where the
    older of two ends first, the other one puts back a stack that is gone, and the process dies of its next
    signal (OpenVINO 2026.4).
    """
    import openvino

    return openvino.Core()


def _open(store: _Store, engine: str, precision: str) -> Network:
    opened: dict[str, Callable[[Path, str], Session]] = {"openvino": OpenVino, "onnxruntime": OnnxRuntime}
    paths = store.quantized[:1] if precision == INT8 else store.networks
    sessions = [opened[engine](path, precision) for path in paths]
    if len(sessions) == 1:
        return DetectorNetwork(engine, precision, sessions[0])
    return PoseNetwork(engine, precision, *sessions)


class OpenVino:
    """A network in OpenVINO on as many threads as PyTorch has.

    Args:
        path: ``.onnx`` or OpenVINO's ``.xml``.
        precision: ``fp32``, ``bf16``; ``int8`` computes what is not quantised in the faster of these.
    """

    def __init__(self, path: Path, precision: str) -> None:
        core = _openvino_core()
        half = "bf16" if precision == INT8 and _precision("openvino", torch.bfloat16) == "bf16" else precision
        compiled = core.compile_model(
            core.read_model(path),
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "bf16" if half == "bf16" else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # else processes side by side share their first cores
            },
        )
        self._request = compiled.create_infer_request()
        self._outputs = list(compiled.outputs)
        self.inputs = [port.any_name for port in compiled.inputs]
        self.outputs = [port.any_name for port in self._outputs]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        results = self._request.infer([np.ascontiguousarray(value) for value in inputs], share_inputs=True)
        return [np.asarray(results[output]) for output in self._outputs]


class OnnxRuntime:
    """A network in ONNX Runtime, in float32, on as many threads as PyTorch has."""

    def __init__(self, path: Path, precision: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # leaves cores to PyTorch
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [entry.name for entry in self._session.get_inputs()]
        self.outputs = [entry.name for entry in self._session.get_outputs()]

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return list(self._session.run(None, dict(zip(self.inputs, inputs, strict=True))))
