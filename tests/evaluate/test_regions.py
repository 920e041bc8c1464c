"""Points in polygons, against OpenCV's test and by hand."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpose.evaluate.regions import points_inside

CORNER = st.tuples(st.integers(0, 6), st.integers(0, 6))
GRID = np.array([(x, y) for x in range(-1, 8) for y in range(-1, 8)], dtype=float)


@settings(max_examples=80, deadline=None)
@given(st.lists(CORNER, min_size=3, max_size=8, unique=True))
def test_every_point_of_a_grid_is_where_opencv_puts_it(corners: list[tuple[int, int]]) -> None:
    contour = np.array(corners, dtype=np.float32)
    expected = [cv2.pointPolygonTest(contour, tuple(point), False) > 0 for point in GRID]
    assert points_inside(GRID, np.array(corners, dtype=float)).tolist() == expected


def test_a_closed_polygon_is_the_same_as_an_open_one() -> None:
    corners = [(0.0, 0.0), (6.0, 0.0), (3.0, 6.0)]
    closed = points_inside(GRID, np.array([*corners, corners[0]]))
    np.testing.assert_array_equal(closed, points_inside(GRID, np.array(corners)))


def test_the_side_of_an_edge_is_exact_where_floats_cannot_tell() -> None:
    """On a slanted edge of tenths, half an ulp decides; the midpoint of an exact edge is on it."""
    triangle = np.array([(0.1, 0.1), (0.7, 0.7), (0.1, 0.7)])
    on_edge = (0.3, 0.3)
    inside, outside = (np.nextafter(0.3, 0), 0.3), (np.nextafter(0.3, 1), 0.3)
    found = points_inside(np.array([on_edge, inside, outside]), triangle)
    assert found.tolist() == [False, True, False]


def test_fewer_than_three_corners_and_no_points() -> None:
    for corners in ([], [(0, 0)], [(0, 0), (5, 5)]):
        assert not points_inside(GRID, np.array(corners, dtype=float).reshape(-1, 2)).any()
    assert points_inside(np.zeros((0, 2)), np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])).shape == (0,)
