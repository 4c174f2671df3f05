"""The curves of the evaluation: one table each, whose rows are the points of a plot.

Each curve of recall has the columns recall, ci_low and ci_high (empty if there is no interval), and queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from streetrecall.months import UNKNOWN, month_numbers
from streetrecall.params.schema import Evaluate
from streetrecall.scoring.bootstrap import Interval, intervals
from streetrecall.scoring.breakdown import (
    SEASONS,
    RightAgainstWrong,
    expected_found,
    found_by_label,
    gallery_sizes,
    season,
)
from streetrecall.scoring.calibration import confidences, risk_coverage
from streetrecall.scoring.outcome import Outcome
from streetrecall.scoring.ranking import Ints
from streetrecall.scoring.recall import found_at
from streetrecall.tables import KS, RIGHT_M


def by_system(curves: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The same curve of several systems as one table; its first column is the system.

    >>> by_system({"model": pd.DataFrame({"k": [1]}), "baseline": pd.DataFrame({"k": [1]})}).values.tolist()
    [['model', 1], ['baseline', 1]]
    """
    table = pd.concat([curve.assign(system=system) for system, curve in curves.items()], ignore_index=True)
    return table[["system", *(column for column in table.columns if column != "system")]]


def recall_by_k(outcomes: Sequence[Outcome], settings: Evaluate) -> pd.DataFrame:
    """Recall at each K from 1 to 20, by protocol."""
    every_k = range(1, max(KS) + 1)
    parts = []
    for outcome in outcomes:
        found = np.column_stack([found_at(_rank(outcome), k) for k in every_k])
        values = intervals(outcome.place, found, outcome.counted, settings)
        table = interval_table(values, int(outcome.counted.sum()), k=every_k)
        parts.append(table.assign(protocol=outcome.protocol.name))
    return pd.concat(parts)


def error_distribution(outcome: Outcome) -> pd.DataFrame:
    """Share of the answerable queries whose first answer is within so many metres."""
    error = np.sort(outcome.predictions["error_m"].to_numpy()[outcome.answerable])
    if not len(error):
        return pd.DataFrame({"error_m": [], "share": []}, dtype=float)
    steps = np.unique(np.geomspace(1, 20_000, 90).round(1))
    within = np.searchsorted(error, steps, side="right") / len(error)
    return pd.DataFrame({"error_m": steps, "share": within.round(4)})


def recall_by_heading(outcome: Outcome, pictures: pd.DataFrame, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 by the quarter of the compass in which the query looks, or its direction if the heading is unknown.

    ``pictures`` has IMAGES columns and the index image_id.
    """
    heading = pictures["heading_deg"].reindex(outcome.queries["image_id"]).to_numpy(float)
    compass = np.array(["north", "east", "south", "west"], dtype=object)
    quarter = compass[np.round(np.nan_to_num(heading) / 90).astype(int) % 4]
    direction = np.array([f"direction {d}" for d in outcome.queries["direction"]], dtype=object)
    return _recall_at_1(outcome, np.where(np.isnan(heading), direction, quarter), "heading", settings)


def recall_by_dates(outcome: Outcome, pictures: pd.DataFrame, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 by the number of months of the query's place; ``pictures`` has IMAGES columns."""
    months = pictures[pictures["quarantine"] == ""].groupby("place")["month"].nunique()
    return _recall_at_1(outcome, months.reindex(outcome.place).to_numpy(), "dates", settings)


def recall_by_gap(outcome: Outcome, compared: RightAgainstWrong, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 if the place were known only from pictures that are so many years apart from the query."""
    query_month, answer_month = _months_of_pairs(outcome, compared)
    known = (query_month != UNKNOWN) & (answer_month != UNKNOWN)
    years = np.where(known, np.abs(query_month - answer_month) // 12, -1)
    return _recall_by_pair_label(outcome, compared, years, "years", settings)


def recall_by_season(outcome: Outcome, compared: RightAgainstWrong, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 by the query's season, if the place were known only from pictures of one season."""
    query_month, answer_month = _months_of_pairs(outcome, compared)
    known = (query_month != UNKNOWN) & (answer_month != UNKNOWN)
    query_season, gallery_season = (
        season(months % 12, (rows["lat"] < 0).to_numpy()[pairs])
        for months, rows, pairs in (
            (query_month, outcome.queries, compared.pair_query),
            (answer_month, outcome.gallery, compared.pair_gallery),
        )
    )
    pair = np.where(known, query_season * len(SEASONS) + gallery_season, -1)
    table = _recall_by_pair_label(outcome, compared, pair, "pair", settings)
    names = np.array(SEASONS, dtype=object)
    query_index, gallery_index = np.divmod(table.pop("pair").to_numpy(int), len(SEASONS))
    table.insert(0, "query_season", names[query_index])
    table.insert(1, "gallery_season", names[gallery_index])
    return table


def recall_by_gallery(outcome: Outcome, compared: RightAgainstWrong, settings: Evaluate) -> pd.DataFrame:
    """Expected recall at 1 in smaller galleries, by their number of places."""
    right = np.isfinite(compared.best_right)
    sizes = gallery_sizes(int(compared.wrong_places[right].max(initial=0)))
    expected = np.column_stack([np.zeros((len(right), 0)), *(expected_found(compared, s) for s in sizes)])
    values = intervals(outcome.place, expected, right, settings)
    return interval_table(values, int(right.sum()), places=[s + 1 for s in sizes])


def risk_by_coverage(positions: pd.DataFrame) -> pd.DataFrame:
    """Share of wrong positions among the most confident queries, at 100 coverages at most, by confidence score.

    ``positions`` has POSITIONS columns.
    """
    wrong = positions["error_m"].to_numpy() > RIGHT_M
    parts = []
    for name, confidence in confidences(positions).items():
        curve = risk_coverage(confidence, wrong)
        shown = np.unique(np.linspace(0, len(wrong) - 1, min(100, len(wrong))).round().astype(int))
        points = {"coverage": curve.coverage[shown].round(4), "risk": curve.risk[shown].round(4)}
        parts.append(pd.DataFrame(points).assign(confidence=name))
    return pd.concat(parts)


def interval_table(values: Sequence[Interval | None], queries: int, **columns: Sequence[Any]) -> pd.DataFrame:
    """A table of ``values`` that are not None: the given columns, then recall, ci_low, ci_high (NaN: none), queries.

    >>> interval_table([Interval(0.5, None, None), None], 8, k=[1, 5]).values.tolist()
    [[1.0, 0.5, nan, nan, 8.0]]
    """
    kept = [i for i, value in enumerate(values) if value is not None]
    present = [value for value in values if value is not None]
    table = pd.DataFrame({name: [column[i] for i in kept] for name, column in columns.items()})
    for name, numbers in {
        "recall": [v.value for v in present],
        "ci_low": [v.low for v in present],
        "ci_high": [v.high for v in present],
    }.items():
        table[name] = np.array(numbers, dtype=np.float64).round(4)
    return table.assign(queries=queries)


def _rank(outcome: Outcome) -> Ints:
    return outcome.predictions[f"rank_{RIGHT_M}m"].to_numpy()


def _recall_at_1(outcome: Outcome, label: NDArray, name: str, settings: Evaluate) -> pd.DataFrame:
    """Recall at 1 of the answerable queries by ``label`` (n,)."""
    counted = outcome.answerable
    return _by_label(outcome.place[counted], _rank(outcome)[counted] == 1, label[counted], name, settings)


def _months_of_pairs(outcome: Outcome, compared: RightAgainstWrong) -> tuple[Ints, Ints]:
    """Month numbers of the query and of the answer of each right pair."""
    query, gallery = month_numbers(outcome.queries["month"]), month_numbers(outcome.gallery["month"])
    return query[compared.pair_query], gallery[compared.pair_gallery]


def _recall_by_pair_label(
    outcome: Outcome, compared: RightAgainstWrong, label: Ints, name: str, settings: Evaluate
) -> pd.DataFrame:
    """Recall at 1 by a label of the right pairs; pairs whose label is negative are left out."""
    found = found_by_label(compared, label)
    found = found[found["label"] >= 0]
    place = outcome.place[found["query"].to_numpy()]
    return _by_label(place, found["found"].to_numpy(), found["label"].to_numpy(), name, settings)


def _by_label(place: Ints, found: NDArray[np.bool_], label: NDArray, name: str, settings: Evaluate) -> pd.DataFrame:
    """Share found, with its interval, for each value of ``label``, in ascending order."""
    parts = []
    for value in sorted(set(label.tolist())):
        chosen = label == value
        (interval,) = intervals(place, found[:, None], chosen, settings)
        parts.append(interval_table([interval], int(chosen.sum()), **{name: [value]}))
    return pd.concat(parts) if parts else interval_table([], 0, **{name: []})
