"""From what a user writes (a path or a hub id) to a file or folder on this machine."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from vidpose.errors import InputError

WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
"""What a hub repository calls its weights, in order of preference."""
CONNECT_TIMEOUT_S = 3.0
_HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")
_FILE_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".onnx", ".json")


def resolve_file(source: str | os.PathLike[str], names: Sequence[str] = WEIGHT_NAMES) -> Path:
    """The one file that ``source`` means: a path, a folder that holds one of ``names``, or a hub id.

    A hub id is ``owner/repository``, optionally followed by ``/file`` and ``@revision``. What is in the local
    cache is taken from there without asking the network.

    Raises:
        InputError: nothing is there, or it would have to be downloaded and the hub cannot be reached.
    """
    local = _local(source)
    if local is not None and local.is_file():
        return local
    if local is not None:
        for name in names:
            if (local / name).is_file():
                return local / name
        raise InputError(f"{source}: holds none of {', '.join(names)}")
    repository, file, revision = _hub_parts(str(source))

    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    wanted = [file] if file else list(names)
    for name in wanted:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=True))
        except (LocalEntryNotFoundError, ValueError):
            continue
    for name in wanted:
        try:
            return Path(_ask_hub(str(source), partial(hf_hub_download, repository, name, revision=revision)))
        except EntryNotFoundError:
            continue
    raise InputError(f"{source}: the hub's {repository} holds none of {', '.join(wanted)}")


def resolve_folder(source: str | os.PathLike[str]) -> Path:
    """The folder that ``source`` means: a local one, or a hub repository's snapshot (weights and settings).

    Raises:
        InputError: nothing is there, or it would have to be downloaded and the hub cannot be reached.
    """
    local = _local(source)
    if local is not None:
        if not local.is_dir():
            raise InputError(f"{source}: is a file, a folder or a hub id is needed")
        return local
    repository, file, revision = _hub_parts(str(source))
    if file:
        raise InputError(f"{source}: names a file, a folder or a hub id (owner/repository) is needed")

    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt"]
    try:
        folder = Path(
            snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True)
        )
        if any(folder.glob("*.safetensors")):
            return folder
    except (LocalEntryNotFoundError, ValueError):
        pass
    download = partial(snapshot_download, repository, revision=revision, allow_patterns=patterns)
    return Path(_ask_hub(str(source), download))


def hub_is_reachable() -> bool:
    """Whether the hub answers within three seconds; behind a proxy, which is not asked, always true."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def _ask_hub(source: str, download: Callable[[], str]) -> str:
    """Runs a download; the client's own retries take half a minute without a network, so that comes first."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    advice = "download it where there is a network, and give its path"
    if not hub_is_reachable():
        raise InputError(f"{source}: is not on this machine and the hub cannot be reached; {advice}")
    try:
        return download()
    except GatedRepoError:
        raise InputError(
            f"{source}: the hub asks for a login (hf auth login) and its owner's consent"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{source}: the hub has no such revision") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{source}: no such file or folder here, and no such repository on the hub"
        ) from None
    except LocalEntryNotFoundError:
        raise InputError(
            f"{source}: is not on this machine and the hub cannot be reached; {advice}"
        ) from None
    except EntryNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{source}: cannot be downloaded: {reason}") from None


def _local(source: str | os.PathLike[str]) -> Path | None:
    path = Path(source).expanduser()
    return path if path.exists() else None


def _hub_parts(source: str) -> tuple[str, str, str | None]:
    """(repository, file or '', revision) of a hub id; what can only be a path is a missing file."""
    match = _HUB_ID.fullmatch(source)
    file = match.group(2).strip("/") if match else ""
    looks_like_path = source.startswith((".", "/", "~")) or "\\" in source
    if match is None or looks_like_path or (not file and source.endswith(_FILE_SUFFIXES)):
        raise InputError(f"{source}: no such file or folder, and not a hub id (owner/repository)")
    return match.group(1), file, match.group(3)
