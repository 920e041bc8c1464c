"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests run side by side, one process per core: threads of their own would fight for the same cores, and on
# two of them the whole run takes four times as long. Set before anything imports torch or OpenCV.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import settings

# The same examples in every run: what fails here fails there. HYPOTHESIS_PROFILE=explore draws new ones.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins with the same random numbers, whichever ran before it in its process."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_dir() -> Path | None:
    """The folder of real fixtures beside the project, or ``None`` where it is absent."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    return folder if (folder / "fixtures").is_dir() else None
