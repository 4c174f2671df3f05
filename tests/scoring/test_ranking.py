import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.scoring.ranking import Ranking, rank


def naive(queries, gallery, query_group, gallery_group, k):
    out = []
    for q, g in zip(queries, query_group, strict=True):
        scored = [
            (-round(float(np.dot(q.astype(float), row.astype(float))), 9), i)
            for i, (row, h) in enumerate(zip(gallery, gallery_group, strict=True))
            if h != g
        ]
        best = [i for _, i in sorted(scored)[:k]]
        out.append(best + [-1] * (k - len(best)))
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000), n=st.integers(0, 5), m=st.integers(0, 60), k=st.integers(1, 8), values=st.integers(2, 9)
)
def test_agrees_with_a_loop_over_all_pairs_also_where_similarities_tie(seed, n, m, k, values):
    rng = np.random.default_rng(seed)
    queries, gallery = (rng.integers(0, values, (rows, 3)).astype(np.float16) for rows in (n, m))
    query_group, gallery_group = rng.integers(0, 4, n), rng.integers(0, 4, m)
    found = rank(queries, gallery, query_group, gallery_group, k)
    assert found.indices.tolist() == naive(queries, gallery, query_group, gallery_group, k)


def test_a_collapsed_model_ranks_by_row_and_not_by_luck():
    same = np.full((50, 8), 8**-0.5, dtype=np.float16)
    assert rank(same[:2], same, np.array([-1, -2]), np.arange(50), 4).indices.tolist() == [[0, 1, 2, 3]] * 2


def test_many_blocks_give_what_one_gives(monkeypatch):
    rng = np.random.default_rng(3)
    q, g = rng.normal(size=(40, 16)), rng.normal(size=(90, 16))
    whole = rank(q, g, np.arange(40), np.arange(90) % 50, 5)
    monkeypatch.setattr("streetrecall.scoring.ranking._CELLS", 200)
    parts = rank(q, g, np.arange(40), np.arange(90) % 50, 5)
    np.testing.assert_array_equal(whole.indices, parts.indices)
    np.testing.assert_array_equal(whole.similarities, parts.similarities)


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
