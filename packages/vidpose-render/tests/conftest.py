"""Fixtures of the renderer's tests."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# Tests run side by side, one process per core. Set before anything imports OpenCV.
os.environ.setdefault("OMP_NUM_THREADS", "1")

collect_ignore_glob = [] if find_spec("vidpose_render") else ["test_*.py"]


def pytest_report_header() -> str | None:
    if not collect_ignore_glob:
        return None
    return "vidpose-render is not installed, its tests are left out: pip install -e packages/vidpose-render"


@pytest.fixture(scope="session")
def assets_dir() -> Path:
    """MakeHuman's assets and motion capture; tests that need them are skipped where they are absent."""
    folder = Path(__file__).resolve().parents[3].parent / "shared" / "assets"
    if not (folder / "makehuman").is_dir():
        pytest.skip("needs MakeHuman's assets")
    return folder
