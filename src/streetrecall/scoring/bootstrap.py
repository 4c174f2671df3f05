"""Intervals and comparisons by resampling places.

The queries of one place (its directions and dates) succeed and fail together, so they are not independent draws, but
places are. Resampling places (the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their Application,
1997, section 3.8) needs only the sums of each place. A draw is a multinomial weight for each place, a statistic is a
ratio of two weighted sums, and all draws of all statistics are one matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from streetrecall.params.schema import Evaluate
from streetrecall.scoring.ranking import Floats, Ints

Verdict = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Interval:
    """A share, 0-1, with its interval; ``low`` and ``high`` are None if there are too few places for an interval."""

    value: float
    low: float | None
    high: float | None

    def metrics(self, name: str) -> dict[str, float]:
        """The share as the metric ``name`` and its interval as ``name_ci_low`` and ``name_ci_high``, rounded.

        >>> Interval(0.62345, 0.5, None).metrics("recall"), Interval(0.5, 0.25, 1.0).metrics("recall")
        ({'recall': 0.6234}, {'recall': 0.5, 'recall_ci_low': 0.25, 'recall_ci_high': 1.0})
        """
        out = {name: share(self.value)}
        if self.low is None or self.high is None:
            return out
        return out | {f"{name}_ci_low": share(self.low), f"{name}_ci_high": share(self.high)}


def share(value: float) -> float:
    """A share as the metrics hold it: four decimals."""
    return round(float(value), 4)


@lru_cache(maxsize=32)
def place_weights(places: int, draws: int, seed: int) -> Floats:
    """How often each place is drawn in each of ``draws`` resamples: (draws, places), every row sums to ``places``.

    >>> place_weights(3, 2, seed=1).sum(axis=1)
    array([3., 3.])
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    weights = generator.multinomial(places, np.full(places, 1 / places), size=draws).astype(np.float64)
    weights.flags.writeable = False  # the cached array is returned to every caller
    return weights


def place_sums(place: Ints, values: ArrayLike) -> Floats:
    """Sum of ``values`` (n,) or (n, m) for each distinct place, in ascending order of place.

    >>> place_sums(np.array([7, 2, 7]), [1.0, 5.0, 2.0])
    array([5., 3.])
    """
    values = np.asarray(values, dtype=np.float64)
    _, index = np.unique(place, return_inverse=True)
    out = np.zeros((int(index.max()) + 1 if len(index) else 0, *values.shape[1:]))
    np.add.at(out, index, values)
    return out


def ratio_intervals(
    place: Ints,
    successes: NDArray[np.bool_] | Floats,
    counted: NDArray[np.bool_],
    draws: int,
    confidence: float,
    seed: int,
) -> list[Interval | None]:
    """Share of the ``counted`` queries with success, for each column of ``successes`` (n, m), with its interval.

    The interval is the percentile interval over ``draws`` resamples of places. If every query was found, or none,
    resampling shows no spread at all. The exact binomial limit over P places is used then (Clopper and Pearson 1934),
    such as low = (alpha / 2) ** (1 / P) if every query was found. There is no interval for a single place, nor for
    places that all have the same share between 0 and 1. There is no value (None) without a counted query.

    >>> place = np.repeat([1, 2, 3, 4], 2)
    >>> found = np.array([1, 1, 1, 0, 1, 1, 0, 0], bool)[:, None]
    >>> ratio_intervals(place, found, np.ones(8, bool), draws=2000, confidence=0.95, seed=1)
    [Interval(value=0.625, low=0.25, high=1.0)]
    """
    successes = np.asarray(successes, dtype=np.float64)
    if not counted.any():
        return [None] * successes.shape[1]
    sums = place_sums(place[counted], np.column_stack([np.ones(int(counted.sum())), successes[counted]]))
    values = sums[:, 1:].sum(axis=0) / sums[:, 0].sum()
    if len(sums) < 2:
        return [Interval(float(v), None, None) for v in values]
    drawn = place_weights(len(sums), draws, seed) @ sums
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(drawn[:, 1:] / drawn[:, :1], [tail, 1 - tail], axis=0)
    out: list[Interval | None] = []
    for value, low, high in zip(values, lows, highs, strict=True):
        if value == 1:
            low = beta.ppf(tail, len(sums), 1)
        elif value == 0:
            high = beta.ppf(1 - tail, 1, len(sums))
        # Few places may all have the same share between 0 and 1: then there is no spread to estimate.
        out.append(
            Interval(float(value), float(low), float(high)) if low < high else Interval(float(value), None, None)
        )
    return out


def intervals(
    place: Ints, successes: NDArray[np.bool_] | Floats, counted: NDArray[np.bool_], settings: Evaluate
) -> list[Interval | None]:
    """`ratio_intervals` with the draws, the level and the seed of ``settings``."""
    return ratio_intervals(place, successes, counted, settings.bootstrap_draws, settings.confidence, settings.seed)


@dataclass(frozen=True)
class Difference:
    """Recall of the second system minus that of the first, on the same queries."""

    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    queries: int
    places: int
    changed_places: int
    verdict: Verdict


def paired_difference(
    place: Ints, first: NDArray[np.bool_], second: NDArray[np.bool_], draws: int, confidence: float, seed: int
) -> Difference:
    """Difference of two recalls on the same queries, by a paired bootstrap over places.

    Both systems are weighted by the same draw, so what they have in common cancels. The verdict is "better" or "worse"
    only if the interval does not contain zero and enough places changed: with c changed places, no two-sided test over
    places can reach a level below 2 ** (1 - c), so at 95% at least six places must have changed.

    >>> place = np.arange(20)
    >>> paired_difference(place, place < 5, place < 17, draws=2000, confidence=0.95, seed=1).verdict
    'better'
    >>> paired_difference(place, place < 5, place < 9, draws=2000, confidence=0.95, seed=1).verdict
    'no difference shown'
    """
    gain = second.astype(np.float64) - first.astype(np.float64)
    sums = place_sums(place, np.column_stack([np.ones(len(place)), gain]))
    changed = int(np.count_nonzero(place_sums(place, np.abs(gain))))
    low = high = None
    verdict: Verdict = "no difference shown"
    if len(sums) >= 2:
        drawn = place_weights(len(sums), draws, seed) @ sums
        tail = (1 - confidence) / 2
        low, high = (float(v) for v in np.quantile(drawn[:, 1] / drawn[:, 0], [tail, 1 - tail]))
        if 2.0 ** (1 - changed) <= 1 - confidence:
            verdict = "better" if low > 0 else "worse" if high < 0 else verdict
    return Difference(
        float(first.mean()),
        float(second.mean()),
        float(gain.mean()),
        low,
        high,
        len(place),
        len(sums),
        changed,
        verdict,
    )
