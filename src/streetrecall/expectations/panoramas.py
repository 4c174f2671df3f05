"""Suite of the panoramas: ids, months, offsets to the grid, coverage, licences; no point with and without coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column
from scipy.spatial import cKDTree

from streetrecall import geo, months, tables
from streetrecall.expectations.common.custom import (
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectColumnValuesToBeMonthsBetween,
    ExpectDistanceToAgreeWithPositions,
)
from streetrecall.expectations.common.suite import Batch, credited, expect
from streetrecall.params.checks import CheckPanoramas
from streetrecall.params.schema import Params

INPUTS = {
    "panoramas": Path("data/panoramas.parquet"),
    "no_coverage": Path("data/no_coverage.parquet"),
    "grid": Path("data/grid.parquet"),
}
VALIDATED = ("panoramas", "no_coverage")

AGAIN = "run the stage metadata again (`dvc repro --force metadata`); it does not repeat requests that were answered"
OF_GRID = Column("beyond") == False  # noqa: E712  (builds a condition)
MIXED = "the grid and this table come from different runs: `dvc repro metadata`"


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per panorama, with its grid point; one row per grid point without coverage; one row per grid point."""
    limits = params.checks.panoramas
    panoramas = tables.read(tables.PANORAMAS, inputs["panoramas"])
    missing = tables.read(tables.NO_COVERAGE, inputs["no_coverage"])
    grid = tables.read(tables.GRID, inputs["grid"])
    found = _with_grid(panoramas, grid, params.city.crs)
    grid["coverage"] = np.where(grid["point_id"].isin(set(missing["point_id"])), "none", "")
    missing["on_grid"] = missing["point_id"].isin(set(grid["point_id"]))
    of_grid = panoramas[~panoramas["beyond"]]
    missing["found_too"] = missing["point_id"].isin(set(of_grid["point_id"]))
    providers = list(panoramas["provider"].unique())
    unknown = max(
        (limits.max_unknown_month_share_of.get(p, limits.max_unknown_month_share) for p in providers),
        default=limits.max_unknown_month_share,
    )
    uncovered = max(
        (limits.max_uncovered_share_of.get(p, limits.max_uncovered_share) for p in providers),
        default=limits.max_uncovered_share,
    )
    suite = [*_rows(limits), *_months(limits, unknown), *_offsets(limits), *credited(), _one_provider()]
    return [
        Batch("panoramas", found, ("pano_id", "point_id"), suite),
        Batch("no_coverage", missing, ("point_id",), _missing()),
        Batch("grid", grid, ("point_id",), _coverage(uncovered)),
    ]


def _with_grid(panoramas: pd.DataFrame, grid: pd.DataFrame, crs: str) -> pd.DataFrame:
    """``panoramas`` beside the grid point of each, and the distance to the nearest grid point of all, metres."""
    points = grid.rename(columns={"lat": "grid_lat", "lon": "grid_lon"})
    found = panoramas.merge(points, on="point_id", how="left", validate="many_to_one")
    grid_xy = np.column_stack(geo.project(grid["lat"], grid["lon"], crs))
    xy = np.column_stack(geo.project(found["lat"], found["lon"], crs))
    usable = np.isfinite(xy).all(axis=1)
    found["grid_distance_m"] = np.nan
    if len(grid):
        found.loc[usable, "grid_distance_m"] = cKDTree(grid_xy).query(xy[usable])[0]
    return found


def _rows(limits: CheckPanoramas) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without panoramas there is nothing to collect.",
            "see metrics/metadata.json for the answers of the provider",
            figure="panoramas",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "Each panorama is picked at most once; one that occurs twice would be two places.",
            AGAIN,
            column="pano_id",
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "A capture is requested by the id of its panorama.",
            AGAIN,
            column="pano_id",
            min_value=1,
        ),
    ]


def _months(limits: CheckPanoramas, unknown: float) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToMatchRegex,
            "Months order the pictures of a place; in another format the order would be wrong.",
            "the provider's module must give dates as YYYY-MM, or as an empty text if there is no date",
            column="month",
            regex=f"^{months.PATTERN}$",
            row_condition=Column("month") != "",
        ),
        expect(
            ExpectColumnValuesToBeMonthsBetween,
            "A month before street-level imagery existed, or in the far future, is a wrong date.",
            "look at these panoramas; if they are right, change the limits (such as `checks.panoramas.first_month`)",
            column="month",
            first=limits.first_month,
            last=limits.last_month,
            row_condition=Column("month") != "",
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "A picture without a month cannot be ordered among the others of its place.",
            "a few are normal; more mean that the answers of the provider are read wrongly",
            column="month",
            value_set=[""],
            mostly=1 - unknown,
        ),
    ]


def _offsets(limits: CheckPanoramas) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "The offset is measured from the grid point at which the panorama was found, so that point must exist.",
            MIXED,
            column="grid_lat",
        ),
        expect(
            ExpectDistanceToAgreeWithPositions,
            "An offset that does not fit the positions means that rows or positions were mixed up.",
            MIXED,
            column_list=["lat", "lon", "grid_lat", "grid_lon", "offset_m"],
            tolerance_m=limits.offset_tolerance_m,
            tolerance_share=0.0,
            row_condition=Column("grid_lat").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnMedianToBeBetween,
            "In Stockholm, half of the panoramas lie within 13 m of their grid point; far more means a shifted grid.",
            "plot the panoramas over the grid; latitude and longitude may be swapped, or the CRS may be wrong",
            figure="offset_median_m",
            column="offset_m",
            min_value=0,
            max_value=limits.max_median_offset_m,
            row_condition=OF_GRID,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A provider searches within metadata.radius_m of a point (in Stockholm, 5% are found beyond 43 m).",
            "compare `metadata.radius_m` with `checks.panoramas.max_p95_offset_m`",
            column="offset_m",
            max_value=limits.max_p95_offset_m,
            mostly=0.95,
            row_condition=OF_GRID,
        ),
        expect(
            gxe.ExpectColumnMaxToBeBetween,
            "A panorama that is a street away belongs to another point (the furthest in Stockholm: 209 m).",
            "leave those panoramas out, or raise `checks.panoramas.max_offset_m` if they are right",
            figure="offset_max_m",
            column="offset_m",
            min_value=0,
            max_value=limits.max_offset_m,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The grid fills the polygon of the city, so a panorama far from all of its points lies outside the city.",
            "the panoramas come from another city or polygon: `dvc repro --force metadata`",
            column="grid_distance_m",
            min_value=0,
            max_value=limits.max_outside_m,
        ),
    ]


def _one_provider() -> Any:
    return expect(
        gxe.ExpectColumnUniqueValueCountToBeBetween,
        "A run uses one provider; two providers mean that tables of two runs were mixed.",
        AGAIN,
        column="provider",
        min_value=1,
        max_value=1,
    )


def _missing() -> list[Any]:
    return [
        expect(gxe.ExpectColumnValuesToBeUnique, "The provider is asked once per point.", AGAIN, column="point_id"),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Points without imagery are points of this grid.",
            MIXED,
            column="on_grid",
            value_set=[True],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A point either has imagery or has none.",
            AGAIN,
            column="found_too",
            value_set=[False],
        ),
    ]


def _coverage(uncovered: float) -> list[Any]:
    return [
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "A provider without imagery in most of a city is the wrong one, or the requests were wrong.",
            "see metrics/metadata.json; choose another `provider`, or raise `checks.panoramas.max_uncovered_share`",
            figure="uncovered",
            column="coverage",
            usual=[""],
            max_share=uncovered,
        ),
    ]
