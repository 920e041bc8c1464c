"""SIGTERM ends a command as Ctrl-C does: one line, status 143, nothing half-written left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vidpose.stopping import Stopped, stoppable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

WRITE = """
import os, signal, sys
import vidpose.cli
from vidpose.cli import app
from vidpose.io.files import atomic_path, temporary_folder

@app.command()
def write(path: str, number: int, repeat: int = 1) -> None:
    with temporary_folder(path + ".d") as folder, atomic_path(path) as temporary:
        temporary.write_text("half")
        (folder / "x").write_text("half")
        for _ in range(repeat):
            os.kill(os.getpid(), number)

vidpose.cli.main(["write", *sys.argv[1:]])
"""


def write(path: Path, number: int, *more: str) -> subprocess.CompletedProcess[str]:
    """A command that is sent a signal while it writes; tests that run in the background ignore some."""
    return subprocess.run(
        [sys.executable, "-c", WRITE, str(path), str(int(number)), *more],
        capture_output=True,
        text=True,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGHUP, signal.SIGINT)],
    )


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_a_stopped_command_says_so_and_leaves_nothing(tmp_path: Path, number: int, status: int) -> None:
    (tmp_path / "x.json").write_text("old")
    done = write(tmp_path / "x.json", number)
    assert (done.returncode, done.stderr, done.stdout) == (status, "vidpose: stopped\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "old"


def test_what_a_killed_command_left_is_swept_by_the_next_one(tmp_path: Path) -> None:
    done = write(tmp_path / "x.json", signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 2
    mine = [".x-backup.json", ".x-ab12cd34.json", ".x-vidpose-notes.json"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    done = write(tmp_path / "x.json", signal.SIGTERM)
    assert done.returncode == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)


def test_a_signal_that_comes_twice_is_one(tmp_path: Path) -> None:
    """``timeout`` sends its signal to the process and to its group."""
    with pytest.raises(Stopped) as stopped, stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            (tmp_path / "cleaned").touch()
    assert stopped.value.status == 143 and (tmp_path / "cleaned").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_process_ends_at_once() -> None:
    with stoppable():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
