"""Files that appear whole or not at all, also on a full disk; digests of files and folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vidpose.errors import InputError
from vidpose.io.files import atomic_path, content_digest, left_temporaries

FULL = """
import resource, sys
from vidpose.errors import InputError
from vidpose.io.files import write_text

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_text(sys.argv[1], "x" * 5000)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit of file sizes")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: cannot be written: ") and len(done.stdout.splitlines()) == 1
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_temporaries_of_a_killed_process_are_known_by_their_names(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a-1.tar") as temporary:
        assert left_temporaries(tmp_path, r"a-\d", ".tar") == [temporary]
        for stems, suffix in (("b", ".tar"), (r"a-\d", ".json"), ("a", ".tar")):
            assert left_temporaries(tmp_path, stems, suffix) == []
    for name in (".a-1.tar", ".a-1-backup.tar", "a-1-ab12cd34.tar", ".a-1-AB12CD34.tar"):
        (tmp_path / name).write_text("mine")
    assert left_temporaries(tmp_path, r"a-\d", ".tar") == []
    assert left_temporaries(tmp_path / "none", "a", ".tar") == []


def test_a_digest_is_that_of_content_and_of_names_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first, second = tmp_path / "a" / "x.json", tmp_path / "a" / "sub" / "y.json"
    second.parent.mkdir()
    first.write_text("1")
    second.write_text("2")
    assert content_digest(first) != content_digest(second)
    digests = {content_digest(tmp_path / "a")}
    (tmp_path / "a" / "picture.JPG").write_text("3")
    assert content_digest(tmp_path / "a", {".jpg"}) in digests
    digests.add(content_digest(tmp_path / "a"))
    second.rename(second.with_name("z.json"))
    digests.add(content_digest(tmp_path / "a", {".jpg"}))
    assert len(digests) == 3
    with pytest.raises(InputError, match="none: cannot be read"):
        content_digest(tmp_path / "none")
