"""Suite of the predictions: every query answered by both systems, no NaN, errors that fit the positions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
from great_expectations.expectations.row_conditions import Column

from streetrecall import tables
from streetrecall.expectations.custom import ExpectDistanceToAgreeWithPositions
from streetrecall.expectations.gate import Batch, expect
from streetrecall.params.schema import Params

INPUTS = {"queries": Path("data/results/queries.parquet"), "index": Path("models/index")}
VALIDATED = ("queries",)
SYSTEMS = ("model", "baseline")
SPLITS = ("validation", "test")
PROTOCOL = "newest_vs_older"
NEVER = 10**6  # a rank behind all others, where no answer was right


def batches(params: Params, inputs: Mapping[str, Path]) -> list[Batch]:
    """One row an answer with the answer's position, and one row a query with how often each system answered it."""
    limits = params.checks.predictions
    answers = tables.read(tables.PREDICTIONS, inputs["queries"])
    rows = tables.read(tables.DESCRIPTORS, inputs["index"] / "rows.parquet")
    known = rows.drop_duplicates("image_id").set_index("image_id")
    for name, column in {"query": "image_id", "answer": "answer_id"}.items():
        for coordinate in ("lat", "lon"):
            answers[f"{name}_{coordinate}"] = known[coordinate].reindex(answers[column]).to_numpy()
    answers["answered"] = (answers["answer_id"] >= 0).astype(str).astype("str")
    for radius in (25, 50, 100):
        rank = answers[f"rank_{radius}m"]
        answers[f"first_at_{radius}m"] = np.where(rank > 0, rank, NEVER)
    answers["first_is_right"] = answers["rank_25m"] == 1
    answers["error_within_25m"] = answers["error_m"] <= 25
    answers["decided"] = (answers["error_m"] - 25).abs() > limits.distance_tolerance_m
    answered = Column("answer_id") >= 0
    again = "run the stage evaluate again (dvc repro --force evaluate)"
    mixed = "models/index and the results are of different runs: dvc repro evaluate"
    suite = [
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "Without answers there is nothing to measure.",
            "capture more places of the splits validation and test",
            figure="answers",
            min_value=limits.min_rows,
        ),
        expect(
            gxe.ExpectCompoundColumnsToBeUnique,
            "A query that is counted twice weighs twice.",
            again,
            column_list=["system", "scope", "protocol", "image_id"],
        ),
        expect(
            gxe.ExpectColumnDistinctValuesToEqualSet,
            "The model is read beside the training-free baseline, on the same protocol.",
            again,
            column="system",
            value_set=list(SYSTEMS),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A query is one of the index's pictures, at its position.",
            mixed,
            column_A="lat",
            column_B="query_lat",
            ignore_row_if="neither",
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "A query is one of the index's pictures, at its position.",
            mixed,
            column_A="lon",
            column_B="query_lon",
            ignore_row_if="neither",
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "A query with a right picture in the gallery that gets no answer was lost by the search.",
            again,
            column="answered",
            value_set=["True"],
            mostly=limits.min_answered_share,
            row_condition=Column("right_images") > 0,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "An answer is one of the index's pictures.",
            mixed,
            column="answer_lat",
            row_condition=answered,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "An error that is NaN falls out of every mean without a word.",
            again,
            column="error_m",
            row_condition=answered,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeNull,
            "A similarity that is NaN cannot be ranked.",
            "check the descriptors: streetrecall check descriptors",
            column="similarity",
            row_condition=answered,
        ),
        expect(
            gxe.ExpectColumnValuesToBeBetween,
            "The inner product of unit vectors lies between -1 and 1.",
            "check the descriptors: streetrecall check descriptors",
            column="similarity",
            min_value=-1.001,
            max_value=1.001,
            row_condition=answered,
        ),
        expect(
            ExpectDistanceToAgreeWithPositions,
            "The error is the distance from the query to its answer.",
            mixed,
            column_list=["lat", "lon", "answer_lat", "answer_lon", "error_m"],
            tolerance_m=limits.distance_tolerance_m,
            tolerance_share=limits.distance_tolerance_share,
            row_condition=answered & Column("answer_lat").is_not_null() & Column("error_m").is_not_null(),
        ),
        expect(
            gxe.ExpectColumnPairValuesToBeEqual,
            "The first answer is right exactly if it lies within 25 m.",
            again,
            column_A="first_is_right",
            column_B="error_within_25m",
            row_condition=answered & (Column("decided") == True),  # noqa: E712
        ),
        *(
            expect(
                gxe.ExpectColumnPairValuesAToBeGreaterThanB,
                "What is found within a radius is found within a wider one, no later.",
                again,
                column_A=f"first_at_{narrow}m",
                column_B=f"first_at_{wide}m",
                or_equal=True,
            )
            for narrow, wide in ((25, 50), (50, 100))
        ),
    ]
    queries = rows[(rows["role"] == "query") & rows["split"].isin(SPLITS)].reset_index(drop=True)
    counted = answers[(answers["protocol"] == PROTOCOL) & (answers["scope"] == answers["split"])]
    for system in SYSTEMS:
        counts = counted[counted["system"] == system].groupby("image_id").size()
        queries[f"answers_of_{system}"] = counts.reindex(queries["image_id"], fill_value=0).to_numpy()
    queries_suite = [
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "Each query of validation and test is put once: one that is missing makes recall look better or worse.",
            again,
            column=f"answers_of_{system}",
            value_set=[1],
        )
        for system in SYSTEMS
    ]
    return [
        Batch("queries", answers, ("system", "scope", "protocol", "image_id"), suite),
        Batch("index", queries, ("image_id", "place", "split"), queries_suite),
    ]
