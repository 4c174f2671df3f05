"""Polygons and reference systems as people have them: a row of a table each. A city comes out right, or a clear error.

To add a case, add a line to `TAKEN`, `REFUSED`, `CITY_CRS` or `FILES`.
"""

from __future__ import annotations

import json
import math
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall import tables
from streetrecall.errors import UserError
from streetrecall.params.schema import Params
from streetrecall.polygons import contains, read_polygon
from streetrecall.stages import grid

STOCKHOLM, NEW_YORK, FIJI, SAO_PAULO, CAPE_TOWN = (
    [59.325, 18.065],
    [40.70, -74.01],
    [-16.8, 180.0],
    [-23.55, -46.63],
    [-33.92, 18.42],
)


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    """A ring, wound anticlockwise."""
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def around(place: list[float], half: float = 0.005) -> list[list[float]]:
    lat, lon = place
    return box(lon - half, lat - half, lon + half, lat + half)


def polygon(*rings: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings), **more}


def multi(*polygons: list[Any], **more: Any) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": list(polygons), **more}


def several(*geometries: Any, **more: Any) -> dict[str, Any]:
    return {"type": "GeometryCollection", "geometries": list(geometries), **more}


def feature(geometry: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"name": "Vårstad"}, "geometry": geometry, **more}


def collection(*geometries: Any, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [feature(g) for g in geometries], **more}


def named(name: Any, kind: str = "name", key: str = "name") -> dict[str, Any]:
    return polygon(S, crs={"type": kind, "properties": {key: name}})


def up(ring: list[list[float]]) -> list[list[float]]:
    return [[*position, 12.5] for position in ring]


S = box(18.06, 59.32, 18.07, 59.33)
HOLE = box(18.063, 59.323, 18.067, 59.327)
SECOND_HOLE = box(18.0605, 59.3205, 18.0615, 59.3215)
ISLAND = box(18.064, 59.324, 18.066, 59.326)
EAST_HALF = box(18.065, 59.32, 18.07, 59.33)
NEXT = box(18.07, 59.32, 18.08, 59.33)
TOUCHING = [[18.06, 59.32], [18.07, 59.32], [18.065, 59.325], [18.07, 59.33], [18.06, 59.33], [18.065, 59.325]]
S_KM2, HOLE_KM2, SECOND_KM2, ISLAND_KM2 = 0.63424, 0.10148, 0.00634, 0.02537  # by ring, on the ellipsoid

# 0.04 degrees on both sides of the 180th meridian.
F_KM2 = 37.750
WEST_OF, EAST_OF = box(179.96, -16.82, 180, -16.78), box(-180, -16.82, -179.96, -16.78)
ACROSS = box(179.96, -16.82, -179.96, -16.78)
ACROSS_HOLE = box(179.98, -16.81, -179.98, -16.79)
AC_HOLE_KM2 = 9.4375
FIJI_PLACE = {"start": FIJI, "crs": "EPSG:3460", "spacing_m": 50.0}

# name: what the file holds (bytes and text as they are, otherwise as JSON), the area in km2, and what differs from a
# city in Stockholm
TAKEN: dict[str, tuple[Any, float, dict[str, Any]]] = {
    # holes and winding
    "ring": (polygon(S), S_KM2, {}),
    "ring clockwise": (polygon(S[::-1]), S_KM2, {}),
    "ring not closed": (polygon(S[:-1]), S_KM2, {}),
    "every corner twice": (polygon([p for p in S for _ in range(2)]), S_KM2, {}),
    "ring that touches itself": (polygon([*TOUCHING, TOUCHING[0]]), S_KM2 / 2, {}),
    "hole wound as RFC 7946 says": (polygon(S, HOLE[::-1]), S_KM2 - HOLE_KM2, {}),
    "hole wound like its ring": (polygon(S, HOLE), S_KM2 - HOLE_KM2, {}),
    "both clockwise": (polygon(S[::-1], HOLE[::-1]), S_KM2 - HOLE_KM2, {}),
    "clockwise ring, anticlockwise hole": (polygon(S[::-1], HOLE), S_KM2 - HOLE_KM2, {}),
    "two holes, wound differently": (polygon(S, HOLE, SECOND_HOLE[::-1]), S_KM2 - HOLE_KM2 - SECOND_KM2, {}),
    "island in a hole": (multi([S, HOLE], [ISLAND]), S_KM2 - HOLE_KM2 + ISLAND_KM2, {}),
    "island in a hole, as a feature": (
        collection(polygon(S, HOLE), polygon(ISLAND)),
        S_KM2 - HOLE_KM2 + ISLAND_KM2,
        {},
    ),
    # several polygons
    "two parts": (multi([S], [box(18.09, 59.32, 18.10, 59.33)]), 2 * S_KM2, {}),
    "parts wound differently": (multi([S[::-1], HOLE], [box(18.09, 59.32, 18.10, 59.33)]), 2 * S_KM2 - HOLE_KM2, {}),
    "parts that share a side": (multi([S], [NEXT]), 2 * S_KM2, {}),
    "parts that overlap": (multi([S], [EAST_HALF]), S_KM2, {}),
    "the same part twice": (multi([S, HOLE], [S, HOLE]), S_KM2 - HOLE_KM2, {}),
    "features that overlap": (collection(polygon(S), polygon(EAST_HALF)), S_KM2, {}),
    "features that overlap, wound differently": (collection(polygon(S[::-1]), polygon(EAST_HALF)), S_KM2, {}),
    "a feature fills another's hole": (collection(polygon(S, HOLE), polygon(HOLE)), S_KM2, {}),
    "touching ring beside another": (collection(polygon(TOUCHING), polygon(NEXT)), 1.5 * S_KM2, {}),
    "only the first feature": (collection(polygon(S), polygon(NEXT)), S_KM2, {"features": "first"}),
    "first of features that are wrong": (collection(polygon(S), None, {"type": "Point"}), S_KM2, {"features": "first"}),
    # collections of geometries
    "geometry collection": (several(polygon(S)), S_KM2, {}),
    "geometry collection of two": (several(polygon(S), polygon(NEXT)), 2 * S_KM2, {}),
    "its polygons all count as the first": (several(polygon(S), multi([NEXT])), 2 * S_KM2, {"features": "first"}),
    "geometry collection in a feature": (feature(several(polygon(S, HOLE))), S_KM2 - HOLE_KM2, {}),
    "geometry collections in one another": (collection(several(several(multi([S])))), S_KM2, {}),
    # numbers
    "heights": (polygon(up(S), up(HOLE)), S_KM2 - HOLE_KM2, {}),
    "heights of parts": (multi([up(S)], [up(NEXT)]), 2 * S_KM2, {}),
    "heights here and there": (polygon([[*S[0], 1.0], *S[1:]]), S_KM2, {}),
    "heights that are null": (polygon([[*p, None] for p in S]), S_KM2, {}),
    "four numbers a position": (polygon([[*p, 1.0, 2.0] for p in S]), S_KM2, {}),
    "whole degrees": (polygon(box(18, 59, 19, 60)), 6309.6, {"spacing_m": 1000.0}),
    # bytes
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(polygon(S)).encode(), S_KM2, {}),
    "CRLF": (json.dumps(polygon(S), indent=1).replace("\n", "\r\n").encode(), S_KM2, {}),
    "blank lines around": ("\n\n " + json.dumps(polygon(S)) + "\n \n", S_KM2, {}),
    # a member crs that names WGS 84
    "crs: null": (polygon(S, crs=None), S_KM2, {}),
    **{
        f"crs {name}": (named(name), S_KM2, {})
        for name in (
            "EPSG:4326",
            "epsg:4326",
            "EPSG::4326",
            "urn:ogc:def:crs:EPSG::4326",
            "urn:ogc:def:crs:EPSG:6.9:4326",
            "urn:ogc:def:crs:EPSG:8.5:4326",
            "urn:x-ogc:def:crs:EPSG:4326",
            "http://www.opengis.net/def/crs/EPSG/0/4326",
            "https://www.opengis.net/def/crs/EPSG/0/4326",
            "http://www.opengis.net/gml/srs/epsg.xml#4326",
            "urn:ogc:def:crs:OGC:1.3:CRS84",
            "urn:ogc:def:crs:OGC::CRS84",
            "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
            "OGC:CRS84",
            "CRS84",
            "EPSG:4979",
            "WGS 84",
            " EPSG:4326 ",
            4326,
        )
    },
    "crs of the feature": (collection(polygon(S)) | {"crs": {"properties": {"name": "EPSG:4326"}}}, S_KM2, {}),
    "crs as text": (polygon(S, crs="EPSG:4326"), S_KM2, {}),
    "crs as a code": (named(4326, "EPSG", "code"), S_KM2, {}),
    "crs as a URN": (named("urn:ogc:def:crs:OGC:1.3:CRS84", "OGC", "urn"), S_KM2, {}),
    # the 180th meridian
    "Fiji as a plain ring": (polygon(ACROSS), F_KM2, FIJI_PLACE),
    "Fiji clockwise": (polygon(ACROSS[::-1]), F_KM2, FIJI_PLACE),
    "Fiji from the other side": (polygon(ACROSS[2:] + ACROSS[1:3]), F_KM2, FIJI_PLACE),
    "Fiji cut as RFC 7946 says": (multi([WEST_OF], [EAST_OF]), F_KM2, FIJI_PLACE),
    "Fiji cut, the eastern part first": (multi([EAST_OF], [WEST_OF]), F_KM2, FIJI_PLACE),
    "Fiji cut into features": (collection(polygon(WEST_OF), polygon(EAST_OF)), F_KM2, FIJI_PLACE),
    "Fiji cut, all at +180": (multi([WEST_OF], [box(180, -16.82, -179.96, -16.78)]), F_KM2, FIJI_PLACE),
    "Fiji beyond 180": (polygon(box(179.96, -16.82, 180.04, -16.78)), F_KM2, FIJI_PLACE),
    "Fiji beyond -180": (polygon(box(-180.04, -16.82, -179.96, -16.78)), F_KM2, FIJI_PLACE),
    "Fiji with a hole": (polygon(ACROSS, ACROSS_HOLE), F_KM2 - AC_HOLE_KM2, FIJI_PLACE),
    "Fiji beyond 180, hole as a plain ring": (
        polygon(box(179.96, -16.82, 180.04, -16.78), ACROSS_HOLE[::-1]),
        F_KM2 - AC_HOLE_KM2,
        FIJI_PLACE,
    ),
    "Fiji in its western zone": (polygon(ACROSS), F_KM2, FIJI_PLACE | {"crs": "EPSG:32760"}),
    "Fiji in its eastern zone": (multi([WEST_OF], [EAST_OF]), F_KM2, FIJI_PLACE | {"crs": "EPSG:32701"}),
    "all of Fiji": (polygon(box(177, -19, -178, -16)), 176_366, FIJI_PLACE | {"crs": "EPSG:3460", "spacing_m": 1000.0}),
    "east of 180 only": (polygon(EAST_OF), F_KM2 / 2, FIJI_PLACE | {"start": [-16.8, -179.98]}),
    "New York from 0 to 360": (
        polygon(box(285.99, 40.69, 286.0, 40.70)),
        0.9385,
        {"start": NEW_YORK, "crs": "EPSG:32618"},
    ),
    # elsewhere
    "south of the equator": (polygon(around(SAO_PAULO)), 1.1303, {"start": SAO_PAULO, "crs": "EPSG:31983"}),
    "across the equator": (polygon(box(36.9, -0.01, 36.92, 0.01)), 4.9237, {"start": [0, 36.9], "crs": "EPSG:32637"}),
    "across the prime meridian": (
        polygon(box(-0.01, 51.4, 0.01, 51.41)),
        1.5481,
        {"start": [51.4, 0], "crs": "EPSG:27700"},
    ),
}

# name: what the file holds, what the error must say, and what differs from a city in Stockholm
REFUSED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    # not GeoJSON
    "empty file": ("", "is empty", {}),
    "blanks": (" \n", "is empty", {}),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty", {}),
    "UTF-16": (json.dumps(polygon(S)).encode("utf-16"), "UTF-16.*save it as UTF-8", {}),
    "UTF-16, big end first": (b"\xfe\xff" + json.dumps(polygon(S)).encode("utf-16-be"), "UTF-16", {}),
    "UTF-16 without a mark": (json.dumps(polygon(S)).encode("utf-16-le"), "UTF-16", {}),
    "UTF-32": (json.dumps(polygon(S)).encode("utf-32"), "UTF-32", {}),
    "Latin-1": (b'{"name": "V\xe5rstad"}', "not UTF-8 .byte 11", {}),
    "cut off": (json.dumps(polygon(S))[:-5], "not readable as JSON", {}),
    "KML": ("<kml></kml>", "not readable as JSON", {}),
    "features on lines": (json.dumps(polygon(S)) + "\n" + json.dumps(polygon(S)), "not readable as JSON", {}),
    "a key that occurs twice": ('{"type": "Point", "type": "Polygon"}', "the key 'type' occurs twice", {}),
    "nested without end": ("[" * 200_000, "nested too deeply", {}),
    "number of many digits": (
        '{"type": "Polygon", "coordinates": [[[' + "9" * 5000 + "]]]}",
        "not readable as JSON",
        {},
    ),
    "null": (None, "not GeoJSON", {}),
    "number": (3, "not GeoJSON", {}),
    "list": ([polygon(S)], "not GeoJSON", {}),
    "TopoJSON": ({"type": "Topology", "arcs": []}, "not GeoJSON .its type is 'Topology'", {}),
    "Esri JSON": ({"rings": [S]}, "not GeoJSON", {}),
    "type is a list": ({"type": ["Polygon"]}, "not GeoJSON", {}),
    # no polygon
    "no features": (collection(), "without features", {}),
    "features are no list": ({"type": "FeatureCollection", "features": {}}, "without features", {}),
    "features are null": ({"type": "FeatureCollection", "features": None}, "without features", {}),
    "null feature": ({"type": "FeatureCollection", "features": [None]}, "feature 0 is without a geometry", {}),
    "null geometry": (feature(None), "feature 0 is without a geometry", {}),
    "second geometry null": (collection(polygon(S), None), "feature 1 is without a geometry", {}),
    "no geometry": ({"type": "Feature"}, "feature 0 is without a geometry", {}),
    "geometry without type": (feature({"coordinates": [S]}), "feature 0 is without a geometry", {}),
    "geometry is text": (feature("POLYGON ((1 2))"), "feature 0 is without a geometry", {}),
    "point": (collection(polygon(S), {"type": "Point", "coordinates": [18, 59]}), "feature 1 is Point", {}),
    "line": ({"type": "LineString", "coordinates": S}, "feature 0 is LineString", {}),
    "collection in a collection": (
        {"type": "FeatureCollection", "features": [collection(polygon(S))]},
        "feature 0 is itself a FeatureCollection",
        {},
    ),
    "feature in a feature": (feature(feature(polygon(S))), "feature 0 is Feature", {}),
    "geometry collection of nothing": (several(), "is empty", {}),
    "geometry collection without geometries": ({"type": "GeometryCollection"}, "are no list", {}),
    "geometry collection with a point": (
        collection(polygon(S), several(polygon(S), {"type": "Point"})),
        "feature 1, geometry 1 is Point",
        {},
    ),
    "geometry collection with null": (several(None), "feature 0, geometry 0 is without a geometry", {}),
    # coordinates
    "coordinates missing": ({"type": "Polygon"}, "are no list", {}),
    "coordinates null": ({"type": "Polygon", "coordinates": None}, "are no list", {}),
    "no ring": (polygon(), "is empty", {}),
    "empty ring": (polygon([]), "is empty", {}),
    "no part": (multi(), "is empty", {}),
    "empty part": (multi([S], []), "polygon 1 is empty", {}),
    "empty hole": (polygon(S, []), "ring 1: it has 0 positions", {}),
    "ring of two": (polygon(S[:2]), "ring 0: it has 2 positions", {}),
    "one corner four times": (polygon([S[0]] * 4), "no area", {}),
    "there and back": (polygon([S[0], S[1], S[0], S[1], S[0]]), "no area", {}),
    "a line": (polygon([[18.06, 59.32], [18.07, 59.32], [18.08, 59.32]]), "no area", {}),
    "one ring too few brackets": ({"type": "Polygon", "coordinates": S}, "ring 0: position 0 is no list", {}),
    "one bracket too many": (polygon([S]), "ring 0: position 0 holds", {}),
    "polygon as multipolygon": ({"type": "MultiPolygon", "coordinates": [S]}, "those of a MultiPolygon", {}),
    "text": (polygon([[str(x), str(y)] for x, y in S]), "position 0 holds '18.06' where a number belongs", {}),
    "one text": (polygon([*S[:2], [18.07, "59,33"], *S[3:]]), "position 2 holds '59,33'", {}),
    "truth": (polygon([[True, False], *S[1:]]), "position 0 holds True", {}),
    "null position": (polygon([*S[:2], None, *S[3:]]), "position 2 is no list", {}),
    "null longitude": (polygon([*S[:2], [None, 59.33], *S[3:]]), "position 2 holds None", {}),
    "object": (polygon([*S[:2], {"lon": 18, "lat": 59}, *S[3:]]), "position 2 is no list", {}),
    "one number": (polygon([[18.06]] * 4), "position 0 is no list of two numbers", {}),
    "NaN": (polygon([S[0], [math.nan, 59.33], *S[2:]]), "feature 0.*not a finite number", {}),
    "infinite": (polygon([S[0], [18.07, math.inf], *S[2:]]), "not a finite number", {}),
    "1e999": ('{"type": "Polygon", "coordinates": [[[18, 59], [1e999, 59], [18, 60], [18, 59]]]}', "not a finite", {}),
    "integer of 400 digits": (polygon([S[0], [10**400, 59], *S[2:]]), "not a finite number", {}),
    "largest number": (polygon([S[0], [1.7e308, 59], *S[2:]]), "not degrees", {}),
    "bow tie": (polygon([S[0], S[2], S[1], S[3], S[0]]), "feature 0.*crosses itself", {}),
    "unequal bow tie": (polygon([S[0], [18.08, 59.33], S[1], S[3], S[0]]), "crosses itself", {}),
    "part that crosses itself": (multi([S], [[NEXT[0], NEXT[2], NEXT[1], NEXT[3]]]), "polygon 1.*crosses itself", {}),
    "hole outside": (polygon(S, NEXT), "crosses itself", {}),
    "hole beside": (polygon(S, box(18.09, 59.32, 18.10, 59.33)), "hole lies outside", {}),
    "hole across the edge": (polygon(S, box(18.065, 59.325, 18.075, 59.328)), "crosses itself", {}),
    "hole as large as its ring": (polygon(S, S), "no area|hole", {}),
    "hole in a hole": (polygon(S, HOLE, ISLAND), "hole", {}),
    # degrees
    "metres": (polygon([[674521, 6580221], [674621, 6580221], [674621, 6580321]]), "not degrees", {}),
    "swapped": (polygon([[y, x] for x, y in S]), "feature 0.*swapped", {}),
    "swapped, longitude no latitude": (
        polygon([[y, x] for x, y in box(139.6, 35.6, 139.7, 35.7)]),
        "swapped",
        {"crs": "EPSG:32654"},
    ),
    "second feature swapped": (collection(polygon(S), polygon([[y, x] for x, y in S])), "feature 1.*swapped", {}),
    "another continent": (polygon(around(NEW_YORK)), "city.crs EPSG:3006.*EPSG:32618", {}),
    "Fiji in Swedish metres": (polygon(ACROSS), "city.crs EPSG:3006.*EPSG:32(760|701)", {}),
    "null island": (collection(polygon(S), polygon(box(-0.01, -0.01, 0.01, 0.01))), "feature 1.*EPSG:32", {}),
    # poles
    "round the north pole": (polygon([[0, 80], [120, 80], [-120, 80], [0, 80]]), "pole", {}),
    "round the south pole": (polygon([[0, -70], [-120, -70], [120, -70]]), "pole", {}),
    "the south pole as RFC 7946 cuts it": (
        polygon([[-180, -90], [180, -90], [180, -70], [60, -75], [-60, -75], [-180, -70], [-180, -90]]),
        "pole",
        {},
    ),
    "at the pole": (polygon(box(10, 89.5, 10.1, 89.6)), "pole", {}),
    "the whole globe": (polygon(box(-180, -80, 180, 80)), "globe|no area", {}),
    "the whole globe, many corners": (
        polygon([*([x, -60] for x in range(-180, 181, 60)), *([x, 60] for x in range(180, -181, -60))]),
        "globe|EPSG|wider spacing",
        {"crs": "EPSG:6933"},
    ),
    # a member crs
    **{
        f"crs {name!a:.40}": (named(name), says, {})
        for name, says in (
            ("EPSG:43260", "unknown CRS, 'EPSG:43260'"),
            ("EPSG:14326", "unknown CRS"),
            ("urn:ogc:def:crs:EPSG::43260", "unknown CRS"),
            ("CRS84X", "unknown CRS"),
            ("x" * 10_000, "unknown CRS"),
            ("\ud800", "unknown CRS"),
            ("EPSG:3006", r"are in 'EPSG:3006' \(SWEREF99 TM\).*ogr2ogr"),
            ("urn:ogc:def:crs:EPSG::3857", "Pseudo-Mercator.*ogr2ogr"),
            ("EPSG:4258", "ETRS89"),
            ("urn:ogc:def:crs:OGC:1.3:CRS83", "NAD83"),
            ("EPSG:4978", "WGS 84.*ogr2ogr"),
            ("", "names no CRS"),
            ("  ", "names no CRS"),
            (None, "names no CRS"),
            (["EPSG", "4326"], "names no CRS"),
            (True, "names no CRS"),
            (10**30, "names no CRS"),
            (43260, "unknown CRS"),
        )
    },
    "crs properties null": (polygon(S, crs={"type": "name", "properties": None}), "member 'crs' names no CRS", {}),
    "crs properties a list": (polygon(S, crs={"type": "name", "properties": []}), "names no CRS", {}),
    "crs without properties": (polygon(S, crs={"type": "name"}), "names no CRS", {}),
    "crs a link": (polygon(S, crs={"type": "link", "properties": {"href": "http://localhost/x"}}), "names no CRS", {}),
    "crs a list": (polygon(S, crs=["EPSG:4326"]), "names no CRS", {}),
    "crs false": (polygon(S, crs=False), "names no CRS", {}),
    "crs of a feature": (
        {"type": "FeatureCollection", "features": [feature(polygon(S), crs={"properties": {"name": "EPSG:3006"}})]},
        "feature 0.*SWEREF99",
        {},
    ),
    "crs of a geometry": (collection(polygon(S, crs={"properties": {"name": "EPSG:3006"}})), "feature 0.*SWEREF99", {}),
    "crs of a member": (several(polygon(S, crs={"properties": {"name": "EPSG:3006"}})), "geometry 0.*SWEREF99", {}),
    # size
    "a country": (polygon(box(12, 56, 18, 60)), "points, and 5,000,000 are allowed .*wider spacing, from", {}),
    "all of Fiji at 10 m": (polygon(box(177, -19, -178, -16)), "wider spacing", FIJI_PLACE | {"spacing_m": 10.0}),
    "Fiji cut, in metres of the web": (multi([WEST_OF], [EAST_OF]), "true to scale.*EPSG:32", {"crs": "EPSG:3857"}),
    "a millimetre grid": (polygon(S), "wider spacing", {"spacing_m": 0.001}),
    "smaller than a step": (polygon(S), "no point of a 5000 m grid", {"spacing_m": 5000.0}),
    "gone after rounding": (polygon(S), "grid.decimals", {"decimals": 0}),
    # the start of another city
    "start left in Stockholm": (
        polygon(around(NEW_YORK)),
        r"order\.start: \[59\.325, 18\.065\] is 6,\d\d\d km from the city.*such as \[40\.\d+, -7[34]\.\d+\]",
        {"crs": "EPSG:32618"},
    ),
    "start in the next city": (polygon(S), r"order\.start.*6\d km", {"start": [59.86, 17.64]}),
    "start with its axes swapped": (polygon(S), r"order\.start", {"start": [18.065, 59.325]}),
    "start on the wrong side of 180": (polygon(ACROSS), r"order\.start", FIJI_PLACE | {"start": [-16.8, 0.0]}),
}

# city.crs, a place, and what the error must say (None: it can measure that city)
CITY_CRS: list[tuple[str, list[float], str | None]] = [
    ("EPSG:3006", STOCKHOLM, None),
    ("EPSG:32634", STOCKHOLM, None),
    ("EPSG:3035", STOCKHOLM, None),
    ("EPSG:3011", STOCKHOLM, None),
    ("EPSG:2154", [48.85, 2.35], None),
    ("EPSG:2193", [-41.28, 174.78], None),  # north, east
    ("EPSG:5514", [50.08, 14.43], None),  # turned by 8 degrees
    ("EPSG:32618", NEW_YORK, None),
    ("EPSG:3857", [0.05, 9.45], None),  # true to scale at the equator
    ("EPSG:4326", STOCKHOLM, r"city\.crs: EPSG:4326 \(WGS 84\) is a geographic 2D CRS.*EPSG:3263[34] \("),
    ("EPSG:4979", STOCKHOLM, "geographic 3D CRS"),
    ("EPSG:4619", STOCKHOLM, "geographic 2D CRS"),
    ("EPSG:4978", STOCKHOLM, "geocentric CRS.*EPSG:3263[34]"),
    ("EPSG:5613", STOCKHOLM, "vertical CRS"),
    ("EPSG:3855", STOCKHOLM, "vertical CRS"),
    ("EPSG:5845", STOCKHOLM, "heights; set city.crs to its horizontal part EPSG:3006"),
    ("EPSG:2263", NEW_YORK, "US survey foot.*EPSG:32618"),
    ("EPSG:2056", NEW_YORK, "EPSG:32618"),
    ("EPSG:2222", [33.45, -110.5], "foot.*EPSG:32612"),
    ("EPSG:3857", STOCKHOLM, r"not true to scale.*100 m measure 195\.\d m.*EPSG:3263[34]"),
    ("EPSG:3395", STOCKHOLM, "not true to scale"),
    ("EPSG:3857", [-16.8, 179.98], "not true to scale.*EPSG:32760"),
    ("EPSG:6933", STOCKHOLM, "not true to scale"),
    ("EPSG:2048", CAPE_TOWN, "axes swapped.*x grows towards the west.*EPSG:32734"),
    ("EPSG:5513", [50.08, 14.43], "axes swapped.*EPSG:32633"),
    ("EPSG:3413", [69.65, 18.96], "turned or has its axes swapped|true to scale"),
    ("EPSG:32633", NEW_YORK, "lies outside the area that city.crs EPSG:32633"),
    ("EPSG:32734", STOCKHOLM, "EPSG:3263[34]"),
    ("EPSG:999999", STOCKHOLM, "not a known CRS"),
    ("EPSG:99999999999999999999", STOCKHOLM, "not a known CRS"),
    ("EPSG:6326", STOCKHOLM, "not a known CRS"),
]


def write_fifo(path: Path) -> None:
    os.mkfifo(path)


def write_loop(path: Path) -> None:
    path.symlink_to(path.name)


def write_large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(70 * 2**20)  # a hole: takes no space


# what lies in the file's place, and what the error must say
FILES: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: None, "no such file"),
    (Path.mkdir, "is a folder"),
    (write_fifo, "not a regular file"),
    (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    (lambda path: path.symlink_to("nowhere"), "no such file"),
    (write_loop, "cannot be read"),
    (write_large, "larger than 64 MB"),
]


def save(folder: Path, content: Any) -> Path:
    path = folder / "city.geojson"
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)
    return path


def of(
    params: Params,
    crs: str = "EPSG:3006",
    start: list[float] = STOCKHOLM,
    spacing_m: float = 10.0,
    features: str = "all",
    decimals: int = 7,
) -> Params:
    return params.model_copy(
        update={
            "city": params.city.model_copy(update={"crs": crs}),
            "order": params.order.model_copy(update={"start": start}),
            "grid": params.grid.model_copy(update={"spacing_m": spacing_m, "features": features, "decimals": decimals}),
        }
    )


@pytest.mark.parametrize("name", TAKEN)
def test_a_polygon_that_is_taken(name: str, params: Params, tmp_path: Path) -> None:
    content, km2, differs = TAKEN[name]
    params = of(params, **differs)
    laid = grid.lay(params, save(tmp_path, content))
    assert laid.area_m2 / 1e6 == pytest.approx(km2, rel=1e-3)
    # A point stands for a square of its spacing: the grid covers the same area.
    assert len(laid.points) * params.grid.spacing_m**2 / 1e6 == pytest.approx(km2, rel=0.08)
    assert laid.points["lon"].abs().max() <= 180
    assert contains(laid.polygon, laid.points["lon"], laid.points["lat"]).all()
    assert not laid.points.duplicated(["lat", "lon"]).any()


@pytest.mark.parametrize("name", REFUSED)
def test_a_polygon_that_is_refused(name: str, params: Params, tmp_path: Path) -> None:
    content, says, differs = REFUSED[name]
    path = save(tmp_path, content)
    begun = time.process_time()
    with pytest.raises(UserError, match=says) as caught:
        grid.lay(of(params, **differs), path)
    assert time.process_time() - begun < 5
    text = str(caught.value)
    assert str(path) in text or "params.yaml: " in text
    assert "\n" not in text and len(text) < 600
    text.encode()  # it can be printed


@pytest.mark.parametrize(("crs", "place", "says"), CITY_CRS)
def test_a_reference_system(crs: str, place: list[float], says: str | None, params: Params, tmp_path: Path) -> None:
    path = save(tmp_path, polygon(around(place)))
    if says is None:
        assert len(grid.lay(of(params, crs, place), path).points) > 1000
        return
    with pytest.raises(UserError, match=says) as caught:
        grid.lay(of(params, crs, place), path)
    assert "city.crs" in str(caught.value)


@pytest.mark.parametrize(("make", "says"), FILES)
def test_something_else_in_place_of_the_file(make: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "city.geojson"
    make(path)
    with pytest.raises(UserError, match=says) as caught:
        read_polygon(path, "EPSG:3006")
    assert str(path) in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, polygon(S))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"city\.geojson: cannot be read \(Permission denied\)"):
        read_polygon(path, "EPSG:3006")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_polygon(tmp_path / f"{'x' * 300}.geojson", "EPSG:3006")


def test_the_crs_of_a_file_does_not_turn_its_coordinates(tmp_path: Path) -> None:
    """EPSG:4326 has its latitude first; GeoJSON of 2008 wrote longitude, latitude all the same."""
    for name in ("urn:ogc:def:crs:EPSG::4326", "urn:ogc:def:crs:OGC:1.3:CRS84"):
        assert read_polygon(save(tmp_path, named(name)), "EPSG:3006").bounds == (18.06, 59.32, 18.07, 59.33)


SLIVER = [[10, 40], [40.0, 55], [40.0, 55.0001]]
FAR_APART = multi([box(9.95, 1, 10, 1.05)], [box(8.0, 75, 8.2, 75.05)], [box(9.0, 40, 9.05, 40.05)])


@pytest.mark.parametrize(
    ("content", "crs", "start", "spacing_m"),
    [
        (FAR_APART, "EPSG:32632", [1.0, 10.0], 10.0),
        (polygon(SLIVER), "EPSG:32633", [45.0, 20.0], 10.0),
        (
            multi([box(-177.5, 51.8, -177.45, 51.85)], [box(177, 51.9, 177.05, 51.95)]),
            "EPSG:32660",
            [51.9, 177.0],
            10.0,
        ),
    ],
)
def test_memory_follows_the_polygon_and_not_its_box(
    content: Any, crs: str, start: list[float], spacing_m: float, params: Params, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("streetrecall.crs.MAX_SCALE_ERROR", 1.0)  # so that a test can lie far and wide
    path = save(tmp_path, content)
    begun = time.process_time()
    tracemalloc.start()
    laid = grid.lay(of(params, crs, start, spacing_m), path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(laid.columns) * len(laid.rows) > 100 * len(laid.points)
    assert len(laid.points) > 10_000
    assert peak < 300e6
    assert time.process_time() - begun < 60


def test_many_crossings_are_refused_fast(params: Params, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    ring = np.round(rng.uniform([18.06, 59.32], [18.07, 59.33], (20_000, 2)), 9).tolist()
    begun = time.process_time()
    with pytest.raises(UserError, match="crosses itself"):
        grid.lay(of(params), save(tmp_path, polygon(ring)))
    assert time.process_time() - begun < 20


def test_a_star_of_long_sides_is_refused_fast(params: Params, tmp_path: Path) -> None:
    angle = np.linspace(0, 2 * math.pi, 200_000, endpoint=False)
    radius = 0.05 * np.random.default_rng(1).uniform(0.5, 1.5, len(angle))
    ring = np.column_stack([18.06 + 2 * radius * np.cos(angle), 59.32 + radius * np.sin(angle)]).tolist()
    begun = time.process_time()
    with pytest.raises(UserError, match=r"feature 0: its outline has 200,000 sides .* simplify"):
        grid.lay(of(params), save(tmp_path, polygon(ring)))
    assert time.process_time() - begun < 20


def test_a_long_outline_is_refused_before_it_is_walked(params: Params, tmp_path: Path) -> None:
    """Ten thousand teeth, each 600 km long and a metre wide: little area, and more outline than a grid can follow."""
    south = [[12 + i * 1e-4, 56.0] for i in range(10_000)]
    teeth = [p for i, (x, y) in enumerate(south) for p in ([x, y], [x + 2e-5, y + 6.0], [x + 4e-5, y])]
    content = polygon([*teeth, [13.0, 55.99], [12.0, 55.99]])
    with pytest.raises(UserError, match=r"outline is [\d,]+ km long|wider spacing"):
        grid.lay(of(params, "EPSG:32633", [56.0, 12.0]), save(tmp_path, content))


def test_the_gate_takes_a_grid_across_the_180th_meridian(params: Params, tmp_path: Path) -> None:
    from streetrecall.expectations import grid as suite

    (tmp_path / "cities").mkdir()
    path = save(tmp_path / "cities", polygon(ACROSS, ACROSS_HOLE))
    params = of(params, **FIJI_PLACE)
    params = params.model_copy(update={"city": params.city.model_copy(update={"name": "city"})})
    laid = grid.lay(params, path)
    grid.write_geoparquet(laid.points, tmp_path / "grid.parquet")
    assert laid.points["lon"].min() < -179 and laid.points["lon"].max() > 179
    inputs = {"grid": tmp_path / "grid.parquet", "cities": tmp_path / "cities"}
    (batch,) = suite.batches(params, inputs)
    assert batch.frame["inside"].all()
    stored = tables.read(tables.GRID, tmp_path / "grid.parquet")
    assert stored[["lat", "lon"]].equals(laid.points[["lat", "lon"]])


# --- any JSON ---

numbers = st.one_of(
    st.integers(-400, 400),
    st.floats(-200, 200),
    st.floats(17.9, 18.2),
    st.floats(59.2, 59.5),
    st.floats(),
    st.booleans(),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8), st.integers())
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
near = st.tuples(st.floats(18.0, 18.1), st.floats(59.3, 59.4)).map(list)
positions = st.one_of(near, near, near, st.lists(numbers, min_size=2, max_size=3), anything)
rings = st.one_of(st.lists(near, min_size=3, max_size=6), st.lists(positions, max_size=6), anything)
kinds = st.sampled_from(
    ["Polygon", "MultiPolygon", "GeometryCollection", "Feature", "FeatureCollection", "Point", "", None]
)
codes = st.sampled_from(["EPSG:4326", "EPSG:3006", "urn:ogc:def:crs:OGC:1.3:CRS84", "", None, 4326, "x"])
crs_properties = st.one_of(anything, st.fixed_dictionaries({"name": codes}))
crs_members = st.one_of(st.none(), anything, st.fixed_dictionaries({"type": codes, "properties": crs_properties}))
shapes = st.one_of(
    st.builds(polygon, rings, rings),
    st.builds(polygon, rings),
    st.builds(multi, st.lists(rings, max_size=3)),
    st.fixed_dictionaries({"type": kinds, "coordinates": anything}),
    anything,
)
documents = st.one_of(
    shapes,
    st.builds(several, shapes, shapes),
    st.builds(lambda g, c: feature(g, crs=c), shapes, crs_members),
    st.builds(lambda a, b, c: collection(a, b, crs=c), shapes, shapes, crs_members),
    st.fixed_dictionaries({"type": kinds, "features": anything, "geometry": anything, "geometries": anything}),
)


@settings(max_examples=400, deadline=None)
@given(documents, st.sampled_from(["first", "all"]))
def test_any_json_is_a_polygon_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, document: Any, features: str
) -> None:
    path = save(tmp_path_factory.getbasetemp(), document)
    try:
        city = read_polygon(path, "EPSG:3006", features)
    except UserError as error:
        assert str(path) in str(error)
        return
    assert city.geom_type == "MultiPolygon" and city.area > 0
    assert np.isfinite(shapely.get_coordinates(city)).all()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_polygon_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    with pytest.raises(UserError):
        read_polygon(save(tmp_path_factory.getbasetemp(), data), "EPSG:3006")
