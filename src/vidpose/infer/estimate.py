"""The main job: sources in, one result file (and one annotated video) for each out."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vidpose import progress
from vidpose.errors import InputError
from vidpose.infer.estimator import PoseEstimator
from vidpose.infer.stream import PoseStream
from vidpose.io.files import check_writable
from vidpose.io.formats import SOURCE_DIGEST, format_suffix, result_digest, save_poses
from vidpose.io.outputs import THERE, check_replaceable
from vidpose.io.sources import expand_sources, find_source, source_digest
from vidpose.io.spool import FrameSpool
from vidpose.io.video_writer import NO_DIGEST, VideoWriter, drawn_digest
from vidpose.results import FramePoses
from vidpose.view.draw import draw_poses
from vidpose.weight_sets import tell_weights


@dataclass
class EstimateSummary:
    """What was made of one source."""

    source: str
    output: str
    """The file of poses."""
    video: str | None
    """The annotated video."""
    frames: int
    people: int | None
    """Different people, by their identities; ``None``: the tracker ``none`` gives no identities."""
    poses: int
    """Over all frames."""
    skipped: int
    """Frames that could not be decoded and are not in the result."""
    seconds: float
    fps: float
    """Frames per second of computing, from opening the source to its last pose."""
    weights: str
    """The pose model's set of weights, or its file."""
    detector_weights: str | None
    """The detector's set; ``None``: its weights are of no set."""
    dropped: int = 0
    """Frames of a live source that came too fast and are not in the result."""
    max_delay_s: float | None = None
    """Of a live source: the longest time from a frame's arrival to its poses."""
    interrupted: bool = False
    """A live source that was ended with Ctrl-C or SIGTERM."""

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "tracks": self.people}  # its name before there was `people`

    def __str__(self) -> str:
        skipped = f", {self.skipped} frames could not be decoded" if self.skipped else ""
        if self.max_delay_s is not None:
            skipped += f", {self.dropped} frames dropped, delay at most {self.max_delay_s:.2f} s"
        drawn = f" and {self.video}" if self.video else ""
        people = "" if self.people is None else f"{self.people} people, "
        return (
            f"{self.source}: {self.frames} frames, {people}{self.poses} poses{skipped} "
            f"({self.fps:.1f} frames/s) -> {self.output}{drawn}"
        )


def estimate(
    sources: Sequence[str | int],
    out_dir: str | Path,
    *,
    save_video: bool = False,
    format: str = "posetrack18",
    min_draw_score: float = 0.2,
    overwrite: bool = False,
    quiet: bool = False,
    estimator: PoseEstimator | None = None,
    **options: Any,
) -> list[EstimateSummary]:
    """Poses of every person in every frame of every source.

    Writes ``out_dir/<stem>.json`` (the suffix follows ``format``) for each source and, with ``save_video``,
    ``out_dir/<stem>.mp4``; each appears whole or not at all. Two sources of one stem get ``stem`` and
    ``stem_2``. Where one of several sources cannot be used, the others are still done before the error is
    raised. Ctrl-C or SIGTERM ends a camera or stream and keeps what it gave.

    A file that is there already is replaced if it says that it was made of the same source; of others one
    stops the call before any work. CSV does not say so, and a camera or stream is never the same again. A
    video that was drawn over another source does not stay beside the new result: it stops the call, too, or
    goes with ``overwrite``.

    Args:
        sources: videos, image folders, globs, camera indices, URLs.
        out_dir: made if missing.
        format: ``posetrack18|posetrack17|coco|csv|parquet``.
        min_draw_score: joints with a lower score are not drawn.
        overwrite: replace whatever is there, but never what is read.
        quiet: no progress on standard error.
        estimator: a ready one; otherwise ``PoseEstimator(**options)``.

    Returns:
        One summary for each source, in order.

    Raises:
        InputError: a source, an option or the output folder cannot be used, or a file would be replaced.
    """
    suffix = format_suffix(format)
    inputs = expand_sources([str(source) for source in sources])
    folder = Path(out_dir)
    check_writable(folder)
    targets = [folder / f"{stem}{suffix}" for stem in unique_stems(inputs)]
    videos = [target.with_name(f"{target.name.removesuffix(suffix)}.mp4") for target in targets]
    digests = [source_digest(find_source(source)) for source in inputs]
    read = [*inputs, *(str(options[name]) for name in ("detector", "weights") if name in options)]
    kept = [Path(name) for name in read if Path(name).is_file()]
    for source, digest, target, video in zip(inputs, digests, targets, videos, strict=True):
        for path in [target, video] if save_video or _is_stale(video, digest, kept) else [target]:
            check_replaceable(
                path,
                overwrite=overwrite,
                inputs=kept,
                objection=partial(_objection, source=source, digest=digest),
            )
    if estimator is None:
        estimator = PoseEstimator(**options)
    elif options:
        raise InputError(f"options {', '.join(options)} have no effect on a ready estimator")
    tell_weights(estimator.info["weights"], detector=estimator.info["detector_weights"], quiet=quiet)
    summaries: list[EstimateSummary] = []
    failures: list[InputError] = []
    for source, digest, target, video in zip(inputs, digests, targets, videos, strict=True):
        drawn = video if save_video else None
        try:
            done = _estimate_one(estimator, source, digest, target, drawn, format, min_draw_score, quiet)
        except InputError as error:
            if len(inputs) == 1:
                raise
            failures.append(error)
            continue
        if drawn is None and _is_stale(video, digest, kept):
            video.unlink()
            if not quiet:
                print(f"{video}: was drawn over another source, and is deleted", file=sys.stderr)
        summaries.append(done)
    if failures:
        told = "; ".join(map(str, failures))
        rest = "the others are done" if summaries else "none is done"
        raise InputError(f"{len(failures)} of {len(inputs)} sources failed, {rest}: {told}")
    return summaries


def _objection(path: Path, source: str, digest: str | None) -> str | None:
    """What speaks against replacing a file by the result of a source."""
    name = re.sub(r"://[^/@]*@", "://", find_source(source).label)  # without a password
    if digest is None:
        return f"{THERE}, and {name} will not give the same again"
    made_of = drawn_digest(path) if path.suffix == ".mp4" else result_digest(path)
    if made_of is None:
        return f"{THERE} and does not say that it was made of {name}"
    return None if made_of == digest else f"was made of another source than {name}"


def _is_stale(video: Path, digest: str | None, inputs: Sequence[Path]) -> bool:
    """Whether an annotated video that vidpose has drawn would stand beside the poses of another source."""
    if not video.is_file() or any(video.samefile(path) for path in inputs):
        return False
    made_of = drawn_digest(video)
    return made_of is not None and (digest is None or made_of != digest)


def unique_stems(sources: Sequence[str]) -> list[str]:
    """Names for the results of sources: their own stems, numbered where two are alike (in any case)."""
    stems: list[str] = []
    taken: set[str] = set()
    for source in sources:
        name = find_source(source).name
        stem, number = name, 1
        while stem.lower() in taken:
            number += 1
            stem = f"{name}_{number}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems


def _estimate_one(
    estimator: PoseEstimator,
    source: str,
    digest: str | None,
    target: Path,
    video: Path | None,
    format: str,
    min_draw_score: float,
    quiet: bool,
) -> EstimateSummary:
    live = bool(estimator.live) or find_source(source).kind in ("camera", "stream")
    began = time.monotonic()
    num_poses, track_ids = 0, set()
    with ExitStack() as stack:
        interrupted = stack.enter_context(_interruptible(live))
        stream = stack.enter_context(estimator.stream(source, stop=interrupted.is_set))
        frames = stack.enter_context(FrameSpool())
        writer = None
        if video is not None:
            size = stream.height, stream.width
            writer = stack.enter_context(
                VideoWriter(video, stream.fps, size, source_digest=digest or NO_DIGEST)
            )
        for poses in progress.track(stream, stream.name, total=stream.num_frames, unit="frames", quiet=quiet):
            frames.append(poses)
            num_poses += len(poses)
            track_ids.update(poses.track_ids.tolist())
            if writer is not None:
                writer.write(_draw(stream, poses, estimator, min_draw_score), poses.time)
        seconds = time.monotonic() - began
        result = stream.result(frames)
        if digest is not None:
            result.info = {SOURCE_DIGEST: digest, **result.info}
        save_poses(result, target, format)
        count = len(frames)
    sizes = stream.info.get("sizes")
    if sizes and not quiet:
        print(f"{stream.name}: {_sizes_note(sizes, drawn=video is not None)}", file=sys.stderr)
    if not num_poses and not quiet:
        print(f"{stream.name}: {_why_nobody(stream, estimator)}", file=sys.stderr)
    return EstimateSummary(
        source=source,
        output=str(target),
        video=str(video) if video is not None else None,
        frames=count,
        people=None if stream.info["tracker"] == "none" else len(track_ids),
        poses=num_poses,
        skipped=stream.skipped,
        seconds=round(seconds, 3),
        fps=round(count / max(seconds, 1e-9), 2),
        weights=estimator.info["weights"],
        detector_weights=estimator.info["detector_weights"],
        dropped=stream.info.get("dropped", 0),
        max_delay_s=stream.info.get("max_delay_s"),
        interrupted=interrupted.is_set(),
    )


def _sizes_note(sizes: dict[str, int], *, drawn: bool) -> str:
    """What it means that the frames of a source are not of one size."""
    told = ", ".join(f"{count} of {size}" for size, count in sizes.items())
    first = next(iter(sizes))
    note = f"note: the frames have {len(sizes)} sizes ({told}): positions are in each frame's own pixels"
    note += f", and the result gives the size of the first, {first}"
    return note + (", into which the annotated video fits the others" if drawn else "")


def _why_nobody(stream: PoseStream, estimator: PoseEstimator) -> str:
    """Why a source has no pose, and what may help."""
    asked = estimator.info["min_track_score"]
    if not stream.best_box_score:
        return "nobody was found: no frame has a box"
    if stream.best_box_score < asked:
        return (
            f"nobody was found: the best box has a score of {stream.best_box_score:.2f}, and a person begins "
            f"with {asked:.2f} (--min-track-score)"
        )
    if stream.info["tracker"] == "poses":
        return "nobody was found: no box has a pose that is sure"
    return "nobody was found in more than one frame (--tracker none keeps such boxes)"


def _draw(stream: PoseStream, poses: FramePoses, estimator: PoseEstimator, min_score: float) -> Any:
    assert stream.image is not None
    return draw_poses(stream.image, poses, estimator.skeleton, min_score=min_score)


@contextmanager
def _interruptible(live: bool) -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, for live sources; another Ctrl-C interrupts as usual."""
    event = threading.Event()
    if not live or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        if event.is_set():
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        event.set()
        print("stopping: the poses so far are being written; Ctrl-C again to give up", file=sys.stderr)

    for number in before:
        signal.signal(number, ask)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
