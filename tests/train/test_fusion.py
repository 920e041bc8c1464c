"""What ``auto`` trusts is learned from labelled video, the network's guesses among the others."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidpose.data.dataset import Video
from vidpose.data.readers import read_dataset
from vidpose.evaluate.sequence import head_size
from vidpose.evaluate.units import HEAD_OF_BOX
from vidpose.infer.propagation.columns import Columns, arrange
from vidpose.infer.propagation.frames import NumberedFrames
from vidpose.infer.propagation.fuse import GUESSES, Guesses, features, fuse, load_fusion
from vidpose.infer.propagation.motion import PairFlows
from vidpose.infer.propagation.people import Track
from vidpose.infer.propagation.run import make_guesses
from vidpose.models.factory import create_model, save_model
from vidpose.models.video_model import PoseModel
from vidpose.skeletons import Skeleton
from vidpose.synthetic.write import synthesize
from vidpose.train import fusion
from vidpose.train.fusion import Examples, examples, fit, thin


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusion")
    synthesize(folder, videos=2, frames=16, seed=3, split="train", size=(96, 128), people=(1, 1), quiet=True)
    return folder


@pytest.fixture(scope="module")
def network() -> PoseModel:
    torch.manual_seed(0)
    return create_model("stdpose", backbone="vit_32x1x2", input_size=(64, 48)).eval()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fusion", *map(str, arguments)])
    fusion.main()


def test_it_learns_and_what_it_writes_can_be_loaded(
    root: Path, network: PoseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, out = tmp_path / "net.safetensors", tmp_path / "fusion.safetensors"
    save_model(network, weights)
    run(monkeypatch, root, "--network", weights, "--steps", 200, "-o", out)
    model = load_fusion(out)
    data = read_dataset(root, "train")
    rng = np.random.default_rng(1)
    one = examples(data.videos[0], data.skeleton, 3, rng, network)
    assert one is not None
    with torch.inference_mode():
        points, _ = model(torch.from_numpy(one.features), torch.from_numpy(one.points))
    error = np.linalg.norm(points.numpy() - one.truth, axis=1)
    line = np.linalg.norm(one.points[:, GUESSES.index("line")] - one.truth, axis=1)
    assert error.mean() < 1.5 * line.mean()


def test_a_guess_that_is_always_right_comes_to_be_trusted() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(4000, 2)).astype(np.float32) * 50
    points = truth[:, None] + rng.normal(size=(4000, len(GUESSES), 2)) * 8
    points[:, GUESSES.index("network")] = truth
    points[::5, GUESSES.index("network")] = np.nan
    numbers = rng.normal(size=(4000, load_fusion().mean.numel())).astype(np.float32)
    data = Examples(numbers, points.astype(np.float32), truth, np.full(4000, 4, np.float32))
    model = fit(data, steps=300)
    with torch.inference_mode():
        found, logits = model(torch.from_numpy(numbers), torch.from_numpy(data.points))
    error = (found - torch.from_numpy(truth)).norm(dim=1)
    asked = ~np.isnan(points[:, -1, 0])
    assert error[asked].mean() < 1.5 < error[~asked].mean()
    assert torch.isfinite(logits).all()


def guessed(root: Path, network: PoseModel | None) -> tuple[Columns, list[Track], Guesses, Skeleton]:
    data = read_dataset(root, "train")
    video = data.videos[0]
    columns, tracks, _, _ = thin(video, np.array([2, 9]))
    frames = NumberedFrames(video.frames[0].path.parent)
    flows = PairFlows(frames, "dis")
    return columns, tracks, make_guesses(columns, tracks, flows, data.skeleton, network), data.skeleton


def test_without_a_network_the_others_are_fused(root: Path) -> None:
    columns, tracks, guesses, joints = guessed(root, None)
    assert np.isnan(guesses.points["network"]).all()
    points, confidence = fuse(columns, guesses, joints, load_fusion())
    assert np.isfinite(points[columns.open]).all()
    assert ((confidence > 0) & (confidence < 1))[columns.open].all()
    assert arrange(tracks, len(points)).open.tolist() == columns.open.tolist()


def test_what_the_network_sees_counts(root: Path, network: PoseModel) -> None:
    columns, _, guesses, joints = guessed(root, network)
    open_ = columns.open
    assert np.isfinite(guesses.points["network"][open_]).all()
    assert np.isnan(guesses.points["network"][~open_]).all()
    points, _ = fuse(columns, guesses, joints, load_fusion())
    guesses.points["network"] = guesses.points["network"] + 20
    moved, _ = fuse(columns, guesses, joints, load_fusion())
    assert not np.allclose(points[open_], moved[open_])


def test_what_the_network_thinks_of_the_others_counts(root: Path, network: PoseModel) -> None:
    columns, _, guesses, joints = guessed(root, network)
    assert guesses.heats.shape == (len(GUESSES) - 1, *columns.open.shape)
    assert guesses.heats[:, columns.open].max() > 0 and not guesses.heats[:, ~columns.open].any()
    before = features(columns, guesses, joints)
    guesses.heats = np.full_like(guesses.heats, 0.9)
    changed = (features(columns, guesses, joints) != before).any(axis=-1)
    assert changed[columns.open].all()


def test_nothing_to_learn_from_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, tmp_path / "none", "-o", tmp_path / "f.safetensors")
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def of_the_body_alone(video: Video, joints: Skeleton) -> Video:
    """The video as real ones are labelled: no head box, and nothing of the head."""
    head = [joints.index[name] for name in ("nose", "head_bottom", "head_top")]
    frames = []
    for frame in video.frames:
        people = []
        for person in frame.people:
            keypoints = person.keypoints.copy()
            keypoints[head] = 0
            people.append(replace(person, keypoints=keypoints, head_box_xyxy=None))
        frames.append(replace(frame, people=people))
    return replace(video, frames=frames)


def test_people_without_head_box_are_measured_by_their_box(root: Path, network: PoseModel) -> None:
    data = read_dataset(root, "train")
    video = of_the_body_alone(data.videos[0], data.skeleton)
    _, tracks, truth, unit = thin(video, np.array([2, 9]))
    for number, frame in enumerate(video.frames):
        for person in frame.people:
            if person.track_id == tracks[0].track_id:
                x1, y1, x2, y2 = person.box_xyxy
                assert unit[number, 0] == pytest.approx(HEAD_OF_BOX * max(x2 - x1, y2 - y1))
    assert np.isnan(truth[:, data.skeleton.index["nose"]]).all()
    found = examples(video, data.skeleton, 5, np.random.default_rng(0), network)
    assert found is not None and len(found.truth) and np.isfinite(found.features).all()


def test_head_boxes_are_the_unit_where_there_are_any(root: Path) -> None:
    video = read_dataset(root, "train").videos[0]
    _, _, _, unit = thin(video, np.array([2, 9]))
    person = video.frames[4].people[0]
    assert person.head_box_xyxy is not None
    assert unit[4, 0] == pytest.approx(head_size(*person.head_box_xyxy))
