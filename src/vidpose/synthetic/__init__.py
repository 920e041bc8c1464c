"""Synthetic videos of moving, clothed people, with exact labels for every frame."""

from __future__ import annotations

from .labels import FrameTruth, PersonTruth
from .render import generate_video
from .synthesizer import SynthesisSettings, Synthesizer
from .write import synthesize

__all__ = ["FrameTruth", "PersonTruth", "SynthesisSettings", "Synthesizer", "generate_video", "synthesize"]
