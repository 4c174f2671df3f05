"""Suite of the crops: size and brightness, leaks between places and splits, quarantine, enough to train on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations.common import pictures
from streetrecall.expectations.common.custom import (
    ExpectColumnAValuesNotToBeSharedAcrossColumnB,
    ExpectColumnPairValuesToBeOneOf,
    ExpectColumnShareOfOtherValuesToBeAtMost,
    ExpectGroupsToBeApart,
)
from streetrecall.expectations.common.look_alikes import ExpectColumnAHashesToBeApartAcrossColumnB
from streetrecall.expectations.common.suite import RETRY, Batch, credited, expect, in_metres
from streetrecall.params.checks import CheckCrops
from streetrecall.params.schema import Params
from streetrecall.pictures.quarantine import REASONS, is_asked_as_given

INPUTS = {"crops": Path("data/crops"), "captures": Path("data/captures/captures.parquet")}
VALIDATED = ("crops/images.parquet",)  # it holds the hash of each picture, and the suite compares these

AGAIN = "run the stage crop again (`dvc repro --force crop`)"
RESTORE = "`dvc checkout crop` restores the shards; if they were never whole, run `dvc repro --force crop`"
POLICY = "add the reason to `crop.quarantine.reasons`, which keeps such pictures out; then run `dvc repro crop`"
USED = Column("quarantine") == ""
WHOLE = USED & Column("read_error").is_null()
KEY = ["place", "direction", "month", "pano_id"]


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per picture, as the table says and as read; one row per capture; one row per place."""
    limits = params.checks.crops
    images = tables.read(tables.IMAGES, inputs["crops"] / "images.parquet")
    images = images.join(pictures.read(images, inputs["crops"]))
    given = is_asked_as_given(images)
    if given.any():  # the set of a split counts as one place: published sets have a file at several places
        sets = (images["split"] + "_set").where(given, images["place"].astype(str))
        images = images.assign(place_or_set=sets)
    captures = tables.read(tables.CAPTURES, inputs["captures"])
    captures = captures[tables.for_crops(captures)]
    captures = captures.merge(images.groupby(KEY).size().rename("images").reset_index(), on=KEY, how="left")
    captures["images"] = captures["images"].fillna(0).astype("int64")
    suite = [
        *_rows(limits),
        *_pictures(params.crop.size),
        *_brightness(limits),
        *_leaks_of_content(limits, "place_or_set" if given.any() else "place"),
        *_leaks_of_place(limits, params.city.crs),
        *_quarantine(limits),
        *credited(),
    ]
    directions = params.checks.captures.directions
    return [
        Batch("images", images, ("image_id", "place", "direction", "month", "source"), suite),
        Batch("captures", captures, (*KEY, "source"), _captures()),
        Batch(
            "places",
            places_of(images),
            ("place", "split"),
            _places(limits, directions, _shares(limits, images), params.train.needed_splits),
        ),
    ]


def _rows(limits: CheckCrops) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without pictures there is nothing to train on.",
            AGAIN,
            figure="images",
            min_value=limits.min_rows,
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Descriptors name a picture by its id.", AGAIN, column="image_id"),
    ]


def _pictures(size: int) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeNull,
            "A picture that cannot be read would stop training.",
            RESTORE,
            column="read_error",
            row_condition=USED,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The picture in the shard is the one that the table describes.",
            RESTORE,
            column_A="sha256",
            column_B="read_sha256",
            row_condition=Column("read_sha256").is_not_null(),
        ),
        expect(
            ExpectColumnPairValuesToBeOneOf,
            "The model takes pictures of one size.",
            "`crop.size` has changed since: `dvc repro crop`",
            column_A="read_width",
            column_B="read_height",
            pairs=[[size, size]],
            row_condition=WHOLE,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Training decodes JPEG.",
            AGAIN,
            column="read_format",
            value_set=["JPEG"],
            row_condition=WHOLE,
        ),
    ]


def _brightness(limits: CheckCrops) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A picture of a single grey shows no place (black frames of the original collection: 0).",
            POLICY,
            column="luminance_std",
            min_value=limits.min_luminance_std,
            row_condition=USED,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A near-black picture shows no place.",
            POLICY,
            column="luminance_mean",
            min_value=limits.min_luminance_mean,
            row_condition=USED,
        ),
    ]


def _leaks_of_content(limits: CheckCrops, place: str) -> list[Any]:
    """``place`` is the column of what a file belongs to."""
    return [
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "A file at two places has a wrong position at one of them; in two splits, the test repeats the training.",
            POLICY,
            column_A="sha256",
            column_B=place,
            mostly=1 - limits.max_shared_share,
            row_condition=USED,
        ),
        expect(
            ExpectColumnAHashesToBeApartAcrossColumnB,
            "Pictures that look the same at two places are copies with other bytes, or walls without any detail.",
            "look at the listed pictures side by side; raise `checks.crops.max_near_equal_share` if they differ",
            column_A="phash",
            column_B=place,
            max_bits=limits.near_equal_bits,
            mostly=1 - limits.max_near_equal_share,
            row_condition=USED,
        ),
    ]


def _leaks_of_place(limits: CheckCrops, crs: str) -> list[Any]:
    return [
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "A place belongs to one split, because its other pictures would give away the answer.",
            AGAIN,
            column_A="place",
            column_B="split",
        ),
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "A panorama belongs to one split.",
            AGAIN,
            column_A="pano_id",
            column_B="split",
        ),
        expect(
            ExpectGroupsToBeApart,
            "Pictures of different splits that were taken nearer to each other show the same facades.",
            "raise the smallest radius of `order.levels`, or lower `checks.crops.min_split_distance_m` on purpose",
            column_list=["x", "y", "split"],
            min_m=limits.min_split_distance_m,
        ),
        in_metres("crop", crs, limits.position_tolerance_m),
    ]


def _quarantine(limits: CheckCrops) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Each picture in quarantine has one of the known reasons.",
            AGAIN,
            column="quarantine",
            value_set=["", *REASONS],
        ),
        expect(
            ExpectColumnShareOfOtherValuesToBeAtMost,
            "Some pictures of any collection are blank or duplicates (the original: 2%); many mean bad captures.",
            "look at the pictures in quarantine by reason; capture their places again, or raise the limit on purpose",
            figure="quarantined",
            column="quarantine",
            usual=[""],
            max_share=limits.max_quarantined_share,
        ),
    ]


def _captures() -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Every capture becomes one picture; a bad one is marked and not dropped.",
            AGAIN,
            column="images",
            value_set=[1],
            row_condition=Column("status").is_in([status.value for status in tables.WITH_PICTURE]),
        )
    ]


def _shares(limits: CheckCrops, images: pd.DataFrame) -> tuple[float, float]:
    """The least shares of places with all directions, and of training places with dates, for the provider."""
    headings, dates = limits.min_four_headings_share, limits.min_train_places_with_dates_share
    for provider in images["provider"].unique():
        headings = min(headings, limits.min_four_headings_share_of.get(provider, headings))
        dates = min(dates, limits.min_train_places_with_dates_share_of.get(provider, dates))
    return headings, dates


def _places(limits: CheckCrops, directions: int, shares: tuple[float, float], needed: list[str]) -> list[Any]:
    with_directions, with_dates = shares
    return [
        expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "Training, the choice of the best epoch and the final measurement each need their own pictures.",
            "capture more places; metrics/scrape.json counts what is missing",
            column="split",
            value_set=needed,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A place should have pictures in all directions (in the original collection, 1,048 of 1,083 places do).",
            f"capture the missing directions: {RETRY}",
            column="directions",
            value_set=[directions],
            mostly=with_directions,
        ),
        *(_trainable(limits, with_dates) if "train" in needed else []),
    ]


def _trainable(limits: CheckCrops, with_dates: float) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Training uses pairs of dates of a place and direction; a place with one date gives none.",
            "choose places with more dates, or lower `checks.crops.min_train_places_with_dates_share` on purpose",
            column="dates",
            min_value=2,
            mostly=with_dates,
            row_condition=Column("split") == "train",
        ),
        expect(
            gxe.ExpectColumnSumToBeBetween,
            "A batch holds pictures of several places; with fewer places it cannot be filled.",
            "capture more places of the split train",
            figure="train_places_with_dates",
            column="trainable",
            min_value=limits.min_train_places,
        ),
    ]


def places_of(images: pd.DataFrame) -> pd.DataFrame:
    """One row per place: its split, its directions and dates outside quarantine, and whether training can use it.

    >>> images = pd.DataFrame({"place": [1, 1, 1], "split": "train", "direction": [0, 1, 1],
    ...     "month": ["2010-08", "2010-08", "2019-04"], "quarantine": ["", "", "blank"]})
    >>> places_of(images).to_dict("records")
    [{'place': 1, 'split': 'train', 'directions': 2, 'dates': 1, 'trainable': 0}]
    """
    used = (
        images[images["quarantine"] == ""]
        .groupby("place")
        .agg(directions=("direction", "nunique"), dates=("month", "nunique"))
    )
    places = images.groupby("place", as_index=False)["split"].first().join(used, on="place")
    places = places.fillna({"directions": 0, "dates": 0}).astype({"directions": "int64", "dates": "int64"})
    places["trainable"] = ((places["split"] == "train") & (places["dates"] >= 2)).astype("int64")
    return places
