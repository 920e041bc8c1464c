"""Options that several verbs of the command line share, and how they are read and printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from vidpose.errors import InputError

Model = Annotated[str, typer.Option("--model", help="A name from `vidpose models`.")]
Weights = Annotated[
    str, typer.Option("--weights", help="A set that `vidpose weights` lists, a file, or a hub id.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Precision = Annotated[
    str, typer.Option("--precision", help="auto, fp32, bf16, fp16, or int8 (detector in OpenVINO).")
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        help="What runs the networks on a CPU: auto (the fastest that is installed), torch, openvino, "
        "onnxruntime.",
    ),
]
Decode = Annotated[
    str,
    typer.Option(
        "--decode",
        help="What decodes videos: cpu, auto (a device that can, else the CPU), or a device such as cuda. "
        "Devices are not tried yet.",
    ),
]
CudaGraphs = Annotated[
    bool,
    typer.Option(
        "--cuda-graphs", help="Networks by CUDA graphs, of few batch sizes. Not tried on a GPU yet."
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        help="auto (of the set of weights), the name of a set, rtdetr, dfine, a hub id or folder of such a "
        "model, boxes.json, full-frame.",
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a file that is there already and was not made so.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def print_json(value: Any) -> None:
    """NaN, an undefined score, becomes null."""
    from vidpose.evaluate.table import json_ready

    print(json.dumps(json_ready(value), indent=2, allow_nan=False))


def height_and_width(size: str) -> tuple[int, int]:
    """``640x360`` -> (360, 640)."""
    width, cross, height = size.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size is {size!r}: it must be WIDTHxHEIGHT, for example 640x360")
    return int(height), int(width)


def number_or(option: str, text: str, word: str) -> int | None:
    """``640`` -> 640; ``word`` -> ``None``."""
    if text == word:
        return None
    if not text.isdecimal():
        raise InputError(f"{option} is {text!r}: it must be a whole number or {word}")
    return int(text)


def whole_numbers(option: str, text: str) -> list[int]:
    """``0,1,2`` -> [0, 1, 2]."""
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise InputError(f"{option} is {text!r}: it must be whole numbers with commas, for example 0,1,2")
    return [int(part) for part in text.split(",")]


def numbers(option: str, text: str) -> list[float]:
    """``0.2,0.1`` -> [0.2, 0.1]."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{option} is {text!r}: it must be numbers with commas, for example 0.2,0.1"
        ) from None
