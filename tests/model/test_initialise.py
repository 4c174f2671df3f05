"""The head's closed-form start against NumPy's and SciPy's own decompositions."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

keras = pytest.importorskip("keras")

from streetrecall.errors import UserError  # noqa: E402
from streetrecall.model import initialise  # noqa: E402

RNG = np.random.default_rng(0)
# 300 vectors of 40 values, of a falling spectrum, in 60 views of five.
VIEW = np.repeat(np.arange(60), 5)
VECTORS = (
    (RNG.standard_normal((60, 40))[VIEW] + 0.5 * RNG.standard_normal((300, 40))) * np.linspace(2, 0.2, 40)
).astype(np.float32)


def started(start: str, vectors: np.ndarray, label: np.ndarray, dimensions: int, components: int = 40) -> np.ndarray:
    """What the projection makes of ``vectors`` when it has been started from them."""
    long = keras.Input((vectors.shape[1],))
    projection = keras.Model(long, keras.layers.Dense(dimensions, name="projection")(long))
    network: Any = SimpleNamespace(projection=projection)
    head: Any = SimpleNamespace(dimensions=dimensions, components=components, shrinkage=0.3)
    initialise.start_projection(network, head, start, vectors, label, 1)
    return projection(vectors).numpy()


def test_principal_components_are_those_of_a_decomposition() -> None:
    mean, directions = initialise.principal_components(VECTORS, 7)
    assert np.allclose(mean, VECTORS.mean(0), atol=1e-5)
    expected = np.linalg.svd(VECTORS - VECTORS.mean(0))[2][:7]
    assert np.allclose(np.abs(np.sum(directions.T * expected, axis=1)), 1, atol=1e-4)


def test_pca_whitens_the_leading_components() -> None:
    found = started("pca", VECTORS, VIEW, 12)
    covariance = np.cov(found, rowvar=False, bias=True)
    assert np.allclose(found.mean(0), 0, atol=1e-5)
    assert np.allclose(covariance, np.eye(12) / 12, atol=1e-4)
    left = np.linalg.svd(VECTORS - VECTORS.mean(0), full_matrices=False)[0][:, :12]
    assert np.linalg.norm(left.T @ np.linalg.qr(found)[0]) ** 2 == pytest.approx(12, abs=1e-3)  # the same space


def test_the_discriminant_solves_the_generalised_eigenproblem() -> None:
    values = VECTORS - VECTORS.mean(0)
    found = initialise.discriminant(values, VIEW, 0.3, 9)
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
    direction = initialise.discriminant(values, VIEW, 1e-6, 1)[:, 0]
    assert abs(direction[1]) > 100 * abs(direction[0])


@pytest.mark.parametrize("start", ["pca", "lda"])
def test_directions_that_few_pictures_cannot_give_are_zero(start: str) -> None:
    found = started(start, VECTORS[:8], VIEW[:8], 12)
    assert np.isfinite(found).all()
    assert found.any(axis=0).sum() == 7


@pytest.mark.parametrize("start", ["pca", "lda"])
@pytest.mark.parametrize("count", [1, 8])
def test_pictures_that_are_all_alike_have_nothing_to_start_from(start: str, count: int) -> None:
    with pytest.raises(UserError, match="maps of all training pictures are equal"):
        started(start, np.repeat(VECTORS[:1], count, axis=0), VIEW[:count], 12)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 1000))
def test_more_rounds_of_kmeans_are_never_worse(tokens: int, clusters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (tokens, 3)).astype(np.float32)  # many alike, so that centres lose all their tokens

    def inertia(rounds: int) -> float:
        centres = initialise.kmeans(points, clusters, np.random.default_rng(seed), rounds)
        assert centres.shape == (clusters, 3)
        assert np.isfinite(centres).all()
        return float(((points[:, None] - centres[None]) ** 2).sum(2).min(1).sum())

    values = [inertia(rounds) for rounds in range(6)]
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(values))


def test_a_sample_holds_whole_views_and_no_more_than_it_may() -> None:
    assert np.array_equal(initialise.sample(VIEW, 300, 1), np.arange(300))
    label = np.random.default_rng(2).permutation(np.repeat(np.arange(50), np.arange(50) % 7 + 1))
    rows = initialise.sample(label, 100, 1)
    assert 90 < len(rows) <= 100
    assert (np.diff(rows) > 0).all()
    for kept in np.unique(label[rows]):
        assert (label[rows] == kept).sum() == (label == kept).sum()
    assert np.array_equal(rows, initialise.sample(label, 100, 1))
    assert not np.array_equal(rows, initialise.sample(label, 100, 2))
