"""A data set on one page that a person looks at: a PNG, or an HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidpose.data.dataset import Frame
from vidpose.data.describe import DatasetDescription, Measures, SplitCounts
from vidpose.data.frames import read_frame, reduce_image
from vidpose.errors import InputError
from vidpose.io.files import atomic_path, check_writable, write_text
from vidpose.io.outputs import PNG_MARK, check_replaceable, unless_marked
from vidpose.results import FramePoses
from vidpose.skeletons import Skeleton
from vidpose.view.dataset_charts import CHARTS, COLORS, STRIP, Cell, Chart, Numbers, Splits, Theme
from vidpose.view.dataset_joints import (
    bars_height,
    can_draw_figures,
    draw_figures,
    draw_joint_bars,
    joint_shares,
)
from vidpose.view.draw import draw_poses

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pictures = list[tuple[str, np.ndarray]]

SUFFIXES = (".html", ".htm", ".png")
DRAWN_SPLITS = len(COLORS)
SAMPLES = 8
"""Sample frames of a report."""
_SAMPLE_SIDE = 560
_SAMPLE_COLUMNS = 4

_DPI = 110
_FOOT = (
    "Counted is what training and scoring use: boxes cut to the picture, crowds and people without a box "
    "left out, joints of the set that models are trained for."
)
# Colours that are replaced by the page's own, which differ by day and night.
_PAGE_THEME = Theme(ink="#010101", muted="#020202", grid="#030303")


_HTML_MARK = '<meta name="generator" content="vidpose">'


def check_report_path(
    path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None, *, overwrite: bool = True
) -> None:
    """Finds out before the work whether a report can be written there.

    Args:
        root: folder of the data set, of which nothing is replaced but a report.
        overwrite: whether another file than a report may be replaced.

    Raises:
        InputError: another suffix, a folder of that name, no place to write, or another file of that name.
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise InputError(f"{target}: a report is .html or .png")
    if target.is_dir():
        raise InputError(f"{target}: is a folder; name a file")
    check_writable(target.parent)
    mark = PNG_MARK if target.suffix.lower() == ".png" else _HTML_MARK.encode()
    read = [root] if root is not None else []
    check_replaceable(target, overwrite=overwrite, inputs=read, objection=unless_marked(mark))


def write_report(description: DatasetDescription, path: str | os.PathLike[str]) -> Path:
    """Draws a description; the first four splits share the charts, the table of counts has all.

    Args:
        description: with samples, if frames are to be shown (``describe_dataset(…, samples=8)``).
        path: ``.html`` or ``.png``; it appears whole or not at all.

    Raises:
        InputError: the path cannot be used, or matplotlib is not installed.
    """
    check_report_path(path)
    target = Path(path)
    with _quiet_matplotlib():
        if target.suffix.lower() == ".png":
            with atomic_path(target) as temporary:
                _page(description).savefig(temporary, dpi=_DPI, metadata={"Software": "vidpose"})
        else:
            write_text(target, _html(description))
    return target


@contextmanager
def _quiet_matplotlib() -> Iterator[None]:
    """Settings that hold for the report only, whatever the user's own are."""
    try:
        import matplotlib
    except ImportError:
        raise InputError("a report needs matplotlib: pip install matplotlib") from None
    own: Any = {
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.parse_math": False,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(own)
        yield


def _figure(width: float, height: float) -> Figure:
    """Inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _drawn(description: DatasetDescription) -> Splits:
    return dict(list(description.measures.items())[:DRAWN_SPLITS])


def _numbers(chart: Chart, splits: Splits) -> dict[str, Numbers]:
    """Those of the splits that have anything of the kind."""
    return {
        split: chart.numbers(measures) for split, measures in splits.items() if len(chart.values(measures))
    }


def _headline(description: DatasetDescription) -> tuple[str, str]:
    name = os.path.basename(os.path.abspath(description.root)) or description.root
    skeleton = next(iter(description.measures.values())).skeleton
    what = f"{description.layout}, {skeleton.num_joints} joints"
    left = len(description.splits) - DRAWN_SPLITS
    if left > 0:
        what += f"; charts show the first {DRAWN_SPLITS} splits of {len(description.splits)}, --split chooses"
    return name, what


_COLUMNS = (
    "split", "videos", "frames", "labelled", "labelled / video", "people", "left out", "tracks", "joints",
    "visible",
)  # fmt: skip


def _row(split: str, counts: SplitCounts, measures: Measures) -> tuple[str, ...]:
    labeled, visible = int(measures.labeled.sum()), int(measures.visible.sum())
    per_video = f"{np.median(measures.labeled_per_video):g}" if len(measures.labeled_per_video) else "–"
    share = f"{100 * visible / labeled:.1f} %" if labeled else "–"
    whole = (
        counts.videos, counts.frames, counts.labeled_frames, per_video, counts.people, measures.left_out,
        "–" if measures.single_images else counts.tracks, counts.labeled_joints,
    )  # fmt: skip
    return split, *(value if isinstance(value, str) else f"{value:,}" for value in whole), share


def _notes(description: DatasetDescription, missing: list[str]) -> list[str]:
    notes = []
    for split, measures in description.measures.items():
        made = int((~measures.boxes_given).sum())
        if made:
            notes.append(
                f"{split}: the files have no box for {made:,} of {len(measures.boxes_given):,} people; it is "
                "made from the joints."
            )
    if missing:
        more = f" (and {len(missing) - 1} more frames)" if len(missing) > 1 else ""
        notes.append(f"Frames not shown: {_short(missing[0], 160)}{more}.")
    if all(measures.single_images for measures in description.measures.values()):
        notes.append("Single images: there are neither tracks nor motion.")
    return notes


# --- frames ----------------------------------------------------------------------------------------------


def _samples(description: DatasetDescription) -> tuple[Pictures, list[str]]:
    """Names and pictures [H, W, 3] uint8 RGB of sample frames with their labels, and why some are missing."""
    splits = _drawn(description)
    each = -(-SAMPLES // max(len(splits), 1))
    pictures, missing = [], []
    for split, measures in splits.items():
        kept = np.linspace(0, len(measures.samples) - 1, min(each, len(measures.samples))).round()
        for name, frame in (measures.samples[int(k)] for k in kept):
            try:
                picture = _drawn_frame(frame, measures.skeleton)
            except InputError as error:
                missing.append(str(error))
            else:
                number = f", frame {frame.index}" if not measures.single_images else ""
                pictures.append((f"{split}: {_short(name, 28)}{number}", picture))
    return pictures, missing


def _short(name: str, length: int) -> str:
    """The end of a name, which tells more than its beginning."""
    return name if len(name) <= length else "…" + name[1 - length :]


def _drawn_frame(frame: Frame, skeleton: Skeleton) -> np.ndarray:
    if not frame.path.is_file():
        raise InputError(f"{frame.path}: no such image")
    poses = FramePoses(
        frame.index,
        0.0,
        np.stack([person.keypoints[:, :2] for person in frame.people]),
        np.stack([(person.keypoints[:, 2] > 0).astype(float) for person in frame.people]),
        np.stack([person.box_xyxy for person in frame.people]),
        np.ones(len(frame.people)),
        np.array([person.track_id for person in frame.people]),
    )
    return reduce_image(draw_poses(read_frame(frame), poses, skeleton, ids=False, time=False), _SAMPLE_SIDE)


# --- PNG -------------------------------------------------------------------------------------------------


def _page(description: DatasetDescription) -> Figure:
    """Everything on one figure: counts, joints, a grid of charts, frames."""
    splits = _drawn(description)
    pictures, missing = _samples(description)
    charts = [(chart, numbers) for chart in CHARTS if (numbers := _numbers(chart, splits))]
    width, edge, cell_width, plot = 15.0, 0.4, 4.6, 2.5
    row = plot + 0.17 * len(splits) + 0.85
    tops = [0.95]  # table, joints, charts, sheet, notes
    tops.append(tops[-1] + 0.3 * (len(description.splits) + 1) + 0.3)
    tops.append(tops[-1] + max(bars_height(splits), 3.6) + 0.75)
    tops.append(tops[-1] + -(-len(charts) // 3) * row)
    tops.append(tops[-1] + (0.55 + _frame_rows(width - 2 * edge, pictures)[1] if pictures else 0.0))
    notes = [*_notes(description, missing), _FOOT, STRIP]
    notes += [f"{chart.title}: {chart.note}" for chart, _ in charts]
    height = tops[-1] + 0.2 * len(notes) + 0.35
    figure = _figure(width, height)
    whole = Cell(figure, edge, 0, width - 2 * edge, height)
    name, what = _headline(description)
    whole.text(0, 0.28, name, fontsize=19, weight="bold")
    whole.text(0, 0.64, what, fontsize=10.5, color=whole.theme.muted)
    _page_table(whole.part(0, tops[0], whole.width, tops[1] - tops[0]), description)
    _page_joints(whole.part(0, tops[1], whole.width, tops[2] - tops[1]), splits)
    for k, (chart, numbers) in enumerate(charts):
        x, y = (k % 3) * (whole.width - cell_width) / 2, tops[2] + (k // 3) * row
        cell = whole.part(x, y, cell_width, row)
        cell.text(0, 0, chart.title, fontsize=12, weight="bold")
        chart.draw(cell.part(0, 0.25, cell_width, plot), splits)
        _page_numbers(cell.part(0.1, plot + 0.3, cell_width - 0.2, row), numbers, list(splits))
    if pictures:
        _page_frames(whole.part(0, tops[3], whole.width, tops[4] - tops[3]), pictures)
    for k, note in enumerate(notes):
        whole.text(0, tops[4] + 0.2 * k, note, fontsize=8.5, color=whole.theme.muted)
    return figure


def _page_numbers(cell: Cell, numbers: dict[str, Numbers], order: list[str]) -> None:
    names = [name for name, _ in next(iter(numbers.values()))]
    right = np.linspace(cell.width, cell.width - 0.64 * (len(names) - 1), len(names))[::-1]
    if len(names) < 5:
        right = np.linspace(1.9, cell.width, len(names))
    for x, name in zip(right, names, strict=True):
        cell.text(x, 0, name, fontsize=8, color=cell.theme.muted, ha="right")
    for r, (split, values) in enumerate(numbers.items(), 1):
        cell.text(
            0, 0.17 * r, _short(split, 12), fontsize=8.5, color=COLORS[order.index(split)], weight="bold"
        )
        for x, (_, value) in zip(right, values, strict=True):
            cell.text(x, 0.17 * r, value, fontsize=8.5, ha="right")


def _page_table(cell: Cell, description: DatasetDescription) -> None:
    columns = [0.0, *np.linspace(2.6, cell.width - 0.1, len(_COLUMNS) - 1)]
    for k, name in enumerate(_COLUMNS):
        cell.text(columns[k], 0, name, fontsize=9, color=cell.theme.muted, ha="right" if k else "left")
    for r, (split, counts) in enumerate(description.splits.items(), 1):
        for k, value in enumerate(_row(split, counts, description.measures[split])):
            color = COLORS[r - 1] if k == 0 and r <= DRAWN_SPLITS else cell.theme.ink
            value = _short(value, 18)
            cell.text(columns[k], 0.3 * r - 0.03, value, fontsize=11, color=color,
                      weight="bold" if k == 0 else "normal", ha="right" if k else "left")  # fmt: skip


def _page_joints(cell: Cell, splits: Splits) -> None:
    has_figures = can_draw_figures(splits)
    bars = cell.part(0, 0, 8.6 if has_figures else cell.width, cell.height)
    bars.text(0, 0, "Joints", fontsize=12, weight="bold")
    draw_joint_bars(bars.part(0, 0.3, bars.width, bars.height - 0.7), splits)
    if has_figures:
        draw_figures(cell.part(8.6, 0.1, cell.width - 8.6, cell.height - 0.5), splits)


def _frame_rows(width: float, pictures: Pictures) -> tuple[float, float]:
    """Inches: height of a row of frames, and of all rows."""
    tile = width / _SAMPLE_COLUMNS
    row = 0.3 + tile * max(image.shape[0] / image.shape[1] for _, image in pictures)
    return row, row * -(-len(pictures) // _SAMPLE_COLUMNS)


def _page_frames(cell: Cell, pictures: Pictures) -> None:
    cell.text(0, 0, "Frames with their labels", fontsize=12, weight="bold")
    row, _ = _frame_rows(cell.width, pictures)
    tile = (cell.width + 0.12) / _SAMPLE_COLUMNS
    for k, (label, image) in enumerate(pictures):
        down, across = divmod(k, _SAMPLE_COLUMNS)
        part = cell.part(across * tile, 0.3 + down * row, tile - 0.12, row)
        part.text(0, 0, label, fontsize=8.5, color=part.theme.muted)
        axes = part.axes(0, 0.2, 0, 0.1, anchor="NW")
        axes.imshow(image, interpolation="antialiased")
        axes.axis("off")


# --- HTML ------------------------------------------------------------------------------------------------

_STYLE = """
:root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--ink:#1d2433;--muted:#5f6b80;--grid:#d9dee7}
@media(prefers-color-scheme:dark){:root{--ground:#12151b;--card:#1b2029;--ink:#e6eaf1;--muted:#9aa6b8;--grid:#3a4352}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:28px 20px;background:var(--ground);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{margin:0;font-size:28px}h2{margin:0 0 6px;font-size:16px}p{margin:4px 0}
.muted,figcaption{color:var(--muted)}
section,figure{margin:0;padding:16px 18px;background:var(--card);border:1px solid var(--grid);
border-radius:10px;min-width:0}
main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(370px,100%),1fr));gap:16px;margin:18px 0}
.wide{grid-column:1/-1}.scroll{overflow-x:auto}
.joints{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:10px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:500;color:var(--muted);font-size:13px}
th,td{padding:3px 10px;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}tbody tr{border-top:1px solid var(--grid)}
table.small{font-size:12.5px}.small th{font-size:12px}.small th,.small td{padding:2px 4px}
figcaption{font-size:12.5px;margin-top:6px}
svg,img{display:block;width:100%;height:auto;border-radius:4px}svg text{font-family:inherit!important}
.frames{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
.frames span{font-size:12.5px;color:var(--muted)}
svg image{image-rendering:pixelated}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:2px;margin-right:.45em}
summary{cursor:pointer;color:var(--muted);margin-top:8px}
"""


def _html(description: DatasetDescription) -> str:
    splits = _drawn(description)
    pictures, missing = _samples(description)
    name, what = _headline(description)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8">{_HTML_MARK}',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(name)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{html.escape(name)}</h1><p class="muted">{html.escape(what)}</p><main>',
        f'<section class="wide scroll">{_html_table(description)}</section>',
        _html_joints(splits),
    ]
    parts += [_html_chart(chart, splits, numbers) for chart in CHARTS if (numbers := _numbers(chart, splits))]
    if pictures:
        tiles = "".join(
            f"<div>{_image(image)}<span>{html.escape(label)}</span></div>" for label, image in pictures
        )
        parts.append(
            f'<figure class="wide"><h2>Frames with their labels</h2><div class="frames">{tiles}</div>'
            "<figcaption>Evenly spread over the videos. Orange: the person's left, blue: right.</figcaption>"
            "</figure>"
        )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in [*_notes(description, missing), _FOOT, STRIP])
    parts.append(f'</main><footer class="muted">{notes}</footer></body></html>')
    return "\n".join(parts) + "\n"


def _dot(splits: Splits, split: str) -> str:
    if split not in splits:
        return html.escape(split)
    color = COLORS[list(splits).index(split)]
    return f'<span class="dot" style="background:{color}"></span>{html.escape(split)}'


def _html_table(description: DatasetDescription) -> str:
    splits = _drawn(description)
    head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
    rows = []
    for split, counts in description.splits.items():
        values = _row(split, counts, description.measures[split])[1:]
        cells = "".join(f"<td>{value}</td>" for value in values)
        rows.append(f"<tr><td>{_dot(splits, split)}</td>{cells}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _html_joints(splits: Splits) -> str:
    skeleton = next(iter(splits.values())).skeleton
    figure = _figure(5.8, bars_height(splits))
    draw_joint_bars(Cell(figure, 0, 0, 5.8, bars_height(splits), _PAGE_THEME), splits)
    drawings = [_svg(figure, "joints", "Shares of people by joint")]
    if can_draw_figures(splits):
        height = 4.4 if len(splits) <= 2 else 7.4
        figure = _figure(4.9, height)
        draw_figures(Cell(figure, 0, 0, 4.9, height, _PAGE_THEME), splits)
        drawings.append(_svg(figure, "figures", "The same on a standing person"))
    head = "".join(
        f"<th>{html.escape(split)}: {what}</th>"
        for split in splits
        for what in ("labelled", "visible", "occluded", "motion")
    )
    rows = []
    shares = {split: joint_shares(measures) for split, measures in splits.items()}
    speeds = {split: 100 * measures.joint_speeds for split, measures in splits.items()}
    for j, joint in enumerate(skeleton.joints):
        cells = ""
        for split, (labeled, visible) in shares.items():
            speed = speeds[split][j]
            numbers = (labeled[j], visible[j], labeled[j] - visible[j])
            cells += "".join(f"<td>{number:.1f}</td>" for number in numbers)
            cells += f"<td>{'–' if np.isnan(speed) else format(speed, '.2g')}</td>"
        rows.append(f"<tr><td>{joint.replace('_', ' ')}</td>{cells}</tr>")
    return (
        f'<figure class="wide"><h2>Joints</h2><div class="joints">{"".join(drawings)}</div>'
        "<details><summary>All numbers: % of people; motion (median) in % of the box's height per frame"
        f'</summary><div class="scroll"><table><thead><tr><th>joint</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details></figure>"
    )


def _html_chart(chart: Chart, splits: Splits, numbers: dict[str, Numbers]) -> str:
    figure = _figure(3.9, 2.5)
    chart.draw(Cell(figure, 0, 0, 3.9, 2.5, _PAGE_THEME), splits)
    head = "".join(f"<th>{html.escape(name)}</th>" for name, _ in next(iter(numbers.values())))
    rows = ""
    for split, values in numbers.items():
        cells = "".join(f"<td>{html.escape(value)}</td>" for _, value in values)
        rows += f"<tr><td>{_dot(splits, split)}</td>{cells}</tr>"
    return (
        f"<figure><h2>{chart.title}</h2>{_svg(figure, chart.name, chart.title)}"
        f'<div class="scroll"><table class="small"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div><figcaption>{html.escape(chart.note)}</figcaption></figure>"
    )


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as a part of a page: its colours are the page's, its ids its own."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for color, own in ((_PAGE_THEME.ink, "ink"), (_PAGE_THEME.muted, "muted"), (_PAGE_THEME.grid, "grid")):
        text = text.replace(color, f"var(--{own})")
    return text


def _image(image: np.ndarray) -> str:
    import cv2

    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 86])[1]
    code = base64.b64encode(data.tobytes()).decode()
    return f'<img alt="A frame with its poses" src="data:image/jpeg;base64,{code}">'
