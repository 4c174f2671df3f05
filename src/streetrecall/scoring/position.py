"""From neighbours to a position, a radius that holds as often as it says, and when to be silent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streetrecall.scoring.ranking import Floats, Ranking


@dataclass(frozen=True)
class Position:
    """A predicted position for each of n queries, and how sure one may be of it.

    ``xy`` (n, 2) metres; ``agreement`` share of the neighbours' weight that lies at the predicted spot, 0-1;
    ``spread_m`` weighted root mean square distance of all neighbours from it; ``margin`` similarity of the best
    neighbour less that of the best one elsewhere; ``similarity`` of the best neighbour.
    """

    xy: Floats
    agreement: Floats
    spread_m: Floats
    margin: Floats
    similarity: Floats


def locate(ranking: Ranking, gallery_xy: Floats, temperature: float, agree_m: float) -> Position:
    """Weighted vote of the neighbours for a spot, then their weighted mean there.

    Neighbour i weighs exp(s_i / temperature), normalised. The spot is the neighbour with the most weight within
    ``agree_m`` of it (the mode of a kernel density estimate with a flat kernel: Cheng, Mean shift, mode seeking, and
    clustering, PAMI 1995), for a mean over two distant places would name a third one that nobody saw.
    NaN for a query without any neighbour.

    >>> r = Ranking(np.array([[0, 1, 2]]), np.array([[0.9, 0.9, 0.9]]))
    >>> p = locate(r, np.array([[900.0, 0.0], [0.0, 0.0], [10.0, 0.0]]), temperature=0.05, agree_m=25.0)
    >>> p.xy.tolist(), round(float(p.agreement[0]), 3)
    ([[5.0, 0.0]], 0.667)
    """
    n = len(ranking.indices)
    valid = ranking.indices >= 0
    some = valid.any(axis=1)
    if not len(gallery_xy):
        gallery_xy = np.zeros((1, 2))
    best = np.where(some, ranking.similarities[:, 0], 0.0)
    weight = np.exp((ranking.similarities - best[:, None]) / temperature)
    weight = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    xy = gallery_xy[ranking.indices]
    apart = np.hypot(*np.moveaxis(xy[:, :, None, :] - xy[:, None, :, :], -1, 0))
    mass = np.where(valid, np.einsum("nij,nj->ni", (apart <= agree_m).astype(float), weight), -1.0).round(12)
    centre = mass.argmax(axis=1)
    rows = np.arange(n)
    member = np.where(apart[rows, centre] <= agree_m, weight, 0.0)
    position = np.einsum("ni,nic->nc", member, xy) / np.maximum(member.sum(axis=1), 1e-300)[:, None]
    spread = np.sqrt(np.einsum("ni,ni->n", weight, ((xy - position[:, None, :]) ** 2).sum(axis=2)))
    elsewhere = np.where((apart[:, 0] > agree_m) & valid, ranking.similarities, -np.inf).max(axis=1)
    last = np.where(valid, ranking.similarities, np.inf).min(axis=1)
    with np.errstate(invalid="ignore"):
        margin = ranking.similarities[:, 0] - np.where(np.isfinite(elsewhere), elsewhere, last)
    nothing = np.where(some, 0.0, np.nan)
    return Position(
        position + nothing[:, None],
        mass[rows, centre] + nothing,
        spread + nothing,
        margin + nothing,
        best + nothing,
    )


def conformal_quantile(scores: Floats, coverage: float) -> float | None:
    """The score that a new exchangeable one does not exceed with probability ``coverage`` or more.

    The ceil((n + 1) * coverage)-th smallest of n calibration scores (Lei et al., Distribution-free predictive
    inference for regression, JASA 2018). None if n is too small to promise that much.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    >>> conformal_quantile(np.arange(8.0), 0.9) is None
    True
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])


def difficulty(position: Position, floor_m: float) -> Floats:
    """What an error is divided by to be comparable between queries, metres: the spread, and never nothing.

    >>> p = Position(np.zeros((1, 2)), np.ones(1), np.array([30.0]), np.ones(1), np.ones(1))
    >>> difficulty(p, 10.0)
    array([40.])
    """
    return position.spread_m + floor_m


@dataclass(frozen=True)
class RiskCoverage:
    """``risk``, the share of wrong answers, among the surest ``coverage`` of the queries; ``area`` under the curve."""

    coverage: Floats
    risk: Floats
    area: float


def risk_coverage(confidence: Floats, wrong: NDArray[np.bool_]) -> RiskCoverage:
    """Risk-coverage curve and its area, AURC = 1/n * sum over i of the risk among the i surest.

    Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, ICLR 2019. Queries of
    equal confidence cannot be told apart: each stands for the mean of its ties.

    >>> risk_coverage(np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, False, True, True])).risk.round(3).tolist()
    [0.0, 0.0, 0.333, 0.5]
    >>> risk_coverage(np.ones(4), np.array([False, True, True, False])).area
    0.5
    """
    order = np.argsort(-confidence, kind="stable")
    _, tie = np.unique(-confidence[order], return_inverse=True)
    loss = wrong[order].astype(np.float64)
    loss = (np.bincount(tie, loss) / np.bincount(tie))[tie] if len(loss) else loss
    answered = np.arange(1, len(loss) + 1)
    risk = np.cumsum(loss) / answered
    return RiskCoverage(answered / max(1, len(loss)), risk, float(risk.mean()) if len(risk) else 0.0)
