"""Suite of the captures: every planned picture exists and is whole, or is listed with the reason why it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from streetrecall import geo, tables
from streetrecall.expectations.common import pictures
from streetrecall.expectations.common.custom import (
    ExpectColumnPairValuesToBeOneOf,
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectGroupsToBeComplete,
)
from streetrecall.expectations.common.suite import RETRY, Batch, credited, expect
from streetrecall.params.checks import CheckCaptures
from streetrecall.params.schema import Params
from streetrecall.tables import CaptureStatus, Projection

INPUTS = {"captures": Path("data/captures"), "locations": Path("data/locations.parquet")}
VALIDATED = ("captures/captures.parquet",)  # it holds the hash of each picture, and the suite compares these

AGAIN = "run the stage scrape again (`dvc repro --force scrape`): it requests only what the store lacks"
RESTORE = "`dvc checkout scrape` restores the shards; if they were never whole, run `dvc repro --force scrape`"
STATUSES = [status.value for status in CaptureStatus]
PICTURED = [status.value for status in tables.WITH_PICTURE]
WITH_PICTURE = Column("has_picture") == True  # noqa: E712  (builds a condition)
PERSPECTIVE = Column("projection") == str(Projection.PERSPECTIVE)
SPHERE = Column("projection") == str(Projection.EQUIRECTANGULAR)
WITHOUT_PICTURE = Column("has_picture") == False  # noqa: E712


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per capture, with its place and its picture as read; one row per place, with whether it has captures."""
    limits = params.checks.captures
    captures = tables.read(tables.CAPTURES, inputs["captures"] / "captures.parquet")
    places = tables.read(tables.LOCATIONS, inputs["locations"])
    captures = _with_places_and_pictures(captures, places, inputs["captures"])
    dates = captures.groupby("place")["date_index"].nunique()
    places["collected"] = places["place"].isin(dates.index).map({True: "yes", False: "no"}).astype("str")
    shares = [
        limits.max_uncollected_share_of.get(provider, limits.max_uncollected_share)
        for provider in captures["provider"].unique()
    ]
    ids = ("place", "direction", "month", "pano_id", "source")
    complete = min(
        (limits.min_complete_share_of.get(p, limits.min_complete_share) for p in captures["provider"].unique()),
        default=limits.min_complete_share,
    )
    suite = [*_rows(limits), *_statuses(limits, complete), *_pictures(limits), *credited()]
    return [
        Batch("captures", captures, ids, suite),
        Batch("locations", places, ("place", "pano_id"), _places(max(shares, default=limits.max_uncollected_share))),
    ]


def _with_places_and_pictures(captures: pd.DataFrame, places: pd.DataFrame, root: Path) -> pd.DataFrame:
    """``captures`` beside the position and split of their place, and beside what their shard holds."""
    home = places[["place", "lat", "lon", "split"]].rename(
        columns={"lat": "place_lat", "lon": "place_lon", "split": "place_split"}
    )
    captures = captures.merge(home, on="place", how="left", validate="many_to_one")
    captures["place_distance_m"] = geo.distance_m(
        captures["lat"], captures["lon"], captures["place_lat"], captures["place_lon"]
    )
    captures["has_picture"] = captures["status"].isin(tables.WITH_PICTURE)
    captures = captures.join(pictures.read(captures[captures["has_picture"]], root))
    return captures.assign(read_height_twice=2 * captures["read_height"])


def _rows(limits: CheckCaptures) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without captures there is nothing to train on.",
            AGAIN,
            figure="captures",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "The stages crop and views must know how a picture shows the world.",
            "the provider's module must give the projection of each capture",
            column="projection",
            value_set=[str(projection) for projection in Projection],
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "There is one row per place, direction and panorama: a second row would count a picture twice.",
            AGAIN,
            column_list=["place", "direction", "month", "pano_id"],
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "Every capture belongs to a place.",
            "locations and captures come from different runs: `dvc repro scrape`",
            column="place_split",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A capture has the split of its place; otherwise the splits would leak.",
            "`order.levels` has changed since: `dvc repro scrape`",
            column_A="split",
            column_B="place_split",
            row_condition=Column("place_split").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Panoramas of other years lie a few metres away; one that is further away shows another place.",
            "leave those panoramas out, or raise `checks.captures.max_place_distance_m` if they are right",
            column="place_distance_m",
            min_value=0,
            max_value=limits.max_place_distance_m,
        ),
    ]


def _statuses(limits: CheckCaptures, complete: float) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Every planned capture ends with one of these statuses.",
            AGAIN,
            column="status",
            value_set=STATUSES,
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "A capture without a good picture has a reason, so that a closed road can be told from an error.",
            AGAIN,
            column="reason",
            min_value=1,
            row_condition=Column("status") != CaptureStatus.OK.value,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Only captures with a picture have bytes in a shard.",
            AGAIN,
            column="offset",
            value_set=[-1],
            row_condition=WITHOUT_PICTURE,
        ),
        expect(
            ExpectGroupsToBeComplete,
            "Frames are taken in every direction on each date; each direction is present or listed with a reason.",
            AGAIN,
            column_list=["place", "date_index", "direction"],
            members=list(range(limits.directions)),
            mostly=complete,
            row_condition=PERSPECTIVE,
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Many lost captures mean that the provider refuses requests or that its viewer has changed.",
            f"read the reasons in captures.parquet; to try those captures again, {RETRY}",
            figure="lost",
            column="status",
            usual=PICTURED,
            max_share=limits.max_lost_share,
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "A few panoramas are black at the source; many mean that pictures are taken before the viewer has drawn.",
            "look at some of them; allow the viewer more time (`network.ready_s`)",
            figure="blank",
            column="status",
            usual=[status for status in STATUSES if status != CaptureStatus.BLANK],
            max_share=limits.max_blank_share,
        ),
    ]


def _pictures(limits: CheckCaptures) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeNull,
            "A picture that cannot be read would stop the crop stage.",
            RESTORE,
            column="read_error",
            row_condition=WITH_PICTURE,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The picture in the shard is the one that was captured.",
            RESTORE,
            column_A="sha256",
            column_B="read_sha256",
            row_condition=WITH_PICTURE & Column("read_sha256").is_not_null(),
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The crop stage expects frames of a known size, because its box is given in pixels. It puts a few others "
            "into quarantine.",
            "scrape with one of the sizes that crop can handle (`checks.captures.frames`)",
            column_A="read_width",
            column_B="read_height",
            pairs=[list(frame) for frame in limits.frames],
            mostly=limits.min_framed_share,
            row_condition=PERSPECTIVE & WITH_PICTURE & Column("read_error").is_null(),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "An equirectangular picture holds the whole sphere, so it is twice as wide as high.",
            "the provider's module must call the projection of any other picture perspective",
            column_A="read_width",
            column_B="read_height_twice",
            row_condition=SPHERE & WITH_PICTURE & Column("read_error").is_null(),
        ),
    ]


def _places(allowed: float) -> list[Any]:
    return [
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Every place has captures. A collection that was made before may cover a part (1,083 of 6,562 places).",
            AGAIN,
            figure="places_without_captures",
            column="collected",
            usual=["yes"],
            max_share=allowed,
        )
    ]
