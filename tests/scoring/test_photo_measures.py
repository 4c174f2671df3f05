from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from streetrecall.params.schema import Params
from streetrecall.scoring import photos


def calibrated(table: pd.DataFrame, difficulty_m: np.ndarray, params: Params) -> pd.DataFrame:
    """PHOTO_ANSWERS rows as the photos of split validation decide them."""
    calibration = photos.calibrate_photos(table, difficulty_m, "validation", params.evaluate)
    return photos.calibrated(table, difficulty_m, calibration, params.evaluate)


def asked(count: int, split: str = "test") -> pd.DataFrame:
    """Photos 40 m apart on a line, two of each spot."""
    return pd.DataFrame(
        {
            "query": np.arange(count), "spot": np.arange(count) // 2, "split": split, "month": "2024-05",
            "lat": 59.0, "lon": 18.0, "x": 674_000.0 + 40 * (np.arange(count) // 2), "y": 6_580_000.0,
            "distance_m": 5.0, "angle_deg": 3.0, "fov_deg": np.linspace(50, 80, count),
        }
    )  # fmt: skip


def places(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count) + 500, np.column_stack([674_010.0 + 40 * np.arange(count), np.full(count, 6_580_000.0)])


def answers(params: Params, scores: np.ndarray, queries: pd.DataFrame | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    queries = asked(len(scores)) if queries is None else queries
    found = photos.Answered(queries, scores, np.zeros(scores.shape, np.int64))
    return photos.answer_table("photos", found, *places(scores.shape[1]), params.evaluate, "EPSG:3006")


def test_ranks_errors_and_answers(params: Params) -> None:
    scores = np.full((4, 3), 0.1)
    scores[[0, 1, 2, 3], [0, 1, 1, 0]] = 0.9  # the truth is 0, 0, 1, 1
    scores[1, 0] = 0.5
    table, difficulty = answers(params, scores)
    assert table["rank_25m"].tolist() == [1, 2, 1, 2]
    assert table["answer_place"].tolist() == [500, 501, 501, 500]
    assert table["error_m"].tolist() == [10.0, 50.0, 10.0, 30.0]
    assert table["answerable"].all()
    assert np.allclose(table["margin"], [0.8, 0.4, 0.8, 0.8])
    assert (difficulty >= params.evaluate.position.difficulty_floor_m).all()


def test_a_place_that_may_not_answer_neither_answers_nor_counts_as_near(params: Params) -> None:
    scores = np.full((2, 3), 0.5)
    scores[0, 0] = -np.inf
    table, _ = answers(params, scores)
    assert table["answerable"].tolist() == [False, True]
    assert table["answer_place"].tolist() == [501, 500]
    table, _ = answers(params, np.full((2, 3), -np.inf))
    assert table["answer_place"].tolist() == [-1, -1]
    assert table[["error_m", "score"]].isna().all(axis=None)
    done = calibrated(table, np.ones(2), params)
    assert not done["answered"].any()


def test_the_threshold_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(4)
    near = rng.random(60) < 0.6
    score = rng.normal(size=60).round(1) + near
    gains = {s: (score[near] >= s).mean() + (score[~near] < s).mean() for s in score}
    best = max(gains.values())
    assert photos.threshold(score, near) == min(s for s, gain in gains.items() if gain == pytest.approx(best))
    assert photos.threshold(score, np.ones(60, bool)) is None


def test_validation_decides_what_is_withheld_and_the_radius(params: Params) -> None:
    rng = np.random.default_rng(5)
    queries = pd.concat([asked(60, "validation"), asked(60)], ignore_index=True)
    queries["x"] += np.tile(np.where(np.arange(60) >= 40, 5000.0, 0.0), 2)  # the last are far from every place
    scores = rng.uniform(0.0, 0.4, (120, 30))
    near = np.flatnonzero(queries["x"] < 676_000)
    scores[near, queries["spot"][near]] += rng.uniform(0.3, 0.6, len(near))
    table, difficulty = answers(params, scores, queries)
    done = calibrated(table, difficulty, params)
    validation = done[done["split"] == "validation"]
    threshold = photos.threshold(validation["score"].to_numpy(), validation["answerable"].to_numpy())
    assert (done["answered"] == (done["score"] >= threshold)).all()
    test = photos.measure_photos(done[done["split"] == "test"], 360, 30, params.evaluate)
    assert (test["queries"], test["queries_far"], test["places"]) == (40, 20, 20)
    far = done[(done["split"] == "test") & ~done["answerable"]]
    assert test["far_withheld"] == pytest.approx(1 - far["answered"].mean(), abs=1e-4)
    held = done[(done["split"] == "test") & done["answerable"]]
    assert test["coverage"] == pytest.approx((held["position_error_m"] <= held["radius_m"]).mean(), abs=1e-4)
    assert test["recall_at_1_25m_ci_low"] <= test["recall_at_1_25m"] <= test["recall_at_5_25m"]


def test_without_far_photos_all_are_answered_and_nothing_is_said_of_withholding(params: Params) -> None:
    table, difficulty = answers(params, np.eye(6)[[0, 0, 1, 1, 2, 2]])
    done = calibrated(table, difficulty, params)
    assert done["answered"].all()
    measured = photos.measure_photos(done, 72, 6, params.evaluate)
    assert measured["recall_at_1_25m"] == 1.0
    assert not {"far_withheld", "near_answered", "coverage"} & measured.keys()


def test_curves_have_a_point_for_each_bin_with_photos(params: Params) -> None:
    table, _ = answers(params, np.eye(6)[[0, 0, 1, 1, 2, 2]])
    curve = photos.recall_by(table, "fov_deg", params.evaluate)
    assert curve["queries"].sum() == 6
    assert curve["fov_deg"].is_monotonic_increasing
    assert list(photos.recall_by(table.iloc[:0], "angle_deg", params.evaluate).columns)[:2] == ["angle_deg", "recall"]
