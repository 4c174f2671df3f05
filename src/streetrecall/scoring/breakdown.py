"""What recall depends on: years and seasons between the pictures, and the size of the gallery.

A ranking does not answer these questions. They need the similarity of the best right picture of some kind, such as
those of one season, and that of the best wrong picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from streetrecall.scoring.outcome import Outcome
from streetrecall.scoring.protocols import groups, positions
from streetrecall.scoring.ranking import Floats, Ints, similarity_blocks
from streetrecall.scoring.recall import pairs_within
from streetrecall.scoring.system import System
from streetrecall.tables import RIGHT_M

SEASONS = ("winter", "spring", "summer", "autumn")


@dataclass(frozen=True)
class RightAgainstWrong:
    """The right answers to each of n queries, compared with the most similar wrong ones.

    For each pair of a query and a right answer: ``pair_query`` and ``pair_gallery`` (row numbers), and
    ``pair_similarity``. For each query (n,): ``best_right`` and ``best_wrong`` are the largest similarities (minus
    infinity if there is none), ``wrong_places`` is the number of places with a wrong picture in the gallery, and
    ``better_places`` how many of these have one that is at least as similar as the best right picture.
    """

    pair_query: Ints
    pair_gallery: Ints
    pair_similarity: Floats
    best_right: Floats
    best_wrong: Floats
    wrong_places: Ints
    better_places: Ints


def compare(system: System, outcome: Outcome) -> RightAgainstWrong:
    """Compare the right answers of ``system`` to each query of ``outcome`` with the wrong ones."""
    protocol, descriptors = outcome.protocol, system.descriptors
    return right_against_wrong(
        descriptors[protocol.queries], descriptors[protocol.gallery], outcome.queries, outcome.gallery
    )


def right_against_wrong(
    query_descriptors: NDArray[np.floating],
    gallery_descriptors: NDArray[np.floating],
    queries: pd.DataFrame,
    gallery: pd.DataFrame,
) -> RightAgainstWrong:
    """Compare the right answers to each query, those within 25 m, with all wrong ones.

    Descriptors are (n, d) and (m, d); ``queries`` (n rows) and ``gallery`` (m rows) have DESCRIPTORS columns. Pictures
    of the query's own place and month are no answers at all.

    >>> queries = pd.DataFrame({"place": [1], "month": ["2022-05"], "x": [0.0], "y": [0.0]})
    >>> gallery = pd.DataFrame({"place": [1, 2, 3], "month": "2016-07", "x": [0.0, 500.0, 900.0], "y": 0.0})
    >>> descriptors = np.array([[0.8, 0.6], [0.6, 0.8], [0.9, 0.1]])
    >>> r = right_against_wrong(np.array([[1.0, 0.0]]), descriptors, queries, gallery)
    >>> int(r.wrong_places[0]), int(r.better_places[0])
    (2, 1)
    """
    n = len(queries)
    place = gallery["place"].to_numpy(np.int64)
    by_place = np.argsort(place, kind="stable")
    place_starts = np.flatnonzero(np.diff(place[by_place], prepend=place.min(initial=0) - 1))
    query_group, gallery_group = groups(queries), groups(gallery)[by_place]
    pair_query, pair_column = pairs_within(positions(queries), positions(gallery)[by_place], RIGHT_M)
    pair_similarity = np.zeros(len(pair_query))
    best_right, best_wrong = np.full(n, -np.inf), np.full(n, -np.inf)
    wrong_places, better_places = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    if len(gallery):
        ordered = gallery_descriptors[by_place]
        for part, block in similarity_blocks(query_descriptors, ordered, query_group, gallery_group):
            pairs = slice(*np.searchsorted(pair_query, [part.start, part.stop]))
            at = (pair_query[pairs] - part.start, pair_column[pairs])
            pair_similarity[pairs] = block[at]
            right = best_right[part]
            np.maximum.at(right, at[0], pair_similarity[pairs])
            block[at] = -np.inf  # only wrong pictures are left
            wrong = np.maximum.reduceat(block, place_starts, axis=1)
            present = np.isfinite(wrong)
            best_wrong[part] = wrong.max(axis=1)
            wrong_places[part] = present.sum(axis=1)
            better_places[part] = (present & (wrong >= right[:, None])).sum(axis=1)
    kept = np.isfinite(pair_similarity)  # the others are of the query's own group
    return RightAgainstWrong(
        pair_query[kept],
        by_place[pair_column[kept]],
        pair_similarity[kept],
        best_right,
        best_wrong,
        wrong_places,
        better_places,
    )


def found_by_label(result: RightAgainstWrong, label: NDArray) -> pd.DataFrame:
    """Whether each query would be found if its place were known from the pictures of one label only.

    ``label`` is a label of each right pair, such as the years between the two pictures. The gallery keeps all wrong
    pictures in every case, so the labels differ only in the right pictures. One row for each query and label that
    occur together: query (row number), label, found.

    >>> r = RightAgainstWrong(np.array([0, 0]), np.array([3, 4]), np.array([0.7, 0.2]), np.array([0.7]),
    ...                       np.array([0.5]), np.array([9]), np.array([0]))
    >>> found_by_label(r, np.array([1, 12])).values.tolist()
    [[0, 1, True], [0, 12, False]]
    """
    pairs = pd.DataFrame({"query": result.pair_query, "label": label, "best": result.pair_similarity})
    best = pairs.groupby(["query", "label"])["best"].max().reset_index()
    best["found"] = best["best"].to_numpy() > result.best_wrong[best["query"].to_numpy()]
    return best[["query", "label", "found"]]


def expected_found(result: RightAgainstWrong, others: int) -> Floats:
    """Probability that each query's first answer is right in a gallery of its place and ``others`` random places.

    With M wrong places, of which w are better than the best right picture, it is the hypergeometric probability of
    drawing none of these: C(M - w, others) / C(M, others). This is exact, whereas drawing galleries would add noise.

    >>> none = np.zeros(0, np.int64)
    >>> r = RightAgainstWrong(none, none, none, np.ones(2), np.ones(2), np.array([4, 4]), np.array([0, 1]))
    >>> expected_found(r, 2).round(6).tolist()
    [1.0, 0.5]
    """
    m, w = result.wrong_places.astype(float), result.better_places.astype(float)
    drawn = np.minimum(others, m)
    rest = m - w - drawn
    log = gammaln(m - w + 1) - gammaln(np.maximum(rest, 0) + 1) - gammaln(m + 1) + gammaln(m - drawn + 1)
    return np.where(rest < 0, 0.0, np.exp(log))


def gallery_sizes(most: int) -> list[int]:
    """Numbers of other places to show: 1, 2, 5, 10, 20, 50, ... and ``most``.

    >>> gallery_sizes(130)
    [1, 2, 5, 10, 20, 50, 100, 130]
    """
    steps = [base * 10**power for power in range(len(str(most))) for base in (1, 2, 5)]
    return [*(s for s in steps if s < most), most] if most else []


def season(month: Ints, southern: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Meteorological season, as an index into SEASONS, of months (0 is January), by hemisphere.

    >>> season(np.array([0, 5, 11]), np.array([False, False, True])).tolist()
    [0, 2, 2]
    """
    return ((month + 1 + np.where(southern, 6, 0)) % 12) // 3
