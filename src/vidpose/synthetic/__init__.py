"""Synthetic videos of moving, clothed people, with exact labels for every frame."""

from __future__ import annotations

from .render import FrameTruth, PersonTruth, generate_video
from .write import synthesize

__all__ = ["FrameTruth", "PersonTruth", "generate_video", "synthesize"]
