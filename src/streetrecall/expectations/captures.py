"""Suite of the captures: every picture that was planned is there, whole, or is listed with the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
from great_expectations.expectations.row_conditions import Column

from streetrecall import geo, tables
from streetrecall.expectations import pictures
from streetrecall.expectations.custom import (
    ExpectColumnPairValuesToBeOneOf,
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectGroupsToBeComplete,
)
from streetrecall.expectations.gate import Batch, credited, expect
from streetrecall.params.schema import Params

INPUTS = {"captures": Path("data/captures"), "locations": Path("data/locations.parquet")}
VALIDATED = ("captures/captures.parquet",)  # it holds the hash of each picture, which the suite compares


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row a capture with its place and its picture as read, and one row a place with how many it has."""
    limits = params.checks.captures
    captures = tables.read(tables.CAPTURES, inputs["captures"] / "captures.parquet")
    places = tables.read(tables.LOCATIONS, inputs["locations"])
    home = places[["place", "lat", "lon", "split"]].rename(
        columns={"lat": "place_lat", "lon": "place_lon", "split": "place_split"}
    )
    captures = captures.merge(home, on="place", how="left", validate="many_to_one")
    captures["place_distance_m"] = geo.distance_m(
        captures["lat"], captures["lon"], captures["place_lat"], captures["place_lon"]
    )
    captures["has_picture"] = captures["status"].isin(["ok", "blank"])
    found = pictures.read(captures[captures["has_picture"]], inputs["captures"])
    captures = captures.join(found)
    with_picture = Column("has_picture") == True  # noqa: E712  (builds a condition)
    without_picture = Column("has_picture") == False  # noqa: E712
    there = with_picture & Column("read_sha256").is_not_null()
    whole = with_picture & Column("read_error").is_null()
    allowed = [
        limits.max_uncollected_share_of.get(provider, limits.max_uncollected_share)
        for provider in captures["provider"].unique()
    ]
    again = "run the stage scrape again (dvc repro --force scrape): it takes only what the store lacks"
    mend = "dvc checkout data/captures brings the shards back; if they were never whole: dvc repro --force scrape"
    suite = [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without captures nothing can be learned.",
            again,
            figure="captures",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "One row a place, turn and panorama: a second would count a picture twice.",
            again,
            column_list=["place", "direction", "month", "pano_id"],
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "A capture belongs to a place.",
            "locations and captures are of different runs: dvc repro scrape",
            column="place_split",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A capture is of its place's split, else the splits leak.",
            "order.levels has changed since: dvc repro scrape",
            column_A="split",
            column_B="place_split",
            row_condition=Column("place_split").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Panoramas of other years lie some metres off; one further away shows another place.",
            "leave those panoramas out, or raise checks.captures.max_place_distance_m if they are right",
            column="place_distance_m",
            min_value=0,
            max_value=limits.max_place_distance_m,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Every planned capture ends in one of these.",
            again,
            column="status",
            value_set=["ok", "blank", "gone", "failed"],
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "What could not be had is listed with the reason, so that someone can tell a closed road from an error.",
            again,
            column="reason",
            min_value=1,
            row_condition=Column("status") != "ok",
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Only captures with a picture have bytes in a shard.",
            again,
            column="offset",
            value_set=[-1],
            row_condition=without_picture,
        ),
        expect(
            ExpectGroupsToBeComplete,
            "A place is captured in every direction on each date; each turn is there or listed with a reason.",
            again,
            column_list=["place", "date_index", "direction"],
            members=list(range(limits.directions)),
            mostly=limits.min_complete_share,
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Many lost captures mean a provider that refuses or a viewer that has changed.",
            "read the reasons in captures.parquet; then streetrecall scrape --retry-failed",
            figure="lost",
            column="status",
            usual=["ok", "blank"],
            max_share=limits.max_lost_share,
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Some panoramas are black at the source; many blanks mean that frames are taken before they are drawn.",
            "look at some of them; give the viewer longer (network.ready_s)",
            figure="blank",
            column="status",
            usual=["ok", "gone", "failed"],
            max_share=limits.max_blank_share,
        ),
        expect(
            gxe.ExpectColumnValuesToBeNull,
            "A picture that cannot be read would stop the crop stage.",
            mend,
            column="read_error",
            row_condition=with_picture,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The picture in the shard is the one that was captured.",
            mend,
            column_A="sha256",
            column_B="read_sha256",
            row_condition=there,
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The crop's box is in pixels of one size of frame.",
            "checks.captures.frames lists the sizes that crop can handle; scrape with one of them",
            column_A="read_width",
            column_B="read_height",
            pairs=[list(frame) for frame in limits.frames],
            row_condition=whole,
        ),
        *credited(),
    ]
    dates = captures.groupby("place")["date_index"].nunique()
    places["collected"] = places["place"].isin(dates.index).map({True: "yes", False: "no"}).astype("str")
    places_suite = [
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Every place is accounted for. An archive holds a part of its plan only (1,083 of 6,562 places).",
            again,
            figure="places_without_captures",
            column="collected",
            usual=["yes"],
            max_share=max(allowed, default=limits.max_uncollected_share),
        )
    ]
    ids = ("place", "direction", "month", "pano_id", "source")
    return [Batch("captures", captures, ids, suite), Batch("locations", places, ("place", "pano_id"), places_suite)]
