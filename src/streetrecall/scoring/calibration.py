"""Confidence in a position: a radius with a stated coverage, and the risk of answering only confident queries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.scoring.bootstrap import share
from streetrecall.scoring.position import Located
from streetrecall.scoring.ranking import Floats

COVERAGES = np.round(np.arange(0.5, 0.96, 0.05), 2)  # stated coverages of the reliability curve


def conformal_quantile(scores: Floats, coverage: float) -> float | None:
    """A bound that a further exchangeable score does not exceed with a probability of at least ``coverage``.

    It is the ceil((n + 1) * coverage)-th smallest of the n calibration ``scores`` (Lei et al., Distribution-free
    predictive inference for regression, JASA 2018). None if n is too small for such a bound.

    >>> conformal_quantile(np.arange(1.0, 20.0), 0.9)
    18.0
    >>> conformal_quantile(np.arange(8.0), 0.9) is None
    True
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return None if rank > len(scores) else float(np.sort(scores)[rank - 1])


@dataclass(frozen=True)
class Calibration:
    """Conformal radii from the ``scores`` of calibration queries; no radius is smaller than ``floor_m``, metres."""

    scores: Floats
    floor_m: float

    def radius(self, difficulty_m: Floats, coverage: float) -> Floats | None:
        """Radius (n,) that contains the true position with probability ``coverage``, metres.

        None if there are too few calibration queries.
        """
        factor = conformal_quantile(self.scores, coverage)
        return None if factor is None else np.maximum(self.floor_m, factor * difficulty_m)

    def numbers(self, threshold: float | None, coverage: float) -> dict[str, Any]:
        """What a bundle needs: a radius is ``factor`` times the difficulty of an answer; None: too few queries.

        ``threshold`` is the least confidence of an answer that is not withheld.
        """
        return {
            "threshold": threshold,
            "factor": conformal_quantile(self.scores, coverage),
            "coverage": coverage,
            "queries": len(self.scores),
        }


def calibrate(located: Located, floor_m: float) -> Calibration:
    """Calibrate on the queries of ``located`` that have a right answer in the gallery."""
    return Calibration(located.score[located.table["answerable"].to_numpy()], floor_m)


def with_radius(located: Located, calibration: Calibration, coverage: float) -> pd.DataFrame:
    """The POSITIONS table: ``radius_m`` is NaN if there are too few calibration queries."""
    radius = calibration.radius(located.difficulty_m, coverage)
    return located.table.assign(radius_m=np.nan if radius is None else radius.round(2))


def reliability(located: Located, calibration: Calibration) -> pd.DataFrame:
    """Coverage found for several stated coverages, and the mean radius, over the answerable queries of ``located``."""
    answerable = located.table["answerable"].to_numpy()
    error = located.table["error_m"].to_numpy()[answerable]
    lines = []
    for stated in COVERAGES.tolist():
        radius = calibration.radius(located.difficulty_m[answerable], stated)
        if radius is not None and len(error):
            lines.append((stated, share((error <= radius).mean()), round(float(radius.mean()), 1)))
    return pd.DataFrame(lines, columns=["stated", "found", "radius_mean_m"])


def confidences(positions: pd.DataFrame) -> dict[str, Floats]:
    """The confidence scores of POSITIONS rows; a larger value means more confident."""
    scores = {name: positions[name].to_numpy() for name in ("similarity", "margin", "agreement")}
    return scores | {"spread": -positions["spread_m"].to_numpy()}


@dataclass(frozen=True)
class RiskCoverage:
    """``risk`` (n,) is the share of wrong answers among the most confident ``coverage`` (n,) of the queries.

    ``area`` is the area under this curve.
    """

    coverage: Floats
    risk: Floats
    area: float


def risk_coverage(confidence: Floats, wrong: NDArray[np.bool_]) -> RiskCoverage:
    """Risk-coverage curve and its area, AURC = 1/n * sum over i of the risk among the i most confident queries.

    Geifman, Uziel and El-Yaniv, Bias-reduced uncertainty estimation for deep neural classifiers, ICLR 2019. Queries of
    equal confidence have no order, so each gets the mean loss of those with its confidence.

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
