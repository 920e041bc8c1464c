"""Features of a frozen backbone kept on disk: the same training, without frames and backbone."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_posetrack import make_posetrack
from vidpose.errors import InputError
from vidpose.models.factory import create_model, save_model
from vidpose.train import feature_cache
from vidpose.train.run import train
from vidpose.train.sampler import StepBatchSampler


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), videos=1, frames=4)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "hrnet.safetensors"
    save_model(create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64)), path)
    return path


def options(root: Path, backbone: Path, output: Path) -> list[str]:
    return [
        "model.backbone=hrnet_w8_small", "model.input_size=[64,64]", "model.mutual_information=false",
        "model.fusion=single", "train.num_workers=0", "train.batch_size=4", "train.tensorboard=false",
        "train.precision=fp32", "train.accelerator=cpu", "train.epochs=6", "train.log_every_steps=1",
        "train.warmup_steps=0", "train.val_every_epochs=6", "train.checkpoint_every_steps=1",
        f"data.root={root}", f"train.init_from={backbone}", f"output={output}",
    ]  # fmt: skip


def losses(output: Path) -> list[float]:
    with open(output / "log.csv", newline="") as file:
        return [float(row["total"]) for row in csv.DictReader(file)]


class Counted:
    """Counts the clips whose backbone ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[bool] = []
        original = feature_cache.cached_features

        def spy(batch: dict[str, torch.Tensor]) -> object:
            found = original(batch)
            self.batches.append(found is not None)
            return found

        monkeypatch.setattr("vidpose.train.module.cached_features", spy)


def test_later_epochs_read_the_features_and_a_killed_run_goes_on_to_the_same_losses(
    root: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    whole = [*options(root, backbone, tmp_path / "whole"), "train.cache_features=2"]
    train("tdmi_small", whole, quiet=True)
    assert counted.batches == [False] * 4 + [True] * 8  # 8 samples in batches of 4, two turns
    parted = [*options(root, backbone, tmp_path / "parted"), "train.cache_features=2"]
    train("tdmi_small", [*parted, "train.max_steps=7", "train.schedule=step"], quiet=True)
    train("tdmi_small", [*parted, "train.schedule=step"], resume=True, quiet=True)
    again = [*options(root, backbone, tmp_path / "again"), "train.cache_features=2", "train.schedule=step"]
    train("tdmi_small", again, quiet=True)
    assert losses(tmp_path / "parted") == losses(tmp_path / "again")


def test_the_first_turn_is_the_training_without_a_cache(root: Path, backbone: Path, tmp_path: Path) -> None:
    plain = options(root, backbone, tmp_path / "plain")
    kept = [*options(root, backbone, tmp_path / "kept"), "train.cache_features=6"]
    train("tdmi_small", plain, quiet=True)
    train("tdmi_small", kept, quiet=True)
    # features are rounded to half precision, nothing else differs; what that changes grows with the steps
    exact, rounded = losses(tmp_path / "plain"), losses(tmp_path / "kept")
    np.testing.assert_allclose(rounded[:4], exact[:4], rtol=5e-4)
    np.testing.assert_allclose(rounded, exact, rtol=1e-2)


def test_refusals(root: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [*options(root, backbone, tmp_path / "run"), "train.cache_features=1"]
    with pytest.raises(InputError, match="for a frozen backbone"):
        train("tdmi_small", [*given, "train.train_backbone=true"], quiet=True)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"train.cache_features=1 needs .* GB"):
        train("tdmi_small", [*given, f"output={tmp_path / 'full'}"], quiet=True)


def test_samples_drawn_by_shares_come_again_with_the_turns() -> None:
    sources = np.repeat([0, 1], [30, 6])
    sampler = StepBatchSampler(36, 4, seed=1, start=0, stop=1, sources=sources, shares=[1, 1], turns=2)
    orders = [sampler.permutation(epoch).tolist() for epoch in range(4)]
    assert sorted(orders[0]) == sorted(orders[2]) != sorted(orders[1]) == sorted(orders[3])
    assert orders[0] != orders[2]
