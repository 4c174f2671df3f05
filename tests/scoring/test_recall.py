import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.scoring.ranking import Ranking
from streetrecall.scoring.recall import distances, first_hit, found_at, pairs_within


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 30), k=st.integers(1, 10))
def test_found_agrees_with_a_loop_over_queries(seed, n, k):
    hits = np.random.default_rng(seed).random((n, 10)) < 0.2
    assert found_at(first_hit(hits), k).tolist() == [any(row[:k]) for row in hits]


def test_recall_never_falls_with_k():
    first = first_hit(np.random.default_rng(1).random((200, 20)) < 0.05)
    shares = [found_at(first, k).mean() for k in range(1, 21)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


def test_an_empty_gallery_is_infinitely_far():
    nothing = Ranking(np.full((2, 3), -1), np.full((2, 3), -np.inf))
    assert np.isposinf(distances(np.zeros((2, 2)), np.zeros((0, 2)), nothing)).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(0, 12), m=st.integers(0, 12))
def test_pairs_within_agrees_with_a_double_loop(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = (rng.integers(0, 5, (rows, 2)) * 10.0 for rows in (n, m))
    expected = {(i, j) for i in range(n) for j in range(m) if np.hypot(*(a[i] - b[j])) <= 20}
    query, gallery = pairs_within(a, b, 20.0)
    assert set(zip(query.tolist(), gallery.tolist(), strict=True)) == expected
    assert len(query) == len(expected)
    assert (np.diff(query) >= 0).all()
