"""Training of the person detector: targets follow the augmentation, AP is right, a run learns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vidpose.errors import InputError
from vidpose.geometry import box_iou
from vidpose.models.factory import create_model, save_model
from vidpose.models.person_detector import PersonDetector, load_detector
from vidpose.train.detector import (
    FrameDataset,
    Sample,
    augment,
    average_precision,
    build,
    collate,
    mosaic,
    score_detector,
)
from vidpose.train.detector_scores import calibrate
from vidpose.train.recipe import MixSection, Recipe, load_recipe
from vidpose.train.run import train


def scene(rng: np.random.Generator, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """Bright upright rectangles ("people") on dark noise, apart from each other."""
    image = rng.integers(0, 60, (*size, 3), dtype=np.uint8)
    boxes = []
    for left in (4, 48, 92):
        w, h = rng.uniform(14, 28), rng.uniform(34, 60)
        x, y = left + rng.uniform(0, 4), rng.uniform(2, size[0] - h - 2)
        boxes.append([x, y, x + w, y + h])
        image[round(y) : round(y + h), round(x) : round(x + w)] = (230, 230, 230)
    return image, np.array(boxes)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """A PoseTrack18-layout data set of six frames with an ignore region."""
    root = tmp_path_factory.mktemp("data")
    for split, seed in (("train", 0), ("val", 1)):
        rng = np.random.default_rng(seed)
        folder = root / "images" / split / "a"
        folder.mkdir(parents=True)
        images, annotations = [], []
        for k in range(6):
            image, boxes = scene(rng)
            name = f"images/{split}/a/{k:06d}.jpg"
            cv2.imwrite(str(root / name), image)
            images.append(
                {"id": k, "file_name": name, "frame_id": k, "is_labeled": k != 5, "width": 128, "height": 96,
                 "ignore_regions_x": [[0, 10, 10, 0]], "ignore_regions_y": [[80, 80, 95, 95]]}
            )  # fmt: skip
            for j, (x1, y1, x2, y2) in enumerate(boxes):
                annotations.append(
                    {"id": 10 * k + j, "image_id": k, "category_id": 1, "track_id": j,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "keypoints": [0] * 51}
                )  # fmt: skip
        (root / "annotations" / split).mkdir(parents=True)
        content = {"images": images, "annotations": annotations}
        (root / "annotations" / split / "a.json").write_text(json.dumps(content))
    return root


def recipe(root: Path, **train) -> Recipe:
    model = {"name": "person_detector", "backbone": "hrnet_w8_small", "long_side": 128, "head_channels": 8}
    options = {"batch_size": 2, "optimizer": "adamw", "lr": 4e-3, "num_workers": 0, **train}
    return Recipe(task="detector", model=model, data={"root": str(root)}, train=options)


def test_a_detector_starts_from_a_pose_models_backbone_or_another_detector(
    data_root: Path, tmp_path: Path
) -> None:
    pose = create_model("hrnet", backbone="hrnet_w8_small", input_size=(64, 64))
    save_model(pose, tmp_path / "pose.safetensors")
    model, _, _ = build(recipe(data_root, init_from=str(tmp_path / "pose.safetensors")))
    for key, value in pose.state_dict().items():
        if key.startswith("backbone.") and key in model.state_dict():
            assert torch.equal(value, model.state_dict()[key]), key
    model.centre.bias.data += 1
    save_model(model, tmp_path / "detector.safetensors")
    again, _, _ = build(recipe(data_root, init_from=str(tmp_path / "detector.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    wide = create_model("hrnet", backbone="hrnet_w16_small", input_size=(64, 64))
    save_model(wide, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match="detector's backbone hrnet_w8_small"):
        build(recipe(data_root, init_from=str(tmp_path / "wide.safetensors")))


def test_boxes_follow_the_augmentation():
    """Where the view shows bright rectangles, there are the boxes."""
    checked = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        image, boxes = scene(np.random.default_rng(100 + seed), (240, 320))
        image[:] = 0
        for x1, y1, x2, y2 in boxes.astype(int):
            image[y1 : y2 + 1, x1 : x2 + 1] = 255
        sample = augment(image, boxes.astype(int), [], (128, 160), 160, rng)
        count, _, stats, _ = cv2.connectedComponentsWithStats((sample.image[..., 0] > 127).astype(np.uint8))
        seen = np.array([[x, y, x + w - 1, y + h - 1] for x, y, w, h, _ in stats[1:count]], dtype=float)
        for box in sample.boxes:
            assert box_iou(box[None], seen).max() > 0.6
            checked += 1
    assert checked > 30


def test_same_seed_epoch_and_position_give_the_same_pixels(data_root):
    from vidpose.data.readers import read_dataset

    frames = [f for f in read_dataset(data_root, "train").videos[0].frames if f.is_labeled]
    data = FrameDataset(frames, (96, 128), long_side=128, seed=3)
    first, again, later = data[(0, 1)], data[(0, 1)], data[(1, 1)]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.boxes, again.boxes)
    assert not np.array_equal(first.image, later.image)


def test_ignored_regions_are_masked():
    image, boxes = scene(np.random.default_rng(0), (128, 128))
    polygon = np.array([[0, 0], [200, 0], [200, 200], [0, 200]], dtype=float)
    sample = augment(image, boxes[:0], [polygon], (128, 128), 128, np.random.default_rng(0))
    free = augment(image, boxes[:0], [], (128, 128), 128, np.random.default_rng(0))
    assert free.mask.all()
    assert sample.mask.mean() < free.mask.mean()


def test_what_a_network_says_in_a_region_to_ignore_costs_nothing():
    """Somebody without a label is neither a person nor background; the person beside it counts as before."""
    torch.manual_seed(0)
    model = PersonDetector(backbone="hrnet_w8_small", long_side=128, head_channels=8)
    image, boxes = scene(np.random.default_rng(0), (128, 128))
    mask = np.ones((32, 32), np.float32)
    mask[:, 20:] = 0
    [_, targets] = collate([Sample(image, boxes[:1], mask)])
    out = model(torch.zeros(1, 3, 128, 128))
    before = model.losses(out, targets)["total"]
    out.logits[..., 20:] += 8
    out.distances[..., 20:] *= 3
    assert torch.equal(model.losses(out, targets)["total"], before)
    out.logits[..., 19] += 8
    assert model.losses(out, targets)["total"] > before + 1


def test_a_mosaic_keeps_boxes_and_regions_with_their_pixels():
    checked = 0
    for seed in range(10):
        image, boxes = scene(np.random.default_rng(seed), (240, 320))
        image[:] = 0
        for x1, y1, x2, y2 in boxes.astype(int):
            image[y1 : y2 + 1, x1 : x2 + 1] = 255
        whole = np.array([[0, 0], [320, 0], [320, 240], [0, 240]], dtype=float)
        plain, hidden = (image, boxes.astype(int), []), (image * 0 + 128, boxes[:0], [whole])
        sample = mosaic([plain, hidden, hidden, plain], (128, 160), 160, np.random.default_rng(seed))
        assert sample.image.shape == (128, 160, 3) and sample.mask.shape == (32, 40)
        count, _, stats, _ = cv2.connectedComponentsWithStats((sample.image[..., 0] > 200).astype(np.uint8))
        seen = np.array([[x, y, x + w - 1, y + h - 1] for x, y, w, h, _ in stats[1:count]], dtype=float)
        for box in sample.boxes:
            assert box_iou(box[None], seen).max() > 0.5
            checked += 1
        centres = sample.image[2::4, 2::4, 0]
        assert sample.mask[(centres > 120) & (centres < 136)].mean() < 0.1
        assert sample.mask[:16, :20].mean() > 0.9 and sample.mask[16:, 20:].mean() > 0.9
    assert checked > 10


def test_data_sets_are_mixed_and_a_mosaics_frames_are_of_one(data_root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"  # people neither in its pictures nor in its labels
    shutil.copytree(data_root, empty)
    for path in empty.glob("images/train/a/*.jpg"):
        cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8))
    file = empty / "annotations" / "train" / "a.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    (tmp_path / "names.txt").write_text("images/train/a/000000.jpg\n")
    mixed = recipe(data_root, max_steps=3, accelerator="cpu", tensorboard=False)
    mixed.data.mosaic = 1.0
    mixed.data.mix = [MixSection(root=str(empty), share=2, leave_out=str(tmp_path / "names.txt"))]
    _, training, _ = build(mixed)
    assert training.sources.tolist() == [0] * 5 + [1] * 4
    assert all(len(training[(0, i)].boxes) == 0 for i in range(5, 9))
    assert sum(len(training[(0, i)].boxes) for i in range(5)) > 15
    mixed.output = str(tmp_path / "run")
    assert train(mixed, quiet=True).steps == 3
    mixed.data.mix[0].joint_weights = {"hip": 0.5}
    with pytest.raises(InputError, match="learns no joints"):
        build(mixed)


def test_average_precision_by_hand():
    truth = [np.array([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]), np.array([[0.0, 0.0, 10.0, 10.0]])]
    hit, second, wrong = truth[0][0], truth[0][1], np.array([50.0, 50.0, 60.0, 60.0])
    found = [(np.array([hit, hit, second]), np.array([0.9, 0.8, 0.5])), (np.array([wrong]), np.array([0.7]))]
    # By score: hit (1/1), doubled (1/2), wrong (1/3), hit (2/4); recall ends at 2/3.
    assert average_precision(found, truth) == pytest.approx(100 * (1 / 3 * 1.0 + 1 / 3 * 0.5))
    around = [np.array([[45.0, 45.0], [65.0, 45.0], [65.0, 65.0], [45.0, 65.0]])]
    assert average_precision(found, truth, [[], around]) == pytest.approx(100 * (1 / 3 * 1.0 + 1 / 3 * 2 / 3))
    assert average_precision([(np.zeros((0, 4)), np.zeros(0))], truth[1:]) == 0.0


def test_a_short_run_learns(data_root, tmp_path):
    """As `vidpose train` runs it; the weights it leaves score the same in a fresh detector."""
    options = [
        f"data.root={data_root}", f"output={tmp_path / 'run'}", "model.backbone=hrnet_w8_small",
        "model.long_side=128", "model.head_channels=8", "train.batch_size=5", "train.epochs=60",
        "train.val_every_epochs=60", "train.lr=4e-3", "train.warmup_steps=0", "train.num_workers=0",
        "train.precision=fp32", "train.accelerator=cpu", "train.tensorboard=false",
    ]  # fmt: skip
    result = train("detector_small", options, quiet=True)
    assert result.steps == 60 and result.best_map is not None and result.best_map > 50
    assert "box AP at IoU 0.5" in str(result)
    _, _, validation = build(recipe(data_root))
    assert len(validation) == 5  # the unlabelled frame is left out
    model = load_detector(result.best_weights)
    assert score_detector(model, validation)["mAP"] == pytest.approx(result.best_map, abs=1e-6)
    calibrate(model, validation)
    assert score_detector(model, validation)["mAP"] == pytest.approx(result.best_map, abs=2)  # the same order
    assert calibrate(model, validation) == pytest.approx((1, 0), abs=0.25)  # nothing is left to be done
    again = train("detector_small", options, resume=True, quiet=True)  # nothing left to do
    assert again.to_dict() == result.to_dict()


def test_a_split_without_labels_is_told(data_root, tmp_path):
    content = json.loads((data_root / "annotations" / "val" / "a.json").read_text())
    for image in content["images"]:
        image["is_labeled"] = False
    (tmp_path / "annotations" / "train").mkdir(parents=True)
    (tmp_path / "annotations" / "train" / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no labelled frame"):
        build(recipe(tmp_path))


def test_the_shipped_recipe_is_read_and_unknown_switches_are_told(data_root):
    shipped = load_recipe("detector_small", [f"data.root={data_root}", "train.num_workers=0"])
    assert shipped.task == "detector" and shipped.model.name == "person_detector"
    wrong = load_recipe(shipped, ["model.long_sied=320"])
    with pytest.raises(InputError, match="long_sied"):
        build(wrong)
