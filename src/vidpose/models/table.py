"""The table of methods: parameters and multiply-adds of our models, beside the figures that papers print."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

from vidpose.models.counting import DECIMAL, MULTIPLY_ADDS, TWICE, count, meta_model
from vidpose.models.factory import MODELS, list_models, model_entry, model_switches
from vidpose.models.video_model import PoseModel

WIDTH = 110
"""Characters of a line."""

Paper = dict[str, Any]
_NO_PAPER: Paper = {
    "params": None,
    "gflops": None,
    "gflops_convention": None,
    "posetrack17": None,
    "posetrack18": None,
    "posetrack21": None,
}


def _paper(**figures: Any) -> Paper:
    return {**_NO_PAPER, **figures}


_TDMI_COST = {"params": 5.3, "gflops": 198.0, "gflops_convention": MULTIPLY_ADDS}

PAPER: dict[tuple[str, str], Paper] = {
    ("tdmi", "hrnet_w48"): _paper(**_TDMI_COST, posetrack17=85.7, posetrack18=83.5, posetrack21=83.5),
    ("tdmi_st", "hrnet_w48"): _paper(**_TDMI_COST, posetrack17=85.9, posetrack18=83.6, posetrack21=83.8),
    ("jmpose", "hrnet_w48"): _paper(posetrack17=86.4, posetrack18=84.1, posetrack21=84.0),
    ("stdpose", "vit_b"): _paper(posetrack17=87.4, posetrack18=84.5, posetrack21=84.3),
    ("vremd", "vit_l"): _paper(posetrack17=87.6, posetrack18=84.6, posetrack21=84.5),
    ("sdtc", "vit_b"): _paper(
        params=10.4,
        gflops=177.0,
        gflops_convention=TWICE,
        posetrack17=87.5,
        posetrack18=84.3,
        posetrack21=84.9,
    ),
    ("posewarper", "hrnet_w48"): _paper(
        params=7.5,
        gflops=210.5,
        gflops_convention=DECIMAL,
        posetrack17=81.2,
        posetrack18=79.7,
        posetrack21=79.5,
    ),
    ("dcpose", "hrnet_w48"): _paper(posetrack17=82.8, posetrack18=80.9, posetrack21=80.5),
    ("famipose", "hrnet_w48"): _paper(posetrack17=84.8, posetrack18=82.2, posetrack21=81.2),
    ("simple_baseline", "resnet50"): _paper(posetrack17=72.4),
    ("simple_baseline", "resnet152"): _paper(posetrack17=76.7),
    ("hrnet", "hrnet_w48"): _paper(
        params=63.6, gflops=32.9, gflops_convention=MULTIPLY_ADDS, posetrack17=77.3
    ),
}
"""Published figures by (model, backbone): parameters in millions (of video models those trained, of
single-frame models all), mAP on the validation sets. Baselines' scores are those the papers' tables quote."""

_VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "simple_baseline": ({}, {"backbone": "resnet50"}),
    "hrnet": ({}, {"backbone": "hrnet_w32"}, {"backbone": "hrnet_w16_small"}),
    "vitpose": ({}, {"backbone": "vit_s"}, {"backbone": "vit_l"}, {"backbone": "vit_h"}),
    # The printed 210.5 is three frames of which two are warped, in units of 1e9: of all that was tried, the
    # only count within 5 %. The default is what its public code runs in a test.
    "posewarper": ({"num_frames": 3, "warp_key": False}, {}),
}
"""Rows of a model: what they change of its defaults. The first stands beside the paper's figures."""


def model_table(name: str | None = None) -> list[dict[str, Any]]:
    """One row per model and published backbone, ours beside the paper's figures.

    Args:
        name: one model only.

    Returns:
        Rows with ``name``, ``kind``, ``backbone``, ``input_size`` [h, w], ``frames``, what ``counting.count``
        gives, and ``paper``: ``params`` (millions), ``gflops``, ``gflops_convention``, mAP on
        ``posetrack17``, ``posetrack18``, ``posetrack21``; ``None`` where no figure was published.

    Raises:
        InputError: an unknown name; the message lists the known ones.
    """
    rows = []
    for model_name in [name] if name is not None else list_models():
        default = model_entry(model_name).backbone
        variants = _VARIANTS.get(model_name, ({},))
        backbones = [variant.get("backbone", default) for variant in variants]
        for i, variant in enumerate(variants):
            printed = PAPER.get((model_name, backbones[i])) if backbones[i] not in backbones[:i] else None
            rows.append(_row(model_name, variant, dict(printed or _NO_PAPER)))
    return rows


def _row(name: str, arguments: dict[str, Any], paper: Paper) -> dict[str, Any]:
    model = meta_model(name, **arguments)
    backbone = model.config["backbone"]
    return {
        "name": name,
        "kind": model.kind,
        "backbone": backbone,
        "input_size": list(model.input_size),
        "frames": model.num_frames,
        **count(model, decimal=paper["gflops_convention"] == DECIMAL),
        "paper": paper,
    }


_GROUPS = (
    "",
    "",
    "",
    "",
    "ours",
    "ours",
    "ours",
    "ours",
    "paper",
    "paper",
    "paper",
    "paper",
    "paper",
    "paper",
)
_TITLES = (
    "model", "backbone", "input", "T", "train M", "total M", "GMACs", "2xGMACs",
    "params M", "GFLOPs", "counts", "PT17", "PT18", "PT21",
)  # fmt: skip
_LEFT = (0, 1, 2)
_COUNTS = {None: "-", MULTIPLY_ADDS: "MACs", DECIMAL: "MACs/e9", TWICE: "2xMACs"}
_LEGEND = """\
train M, total M: millions of parameters, trained (backbone frozen) and all. GMACs: multiply-adds of one clip
of T frames, backbone included, / 2^30, or / 1e9 where the printed figure counts so. paper: as printed; of
single-frame models, params are all. counts: what the printed GFLOPs count. PT17, PT18, PT21: mAP on
PoseTrack's validation sets."""


def format_models(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of :func:`model_table` as text of at most 110 columns; of a single model, its switches too."""
    cells = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in (_TITLES, *cells)) for i in range(len(_TITLES))]
    lines = [_group_line(widths), _line(_TITLES, widths), _line(["-" * width for width in widths], widths)]
    lines += [_line(line, widths) for line in cells]
    names = list(dict.fromkeys(row["name"] for row in rows))
    if len(names) == 1:
        lines += ["", *_details(names[0])]
    lines += ["", *textwrap.wrap(_LEGEND, WIDTH)]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    paper = row["paper"]
    convention = paper["gflops_convention"]
    return (
        row["name"],
        row["backbone"],
        "{}x{}".format(*row["input_size"]),
        str(row["frames"]),
        _number(row["params_trainable"] / 1e6, 2),
        _number(row["params_total"] / 1e6, 1),
        _number(row["gmacs"], 1),
        _number(row["gflops_2x"], 1),
        _number(paper["params"], 1),
        _number(paper["gflops"], 1),
        _COUNTS[convention],
        _number(paper["posetrack17"], 1),
        _number(paper["posetrack18"], 1),
        _number(paper["posetrack21"], 1),
    )


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text if value == 0 or float(text) else f"{value:.1g}"  # 0.0007 million is not 0


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    out = [
        cell.ljust(width) if i in _LEFT else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return " ".join(out).rstrip()


def _group_line(widths: Sequence[int]) -> str:
    """``ours`` and ``paper`` over the columns that they head."""
    out = ""
    for group in ("ours", "paper"):
        first = _GROUPS.index(group)
        last = len(_GROUPS) - 1 - _GROUPS[::-1].index(group)
        start = sum(widths[:first]) + first
        end = sum(widths[: last + 1]) + last
        out = out.ljust(start) + f" {group} ".center(end - start, "-")
    return out


def _details(name: str) -> list[str]:
    entry = MODELS[name]
    cls = entry.load()
    about = (inspect.getdoc(cls) or name).splitlines()[0]
    defaults = _defaults(cls)
    switches = [f"{s}={defaults[s]!r}" if s in defaults else s for s in model_switches(name)]
    fixed = [
        f"{key}={value!r}" for key, value in entry.switches.items() if not (name == "tdmi" and not value)
    ]
    out = [
        f"{name}: {about}",
        f"backbones: {' or '.join(entry.families)} (default {entry.backbone})",
        f"switches: {', '.join(switches)}" + (f"; fixed: {', '.join(fixed)}" if fixed else ""),
    ]
    return [line for text in out for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]


def _defaults(cls: type[PoseModel]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for base in cls.__mro__:
        if not issubclass(base, PoseModel):
            break
        for parameter in inspect.signature(base.__init__).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
                out.setdefault(parameter.name, parameter.default)
    return out
