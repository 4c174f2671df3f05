"""The recall by which training selects, against a plain loop over queries and answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from streetrecall.errors import UserError
from streetrecall.model import validation
from streetrecall.model.validation import OLD_YEARS, Validation
from streetrecall.tables import RIGHT_M

MONTHS = ["2008-05", "2011-07", "2014-05", "2014-08", "2020-07", "2022-06", ""]


def collection(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of validation and train, some of unknown month, and noisy descriptors of unit norm."""
    rng = np.random.default_rng(seed)
    rows, vectors = [], []
    for place in range(14):
        for direction in range(2):
            view = rng.standard_normal(6)
            dates = rng.permutation(len(MONTHS))[: rng.integers(1, 6)]
            months = sorted((MONTHS[d] for d in dates), reverse=True)
            for number, month in enumerate(months):
                rows.append(
                    {"place": place, "direction": direction, "month": month, "x": 40.0 * place, "y": 0.0,
                     "split": "validation" if place % 2 else "train", "role": "gallery" if number else "query"}
                )  # fmt: skip
                vectors.append(view + 1.1 * rng.standard_normal(6))
    descriptors = np.asarray(vectors, np.float32)
    return pd.DataFrame(rows), descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def months_between(a: str, b: str) -> float:
    if not a or not b:
        return float("nan")
    return (int(a[:4]) - int(b[:4])) * 12 + int(a[5:]) - int(b[5:])


def by_loops(rows: pd.DataFrame, descriptors: np.ndarray, protocol: str) -> tuple[int, int]:
    hits, asked = 0, 0
    everything = rows.to_dict("records")
    for q, query in enumerate(everything):
        if query["split"] != "validation" or (protocol != "apart" and query["role"] != "query"):
            continue
        best, answerable = (-2.0, False), False
        for g, answer in enumerate(everything):
            mine = answer["split"] == "validation"
            if protocol in ("own", "old") and not mine:
                continue
            if protocol != "apart" and mine and answer["role"] == "query":
                continue
            near = abs(query["x"] - answer["x"]) <= RIGHT_M
            months = months_between(query["month"], answer["month"])
            if near and (months == 0 or (not query["month"] and not answer["month"])):
                continue
            if protocol == "old" and not months >= 12 * OLD_YEARS:
                continue
            if protocol == "apart" and near and not abs(months) >= 12 * OLD_YEARS:
                continue
            answerable |= near
            best = max(best, (float(descriptors[q] @ descriptors[g]), near))
        if answerable:
            asked += 1
            hits += best[1]
    return hits, asked


@pytest.mark.parametrize("seed", range(3))
def test_recall_is_that_of_a_plain_loop(seed: int) -> None:
    rows, descriptors = collection(seed)
    found = Validation(rows).recall(descriptors)
    counted = {name: by_loops(rows, descriptors, name) for name in ("own", "city", "old", "apart")}
    expected = {name: hits / asked for name, (hits, asked) in counted.items()}
    hits, asked = np.sum(list(counted.values()), axis=0)
    assert found == pytest.approx(expected | {"mean": hits / asked})
    assert 0 < found["apart"] < 1


def test_perfect_descriptors_have_full_recall() -> None:
    rows, _ = collection()
    perfect = np.eye(len(rows), dtype=np.float32)[rows.groupby("place").ngroup()]
    assert set(Validation(rows).recall(perfect).values()) == {1.0}


def test_a_collection_without_validation_queries_is_an_error() -> None:
    rows, _ = collection()
    with pytest.raises(UserError, match=r"no validation place.*order\.levels"):
        Validation(rows[(rows["split"] == "train") | (rows["role"] == "query")].reset_index(drop=True))


def test_evenly_spaced_queries_stand_for_all_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, descriptors = collection()
    mine = np.flatnonzero(rows["split"] == "validation")
    every = Validation(rows)._protocols["apart"].queries
    monkeypatch.setattr(validation, "MAX_QUERIES", len(mine) // 2)
    few = Validation(rows)
    queries = few._protocols["apart"].queries
    chosen = mine[np.linspace(0, len(mine) - 1, len(mine) // 2).astype(int)]
    assert queries.tolist() == [row for row in chosen if row in every]
    assert 0 < len(queries) == few.query_counts["apart"] < len(every)
    count = few.query_counts["apart"]
    assert few.recall(descriptors)["apart"] * count == pytest.approx(round(few.recall(descriptors)["apart"] * count))


@pytest.mark.parametrize("cells", [1, 100])
def test_recall_does_not_depend_on_how_many_are_compared_at_a_time(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, descriptors = collection()
    found = Validation(rows).recall(descriptors)
    monkeypatch.setattr(validation, "MAX_PAIRS", cells)
    assert Validation(rows).recall(descriptors) == found
