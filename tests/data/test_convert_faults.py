"""What conversion refuses: broken files by file and line, wrong options, outputs that are taken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_samples import CVAT, MOT_GT, STUDIO, STUDIO_VIDEO, coco_file
from typer.testing import CliRunner

from tiny_posetrack import make_posetrack
from vidpose.cli_data import app
from vidpose.data.convert import FORMATS, convert, write_labels
from vidpose.data.layouts.recognise import read_labels
from vidpose.errors import InputError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("pt"), splits=("val",), unlabeled=(1, 4))


def _cvat_line(old: str, new: str) -> str:
    assert old in CVAT
    return CVAT.replace(old, new, 1)


BROKEN = {
    "annotations.xml": [
        (_cvat_line("</skeleton>", ""), r"annotations\.xml:49: is not valid XML: mismatched tag"),
        (_cvat_line('xtl="10.00"', 'xtl="nan"'), r"annotations\.xml:23: a coordinate is NaN"),
        (_cvat_line('points="24.00,50.00"', 'points="24.00"'), r"annotations\.xml:34: points has 1 numbers"),
        (_cvat_line('frame="5"', 'frame="1"'), r"annotations\.xml:25: the track has two shapes"),
        (_cvat_line('xbr="50.00"', 'xbr="5.00"'), r"annotations\.xml:23: the box ends before it begins"),
        (_cvat_line("<size>8<", "<size>2<"), r"annotations\.xml:5: size is 2, but"),
        ("<html></html>", r"annotations\.xml:1: <html> is not a document of CVAT"),
        ('<annotations><image id="0"/></annotations>', "CVAT for images"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', r"annotations\.xml:1: defines an entity"),
    ],
    "gt.txt": [
        (MOT_GT + "4,1,1,1,x,1,1,1,1\n", r"gt\.txt:6: width 'x' is not a number"),
        (MOT_GT + MOT_GT, r"gt\.txt:6: id 1 is used twice in frame 1"),
        ("0,1,1,1,1,1,1,1,1\n", r"gt\.txt:1: frame 0: frames count from 1"),
        ("1,1,1,1,-1,1,1,1,1\n", r"gt\.txt:1: has a negative width"),
        ("1,1,1,1,1e9,1,1,1,1\n", r"gt\.txt:1: width 1e9: pixels"),
    ],
    "table.csv": [
        ("frame,joint,x,y\n0,nose,1\n", r"table\.csv:2: has 3 cells, the header has 4"),
        ("frame,joint,x,y\n0,nose,1,b\n", r"table\.csv:2: y 'b' is not a number"),
        ("frame,joint,x,y\n0,nose,1,2\n0,nose,1,2\n", r"table\.csv:3: the joint nose is there twice"),
        ("frame,joint,x,y\na,nose,1,2\n", r"table\.csv:2: frame 'a' is not a number"),
    ],
    "export.json": [
        (json.dumps([{"data": {"text": "x"}, "annotations": []}]), r"export\.json.*data names no image"),
        (json.dumps(STUDIO).replace('"y": 20', '"y": "b"'), r"export\.json.*\[0\].*y holds something"),
        (json.dumps(STUDIO).replace('"parentID"', '"p"').replace("12.5", "99"), "has no parent and lies in"),
        (json.dumps(STUDIO_VIDEO).replace('"width": 200, ', ""), "has no width and height"),
        ('[{"image_name": "a.jpg", "bbox": [1, 2, 3, 4], "score": 1}]', "is a list of detected boxes"),
        ('{"a": 1}', "is JSON, but neither"),
        ("[1, 2", r"export\.json:1: is not valid JSON"),
    ],
    "notes.txt": [("hello\n", "is none of the known formats"), ("", "is none of the known formats")],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "message"), [(k, *case) for k, v in BROKEN.items() for case in v])
def test_broken_files_are_one_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        convert(tmp_path / name, tmp_path / "out", "posetrack18")
    assert "\n" not in str(error.value) and [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("number", ["31622776601683", "1000001"])
def test_frame_numbers_that_no_video_has_are_refused_at_once(number: str, tmp_path: Path) -> None:
    (tmp_path / "gt.txt").write_text(f"{number},1,1,1,10,20,1,1,1\n")
    video = json.dumps(STUDIO_VIDEO).replace(
        '"framesCount": ', '"was": 1, "framesCount": ' + number + ', "_": '
    )
    (tmp_path / "b.json").write_text(video)
    for name in ("gt.txt", "b.json"):
        with pytest.raises(InputError, match="a video has 0 to 1,000,000 frames"):
            read_labels(tmp_path / name)


def test_an_unknown_encoding_and_a_broken_url_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(CVAT.replace("utf-8", "nanutf-8", 1))
    with pytest.raises(InputError, match=r"a\.xml:1: unknown encoding: nanutf-8"):
        read_labels(tmp_path / "a.xml")
    (tmp_path / "a.json").write_text(
        json.dumps(STUDIO).replace("http://", "http://[x]").replace("/data/", "x://[/")
    )
    with pytest.raises(InputError, match="is not a URL"):
        read_labels(tmp_path / "a.json")


def test_a_size_beyond_all_pictures_is_no_size(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(coco_file()).replace('"width": 640', '"width": 1e999'))
    assert "1e999" in (tmp_path / "c.json").read_text()
    sizes = {frame.size for _, frame in read_labels(tmp_path / "c.json").splits[0].frames()}
    assert (0, 0) in sizes


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_file_gives_a_traceback(tmp_path: Path, draw: st.DataObject) -> None:
    samples = {
        "a.xml": CVAT, "gt.txt": MOT_GT, "a.json": json.dumps(STUDIO), "b.json": json.dumps(STUDIO_VIDEO),
        "c.json": json.dumps(coco_file()), "a.csv": "frame,joint,x,y,v,track_id\n0,nose,1,2,1,0\n",
        "b.csv": "scorer,A,A\nindividuals,p,p\nbodyparts,nose,nose\ncoords,x,y\na/1.png,2,3\na/2.png,,\n",
    }  # fmt: skip
    name = draw.draw(st.sampled_from(sorted(samples)))
    text = samples[name]
    at = draw.draw(st.integers(0, len(text) - 1))
    length = draw.draw(st.integers(0, 12))
    new = draw.draw(
        st.sampled_from(["", "1", "-7", "nan", "x", '"', "null", "[]", "1e99", "<", ",", "\n", "{}"])
    )
    file = tmp_path / name
    file.write_text(text[:at] + new + text[at + length :])
    try:
        labels = read_labels(file)
        write_labels(labels.splits, tmp_path / "out", draw.draw(st.sampled_from(FORMATS)))
    except InputError as error:
        assert "\n" not in str(error)
    finally:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


OPTIONS = [
    ({"to": "yolo"}, "--to 'yolo' is unknown; known: posetrack17"),
    ({"source_format": "yolo"}, "--from 'yolo' is unknown"),
    ({"images": "move"}, "--images 'move' is unknown"),
    ({"joints": "body25"}, "--joints 'body25' is unknown"),
    ({"to": "posetrack18", "joints": "coco17"}, "posetrack18 has the joints posetrack18"),
    ({"to": "mot", "joints": "coco17"}, "mot has no joints"),
    ({"split": "train"}, "no split 'train'; there are val"),
    ({"out": "out.xml"}, "a file of coco ends in .json"),
    ({"out": "out.json", "images": "copy"}, "needs a folder"),
    ({"to": "cvat", "out": "out.xml"}, "is one video, here are 2"),
    ({"source_format": "mot"}, "no labels of mot found"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=str)
def test_wrong_options(tiny: Path, tmp_path: Path, options: dict[str, str], message: str) -> None:
    wanted = {"to": "coco", **options}
    with pytest.raises(InputError, match=message):
        convert(tiny, tmp_path / wanted.pop("out", "out"), **wanted)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(tiny, tmp_path / "out", "coco")
    with pytest.raises(InputError, match="is there already"):
        convert(tiny, tmp_path / "out", "csv")
    assert read_labels(tmp_path / "out").format == "coco"


def test_two_kinds_in_a_folder_are_ambiguous(tiny: Path, tmp_path: Path) -> None:
    convert(tiny, tmp_path / "out", "csv")
    shutil.copytree(tiny / "annotations" / "val", tmp_path / "out" / "annotations" / "val")
    with pytest.raises(InputError, match="holds labels of csv and posetrack17; say which with --from"):
        convert(tmp_path / "out", tmp_path / "more", "coco")
    assert convert(tmp_path / "out", tmp_path / "more", "coco", source_format="csv").source_format == "csv"


def test_command_line(tiny: Path, tmp_path: Path) -> None:
    arguments = ["convert", str(tiny), str(tmp_path / "out"), "--to", "cvat", "--json"]
    result = CliRunner().invoke(app, arguments)
    report = json.loads(result.stdout)
    assert result.exit_code == 0 and report["target"] == "cvat" and report["people"] == 16
