"""An expectation about pictures of different places that look alike."""

# ruff: noqa: N805  (the library passes the class to the function of a metric)
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnPairMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import column_pair_condition_partial
from numpy.typing import NDArray

from streetrecall.expectations.common.custom import ColumnPair, Sentence
from streetrecall.pictures.phash import as_numbers, near_pairs


def near_hashes(hashes: NDArray[np.uint64], group: NDArray[np.int64], max_bits: int) -> NDArray[np.bool_]:
    """Which hashes have another one, of another group, at a Hamming distance of at most ``max_bits``.

    >>> near_hashes(np.array([0b1111, 0b1110, 0b1110], np.uint64), np.array([1, 1, 2]), 1).tolist()
    [True, True, True]
    >>> near_hashes(np.array([0b1111, 0b1110, 0b1110], np.uint64), np.array([1, 1, 2]), 0).tolist()
    [False, True, True]
    """
    distinct, row = np.unique(hashes, return_inverse=True)
    lowest, highest = np.full(len(distinct), np.iinfo(np.int64).max), np.full(len(distinct), -1)
    np.minimum.at(lowest, row, group)
    np.maximum.at(highest, row, group)
    # The lowest and the highest group of a hash and of all hashes near it: both are its own if there is no other group.
    low, high = lowest.copy(), highest.copy()
    first, second = near_pairs(distinct, max_bits).T
    for one, other in ((first, second), (second, first)):
        np.minimum.at(low, one, lowest[other])
        np.maximum.at(high, one, highest[other])
    return (low[row] != group) | (high[row] != group)


class _NearHash(ColumnPair):
    condition_metric_name = "column_pair_values.perceptually_apart"
    condition_value_keys = ("max_bits",)

    @column_pair_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column_A: pd.Series, column_B: pd.Series, max_bits: int, **_: Any) -> pd.Series:
        near = near_hashes(as_numbers(column_A.tolist()), pd.factorize(column_B)[0], max_bits)
        return pd.Series(~near, index=column_A.index)


class ExpectColumnAHashesToBeApartAcrossColumnB(Sentence, ColumnPairMapExpectation):
    """64-bit hashes (hexadecimal, ``column_A``) of different ``column_B`` differ in more than ``max_bits`` bits."""

    max_bits: int
    ignore_row_if: str = "neither"

    map_metric = "column_pair_values.perceptually_apart"
    success_keys = ("max_bits", "ignore_row_if", "mostly")
    sentence: ClassVar[str] = (
        "the $column_A of pictures of different $column_B must differ in more than $max_bits of 64 bits"
    )
