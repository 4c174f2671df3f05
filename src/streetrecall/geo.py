"""Positions: geodesic distance, projection, discs. Degrees are WGS 84 (EPSG:4326), metres are of a projected CRS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Geod, Transformer

from streetrecall.errors import UserError

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon, Polygon

GEOD = Geod(ellps="WGS84")

DEFAULT_CITY = "stockholm-district"  # which one of data/cities a provider without a city of its own takes

# A ring that touches itself is formally invalid, and rounding makes such rings; a crossing of this size (some 0.6 m2
# in Sweden) or less is taken for one.
_HARMLESS_FLAW_DEG2 = 1e-10


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


def city_polygon(cities: Path, name: str) -> Path:
    """The file of the polygon called ``name`` in the folder ``cities``.

    Raises:
        UserError: there is no such file; the message lists those that there are.
    """
    path = cities / f"{name}.geojson"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in cities.glob("*.geojson"))) or "none"
        raise UserError(
            f"params.yaml: city.name: '{name}' has no polygon at {path}; there are: {known}. "
            "Save the city's outline there as GeoJSON (EPSG:4326), and run `git add` for it: experiments in copies of "
            "this folder (dvc exp run --temp, queue) see only what git tracks"
        )
    return path


def read_polygon(path: str | Path, crs: str, features: str = "all") -> MultiPolygon:
    """The polygon of a GeoJSON file (RFC 7946: longitude, latitude; EPSG:4326), as it stands in the file.

    The file may be a geometry, a feature or a collection. ``features`` says which of a collection's features count:
    ``first`` or ``all`` (joined). ``crs`` is the projected CRS that the city is to be measured in; its area of use
    tells swapped coordinates from right ones.

    Raises:
        UserError: no such file, not GeoJSON, no polygon, an empty one, coordinates that are not degrees, longitude and
            latitude swapped, a place that ``crs`` does not cover, rings that cross.
    """
    import shapely
    from shapely.geometry import MultiPolygon, shape

    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; a city needs its polygon as GeoJSON") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error

    named = _named_crs(document)
    if named and not any(code in named.upper().replace("::", ":") for code in ("CRS84", "EPSG:4326")):
        raise UserError(f"{path}: its coordinates are in {named}; save it in EPSG:4326 (ogr2ogr -t_srs EPSG:4326 ...)")

    parts: list[Polygon | MultiPolygon] = []
    geometries = _geometries(document, path)
    for number, geometry in enumerate(geometries[:1] if features == "first" else geometries):
        where = f"{path}: feature {number}"
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if kind not in ("Polygon", "MultiPolygon"):
            raise UserError(f"{where} is {kind or 'without a geometry'}; a city is a Polygon or a MultiPolygon")
        try:
            with np.errstate(invalid="ignore"):  # what is not a number is told below
                drawn = cast("Polygon | MultiPolygon", shapely.force_2d(shape(geometry)))
        except (TypeError, ValueError, IndexError, KeyError, shapely.errors.ShapelyError) as error:
            raise UserError(f"{where}: its coordinates are not those of a {kind} ({error})") from error
        if drawn.is_empty:
            raise UserError(f"{where} is empty; draw the city's polygon")
        _check_degrees(drawn, crs, where)
        _check_simple(drawn, where)
        parts.append(drawn)
    whole = shapely.union_all(parts) if len(parts) > 1 else parts[0]
    return whole if isinstance(whole, MultiPolygon) else MultiPolygon([cast("Polygon", whole)])


def count_features(path: str | Path) -> int:
    """How many geometries a GeoJSON file holds that `read_polygon` could read."""
    return len(_geometries(json.loads(Path(path).read_text(encoding="utf-8")), Path(path)))


def round_polygon(polygon: MultiPolygon, decimals: int) -> MultiPolygon:
    """``polygon`` with its coordinates rounded to ``decimals``, otherwise as it is: never repaired.

    Rings may come out touching themselves, which is formally invalid and does no harm to `shapely.contains_xy`.
    """
    import shapely

    return shapely.transform(polygon, lambda xy: np.round(xy, decimals))


def _named_crs(document: Any) -> str:
    crs = document.get("crs") if isinstance(document, dict) else None
    name = crs.get("properties", {}).get("name", "") if isinstance(crs, dict) else ""
    return str(name)


def _geometries(document: Any, path: Path) -> list[Any]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or not features:
            raise UserError(f"{path}: a FeatureCollection without features; draw the city's polygon")
        return [f.get("geometry") if isinstance(f, dict) else None for f in features]
    if kind == "Feature":
        return [document.get("geometry")]
    if isinstance(document, dict) and "coordinates" in document:
        return [document]
    raise UserError(f"{path}: JSON, but not GeoJSON (its type is {kind!r})")


def _check_degrees(polygon: Polygon | MultiPolygon, crs: str, where: str) -> None:
    import shapely
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if not np.isfinite(shapely.get_coordinates(polygon)).all():
        raise UserError(f"{where}: a coordinate is not a finite number")
    west, south, east, north = polygon.bounds
    box = f"longitude {west:.6g} to {east:.6g}, latitude {south:.6g} to {north:.6g}"
    try:
        area = CRS.from_user_input(crs).area_of_use
    except CRSError as error:
        raise UserError(f"params.yaml: city.crs: '{crs}' is not a known CRS ({error})") from error

    def within(w: float, s: float, e: float, n: float) -> bool:
        if not (abs(w) <= 180 and abs(e) <= 180 and abs(s) <= 90 and abs(n) <= 90):
            return False
        if area is None:
            return True
        lon_fits = (
            area.west <= w and e <= area.east if area.west <= area.east else w >= area.west or e <= area.east
        )  # an area of use may cross the antimeridian
        return bool(lon_fits and area.south <= s and n <= area.north)

    if within(west, south, east, north):
        return
    if within(south, west, north, east):
        raise UserError(f"{where}: longitude and latitude look swapped ({box}); GeoJSON puts the longitude first")
    if not (abs(west) <= 180 and abs(east) <= 180 and abs(south) <= 90 and abs(north) <= 90):
        raise UserError(f"{where}: its coordinates are not degrees of EPSG:4326 ({box}); convert the file")
    raise UserError(
        f"{where}: lies outside the area that city.crs {crs} is made for ({box}); set city.crs to a projected CRS of "
        "the city, such as its UTM zone"
    )


def _check_simple(polygon: Polygon | MultiPolygon, where: str) -> None:
    import shapely

    if polygon.is_valid:
        return
    flaw = abs(shapely.make_valid(polygon).area - polygon.area)
    if polygon.area == 0 or flaw > _HARMLESS_FLAW_DEG2:
        raise UserError(
            f"{where}: its outline crosses itself or has no area ({shapely.is_valid_reason(polygon)}); redraw it there"
        )
