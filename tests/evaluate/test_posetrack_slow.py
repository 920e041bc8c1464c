"""Ours against a slow, obvious version of the same protocol on random films."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pose_files import both_sides, random_films
from slow_posetrack import NAMES, Film, slow_scores

from vidpose.evaluate import evaluate


def assert_same_as_slow(films: list[Film], layout: str) -> None:
    if not any(picture.truth for film in films for picture in film):
        return
    sides = [
        both_sides(film, layout, **({"video": v} if layout == "18" else {})) for v, film in enumerate(films)
    ]
    scores = evaluate([gt for gt, _ in sides], [pred for _, pred in sides])
    for metric, expected in slow_scores(films).items():
        ours = [scores[metric][name] for name in NAMES]
        np.testing.assert_allclose(ours, expected, atol=1e-9, err_msg=metric)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    films=st.integers(1, 3),
    frames=st.integers(1, 6),
    people=st.integers(1, 3),
    spread=st.sampled_from([10.0, 60.0, 150.0, 500.0]),
    layout=st.sampled_from(["17", "18"]),
)
@example(seed=0, films=1, frames=30, people=3, spread=10.0, layout="17")
def test_all_metrics_equal_the_slow_version(
    seed: int, films: int, frames: int, people: int, spread: float, layout: str
) -> None:
    made = random_films(seed, films=films, frames=frames, people=people, spread=spread)
    assert_same_as_slow(made, layout)


@pytest.mark.parametrize("layout", ["17", "18"])
def test_a_long_crowded_film_equals_the_slow_version(layout: str) -> None:
    assert_same_as_slow(random_films(7, films=1, frames=60, people=3, spread=30.0), layout)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_pairs_may_be_measured_in_pieces(seed: int) -> None:
    """Large sets are matched piece by piece; the pieces' size must not show."""
    from vidpose.evaluate import matching

    made = random_films(seed, films=2, frames=5)
    sides = [both_sides(film) for film in made]
    whole = evaluate([gt for gt, _ in sides], [pred for _, pred in sides])
    before = matching._PAIRS_AT_ONCE
    matching._PAIRS_AT_ONCE = 4
    try:
        pieces = evaluate([gt for gt, _ in sides], [pred for _, pred in sides])
    finally:
        matching._PAIRS_AT_ONCE = before
    np.testing.assert_equal(pieces, whole)
