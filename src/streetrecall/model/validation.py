"""How well an embedder does on the validation places while it trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.months import month_numbers
from streetrecall.retrieval import exact as search
from streetrecall.retrieval.rows import QUERY

OLD_YEARS = 6
WITHIN_M = 25.0
CELLS = 4_000_000  # pairs of pictures compared at a time, about 40 bytes each
ASKED = 20_000  # queries of a contest at most


@dataclass(frozen=True)
class _Contest:
    """Who asks whom: rows that ask, those of them that have a right answer, rows that may answer; the years between
    the two if they show one place; with ``older`` always, and the answer the older one."""

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    years: float = 0.0
    older: bool = False


class Validation:
    """Recall at 1 within 25 m of validation pictures, in four contests; over the queries of all, it is what training
    selects by.

    The newest picture of each view asks in three: ``own``, against the older validation pictures; ``city``, against
    these and the training pictures; ``old``, against those of the older validation pictures that are at least six years
    older. In ``apart`` every validation picture asks: of its own place only pictures at least six years away may
    answer, of other places all of validation and train. It has many times the queries of the others, so it tells
    models apart where these do not. Of more than 20,000 pictures, evenly spaced ones ask for all.

    Args:
        rows: DESCRIPTORS rows of validation, and of train those that are to be among the answers.

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
        newest, older = _some(np.flatnonzero(mine & (role == QUERY))), np.flatnonzero(mine & (role != QUERY))
        everything = np.flatnonzero(mine | (split == "train"))
        contests = {
            "own": _Contest(newest, older),
            "city": _Contest(newest, np.concatenate([older, train])),
            "old": _Contest(newest, older, OLD_YEARS, older=True),
            "apart": _Contest(_some(np.flatnonzero(mine)), everything, OLD_YEARS),
        }
        self._contests = {name: replace(c, queries=self._answerable(c)) for name, c in contests.items()}
        self.asked = {name: len(contest.queries) for name, contest in self._contests.items()}
        if not self.asked["own"]:
            raise UserError(
                "no validation place has pictures of two dates, so there is nothing to choose a model by; collect "
                "more, or give a level of order.levels to the split validation"
            )

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall at 1 of each contest that holds right answers, over the queries that have one there, and ``mean``,
        over the queries of all contests."""
        result, all_hits, asked = {}, 0, 0
        for name, contest in self._contests.items():
            hits, gallery = 0, descriptors[contest.gallery]
            for queries, near, allowed in self._blocks(contest):
                best = search.exact(descriptors[queries], gallery, 1, allowed)[0][:, 0]
                hits += int(near[np.arange(len(queries)), best].sum())
            if len(contest.queries):
                result[name] = hits / len(contest.queries)
            all_hits, asked = all_hits + hits, asked + len(contest.queries)
        result["mean"] = all_hits / asked
        return result

    def _answerable(self, contest: _Contest) -> NDArray[np.int64]:
        parts = [queries[(near & allowed).any(axis=1)] for queries, near, allowed in self._blocks(contest)]
        return np.concatenate([contest.queries[:0], *parts])

    def _blocks(self, contest: _Contest) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Some queries at a time: their rows, which answers are right and which may be given, (queries, gallery)."""
        xy, month, place = self._xy, self._month, self._place
        gallery, months_of_years = contest.gallery, 12 * contest.years
        step = max(1, CELLS // max(len(gallery), 1))
        for start in range(0, len(contest.queries), step):
            queries = contest.queries[start : start + step]
            near = np.hypot(*(xy[queries][:, None] - xy[gallery][None]).transpose(2, 0, 1)) <= WITHIN_M
            months = month[queries][:, None] - month[gallery]
            known = (month[queries][:, None] >= 0) & (month[gallery] >= 0)
            same_month = (place[queries][:, None] == place[gallery]) & (months == 0)
            if contest.older:
                far = known & (months >= months_of_years)
            elif contest.years:
                far = ~near | (known & (np.abs(months) >= months_of_years))
            else:
                far = np.ones_like(near)
            yield queries, near, far & ~same_month


def _some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), ASKED)).astype(int)]


def spread(descriptors: NDArray[np.float32]) -> float:
    """One less the mean cosine similarity over all pairs, each with itself included: 0 where all are equal.

    >>> spread(np.eye(2, dtype=np.float32))
    0.5
    """
    mean = descriptors.mean(axis=0, dtype=np.float64)
    return float(1.0 - mean @ mean)
