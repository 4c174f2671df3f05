"""The numbers that are reported of an outcome. A number without a single query behind it is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.params.schema import Evaluate
from streetrecall.scoring.bootstrap import intervals, share
from streetrecall.scoring.calibration import confidences, risk_coverage
from streetrecall.scoring.outcome import Outcome
from streetrecall.scoring.protocols import groups, positions
from streetrecall.scoring.ranking import Floats, Ints, Ranking
from streetrecall.scoring.recall import distances, first_hit, found_at
from streetrecall.tables import KS, RADII_M, RIGHT_M


def measure(outcome: Outcome, settings: Evaluate) -> dict[str, Any]:
    """Recall at K, with intervals at K = 1, numbers of queries, and errors of the first answers."""
    table = outcome.predictions
    answerable = outcome.counted
    with_direction = (table["right_place_direction"] > 0).to_numpy()
    out: dict[str, Any] = {
        "queries": int(answerable.sum()),
        "queries_place_direction": int(with_direction.sum()),
        "queries_without_right_image": int((~outcome.answerable).sum()),
        "gallery": len(outcome.gallery),
        "places": int(table["place"][answerable].nunique()),
    }
    for name, counted in (
        *((f"{radius}m", answerable) for radius in RADII_M),
        ("place_direction", with_direction),
    ):
        found = np.column_stack([found_at(table[f"rank_{name}"].to_numpy(), k) for k in KS])
        for k, interval in zip(KS, intervals(outcome.place, found, counted, settings), strict=True):
            if interval is not None:
                key = f"recall_at_{k}_{name}"
                out |= interval.metrics(key) if k == 1 else {key: share(interval.value)}
    return out | measure_errors(table["error_m"].to_numpy()[answerable])


def measure_errors(metres: Floats) -> dict[str, float]:
    """Median and 90th percentile of the errors (n,): of all, and of the wrong ones, which are larger than 25 m.

    >>> measure_errors(np.array([0.0, 10.0, 500.0, np.nan]))["error_wrong_median_m"]
    500.0
    """
    out = {}
    for prefix, values in (("error", metres), ("error_wrong", metres[metres > RIGHT_M])):
        values = values[np.isfinite(values)]
        if len(values):
            out[f"{prefix}_median_m"] = round(float(np.median(values)), 1)
            out[f"{prefix}_p90_m"] = round(float(np.quantile(values, 0.9)), 1)
    return out


def measure_positions(table: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """Metrics of predicted positions; ``table`` has POSITIONS columns, and only its answerable queries count."""
    table = table[table["answerable"]]
    out: dict[str, Any] = {"queries": len(table), "places": int(table["place"].nunique())}
    if table.empty:
        return out
    error, radius = table["error_m"].to_numpy(), table["radius_m"].to_numpy()
    answered, right = table["answered"].to_numpy(), error <= RIGHT_M
    everyone = np.ones(len(table), dtype=bool)
    shares = {
        f"right_{RIGHT_M}m": (right, everyone),
        "answered": (answered, everyone),
        f"answered_right_{RIGHT_M}m": (right, answered),
    }
    if np.isfinite(radius).all():
        shares["coverage"] = (error <= radius, everyone)
        out["coverage_stated"] = settings.position.coverage
        out["radius_mean_m"] = round(float(radius.mean()), 1)
        out["radius_median_m"] = round(float(np.median(radius)), 1)
    for name, (success, counted) in shares.items():
        (interval,) = intervals(table["place"].to_numpy(), success[:, None], counted, settings)
        if interval is not None:
            out |= interval.metrics(name)
    for name, confidence in confidences(table).items():
        out[f"aurc_{name}"] = share(risk_coverage(confidence, ~right).area)
    out["aurc_best_possible"] = share(risk_coverage(right.astype(float), ~right).area)
    out["aurc_by_chance"] = share(1 - right.mean())
    return out | measure_errors(error)


def ranked(exact: Outcome, found: Ints, similarities: NDArray[np.floating]) -> Ranking:
    """The ranking of an approximate index, without answers of the query's own place and month.

    ``found`` (n, k) are rows of the gallery of ``exact``, -1 where there is none, with their ``similarities`` (n, k).
    """
    there = found >= 0
    own = there & (groups(exact.gallery)[found] == groups(exact.queries)[:, None])
    return Ranking(found, np.where(there, similarities.astype(np.float64), -np.inf)).drop(own, max(KS))


def measure_index(exact: Outcome, approximate: Ranking) -> dict[str, Any]:
    """The neighbours that an approximate index finds, and the recall that it loses, compared with exact search.

    ``approximate`` is its ranking of the gallery of ``exact``, from `ranked`.
    """
    out: dict[str, Any] = {"queries": len(exact.queries)}
    if not len(exact.queries) or not len(exact.gallery):
        return {"queries": 0}
    out["gallery"] = len(exact.gallery)
    true = exact.ranking.indices[:, :10]
    shared = (approximate.indices[:, :10, None] == true[:, None, :]) & (true[:, None, :] >= 0)
    if (true >= 0).any():
        out["recall_at_10"] = share(shared.sum() / (true >= 0).sum())
    metres = distances(positions(exact.queries), positions(exact.gallery), approximate)
    answerable = exact.answerable
    if answerable.any():
        for k in (1, 10):
            found = found_at(first_hit(metres <= RIGHT_M), k)[answerable].mean()
            best = found_at(exact.predictions[f"rank_{RIGHT_M}m"].to_numpy(), k)[answerable].mean()
            out[f"recall_at_{k}_{RIGHT_M}m"] = share(found)
            out[f"recall_at_{k}_{RIGHT_M}m_lost"] = share(best - found)
    return out
