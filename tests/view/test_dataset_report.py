"""The report of a data set: whole, readable without a network, right for few joints and many splits."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny_posetrack import make_posetrack
from vidpose.cli import main
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.describe import DatasetDescription, count_content, describe_dataset, measure, sample_frames
from vidpose.errors import InputError
from vidpose.skeletons import SKELETONS, Skeleton
from vidpose.view.dataset_charts import CHARTS, COLORS, log_edges, whole_edges
from vidpose.view.dataset_joints import standing_pose
from vidpose.view.dataset_report import write_report


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return make_posetrack(tmp_path_factory.mktemp("tiny") / "a <b> & $c$", frames=4)


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory) -> str:
    return write_report(
        describe_dataset(tiny, samples=8), tmp_path_factory.mktemp("r") / "r.html"
    ).read_text()


class Outline(HTMLParser):
    """Tags that are open, those that were there, and what is loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_a_page_needs_nothing_beside_it(page):
    outline = Outline(page)
    assert not {"script", "link", "iframe"} & set(outline.tags)
    assert all(source.startswith(("data:image/", "#")) for source in outline.sources)
    assert outline.tags.count("img") == 8 and "@import" not in page
    assert not outline.open


def test_a_page_has_every_chart_and_its_numbers(page):
    for chart in CHARTS:
        assert f"<h2>{chart.title}</h2>" in page
    assert page.count("<svg ") == len(CHARTS) + 2
    assert "<td>48</td>" in page and "96 × 64" in page and "<td>100.0</td>" in page


def test_a_page_takes_its_colours_from_the_reader(page):
    assert "prefers-color-scheme:dark" in page
    assert page.count("var(--ink)") > 50 and not re.search(r"#0[123]0[123]0[123]", page)


def test_names_are_not_markup(page):
    assert "a &lt;b&gt; &amp; $c$" in page and "<b>" not in page


def test_ids_within_a_page_are_used_once(page):
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    for used in re.findall(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"", page):
        assert "".join(used) in ids


def test_a_picture_is_a_page_of_charts_and_frames(tiny, tmp_path):
    image = cv2.imread(str(write_report(describe_dataset(tiny, samples=8), tmp_path / "r.png")))
    assert image.shape[1] == 1650 and image.shape[0] > 2000
    ink = (image < 128).any(axis=2)
    bands = [band.mean() for band in np.array_split(ink, 12)]
    assert min(bands) > 0.004 and tuple(image[0, 0]) == (255, 255, 255)


def test_the_same_data_give_the_same_bytes(tiny, page, tmp_path):
    assert write_report(describe_dataset(tiny, samples=8), tmp_path / "r.html").read_text() == page


def test_missing_images_are_told_and_the_rest_is_drawn(tiny, tmp_path):
    shutil.copytree(tiny / "annotations", tmp_path / "data" / "annotations")
    page = write_report(describe_dataset(tmp_path / "data", samples=8), tmp_path / "r.html").read_text()
    assert "no such image (and 7 more frames)" in page and "<img" not in page and "Box height" in page


def test_settings_of_the_user_stay(tiny, tmp_path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 33, "svg.fonttype": "path"}):
        write_report(describe_dataset(tiny), tmp_path / "r.html")
        assert matplotlib.rcParams["font.size"] == 33 and matplotlib.rcParams["svg.fonttype"] == "path"


# --- unusual data ------------------------------------------------------------------------------------------


def description_of(people: int, joints: int = 5, frames: int = 6, splits: int = 1) -> DatasetDescription:
    names = tuple(f"point_{j}" for j in range(joints))
    skeleton = Skeleton("own", names, ((names[0], names[1]),))
    out = DatasetDescription("own", "Own", {}, {})
    rng = np.random.default_rng(0)
    for s in range(splits):
        video = Video("video", [], Path("own.json"))
        for i in range(frames):
            one = Frame(Path("none.jpg"), "none.jpg", i, i, (90, 160), True)
            for track in range(people):
                keypoints = np.column_stack([rng.uniform(0, 90, (joints, 2)), np.ones(joints)])
                box = np.array([10.0 * track, 5, 10 * track + 30, 60])
                one.people.append(Person(keypoints, box, None, track, np.ones(joints, dtype=bool)))
            video.frames.append(one)
        data = PoseDataset([video], skeleton, Path(), f"s{s}")
        out.splits[f"s{s}"], out.measures[f"s{s}"] = count_content([video]), measure(data)
        out.measures[f"s{s}"].samples = sample_frames(data, 8)
    return out


@pytest.mark.parametrize(
    ("suffix", "people", "joints", "frames"),
    [(".png", 2, 5, 6), (".html", 3, 17, 1), (".html", 0, 5, 6), (".png", 0, 5, 0)],
)
def test_any_joints_one_video_and_nobody(tmp_path, suffix, people, joints, frames):
    path = write_report(description_of(people, joints, frames), tmp_path / f"r{suffix}")
    assert path.stat().st_size > 5000


def test_more_splits_than_colours_are_in_the_table(tmp_path):
    page = write_report(description_of(1, splits=6), tmp_path / "r.html").read_text()
    table = page[page.index("<table") : page.index("</table>")]
    assert [f"s{k}" in table for k in range(6)] == [True] * 6 and "first 4 splits of 6" in page
    assert all(page.count(color) > 5 for color in COLORS)


def test_a_split_without_people_keeps_the_others_colours(tmp_path):
    description = description_of(2, splits=2)
    nobody = description_of(0)
    description.splits["s0"], description.measures["s0"] = nobody.splits["s0"], nobody.measures["s0"]
    page = write_report(description, tmp_path / "r.html").read_text()
    height = page[page.index("<h2>Box height</h2>") :]
    assert COLORS[1] in height[: height.index("</figure>")]


@pytest.mark.parametrize("values", [[3], [0, 0, 1], [1, 7, 39], [5, 900], [0, 10_000], [150, 195]])
def test_bins_of_whole_numbers_hold_all(values):
    edges, _ = whole_edges(np.array(values))
    assert np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].sum() == len(values)
    assert (np.diff(edges) > 0).all() and len(edges) < 60


@pytest.mark.parametrize("values", [[48.0], [1.0, 1.001], [0.01, 3000.0], list(range(1, 500))])
def test_bins_that_grow_hold_all(values):
    edges, is_log = log_edges(np.array(values))
    assert is_log and np.histogram(values, edges)[0].sum() == len(values)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_a_standing_person_is_symmetric_and_upright(skeleton):
    pose = standing_pose(skeleton)
    mirrored = pose[skeleton.flip_permutation] * [-1, 1]
    np.testing.assert_allclose(pose, mirrored)
    assert len({tuple(place) for place in pose.tolist()}) == skeleton.num_joints
    assert pose[list(skeleton.lower_body), 1].min() > pose[list(skeleton.upper_body), 1].min()


# --- what cannot be done -----------------------------------------------------------------------------------


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["data", "info", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_the_verb_prints_and_draws(tiny, tmp_path, capsys):
    status, out, err = run(capsys, tiny, "--split", "val", "-o", tmp_path / "new" / "r.html", "--quiet")
    assert status == 0 and not err and "val: 2 videos" in out and "train" not in out.split("PoseTrack18")[1]
    assert (tmp_path / "new" / "r.html").read_text().startswith("<!doctype html>")
    status, out, _ = run(capsys, tiny, "--json", "--quiet", "--layout", "posetrack18")
    assert status == 0 and json.loads(out)["report"] is None


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("r.pdf", [], "a report is .html or .png"),
        ("r", [], "a report is .html or .png"),
        ("folder.png", [], "is a folder"),
        ("file/r.png", [], "is a file"),
        ("r.png", ["--split", "test"], "no split 'test'"),
        ("r.png", ["--layout", "mine"], "layout 'mine' is unknown"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(tiny, tmp_path, capsys, name, options, words):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    status, out, err = run(capsys, tiny, "-o", tmp_path / name, "--quiet", *options)
    assert status == 2 and not out and words in err and len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_broken_annotations_leave_an_old_report_alone(tiny, tmp_path, capsys):
    shutil.copytree(tiny, tmp_path / "data")
    file = next((tmp_path / "data" / "annotations").glob("val/*.json"))
    file.write_text(file.read_text().replace('"bbox": [', '"bbox": [NaN, ', 1))
    report = tmp_path / "r.html"
    old = '<meta name="generator" content="vidpose">old'
    report.write_text(old)
    status, _, err = run(capsys, tmp_path / "data", "-o", report, "--quiet")
    assert status == 2 and file.name in err and "annotations[0]" in err
    assert report.read_text() == old and len(list(tmp_path.iterdir())) == 2


def test_a_path_that_is_refused_in_python(tiny):
    with pytest.raises(InputError, match=r"\.html or \.png"):
        write_report(describe_dataset(tiny), "report.svg")
