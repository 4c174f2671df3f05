"""How well an embedder does on the validation places while it trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.model.sampler import month_number
from streetrecall.retrieval import search
from streetrecall.retrieval.rows import QUERY

OLD_YEARS = 6
WITHIN_M = 25.0
BLOCK = 512  # queries compared at a time


@dataclass(frozen=True)
class _Contest:
    """Rows that ask, rows that may answer, and which of these each query may be answered by, (queries, gallery)."""

    queries: NDArray[np.int64]
    gallery: NDArray[np.int64]
    near: NDArray[np.bool_]
    allowed: NDArray[np.bool_]


class Validation:
    """Recall at 1 within 25 m of validation pictures, in four contests; their mean is what training selects by.

    The newest picture of each view asks in three: ``own``, against the older validation pictures; ``city``, against
    these and the training pictures; ``old``, against those of the older validation pictures that are at least six years
    older. In ``apart`` every validation picture asks: of its own place only pictures at least six years away may
    answer, of other places all of validation and train. It has many times the queries of the others, so it tells
    models apart where these do not.

    Args:
        rows: DESCRIPTORS rows of validation and train.

    Raises:
        UserError: no validation place has two dates of one heading.
    """

    def __init__(self, rows: pd.DataFrame) -> None:
        split = rows["split"].to_numpy().astype(str)
        role = rows["role"].to_numpy().astype(str)
        month = month_number(rows["month"])
        xy = rows[["x", "y"]].to_numpy(float)
        place = rows["place"].to_numpy(np.int64)
        mine = split == "validation"

        def contest(queries: NDArray[np.int64], gallery: NDArray[np.int64], years: float, age: bool) -> _Contest:
            """``years`` between the two if they show one place; with ``age`` always, and the answer the older one."""
            apart = np.hypot(*(xy[queries][:, None] - xy[gallery][None]).transpose(2, 0, 1))
            near = apart <= WITHIN_M
            months = month[queries][:, None] - month[gallery]
            known = (month[queries][:, None] >= 0) & (month[gallery] >= 0)
            same_month = (place[queries][:, None] == place[gallery]) & (months == 0)
            far = known & ((months if age else np.abs(months)) >= 12 * years) if years else ~same_month
            return _Contest(queries, gallery, near, ~same_month & (far if age else far | ~near))

        newest, older = np.flatnonzero(mine & (role == QUERY)), np.flatnonzero(mine & (role != QUERY))
        everything = np.flatnonzero(mine | (split == "train"))
        self.newest = newest
        self.contests = {
            "own": contest(newest, older, 0, False),
            "city": contest(newest, np.concatenate([older, np.flatnonzero(split == "train")]), 0, False),
            "old": contest(newest, older, OLD_YEARS, True),
            "apart": contest(np.flatnonzero(mine), everything, OLD_YEARS, False),
        }
        own = self.contests["own"]
        if not (own.near & own.allowed).any():
            raise UserError(
                "no validation place has pictures of two dates, so there is nothing to choose a model by; collect "
                "more, or give a level of order.levels to the split validation"
            )

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall at 1 of each contest that holds right answers, over the queries that have one there, and ``mean``."""
        result = {}
        for name, contest in self.contests.items():
            answerable = np.flatnonzero((contest.near & contest.allowed).any(axis=1))
            gallery = descriptors[contest.gallery]
            hits = 0
            for start in range(0, len(answerable), BLOCK):
                rows = answerable[start : start + BLOCK]
                best = search.exact(descriptors[contest.queries[rows]], gallery, 1, contest.allowed[rows])[0][:, 0]
                hits += int(contest.near[rows, best].sum())
            if len(answerable):
                result[name] = hits / len(answerable)
        result["mean"] = float(np.mean(list(result.values())))
        return result


def spread(descriptors: NDArray[np.float32]) -> float:
    """One less the mean cosine similarity over all pairs, each with itself included: 0 where all are equal.

    >>> spread(np.eye(2, dtype=np.float32))
    0.5
    """
    mean = descriptors.mean(axis=0, dtype=np.float64)
    return float(1.0 - mean @ mean)
