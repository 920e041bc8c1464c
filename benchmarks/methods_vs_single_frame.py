"""Do the methods beat their single-frame models? Trains all from scratch on synthetic video, several seeds.

    python benchmarks/methods_vs_single_frame.py --out runs/methods_vs_single_frame

One seed is two single-frame models, a small HRNet and a small ViT, and on top of their frozen backbones every
method and baseline of that family, with the same data and, in a family, the same number of steps. A control
says what does not come from time: TDMI's head without its temporal difference encoder. Every run is scored
once, at its end, on held-out videos with occlusion, blur and darkness that training has not seen; and once
more on clips whose frames all are the key frame, which tells what of a gain is time and what is a larger
head. Stopped, it continues where it was.

Limit: the mean of each of the five papers' methods must be at least 2 mAP above its single-frame model's.
Exit status 1 if one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidpose.io.files import read_json, write_json
from vidpose.models.counting import count
from vidpose.models.factory import create_model, load_model
from vidpose.synthetic import synthesize
from vidpose.train.recipe import load_recipe
from vidpose.train.validation import SplitScorer, autocast_type, main_score

LIMIT_MAP = 2.0
COLUMNS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle", "mAP")


@dataclass(frozen=True)
class Row:
    """One trained model."""

    title: str
    recipe: str
    backbone: str | None = None
    """Name of the row whose backbone it stands on; ``None``: it is a single-frame model."""
    overrides: tuple[str, ...] = ()
    paper: bool = False
    """Whether the limit holds for it."""


ROWS: dict[str, Row] = {
    "hrnet": Row("single frame (hrnet)", "hrnet_small"),
    "tdmi_control": Row("TDMI without TDE (control)", "tdmi_small", "hrnet", ("model.tde=false",)),
    "posewarper": Row("PoseWarper", "posewarper_small", "hrnet"),
    "dcpose": Row("DCPose", "dcpose_small", "hrnet"),
    "famipose": Row("FAMI-Pose", "famipose_small", "hrnet"),
    "tdmi": Row("TDMI", "tdmi_small", "hrnet", paper=True),
    "jmpose": Row("JM-Pose", "jmpose_small", "hrnet", paper=True),
    "vitpose": Row("single frame (vitpose)", "vitpose_small"),
    "stdpose": Row("STDPose", "stdpose_small", "vitpose", paper=True),
    "vremd": Row("VREMD", "vremd_small", "vitpose", paper=True),
    "sdtc": Row("SDTC", "sdtc_small", "vitpose", paper=True),
}


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
    rows = {key: row for key, row in ROWS.items() if not options.rows or key in options.rows}
    rows |= {name: ROWS[name] for name in {row.backbone for row in rows.values()} if name}
    with ThreadPoolExecutor(options.jobs) as pool:
        runs: dict[tuple[int, str], Future[dict[str, float]]] = {}
        # Backbones first: every other run needs one.
        for key in sorted(rows, key=lambda name: rows[name].backbone is not None):
            for seed in options.seeds:
                waits = runs.get((seed, rows[key].backbone or ""))
                runs[seed, key] = pool.submit(_train, key, seed, data, options, waits)
        scores = {key: [runs[seed, key].result() for seed in options.seeds] for key in ROWS if key in rows}
    still = {
        key: [_still(key, seed, data, options) for seed in options.seeds]
        for key in scores
        if ROWS[key].backbone
    }
    cost = {key: _cost(ROWS[key]) for key in scores}
    passed = _report(scores, still, cost, options)
    results = {"options": _plain(options), "scores": scores, "still": still, "cost": cost}
    write_json(options.out / "results.json", results)
    sys.exit(0 if passed else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/methods_vs_single_frame"))
    parser.add_argument("--data", type=Path, help="synthetic data set; made where it is missing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), help="only these")
    parser.add_argument("--videos", type=int, default=400)
    parser.add_argument("--test-videos", type=int, default=40)
    parser.add_argument("--backbone-epochs", type=int, help="default: the recipes'")
    parser.add_argument("--head-epochs", type=int, help="default: the recipes'")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time, one thread each")
    return parser.parse_args()


def _train(
    key: str, seed: int, data: Path, options: argparse.Namespace, backbone: Future[dict[str, float]] | None
) -> dict[str, float]:
    """Scores of one row for one seed."""
    row, folder = ROWS[key], options.out / f"seed{seed}"
    given = options.head_epochs if row.backbone else options.backbone_epochs
    epochs = given or load_recipe(row.recipe).train.epochs
    overrides = [
        f"data.root={data}",
        f"train.seed={seed}",
        f"train.epochs={epochs}",
        f"train.val_every_epochs={epochs}",  # once, at the end: the test set chooses nothing
        "train.num_workers=0",
        *row.overrides,
    ]
    if backbone is not None:
        backbone.result()  # it was submitted earlier, so waiting for it cannot block the pool
        overrides.append(f"train.init_from={folder / str(row.backbone) / 'best.safetensors'}")
    return _run(row.recipe, folder / key, overrides)


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


def _still(key: str, seed: int, data: Path, options: argparse.Namespace) -> float:
    """mAP of a trained row on the test videos where every frame of a clip is its key frame."""
    folder = options.out / f"seed{seed}" / key
    done = folder / "still.json"
    if not done.is_file():
        torch.set_num_threads(options.jobs)
        recipe = load_recipe(
            ROWS[key].recipe, [f"data.root={data}", *ROWS[key].overrides, "train.num_workers=0"]
        )
        model = load_model(folder / "best.safetensors").eval()
        middle = model.num_frames // 2

        def repeat(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            return (given[0][:, middle : middle + 1].expand_as(given[0]).contiguous(), *given[1:])

        model.register_forward_pre_hook(repeat)
        scorer = SplitScorer(recipe, model, folder / "still")
        write_json(done, main_score(scorer(model, "cpu", autocast_type(recipe))))
    return float(read_json(done)["mAP"])


def _cost(row: Row, batch: int = 8, steps: int = 5) -> dict[str, float]:
    """Parameters, multiply-adds and seconds of one training step on one thread, in bfloat16."""
    recipe = load_recipe(row.recipe, list(row.overrides))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(recipe.model.name, **recipe.model.arguments())
    counted = count(model)
    clips = torch.rand(batch, model.num_frames, 3, *model.input_size)
    targets = torch.rand(batch, model.num_frames, model.num_joints, *model.heatmap_size)
    weights = torch.ones(batch, model.num_frames, model.num_joints)
    key, times = model.num_frames // 2, []
    extra: dict[str, Any] = {}
    if model.needs_sequence_targets:
        extra = {"sequence_heatmaps": targets, "sequence_weights": weights}
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.losses(model(clips), targets[:, key], weights[:, key], **extra)
        losses["total"].backward()
        times.append(time.perf_counter() - start)
    return {
        "params_trainable": counted["params_trainable"],
        "gmacs": counted["gmacs"],
        "seconds_per_step": statistics.median(times[1:]),
    }


def _report(
    scores: dict[str, list[dict[str, float]]],
    still: dict[str, list[float]],
    cost: dict[str, dict[str, float]],
    options: argparse.Namespace,
) -> bool:
    print(f"{options.videos} training videos, {options.test_videos} held-out hard ones; ground-truth boxes,")
    print(f"DARK, no flip test; official mAP; {len(options.seeds)} seeds: mean ± standard deviation;")
    print("still: the mean gain where every frame of a clip is its key frame;")
    print("s/step: forward and backward of 8 clips on one thread; trained parameters (backbone frozen)\n")
    print(f"{'':30}" + "".join(f"{name:>9}" for name in COLUMNS), end="")
    print(f"{'':>6}{'gain by seed':>18}{'still':>7}", end="")
    print(f"{'params M':>10}{'GMACs':>8}{'s/step':>8}")
    passed = True
    for key, found in scores.items():
        row = ROWS[key]
        base = scores[row.backbone or key]
        gains = [ours["mAP"] - theirs["mAP"] for ours, theirs in zip(found, base, strict=True)]
        cells = "".join(f"{statistics.mean(s[name] for s in found):9.1f}" for name in COLUMNS)
        spread = statistics.stdev(s["mAP"] for s in found) if len(found) > 1 else 0.0
        by_seed = " ".join(f"{gain:+.1f}" for gain in gains) if row.backbone else ""
        print(f"{row.title:30}{cells} ±{spread:3.1f}{by_seed:>19}", end="")
        without = [one - theirs["mAP"] for one, theirs in zip(still.get(key, []), base, strict=False)]
        print(f"{statistics.mean(without):+7.1f}" if without else " " * 7, end="")
        own = cost[key]
        print(f"{own['params_trainable'] / 1e6:10.2f}{own['gmacs']:8.2f}{own['seconds_per_step']:8.3f}")
        if row.paper and statistics.mean(gains) < LIMIT_MAP:
            passed = False
            print(f"    {statistics.mean(gains):+.2f} mAP is below the limit of {LIMIT_MAP:+.1f}")
    return passed


def _plain(options: argparse.Namespace) -> dict[str, object]:
    return json.loads(json.dumps(vars(options), default=str))  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
