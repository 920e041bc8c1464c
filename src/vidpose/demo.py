"""The demonstration behind ``make demo``: a video that no training saw, its poses, and how right they are.

Run it as ``python -m vidpose.demo FOLDER``.
"""

from __future__ import annotations

import filecmp
import shutil
import sys
import time
from importlib import resources
from pathlib import Path

from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table
from vidpose.infer.estimate import estimate
from vidpose.io.files import atomic_path, check_writable
from vidpose.io.outputs import PNG_MARK, check_replaceable, unless_marked
from vidpose.results import VideoPoses
from vidpose.view.report import write_contact_sheet

CLIP = "people"
"""Stem of the video and of its truth in the package's folder ``examples``: three seconds of rendered
people, ``vidpose data synthesize --people makehuman --split test --seed 424246 --frames 75 --videos 1``."""


def run(folder: str | Path) -> None:
    """Puts video and truth into ``folder``, estimates poses with both models, prints the tables."""
    began = time.monotonic()
    root = Path(folder)
    check_writable(root)
    video, truth = root / "data" / f"{CLIP}.mp4", root / "data" / f"{CLIP}.json"
    again = video.exists()  # its results, too, are the demonstration's
    _place(video)
    _place(truth)
    sheet = root / "contact_sheet.png"
    check_replaceable(
        sheet, overwrite=again, objection=unless_marked(PNG_MARK), instead="give another folder"
    )
    results = {}
    for model, save_video in (("hrnet", False), ("tdmi", True)):
        # A single frame is not helped by its neighbours here, so that the two can be compared.
        results[model] = estimate(
            [str(video)], root / model, model=model, save_video=save_video, steady=False, overwrite=again
        )[0]
    scores = {model: evaluate(truth, done.output) for model, done in results.items()}
    print("\nDetected boxes, default weights, DARK decoding, no flip test; PoseTrack's official AP and MOTA.")
    for model, title in (("hrnet", "hrnet: each frame by itself"), ("tdmi", "tdmi: five frames together")):
        print(f"\n{title} ({results[model].fps:.1f} frames/s)\n{format_table(scores[model])}")
    write_contact_sheet(VideoPoses.load(results["tdmi"].output), str(video), sheet)
    print(f"\nposes:           {results['tdmi'].output}")
    print(f"contact sheet:   {sheet}")
    print(f"done in {time.monotonic() - began:.0f} s")
    print(f"annotated video: {results['tdmi'].video}")


def _place(target: Path) -> None:
    """Puts a file of the example where it is read; one of that name that is another stays."""
    with resources.as_file(resources.files("vidpose") / "examples" / target.name) as source:
        if target.exists() and not filecmp.cmp(source, target, shallow=False):
            raise InputError(
                f"{target}: is there already and is not the demonstration's; give another folder"
            )
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)


if __name__ == "__main__":
    try:
        run(sys.argv[1] if len(sys.argv) > 1 else "demo")
    except InputError as error:
        print(f"vidpose: {error}", file=sys.stderr)
        sys.exit(2)
