"""The command line: verbs that parse, call and print. Every import is made when it is needed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from vidpose.cli_data import app as data_app
from vidpose.cli_labels import propagate, review, suggest
from vidpose.cli_options import (
    AsJson,
    CudaGraphs,
    Decode,
    Detector,
    Device,
    Engine,
    Model,
    Overwrite,
    Precision,
    Quiet,
    Weights,
    numbers,
    print_json,
    whole_numbers,
)
from vidpose.cpus import limit_threads
from vidpose.errors import InputError
from vidpose.stopping import Stopped, stoppable

app = typer.Typer(
    name="vidpose",
    help="Multi-frame human pose estimation in video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.command()(propagate)
app.command()(suggest)
app.command()(review)


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
    engine: Engine = "torch",
    format: Annotated[
        str, typer.Option("--format", help="posetrack17, posetrack18, coco, csv or parquet.")
    ] = "posetrack18",
    save_video: Annotated[bool, typer.Option("--save-video", help="Also write an annotated mp4.")] = False,
    decoder: Annotated[str, typer.Option("--decoder", help="plain, quarter, dark or udp.")] = "dark",
    flip_test: Annotated[bool, typer.Option("--flip-test", help="Average with the mirrored crop.")] = False,
    upright: Annotated[
        bool,
        typer.Option(help="Look again, in a turned crop, at people who lie, bend or stand on their hands."),
    ] = True,
    tracker: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Option(
            "--tracker",
            help="bytetrack, ocsort, botsort, poses (boxes from poses of the frame before; faster), none. "
            "Default: bytetrack; live: poses, no other.",
        ),
    ] = None,
    steady: Annotated[bool, typer.Option(help="Joints that leap away for some frames are put back.")] = True,
    smooth: Annotated[bool, typer.Option("--smooth", help="One-Euro filter over time.")] = False,
    min_box_score: Annotated[
        float, typer.Option("--min-box-score", min=0.0, max=1.0, help="Boxes below this score are dropped.")
    ] = 0.2,
    min_track_score: Annotated[
        float,
        typer.Option(
            "--min-track-score", min=0.0, max=1.0, help="A person begins with a box of at least this score."
        ),
    ] = 0.7,
    max_people: Annotated[
        int, typer.Option("--max-people", min=1, help="The best so many boxes of a frame are kept.")
    ] = 50,
    oks_nms: Annotated[
        float,
        typer.Option("--oks-nms", help="Of two poses more alike than this the weaker goes; 1: all stay."),
    ] = 0.6,
    detect_every: Annotated[
        Optional[float],  # noqa: UP045 - typer reads it at run time on Python 3.10
        typer.Option(
            "--detect-every",
            min=0.0,
            max=10.0,
            help="Seconds between frames that the detector sees; 0: all. Default: 0.15, 0.5 with the "
            "tracker poses.",
        ),
    ] = None,
    live: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            help="Newest frame first: frames that come too fast are dropped and counted; boxes come from "
            "poses. A file is played at its own rate. Default: cameras and network streams are live, "
            "unless another --tracker than poses is given.",
            show_default=False,
        ),
    ] = None,
    decode: Decode = "cpu",
    cuda_graphs: CudaGraphs = False,
    hold: Annotated[
        int,
        typer.Option(
            "--hold",
            min=1,
            max=16,
            help="Key frames estimated together, in crops that follow a person; 1: each alone.",
        ),
    ] = 16,
    overwrite: Overwrite = False,
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
        engine=engine,
        format=format,
        save_video=save_video,
        decoder=decoder,
        flip_test=flip_test,
        upright=upright,
        tracker=tracker,
        steady=steady,
        smooth=smooth,
        min_box_score=min_box_score,
        min_track_score=min_track_score,
        max_people=max_people,
        oks_nms=oks_nms,
        detect_every=detect_every,
        live=live,
        hold=hold,
        decode=decode,
        cuda_graphs=cuda_graphs,
        overwrite=overwrite,
        quiet=quiet,
    )
    if as_json:
        print_json([summary.to_dict() for summary in summaries])
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
        print_json(result.to_dict())
    else:
        print(result)


@app.command()
def validate(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped one.")
    ],
    weights: Annotated[
        str, typer.Option("--weights", help="A set that `vidpose weights` lists, a file, or a hub id.")
    ],
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
        print_json({**result.scores, "settings": result.settings})
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
            print_json([entry.model_dump(by_alias=True) for entry in tables])
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
        seeds=whole_numbers("--seeds", seeds) if seeds else None,
        jobs=jobs,
        quiet=quiet,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print(result)


@app.command()
def reproduce(
    paper: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="PAPER", help="tdmi, jmpose, stdpose, vremd or sdtc."),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[KEY=VALUE]...", help="The same as --set."),
    ] = None,
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--data",
            metavar="[NAME=]DIR",
            help="A data set, or a folder of several; may be given again. NAME: posetrack17, 18 or 21. "
            "Default: data.",
        ),
    ] = None,
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--rows", help="Only these, with commas: ROW, TABLE/ROW or TABLE."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Show the printed tables; run nothing.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all runs and tables.")] = Path(
        "runs/reproduce"
    ),
    init: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--init",
            metavar="[BACKBONE=]FILE",
            help="Single-frame weights to start from, as hrnet_w48=FILE; may be given again.",
        ),
    ] = None,
    boxes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--boxes",
            metavar="[NAME=]FILE",
            help="Detected boxes of a data set's validation split; default: ground truth.",
        ),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="A value in place of the recipes', for every row."),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of every row, as 0,1,2.")] = "0",
    jobs: Annotated[int, typer.Option("--jobs", help="Runs at the same time, one thread each.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; run nothing.")] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Trains the rows of a paper's tables and prints the paper's scores beside ours."""
    from vidpose.train.published import all_papers, find_paper, format_published

    if show:
        papers = [find_paper(paper)] if paper else list(all_papers().values())
        if as_json:
            print_json([entry.model_dump() for entry in papers])
        else:
            print(format_published(papers))
        return
    if paper is None:
        known = ", ".join(all_papers())
        raise InputError(f"reproduce needs a PAPER: {known}; `vidpose reproduce --list` shows their tables")
    from vidpose.train.reproduce import reproduce as run

    def tell(plan: str) -> None:
        if not as_json and (dry_run or not quiet):
            print(plan, file=sys.stdout if dry_run else sys.stderr, flush=True)

    result = run(
        paper,
        data,
        output,
        [*(settings or []), *(overrides or [])],
        rows=rows.split(",") if rows else None,
        seeds=whole_numbers("--seeds", seeds),
        init=init or [],
        boxes=boxes or [],
        jobs=jobs,
        dry_run=dry_run,
        quiet=quiet,
        tell=tell,
    )
    if as_json:
        print_json(result.to_dict())
    elif not dry_run:
        print(result)


@app.command()
def evaluate(
    gt: Annotated[Path, typer.Argument(metavar="GT", help="JSON file or folder with the truth.")],
    predictions: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="PRED", help="JSON file or folder to score."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol", help="posetrack, posetrack21, hieve, coco, pck, pckh, jhmdb, lsp or hota."
        ),
    ] = "posetrack",
    by: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--by", help="Also by joint, video or difficulty; may be given several times."),
    ] = None,
    frames: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--frames", help="List of frames, text or JSON: only these are scored."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", help="Folder of the images, for the blur of people."),
    ] = None,
    make_challenging: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--make-challenging", help="Write a list of GT's hard frames; PRED may be left out."),
    ] = None,
    thresholds: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--thresholds", help="Of pck, pckh, jhmdb, lsp, hieve: numbers as 0.2,0.1."),
    ] = None,
    normalizer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--normalizer", help="Unit of pck and lsp: head, torso or box."),
    ] = None,
    similarity: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--similarity", help="Of hota: box, oks or pckh."),
    ] = None,
    frame_weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--frame-weights", help="Of hieve: JSON of frame names and weights."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Scores prediction files against the truth by the protocols of the field."""
    from vidpose.evaluate import evaluate as run
    from vidpose.evaluate import make_challenging as list_hard_frames
    from vidpose.evaluate.table import format_table

    if make_challenging is not None:
        count = list_hard_frames(gt, make_challenging, images=images, overwrite=overwrite)
        print(f"{make_challenging}: {count:,} challenging frames", file=sys.stderr if as_json else sys.stdout)
        if predictions is None:
            return
    if predictions is None:
        raise InputError("evaluate needs GT and PRED; without PRED only --make-challenging FILE can be made")
    scores = run(
        gt,
        predictions,
        protocol,
        by=by or (),
        frames=frames,
        images=images,
        thresholds=numbers("--thresholds", thresholds) if thresholds is not None else None,
        normalizer=normalizer,
        similarity=similarity,
        frame_weights=frame_weights,
    )
    if as_json:
        print_json(scores)
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
        print_json(rows)
    else:
        print(format_models(rows))


@app.command("weights")
def list_weights(as_json: AsJson = False) -> None:
    """The sets of trained weights: what each learned from, which are installed, how to get the others."""
    from vidpose.weight_sets import format_weight_sets, list_weight_sets

    sets = list_weight_sets()
    if as_json:
        print_json([found.to_dict() for found in sets])
    else:
        print(format_weight_sets(sets))


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `vidpose models`.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .onnx or .pt2.")],
    weights: Weights = "default",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Writes a model as ONNX or torch.export program, checked against the original."""
    from vidpose.infer.weights import load_pose_model
    from vidpose.io.outputs import check_replaceable
    from vidpose.models.export import export_model
    from vidpose.weight_sets import tell_weights

    check_replaceable(output, overwrite=overwrite, inputs=[weights])
    loaded, used = load_pose_model(name, weights)
    tell_weights(used, quiet=quiet)
    report = export_model(loaded, output)
    if as_json:
        print_json({**report.to_dict(), "weights": used})
    else:
        print(report)


@app.command()
def bench(
    video: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[VIDEO]", help="A video; the packaged one if not given."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="Folder for bench.json, bench.md and bench.png."),
    ] = None,
    model: Model = "tdmi",
    weights: Weights = "default",
    detector: Detector = "auto",
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Engine = "torch",
    pairs: Annotated[
        int, typer.Option("--pairs", min=3, help="Runs; each followed by one of every peer.")
    ] = 5,
    max_frames: Annotated[
        int, typer.Option("--max-frames", min=1, help="The first so many frames are used.")
    ] = 300,
    growth: Annotated[bool, typer.Option(help="Also measure growth with length, people and clips.")] = True,
    peers: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--peer", help="Also vitpose, mediapipe or rtmlib, where installed; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measures speed and memory of estimate on this machine: stages, growth, other software beside."""
    from importlib import resources

    from vidpose.bench import run_bench
    from vidpose.bench.report import to_markdown, write_chart
    from vidpose.io.files import write_json, write_text
    from vidpose.io.outputs import check_replaceable

    files = [output / f"bench.{suffix}" for suffix in ("json", "md", "png")] if output else []
    for file in files:
        check_replaceable(file, overwrite=overwrite, inputs=[video] if video else [])
    report = run_bench(
        video or str(resources.files("vidpose") / "examples" / "people.mp4"),
        model=model,
        pairs=pairs,
        max_frames=max_frames,
        growth=growth,
        peers=peers or (),
        quiet=quiet,
        weights=weights,
        detector=detector,
        device=device,
        precision=precision,
        engine=engine,
    )
    if files:
        write_json(files[0], report.to_dict(), indent=2)
        write_text(files[1], to_markdown(report))
        write_chart(report, files[2])
    if as_json:
        print_json(report.to_dict())
    else:
        print(to_markdown(report), end="")


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
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Draws a result over its video."""
    from vidpose.view.report import view as run

    print(run(result, source=source, output=output, overwrite=overwrite, quiet=quiet))


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
    """Entry point: exit status 0 done, 2 wrong input or options (one line), 1 anything else.

    Stopped from outside: 128 and the signal's number, as shells have it; 130 is Ctrl-C, 143 SIGTERM.
    """
    limit_threads()
    try:
        with stoppable():
            status = app(args=arguments, standalone_mode=False)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except Stopped as stop:
        _fail("stopped", stop.status)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning makes this of Ctrl-C
            _fail("stopped", 130)
        raise
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
        if status == 130:  # typer makes an exit status of KeyboardInterrupt
            _fail("stopped", 130)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, status: int) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"vidpose: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
