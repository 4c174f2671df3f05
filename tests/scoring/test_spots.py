import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.scoring.spots import place_scores, spread_out, with_neighbours


@pytest.mark.parametrize("over_dates", [0.0, 0.3, 1.0])
def test_place_scores_agree_with_a_loop(over_dates: float) -> None:
    rng = np.random.default_rng(2)
    date = np.concatenate([np.arange(9), rng.integers(0, 9, 31)])
    place_of_date = np.array([0, 1, 2, 3, 0, 1, 1, 2, 2])
    similarity = rng.random((5, 40)).astype(np.float32)
    found = place_scores(similarity, date, place_of_date, over_dates)
    for photo in range(5):
        for place in range(4):
            best = [similarity[photo, date == d].max() for d in np.flatnonzero(place_of_date == place)]
            assert found[photo, place] == pytest.approx((1 - over_dates) * max(best) + over_dates * np.mean(best))


def test_neighbours_agree_with_a_loop_and_a_lonely_place_is_its_own() -> None:
    rng = np.random.default_rng(3)
    xy = np.concatenate([rng.uniform(0, 40, (12, 2)), [[900.0, 900.0]]])
    scores = rng.random((4, 13))
    found = with_neighbours(scores, xy, 0.3, 14.0)
    for place in range(13):
        apart = np.hypot(*(xy - xy[place]).T)
        near = [p for p in range(13) if p != place and apart[p] <= 14] or [place]
        assert np.allclose(found[:, place], scores[:, place] + 0.3 * scores[:, near].mean(axis=1))


@given(st.integers(1, 12), st.floats(0, 60), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_spread_out_puts_places_near_a_better_one_last(places: int, apart_m: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, xy = rng.normal(size=(3, places)).round(1), rng.uniform(0, 80, (places, 2))
    for row, order in zip(scores, spread_out(scores, xy, apart_m, places), strict=True):
        assert sorted(order.tolist()) == list(range(places))
        first: list[int] = []
        later: list[int] = []
        for place in np.argsort(-row, kind="stable").tolist():
            crowded = any(np.hypot(*(xy[place] - xy[other])) < apart_m for other in first)
            (later if crowded else first).append(place)
        assert order.tolist() == first + later
