"""How far from a model's joints do people click? Medians over labelled pictures, along the body.

    python benchmarks/joint_offsets.py --lsp DIR WEIGHTS

Rendered people have their joints where bones turn; annotators click shoulders and hips nearer to the surface.
For every joint of LSP-extended (without the 600 people that real.py scores) the label's distance from what
the model finds is measured along the body, in shares of the torso's length (middle of the shoulders to middle
of the hips): out to the joint's side and up the torso for shoulders, hips and head, aside and along the limb
for the others. Only people seen from the front or the back count, whose torso the model finds, and joints
that it misses by less than a quarter of the torso: others say where the model fails, and not where people
click.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from real import HELD_OUT, People, of_data, predict

from vidpose.data.dataset import PoseDataset
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.models.factory import load_model
from vidpose.skeletons import Skeleton

LARGEST, WIDE = 0.25, 0.5
_ALONG = {"elbow": "shoulder", "wrist": "elbow", "knee": "hip", "ankle": "knee"}


def calibration(data: PoseDataset) -> People:
    """The people of LSP-extended but the last, which are held out."""
    people = of_data("", data)
    return People("", data, people.chosen[:-HELD_OUT], people.keypoints[:-HELD_OUT])


def offsets(truth: np.ndarray, found: np.ndarray, joints: Skeleton) -> dict[str, tuple[float, float, int]]:
    """Joint -> shares of the torso out (or sideways) and up (or along the limb), and how many were measured.

    Args:
        truth, found: [N, J, 3] pixels; 0 in the last column where there is no label.
    """

    def at(name: str, of: np.ndarray = truth) -> np.ndarray:
        return of[:, joints.index[name], :2]

    named = [f"{side}_{part}" for side in ("left", "right") for part in ("shoulder", "hip")]
    columns = [joints.index[name] for name in named]
    sides = {side: (at(f"{side}_shoulder") + at(f"{side}_hip")) / 2 for side in ("left", "right")}
    top = (at("left_shoulder") + at("right_shoulder")) / 2
    bottom = (at("left_hip") + at("right_hip")) / 2
    torso = np.linalg.norm(top - bottom, axis=1)
    size = np.maximum(torso, 1e-6)
    up = (top - bottom) / size[:, None]
    across = sides["left"] - sides["right"]
    width = np.abs(across[:, 0] * up[:, 1] - across[:, 1] * up[:, 0]) / size
    missed = np.linalg.norm(found[..., :2] - truth[..., :2], axis=-1) / size[:, None]
    usable = (truth[:, columns, 2] > 0).all(1) & (torso > 20) & (width > WIDE)
    usable &= (missed[:, columns] < LARGEST).all(1)
    out = {}
    for name in joints.joints:
        j = joints.index[name]
        side, _, part = name.rpartition("_")
        rows = usable & (truth[:, j, 2] > 0) & (missed[:, j] < LARGEST)
        if side in sides and part in _ALONG:
            limb = at(name) - at(f"{side}_{_ALONG[part]}")
            length = np.linalg.norm(limb, axis=1)
            rows &= (length > 0.3 * size) & (truth[:, joints.index[f"{side}_{_ALONG[part]}"], 2] > 0)
            second = limb / np.maximum(length, 1e-6)[:, None]
            first = np.stack([-second[:, 1], second[:, 0]], axis=1)
        else:
            second = up
            first = np.stack([-up[:, 1], up[:, 0]], axis=1)
            own = sides.get(side, sides["left"]) - sides["right" if side != "right" else "left"]
            first = first * np.sign((first * own).sum(1, keepdims=True))
        moved = (truth[:, j, :2] - found[:, j, :2]) / size[:, None]
        if rows.sum() >= 20:
            values = [float(np.median((moved * axis).sum(1)[rows])) for axis in (first, second)]
            out[name] = values[0], values[1], int(rows.sum())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights")
    parser.add_argument("--lsp", type=Path, required=True)
    parser.add_argument("--most", type=int, default=4000, help="people, evenly taken")
    options = parser.parse_args()
    try:
        people = calibration(read_dataset(options.lsp, "train", "lsp"))
        model = load_model(options.weights)
    except InputError as error:
        parser.error(str(error))
    every = max(len(people.chosen) // options.most, 1)
    some = People("", people.data, people.chosen[::every], people.keypoints[::every])
    torch.set_grad_enabled(False)
    found, _ = predict(model, some)
    joints = people.data.skeleton
    print(f"{'':16}{'out/aside':>10}{'up/along':>10}{'people':>8}   of the torso's length")
    for name, (first, second, count) in offsets(some.keypoints, found, joints).items():
        print(f"{name:16}{first:10.3f}{second:10.3f}{count:8}")


if __name__ == "__main__":
    main()
