"""Where the head begins: principal components, k-means and a linear discriminant, all closed-form on training maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import keras
import numpy as np
from numpy.typing import NDArray

from streetrecall.errors import UserError
from streetrecall.model.layers import VLAD
from streetrecall.model.network import Network
from streetrecall.params.schema import GridBranch, Head, VladBranch

Floats = NDArray[np.float32]
LOCAL_IMAGES = 800  # whose positions give the principal components and the centres
LOCAL_TOKENS = 60_000


def principal_components(tokens: Floats, count: int) -> tuple[Floats, Floats]:
    """Mean (c,) and the first ``count`` principal directions (c, count) of ``tokens`` (n, c)."""
    mean = tokens.mean(axis=0, dtype=np.float64)
    covariance = np.cov(tokens - mean, rowvar=False, dtype=np.float64)
    _, directions = np.linalg.eigh(np.atleast_2d(covariance))
    return mean.astype(np.float32), _signed(directions[:, ::-1][:, :count]).astype(np.float32)


def kmeans(tokens: Floats, clusters: int, rng: np.random.Generator, rounds: int = 15) -> Floats:
    """Lloyd's k-means from random tokens; a centre that loses all its tokens stays where it was."""
    chosen = rng.choice(len(tokens), clusters, replace=len(tokens) < clusters)
    centres: Floats = tokens[chosen].astype(np.float32)
    for _ in range(rounds):
        nearest = (tokens @ centres.T - 0.5 * (centres**2).sum(1)).argmax(1)
        order = np.argsort(nearest, kind="stable")
        present, begins, counts = np.unique(nearest[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(tokens[order], begins, axis=0, dtype=np.float64)
        centres[present] = sums / counts[:, None]
    return centres


def start_branches(
    network: Network,
    head: Head,
    maps: Callable[[NDArray[np.int64]], list[Floats]],
    training: NDArray[np.int64],
    seed: int,
) -> None:
    """Set the local reductions and the centres of all branches, as ``maps`` gives the maps of some rows of
    ``training``."""
    if not any(isinstance(branch, VladBranch | GridBranch) for branch in head.branches):
        return
    rng = np.random.default_rng((seed, 1))
    some = maps(np.sort(rng.choice(training, min(LOCAL_IMAGES, len(training)), replace=False)))
    for number, branch in enumerate(head.branches):
        if isinstance(branch, VladBranch | GridBranch):
            rng = np.random.default_rng((seed, 1, number))
            _start_branch(network.branches, number, branch, some[network.maps.index(branch.map)], rng)


def _start_branch(
    branches: keras.Model,
    number: int,
    branch: VladBranch | GridBranch,
    maps: Floats,
    rng: np.random.Generator,
) -> None:
    tokens = maps.reshape(-1, maps.shape[-1])
    mean, directions = principal_components(tokens, branch.channels)
    branches.get_layer(f"branch{number}_local").set_weights([directions, -mean @ directions])
    if isinstance(branch, VladBranch):
        tokens = tokens[rng.permutation(len(tokens))[:LOCAL_TOKENS]]
        local = ((tokens - mean) @ directions).astype(np.float32)
        local /= np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-6)
        vlad: VLAD = branches.get_layer(f"branch{number}_vlad")
        vlad.start(kmeans(local, branch.clusters, rng), branch.sharpness)


def sample(label: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """Rows of ``label`` (n,), ascending: all if there are no more than ``most``, else those of labels drawn at random
    as long as they do not exceed it, each with all its rows."""
    if len(label) <= most:
        return np.arange(len(label))
    _, member, counts = np.unique(label, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng((seed, 3)).permutation(len(counts))
    kept = drawn[np.cumsum(counts[drawn]) <= most]
    return np.flatnonzero(np.isin(member, kept))


def randomise_projection(network: Network, seed: int) -> None:
    """Set the projection at random (Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward
    neural networks"), whatever it was."""
    layer = network.projection.get_layer("projection")
    kernel, bias = layer.get_weights()
    initial = keras.initializers.GlorotUniform(seed)(kernel.shape)
    layer.set_weights([keras.ops.convert_to_numpy(initial), np.zeros_like(bias)])


def start_projection(
    network: Network, head: Head, start: str, vectors: Floats, label: NDArray[np.int64], seed: int
) -> None:
    """Set the projection from training vectors (n, long) and their labels (place and direction).

    ``pca``: whitened principal components. ``lda``: in the space of the first ``components`` principal components,
    whiten the scatter within labels (what date, season and light change), shrunk towards its mean variance, then keep
    the directions of the greatest total scatter. Directions that the training pictures cannot give (fewer pictures
    than dimensions) are zero.

    Raises:
        UserError: all vectors are equal.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    wanted = head.components if start == "lda" else head.dimensions
    directions, variances = _components(centred, wanted, np.random.default_rng((seed, 2)))
    if start == "pca":
        matrix = directions / np.sqrt(variances + 1e-6 * variances[0])
    else:
        matrix = directions @ discriminant(centred @ directions, label, head.shrinkage, head.dimensions)
    kernel = np.zeros((vectors.shape[1], head.dimensions), np.float32)
    kernel[:, : matrix.shape[1]] = matrix
    # The scale is free (descriptors are normalised); unit variance keeps the optimiser's steps in proportion.
    kernel /= np.sqrt(np.mean(np.sum((centred[:2000] @ kernel) ** 2, axis=1)) + 1e-12)
    network.projection.get_layer("projection").set_weights([kernel, -mean @ kernel])


def discriminant(values: Floats, label: NDArray[np.int64], shrinkage: float, dimensions: int) -> Floats:
    """Linear discriminant directions (d, at most ``dimensions``) of centred ``values`` (n, d); see `start_projection`.

    Labels with a single row say nothing of the scatter within, and still count in the total.
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


def _components(centred: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Leading principal directions (d, k) and variances (k,), by randomised subspace iteration (Halko, Martinsson and
    Tropp 2011, "Finding structure with randomness"); ``k`` is at most ``count`` and the data's rank."""
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
            "the maps of all training pictures are equal, so the head has nothing to start from: look at the pictures "
            "of the split train below data/crops, and at train.weights"
        )
    squares, turned = squares[real], turned[:, real]
    directions = (small.T @ turned.astype(np.float32)) / np.sqrt(squares).astype(np.float32)
    return _signed(directions), (squares / n).astype(np.float32)


def _signed(directions: NDArray) -> NDArray:
    """Turn each direction (a column) so that its greatest component is positive: eigenvectors come with either sign."""
    greatest = np.abs(directions).argmax(axis=0)
    signs = np.sign(directions[greatest, np.arange(directions.shape[1])])
    return directions * np.where(signs == 0, 1.0, signs).astype(directions.dtype)


def labels(place: Iterable[int], direction: Iterable[int]) -> NDArray[np.int64]:
    """One number for each (place, direction)."""
    return np.asarray(list(place), np.int64) * 64 + np.asarray(list(direction), np.int64)
