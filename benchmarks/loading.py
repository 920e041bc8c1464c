"""Speed and memory of loading clips by themselves: decode, warp, augment, collate.

    python benchmarks/loading.py                # on a synthetic data set that it makes
    python benchmarks/loading.py --data DIR --split train
    python benchmarks/loading.py --memory       # 100,000 people, three epochs

The limit is 200 clips of five frames at 384x288 per second on two processors, 10 ms of processor time per
clip. Where others use the processors too, look at the processor time: wall time then says little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from vidpose.data.clips import ClipDataset, collate_clips, ground_truth_samples, worker_init
from vidpose.data.dataset import Frame, Person, PoseDataset, Video
from vidpose.data.pack import PackOptions, pack_frames
from vidpose.data.readers import read_dataset
from vidpose.skeletons import POSETRACK15
from vidpose.synthetic import synthesize
from vidpose.train.predict import fork_where_possible
from vidpose.train.sampler import StepBatchSampler

LIMIT_MS = 10.0
BATCH = 16


def cpu_s() -> float:
    """Processor time of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def private_mb() -> tuple[float, float]:
    """(this process, mean of its children) MB of memory that no other process shares."""

    def read(pid: int | str) -> float:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024

    children = [read(child.pid) for child in multiprocessing.active_children() if child.pid]
    return read("self"), float(np.mean(children)) if children else 0.0


def loader(dataset: ClipDataset, steps: int, start: int, workers: int, group: int) -> DataLoader:
    sampler = StepBatchSampler(
        len(dataset), BATCH, seed=0, start=start, stop=start + steps,
        groups=dataset.groups(group) if group else None,
    )  # fmt: skip
    return DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate_clips, num_workers=workers,
        worker_init_fn=worker_init, **fork_where_possible(workers),
    )  # fmt: skip


def measure_speed(root: Path, split: str, steps: int) -> None:
    data = read_dataset(root, split)
    samples = ground_truth_samples(data)
    height, width = data.videos[0].frames[0].size
    people = len(samples) / sum(any(p for p in f.people) for _, f in data.frames())
    print(f"{root}: {len(samples)} people, {people:.1f} per labelled frame, frames {width}x{height}")
    with tempfile.TemporaryDirectory() as folder:
        packs = {"pack": Path(folder) / "images", "pack --raw": Path(folder) / "raw"}
        for name, place in packs.items():
            pack_frames(root, place, splits=[split], options=PackOptions(raw="raw" in name))
        print(
            f"{'cache':12}{'group':>6}{'workers':>8}{'clips/s':>9}{'CPU ms/clip':>13}{'of limit':>10}", end=""
        )
        print(f"{'on 2 CPUs':>11}{'decoded/clip':>14}")
        for cache in ("none", "pack", "pack --raw", "ram"):
            for group in (0, 1, 4) if cache in ("none", "pack") else (0,):
                dataset = ClipDataset(
                    data, samples, num_frames=5, input_size=(384, 288), heatmap_size=(96, 72),
                    augment="uniform", cache=cache.split()[0], pack=packs.get(cache),
                )  # fmt: skip
                for workers in (0, 1, 2):
                    before, cpu, wall, n = dataset.frames.decoded, cpu_s(), time.perf_counter(), 0
                    for batch in loader(dataset, steps, 0, workers, group):
                        n += len(batch["clips"])
                    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
                    decoded = f"{(dataset.frames.decoded - before) / n:.2f}" if not workers else ""
                    print(
                        f"{cache:12}{group:6}{workers:8}{n / wall:9.0f}{1e3 * cpu / n:13.2f}"
                        f"{1e3 * cpu / n / LIMIT_MS:10.2f}{2 * n / cpu:9.0f}/s{decoded:>14}",
                        flush=True,
                    )


def many_people(folder: Path, count: int) -> PoseDataset:
    """``count`` people, five per frame, 100 frames per video; every frame the same small picture."""
    rng = np.random.default_rng(0)
    picture = folder / "frame.png"
    cv2.imwrite(str(picture), rng.integers(0, 255, (48, 64, 3)).astype(np.uint8))
    videos = []
    for v in range(count // 500):
        frames = []
        for f in range(100):
            people = [
                Person(
                    rng.uniform(0, 48, (15, 3)), np.array([4.0, 4.0, 40.0, 44.0]), None, k, np.ones(15, bool)
                )
                for k in range(5)
            ]
            frames.append(Frame(picture, f"{v}/{f}.jpg", v * 100 + f, f, (48, 64), True, people))
        videos.append(Video(f"{v}", frames, picture))
    return PoseDataset(videos, POSETRACK15, folder, "train")


def measure_memory(count: int, epochs: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = many_people(Path(folder), count)
        dataset = ClipDataset(
            data, ground_truth_samples(data), num_frames=5, input_size=(64, 48), heatmap_size=(16, 12),
            augment="uniform", cache="ram",
        )  # fmt: skip
        steps = len(dataset) // BATCH
        print(f"{len(dataset)} people, {workers} workers; private memory in MB")
        print(f"{'epoch':>8}{'main':>8}{'worker':>8}{'clips/s':>9}")
        begin = time.perf_counter()
        for step, _ in enumerate(loader(dataset, epochs * steps, 0, workers, 0)):
            if step in (10, *(k * steps - 1 for k in range(1, epochs + 1))):
                main, worker = private_mb()
                rate = BATCH * (step + 1) / (time.perf_counter() - begin)
                print(f"{(step + 1) / steps:8.2f}{main:8.0f}{worker:8.0f}{rate:9.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a data set's folder; by default a synthetic one")
    parser.add_argument("--split", default="train")
    parser.add_argument("--steps", type=int, default=20, help=f"batches of {BATCH} per row")
    parser.add_argument("--memory", action="store_true", help="measure memory over epochs instead")
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    if options.memory:
        measure_memory(options.people, options.epochs, workers=2)
    elif options.data is not None:
        measure_speed(options.data, options.split, options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            synthesize(folder, videos=8, frames=60, size=(360, 640), quiet=True)
            measure_speed(Path(folder), "train", options.steps)


if __name__ == "__main__":
    main()
