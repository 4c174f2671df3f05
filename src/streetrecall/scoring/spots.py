"""Scores of places from similarities of views: what all views of a place and of its neighbours say together.

Views that were taken near to each other and look the same way see the same things, so a right answer has neighbours and
other dates that answer nearly as well. A chance similarity has none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streetrecall.scoring.ranking import Floats, Ints


def place_scores(similarity: NDArray[np.float32], date: Ints, place_of_date: Ints, over_dates: float) -> Floats:
    """Scores of places, (n, places), from similarities of n photos with m views.

    The score is ``1 - over_dates`` times the best view of all dates, plus ``over_dates`` times the mean of the best
    views of the place's dates.

    Args:
        similarity: (n, m).
        date: (m,) number of each view's panorama, 0, 1, ...; each number occurs.
        place_of_date: (dates,) number of each panorama's place, 0, 1, ...; each number occurs.

    >>> similarity = np.array([[0.8, 0.2, 0.6, 0.5]], np.float32)
    >>> place_scores(similarity, np.array([0, 0, 1, 2]), np.array([0, 0, 1]), 0.5).round(3).tolist()
    [[0.75, 0.5]]
    """
    best = _reduce(np.maximum, similarity, date)
    top = _reduce(np.maximum, best, place_of_date)
    mean = _reduce(np.add, best, place_of_date) / np.bincount(place_of_date)
    return (1 - over_dates) * top.astype(np.float64) + over_dates * mean


def with_neighbours(scores: Floats, xy: Floats, weight: float, reach_m: float) -> Floats:
    """``scores`` (n, places) plus ``weight`` times the mean score of the places within ``reach_m`` metres.

    A place without a neighbour counts as its own neighbour, so that it is not at a disadvantage. ``xy`` (places, 2).

    >>> with_neighbours(np.array([[0.5, 0.7, 0.6]]), np.array([[0.0, 0], [9, 0], [99, 0]]), 0.5, 14.0).round(3).tolist()
    [[0.85, 0.95, 0.9]]
    """
    first, second = pairs_within(xy, reach_m)
    alone = np.setdiff1d(np.arange(len(xy)), first)
    of, neighbour = np.append(first, alone), np.append(second, alone)
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(len(xy)))
    mean = np.empty_like(scores)
    for row, values in enumerate(scores):  # one by one: a city has millions of pairs
        mean[row] = np.add.reduceat(values[neighbour[order]], starts)
    return scores + weight * mean / np.bincount(of)


def pairs_within(xy: Floats, reach_m: float) -> tuple[Ints, Ints]:
    """The pairs of different points that are at most ``reach_m`` metres apart, each in both orders; ``xy`` (n, 2).

    Memory grows with the pairs in strips of that width, not with the square of n.

    >>> [pair.tolist() for pair in pairs_within(np.array([[0.0, 0], [99, 0], [9, 0]]), 14.0)]
    [[0, 2], [2, 0]]
    """
    order = np.argsort(xy[:, 0], kind="stable")
    x = xy[order, 0]
    after = np.searchsorted(x, x + reach_m, side="right") - np.arange(len(x)) - 1  # how many follow in the strip
    left = np.repeat(np.arange(len(x)), after)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(after) - after, after)
    a, b = order[left], order[right]
    near = np.hypot(*(xy[a] - xy[b]).T) <= reach_m
    return np.append(a[near], b[near]), np.append(b[near], a[near])


def spread_out(scores: Floats, xy: Floats, apart_m: float, count: int) -> Ints:
    """The ``count`` best places of each of n photos, best first, (n, count at most).

    A place within ``apart_m`` metres of a better one says the same again, so it comes after all that are not.
    ``scores`` (n, places), ``xy`` (places, 2).

    >>> spread_out(np.array([[0.9, 0.8, 0.7, 0.6]]), np.array([[0.0, 0], [9, 0], [30, 0], [99, 0]]), 20.0, 3).tolist()
    [[0, 2, 3]]
    """
    chosen = np.zeros((len(scores), min(count, scores.shape[1])), np.int64)
    for row, order in enumerate(np.argsort(-scores, axis=1, kind="stable")):
        hidden = np.zeros(scores.shape[1], bool)
        first: list[int] = []
        for place in order.tolist():
            if len(first) == chosen.shape[1]:
                break
            if not hidden[place]:
                first.append(place)
                hidden |= np.hypot(*(xy - xy[place]).T) < apart_m
        later = order[~np.isin(order, first)]
        chosen[row] = np.concatenate([np.array(first, np.int64), later])[: chosen.shape[1]]
    return chosen


def margins(scores: Floats, first: Ints, xy: Floats, agree_m: float) -> Floats:
    """Score of each photo's best place ``first`` (n,) minus that of the best place farther than ``agree_m`` from it.

    NaN where no place may answer (``first`` is -1); the score itself where there is no other place. ``scores``
    (n, places), ``xy`` (places, 2).

    >>> margins(np.array([[0.9, 0.8, 0.5]]), np.array([0]), np.array([[0.0, 0], [9, 0], [99, 0]]), 25.0).round(3)
    array([0.4])
    """
    own = scores[np.arange(len(first)), np.maximum(first, 0)]
    far = np.hypot(*(xy[np.maximum(first, 0)][:, None] - xy[None]).transpose(2, 0, 1)) > agree_m
    other = np.where(far, scores, -np.inf).max(axis=1)
    return np.where(first < 0, np.nan, own - np.where(np.isfinite(other), other, 0.0))


def _reduce(function: np.ufunc, values: NDArray, group: Ints) -> NDArray:
    """``function`` over the columns of ``values`` (n, m) of each group, (n, groups)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(int(group.max()) + 1))
    return function.reduceat(values[:, order], starts, axis=1)
