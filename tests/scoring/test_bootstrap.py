import numpy as np
import pytest

from streetrecall.scoring.bootstrap import paired_difference, place_weights, ratio_intervals


def one(place, found, counted=None, draws=4000):
    counted = np.ones(len(place), bool) if counted is None else counted
    (interval,) = ratio_intervals(np.asarray(place), np.asarray(found, bool)[:, None], counted, draws, 0.95, 5)
    return interval


def test_agrees_with_resampling_places_one_by_one():
    rng = np.random.default_rng(0)
    place = rng.integers(0, 12, 90)
    found = rng.random(90) < 0.6
    names = np.unique(place)
    means = []
    for weights in place_weights(len(names), 500, 5):
        rows = np.concatenate(
            [np.repeat(np.flatnonzero(place == p), int(w)) for p, w in zip(names, weights, strict=True)]
        )
        means.append(found[rows].mean())
    interval = one(place, found, draws=500)
    assert interval.value == pytest.approx(found.mean())
    assert [interval.low, interval.high] == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_places_whose_queries_agree_have_intervals_twice_as_wide():
    rng = np.random.default_rng(2)
    place = np.repeat(np.arange(60), 4)
    together = np.repeat(rng.random(60) < 0.7, 4)
    by_place, by_query = one(place, together), one(np.arange(240), together)
    assert by_place.high - by_place.low == pytest.approx(2 * (by_query.high - by_query.low), rel=0.1)


def test_the_interval_contains_the_truth_about_as_often_as_stated():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(200):
        chance = rng.beta(4, 1.5, 50)
        found = rng.random((50, 4)) < chance[:, None]
        interval = one(np.repeat(np.arange(50), 4), found.ravel(), draws=400)
        held += interval.low <= 4 / 5.5 <= interval.high
    assert 180 <= held <= 198


@pytest.mark.parametrize(("found", "limits"), [(True, (0.025**0.1, 1.0)), (False, (0.0, 1 - 0.025**0.1))])
def test_if_all_places_agree_the_binomial_limit_is_used(found, limits):
    interval = one(np.repeat(np.arange(10), 4), [found] * 40)
    assert (interval.low, interval.high) == pytest.approx(limits)


def test_one_place_has_no_interval_and_no_query_no_value():
    assert one([3, 3, 3], [1, 0, 1]).low is None
    assert one([1, 2], [1, 1], counted=np.zeros(2, bool)) is None
    assert one([1, 1, 2, 2], [1, 0, 1, 0]).low is None  # both places one half: no spread to resample


def test_uncounted_queries_change_nothing():
    place, found = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 0, 1, 1, 0, 0], bool)
    counted = np.array([1, 1, 1, 1, 0, 0], bool)
    assert one(place, found, counted) == one(place[:4], found[:4])


def difference(place, first, second):
    return paired_difference(np.asarray(place), np.asarray(first, bool), np.asarray(second, bool), 2000, 0.95, 5)


def test_a_system_equals_itself():
    same = difference(np.arange(30), np.arange(30) % 3, np.arange(30) % 3)
    assert (same.difference, same.low, same.high, same.verdict) == (0, 0, 0, "no difference shown")


def test_pairing_shows_what_two_separate_intervals_hide():
    place = np.repeat(np.arange(80), 4)
    first = np.arange(320) % 5 < 3
    second = first | (np.arange(320) % 40 == 39)
    assert one(place, first).high > one(place, second).low
    assert difference(place, first, second).verdict == "better"
    assert difference(place, second, first).verdict == "worse"


def test_too_few_changed_places_show_no_difference():
    first = np.zeros(200, bool)
    assert difference(np.arange(200), first, np.arange(200) < 5).verdict == "no difference shown"
    assert difference(np.arange(200), first, np.arange(200) < 8).verdict == "better"


def test_false_alarms_stay_near_the_level():
    rng = np.random.default_rng(6)
    alarms = 0
    for _ in range(200):
        skill = rng.random(40)
        a, b = (rng.random((40, 4)) < skill[:, None] for _ in range(2))
        alarms += difference(np.repeat(np.arange(40), 4), a.ravel(), b.ravel()).verdict != "no difference shown"
    assert alarms <= 22
