"""Whether two versions of vidpose do the same: runs the command on small inputs and compares what it writes.

    python tools/equality.py --vidpose OLD/.venv/bin/vidpose -o before.json
    python tools/equality.py --vidpose NEW/.venv/bin/vidpose -o after.json
    python tools/equality.py --compare before.json after.json

The inputs are the example in the package and data that the command synthesizes; with MakeHuman's assets
(``--assets``, by default ``../shared/assets``) people are rendered, too. A record holds every command's exit
status, messages and files: hashes of pictures and archives, texts as a hash of their words beside their
decimal numbers, and weights as sums over each tensor, so that bytes are compared where they must be equal and
numbers to 1e-6 where they need not. Paths, times, speeds and version numbers are taken out before. The
comparison prints a table and ends with status 1 where anything differs. One thread, about four minutes of
processor time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "src" / "vidpose" / "examples"
ASSETS = ROOT.parent / "shared" / "assets"
TOLERANCE = 1e-6
"""Absolute up to 1, relative beyond."""

FORMATS = (
    "posetrack17", "posetrack18", "posetrack21", "coco", "cvat", "labelstudio", "mot", "csv", "deeplabcut",
    "sleap",
)  # fmt: skip
CLIP_FRAMES, LABEL_EVERY = 17, 8

_DECIMAL = re.compile(r"(?<![\w.])-?\d+(?:\.\d+(?:[eE][-+]?\d+)?|[eE][-+]?\d+)(?![\w.])")
_SPEED = re.compile(r"\d+(?:\.\d+)? (?:frames/s|steps/s|s\b)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[-+]\d\d:?\d\d)?")
_VERSION = re.compile(r'(vidpose[ /]|"(?:vidpose_)?version": ")\d+\.\d+[\w.]*')
_JSON_SPEED = re.compile(r'("(?:seconds|frames_per_second|steps_per_s|wall_s)": )[\d.eE+-]+')
_IGNORED = {".ckpt"}  # pickles of the state of a training, whose weights are in the .safetensors beside


@dataclass(frozen=True)
class Step:
    """One call of the command and what it writes, in the folder in which all steps run."""

    name: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    """Files and folders."""


# --- what is run ---------------------------------------------------------------------------------------


def steps(assets: Path | None) -> Iterator[Step]:
    """All calls, in an order in which each finds what it reads."""
    yield from _synthesis(assets)
    yield from _estimation()
    yield from _propagation()
    yield from _evaluation()
    yield from _conversion()
    yield from _training()


def _step(name: str, arguments: str, *outputs: str, extra: tuple[str, ...] = ()) -> Step:
    return Step(name, (*arguments.split(), *extra), outputs)


def _synthesis(assets: Path | None) -> Iterator[Step]:
    # With x264's mbtree some sizes, 192x144 and 320x240 among them, are encoded otherwise now and then.
    make = "data synthesize {} --size 256x144 --seed 3 -q"
    yield _step("synthesize", make.format("toy") + " --videos 2 --frames 8 --write both", "toy")
    val = make.format("toy") + " --videos 1 --frames 6 --split val --difficulty hard"
    yield _step("synthesize val", val, "toy/annotations/val", "toy/images/val")
    masks = make.format("masks") + " --videos 1 --frames 2 --masks --write video"
    yield _step("synthesize masks", masks, "masks")
    if assets is None:
        return
    make += " --people makehuman"
    folder = ("--assets", str(assets))
    scene = make.format("scene") + " --videos 1 --frames 3 --write both --masks --seated 0.5"
    yield _step("render a scene", scene, "scene", extra=folder)
    crops = make.format("crops") + " --videos 1 --clips 4 --frames 2 --difficulty hard"
    yield _step("render clips", crops, "crops", extra=folder)


def _estimation() -> Iterator[Step]:
    video = "estimate people.mp4 -o estimated -q --save-video"
    yield _step("estimate a video", video, "estimated/people.json", "estimated/people.mp4")
    yield _step("estimate to CSV", "estimate clip -o csv -q --format csv --model hrnet", "csv")
    parquet = "estimate clip -o parquet -q --format parquet --tracker none --flip-test"
    yield _step("estimate to Parquet", parquet, "parquet")


def _propagation() -> Iterator[Step]:
    for method in ("auto", "dis", "interpolate"):
        output = f"propagated-{method}.json"
        call = f"propagate clip labels.json -o {output} -q --method {method}"
        yield _step(f"propagate by {method}", call, output)


def _evaluation() -> Iterator[Step]:
    for protocol in ("posetrack", "coco", "pck", "hota"):
        call = f"evaluate people.json estimated/people.json --json --protocol {protocol}"
        yield _step(f"evaluate by {protocol}", call)


def _conversion() -> Iterator[Step]:
    """To every format from PoseTrack18, and from every format to PoseTrack18 and COCO."""
    for to in FORMATS:
        yield _step(f"convert to {to}", f"data convert toy in-{to} --to {to} -q", f"in-{to}")
    for source in FORMATS:
        for to in ("posetrack18", "coco"):
            output = f"{source}-{to}"
            call = f"data convert in-{source} {output} --to {to} -q"
            yield _step(f"convert {source} to {to}", call, output)
    hieve = "data convert estimated/people.json people.zip --to hieve -q"
    yield _step("convert to hieve", hieve, "people.zip")


def _training() -> Iterator[Step]:
    settings = (
        "model.input_size=[64,64] train.max_steps=30 train.epochs=50 train.val_every_epochs=50 "
        "train.batch_size=4 train.num_workers=0 train.precision=fp32 train.warmup_steps=0 "
        "train.tensorboard=false train.log_every_steps=1 train.accelerator=cpu train.seed=5 "
        "data.root=toy output=run"
    )
    yield _step("train 30 steps", f"train hrnet_small {settings} -q --json", "run")


# --- records -------------------------------------------------------------------------------------------


def make_record(command: str, folder: Path, assets: Path | None) -> dict[str, Any]:
    """Runs every step in ``folder``; step -> its status, messages and files."""
    _place_inputs(folder)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
    hidden = {str(folder): "WORK", str(assets): "ASSETS"}
    record: dict[str, Any] = {}
    for step in steps(assets):
        print(step.name, file=sys.stderr, flush=True)
        done = subprocess.run(
            [command, *step.arguments], cwd=folder, env=environment, capture_output=True, text=True
        )
        items = {"status": {"kind": "bytes", "hash": str(done.returncode)}}
        for name, text in (("printed", done.stdout), ("messages", done.stderr)):
            items[name] = describe_text(text, hidden)
        for output in step.outputs:
            for path in _files(folder / output):
                items[str(path.relative_to(folder))] = describe_file(path, hidden)
        record[step.name] = items
    return record


def _place_inputs(folder: Path) -> None:
    """The example, its first frames as pictures, and the labels of some of those."""
    import av

    for name in ("people.mp4", "people.json"):
        shutil.copy(EXAMPLES / name, folder / name)
    (folder / "clip").mkdir()
    with av.open(str(EXAMPLES / "people.mp4")) as container:
        for index, frame in zip(range(CLIP_FRAMES), container.decode(video=0), strict=False):
            frame.to_image().save(folder / "clip" / f"{index:06d}.png")
    labels = json.loads((EXAMPLES / "people.json").read_text())
    labels["images"] = labels["images"][:CLIP_FRAMES:LABEL_EVERY]
    for image in labels["images"]:
        image["file_name"] = f"clip/{Path(image['file_name']).stem}.png"
    kept = {image["id"] for image in labels["images"]}
    labels["annotations"] = [a for a in labels["annotations"] if a["image_id"] in kept]
    (folder / "labels.json").write_text(json.dumps(labels))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*") if p.is_file() and p.suffix not in _IGNORED)


def describe_text(text: str, hidden: dict[str, str] | None = None) -> dict[str, Any]:
    """The hash of a text whose decimal numbers are taken out, and those numbers.

    Args:
        hidden: folder -> what stands in its place.
    """
    for folder, name in (hidden or {}).items():
        text = text.replace(folder, name)
    text = _DATE.sub("DATE", _JSON_SPEED.sub(r"\1SPEED", _SPEED.sub("SPEED", text)))
    text = _VERSION.sub(r"\1VERSION", text)
    words = _DECIMAL.sub("#", text)
    numbers = [float(number) for number in _DECIMAL.findall(text)]
    return {"kind": "text", "hash": _hash(words.encode()), "numbers": numbers}


def describe_file(path: Path, hidden: dict[str, str] | None = None) -> dict[str, Any]:
    """What is to be equal of a file, by its kind."""
    if path.suffix == ".mp4":
        return _video(path)
    if path.suffix == ".parquet":
        return _parquet(path, hidden)
    if path.suffix == ".safetensors":
        return _weights(path)
    if path.suffix == ".zip":
        return _archive(path)
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"kind": "bytes", "hash": _hash(data)}
    if path.name == "log.csv":
        text = _without_column(text, "steps_per_s")
    return describe_text(text, hidden)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _video(path: Path) -> dict[str, Any]:
    """The pixels: the file names the encoder's version."""
    import av

    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            digest.update(f"{frame.pts} {frame.time_base} {frame.width}x{frame.height}".encode())
            digest.update(frame.to_ndarray(format="rgb24").tobytes())
    return {"kind": "bytes", "hash": digest.hexdigest()}


def _parquet(path: Path, hidden: dict[str, str] | None) -> dict[str, Any]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    types = [f"{field.name}: {field.type}" for field in table.schema]
    return describe_text(json.dumps([types, metadata, table.to_pydict()], default=str), hidden)


def _weights(path: Path) -> dict[str, Any]:
    """Names and shapes of the tensors, and the sum and the absolute sum of each."""
    from safetensors.numpy import load_file

    tensors = sorted(load_file(path).items())
    names = [f"{name} {tensor.dtype} {tensor.shape}" for name, tensor in tensors]
    numbers = [float(f(tensor.astype("f8"))) for _, tensor in tensors for f in (_sum, _absolute_sum)]
    return {"kind": "text", "hash": _hash("\n".join(names).encode()), "numbers": numbers}


def _sum(tensor: Any) -> Any:
    return tensor.sum()


def _absolute_sum(tensor: Any) -> Any:
    return abs(tensor).sum()


def _archive(path: Path) -> dict[str, Any]:
    """Names and contents: the members carry the time at which they were written."""
    with zipfile.ZipFile(path) as archive:
        members = [name.encode() + b"\0" + archive.read(name) for name in sorted(archive.namelist())]
    return {"kind": "bytes", "hash": _hash(b"\0".join(members))}


def _without_column(text: str, name: str) -> str:
    rows = [line.split(",") for line in text.splitlines()]
    column = rows[0].index(name) if rows and name in rows[0] else len(text)
    return "\n".join(",".join(row[:column] + row[column + 1 :]) for row in rows)


# --- comparison ----------------------------------------------------------------------------------------


def compare_items(before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """How two descriptions differ; ``""`` if not at all, ``None``: in numbers below the tolerance."""
    if before["kind"] != after["kind"]:
        return "of another kind"
    old, new = before.get("numbers", []), after.get("numbers", [])
    if before["hash"] != after["hash"] or len(old) != len(new):
        return "words or structure differ" if before["kind"] == "text" else "bytes differ"
    if old == new:
        return ""
    worst = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(old, new, strict=True))
    if worst <= TOLERANCE:
        return None
    return f"numbers differ by up to {worst:.2g}"


def compare_records(before: dict[str, Any], after: dict[str, Any]) -> tuple[list[tuple[str, str]], int]:
    """(step, result) for every step, and how many steps differ."""
    rows, differing = [], 0
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in before or name not in after:
            rows.append((name, f"only {'before' if name in before else 'after'}"))
            differing += 1
            continue
        result = _compare_step(before[name], after[name])
        differing += not result.startswith("equal")
        rows.append((name, result))
    return rows, differing


def _compare_step(before: dict[str, Any], after: dict[str, Any]) -> str:
    differences, rounded = [], 0
    for item in sorted({*before, *after}):
        if item not in before or item not in after:
            differences.append(f"{item}: only {'before' if item in before else 'after'}")
            continue
        difference = compare_items(before[item], after[item])
        rounded += difference is None
        if difference:
            differences.append(f"{item}: {difference}")
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        return differences[0] + more
    count = len(before) - 3  # status and both texts
    files = f"{count} file{'s' if count != 1 else ''}" if count else "what is printed"
    return f"equal to {TOLERANCE:g}, {files}" if rounded else f"equal, {files}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vidpose", default="vidpose", help="the command to run")
    parser.add_argument("-o", "--output", type=Path, help="the record to write")
    parser.add_argument("--assets", type=Path, default=ASSETS, help="MakeHuman's, if they are there")
    parser.add_argument("--keep", type=Path, help="a new folder for everything that is written")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args(arguments)
    if options.compare:
        before, after = (json.loads(path.read_text()) for path in options.compare)
        rows, differing = compare_records(before, after)
        width = max((len(name) for name, _ in rows), default=0)
        for name, result in rows:
            print(f"{name:<{width}}  {result}")
        print(f"{len(rows) - differing} of {len(rows)} equal")
        return 1 if differing else 0
    if options.output is None:
        parser.error("give -o FILE, or --compare BEFORE AFTER")
    assets = options.assets.resolve() if (options.assets / "makehuman").is_dir() else None
    command = shutil.which(options.vidpose)
    if command is None:
        parser.error(f"{options.vidpose}: no such command")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.keep is not None:
            folder = options.keep.resolve()
            folder.mkdir(parents=True)
        record = make_record(str(Path(command).absolute()), folder, assets)
    options.output.write_text(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
