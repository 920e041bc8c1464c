"""tools/equality.py: what counts as equal, and what is said where it is not."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import equality


def differs(before: str, after: str) -> str | None:
    return equality.compare_items(equality.describe_text(before), equality.describe_text(after))


@pytest.mark.parametrize(
    ("before", "after", "answer"),
    [
        ("x 1.25 y 3", "x 1.25 y 3", ""),
        ("x 1.25", "x 1.2500001", None),
        ("[1000.5]", "[1000.5001]", None),  # relative beyond 1
        ("x 1.25", "x 1.2501", "numbers differ by up to 8e-05"),
        ("-0.5, 1e-3", "0.5, 1e-3", "numbers differ by up to 1"),
        ("id 17", "id 18", "words or structure differ"),  # whole numbers are names as often as not
        ("[1.5, 2.5]", "[1.5]", "words or structure differ"),
        ("v1.2.3", "v1.2.4", "words or structure differ"),
    ],
)
def test_numbers_to_a_millionth_and_everything_else_exactly(
    before: str, after: str, answer: str | None
) -> None:
    assert differs(before, after) == answer


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("vidpose 0.1.0", "vidpose 0.2.0"),
        ("75 frames (1.1 frames/s)", "75 frames (12 frames/s)"),
        ("done in 3.5 s", "done in 4 s"),
        ('"seconds": 3.5', '"seconds": 4'),
        ("2024-01-02T03:04:05", "2025-11-12T13:14:15.5Z"),
    ],
)
def test_times_speeds_and_versions_do_not_count(before: str, after: str) -> None:
    assert differs(before, after) == ""


def test_folders_do_not_count() -> None:
    first = equality.describe_text("/a/b/out.json", {"/a/b": "WORK"})
    assert first == equality.describe_text("/c/out.json", {"/c": "WORK"})


def test_weights_pictures_and_archives(tmp_path: Path) -> None:
    def described(name: str) -> dict[str, Any]:
        return equality.describe_file(tmp_path / name)

    for name, value in (("a", 1.0), ("b", 1.0 + 1e-7), ("c", 1.1)):
        save_file({"w": np.full((2, 2), value)}, tmp_path / f"{name}.safetensors")
        (tmp_path / f"{name}.jpg").write_bytes(b"\xff" + name.encode())
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("x", (2000 + ord(name), 1, 1, 0, 0, 0)), "same")
    weights = [described(f"{name}.safetensors") for name in "abc"]
    assert equality.compare_items(weights[0], weights[1]) is None
    assert equality.compare_items(weights[0], weights[2])
    assert equality.compare_items(described("a.jpg"), described("b.jpg")) == "bytes differ"
    assert described("a.zip") == described("b.zip")


def record(**files: str) -> dict[str, Any]:
    texts = {"status": "0", "printed": "", "messages": "", **files}
    return {"estimate": {name: equality.describe_text(text) for name, text in texts.items()}}


@pytest.mark.parametrize(
    ("after", "status", "said"),
    [
        (record(**{"a.json": "1.5"}), 0, "equal, 1 file\n"),
        (record(**{"a.json": "1.5000001"}), 0, "equal to 1e-06, 1 file\n"),
        (record(**{"a.json": "1.6"}), 1, "a.json: numbers differ by up to 0.067\n"),
        (record(), 1, "a.json: only before\n"),
        (record(**{"a.json": "1.5", "status": "2"}), 1, "status: words or structure differ\n"),
        ({**record(**{"a.json": "1.5"}), "propagate": {}}, 1, "propagate  only after\n"),
    ],
)
def test_the_table_and_the_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], after: dict, status: int, said: str
) -> None:
    for name, content in (("before", record(**{"a.json": "1.5"})), ("after", after)):
        (tmp_path / name).write_text(json.dumps(content))
    assert equality.main(["--compare", str(tmp_path / "before"), str(tmp_path / "after")]) == status
    assert said in capsys.readouterr().out


def test_steps_have_names_of_their_own_and_cover_every_format_that_can_be_written() -> None:
    from vidpose.data.layouts.fields import HOLDS

    steps = list(equality.steps(Path("assets")))
    assert len({step.name for step in steps}) == len(steps)
    assert {f"convert to {name}" for name in HOLDS} <= {step.name for step in steps}
