"""Files that appear whole or not at all, also on a full disk; digests of files and folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vidpose.errors import InputError
from vidpose.io.files import atomic_path, content_digest, sweep_temporaries, write_text

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


def test_temporaries_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with atomic_path(tmp_path / "a-1.tar") as temporary:
        assert temporary.suffix == ".tar" and temporary.parent == tmp_path
        dead = temporary.name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
        machine = re.search(r"-vidpose-([0-9a-f]{8})-", dead)
        assert machine and dead != temporary.name
        elsewhere = dead.replace(machine[1], "0123abcd")
        stay = {temporary.name, elsewhere, ".a-1-backup.tar", ".a-1-ab12cd34.tar", dead[1:]}
        for name in {*stay, dead} - {temporary.name}:
            (tmp_path / name).write_text("x")
        (tmp_path / f"{dead}.d").mkdir()
        (tmp_path / f"{dead}.d" / "x").write_text("x")
        sweep_temporaries(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == stay
    sweep_temporaries(tmp_path / "none")


def test_a_name_as_long_as_file_systems_take(tmp_path: Path) -> None:
    for stem in ("n" * 250, "\N{GREEK SMALL LETTER PI}" * 125):
        write_text(tmp_path / f"{stem}.json", "x")
        assert (tmp_path / f"{stem}.json").read_text() == "x"


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
