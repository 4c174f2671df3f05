"""The parts of a suite: a batch (a table with its expectations), and expectations with a reason and a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import great_expectations.expectations as gxe
import pandas as pd
from great_expectations.expectations.row_conditions import Column

from streetrecall.expectations.common.custom import ExpectPositionsToAgree

# A remedy: how to try again the captures that failed.
RETRY = "run `streetrecall scrape-status --retry-failed`, then `dvc repro --force scrape`"


@dataclass(frozen=True)
class Batch:
    """A table to validate, made of one file or of several.

    ``ids`` are the columns that identify a row for a person; ``suite`` holds the expectations, each made by `expect`.
    """

    name: str
    frame: pd.DataFrame
    ids: tuple[str, ...]
    suite: list[Any]


def expect(kind: type[Any], why: str, remedy: str, figure: str = "", **arguments: Any) -> Any:
    """An expectation of the class ``kind`` with the reason for it and what to do if it fails.

    In ``remedy``, commands and keys of params.yaml are in backticks; the test-suite checks that they exist. A
    ``figure`` is a name under which the report gives the observed value, as a metric.
    """
    return kind(notes=why, meta={"remedy": remedy, "figure": figure}, **arguments)


def in_part(table: pd.DataFrame, part: pd.DataFrame, key: str) -> pd.Series:
    """Which rows of ``table`` are in ``part``, a table of some of its pictures: the same key, place in a shard and
    hash."""
    columns = [key, "shard", "offset", "size", "sha256"]
    return pd.Series(
        pd.MultiIndex.from_frame(table[columns]).isin(pd.MultiIndex.from_frame(part[columns])), table.index
    )


def readable(restore: str) -> list[Any]:
    """Expectations for a table of pictures beside `pictures.read`: each is whole, and as the table says.

    ``restore`` is the remedy.
    """
    return [
        expect(
            gxe.ExpectColumnValuesToBeNull,
            "A picture that cannot be read would stop the next stage.",
            restore,
            column="read_error",
        ),
        *(
            expect(
                gxe.ExpectColumnPairValuesToBeEqual,
                "The picture in the shard is the one that the table describes.",
                restore,
                column_A=column,
                column_B=f"read_{column}",
                row_condition=Column("read_error").is_null(),
            )
            for column in ("sha256", "width", "height")
        ),
    ]


def in_metres(stage: str, crs: str, tolerance_m: float) -> Any:
    """An expectation for a table with lat, lon (EPSG:4326) and x, y (``crs``) that ``stage`` wrote."""
    return expect(
        ExpectPositionsToAgree,
        "Distances are measured in metres, so degrees and metres must be the same position.",
        f"`city.crs` has changed since: `dvc repro {stage}`",
        column_list=["lat", "lon", "x", "y"],
        crs=crs,
        tolerance_m=tolerance_m,
    )


def credited() -> list[Any]:
    """Expectations for a table of pictures: every row has a licence and names the author."""
    return [
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "Whoever shares a picture must know its licence.",
            "the provider's module must give a licence for each panorama",
            column="licence",
            min_value=1,
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            "Whoever shows a picture must name its author.",
            "the provider's module must give an attribution for each panorama",
            column="attribution",
            min_value=1,
        ),
    ]
