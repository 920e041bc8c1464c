"""How good is a model on pictures of real people? Data sets are read where they lie; nothing is copied.

    python benchmarks/real.py --lsp DIR hrnet:default runs/vitpose_small/best.safetensors

DIR is LSP-extended: joints.mat and images. Scored are the last 600 people with six labelled joints or more,
which no training may see, in the boxes of their labels: PCK at 0.1 and 0.05 of the crop's height (the crop is
1.25 times the box, in the model's own shape), and PCK@0.2 of the torso. A model of several frames gets the
picture in each.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vidpose.data.clips import ClipDataset, ground_truth_samples
from vidpose.data.dataset import PoseDataset
from vidpose.data.layouts.fields import Ledger, with_joints
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.evaluate.units import torso_lengths
from vidpose.geometry import crop_affine
from vidpose.infer.weights import load_pose_model
from vidpose.io.files import write_json
from vidpose.models.factory import load_model
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import LSP14, POSETRACK15, convert_keypoints
from vidpose.train.predict import model_joints, predict_samples

HELD_OUT, LEAST_JOINTS = 600, 6
PAIRS = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
COLUMNS = (*PAIRS, "head_bottom", "head_top")


@dataclass
class People:
    """Labelled people of single pictures. N people, J joints of LSP."""

    data: PoseDataset
    keypoints: np.ndarray
    """[N, J, 3] x, y in pixels and 1 where labelled."""


def held_out(folder: Path) -> People:
    """The last people of LSP-extended that count as usable."""
    data = read_dataset(folder, "train", "lsp")
    usable = [
        video
        for video in data.videos
        if any(p.keypoints[:, 2].sum() >= LEAST_JOINTS for frame in video.frames for p in frame.people)
    ]
    chosen = replace(data, videos=usable[-HELD_OUT:])
    found = [person.keypoints for _, frame in chosen.frames() for person in frame.people]
    return People(chosen, np.stack(found))


def predict(model: PoseModel, people: People) -> tuple[np.ndarray, np.ndarray]:
    """[N, J, 2] where the model finds LSP's joints, and [N] the heights of the crops in image pixels."""
    joints = model_joints(model) or POSETRACK15
    data = with_joints(people.data, joints, Ledger(), approximate=True)  # of which only the boxes matter
    dataset = ClipDataset(
        data,
        ground_truth_samples(data),
        num_frames=model.num_frames,
        input_size=model.input_size,
        heatmap_size=model.heatmap_size,
    )
    points, scores = predict_samples(model, dataset, range(len(dataset)), batch_size=16)
    whole = np.concatenate([points, scores[..., None]], axis=2)
    affines = [crop_affine(sample.box_xyxy, model.input_size) for sample in dataset.samples]
    heights = np.array([model.input_size[0] / np.sqrt(np.linalg.det(a[:, :2])) for a in affines])
    return convert_keypoints(whole, joints, LSP14)[..., :2], heights


def score(found: np.ndarray, truth: np.ndarray, length: np.ndarray) -> dict[str, float]:
    """Per cent of labelled joints within ``length`` [N] pixels, left and right together; Mean: of all."""
    known = (truth[..., 2] > 0) & ~np.isnan(length)[:, None]
    right = np.linalg.norm(found - truth[..., :2], axis=-1) <= length[:, None]
    out = {}
    for name in COLUMNS:
        names = [name] if name in LSP14.index else [f"left_{name}", f"right_{name}"]
        columns = [LSP14.index[one] for one in names]
        out[name] = float(100 * right[:, columns][known[:, columns]].mean())
    out["Mean"] = float(100 * right[known].mean())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", help="files, or MODEL:default for weights that ship")
    parser.add_argument("--lsp", type=Path, required=True, help="folder of LSP-extended")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    try:
        people = held_out(options.lsp)
    except InputError as error:
        parser.error(str(error))
    print(f"LSP-extended, last {len(people.keypoints)} usable people, labelled boxes, DARK, no flip test")
    print(f"{'':44}{'':14}" + "".join(f"{name[-8:]:>9}" for name in COLUMNS) + f"{'all':>8}")
    torsos = torso_lengths(people.keypoints[..., :2], people.keypoints[..., 2] > 0, LSP14.joints)
    results = {}
    for weights in options.weights:
        name, _, which = weights.partition(":")
        try:
            model = load_pose_model(name)[0] if which == "default" else load_model(weights)
        except InputError as error:
            parser.error(str(error))
        torch.set_grad_enabled(False)
        found, heights = predict(model, people)
        table = {
            "PCK 0.1 crop": score(found, people.keypoints, 0.1 * heights),
            "PCK 0.05 crop": score(found, people.keypoints, 0.05 * heights),
            "PCK 0.2 torso": score(found, people.keypoints, 0.2 * torsos),
        }
        results[weights] = table
        for k, (metric, values) in enumerate(table.items()):
            cells = "".join(f"{values[column]:9.1f}" for column in COLUMNS)
            print(f"{weights[-42:] if not k else '':44}{metric:14}{cells}{values['Mean']:8.1f}")
    if options.out:
        write_json(options.out, results)


if __name__ == "__main__":
    main()
