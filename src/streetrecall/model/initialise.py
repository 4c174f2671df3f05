"""Where the head starts: its branches and its projection, set in closed form from the maps of training pictures."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from streetrecall.model import branches
from streetrecall.model.closed_form import Floats, discriminant, leading_components
from streetrecall.model.network import Network
from streetrecall.params.schema import Head

BRANCH_IMAGES = 800  # pictures whose maps start the branches


def start_branches(
    network: Network,
    head: Head,
    maps: Callable[[NDArray[np.int64]], list[Floats]],
    training: NDArray[np.int64],
    seed: int,
) -> None:
    """Start each branch that depends on data. ``maps`` gives the maps of some rows of ``training``."""
    if not any(branches.starts_from_data(branch) for branch in head.branches):
        return
    rng = np.random.default_rng((seed, 1))
    some = maps(np.sort(rng.choice(training, min(BRANCH_IMAGES, len(training)), replace=False)))
    for number, branch in enumerate(head.branches):
        rng = np.random.default_rng((seed, 1, number))
        branches.start(network.branches, branch, number, some[network.maps.index(branch.map)], rng)


def randomise_projection(network: Network, seed: int) -> None:
    """Set the projection at random, whatever it was (Glorot and Bengio 2010, "Understanding the difficulty of training
    deep feedforward neural networks")."""
    layer = network.projection.get_layer("projection")
    kernel, bias = layer.get_weights()
    initial = keras.initializers.GlorotUniform(seed)(kernel.shape)
    layer.set_weights([keras.ops.convert_to_numpy(initial), np.zeros_like(bias)])


def start_projection(
    network: Network, head: Head, start: str, vectors: Floats, label: NDArray[np.int64], seed: int
) -> None:
    """Set the projection from pooled vectors of training pictures (n, d) and their labels (place and direction).

    ``pca``: whitened principal components. ``lda``: the linear discriminant within the first ``components`` principal
    components (see `closed_form.discriminant`), so that what date, season and light change counts little. Dimensions
    beyond the rank of the data (fewer pictures than dimensions) are zero.

    Raises:
        UserError: all vectors are equal.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = vectors - mean
    count = head.components if start == "lda" else head.dimensions
    directions, variances = leading_components(centred, count, np.random.default_rng((seed, 2)))
    if start == "pca":
        matrix = directions / np.sqrt(variances + 1e-6 * variances[0])
    else:
        matrix = directions @ discriminant(centred @ directions, label, head.shrinkage, head.dimensions)
    kernel = np.zeros((vectors.shape[1], head.dimensions), np.float32)
    kernel[:, : matrix.shape[1]] = matrix
    # The scale is free (descriptors are normalised); unit variance keeps the optimiser's steps in proportion.
    kernel /= np.sqrt(np.mean(np.sum((centred[:2000] @ kernel) ** 2, axis=1)) + 1e-12)
    network.projection.get_layer("projection").set_weights([kernel, -mean @ kernel])


def sample(label: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` rows of ``label`` (n,), ascending: all rows if they fit, else all rows of labels drawn at
    random."""
    if len(label) <= most:
        return np.arange(len(label))
    _, member, counts = np.unique(label, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng((seed, 3)).permutation(len(counts))
    kept = drawn[np.cumsum(counts[drawn]) <= most]
    return np.flatnonzero(np.isin(member, kept))
