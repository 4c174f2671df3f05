"""Whether ``city.crs`` can measure a city: its kind, its unit, its axes, and how much it stretches distances there."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS
from pyproj.aoi import AreaOfInterest
from pyproj.database import query_utm_crs_info
from pyproj.exceptions import CRSError

from streetrecall.errors import UserError
from streetrecall.geo import GEOD, project

# A projected distance may differ from the geodesic one by this share. 1 % of 25 m, the radius of recall, is 25 cm.
MAX_SCALE_ERROR = 0.01

_BORDER_DEG = 3.0
_STEP_M = 50.0  # length of the steps that measure scale and axes
_COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")


@lru_cache(maxsize=256)
def parse_crs(name: str) -> CRS:
    """The CRS of a name: a code (``EPSG:4326``), an OGC URN or URL, or any other form that PROJ reads.

    >>> for name in ("urn:ogc:def:crs:EPSG:6.9:4326", "EPSG::4326", "CRS84"):
    ...     print(*parse_crs(name).to_authority())
    EPSG 4326
    EPSG 4326
    OGC CRS84

    Raises:
        CRSError: PROJ does not know it.
    """
    # Three old spellings that PROJ does not read.
    if name.upper() in ("CRS84", "CRS:84"):
        name = "OGC:CRS84"
    if name.upper().startswith("EPSG::"):
        name = f"EPSG:{name[6:]}"
    if name.startswith("http://www.opengis.net/gml/srs/epsg.xml#"):
        name = f"EPSG:{name.rpartition('#')[2]}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the form +init=epsg:4326
            return CRS.from_user_input(name)
    except UnicodeError as error:
        raise CRSError(f"not a text that PROJ can read: {name!r}") from error


def is_wgs84(crs: CRS) -> bool:
    """Whether coordinates of ``crs`` are degrees of WGS 84, in either order of the axes and with or without heights.

    >>> is_wgs84(CRS("EPSG:4326")), is_wgs84(CRS("OGC:CRS84h")), is_wgs84(CRS("EPSG:4258"))
    (True, True, False)
    """
    return bool(crs.to_2d().equals(CRS.from_epsg(4326), ignore_axis_order=True))


def check_crs(crs: str, lon: ArrayLike, lat: ArrayLike) -> None:
    """Check that ``crs`` gives metres east and north at all the positions (degrees of EPSG:4326).

    Scale and axes are measured at the positions: whether a CRS is fit depends on the place, not on its name.

    Raises:
        UserError: ``crs`` is unknown, is not projected, has another unit than the metre, has axes that do not point
            east and north, or changes distances by more than `MAX_SCALE_ERROR`. The message suggests a UTM zone.
    """
    lon, lat = np.atleast_1d(np.asarray(lon, float)), np.atleast_1d(np.asarray(lat, float))
    flaw = _flaw(crs, lon, lat)
    if flaw:
        raise UserError(f"{flaw}; {suggest_utm(float(lon.mean()), float(lat.mean()))}")


def _flaw(crs: str, lon: NDArray[np.float64], lat: NDArray[np.float64]) -> str:
    """Why ``crs`` cannot measure a city at these positions, or the empty string."""
    known = _known(crs)
    prefix = f"params.yaml: city.crs: {crs} ({known.name})"
    if known.is_compound and known.is_projected:
        authority = known.sub_crs_list[0].to_authority()
        part = f"its horizontal part {':'.join(authority)}" if authority else "its horizontal part"
        raise UserError(f"{prefix} also has heights; set city.crs to {part}")  # a better advice than a UTM zone
    if not known.is_projected:
        kind = known.type_name[0].lower() + known.type_name[1:]
        return f"{prefix} is a {kind}; distances need a projected CRS in metres whose axes point east and north"
    units = {axis.unit_name for axis in known.axis_info if axis.unit_conversion_factor != 1.0}
    if units:
        return f"{prefix} measures in another unit than the metre ({', '.join(sorted(units))})"

    steps = axes_and_scale(crs, lon, lat)
    if not np.isfinite(steps).all():
        return f"{prefix} cannot represent every position of the city"
    for number, axis in enumerate(("x", "y")):
        bearing = np.degrees(np.arctan2(steps[0, number, 0], steps[0, number, 1]))  # in which this coordinate grows
        wanted = (90, 0)[number]
        if abs((bearing - wanted + 180) % 360 - 180) > 45:
            return (
                f"{prefix} is turned or has its axes swapped: in the city its {axis} grows towards the "
                f"{_direction(bearing)}, and it must grow towards the {_direction(wanted)}"
            )
    worst = _scale(steps)
    if abs(worst - 1) > MAX_SCALE_ERROR:
        return (
            f"{prefix} is not true to scale in the city: 100 m measure {100 * worst:.4g} m there, and at most "
            f"{MAX_SCALE_ERROR:.0%} of difference is allowed"
        )
    return ""


def scale_error(crs: str, lon: ArrayLike, lat: ArrayLike) -> float:
    """The largest share by which a distance measured in ``crs`` differs from the geodesic one at these positions.

    >>> round(scale_error("EPSG:3006", 15.0, 59.0), 6)
    0.0004
    """
    return abs(_scale(axes_and_scale(crs, lon, lat)) - 1)


def _scale(steps: NDArray[np.float64]) -> float:
    """The scale factor that is farthest from 1, over all positions and directions of `axes_and_scale`."""
    scale = np.linalg.svd(steps, compute_uv=False).ravel()
    return float(scale[np.abs(scale - 1).argmax()])


def axes_and_scale(crs: str, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
    """What a step of one metre east and one metre north does to x and y of ``crs``, (n, 2, 2).

    Entry ``[:, i, j]`` is the change of coordinate i (x, y) for a step in direction j (east, north).

    >>> axes_and_scale("EPSG:3006", 15.0, 59.0).round(4).tolist()
    [[[0.9996, 0.0], [0.0, 0.9996]]]
    """
    lon, lat = np.atleast_1d(np.asarray(lon, float)), np.atleast_1d(np.asarray(lat, float))
    here = np.stack(project(lat, lon, crs), axis=1)
    ends = []
    for bearing in (90.0, 0.0):
        east, north, _ = GEOD.fwd(lon, lat, np.full_like(lon, bearing), np.full_like(lon, _STEP_M))
        ends.append(np.stack(project(north, east, crs), axis=1))
    with np.errstate(invalid="ignore"):  # infinite where the CRS cannot represent a position
        return np.stack([(end - here) / _STEP_M for end in ends], axis=2)


def is_near(crs: str, bounds: tuple[float, float, float, float]) -> bool:
    """Whether a box (west, south, east, north in degrees; east may exceed 180) meets the area that ``crs`` is made for.

    Half a UTM zone around that area counts as well: cities lie across borders and edges of zones, and `check_crs`
    measures whether the CRS is still true to scale there.

    Raises:
        UserError: ``crs`` is unknown.
    """
    area = _known(crs).area_of_use
    if area is None:
        return True
    west, south, east, north = bounds
    area_east = area.east if area.west <= area.east else area.east + 360  # it may cross the 180th meridian
    west, south, east, north = west - _BORDER_DEG, south - _BORDER_DEG, east + _BORDER_DEG, north + _BORDER_DEG
    meets = any(west <= area_east + turn and area.west + turn <= east for turn in (-360, 0, 360))
    return bool(meets and south <= area.north and area.south <= north)


def suggest_utm(lon: float, lat: float) -> str:
    """What to write into ``city.crs`` for a city at this position: its UTM zone.

    >>> suggest_utm(-74.0, 40.7), suggest_utm(182.0, -17.0)
    ('set city.crs to EPSG:32618 (WGS 84 / UTM zone 18N)', 'set city.crs to EPSG:32701 (WGS 84 / UTM zone 1S)')
    """
    lon = (lon + 180) % 360 - 180
    zones = query_utm_crs_info(datum_name="WGS 84", area_of_interest=AreaOfInterest(lon, lat, lon, lat))
    if not zones:
        return "set city.crs to a projected CRS of the city (no UTM zone reaches so far north or south)"
    best = min(zones, key=lambda zone: abs(lon - (6 * int(zone.code[-2:]) - 183)))  # its central meridian
    return f"set city.crs to EPSG:{best.code} ({best.name})"


def _direction(bearing: float) -> str:
    return _COMPASS[round(bearing / 45) % 8]


def _known(crs: str) -> CRS:
    try:
        return parse_crs(crs)
    except CRSError as error:
        raise UserError(f"params.yaml: city.crs: '{crs}' is not a known CRS ({error})") from error
