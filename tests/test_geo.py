"""Discs, projections and the start point."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from streetrecall.errors import UserError
from streetrecall.geo import check_start, in_disc, project, unproject


@given(
    st.floats(-130, 130, allow_nan=False),
    st.floats(-130, 130, allow_nan=False),
    st.sampled_from([35.0, 60.0, 100.0]),
    st.sampled_from([1, 2, 8, 16, 32]),
)
def test_disc_is_the_polygon_that_shapely_draws(dx: float, dy: float, radius: float, segments: int) -> None:
    drawn = shapely.Point(0, 0).buffer(radius, quad_segs=segments)
    if drawn.exterior.distance(shapely.Point(dx, dy)) > 1e-6:
        assert bool(in_disc(dx, dy, radius, segments)) == drawn.contains(shapely.Point(dx, dy))


def test_disc_without_segments_is_a_circle() -> None:
    angle = np.linspace(0, 2 * math.pi, 1000)
    assert in_disc(34.999 * np.cos(angle), 34.999 * np.sin(angle), 35.0, 0).all()
    assert not in_disc(35.001 * np.cos(angle), 35.001 * np.sin(angle), 35.0, 0).any()


def test_projection_and_back() -> None:
    x, y = project([59.3246482821873], [18.06728593783959], "EPSG:3006")
    assert (x[0], y[0]) == pytest.approx((674521.0014002069, 6580221.922038897), abs=1e-6)
    lat, lon = unproject(x, y, "EPSG:3006")
    assert (lat[0], lon[0]) == pytest.approx((59.3246482821873, 18.06728593783959), abs=1e-9)


STOCKHOLM = ([59.3, 59.3, 59.4, 59.4], [18.0, 18.1, 18.0, 18.1])  # 11 km tall
FIJI = ([-16.9, -16.9, -16.7, -16.7], [179.9, -179.9, 179.9, -179.9])


@pytest.mark.parametrize(
    ("start", "city"),
    [
        ([59.35, 18.05], STOCKHOLM),
        ([59.3, 18.0], STOCKHOLM),
        ([59.2, 18.0], STOCKHOLM),  # a suburb
        ([-16.8, 179.95], FIJI),
        ([-16.8, -179.95], FIJI),
        ([59.35, 18.05], ([59.33], [18.05])),  # a city of one position
    ],
)
def test_a_start_in_or_near_the_city_passes(start: list[float], city: tuple[list[float], list[float]]) -> None:
    check_start(start, *city)


@pytest.mark.parametrize(
    ("start", "city", "kilometres"),
    [
        ([59.33, 18.07], ([40.7, 40.8], [-74.0, -73.9]), "6,3"),
        ([58.9, 18.05], STOCKHOLM, "45"),
        ([18.05, 59.35], STOCKHOLM, "5,"),
        ([59.5, 18.05], ([59.33], [18.05]), "19"),
        ([-16.8, 0.0], FIJI, "16,"),
    ],
)
def test_the_start_of_another_city_is_refused(
    start: list[float], city: tuple[list[float], list[float]], kilometres: str
) -> None:
    with pytest.raises(UserError, match=rf"order\.start: .* is {kilometres}\d* ?\S* ?km from the city.*such as \["):
        check_start(start, *city)
