"""Synthetic videos on disk, in PoseTrack18's layout, each whole or absent."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from vidpose.errors import InputError
from vidpose.io.files import atomic_path, read_json, temporary_folder, write_json
from vidpose.progress import track
from vidpose.skeletons import POSETRACK15, POSETRACK18
from vidpose.stopping import Stopped

from .labels import FrameTruth
from .render import check_settings
from .synthesizer import DRAWN, SynthesisSettings, Synthesizer, find_synthesizer

WRITES = ("frames", "video", "both")
SPLITS = ("train", "val", "test")
JPEG_QUALITY = 92

_SLOTS = [POSETRACK18.index[name] for name in POSETRACK15.joints]

CATEGORY: dict[str, Any] = {
    "supercategory": "person",
    "id": 1,
    "name": "person",
    "keypoints": list(POSETRACK18.joints),
    "skeleton": [[a + 1, b + 1] for a, b in POSETRACK18.limbs],
}


def synthesize(
    out: str | os.PathLike[str],
    *,
    videos: int = 10,
    frames: int = 60,
    seed: int = 0,
    split: str = "train",
    size: tuple[int, int] = (360, 640),
    fps: int = 25,
    write: str = "frames",
    difficulty: str = "mixed",
    people: tuple[int, int] = (2, 5),
    kind: str = "drawn",
    assets: str | os.PathLike[str] | None = None,
    clips: int | None = None,
    masks: bool = False,
    seated: float = 0.0,
    workers: int = 1,
    quiet: bool = False,
) -> dict[str, Any]:
    """Makes a data set of synthetic videos with exact labels, in PoseTrack18's layout.

    Files: ``annotations/<split>/<video>.json``, and ``images/<split>/<video>/%06d.jpg`` and/or
    ``videos/<split>/<video>.mp4`` (H.264). Video names hold split, seed and number; a video's content depends
    on nothing else and on the settings, so not on ``videos`` or ``workers``. Complete videos of the same
    settings are kept, so an interrupted call continues where it stopped.

    Args:
        out: folder; made if absent.
        videos: how many, 1..1000.
        frames: frames per video, 1..10000.
        seed: 0..999999999.
        split: train, val or test; the same seed gives other videos in another split.
        size: (height, width), each >= 96; even for ``write="video"``.
        fps: frames per second of the motion and of the mp4 files.
        write: ``frames``, ``video`` or ``both``.
        difficulty: ``clean``, ``mixed`` or ``hard``.
        people: fewest and most people in a scene.
        kind: ``drawn``, flat people of textured parts; ``makehuman``, rendered from ``assets`` by the package
            vidpose-render; or the name of another package's :class:`Synthesizer`.
        assets: folder with ``makehuman``, ``mocap`` and ``panoramas``, the first in MakeHuman's own layout.
        clips: each of the ``videos`` is so many clips of ``frames`` frames instead, each drawn about one
            person at ``size`` (makehuman only). Clips of one frame share a folder, others have one each.
        masks: annotations carry ``segmentation``, COCO's run-length code of what is visible of the person.
        seated: share of the people who sit on chairs and benches and in wheelchairs, 0..1 (makehuman only).
        workers: processes.
        quiet: no progress.

    Returns:
        counts and places: videos, kept, frames, people, split, names, root, annotations.

    Raises:
        InputError: an argument is out of its range, the package of ``kind`` is not installed, the folder
            cannot be written, or files of another origin are in a video's place.
    """
    size, people = (int(size[0]), int(size[1])), (int(people[0]), int(people[1]))
    check_settings(frames=frames, size=size, fps=fps, difficulty=difficulty, people=people)
    if not 1 <= videos <= 1000:
        raise InputError(f"videos is {videos}; give 1 to 1000 (make more with another seed)")
    if not 0 <= seed < 1_000_000_000:
        raise InputError(f"seed is {seed}; give 0 to 999999999")
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more")
    synthesizer = find_synthesizer(kind)
    given = {"assets": assets is not None, "clips": clips is not None, "masks": masks, "seated": seated != 0}
    _check_options(synthesizer, kind, given)
    if clips is not None and (write != "frames" or not 1 <= clips * frames <= 10_000):
        raise InputError("clips are written as frames, 1 to 10000 of them in a video")
    if not 0 <= seated <= 1:
        raise InputError(f"seated is {seated}; give a share of 0 to 1")
    if masks and clips is not None:
        raise InputError("masks are for whole videos, not for clips")
    if write not in WRITES:
        raise InputError(f"write is {write!r}; give one of {', '.join(WRITES)}")
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; give one of {', '.join(SPLITS)}")
    if write != "frames" and (size[0] % 2 or size[1] % 2):
        raise InputError(f"size is {size}; H.264 needs an even height and width")
    root = Path(out)
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: is a file; give a folder for the data set")
    settings = {
        "generator": "vidpose",
        "version": synthesizer.version,
        "seed": seed,
        "split": split,
        "frames": frames,
        "size": list(size),
        "fps": fps,
        "difficulty": difficulty,
        "people": list(people),
    }
    if kind != DRAWN:
        settings["kind"] = kind
    if clips is not None:
        settings["clips"] = clips
    if masks:
        settings["masks"] = True
    if seated:
        settings["seated"] = float(seated)
    folder = str(assets) if assets is not None else None
    synthesizer.check(_synthesis_settings(settings, folder))
    for index in range(videos):
        _check_place(root, settings, index, write)
    jobs = [(str(root), settings, index, write, folder) for index in range(videos)]
    results: list[dict[str, Any]] = []
    for result in track(_run(jobs, workers), f"synthesize {split}", total=videos, unit="video", quiet=quiet):
        results.append(result)
    results.sort(key=lambda r: r["name"])
    return {
        "root": str(root),
        "split": split,
        "annotations": str(root / "annotations" / split),
        "videos": videos,
        "kept": sum(r["kept"] for r in results),
        "frames": videos * frames * (clips or 1),
        "people": sum(r["people"] for r in results),
        "names": [r["name"] for r in results],
    }


def video_name(split: str, seed: int, index: int) -> str:
    """``train_s000007_0003``."""
    return f"{split}_s{seed:06d}_{index:04d}"


def _run(jobs: list, workers: int) -> Iterator[dict[str, Any]]:
    if workers == 1 or len(jobs) == 1:
        with _one_thread():
            yield from map(_make_video, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _begin_worker) as pool:
        pending = [pool.submit(_make_video, job) for job in jobs]
        try:
            for done in as_completed(pending):
                yield done.result()
        except (Stopped, GeneratorExit):  # of the signal only this process has heard
            for process in list(pool._processes.values()):
                process.terminate()
            raise
        finally:
            for future in pending:
                future.cancel()


def _begin_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGTERM, _stop_worker)


def _stop_worker(number: int, frame: Any) -> None:
    """Ends the video that is being made, and keeps the process from making another."""
    global _stopped
    _stopped = True
    raise SystemExit(128 + number)


_stopped = False


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _check_options(synthesizer: Synthesizer, kind: str, given: dict[str, bool]) -> None:
    for name, is_given in given.items():
        if is_given and name not in synthesizer.options:
            raise InputError(f"{kind} people take no --{name}")
    if "assets" in synthesizer.options and not given["assets"]:
        raise InputError(f"{kind} people need the folder of their assets: --assets DIR")


def _synthesis_settings(settings: dict[str, Any], assets: str | None) -> SynthesisSettings:
    """What a synthesizer is told of what stands in the labels' ``info``."""
    return SynthesisSettings(
        seed=settings["seed"],
        frames=settings["frames"],
        size=tuple(settings["size"]),
        fps=settings["fps"],
        difficulty=settings["difficulty"],
        people=tuple(settings["people"]),
        assets=assets,
        clips=settings.get("clips"),
        masks=settings.get("masks", False),
        seated=settings.get("seated", 0.0),
    )


def _make_video(job: tuple[str, dict[str, Any], int, str, str | None]) -> dict[str, Any]:
    if _stopped:
        raise SystemExit(128 + signal.SIGTERM)
    root, settings, index, write, assets = Path(job[0]), job[1], job[2], job[3], job[4]
    split, frames, size = settings["split"], settings["frames"], settings["size"]
    name = video_name(split, settings["seed"], index)
    labels, folder, movie = _paths(root, split, name)
    info = {**settings, "video": index}
    kept = _complete(labels, folder, movie, info, write)
    if kept is not None:
        return {"name": name, "kept": True, "people": kept}
    labels.unlink(missing_ok=True)
    seed = settings["seed"], SPLITS.index(split) + 1, index
    synthesizer = find_synthesizer(settings.get("kind", DRAWN))
    film = synthesizer.generate(_synthesis_settings(settings, assets), seed)
    truths: list[FrameTruth] = []
    with _frame_folder(folder if write != "video" else None) as images:
        if write == "frames":
            for image, truth in film:
                _write_jpeg(images, _place(settings, truth.index), image)
                truths.append(truth)
        else:
            with atomic_path(movie) as temporary:
                _write_movie(temporary, film, settings, images, truths)
    document = posetrack18_document(
        truths,
        [f"images/{split}/{name}/{_place(settings, truth.index)}" for truth in truths],
        number=_video_number(settings["seed"], index),
        nframes=frames,
        size=tuple(size),
    )
    document["info"] = info
    write_json(labels, document)
    return {"name": name, "kept": False, "people": len(document["annotations"])}


def _paths(root: Path, split: str, name: str) -> tuple[Path, Path, Path]:
    """A video's labels, folder of frames, and mp4."""
    return (
        root / "annotations" / split / f"{name}.json",
        root / "images" / split / name,
        root / "videos" / split / f"{name}.mp4",
    )


def _check_place(root: Path, settings: dict[str, Any], index: int, write: str) -> None:
    """Refuses to replace labels that do not say that they were made here, and frames with other files."""
    labels, folder, movie = _paths(
        root, settings["split"], video_name(settings["split"], settings["seed"], index)
    )
    if _complete(labels, folder, movie, {**settings, "video": index}, write) is not None:
        return
    foreign = next((file for file in folder.rglob("*") if file.is_file() and file.suffix != ".jpg"), None)
    if os.path.lexists(labels):
        try:
            ours = read_json(labels)["info"]["generator"] == "vidpose"
        except (InputError, LookupError, TypeError):
            ours = False
        foreign = foreign if ours else labels
    if foreign is not None:
        raise InputError(
            f"{foreign}: is there already and was not synthesized; move it away, or give another OUT"
        )


def _complete(labels: Path, folder: Path, movie: Path, info: dict[str, Any], write: str) -> int | None:
    """Labelled people of a video that is there with these settings, else ``None``."""
    if not labels.is_file():
        return None
    try:
        document = read_json(labels)
        same = document["info"] == info
    except (InputError, KeyError, TypeError):
        return None
    if not same or (write != "frames" and not movie.is_file()):
        return None
    if write != "video" and not all(
        (folder / _place(info, i)).is_file() for i in range(info["frames"] * info.get("clips", 1))
    ):
        return None
    return len(document["annotations"])


@contextmanager
def _frame_folder(folder: Path | None) -> Iterator[Path | None]:
    """A temporary folder that takes the place of ``folder`` when the block ends without an error."""
    if folder is None:
        yield None
        return
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(temporary_folder(folder))
        except OSError as error:
            raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from error
        yield temporary
        os.chmod(temporary, 0o755)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)


def _place(settings: dict[str, Any], index: int) -> str:
    """A frame's path within the folder of its video; clips of several frames have folders of their own."""
    length = settings["frames"]
    if "clips" not in settings or length == 1:
        return f"{index:06d}.jpg"
    return f"{index // length:05d}/{index % length:06d}.jpg"


def _write_jpeg(folder: Path | None, place: str, image: np.ndarray) -> None:
    assert folder is not None
    path = folder / place
    if path.parent != folder:
        path.parent.mkdir(exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
        raise InputError(f"{path}: cannot be written; is the disk full?")


def _write_movie(
    path: Path, film, settings: dict[str, Any], images: Path | None, truths: list[FrameTruth]
) -> None:
    h, w = settings["size"]
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(settings["fps"]).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast", "threads": "1"}
        for image, truth in film:
            if images is not None:
                _write_jpeg(images, f"{truth.index:06d}.jpg", image)
            truths.append(truth)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _video_number(seed: int, index: int) -> int:
    """A six-digit PoseTrack video id: unique within one seed, nearly so between seeds."""
    return int(hashlib.sha256(str(seed).encode()).hexdigest()[:8], 16) % 1000 * 1000 + index


def posetrack18_document(
    truths: list[FrameTruth], places: list[str], *, number: int, nframes: int, size: tuple[int, int]
) -> dict[str, Any]:
    """The PoseTrack18 annotation file of one video, as a dictionary; ``places`` are the files of its frames.

    A joint outside the picture is (0, 0, 0); one inside has its coordinates and v = 1, or v = 0 where
    something hides it (the official evaluation scores those too).
    """
    images, annotations = [], []
    for truth, place in zip(truths, places, strict=True):
        image_id = 10_000_000_000 + number * 10_000 + truth.index
        images.append(
            {
                "has_no_densepose": True,
                "is_labeled": True,
                "file_name": place,
                "nframes": nframes,
                "frame_id": image_id,
                "vid_id": f"{number:06d}",
                "id": image_id,
                "width": size[1],
                "height": size[0],
                "ignore_regions_x": [
                    [round(float(x), 2) for x in region[:, 0]] for region in truth.ignore_regions
                ],
                "ignore_regions_y": [
                    [round(float(y), 2) for y in region[:, 1]] for region in truth.ignore_regions
                ],
                "degraded": list(truth.events),
            }
        )
        for person in truth.people:
            keypoints = [0.0] * 51
            for j, slot in enumerate(_SLOTS):
                x, y, inside = (float(v) for v in person.keypoints[j])
                if inside:
                    keypoints[3 * slot : 3 * slot + 3] = [round(x, 3), round(y, 3), int(person.visible[j])]
            bbox, head = (_xywh(box) for box in (person.box_xyxy, person.head_box_xyxy))
            annotations.append(
                {
                    # Clips of one frame number their people through; no frame has more than a hundred.
                    "id": image_id * 100 + person.track_id % 100,
                    "image_id": image_id,
                    "category_id": 1,
                    "track_id": person.track_id,
                    "bbox": bbox,
                    "bbox_head": head,
                    "keypoints": keypoints,
                    "num_keypoints": int(person.keypoints[:, 2].sum()),
                    "iscrowd": 0,
                    "scores": [],
                    "area": round(bbox[2] * bbox[3], 2),
                }
            )
            if truth.instances is not None:
                mask = truth.instances == person.track_id + 1
                annotations[-1]["segmentation"] = {"size": list(size), "counts": run_lengths(mask)}
            if person.coco17 is not None:
                found = [[round(float(x), 3), round(float(y), 3), int(v)] for x, y, v in person.coco17]
                annotations[-1]["keypoints_coco17"] = [value for joint in found for value in joint]
    return {"images": images, "annotations": annotations, "categories": [CATEGORY]}


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's run-length code of a mask [h, w]: by columns, pixels outside and inside in turn."""
    flat = mask.T.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def _xywh(box: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)]
