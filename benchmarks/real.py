"""How good is a model on pictures of real people? Data sets are read where they lie; nothing is copied.

    python benchmarks/real.py --lsp DIR hrnet:default runs/vitpose_small/best.safetensors
    python benchmarks/real.py --data posetrack18:val --data coco:val2017 tdmi:default

``--lsp`` is LSP-extended: joints.mat and images. Scored are the last 600 people with six labelled joints or
more, which no training may see. ``--data`` is any folder that vidpose reads, and its split; people with six
labelled joints count. Poses are estimated in the boxes of the labels: PCK at 0.1 and 0.05 of the crop's
height (the crop is 1.25 times the box, in the model's own shape), PCK@0.2 of the torso, PCKh@0.5 of the
segment from head_top to head_bottom where it is labelled, and for ``--data`` the average precision of the
data set's own protocol. A model of several frames gets a picture without neighbours in each.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vidpose.data.clips import ClipDataset, ground_truth_samples
from vidpose.data.dataset import PoseDataset
from vidpose.data.layouts.fields import Ledger, with_joints
from vidpose.data.readers import parse_place, read_dataset
from vidpose.errors import InputError
from vidpose.evaluate.units import torso_lengths
from vidpose.geometry import crop_affine
from vidpose.infer.weights import load_pose_model
from vidpose.io.files import write_json
from vidpose.models.factory import load_model
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import POSETRACK15, Skeleton, convert_keypoints
from vidpose.train.predict import model_joints, predict_samples
from vidpose.train.recipe import load_recipe
from vidpose.train.validation import SplitScorer, main_score

HELD_OUT, LEAST_JOINTS = 600, 6
COLUMNS = ("ankle", "knee", "hip", "wrist", "elbow", "shoulder", "head_bottom", "head_top", "nose")


@dataclass
class People:
    """Labelled people. N people, J joints of the data."""

    title: str
    data: PoseDataset
    chosen: np.ndarray
    """[N] positions among the samples of the data."""
    keypoints: np.ndarray
    """[N, J, 3] x, y in pixels and 1 where labelled."""


def of_data(title: str, data: PoseDataset, last: int | None = None) -> People:
    """The people of a data set with enough labelled joints; ``last``: the last so many."""
    keypoints = [s.person.keypoints for s in ground_truth_samples(data) if s.person is not None]
    usable = [k for k, joints in enumerate(keypoints) if joints[:, 2].sum() >= LEAST_JOINTS]
    if not usable:
        raise InputError(f"{data.root}: split {data.split!r} has no person with {LEAST_JOINTS} joints")
    chosen = np.array(usable[-last:] if last else usable)
    return People(title, data, chosen, np.stack([keypoints[k] for k in chosen]))


def predict(model: PoseModel, people: People, *, flip: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """[N, J, 3] where the model finds the data's joints, 0 in the last column for those it does not know, and
    [N] the heights of the crops in image pixels. ``flip``: with the flip test."""
    joints = model_joints(model) or POSETRACK15
    data = with_joints(people.data, joints, Ledger(), approximate=True)  # of which only the boxes matter
    samples = [replace(s, person=None) for s in ground_truth_samples(people.data)]
    dataset = ClipDataset(
        data,
        [samples[k] for k in people.chosen],
        num_frames=model.num_frames,
        input_size=model.input_size,
        heatmap_size=model.heatmap_size,
    )
    points, scores = predict_samples(model, dataset, range(len(dataset)), flip=flip, batch_size=16)
    whole = np.concatenate([points, np.maximum(scores, 1e-9)[..., None]], axis=2)
    affines = [crop_affine(sample.box_xyxy, model.input_size) for sample in dataset.samples]
    heights = np.array([model.input_size[0] / np.sqrt(np.linalg.det(a[:, :2])) for a in affines])
    return convert_keypoints(whole, joints, people.data.skeleton), heights


def score(found: np.ndarray, truth: np.ndarray, length: np.ndarray, joints: Skeleton) -> dict[str, float]:
    """Per cent of labelled joints within ``length`` [N] pixels, left and right together; Mean: of all.

    Joints that the model does not know do not count.
    """
    known = (truth[..., 2] > 0) & (found[..., 2] > 0) & ~np.isnan(length)[:, None]
    right = np.linalg.norm(found[..., :2] - truth[..., :2], axis=-1) <= length[:, None]
    out = {}
    for name in COLUMNS:
        columns = [joints.index[n] for n in (name, f"left_{name}", f"right_{name}") if n in joints.index]
        mine = known[:, columns]
        out[name] = float(100 * right[:, columns][mine].mean()) if mine.any() else float("nan")
    out["Mean"] = float(100 * right[known].mean()) if known.any() else float("nan")
    return out


def head_lengths(truth: np.ndarray, joints: Skeleton) -> np.ndarray:
    """[N] pixels from head_top to head_bottom; NaN where one is not labelled."""
    if not {"head_top", "head_bottom"} <= set(joints.joints):
        return np.full(len(truth), np.nan)
    top, bottom = (truth[:, joints.index[name]] for name in ("head_top", "head_bottom"))
    length = np.linalg.norm(top[:, :2] - bottom[:, :2], axis=-1)
    return np.where((top[:, 2] > 0) & (bottom[:, 2] > 0) & (length >= 1), length, np.nan)


def average_precision(model: PoseModel, folder: str, split: str, *, flip: bool = False) -> dict[str, float]:
    """The main score of the data set's protocol in labelled boxes."""
    switches = [f"data.root={folder}", f"data.val_split={split}", "data.cache=none", f"test.flip={flip}"]
    recipe = load_recipe("hrnet_small", switches)
    with tempfile.TemporaryDirectory() as work:
        return main_score(SplitScorer(recipe, model, Path(work))(model, "cpu"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", help="files, or MODEL:default for weights that ship")
    parser.add_argument("--lsp", type=Path, help="folder of LSP-extended")
    parser.add_argument("--data", action="append", default=[], metavar="DIR:SPLIT")
    parser.add_argument(
        "--flip-test", action="store_true", help="average with the mirrored picture's heatmaps"
    )
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    try:
        sources = []
        if options.lsp:
            data = read_dataset(options.lsp, "train", "lsp")
            sources.append(of_data(f"LSP-extended, last {HELD_OUT} usable people", data, HELD_OUT))
        for place in options.data:
            sources.append(of_data(place, read_dataset(*parse_place(place))))
        if not sources:
            parser.error("nothing to score: give --lsp or --data")
        results = _tables(options.weights, sources, options.flip_test)
    except InputError as error:
        parser.error(str(error))
    if options.out:
        write_json(options.out, results)


def _tables(
    names: list[str], sources: list[People], flip: bool
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    torch.set_grad_enabled(False)
    results: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for people in sources:
        truth, joints = people.keypoints, people.data.skeleton
        print(
            f"{people.title}: {len(truth)} people, labelled boxes, DARK, {'with' if flip else 'no'} flip test"
        )
        print(f"{'':58}" + "".join(f"{name[-8:]:>9}" for name in COLUMNS) + f"{'all':>8}")
        torsos = torso_lengths(truth[..., :2], truth[..., 2] > 0, joints.joints)
        for weights in names:
            name, _, which = weights.partition(":")
            model = load_pose_model(name)[0] if which == "default" else load_model(weights)
            found, heights = predict(model, people, flip=flip)
            table = {
                "PCK 0.1 crop": score(found, truth, 0.1 * heights, joints),
                "PCK 0.05 crop": score(found, truth, 0.05 * heights, joints),
                "PCK 0.2 torso": score(found, truth, 0.2 * torsos, joints),
                "PCKh 0.5": score(found, truth, 0.5 * head_lengths(truth, joints), joints),
            }
            for k, (metric, values) in enumerate(table.items()):
                cells = "".join(f"{values[column]:9.1f}" for column in COLUMNS)
                print(f"{weights[-42:] if not k else '':44}{metric:14}{cells}{values['Mean']:8.1f}")
            if people.data.layout != "lsp":
                table["AP"] = average_precision(model, str(people.data.root), people.data.split, flip=flip)
                print(f"{'':44}{'AP':14}" + "  ".join(f"{k} {v:.1f}" for k, v in table["AP"].items()))
            results.setdefault(people.title, {})[weights] = table
    return results


if __name__ == "__main__":
    main()
