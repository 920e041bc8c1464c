"""The verbs of ``vidpose data``: parse, call, print. Every import is made when it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidpose.cli_options import (
    AsJson,
    Detector,
    Device,
    Engine,
    Overwrite,
    Precision,
    Quiet,
    height_and_width,
    number_or,
    print_json,
)

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
    people: Annotated[
        str, typer.Option("--people", help="drawn; makehuman (rendered, by vidpose-render); or a package's.")
    ] = "drawn",
    assets: Annotated[
        Path | None, typer.Option("--assets", metavar="DIR", help="MakeHuman's assets, for makehuman.")
    ] = None,
    clips: Annotated[
        int | None,
        typer.Option("--clips", help="Each video: so many clips about one person instead (makehuman)."),
    ] = None,
    masks: Annotated[bool, typer.Option("--masks", help="Also the mask of every person.")] = False,
    seated: Annotated[
        float, typer.Option("--seated", help="Share of people on chairs, in wheelchairs (makehuman).")
    ] = 0.0,
    workers: Annotated[int, typer.Option("--workers", help="Processes.")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Makes synthetic videos of people with exact labels, in PoseTrack18's layout."""
    from vidpose.synthetic import synthesize as run

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
        kind=people,
        assets=assets,
        clips=clips,
        masks=masks,
        seated=seated,
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
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="A report to look at: .html or .png."),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be repeated.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="auto, or the layout's name.")] = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Counts a data set's videos, people and joints, and draws sizes, tracks, motion and sample frames."""
    from vidpose.data.describe import describe_dataset

    if output is None:
        description = describe_dataset(root, layout, splits=split or (), quiet=quiet)
    else:
        from vidpose.view.dataset_report import SAMPLES, check_report_path, write_report

        check_report_path(output, root, overwrite=overwrite)
        description = describe_dataset(root, layout, splits=split or (), samples=SAMPLES, quiet=quiet)
        write_report(description, output)
    if as_json:
        print_json({**description.to_dict(), "report": str(output) if output is not None else None})
    else:
        print(description)
        if output is not None:
            print(f"report: {output}")


@app.command()
def pack(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="OUT", help="The pack's folder; DIR/pack.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Only this split; may be repeated.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="auto, or the layout's name.")] = "auto",
    size: Annotated[
        str, typer.Option("--size", help="Reduce frames to this longer side in pixels; none: as they are.")
    ] = "none",
    quality: Annotated[int, typer.Option("--quality", help="Of JPEGs that are made, 1 to 100.")] = 95,
    raw: Annotated[
        bool, typer.Option("--raw", help="Store decoded pixels: quickest, about 16 times as large.")
    ] = False,
    neighbours: Annotated[
        str, typer.Option("--neighbours", help="Frames on either side of labelled ones, or all.")
    ] = "2",
    workers: Annotated[int, typer.Option("--workers", help="Threads.")] = 2,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Packs the frames that training needs into few files, for data.cache=pack; goes on where it stopped."""
    from vidpose.data.pack import PackOptions, pack_frames

    summary = pack_frames(
        root,
        output,
        splits=split or (),
        layout=layout,
        options=PackOptions(number_or("--size", size, "none"), quality, raw),
        neighbours=number_or("--neighbours", neighbours, "all"),
        workers=workers,
        quiet=quiet,
    )
    if as_json:
        print_json(summary.to_dict())
    else:
        print(summary)


@app.command()
def detect(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A data set's folder.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The boxes' JSON file.")],
    split: Annotated[str, typer.Option("--split", help="Name of the split.")] = "val",
    layout: Annotated[str, typer.Option("--layout", help="auto, or the layout's name.")] = "auto",
    detector: Detector = "auto",
    min_score: Annotated[float, typer.Option("--min-score", help="Weaker boxes are left out.")] = 0.05,
    nms: Annotated[
        float,
        typer.Option("--nms", help="Of two boxes that overlap by more (IoU), the weaker goes; 1: none."),
    ] = 0.65,
    batch: Annotated[int, typer.Option("--batch", help="Frames at a time.")] = 8,
    all_frames: Annotated[bool, typer.Option("--all-frames", help="Unlabelled frames too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an earlier call stopped.")] = False,
    overwrite: Overwrite = False,
    device: Device = "auto",
    precision: Precision = "auto",
    engine: Engine = "torch",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Detects the people of a split, for data.boxes=FILE, and says how many of the labelled ones it found."""
    from vidpose.infer.split_boxes import detect_split

    summary = detect_split(
        root,
        output,
        split=split,
        layout=layout,
        detector=detector,
        min_score=min_score,
        nms_iou=nms,
        batch_size=batch,
        all_frames=all_frames,
        resume=resume,
        overwrite=overwrite,
        device=device,
        precision=precision,
        engine=engine,
        quiet=quiet,
    )
    if as_json:
        print_json(summary.to_dict())
    else:
        print(summary)


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A data set's folder, or a file of labels.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="New folder; with a suffix, one new file.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="posetrack17, posetrack18, posetrack21, coco, cvat, labelstudio, mot, csv, deeplabcut or "
            "sleap; hieve: a zip of predictions for its test server.",
        ),
    ],
    source_format: Annotated[str, typer.Option("--from", help="auto, or the source's format.")] = "auto",
    split: Annotated[str, typer.Option("--split", help="This split only; of a file, the split's name.")] = "",
    images: Annotated[str, typer.Option("--images", help="keep (where they are), copy or link.")] = "keep",
    joints: Annotated[
        str, typer.Option("--joints", help="Joint set to write, such as coco17 or posetrack15.")
    ] = "",
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Make head joints that the source lacks from others.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Writes labels in another format and says what that cannot hold."""
    from vidpose.data.convert import convert as run

    report = run(
        source,
        output,
        to,
        source_format=source_format,
        split=split or None,
        images=images,
        joints=joints or None,
        approximate=approximate,
        quiet=quiet,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        print(report)
