"""Polygons as they are read and rounded; tests/hostile has what people's files look like besides."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import shapely

from streetrecall.errors import UserError
from streetrecall.polygons import count_features, read_polygon, round_polygon

SQUARE = [[18.06, 59.32], [18.07, 59.32], [18.07, 59.33], [18.06, 59.33], [18.06, 59.32]]
FAR_SQUARE = [[18.10, 59.32], [18.11, 59.32], [18.11, 59.33], [18.10, 59.33], [18.10, 59.32]]
BOW_TIE = [[18.06, 59.32], [18.07, 59.33], [18.07, 59.32], [18.06, 59.33], [18.06, 59.32]]


def save(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "city.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def polygon(ring: list[list[float]], **more: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [ring], **more}


def collection(*geometries: Any, **more: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": g} for g in geometries], **more}


@pytest.mark.parametrize(
    "document",
    [
        polygon(SQUARE),
        {"type": "Feature", "properties": None, "geometry": polygon(SQUARE)},
        collection(polygon(SQUARE)),
        {"type": "MultiPolygon", "coordinates": [[SQUARE]]},
        polygon([[*xy, 12.0] for xy in SQUARE]),
        polygon(SQUARE, crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}),
        polygon(SQUARE, crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}),
    ],
)
def test_every_form_of_a_polygon_reads_alike(document: Any, tmp_path: Path) -> None:
    read = read_polygon(save(tmp_path, document), "EPSG:3006")
    assert read.bounds == (18.06, 59.32, 18.07, 59.33)
    assert not read.has_z


def test_first_feature_or_all(tmp_path: Path) -> None:
    path = save(tmp_path, collection(polygon(SQUARE), polygon(FAR_SQUARE)))
    assert len(read_polygon(path, "EPSG:3006", "first").geoms) == 1
    assert read_polygon(path, "EPSG:3006", "all").bounds == (18.06, 59.32, 18.11, 59.33)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "not readable as JSON"),
        ([1, 2], "not GeoJSON"),
        ({"type": "Topology"}, "not GeoJSON"),
        (collection(), "without features"),
        (collection(None), "without a geometry"),
        (collection({"type": "Point", "coordinates": [18.06, 59.32]}), "is Point"),
        ({"type": "LineString", "coordinates": SQUARE}, "is LineString"),
        ({"type": "Polygon", "coordinates": []}, "is empty"),
        ({"type": "MultiPolygon", "coordinates": []}, "is empty"),
        (polygon(SQUARE[:2]), "not those of a Polygon"),
        (polygon([["a", "b"], *SQUARE]), "not those of a Polygon"),
        (polygon([SQUARE[0], [math.nan, 59.32], *SQUARE[2:]]), "not a finite number"),
        (polygon(SQUARE, crs={"type": "name", "properties": {"name": "EPSG:3006"}}), "EPSG:3006"),
        (polygon([[674521.0, 6580221.0], [674621.0, 6580221.0], [674621.0, 6580321.0]]), "not degrees"),
        (polygon([[lat, lon] for lon, lat in SQUARE]), "swapped"),
        (polygon([[lon - 30, lat - 30] for lon, lat in SQUARE]), "city.crs"),
        (polygon(BOW_TIE), "crosses itself"),
        (polygon([[18.06, 59.32], [18.07, 59.32], [18.08, 59.32], [18.06, 59.32]]), "no area"),
    ],
)
def test_bad_polygons_are_told_apart(document: Any, complaint: str, tmp_path: Path) -> None:
    path = save(tmp_path, document)
    with pytest.raises(UserError, match=complaint) as caught:
        read_polygon(path, "EPSG:3006")
    assert str(path) in str(caught.value)


def test_missing_file_and_unknown_crs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_polygon(tmp_path / "nowhere.geojson", "EPSG:3006")
    with pytest.raises(UserError, match=r"city\.crs: 'EPSG:999999'"):
        read_polygon(save(tmp_path, polygon(SQUARE)), "EPSG:999999")


def test_a_ring_that_only_touches_itself_passes(tmp_path: Path) -> None:
    touching = [[18.06, 59.32], [18.07, 59.32], [18.065, 59.325], [18.07, 59.33], [18.06, 59.33], [18.065, 59.325]]
    read = read_polygon(save(tmp_path, polygon([*touching, touching[0]])), "EPSG:3006")
    assert not read.is_valid


def test_rounding_repairs_nothing() -> None:
    ring = [(18.0600004, 59.32), (18.07, 59.32), (18.0650004, 59.325), (18.07, 59.33), (18.06, 59.33), (18.065, 59.325)]
    rounded = round_polygon(shapely.MultiPolygon([shapely.Polygon(ring)]), 6)
    assert shapely.get_coordinates(rounded).tolist() == [[round(a, 6), round(b, 6)] for a, b in [*ring, ring[0]]]


def test_coordinates_stay_those_of_the_file(tmp_path: Path) -> None:
    """Neither the order of parts and corners nor a bit changes, where there is nothing to join."""
    rings = [[[x + 0.1 + 0.2, y] for x, y in FAR_SQUARE], SQUARE[::-1]]
    path = save(tmp_path, {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]})
    read = read_polygon(path, "EPSG:3006", "first")
    assert [shapely.get_coordinates(part).tolist() for part in read.geoms] == rings


def test_features_are_counted(tmp_path: Path) -> None:
    assert count_features(save(tmp_path, polygon(SQUARE))) == 1
    assert count_features(save(tmp_path, collection(polygon(SQUARE), None, {"type": "Point"}))) == 3
    geometries = {"type": "GeometryCollection", "geometries": [polygon(SQUARE), polygon(FAR_SQUARE)]}
    assert count_features(save(tmp_path, geometries)) == 1
