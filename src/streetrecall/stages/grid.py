"""Stage `grid`: every point of a regular grid that lies inside the city's polygon."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.figures.grid import draw_grid
from streetrecall.files import whole, write_json
from streetrecall.geo import GEOD, count_features, read_polygon, round_polygon
from streetrecall.params import schema as parameters
from streetrecall.params.schema import Params
from streetrecall.providers import polygon_path
from streetrecall.tables import GRID, conform

if TYPE_CHECKING:
    from shapely.geometry import MultiPolygon

log = logging.getLogger(__name__)

_CHUNK = 2_000_000  # candidates tested at a time, to bound the memory for a large city
_MAX_CANDIDATES = 2_000_000_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cities", type=Path, required=True, help="folder of polygons, NAME.geojson")
    parser.add_argument("--grid", type=Path, required=True, help="GeoParquet to write")
    parser.add_argument("--plot", type=Path, required=True, help="PNG to write")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON to write")


def main(args: argparse.Namespace) -> None:
    run(parameters.load(args.params), args.cities, args.grid, args.plot, args.metrics)


def run(params: Params, cities: Path, grid: Path, plot: Path, metrics: Path) -> None:
    """Write the grid (GRID as GeoParquet), its picture and its counts.

    Raises:
        UserError: the polygon cannot be found or used, or no grid point lies inside it.
    """
    path = polygon_path(params, cities)
    polygon = round_polygon(read_polygon(path, params.city.crs, params.grid.features), params.grid.decimals)
    ignored = count_features(path) - 1 if params.grid.features == "first" else 0
    if ignored > 0:
        log.warning("%s: only the first of its %d polygons is used; grid.features: all uses all", path, ignored + 1)

    columns, rows = axes(polygon, params.grid.spacing_m)
    points = points_inside(polygon, columns, rows)
    if points.empty:
        raise UserError(
            f"{path}: no point of a {params.grid.spacing_m:g} m grid lies inside the polygon; "
            "make grid.spacing_m smaller or the polygon larger"
        )
    write_geoparquet(points, grid)
    draw_grid(points, polygon, params.city.crs, params.grid.spacing_m, plot)
    write_json(
        metrics,
        {
            "candidates": len(columns) * len(rows),
            "columns": len(columns),
            "rows": len(rows),
            "points": len(points),
            "features_ignored": ignored,
            "polygons": len(polygon.geoms),
            "area_km2": round(sum(abs(GEOD.geometry_area_perimeter(part)[0]) for part in polygon.geoms) / 1e6, 3),
        },
    )
    log.info("%d of %d grid points lie inside %s", len(points), len(columns) * len(rows), path)


def axes(polygon: MultiPolygon, spacing_m: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitudes (west to east) and latitudes (south to north) of the grid over the polygon's bounding box, degrees.

    Each axis is divided into ``int(length / spacing_m)`` equal steps, without the upper edge. Lengths are geodesic; the
    east-west one is measured along the northern edge, where it is shortest north of the equator.

    Raises:
        UserError: the box is smaller than one step, or the grid would be too large to test.
    """
    west, south, east, north = polygon.bounds
    columns = int(GEOD.inv(west, north, east, north)[2] / spacing_m)
    rows = int(GEOD.inv(west, south, west, north)[2] / spacing_m)
    if columns * rows > _MAX_CANDIDATES:
        raise UserError(
            f"params.yaml: grid.spacing_m: {spacing_m:g} m over this polygon makes {columns} x {rows} points to test; "
            "use a wider spacing or a smaller polygon"
        )
    return np.linspace(west, east, columns, endpoint=False), np.linspace(south, north, rows, endpoint=False)


def points_inside(polygon: MultiPolygon, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> pd.DataFrame:
    """The grid points strictly inside ``polygon`` (GRID columns): column by column from the west, each northwards."""
    import shapely

    shapely.prepare(polygon)
    lon, lat = [], []
    step = max(1, _CHUNK // max(1, len(rows)))
    for start in range(0, len(columns), step):
        part = columns[start : start + step]
        east, north = np.repeat(part, len(rows)), np.tile(rows, len(part))
        inside = shapely.contains_xy(polygon, east, north)
        lon.append(east[inside])
        lat.append(north[inside])
    lons, lats = (np.concatenate(c) if c else np.empty(0) for c in (lon, lat))
    return pd.DataFrame({"point_id": np.arange(len(lons), dtype="int64"), "lat": lats, "lon": lons})


def write_geoparquet(points: pd.DataFrame, path: Path) -> None:
    """Write GRID as GeoParquet 1.1 with a point geometry (WKB, EPSG:4326); whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely
    from pyproj import CRS

    points = conform(GRID, points)
    lon, lat = points["lon"].to_numpy(), points["lat"].to_numpy()
    table = pa.Table.from_pandas(points, preserve_index=False)
    table = table.append_column("geometry", pa.array(shapely.to_wkb(shapely.points(lon, lat)), pa.binary()))
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
