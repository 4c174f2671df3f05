"""The measures of protocol `photos`: recall, error radius, withholding, and curves over the geometry of a photo.

The photos of one spot succeed and fail together, so intervals are over spots.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from streetrecall.geo import unproject
from streetrecall.params.schema import Evaluate
from streetrecall.scoring.bootstrap import intervals, share
from streetrecall.scoring.calibration import Calibration
from streetrecall.scoring.curves import interval_table
from streetrecall.scoring.measures import measure_errors
from streetrecall.scoring.position import difficulty, locate
from streetrecall.scoring.protocols import CALIBRATION, TEST, positions
from streetrecall.scoring.ranking import Floats, Ints, Ranking
from streetrecall.scoring.recall import distances, first_hit, found_at
from streetrecall.scoring.spots import margins, spread_out
from streetrecall.tables import KS, PHOTO_ANSWERS, RADII_M, RIGHT_M

SINGLE, THREE = "photos", "photos_three"
CURVES = {"distance": "distance_m", "angle": "angle_deg", "fov": "fov_deg"}
EDGES = {  # of the bins of the curves; a photo beyond the last edge is in no bin
    "distance_m": (0, 4, 8, 12, 16, 20, RIGHT_M),
    "angle_deg": (0, 3, 6, 9, 12, 15, 30, 45),
    "fov_deg": (30, 50, 55, 60, 65, 70, 75, 80, 100),
}


@dataclass(frozen=True)
class Answered:
    """Scores (n, p) of the gallery's p places for n queries, minus infinity where a place may not answer, and the
    inliers (n, p) that they include, 0 where a place was not compared.

    ``asked`` (n rows) has the columns of PHOTO_ANSWERS that tell what is asked, and x and y.
    """

    asked: pd.DataFrame
    scores: Floats
    inliers: Ints


@dataclass(frozen=True)
class PhotoEvaluation:
    """What was measured with photos. ``answers`` has PHOTO_ANSWERS columns, ``metrics`` are by split and protocol,
    ``calibrations`` by protocol. Without photos all are empty."""

    answers: pd.DataFrame
    metrics: dict[tuple[str, str], dict[str, Any]]
    curves: dict[str, pd.DataFrame]
    calibrations: dict[str, dict[str, Any]]


def evaluate_photos(
    answered: dict[str, Answered], views: int, places: Ints, xy: Floats, settings: Evaluate, crs: str
) -> PhotoEvaluation:
    """Measure the answers of every protocol. The gallery has ``views`` pictures; the rest is as in `answer_table`."""
    answers = pd.DataFrame(columns=list(PHOTO_ANSWERS.columns))
    parts: list[pd.DataFrame] = []
    calibrations: dict[str, dict[str, Any]] = {}
    for protocol, found in answered.items():
        table, difficulty_m = answer_table(protocol, found, places, xy, settings, crs)
        calibration = calibrate_photos(table, difficulty_m, CALIBRATION, settings)
        calibrations[protocol] = calibration.radii.numbers(calibration.threshold, settings.position.coverage)
        parts.append(calibrated(table, difficulty_m, calibration, settings))
    if parts:
        answers = pd.concat(parts, ignore_index=True)
    metrics = {
        (str(split), str(protocol)): measure_photos(table, views, len(places), settings)
        for (split, protocol), table in answers.groupby(["split", "protocol"])
    }
    single = answers[(answers["split"] == TEST) & (answers["protocol"] == SINGLE)]
    curves = {f"photos_by_{name}": recall_by(single, column, settings) for name, column in CURVES.items()}
    return PhotoEvaluation(answers, metrics, curves, calibrations)


def answer_table(
    protocol: str, answered: Answered, places: Ints, xy: Floats, settings: Evaluate, crs: str
) -> tuple[pd.DataFrame, Floats]:
    """PHOTO_ANSWERS rows without `answered` and `radius_m`, and the difficulty of each photo (n,), metres.

    ``places`` (p,) and ``xy`` (p, 2) are the ids and the projected positions, metres, of the gallery's places; ``crs``
    is that of x and y.
    """
    asked, scores, inliers = answered.asked, answered.scores, answered.inliers
    ranking = _ranking(scores, spread_out(scores, xy, settings.photos.apart_m, max(KS)))
    metres = distances(positions(asked), xy, ranking)
    first = ranking.indices[:, 0]
    there = first >= 0
    placed = settings.position
    # Places around the best one say where between them the photo was taken, so here they all vote.
    best = _ranking(scores, np.argsort(-scores, axis=1, kind="stable")[:, : placed.neighbours])
    position = locate(best, xy, settings.photos.temperature, placed.agree_m)
    lat, lon = unproject(position.xy[:, 0], position.xy[:, 1], crs)
    table = asked[["query", "spot", "split", "month", "lat", "lon", "distance_m", "angle_deg", "fov_deg"]].assign(
        protocol=protocol,
        answerable=_answerable(positions(asked), scores, xy),
        **{f"rank_{radius}m": first_hit(metres <= radius) for radius in RADII_M},
        answer_place=np.where(there, places[first], -1),
        error_m=np.where(there, metres[:, 0], np.nan).round(2),
        score=np.where(there, ranking.similarities[:, 0], np.nan),
        margin=margins(scores, first, xy, placed.agree_m).round(9),
        inliers=np.where(there, inliers[np.arange(len(first)), first], 0),
        position_lat=lat.round(7),
        position_lon=lon.round(7),
        position_error_m=np.hypot(*(position.xy - positions(asked)).T).round(2),
    )
    return table, difficulty(position, placed.difficulty_floor_m)


def _ranking(scores: Floats, order: Ints) -> Ranking:
    """The places ``order`` (n, k) with their scores; -1 where a place may not answer."""
    ranked = np.take_along_axis(scores, order, axis=1)
    return Ranking(np.where(np.isneginf(ranked), -1, order), ranked)


def _answerable(asked_xy: Floats, scores: Floats, xy: Floats) -> NDArray[np.bool_]:
    """Whether a place that may answer lies within 25 m of each photo (n,)."""
    near = cKDTree(xy).query_ball_point(asked_xy, RIGHT_M)
    return np.array([bool(np.isfinite(scores[row, found]).any()) for row, found in enumerate(near)], dtype=bool)


def threshold(score: Floats, near: NDArray[np.bool_]) -> float | None:
    """The least confidence ``score`` (n,) of an answer that is not withheld. None without a near or a far photo.

    It gives the largest sum of the share of ``near`` photos that are answered and the share of others that are withheld
    (Youden 1950, "Index for rating diagnostic tests"); of equally good ones it is the lowest.

    >>> threshold(np.array([0.9, 0.8, 0.3, 0.4]), np.array([True, True, False, False]))
    0.8
    """
    if near.all() or not near.any():
        return None
    candidates = np.unique(score[np.isfinite(score)])
    kept = score[None] >= candidates[:, None]
    gain = kept[:, near].mean(axis=1) - kept[:, ~near].mean(axis=1)
    return float(candidates[gain.argmax()]) if len(candidates) else None


def auroc(confidence: Floats, near: NDArray[np.bool_]) -> float:
    """Probability that a near photo has more confidence than a far one; ties count half, and no answer is the least.

    >>> auroc(np.array([0.9, 0.2, 0.2, np.nan]), np.array([True, True, False, False]))
    0.875
    """
    values = np.nan_to_num(confidence, nan=-np.inf)
    rank = rankdata(values)
    count = int(near.sum())
    return float((rank[near].sum() - count * (count + 1) / 2) / (count * (len(near) - count)))


def confidence(table: pd.DataFrame, settings: Evaluate) -> Floats:
    """How sure each answer of ``table`` (PHOTO_ANSWERS columns) is, (n,): its score, and its margin to the best place
    elsewhere. NaN where there is no answer."""
    return (table["score"] + settings.photos.margin_weight * table["margin"]).to_numpy(float).round(9)


@dataclass(frozen=True)
class PhotoCalibration:
    """What the photos of one split say about answers: ``radii`` from the near ones, and the least confidence of an
    answer that is not withheld, None if it is unknown."""

    radii: Calibration
    threshold: float | None


def calibrate_photos(
    table: pd.DataFrame, difficulty_m: Floats, calibration: str, settings: Evaluate
) -> PhotoCalibration:
    """Calibrate on the photos of the split ``calibration``.

    ``table`` and ``difficulty_m`` (n,) are those of `answer_table`, of all splits.
    """
    held = (table["split"] == calibration).to_numpy()
    near, right = table["answerable"].to_numpy(), (table[f"rank_{RIGHT_M}m"] == 1).to_numpy()
    counted = held & (right | ~near)  # a wrong answer to a near photo need not be given, so it has no say
    least = threshold(confidence(table, settings)[counted], right[counted])
    used = held & near & np.isfinite(table["position_error_m"].to_numpy())
    errors = table["position_error_m"].to_numpy()[used] / difficulty_m[used]
    return PhotoCalibration(Calibration(errors, settings.position.radius_floor_m), least)


def calibrated(
    table: pd.DataFrame, difficulty_m: Floats, calibration: PhotoCalibration, settings: Evaluate
) -> pd.DataFrame:
    """PHOTO_ANSWERS rows with `answered` and `radius_m`; the rest as `calibrate_photos`."""
    sure, least = confidence(table, settings), calibration.threshold
    radius = calibration.radii.radius(difficulty_m, settings.position.coverage)
    return table.assign(
        answered=np.isfinite(sure) & (sure >= (-np.inf if least is None else least)),
        radius_m=np.nan if radius is None else radius.round(2),
    )


def measure_photos(table: pd.DataFrame, views: int, places: int, settings: Evaluate) -> dict[str, Any]:
    """The metrics of the answers in ``table`` (PHOTO_ANSWERS columns, one protocol and split).

    Recall, error and radius are of the photos that can be answered, withholding of all.
    """
    near, spot = table["answerable"].to_numpy(), table["spot"].to_numpy(np.int64)
    out: dict[str, Any] = {
        "queries": int(near.sum()),
        "queries_far": int((~near).sum()),
        "places": int(table["spot"][near].nunique()),  # the photos' spots, which the intervals are over
        "gallery": views,
        "gallery_places": places,
    }
    for radius in RADII_M:
        found = np.column_stack([found_at(table[f"rank_{radius}m"].to_numpy(), k) for k in KS])
        for k, interval in zip(KS, intervals(spot, found, near, settings), strict=True):
            if interval is not None:
                key = f"recall_at_{k}_{radius}m"
                out |= interval.metrics(key) if k == 1 else {key: share(interval.value)}
    answered, right = table["answered"].to_numpy(), (table[f"rank_{RIGHT_M}m"] == 1).to_numpy()
    shares = {f"position_right_{RIGHT_M}m": ((table["position_error_m"] <= RIGHT_M).to_numpy(), near)}
    if (~near).any():
        shares["far_withheld"] = (~answered, ~near)
        shares["near_answered"] = (answered, near)
        shares["right_answered"] = (answered, near & right)
    if near.any() and (~near).any():
        out["auroc_confidence"] = share(auroc(confidence(table, settings), near))
        for name in ("score", "margin", "inliers"):
            out[f"auroc_{name}"] = share(auroc(table[name].to_numpy(float), near))
    if near.any() and np.isfinite(table["radius_m"][near]).all():
        radius_m = table["radius_m"].to_numpy()
        shares["coverage"] = ((table["position_error_m"] <= table["radius_m"]).to_numpy(), near)
        out["coverage_stated"] = settings.position.coverage
        out["radius_mean_m"] = round(float(radius_m[near].mean()), 1)
        out["radius_median_m"] = round(float(np.median(radius_m[near])), 1)
    for name, (success, counted) in shares.items():
        (interval,) = intervals(spot, success[:, None], counted, settings)
        if interval is not None:
            out |= interval.metrics(name)
    return out | measure_errors(table["error_m"].to_numpy()[near])


def recall_by(table: pd.DataFrame, column: str, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 of the answerable photos by bins of ``column``, which are named by their middle."""
    edges = np.array(EDGES[column], float)
    values, near = table[column].to_numpy(float), table["answerable"].to_numpy()
    found = (table[f"rank_{RIGHT_M}m"] == 1).to_numpy()
    spot = table["spot"].to_numpy(np.int64)
    parts = [interval_table([], 0, **{column: []})]
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        last = number == len(edges) - 2
        chosen = near & (values >= low) & ((values <= high) if last else (values < high))
        if chosen.any():
            (interval,) = intervals(spot, found[:, None], chosen, settings)
            parts.append(interval_table([interval], int(chosen.sum()), **{column: [(low + high) / 2]}))
    return pd.concat(parts, ignore_index=True)
