"""PoseTrack17's original annotations, MATLAB's ``annolist``, in the shape of its JSON files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vidpose.errors import InputError


def load_mat(file: Path) -> dict[str, Any]:
    """The variables of a .mat file: structs as dicts, struct arrays as lists, the rest as arrays."""
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(str(file), simplify_cells=True)
    except NotImplementedError:
        raise InputError(f"{file}: is of MATLAB 7.3; save it with -v7 to have it read") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # scipy's parser fails in many ways on what is no .mat file
        raise InputError(f"{file}: is not a .mat file that can be read: {error}") from None
    return content


def read_mat(file: Path) -> dict[str, Any]:
    """``{"annolist": …}`` as PoseTrack17's JSON files have it, every scalar a list of one.

    Raises:
        InputError: the file cannot be read or holds no ``annolist``.
    """
    content = load_mat(file)
    if "annolist" not in content:
        known = ", ".join(key for key in content if not key.startswith("__")) or "nothing"
        raise InputError(f"{file}: holds {known}; PoseTrack17's files hold annolist")
    return {"annolist": [_frame(frame) for frame in _list(content["annolist"])]}


def _list(value: Any) -> list[Any]:
    """A struct array as a list: MATLAB writes one struct bare and none as an empty array."""
    if isinstance(value, np.ndarray):
        return list(value.reshape(-1)) if value.size else []
    return list(value) if isinstance(value, list) else [value]


def _one(value: Any) -> list[Any]:
    """A scalar as a list of one; an empty array as an empty list."""
    if isinstance(value, np.ndarray):
        value = value.reshape(-1)
        return [value[0].item()] if value.size else []
    return [value.item() if isinstance(value, np.generic) else value]


def _frame(frame: Any) -> Any:
    if not isinstance(frame, dict):
        return frame
    image = frame.get("image")
    out: dict[str, Any] = {"image": [{"name": _one(image["name"])}] if isinstance(image, dict) else []}
    for key in ("imgnum", "is_labeled"):
        if key in frame:
            out[key] = _one(frame[key])
    out["annorect"] = [_rect(rect) for rect in _list(frame.get("annorect", []))]
    regions = _list(frame.get("ignore_regions", []))
    out["ignore_regions"] = [{"point": _points(r.get("point"))} for r in regions if isinstance(r, dict)]
    return out


def _rect(rect: Any) -> Any:
    if not isinstance(rect, dict):
        return rect
    out: dict[str, Any] = {
        key: _one(value) for key, value in rect.items() if not isinstance(value, (dict, list))
    }
    points = rect.get("annopoints")
    out["annopoints"] = [{"point": _points(points.get("point"))}] if isinstance(points, dict) else []
    return out


def _points(points: Any) -> list[Any]:
    return [
        {key: _one(value) for key, value in point.items()} if isinstance(point, dict) else point
        for point in _list(points if points is not None else [])
    ]
