import numpy as np
import pytest

from streetrecall.scoring.calibration import Calibration, conformal_quantile, risk_coverage


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_bounds_hold_as_often_as_stated_on_average(coverage):
    rng = np.random.default_rng(11)
    held = []
    for _ in range(600):
        scores = rng.lognormal(size=60)
        held.append(scores[-1] <= conformal_quantile(scores[:-1], coverage))
    assert coverage - 0.04 <= np.mean(held) <= coverage + 0.05


def test_too_few_scores_give_no_bound():
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


def test_the_area_is_least_if_confidence_knows_the_errors_and_the_error_rate_if_it_is_constant():
    wrong = np.arange(100) % 4 == 0
    best, none = risk_coverage(-wrong.astype(float), wrong).area, risk_coverage(np.zeros(100), wrong).area
    worst = risk_coverage(wrong.astype(float), wrong).area
    assert none == pytest.approx(0.25)
    assert best < none < worst
    assert risk_coverage(np.zeros(0), np.zeros(0, bool)).area == 0.0


def test_radii_scale_with_difficulty_and_have_a_floor():
    calibration = Calibration(np.arange(1.0, 20.0), floor_m=40.0)
    assert calibration.radius(np.array([1.0, 10.0]), 0.9).tolist() == [40.0, 180.0]
    assert Calibration(np.ones(3), 10.0).radius(np.ones(1), 0.9) is None
