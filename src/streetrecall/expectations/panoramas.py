"""Suite of the panoramas: ids, months, offsets to the grid, coverage, licences; no point both found and not found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
from great_expectations.expectations.row_conditions import Column
from scipy.spatial import cKDTree

from streetrecall import geo, months, tables
from streetrecall.expectations.custom import (
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectColumnValuesToBeMonthsBetween,
    ExpectDistanceToAgreeWithPositions,
)
from streetrecall.expectations.gate import Batch, credited, expect
from streetrecall.params.schema import Params

INPUTS = {
    "panoramas": Path("data/panoramas.parquet"),
    "no_coverage": Path("data/no_coverage.parquet"),
    "grid": Path("data/grid.parquet"),
}
VALIDATED = ("panoramas", "no_coverage")


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row a panorama with its grid point, and one row a grid point with what was found there."""
    limits = params.checks.panoramas
    panoramas = tables.read(tables.PANORAMAS, inputs["panoramas"])
    missing = tables.read(tables.NO_COVERAGE, inputs["no_coverage"])
    grid = tables.read(tables.GRID, inputs["grid"])
    points = grid.rename(columns={"lat": "grid_lat", "lon": "grid_lon"})
    found = panoramas.merge(points, on="point_id", how="left", validate="many_to_one")
    grid_xy = np.column_stack(geo.project(grid["lat"], grid["lon"], params.city.crs))
    xy = np.column_stack(geo.project(found["lat"], found["lon"], params.city.crs))
    usable = np.isfinite(xy).all(axis=1)
    found["grid_distance_m"] = np.nan
    if len(grid):
        found.loc[usable, "grid_distance_m"] = cKDTree(grid_xy).query(xy[usable])[0]

    ask_again = "run the stage metadata again (dvc repro --force metadata); answers that are known are not asked anew"
    suite = [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without panoramas there is nothing to collect.",
            "see metrics/metadata.json for what the provider answered",
            figure="panoramas",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "Each panorama is picked at most once; one that is there twice would be two places.",
            ask_again,
            column="pano_id",
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "The capture asks for a panorama by its id.",
            ask_again,
            column="pano_id",
            min_value=1,
        ),
        expect(
            gxe.ExpectColumnValuesToMatchRegex,
            "Months order the pictures of a place; another spelling would order them wrongly.",
            "the provider's module must turn its dates into YYYY-MM, or into an empty text where it says none",
            column="month",
            regex=f"^{months.PATTERN}$",
            row_condition=Column("month") != "",
        ),
        expect(
            ExpectColumnValuesToBeMonthsBetween,
            "A month before street-level imagery existed, or far ahead, is a wrong date.",
            "look at these panoramas; if the months are right, widen checks.panoramas.first_month or last_month",
            column="month",
            first=limits.first_month,
            last=limits.last_month,
            row_condition=Column("month") != "",
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "A picture without a month cannot be told from an older or newer one of its place.",
            "some are normal; more than that means that the provider's answer is read wrongly",
            column="month",
            value_set=[""],
            mostly=1 - limits.max_unknown_month_share,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "The offset is measured from the grid point that found the panorama, so that point must exist.",
            "grid and panoramas are of different runs: dvc repro metadata",
            column="grid_lat",
        ),
        expect(
            ExpectDistanceToAgreeWithPositions,
            "An offset that does not fit the positions means that one of the two was mixed up.",
            "grid and panoramas are of different runs: dvc repro metadata",
            column_list=["lat", "lon", "grid_lat", "grid_lon", "offset_m"],
            tolerance_m=limits.offset_tolerance_m,
            tolerance_share=0.0,
            row_condition=Column("grid_lat").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnMedianToBeBetween,
            "Half of Stockholm's panoramas lie within 13 m of the point that found them; far more is a shifted grid.",
            "plot panoramas over the grid; latitude and longitude may be swapped, or the CRS wrong",
            figure="offset_median_m",
            column="offset_m",
            min_value=0,
            max_value=limits.max_median_offset_m,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The provider searches metadata.radius_m around a point and is seldom far off (Stockholm: 5% beyond 43 m).",
            "compare metadata.radius_m with checks.panoramas.max_p95_offset_m",
            column="offset_m",
            max_value=limits.max_p95_offset_m,
            mostly=0.95,
        ),
        expect(
            gxe.ExpectColumnMaxToBeBetween,
            "A panorama a street away belongs to another point (the furthest of Stockholm: 209 m).",
            "leave those panoramas out, or raise checks.panoramas.max_offset_m if they are right",
            figure="offset_max_m",
            column="offset_m",
            min_value=0,
            max_value=limits.max_offset_m,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The grid fills the city's polygon: a panorama far from all of its points lies outside the city.",
            "the panoramas are of another city or polygon: dvc repro --force metadata",
            column="grid_distance_m",
            min_value=0,
            max_value=limits.max_outside_m,
        ),
        *credited(),
        expect(
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            "A run asks one provider; two mean that tables of two runs were mixed.",
            ask_again,
            column="provider",
            min_value=1,
            max_value=1,
        ),
    ]

    grid["coverage"] = np.where(grid["point_id"].isin(set(missing["point_id"])), "none", "")
    missing["on_grid"] = missing["point_id"].isin(set(grid["point_id"]))
    missing["found_too"] = missing["point_id"].isin(set(panoramas["point_id"]))
    points_suite = [
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "A provider that knows nothing of most of a city is the wrong one, or was asked wrongly.",
            "see metrics/metadata.json; ask another provider, or raise checks.panoramas.max_uncovered_share knowingly",
            figure="uncovered",
            column="coverage",
            usual=[""],
            max_share=limits.max_uncovered_share,
        ),
    ]
    missing_suite = [
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "A point is asked once.",
            ask_again,
            column="point_id",
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Points without imagery are points of this grid.",
            "grid and no_coverage are of different runs: dvc repro metadata",
            column="on_grid",
            value_set=[True],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A point either has imagery or has none.",
            ask_again,
            column="found_too",
            value_set=[False],
        ),
    ]
    return [
        Batch("panoramas", found, ("pano_id", "point_id"), suite),
        Batch("no_coverage", missing, ("point_id",), missing_suite),
        Batch("grid", grid, ("point_id",), points_suite),
    ]
