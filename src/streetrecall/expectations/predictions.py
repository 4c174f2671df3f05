"""Suite of the predictions: all systems answer every query, no NaN, errors that fit the positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations.common.custom import ExpectDistanceToAgreeWithPositions
from streetrecall.expectations.common.suite import Batch, expect
from streetrecall.params.checks import CheckPredictions
from streetrecall.params.schema import Params
from streetrecall.tables import RADII_M, RIGHT_M

INPUTS = {"queries": Path("data/results/queries.parquet"), "index": Path("models/index")}
VALIDATED = ("queries",)
SYSTEMS = ("model", "baseline", "sift_vlad")
SPLITS = ("validation", "test")
PROTOCOL = "newest_vs_older"
NEVER = 10**6  # stands for the rank of a query without a right answer: behind all others

AGAIN = "run the stage evaluate again (`dvc repro --force evaluate`)"
MIXED = "models/index and the results come from different runs: `dvc repro evaluate`"
DESCRIPTORS = "check the descriptors: `streetrecall check descriptors`"
ANSWERED = Column("answer_id") >= 0


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row per answer, with its position; one row per query, with how often each system answered it."""
    limits = params.checks.predictions
    answers = tables.read(tables.PREDICTIONS, inputs["queries"])
    rows = tables.read(tables.DESCRIPTORS, inputs["index"] / "rows.parquet")
    queries = rows[(rows["role"] == "query") & rows["split"].isin(SPLITS)].reset_index(drop=True)
    counted = answers[(answers["protocol"] == PROTOCOL) & (answers["scope"] == answers["split"])]
    systems = [*SYSTEMS, *(network.name for network in params.baseline.networks)]
    for system in systems:
        counts = counted[counted["system"] == system].groupby("image_id").size()
        queries[f"answers_of_{system}"] = counts.reindex(queries["image_id"], fill_value=0).to_numpy()
    suite = [*_rows(limits, systems), *_queries(limits), *_answers(), *_errors(limits), *_ranks()]
    return [
        Batch("queries", _measured(answers, rows, limits), ("system", "scope", "protocol", "image_id"), suite),
        Batch("index", queries, ("image_id", "place", "split"), _each_query(systems)),
    ]


def _measured(answers: pd.DataFrame, rows: pd.DataFrame, limits: CheckPredictions) -> pd.DataFrame:
    """``answers`` beside the positions of query and answer in the index, and beside ranks that can be compared."""
    known = rows.drop_duplicates("image_id").set_index("image_id")
    for name, column in {"query": "image_id", "answer": "answer_id"}.items():
        for coordinate in ("lat", "lon"):
            answers[f"{name}_{coordinate}"] = known[coordinate].reindex(answers[column]).to_numpy()
    answers["answered"] = (answers["answer_id"] >= 0).astype(str).astype("str")
    for radius in RADII_M:
        rank = answers[f"rank_{radius}m"]
        answers[f"first_at_{radius}m"] = np.where(rank > 0, rank, NEVER)
    answers["first_is_right"] = answers[f"rank_{RIGHT_M}m"] == 1
    answers[f"error_within_{RIGHT_M}m"] = answers["error_m"] <= RIGHT_M
    answers["decided"] = (answers["error_m"] - RIGHT_M).abs() > limits.distance_tolerance_m
    return answers


def _rows(limits: CheckPredictions, systems: Sequence[str]) -> list[Any]:
    return [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without answers there is nothing to measure.",
            "capture more places of the splits validation and test",
            figure="answers",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "A query that is counted twice has twice the weight.",
            AGAIN,
            column_list=["system", "scope", "protocol", "image_id"],
        ),
        expect(
            gxe.ExpectColumnDistinctValuesToEqualSet,
            "The model is compared with training-free baselines under the same protocol.",
            AGAIN,
            column="system",
            value_set=list(systems),
        ),
    ]


def _queries(limits: CheckPredictions) -> list[Any]:
    return [
        *(
            expect(
                gxe.ExpectColumnPairValuesToBeEqual,
                "A query is a picture of the index and has its position.",
                MIXED,
                column_A=coordinate,
                column_B=f"query_{coordinate}",
                ignore_row_if="neither",
            )
            for coordinate in ("lat", "lon")
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A query without an answer, although the gallery holds a right picture, was lost by the search.",
            AGAIN,
            column="answered",
            value_set=["True"],
            mostly=limits.min_answered_share,
            row_condition=Column("right_images") > 0,
        ),
    ]


def _answers() -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "An answer is a picture of the index.",
            MIXED,
            column="answer_lat",
            row_condition=ANSWERED,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "An error that is NaN would be left out of every mean without notice.",
            AGAIN,
            column="error_m",
            row_condition=ANSWERED,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "A similarity that is NaN cannot be ranked.",
            DESCRIPTORS,
            column="similarity",
            row_condition=ANSWERED,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The inner product of unit vectors lies between -1 and 1.",
            DESCRIPTORS,
            column="similarity",
            min_value=-1.001,
            max_value=1.001,
            row_condition=ANSWERED,
        ),
    ]


def _errors(limits: CheckPredictions) -> list[Any]:
    return [
        expect(
            ExpectDistanceToAgreeWithPositions,
            "The error is the distance from the query to its answer.",
            MIXED,
            column_list=["lat", "lon", "answer_lat", "answer_lon", "error_m"],
            tolerance_m=limits.distance_tolerance_m,
            tolerance_share=limits.distance_tolerance_share,
            row_condition=ANSWERED & Column("answer_lat").is_not_null() & Column("error_m").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            f"The first answer is right exactly if it lies within {RIGHT_M} m.",
            AGAIN,
            column_A="first_is_right",
            column_B=f"error_within_{RIGHT_M}m",
            row_condition=ANSWERED & (Column("decided") == True),  # noqa: E712
        ),
    ]


def _ranks() -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnPairValuesAToBeGreaterThanB,
            "An answer within a radius also lies within a larger radius, so its rank there is no worse.",
            AGAIN,
            column_A=f"first_at_{narrow}m",
            column_B=f"first_at_{wide}m",
            or_equal=True,
        )
        for narrow, wide in pairwise(RADII_M)
    ]


def _each_query(systems: Sequence[str]) -> list[Any]:
    return [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Each query of validation and test occurs once: a missing query makes recall look better or worse.",
            AGAIN,
            column=f"answers_of_{system}",
            value_set=[1],
        )
        for system in systems
    ]
