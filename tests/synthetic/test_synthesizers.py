"""Who makes synthetic video: the drawn people of vidpose, and those of other packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import pytest

from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.synthetic import synthesize
from vidpose.synthetic.synthesizer import GROUP

GREY = '''
import numpy as np
from vidpose.errors import InputError
from vidpose.synthetic import FrameTruth, PersonTruth, SynthesisSettings

class GreyPeople:
    """One person without looks, in the middle of a picture as bright as the seed says."""

    version = 3
    options = frozenset({"seated"})

    def check(self, settings: SynthesisSettings) -> None:
        if settings.fps == 13:
            raise InputError("fps is 13, which brings bad luck")

    def generate(self, settings, seed):
        h, w = settings.size
        joints = np.tile([w / 2, h / 2, 1.0], (15, 1)).astype(np.float32)
        box, head = np.array([10.0, 10, w - 10, h - 10]), np.array([w / 2 - 5, 10, w / 2 + 5, 30])
        for index in range(settings.frames):
            person = PersonTruth(0, joints, np.ones(15, bool), box, head, 3.0)
            yield np.full((h, w, 3), sum(seed), np.uint8), FrameTruth(index, index / settings.fps, [person])
'''


def install(site: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A package with a synthesizer ``grey``, as pip would install it in ``site``."""
    about = site / "greypeople-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "greypeople.py").write_text(source)
    (about / "METADATA").write_text("Name: greypeople\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{GROUP}]\ngrey = greypeople:GreyPeople\n")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "greypeople", raising=False)


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: Callable[..., Any] = metadata.entry_points

    def without(**chosen: str) -> Any:
        return () if chosen.get("group") == GROUP else installed(**chosen)

    monkeypatch.setattr(metadata, "entry_points", without)


def vidpose(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    return int(exit.value.code or 0), capfd.readouterr().err


def test_rendered_people_without_their_package_are_one_line_with_the_pip_command(
    nothing_installed: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ("data", "synthesize", tmp_path / "out", "--people", "makehuman", "--assets", tmp_path)
    status, said = vidpose(capfd, *command)
    assert status == 2 and said.count("\n") == 1
    assert "makehuman people need a package that is not installed" in said
    assert "`pip install packages/vidpose-render`" in said
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_pip_command_brings_the_synthesizer() -> None:
    tomllib = pytest.importorskip("tomllib")
    from vidpose.synthetic.synthesizer import KNOWN

    root = Path(__file__).resolve().parents[2]
    for name, folder in KNOWN.items():
        project = tomllib.loads((root / folder / "pyproject.toml").read_text())["project"]
        assert name in project["entry-points"][GROUP]


def test_another_package_adds_people_and_they_become_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install(tmp_path / "site", monkeypatch, GREY)
    out = tmp_path / "set"
    command = ("data", "synthesize", out, "--people", "grey", "--videos", 1, "--frames", 2, "--seed", 7)
    assert vidpose(capfd, *command, "-q", "--seated", 0.5)[0] == 0
    [labels] = (out / "annotations" / "train").glob("*.json")
    document = json.loads(labels.read_text())
    assert (document["info"]["kind"], document["info"]["version"]) == ("grey", 3)
    assert document["info"]["seated"] == 0.5 and len(document["annotations"]) == 2
    image = cv2.imread(str(out / document["images"][0]["file_name"]))
    assert image.shape == (360, 640, 3) and abs(float(image.mean()) - 8) < 1  # seed 7, split 1, video 0


def test_what_another_package_refuses_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, GREY)
    for options, message in (
        ({"fps": 13}, "bad luck"),
        ({"masks": True}, "grey people take no --masks"),
        ({"assets": tmp_path}, "grey people take no --assets"),
    ):
        with pytest.raises(InputError, match=message):
            synthesize(tmp_path / "set", kind="grey", quiet=True, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "set").exists()


def test_a_package_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, "import no_such_module")
    with pytest.raises(InputError, match="package of grey people cannot be used: No module named"):
        synthesize(tmp_path / "set", kind="grey", quiet=True)


def test_unknown_people_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"people are 'robots'; give one of drawn, makehuman"):
        synthesize(tmp_path / "set", kind="robots", quiet=True)


@pytest.mark.parametrize("options", [{"assets": "somewhere"}, {"clips": 5}, {"seated": 0.5}])
def test_drawn_people_take_no_options_of_rendered_ones(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"drawn people take no --{next(iter(options))}"):
        synthesize(tmp_path / "set", quiet=True, **options)
    assert not (tmp_path / "set").exists()
