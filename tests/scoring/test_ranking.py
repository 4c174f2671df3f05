import numpy as np
import pytest

from streetrecall.scoring.ranking import Ranking


@pytest.mark.parametrize(
    ("indices", "similarities"),
    [
        ([[0, 1]], [[0.5]]),
        ([[0, 1]], [[0.1, 0.9]]),
        ([[0, -1]], [[0.5, 0.4]]),
        ([[0, 1]], [[0.5, -np.inf]]),
    ],
)
def test_an_impossible_ranking_cannot_be_made(indices, similarities):
    with pytest.raises(ValueError, match=r"one shape|must fall|missing row"):
        Ranking(np.array(indices), np.array(similarities))


def test_dropping_keeps_the_order_and_pads():
    ranking = Ranking(np.array([[5, 6, 7, -1]]), np.array([[0.9, 0.8, 0.7, -np.inf]]))
    left = ranking.drop(np.array([[False, True, False, False]]), 3)
    assert left.indices.tolist() == [[5, 7, -1]]
