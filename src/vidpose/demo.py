"""The demonstration behind ``make demo``: a video that no training saw, its poses, and how right they are.

Run it as ``python -m vidpose.demo FOLDER``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from vidpose.data.synthesis import synthesize
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table
from vidpose.infer.estimate import estimate
from vidpose.results import VideoPoses
from vidpose.view.report import write_contact_sheet

SEED = 424242
"""Of the demonstration's video; the shipped weights were trained on other seeds (their cards name them)."""
FRAMES = 120


def run(folder: str | Path, frames: int = FRAMES) -> None:
    """Writes the video and its truth into ``folder``, estimates poses with both models, prints the tables."""
    began = time.monotonic()
    root = Path(folder)
    made = synthesize(
        root / "data", videos=1, frames=frames, seed=SEED, split="test", write="video", difficulty="hard"
    )
    name = made["names"][0]
    video = root / "data" / "videos" / "test" / f"{name}.mp4"
    truth = Path(made["annotations"]) / f"{name}.json"
    results = {}
    for model, save_video in (("hrnet", False), ("tdmi", True)):
        results[model] = estimate([str(video)], root / model, model=model, save_video=save_video)[0]
    scores = {model: evaluate(truth, done.output) for model, done in results.items()}
    print("\nDetected boxes, default weights, DARK decoding, no flip test; PoseTrack's official AP and MOTA.")
    for model, title in (("hrnet", "hrnet: each frame by itself"), ("tdmi", "tdmi: five frames together")):
        print(f"\n{title} ({results[model].fps:.1f} frames/s)\n{format_table(scores[model])}")
    sheet = write_contact_sheet(
        VideoPoses.load(results["tdmi"].output), str(video), root / "contact_sheet.png"
    )
    print(f"\nposes:           {results['tdmi'].output}")
    print(f"contact sheet:   {sheet}")
    print(f"done in {time.monotonic() - began:.0f} s")
    print(f"annotated video: {results['tdmi'].video}")


if __name__ == "__main__":
    try:
        run(sys.argv[1] if len(sys.argv) > 1 else "demo")
    except InputError as error:
        print(f"vidpose: {error}", file=sys.stderr)
        sys.exit(2)
