"""Principal components, k-means and discriminant against NumPy's and SciPy's own decompositions."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from streetrecall.model import closed_form

RNG = np.random.default_rng(0)
# 300 vectors of 40 values, of a falling spectrum, in 60 views of five.
VIEW = np.repeat(np.arange(60), 5)
VECTORS = (
    (RNG.standard_normal((60, 40))[VIEW] + 0.5 * RNG.standard_normal((300, 40))) * np.linspace(2, 0.2, 40)
).astype(np.float32)


def test_principal_components_are_those_of_a_decomposition() -> None:
    mean, directions = closed_form.principal_components(VECTORS, 7)
    assert np.allclose(mean, VECTORS.mean(0), atol=1e-5)
    expected = np.linalg.svd(VECTORS - VECTORS.mean(0))[2][:7]
    assert np.allclose(np.abs(np.sum(directions.T * expected, axis=1)), 1, atol=1e-4)


def test_the_discriminant_solves_the_generalised_eigenproblem() -> None:
    values = VECTORS - VECTORS.mean(0)
    found = closed_form.discriminant(values, VIEW, 0.3, 9)
    means = np.stack([values[k == VIEW].mean(0) for k in range(60)])
    inside = (values - means[VIEW]).astype(np.float64)
    within = inside.T @ inside / (300 - 60)
    within += 0.3 * np.trace(within) / 40 * np.eye(40)
    total = values.T.astype(np.float64) @ values / 300
    _, expected = linalg.eigh(total, within)
    expected = expected[:, ::-1][:, :9]
    assert np.allclose(np.abs(np.sum(found * (within @ expected), axis=0)), 1, atol=1e-3)
    assert np.allclose(found.T @ within @ found, np.eye(9), atol=1e-3)


def test_the_discriminant_tells_views_apart_where_pca_sees_what_changes() -> None:
    """A view differs from others along an axis of little variance, and from itself along one of much."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((300, 2)) * [20.0, 0.1] + np.stack([0 * VIEW, VIEW], 1) * 0.1
    values = (vectors - vectors.mean(0)).astype(np.float32)
    direction = closed_form.discriminant(values, VIEW, 1e-6, 1)[:, 0]
    assert abs(direction[1]) > 100 * abs(direction[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000))
def test_more_rounds_of_kmeans_are_never_worse(tokens: int, clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (tokens, 3)).astype(np.float32)  # many are equal, so centres lose all their tokens

    def inertia(rounds: int) -> float:
        centres = closed_form.kmeans(points, clusters, np.random.default_rng(seed), rounds)
        assert centres.shape == (clusters, 3)
        assert np.isfinite(centres).all()
        return float(((points[:, None] - centres[None]) ** 2).sum(2).min(1).sum())

    values = [inertia(rounds) for rounds in range(6)]
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(values))
