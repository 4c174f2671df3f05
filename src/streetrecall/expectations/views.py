"""Suite of the views: every direction of the gallery is there, training keeps to its split, and pictures are whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations.common import pictures
from streetrecall.expectations.common.custom import (
    ExpectColumnAValuesNotToBeSharedAcrossColumnB,
    ExpectGroupsToBeComplete,
)
from streetrecall.expectations.common.suite import Batch, credited, expect, in_metres, in_part, readable
from streetrecall.params.schema import Params
from streetrecall.tables import TRAINING_SPLITS, Use

INPUTS = {"views": Path("data/views")}
VALIDATED = ("views/views.parquet",)  # it holds the hash of each picture, and the suite compares these
MARKERS = {"views_training": ("views/training.parquet",)}

AGAIN = "run the stage views again (`dvc repro --force views`): it cuts them from the captures"
RESTORE = "`dvc checkout views` restores the shards; if they were never whole, run `dvc repro --force views`"
GALLERY = Column("use") == str(Use.GALLERY)
TRAIN = Column("use") == str(Use.TRAIN)


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per view, with its picture as read and the number of its direction."""
    views = tables.read(tables.VIEWS, inputs["views"] / "views.parquet")
    views = views.join(pictures.read(views, inputs["views"]))
    step = 360.0 / params.views.directions
    views["direction"] = (views["heading_deg"] / step).round().astype("int64")
    views["for_training"] = views["split"].isin(TRAINING_SPLITS)
    views["in_training"] = in_part(views, tables.read(tables.VIEWS, inputs["views"] / "training.parquet"), "view_id")
    suite = [*_rows(params), *_directions(params), *readable(RESTORE), *credited()]
    return [Batch("views", views, ("view_id", "use", "place", "month", "heading_deg"), suite)]


def _rows(params: Params) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Photos of any direction need views of any direction in the gallery, and to train on.",
            "run `dvc repro --force scrape`; the provider must give the field of view of its captures",
            figure="views",
            min_value=params.checks.views.min_rows_of.get(params.provider, 0),
        ),
        expect(gxe.ExpectColumnValuesToBeUnique, "Answers name a view by its number.", AGAIN, column="view_id"),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A view is for the gallery or for training.",
            AGAIN,
            column="use",
            value_set=[str(use) for use in Use],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Places of validation, test and gallery are never trained on.",
            "`order.levels` has changed since: `dvc repro views`",
            column="split",
            value_set=["train"],
            row_condition=TRAIN,
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A training reads the table training.parquet: all views of places of train and validation, and no others.",
            AGAIN,
            column_A="for_training",
            column_B="in_training",
        ),
        expect(
            ExpectColumnAValuesNotToBeSharedAcrossColumnB,
            "The same picture at two places is in the wrong position at one of them.",
            AGAIN,
            column_A="sha256",
            column_B="place",
        ),
        in_metres("views", params.city.crs, params.checks.crops.position_tolerance_m),
    ]


def _directions(params: Params) -> list[Any]:
    return [
        expect(
            ExpectGroupsToBeComplete,
            "A photo may look in any direction, so the gallery has views all around.",
            "frames of `scrape.headings_deg` must overlap by more than `views.fov_deg` leaves over; lower it",
            column_list=["place", "pano_id", "direction"],
            members=list(range(params.views.directions)),
            mostly=params.checks.views.min_complete_share,
            row_condition=GALLERY,
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Views of the gallery have the lens of `views.fov_deg`.",
            "`views` has changed since: `dvc repro views`",
            column="fov_deg",
            value_set=[params.views.fov_deg],
            row_condition=GALLERY,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "Views for training have the lenses of `views.training.fov_deg`.",
            "`views` has changed since: `dvc repro views`",
            column="fov_deg",
            min_value=params.views.training.fov_deg[0],
            max_value=params.views.training.fov_deg[1],
            row_condition=TRAIN,
        ),
    ]
