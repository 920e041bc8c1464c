"""The verbs for half-labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from vidpose.cli_options import AsJson, Overwrite, Quiet, Weights, print_json

if TYPE_CHECKING:
    from vidpose.infer.propagation import PropagatedLabels
    from vidpose.infer.propagation.dataset import TrainSetReport


def propagate(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The video, an image folder or a glob of images; with --train-set a data set's folder.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the labels of all frames.")],
    labels: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Argument(metavar="LABELS", help="Labels of some of its frames, in any known format."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="auto, dis, farneback, raft, interpolate, spline, copy, stdpose, stdpose-estimation "
            "or posewarper.",
        ),
    ] = "auto",
    weights: Weights = "default",
    one_way: Annotated[
        bool, typer.Option("--one-way", help="Optical flow from the nearest label alone.")
    ] = False,
    format: Annotated[
        Optional[str],  # noqa: UP045
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
    train_set: Annotated[
        bool,
        typer.Option("--train-set", help="Fill the unlabelled frames of a whole data set; -o is a folder."),
    ] = False,
    split: Annotated[str, typer.Option("--split", help="With --train-set: the split to fill.")] = "train",
    interval: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--interval", min=1, help="With --train-set: use the labels of every N-th frame alone."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Labels on some frames of a video become labels on all."""
    from vidpose.errors import InputError
    from vidpose.infer.propagation.store import discard
    from vidpose.io.outputs import check_replaceable

    result: TrainSetReport | PropagatedLabels
    work = output.absolute().with_name(f".{output.name}.partial")
    if train_set:
        if labels is not None or format is not None or first_frame is not None or one_way:
            raise InputError(
                "--train-set takes a data set and --split, --interval, --method, --weights, --extend; "
                "not LABELS, --format, --first-frame or --one-way"
            )
        from vidpose.infer.propagation.dataset import propagate_dataset

        result = propagate_dataset(
            source,
            output,
            method,
            split=split,
            interval=interval,
            weights=weights,
            extend=extend,
            work=work,
            quiet=quiet,
        )
    else:
        if labels is None:
            raise InputError("propagate needs SOURCE and LABELS; --train-set fills a whole data set")
        if interval is not None or split != "train":
            raise InputError("--interval and --split are for --train-set")
        from vidpose.infer.propagation import propagate as run
        from vidpose.infer.propagation.run import check_output

        check_output(output, [source, str(labels)], format)
        # Also what an earlier call has made: somebody may have corrected it since.
        check_replaceable(output, overwrite=overwrite, inputs=[labels])
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
    discard(work)
    if as_json:
        print_json({**result.to_dict(), "output": str(output)})
    else:
        print(f"{output}: {result}")


def suggest(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="The video, an image folder or a glob of images.")
    ],
    labels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="LABELS", help="Labels that there are; without: evenly spaced frames."),
    ] = None,
    count: Annotated[int, typer.Option("-n", help="How many frames.", min=1)] = 10,
    weights: Weights = "default",
    first_frame: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--first-frame", help="Number that LABELS gives to the first frame."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Which frames to label next."""
    from vidpose.infer.propagation.suggest import suggest as run

    found = run(source, labels, count, weights=weights, first_frame=first_frame, quiet=quiet)
    if as_json:
        print_json([one.to_dict() for one in found])
        return
    for one in found:
        print(one)


def review(
    video: Annotated[
        str, typer.Argument(metavar="VIDEO", help="The video, an image folder or a glob of images.")
    ],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels of some or all of its frames.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="For the corrected labels; default: LABELS with .reviewed."),
    ] = None,
    weights: Weights = "default",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    overwrite: Overwrite = False,
) -> None:
    """A page on which labels are corrected and propagated again."""
    from vidpose.review.server import review as run

    run(video, labels, output, weights=weights, port=port, browser=browser, overwrite=overwrite)
