"""The city's polygon: read from GeoJSON, made continuous across the 180th meridian, measured on the ellipsoid."""

from __future__ import annotations

import codecs
import json
import math
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from pyproj.exceptions import CRSError
from shapely.geometry import MultiPolygon, Polygon

from streetrecall.crs import check_crs, is_near, is_wgs84, parse_crs, suggest_utm
from streetrecall.errors import UserError
from streetrecall.geo import GEOD

MAX_FILE_BYTES = 64 * 2**20  # an outline with every metre of a city's shore needs a tenth of it
MAX_LATITUDE = 89.0  # meridians, the columns of the grid, meet at the pole

# A ring that touches itself is formally invalid, and rounding makes such rings. A crossing that encloses no more than
# this area (about 0.6 m2 in Sweden) counts as a touch.
_HARMLESS_FLAW_DEG2 = 1e-10
_MAX_COMPARISONS = 2e9  # of sides with one another, in the worst case; about 20 s

_GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection", "Point", "MultiPoint", "LineString", "MultiLineString")
_CONVERT = "convert the file: ogr2ogr -t_srs EPSG:4326 NEW.geojson OLD.geojson"


@dataclass(frozen=True)
class _Part:
    """A polygon and where it is in the file, for error messages."""

    polygon: Polygon
    where: str


def read_polygon(path: str | Path, crs: str, features: str = "all") -> MultiPolygon:
    """The city's polygon from a GeoJSON file (RFC 7946: longitude, latitude; EPSG:4326).

    The file may hold a geometry, a feature or a collection of features. ``features`` says which features of a
    collection count: ``first``, or ``all`` (joined). A GeometryCollection is one geometry, so all its polygons count.

    Longitudes are made continuous: a step of more than 180 degrees between neighbouring corners is one across the 180th
    meridian, and parts on both sides of it are put together. The result's western edge lies in [-180, 180), its
    eastern edge may exceed 180; use `contains` to test positions. Otherwise the coordinates are those of the file: only
    features, and parts that overlap or meet at the meridian, are joined.

    A member ``crs`` (GeoJSON of 2008) is accepted if it names WGS 84. Coordinates are longitude, latitude also if that
    CRS has its latitude first, as the GeoJSON of 2008 was written.

    ``crs`` is the projected CRS in which the city is to be measured: see `streetrecall.crs.check_crs`. The area that
    it is made for tells swapped coordinates from right ones.

    Raises:
        UserError: the file cannot be read, is not GeoJSON or holds no polygon; coordinates are not degrees, or
            longitude and latitude are swapped; rings cross; the polygon reaches a pole; ``crs`` does not fit the city.
    """
    path = Path(path)
    found = _features(_load(path), path)
    parts: list[_Part] = []
    for where, geometry in found[:1] if features == "first" else found:
        parts += _parts(geometry, where)
    parts = _side_by_side(parts)
    for part in parts:
        _check_area_of_use(part, crs)
    city = _join(parts, path, always=features == "all" and len(found) > 1)
    try:
        check_crs(crs, *sample(city))
    except UserError as error:
        raise UserError(f"{error} (measured in the polygon of {path})") from error
    return city


def count_features(path: str | Path) -> int:
    """How many features a GeoJSON file holds, a geometry alone counted as one.

    Raises:
        UserError: the file cannot be read or is not GeoJSON.
    """
    return len(_features(_load(Path(path)), Path(path)))


def sample(polygon: MultiPolygon) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes and latitudes of about a hundred of the polygon's corners, the outermost four among them."""
    corners = shapely.get_coordinates(polygon)
    some = corners[:: math.ceil(len(corners) / 100)]
    outermost = corners[[*corners.argmin(axis=0), *corners.argmax(axis=0)]]
    lon, lat = np.concatenate([some, outermost]).T
    return lon, lat


def round_polygon(polygon: MultiPolygon, decimals: int) -> MultiPolygon:
    """``polygon`` with its coordinates rounded to ``decimals`` and no other change.

    Rings may touch themselves afterwards, which is formally invalid and does not disturb `contains`.
    """
    return shapely.transform(polygon, lambda xy: np.round(xy, decimals))


def contains(polygon: MultiPolygon, lon: ArrayLike, lat: ArrayLike) -> NDArray[np.bool_]:
    """Which positions (degrees) lie strictly inside ``polygon``, whose longitudes may exceed 180 (see `read_polygon`).

    >>> contains(MultiPolygon([shapely.box(179, -17, 181, -16)]), [179.5, -179.5, -178.5], [-16.5] * 3).tolist()
    [True, True, False]
    """
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    return np.asarray(shapely.contains_xy(polygon, np.where(lon < polygon.bounds[0], lon + 360, lon), lat))


def wrap(lon: ArrayLike) -> NDArray[np.float64]:
    """Longitudes brought into [-180, 180] by whole turns; those that lie in it already stay the same, bit for bit.

    >>> wrap([18.07, 180.0, 181.5, -190.0]).tolist()
    [18.07, 180.0, -178.5, 170.0]
    """
    lon = np.asarray(lon, float)
    return lon - 360 * np.round(lon / 360)


def area_and_outline(polygon: MultiPolygon) -> tuple[float, float]:
    """Area in square metres and length of all rings in metres, geodesic. Holes count however their rings are wound.

    >>> ring, hole = shapely.box(18.0, 59.0, 18.1, 59.1).exterior, shapely.box(18.02, 59.02, 18.08, 59.08).exterior
    >>> for turned in (hole.coords, hole.coords[::-1]):
    ...     print([round(v) for v in area_and_outline(MultiPolygon([Polygon(ring, [turned])]))])
    [40916669, 54012]
    [40916669, 54012]
    """
    area, _ = GEOD.geometry_area_perimeter(shapely.orient_polygons(polygon))
    (lon, lat), (next_lon, next_lat) = _side_ends(polygon).transpose(1, 2, 0)
    return abs(float(area)), float(np.sum(GEOD.inv(lon, lat, next_lon, next_lat)[2]))


def sides(polygon: Polygon | MultiPolygon) -> NDArray[np.object_]:
    """Every side of every ring, as a line from one corner to the next."""
    return np.asarray(shapely.linestrings(_side_ends(polygon)))


def _side_ends(polygon: Polygon | MultiPolygon) -> NDArray[np.float64]:
    """Where every side of every ring begins and ends: (n, 2 ends, longitude and latitude)."""
    corners, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(polygon)), return_index=True)
    same = ring[1:] == ring[:-1]
    return np.stack([corners[:-1][same], corners[1:][same]], axis=1)


# --- reading the file ---


def _load(path: Path) -> Any:
    """The JSON document in ``path``."""
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UserError(f"{path}: is a folder; a city needs its polygon as a GeoJSON file")
        if not stat.S_ISREG(kind):  # opening a FIFO would wait for its writer for ever
            raise UserError(f"{path}: is not a regular file; a city needs its polygon as a GeoJSON file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; a city needs its polygon as GeoJSON") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > MAX_FILE_BYTES:
        raise UserError(
            f"{path}: is larger than {MAX_FILE_BYTES // 2**20} MB, too large for the outline of a city; "
            "simplify it: ogr2ogr -simplify 0.00001 NEW.geojson OLD.geojson"
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in data[:4]:
        raise UserError(f"{path}: is not UTF-8 (it looks like UTF-16 or UTF-32); save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if not text.strip():
        raise UserError(f"{path}: is empty; a city needs its polygon as GeoJSON")
    try:
        return json.loads(text, object_pairs_hook=partial(_object, path))
    except RecursionError as error:
        raise UserError(f"{path}: not readable as JSON (nested too deeply)") from error
    except ValueError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


def _object(path: Path, members: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose keys must differ."""
    found = dict(members)
    if len(found) < len(members):
        counts = Counter(key for key, _ in members)
        key = next(key for key, count in counts.items() if count > 1)
        raise UserError(f"{path}: the key {_short(key)} occurs twice in the same object; remove one of them")
    return found


def _features(document: Any, path: Path) -> list[tuple[str, Any]]:
    """The geometry of each feature, and where it is."""
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection":
        _check_named_crs(document, str(path))
        features = document.get("features")
        if not isinstance(features, list) or not features:
            raise UserError(f"{path}: is a FeatureCollection without features; draw the city's polygon")
        return [(f"{path}: feature {number}", _geometry(f, path, number)) for number, f in enumerate(features)]
    if kind == "Feature":
        return [(f"{path}: feature 0", _geometry(document, path, 0))]
    if kind in _GEOMETRIES:
        return [(f"{path}: feature 0", document)]
    raise UserError(f"{path}: is JSON, but not GeoJSON (its type is {_short(kind)})")


def _geometry(feature: Any, path: Path, number: int) -> Any:
    if not isinstance(feature, dict):
        return None
    _check_named_crs(feature, f"{path}: feature {number}")
    if feature.get("type") == "FeatureCollection":
        raise UserError(f"{path}: feature {number} is itself a FeatureCollection; put its features into the outer one")
    return feature.get("geometry")


def _check_named_crs(holder: dict[str, Any], where: str) -> None:
    """Refuse a member ``crs`` that does not name WGS 84."""
    member = holder.get("crs")
    if member is None:
        return
    properties = member.get("properties") if isinstance(member, dict) else None
    named: Any = member if isinstance(member, str) else None
    if isinstance(properties, dict):
        # Two forms that old programs wrote beside the usual one: {"type": "EPSG", "properties": {"code": 4326}} and
        # {"type": "OGC", "properties": {"urn": "urn:ogc:def:crs:OGC:1.3:CRS84"}}.
        named = next((properties[key] for key in ("name", "urn", "code") if properties.get(key)), None)
    if isinstance(named, int) and not isinstance(named, bool):
        named = f"EPSG:{named}" if abs(named) < 1e9 else None
    if not isinstance(named, str) or not named.strip():
        raise UserError(
            f"{where}: its member 'crs' names no CRS; delete it if the coordinates are longitude and latitude in "
            "degrees of WGS 84, as RFC 7946 says"
        )
    try:
        known = parse_crs(named.strip())
    except CRSError as error:
        raise UserError(f"{where}: its member 'crs' names an unknown CRS, {_short(named)}; {_CONVERT}") from error
    if not is_wgs84(known):
        raise UserError(f"{where}: its coordinates are in {_short(named)} ({known.name}), not in EPSG:4326; {_CONVERT}")


def _parts(geometry: Any, where: str) -> Iterator[_Part]:
    """The polygons of a geometry, checked one by one."""
    waiting = [(geometry, where)]
    while waiting:
        geometry, where = waiting.pop()
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if kind not in ("Polygon", "MultiPolygon", "GeometryCollection"):
            what = _short(kind, quote=False) if kind else "without a geometry"
            raise UserError(f"{where} is {what}; a city is a Polygon or a MultiPolygon")
        _check_named_crs(geometry, where)
        content = geometry.get("geometries" if kind == "GeometryCollection" else "coordinates")
        if not isinstance(content, list):
            raise UserError(f"{where}: its coordinates are not those of a {kind} (they are no list)")
        if not content:
            raise UserError(f"{where} is empty; draw the city's polygon")
        if kind == "GeometryCollection":
            waiting += [(g, f"{where}, geometry {i}") for i, g in reversed(list(enumerate(content)))]
        elif kind == "MultiPolygon":
            for number, rings in enumerate(content):
                yield _part(rings, kind, f"{where}, polygon {number}")
        else:
            yield _part(content, kind, where)


def _part(rings: Any, kind: str, where: str) -> _Part:
    if not isinstance(rings, list):
        raise UserError(f"{where}: its coordinates are not those of a {kind} (a polygon is a list of rings)")
    if not rings or rings == [[]]:
        raise UserError(f"{where} is empty; draw the city's polygon")
    drawn = []
    for number, ring in enumerate(rings):
        try:
            drawn.append(_ring(ring))
        except ValueError as error:
            raise UserError(f"{where}: its coordinates are not those of a {kind} (ring {number}: {error})") from error
    for ring in drawn:
        _check_degrees(ring, where)
    outer, *holes = (_unwrap(ring, where) for ring in drawn)
    middle = (outer[:, 0].min() + outer[:, 0].max()) / 2
    turns = [round((middle - (hole[:, 0].min() + hole[:, 0].max()) / 2) / 360) for hole in holes]
    polygon = Polygon(outer, [_turned(hole, turn) for hole, turn in zip(holes, turns, strict=True)])
    _check_simple(polygon, where)
    return _Part(polygon, where)


def _ring(positions: Any) -> NDArray[np.float64]:
    """Longitude and latitude of a ring's positions, (n, 2); heights and further numbers are left out.

    Raises:
        ValueError: it is not a ring.
    """
    if not isinstance(positions, list):
        raise ValueError("it is no list of positions")
    for number, position in enumerate(positions):
        if not isinstance(position, list) or len(position) < 2:
            raise ValueError(f"position {number} is no list of two numbers: {_short(position)}")
        for value in position[:2]:
            if type(value) not in (int, float):
                raise ValueError(f"position {number} holds {_short(value)} where a number belongs")
    if len(positions) < (4 if positions[:1] == positions[-1:] else 3):
        raise ValueError(f"it has {len(positions)} positions; a ring has at least 4, and the last repeats the first")
    try:
        return np.array([position[:2] for position in positions], dtype=float)
    except OverflowError:  # an integer of hundreds of digits
        return np.full((len(positions), 2), np.inf)


def _short(value: Any, quote: bool = True) -> str:
    """``value`` for an error message: on one line, and not long."""
    text = repr(value) if quote or not isinstance(value, str) or not value.isprintable() else value
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- checks and repairs of coordinates ---


def _check_degrees(ring: NDArray[np.float64], where: str) -> None:
    if not np.isfinite(ring).all():
        raise UserError(f"{where}: a coordinate is not a finite number")
    lon, lat = ring.T
    box = _box((lon.min(), lat.min(), lon.max(), lat.max()))
    if np.abs(lat).max() > 90 and np.abs(lon).max() <= 90 and np.abs(lat).max() <= 360:
        raise UserError(f"{where}: longitude and latitude look swapped ({box}); GeoJSON puts the longitude first")
    if np.abs(lat).max() > 90 or np.abs(lon).max() > 360:
        raise UserError(f"{where}: its coordinates are not degrees of EPSG:4326 ({box}); {_CONVERT}")
    if np.abs(lat).max() > MAX_LATITUDE:
        raise UserError(f"{where}: it reaches a pole ({box}), where a grid of meridians and parallels cannot be laid")


def _unwrap(ring: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """``ring``, closed, with whole turns added to its longitudes so that no step is longer than 180 degrees."""
    if not np.array_equal(ring[0], ring[-1]):
        ring = np.concatenate([ring, ring[:1]])
    step = np.diff(ring[:, 0])
    turns = np.cumsum(np.where(np.abs(step) > 180, -np.round(step / 360), 0.0))
    if turns[-1]:
        raise UserError(
            f"{where}: its outline goes round a pole, or round the globe, where a grid of meridians and parallels "
            "cannot be laid"
        )
    ring = ring.copy()
    ring[1:, 0] += 360 * turns
    return ring


def _side_by_side(parts: list[_Part]) -> list[_Part]:
    """``parts`` with whole turns added to their longitudes so that together they span as few degrees as possible.

    The western edge of all comes to lie in [-180, 180). Parts keep their coordinates where that holds already.
    """
    bounds = np.array([part.polygon.bounds for part in parts])
    west, east = bounds[:, 0], bounds[:, 2]
    turns = np.zeros(len(parts))
    if east.max() - west.min() > 180:
        turns = -np.floor((west + 180) / 360)
        west, east = west + 360 * turns, east + 360 * turns
        order = np.argsort(west, kind="stable")
        # The widest gap between one part and the next: the parts after it come first.
        reach = np.maximum.accumulate(east[order])
        gaps = np.append(west[order][1:] - reach[:-1], west.min() + 360 - reach[-1])
        turns[order[: int(gaps.argmax()) + 1]] += 1 if gaps.argmax() < len(parts) - 1 else 0
    west = bounds[:, 0] + 360 * turns
    turns -= np.floor((west.min() + 180) / 360)
    return [
        _Part(shapely.transform(part.polygon, partial(_turned, turns=turn)), part.where)
        for part, turn in zip(parts, turns, strict=True)
    ]


def _turned(ring: NDArray[np.float64], turns: float) -> NDArray[np.float64]:
    return ring + np.array([360.0 * turns, 0.0])


def _join(parts: list[_Part], path: Path, always: bool) -> MultiPolygon:
    """One MultiPolygon of all parts; they are united if they overlap or share a side, or if ``always``."""
    city = MultiPolygon([part.polygon for part in parts])
    if len(parts) == 1 or (not always and city.is_valid):
        return city
    try:
        whole = shapely.union_all([p.polygon if p.polygon.is_valid else shapely.make_valid(p.polygon) for p in parts])
    except shapely.errors.GEOSException as error:
        raise UserError(f"{path}: its polygons cannot be joined ({error}); redraw them as one") from error
    return MultiPolygon([p for p in shapely.get_parts(whole) if isinstance(p, Polygon)])


def _check_simple(polygon: Polygon, where: str) -> None:
    """Refuse a polygon whose rings cross; a ring that only touches itself passes.

    The search for crossings compares sides whose boxes overlap, at worst each with each, so long sides are limited.
    """
    ends = _side_ends(polygon)
    west, south, east, north = polygon.bounds
    turns = float(np.hypot(*(ends[:, 1] - ends[:, 0]).T).sum()) / max(math.hypot(east - west, north - south), 1e-12)
    if len(ends) * turns > _MAX_COMPARISONS:
        raise UserError(
            f"{where}: its outline has {len(ends):,} sides and is {turns:,.0f} times as long as the city is wide, too "
            "long to check; simplify it: ogr2ogr -simplify 0.00001 NEW.geojson OLD.geojson"
        )
    if polygon.is_valid:
        return
    if polygon.area > 0 and not _tangled(polygon):
        flaw = abs(shapely.make_valid(polygon).area - polygon.area)
        if flaw <= _HARMLESS_FLAW_DEG2:
            return
    reason = shapely.is_valid_reason(polygon)
    if reason.startswith(("Hole", "Nested")):
        raise UserError(
            f"{where}: a hole lies outside its outer ring or inside another hole ({reason}); redraw it there"
        )
    raise UserError(f"{where}: its outline crosses itself or has no area ({reason}); redraw it there")


def _tangled(polygon: Polygon) -> bool:
    """Whether the sides cross so often that to repair the polygon would take very long; found out without repairing."""
    lines = sides(polygon)
    tree = shapely.STRtree(lines)
    meetings, allowed = 0, 4 * len(lines) + 1000  # a side meets itself and its two neighbours
    step = max(1, 2_000_000 // len(lines))
    for start in range(0, len(lines), step):
        meetings += tree.query(lines[start : start + step], predicate="intersects").shape[1]
        if meetings > allowed:
            return True
    return False


def _check_area_of_use(part: _Part, crs: str) -> None:
    west, south, east, north = bounds = part.polygon.bounds
    if is_near(crs, bounds):
        return
    if max(abs(west), abs(east)) <= 90 and is_near(crs, (south, west, north, east)):
        raise UserError(
            f"{part.where}: longitude and latitude look swapped ({_box(bounds)}); GeoJSON puts the longitude first"
        )
    raise UserError(
        f"{part.where}: lies outside the area that city.crs {crs} is made for ({_box(bounds)}); GeoJSON puts the "
        f"longitude first; if the city is there, {suggest_utm((west + east) / 2, (south + north) / 2)}"
    )


def _box(bounds: tuple[float, float, float, float]) -> str:
    west, south, east, north = bounds
    return f"longitude {west:.6g} to {east:.6g}, latitude {south:.6g} to {north:.6g}"
