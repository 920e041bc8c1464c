"""The verbs of ``vidpose data``: parse, call, print. Every import is made when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidpose.cli_options import AsJson, Quiet, height_and_width, print_json

app = typer.Typer(help="Make, check and describe data sets.", no_args_is_help=True)


@app.command()
def synthesize(
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the new data set.")],
    videos: Annotated[int, typer.Option("--videos", help="Number of videos.")] = 10,
    frames: Annotated[int, typer.Option("--frames", help="Frames in each.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 0,
    split: Annotated[str, typer.Option("--split", help="Name of the split.")] = "train",
    size: Annotated[str, typer.Option("--size", help="WIDTHxHEIGHT in pixels.")] = "640x360",
    fps: Annotated[int, typer.Option("--fps", help="Frames per second.")] = 25,
    write: Annotated[str, typer.Option("--write", help="frames, video or both.")] = "frames",
    difficulty: Annotated[str, typer.Option("--difficulty", help="clean, mixed or hard.")] = "mixed",
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Makes synthetic videos of people with exact labels, in PoseTrack18's layout."""
    from vidpose.data.synthesis import synthesize as run

    summary = run(
        output,
        videos=videos,
        frames=frames,
        seed=seed,
        split=split,
        size=height_and_width(size),
        fps=fps,
        write=write,
        difficulty=difficulty,
        workers=workers,
        quiet=quiet,
    )
    if as_json:
        print_json(summary)
    else:
        kept = f" ({summary['kept']} were there already)" if summary["kept"] else ""
        print(
            f"{summary['root']}: {summary['videos']} videos{kept}, {summary['frames']} frames, "
            f"{summary['people']} labelled people in split {summary['split']}"
        )


@app.command()
def check(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    as_json: AsJson = False,
) -> None:
    """Lists what is missing, odd or broken in a data set; exit status 2 if anything is."""
    from vidpose.data.check import check_dataset

    report = check_dataset(root)
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
    if report.problems:
        raise typer.Exit(2)


@app.command()
def info(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    as_json: AsJson = False,
) -> None:
    """Counts a data set's videos, frames, people and labelled joints."""
    from vidpose.data.check import describe_dataset

    description = describe_dataset(root)
    if as_json:
        print_json(description.to_dict())
    else:
        print(description)
