"""How many processors a process may use, read from control groups as Linux writes them."""

import os

import pytest

from vidpose.cpus import cgroup_share, limit_threads, usable_cpus


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "damaged"}, None),
        ({}, None),
    ],
)
def test_the_share_of_a_container_is_read(tmp_path, files, share):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_share(tmp_path) == share


def test_a_share_is_rounded_up_and_never_more_than_there_are(tmp_path):
    (tmp_path / "cpu.max").write_text("20000 100000")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("100000000 100000")
    assert usable_cpus(tmp_path) == usable_cpus(tmp_path / "no such folder")


def test_threads_are_limited_unless_the_user_has_set_them(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    limit_threads(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    limit_threads(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_without_a_limit_libraries_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    limit_threads(tmp_path)
    assert "OMP_NUM_THREADS" not in os.environ
