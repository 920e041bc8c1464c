"""The second look: boxes that follow the pose in them, scores of two opinions, and how both are fitted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidpose.data.readers import read_dataset
from vidpose.errors import InputError
from vidpose.geometry import box_iou
from vidpose.infer.detect import build_detector, detector_file
from vidpose.infer.second_look import LookFit, join_views, mix_boxes, opinions, probability, see
from vidpose.io.video import open_video
from vidpose.models.person_detector import PersonDetector, load_detector, save_detector
from vidpose.train.detector_scores import fit_probability

CLIP = Path(sys.modules["vidpose"].__file__).parent / "examples" / "people.mp4"


def pose(box: tuple[float, ...], peak: float) -> tuple[np.ndarray, np.ndarray]:
    """15 joints on the diagonal of a box, all with one peak."""
    share = np.linspace(0, 1, 15)[:, None]
    points = np.array(box[:2]) * (1 - share) + np.array(box[2:]) * share
    return points[None], np.full((1, 15), peak)


def test_a_box_goes_towards_the_pose_as_far_as_it_is_sure():
    box = np.array([[10.0, 20.0, 50.0, 100.0]])
    margins = (0.1, 0.0, 0.2, 0.05)
    mixed = mix_boxes(box, *pose((20, 30, 60, 80), 0.75), margins, (200, 300))
    around = [20 - 5, 30, 60 + 10, 80 + 2.5]  # the longer side is 50
    assert mixed[0] == pytest.approx(0.25 * box[0] + 0.75 * np.array(around))
    assert mix_boxes(box, *pose((20, 30, 60, 80), 0.2), margins, (200, 300)) == pytest.approx(box)  # unsure
    cut = mix_boxes(box, *pose((-40, 30, 60, 180), 1.0), margins, (90, 55))
    assert cut[0] == pytest.approx([0, 30, 55, 90])  # inside the image
    keypoints, peaks = pose((20, 30, 60, 80), 0.75)
    peaks[0, 4:11] = 0.1  # joints that do not say where the box ends do not count
    assert mix_boxes(box, keypoints, peaks, margins, (200, 300)) == pytest.approx(mixed)
    peaks[0, 3:] = 0.1
    assert mix_boxes(box, keypoints, peaks, margins, (200, 300)) == pytest.approx(box)  # three joints are few


def test_scores_are_the_probability_that_both_opinions_make():
    seen = opinions(np.array([0.5, 0.9, 1.0]), np.stack([np.full(15, p) for p in (0.5, 0.2, 1.0)]))
    assert seen[0] == pytest.approx([1, 0, 0])
    assert seen[1, 1:] == pytest.approx([np.log(9), np.log(0.25)])
    assert np.isfinite(seen).all()
    assert probability(seen, (0, 1, 0))[:2] == pytest.approx([0.5, 0.9])
    assert probability(seen, (np.log(3), 0, 0))[0] == pytest.approx(0.75)


def test_the_fit_finds_the_weights_that_made_the_data():
    rng = np.random.default_rng(0)
    seen = opinions(rng.uniform(0.05, 0.95, 20000), rng.uniform(0.05, 0.95, (20000, 1)))
    hits = rng.random(20000) < probability(seen, (0.5, 1.5, 0.7))
    assert fit_probability(seen, hits) == pytest.approx((0.5, 1.5, 0.7), abs=0.08)
    with pytest.raises(InputError, match="too few to calibrate"):
        fit_probability(seen, np.ones(20000, dtype=bool))


@pytest.mark.parametrize(
    "stored",
    [[], {"margins": [0] * 4}, {"margins": [0] * 3, "weights": [0] * 3}, {"margins": "x", "weights": []}],
)
def test_a_fit_that_cannot_be_read_is_told(tmp_path, stored):
    path = tmp_path / "own.safetensors"
    save_detector(PersonDetector(backbone="hrnet_w8_small"), path, {"second_look": stored})
    with pytest.raises(InputError, match="second_look"):
        build_detector(path, device="cpu")


def test_views_are_averaged_where_they_agree():
    first = np.array([[0.0, 0, 10, 20], [50, 0, 60, 20], [90, 0, 99, 20]]), np.array([0.9, 0.6, 0.3])
    other = np.array([[51.0, 0, 61, 20], [0, 2, 10, 22], [1, 0, 11, 20]]), np.array([0.2, 0.3, 0.5])
    boxes, scores = join_views((first, other))
    assert boxes[0] == pytest.approx([0.5 / 1.4, 0, 10 + 0.5 / 1.4, 20])  # with the better of two
    assert boxes[1] == pytest.approx([50.25, 0, 60.25, 20])
    assert boxes[2:].tolist() == [[90, 0, 99, 20], [0, 2, 10, 22]]  # one view only
    assert scores == pytest.approx([0.7, 0.4, 0.15, 0.15])
    third = np.array([[50.0, 0, 60, 20]]), np.array([0.4])
    boxes, scores = join_views((first, other, third))
    assert scores == pytest.approx([1.4 / 3, 1.2 / 3, 0.1, 0.1])
    assert boxes[1] == pytest.approx([50 + 0.2 / 1.2, 0, 60 + 0.2 / 1.2, 20])
    nobody = np.zeros((0, 4)), np.zeros(0)
    assert join_views((nobody, nobody))[0].shape == (0, 4)
    boxes, scores = join_views((nobody, other))
    assert boxes.tolist() == other[0][[2, 1, 0]].tolist() and scores == pytest.approx([0.25, 0.15, 0.1])


def test_the_mirrored_view_comes_back_to_its_place():
    """A picture and its mirror image give the same boxes, mirrored, whichever view is the smaller one."""
    model = load_detector(detector_file()[0])
    with open_video(CLIP) as video:
        image = next(iter(video)).image
    plain, turned = (see(model, [i])[0] for i in (image, np.ascontiguousarray(image[:, ::-1])))
    strong = plain[0][plain[1] > 0.5]
    assert len(strong) >= 2
    back = turned[0][:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [image.shape[1] - 1, 0] * 2
    assert (box_iou(strong, back).max(axis=1) > 0.7).all()


def test_a_large_picture_is_seen_in_a_small_copy_and_its_boxes_are_large():
    model = load_detector(detector_file()[0])
    with open_video(CLIP) as video:
        image = next(iter(video)).image
    [(boxes, scores)] = see(model, [image])
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    [(found, _)] = see(model, [large])
    strong = (boxes[scores > 0.5] + 0.5) * 3 - 0.5
    assert large.shape[1] > 1.5 * 832 and len(strong) >= 2
    assert (box_iou(strong, found).max(axis=1) > 0.8).all()


@pytest.fixture(scope="module")
def street(tmp_path_factory) -> Path:
    """Every sixth frame of the packaged clip, which is rendered and which no training saw, with its truth."""
    root = tmp_path_factory.mktemp("street")
    truth = json.loads(CLIP.with_suffix(".json").read_text())
    truth["images"] = [image for n, image in enumerate(truth["images"]) if n % 6 == 0]
    for image in truth["images"]:
        image["file_name"] = f"images/val/{image['file_name']}"
    kept = {image["id"] for image in truth["images"]}
    truth["annotations"] = [person for person in truth["annotations"] if person["image_id"] in kept]
    (root / "annotations" / "val").mkdir(parents=True)
    (root / "annotations" / "val" / "people.json").write_text(json.dumps(truth))
    (root / "images" / "val" / "people").mkdir(parents=True)
    with open_video(CLIP) as video:
        for frame in video:
            if frame.index % 6 == 0:
                path = root / "images" / "val" / "people" / f"{frame.index:06d}.jpg"
                cv2.imwrite(str(path), frame.image[..., ::-1])
    return root


def test_on_the_packaged_clip_boxes_fit_no_worse_and_no_more_are_false(street, tmp_path):
    save_detector(load_detector(detector_file()[0]), tmp_path / "plain.safetensors", {}, half=False)
    plain = tmp_path / "plain.safetensors"
    # boxes with which a track begins: below, the two scores mean different things
    detectors = [build_detector(spec, device="cpu", min_score=0.7) for spec in ("auto", plain)]
    overlaps, false = [[], []], [0, 0]
    for _, frame in read_dataset(street, "val").frames():
        image = cv2.imread(str(frame.path))[..., ::-1]
        truth = np.array([person.box_xyxy for person in frame.people]).reshape(-1, 4)
        for k, detector in enumerate(detectors):
            overlap = box_iou(truth, detector([image])[0].boxes_xyxy)
            overlaps[k] += overlap.max(axis=1, initial=0).tolist()
            false[k] += int((overlap.max(axis=0, initial=0) < 0.5).sum())
    assert np.mean(overlaps[0]) > np.mean(overlaps[1]) - 0.01
    assert false[0] <= false[1]


def test_scores_are_fitted_and_go_with_the_file(street, tmp_path):
    out = tmp_path / "fitted.safetensors"
    run = fit(detector_file()[0], out, f"{street}:val", f"{street}:val")
    assert run.returncode == 0, run.stderr
    card = load_detector(out).card
    assert LookFit.from_card(card) is not None
    assert card["calibrated"]["on"] == f"{street.name}:val; {street.name}:val"

    before = detector_file()[0].read_bytes()
    for data, target, told in (
        (str(street), out, "DIR:SPLIT"),
        (f"{street}:train", out, "train"),
        (f"{street}:val", Path("/proc/none/x.safetensors"), "/proc/none"),
    ):
        run = fit(detector_file()[0], target, data)
        assert run.returncode == 2 and "Traceback" not in run.stderr and told in run.stderr, run.stderr
    assert detector_file()[0].read_bytes() == before


def fit(detector: Path, out: Path, *data: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidpose.train.detector_scores", str(detector), *data, "-o", str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
