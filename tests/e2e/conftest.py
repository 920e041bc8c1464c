"""A small synthetic video, tiny models with random weights, and the command line in this process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from vidpose.cli import main

sys.path.insert(0, str(Path(__file__).parent))  # for the tests' imports of tiny_clip

from tiny_clip import FRAMES, SIZE


@dataclass
class Answer:
    """What a command left on the terminal."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def vidpose(capfd) -> Callable[..., Answer]:
    """Runs ``vidpose ARGUMENTS…``; also catches what libraries write past Python."""

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Answer(exit.value.code or 0, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A data set of one video, as frames and as mp4."""
    root = tmp_path_factory.mktemp("e2e") / "data"
    with pytest.raises(SystemExit) as exit:
        main(
            ["data", "synthesize", str(root), "--videos", "1", "--frames", str(FRAMES), "--seed", "3",
             "--split", "val", "--size", f"{SIZE[1]}x{SIZE[0]}", "--write", "both", "--quiet"]
        )  # fmt: skip
    assert not exit.value.code
    return root


@pytest.fixture(scope="session")
def video(data) -> Path:
    return next(data.glob("videos/val/*.mp4"))


@pytest.fixture(scope="session")
def truth(data) -> Path:
    return next(data.glob("annotations/val/*.json"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Random weights of tiny models, by name."""
    from vidpose.models.factory import create_model, save_model

    folder = tmp_path_factory.mktemp("weights")
    files = {}
    for name in ("tdmi", "hrnet"):
        torch.manual_seed(0)
        model = create_model(name, backbone="hrnet_w8_small", input_size=(64, 64))
        with torch.no_grad():  # heatmaps with clear peaks, so that something is drawn
            for parameter in model.head.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        files[name] = folder / f"{name}.safetensors"
        save_model(model, files[name])
    return files


@pytest.fixture(scope="session")
def boxes(data, truth) -> Path:
    """The true boxes as a file of detections."""
    labels = json.loads(truth.read_text())
    names = {image["id"]: image["file_name"] for image in labels["images"]}
    rows = [
        {"image_name": names[a["image_id"]], "bbox": a["bbox"], "score": 0.95} for a in labels["annotations"]
    ]
    assert rows
    path = data.parent / "boxes.json"
    path.write_text(json.dumps(rows))
    return path
