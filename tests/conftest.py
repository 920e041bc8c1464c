"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def shared_dir() -> Path | None:
    """The folder of real fixtures beside the project, or ``None`` where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    return folder if (folder / "fixtures").is_dir() else None
