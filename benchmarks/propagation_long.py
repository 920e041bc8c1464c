"""Does propagation survive ten minutes of video, and being killed?

    vidpose data synthesize big --videos 1 --frames 1500 --size 1280x720 --seed 777 --split val --write video
    python benchmarks/propagation_long.py big --repeat 10 [--interval 7]

The data set's one video is repeated (its packets, so nothing is coded again), and the labels of every T-th
frame with it. `vidpose propagate` runs on that in a process of its own, is killed (SIGKILL) when flow is
through and the network has begun, runs again to the end, and then (not with --once) once more from nothing.
Prints times, peak memory beside the limit of 4 GiB, and whether both results are the same bytes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import av

from vidpose.io.files import read_json, write_json

LIMIT_GIB = 4.0


def repeat_video(source: Path, target: Path, times: int) -> int:
    """The same video so many times over, by copying packets; returns how many frames one of them has."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        assert stream.duration is not None and stream.time_base is not None
        for number in range(times):
            given.seek(0)
            for packet in given.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts += number * stream.duration
                packet.dts += number * stream.duration
                packet.stream = copy
                out.mux(packet)
        return stream.frames


def repeat_labels(source: Path, target: Path, times: int, count: int, interval: int) -> int:
    """The labels of every so many-th frame of the repeated video; returns how many frames have labels."""
    content = read_json(source)
    images, people = [], []
    by_image: dict[int, list[dict]] = {}
    for person in content["annotations"]:
        by_image.setdefault(person["image_id"], []).append(person)
    for number in range(times * count):
        if number % interval:
            continue
        image = content["images"][number % count]
        images.append({**image, "id": number, "frame_id": number, "file_name": f"long/{number:06d}.jpg"})
        images[-1].update(nframes=times * count, vid_id="1")
        for person in by_image.get(image["id"], []):
            people.append({**person, "id": len(people), "image_id": number})
    write_json(target, {**content, "images": images, "annotations": people})
    return len(images)


def run(folder: Path, out: Path, kill_at: float | None = None) -> tuple[float, float, int]:
    """Seconds, peak GiB, and exit status of one run; killed when that share of its blocks is on disk."""
    command = [sys.executable, "-m", "vidpose.cli", "propagate", str(folder / "long.mp4")]
    command += [str(folder / "labels.json"), "-o", str(out), "--json", "-q"]
    began, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.append(process.stdout.read()))  # type: ignore[union-attr]
    reader.start()
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status")
        if status.is_file():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) / 2**20)
        blocks = sum(1 for _ in folder.rglob("*.npz"))
        if kill_at is not None and blocks >= kill_at:
            process.kill()
        time.sleep(0.2)
    reader.join()
    if kill_at is None and process.returncode:
        raise SystemExit(told[0])
    return time.monotonic() - began, peak, process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="of `vidpose data synthesize --write video --split val`")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--interval", type=int, default=7)
    parser.add_argument("--once", action="store_true", help="no second run from nothing")
    options = parser.parse_args()
    [video] = options.data.glob("videos/val/*.mp4")
    [labels] = options.data.glob("annotations/val/*.json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = repeat_video(video, folder / "long.mp4", options.repeat)
        given = repeat_labels(labels, folder / "labels.json", options.repeat, count, options.interval)
        print(f"{options.repeat * count} frames, {given} of them labelled", flush=True)
        out, again = folder / "all.json", folder / "again.json"
        runs = [("killed", out, 1.2 * given), ("gone on", out, None), ("from nothing", again, None)]
        for title, target, kill_at in runs[: 2 if options.once else 3]:
            seconds, peak, status = run(folder, target, kill_at)
            print(
                f"{title:14}{seconds:8.0f} s {peak:6.2f} GiB of {LIMIT_GIB:g}, exit status {status}, "
                f"result {'there' if target.exists() else 'not there'}",
                flush=True,
            )
        poses = len(read_json(out)["annotations"])
        print(f"{poses} poses")
        if not options.once:
            same = out.read_bytes() == again.read_bytes()
            print(f"both results are {'the same' if same else 'NOT the same'} bytes")


if __name__ == "__main__":
    main()
