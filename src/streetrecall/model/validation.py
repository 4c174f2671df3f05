"""How well an embedder does on the validation places while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol as TypingProtocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.retrieval import exact as search
from streetrecall.retrieval.rows import QUERY
from streetrecall.tables import RIGHT_M

OLD_YEARS = 6
MAX_PAIRS = 4_000_000  # pairs of pictures compared at a time, about 40 bytes each
MAX_QUERIES = 20_000  # of a protocol


@dataclass(frozen=True)
class Protocol:
    """Rows that ask, and rows that may answer.

    ``years``: of the query's own place, only pictures at least so many years away may answer. ``older``: every answer
    must be at least so many years older than the query, whatever its place.
    """

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    years: float = 0.0
    older: bool = False


class Recall(TypingProtocol):
    """How well descriptors do. ``query_counts`` counts the queries of each protocol."""

    query_counts: dict[str, int]

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall by protocol, and ``mean``, by which training selects."""


class Validation:
    """Recall at 1 within 25 m of validation pictures under four protocols. Training selects by the mean over the
    queries of all four.

    Three protocols ask with the newest picture of each view: ``own``, against the older validation pictures; ``city``,
    against these and the training pictures; ``old``, against the validation pictures that are at least six years older.
    Under ``apart`` every validation picture asks, and all pictures of validation and train may answer, those of its own
    place only if they are at least six years away. That protocol has many times the queries of the others, so it shows
    differences between models where the others do not. If there are more than 20,000 queries, 20,000 evenly spaced ones
    are asked.

    Args:
        rows: DESCRIPTORS rows of validation, and those of train that may answer.

    Attributes:
        query_counts: of each protocol, how many queries have a right answer in its gallery; the others do not count.

    Raises:
        UserError: no validation place has two dates of one heading.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        split = rows["split"].to_numpy().astype(str)
        role = rows["role"].to_numpy().astype(str)
        self._month = month_numbers(rows["month"])
        self._xy = rows[["x", "y"]].to_numpy(float)
        self._place = rows["place"].to_numpy(np.int64)
        mine, train = split == "validation", np.flatnonzero(split == "train")
        newest, older = _evenly(np.flatnonzero(mine & (role == QUERY))), np.flatnonzero(mine & (role != QUERY))
        everything = np.flatnonzero(mine | (split == "train"))
        protocols = {
            "own": Protocol(newest, older),
            "city": Protocol(newest, np.concatenate([older, train])),
            "old": Protocol(newest, older, OLD_YEARS, older=True),
            "apart": Protocol(_evenly(np.flatnonzero(mine)), everything, OLD_YEARS),
        }
        self._protocols = {name: replace(p, queries=self._answerable(p)) for name, p in protocols.items()}
        self.query_counts = {name: len(protocol.queries) for name, protocol in self._protocols.items()}
        if not self.query_counts["own"]:
            raise UserError(
                "no validation place has pictures of two dates, so a model cannot be chosen; collect more places or "
                "dates, or give a level of order.levels to the split validation"
            )

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall at 1 of each protocol that has queries, and ``mean``, over the queries of all protocols.

        Args:
            descriptors: (n, d) of unit norm, one for each row.
        """
        result, all_hits, all_queries = {}, 0, 0
        for name, protocol in self._protocols.items():
            hits, gallery = 0, descriptors[protocol.gallery]
            for queries, near, allowed in self._blocks(protocol):
                best = search.exact(descriptors[queries], gallery, 1, allowed)[0][:, 0]
                hits += int(near[np.arange(len(queries)), best].sum())
            if len(protocol.queries):
                result[name] = hits / len(protocol.queries)
            all_hits, all_queries = all_hits + hits, all_queries + len(protocol.queries)
        result["mean"] = all_hits / all_queries
        return result

    def _answerable(self, protocol: Protocol) -> NDArray[np.int64]:
        """The queries with a right answer in the gallery."""
        parts = [queries[(near & allowed).any(axis=1)] for queries, near, allowed in self._blocks(protocol)]
        return np.concatenate([protocol.queries[:0], *parts])

    def _blocks(self, protocol: Protocol) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Some queries at a time: their rows, which answers are right, and which are allowed, (queries, gallery)."""
        xy, month, place = self._xy, self._month, self._place
        gallery, least_months = protocol.gallery, 12 * protocol.years
        step = max(1, MAX_PAIRS // max(len(gallery), 1))
        for start in range(0, len(protocol.queries), step):
            queries = protocol.queries[start : start + step]
            near = np.hypot(*(xy[queries][:, None] - xy[gallery][None]).transpose(2, 0, 1)) <= RIGHT_M
            months = month[queries][:, None] - month[gallery]
            known = (month[queries][:, None] != UNKNOWN) & (month[gallery] != UNKNOWN)
            same_month = (place[queries][:, None] == place[gallery]) & (months == 0)
            if protocol.older:
                far = known & (months >= least_months)
            elif protocol.years:
                far = ~near | (known & (np.abs(months) >= least_months))
            else:
                far = np.ones_like(near)
            yield queries, near, far & ~same_month


def _evenly(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """All rows, or `MAX_QUERIES` evenly spaced ones if there are more."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), MAX_QUERIES)).astype(int)]
