"""What recall depends on: years and seasons between the pictures, and the size of the gallery.

All of these need more than a ranking: they ask whether the best right picture *of a kind* beats every wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from streetrecall.scoring.ranking import Floats, Ints, similarity_blocks
from streetrecall.scoring.recall import pairs_within

SEASONS = ("winter", "spring", "summer", "autumn")


@dataclass(frozen=True)
class Contest:
    """Right pictures of each query against the wrong ones.

    ``pair_query``, ``pair_gallery``, ``pair_similarity``: every right pair. For each of the n queries: ``best_right``
    and ``best_wrong`` similarity (minus infinity: none), ``wrong_places``, the places with a wrong picture in the
    gallery, and ``beaten_by``, how many of these hold one at least as similar as the best right picture.
    """

    pair_query: Ints
    pair_gallery: Ints
    pair_similarity: Floats
    best_right: Floats
    best_wrong: Floats
    wrong_places: Ints
    beaten_by: Ints


def contest(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    query_xy: Floats,
    gallery_xy: Floats,
    query_group: Ints,
    gallery_group: Ints,
    gallery_place: Ints,
    radius_m: float,
) -> Contest:
    """Compare each query (n, d) with its right gallery rows (m, d), those within ``radius_m``, and with all wrong ones.

    >>> c = contest(np.array([[1.0, 0.0]]), np.array([[0.8, 0.6], [0.6, 0.8], [0.9, 0.1]]), np.zeros((1, 2)),
    ...             np.array([[0.0, 0.0], [500.0, 0.0], [900.0, 0.0]]), np.array([0]), np.array([1, 2, 3]),
    ...             np.array([1, 2, 3]), 25.0)
    >>> int(c.wrong_places[0]), int(c.beaten_by[0])
    (2, 1)
    """
    n = len(queries)
    by_place = np.argsort(gallery_place, kind="stable")
    place_starts = np.flatnonzero(np.diff(gallery_place[by_place], prepend=gallery_place.min(initial=0) - 1))
    pair_query, pair_column = pairs_within(query_xy, gallery_xy[by_place], radius_m)
    similarity = np.zeros(len(pair_query))
    best_right, best_wrong = np.full(n, -np.inf), np.full(n, -np.inf)
    wrong_places, beaten_by = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    if len(gallery):
        for part, block in similarity_blocks(queries, gallery[by_place], query_group, gallery_group[by_place]):
            pairs = slice(*np.searchsorted(pair_query, [part.start, part.stop]))
            at = (pair_query[pairs] - part.start, pair_column[pairs])
            similarity[pairs] = block[at]
            block[at] = -np.inf
            right = best_right[part]
            np.maximum.at(right, at[0], similarity[pairs])
            per_place = np.maximum.reduceat(block, place_starts, axis=1)
            present = np.isfinite(per_place)
            best_wrong[part] = per_place.max(axis=1)
            wrong_places[part] = present.sum(axis=1)
            beaten_by[part] = (present & (per_place >= right[:, None])).sum(axis=1)
    kept = np.isfinite(similarity)
    return Contest(
        pair_query[kept], by_place[pair_column[kept]], similarity[kept], best_right, best_wrong, wrong_places, beaten_by
    )


def found_by_label(result: Contest, label: NDArray) -> pd.DataFrame:
    """Would a query be found if its place were known only from the pictures of one label? One row a (query, label).

    ``label`` is of the right pairs, such as the years between; wrong pictures are all there in every case, so that the
    labels differ in nothing but the right pictures. Columns: query (row), label, found.

    >>> c = Contest(np.array([0, 0]), np.array([3, 4]), np.array([0.7, 0.2]), np.array([0.7]), np.array([0.5]),
    ...             np.array([9]), np.array([0]))
    >>> found_by_label(c, np.array([1, 12])).values.tolist()
    [[0, 1, True], [0, 12, False]]
    """
    pairs = pd.DataFrame({"query": result.pair_query, "label": label, "best": result.pair_similarity})
    best = pairs.groupby(["query", "label"])["best"].max().reset_index()
    best["found"] = best["best"].to_numpy() > result.best_wrong[best["query"].to_numpy()]
    return best[["query", "label", "found"]]


def expected_found(result: Contest, others: int) -> Floats:
    """Chance that each query's first answer is right in a gallery of its own and ``others`` places drawn at random.

    With M wrong places, w of which beat the best right picture, it is the hypergeometric chance of drawing none of
    them: C(M - w, others) / C(M, others). Exact, where drawing galleries would add noise.

    >>> c = Contest(*(np.zeros(0, np.int64),) * 3, np.ones(2), np.ones(2), np.array([4, 4]), np.array([0, 1]))
    >>> expected_found(c, 2).round(6).tolist()
    [1.0, 0.5]
    """
    m, w = result.wrong_places.astype(float), result.beaten_by.astype(float)
    drawn = np.minimum(others, m)
    rest = m - w - drawn
    log = gammaln(m - w + 1) - gammaln(np.maximum(rest, 0) + 1) - gammaln(m + 1) + gammaln(m - drawn + 1)
    return np.where(rest < 0, 0.0, np.exp(log))


def gallery_sizes(most: int) -> list[int]:
    """Numbers of other places to show: 1, 2, 5, 10, 20, 50, ... and the most there are.

    >>> gallery_sizes(130)
    [1, 2, 5, 10, 20, 50, 100, 130]
    """
    steps = [base * 10**power for power in range(len(str(most))) for base in (1, 2, 5)]
    return [*(s for s in steps if s < most), most] if most else []


def season(month: Ints, southern: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Index into SEASONS of months (0 is January), meteorological; half a year on in the southern hemisphere.

    >>> season(np.array([0, 5, 11]), np.array([False, False, True])).tolist()
    [0, 2, 2]
    """
    return ((month + 1 + np.where(southern, 6, 0)) % 12) // 3
