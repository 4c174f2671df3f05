"""Suite of the crops: size and light, nothing leaked between places and splits, quarantine, enough for training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations import pictures
from streetrecall.expectations.custom import (
    ExpectColumnAHashesToBeApartAcrossColumnB,
    ExpectColumnAValuesNotToBeSharedAcrossColumnB,
    ExpectColumnPairValuesToBeOneOf,
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectGroupsToBeApart,
    ExpectPositionsToAgree,
)
from streetrecall.expectations.gate import Batch, credited, expect
from streetrecall.params.schema import Params

INPUTS = {"crops": Path("data/crops"), "captures": Path("data/captures/captures.parquet")}
VALIDATED = ("crops/images.parquet",)  # it holds the hash of each picture, which the suite compares
REASONS = (
    "blank",
    "undecodable",
    "wrong_shape",
    "duplicate_across_splits",
    "duplicate_across_places",
    "duplicate_within_place",
)


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row a picture as the table says and as read; one row a capture; one row a place with what it offers."""
    limits, size = params.checks.crops, params.crop.size
    images = tables.read(tables.IMAGES, inputs["crops"] / "images.parquet")
    images = images.join(pictures.read(images, inputs["crops"]))
    captures = tables.read(tables.CAPTURES, inputs["captures"])
    used = Column("quarantine") == ""
    whole = used & Column("read_error").is_null()
    again = "run the stage crop again (dvc repro --force crop)"
    mend = "dvc checkout data/crops brings the shards back; if they were never whole: dvc repro --force crop"
    policy = "crop.quarantine decides which pictures are kept out; name the reason there, then dvc repro crop"
    suite = [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without pictures nothing can be learned.",
            again,
            figure="images",
            min_value=limits.min_rows,
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Descriptors refer to a picture by its id.", again, column="image_id"),
        expect(
            gxe.ExpectColumnValuesToBeNull,
            "A picture that cannot be read would stop training.",
            mend,
            column="read_error",
            row_condition=used,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The picture in the shard is the one that the table describes.",
            mend,
            column_A="sha256",
            column_B="read_sha256",
            row_condition=Column("read_sha256").is_not_null(),
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The model takes pictures of one size.",
            "crop.size has changed since: dvc repro crop",
            column_A="read_width",
            column_B="read_height",
            pairs=[[size, size]],
            row_condition=whole,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "The loader of the training decodes JPEG.",
            again,
            column="read_format",
            value_set=["JPEG"],
            row_condition=whole,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A frame of one grey shows no place (black frames of the original collection: 0).",
            policy,
            column="luminance_std",
            min_value=limits.min_luminance_std,
            row_condition=used,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A near-black frame shows no place.",
            policy,
            column="luminance_mean",
            min_value=limits.min_luminance_mean,
            row_condition=used,
        ),
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "The same file at two places is in the wrong position at one; across splits it is learned, then tested.",
            policy,
            column_A="sha256",
            column_B="place",
            mostly=1 - limits.max_shared_share,
            row_condition=used,
        ),
        expect(
            ExpectColumnAHashesToBeApartAcrossColumnB,
            "Pictures that look the same at two places are copies with other bytes, or walls that tell nothing.",
            "look at the listed pictures side by side; raise checks.crops.max_near_equal_share if they differ",
            column_A="phash",
            column_B="place",
            max_bits=limits.near_equal_bits,
            mostly=1 - limits.max_near_equal_share,
            row_condition=used,
        ),
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "A place belongs to one split: its other pictures would give the answer away.",
            again,
            column_A="place",
            column_B="split",
        ),
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "A panorama belongs to one split.",
            again,
            column_A="pano_id",
            column_B="split",
        ),
        expect(
            ExpectGroupsToBeApart,
            "Pictures of different splits that were taken nearer to each other show the same facades.",
            "raise the smallest radius of order.levels, or lower checks.crops.min_split_distance_m knowingly",
            column_list=["x", "y", "split"],
            min_m=limits.min_split_distance_m,
        ),
        expect(
            ExpectPositionsToAgree,
            "Errors are measured in metres, so the metres must be those of the degrees.",
            "city.crs has changed since: dvc repro crop",
            column_list=["lat", "lon", "x", "y"],
            crs=params.city.crs,
            tolerance_m=limits.position_tolerance_m,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Each quarantined picture is kept with one of the known reasons.",
            again,
            column="quarantine",
            value_set=["", *REASONS],
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Some pictures of any collection are blank or doubled (the original: 2%); many mean a broken capture.",
            "look at the quarantined pictures by reason; capture those places again, or raise the threshold knowingly",
            figure="quarantined",
            column="quarantine",
            usual=[""],
            max_share=limits.max_quarantined_share,
        ),
        *credited(),
    ]

    key = ["place", "direction", "month", "pano_id"]
    captures = captures.merge(images.groupby(key).size().rename("images").reset_index(), on=key, how="left")
    captures["images"] = captures["images"].fillna(0).astype("int64")
    captures_suite = [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Every capture becomes one picture: what is wrong with it is marked, never dropped.",
            again,
            column="images",
            value_set=[1],
            row_condition=Column("status").is_in(["ok", "blank"]),
        )
    ]

    places = places_of(images)
    places_suite = [
        expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "Training, choosing the epoch and the final measure each need pictures.",
            "capture more places; see metrics/scrape.json for what is missing",
            column="split",
            value_set=["train", "validation", "test"],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A place is known by its four sides (the original collection has them at 1,048 of 1,083 places).",
            "capture the missing turns: streetrecall scrape --retry-failed",
            column="headings",
            value_set=[params.checks.captures.directions],
            mostly=limits.min_four_headings_share,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The sampler draws pairs of dates of a view; a place with one date teaches it nothing.",
            "take places with more dates, or lower checks.crops.min_train_places_with_dates_share knowingly",
            column="dates",
            min_value=2,
            mostly=limits.min_train_places_with_dates_share,
            row_condition=Column("split") == "train",
        ),
        expect(
            gxe.ExpectColumnSumToBeBetween,
            "A batch holds pictures of several places; below this number it cannot be filled.",
            "capture more places of the split train",
            figure="train_places_with_dates",
            column="trainable",
            min_value=limits.min_train_places,
        ),
    ]
    return [
        Batch("images", images, ("image_id", "place", "direction", "month", "source"), suite),
        Batch("captures", captures, (*key, "source"), captures_suite),
        Batch("places", places, ("place", "split"), places_suite),
    ]


def places_of(images: pd.DataFrame) -> pd.DataFrame:
    """One row a place: its split, directions and dates that are not quarantined, and if training can use it.

    >>> images = pd.DataFrame({"place": [1, 1, 1], "split": "train", "direction": [0, 1, 1],
    ...     "month": ["2010-08", "2010-08", "2019-04"], "quarantine": ["", "", "blank"]})
    >>> places_of(images).to_dict("records")
    [{'place': 1, 'split': 'train', 'headings': 2, 'dates': 1, 'trainable': 0}]
    """
    used = (
        images[images["quarantine"] == ""]
        .groupby("place")
        .agg(headings=("direction", "nunique"), dates=("month", "nunique"))
    )
    places = images.groupby("place", as_index=False)["split"].first().join(used, on="place")
    places = places.fillna({"headings": 0, "dates": 0}).astype({"headings": "int64", "dates": "int64"})
    places["trainable"] = ((places["split"] == "train") & (places["dates"] >= 2)).astype("int64")
    return places
