"""Does TDMI beat the single-frame model? Trains both from scratch on synthetic video, with several seeds.

    python benchmarks/tdmi_vs_single_frame.py --out runs/tdmi_vs_single_frame

One seed is four runs: a single-frame model; on top of its frozen backbone, with the same data and number of
steps each, TDMI whole, TDMI without the mutual-information objective, and a control without the temporal
difference encoder (the same head on the key frame alone, so that what longer training gives is not taken for
what time gives). Every run is scored once, at its end, on held-out videos with occlusion, blur and darkness
that training has not seen. Stopped, it continues where it was.

Limit: TDMI's mean must be at least 2 mAP above the single-frame model's. Exit status 1 if it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from vidpose.data.synthesis import synthesize
from vidpose.io.files import read_json, write_json

LIMIT_MAP = 2.0
SINGLE = "single frame (hrnet)"
ROWS: dict[str, tuple[str, list[str]]] = {
    SINGLE: ("single_frame", []),
    "TDE off (control)": ("tde_off", ["model.tde=false"]),
    "TDE on, MI off": ("mi_off", ["model.mutual_information=false"]),
    "TDMI": ("tdmi", []),
}
COLUMNS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "mAP")


def main() -> None:
    options = _options()
    data: Path = options.data or options.out / "data"
    # Seeds of training and test videos differ: no scene, person or motion is shared.
    synthesize(data, videos=options.videos, frames=14, seed=1000, split="train", workers=options.jobs)
    synthesize(
        data,
        videos=options.test_videos,
        frames=16,
        seed=2000,
        split="val",
        difficulty="hard",
        workers=options.jobs,
    )
    with ThreadPoolExecutor(options.jobs) as pool:
        # Backbones first: every other run needs one.
        backbones = {seed: pool.submit(_train, SINGLE, seed, data, options) for seed in options.seeds}
        others = {
            (seed, row): pool.submit(_train, row, seed, data, options, backbones[seed])
            for seed in options.seeds
            for row in ROWS
            if row != SINGLE
        }
        results = [
            {row: (backbones[seed] if row == SINGLE else others[seed, row]).result() for row in ROWS}
            for seed in options.seeds
        ]
    passed = _report(results, options)
    write_json(options.out / "results.json", {"options": _plain(options), "results": results})
    sys.exit(0 if passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tdmi_vs_single_frame"))
    parser.add_argument("--data", type=Path, help="synthetic data set; made where it is missing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--test-videos", type=int, default=40)
    parser.add_argument("--backbone-epochs", type=int, default=6)
    parser.add_argument("--head-epochs", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one thread each")
    return parser.parse_args()


def _train(
    row: str,
    seed: int,
    data: Path,
    options: argparse.Namespace,
    backbone: Future[dict[str, float]] | None = None,
) -> dict[str, float]:
    """Scores of one row for one seed."""
    folder = options.out / f"seed{seed}"
    recipe, epochs, switches = "hrnet_small", options.backbone_epochs, []
    if backbone is not None:
        backbone.result()  # it was submitted earlier, so waiting for it cannot block the pool
        recipe, epochs = "tdmi_small", options.head_epochs
        switches = [f"train.init_from={folder / ROWS[SINGLE][0] / 'best.safetensors'}", *ROWS[row][1]]
    overrides = [
        f"data.root={data}",
        f"train.seed={seed}",
        f"train.epochs={epochs}",
        f"train.val_every_epochs={epochs}",  # once, at the end: the test set chooses nothing
        "train.num_workers=0",
    ]
    return _run(recipe, folder / ROWS[row][0], [*overrides, *switches])


def _run(recipe: str, output: Path, overrides: list[str]) -> dict[str, float]:
    done = output / "result.json"
    if not done.is_file():
        command = [sys.executable, "-m", "vidpose.cli", "train", recipe, *overrides, f"output={output}"]
        if (output / "recipe.yaml").is_file():
            command.append("--resume")
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output.parent / f"{output.name}.log", "a", encoding="utf-8") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, stdout=log, stderr=log, env=environment, check=True)
    scores: dict[str, float] = read_json(done)["scores"]
    return scores


def _report(results: list[dict[str, dict[str, float]]], options: argparse.Namespace) -> bool:
    print(f"{options.videos} training videos, {options.test_videos} held-out hard ones; ground-truth boxes,")
    print(f"DARK, no flip test; official mAP; {len(options.seeds)} seeds: mean ± standard deviation\n")
    print(f"{'':22}" + "".join(f"{name:>10}" for name in COLUMNS) + f"{'':>6}{'by seed':<20}gain by seed")
    gains: dict[str, list[float]] = {}
    for row in ROWS:
        scores = [result[row] for result in results]
        gains[row] = [
            score["mAP"] - result[SINGLE]["mAP"] for score, result in zip(scores, results, strict=True)
        ]
        cells = "".join(f"{statistics.mean(s[name] for s in scores):10.1f}" for name in COLUMNS)
        spread = statistics.stdev(s["mAP"] for s in scores) if len(scores) > 1 else 0.0
        seeds = " ".join(f"{s['mAP']:.1f}" for s in scores)
        print(f"{row:22}{cells} ±{spread:3.1f} {seeds:<20}{' '.join(f'{g:+.1f}' for g in gains[row])}")
    gain = statistics.mean(gains["TDMI"])
    print(f"\nTDMI against the single-frame model: {gain:+.2f} mAP, limit {LIMIT_MAP:+.1f}")
    return gain >= LIMIT_MAP


def _plain(options: argparse.Namespace) -> dict[str, object]:
    return json.loads(json.dumps(vars(options), default=str))  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
