import numpy as np
import pytest

from streetrecall.scoring.position import locate
from streetrecall.scoring.ranking import Ranking


def ranking(*similarities):
    return Ranking(np.arange(len(similarities))[None], np.array([similarities]))


def test_several_weaker_neighbours_that_agree_outvote_the_best_one():
    xy = np.array([[5000.0, 0.0], [0.0, 0.0], [0.0, 8.0], [0.0, -8.0]])
    found = locate(ranking(0.80, 0.78, 0.78, 0.78), xy, temperature=0.05, agree_m=25.0)
    np.testing.assert_allclose(found.xy, [[0.0, 0.0]], atol=1e-9)
    weight = np.exp(-0.02 / 0.05)
    assert found.agreement[0] == pytest.approx(3 * weight / (1 + 3 * weight))
    assert found.margin[0] == pytest.approx(0.02)
    assert found.spread_m[0] > 1000


def test_at_a_low_temperature_the_best_neighbour_decides():
    xy = np.array([[5000.0, 0.0], [0.0, 0.0], [0.0, 8.0]])
    found = locate(ranking(0.80, 0.78, 0.78), xy, temperature=0.001, agree_m=25.0)
    np.testing.assert_allclose(found.xy, [[5000.0, 0.0]], atol=0.01)
    assert found.agreement[0] == pytest.approx(1, abs=1e-6)


def test_missing_neighbours_have_no_weight_and_without_neighbours_there_is_no_position():
    partial = Ranking(np.array([[1, -1], [-1, -1]]), np.array([[0.5, -np.inf], [-np.inf, -np.inf]]))
    found = locate(partial, np.array([[1e6, 1e6], [3.0, 4.0]]), 0.05, 25.0)
    assert found.xy[0].tolist() == [3.0, 4.0]
    assert found.agreement[0] == 1
    assert np.isnan(found.xy[1]).all()
    assert np.isnan(found.similarity[1])


def test_an_empty_gallery_gives_no_position():
    nothing = Ranking(np.full((2, 3), -1), np.full((2, 3), -np.inf))
    assert np.isnan(locate(nothing, np.zeros((0, 2)), 0.05, 25.0).xy).all()
