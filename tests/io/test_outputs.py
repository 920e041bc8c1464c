"""What may be replaced: sources that are known again, results that say what they were made of."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vidpose.errors import InputError
from vidpose.io.formats import FORMATS, SOURCE_DIGEST, format_suffix, load_poses, result_digest, save_poses
from vidpose.io.outputs import PNG_MARK, check_replaceable, unless_marked
from vidpose.io.sources import find_source, source_digest
from vidpose.io.video_writer import VideoWriter, drawn_digest
from vidpose.results import FramePoses, VideoPoses
from vidpose.view.draw import save_png

DIGEST = "0123456789abcdef" * 2


# --- sources ---------------------------------------------------------------------------------------------


def digest_of(source: object) -> str | None:
    return source_digest(find_source(source))  # type: ignore[arg-type]


def test_a_video_is_known_again_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 9_000_000, dtype=np.uint8)
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    paths = [tmp_path / name / "x.mp4" for name in ("a", "b", "c")]
    paths[0].write_bytes(content.tobytes())
    paths[1].write_bytes(content.tobytes())
    content[5_000_000:] += 1  # the same size, the same beginning
    paths[2].write_bytes(content.tobytes())
    first, copy, other = map(digest_of, paths)
    assert first == copy != other and first is not None and len(first) == 32


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 64 * 65_536 - 1])
def test_every_byte_of_a_small_video_counts(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.mp4"
    seen = set()
    for at in sorted({0, size // 2, max(size - 1, 0)}) if size else []:
        content = bytearray(size)
        content[at] = 1
        path.write_bytes(content)
        seen.add(digest_of(path))
    path.write_bytes(bytes(size))
    seen.add(digest_of(path))
    assert len(seen) == (0 if not size else len({0, size // 2, size - 1})) + 1


def test_images_are_known_again_by_names_sizes_and_content(tmp_path: Path) -> None:
    folder = tmp_path / "film"
    folder.mkdir()
    for k in range(40):
        cv2.imwrite(str(folder / f"{k}.bmp"), np.full((8, 8, 3), k, np.uint8))
    first = digest_of(folder)
    assert digest_of(f"{folder}/*.bmp") == first == digest_of(folder)
    cv2.imwrite(str(folder / "0.bmp"), np.full((8, 8, 3), 200, np.uint8))
    changed = digest_of(folder)
    (folder / "39.bmp").rename(folder / "40.bmp")
    assert len({first, changed, digest_of(folder)}) == 3


def test_cameras_and_streams_are_never_the_same_again() -> None:
    assert digest_of(0) is None and digest_of("rtsp://camera/stream") is None


# --- results ---------------------------------------------------------------------------------------------


def poses(**info: object) -> VideoPoses:
    frame = FramePoses(0, 0.0, np.ones((1, 15, 2)), np.ones((1, 15)), [[0, 0, 9, 9]], [1.0], [0])
    return VideoPoses([frame], source='a "video".mp4', width=10, height=10, fps=25, info=dict(info))


@pytest.mark.parametrize("format", FORMATS)
def test_a_result_says_what_it_was_made_of(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x{format_suffix(format)}"
    save_poses(poses(model="tdmi", **{SOURCE_DIGEST: DIGEST}), path, format)
    assert result_digest(path) == (None if format == "csv" else DIGEST)
    assert len(load_poses(path)) == 1
    save_poses(poses(model="tdmi"), path, format)
    assert result_digest(path) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"info": ', '{"info": 3}', '{"info": {"details": [1]}}', "\xff\x00", '{"a": 1}']
)
@pytest.mark.parametrize("suffix", [".json", ".csv", ".parquet", ".txt"])
def test_other_files_say_nothing(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(text.encode("latin-1"))
    assert result_digest(path) is None and drawn_digest(path) is None
    assert result_digest(tmp_path / f"none{suffix}") is None


def test_json_that_another_program_has_written_again_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    save_poses(poses(**{SOURCE_DIGEST: DIGEST}), path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))
    assert result_digest(path) is None


def test_a_drawn_video_says_what_it_was_drawn_over(tmp_path: Path) -> None:
    for name, digest in (("a.mp4", DIGEST), ("b.mp4", None)):
        with VideoWriter(tmp_path / name, 25, (48, 64), source_digest=digest) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
        assert drawn_digest(tmp_path / name) == digest


def test_pictures_are_marked_and_stay_pictures(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    save_png(tmp_path / "a.png", image)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], image)
    cv2.imwrite(str(tmp_path / "b.png"), image)
    objection = unless_marked(PNG_MARK)
    assert objection(tmp_path / "a.png") is None and objection(tmp_path / "b.png") is not None


# --- replacing -------------------------------------------------------------------------------------------


def test_what_is_there_is_replaced_only_when_asked_or_known(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    check_replaceable(path, overwrite=False)
    path.write_text("mine")
    with pytest.raises(InputError, match=r"x\.json: is there already; .*--output, or .*--overwrite"):
        check_replaceable(path, overwrite=False)
    check_replaceable(path, overwrite=True)
    check_replaceable(path, overwrite=False, objection=lambda path: None)


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.json"
    path.parent.mkdir()
    path.write_text("mine")
    (tmp_path / "link.json").symlink_to(path)
    for target, given in ((path, path), (tmp_path / "link.json", path), (path, path.parent)):
        with pytest.raises(InputError, match=r"json: (is an input|lies in .*folder, which is read)"):
            check_replaceable(target, overwrite=True, inputs=[given])
    with pytest.raises(InputError, match="is a folder"):
        check_replaceable(path.parent, overwrite=True)


def test_what_a_command_has_made_in_a_folder_that_it_reads_is_no_input(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("<mark>")
    check_replaceable(path, overwrite=False, inputs=[tmp_path], objection=unless_marked(b"<mark>"))


def test_a_link_to_nothing_is_something(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match="is there already"):
        check_replaceable(tmp_path / "x.json", overwrite=False)
