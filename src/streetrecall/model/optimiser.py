"""How weights change in a phase: AdamW, its learning rate, and the average of the weights that is validated."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from streetrecall.params.schema import Phase, Train


def schedule(params: Train, phase: Phase, steps: int) -> Any:
    """The learning rate over a phase of ``steps`` steps: it rises from zero over the warm-up, then falls as a cosine.

    The warm-up takes ``train.warmup_steps``, but no more than half of the phase.
    """
    total = max(steps, 1)
    warmup = min(params.warmup_steps, total // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else phase.learning_rate,
        max(total - warmup, 1),
        warmup_target=phase.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def build(params: Train, rate: Any, variables: list[Any]) -> Any:
    """AdamW over ``variables``, with loss scaling in float16."""
    optimizer: Any = keras.optimizers.AdamW(rate, weight_decay=params.weight_decay)
    if params.precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def changing(model: keras.Model, backbone: keras.Model) -> list[Any]:
    """The variables of ``model`` that training changes and that can be averaged: weights and moving statistics."""
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    moving = {id(v) for norm in norms if norm.trainable for v in norm.non_trainable_variables}
    return [*model.trainable_variables, *(v for v in model.non_trainable_variables if id(v) in moving)]


class Average:
    """Exponential average of variables over about ``steps`` steps (Polyak and Juditsky 1992, "Acceleration of
    stochastic approximation by averaging"). With 0 steps there is no average."""

    def __init__(self, of: list[Any], steps: float) -> None:
        self._of, self._momentum = of if steps else [], steps / (1 + steps)
        self.variables = [tf.Variable(keras.ops.convert_to_tensor(v)) for v in self._of]

    def push(self, iterations: Any) -> None:
        """Add the variables as they are after so many steps. The average starts with the first step."""
        momentum = tf.cast(keras.ops.convert_to_tensor(iterations) > 1, tf.float32) * self._momentum
        for average, variable in zip(self.variables, self._of, strict=True):
            average.assign(momentum * average + (1 - momentum) * keras.ops.convert_to_tensor(variable))

    def take(self) -> None:
        """Set the variables to their average."""
        for average, variable in zip(self.variables, self._of, strict=True):
            variable.assign(average)
