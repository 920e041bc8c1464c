"""The seven columns, the two means, the printed table and the JSON of the command line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from pose_files import film, person, random_films, write, write_folders
from slow_posetrack import NAMES

from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.evaluate import evaluate
from vidpose.evaluate.table import format_table, mean_of_columns, mean_of_joints, with_columns

COLUMNS = ["Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]
# Rows as printed in the papers' tables: the columns, and the mean beside them.
PUBLISHED = {
    "TDMI, PoseTrack17": ((90.0, 91.1, 87.1, 81.4, 85.2, 84.5, 78.5), 85.7),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_means_are_those_of_the_15_joints(row: str) -> None:
    columns, mean = PUBLISHED[row]
    assert mean_of_joints(dict(zip(COLUMNS, columns, strict=True))) == pytest.approx(mean, abs=0.06)
    assert abs(mean_of_columns(dict(zip(COLUMNS, columns, strict=True))) - mean) > 0.2


def test_columns_average_their_joints_and_the_mean_all_15() -> None:
    joints = {name: float(i) for i, name in enumerate(NAMES)}
    out = with_columns(joints)
    assert list(out) == [*NAMES, *COLUMNS, "Mean"]
    assert out["Head"] == 13  # head_bottom 12, nose 13, head_top 14
    assert out["Shoulder"] == 8.5 and out["Ankle"] == 2.5
    assert out["Mean"] == 7
    assert mean_of_joints(out) == pytest.approx(out["Mean"])


def test_an_undefined_joint_spoils_its_column_but_not_the_mean() -> None:
    out = with_columns({name: math.nan if name == "nose" else 50.0 for name in NAMES})
    assert math.isnan(out["Head"]) and out["Mean"] == 50
    assert math.isnan(with_columns(dict.fromkeys(NAMES, math.nan))["Mean"])


def test_the_table_shows_columns_means_counts_and_notes(tmp_path: Path) -> None:
    films = [film(([person(joints=range(14))], [person(score=0.5, joints=range(9))]), ([person()], []))]
    gt, predictions = write_folders(tmp_path, films)
    write(predictions / "other.json", {"annolist": []})
    scores = evaluate(gt, predictions)
    lines = format_table(scores).splitlines()
    header = [cell.strip() for cell in lines[0].strip("|").split("|")]
    assert header == ["", *COLUMNS, "Mean"]
    row = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert row == ["AP", *(f"{scores['ap'][name]:.1f}" for name in [*COLUMNS, "Mean"])]
    assert len({len(line) for line in lines[:4]}) == 1  # aligned
    assert f"the mean of the 7 columns is {scores['summary']['mean_of_columns']['ap']:.1f} AP" in lines[5]
    assert "1 video, 2 annotated frames, 2 people, 1 prediction in them." in lines[5]
    assert lines[6].startswith("note: ") and "other.json" in lines[6]


def test_an_undefined_number_is_a_dash_and_rows_and_digits_can_be_chosen() -> None:
    scores = {"recall": with_columns({name: math.nan if name == "nose" else 51.25 for name in NAMES})}
    lines = format_table(scores, metrics=("recall",), digits=2).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == ["Recall", "-", *["51.25"] * 7]
    assert len(lines) == 3


# -------------------- the command


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["evaluate", *arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("layout", ["17", "18"])
def test_json_has_the_promised_shape(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    films = random_films(2)
    gt, predictions = write_folders(tmp_path, films, layout)
    status, out, err = run([str(gt), str(predictions), "--json"], capsys)
    assert status == 0 and err == ""
    printed = json.loads(out)
    scores = evaluate(gt, predictions)
    for metric in ("ap", "precision", "recall", "mota", "motp"):
        assert list(printed[metric]) == [*NAMES, *COLUMNS, "Mean"]
        assert printed[metric] == pytest.approx(scores[metric], abs=1e-12)
    assert printed["ap"]["Mean"] == pytest.approx(sum(printed["ap"][name] for name in NAMES) / 15)


def test_undefined_numbers_are_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, predictions = write_folders(tmp_path, [film(([person(joints=range(14))], [person(score=0.5)]))])
    _, out, _ = run([str(gt), str(predictions), "--json"], capsys)
    assert json.loads(out)["ap"]["head_top"] is None


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, predictions = write_folders(tmp_path, random_films(2))
    status, out, _ = run([str(gt), str(predictions)], capsys)
    assert status == 0
    assert out.strip() == format_table(evaluate(gt, predictions))


def test_wrong_input_is_status_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt, _ = write_folders(tmp_path, random_films(2))
    for arguments in ([str(gt), str(tmp_path / "no.json")], [str(gt), str(gt), "--protocol", "x"], [str(gt)]):
        status, out, err = run(arguments, capsys)
        assert status == 2 and out == "" and err.count("\n") == 1 and err.startswith("vidpose: ")


def test_input_errors_are_value_errors() -> None:
    assert issubclass(InputError, ValueError)
