"""Charts of a data set, each drawn into a part of a matplotlib figure: histograms, bars, maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidpose.data.describe import CROWDED_IOU, QUANTILES, Measures, quantiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STRIP = "Above the bars of a chart: median (dot), quartiles (thick line), 5th to 95th percentile (thin line)."

Splits = dict[str, Measures]
Values = Callable[[Measures], np.ndarray]
Numbers = list[tuple[str, str]]

COLORS = ("#3d82d8", "#e27a2c", "#2e9f6e", "#a56bcf")
"""Of the splits, in order; they read on a light and on a dark ground."""


@dataclass(frozen=True)
class Theme:
    """Colours of what is not data."""

    ink: str = "#1d2433"
    muted: str = "#5f6b80"
    grid: str = "#d9dee7"


@dataclass(frozen=True)
class Cell:
    """A rectangle of a figure, in inches from its top left corner."""

    figure: Figure
    x: float
    y: float
    width: float
    height: float
    theme: Theme = Theme()

    def axes(self, left: float, top: float, right: float, bottom: float, **options: Any) -> Axes:
        """Axes inside margins in inches."""
        total_width, total_height = self.figure.get_size_inches()
        return self.figure.add_axes(
            (
                (self.x + left) / total_width,
                1 - (self.y + self.height - bottom) / total_height,
                (self.width - left - right) / total_width,
                (self.height - top - bottom) / total_height,
            ),
            **options,
        )

    def part(self, x: float, y: float, width: float, height: float) -> Cell:
        return Cell(self.figure, self.x + x, self.y + y, width, height, self.theme)

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        """Text whose top left corner is ``x, y`` inches into the cell."""
        total_width, total_height = self.figure.get_size_inches()
        options = {"ha": "left", "va": "top", "color": self.theme.ink, **options}
        self.figure.text((self.x + x) / total_width, 1 - (self.y + y) / total_height, text, **options)


@dataclass(frozen=True)
class Chart:
    """A picture of all splits with its numbers."""

    name: str
    title: str
    note: str
    """How to read it."""
    values: Values
    """Empty: the split has nothing of the kind, and a chart without any split is left out."""
    draw: Callable[[Cell, Splits], None]
    numbers: Callable[[Measures], Numbers]
    """Names and values, for a table; for splits with values only."""


# --- histograms ------------------------------------------------------------------------------------------


def whole_edges(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Edges of bins for whole numbers, and whether their axis is logarithmic."""
    low, high = int(values.min()), int(values.max())
    if high - low < 4:  # room around one or two bars
        low, high = max(low - 2, 0), high + 2
    if high - low < 40:
        return np.arange(low, high + 2) - 0.5, False
    if high >= 20 * max(low, 1) or high > 200:
        edges = np.unique(np.round(np.geomspace(max(low, 1), high + 1, 30))) - 0.5
        return edges, True
    width = -(-(high - low + 1) // 40)
    return np.arange(low, high + 1 + width, width) - 0.5, False


def log_edges(values: np.ndarray) -> tuple[np.ndarray, bool]:
    """Edges of bins that grow by one factor; few where there are few values."""
    low, high = float(values.min()), float(values.max())
    room = max(1.05, np.sqrt(2 * low / high))
    bins = int(np.clip(2 * np.sqrt(len(values)), 9, 36))
    return np.geomspace(low / room, high * room, bins + 1), True


def _histogram(
    cell: Cell,
    splits: Splits,
    values: Values,
    edges_of: Callable[[np.ndarray], tuple[np.ndarray, bool]],
    unit: str,
    of: str,
    ticks: Sequence[float] = (),
) -> None:
    """The share of each bin, above it the median, the quartiles and the 5th and 95th percentile."""
    from matplotlib.ticker import MaxNLocator

    theme = cell.theme
    arrays = {split: values(measures) for split, measures in splits.items()}
    edges, is_log = edges_of(np.concatenate(list(arrays.values())))
    axes = cell.axes(0.58, 0.08, 0.12, 0.5)
    tallest = 0.0
    for k, array in enumerate(arrays.values()):
        if not len(array):
            continue
        share = 100 * np.histogram(np.clip(array, edges[0], edges[-1]), edges)[0] / len(array)
        tallest = max(tallest, share.max())
        alpha = 0.75 if len(splits) == 1 else 0.28
        axes.stairs(share, edges, fill=True, color=COLORS[k], alpha=alpha, linewidth=0)
        axes.stairs(share, edges, color=COLORS[k], linewidth=1.3)
    axes.set_ylim(0, tallest / (1 - 0.09 * len(splits) - 0.04))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= tallest])
    for k, array in enumerate(arrays.values()):
        if len(array):
            height = 1 - 0.09 * (k + 0.5)
            p5, p25, p50, p75, p95 = np.clip(quantiles(array), edges[0], edges[-1])
            place: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "color": COLORS[k],
                "solid_capstyle": "butt",
            }
            axes.plot([p5, p95], [height] * 2, linewidth=1.2, **place)
            axes.plot([p25, p75], [height] * 2, linewidth=4.5, **place)
            axes.plot([p50], [height], "o", markersize=5.5, markeredgecolor="white", **place)
    if is_log:
        axes.set_xscale("log")
        _plain_log_ticks(axes, edges, ticks)
    elif edges_of is whole_edges:
        axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlim(edges[0], edges[-1])
    style(axes, theme)
    axes.set_xlabel(unit)
    axes.set_ylabel(f"% of {of}")


def _plain_log_ticks(axes: Axes, edges: np.ndarray, ticks: Sequence[float]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = np.log10(edges[-1] / edges[0])
    steps: Sequence[float] = (1, 2, 5) if decades < 2.3 else (1, 3) if decades < 4 else (1,)
    if decades < 0.7:
        steps = (1, 1.5, 2, 3, 4, 5, 6, 7, 8)
    first, last = int(np.floor(np.log10(edges[0]))), int(np.ceil(np.log10(edges[-1])))
    usual = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    inside = ([tick for tick in places if edges[0] <= tick <= edges[-1]] for places in (ticks, usual))
    shown = next((places for places in inside if len(places) > 1), [])
    axes.xaxis.set_major_locator(FixedLocator(shown or [float(np.sqrt(edges[0] * edges[-1]))]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def style(axes: Axes, theme: Theme) -> None:
    """Quiet axes: no frame, a grid behind the data."""
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.muted)
    axes.grid(axis="y", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, labelsize=8.5, length=0, pad=4)
    axes.xaxis.label.set(color=theme.ink, fontsize=9)
    axes.yaxis.label.set(color=theme.ink, fontsize=9)


def _percent(share: float) -> str:
    return f"{share:.0f}" if share >= 1 or share == 0 else f"{share:.1f}"


def _grouped_bars(cell: Cell, splits: Splits) -> None:
    """Overlap: the share of people in each of a few ranges."""
    from matplotlib.transforms import blended_transform_factory

    bounds = (0, 0.1, 0.2, CROWDED_IOU, 0.5, 1)
    names = ["none", *(f"{low:g}–{high:g}" for low, high in zip(bounds[:-1], bounds[1:], strict=True))]
    axes = cell.axes(0.58, 0.08, 0.12, 0.5)
    width = 0.8 / len(splits)
    for k, measures in enumerate(splits.values()):
        if len(measures.overlaps):
            place = np.searchsorted(bounds, measures.overlaps)  # bounds belong to the range below them
            share = 100 * np.bincount(place, minlength=len(names))[: len(names)] / len(place)
            at = np.arange(len(names)) + (k - (len(splits) - 1) / 2) * width
            bars = axes.bar(at, share, width * 0.92, color=COLORS[k], alpha=0.85)
            if len(splits) < 3:  # more do not fit
                axes.bar_label(
                    bars, [_percent(s) for s in share], fontsize=7, color=cell.theme.ink, padding=1
                )
    axes.margins(y=0.16)
    axes.axvline(3.5, color=cell.theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    at_top = blended_transform_factory(axes.transData, axes.transAxes)
    axes.text(3.58, 0.99, "crowded", transform=at_top, fontsize=8.5, color=cell.theme.ink, va="top")
    axes.set_xticks(range(len(names)), names)
    style(axes, cell.theme)
    axes.set_xlabel("largest overlap with another person's box (IoU)")
    axes.set_ylabel("% of people")


# --- places and sizes ------------------------------------------------------------------------------------


def _centres(cell: Cell, splits: Splits) -> None:
    """Where in the picture the boxes' centres are, one map for each split."""
    shown = {split: measures for split, measures in splits.items() if len(_known_centres(measures))}
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    width, height = cell.width / columns, (cell.height - 0.1) / rows
    for k, (split, measures) in enumerate(shown.items()):
        part = cell.part((k % columns) * width, (k // columns) * height, width, height)
        axes = part.axes(0.1, 0.26, 0.1, 0.1)
        centres = _known_centres(measures)
        picture = max(measures.image_sizes, key=lambda size: (0 not in size, measures.image_sizes[size]))
        aspect = picture[1] / picture[0] if 0 not in picture else 16 / 9
        across = 32 if aspect >= 1 else round(32 * aspect)
        bins = (max(round(across / aspect), 1), across)
        counts = np.histogram2d(centres[:, 1], centres[:, 0], bins, ((0, 1), (0, 1)))[0]
        axes.imshow(
            100 * counts / len(centres), cmap="magma", extent=(0, aspect, 1, 0), interpolation="nearest"
        )
        axes.set_title(split, fontsize=9, color=part.theme.ink, pad=4)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_color(part.theme.grid)


def _known_centres(measures: Measures) -> np.ndarray:
    centres = measures.box_centres
    return centres[~np.isnan(centres).any(axis=1)]


def size_name(size: tuple[int, int]) -> str:
    """(height, width) -> ``640 × 360``."""
    return f"{size[1]} × {size[0]}" if 0 not in size else "unknown"


def _image_sizes(cell: Cell, splits: Splits) -> None:
    total: dict[tuple[int, int], int] = {}
    for measures in splits.values():
        for size, count in measures.image_sizes.items():
            total[size] = total.get(size, 0) + count
    most = sorted(total, key=lambda size: (-total[size], size))[:6]
    others = len(total) - len(most)
    axes = cell.axes(1.05, 0.08, 0.45, 0.5)
    thick = 0.76 / len(splits)
    for k, measures in enumerate(splits.values()):
        counts = [measures.image_sizes.get(size, 0) for size in most]
        if others:
            counts.append(sum(measures.image_sizes.values()) - sum(counts))
        share = 100 * np.array(counts) / max(sum(measures.image_sizes.values()), 1)
        at = np.arange(len(counts)) + (k - (len(splits) - 1) / 2) * thick
        bars = axes.barh(at, share, thick * 0.9, color=COLORS[k], alpha=0.85)
        axes.bar_label(bars, [_percent(s) for s in share], fontsize=7.5, color=cell.theme.ink, padding=2)
    names = [size_name(size) for size in most] + ([f"{others} others"] if others else [])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 3) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    style(axes, cell.theme)
    axes.grid(visible=False, axis="y")
    axes.grid(axis="x", color=cell.theme.grid, linewidth=0.8)
    axes.set_xlabel("% of videos, by their first frame (pixels)")


# --- the list --------------------------------------------------------------------------------------------


def _spread(values: np.ndarray, form: str) -> Numbers:
    names = [f"{q} %" if q != 50 else "median" for q in QUANTILES]
    return list(zip(names, (format(value, form) for value in quantiles(values)), strict=True))


def _whole(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")


def _people_numbers(measures: Measures) -> Numbers:
    people = measures.people_per_frame
    none = f"{100 * (people == 0).mean():.1f} %"
    return [("mean", f"{people.mean():.2f}"), ("median", _whole(np.median(people))),
            ("most", str(people.max())), ("nobody", none)]  # fmt: skip


def _track_numbers(measures: Measures) -> Numbers:
    lengths = _tracks(measures)
    some = zip((name for name, _ in _spread(lengths, "")), map(_whole, quantiles(lengths)), strict=True)
    return [*some, ("longest", f"{lengths.max():,}")]


def _motion_numbers(measures: Measures) -> Numbers:
    steps, counts = np.unique(measures.steps, return_counts=True)
    return [*_spread(100 * measures.speeds, ".2g"), ("step", str(steps[counts.argmax()]))]


def _overlap_numbers(measures: Measures) -> Numbers:
    return [
        ("crowded", f"{100 * measures.crowded:.1f} %"),
        ("overlap nobody", f"{100 * (measures.overlaps == 0).mean():.1f} %"),
        ("median", f"{np.median(measures.overlaps):.2f}"),
    ]


def _image_numbers(measures: Measures) -> Numbers:
    size, count = next(iter(measures.image_sizes.items()))
    share = f"{100 * count / sum(measures.image_sizes.values()):.0f} %"
    return [("sizes", f"{len(measures.image_sizes):,}"), ("most frequent", size_name(size)), ("share", share)]


def _centre_numbers(measures: Measures) -> Numbers:
    """Medians and standard deviations."""
    centres = 100 * _known_centres(measures)
    parts = zip(
        ("from the left", "from the top"), np.median(centres, axis=0), centres.std(axis=0), strict=True
    )
    return [(name, f"{middle:.0f} ± {deviation:.0f} %") for name, middle, deviation in parts]


def _speed_percent(measures: Measures) -> np.ndarray:
    return np.maximum(100 * measures.speeds, _REST)


def _histogram_chart(
    name: str,
    title: str,
    note: str,
    values: Values,
    edges: Callable[[np.ndarray], tuple[np.ndarray, bool]],
    unit: str,
    of: str,
    numbers: Callable[[Measures], Numbers],
    ticks: Sequence[float] = (),
) -> Chart:
    def draw(cell: Cell, splits: Splits) -> None:
        _histogram(cell, splits, values, edges, unit, of, ticks)

    return Chart(name, title, note, values, draw, numbers)


def _tracks(measures: Measures) -> np.ndarray:
    return measures.track_lengths[:0] if measures.single_images else measures.track_lengths


def _positive(values: np.ndarray) -> np.ndarray:
    return values[values > 0]


_REST = 0.01  # per cent: where no motion is drawn on a logarithmic axis

CHARTS: tuple[Chart, ...] = (
    _histogram_chart(
        "people", "People per frame", "Labelled frames only.",
        lambda m: m.people_per_frame, whole_edges, "people", "labelled frames", _people_numbers,
    ),
    _histogram_chart(
        "tracks", "Track length", "Frames in which one person of a video is labelled.",
        _tracks, whole_edges, "labelled frames", "tracks", _track_numbers,
    ),
    _histogram_chart(
        "box_height", "Box height", "Person boxes cut to the picture.",
        lambda m: _positive(m.box_heights), log_edges, "pixels (log)", "people",
        lambda m: _spread(m.box_heights, ".0f"),
    ),
    _histogram_chart(
        "box_aspect", "Box height / width", "Models take crops of 4 / 3 = 1.33.",
        lambda m: _positive(m.box_aspects), log_edges, "height / width (log)", "people",
        lambda m: _spread(m.box_aspects, ".2f"), (0.1, 0.25, 0.5, 1, 2, 4, 8, 16),
    ),
    Chart(
        "overlap", "Crowding",
        f"A person is crowded whose box overlaps another's by an IoU above {CROWDED_IOU}.",
        lambda m: m.overlaps, _grouped_bars, _overlap_numbers,
    ),
    _histogram_chart(
        "head_size", "Head size", "0.6 times the diagonal of the head box, the unit of PCKh.",
        lambda m: m.head_sizes, log_edges, "pixels (log)", "head boxes",
        lambda m: [*_spread(m.head_sizes, ".0f"), ("heads", f"{len(m.head_sizes):,}")],
    ),
    _histogram_chart(
        "motion", "Motion",
        "Way of a person's joints (median) to the next labelled frame, per frame and over the box's height. "
        f"Camera motion is part of it; rest is drawn at {_REST} %. Step: usual frames to the next label.",
        _speed_percent, log_edges, "% of box height per frame (log)", "people", _motion_numbers,
    ),
    Chart(
        "image_size", "Image size", "Width × height of each video's first frame.",
        lambda m: np.array(list(m.image_sizes)), _image_sizes, _image_numbers,
    ),
    Chart(
        "centres", "Where people are",
        "Centres of boxes in the picture, brighter where there are more, each map by its own maximum; their "
        "medians and standard deviations.",
        _known_centres, _centres, _centre_numbers,
    ),
)  # fmt: skip
"""What a report shows, in order; joints are drawn apart, see :mod:`vidpose.view.dataset_joints`."""
