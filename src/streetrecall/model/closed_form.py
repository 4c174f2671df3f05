"""Principal components, k-means and a linear discriminant: functions of NumPy arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError

Floats = NDArray[np.float32]


def principal_components(tokens: Floats, count: int) -> tuple[Floats, Floats]:
    """Mean (c,) and the first ``count`` principal directions (c, count) of ``tokens`` (n, c)."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    covariance = np.cov(tokens - mean, rowvar=False, dtype=np.float64)
    _, directions = np.linalg.eigh(np.atleast_2d(covariance))
    return mean.astype(np.float32), _signed(directions[:, ::-1][:, :count]).astype(np.float32)


def leading_components(centred: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Leading principal directions (d, k) and variances (k,) of ``centred`` (n, d), where d may be large.

    ``k`` is at most ``count`` and the rank of the data. By randomised subspace iteration (Halko, Martinsson and Tropp
    2011, "Finding structure with randomness").

    Raises:
        UserError: all rows are equal.
    """
    n, d = centred.shape
    count = min(count, n - 1, d)
    basis = centred @ rng.standard_normal((d, min(count + 100, n, d))).astype(np.float32)
    basis, _ = np.linalg.qr(basis)
    basis, _ = np.linalg.qr(centred @ (centred.T @ basis))
    small = basis.T @ centred
    squares, turned = np.linalg.eigh((small @ small.T).astype(np.float64))
    squares, turned = squares[::-1][:count], turned[:, ::-1][:, :count]
    real = squares > max(squares[0] * 1e-7, 1e-12) if count else np.zeros(0, bool)
    if not real.any():
        raise UserError(
            "the maps of all training pictures are equal, so there is no data to start the head from. Look at the "
            "pictures of the split train below data/crops, and check train.weights"
        )
    squares, turned = squares[real], turned[:, real]
    directions = (small.T @ turned.astype(np.float32)) / np.sqrt(squares).astype(np.float32)
    return _signed(directions), (squares / n).astype(np.float32)


def kmeans(tokens: Floats, clusters: int, rng: np.random.Generator, rounds: int = 15) -> Floats:
    """Lloyd's k-means from random tokens: centres (clusters, c). A centre that loses all its tokens does not move."""
    chosen = rng.choice(len(tokens), clusters, replace=len(tokens) < clusters)
    centres: Floats = tokens[chosen].astype(np.float32)
    for _ in range(rounds):
        nearest = (tokens @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
        order = np.argsort(nearest, kind="stable")
        present, begins, counts = np.unique(nearest[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(tokens[order], begins, axis=0, dtype=np.float64)
        centres[present] = sums / counts[:, None]
    return centres


def discriminant(values: Floats, label: NDArray[np.int64], shrinkage: float, dimensions: int) -> Floats:
    """Linear discriminant directions (d, at most ``dimensions``) of centred ``values`` (n, d) with labels (n,).

    Whiten the scatter within labels, shrunk towards ``shrinkage`` times its mean variance, then keep the directions of
    the largest total scatter. A label with one row adds nothing to the scatter within, but counts in the total.
    """
    _, member = np.unique(label, return_inverse=True)
    counts = np.bincount(member)
    means = np.zeros((len(counts), values.shape[1]), np.float64)
    np.add.at(means, member, values)
    means /= counts[:, None]
    inside = (values - means[member]).astype(np.float32)
    within = (inside.T @ inside).astype(np.float64) / max(len(values) - len(counts), 1)
    size = len(within)
    ridge = shrinkage * np.trace(within) / size + 1e-12
    variances, axes = np.linalg.eigh(within + ridge * np.eye(size))
    whiten = axes / np.sqrt(variances)
    white = values @ whiten
    scatter, turned = np.linalg.eigh(white.T @ white / len(values))
    best = np.argsort(-scatter, kind="stable")[:dimensions]
    return _signed(whiten @ turned[:, best]).astype(np.float32)


def _signed(directions: NDArray) -> NDArray:
    """Flip each direction (a column) so that its largest component is positive: an eigenvector has no sign."""
    largest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[largest, np.arange(directions.shape[1])])
    return directions * np.where(signs == 0, 1.0, signs).astype(directions.dtype)
