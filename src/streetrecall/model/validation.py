"""How well an embedder does on the validation places while it trains."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.model.sampler import month_number
from streetrecall.retrieval import search
from streetrecall.retrieval.rows import QUERY

OLD_YEARS = 6
WITHIN_M = 25.0


class Validation:
    """Recall at 1 within 25 m of the newest validation pictures, in three galleries.

    ``own``: the older validation pictures. ``city``: these and all training pictures. ``old``: of the older validation
    pictures those at least six years older than the query. The mean of the three is what training selects by.

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
        self.queries = np.flatnonzero((split == "validation") & (role == QUERY))
        self.gallery = np.flatnonzero(((split == "validation") & (role != QUERY)) | (split == "train"))
        own = (split == "validation")[self.gallery][None, :]
        same_month = (place[self.queries][:, None] == place[self.gallery]) & (
            month[self.queries][:, None] == month[self.gallery]
        )
        apart = np.hypot(*(xy[self.queries][:, None] - xy[self.gallery][None]).transpose(2, 0, 1))
        self.near = apart <= WITHIN_M
        years = (month[self.queries][:, None] - month[self.gallery]) / 12.0
        self.allowed = {
            "own": own & ~same_month,
            "city": ~same_month & np.ones_like(own),
            "old": own & ~same_month & (years >= OLD_YEARS),
        }
        if not (self.near & self.allowed["own"]).any():
            raise UserError(
                "no validation place has pictures of two dates, so there is nothing to choose a model by; collect "
                "more, or give a level of order.levels to the split validation"
            )

    def recall(self, descriptors: NDArray[np.float32]) -> dict[str, float]:
        """Recall at 1 of each gallery that holds right answers, over the queries that have one there, and ``mean``."""
        queries, gallery = descriptors[self.queries], descriptors[self.gallery]
        result = {}
        for name, allowed in self.allowed.items():
            answerable = (self.near & allowed).any(axis=1)
            if answerable.any():
                best = search.exact(queries[answerable], gallery, 1, allowed[answerable])[0][:, 0]
                result[name] = float(self.near[answerable][np.arange(len(best)), best].mean())
        result["mean"] = float(np.mean(list(result.values())))
        return result


def spread(descriptors: NDArray[np.float32]) -> float:
    """One less the mean cosine similarity over all pairs, each with itself included: 0 where all are equal.

    >>> spread(np.eye(2, dtype=np.float32))
    0.5
    """
    mean = descriptors.mean(axis=0, dtype=np.float64)
    return float(1.0 - mean @ mean)
