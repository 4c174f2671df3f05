"""Predict the position of a query from the positions of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streetrecall.scoring.ranking import Floats, Ranking

if TYPE_CHECKING:  # a bundle answers without them, which saves most of a second
    import pandas as pd

    from streetrecall.params import schema as parameters
    from streetrecall.scoring.outcome import Outcome


@dataclass(frozen=True)
class Position:
    """A predicted position for each of n queries, with measures of confidence (n,).

    ``xy`` (n, 2): the position, projected, metres. ``agreement``: share of the neighbours' weight that is at this
    position, 0-1. ``spread_m``: weighted root mean square distance of all neighbours from it. ``margin``: similarity of
    the best neighbour minus that of the best one elsewhere. ``similarity``: that of the best neighbour.
    """

    xy: Floats
    agreement: Floats
    spread_m: Floats
    margin: Floats
    similarity: Floats


def locate(ranking: Ranking, gallery_xy: Floats, temperature: float, agree_m: float) -> Position:
    """Weighted mean position of the neighbours that agree.

    Neighbour i has the weight exp(s_i / temperature), normalised. The neighbour with the most weight within ``agree_m``
    is the centre (the mode of a kernel density estimate with a flat kernel: Cheng, Mean shift, mode seeking, and
    clustering, PAMI 1995). The position is the weighted mean of the neighbours within ``agree_m`` of the centre,
    because a mean over two distant places would be a third place. It is NaN for a query without any neighbour.

    ``gallery_xy`` (m, 2) are the projected positions of the gallery that ``ranking`` refers to, metres.

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


def difficulty(position: Position, floor_m: float) -> Floats:
    """The scale of each query's error (n,), metres: the neighbours' spread plus ``floor_m``, which is above zero.

    >>> p = Position(np.zeros((1, 2)), np.ones(1), np.array([30.0]), np.ones(1), np.ones(1))
    >>> difficulty(p, 10.0)
    array([40.])
    """
    return position.spread_m + floor_m


@dataclass(frozen=True)
class Located:
    """The predicted positions of an outcome's n queries.

    ``table`` has the POSITIONS columns except ``radius_m``. ``score`` (n,) is error divided by difficulty, and
    ``difficulty_m`` (n,) the difficulty, metres.
    """

    table: pd.DataFrame
    score: Floats
    difficulty_m: Floats


def locate_queries(outcome: Outcome, settings: parameters.Position, crs: str) -> Located:
    """Predict the position of each query from its best neighbours in the gallery; ``crs`` is that of x and y."""
    from streetrecall.geo import unproject
    from streetrecall.scoring.protocols import positions

    k = min(settings.neighbours, outcome.ranking.k)
    best = Ranking(outcome.ranking.indices[:, :k], outcome.ranking.similarities[:, :k])
    position = locate(best, positions(outcome.gallery), settings.temperature, settings.agree_m)
    error = np.hypot(*(position.xy - positions(outcome.queries)).T)
    lat, lon = unproject(position.xy[:, 0], position.xy[:, 1], crs)
    table = outcome.predictions[["system", "split", "image_id", "place"]].assign(
        answerable=outcome.answerable,
        answered=position.agreement >= settings.agreement,
        lat=np.where(np.isfinite(lat), lat, np.nan).round(7),
        lon=np.where(np.isfinite(lon), lon, np.nan).round(7),
        error_m=error.round(2),
        similarity=position.similarity,
        margin=position.margin.round(9),
        agreement=position.agreement.round(9),
        spread_m=position.spread_m.round(2),
    )
    difficulty_m = difficulty(position, settings.difficulty_floor_m)
    return Located(table, error / difficulty_m, difficulty_m)
