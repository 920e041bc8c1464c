"""A broken annotation among many is found and named; where it stands is told to the line or the column."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType

import pytest

from tiny_posetrack import make_posetrack
from vidpose.data.check import check_dataset
from vidpose.data.faults import Fault, locate, with_lines


def _load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "data_check_breakages.py"
    spec = importlib.util.spec_from_file_location("data_check_breakages", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BENCH = _load()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    root = tmp_path_factory.mktemp("breakages")
    return root, BENCH.make(root, annotations=200, videos=4, people=5)


@pytest.mark.parametrize("how", BENCH.BREAKAGES, ids=lambda how: how.__name__)
def test_one_broken_annotation_is_found_and_named(how, broken: tuple[Path, list[Path]], monkeypatch) -> None:
    root, files = broken
    monkeypatch.setattr(BENCH, "BREAKAGES", (how,))
    for seed in range(6):
        _, done, outcome = BENCH.attempt(random.Random(seed), root, files)
        assert outcome.startswith("found"), f"{done}: {outcome}"


@pytest.mark.parametrize("indent", [None, 1])
def test_places_are_told_to_line_or_column(tmp_path: Path, indent: int | None) -> None:
    root = make_posetrack(tmp_path, splits=("val",), videos=1)
    file = next((root / "annotations" / "val").glob("*.json"))
    content = json.loads(file.read_text())
    content["annotations"][3]["keypoints"] = [1.0] * 42
    text = json.dumps(content, indent=indent)
    file.write_text(text)
    at = text.index("{", text.index('"id": ' + str(content["annotations"][3]["id"])) - 20)
    line, column = text.count("\n", 0, at) + 1, at + 1
    wanted = f"{file}:{line}: annotations[3]" if indent else f"{file}:1:{column}: annotations[3]"
    assert check_dataset(root).problems[0].startswith(wanted)


def test_offsets_are_those_of_the_values() -> None:
    text = '{"a": [1, {"b": "x]"}, [ ]],\n "c" : {"d":null}}'
    ways = {("a", 0), ("a", 1, "b"), ("a", 2), ("c", "d"), ("a", 1, "gone"), ("none",)}
    found = locate(text, ways)
    assert {way: text[at] for way, at in found.items()} == {
        ("a", 0): "1", ("a", 1, "b"): '"', ("a", 2): "[", ("c", "d"): "n", ("a", 1, "gone"): "{",
    }  # fmt: skip
    assert locate("{broken", ways) == {}


def test_a_file_is_gone_through_once_for_all_its_faults(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "many.json"
    file.write_text(json.dumps({"annotations": [{"id": k} for k in range(300)]}, indent=1))
    calls = []
    monkeypatch.setattr("vidpose.data.faults._text", lambda path: calls.append(path) or path.read_text())
    faults = with_lines([Fault(file, ("annotations", k), "odd") for k in range(300)])
    assert len(calls) == 1 and [fault.line for fault in faults] == [3 + 3 * k for k in range(300)]
