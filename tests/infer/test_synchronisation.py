"""Within a batch nothing is read back from the device before the joints are, so that no GPU is waited for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vidpose.infer.crops import CropRunner, Strip, make_windows
from vidpose.infer.cutters import DeviceCutter
from vidpose.models.export import takes_flow
from vidpose.models.factory import create_model, list_models, model_entry
from vidpose.skeletons import POSETRACK15

SMALL = {"hrnet": "hrnet_w16_small", "vit": "vit_32x2x2", "resnet": "resnet50"}
READS = ("item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique")
"""Operations whose result the CPU needs, or whose output's size depends on values."""


class Operations(TorchDispatchMode):
    """Counts PyTorch's operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


@torch.inference_mode()
def test_what_is_counted():
    x = torch.ones(3)
    with Operations() as operations:
        torch.equal(x, x), x[0].item(), bool(x.sum() > 2), x[x > 0], torch.tensor(1.0)
    assert operations.count["equal"] == 1
    assert sum(operations.count[name] for name in ("item", "_local_scalar_dense", "is_nonzero")) >= 2
    assert operations.count["lift_fresh"] == 1


@pytest.mark.parametrize("name", list_models())
def test_a_batch_reads_nothing_back(name: str, monkeypatch: pytest.MonkeyPatch):
    backbone = SMALL[model_entry(name).families[0]]
    model = create_model(name, backbone=backbone, input_size=(128, 96)).eval()
    runner = CropRunner(model, POSETRACK15, flip_test=True, cutter=DeviceCutter(torch.device("cpu")))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (200, 160, 3), dtype=np.uint8) for _ in range(5)]
    _, windows = make_windows(range(5), runner.num_frames, 0, 4)
    uploads = []
    from_numpy = torch.from_numpy
    monkeypatch.setattr(torch, "from_numpy", lambda array: uploads.append(array) or from_numpy(array))
    with Operations() as operations:
        [(points, _)] = runner([Strip(np.array([10.0, 10, 90, 190]), images, windows)])
    assert np.isfinite(points).all()
    assert {name: operations.count[name] for name in READS if operations.count[name]} == {}
    if not takes_flow(model):  # which is computed outside PyTorch
        assert operations.count["lift_fresh"] == len(uploads) > 0  # no torch.tensor(...), which waits
