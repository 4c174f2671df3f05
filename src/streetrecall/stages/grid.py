"""Stage `grid`: every point of a regular grid that lies inside the city's polygon."""

from __future__ import annotations

import argparse
import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry import MultiPolygon

from streetrecall.crs import scale_error
from streetrecall.errors import UserError
from streetrecall.figures.grid import draw_grid
from streetrecall.files import whole, write_json
from streetrecall.geo import GEOD, check_start, project, unproject
from streetrecall.params import document
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Params
from streetrecall.polygons import (
    area_and_outline,
    contains,
    count_features,
    read_polygon,
    round_polygon,
    sample,
    sides,
    wrap,
)
from streetrecall.providers import polygon_path, provider_class
from streetrecall.tables import GRID, conform

log = logging.getLogger(__name__)

STREETS = "streets"  # the folder of the files of streets, beside the polygons
MIN_SHARE = 0.6  # of grid.spacing_m: points along streets that are nearer to each other are thinned

_BLOCK = 1024  # candidates of a block that the polygon's outline crosses; they are tested one by one
_MARGIN_DEG = 1e-9  # about 0.1 mm
_PIECE = 2**20  # points turned into geometries at a time
_MAX_POINTS = 20_000_000  # whatever checks.grid.max_points allows; about 4 GB of memory
_MAX_STRETCH = 1.1  # of the distance between columns, from one end of the city to the other
_MAX_STEPS = 50_000_000  # columns or rows: at 1 m more than once round the globe


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cities", type=Path, required=True, help="folder of polygons, NAME.geojson")
    parser.add_argument("--grid", type=Path, required=True, help="GeoParquet to write")
    parser.add_argument("--plot", type=Path, required=True, help="PNG to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    require_own_files(args.cities)
    run(parameters.load(args.params), args.cities, args.grid, args.plot, args.metrics)


def require_own_files(cities: Path) -> None:
    """Make sure that DVC notices each change of the folder of polygons and of that of streets.

    Raises:
        UserError: one is a link to a folder elsewhere.
    """
    for folder in (cities, cities / STREETS):
        if folder.is_symlink():
            raise UserError(
                f"{folder}: is a link to a folder, and DVC does not notice what changes there; "
                "make it a folder, and link or copy the files into it"
            )


def run(params: Params, cities: Path, grid: Path, plot: Path, metrics: Path) -> None:
    """Write the grid (GRID as GeoParquet), its picture and its counts.

    Raises:
        UserError: there is no such city, or its grid cannot be laid (see `lay`).
    """
    path = polygon_path(params, cities)
    laid = lay(params, path)
    write_geoparquet(laid.points, grid)
    draw_grid(laid.points, laid.polygon, params.city.crs, params.grid.spacing_m, plot)
    candidates = len(laid.columns) * len(laid.rows) if params.grid.kind == "lattice" else len(laid.points)
    write_json(
        metrics,
        {
            "candidates": candidates,
            "columns": len(laid.columns),
            "rows": len(laid.rows),
            "points": len(laid.points),
            "features_ignored": laid.features_ignored,
            "polygons": len(laid.polygon.geoms),
            "area_km2": round(laid.area_m2 / 1e6, 3),
        },
    )
    log.info("%d of %d grid points lie inside %s", len(laid.points), candidates, path)


@dataclass(frozen=True)
class Laid:
    """A grid over a polygon: its points (GRID columns), and the longitudes and latitudes that they were chosen from."""

    points: pd.DataFrame
    polygon: MultiPolygon
    columns: NDArray[np.float64]
    rows: NDArray[np.float64]
    area_m2: float
    features_ignored: int


def lay(params: Params, path: Path) -> Laid:
    """Lay the grid over the polygon of the GeoJSON file ``path``.

    Raises:
        UserError: the polygon or `city.crs` cannot be used, the grid would be too large, no point lies inside, or
            `order.start` lies in another city.
    """
    polygon = round_polygon(read_polygon(path, params.city.crs, params.grid.features), params.grid.decimals)
    ignored = count_features(path) - 1 if params.grid.features == "first" else 0
    if ignored > 0:
        log.warning("%s: only the first of %d features is used; grid.features: all uses all", path, ignored + 1)
    area_m2 = check_size(polygon, params, path)
    lon, lat = shapely.get_coordinates(polygon.convex_hull).T
    check_start(params.order.start, lat, wrap(lon))

    _warn_of_distances(polygon, params)
    if params.grid.kind == "streets":
        points = points_along(params, polygon, path)
        return Laid(points, polygon, np.empty(0), np.empty(0), area_m2, max(0, ignored))
    columns, rows = axes(polygon, params.grid.spacing_m)
    points = points_inside(polygon, columns, rows)
    if points.empty:
        raise UserError(
            f"{path}: no point of a {params.grid.spacing_m:g} m grid lies inside the polygon; "
            "make grid.spacing_m smaller or the polygon larger"
        )
    return Laid(points, polygon, columns, rows, area_m2, max(0, ignored))


def points_along(params: Params, polygon: MultiPolygon, path: Path) -> pd.DataFrame:
    """Points along the city's streets that lie inside ``polygon`` (GRID columns): from the west, each northwards.

    Every street has points ``grid.spacing_m`` apart. Where streets meet, a point that is much nearer to another one is
    left out.

    Raises:
        UserError: there is no file of the city's streets beside the polygon ``path``, or none lies in the polygon.
    """
    lines = read_streets(streets_path(params, path), params.city.crs)
    spacing = params.grid.spacing_m
    steps = [np.arange(0.0, line.length + spacing / 2, spacing) for line in lines]
    xy = [
        shapely.get_coordinates(shapely.line_interpolate_point(line, s)) for line, s in zip(lines, steps, strict=True)
    ]
    metres = np.concatenate(xy)
    lat, lon = unproject(metres[:, 0], metres[:, 1], params.city.crs)
    inside = contains(polygon, lon, lat)
    lat, lon = lat[inside].round(9), lon[inside].round(9)
    order = np.lexsort((lat, lon))
    lat, lon = lat[order], lon[order]
    kept = apart(np.column_stack(project(lat, lon, params.city.crs)), MIN_SHARE * spacing)
    if not kept.any():
        raise UserError(f"{streets_path(params, path)}: no street lies inside the polygon {path}")
    lat, lon = lat[kept], lon[kept]
    return pd.DataFrame({"point_id": np.arange(len(lat), dtype="int64"), "lat": lat, "lon": lon})


def streets_path(params: Params, polygon: Path) -> Path:
    """The file of the streets of the city of ``polygon``; those of a provider's own city have its name too."""
    own = provider_class(params.provider).own_streets
    name = f"{params.provider}-{polygon.name}" if own else polygon.name
    return polygon.parent / STREETS / name


def read_streets(path: Path, crs: str) -> list[shapely.LineString]:
    """The streets of a GeoJSON file, each as long as it can be followed, in metres of ``crs``.

    Raises:
        UserError: there is no such file, or it holds no lines.
    """
    if not path.exists():
        raise UserError(
            f"{path}: there is no such file, and grid.kind: streets needs it; `streetrecall streets` writes it"
        )
    try:
        found = json.loads(document.read_text(path))
        parts = [shapely.geometry.shape(f["geometry"]) for f in found["features"] if f.get("geometry")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, shapely.errors.GEOSException) as error:
        raise UserError(f"{path}: not a FeatureCollection of streets as `streetrecall streets` writes it") from error
    lines = [part for part in parts if part.geom_type in ("LineString", "MultiLineString") and not part.is_empty]
    if not lines:
        raise UserError(f"{path}: holds no street; run `streetrecall streets` again")

    def metres(corners: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(project(corners[:, 1], corners[:, 0], crs))

    merged = shapely.line_merge(shapely.union_all([shapely.transform(line, metres) for line in lines]))
    whole = shapely.get_parts(merged)
    return [line.normalize() for line in whole if line.length > 0]


def apart(xy: NDArray[np.float64], least_m: float) -> NDArray[np.bool_]:
    """Which points of ``xy`` (n, 2) to keep, in row order, so that none is nearer than ``least_m`` to another.

    >>> apart(np.array([[0.0, 0.0], [3.0, 0.0], [6.0, 0.0]]), 5.0).tolist()
    [True, False, True]
    """
    kept = np.ones(len(xy), bool)
    if len(xy):
        tree = cKDTree(xy)
        for row, near in enumerate(tree.query_ball_point(xy, least_m * (1 - 1e-9))):
            if kept[row]:
                kept[[other for other in near if other > row]] = False
    return kept


def _warn_of_distances(polygon: MultiPolygon, params: Params) -> None:
    """Warn where distances are right enough for a grid, but not as right as later stages or readers expect."""
    error, tolerance = (
        scale_error(params.city.crs, *sample(polygon)),
        params.checks.predictions.distance_tolerance_share,
    )
    if error > tolerance:
        log.warning(
            "params.yaml: city.crs: %s changes distances in this city by up to %.2g %%, and checks.predictions allows "
            "%.2g %% (distance_tolerance_share): allow more, or use another CRS",
            params.city.crs,
            100 * error,
            100 * tolerance,
        )
    _, south, _, north = polygon.bounds
    widest = math.cos(math.radians(0 if south <= 0 <= north else min(abs(south), abs(north))))
    stretch = widest / math.cos(math.radians(max(abs(south), abs(north))))
    if stretch > _MAX_STRETCH:
        log.warning(
            "The city reaches from latitude %.4g to %.4g, and meridians converge: at one end points are %.4g m apart, "
            "at the other %.4g m; make several cities of it for an even grid",
            south,
            north,
            params.grid.spacing_m,
            stretch * params.grid.spacing_m,
        )


def check_size(polygon: MultiPolygon, params: Params, path: Path) -> float:
    """Check, before any point is made, that the grid will not be too large; returns the polygon's area in m2.

    Raises:
        UserError: the area holds more points than `checks.grid.max_points`, or the outline is as many steps long, or
            rounding to `grid.decimals` left nothing of the polygon.
    """
    spacing_m, allowed = params.grid.spacing_m, min(params.checks.grid.max_points, _MAX_POINTS)
    area_m2, outline_m = area_and_outline(polygon)
    if area_m2 == 0:
        raise UserError(
            f"{path}: the polygon has no area once its coordinates are rounded to {params.grid.decimals} decimals of a "
            "degree (params.yaml: grid.decimals); keep more decimals, or take a larger polygon"
        )
    limit = "checks.grid.max_points" if allowed < _MAX_POINTS else "the most that this program lays"
    if area_m2 / spacing_m**2 > allowed:
        wider = math.ceil(math.sqrt(area_m2 / allowed) * 10) / 10
        raise UserError(
            f"{path}: the polygon covers {area_m2 / 1e6:,.0f} km2, so a grid of {spacing_m:g} m (params.yaml: "
            f"grid.spacing_m) has about {area_m2 / spacing_m**2:,.0f} points, and {allowed:,} are allowed ({limit}); "
            f"take a wider spacing, from {wider:g} m on, or a smaller polygon"
        )
    if outline_m / spacing_m > allowed:
        raise UserError(
            f"{path}: the polygon's outline is {outline_m / 1000:,.0f} km long, {outline_m / spacing_m:,.0f} steps of "
            f"{spacing_m:g} m (params.yaml: grid.spacing_m), and {allowed:,} are allowed ({limit}); take a wider "
            "spacing, or simplify the outline"
        )
    return area_m2


def axes(polygon: MultiPolygon, spacing_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes (west to east) and latitudes (south to north) of the grid over the polygon's bounding box, degrees.

    Each axis is divided into ``int(length / spacing_m)`` equal steps, and the upper edge is left out. Lengths are
    geodesic. The east-west length is that of the northern or the southern edge, whichever is nearer to a pole and so
    shorter: neighbouring points are nowhere nearer than ``spacing_m``. Longitudes exceed 180 where the polygon does.

    Raises:
        UserError: an axis would have too many steps.
    """
    west, south, east, north = polygon.bounds
    columns = int(min(_length_m(west, east, lat) for lat in (south, north)) / spacing_m)
    rows = int(GEOD.inv(west, south, west, north)[2] / spacing_m)
    if max(columns, rows) > _MAX_STEPS:
        raise UserError(
            f"params.yaml: grid.spacing_m: {spacing_m:g} m over this polygon makes {columns:,} columns and {rows:,} "
            "rows; take a wider spacing or a smaller polygon"
        )
    return np.linspace(west, east, columns, endpoint=False), np.linspace(south, north, rows, endpoint=False)


def _length_m(west: float, east: float, lat: float) -> float:
    """Length of a parallel: geodesic over each degree, because a geodesic over many degrees leaves the parallel."""
    edges = np.linspace(west, east, max(1, math.ceil(east - west)) + 1)
    same = np.full(len(edges) - 1, lat)
    return float(np.sum(GEOD.inv(edges[:-1], same, edges[1:], same)[2]))


def points_inside(polygon: MultiPolygon, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> pd.DataFrame:
    """The grid points strictly inside ``polygon`` (GRID columns): column by column from the west, each northwards.

    The grid is divided into blocks (see `_blocks`), so that time and memory follow the polygon's area and the length of
    its outline, and not its bounding box, which is vast where parts lie far apart.
    """
    shapely.prepare(polygon)
    found = [np.empty(0, np.int64)]
    for first_column, end_column, first_row, end_row, crossed in _blocks(polygon, columns, rows):
        column, row = np.arange(first_column, end_column), np.arange(first_row, end_row)
        index = (column[:, None] * len(rows) + row).ravel()
        if crossed:
            lon, lat = np.repeat(columns[column], len(row)), np.tile(rows[row], len(column))
            index = index[shapely.contains_xy(polygon, lon, lat)]
        found.append(index)
    column, row = np.divmod(np.sort(np.concatenate(found)), max(1, len(rows)))
    return pd.DataFrame(
        {"point_id": np.arange(len(row), dtype="int64"), "lat": rows[row], "lon": wrap(columns[column])}
    )


def _blocks(
    polygon: MultiPolygon, columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> Iterator[tuple[int, int, int, int, bool]]:
    """Blocks of the grid that hold all points inside ``polygon``: first and end column, first and end row, crossed.

    The grid is halved along both axes again and again, until no side of the polygon crosses a block or the block is
    small. A block that no side crosses lies inside as a whole or outside as a whole, as its first point does; those
    outside are left out. Points of a crossed block must be tested one by one.
    """
    outline = shapely.STRtree(sides(polygon))
    blocks = np.array([[0, len(columns), 0, len(rows)]], np.int64)[: min(len(columns), len(rows), 1)]
    while len(blocks):
        left, right, bottom, top = blocks.T
        # A little wider than the points, because a box of a single column or row would have no area.
        boxes = shapely.box(
            columns[left] - _MARGIN_DEG,
            rows[bottom] - _MARGIN_DEG,
            columns[right - 1] + _MARGIN_DEG,
            rows[top - 1] + _MARGIN_DEG,
        )
        crossed = np.zeros(len(blocks), bool)
        crossed[outline.query(boxes, predicate="intersects")[0]] = True
        inside = ~crossed & shapely.contains_xy(polygon, columns[left], rows[bottom])
        small = crossed & ((right - left) * (top - bottom) <= _BLOCK)
        yield from ((*block, False) for block in blocks[inside].tolist())
        yield from ((*block, True) for block in blocks[small].tolist())
        blocks = _quarters(blocks[crossed & ~small])


def _quarters(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each block (left, right, bottom, top; ends excluded) cut in half along both axes, or along one if it is thin."""
    left, right, bottom, top = blocks.T
    column, row = (left + right + 1) // 2, (bottom + top + 1) // 2
    parts = [(a, b, c, d) for a, b in ((left, column), (column, right)) for c, d in ((bottom, row), (row, top))]
    quarters = np.concatenate([np.stack(part, axis=1) for part in parts])
    return quarters[(quarters[:, 0] < quarters[:, 1]) & (quarters[:, 2] < quarters[:, 3])]


def write_geoparquet(points: pd.DataFrame, path: Path) -> None:
    """Write GRID as GeoParquet 1.1 with a point geometry (WKB, EPSG:4326); whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyproj import CRS

    points = conform(GRID, points)
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    table = pa.Table.from_pandas(points, preserve_index=False)
    # In pieces, because geometry objects take ten times the memory of the table.
    pieces = [slice(start, start + _PIECE) for start in range(0, len(points), _PIECE)]
    wkb = [pa.array(shapely.to_wkb(shapely.points(lon[piece], lat[piece])), pa.binary()) for piece in pieces]
    table = table.append_column("geometry", pa.chunked_array(wkb, pa.binary()))
    geometry = {
        "encoding": "WKB",
        "geometry_types": ["Point"],
        "crs": CRS.from_epsg(4326).to_json_dict(),
        "bbox": [float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())],
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    table = table.replace_schema_metadata({"geo": json.dumps(geo, sort_keys=True)})
    with whole(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_dictionary=["lat", "lon"])
