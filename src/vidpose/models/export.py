"""A model as an ONNX file or a torch.export program, checked against the original before it is kept.

:func:`export_model` writes the file that users take elsewhere: clips in, heatmaps out. :func:`export_parts`
and :func:`export_detector` write what :mod:`vidpose.infer.engines` runs in place of PyTorch.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidpose.errors import InputError, MissingExtraError
from vidpose.geometry import IMAGENET_MEAN, IMAGENET_STD
from vidpose.io.files import atomic_path
from vidpose.models.flow import FlowEncoder
from vidpose.models.person_detector import MULTIPLE, PersonDetector
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK15

TOLERANCE = 1e-4
"""Largest accepted difference of an exported heatmap from the original's."""


@dataclass
class ExportReport:
    """What was written, and how far its output is from the original's on random clips."""

    path: str
    format: str
    model: str
    inputs: dict[str, list[int | str]]
    outputs: dict[str, list[int | str]]
    max_difference: float
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        shape = ", ".join(map(str, self.inputs["clips"]))
        return (
            f"{self.path}: {self.model} as {self.format}, clips [{shape}], {self.bytes / 1e6:.1f} MB, "
            f"differs from the original by at most {self.max_difference:.1e}"
        )


class HeatmapsOnly(nn.Module):
    """``clips [B, T, 3, H, W] -> heatmaps [B, J, h, w]``: tensors in, tensor out."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        return self.model(clips).heatmaps


class FrameFeatures(nn.Module):
    """``frames [N, 3, H, W]`` -> the features of a backbone that are named, each [N, ...]."""

    def __init__(self, model: PoseModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        features = self.model.extract(frames)
        return tuple(features[name] for name in self.names)


class ClipHeatmaps(nn.Module):
    """Features of N frames, in order of their names, and ``windows [K, T]`` -> ``heatmaps [K, J, h, w]``.

    ``windows`` holds for each clip the positions of its frames among the N.
    """

    def __init__(self, model: PoseModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, features: list[Tensor], windows: Tensor) -> Tensor:
        index = windows.flatten()  # [K, T] -> [K·T]
        clips = {n: value.index_select(0, index) for n, value in zip(self.names, features, strict=True)}
        heatmaps = self.model.head(clips).heatmaps
        # Models of all T frames: the key frame's.
        return heatmaps[:, heatmaps.shape[1] // 2] if heatmaps.dim() == 5 else heatmaps


class DetectorMaps(nn.Module):
    """``images [N, 3, H, W] -> logits [N, h, w], distances [N, 4, h, w]`` of a person detector."""

    def __init__(self, model: PersonDetector) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model(images)
        return out.logits, out.distances


def describe(model: PoseModel) -> dict[str, str]:
    """What the user of an exported file must know: joints, sizes, normalisation; JSON values by name."""
    skeleton = getattr(model, "skeleton", None)
    if skeleton is None and model.num_joints == POSETRACK15.num_joints:
        skeleton = POSETRACK15
    values = {
        "model": model.config.get("name") or model.name,
        "joints": list(skeleton.joints) if skeleton is not None else None,
        "input_size": list(model.input_size),
        "heatmap_size": list(model.heatmap_size),
        "num_frames": model.num_frames,
        "sigma": model.sigma,
        "colors": "RGB",
        "mean": [255 * value for value in IMAGENET_MEAN],
        "std": [255 * value for value in IMAGENET_STD],
    }
    return {f"vidpose.{name}": json.dumps(value) for name, value in values.items()}


def export_model(model: PoseModel, path: str | os.PathLike[str]) -> ExportReport:
    """Writes ``model`` with a free batch size; the suffix chooses the format: ``.onnx`` or ``.pt2``.

    The file's metadata hold what :func:`describe` says. The written graph is run on random clips of another
    batch size than it was traced with. Raises :class:`InputError` for another suffix and for a model that
    takes motion from optical flow, and ``RuntimeError`` where the outputs differ by more than
    :data:`TOLERANCE`; then nothing is kept.
    """
    writers: dict[str, tuple[str, Callable[[HeatmapsOnly, Tensor, Path], Callable[[Tensor], Tensor]]]] = {
        ".onnx": ("ONNX", _write_onnx),
        ".pt2": ("torch.export", _write_program),
    }
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise InputError(f"{path}: unknown export format {suffix or '(no suffix)'}; use .onnx or .pt2")
    label, write = writers[suffix]
    name = model.config.get("name") or model.name
    if takes_flow(model):
        raise InputError(
            f"{path}: {name} takes motion from optical flow, whose estimator is not part of the graph; "
            'export a model that was built and trained with another switch motion="..."'
        )
    model = model.cpu().float().eval()
    wrapped = HeatmapsOnly(model)
    shape = (model.num_frames, 3, *model.input_size)
    generator = torch.Generator().manual_seed(0)
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        warnings.catch_warnings(),
        atomic_path(path) as temporary,
    ):
        warnings.simplefilter("ignore")  # deprecations inside torch.export, of which no user can rid himself
        run = write(wrapped, torch.randn(2, *shape, generator=generator), temporary)
        other = torch.randn(3, *shape, generator=generator)
        difference = float((run(other) - wrapped(other)).abs().max())
        if not difference <= TOLERANCE:
            raise RuntimeError(f"{label} graph of {name} differs from the original by {difference:.1e}")
        size = temporary.stat().st_size
    heatmaps: list[int | str] = ["B", model.num_joints, *model.heatmap_size]
    return ExportReport(
        str(path), label, name, {"clips": ["B", *shape]}, {"heatmaps": heatmaps}, difference, size
    )


WINDOWS = "windows"
"""Input of an exported head beside the features."""


def export_detector(model: PersonDetector, path: str | os.PathLike[str]) -> None:
    """Writes :class:`DetectorMaps` as ONNX; numbers of images and their size are free. Checks nothing.

    Args:
        model: float32, in eval mode, on the CPU.

    Raises:
        MissingExtraError: PyTorch's exporter needs ``onnxscript``.
    """
    rows, columns = (torch.export.Dim(name, min=1, max=2**10) for name in ("rows", "columns"))
    shapes = {"images": {0: _free("count"), 2: MULTIPLE * rows, 3: MULTIPLE * columns}}
    images = torch.zeros(2, 3, 2 * MULTIPLE, 3 * MULTIPLE)
    program = _onnx_program(DetectorMaps(model), (images,), shapes, ["images"], ["logits", "distances"])
    program.save(str(path), external_data=False)


def export_parts(model: PoseModel, backbone: str | os.PathLike[str], head: str | os.PathLike[str]) -> None:
    """Writes a pose model as two ONNX files, :class:`FrameFeatures` and :class:`ClipHeatmaps`, so that clips
    can share the features of their frames. Numbers of frames and clips are free. Checks nothing.

    The features that pass from one to the other are those that the head uses; both files name them.

    Args:
        model: float32, in eval mode, on the CPU.

    Raises:
        InputError: the model takes motion from optical flow, which is not part of the graph.
        MissingExtraError: PyTorch's exporter needs ``onnxscript``.
    """
    if takes_flow(model):
        raise InputError(f"{model.name} takes motion from optical flow, which is not part of the graph")
    num_frames = model.num_frames if model.kind == "video" else 1
    frames = torch.zeros(num_frames + 4, 3, *model.input_size)
    windows = torch.arange(3)[:, None] + torch.arange(num_frames)  # [K, T]
    with torch.inference_mode(False), torch.no_grad():
        features = model.extract(frames)
    each, count = {0: _free("frames")}, {0: _free("clips")}
    shapes: dict[str, Any] = {"features": [each] * len(features), "windows": count}
    whole = _onnx_program(
        ClipHeatmaps(model, list(features)),
        ([*features.values()], windows),
        shapes,
        [*features, WINDOWS],
        ["heatmaps"],
    )
    inputs = whole.model.graph.inputs
    names = [value.name for value in inputs if value.name != WINDOWS and value.uses()]
    for value in [value for value in inputs if value.name != WINDOWS and not value.uses()]:
        inputs.remove(value)
    whole.model.metadata_props.update(describe(model))
    whole.save(str(head), external_data=False)
    shapes = {"frames": each}
    _onnx_program(FrameFeatures(model, names), (frames,), shapes, ["frames"], names).save(
        str(backbone), external_data=False
    )


def _free(name: str) -> Any:
    return torch.export.Dim(name, min=1, max=2**16)


def takes_flow(model: PoseModel) -> bool:
    """Whether a model takes motion from optical flow, which is not part of its graph."""
    return any(isinstance(part, FlowEncoder) for part in model.head.modules())


def _program(module: nn.Module, inputs: tuple[Any, ...], shapes: Any) -> torch.export.ExportedProgram:
    return torch.export.export(module, inputs, dynamic_shapes=shapes)


def _write_program(module: HeatmapsOnly, clips: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    shapes = {"clips": {0: _free("batch")}}
    torch.export.save(_program(module, (clips,), shapes), path, extra_files=describe(module.model))
    return torch.export.load(path).module()


def _write_onnx(module: HeatmapsOnly, clips: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError("ONNX export", "export") from None
    program = _onnx_program(module, (clips,), {"clips": {0: _free("batch")}}, ["clips"], ["heatmaps"])
    program.model.metadata_props.update(describe(module.model))
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"clips": x.numpy()})[0])


def _onnx_program(
    module: nn.Module, inputs: tuple[Any, ...], shapes: Any, input_names: list[str], output_names: list[str]
) -> torch.onnx.ONNXProgram:
    """The graph of a module; ``shapes`` names its free axes as ``torch.export`` takes them."""
    try:
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise MissingExtraError("ONNX export", "export") from None
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision, which nothing here needs, is absent
    try:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside torch, of which no user can rid himself
            program = torch.onnx.export(
                _program(module, inputs, shapes),
                dynamo=True,
                input_names=input_names,
                output_names=output_names,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return program
