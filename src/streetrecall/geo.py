"""Positions: geodesic distance, projection, discs. Degrees are WGS 84 (EPSG:4326), metres are of a projected CRS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer

from streetrecall.errors import UserError

GEOD = Geod(ellps="WGS84")

DEFAULT_CITY = "stockholm-district"  # which one of data/cities a provider without a city of its own takes

# How much farther than the city is wide its order.start may lie from it.
_START_MARGIN_M = 10_000.0


@lru_cache(maxsize=16)
def _transformer(source: str, target: str) -> Transformer:
    """The transformer between two CRS, made once: it takes 10 ms. Threads may share it."""
    return Transformer.from_crs(source, target, always_xy=True)


def project(lat: ArrayLike, lon: ArrayLike, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """East and north in metres of ``crs`` (such as ``EPSG:3006``) for degrees of EPSG:4326."""
    x, y = _transformer("EPSG:4326", crs).transform(np.asarray(lon), np.asarray(lat))
    return np.asarray(x, float), np.asarray(y, float)


def unproject(x: ArrayLike, y: ArrayLike, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude in degrees of EPSG:4326 for metres of ``crs``."""
    lon, lat = _transformer(crs, "EPSG:4326").transform(np.asarray(x), np.asarray(y))
    return np.asarray(lat, float), np.asarray(lon, float)


def distance_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> NDArray[np.float64]:
    """Geodesic distance in metres on the WGS 84 ellipsoid (Karney 2013, as in GeographicLib).

    >>> float(distance_m(59.0, 18.0, 59.0, 18.001).round(2))
    57.48
    """
    a, b, c, d = np.broadcast_arrays(*(np.asarray(v, float) for v in (lon1, lat1, lon2, lat2)))
    return np.asarray(GEOD.inv(a, b, c, d)[2], float)


def in_disc(dx: ArrayLike, dy: ArrayLike, radius_m: float, quadrant_segments: int) -> NDArray[np.bool_]:
    """Which offsets (metres, projected) lie inside the "disc" that GEOS draws around the origin.

    GEOS draws a buffer as a regular polygon with ``4 * quadrant_segments`` corners on the circle, the first due east;
    shapely's default is 16. With ``d`` the distance and ``theta`` the angle to the middle of the polygon's nearest
    side, a point is inside if ``d * cos(theta) < radius * cos(pi / corners)``. ``quadrant_segments=0`` is the circle.

    >>> in_disc([99.9, 0.0, 99.9], [0.0, 99.9, 4.9], 100.0, 16).tolist(), in_disc(99.9, 4.0, 100.0, 0).tolist()
    ([True, True, False], True)
    """
    dx, dy = np.asarray(dx, float), np.asarray(dy, float)
    distance = np.hypot(dx, dy)
    if quadrant_segments == 0:
        return np.asarray(distance < radius_m)
    half_side = np.pi / (4 * quadrant_segments)
    theta = np.arctan2(dy, dx) % (2 * half_side) - half_side
    return np.asarray(distance * np.cos(theta) < radius_m * np.cos(half_side))


def check_start(start: Sequence[float], lat: ArrayLike, lon: ArrayLike) -> None:
    """Check that ``start`` (latitude, longitude) belongs to the city that the positions are of; degrees of EPSG:4326.

    The start of another city is far away: farther from every position than the positions are from one another, and
    10 km more. The pipeline would run with it, and sort the places by a distance that says nothing.

    >>> check_start([59.33, 18.07], [59.3, 59.4], [18.0, 18.1])

    Raises:
        UserError: ``start`` is too far away.
    """
    lat, lon = np.atleast_1d(np.asarray(lat, float)), np.atleast_1d(np.asarray(lon, float))
    away = distance_m(lat, lon, *start)
    nearest = int(away.argmin())
    extent = float(distance_m(lat, lon, lat[nearest], lon[nearest]).max())
    if away[nearest] > extent + _START_MARGIN_M:
        raise UserError(
            f"params.yaml: order.start: [{start[0]:g}, {start[1]:g}] is {away[nearest] / 1000:,.0f} km from the city, "
            f"which is about {extent / 1000:,.1f} km wide; set it to the latitude and longitude of a point in the city "
            f"where collecting shall begin, such as [{lat[nearest]:.5f}, {lon[nearest]:.5f}]"
        )


def city_polygon(cities: Path, name: str) -> Path:
    """The file of the polygon called ``name`` in the folder ``cities``.

    Raises:
        UserError: there is no such file, and the message lists those that there are; or it is a link to nothing.
    """
    path = cities / f"{name}.geojson"
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"params.yaml: city.name: {path} is a link to {path.readlink()}, which leads nowhere; mend the link"
        )
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in cities.glob("*.geojson") if p.exists())) or "none"
        raise UserError(
            f"params.yaml: city.name: '{name}' has no polygon at {path}; there are: {known}. "
            "Save the city's outline there as GeoJSON (EPSG:4326), and run `git add` for it: experiments in copies of "
            "this folder (dvc exp run --temp, queue) see only what git tracks"
        )
    return path
