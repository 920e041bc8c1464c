"""The verbs for half-labelled videos."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Optional

import typer

from vidpose.cli_options import AsJson, Quiet, print_json


def propagate(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The video, an image folder or a glob of images.")
    ],
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS", help="Labels of some of its frames, in any known format.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the labels of all frames.")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="auto, dis, farneback, raft, interpolate, spline, copy, stdpose or posewarper.",
        ),
    ] = "auto",
    weights: Annotated[
        str, typer.Option("--weights", help="Of stdpose and posewarper: a file or a hub id.")
    ] = "default",
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Optical flow from the nearest label alone.")
    ] = False,
    format: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Option("--format", help="Of the result; default: that of LABELS, or by the suffix."),
    ] = None,
    first_frame: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--first-frame", help="Number that LABELS gives to the first frame."),
    ] = None,
    extend: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--extend", min=0, help="Frames that people go on beyond their first and last label."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Labels on some frames of a video become labels on all."""
    from vidpose.infer.propagation import propagate as run
    from vidpose.infer.propagation.run import check_output

    check_output(output, [source, str(labels)], format)
    work = output.absolute().with_name(f".{output.name}.partial")
    result = run(
        source,
        labels,
        method,
        weights=weights,
        one_way=one_way,
        first_frame=first_frame,
        extend=extend,
        work=work,
        quiet=quiet,
    )
    result.save(output, format)
    shutil.rmtree(work, ignore_errors=True)
    if as_json:
        print_json({**result.to_dict(), "output": str(output)})
    else:
        print(f"{output}: {result}")


def review(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="The video, an image folder or a glob of images.")
    ],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels of some or all of its frames.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="For the corrected labels; default: LABELS with .reviewed."),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """A page on which labels are corrected and propagated again."""
    from vidpose.review.server import review as run

    run(video, labels, output, port=port, browser=browser)
