"""Exact search against a full sort."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streetrecall.retrieval import exact as search


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 30), st.integers(0, 90), st.integers(1, 12), st.booleans(), st.integers(0, 10**6))
def test_it_equals_a_full_sort_ties_in_gallery_order(q: int, g: int, k: int, masked: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (q, 3)).astype(np.float32)  # whole numbers: many ties, no rounding
    gallery = rng.integers(-2, 3, (g, 3)).astype(np.float16)
    mask = rng.random((q, g)) < 0.6 if masked else None
    old = search.BLOCK_GALLERY, search.BLOCK_QUERIES
    search.BLOCK_GALLERY, search.BLOCK_QUERIES = 17, 7
    try:
        indices, similarities = search.exact(queries, gallery, k, mask)
    finally:
        search.BLOCK_GALLERY, search.BLOCK_QUERIES = old
    scores = queries @ gallery.astype(np.float32).T
    for i in range(q):
        allowed = np.flatnonzero(mask[i]) if mask is not None else np.arange(g)
        expected = sorted(allowed, key=lambda j: (-scores[i, j], j))[:k]
        real = indices[i][indices[i] >= 0]
        assert real.tolist() == expected
        assert similarities[i, : len(real)].tolist() == scores[i, expected].tolist()
        assert np.isneginf(similarities[i, len(real) :]).all()
    assert indices.shape == similarities.shape == (q, min(k, g))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one width"):
        search.exact(np.zeros((2, 3)), np.zeros((2, 4)), 1)
    with pytest.raises(ValueError, match="mask"):
        search.exact(np.zeros((2, 3)), np.zeros((4, 3)), 1, np.ones((4, 2), bool))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    good, one = np.ones((9, 3)), np.full((1, 3), bad)
    with pytest.raises(ValueError, match="hold values that are not finite"):
        search.exact(one, good, 1)
    with pytest.raises(ValueError, match="hold values that are not finite"):
        search.exact(good, np.concatenate([good, one]), 1)


def test_double_precision_finds_what_single_precision_cannot_tell_apart() -> None:
    gallery = 1 + np.arange(50)[:, None] * np.array([[1e-10, 0.0]])
    queries = np.ones((2, 2))
    assert search.exact(queries, gallery, 3)[0].tolist() == [[0, 1, 2]] * 2
    indices, similarities = search.exact(queries, gallery, 3, dtype=np.float64)
    assert indices.tolist() == [[49, 48, 47]] * 2
    assert similarities.dtype == np.float64
