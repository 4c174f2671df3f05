"""Suite of the locations: distance and order within each level, each panorama once, splits present and apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from streetrecall import tables
from streetrecall.expectations.common.custom import (
    ExpectColumnPairValuesToBeOneOf,
    ExpectDistanceToAgreeWithPositions,
    ExpectGroupsToBeApart,
    ExpectPicksToKeepTheirRadius,
)
from streetrecall.expectations.common.suite import Batch, expect, in_metres
from streetrecall.params.checks import CheckLocations
from streetrecall.params.schema import Order, Params

INPUTS = {"locations": Path("data/locations.parquet"), "panoramas": Path("data/panoramas.parquet")}
VALIDATED = ("locations",)

AGAIN = "run the stage order again (`dvc repro --force order`): it writes another table from these panoramas"
MORE_LEVELS = "give the split more levels, or levels of smaller radius, in `order.levels`; or choose a larger polygon"
ONLY_TESTED = (
    "the collection states its splits and lacks these: add pictures of them (images/train, images/val); or measure a "
    "trained embedder without training: `streetrecall set train.start_from=FOLDER train.phases=[] "
    "train.views.phases=[]`"
)
FIRST = Column("first") == True  # noqa: E712  (builds a condition)


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per place, in the order of picking, with its panorama and the start point of its distance."""
    limits, order = params.checks.locations, params.order
    places = tables.read(tables.LOCATIONS, inputs["locations"])
    panoramas = tables.read(tables.PANORAMAS, inputs["panoramas"])
    known = panoramas[["pano_id", "lat", "lon", "beyond"]].rename(
        columns={"lat": "panorama_lat", "lon": "panorama_lon"}
    )
    places = places.merge(known.drop_duplicates("pano_id"), on="pano_id", how="left")
    places["first"] = ~places.duplicated("pano_id")
    places["start_lat"], places["start_lon"] = order.start
    places["other_split_m"] = _distance_to_earlier_splits(places)
    # A collection that states splits decides its places itself, whatever the levels are.
    stated = "split" in panoramas.columns
    levels = [] if stated else _levels(order)
    suite = [
        *_rows(limits),
        *_positions(limits, params.city.crs),
        *levels,
        *_splits(limits, params.train.needed_splits, stated),
    ]
    return [Batch("locations", places, ("place", "pano_id"), suite)]


def _distance_to_earlier_splits(places: pd.DataFrame) -> NDArray[np.float64]:
    """Metres from each place to the nearest place of another split and an earlier level; infinite if there is none."""
    distance = np.full(len(places), np.inf)
    level, split = places["level"].to_numpy(), places["split"].to_numpy()
    xy = places[["x", "y"]].to_numpy(float)
    for number in np.unique(level):
        for own in np.unique(split[level == number]):
            rows, others = (level == number) & (split == own), (level < number) & (split != own)
            if others.any():
                distance[rows] = cKDTree(xy[others]).query(xy[rows])[0]
    return distance


def _rows(limits: CheckLocations) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Training and evaluation need places.",
            "choose a larger polygon, or smaller radii in `order.levels`",
            figure="places",
            min_value=limits.min_places,
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Pictures name their place by its number.", AGAIN, column="place"),
        expect(
            gxe.ExpectColumnValuesToBeUnique,
            "A panorama that is two places could be in train and in test.",
            AGAIN,
            column="pano_id",
        ),
        *(
            expect(
                gxe.ExpectColumnPairValuesToBeEqual,
                "A place is one of the panoramas and has its position.",
                AGAIN,
                column_A=coordinate,
                column_B=f"panorama_{coordinate}",
                ignore_row_if="neither",
                row_condition=FIRST,
            )
            for coordinate in ("lat", "lon")
        ),
    ]


def _positions(limits: CheckLocations, crs: str) -> list[Any]:
    return [
        in_metres("order", crs, limits.position_tolerance_m),
        expect(
            ExpectDistanceToAgreeWithPositions,
            "Places are ordered by their distance to order.start.",
            "`order.start` has changed since: `dvc repro order`",
            column_list=["lat", "lon", "start_lat", "start_lon", "start_distance_m"],
            tolerance_m=limits.position_tolerance_m,
            tolerance_share=0.0,
        ),
    ]


def _levels(order: Order) -> list[Any]:
    sides = 4 * order.quadrant_segments
    return [
        expect(
            ExpectPicksToKeepTheirRadius,
            "A place keeps the radius of its level from every earlier place: nearer places show the same views.",
            AGAIN,
            column_list=["x", "y", "radius_m"],
            disc_share=math.cos(math.pi / sides) if sides else 1.0,
        ),
        expect(
            gxe.ExpectColumnValuesToBeIncreasing,
            "Levels follow each other, from the largest radius to the smallest.",
            AGAIN,
            column="level",
        ),
        *(
            expect(
                gxe.ExpectColumnValuesToBeIncreasing,
                "Within a level, places are picked from near to far, so a larger collection contains a smaller one.",
                AGAIN,
                column="start_distance_m",
                row_condition=Column("level") == number,
            )
            for number in range(len(order.levels))
        ),
        *(
            expect(
                gxe.ExpectColumnValuesToBeBetween,
                "The level keeps away from places of other splits, so that nothing measured is also trained on.",
                AGAIN,
                column="other_split_m",
                min_value=level.apart_m,
                row_condition=Column("level") == number,
            )
            for number, level in enumerate(order.levels)
            if level.apart_m
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Panoramas beyond the grid are only for the gallery: training and measuring stay in the city.",
            AGAIN,
            column="beyond",
            value_set=[False],
            row_condition=Column("split") != "gallery",
        ),
        *(
            expect(
                ExpectColumnPairValuesToBeOneOf,
                f"The level decides the {word}.",
                "`order.levels` has changed since: `dvc repro order`",
                column_A="level",
                column_B=column,
                pairs=[[number, getattr(level, column)] for number, level in enumerate(order.levels)],
            )
            for word, column in (("split", "split"), ("radius", "radius_m"))
        ),
    ]


def _splits(limits: CheckLocations, needed: list[str], stated: bool) -> list[Any]:
    """``stated``: the collection states the split of each of its pictures."""
    return [
        expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "Training, the choice of the best epoch and the final measurement each need their own places.",
            ONLY_TESTED if stated else MORE_LEVELS,
            column="split",
            value_set=needed,
        ),
        expect(
            ExpectGroupsToBeApart,
            "Places of different splits that lie nearer show the same facades, so the test would measure memory.",
            "raise the smallest radius of `order.levels`, or lower `checks.locations.min_split_distance_m` on purpose",
            column_list=["x", "y", "split"],
            min_m=limits.min_split_distance_m,
            row_condition=Column("split") != "gallery",
        ),
    ]
