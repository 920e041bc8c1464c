"""Training as a user runs it: it learns, survives being killed, and refuses what it must refuse."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tiny_posetrack import as_posetrack17, make_posetrack
from vidpose.errors import InputError
from vidpose.models.factory import describe_checkpoint, load_model
from vidpose.train.run import train, validate

SMALL = [
    "model.backbone=hrnet_w16_small", "model.input_size=[64, 64]", "data.cache=ram", "train.num_workers=0",
    "train.tensorboard=false", "train.log_every_steps=1", "train.warmup_steps=0", "train.precision=fp32",
    "train.accelerator=cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), unlabeled=(1,))


@pytest.fixture(scope="module")
def learnt(root: Path, tmp_path_factory: pytest.TempPathFactory):
    """A single-frame model that has learnt six frames by heart."""
    output = tmp_path_factory.mktemp("runs") / "hrnet"
    options = [
        *SMALL, f"data.root={root}", f"output={output}", "data.val_split=train", "data.augment=none",
        "data.photometric=0", "train.batch_size=10", "train.epochs=45", "train.val_every_epochs=45",
        "train.lr=2e-3", "train.ema=0.9", "train.tensorboard=true",
    ]  # fmt: skip
    return train("hrnet_small", options, quiet=True)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_training_learns(learnt) -> None:
    assert learnt.best_map is not None and learnt.best_map > 90
    losses = [float(row["total"]) for row in rows(Path(learnt.output) / "log.csv")]
    assert len(losses) == learnt.steps == 90 and losses[-1] < losses[0] / 5
    assert list((Path(learnt.output) / "tensorboard").glob("events*"))
    for told in ("ground truth", "dark", "flip test", "seed: 0"):
        assert told in str(learnt)


PROPAGATION = [
    "model.backbone=vit_32x1x2", "model.input_size=[64, 48]", "model.width=32", "model.head_width=16",
    "data.cache=ram", "data.interval=[2, 4]", "train.init_from=null", "train.train_backbone=true",
    "train.num_workers=0", "train.tensorboard=false", "train.precision=fp32", "train.accelerator=cpu",
    "train.warmup_steps=0",
]  # fmt: skip


def test_a_model_of_propagation_learns_from_label_to_label(root: Path, tmp_path: Path) -> None:
    options = [*PROPAGATION, f"data.root={root}", "data.val_split=train", "data.augment=none"]
    options += ["train.given_labels=1", "train.epochs=40", "train.val_every_epochs=40", "train.lr=3e-3"]
    options += ["train.batch_size=10", f"output={tmp_path / 'run'}"]
    result = train("stdpose_small", options, quiet=True)
    losses = [float(row["heatmap"]) for row in rows(Path(result.output) / "log.csv")]
    assert losses[-1] < losses[0] / 2
    model = load_model(result.best_weights)
    clips, times = torch.rand(1, 3, 3, 64, 48), torch.tensor([[-1.0, 0.0, 2.0]])
    labels = torch.zeros(1, 3, 15, 16, 12)
    labels[..., 8, 6] = 1
    with torch.inference_mode():
        without = model(clips, times=times).heatmaps
        given = model(clips, times=times, given_heatmaps=labels).heatmaps
    assert (given - without).abs().max() > 1e-3 * without.max()


def test_posewarper_learns_to_carry_labels(learnt, root: Path, tmp_path: Path) -> None:
    options = [
        *SMALL,
        f"data.root={root}",
        "data.val_split=train",
        "data.augment=none",
        "data.interval=[2, 4]",
    ]
    options += ["model.num_frames=3", "model.blocks=1", "model.width=16", "data.photometric=0"]
    options += ["train.given_labels=1", "train.epochs=24", "train.batch_size=10", "train.lr=2e-3"]
    options += [f"train.init_from={learnt.best_weights}", f"output={tmp_path / 'run'}"]
    result = train("posewarper_small", options, quiet=True)
    losses = [float(row["heatmap"]) for row in rows(Path(result.output) / "log.csv")]
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])  # both batches of an epoch
    assert load_model(result.best_weights).num_frames == 3


def test_an_interval_is_for_models_that_take_labels(root: Path, tmp_path: Path) -> None:
    options = [*SMALL, f"data.root={root}", f"output={tmp_path}", "data.interval=3", "train.init_from=null"]
    with pytest.raises(InputError, match="tdmi takes none"):
        train("tdmi_small", options, quiet=True)
    for wrong in ("1", "[5, 2]", "[2, 3, 4]", "two"):
        with pytest.raises(InputError, match=r"data\.interval"):
            train("stdpose_small", [f"data.interval={wrong}"], quiet=True)


def test_training_on_few_labels_and_what_is_propagated_from_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, f"data.root={root}", "data.val_split=train", "train.batch_size=2", "train.epochs=1"]
    steps = {}
    for name, more in {
        "all": [],
        "few": ["data.label_every=3"],
        "filled": ["data.label_every=3", "data.propagate=interpolate"],
        "sure": ["data.label_every=3", "data.propagate=interpolate", "data.min_confidence=0.99"],
    }.items():
        steps[name] = train("hrnet_small", [*options, *more, f"output={tmp_path / name}"], quiet=True).steps
    # Two videos of two people: five of six frames have labels, two of them are kept, all six are filled.
    assert steps == {"all": 10, "few": 4, "filled": 12, "sure": 4}
    for method, match in (("guess", "unknown"), ("stdpose", "needs weights")):
        with pytest.raises(InputError, match=match):
            more = [f"data.propagate={method}", f"output={tmp_path / method}"]
            train("hrnet_small", [*options, *more], quiet=True)


def test_exported_weights_score_the_same_by_themselves(learnt, root: Path, tmp_path: Path) -> None:
    card = describe_checkpoint(learnt.best_weights)["card"]
    assert (
        card["steps"] == 90
        and card["seed"] == 0
        and card["scores"]["mAP"] == pytest.approx(learnt.best_map, abs=1e-3)
    )
    assert str(root) not in json.dumps(card)
    options = [*SMALL, f"data.root={root}", "data.val_split=train", f"output={tmp_path}"]
    result = validate("hrnet_small", learnt.best_weights, options, quiet=True)
    assert result.scores["ap"]["Mean"] == pytest.approx(learnt.best_map, abs=1e-6)
    assert {"boxes", "box_threshold", "decoder", "flip_test", "seed"} <= set(result.settings)
    files = sorted(Path(result.predictions).glob("*.json"))
    assert [file.name for file in files] == ["000001_mpii_test.json", "000002_mpii_test.json"]
    content = json.loads(files[0].read_text())
    assert len(content["images"]) == 5 and len(content["annotations"]) == 10
    flipped = validate("hrnet_small", learnt.best_weights, [*options, "test.flip=true"], quiet=True)
    assert flipped.scores["ap"]["Mean"] > 80 and flipped.settings["flip_test"] == "yes"


def test_validation_with_detected_boxes_and_fewer_frames(learnt, root: Path, tmp_path: Path) -> None:
    names = [f"images/train/{v + 1:06d}_mpii_test/{f:06d}.jpg" for v in range(2) for f in range(6)]
    boxes = [{"image_name": n, "bbox": [8, 6, 30, 48], "score": 0.5} for n in names]
    boxes += [{"image_name": n, "bbox": [50, 6, 30, 48], "score": 0.1} for n in names]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    options = [
        *SMALL,
        f"data.root={root}",
        "data.val_split=train",
        f"output={tmp_path}",
        f"data.boxes={file}",
    ]
    limits = ["train.limit_val=1", "train.val_every_frames=2"]
    result = validate("hrnet_small", learnt.best_weights, [*options, *limits], quiet=True)
    content = json.loads((Path(result.predictions) / "000001_mpii_test.json").read_text())
    assert len(content["images"]) == 3  # labelled frames 0, 2, 3, 4, 5: every second one
    assert len(content["annotations"]) == 3  # those above the threshold
    assert all(max(a["scores"]) <= 0.5 for a in content["annotations"])  # heatmap peak x box score
    assert result.settings["box_threshold"] == 0.2 and "subset" in result.settings


def test_posetrack17_is_scored_too(learnt, root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "annotations" / "train").mkdir(parents=True)
    (data / "images").symlink_to(root / "images")
    boxes = []
    for file in (root / "annotations" / "train").glob("*.json"):
        content = json.loads(file.read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        boxes += [
            {"image_name": names[a["image_id"]], "bbox": a["bbox"], "score": 0.9}
            for a in content["annotations"]
        ]
        (data / "annotations" / "train" / file.name).write_text(json.dumps(as_posetrack17(content)))
    detected = tmp_path / "boxes.json"
    detected.write_text(json.dumps(boxes))
    options = [*SMALL, "data.val_split=train", f"output={tmp_path}", f"data.boxes={detected}"]
    new, old = (
        validate("hrnet_small", learnt.best_weights, [*options, *which], quiet=True).scores["ap"]["Mean"]
        for which in ([f"data.root={root}"], [f"data.root={data}"])
    )
    assert old == pytest.approx(new, abs=1e-6) and new > 80


def test_video_model_starts_from_a_trained_backbone(learnt, root: Path, tmp_path: Path) -> None:
    options = [
        *SMALL, f"data.root={root}", f"output={tmp_path / 'run'}", "train.batch_size=4", "train.max_steps=2",
        f"train.init_from={learnt.best_weights}", "model.num_frames=3", "train.limit_val=1",
    ]  # fmt: skip
    result = train("tdmi_small", options, quiet=True)
    assert result.steps == 2
    trained, source = load_model(result.best_weights), load_model(learnt.best_weights)
    for name, value in source.backbone.state_dict().items():  # frozen: statistics of BatchNorm too
        assert torch.equal(trained.backbone.state_dict()[name], value), name


TRAIN_AND_DIE = """
import os, signal, sys
from vidpose.train import callbacks
from vidpose.train.run import train

write = callbacks.CsvLog.write

def write_and_die(log, row):
    write(log, row)
    if row["step"] == 12:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks.CsvLog.write = write_and_die
train("hrnet_small", sys.argv[1:], quiet=True)
"""


@pytest.fixture
def one_thread():
    """As in the process that is killed: sums of several threads differ in the last digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_killed_run_continues_exactly(tmp_path: Path, one_thread: None) -> None:
    """SIGKILL inside an epoch, five steps after a checkpoint; then 50 steps equal to the last digit."""
    data = make_posetrack(tmp_path / "data", videos=3)
    options = [
        *SMALL, f"data.root={data}", "model.input_size=[32, 32]", "train.batch_size=2", "train.epochs=4",
        "train.max_steps=62", "train.checkpoint_every_steps=7", "train.schedule=step", "train.milestones=[1]",
        "train.num_workers=1", "train.lr=1e-3", "train.ema=0.9", "train.warmup_steps=20", "train.limit_val=1",
        "train.val_every_frames=6",
    ]  # fmt: skip
    command = [sys.executable, "-c", TRAIN_AND_DIE, *options, f"output={tmp_path / 'killed'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert rows(tmp_path / "killed" / "log.csv")[-1]["step"] == "12"
    step = torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["vidpose"]["step"]
    assert step == 7  # an epoch is 18 steps
    train("hrnet_small", [*options, f"output={tmp_path / 'killed'}"], resume=True, quiet=True)
    train("hrnet_small", [*options, f"output={tmp_path / 'whole'}"], quiet=True)

    columns = ("step", "epoch", "lr", "heatmap", "total")
    whole, resumed = (
        [[row[column] for column in columns] for row in rows(tmp_path / name / "log.csv")]
        for name in ("whole", "killed")
    )
    assert len(whole) == 62 and resumed == whole
    assert rows(tmp_path / "whole" / "validation.csv") == rows(tmp_path / "killed" / "validation.csv")
    one, two = (load_model(tmp_path / name / "best.safetensors").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not list((tmp_path / "killed").glob(".*"))


TRAIN_AND_STOP = """
import os, signal, sys
from lightning.pytorch import Trainer
from vidpose.cli import main

save = Trainer.save_checkpoint

def save_and_stop(trainer, path):
    save(trainer, path)
    os.kill(os.getpid(), int(sys.argv[1]))

Trainer.save_checkpoint = save_and_stop
main(["train", "hrnet_small", *sys.argv[2:], "--quiet"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_says_so_and_leaves_no_half_checkpoint(
    root: Path, tmp_path: Path, number: int, status: int
) -> None:
    options = [
        *SMALL, f"data.root={root}", "model.input_size=[32, 32]", "train.batch_size=2",
        "train.checkpoint_every_steps=1", f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    command = [sys.executable, "-c", TRAIN_AND_STOP, str(int(number)), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # ignored where tests run in the background
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (status, ["vidpose: stopped"])
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob(".*"))


def test_run_folders_are_not_overwritten(learnt, root: Path, tmp_path: Path) -> None:
    options = [
        *SMALL, f"data.root={root}", f"output={learnt.output}", "data.val_split=train", "data.augment=none",
        "data.photometric=0", "train.batch_size=10", "train.epochs=45", "train.val_every_epochs=45",
        "train.lr=2e-3", "train.ema=0.9",
    ]  # fmt: skip
    before = (Path(learnt.output) / "log.csv").read_bytes()
    with pytest.raises(InputError, match="holds a run already; continue it with --resume"):
        train("hrnet_small", options, quiet=True)
    with pytest.raises(InputError, match=r"another recipe, train\.batch_size, train\.lr differ"):
        train("hrnet_small", [*options, "train.lr=1e-3", "train.batch_size=9"], resume=True, quiet=True)
    finished = train("hrnet_small", options, resume=True, quiet=True)  # nothing left to do
    assert finished.to_dict() == learnt.to_dict()
    assert (Path(learnt.output) / "log.csv").read_bytes() == before
    with pytest.raises(InputError, match="holds no run to continue"):
        train("hrnet_small", [*options, f"output={tmp_path / 'new'}"], resume=True, quiet=True)


def test_a_wrong_data_folder_leaves_no_run_behind(tmp_path: Path) -> None:
    options = [*SMALL, f"data.root={tmp_path / 'nowhere'}", f"output={tmp_path / 'run'}"]
    for _ in range(2):
        with pytest.raises(InputError, match="nowhere: no such folder"):
            train("hrnet_small", options, quiet=True)


def test_loss_that_is_not_a_number_stops_the_run(root: Path, tmp_path: Path) -> None:
    options = [
        *SMALL, f"data.root={root}", f"output={tmp_path / 'run'}", "train.batch_size=4", "train.lr=1e30",
        "train.epochs=5", "train.clip_grad=null", "train.val_every_epochs=5", "train.schedule=step",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"step \d+: the loss is not a finite number") as error:
        train("hrnet_small", options, quiet=True)
    assert "train.lr" in str(error.value)


def test_a_broken_image_is_named_although_a_worker_met_it(tmp_path: Path) -> None:
    data = make_posetrack(tmp_path / "data", videos=1)
    for image in (data / "images" / "train" / "000001_mpii_test").glob("*.jpg"):
        image.write_bytes(b"not an image")
    options = [
        *SMALL, f"data.root={data}", f"output={tmp_path / 'run'}", "train.batch_size=4", "data.cache=none",
        "train.num_workers=1",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"^[^ ]*\.jpg: cannot be decoded as an image$"):
        train("hrnet_small", options, quiet=True)


def test_contradicting_switches(root: Path, tmp_path: Path) -> None:
    options = [*SMALL, f"data.root={root}", f"output={tmp_path}/run", "train.train_backbone=true"]
    with pytest.raises(InputError, match="set only one of them"):
        train("tdmi_small", [*options, "model.freeze_backbone=true"], quiet=True)


def test_validate_wants_the_recipes_model(learnt, root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a hrnet, the recipe's model is tdmi"):
        validate(
            "tdmi_small", learnt.best_weights, [*SMALL, f"data.root={root}", f"output={tmp_path}"], quiet=True
        )


def test_missing_head_boxes_are_told_before_the_training_and_another_protocol_needs_none(
    root: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(root, data)
    for file in data.glob("annotations/*/*.json"):
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            del annotation["bbox_head"]
        file.write_text(json.dumps(content))
    options = [*SMALL, f"data.root={data}", "data.photometric=0", "train.max_steps=1", "train.epochs=1"]
    with pytest.raises(InputError, match=r"without a head box.*set test.protocol=jhmdb"):
        train("hrnet_small", [*options, f"output={tmp_path / 'run'}"], quiet=True)
    assert not (tmp_path / "run" / "log.csv").exists()
    result = train(
        "hrnet_small", [*options, "test.protocol=jhmdb", f"output={tmp_path / 'other'}"], quiet=True
    )
    assert result.best_map is not None
    with pytest.raises(InputError, match="unknown protocol 'banana'"):
        train("hrnet_small", [*options, "test.protocol=banana", f"output={tmp_path / 'c'}"], quiet=True)
