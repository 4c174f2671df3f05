"""Suite of the grid: enough points, each once, in EPSG:4326, inside the polygon, `grid.spacing_m` apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from streetrecall import geo, polygons, tables
from streetrecall.errors import UserError
from streetrecall.expectations.common.custom import ExpectNearestNeighbourToBeBetween
from streetrecall.expectations.common.suite import Batch, expect
from streetrecall.params.checks import CheckGrid
from streetrecall.params.schema import Grid, Params
from streetrecall.providers import polygon_path

INPUTS = {"grid": Path("data/grid.parquet"), "cities": Path("data/cities")}
VALIDATED = ("grid",)

MIN_SHARE = 0.6  # as of streetrecall.stages.grid: points along streets may be so much nearer, share of the spacing
AGAIN = "run the stage grid again (`dvc repro --force grid`); if that does not help, look at the polygon in data/cities"


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per grid point, with its projected position, its stored geometry and its CRS."""
    import shapely

    grid = tables.read(tables.GRID, inputs["grid"])
    grid["x"], grid["y"] = geo.project(grid["lat"], grid["lon"], params.city.crs)
    stored = pq.read_table(inputs["grid"])
    if "geometry" not in stored.column_names:
        raise UserError(f"{inputs['grid']}: has no geometry column, so it is not GeoParquet; run the stage grid again")
    geometry = shapely.from_wkb(stored["geometry"].to_numpy(zero_copy_only=False))
    grid["geometry_lon"], grid["geometry_lat"] = shapely.get_x(geometry), shapely.get_y(geometry)
    grid["crs"] = pd.Series([_crs(stored.schema.metadata or {})] * len(grid), dtype="str")
    path = polygon_path(params, inputs["cities"])
    polygon = polygons.read_polygon(path, params.city.crs, params.grid.features)
    polygon = polygons.round_polygon(polygon, params.grid.decimals)
    shapely.prepare(polygon)
    grid["inside"] = polygons.contains(polygon, grid["lon"], grid["lat"])
    # A grid with n steps along its shorter side stretches each step by up to 1/n, so that it ends at the edge.
    spacing = params.grid.spacing_m
    steps = max(1.0, min(np.ptp(grid["x"]), np.ptp(grid["y"])) / spacing) if len(grid) else 1.0
    return [Batch("grid", grid, ("point_id", "lat", "lon"), _points(params.checks.grid, params.grid, steps))]


def _points(limits: CheckGrid, grid: Grid, steps: float) -> list[Any]:
    """The suite; ``steps`` is the number of points along the shorter side of the grid."""
    tolerance, spacing_m = limits.spacing_tolerance, grid.spacing_m
    least, most = spacing_m * (1 - tolerance), spacing_m * (1 + tolerance + 1 / steps)
    if grid.kind == "streets":  # streets meet at any angle, and a street may lie far from any other
        least, most = spacing_m * MIN_SHARE * (1 - tolerance), 1e7
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "A grid of a few points means that the polygon is tiny or that its axes are swapped.",
            "look at the polygon (longitude comes first in GeoJSON) and at `grid.spacing_m`",
            figure="points",
            min_value=limits.min_points,
            max_value=limits.max_points,
        ),
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "Later tables name a point by its id.",
            AGAIN,
            column="point_id",
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "The provider would be asked twice for a point that occurs twice.",
            AGAIN,
            column_list=["lat", "lon"],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "All positions of the pipeline are WGS 84 degrees; another CRS would shift every later table.",
            "give the polygon in EPSG:4326 (ogr2ogr -t_srs EPSG:4326)",
            column="crs",
            value_set=["EPSG:4326"],
        ),
        *(
            expect(
                gxe.ExpectColumnPairValuesToBeEqual,
                "The geometry that a GIS reads and the columns that the pipeline reads are the same point.",
                AGAIN,
                column_A=coordinate,
                column_B=f"geometry_{coordinate}",
                ignore_row_if="neither",
            )
            for coordinate in ("lat", "lon")
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A point outside the polygon is outside the city, or comes from an older polygon.",
            "the polygon, `city.name` or `grid.decimals` has changed since: `dvc repro grid`",
            column="inside",
            value_set=[True],
        ),
        expect(
            ExpectNearestNeighbourToBeBetween,
            "The spacing decides how many requests a city costs and how far from a grid point a panorama can be.",
            "compare `grid.spacing_m` with the grid; distances are wrong for a city far outside the zone of `city.crs`",
            column_list=["x", "y"],
            min_m=least,
            max_m=most,
            mostly=limits.spacing_mostly,
        ),
    ]


def _crs(metadata: Mapping[bytes, bytes]) -> str:
    """Authority and code of the CRS of a GeoParquet file; a file that names none is in OGC:CRS84, the same degrees."""
    column = json.loads(metadata.get(b"geo", b"{}")).get("columns", {}).get("geometry", {})
    if not column:
        return "none"
    identity = (column.get("crs") or {}).get("id") or {"authority": "EPSG", "code": 4326}
    name = f"{identity['authority']}:{identity['code']}"
    return "EPSG:4326" if name == "OGC:CRS84" else name
