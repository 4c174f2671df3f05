"""Suite of the locations: spacing and order of each level, panoramas picked once, splits present and apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations.custom import (
    ExpectColumnPairValuesToBeOneOf,
    ExpectDistanceToAgreeWithPositions,
    ExpectGroupsToBeApart,
    ExpectPicksToKeepTheirRadius,
    ExpectPositionsToAgree,
)
from streetrecall.expectations.gate import Batch, expect
from streetrecall.params.schema import Params

INPUTS = {"locations": Path("data/locations.parquet"), "panoramas": Path("data/panoramas.parquet")}
VALIDATED = ("locations",)


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row a place, in picking order, with the panorama that it is and the distance's origin."""
    limits, order = params.checks.locations, params.order
    places = tables.read(tables.LOCATIONS, inputs["locations"])
    panoramas = tables.read(tables.PANORAMAS, inputs["panoramas"])
    known = panoramas[["pano_id", "lat", "lon"]].rename(columns={"lat": "panorama_lat", "lon": "panorama_lon"})
    places = places.merge(known.drop_duplicates("pano_id"), on="pano_id", how="left")
    places["first"] = ~places.duplicated("pano_id")
    places["start_lat"], places["start_lon"] = order.start
    sides = 4 * order.quadrant_segments
    first = Column("first") == True  # noqa: E712  (builds a condition)
    again = "run the stage order again (dvc repro --force order): the table is not what it writes from these panoramas"
    suite = [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Training and evaluation need places.",
            "take a larger polygon or smaller radii in order.levels",
            figure="places",
            min_value=limits.min_places,
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Pictures name their place by its number.", again, column="place"),
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "A panorama that is two places would be both in train and in test.",
            again,
            column="pano_id",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A place is one of the panoramas, at its position.",
            again,
            column_A="lat",
            column_B="panorama_lat",
            ignore_row_if="neither",
            row_condition=first,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A place is one of the panoramas, at its position.",
            again,
            column_A="lon",
            column_B="panorama_lon",
            ignore_row_if="neither",
            row_condition=first,
        ),
        expect(
            ExpectPositionsToAgree,
            "Spacing is measured in metres, so the metres must be those of the degrees.",
            "city.crs has changed since: dvc repro order",
            column_list=["lat", "lon", "x", "y"],
            crs=params.city.crs,
            tolerance_m=limits.position_tolerance_m,
        ),
        expect(
            ExpectDistanceToAgreeWithPositions,
            "The order is by distance to order.start.",
            "order.start has changed since: dvc repro order",
            column_list=["lat", "lon", "start_lat", "start_lon", "start_distance_m"],
            tolerance_m=limits.position_tolerance_m,
            tolerance_share=0.0,
        ),
        expect(
            ExpectPicksToKeepTheirRadius,
            "A level takes only what lies outside its radius of every earlier pick: nearer places show the same views.",
            again,
            column_list=["x", "y", "radius_m"],
            disc_share=math.cos(math.pi / sides) if sides else 1.0,
        ),
        expect(
            gxe.ExpectColumnValuesToBeIncreasing,
            "Levels follow one another, from wide to narrow.",
            again,
            column="level",
        ),
        *(
            expect(
                gxe.ExpectColumnValuesToBeIncreasing,
                "Within a level places are picked from near to far, so that more places only add to what is there.",
                again,
                column="start_distance_m",
                row_condition=Column("level") == number,
            )
            for number in range(len(order.levels))
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The level decides the split.",
            "order.levels has changed since: dvc repro order",
            column_A="level",
            column_B="split",
            pairs=[[number, level.split] for number, level in enumerate(order.levels)],
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The level decides the radius.",
            "order.levels has changed since: dvc repro order",
            column_A="level",
            column_B="radius_m",
            pairs=[[number, level.radius_m] for number, level in enumerate(order.levels)],
        ),
        expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "Training, choosing the epoch and the final measure each need places of their own.",
            "give a split more or narrower levels in order.levels, or take a larger polygon",
            column="split",
            value_set=["train", "validation", "test"],
        ),
        expect(
            ExpectGroupsToBeApart,
            "Places of different splits that lie nearer show the same facades: the test would measure memory.",
            "raise the smallest radius of order.levels, or lower checks.locations.min_split_distance_m knowingly",
            column_list=["x", "y", "split"],
            min_m=limits.min_split_distance_m,
        ),
    ]
    return [Batch("locations", places, ("place", "pano_id"), suite)]
