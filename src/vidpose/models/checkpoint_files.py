"""Finding a checkpoint and reading its tensors, without ever running code that a file contains."""

from __future__ import annotations

import _codecs
import json
import os
import pickle
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidpose.errors import InputError
from vidpose.io.files import atomic_path

WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(/[\w./-]+)?")


@dataclass
class Checkpoint:
    """The tensors of a file and what stands beside them."""

    path: str
    tensors: dict[str, Tensor]
    container: dict[str, Any] = field(default_factory=dict)
    """Everything beside the tensors: ``meta``, ``epoch``, ``pytorch-lightning_version`` …"""
    description: dict[str, Any] | None = None
    """Of our own files: ``{"format", "config", "card"}``, and ``"rest_in"``: a file beside it that holds the
    tensors it lacks."""
    hub_config: dict[str, Any] = field(default_factory=dict)
    """``config.json`` beside the file."""


def locate(source: str | os.PathLike[str]) -> Path:
    """The checkpoint file that ``source`` names: a file, a folder with one, a hub id, or a hub id and a file.

    Hub ids go through ``huggingface_hub`` and its cache.

    Raises:
        InputError: nothing there, several candidates, or the hub cannot be reached.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return path
    if re.match(r"https?://", text):
        raise InputError(f"{text}: is a web address; download the file and give its path, or give a hub id")
    if _HUB_ID.fullmatch(text) and not text.startswith((".", "/")):
        return _from_hub(text)
    raise InputError(
        f"{text}: no such file or folder, and no hub id (like usyd-community/vitpose-base-simple)"
    )


def _in_folder(folder: Path) -> Path:
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{folder}: holds no checkpoint ({', '.join(WEIGHT_NAMES)} or one of {' '.join(_SUFFIXES)})"
        )
    raise InputError(
        f"{folder}: holds {len(found)} checkpoints ({found[0].name}, {found[1].name} …); name one"
    )


def _from_hub(text: str) -> Path:
    from huggingface_hub import hf_hub_download

    parts = text.split("/", 2)
    repo, names = "/".join(parts[:2]), ([parts[2]] if len(parts) == 3 else list(WEIGHT_NAMES))
    reason = ""
    for name in names:
        try:
            path = Path(hf_hub_download(repo, name))
        except Exception as error:  # the hub's client raises a dozen unrelated types
            reason = reason or f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        with suppress(Exception):  # only helps to know the input size
            hf_hub_download(repo, "config.json")
        return path
    raise InputError(
        f"{text}: neither a file here nor to be had from the hub ({reason[:160]}); "
        f"download {names[0]} on a machine with network and give its path"
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file by its content, not its name.

    Raises:
        InputError: missing, empty, truncated, not a checkpoint (a web page, a Git LFS pointer), or with
            pickled objects that only code could rebuild.
    """
    start = _first_bytes(path)
    _refuse_other_files(path, start)
    # A safetensors file begins with the length of its header, whose first byte may be that of a pickle.
    safetensors = start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size
    if not safetensors and (start[:2] == b"PK" or start[:1] == b"\x80" or _is_tar(path)):
        tensors, container = _read_torch(path)
        checkpoint = Checkpoint(str(path), tensors, container)
    else:
        checkpoint = _read_safetensors(path)
    if not checkpoint.tensors:
        raise InputError(f"{path}: holds no tensors")
    broken = [k for k, v in checkpoint.tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise InputError(
            f"{path}: {len(broken)} tensors hold NaN or infinity, first {broken[0]}: damaged or diverged"
        )
    config = path.parent / "config.json"
    if config.is_file():
        try:
            value = json.loads(config.read_text(encoding="utf-8"))
            checkpoint.hub_config = value if isinstance(value, dict) else {}
        except (OSError, ValueError):
            pass
    return checkpoint


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise InputError(f"{path}: is empty, a checkpoint is needed; download it again")
    return start


def _refuse_other_files(path: Path, start: bytes) -> None:
    head = start.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is a Git LFS pointer, not the checkpoint itself; run 'git lfs pull'")
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise InputError(
            f"{path}: is a web page, not a checkpoint; the download link asked for a click or a login"
        )


def _is_tar(path: Path) -> bool:
    import tarfile

    return tarfile.is_tarfile(path)


def _read_safetensors(path: Path, read_for: tuple[str, ...] = ()) -> Checkpoint:
    """``read_for``: names of the files whose tensors are looked for in this one, see :func:`_rest`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f"{path}: is not a checkpoint, or is truncated ({reason}); download it again"
        ) from error
    description = None
    if "vidpose" in metadata:
        try:
            description = json.loads(metadata["vidpose"])
        except ValueError as error:
            raise InputError(f"{path}: its description is not valid JSON: {error}") from error
        if not isinstance(description, dict):
            raise InputError(f"{path}: its description is not a JSON object")
        for part in ("config", "card"):
            if not isinstance(description.get(part) or {}, dict):
                raise InputError(f"{path}: {part} in its description is not a JSON object")
        if "rest_in" in description:
            tensors = {**_rest(path, description.pop("rest_in"), (*read_for, path.name)), **tensors}
    return Checkpoint(str(path), tensors, {}, description)


def _rest(path: Path, given: Any, read_for: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors that :func:`store_rest` has left to another file."""
    names = given.get("tensors") if isinstance(given, dict) else None
    other = str(given.get("file", "")) if isinstance(given, dict) else ""
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if names is None or not listed or Path(other).name != other or not other:
        raise InputError(f"{path}: its description names no file for the tensors that it lacks")
    if other in read_for:
        raise InputError(f"{path}: its tensors are said to be in {other}, which itself lacks them")
    if not path.with_name(other).is_file():
        raise InputError(f"{path}: {len(names)} of its tensors are in {other}, which is not beside it")
    tensors = _read_safetensors(path.with_name(other), read_for).tensors
    if missing := [name for name in names if name not in tensors]:
        raise InputError(f"{path}: {len(missing)} of its tensors should be in {other}: {missing[0]}")
    return {name: tensors[name] for name in names}


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with _numpy_allowed():
            value = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {_unpickling_advice(str(error))}") from error
    except Exception as error:  # a damaged archive surfaces as almost any type
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: is damaged or truncated ({reason}); download it again") from error
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: holds a {type(value).__name__}, not a dictionary of weights; save model.state_dict()"
        )
    state, container = value, {}
    for key in ("state_dict", "model_state_dict", "model", "net"):
        inner = value.get(key)
        if isinstance(inner, dict) and any(isinstance(v, Tensor) for v in inner.values()):
            state, container = inner, {k: v for k, v in value.items() if k != key}
            break
    return {str(k): v for k, v in state.items() if isinstance(v, Tensor)}, container


def _unpickling_advice(message: str) -> str:
    found = re.search(r"(?:GLOBAL|global:?)\s+[`']?([A-Za-z_][\w.]*\.[\w.]+)", message)
    if not found:
        return "is damaged, or not a PyTorch checkpoint; download it again"
    return (
        f"contains a pickled {found.group(1)}, which only code could rebuild, and vidpose runs no code "
        "from checkpoints; where you trust the file, load it with torch.load(FILE, weights_only=False) "
        "elsewhere and save its weights alone: torch.save({'state_dict': loaded['state_dict']}, NEW)"
    )


def _numpy_allowed() -> AbstractContextManager[Any]:
    """Plain NumPy arrays and numbers, which mmpose keeps beside the weights: data, no code."""
    import numpy as np

    if not hasattr(torch.serialization, "safe_globals"):
        return nullcontext()  # torch 2.4
    core = getattr(np, "_core", None) or np.core
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", "U1", "S1")
    functions: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in kinds}, _codecs.encode]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        functions += [
            (core.multiarray._reconstruct, f"{module}._reconstruct"),
            (core.multiarray.scalar, f"{module}.scalar"),
        ]
    return torch.serialization.safe_globals(functions)


def store_half(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies one of our safetensors files with convolutions and matrices in float16: half the size.

    What is small or has a wide range (biases, normalisation) stays float32; a model read from the copy
    computes in float32 as before.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(os.fspath(source), framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dictionary
    halved = {k: v.half() if v.dim() > 1 and v.is_floating_point() else v for k, v in tensors.items()}
    with atomic_path(target) as temporary:
        save_file(halved, temporary, metadata=metadata)


def average_weights(sources: Sequence[str | os.PathLike[str]], target: str | os.PathLike[str]) -> None:
    """Writes the mean of the weights of our safetensors files, all of one model: runs that began alike then
    make one network, often better than each (Wortsman et al., *Model soups*, ICML 2022).

    The copy's card names the cards of all.

    Raises:
        InputError: none or not our files, or of different models.
    """
    from safetensors.torch import save_file

    if isinstance(sources, (str, os.PathLike)):
        raise InputError(f"{sources}: a list of files is needed")
    paths = [Path(source) for source in sources]
    if not paths:
        raise InputError("no weights to average")
    runs, cards = [], []
    for path in paths:
        file = read_checkpoint(path)
        if file.description is None or "config" not in file.description:
            raise InputError(f"{path}: is not vidpose's")
        runs.append(file.tensors)
        cards.append(file.description.get("card"))
        model = file.description["config"], {key: value.shape for key, value in file.tensors.items()}
        if len(runs) == 1:
            description, first = file.description, model
        elif model != first:
            raise InputError(f"{path}: holds another model than {paths[0]}")
    means = dict(runs[0])
    for key, value in means.items():
        if value.is_floating_point():
            values = [tensors[key] for tensors in runs]
            widest = max((one.dtype for one in values), key=lambda dtype: dtype.itemsize)
            means[key] = torch.stack([one.double() for one in values]).mean(dim=0).to(widest)
    description = {**description, "card": {"mean_of": cards}}
    with atomic_path(target) as temporary:
        save_file(means, temporary, metadata={"vidpose": json.dumps(description)})


def store_rest(
    source: str | os.PathLike[str], beside: str | os.PathLike[str], target: str | os.PathLike[str]
) -> None:
    """Copies one of our safetensors files without the tensors that ``beside`` holds as well, bit by bit: two
    models on one frozen backbone then need it once. The copy is read while ``beside`` lies in its folder.

    Raises:
        InputError: they have no tensor in common, or ``source`` is not one of our files.
    """
    from safetensors.torch import save_file

    given, others = read_checkpoint(Path(source)), read_checkpoint(Path(beside)).tensors
    tensors, description = given.tensors, given.description
    same = [
        k for k, v in tensors.items() if k in others and v.dtype == others[k].dtype and v.equal(others[k])
    ]
    if not same or description is None:
        raise InputError(f"{source}: shares nothing with {beside}, or is not vidpose's")
    description["rest_in"] = {"file": Path(beside).name, "tensors": same}
    own = {k: v for k, v in tensors.items() if k not in same}
    with atomic_path(target) as temporary:
        save_file(own, temporary, metadata={"vidpose": json.dumps(description)})
