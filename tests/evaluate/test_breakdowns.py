"""Scores by joint, video and difficulty; lists of frames; the rule for hard frames; the command."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people_files import people_file, random_people
from pose_files import both_sides, film, layout18, person, random_films, write, write_folders

from vidpose.cli import main
from vidpose.errors import InputError
from vidpose.evaluate import evaluate, make_challenging
from vidpose.evaluate.difficulty import bins, measures
from vidpose.evaluate.people import Frames, assemble
from vidpose.evaluate.posetrack_files import load_truth
from vidpose.evaluate.protocols import PROTOCOLS
from vidpose.evaluate.table import format_table, headline
from vidpose.skeletons import COCO17, POSETRACK15

FRAME = "images/val/000001_mpii_test/{:08d}.jpg"


def someone(x: float, y: float = 100.0, size: float = 200.0, **kw: Any) -> dict[str, Any]:
    """A person as tall as ``size`` with a head size of 30, all joints visible."""
    step = size / 15
    keypoints = np.array([[x + 0.3 * size * (j % 2), y + step * j, 1.0] for j in range(15)])
    return {
        "keypoints": keypoints, "bbox": [x, y, 0.3 * size, size], "bbox_head": [x, y, 30.0, 40.0],
        "scores": [0.5] * 15, "track_id": 1, **kw,
    }  # fmt: skip


def truth_of(*frames: list[dict[str, Any]]) -> Frames:
    return assemble(load_truth(people_file(POSETRACK15.joints, list(frames))))


def names_of(members: dict[str, np.ndarray], row: int) -> list[str]:
    return [name for name, mask in members.items() if mask[row]]


# -------------------- parts


def test_by_video_scores_each_as_if_it_were_alone() -> None:
    films = random_films(3, films=3, frames=4)
    names = [f"{v:06d}_x" for v in range(3)]
    gt = [
        layout18(made, "truth", name=n, video=v) for v, (made, n) in enumerate(zip(films, names, strict=True))
    ]
    found = [
        layout18(made, "found", name=n, video=v) for v, (made, n) in enumerate(zip(films, names, strict=True))
    ]
    parts = evaluate(gt, found, by="video")["by"]["video"]
    assert len(parts) == 3
    for v, part in enumerate(parts.values()):
        alone = evaluate(gt[v], found[v])
        for metric in ("ap", "mota", "motp"):
            assert part[metric] == pytest.approx(alone[metric], nan_ok=True)


def test_by_joint_turns_the_scores_round() -> None:
    gt, found = random_people(COCO17.joints, 1)
    scores = evaluate(gt, found, "pck", by=["joint"])
    assert scores["by"]["joint"]["nose"]["pck@0.1"] == scores["pck@0.1"]["nose"]
    assert "| nose " in format_table(scores)


def test_a_bin_keeps_its_people_their_predictions_and_those_of_nobody() -> None:
    hidden = someone(100, track_id=1)
    hidden["keypoints"][:10, 2] = 0  # ten of fifteen joints are not visible
    seen = someone(600, track_id=2)
    wrong = someone(620, 130, track_id=3, scores=[0.9] * 15)  # on the one who is seen, no joint right
    stranger = someone(2000, track_id=4, scores=[0.8] * 15)
    gt = people_file(POSETRACK15.joints, [[hidden, seen]])

    def heavy_and_none(*predictions: dict[str, Any]) -> tuple[float, float]:
        found = people_file(POSETRACK15.joints, [list(predictions)])
        parts = evaluate(gt, found, by="difficulty")["by"]["difficulty"]["occlusion"]
        return headline(parts["heavy"]), headline(parts["none"])

    right = someone(100, track_id=5)
    assert heavy_and_none(right) == (100, 0)
    assert heavy_and_none(right, someone(600, track_id=6)) == (100, 100)
    assert heavy_and_none(right, someone(600, track_id=6), wrong) == (100, 50)
    assert heavy_and_none(right, someone(600, track_id=6), stranger) == (50, 50)


def test_all_people_in_one_bin_score_as_without_bins() -> None:
    made = random_films(5, films=1)[0]
    for picture in made:
        picture.boxes = []
        picture.truth = [one for one in picture.truth if one.joints]
    gt, found = both_sides(made, "18")
    scores = evaluate(gt, found, by="difficulty")
    rows = scores["by"]["difficulty"]["occlusion"]
    assert list(rows) == ["none"]
    assert rows["none"]["ap"] == pytest.approx(scores["ap"], nan_ok=True)


@pytest.mark.parametrize("protocol", ["posetrack", "posetrack21", "hieve"])
def test_a_joint_that_nobody_of_a_bin_has_is_undefined_there(protocol: str) -> None:
    hidden = someone(100, track_id=1)
    hidden["keypoints"][:10, 2] = 0
    hidden["keypoints"][14] = 0
    gt = people_file(POSETRACK15.joints, [[hidden, someone(600, track_id=2)]])
    part = evaluate(gt, gt, protocol, by="difficulty")["by"]["difficulty"]["occlusion"]["heavy"]
    assert math.isnan(part["ap"][POSETRACK15.joints[14]]) and part["ap"]["Mean"] == 100


@pytest.mark.parametrize("protocol", [name for name in PROTOCOLS if name != "hota"])
def test_every_protocol_but_hota_has_bins_and_its_table(protocol: str) -> None:
    gt, found = random_people(POSETRACK15.joints, 2)
    scores = evaluate(gt, found, protocol, by=("joint", "video", "difficulty"))
    people = [part["summary"]["people"] for part in scores["by"]["difficulty"]["size"].values()]
    assert sum(people) == scores["summary"]["people"]
    text = format_table(scores)
    assert "| size" in text and "| video" in text and "| occlusion" in text


# -------------------- difficulty


def test_occlusion_size_and_crowding_by_hand() -> None:
    hidden = someone(100, size=60)
    hidden["keypoints"][:3, 2] = 0
    frames = truth_of([hidden, someone(5000, size=200), someone(5010, size=200, track_id=2)])
    values = measures(frames)
    members = bins(values)
    assert values["occlusion"].tolist() == pytest.approx([0.2, 0, 0])
    assert values["size"].tolist() == [60, 200, 200]
    assert values["crowding"].tolist() == pytest.approx([0, 50 / 70, 50 / 70])  # boxes 60 wide, 10 apart
    assert names_of(members["occlusion"], 0) == ["some"] and names_of(members["occlusion"], 1) == ["none"]
    assert names_of(members["size"], 0) == ["small"] and names_of(members["size"], 1) == ["medium"]
    assert names_of(members["crowding"], 0) == ["alone"] and names_of(members["crowding"], 1) == ["crowded"]


def test_speed_is_in_head_sizes_per_frame_and_unknown_without_track() -> None:
    frames = truth_of([someone(100), someone(900, track_id=5)], [someone(106)], [someone(121)])
    values = measures(frames)["speed"]  # 0, 6 and 15 pixels, head size 30
    assert values.tolist() == pytest.approx([0.2, math.nan, 0.5, 0.5], nan_ok=True)
    members = bins({"speed": values})["speed"]
    assert [names_of(members, row) for row in range(4)] == [["medium"], ["unknown"], ["fast"], ["fast"]]


def test_frames_left_out_between_two_count_as_frames() -> None:
    file = people_file(POSETRACK15.joints, [[someone(100)], [], [], [someone(118)]])
    assert measures(assemble(load_truth(file)))["speed"].tolist() == pytest.approx([0.2, 0.2])


def test_cocos_flag_1_is_hidden_where_2_is_used() -> None:
    one = someone(100)
    one["keypoints"][:, 2] = 2
    one["keypoints"][:3, 2] = 1
    assert measures(truth_of([one]))["occlusion"].tolist() == pytest.approx([0.2])


def test_blurred_people_are_told_by_the_images(tmp_path: Path) -> None:
    import cv2

    tiles = 255 * np.random.default_rng(0).integers(0, 2, (20, 45), dtype=np.uint8)
    picture = np.kron(tiles, np.ones((20, 20), dtype=np.uint8))
    for left, blur in ((300, 3), (600, 8)):
        picture[:, left : left + 300] = cv2.GaussianBlur(picture[:, left : left + 300], (0, 0), blur)
    (tmp_path / "v").mkdir()
    cv2.imwrite(str(tmp_path / "v" / "000000.jpg"), picture)
    frames = truth_of([someone(100), someone(400, track_id=2), someone(700, track_id=3)])
    members = bins({"blur": measures(frames, tmp_path)["blur"]})["blur"]
    assert [names_of(members, row) for row in range(3)] == [["sharp"], ["middling"], ["blurred"]]


def test_an_absent_image_is_named(tmp_path: Path) -> None:
    gt = people_file(POSETRACK15.joints, [[someone(100)]])
    with pytest.raises(InputError, match=r"has no image v/000000\.jpg"):
        evaluate(gt, gt, by="difficulty", images=tmp_path)


# -------------------- lists of frames


def test_a_list_of_frames_scores_as_files_of_these_frames(tmp_path: Path) -> None:
    made = random_films(6, films=1, frames=6)[0]
    gt, found = both_sides(made, "18")
    kept = [1, 4]
    path = write(tmp_path / "list.txt", "# chosen\n" + "\n".join(FRAME.format(t) for t in kept))
    some = [dict(file) for file in (gt, found)]
    for file in some:
        file["images"] = [file["images"][t] for t in kept]
        ids = {image["id"] for image in file["images"]}
        file["annotations"] = [a for a in file["annotations"] if a["image_id"] in ids]
    scores = evaluate(gt, found, frames=path)
    assert scores["ap"] == pytest.approx(evaluate(some[0], some[1])["ap"], nan_ok=True)
    for names in ([f"000001_mpii_test/{t:08d}.jpg" for t in kept], [f"{t:08d}.jpg" for t in kept]):
        assert evaluate(gt, found, frames=names)["ap"] == pytest.approx(scores["ap"], nan_ok=True)
    as_json = write(tmp_path / "list.json", {"frames": [FRAME.format(t) for t in kept]})
    assert evaluate(gt, found, frames=as_json)["ap"] == pytest.approx(scores["ap"], nan_ok=True)


def test_frames_that_take_no_part_are_counted_in_a_note() -> None:
    gt, found = both_sides(film(([person()], [person(score=0.5)])), "18")
    notes = evaluate(gt, found, frames=[FRAME.format(0), FRAME.format(7)])["summary"]["notes"]
    assert any("1 of its frames take no part" in note and FRAME.format(7) in note for note in notes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "# nothing\n", "names no frame"),
        (
            "a.txt",
            "other/000000.jpg\n",
            "names no frame of the ground truth, which has for example images/val",
        ),
        ("a.json", '{"names": []}', "is not a list of frame names"),
        ("absent.txt", None, "no such file"),
    ],
)
def test_lists_that_name_nothing_are_refused(
    name: str, text: str | None, message: str, tmp_path: Path
) -> None:
    gt, found = both_sides(film(([person()], [person(score=0.5)])), "18")
    if text is not None:
        write(tmp_path / name, text)
    with pytest.raises(InputError, match=message):
        evaluate(gt, found, frames=tmp_path / name)


def test_a_name_that_fits_two_frames_is_refused() -> None:
    gt = [layout18(film(([person()], [])), "truth", name=f"00000{v}_x", video=v) for v in (1, 2)]
    with pytest.raises(InputError, match="fits several frames"):
        evaluate(gt, gt, frames=["00000000.jpg"])


def test_hard_frames_are_those_in_which_half_of_the_people_are(tmp_path: Path) -> None:
    hidden = someone(100)
    hidden["keypoints"][:10, 2] = 0
    easy = [someone(900, track_id=2), someone(1800, track_id=3)]
    gt = people_file(POSETRACK15.joints, [[hidden, easy[0]], [someone(100), easy[0]], [hidden, *easy]])
    assert make_challenging(gt, tmp_path / "hard.json") == 1
    listed = json.loads((tmp_path / "hard.json").read_text())
    assert listed["frames"] == ["v/000000.jpg"] and "not visible" in listed["rule"]
    make_challenging(gt, tmp_path / "hard.txt")
    scores = evaluate(gt, gt, frames=tmp_path / "hard.txt")
    assert scores["summary"]["frames"] == 1 and scores["ap"]["Mean"] == 100


def test_without_a_hard_frame_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frame is challenging"):
        make_challenging(people_file(POSETRACK15.joints, [[someone(100)]]), tmp_path / "hard.txt")
    assert not list(tmp_path.iterdir())


# -------------------- the command


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        main(["evaluate", *arguments])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_command_knows_every_protocol(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gt, found = random_people(POSETRACK15.joints, 1)
    files = [str(write(tmp_path / f"{name}.json", file)) for name, file in (("gt", gt), ("pred", found))]
    status, out, _ = run([*files, "--protocol", protocol, "--json", "--by", "video", "--by", "joint"], capsys)
    scores = evaluate(gt, found, protocol)
    printed = json.loads(out)
    assert status == 0
    assert printed["summary"]["protocol"] == protocol
    assert printed[printed["summary"]["main"]]["Mean"] == pytest.approx(headline(scores))


def test_the_command_lists_hard_frames_without_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = someone(100)
    hidden["keypoints"][:10, 2] = 0
    gt = write(tmp_path / "gt.json", people_file(POSETRACK15.joints, [[hidden], [someone(100)]]))
    output = tmp_path / "hard.txt"
    status, out, _ = run([str(gt), "--make-challenging", str(output)], capsys)
    assert status == 0 and "1 challenging frames" in out
    status, out, _ = run([str(gt), str(gt), "--frames", str(output)], capsys)
    assert status == 0 and "1 of 2 frames are scored" in out


@pytest.mark.parametrize(
    "arguments",
    [["--by", "colour"], ["--thresholds", "a,b"], ["--frames", "none.txt"], ["--similarity", "oks"]],
)
def test_wrong_options_are_one_line(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gt, found = write_folders(tmp_path, random_films(2))
    status, out, err = run([str(gt), str(found), *arguments], capsys)
    assert status == 2 and out == "" and err.count("\n") == 1


def test_without_predictions_there_is_nothing_to_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run([str(tmp_path)], capsys)
    assert status == 2 and "GT and PRED" in err
