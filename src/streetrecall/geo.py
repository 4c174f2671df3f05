"""Positions: geodesic distance, projection, discs. Degrees are WGS 84 (EPSG:4326), metres are of a projected CRS."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer

GEOD = Geod(ellps="WGS84")


def project(lat: ArrayLike, lon: ArrayLike, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """East and north in metres of ``crs`` (such as ``EPSG:3006``) for degrees of EPSG:4326."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(np.asarray(lon), np.asarray(lat))
    return np.asarray(x, float), np.asarray(y, float)


def unproject(x: ArrayLike, y: ArrayLike, crs: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latitude and longitude in degrees of EPSG:4326 for metres of ``crs``."""
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(np.asarray(x), np.asarray(y))
    return np.asarray(lat, float), np.asarray(lon, float)


def distance_m(lat1: ArrayLike, lon1: ArrayLike, lat2: ArrayLike, lon2: ArrayLike) -> NDArray[np.float64]:
    """Geodesic distance in metres on the WGS 84 ellipsoid (Karney 2013, as in GeographicLib).

    >>> float(distance_m(59.0, 18.0, 59.0, 18.001).round(2))
    57.47
    """
    a, b, c, d = np.broadcast_arrays(*(np.asarray(v, float) for v in (lon1, lat1, lon2, lat2)))
    return np.asarray(GEOD.inv(a, b, c, d)[2], float)
