"""Pooling: from a feature map to a vector, one branch for each entry of ``train.head.branches``.

A pooling is a section of parameters (params/schema.py), and here a function that builds the branch, one that starts it
from data if its start depends on data, its Keras layer if Keras has none, and a line in `POOLINGS`. Importing this
module registers the layers with Keras, as a saved Keras model needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from streetrecall.errors import UserError
from streetrecall.model.closed_form import Floats, kmeans, principal_components
from streetrecall.params.schema import AverageBranch, Branch, GemBranch, GridBranch, VladBranch

KMEANS_TOKENS = 60_000
# In float32 whatever the precision: sums over a whole map, and lengths near zero, leave the range of float16.
_unit = partial(keras.layers.UnitNormalization, axis=-1, dtype="float32")


@dataclass(frozen=True)
class Pooling:
    """How a branch is built and started.

    ``build`` turns a map (batch, h, w, c) into vectors (batch, n) by layers named ``branchNUMBER_...``. ``start`` sets
    their weights from maps of training pictures (n, h, w, c); None if they do not depend on data.
    """

    build: Callable[[Any, Any, int, str], Any]
    start: Callable[[keras.Model, Any, int, Floats, np.random.Generator], None] | None = None


def build(branch: Branch, tensor: Any, number: int, normalise: str) -> Any:
    """Vectors (batch, n) float32 of branch ``number`` for a map (batch, h, w, c), times the branch's weight.

    Raises:
        UserError: the branch does not fit the map.
    """
    pooled = POOLINGS[branch.pool].build(branch, tensor, number, normalise)
    return keras.layers.Rescaling(branch.weight, name=f"branch{number}_weight", dtype="float32")(pooled)


def starts_from_data(branch: Branch) -> bool:
    """Whether `start` does anything for this branch."""
    return POOLINGS[branch.pool].start is not None


def start(model: keras.Model, branch: Branch, number: int, maps: Floats, rng: np.random.Generator) -> None:
    """Set the weights of branch ``number`` in ``model`` from maps of training pictures (n, h, w, c)."""
    begin = POOLINGS[branch.pool].start
    if begin is not None:
        begin(model, branch, number, maps, rng)


# VLAD: residuals to learnt centres


@keras.saving.register_keras_serializable(package="streetrecall")
class VLAD(keras.Layer):
    """Residuals to learnt centres, summed per centre: (batch, h, w, c) -> (batch, clusters * c), of unit norm.

    Each position of the map is assigned softly. `start` sets the assignment to ``softmax(2 s x.c - s |c|^2)`` with
    sharpness ``s``; from there it is learnt apart from the centres (Arandjelović et al. 2016, "NetVLAD"). The sum of
    residuals of each centre is normalised by itself, then the whole (Arandjelović and Zisserman 2013, "All about
    VLAD").
    """

    def __init__(self, clusters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clusters = int(clusters)

    def build(self, input_shape: Any) -> None:
        channels = input_shape[-1]
        self.kernel = self.add_weight(name="kernel", shape=(channels, self.clusters))
        self.bias = self.add_weight(name="bias", shape=(self.clusters,), initializer="zeros")
        self.centres = self.add_weight(name="centres", shape=(self.clusters, channels))

    def start(self, centres: Any, sharpness: float) -> None:
        """Set the centres (clusters, channels) and the assignment to them."""
        self.centres.assign(centres)
        self.kernel.assign(2.0 * sharpness * ops.transpose(centres))
        self.bias.assign(-sharpness * ops.sum(ops.square(centres), axis=1))

    def call(self, inputs: Any) -> Any:
        height, width, channels = inputs.shape[1:]
        tokens = ops.reshape(inputs, (-1, height * width, channels))
        share = ops.softmax(ops.matmul(tokens, self.kernel) + self.bias, axis=-1)
        sums = ops.matmul(ops.transpose(share, (0, 2, 1)), tokens)
        residuals = sums - ops.expand_dims(ops.sum(share, axis=1), -1) * self.centres
        residuals = ops.normalize(residuals, axis=-1, epsilon=1e-6)
        flat = ops.reshape(residuals, (-1, self.clusters * channels))
        return ops.normalize(flat, axis=-1, epsilon=1e-6)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.clusters * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clusters": self.clusters}


def _build_vlad(branch: VladBranch, tensor: Any, number: int, _normalise: str) -> Any:
    local = _reduced(branch, tensor, number)
    return VLAD(branch.clusters, name=f"branch{number}_vlad", dtype="float32")(local)


def _start_vlad(model: keras.Model, branch: VladBranch, number: int, maps: Floats, rng: np.random.Generator) -> None:
    tokens = maps.reshape(-1, maps.shape[-1])
    mean, directions = _start_reduced(model, branch, number, tokens)
    tokens = tokens[rng.permutation(len(tokens))[:KMEANS_TOKENS]]
    local = ((tokens - mean) @ directions).astype(np.float32)
    local /= np.maximum(np.linalg.norm(local, axis=1, keepdims=True), 1e-6)
    vlad: VLAD = model.get_layer(f"branch{number}_vlad")
    vlad.start(kmeans(local, branch.clusters, rng), branch.sharpness)


# Grid: the map itself, reduced


def _build_grid(branch: GridBranch, tensor: Any, number: int, _normalise: str) -> Any:
    local = _reduced(branch, tensor, number)
    pooled = keras.layers.Flatten(name=f"branch{number}_flat", dtype="float32")(local)
    mean = 1.0 / (local.shape[1] * local.shape[2]) ** 0.5
    return keras.layers.Rescaling(mean, name=f"branch{number}_mean", dtype="float32")(pooled)


def _start_grid(model: keras.Model, branch: GridBranch, number: int, maps: Floats, _rng: np.random.Generator) -> None:
    _start_reduced(model, branch, number, maps.reshape(-1, maps.shape[-1]))


# What VLAD and grid share: the first principal components of each position, of unit norm


def _reduced(branch: VladBranch | GridBranch, tensor: Any, number: int) -> Any:
    if branch.channels > tensor.shape[-1]:
        raise UserError(
            f"train.head.branches[{number}].channels is {branch.channels}, and the map '{branch.map}' has "
            f"{tensor.shape[-1]} channels"
        )
    local = keras.layers.Dense(branch.channels, name=f"branch{number}_local")(tensor)
    return _unit(name=f"branch{number}_unit")(local)


def _start_reduced(
    model: keras.Model, branch: VladBranch | GridBranch, number: int, tokens: Floats
) -> tuple[Floats, Floats]:
    """Set the reduction from positions of maps (n, c); returns their mean and principal directions."""
    mean, directions = principal_components(tokens, branch.channels)
    model.get_layer(f"branch{number}_local").set_weights([directions, -mean @ directions])
    return mean, directions


# GeM and average: one value per channel


@keras.saving.register_keras_serializable(package="streetrecall")
class GeM(keras.Layer):
    """Generalised mean over the positions of a map, (batch, h, w, c) -> (batch, c), with one learnt exponent.

    ``(mean(max(x, epsilon) ** p)) ** (1 / p)``; p = 1 is the average, p to infinity the maximum (Radenović,
    Tolias and Chum 2018, "Fine-tuning CNN image retrieval with no human annotation"). The exponent stays above 1.
    """

    def __init__(self, p: float = 3.0, epsilon: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if p < 1:
            raise ValueError(f"the exponent of GeM must be at least 1, not {p}")
        self.initial, self.epsilon = float(p), float(epsilon)

    def build(self, _: Any) -> None:
        self.p = self.add_weight(
            name="p",
            shape=(),
            initializer=keras.initializers.Constant(self.initial),
            constraint=_AtLeastOne(),
            dtype="float32",
        )

    def call(self, inputs: Any) -> Any:
        p = ops.cast(self.p, "float32")
        values = ops.maximum(ops.cast(inputs, "float32"), self.epsilon)
        pooled = ops.power(ops.mean(ops.power(values, p), axis=(1, 2)), 1.0 / p)
        return ops.cast(pooled, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "p": self.initial, "epsilon": self.epsilon}


class _AtLeastOne(keras.constraints.Constraint):
    def __call__(self, w: Any) -> Any:
        return ops.maximum(w, 1.0)


def _build_gem(branch: GemBranch, tensor: Any, number: int, normalise: str) -> Any:
    return _normalised(GeM(branch.p, name=f"branch{number}_gem", dtype="float32"), tensor, number, normalise)


def _build_average(_branch: AverageBranch, tensor: Any, number: int, normalise: str) -> Any:
    pool = keras.layers.GlobalAveragePooling2D(name=f"branch{number}_average", dtype="float32")
    return _normalised(pool, tensor, number, normalise)


def _normalised(pool: keras.Layer, tensor: Any, number: int, normalise: str) -> Any:
    """The pooled map, with unit norm given to each position ``before`` or to the vector ``after``, or to ``none``."""
    if normalise == "before":
        tensor = _unit(name=f"branch{number}_before")(tensor)
    pooled = pool(tensor)
    return _unit(name=f"branch{number}_after")(pooled) if normalise == "after" else pooled


POOLINGS = {
    "vlad": Pooling(_build_vlad, _start_vlad),
    "grid": Pooling(_build_grid, _start_grid),
    "gem": Pooling(_build_gem),
    "average": Pooling(_build_average),
}
