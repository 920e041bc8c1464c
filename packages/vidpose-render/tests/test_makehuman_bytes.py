"""Rendered people stay what they were: the same seed gives the same bytes as when ``rendered.json`` was made.

``python test_makehuman_bytes.py ASSETS`` makes it anew, after the renderer's version was raised.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vidpose.synthetic import synthesize

RECORD = Path(__file__).with_name("rendered.json")
OPTIONS: dict[str, dict[str, Any]] = {
    "scenes": {"frames": 2, "size": (144, 192), "seed": 3, "seated": 0.5, "masks": True},
    "clips": {"frames": 2, "size": (128, 96), "seed": 4, "clips": 3, "difficulty": "hard"},
}


def environment() -> dict[str, str]:
    """What the pixels depend on beside the seed: compiled code may round in other places."""
    numba, binding = pytest.importorskip("numba"), pytest.importorskip("llvmlite.binding")
    versions = {"numba": numba.__version__, "numpy": np.__version__, "opencv": cv2.__version__}
    return {**versions, "processor": binding.get_host_cpu_name()}


def describe(assets: Path, folder: Path) -> dict[str, Any]:
    """Hashes of all files, and all joints."""
    hashes, joints = {}, []
    for name, options in OPTIONS.items():
        synthesize(folder / name, videos=1, kind="makehuman", assets=assets, quiet=True, **options)
    for path in sorted(folder.rglob("*.*")):
        hashes[path.relative_to(folder).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        if path.suffix == ".json":
            joints += [person["keypoints"] for person in json.loads(path.read_text())["annotations"]]
    return {"environment": environment(), "files": hashes, "joints": joints}


@pytest.fixture(scope="module")
def made(assets_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return describe(assets_dir, tmp_path_factory.mktemp("rendered"))


def test_joints_are_where_they_were(made: dict[str, Any]) -> None:
    np.testing.assert_allclose(made["joints"], json.loads(RECORD.read_text())["joints"], atol=0.01)


def test_the_same_seed_gives_the_same_bytes_as_ever(made: dict[str, Any]) -> None:
    recorded = json.loads(RECORD.read_text())
    if made["environment"] != recorded["environment"]:
        pytest.skip(f"bytes were recorded with {recorded['environment']}")
    assert made["files"] == recorded["files"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        record = describe(Path(sys.argv[1]), Path(temporary))
        RECORD.write_text(json.dumps(record) + "\n")
