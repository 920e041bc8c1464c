"""Decoding of videos by a device, where PyAV and the machine offer it; not tried on a GPU yet.

The device decodes and the frames come back into memory, where they become RGB. Nothing else changes.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from vidpose.errors import InputError

AUTO_DEVICES = ("cuda", "videotoolbox", "d3d11va", "vaapi", "qsv")
"""What ``auto`` tries, in order."""


def decode_names() -> list[str]:
    """``cpu``, ``auto`` (the first device that can, else the CPU), and the devices that PyAV knows."""
    try:
        from av.codec.hwaccel import hwdevices_available
    except ImportError:  # PyAV before 14
        return ["cpu", "auto"]
    return ["cpu", "auto", *hwdevices_available()]


def check_decode(decode: str) -> None:
    """Raises :class:`InputError` for none of :func:`decode_names`; ``cuda:1`` is the second device."""
    known = decode_names()
    if decode.partition(":")[0] not in known or decode.startswith(("cpu:", "auto:")):
        raise InputError(f"unknown decode {decode!r}; known here: {', '.join(known)}")


def find_accelerators(decode: str) -> list[Any]:
    """PyAV's ``HWAccel`` settings to try in order; none for ``cpu``.

    Raises:
        InputError: see :func:`check_decode`.
    """
    check_decode(decode)
    if decode == "cpu":
        return []
    known = decode_names()
    names = [name for name in AUTO_DEVICES if name in known] if decode == "auto" else [decode]
    if not names:
        return []
    from av.codec.hwaccel import HWAccel

    parts = [name.partition(":") for name in names]
    return [HWAccel(kind, device=number or None) for kind, _, number in parts]


def is_accelerated(stream: Any) -> bool:
    """Whether a device decodes PyAV's video stream."""
    return bool(getattr(stream.codec_context, "is_hwaccel", False))


def restore_colors(frame: Any, context: Any) -> None:
    """Gives a frame that came back from a device the colour space and range of its stream, which PyAV leaves
    behind there."""
    frame.colorspace = context.colorspace
    frame.color_range = context.color_range


def tell_software(label: str, decode: str, reason: str) -> None:
    """Says on standard error that the CPU decodes a source; a URL is shown without its password."""
    label = re.sub(r"://[^/@]*@", "://", label)
    reason = reason.removeprefix(f"{label}: ")
    line = f"vidpose: {label} is decoded on the CPU and not by {decode}: {reason}"
    print(line, file=sys.stderr, flush=True)
