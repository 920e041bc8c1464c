"""Named sets of weights: one name takes every network of a command from one set, or says how to get it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from vidpose import PoseEstimator, weight_sets
from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.infer.detect import build_detector
from vidpose.infer.propagation.fuse import fusion_file, load_fusion
from vidpose.infer.propagation.run import used_weights
from vidpose.infer.weights import load_pose_model, pose_file
from vidpose.weight_sets import (
    DEFAULT,
    DETECTOR,
    FUSION,
    KNOWN,
    WeightSet,
    bundled_folder,
    describe_weights,
    find_file,
    find_weight_set,
    list_weight_sets,
    set_name,
)

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = bundled_folder()
LARGEST = 30e6
"""Bytes that come with vidpose."""


def vidpose(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    said = capfd.readouterr()
    return int(exit.value.code or 0), said.out, said.err


@pytest.fixture
def bundled(tmp_path, monkeypatch) -> Path:
    """An empty folder in place of that of the sets that come with vidpose."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(weight_sets, "bundled_folder", lambda: folder)
    return folder


def install(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``packages/vidpose-weights-NAME`` as pip would install it in ``site``; the folder of its module."""
    tomllib = pytest.importorskip("tomllib")
    source = ROOT / "packages" / f"vidpose-weights-{name}"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    ((of, module_name),) = project["entry-points"][weight_sets.GROUP].items()
    assert of == name
    module = site / module_name
    shutil.copytree(source / "src" / module_name, module)
    about = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    (about / "entry_points.txt").write_text(f"[{weight_sets.GROUP}]\n{of} = {module_name}\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, module_name, raising=False)
    return module


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """The set ``rendered``, installed."""
    return install("rendered", tmp_path / "site", monkeypatch)


@pytest.fixture(params=sorted(KNOWN))
def found(request, tmp_path, monkeypatch) -> WeightSet:
    """Each set of this project, installed."""
    if request.param != DEFAULT:
        install(request.param, tmp_path / "site", monkeypatch)
    return find_weight_set(request.param)


def link(source: Path, target: Path) -> None:
    """The same files in another folder, without the room they take."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix in (".safetensors", ".json") and not (target / path.name).exists():
            os.symlink(path, target / path.name)


def test_every_file_of_a_set_loads(found: WeightSet) -> None:
    for path in found.files:
        if path.name == DETECTOR:
            assert build_detector(found.name, device="cpu").weights == found.name
        elif path.name == FUSION:
            load_fusion(path)
        else:
            assert load_pose_model(path.stem, found.name)[1] == found.name


def test_a_sets_card_names_data_licences_and_how_each_file_was_trained(found: WeightSet) -> None:
    card = found.card
    assert card["name"] == found.name and card["licence"] and card["measured"]
    assert all(data["name"] and data["owner"] and data["licence"] and data["source"] for data in card["data"])
    assert {path.name for path in found.files} == set(card["files"])
    for about in card["files"].values():
        assert about["last_training"]["steps"] > 0 and about["last_training"]["seed"] is not None
    assert (ROOT / card["page"]).is_file()
    if found.name == "rendered":
        assert not any(data["photographs_of_people"] for data in card["data"])


def test_the_default_set_alone_comes_with_vidpose_and_is_whole_and_small() -> None:
    assert [path.parent.name for path in BUNDLED.glob("*/*.safetensors")] == [DEFAULT] * 5
    default = find_weight_set("default")
    assert default.folder == BUNDLED / DEFAULT and default.size_bytes <= LARGEST
    assert {path.name for path in default.files} >= {
        DETECTOR,
        FUSION,
        "hrnet.safetensors",
        "tdmi.safetensors",
    }


def test_default_is_told_by_its_real_name() -> None:
    assert set_name("default") == DEFAULT and pose_file("hrnet", "default")[1] == DEFAULT
    assert describe_weights(DEFAULT) == (
        f"weights: {DEFAULT} (learned from {KNOWN[DEFAULT]}; other sets: docs/weights)"
    )
    assert describe_weights("mine.pth") is None
    assert describe_weights("mine.pth", detector=DEFAULT).startswith(
        f"weights: mine.pth; detector: {DEFAULT} ("
    )


def test_results_name_the_set_of_the_poses_and_of_the_boxes(tmp_path) -> None:
    whole = PoseEstimator("hrnet", device="cpu")
    assert (whole.info["weights"], whole.info["detector_weights"]) == (DEFAULT, DEFAULT)
    poses = PoseEstimator("hrnet", "default", "full-frame", device="cpu")
    assert (poses.info["weights"], poses.info["detector_weights"]) == (DEFAULT, None)
    assert used_weights("auto") == (DEFAULT, DEFAULT)
    assert used_weights("stdpose", "mine.pth") == ("mine.pth", None) and used_weights("dis") == (None, None)


def test_a_set_in_a_package_is_found_by_its_entry_point(package, bundled, monkeypatch) -> None:
    monkeypatch.setattr(weight_sets, "DEFAULT", "research")
    link(BUNDLED / DEFAULT, bundled / "research")
    assert find_weight_set("rendered").folder == package
    estimator = PoseEstimator("tdmi", "rendered", device="cpu")  # its backbone is in the hrnet beside it
    assert (estimator.info["weights"], estimator.info["detector_weights"]) == ("rendered", "rendered")
    assert fusion_file("rendered") == (package / FUSION, "rendered")
    other = PoseEstimator("hrnet", "default", "rendered", device="cpu")
    assert (other.info["weights"], other.info["detector_weights"]) == ("research", "rendered")


def test_the_second_look_is_of_the_detectors_set(package, bundled, monkeypatch) -> None:
    monkeypatch.setattr(weight_sets, "DEFAULT", "research")
    link(BUNDLED / DEFAULT, bundled / "research")
    (bundled / "research" / "hrnet.safetensors").unlink()
    (package / "hrnet.safetensors").unlink()
    with pytest.raises(InputError, match="model 'hrnet' has no default weights"):
        build_detector("rendered", device="cpu")


def test_what_a_set_lacks_comes_from_rendered_and_rendered_takes_nothing(
    package, bundled, monkeypatch
) -> None:
    monkeypatch.setattr(weight_sets, "DEFAULT", "research")
    link(BUNDLED / DEFAULT, bundled / "research")
    (bundled / "research" / "stdpose.safetensors").unlink()
    (package / FUSION).unlink()
    assert find_file("stdpose.safetensors", "research") == (package / "stdpose.safetensors", "rendered")
    assert find_file(FUSION, "rendered") is None
    assert used_weights("auto", "research") == ("rendered", "research")
    with pytest.raises(InputError, match="no set here"):
        used_weights("auto", "rendered")


def test_a_set_that_is_not_installed_names_the_pip_command(bundled, monkeypatch, capfd, tmp_path) -> None:
    monkeypatch.setattr(weight_sets, "DEFAULT", "research")
    link(BUNDLED / DEFAULT, bundled / "research")
    video = Path(sys.modules["vidpose"].__file__).parent / "examples" / "people.mp4"
    monkeypatch.setattr(weight_sets, "GROUP", "none.installed")
    status, _, told = vidpose(capfd, "estimate", video, "-o", tmp_path / "out", "--weights", "rendered")
    assert status == 2 and told.count("\n") == 1
    assert "not installed: run `pip install packages/vidpose-weights-rendered`" in told
    monkeypatch.setattr(weight_sets, "DEFAULT", "open")
    with pytest.raises(InputError, match="'open' are missing from this installation: reinstall vidpose"):
        load_pose_model("hrnet")


@pytest.mark.parametrize("use", [load_pose_model, lambda _, weights: PoseEstimator("hrnet", weights)])
def test_an_unknown_set_is_told_with_the_known_ones(use) -> None:
    with pytest.raises(InputError, match="'reserch'; known: default, rendered, research, open"):
        use("hrnet", "reserch")


def test_a_models_name_that_is_unknown_or_has_no_weights(tmp_path) -> None:
    with pytest.raises(InputError, match="unknown model 'yolo'; known: tdmi"):
        pose_file("yolo")
    with pytest.raises(InputError, match=f"'vremd' has no default weights .the set {DEFAULT} has hrnet, "):
        load_pose_model("vremd")


def test_a_sets_name_comes_before_a_file_of_that_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "open").write_text("")
    (tmp_path / "mine").write_text("")
    monkeypatch.chdir(tmp_path)
    assert set_name("open") == "open" and set_name("./open") is None
    assert set_name("mine") is None and set_name("owner/net") is None and set_name("x.pth") is None


@pytest.fixture
def theirs(tmp_path, monkeypatch) -> Path:
    """The folder of a set that another package brings, named ``theirs``."""
    site = tmp_path / "site"
    link(BUNDLED / DEFAULT, site / "their_weights")
    (site / "their_weights" / "card.json").unlink()
    (site / "their_weights" / "card.json").write_text(json.dumps({"learned_from": "cats"}))
    (site / "their_weights" / "__init__.py").write_text("")
    (site / "theirs-1.dist-info").mkdir()
    (site / "theirs-1.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (site / "theirs-1.dist-info" / "entry_points.txt").write_text(
        f"[{weight_sets.GROUP}]\ntheirs = their_weights\n"
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "their_weights", raising=False)
    return site / "their_weights"


def test_another_packages_set_is_listed_with_what_its_card_says(theirs) -> None:
    assert find_weight_set("theirs").learned_from == "cats"
    assert [found.name for found in list_weight_sets()] == [*KNOWN, "theirs"]


@pytest.mark.parametrize("card", ["{", "[]", "[" * 100_000, None])
def test_a_bad_card_does_not_hide_the_other_sets(theirs, capfd, card) -> None:
    (theirs / "card.json").unlink()
    if card is not None:
        (theirs / "card.json").write_text(card)
    status, text, told = vidpose(capfd, "weights")
    assert status == 0 and told == "" and f"{DEFAULT} (default)" in text
    (line,) = [line for line in text.splitlines() if line.startswith("theirs")]
    assert "unusable" in line and str(theirs / "card.json") in line
    status, text, _ = vidpose(capfd, "weights", "--json")
    sets = {found["name"]: found for found in json.loads(text)}
    assert status == 0 and "card" in sets["theirs"]["problem"] and sets["theirs"]["card"] is None
    assert sets[DEFAULT]["problem"] is None and sets[DEFAULT]["card"]


def test_a_package_that_cannot_be_imported_does_not_hide_the_other_sets(theirs, capfd) -> None:
    (theirs / "__init__.py").write_text("raise RuntimeError('no luck')")
    status, text, _ = vidpose(capfd, "weights")
    (line,) = [line for line in text.splitlines() if line.startswith("theirs")]
    assert status == 0 and "unusable" in line and "no luck" in line
    with pytest.raises(InputError, match="'theirs' cannot be used: no luck"):
        find_weight_set("theirs")


def test_a_file_of_another_model_in_a_set_is_refused(theirs) -> None:
    for name in ("tdmi.safetensors", FUSION, DETECTOR):
        (theirs / name).unlink()
        shutil.copy(BUNDLED / DEFAULT / "hrnet.safetensors", theirs / name)
    assert load_pose_model("hrnet", "theirs")[0].name == "hrnet"
    with pytest.raises(InputError, match=r"tdmi\.safetensors: holds a hrnet, not a tdmi"):
        load_pose_model("tdmi", "theirs")
    with pytest.raises(InputError, match=r"propagation\.safetensors: is not a fusion"):
        load_fusion(theirs / FUSION)
    with pytest.raises(InputError, match=r"person_detector\.safetensors: is not a checkpoint of"):
        build_detector("theirs", device="cpu")


def test_the_verb_lists_the_sets(capfd) -> None:
    status, text, _ = vidpose(capfd, "weights")
    assert status == 0 and all(name in text for name in KNOWN) and f"{DEFAULT} (default)" in text
    status, text, _ = vidpose(capfd, "weights", "--json")
    sets = {found["name"]: found for found in json.loads(text)}
    assert sets[DEFAULT]["installed"] and sets[DEFAULT]["default"] and sets[DEFAULT]["card"]["data"]
    assert sum(sets[DEFAULT]["files"].values()) == sets[DEFAULT]["size_bytes"] <= LARGEST


def test_a_command_names_its_set_once_unless_quiet(capfd, tmp_path) -> None:
    pytest.importorskip("onnx")
    for extra, lines in (((), 1), (("--quiet",), 0)):
        out = tmp_path / f"model{lines}.pt2"
        status, text, told = vidpose(capfd, "export", "hrnet", "-o", out, "--json", *extra)
        assert status == 0 and json.loads(text)["weights"] == DEFAULT
        assert told.count(f"weights: {DEFAULT} (learned from") == lines
