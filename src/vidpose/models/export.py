"""A model as an ONNX file or a torch.export program, checked against the original before it is kept."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidpose.errors import InputError, MissingExtraError
from vidpose.io.files import atomic_path
from vidpose.models.flow import FlowEncoder
from vidpose.models.video_model import PoseModel

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


def export_model(model: PoseModel, path: str | os.PathLike[str]) -> ExportReport:
    """Writes ``model`` with a free batch size; the suffix chooses the format: ``.onnx`` or ``.pt2``.

    The written graph is run on random clips of another batch size than it was traced with. Raises
    :class:`InputError` for another suffix and for a model that takes motion from optical flow, and
    ``RuntimeError`` where the outputs differ by more than :data:`TOLERANCE`; then nothing is kept.
    """
    writers: dict[str, tuple[str, Callable[[nn.Module, Tensor, Path], Callable[[Tensor], Tensor]]]] = {
        ".onnx": ("ONNX", _write_onnx),
        ".pt2": ("torch.export", _write_program),
    }
    suffix = Path(path).suffix.lower()
    if suffix not in writers:
        raise InputError(f"{path}: unknown export format {suffix or '(no suffix)'}; use .onnx or .pt2")
    label, write = writers[suffix]
    name = model.config.get("name") or model.name
    if any(isinstance(part, FlowEncoder) for part in model.head.modules()):
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


def _program(module: nn.Module, clips: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(module, (clips,), dynamic_shapes={"clips": {0: batch}})


def _write_program(module: nn.Module, clips: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    torch.export.save(_program(module, clips), path)
    return torch.export.load(path).module()


def _write_onnx(module: nn.Module, clips: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise MissingExtraError("ONNX export", "export") from None
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision, which nothing here needs, is absent
    try:
        program = torch.onnx.export(
            _program(module, clips),
            dynamo=True,
            input_names=["clips"],
            output_names=["heatmaps"],
            verbose=False,
        )
    finally:
        logger.setLevel(level)
    assert program is not None
    program.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"clips": x.numpy()})[0])
