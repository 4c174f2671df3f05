"""The projection starts as whitened components or a discriminant; few or equal pictures are handled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

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
    """Outputs of the projection for ``vectors``, after a start from them."""
    long = keras.Input((vectors.shape[1],))
    projection = keras.Model(long, keras.layers.Dense(dimensions, name="projection")(long))
    network: Any = SimpleNamespace(projection=projection)
    head: Any = SimpleNamespace(dimensions=dimensions, components=components, shrinkage=0.3)
    initialise.start_projection(network, head, start, vectors, label, 1)
    return projection(vectors).numpy()


def test_pca_whitens_the_leading_components() -> None:
    found = started("pca", VECTORS, VIEW, 12)
    covariance = np.cov(found, rowvar=False, bias=True)
    assert np.allclose(found.mean(0), 0, atol=1e-5)
    assert np.allclose(covariance, np.eye(12) / 12, atol=1e-4)
    left = np.linalg.svd(VECTORS - VECTORS.mean(0), full_matrices=False)[0][:, :12]
    assert np.linalg.norm(left.T @ np.linalg.qr(found)[0]) ** 2 == pytest.approx(12, abs=1e-3)  # the same space


@pytest.mark.parametrize("start", ["pca", "lda"])
def test_dimensions_beyond_the_rank_of_few_pictures_are_zero(start: str) -> None:
    found = started(start, VECTORS[:8], VIEW[:8], 12)
    assert np.isfinite(found).all()
    assert found.any(axis=0).sum() == 7


@pytest.mark.parametrize("start", ["pca", "lda"])
@pytest.mark.parametrize("count", [1, 8])
def test_a_start_from_equal_pictures_is_refused(start: str, count: int) -> None:
    with pytest.raises(UserError, match="maps of all training pictures are equal"):
        started(start, np.repeat(VECTORS[:1], count, axis=0), VIEW[:count], 12)


def test_a_sample_holds_whole_views_and_no_more_rows_than_allowed() -> None:
    assert np.array_equal(initialise.sample(VIEW, 300, 1), np.arange(300))
    label = np.random.default_rng(2).permutation(np.repeat(np.arange(50), np.arange(50) % 7 + 1))
    rows = initialise.sample(label, 100, 1)
    assert 90 < len(rows) <= 100
    assert (np.diff(rows) > 0).all()
    for kept in np.unique(label[rows]):
        assert (label[rows] == kept).sum() == (label == kept).sum()
    assert np.array_equal(rows, initialise.sample(label, 100, 1))
    assert not np.array_equal(rows, initialise.sample(label, 100, 2))
