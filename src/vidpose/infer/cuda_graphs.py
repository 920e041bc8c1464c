"""CUDA graphs: the networks' kernels recorded once for each of few batch sizes, and started all at once.

A network of many small layers keeps a GPU waiting for the CPU that starts them. A graph starts them together,
but always for tensors of the same shape in the same place: batches are copied into place and filled up to the
next of :data:`SIZES`. Where recording fails, a line says so and the network runs as usual.

Not tried on a GPU yet: the tests stand in for the recording.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vidpose.device import precision_name, upload
from vidpose.models.export import takes_flow
from vidpose.models.person_detector import DetectorOutput, PersonDetector
from vidpose.models.video_model import PoseModel

SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
"""Batch sizes that are recorded; larger batches are cut into pieces."""
MAX_GRAPHS = 32
"""So many graphs are kept of one function; further shapes run without."""
WARM_UP_RUNS = 3

Tensors: TypeAlias = dict[str, Tensor]
Function: TypeAlias = Callable[[Tensors], Tensors]
Recorder: TypeAlias = Callable[[Function, Tensors], Callable[[], Tensors]]
"""Records a function of tensors that stay in place. What it returns runs it and gives the outputs, which the
next run may overwrite."""


class CudaRecorder:
    """Records functions into CUDA graphs.

    All graphs of one function share their working memory. That is right because they run one after the other,
    and outputs are copied before the next one runs.

    Args:
        device: on which the functions compute.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pools: dict[Function, Any] = {}

    def __call__(self, function: Function, inputs: Tensors) -> Callable[[], Tensors]:
        """See :data:`Recorder`."""
        with torch.cuda.device(self._device):
            return self._record(function, inputs)

    def _record(self, function: Function, inputs: Tensors) -> Callable[[], Tensors]:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                function(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Of other threads nothing is forbidden meanwhile: live sources have the detector in one.
        pool = self._pools.setdefault(function, torch.cuda.graph_pool_handle())
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            outputs = function(inputs)

        def replay() -> Tensors:
            with torch.cuda.device(self._device):
                graph.replay()
            return outputs

        return replay


@dataclass
class _Recorded:
    inputs: Tensors
    run: Callable[[], Tensors]


class GraphedFunction:
    """A function of named batches whose rows do not depend on each other, run by graphs of few sizes.

    Args:
        function: from tensors [N·group, ...] to tensors [N·M, ...].
        group: rows of the inputs that belong together: T for the head of a model of T frames.
        record: makes the graphs.
        name: of the network, for the line that says that recording failed.
    """

    def __init__(
        self, function: Function, record: Recorder, *, group: int = 1, name: str = "network"
    ) -> None:
        self.function = function
        self.group = group
        self.name = name
        self.failed = False
        """Recording failed; the function runs without graphs."""
        self._record = record
        self._lock = threading.Lock()  # between a graph's inputs and its outputs nothing else may run it
        self._graphs: dict[tuple[Any, ...], _Recorded] = {}

    def __call__(self, inputs: Tensors) -> Tensors:
        """The function's outputs for inputs [N·group, ...], N at least 1."""
        count = len(next(iter(inputs.values()))) // self.group
        pieces = []
        for start, end, size in batches(count):
            rows = slice(start * self.group, end * self.group)
            piece = {name: value[rows] for name, value in inputs.items()}
            with self._lock:
                pieces.append(self._run(piece, end - start, size))
        if len(pieces) == 1:
            return pieces[0]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}

    def _run(self, inputs: Tensors, count: int, size: int) -> Tensors:
        """Outputs for ``count`` items, of a graph for ``size``."""
        key = (size, *((name, tuple(value.shape[1:]), value.dtype) for name, value in inputs.items()))
        recorded = self._graphs.get(key)
        if recorded is None:
            recorded = self._new(inputs, size)
            if recorded is None:
                return self.function(inputs)
            self._graphs[key] = recorded
        for name, value in inputs.items():
            recorded.inputs[name][: len(value)].copy_(value)
        found = recorded.run()
        return {name: value[: len(value) // size * count].clone() for name, value in found.items()}

    def _new(self, inputs: Tensors, size: int) -> _Recorded | None:
        """A graph for inputs of this kind; ``None``: there is none."""
        if self.failed or len(self._graphs) >= MAX_GRAPHS:
            return None
        places = {name: _place(value, size * self.group) for name, value in inputs.items()}
        try:
            return _Recorded(places, self._record(self.function, places))
        except RuntimeError as error:  # of CUDA, also for want of memory
            self.failed = True
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            print(f"vidpose: {self.name} runs without CUDA graphs: {reason}", file=sys.stderr, flush=True)
            return None


def _place(like: Tensor, rows: int) -> Tensor:
    """Zeros [rows, ...] that lie in memory as ``like`` [N, ...] does."""
    zeros = like.new_zeros((rows, *like.shape[1:]))
    last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return zeros.contiguous(memory_format=torch.channels_last) if last else zeros


def batches(count: int) -> Iterator[tuple[int, int, int]]:
    """Start, end and recorded size of the pieces of a batch."""
    for start in range(0, count, SIZES[-1]):
        end = min(start + SIZES[-1], count)
        yield start, end, next(size for size in SIZES if size >= end - start)


class GraphedPoseModel:
    """A pose model whose backbone and head run by graphs; a :class:`vidpose.infer.engines.PoseRunner`.

    Args:
        model: in eval mode on its device.
        dtype: of autocast.
        record: makes the graphs.
    """

    engine = "torch"

    def __init__(self, model: PoseModel, dtype: torch.dtype, record: Recorder) -> None:
        self.precision = precision_name(dtype)
        network: Any = model
        device = next(model.parameters()).device
        frames = model.num_frames if model.kind == "video" else 1
        cast = _autocast(device, dtype)
        self._backbone = GraphedFunction(
            cast(lambda given: network.extract(given["frames"])), record, name=f"{model.name}'s backbone"
        )
        self._head = GraphedFunction(
            cast(lambda features: {"heatmaps": network.head(features).heatmaps}),
            record,
            group=frames,
            name=f"{model.name}'s head",
        )

    def extract(self, frames: Tensor) -> Tensors:
        """Normalised RGB [N, 3, H, W] -> the features that the head uses, each [N, ...]."""
        return self._backbone({"frames": frames})

    def heatmaps(self, features: Tensors, windows: np.ndarray) -> Tensor:
        """Features [N, ...] and clips [K, T] of positions -> heatmaps [K, J, h, w] or [K, T, J, h, w]."""
        index = windows.reshape(-1)  # [K, T] -> [K·T]
        if not np.array_equal(index, np.arange(len(next(iter(features.values()))))):
            positions = upload(index, next(iter(features.values())).device)
            features = {name: value.index_select(0, positions) for name, value in features.items()}
        return self._head(features)["heatmaps"]


class GraphedDetector:
    """A person detector that runs by graphs, one for each size of its input.

    Args:
        model: in eval mode on its device.
        dtype: of autocast.
        record: makes the graphs.
    """

    def __init__(self, model: PersonDetector, dtype: torch.dtype, record: Recorder) -> None:
        device = next(model.parameters()).device

        def outputs(given: Tensors) -> Tensors:
            found = model(given["images"])
            return {"logits": found.logits, "distances": found.distances}

        self._maps = GraphedFunction(_autocast(device, dtype)(outputs), record, name="the detector")

    def maps(self, images: Tensor) -> DetectorOutput:
        """As :meth:`PersonDetector.forward`."""
        return DetectorOutput(**self._maps({"images": images}))


def _autocast(device: torch.device, dtype: torch.dtype) -> Callable[[Function], Function]:
    """Lets a function run under autocast; weights that it casts are not kept, as no graph would own them."""

    def around(function: Function) -> Function:
        def cast(inputs: Tensors) -> Tensors:
            enabled = dtype != torch.float32
            with torch.autocast(device.type, dtype=dtype, enabled=enabled, cache_enabled=False):
                return function(inputs)

        return cast

    return around


def find_recorder(device: torch.device) -> Recorder | None:
    """What records graphs on a device; ``None``, and a line on standard error: nothing does."""
    if device.type == "cuda":
        return CudaRecorder(device)
    print(
        f"vidpose: CUDA graphs need a CUDA device: on {device.type} the networks run without",
        file=sys.stderr,
        flush=True,
    )
    return None


def graph_pose_model(model: PoseModel, dtype: torch.dtype, record: Recorder) -> GraphedPoseModel | None:
    """The model by graphs; ``None``, and a line: its optical flow is computed outside PyTorch."""
    if takes_flow(model):
        print(
            f"vidpose: {model.name} runs without CUDA graphs: it takes motion from optical flow",
            file=sys.stderr,
            flush=True,
        )
        return None
    return GraphedPoseModel(model, dtype, record)
