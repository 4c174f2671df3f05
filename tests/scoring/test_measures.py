import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring.outcomes import outcomes

from streetrecall.scoring.measures import measure, measure_errors, measure_index
from streetrecall.scoring.ranking import Ranking


@pytest.fixture
def few_draws(params):
    return params.evaluate.model_copy(update={"bootstrap_draws": 100})


def test_recall_agrees_with_a_loop_over_queries(few_draws):
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 1000), places=st.integers(1, 5))
    def check(seed, places):
        for result in outcomes(seed, places).values():
            out = measure(result, few_draws)
            for name, right in (("50m", "right_images"), ("place_direction", "right_place_direction")):
                answerable = [row for row in result.predictions.to_dict("records") if row[right] > 0]
                for k in (1, 5, 20):
                    found = [1 <= row[f"rank_{name}"] <= k for row in answerable]
                    expected = pytest.approx(sum(found) / len(found), abs=1e-4) if found else None
                    assert out.get(f"recall_at_{k}_{name}") == expected
            assert out["queries"] + out["queries_without_right_image"] == len(result.queries)

    check()


def test_all_wrong_is_zero_and_not_missing(few_draws):
    result = outcomes(1)["city"]
    wrong = dataclasses.replace(result, predictions=result.predictions.assign(rank_25m=0))
    assert measure(wrong, few_draws)["recall_at_20_25m"] == 0


def test_without_errors_there_are_no_quantiles():
    assert measure_errors(np.full(3, np.nan)) == {}
    assert set(measure_errors(np.array([1.0, 2.0]))) == {"error_median_m", "error_p90_m"}


def test_the_exact_ranking_loses_nothing():
    exact = outcomes(2)["city"]
    out = measure_index(exact, exact.ranking)
    assert (out["recall_at_10"], out["recall_at_1_25m_lost"], out["recall_at_10_25m_lost"]) == (1.0, 0.0, 0.0)


def test_an_index_without_a_single_true_neighbour_has_no_recall():
    exact = outcomes(2)["city"]
    shape = exact.ranking.indices.shape
    nothing = Ranking(np.full(shape, -1), np.full(shape, -np.inf))
    out = measure_index(dataclasses.replace(exact, ranking=nothing), nothing)
    assert "recall_at_10" not in out
