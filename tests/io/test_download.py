"""Sources of weights: what is here is used, what is not is one line, quickly, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidpose.errors import InputError
from vidpose.io.download import resolve_file, resolve_folder

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A hub cache that holds owner/net with one file, as the hub's client lays it out."""
    folder = tmp_path / "hub" / "models--owner--net"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"weights")
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return snapshot


def test_a_local_file_and_a_local_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert resolve_file(tmp_path / "model.safetensors") == tmp_path / "model.safetensors"
    assert resolve_file(str(tmp_path)) == tmp_path / "model.safetensors"
    assert resolve_folder(tmp_path) == tmp_path
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds none of model\.safetensors"):
        resolve_file(tmp_path / "empty")


def test_what_is_in_the_hubs_cache_needs_no_network(cache):
    assert resolve_file("owner/net").read_bytes() == b"weights"
    assert resolve_file("owner/net/config.json").name == "config.json"
    assert resolve_file("owner/net@main").read_bytes() == b"weights"
    assert (resolve_folder("owner/net") / "config.json").is_file()


def test_what_is_not_here_is_one_line_without_a_network(cache):
    for resolve in (resolve_file, resolve_folder):
        with pytest.raises(InputError, match=r"owner/other: .*hub cannot be reached; download it") as caught:
            resolve("owner/other")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["weights", "./runs/a.pth", "runs/a.pth", "/none/a.safetensors", "a b/c"])
def test_a_missing_path_is_not_taken_for_a_hub_id(source):
    with pytest.raises(InputError, match="no such file or folder"):
        resolve_file(source)
