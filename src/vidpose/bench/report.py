"""A bench report as text, as a page of Markdown, and as a chart."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence

import numpy as np

from vidpose.bench.run import BenchReport
from vidpose.bench.stages import STAGES
from vidpose.io.files import atomic_path

NAMES = {
    "read": "reading frames",
    "detect": "detector",
    "track": "tracking",
    "crop": "crops",
    "backbone": "backbone",
    "head": "head",
    "decode": "joints from heatmaps",
    "write": "writing",
    "other": "all else",
}
PEER_NAMES = {
    "vitpose": "ViTPose-B of transformers, box given",
    "mediapipe": "MediaPipe Pose full, tracking one person",
    "rtmlib": "rtmlib balanced (YOLOX, RTMPose-m)",
}


def linear_fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope and intercept of the least-squares line, and the share of variance that it explains (R²)."""
    slope, intercept = np.polyfit(np.asarray(x, dtype=float), np.asarray(y, dtype=float), 1)
    rest = np.asarray(y) - (slope * np.asarray(x) + intercept)
    spread = float(np.var(y))
    return float(slope), float(intercept), 1 - float(np.var(rest)) / spread if spread else 1.0


def to_markdown(report: BenchReport) -> str:
    """The report as tables."""
    video, machine, model = report.video, report.machine, report.model
    total = sum(report.stages.values())
    rate = statistics.median(report.frames_per_s)
    reached = f"{100 * report.share_of_matmul:.0f} %" if report.poses else "nobody was found"
    lines = [
        f"{video['file']}: {video['frames']} frames of {video['width']}x{video['height']}; "
        f"{report.poses} poses, {report.tracks} people. "
        f"{machine['name']}, {machine['threads']} threads, torch {machine['torch']}; "
        f"vidpose {report.version}, {model['model']} with weights {model['weights']}, "
        f"engine {model.get('engine', 'torch')}, {model['precision']}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| frames a second, median (least to most) of {len(report.frames_per_s)} runs | "
        f"{rate:.1f} ({min(report.frames_per_s):.1f} to {max(report.frames_per_s):.1f}) |",
        f"| people a second | {report.poses / total:.1f} |",
        f"| models loaded and first frame | {report.start_s:.1f} s |",
        f"| backbone passes a pose | {report.passes_per_pose:.2f} |",
        f"| operations: a backbone pass, the head for a pose | {report.gflop['backbone']:.2f}, "
        f"{report.gflop['head']:.2f} GFLOP |",
        f"| of the machine's matrix product ({report.matmul_gflops:.0f} GFLOP/s) reached | {reached} |",
        f"| time outside the detector and the pose networks | {100 * report.outside_networks:.0f} % |",
        "",
        "| stage | ms a frame | share |",
        "| --- | --- | --- |",
    ]
    for stage in STAGES:
        seconds = report.stages[stage]
        lines.append(
            f"| {NAMES[stage]} | {1000 * seconds / video['frames']:.1f} | {100 * seconds / total:.0f} % |"
        )
    if report.length:
        slope, _, fit = linear_fit(
            [r["frames"] for r in report.length], [r["seconds"] for r in report.length]
        )
        lines += ["", "| frames | seconds | peak memory |", "| --- | --- | --- |"]
        lines += [f"| {r['frames']} | {r['seconds']:.1f} | {r['peak_mb']:.0f} MB |" for r in report.length]
        lines += ["", f"A line fits the time: {1000 * slope:.1f} ms a frame (R² {fit:.3f})."]
    if report.people:
        people = [r["people"] for r in report.people]
        times = [r["seconds_a_frame"] for r in report.people]
        slope, rest, fit = linear_fit(people, times)
        lines += ["", "| people, boxes given | ms a frame |", "| --- | --- |"]
        lines += [f"| {n} | {1000 * s:.1f} |" for n, s in zip(people, times, strict=True)]
        lines += ["", f"A line fits: {1000 * rest:.1f} ms and {1000 * slope:.1f} ms a person (R² {fit:.3f})."]
    if report.clips:
        lines += ["", "| frames a clip | ms a pose |", "| --- | --- |"]
        lines += [f"| {r['num_frames']:.0f} | {r['ms_a_pose']:.1f} |" for r in report.clips]
    if report.peers:
        lines += [
            "",
            "| beside | ms a frame | vidpose takes, median (least to most) |",
            "| --- | --- | --- |",
        ]
        for name, found in report.peers.items():
            label = PEER_NAMES[name]
            if "not_run" in found:
                lines.append(f"| {label} | | {found['not_run']} |")
                continue
            low, high = min(found["ratios"]), max(found["ratios"])
            lines.append(
                f"| {label} | {1000 * found['seconds_a_frame']:.1f} | "
                f"{found['ratio']:.2f} times ({low:.2f} to {high:.2f}) |"
            )
    return "\n".join(lines) + "\n"


def write_chart(report: BenchReport, path: str | os.PathLike[str]) -> None:
    """A PNG: stages of a frame, and growth with length and people where it was measured."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    panels = 1 + bool(report.length) + bool(report.people)
    figure = Figure(figsize=(4.6 * panels, 3.6), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    axis = axes.pop(0)
    frames = report.video["frames"]
    shown = [stage for stage in STAGES if report.stages[stage] > 0]
    values = [1000 * report.stages[stage] / frames for stage in shown]
    axis.barh([NAMES[stage] for stage in shown][::-1], values[::-1], color="#2a6f97")
    axis.set_xlabel("ms a frame")
    rate = statistics.median(report.frames_per_s)
    axis.set_title(f"{report.model['model']}: {rate:.1f} frames/s")
    if report.length:
        axis = axes.pop(0)
        count = [row["frames"] for row in report.length]
        axis.plot(count, [row["seconds"] for row in report.length], "o-", color="#2a6f97")
        axis.set(xlabel="frames", ylabel="seconds", title="length")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        memory = axis.twinx()
        memory.plot(count, [row["peak_mb"] for row in report.length], "s--", color="#c9622f")
        memory.set_ylabel("peak memory, MB (dashed)")
        memory.set_ylim(bottom=0)
    if report.people:
        axis = axes.pop(0)
        people = [row["people"] for row in report.people]
        axis.plot(people, [1000 * row["seconds_a_frame"] for row in report.people], "o-", color="#2a6f97")
        axis.set(xlabel="people in each frame", ylabel="ms a frame", title="people")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
