"""Queries that are asked changed, where a collection has no photos (protocol `perturbed`)."""

from __future__ import annotations

import pandas as pd

from streetrecall.pictures.perturb import CHANGES
from streetrecall.retrieval.rows import QUERY

ASKING = ("validation", "test")  # splits whose pictures ask


def perturbed_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (DESCRIPTORS columns, and `change`) of the queries of ``rows``, once for each change of pictures.

    Their role is `perturbed_CHANGE`. Changes follow each other in the order of `streetrecall.pictures.perturb.CHANGES`.
    """
    queries = rows[(rows["role"] == QUERY) & rows["split"].isin(ASKING)]
    parts = [queries.assign(change=change, role=f"perturbed_{change}") for change in CHANGES]
    return pd.concat(parts, ignore_index=True)
