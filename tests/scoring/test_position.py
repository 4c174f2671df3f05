import numpy as np
import pytest

from streetrecall.scoring.position import conformal_quantile, locate, risk_coverage
from streetrecall.scoring.ranking import Ranking


def ranking(*similarities):
    return Ranking(np.arange(len(similarities))[None], np.array([similarities]))


def test_many_weaker_neighbours_that_agree_outvote_a_stray_best_one():
    xy = np.array([[5000.0, 0.0], [0.0, 0.0], [0.0, 8.0], [0.0, -8.0]])
    found = locate(ranking(0.80, 0.78, 0.78, 0.78), xy, temperature=0.05, agree_m=25.0)
    np.testing.assert_allclose(found.xy, [[0.0, 0.0]], atol=1e-9)
    weight = np.exp(-0.02 / 0.05)
    assert found.agreement[0] == pytest.approx(3 * weight / (1 + 3 * weight))
    assert found.margin[0] == pytest.approx(0.02)
    assert found.spread_m[0] > 1000


def test_a_cold_temperature_leaves_it_to_the_best():
    xy = np.array([[5000.0, 0.0], [0.0, 0.0], [0.0, 8.0]])
    found = locate(ranking(0.80, 0.78, 0.78), xy, temperature=0.001, agree_m=25.0)
    np.testing.assert_allclose(found.xy, [[5000.0, 0.0]], atol=0.01)
    assert found.agreement[0] == pytest.approx(1, abs=1e-6)


def test_missing_neighbours_have_no_vote_and_no_neighbour_is_no_position():
    partial = Ranking(np.array([[1, -1], [-1, -1]]), np.array([[0.5, -np.inf], [-np.inf, -np.inf]]))
    found = locate(partial, np.array([[1e6, 1e6], [3.0, 4.0]]), 0.05, 25.0)
    assert found.xy[0].tolist() == [3.0, 4.0]
    assert found.agreement[0] == 1
    assert np.isnan(found.xy[1]).all()
    assert np.isnan(found.similarity[1])


def test_an_empty_gallery_gives_no_position():
    nothing = Ranking(np.full((2, 3), -1), np.full((2, 3), -np.inf))
    assert np.isnan(locate(nothing, np.zeros((0, 2)), 0.05, 25.0).xy).all()


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_radii_hold_as_often_as_they_say_on_average(coverage):
    rng = np.random.default_rng(11)
    held = []
    for _ in range(600):
        scores = rng.lognormal(size=60)
        held.append(scores[-1] <= conformal_quantile(scores[:-1], coverage))
    assert coverage - 0.04 <= np.mean(held) <= coverage + 0.05


def test_too_little_to_calibrate_on_promises_nothing():
    assert conformal_quantile(np.ones(8), 0.9) is None
    assert conformal_quantile(np.arange(9.0), 0.9) == 8.0
    assert conformal_quantile(np.zeros(0), 0.5) is None


def naive_area(confidence, wrong):
    """Mean over every way to order ties, by averaging many random orders."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(4000):
        shuffled = rng.permutation(len(wrong))
        order = shuffled[np.argsort(-confidence[shuffled], kind="stable")]
        areas.append(np.mean([wrong[order][: i + 1].mean() for i in range(len(wrong))]))
    return np.mean(areas)


def test_area_with_ties_is_the_mean_over_their_orders():
    confidence = np.array([3, 3, 2, 2, 2, 1.0])
    wrong = np.array([0, 1, 1, 0, 1, 1], bool)
    assert risk_coverage(confidence, wrong).area == pytest.approx(naive_area(confidence, wrong), abs=0.01)


def test_knowing_ones_errors_is_best_and_knowing_nothing_is_the_error_rate():
    wrong = np.arange(100) % 4 == 0
    best, none = risk_coverage(-wrong.astype(float), wrong).area, risk_coverage(np.zeros(100), wrong).area
    worst = risk_coverage(wrong.astype(float), wrong).area
    assert none == pytest.approx(0.25)
    assert best < none < worst
    assert risk_coverage(np.zeros(0), np.zeros(0, bool)).area == 0.0
