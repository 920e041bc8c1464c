"""Where the joints of a standing person are in a box: what a new person on the page begins with."""

from __future__ import annotations

from vidpose.skeletons import Skeleton, symmetric_places

_MIDDLE = {
    "head_top": 0.0, "nose": 0.09, "face": 0.09, "head_bottom": 0.17, "neck": 0.19, "chest": 0.28,
    "belly": 0.42,
}  # fmt: skip
_SIDES = {  # distance from the middle, and height
    "eye": (0.05, 0.07), "ear": (0.1, 0.08), "shoulder": (0.24, 0.2), "elbow": (0.34, 0.37),
    "wrist": (0.42, 0.52), "hip": (0.14, 0.52), "knee": (0.15, 0.75), "ankle": (0.16, 0.97),
}  # fmt: skip


def standing_in_box(joints: Skeleton) -> list[tuple[float, float] | None]:
    """For every joint (x, y) in shares of a box's width and height, the left ones on its right.

    ``None``: a joint that nobody has told of.
    """
    places = symmetric_places(joints, _MIDDLE, _SIDES)
    return [(0.5 + at[0], at[1]) if at is not None else None for at in places]
