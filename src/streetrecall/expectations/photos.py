"""Suite of the photos: spots are whole, distances are right, and no photo shows the month that it is asked with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd

from streetrecall import tables
from streetrecall.expectations.common import pictures
from streetrecall.expectations.common.custom import ExpectGroupsToBeComplete
from streetrecall.expectations.common.suite import Batch, credited, expect, in_metres, in_part, readable
from streetrecall.params.checks import CheckPhotos
from streetrecall.params.schema import Params
from streetrecall.pictures.nearby import nearest_m, nearest_of_month_m
from streetrecall.tables import PHOTOS_OF_A_SPOT, RIGHT_M, SAME_MONTH_M, Use

INPUTS = {"photos": Path("data/photos"), "views": Path("data/views/views.parquet")}
VALIDATED = ("photos/photos.parquet",)  # it holds the hash of each picture, and the suite compares these
MARKERS = {"photos_validation": ("photos/validation.parquet",)}

AGAIN = "run the stage photos again (`dvc repro --force photos`)"
RESTORE = "`dvc checkout photos` restores the shards; if they were never whole, run `dvc repro --force photos`"


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per photo, with its picture as read and its relation to the gallery, measured again."""
    photos = tables.read(tables.PHOTOS, inputs["photos"] / "photos.parquet")
    views = tables.read(tables.VIEWS, inputs["views"])
    photos = photos.join(pictures.read(photos, inputs["photos"]))
    photos["of_spot"] = photos.groupby("spot").cumcount()
    gallery = views[views["use"] == Use.GALLERY].drop_duplicates(["place", "pano_id"])
    xy = photos[["x", "y"]].to_numpy(float)
    photos["distance_error_m"] = photos["distance_m"] - nearest_m(xy, gallery)
    photos["within_25m"] = photos["distance_m"] <= RIGHT_M
    photos["training_m"] = nearest_m(xy, views[views["split"] == "train"])
    asked = gallery[gallery["split"] != "gallery"]
    same_month = nearest_of_month_m(xy, photos["month"], gallery)
    photos["same_month_m"] = np.where(photos["near"], nearest_of_month_m(xy, photos["month"], asked), same_month)
    own = nearest_m(xy, gallery[gallery["split"] == "validation"]) <= RIGHT_M
    own_spot = pd.Series(own, photos.index).groupby(photos["spot"]).transform("all")
    photos["for_training"] = (photos["split"] == "validation") & own_spot
    choosing = tables.read(tables.PHOTOS, inputs["photos"] / "validation.parquet")
    photos["in_training"] = in_part(photos, choosing, "photo_id")
    suite = [*_rows(params), *_gallery(params.checks.photos), *readable(RESTORE), *credited()]
    return [Batch("photos", photos, ("photo_id", "spot", "split"), suite)]


def _rows(params: Params) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "The protocol of photos needs photos.",
            "raise `photos.spots`, or choose a larger polygon",
            figure="photos",
            min_value=params.checks.photos.min_rows_of.get(params.provider, 0),
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Results name a photo by its number.", AGAIN, column="photo_id"),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Photos choose the model or measure it; nothing is trained on them.",
            AGAIN,
            column="split",
            value_set=["validation", "test"],
        ),
        expect(
            ExpectGroupsToBeComplete,
            "The photos of a spot are also asked together, so each spot has as many.",
            AGAIN,
            column_list=["spot", "of_spot"],
            members=list(range(PHOTOS_OF_A_SPOT)),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A training chooses its best epoch by the table validation.parquet: all photos near places of validation.",
            AGAIN,
            column_A="for_training",
            column_B="in_training",
        ),
        in_metres("photos", params.city.crs, params.checks.crops.position_tolerance_m),
    ]


def _gallery(limits: CheckPhotos) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The stated distance is the one to the nearest panorama of the gallery.",
            "photos and views come from different runs: `dvc repro photos`",
            column="distance_error_m",
            min_value=-limits.distance_tolerance_m,
            max_value=limits.distance_tolerance_m,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A photo can be answered if the gallery has a panorama within 25 m, and must be withheld otherwise.",
            AGAIN,
            column_A="near",
            column_B="within_25m",
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A place that the model was trained on must not be the right answer: it would be memory.",
            "raise apart_m of the dense level for training in `order.levels`",
            column="training_m",
            min_value=RIGHT_M,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "A panorama of the photo's own month may show the same cars and the same light. At places of split gallery "
            "it never answers, so a photo near a place of its own split may have one there.",
            AGAIN,
            column="same_month_m",
            min_value=SAME_MONTH_M,
        ),
    ]
