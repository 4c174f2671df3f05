"""The layers of the embedder that Keras lacks. Each serialises, and is initialised from data by `initialise`.

Importing this module makes them known to Keras: after it ``keras.models.load_model`` reads a saved model that has them.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="streetrecall")
class Standardise(keras.Layer):
    """RGB values of 0-255 to ``(value - mean) / deviation``, the channels reversed first if ``bgr``."""

    def __init__(self, mean: list[float], deviation: float, bgr: bool, **kwargs: Any) -> None:
        super().__init__(trainable=False, **{k: v for k, v in kwargs.items() if k != "trainable"})
        self.mean, self.deviation, self.bgr = list(mean), float(deviation), bool(bgr)

    def call(self, inputs: Any) -> Any:
        pixels = ops.cast(inputs, self.compute_dtype)
        if self.bgr:
            pixels = ops.flip(pixels, axis=-1)
        mean = self.mean[0] if len(set(self.mean)) == 1 else self.mean  # TensorFlow subtracts one number much faster
        return (pixels - ops.convert_to_tensor(mean, self.compute_dtype)) / self.deviation

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mean": self.mean, "deviation": self.deviation, "bgr": self.bgr}


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


@keras.saving.register_keras_serializable(package="streetrecall")
class VLAD(keras.Layer):
    """Residuals to learnt centres, summed per centre: (batch, h, w, c) -> (batch, clusters * c), of unit norm.

    Each position is assigned softly: ``softmax(2 s x.c - s |c|^2)`` with sharpness ``s`` is where it starts (`start`),
    and from there the assignment is learnt apart from the centres (Arandjelović et al. 2016, "NetVLAD"). The sum of
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
        """Begin with these centres, (clusters, channels)."""
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
