"""The command line: verbs that parse, call and print. Every import is made when it is needed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from vidpose.errors import InputError

app = typer.Typer(
    name="vidpose",
    help="Multi-frame human pose estimation in video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Make, check and describe data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Model = Annotated[str, typer.Option("--model", help="A name from `vidpose models`.")]
Weights = Annotated[str, typer.Option("--weights", help="A file, a hub id, or `default`.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")]
Detector = Annotated[
    str,
    typer.Option(
        "--detector", help="auto, rtdetr, dfine, a hub id or folder of such a model, boxes.json, full-frame."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def _print_json(value: Any) -> None:
    """NaN, an undefined score, becomes null."""
    from vidpose.evaluate.table import json_ready

    print(json.dumps(json_ready(value), indent=2, allow_nan=False))


def _height_and_width(size: str) -> tuple[int, int]:
    """``640x360`` -> (360, 640)."""
    width, cross, height = size.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size is {size!r}: it must be WIDTHxHEIGHT, for example 640x360")
    return int(height), int(width)


def _whole_numbers(option: str, text: str) -> list[int]:
    """``0,1,2`` -> [0, 1, 2]."""
    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise InputError(f"{option} is {text!r}: it must be whole numbers with commas, for example 0,1,2")
    return [int(part) for part in text.split(",")]


@app.command()
def estimate(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Videos, image folders, globs, camera numbers or URLs."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    model: Model = "tdmi",
    weights: Weights = "default",
    detector: Detector = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    format: Annotated[
        str, typer.Option("--format", help="posetrack17, posetrack18, coco, csv or parquet.")
    ] = "posetrack18",
    save_video: Annotated[bool, typer.Option("--save-video", help="Also write an annotated mp4.")] = False,
    decoder: Annotated[str, typer.Option("--decoder", help="plain, quarter, dark or udp.")] = "dark",
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirrored crop.")] = False,
    tracker: Annotated[
        str, typer.Option("--tracker", help="bytetrack, ocsort, botsort or none.")
    ] = "bytetrack",
    smooth: Annotated[bool, typer.Option("--smooth", help="One-Euro filter over time.")] = False,
    min_box_score: Annotated[
        float, typer.Option("--min-box-score", min=0.0, max=1.0, help="Boxes below this score are dropped.")
    ] = 0.2,
    max_people: Annotated[
        int, typer.Option("--max-people", min=1, help="The best so many boxes of a frame are kept.")
    ] = 50,
    hold: Annotated[
        int,
        typer.Option(
            "--hold", min=1, max=16, help="Key frames that may share one crop: faster, slightly less exact."
        ),
    ] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Poses of every person in every frame of a video."""
    from vidpose.infer.estimate import estimate as run

    summaries = run(
        sources,
        output,
        model=model,
        weights=weights,
        detector=detector,
        device=device,
        precision=precision,
        format=format,
        save_video=save_video,
        decoder=decoder,
        flip_test=flip_test,
        tracker=tracker,
        smooth=smooth,
        min_box_score=min_box_score,
        max_people=max_people,
        hold=hold,
        quiet=quiet,
    )
    if as_json:
        _print_json([summary.to_dict() for summary in summaries])
    else:
        for summary in summaries:
            print(summary)


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped one.")
    ],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Argument(metavar="[KEY=VALUE]...", help="Values in place of the recipe's."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trains a model by a recipe."""
    from vidpose.train.run import train as run

    result = run(recipe, overrides or [], resume=resume, quiet=quiet)
    if as_json:
        _print_json(result.to_dict())
    else:
        print(result)


@app.command()
def validate(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped one.")
    ],
    weights: Annotated[str, typer.Option("--weights", help="A file, a hub id, or `default`.")],
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[KEY=VALUE]...", help="Values in place of the recipe's."),
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Runs a model over a data set's split and prints its table."""
    from vidpose.evaluate.table import format_table
    from vidpose.train.run import validate as run

    result = run(recipe, weights, overrides or [], quiet=quiet)
    if as_json:
        _print_json({**result.scores, "settings": result.settings})
    else:
        print(format_table(result.scores))
        print(", ".join(f"{key}: {value}" for key, value in result.settings.items()))


@app.command()
def ablate(
    recipe: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped one."),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[KEY=VALUE]...", help="Values in place of the recipe's, for every row."),
    ] = None,
    table: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--table", help="A name that --list shows."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all runs and tables.")] = Path(
        "runs/ablate"
    ),
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--rows", help="Only these rows, with commas between them."),
    ] = None,
    seeds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--seeds", help="Seeds of every row, as 0,1,2; default: the recipe's."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at the same time, one thread each.")] = 1,
    show: Annotated[
        bool, typer.Option("--list", help="Show all tables and their rows; run nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trains and scores the rows of a paper's ablation table."""
    from vidpose.train.ablation_tables import find_tables, format_tables

    if show:
        tables = find_tables(table)
        if as_json:
            _print_json([entry.model_dump(by_alias=True) for entry in tables])
        else:
            print(format_tables(tables))
        return
    if recipe is None or table is None:
        raise InputError("ablate needs a RECIPE and --table NAME; `vidpose ablate --list` shows the tables")
    from vidpose.train.ablation import ablate as run

    result = run(
        recipe,
        table,
        output,
        overrides or [],
        rows=rows.split(",") if rows else None,
        seeds=_whole_numbers("--seeds", seeds) if seeds else None,
        jobs=jobs,
        quiet=quiet,
    )
    if as_json:
        _print_json(result.to_dict())
    else:
        print(result)


@app.command()
def evaluate(
    gt: Annotated[Path, typer.Argument(metavar="GT", help="JSON file or folder with the truth.")],
    predictions: Annotated[Path, typer.Argument(metavar="PRED", help="JSON file or folder to score.")],
    protocol: Annotated[str, typer.Option("--protocol", help="posetrack.")] = "posetrack",
    as_json: AsJson = False,
) -> None:
    """Scores prediction files against the truth by the official protocol."""
    from vidpose.evaluate import evaluate as run
    from vidpose.evaluate.table import format_table

    scores = run(gt, predictions, protocol=protocol)
    if as_json:
        _print_json(scores)
    else:
        print(format_table(scores))


@app.command()
def models(
    name: Annotated[Optional[str], typer.Argument(metavar="[NAME]", help="One model only.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """The table of methods: parameters, multiply-adds, the papers' figures beside ours."""
    from vidpose.models.table import format_models, model_table

    rows = model_table(name)
    if as_json:
        _print_json(rows)
    else:
        print(format_models(rows))


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `vidpose models`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .onnx or .pt2.")],
    weights: Weights = "default",
    as_json: AsJson = False,
) -> None:
    """Writes a model as ONNX or torch.export program, checked against the original."""
    from vidpose.infer.weights import load_pose_model
    from vidpose.models.export import export_model

    loaded, _ = load_pose_model(name, weights)
    report = export_model(loaded, output)
    if as_json:
        _print_json(report.to_dict())
    else:
        print(report)


@app.command()
def view(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="A JSON file that `estimate` wrote.")],
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--source", help="The video, where it is no longer where the result says."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="An .mp4 of all frames or a .png contact sheet."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Draws a result over its video."""
    from vidpose.view.report import view as run

    print(run(result, source=source, output=output, quiet=quiet))


@data_app.command()
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
        size=_height_and_width(size),
        fps=fps,
        write=write,
        difficulty=difficulty,
        workers=workers,
        quiet=quiet,
    )
    if as_json:
        _print_json(summary)
    else:
        kept = f" ({summary['kept']} were there already)" if summary["kept"] else ""
        print(
            f"{summary['root']}: {summary['videos']} videos{kept}, {summary['frames']} frames, "
            f"{summary['people']} labelled people in split {summary['split']}"
        )


@data_app.command()
def check(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    as_json: AsJson = False,
) -> None:
    """Lists what is missing, odd or broken in a data set; exit status 2 if anything is."""
    from vidpose.data.check import check_dataset

    report = check_dataset(root)
    if as_json:
        _print_json(report.to_dict())
    else:
        print(report)
    if report.problems:
        raise typer.Exit(2)


@data_app.command()
def info(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    as_json: AsJson = False,
) -> None:
    """Counts a data set's videos, frames, people and labelled joints."""
    from vidpose.data.check import describe_dataset

    description = describe_dataset(root)
    if as_json:
        _print_json(description.to_dict())
    else:
        print(description)


def _version(show: bool) -> None:
    if show:
        from vidpose._version import __version__

        print(f"vidpose {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exit status 0 done, 2 wrong input or options (one line), 1 anything else."""
    try:
        status = app(args=arguments, standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if type(error).__name__ == "Abort":
            _fail("stopped", 130)
        if hasattr(error, "format_message"):  # a usage error of the option parser
            message = error.format_message()
            if not message:  # no arguments at all: the help has been printed
                sys.exit(2)
            _fail(f"{message} (see --help)", getattr(error, "exit_code", 2))
        raise
    else:
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    print(f"vidpose: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
