"""Every data set in miniature goes check, train, validate, evaluate, as a user of the command line goes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tiny_datasets import MAKERS, make_coco, make_lsp, make_posetrack18
from vidpose.cli import main
from vidpose.data.layouts import LAYOUTS
from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.models.factory import create_model
from vidpose.skeletons import COCO17, LSP14, POSETRACK15
from vidpose.train.predict import joint_order
from vidpose.train.run import train

SMALL = [
    "model.backbone=hrnet_w8_small", "model.input_size=[64, 64]", "train.num_workers=0", "train.batch_size=2",
    "train.tensorboard=false", "train.warmup_steps=0", "train.precision=fp32", "train.accelerator=cpu",
    "train.max_steps=20", "train.epochs=20", "train.val_every_epochs=20", "data.photometric=0",
]  # fmt: skip


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert not stopped.value.code


TRAINED = ("posetrack17_mat", "posetrack18", "posetrack21", "coco", "hieve", "jhmdb", "lsp")
"""One of each data set; test_layouts reads the others."""


@pytest.mark.parametrize("name", TRAINED)
def test_check_train_validate_evaluate(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker, layout, train_split, val_split = MAKERS[name]
    root = maker(tmp_path / "data")
    run("data", "check", root)
    assert LAYOUTS[layout].title in capsys.readouterr().out
    options = [
        *SMALL, f"data.root={root}", f"data.train_split={train_split}", f"data.val_split={val_split}",
        f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    run("train", "hrnet_small", *options, "--quiet", "--json")
    trained = json.loads(capsys.readouterr().out)
    assert trained["steps"] == 20 and math.isfinite(trained["best_map"])
    weights = trained["best_weights"]
    run("validate", "hrnet_small", "--weights", weights, *options, "--quiet", "--json")
    validated = json.loads(capsys.readouterr().out)
    main_metric = validated["summary"]["main"]
    assert validated[main_metric]["Mean"] == pytest.approx(trained["best_map"], abs=1e-6)
    joints = read_dataset(root, val_split).skeleton.joints
    if layout != "coco":  # whose table has thresholds in place of joints
        assert set(joints) <= set(validated[main_metric])
    folder = tmp_path / "run" / "validation"
    protocol = LAYOUTS[layout].protocol
    run("evaluate", folder / "truth", folder / "predictions", "--protocol", protocol, "--json")
    assert json.loads(capsys.readouterr().out)[main_metric] == validated[main_metric]


@pytest.mark.parametrize("name", ["coco", "hieve", "jhmdb", "lsp"])
def test_the_truth_scored_against_itself_is_perfect(name: str, tmp_path: Path) -> None:
    from vidpose.data.clips import ground_truth_samples
    from vidpose.data.readers import read_whole
    from vidpose.evaluate import evaluate
    from vidpose.train.predict import choose_frames, write_predictions, write_truth

    maker, layout, _, split = MAKERS[name]
    root = maker(tmp_path / "data")
    whole, found = read_whole(root, split)
    data = read_dataset(root, split)
    chosen = choose_frames(data)
    samples = [s for s in ground_truth_samples(data) if (s.video, s.frame) in chosen]
    points = np.stack([s.person.keypoints for s in samples if s.person is not None])
    write_truth(whole, chosen, tmp_path / "truth", found.skeleton)
    write_predictions(data, chosen, samples, points[..., :2], points[..., 2] * 0.9, tmp_path / "predictions")
    scores = evaluate(tmp_path / "truth", tmp_path / "predictions", protocol=found.protocol)
    assert layout == found.name
    values = scores[scores["summary"]["main"]]
    labelled = np.array(data.skeleton.joints)[(points[..., 2] > 0).any(axis=0)]
    for joint in ["Mean"] if layout == "coco" else labelled:
        assert values[joint] == pytest.approx(100), joint


def test_a_model_of_other_joints_is_refused_by_name(tmp_path: Path) -> None:
    data, labels = make_coco(tmp_path / "coco"), make_posetrack18(tmp_path / "pt")
    options = [*SMALL, f"data.root={data}", "data.train_split=train2017", f"output={tmp_path / 'run'}"]
    with pytest.raises(InputError, match=r"posetrack15.*coco17.*head_bottom, head_top") as refused:
        train("hrnet_small", [*options, "model.skeleton=posetrack15"], quiet=True)
    assert "\n" not in str(refused.value)
    with pytest.raises(
        InputError, match="the model predicts the joints of coco17, the data are labelled in pos"
    ):
        train("hrnet_small", [*options, f"data.val_root={labels}"], quiet=True)


def test_a_model_of_more_joints_is_scored_on_those_of_the_data(tmp_path: Path) -> None:
    model = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64), skeleton="posetrack15")
    order = joint_order(model, LSP14)
    assert [POSETRACK15.joints[k] for k in order] == list(LSP14.joints)
    with pytest.raises(InputError, match="left_eye"):
        joint_order(model, COCO17)
    root, labels = make_posetrack18(tmp_path / "pt"), make_lsp(tmp_path / "lsp")
    options = [*SMALL, f"data.root={root}", f"data.val_root={labels}", "data.val_split=test"]
    result = train("hrnet_small", [*options, f"output={tmp_path / 'run'}"], quiet=True)
    truth = json.loads((tmp_path / "run" / "validation" / "truth" / "test.json").read_text())
    assert truth["categories"][0]["keypoints"] == list(LSP14.joints) and result.best_map is not None
