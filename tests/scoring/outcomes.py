"""A small table of described pictures and its outcomes, for tests of measures and curves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from streetrecall.scoring.outcome import Outcome, outcome
from streetrecall.scoring.protocols import groups, protocols
from streetrecall.scoring.ranking import Ranking

MONTHS = ("2022-05", "2016-07", "2009-12", "")


def described(seed: int, places: int = 5) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of four dates and two directions at places 30 m apart, and random descriptors (n, 4)."""
    rng = np.random.default_rng(seed)
    lines = [
        (place, direction, month, "gallery" if i else "query")
        for place in range(places)
        for direction in (0, 1)
        for i, month in enumerate(MONTHS)
    ]
    rows = pd.DataFrame(lines, columns=["place", "direction", "month", "role"])
    rows = rows[rng.random(len(rows)) < 0.7].reset_index(drop=True)
    rows = rows.assign(image_id=np.arange(len(rows)) + 100, split="test", subset="test", lat=59.0, lon=18.0)
    rows["x"], rows["y"] = rows["place"] * 30.0 + rng.uniform(-10, 10, len(rows)), 0.0
    descriptors = rng.normal(size=(len(rows), 4))
    return rows, descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def rank_by_loops(rows: pd.DataFrame, descriptors: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> Ranking:
    """The 20 best gallery rows of each query, without those of its own place and month."""
    group = groups(rows)
    indices, similarities = np.full((len(queries), 20), -1), np.full((len(queries), 20), -np.inf)
    for i, q in enumerate(queries):
        allowed = [(-float(descriptors[q] @ descriptors[g]), j) for j, g in enumerate(gallery) if group[g] != group[q]]
        for rank, (negative, j) in enumerate(sorted(allowed)[:20]):
            indices[i, rank], similarities[i, rank] = j, -negative
    return Ranking(indices, similarities)


def outcomes(seed: int, places: int = 5) -> dict[str, Outcome]:
    """The outcome of each protocol on `described` pictures."""
    rows, descriptors = described(seed, places)
    return {
        p.name: outcome("model", rows, p, rank_by_loops(rows, descriptors, p.queries, p.gallery))
        for p in protocols(rows, "test", np.ones(len(rows), bool), 2015)
    }
