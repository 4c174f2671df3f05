"""Ranking against a loop over all pairs, also where similarities tie."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.retrieval.rank import rank


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
